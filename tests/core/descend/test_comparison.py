"""Several descents from one start: whole runs below one parent, resumed to the bit, and the map of basins."""

import json
from pathlib import Path
from typing import cast

import pytest
import torch

from core.cli.job import execute
from core.cli.launch import compose_tree
from core.cli.resume import resume_run
from core.config import Component, build, config_dir
from core.descend.basins import GRID, LEFT, NOWHERE, basins, grid, reached, why_not
from core.descend.functions import Booth, DoubleWell, Himmelblau, MonkeySaddle, PlaneFunction, Rastrigin
from core.gradients import GlobalNorm, Value
from core.optim.factory import build_optimizer
from core.optim.schedules import Constant, Linear
from core.run.run import Run
from tests.conftest import Command, assert_refused
from tests.test_resume import Killed, differences, dying

pytestmark = pytest.mark.usefixtures("blank_figures")

QUIET = ["logging.progress=false", "pictures=[]"]


def tree_of(*overrides: str) -> dict:
    return compose_tree("descend", [*QUIET, *overrides], [config_dir()])[0]


def summary(directory: Path) -> dict:
    return json.loads((directory / "summary.json").read_text())


def around(function) -> PlaneFunction:
    return PlaneFunction(function, function.domain, function.critical_points, type(function).__name__)


def optimizer(name: str, *overrides: str) -> Component:
    return cast(Component, build(tree_of(f"optimizer={name}", *overrides)["optimizer"], "optimizer"))


@pytest.mark.slow
def test_optimizers_from_one_start_are_the_single_runs_and_their_parent_lists_them(tmp_path, capsys):
    overrides = ["function=booth", "steps=40", "start=[-4,2]"]
    several = tree_of(
        *overrides, "optimizers=[sgd,adam]", "optimizers.adam.lr=0.3", "pictures=[curves,path,surface]"
    )
    assert execute(several, tmp_path / "all") == 0
    parent = summary(tmp_path / "all")
    assert (parent["status"], parent["steps"], list(parent["optimizers"])) == (
        "finished",
        40,
        ["sgd", "adam"],
    )
    for name, more in (("sgd", []), ("adam", ["optimizer.lr=0.3"])):
        assert execute(tree_of(*overrides, f"optimizer={name}", *more), tmp_path / name) == 0
        alone, child = summary(tmp_path / name), summary(tmp_path / "all" / name)
        assert child["x"] == alone["x"]
        assert parent["optimizers"][name]["x"] == alone["x"]
        assert parent["optimizers"][name]["directory"] == name
        assert parent["optimizers"][name]["critical_point"] == alone["critical_point"]
        assert differences(tmp_path / name, tmp_path / "all" / name) == []
        assert (
            resume_run(tmp_path / "all" / name, [], "descend") is None
        )  # a run like any other, here at its end
    made = sorted(path.name for path in (tmp_path / "all" / "media").glob("*.*"))
    assert made == ["descent_curves.png", "descent_path.png", "descent_surface.png"]
    assert "adam           slope" in capsys.readouterr().out


@pytest.mark.slow
def test_a_comparison_killed_in_its_second_descent_and_resumed_ends_the_same(tmp_path, capsys):
    overrides = ["function=rosenbrock", "steps=30", "optimizers=[momentum,adam,perturbed_sgd]"]
    overrides += ["logging.checkpoint_interval=7", "logging.interval=4"]
    assert execute(tree_of(*overrides), tmp_path / "whole") == 0
    with dying(46):
        execute(tree_of(*overrides), tmp_path / "killed")
    first = (tmp_path / "killed" / "momentum" / "checkpoints" / "last.pt").stat().st_mtime_ns
    capsys.readouterr()
    assert resume_run(tmp_path / "killed", [], "descend") == 0
    assert "resumed at 14 steps" in capsys.readouterr().out
    # What had ended was left alone.
    assert (tmp_path / "killed" / "momentum" / "checkpoints" / "last.pt").stat().st_mtime_ns == first
    for name in ("momentum", "adam", "perturbed_sgd"):
        assert differences(tmp_path / "whole" / name, tmp_path / "killed" / name) == []
    assert list(summary(tmp_path / "killed")["optimizers"]) == ["momentum", "adam", "perturbed_sgd"]
    assert resume_run(tmp_path / "killed", [], "descend") is None
    assert "already finished" in capsys.readouterr().out
    assert resume_run(tmp_path / "killed", ["steps=35"], "descend") == 0
    assert {s["steps"] for s in summary(tmp_path / "killed")["optimizers"].values()} == {35}


def test_a_comparison_killed_after_its_last_checkpoint_draws_again_and_ends_the_same(tmp_path, monkeypatch):
    """Its pictures need networks, whose layers draw from the global generator."""
    tree = tree_of("objective=logistic", "batches=[stochastic,full]", "optimizer=sgd", "steps=4",
                   "pictures=[curves]")  # fmt: skip
    assert execute(tree, tmp_path / "whole", continuing=False) == 0
    write = Run.write_summary

    def killed(run, status, extra=None):
        if run.directory.name != "killed":
            write(run, status, extra)
        elif status == "finished":
            raise Killed

    monkeypatch.setattr(Run, "write_summary", killed)
    with pytest.raises(Killed):
        execute(tree, tmp_path / "killed", continuing=False)
    monkeypatch.undo()
    assert resume_run(tmp_path / "killed", [], "descend") == 0
    states = [torch.load(tmp_path / name / "checkpoints" / "last.pt") for name in ("whole", "killed")]
    assert torch.equal(*(state["run"]["generators"]["cpu"] for state in states))


def test_one_that_diverges_fails_alone_and_is_listed_as_failed(tmp_path, capsys):
    tree = tree_of("optimizers=[sgd,adam]", "optimizers.sgd.lr=0.9", "steps=20")
    assert execute(tree, tmp_path / "run") == 1
    parent = summary(tmp_path / "run")
    assert parent["status"] == "failed"
    assert {name: s["status"] for name, s in parent["optimizers"].items()} == {
        "sgd": "failed",
        "adam": "finished",
    }
    assert "error: sgd failed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["optimizers=[sgd,adma]"], "optimizers=adma does not exist; choose from adadelta, "),
        (["optimizers=[sgd]", "optimizer=adam"], "optimizer=adam is not read together with optimizers="),
        (["optimizers=[sgd]", "optimizer.lr=0.1"], "each has its own options: optimizers.NAME.OPTION=..."),
        (["optimizers=[sgd]", "optimizers.adam.lr=0.1"], "optimizers has no adam, only sgd\n"),
        (["optimizers=[sgd,adam]", "optimizers.momentum.lr=2"], "has no momentum, only sgd and adam\n"),
        (["objective=moons", "function.dim=3"], "dim: function is none here; it is one of function="),
        (["optimizers=[sgd,lbfgs]", "clipper=value"], "Value would change the gradients that the"),
        (["objective=logistic", "function=booth"], "objective: an objective replaces the function"),
        (["batch=full"], "batch must be none with a function"),
        (["probe=noise"], "probe must be none with a function"),
        (["batches=[full]"], "batches must be none with a function"),
        (["objective=logistic", "batches=[full]", "optimizers=[sgd]"], "one comparison at a time"),
        (["objective=logistic", "batch=minibatch", "batch.size=300"], "batch.size must be at most 269"),
        (["objective=logistic", "start=[1]"], "start must be null or a list of 2 numbers"),
        (["objective=logistic", "objective.digits=[1,1]"], "objective.digits must be two different digits"),
        (["optimizer.lr=auto"], "optimizer.lr must be a number; auto needs samples"),
        (["pictures=[maps]"], "pictures must be a list of path, surface, curves, video, basins, arrows, "
         "boundary"),
    ],
)  # fmt: skip
def test_what_contradicts_itself_ends_in_one_line_with_nothing_made(command: Command, overrides, message):
    assert_refused(command("descend", *overrides), message)


@pytest.mark.parametrize(
    "name",
    ["sgd", "momentum", "nesterov", "rmsprop", "adam", "adamw", "nadam", "radam", "adamax", "adagrad",
     "adadelta"],
)  # fmt: skip
def test_the_starts_of_one_batch_end_where_single_runs_do(name):
    function, component = Himmelblau(), optimizer(name, "clipper=value")
    clipper, schedule = Value(max_value=30.0), Linear(final=0.1)
    ends = basins(function, component, clipper, schedule, 60)
    starts = grid(function)
    for row, column in ((0, 0), (17, 44), (59, 31)):
        x = torch.nn.Parameter(starts[row, column].clone())
        single = build_optimizer(component, [("x", x)])
        rate = single.param_groups[0]["lr"]
        for step in range(60):
            single.param_groups[0]["lr"] = rate * (1 + step / 60 * (0.1 - 1))
            single.zero_grad()
            function(x).backward()
            torch.nn.utils.clip_grad_value_([x], 30.0)
            single.step()
        torch.testing.assert_close(ends[row, column], x.detach(), rtol=0, atol=1e-9)


def test_no_map_is_drawn_where_starts_of_one_batch_would_meddle():
    adam = optimizer("adam")
    assert why_not(adam, None, Constant()) == ""
    assert why_not(adam, Value(max_value=1.0), Constant()) == ""
    assert "GlobalNorm looks at more" in why_not(adam, GlobalNorm(max_norm=1.0), Constant())
    for name in ("lbfgs", "sam", "perturbed_sgd", "adafactor", "muon"):
        assert "looks at more than one number" in why_not(optimizer(name), None, Constant())
        assert isinstance(basins(Booth(), optimizer(name), None, Constant(), 5), str)


def test_gradient_descent_with_small_steps_divides_the_double_well_in_two_halves():
    ends = basins(DoubleWell(), optimizer("sgd", "optimizer.lr=0.02"), None, Constant(), 500)
    minima, number = reached(around(DoubleWell()), {"sgd": ends})
    assert sorted(map(tuple, minima.tolist())) == [(-1.0, 0.0), (1.0, 0.0)]
    side = torch.tensor([minima[i, 0] for i in number["sgd"].flatten()]).view(GRID, GRID)
    assert torch.equal(side > 0, grid(DoubleWell())[..., 0] > 0)


def test_minima_that_nobody_listed_are_found_and_what_reaches_none_is_told_apart():
    function = Rastrigin()
    ends = torch.tensor(
        [[0.01, 0.0], [1.98991, 0.99496], [-1.98, 2.98], [0.5, 0.5], [9.0, 0.0], [torch.nan, 0.0]]
    )
    minima, number = reached(around(function), {"a": ends.double()})
    assert number["a"].tolist()[3:] == [NOWHERE, LEFT, LEFT]
    found = minima[number["a"][:3]]
    assert found[0].tolist() == [0.0, 0.0]
    assert found[1].tolist() == pytest.approx([1.989912, 0.994959], abs=1e-5)
    assert found[2].tolist() == pytest.approx([-1.989912, 2.984856], abs=1e-5)
    ends = basins(MonkeySaddle(), optimizer("sgd"), None, Constant(), 400)
    _, number = reached(around(MonkeySaddle()), {"a": ends})
    assert set(number["a"].flatten().tolist()) <= {NOWHERE, LEFT}  # unbounded below, no minimum at all
