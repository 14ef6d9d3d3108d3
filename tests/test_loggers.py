"""Runs that log to a table and to the real libraries, none of which needs a network."""

import csv
import importlib
import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from core.cli.job import execute
from core.cli.launch import compose_tree
from core.cli.resume import resume_run
from core.config import config_dir
from core.run.loggers.csv import Table
from core.run.tensorboard import read_scalars
from tests.conftest import assert_refused
from tests.test_resume import differences, dying

pytestmark = pytest.mark.usefixtures("blank_figures")

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


BLOCK = 32768  # of LevelDB's logs


def train(root: str, words: list[str], directory: Path) -> int:
    return execute(compose_tree(root, words, [config_dir()])[0], directory)


def table(directory: Path) -> dict[str, dict[int, float]]:
    """All curves of a table."""
    with (directory / "curves.csv").open(newline="") as file:
        (_, *tags), *rows = csv.reader(file)
    return {tag: {int(row[0]): float(row[i]) for row in rows if row[i]} for i, tag in enumerate(tags, 1)}


def wandb_records(directory: Path, kind: str) -> list:
    """All records of a kind in the offline files of a run: a header, then LevelDB's format of a log."""
    messages = importlib.import_module("wandb.proto.wandb_internal_pb2")
    found = []
    for path in sorted((directory / "wandb").glob("offline-run-*/run-*.wandb")):
        data, at, whole = path.read_bytes(), 7, b""
        while at + 7 <= len(data):
            left = BLOCK - at % BLOCK
            if left < 7:
                at += left
                continue
            length, part = struct.unpack("<HB", data[at + 4 : at + 7])
            whole += data[at + 7 : at + 7 + length]
            at += 7 + length
            if part in (1, 4):  # one that is whole, or the last part of one
                record = messages.Record()
                record.ParseFromString(whole)
                whole = b""
                if record.WhichOneof("record_type") == kind:
                    found.append(getattr(record, kind))
    return found


def wandb_curves(directory: Path) -> dict[str, dict[int, float]]:
    curves: dict[str, dict[int, float]] = {}
    for row in wandb_records(directory, "history"):
        numbers = [item for item in row.item if len(item.nested_key) == 1]  # of a picture there are more
        values = {item.nested_key[0]: float(json.loads(item.value_json)) for item in numbers}
        for tag, value in values.items():
            if not tag.startswith("_") and tag != "step":
                curves.setdefault(tag, {})[int(values["step"])] = value
    return curves


def mlflow_curves(store: str, run_id: str) -> dict[str, dict[int, float]]:
    client = importlib.import_module("mlflow").MlflowClient(store)
    tags = client.get_run(run_id).data.metrics
    return {tag: {m.step: m.value for m in client.get_metric_history(run_id, tag)} for tag in tags}


TRACKIO = """
import json, sys
from trackio.sqlite_storage import SQLiteStorage
runs = [each["id"] for each in SQLiteStorage.get_run_records("gradsight")]
print(json.dumps([runs, SQLiteStorage.get_logs("gradsight", sys.argv[1])], default=str))
"""  # in a process of its own: it reads TRACKIO_DIR when it is imported


def assert_equal_curves(found: dict, directory: Path) -> None:
    """The same points as in the event file, whose numbers are float32."""
    expected = read_scalars(directory)
    assert found.keys() == expected.keys()
    for tag, points in expected.items():
        assert found[tag].keys() == points.keys(), tag
        ours = np.array([points[step] for step in points], np.float32)
        theirs = np.array([found[tag][step] for step in points]).astype(np.float32)
        assert np.array_equal(ours, theirs, equal_nan=True), tag


@pytest.mark.slow
@pytest.mark.parametrize("root", sorted(RUNS))
def test_a_table_has_the_points_of_the_event_file_also_of_a_run_that_was_killed(root, tmp_path):
    chosen = [*RUNS[root], "logger=csv", "logging.progress=false"]
    assert train(root, chosen, tmp_path / "whole") == 0
    with dying(7):
        train(root, chosen, tmp_path / "run")
    assert resume_run(tmp_path / "run", [], root) == 0
    for name in ("whole", "run"):
        assert_equal_curves(table(tmp_path / name), tmp_path / name)
    tables = [table(tmp_path / name) for name in ("whole", "run")]
    assert tables[0].keys() == tables[1].keys()
    assert list(tables[0]) == list(tables[1])  # the order of the columns too
    for tag in tables[0].keys() - {tag for tag in tables[0] if tag.startswith("time/")}:
        assert repr(tables[0][tag]) == repr(tables[1][tag]), tag


SERVICES = ("wandb", "mlflow", "trackio")


@pytest.fixture(scope="module")
def killed(tmp_path_factory) -> Path:
    """A run that logs to every library that is installed, killed by the system and resumed."""
    folder = tmp_path_factory.mktemp("services")
    directory, installed = folder / "run", [name for name in SERVICES if find_spec(name)]
    words = [*RUNS["rl"], "total_steps=3000", f"logger=[{','.join(['csv', *installed])}]",
             f"hydra.run.dir={directory}", "logging.progress=false"]  # fmt: skip
    words += ["logger.wandb.mode=offline"] * ("wandb" in installed)
    words += [f"logger.mlflow.tracking_uri={store(folder)}"] * ("mlflow" in installed)
    own = {"TRACKIO_DIR": str(folder / "trackio"), "WANDB_ERROR_REPORTING": "false",
           "WANDB__TRANSACTION_LOG_FLUSH_INTERVAL": "0.2"}  # fmt: skip
    command = [sys.executable, "-m", "core.scripts.train_rl"]
    with (folder / "log").open("w") as log:
        options = {"stdout": log, "stderr": log, "cwd": folder, "env": {**os.environ, **own}}
        process = subprocess.Popen([*command, *words], **options)
        deadline = time.monotonic() + 240
        saved = directory / "checkpoints" / "last.pt"
        while not saved.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(1)  # until what was saved is written: Trackio writes twice a second
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, (folder / "log").read_text()
        assert not (directory / "summary.json").exists()
        again = subprocess.run([*command, f"resume={directory}"], **options, timeout=240)
    assert again.returncode == 0, (folder / "log").read_text()
    return directory


@pytest.mark.slow
@pytest.mark.long
def test_no_logger_changes_a_number(killed, tmp_path, command):
    words = [*RUNS["rl"], "total_steps=3000", "logging.progress=false"]
    assert command("rl", *words, f"hydra.run.dir={tmp_path / 'plain'}").status == 0
    assert differences(tmp_path / "plain", killed) == []


def store(folder: Path) -> str:
    return f"sqlite:///{folder}/mlflow.db"


def noted(directory: Path) -> dict:
    return json.loads((directory / "loggers.json").read_text())


@pytest.mark.slow
def test_the_table_of_a_run_that_was_killed_has_every_row_once(killed):
    assert_equal_curves(table(killed), killed)
    with (killed / "curves.csv").open() as file:
        steps = [int(row["step"]) for row in csv.DictReader(file)]
    assert steps == sorted(set(steps))


@pytest.mark.slow
def test_wandb_has_the_points_the_options_and_the_summary_in_one_run(killed):
    pytest.importorskip("wandb")
    assert_equal_curves(wandb_curves(killed), killed)
    begun = wandb_records(killed, "run")
    assert len(begun) == 2  # the two processes
    assert {(each.run_id, each.project) for each in begun} == {(noted(killed)["wandb"]["id"], "gradsight")}
    assert {each.display_name for each in begun} == {f"{killed.parent.name}-run"}
    config = {each.key: each.value_json for each in begun[0].config.update}
    assert json.loads(config["agent"])["num_steps"] == 32
    written = [each for record in wandb_records(killed, "summary") for each in record.update]
    summary = {each.key: json.loads(each.value_json) for each in written}
    ours = json.loads((killed / "summary.json").read_text())
    assert summary["status"] == "finished"
    assert summary["eval_return_mean"] == ours["eval_return_mean"]
    media = [path for path in (killed / "wandb").rglob("*") if path.suffix in (".png", ".gif", ".html")]
    assert {path.suffix for path in media} == {".png", ".gif", ".html"}  # charts, videos, findings
    assert wandb_records(killed, "metric")[0].step_metric == "step"


@pytest.mark.slow
def test_mlflow_has_the_points_the_options_and_the_summary_in_one_run(killed):
    pytest.importorskip("mlflow")
    client = importlib.import_module("mlflow").MlflowClient(store(killed.parent))
    run_id = noted(killed)["mlflow"]["run_id"]
    assert_equal_curves(mlflow_curves(store(killed.parent), run_id), killed)
    (run,) = client.search_runs([client.get_experiment_by_name("gradsight").experiment_id])
    assert (run.info.run_id, run.info.status) == (run_id, "FINISHED")
    assert (run.data.params["agent.num_steps"], run.data.params["seed"]) == ("32", "1")
    pictures = client.list_artifacts(run_id, "media/gradient/heat_map")
    assert len(pictures) > 2  # one for each step at which there was one
    assert {item.path for item in client.list_artifacts(run_id)} >= {
        "config.yaml", "summary.json", "findings.md", "media"
    }  # fmt: skip


@pytest.mark.slow
def test_trackio_has_the_points_in_one_run(killed, monkeypatch):
    pytest.importorskip("trackio")
    names = subprocess.run(
        [sys.executable, "-c", TRACKIO, noted(killed)["trackio"]["name"]], capture_output=True, text=True,
        env={**os.environ, "TRACKIO_DIR": str(killed.parent / "trackio")}, check=True,
    )  # fmt: skip
    runs, rows = json.loads(names.stdout.splitlines()[-1])
    assert runs == [noted(killed)["trackio"]["id"]]
    curves: dict[str, dict[int, float]] = {}
    for row in rows:
        for tag, value in row.items():
            if tag not in ("step", "timestamp") and not isinstance(value, dict):
                curves.setdefault(tag, {})[row["step"]] = float(value)
    # What Trackio has not yet written when its process is killed is lost; all else is there.
    expected, log = read_scalars(killed), (killed.parent / "log").read_text()
    resumed_at = int(re.search(r"resumed at ([\d,]+) env steps", log)[1].replace(",", ""))
    lost = [(tag, step) for tag, at in expected.items() for step in at if step not in curves.get(tag, {})]
    assert all(step <= resumed_at for _, step in lost)
    assert len(lost) < sum(map(len, expected.values())) / 10
    for tag, step in lost:
        curves.setdefault(tag, {})[step] = expected[tag][step]
    assert_equal_curves(curves, killed)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["logger=none"], "logger=none does not exist; choose from csv, mlflow, tensorboard, trackio, wandb"),
        (["logger=tensorbord"], "did you mean tensorboard?"),
        (["logger=[csv,csv]"], "must name different choices of logger"),
        (["logger=wandb", "logger.wandb.mode=offlin"], "logger.wandb.mode must be one of online, offline"),
        (["logger=wandb", "logger.wandb.projekt=x"], "did you mean logger.wandb.project?"),
        (["logger=csv", "logger.csv.path=x"], "unknown option logger.csv.path"),
        (["logger=csv", "logger.wandb.mode=offline"], "unknown option logger.wandb.mode"),
        (["logger.csv._target_=builtins.int"], "logger.csv._target_ must name a class of the kind"),
        (["logger=csv", "logger.csv._target_=torch.nn.Linear"], "_target_ must name a class of the kind"),
    ],
)  # fmt: skip
def test_what_is_no_logger_is_refused_in_one_line(words, reason, command):
    assert_refused(command("descend", *words), reason)


@pytest.mark.parametrize("library", SERVICES)
def test_a_library_that_is_not_installed_is_refused_before_anything_is_made(library, command, monkeypatch):
    there = find_spec

    def missing(name, *rest):
        return None if name == library else there(name, *rest)

    monkeypatch.setattr("importlib.util.find_spec", missing)
    outcome = command("descend", f"logger=[csv,{library}]")
    assert_refused(
        outcome, f"logger={library} needs {library}, not installed: pip install 'gradsight[{library}]'"
    )


@pytest.mark.slow
def test_a_logger_that_fails_in_the_middle_ends_no_training(command, monkeypatch):
    scalars, calls = Table.scalars, []

    def failing(self, values, step):
        calls.append(step)
        if len(calls) == 3:
            raise ConnectionError("the server is gone")
        scalars(self, values, step)

    monkeypatch.setattr(Table, "scalars", failing)
    outcome = command("descend", *RUNS["descend"], "logger=csv", "hydra.run.dir=run")
    assert outcome.status == 0, outcome.err
    line = "left out, and the training goes on: logger=csv: ConnectionError: the server is gone"
    assert outcome.out.count("left out") == outcome.out.count(line) == 1
    assert len(calls) == 3
    assert json.loads(Path("run/summary.json").read_text())["status"] == "finished"
