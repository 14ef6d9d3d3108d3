"""The last good checkpoint: what becomes it, when, and that it costs no second writing."""

import itertools
import math
import os
from dataclasses import replace
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
from tests.thinned import thinned

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
    run.iterate(100)  # saved and logged at once: the point has not seen what the checkpoint holds
    assert (at(tmp_path, "last.pt"), at(tmp_path)) == (100, 50)
    run.iterate(120)
    assert at(tmp_path) == 100
    run.run.close()


def test_it_is_the_same_file_until_the_last_one_moves_on(tmp_path):
    run = loop(tmp_path)
    run.iterate(120)
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
        (120, 120, 1, 50),  # seen at the next point, not at that of its own step
        (120, 200, 9, 50),  # too early to be a finding, and seen all the same
        (140, 200, 1, 100),
        (160, 200, 1, 100),  # of 150 the next point is 160
    ],
)
def test_an_error_keeps_the_checkpoint_before_it(tmp_path, begin, end, patience, good):
    run = loop(tmp_path, rule=ErrorBetween(begin, end, patience))
    run.iterate(max(120, end))
    assert at(tmp_path) == good
    run.run.close()


@pytest.mark.parametrize("where", ["weight", "moment", "buffer"])
def test_what_is_not_finite_is_not_good(tmp_path, where):
    run = loop(tmp_path)
    run.net.register_buffer("mean", torch.zeros(2))
    run.iterate(120)
    spoilt = {"weight": run.net.weight.data, "buffer": run.net.mean}
    if where == "moment":
        run.step.optimizer.state[run.net.weight]["momentum_buffer"] = torch.full((1, 2), math.inf)
    else:
        spoilt[where].fill_(math.nan)
    run.run.save("last.pt")
    run.run.step = 140
    run.run.save("last.pt")
    run.run.good.logged(160, sound=True)
    assert (at(tmp_path, "last.pt"), at(tmp_path)) == (140, 100)
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


# Killed where it is written, before and after the point.
@pytest.mark.parametrize(("begin", "killed_at"), thinned(itertools.product([120, 140], [100, 110, 120]), 2))
def test_a_killed_run_ends_with_the_good_one_of_a_whole_run(tmp_path, begin, killed_at):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run = loop(whole, rule=ErrorBetween(begin, 400))
    run.iterate(200)
    run.run.close()
    run = loop(killed, rule=ErrorBetween(begin, 400))
    run.iterate(killed_at)
    run.run.close()
    again = loop(killed, rule=ErrorBetween(begin, 400))
    assert again.run.step == 100
    again.iterate(200)
    again.run.close()
    assert at(killed) == at(whole) == {120: 50, 140: 100}[begin]


@pytest.mark.parametrize(
    ("begin", "score", "good"),
    [
        (900, 1.0, 200),  # without an error the end is good, although no point comes behind it
        (200, 1.0, 150),  # seen at the last point
        (900, math.nan, 150),  # seen by the final evaluation alone
    ],
)
@pytest.mark.parametrize("killed", [False, True])
def test_the_end_of_a_run_is_good_where_its_last_point_and_its_measurement_are(
    tmp_path, begin, score, good, killed
):
    run = loop(tmp_path, 200, ErrorBetween(begin, 400))
    run.go()
    if killed:  # while it is measured
        with pytest.raises(KeyboardInterrupt):
            run.run.finish(interrupted)
        assert at(tmp_path) == 150
        run.run.close()
        run = loop(tmp_path, 200, ErrorBetween(begin, 400))
    run.run.finish(lambda: {"eval_score": score})
    assert (at(tmp_path, "last.pt"), at(tmp_path)) == (200, good)
    run.run.close()


def interrupted() -> None:
    raise KeyboardInterrupt


def test_a_weight_that_is_spoilt_between_a_point_and_its_checkpoint_is_in_no_good_one(tmp_path):
    run = loop(tmp_path)
    run.run.diagnosis._rules = RULES
    run.iterate(90)
    drawn = run.draw

    def spoilt():
        run.net.weight.data.fill_(1e38)  # finite, and no gradient behind it is
        return drawn()

    run.run._draw, run.run.cfg = spoilt, replace(run.run.cfg, draw_interval=100)
    run.iterate(100)
    assert (at(tmp_path, "last.pt"), at(tmp_path)) == (100, 50)
    with pytest.raises(FloatingPointError):
        run.iterate(120)
    assert at(tmp_path) == 50
    run.run.close()


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
