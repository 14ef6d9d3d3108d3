"""The last lines of a run."""

from pathlib import Path

from core.run.ending import ending


def test_the_last_seconds_are_told_apart_and_the_pictures_named() -> None:
    spent, place = ending(Path("runs/my run"), 0.64, 2.06, ["agent", "heat_map"])
    assert spent == "after training: 0.6 s of evaluation, 2.1 s of drawing and saving (agent, heat_map)"
    assert place.startswith("finished: runs/my run; ")
    assert place.endswith("tensorboard --logdir 'runs/my run'")
    assert next(ending(Path("x"), 0.0, 0.04, [])) == (
        "after training: 0.0 s of evaluation, 0.0 s of drawing and saving"
    )
