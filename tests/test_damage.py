"""Files of a run that are damaged, or taken away: told in one line, never repaired in silence."""

import json
import shutil
from pathlib import Path

import pytest

from core.cli.job import execute
from core.cli.launch import compose_tree
from core.config import config_dir
from core.run import event_file
from core.run.run import Run
from tests.conftest import Command, assert_refused
from tests.test_cli_runs import LONGER, SMALL, contents

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("blank_figures")]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A finished run of an agent; tests work on copies."""
    run = tmp_path_factory.mktemp("finished") / "rl"
    assert execute(compose_tree("rl", SMALL["rl"], [config_dir()])[0], run) == 0
    return run


@pytest.mark.parametrize("name", ["rl", "gan"])
def test_options_without_a_class_are_damaged_and_of_no_command(command: Command, finished, tmp_path, name):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("_target_: gradrl.train.TrainConfig", "_target_: null"))
    outcome = command(name, f"resume={run}")
    assert_refused(
        outcome, "config.yaml is damaged: it contains no options of a run (_target_ names no class)"
    )


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("config.yaml", "total_steps: twenty", "total_steps must be an integer, got 'twenty'"),
        ("summary.json", "[1, 2]", "summary.json is damaged: it holds no summary"),
        (
            "summary.json",
            '{"status": "finished", "unit": "env steps", "env_steps": "64"}',
            "summary.json is damaged: its env_steps is '64', and no whole number",
        ),
        (
            "summary.json",
            '{"status": "finished", "unit": 5}',
            "damaged: its unit is 5, and no text",
        ),
        ("interface.json", '{"observation":', "; remove it, and the run that goes on writes it again"),
        ("findings.json", '{"version": 1, "find', "; remove it, and the run that goes on writes it again"),
        (
            "interface.json",
            "[]",
            "interface.json is damaged: it holds no options by name; remove it",
        ),
    ],
)
def test_a_run_with_a_damaged_file_is_refused(command: Command, finished, tmp_path, file, text, message):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    old = (run / file).read_text()
    (run / file).write_text(text if file != "config.yaml" else old.replace("total_steps: 64", text))
    overrides = [] if file == "config.yaml" else [LONGER["rl"]]
    before = contents(run)
    assert_refused(command("rl", f"resume={run}", *overrides), message)
    assert contents(run) == before
    if file == "config.yaml":  # also an override that is compared with the damaged one
        assert command("rl", f"resume={run}", LONGER["rl"]).status == 0


def test_an_event_file_that_lost_its_end_is_told_when_the_run_goes_on(command: Command, finished, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    assert event_file.cut_off(run) is None
    (path,) = run.glob("events.*")
    path.write_bytes(path.read_bytes()[:-5])
    assert event_file.cut_off(run) == path
    said = f"{path} ends in the middle of an event: the run was killed then, or what followed is lost\n"
    assert f"warning: {said}" in command("report", f"run={run}").err
    outcome = command("rl", f"resume={run}", LONGER["rl"])
    assert (outcome.status, said in outcome.out) == (0, True)
    assert event_file.cut_off(run) is None  # the last file is another one


def test_a_run_whose_directory_is_taken_away_ends_in_one_line_and_does_not_make_it_anew(
    command: Command, monkeypatch
):
    finish_step = Run.finish_step

    def taken_away(self: Run, step: int, metrics: object) -> None:
        shutil.rmtree("run", ignore_errors=True)
        finish_step(self, step, metrics)

    monkeypatch.setattr(Run, "finish_step", taken_away)
    outcome = command("rl", *SMALL["rl"], "logging.interval=1", "hydra.run.dir=run")
    assert (outcome.status, outcome.err.count("\n")) == (1, 1)
    assert outcome.err.startswith(
        f"error: {Path('run').absolute()} was removed, moved or emptied while the run"
    )
    assert not Path("run").exists()


def test_a_text_in_the_place_of_a_number_is_noted_and_the_list_goes_on(command: Command, finished):
    shutil.copytree(finished, "runs/rl/x")
    path = Path("runs/rl/x/summary.json")
    summary = json.loads(path.read_text())
    path.write_text(json.dumps({**summary, "eval_return_mean": "high\n"}))
    said = r"note: runs/rl/x/summary.json: eval_return_mean is 'high\n', and no number" + "\n"
    outcome = command("runs", "--json")
    assert (outcome.status, outcome.err) == (0, said)
    assert len(json.loads(outcome.out)) == 1
    outcome = command("runs")
    assert (outcome.status, outcome.err) == (0, said)
    assert command("report", "run=runs/rl/x").err == said.replace("note", "warning")
    path.write_text(json.dumps({**summary, "status": 5}))
    found = json.loads(command("runs", "runs/rl", "--json").out)
    assert [each["status"] for each in found] == ["damaged"]
