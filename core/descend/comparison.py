"""Several descents from one start, each in a directory of its own, and pictures of all together."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from core.cli.children import note_start, run_child
from core.cli.saved import saved_options
from core.config import Tree
from core.descend.trajectory import point
from core.draw.media import Media
from core.numbers import plain_number
from core.run.callbacks import Callbacks
from core.run.directory import read_summary
from core.run.interrupts import Stopped
from core.run.run import Run
from core.seeding import global_state, set_global_state
from core.state import StateDict

Compared = Literal["optimizers", "batches"]
SINGULAR = {"optimizers": "optimizer", "batches": "batch"}  # the option in a single descent
UNLISTED = ("versions", "git", "seed", "device", "train_s")  # of a child's summary, as they are the parent's
OWN_PICTURES = ("path",)  # that each has too; the others are drawn of all together


class Order:
    """The names of the compared descents, in order, which a resumed comparison must have too."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)

    def state_dict(self) -> StateDict:
        """The names."""
        return {"names": self.names}

    def load_state_dict(self, state: StateDict) -> None:
        """Check the names.

        Raises:
            ValueError: the checkpoint has others.
        """
        if state["names"] != self.names:
            raise ValueError(f"the comparison in the checkpoint is of {', '.join(state['names'])}")


def compare(
    run: Run,
    total: int,
    group: Compared,
    names: Sequence[str],
    draw: Callable[[dict[str, Path]], Mapping[str, Media]],
) -> None:
    """Run every descent that is not at its end yet, then draw all of them together.

    A resumed comparison leaves the finished ones alone, continues the one that was interrupted and begins the
    others.

    Args:
        run: the parent; each descent gets a directory below its own.
        total: steps of each.
        group: which option they differ in.
        names: of the descents, in order.
        draw: pictures of the states that they ended in, by name; those that failed are left out.

    Raises:
        Stopped: a signal came; every run is saved.
        FloatingPointError: a value was not finite in one of them; the others are drawn.
    """
    run.cfg = replace(run.cfg, progress=False)  # one progress at a time, the child's
    run.callbacks = Callbacks(())  # it takes no step; each descent has its own
    run.start(
        total=total,
        unit="steps",
        state={"comparison": Order(names)},
        gradient_steps=[],
        draw=lambda: _drawn(draw, checkpoints(run.directory, names)),
        summarise=lambda: {"steps": run.step, group: summaries(run.directory, names)},
    )
    run.save("last.pt")
    options = saved_options(run.directory)
    failed = []
    for name in names:
        run.say(f"--- {name}")
        note_start(run.directory, name, group, SINGULAR[group])
        status = run_child(of_one(options, group, name), run.directory / name, total)
        if status > 128:
            raise Stopped(status)
        if status:
            failed.append(name)
    run.step = total
    run.say("--- all")
    for name, summary in summaries(run.directory, names).items():
        run.say(line(name, summary))
    run.finish(dict)
    if failed:
        raise FloatingPointError(f"{', '.join(failed)} failed, see above; the pictures show the others")


def _drawn(
    draw: Callable[[dict[str, Path]], Mapping[str, Media]], ended: dict[str, Path]
) -> Mapping[str, Media]:
    """Pictures; the networks made for them leave no trace in the global generators, however often drawn."""
    generators = global_state()
    try:
        return draw(ended)
    finally:
        set_global_state(generators)


def of_one(options: Tree, group: Compared, name: str) -> Tree:
    """The options of one of the descents."""
    pictures = [picture for picture in options["pictures"] if picture in OWN_PICTURES]
    return options | {group: None, SINGULAR[group]: options[group][name], "pictures": pictures}


def summaries(directory: Path, names: Sequence[str]) -> dict[str, dict[str, object]]:
    """The summaries of the descents that have ended, by name."""
    found = {}
    for name in names:
        summary = read_summary(directory / name)
        if summary is not None:
            kept = {key: value for key, value in summary.items() if key not in UNLISTED}
            found[name] = {"directory": name, **kept}
    return found


def checkpoints(directory: Path, names: Sequence[str]) -> dict[str, Path]:
    """The last checkpoints of the descents, by name, without those that failed."""
    ended = summaries(directory, names)
    return {
        name: directory / name / "checkpoints" / "last.pt"
        for name, summary in ended.items()
        if summary["status"] == "finished"
    }


def line(name: str, summary: Mapping[str, object]) -> str:
    """One line about the last point of a descent."""
    if summary["status"] != "finished":
        return f"{name:<14} {summary['status']}"
    value, x = summary["value"], summary["x"]
    text = f"{name:<14} {summary['critical_point'] or '':<11}"
    text += f" {plain_number(value) if isinstance(value, int | float) else 'null':>11}"
    if isinstance(x, list):
        text += f"  at {point(x)}"
    if isinstance(summary.get("held_out_accuracy"), float):
        text += f"  held out {summary['held_out_accuracy']:.1%}  {summary['samples']:,} samples"
    return text
