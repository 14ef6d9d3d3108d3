"""Descents: the path is torch's own, the verdict the contract's, and a run is a run like any other."""

import json
import os
import signal
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from core.cli.job import execute
from core.cli.launch import compose_tree
from core.cli.resume import resume_run
from core.config import config_dir
from core.descend.function_descent import FunctionDescent, nearest, what
from core.descend.functions import (
    Ackley,
    Booth,
    DoubleWell,
    Himmelblau,
    MonkeySaddle,
    PlaneFunction,
    Quadratic,
    Rosenbrock,
)
from core.descend.pictures.maps import draw_paths, levels_of
from core.descend.trajectory import Trajectory, point
from core.history import KEPT, History
from core.run.run import Run
from core.run.tensorboard import read_scalars
from tests.conftest import Command, assert_refused
from tests.test_resume import differences, dying

CPU = torch.device("cpu")


@pytest.fixture
def no_pictures(monkeypatch) -> None:
    """They take most of the time of a short run."""
    monkeypatch.setattr("core.descend.descent.pictures", lambda *args: {})
    monkeypatch.setattr(Run, "_show", lambda self: None)


def descend(directory: Path, *overrides: str) -> dict:
    """Run a descent that ends well; its summary."""
    tree = compose_tree("descend", ["logging.progress=false", *overrides], [config_dir()])[0]
    assert execute(tree, directory) == 0
    return summary(directory)


def summary(directory: Path) -> dict:
    return json.loads((directory / "summary.json").read_text())


@pytest.mark.usefixtures("no_pictures")
def test_a_descent_takes_the_very_steps_of_torchs_optimizer(tmp_path):
    ended = descend(tmp_path, "function=rosenbrock", "optimizer=rmsprop", "optimizer.lr=0.01", "steps=60")
    x = torch.tensor([-1.2, 1.0], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.RMSprop([x], lr=0.01)
    values = {}
    for step in range(1, 61):
        optimizer.zero_grad()
        Rosenbrock()(x).backward()
        optimizer.step()
        values[step] = Rosenbrock()(x).item()
    assert ended["x"] == x.tolist()
    assert ended["value"] == values[60]
    assert ended["evaluations"] == ended["steps"] == 60
    curve = read_scalars(tmp_path)["descent/value"]
    assert curve == pytest.approx({step: values[step] for step in range(10, 61, 10)}, rel=1e-6)


def test_himmelblau_from_the_origin_ends_in_the_nearest_minimum_with_its_analytic_curvature(tmp_path, capsys):
    overrides = ["function=himmelblau", "optimizer=rmsprop", "start=[0,0]", "steps=500", "pictures=[path]"]
    ended = descend(tmp_path, *overrides)
    assert ended["x"] == pytest.approx([3.0, 2.0], abs=1e-6)
    assert ended["hessian_eigenvalues"] == pytest.approx([25.715729, 82.284271], abs=1e-4)
    assert (ended["critical_point"], ended["saddle_index"]) == ("minimum", 0)
    assert ended["gradient_norm"] < 1e-4
    curves = read_scalars(tmp_path)
    assert list(curves["descent/value"].items())[-1] == (500, pytest.approx(0.0, abs=1e-6))
    assert curves["curvature/sharpness"][500] == pytest.approx(82.284271, abs=1e-4)
    assert curves["curvature/lowest"][500] == pytest.approx(25.715729, abs=1e-4)
    assert curves["descent/x0"][500] == pytest.approx(3.0)
    assert "gradient/norm" in curves
    assert (tmp_path / "media" / "descent_path.png").is_file()
    said = capsys.readouterr().out
    assert "500 steps, 500 gradients: x = (3, 2)" in said
    assert "a minimum; eigenvalues of the Hessian: 25.7157, 82.2843;" in said


def test_no_steps_classify_the_start(tmp_path):
    ended = descend(tmp_path, "start=[-0.1279613467,-1.9537149802]", "steps=0", "pictures=[path]")
    assert (ended["critical_point"], ended["saddle_index"]) == ("saddle", 1)
    assert (ended["steps"], ended["evaluations"]) == (0, 0)
    assert (tmp_path / "media" / "descent_path.png").is_file()
    assert resume_run(tmp_path, [], "descend") is None  # it has ended


@pytest.mark.usefixtures("no_pictures")
def test_lbfgs_takes_several_gradients_a_step_and_all_are_counted(tmp_path):
    ended = descend(tmp_path, "function=rosenbrock", "optimizer=lbfgs", "steps=8")
    assert ended["evaluations"] > 3 * ended["steps"]
    assert ended["x"] == pytest.approx([1.0, 1.0], abs=1e-5)
    assert read_scalars(tmp_path)["descent/evaluations"][8] == ended["evaluations"]


@pytest.mark.usefixtures("no_pictures")
def test_the_schedule_and_the_clipper_apply(tmp_path):
    overrides = ["function=booth", "optimizer=sgd", "optimizer.lr=0.01", "steps=4"]
    plain = descend(tmp_path / "plain", *overrides)
    clipped = descend(tmp_path / "clipped", *overrides, "clipper=global_norm", "clipper.max_norm=2.0")
    falling = descend(tmp_path / "falling", *overrides, "schedule=linear", "schedule.final=0.0")
    start = torch.tensor(Booth.start, dtype=torch.float64)
    moved = {n: torch.tensor(r["x"]) - start for n, r in (("plain", plain), ("clipped", clipped))}
    assert moved["clipped"].norm().item() == pytest.approx(4 * 0.01 * 2.0, rel=1e-2)
    assert moved["plain"].norm().item() > 10 * moved["clipped"].norm().item()
    x = start.clone().requires_grad_()
    for i in range(4):
        (gradient,) = torch.autograd.grad(Booth()(x), x)
        x = (x - 0.01 * (1 - i / 4) * gradient).detach().requires_grad_()
    assert falling["x"] == pytest.approx(x.tolist(), rel=1e-12)


def test_more_than_two_variables_have_curves_for_six_and_no_picture(tmp_path):
    ended = descend(tmp_path, "function=quadratic", "function.dim=8", "optimizer=adam", "steps=20")
    assert ended["hessian_eigenvalues"] == pytest.approx(Quadratic(dim=8).eigenvalues)
    tags = [tag for tag in read_scalars(tmp_path) if tag.startswith("descent/x")]
    assert sorted(tags) == [f"descent/x{i}" for i in range(6)]
    assert not (tmp_path / "media" / "descent_path.png").exists()


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("overrides", [["steps=400"], ["steps=6"], ["start=[1e200,0]", "steps=3"]], ids=str)
def test_a_descent_that_diverges_fails_with_one_line_and_leaves_what_is_known(command: Command, overrides):
    overrides = [
        "optimizer=sgd",
        "optimizer.lr=0.9",
        *overrides,
        "logging.progress=false",
        "hydra.run.dir=run",
    ]
    outcome = command("descend", *overrides)
    assert outcome.status == 1
    assert outcome.err.count("\n") == 1, outcome.err
    assert outcome.err.startswith("error: ")
    assert "try a lower optimizer.lr" in outcome.err
    ended = summary(Path("run"))
    assert ended["status"] == "failed"
    assert len(ended["x"]) == 2
    assert ended["evaluations"] >= 1
    unknown = ("value", "gradient_norm", "hessian_eigenvalues", "saddle_index", "critical_point")
    assert [ended[name] for name in unknown] == [None] * 5


def test_a_point_without_a_second_derivative_is_said_to_be_one(command: Command):
    outcome = command("descend", "function=ackley", "start=[0,0]", "steps=0", "hydra.run.dir=run")
    assert outcome.status == 1
    assert outcome.err == "error: f or a derivative of it is not finite at x = (0, 0), after 0 steps\n"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["function=himelblau"], "did you mean himmelblau?"),
        (["start=[0,0,0]"], "start must be null or a list of 2 numbers, got [0.0, 0.0, 0.0]"),
        (["start=3"], "start must be a list of numbers or null, got 3"),
        (["start=[0,nan]"], "start must be a finite number, got nan"),
        (["steps=-1"], "steps must be an integer >= 0, got -1"),
        (["function=rosenbrock", "function.dim=1"], "function.dim must be an integer >= 2, got 1"),
        (["function=quadratic", "function.condition_number=0.5"], "function.condition_number must be"),
        (["function=beale", "function.dim=3"], "unknown option function.dim"),
        (
            ["function._target_=torch.nn.ReLU"],
            "must name a class of the kind core.descend.functions.Function",
        ),
        (["optimizer.lr=-1.0"], "optimizer.lr must be a number >= 0, got -1.0"),
        (
            ["optimizer=lbfgs", "clipper=value"],
            "clipper: Value would change the gradients that the line search",
        ),
        (["device=cuda:99"], "device=cuda:99 is not available: this machine has"),
        (["logging.eval_interval=3"], "unknown option logging.eval_interval"),
    ],
)
def test_a_bad_override_ends_in_one_line_with_nothing_made(command: Command, overrides, message):
    assert_refused(command("descend", *overrides), message)


@pytest.mark.usefixtures("no_pictures")
def test_a_finished_descent_is_left_alone_or_prolonged(command: Command, tmp_path):
    run = tmp_path / "run"
    descend(run, "optimizer=adam", "steps=40")
    outcome = command("descend", f"resume={run}")
    assert outcome.status == 0
    assert "already finished" in outcome.out
    shorter = command("descend", f"resume={run}", "steps=30")
    assert_refused(shorter, "steps=30 is less than the run's own steps=40")
    moved = command("descend", f"resume={run}", "start=[1,1]")
    assert_refused(moved, "start=[1,1] cannot change while resuming; only steps, logging.")
    assert command("descend", f"resume={run}", "steps=70").status == 0
    whole = descend(tmp_path / "whole", "optimizer=adam", "steps=70")
    assert summary(run)["x"] == whole["x"]
    assert summary(run)["evaluations"] == 70


ADAM = ["optimizer=adam", "clipper=zclip", "schedule=cosine"]
LBFGS = ["optimizer=lbfgs", "optimizer.max_iter=2", "optimizer.line_search_fn=null", "optimizer.lr=0.01"]
INTERVALS = [
    "logging.checkpoint_interval=11",
    "logging.interval=4",
    "logging.draw_interval=45",
    "logging.progress=false",
    "monitor.sample_interval=5",
]


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize(
    ("overrides", "deaths"), [(ADAM, (35, 11)), (LBFGS, (2, 29, 40))], ids=["adam", "lbfgs"]
)
def test_a_descent_killed_at_any_point_and_resumed_ends_the_same(tmp_path, monkeypatch, overrides, deaths):
    overrides = ["function=rosenbrock", "steps=90", *overrides, *INTERVALS]
    whole, directory = tmp_path / "whole", tmp_path / "run"

    def begin(place: Path) -> int:
        return execute(compose_tree("descend", overrides, [config_dir()])[0], place)

    monkeypatch.setattr("core.history.KEPT", 20)  # so that the path is thinned on the way
    assert begin(whole) == 0
    for death in deaths:
        again = partial(resume_run, directory, [], "descend")
        go = again if directory.exists() else partial(begin, directory)
        with dying(death):
            go()
    assert resume_run(directory, [], "descend") == 0
    assert differences(whole, directory) == []
    for field in ("x", "value", "gradient_norm", "hessian_eigenvalues", "evaluations", "critical_point"):
        assert summary(whole)[field] == summary(directory)[field]


@pytest.mark.usefixtures("no_pictures")
def test_a_signal_saves_the_descent_and_its_summary_says_where_it_is(command: Command, monkeypatch):
    finish_step = Run.finish_step

    def interrupted(self, step, metrics):
        if step == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        finish_step(self, step, metrics)

    monkeypatch.setattr(Run, "finish_step", interrupted)
    assert command("descend", "logging.progress=false", "hydra.run.dir=run").status == 143
    ended = summary(Path("run"))
    assert (ended["status"], ended["steps"], ended["evaluations"]) == ("stopped", 5, 5)
    assert ended["critical_point"] == "slope"


def test_a_long_path_keeps_every_second_point_then_every_fourth():
    track = History(torch.zeros(1))
    for step in range(1, 3 * KEPT + 3):
        track.add(torch.tensor([float(step)]))
    numbers, rows = track.rows()
    assert numbers == [*range(0, 3 * KEPT + 1, 4), 3 * KEPT + 2]  # the last always among them
    assert rows[:, 0].tolist() == numbers


def test_verdicts_tell_kind_reason_and_the_nearest_known_point():
    saddle = FunctionDescent(DoubleWell(), (0.0, 1e-6), CPU).measure()[1]
    assert what(saddle) == "a saddle of index 1; eigenvalues of the Hessian: -4, 2"
    assert nearest(DoubleWell(), (0.0, 1e-6), saddle) == "; distance to the known saddle at (0, 0): 1e-06"
    slope = FunctionDescent(Himmelblau(), (0.0, 0.0), CPU).measure()[1]
    assert what(slope).startswith("still on a slope (|g| > 0.004")  # 1e-4 of 45.6...
    hill = nearest(Himmelblau(), (0.0, 0.0), slope)
    assert hill.startswith("; distance to the known maximum at (")
    assert "): 0.962" in hill
    hole = FunctionDescent(Ackley(), (1.9744, 1.9744), CPU).measure()[1]
    assert nearest(MonkeySaddle(), (0.0, 0.0), hole) == ""
    assert point(range(8)) == "(0, 1, 2, ... 2 more ..., 5, 6, 7)"


@pytest.mark.usefixtures("light_figures")
@pytest.mark.parametrize("function", [Rosenbrock(), MonkeySaddle(), Ackley()], ids=lambda f: type(f).__name__)
def test_a_picture_shows_a_path_that_leaves_the_domain_and_leaves_out_what_is_not_finite(function):
    width = function.domain[0][1] - function.domain[0][0]
    beyond = function.domain[0][1] + 0.5 * width
    far = [function.start, (0.0, 0.0), (beyond, 0.0), (1e300, 1.0), (float("nan"), 0.0)]
    inside = torch.tensor([function.start, (0.1, 0.1)], dtype=torch.float64)
    plane = PlaneFunction(function, function.domain, function.critical_points, "Mine")

    def draw(path: torch.Tensor) -> np.ndarray:
        numbers = {"steps": [0], "value": [0.0], "gradient_norm": [0.0]}
        trajectory = Trajectory(
            name="a path", ended="slope", path=path, path_steps=list(range(len(path))), **numbers
        )
        return draw_paths(plane, [trajectory]).pixels

    first, second = draw(inside), draw(torch.tensor(far, dtype=torch.float64))
    assert first.dtype == np.uint8
    assert first.shape == second.shape
    assert (first != second).mean() > 0.1  # another section of the surface
    assert len(np.unique(first.reshape(-1, 3), axis=0)) > 20


def test_the_heights_where_a_function_is_a_number_make_its_level_lines():
    height = np.arange(100.0).reshape(10, 10)
    levels = levels_of(height)
    assert levels[[0, -1]].tolist() == [0.0, 99.0]
    assert levels_of(np.where(height < 50, height, np.nan))[[0, -1]].tolist() == [0.0, 49.0]
