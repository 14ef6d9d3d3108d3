"""A run that returns to its last good checkpoint: what it changes, and what a kill at any moment does not."""

import importlib
import itertools
import json
from pathlib import Path

import pytest
import torch

from core.cli import rollback as of_options
from core.cli.job import execute
from core.cli.launch import compose_tree
from core.cli.resume import resume_run
from core.config import ConfigError, config_dir
from core.diagnosis.findings import markdown
from core.report.read import read_findings
from core.run import checkpoint
from core.run import rollback as writing
from core.run.run import Run
from core.run.tensorboard import read_scalars
from core.seeding import Generators, seed_for
from tests.conftest import Command, assert_refused
from tests.test_resume import Killed, differences

pytestmark = [pytest.mark.usefixtures("blank_figures"), pytest.mark.slow]

JUMP = "schedule._target_=core.scripts.suites.blowups.Jump"
RUNS = {
    "descend": ["function=rosenbrock", "optimizer=sgd", "steps=200", "logging.checkpoint_interval=30",
                "pictures=[]"],
    "rl": ["env=cartpole", "total_steps=8192", "logging.checkpoint_interval=1500", "logging.interval=2",
           "evaluation.episodes=2", "logging.eval_interval=100000", "logging.draw_interval=100000",
           "normalize_observation=true", "optimizer=adam", "optimizer.lr=1e-3"],
    "gan": ["data=ring", "total_images=25600", "logging.checkpoint_interval=3000", "logging.interval=5",
            "logging.eval_interval=100000", "logging.draw_interval=100000", "evaluation.samples=200",
            "optimizer=sgd", "optimizer.lr=0.1"],
}  # fmt: skip
BAD = {
    "descend": 10.0,
    "rl": 100.0,
    "gan": 1.0,
}  # times the rate, from half time on


def tree_of(kind: str, *words: str, jump: bool = True) -> dict:
    planted = [JUMP, f"schedule.scale={BAD[kind]}"] if jump else []
    return compose_tree(kind, [*RUNS[kind], *planted, "on_finding=rollback", *words], [config_dir()])[0]


def rollbacks(directory: Path) -> list[dict]:
    return json.loads((directory / "summary.json").read_text())["rollbacks"]


@pytest.fixture(scope="module")
def descent(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("descend") / "whole"
    assert execute(tree_of("descend"), directory) == 0
    return directory


def test_the_run_returns_and_ends_with_the_remedys_numbers(descent):
    (one,) = rollbacks(descent)
    assert (one["to"], one["finding"], one["player"]) == (90, "non_finite", "")
    assert one["remedy"] == ["optimizer.lr=0.0001", "clipper=global_norm", "clipper.max_norm=0.5"]
    state = checkpoint.load(descent / "checkpoints" / "last.pt")
    assert state["gradient_step"]["base_lrs"] == [1e-4]
    assert [group["lr"] for group in state["gradient_step"]["optimizer"]["param_groups"]] == [
        pytest.approx(1e-3)
    ]
    assert state["rollbacks"] == {"done": [one], "begins": False}
    curves = read_scalars(descent)
    after = {step: value for step, value in curves["gradient/norm_clipped"].items() if step > 90}
    assert max(after.values()) <= 0.5 + 1e-6
    assert set(curves["rollbacks"].values()) == {1.0}
    assert min(curves["rollbacks"]) > 90
    assert max(curves["gradient/skipped"].values()) == 0.0  # what was taken back is in no curve
    options = of_options.after_rollbacks(tree_of("descend"), descent)
    assert (options["optimizer"]["lr"], options["clipper"]["max_norm"]) == (1e-4, 0.5)


def test_the_finding_is_told_as_rolled_back_and_counts_no_more(descent, command: Command):
    (found,) = [f for f in read_findings(descent) or () if f.name == "non_finite"]
    assert (found.severity, found.active, found.rolled_back) == ("error", False, True)
    summary = json.loads((descent / "summary.json").read_text())
    assert "non_finite" not in [f["name"] for f in summary["findings"]]
    assert "| non_finite (rolled back) | error |" in markdown([found], "steps")
    assert command("report", str(descent)).status == 0
    page = (descent / "report.html").read_text(encoding="utf-8")
    (descent / "report.html").unlink()
    assert "Non finite, rolled back" in page
    assert "until the run returned" in page
    assert "1 error" not in page


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param("before", marks=pytest.mark.slow),
        "good",
        "last",
        1,
        pytest.param(25, marks=pytest.mark.slow),
    ],
)
def test_a_descent_killed_at_any_moment_of_a_rollback_ends_the_same(descent, tmp_path, monkeypatch, moment):
    assert killed_and_resumed("descend", tmp_path / "run", monkeypatch, moment) == 0
    assert differences(descent, tmp_path / "run") == []
    assert rollbacks(tmp_path / "run") == rollbacks(descent)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["rl", pytest.param("gan", marks=pytest.mark.long)])
def test_a_run_killed_in_or_after_a_rollback_ends_the_same(kind, tmp_path, monkeypatch):
    assert execute(tree_of(kind), tmp_path / "whole") == 0
    found = rollbacks(tmp_path / "whole")
    assert len(found) >= 1
    for moment in ("good", 7):
        directory = tmp_path / str(moment)
        assert killed_and_resumed(kind, directory, monkeypatch, moment) == 0
        assert rollbacks(directory) == found
        assert differences(tmp_path / "whole", directory) == []


def killed_and_resumed(kind: str, directory: Path, monkeypatch, moment: str | int) -> int:
    """Killed before the good checkpoint is written, after that, after the last, or so many steps later."""
    with monkeypatch.context() as patch:
        renamed, finish_step = writing.duplicate, Run.finish_step

        def killed(*_: object) -> None:
            raise Killed

        if moment == "before":
            patch.setattr(of_options, "write_rollback", lambda *_, **__: killed())
        elif moment == "good":
            patch.setattr(writing, "duplicate", killed)
        elif moment == "last":
            patch.setattr(writing, "duplicate", lambda *paths: killed(renamed(*paths)))
        else:
            left = itertools.count()

            def dying(self: Run, step: int, metrics: dict) -> None:
                if self.rollbacks.done and next(left) == moment:
                    raise Killed
                finish_step(self, step, metrics)

            patch.setattr(Run, "finish_step", dying)
        with pytest.raises(Killed):
            execute(tree_of(kind), directory)
    return resume_run(directory, [], kind) or 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(RUNS))
def test_a_healthy_run_is_the_same_to_the_bit(kind, tmp_path):
    words = ["optimizer.lr=1e-3"]
    assert execute(tree_of(kind, *words, jump=False), tmp_path / "on") == 0
    assert execute(tree_of(kind, *words, "on_finding=report", jump=False), tmp_path / "off") == 0
    assert rollbacks(tmp_path / "on") == []
    found = differences(tmp_path / "on", tmp_path / "off")
    assert {name for name in found if not name.startswith("/last.pt/rollbacks")} == set()


def test_after_as_many_as_there_may_be_it_stops(tmp_path, capsys):
    tree = tree_of("descend", "max_rollbacks=1", "optimizer.weight_decay=1e9", jump=False)
    assert execute(tree, tmp_path / "run") == 1
    said = capsys.readouterr()
    assert said.out.count("rollback 1 of 1") == 1
    assert "non-finite" in said.err or "on_finding=rollback" in said.err
    assert len(rollbacks(tmp_path / "run")) == 1


@pytest.mark.parametrize("interval", [1, 20])  # of 200 points, and of 10: five before the jump
def test_a_jump_of_the_rate_is_taken_back_at_once(tmp_path, interval):
    tree = tree_of("descend", "schedule.scale=1e5", f"logging.interval={interval}")
    assert execute(tree, tmp_path / "run") == 0
    (one,) = rollbacks(tmp_path / "run")
    assert one["remedy"] == ["optimizer.lr=1e-08"]


@pytest.mark.parametrize(("batch", "first"), [("full", False), ("minibatch", True)])
def test_other_random_numbers_are_tried_where_there_are_some(tmp_path, batch, first):
    """A weight that turns over, once in a process, has no cause that a number could cure."""
    importlib.import_module("core.scripts.suites.blowups").Clock.counts.clear()
    flip = "{_target_:core.scripts.suites.blowups.BitFlip,module:network,weight:0.weight,at:25,value:'nan'}"
    often = ("logging.interval=5", "logging.checkpoint_interval=10", "pictures=[]")
    words = ["objective=moons", f"batch={batch}", "optimizer=sgd", "steps=40", f"callbacks=[{flip}]", *often]
    tree = compose_tree("descend", [*words, "on_finding=rollback"], [config_dir()])[0]
    assert execute(tree, tmp_path / "run") == 0
    (one,) = rollbacks(tmp_path / "run")
    assert (one["finding"], one["to"]) == ("non_finite", 20)
    assert (one["remedy"] == []) is first


def test_other_numbers_are_drawn_than_before_and_the_same_again():
    first, again, other = (Generators(3) for _ in range(3))
    drawn = []
    for generators, count in ((first, 1), (again, 1), (other, 2)):
        generators.torch("a")
        generators.numpy("b").random(5)
        generators.restart("rollback", count)
        drawn.append((torch.rand(3, generator=generators.torch("a")), generators.numpy("b").random(3)))
    assert all((one == two).all() for one, two in zip(drawn[0], drawn[1], strict=True))
    assert not any((one == two).any() for one, two in zip(drawn[0], drawn[2], strict=True))
    fresh = torch.Generator().manual_seed(seed_for(3, "a", "rollback", 1))
    assert torch.equal(drawn[0][0], torch.rand(3, generator=fresh))


def test_numbers_are_read_as_python_writes_them():
    changed = of_options.with_remedy(tree_of("descend"), ("optimizer.lr=1e-05", "steps=7"))
    assert (changed["optimizer"]["lr"], changed["steps"]) == (1e-5, 7)
    assert type(changed["steps"]) is int


@pytest.mark.parametrize(
    ("remedy", "message"),
    [
        (("loss.weight=1",), "unknown option loss.weight"),
        (("optimizer._target_=torch.optim.SGD",), "is no number"),
        (("clipper=nonsense",), "is no number"),
    ],
)
def test_what_is_no_number_of_the_run_is_no_remedy(remedy, message):
    with pytest.raises(ConfigError, match=message):
        of_options.with_remedy(tree_of("descend"), remedy)


def test_bad_options_are_refused(command: Command):
    assert_refused(command("descend", "max_rollbacks=0"), "max_rollbacks must be an integer >= 1, got 0")
    assert_refused(
        command("descend", "on_finding=return"), "on_finding must be one of report, stop, rollback"
    )
