"""Runs that log to a table and to the real libraries, none of which needs a network."""

import csv
from pathlib import Path

import numpy as np
import pytest

from core.cli.job import execute
from core.cli.launch import compose_tree
from core.cli.resume import resume_run
from core.config import config_dir
from core.run.run import Run
from core.run.tensorboard import read_scalars

RUNS = {
    "rl": ["env=cartpole", "experiment=none", "total_steps=512", "num_envs=2", "agent.num_steps=32",
           "agent.num_minibatches=2", "agent.num_epochs=1", "evaluation.episodes=2",
           "evaluation.interval_episodes=2", "evaluation.num_envs=2", "evaluation.max_episode_steps=20",
           "logging.interval=2", "logging.eval_interval=130", "logging.checkpoint_interval=150",
           "logging.draw_interval=200", "diagnosis.patience=1", "optimizer.lr=0.1"],
    "gan": ["data=ring", "device=cpu", "total_images=640", "batch_size=32", "network.width=8",
            "network.depth=1", "evaluation.samples=50", "logging.interval=2", "logging.eval_interval=150",
            "logging.checkpoint_interval=100", "logging.draw_interval=300"],
    "descend": ["function=himmelblau", "steps=40", "logging.checkpoint_interval=10", "pictures=[path]"],
}  # fmt: skip
LOGGERS = {
    "csv": [],
    "wandb": ["logger.wandb.mode=offline"],
    "mlflow": ["logger.mlflow.tracking_uri=sqlite:///{}/mlflow.db"],
    "trackio": [],
}


class Killed(BaseException):
    """Stands for a signal that no handler sees."""


@pytest.fixture
def words(monkeypatch, tmp_path):
    """The overrides of a run that logs to one logger; skips where its library is not installed."""
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.chdir(tmp_path)

    def of(root: str, logger: str) -> list[str]:
        if logger != "csv":
            pytest.importorskip(logger)
        own = [word.format(tmp_path) for word in LOGGERS[logger]]
        return [*RUNS[root], f"logger={logger}", "logging.progress=false", *own]

    return of


def train(root: str, words: list[str], directory: Path) -> int:
    return execute(compose_tree(root, words, [config_dir()])[0], directory)


def table(directory: Path) -> dict[str, dict[int, float]]:
    """All curves of a table."""
    with (directory / "curves.csv").open(newline="") as file:
        (_, *tags), *rows = csv.reader(file)
    return {tag: {int(row[0]): float(row[i]) for row in rows if row[i]} for i, tag in enumerate(tags, 1)}


def assert_equal_curves(found: dict, directory: Path) -> None:
    """The same points as in the event file, whose numbers are float32."""
    expected = read_scalars(directory)
    assert found.keys() == expected.keys()
    for tag, points in expected.items():
        assert found[tag].keys() == points.keys(), tag
        ours = np.array([points[step] for step in points], np.float32)
        theirs = np.array([found[tag][step] for step in points]).astype(np.float32)
        assert np.array_equal(ours, theirs, equal_nan=True), tag


def die_at(monkeypatch, iteration: int) -> None:
    """Let the next run die before it ends this iteration, counted from 0."""
    finish_step = Run.finish_step
    left = iter(range(iteration))

    def dying(self, step, metrics):
        if next(left, None) is None:
            monkeypatch.setattr(Run, "finish_step", finish_step)
            raise Killed
        finish_step(self, step, metrics)

    monkeypatch.setattr(Run, "finish_step", dying)


@pytest.mark.slow
@pytest.mark.parametrize("root", sorted(RUNS))
def test_a_table_has_the_points_of_the_event_file_also_of_a_run_that_was_killed(
    root, words, tmp_path, monkeypatch
):
    chosen = words(root, "csv")
    assert train(root, chosen, tmp_path / "whole") == 0
    die_at(monkeypatch, 7)
    with pytest.raises(Killed):
        train(root, chosen, tmp_path / "run")
    assert resume_run(tmp_path / "run", [], root) == 0
    for name in ("whole", "run"):
        assert_equal_curves(table(tmp_path / name), tmp_path / name)
    tables = [table(tmp_path / name) for name in ("whole", "run")]
    assert tables[0].keys() == tables[1].keys()
    assert list(tables[0]) == list(tables[1])  # the order of the columns too
    for tag in tables[0].keys() - {tag for tag in tables[0] if tag.startswith("time/")}:
        assert repr(tables[0][tag]) == repr(tables[1][tag]), tag
