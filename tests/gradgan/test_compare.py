"""compare of GANs: tasks by data and features, and the lower distance is the better one."""

import json
from pathlib import Path

import pytest
import yaml

from core.cli.saved import lacking
from core.compare.find import find_runs, score_of
from core.compare.groups import grouped
from core.run.tensorboard import Writer
from gradgan.report import SCORE
from gradrl.report import SCORE as RETURN
from tests.conftest import Command, assert_refused

ADA = {"_target_": "gradgan.augment.ADA", "target": 0.6, "speed": 5e5, "initial": 0.0}


def write_run(run: Path, seed: int, fid: float | None, data="digits", **options) -> None:
    """A run on images; without a distance it was stopped before its end, and names no features."""
    run.mkdir(parents=True)
    tree = {"_target_": "gradgan.train.TrainConfig", "seed": seed, "loss": {"_target_": "x.y.Hinge"}}
    tree |= {
        "data": {"_target_": f"x.y.{data.title()}"},
        "features": {"_target_": "x.y.Classifier"},
        **options,
    }
    (run / "config.yaml").write_text(yaml.safe_dump(tree | dict.fromkeys(lacking(tree))))
    summary: dict[str, object] = {"status": "stopped", "seed": seed, "data": data, "images": 600}
    if fid is not None:
        summary |= {"status": "finished", "features": f"{data}_classifier", "fid": fid, "reverse_kl": 0.1}
    (run / "summary.json").write_text(json.dumps(summary))
    writer = Writer(run)
    writer.scalars({"eval/fid": 9.0, "eval/reverse_kl": 0.2}, 600)
    writer.close()


def keep(folder: Path, data: str, distances: list[float], **more) -> str:
    """Summaries of mixtures."""
    folder.mkdir()
    for seed, distance in enumerate(distances, 1):
        summary = {"status": "finished", "seed": seed, "data": data, "images": 9, "reverse_kl": distance}
        (folder / f"seed{seed}.json").write_text(json.dumps(summary | more))
    return str(folder)


def test_a_run_that_was_stopped_counts_with_its_task_and_the_score_is_the_fid(tmp_path: Path) -> None:
    for seed, fid in enumerate([3.0, 5.0, None], 1):
        write_run(tmp_path / str(seed), seed, fid)
    assert score_of([str(tmp_path)], (RETURN, SCORE)) is SCORE
    (group,) = grouped(find_runs([str(tmp_path)], SCORE))
    assert (group.task, group.label, group.scores) == ("digits, digits_classifier", "Hinge", [3.0, 5.0])
    assert [run.status for run in group.runs] == ["finished", "finished", "stopped"]
    assert [run.curve for run in group.runs] == [{600: 9.0}] * 3


def test_a_distance_that_is_no_number_is_not_replaced_by_another(tmp_path: Path) -> None:
    write_run(tmp_path / "1", 1, 2.0)
    summary = json.loads((tmp_path / "1" / "summary.json").read_text())
    (tmp_path / "1" / "summary.json").write_text(json.dumps(summary | {"fid": None}))
    assert [run.score for run in find_runs([str(tmp_path)], SCORE)] == [None]


def test_a_run_that_left_no_summary_names_its_task_by_its_classes(tmp_path: Path) -> None:
    write_run(tmp_path / "1", 1, None)
    (tmp_path / "1" / "summary.json").unlink()
    (group,) = grouped(find_runs([str(tmp_path)], SCORE))
    assert (group.task, group.scores) == ("Digits, Classifier", [])


def test_a_component_is_named_by_its_class_where_that_tells_the_groups_apart(tmp_path: Path) -> None:
    write_run(tmp_path / "none" / "1", 1, 2.0, augment=None)
    write_run(tmp_path / "ada" / "1", 1, 1.0, augment=ADA)
    labels = [group.label for group in grouped(find_runs([str(tmp_path)], SCORE))]
    assert labels == ["Hinge augment=ADA", "Hinge augment=null"]
    write_run(tmp_path / "often" / "1", 1, 1.0, augment=ADA | {"target": 0.5})
    labels = [group.label for group in grouped(find_runs([str(tmp_path)], SCORE))]
    assert labels == ["Hinge (ada)", "Hinge (none)", "Hinge (often)"]  # the class is the same in two of them


def test_the_lower_distance_is_better(command: Command, tmp_path: Path) -> None:
    ours = [keep(tmp_path / "ring_r1", "ring", [0.1, 0.2]), keep(tmp_path / "ring_gp", "ring", [0.3, 0.15])]
    told = " ".join(command("compare", f"runs=[{','.join(ours)}]", "figure=null").out.split())
    assert "| ring_gp | 0.25 [" in told  # of four pairs 0.15 < 0.2 alone is better


def test_distances_under_other_features_stand_in_other_tables(command: Command, tmp_path: Path) -> None:
    runs = [keep(tmp_path / name, "digits", [1.0], fid=2.0, features=name) for name in ("mobilenet", "own")]
    told = command("compare", f"runs=[{','.join(runs)}]", "figure=null").out
    assert "| digits, mobilenet |" in told
    assert "| digits, own |" in told
    assert "better than" not in told
    assert [
        line.split("|")[3].strip() for line in told.splitlines() if line.startswith(("| own", "| mob"))
    ] == ["2", "2"]


@pytest.mark.parametrize("own", ["gan", "rl"])
def test_runs_of_the_other_trainer_are_refused(command: Command, tmp_path: Path, own: str) -> None:
    gan = keep(tmp_path / "gan", "ring", [0.1])
    (tmp_path / "rl").mkdir()
    (tmp_path / "rl" / "seed1.json").write_text('{"status": "finished", "env": "x", "eval_return_mean": 1}')
    runs = [gan, str(tmp_path / "rl")] if own == "gan" else [str(tmp_path / "rl"), gan]
    told = (
        "does not belong to the GANs"
        if own == "gan"
        else "does not belong to the reinforcement-learning runs"
    )
    assert_refused(command("compare", f"runs=[{','.join(runs)}]"), told)


def test_distances_from_other_data_of_one_name_stand_in_other_tables(
    command: Command, tmp_path: Path
) -> None:
    few = {"features": "mobilenet", "fid": 60.0, "fid_floor": 17.1}
    many = {"features": "mobilenet", "fid": 240.0, "fid_floor": 23.2612}
    runs = [keep(tmp_path / "few", "folder", [1.0], **few), keep(tmp_path / "many", "folder", [1.0], **many)]
    runs.append(keep(tmp_path / "gpu", "folder", [1.0], **many | {"fid": 250.0, "fid_floor": 23.2622}))
    told = " ".join(command("compare", f"runs=[{','.join(runs)}]", "figure=null").out.split())
    assert "| folder, mobilenet (real 17.1) |" in told
    assert told.count("| folder, mobilenet (real 23.26) |") == 1  # of two machines
    assert "Score: FID (of mixtures: reverse KL); the lower, the better." in told
