"""The last good checkpoint: what becomes it, when, and that it costs no second writing."""

import math
import os
from pathlib import Path
from typing import cast

import pytest
import torch
from torch import nn

from core.cli.launch import compose_tree
from core.config import build, config_dir
from core.diagnosis import RULES, Sign
from core.errors import DiskError
from core.gradients.unit_health import UnitHealth
from core.optim.factory import OptimizerComponent, build_optimizer
from core.optim.split import Split
from core.run import checkpoint, files
from core.run.diagnosis import Diagnosis, DiagnosisConfig
from core.run.good import Good, all_finite
from tests.core.run.test_run import Loop, keep_signal_handlers  # noqa: F401  (a fixture)

pytestmark = pytest.mark.usefixtures("blank_figures")


class ErrorBetween:
    """A rule that sees an error between two points of the x-axis."""

    def __init__(self, begin: int, end: int, patience: int = 1) -> None:
        self.begin, self.end, self.patience = begin, end, patience

    def __call__(self, history, context):
        if self.begin <= history.step <= self.end:
            yield Sign(
                name="wrong", severity="error", player="", layer=None, evidence={}, what="it is wrong.",
                cause="Unknown.", remedy=(), patience=self.patience,
            )  # fmt: skip


def loop(directory: Path, total: int = 400, rule: object = None) -> Loop:
    """Logged at every 20th step, saved at every 50th, evaluated (never the best again) at every 30th."""
    rules = () if rule is None else (rule,)
    cfg = DiagnosisConfig(patience=1, unit_health=UnitHealth(), rules=rules)
    return Loop(directory, total, (1.0,) * 40, Diagnosis(cfg, "report", {}))


def at(directory: Path, name: str = "good.pt") -> int | None:
    path = directory / "checkpoints" / name
    return checkpoint.load(path)["run"]["step"] if path.exists() else None


def test_a_checkpoint_is_good_at_the_next_logged_point(tmp_path):
    run = loop(tmp_path)
    run.iterate(50)  # the point of step 40 was before it, and behind the one that the first evaluation saved
    assert (at(tmp_path, "last.pt"), at(tmp_path)) == (50, 30)
    run.iterate(60)
    assert at(tmp_path) == 50
    run.iterate(100)  # saved and logged at once
    assert at(tmp_path) == 100
    run.run.close()


def test_it_is_the_same_file_until_the_last_one_moves_on(tmp_path):
    run = loop(tmp_path)
    run.iterate(100)
    last, good = (tmp_path / "checkpoints" / name for name in ("last.pt", "good.pt"))
    assert last.samefile(good)
    whole = good.read_bytes()
    run.iterate(150)
    assert not last.samefile(good)
    assert good.read_bytes() == whole
    assert sorted(os.listdir(last.parent)) == ["best.pt", "good.pt", "last.pt"]
    run.run.close()


@pytest.mark.parametrize(
    ("begin", "end", "patience", "good"),
    [
        (60, 60, 1, 100),  # an error that is over when the next one is written
        (60, 60, 9, 100),
        (100, 100, 1, 50),  # seen where it is written
        (120, 200, 1, 100),
        (120, 200, 9, 100),  # too early to be a finding, and seen all the same
        (160, 200, 1, 100),  # of 150 the next point is 160
    ],
)
def test_an_error_keeps_the_checkpoint_before_it(tmp_path, begin, end, patience, good):
    run = loop(tmp_path, rule=ErrorBetween(begin, end, patience))
    run.iterate(max(100, min(end, 200)))
    assert at(tmp_path) == good
    run.run.close()


@pytest.mark.parametrize("where", ["weight", "moment", "buffer"])
def test_what_is_not_finite_is_not_good(tmp_path, where):
    run = loop(tmp_path)
    run.net.register_buffer("mean", torch.zeros(2))
    run.iterate(100)
    spoilt = {"weight": run.net.weight.data, "buffer": run.net.mean}
    if where == "moment":
        run.step.optimizer.state[run.net.weight]["momentum_buffer"] = torch.full((1, 2), math.inf)
    else:
        spoilt[where].fill_(math.nan)
    run.run.save("last.pt")
    run.run.step = 120
    run.run.save("last.pt")
    assert (at(tmp_path, "last.pt"), at(tmp_path)) == (120, 100)
    run.run.close()


def test_a_mask_of_infinities_is_no_fault():
    net = nn.BatchNorm1d(2)
    net.register_buffer("mask", torch.full((2,), -math.inf))
    adam = torch.optim.Adam(net.parameters())
    net(torch.randn(4, 2)).sum().backward()
    adam.step()
    assert all_finite([net], [adam])
    net.running_var[0] = math.nan
    assert not all_finite([net], [adam])
    net.running_var[0] = 1.0
    adam.state[net.weight]["exp_avg_sq"][1] = math.inf
    assert not all_finite([net], [adam])


def test_the_tensors_in_lists_of_an_optimizer_count():
    x = nn.Parameter(torch.ones(2))
    lbfgs = torch.optim.LBFGS([x], max_iter=3)
    lbfgs.step(lambda: (x.grad is None, x.square().mul(torch.tensor([1.0, 3.0])).sum())[1].backward() or 1.0)
    held = lbfgs.state[x]
    assert all_finite([], [lbfgs])
    held["old_dirs"] = [torch.zeros(2), torch.tensor([0.0, math.nan])]
    assert not all_finite([], [lbfgs])


def test_an_optimizer_may_keep_its_state_in_parts():
    net = nn.Linear(3, 2)
    tree = compose_tree("descend", ["objective=moons", "optimizer=muon"], [config_dir()])[0]["optimizer"]
    split = build_optimizer(cast(OptimizerComponent, build(tree, "optimizer")), net.named_parameters())
    assert isinstance(split, Split)
    net(torch.randn(4, 3)).sum().backward()
    split.step()
    assert all_finite([net], [split])
    split.parts["others"].state[net.bias]["exp_avg"][0] = math.nan
    assert not all_finite([net], [split])


def test_a_killed_run_ends_with_the_good_one_of_a_whole_run(tmp_path):
    whole = loop(tmp_path / "whole", rule=ErrorBetween(120, 400))
    whole.iterate(200)
    whole.run.close()
    killed = loop(tmp_path / "killed", rule=ErrorBetween(120, 400))
    killed.iterate(100)
    (tmp_path / "killed" / "checkpoints" / "good.pt").unlink()  # it came between the two names
    killed.run.close()
    again = loop(tmp_path / "killed", rule=ErrorBetween(120, 400))
    assert at(tmp_path / "killed") == 100
    again.iterate(200)
    again.run.close()
    assert at(tmp_path / "killed") == at(tmp_path / "whole") == 100


def test_a_checkpoint_that_is_not_finite_is_an_error_although_every_gradient_is(tmp_path):
    run = loop(tmp_path)
    run.run.diagnosis._rules = RULES
    run.net.register_buffer("mean", torch.tensor(0.0))
    run.iterate(90)
    run.net.mean.fill_(math.nan)
    run.iterate(100)  # logged, and then saved
    assert run.run.diagnosis.findings == []
    run.iterate(120)
    (found,) = run.run.diagnosis.findings
    assert (found.name, found.severity, found.first_step) == ("non_finite", "error", 120)
    assert (at(tmp_path, "last.pt"), at(tmp_path)) == (100, 50)
    run.net.mean.fill_(0.0)
    run.iterate(160)  # saved at 150
    assert not run.run.diagnosis.findings[0].active
    run.run.close()


def test_none_is_good_before_a_returned_run_has_proven_itself(tmp_path):
    checkpoint.save(tmp_path / "last.pt", {"run": {"step": 1}})
    weight = nn.Linear(1, 1)
    good = Good(tmp_path, [weight], [torch.optim.SGD(weight.parameters())])
    good.not_before = 20
    good.saved(19)
    good.logged(20, sound=True)
    assert os.listdir(tmp_path) == ["last.pt"]
    good.saved(20)
    good.logged(21, sound=True)
    assert sorted(os.listdir(tmp_path)) == ["good.pt", "last.pt"]


def test_what_has_not_been_trained_is_good(tmp_path):
    run = loop(tmp_path, rule=ErrorBetween(0, 400))
    run.run.save("last.pt")
    run.iterate(100)
    assert (at(tmp_path, "last.pt"), at(tmp_path)) == (100, 0)
    run.run.close()


def test_a_run_without_an_optimizer_has_none(tmp_path):
    checkpoint.save(tmp_path / "last.pt", {"run": {"step": 1}})
    good = Good(tmp_path, [], [])
    good.saved(1)
    good.logged(2, sound=True)
    assert os.listdir(tmp_path) == ["last.pt"]


def test_where_no_file_has_two_names_it_is_a_copy(tmp_path, monkeypatch):
    source, path = tmp_path / "a", tmp_path / "b"
    source.write_bytes(b"first")
    files.duplicate(source, path)
    assert source.samefile(path)
    files.duplicate(source, path)  # which it is already
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]

    def refused(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refused)
    source.unlink()
    source.write_bytes(b"second")
    files.duplicate(source, path)
    assert not source.samefile(path)
    assert path.read_bytes() == b"second"
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_a_name_that_a_kill_has_left_is_not_written_into(tmp_path, monkeypatch):
    source, path = tmp_path / "a", tmp_path / "b"
    source.write_bytes(b"whole")
    os.link(source, tmp_path / "b.tmp")  # killed before it was renamed
    files.write_bytes(path, b"other")
    assert (source.read_bytes(), path.read_bytes()) == (b"whole", b"other")

    def late(kept, name, link=os.link):
        link(kept, name)  # another process was faster
        return link(kept, name)

    monkeypatch.setattr(os, "link", late)
    source.write_bytes(b"newer")
    files.duplicate(source, path)
    assert (source.read_bytes(), path.read_bytes()) == (b"newer", b"newer")
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_a_full_disk_is_said(tmp_path, monkeypatch):
    source = tmp_path / "a"
    source.write_bytes(b"first")

    def refused(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "link", refused)
    monkeypatch.setattr(files.shutil, "copyfileobj", refused)
    with pytest.raises(DiskError, match="b cannot be written: No space left on device"):
        files.duplicate(source, tmp_path / "b")
    assert os.listdir(tmp_path) == ["a"]
