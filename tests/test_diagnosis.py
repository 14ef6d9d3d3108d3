"""The diagnosis of whole runs: what it writes, that it changes nothing, and that it ends a run when asked."""

import json
from pathlib import Path

import gymnasium as gym
import pytest
import torch
from torch import nn

from core.cli.job import check, execute
from core.cli.launch import compose_tree
from core.cli.resume import resume_run
from core.config import config_dir
from core.run.tensorboard import read_scalars
from tests.test_probes import RUNS, TRAINED, equal
from tests.test_resume import dying

pytestmark = [pytest.mark.usefixtures("blank_figures"), pytest.mark.slow]

QUICK = ["logging.interval=1", "diagnosis.unit_health.interval=4", "diagnosis.unit_health.max_samples=32",
         "logging.progress=false", "monitor.sample_interval=2"]  # fmt: skip

FIELDS = {"name", "severity", "player", "layer", "first_step", "last_step", "active", "evidence"}
FIELDS |= {"what", "cause", "remedy", "kinds", "explains", "consequence_of", "rolled_back"}


def run(name: str, directory: Path, *overrides: str) -> int:
    return execute(compose_tree(name, [*RUNS[name], *QUICK, *overrides], [config_dir()])[0], directory)


def written(directory: Path) -> tuple[dict, dict]:
    return tuple(json.loads((directory / f"{name}.json").read_text()) for name in ("findings", "summary"))


@pytest.mark.parametrize("name", RUNS)
def test_training_is_the_same_to_the_bit_with_and_without_a_diagnosis(name, tmp_path):
    slope = ["network.slope=0.0"] if name == "gan" else []
    assert run(name, tmp_path / "on", *slope) == 0
    plain = [override for override in QUICK if "unit_health" not in override]
    tree = compose_tree(name, [*RUNS[name], *plain, *slope, "diagnosis=none"], [config_dir()])[0]
    assert execute(tree, tmp_path / "off") == 0
    on, off = (torch.load(tmp_path / d / "checkpoints" / "last.pt", weights_only=True) for d in ("on", "off"))
    keys = [key for key in off if key in TRAINED or key.endswith("gradient_step")]
    assert len(keys) >= 4
    assert [key for key in keys if not equal(on[key], off[key])] == []
    tags = set(read_scalars(tmp_path / "on"))
    expected = {
        "rl": {"layer/actor.1/saturated_units"},
        "gan": {
            "generator/layer/network.1/dead_units",
            "average/distance",
            "game/diversity",
            "discriminator/loss_share/penalty",
        },
    }
    assert expected[name] <= tags
    assert not (tmp_path / "off" / "findings.json").exists()
    assert "findings" not in json.loads((tmp_path / "off" / "summary.json").read_text())


def test_a_run_without_findings_says_so(tmp_path):
    assert run("rl", tmp_path / "run", "diagnosis.patience=50") == 0
    findings, summary = written(tmp_path / "run")
    assert findings == {"version": 1, "step": summary["env_steps"], "findings": []}
    assert summary["findings"] == []


def test_a_finding_is_said_written_and_resumed(tmp_path, capsys):
    """A rate of 1 throws the policy away at once."""
    fault = ["optimizer.lr=1.0", "logging.checkpoint_interval=128"]
    assert run("rl", tmp_path / "whole", *fault) == 0
    findings, summary = written(tmp_path / "whole")
    names = [finding["name"] for finding in findings["findings"]]
    assert "runaway_kl" in names
    assert summary["findings"] == [{k: f[k] for k in ("name", "severity")} for f in findings["findings"]]
    (finding,) = [f for f in findings["findings"] if f["name"] == "runaway_kl"]
    assert set(finding) == FIELDS
    (override,) = finding["remedy"]
    assert override.startswith("optimizer.lr=")
    assert 1e-5 <= float(override.partition("=")[2]) <= 3e-3
    assert "warning: runaway_kl: one update moves the policy by" in capsys.readouterr().out
    with dying(2):
        run("rl", tmp_path / "killed", *fault)
    assert resume_run(tmp_path / "killed", [], "rl") == 0
    assert written(tmp_path / "killed")[0] == findings


def test_a_run_that_was_asked_to_stops_at_the_first_warning_and_goes_on_when_resumed(tmp_path, capsys):
    directory = tmp_path / "run"
    assert run("rl", directory, "optimizer.lr=1.0", "on_finding=stop") == 1
    findings, summary = written(directory)
    assert summary["status"] == "failed"
    assert summary["findings"][0]["severity"] == "warning"
    assert summary["env_steps"] < 512
    assert findings["findings"][0]["remedy"][0] in capsys.readouterr().err
    assert (directory / "checkpoints" / "last.pt").exists()
    assert run("rl", tmp_path / "healthy", "on_finding=stop", "diagnosis.patience=50") == 0


class Spoiled(gym.Wrapper):
    """Hands over a reward that is no number from the 200th step on."""

    steps = 0

    def step(self, action):
        obs, reward, terminated, truncated, info = self.env.step(action)
        self.steps += 1
        return obs, float("nan") if self.steps > 100 else reward, terminated, truncated, info


def test_a_reward_that_is_no_number_is_named(tmp_path):
    assert run("rl", tmp_path / "run", "env.wrappers=[{_target_:tests.test_diagnosis.Spoiled}]") == 1
    findings, summary = written(tmp_path / "run")
    assert summary["status"] == "failed"
    (finding,) = [f for f in findings["findings"] if f["name"] == "non_finite_experience"]
    assert finding["severity"] == "error"
    assert "have a reward or an observation that is not a finite number" in finding["what"]
    assert finding["remedy"] == []
    assert summary["steps_left_out"] == summary["env_steps"] - 200
    assert 200 <= finding["first_step"] <= 384


def test_the_layer_whose_output_is_no_number_is_named_in_a_run(tmp_path, monkeypatch):
    forward, calls = nn.Tanh.forward, []

    def spoiled(self, x):
        calls.append(1)
        return forward(self, x) * (float("nan") if len(calls) > 60 and x.requires_grad else 1.0)

    monkeypatch.setattr(nn.Tanh, "forward", spoiled)
    assert run("rl", tmp_path / "run", "clipper=global_norm") == 1
    (finding,) = [f for f in written(tmp_path / "run")[0]["findings"] if f["name"] == "non_finite"]
    assert (finding["layer"], finding["remedy"]) == ("actor.1", ["optimizer.lr=0.0001"])


@pytest.mark.parametrize("root", ["rl", "gan", "descend"])
@pytest.mark.parametrize("words", [["diagnosis=none"], []])
def test_on_finding_says_that_it_does_nothing_without_a_diagnosis(root, words):
    tree, _, composed = compose_tree(root, [*words, "on_finding=stop"], [config_dir()])
    wanted = ("on_finding has no effect here: diagnosis is none",) if words else ()
    assert check(tree, composed.typed) == wanted
