"""What a run that returns may change, and the checkpoint that it writes for it."""

import pytest
import torch
from torch import nn

from core.config import ConfigError
from core.diagnosis import Finding, Ledger, Remedies
from core.form import form_of, require_form
from core.gradients import GradientStep
from core.gradients.unit_health import UnitHealth
from core.run import checkpoint
from core.run.diagnosis import Diagnosis, DiagnosisConfig
from core.run.rollback import Rollbacks, RollingBack, remedies_of, write_rollback

OPTIONS = {
    "optimizer": {"lr": 0.4}, "second": {"lr": None}, "third": {"lr": 0.02}, "clipper": None, "weight": 3.0,
    "width": 64,
}  # fmt: skip


SLOWER = ("optimizer.lr=0.04", "second.lr=0.04", "third.lr=0.002")


def found(name: str, *remedy: str, player: str = "", kinds: tuple[str, ...] = ("learning_rate",)) -> Finding:
    return Finding(
        name=name, severity="error", player=player, layer=None, first_step=1, last_step=1, active=True,
        evidence={}, what="it is.", cause="Unknown.", remedy=remedy, kinds=kinds,
    )  # fmt: skip


def diagnosis(on_finding: str = "rollback") -> tuple[Diagnosis, dict[str, GradientStep]]:
    """Of three players: one with the common rate, one whose own follows it, one with its own."""
    steps = {}
    for name, lr in (("first", 0.4), ("second", 0.4), ("third", 0.02)):
        net = nn.Linear(2, 1)
        groups = [{"params": [net.weight]}, {"params": [net.bias], "lr": 2 * lr}]
        steps[name] = GradientStep(net, torch.optim.SGD(groups, lr=lr), name=name)
    made = Diagnosis(DiagnosisConfig(unit_health=UnitHealth()), on_finding, OPTIONS)
    own = Remedies(
        own_rates={"second": "second.lr", "third": "third.lr"}, live=("weight",), ruinous=("collapsed",)
    )
    made.begin("steps", 100, list(steps.values()), None, rules=(), remedies=own)
    return made, steps


@pytest.mark.parametrize(
    ("finding", "tried", "changes"),
    [
        (found("lost", "optimizer.lr=0.1", "clipper=global_norm"), 0,
         [("optimizer.lr=0.1", "clipper=global_norm"), SLOWER]),
        (found("exploded", "weight=1", player="third"), 0, [("weight=1",), SLOWER]),
        (found("exploded", "weight=1", player="third"), 1, [SLOWER]),
        (found("exploded", "weight=1", player="third"), 5, [SLOWER]),
        (found("exploded", "width=32", player="second"), 0, [("second.lr=0.04",), SLOWER]),
        (found("exploded", player="first"), 0, [("optimizer.lr=0.04",), SLOWER]),
        (found("bad", "data._target_=x", kinds=("data",)), 0, [()]),
        (found("bad", "data._target_=x", kinds=("data",)), 2, [()]),
        (found("agree", "loss._target_=x", kinds=("loss", "labels")), 0, []),
        (found("agree", "weight=1", kinds=("loss",)), 0, [("weight=1",)]),
        (found("agree", "weight=1", kinds=("loss",)), 1, []),
        (found("non_finite", "weight=1", player="third"), 0, [(), ("weight=1",), SLOWER]),
        (found("non_finite", "weight=1", player="third"), 1, [("weight=1",), SLOWER]),
        (found("non_finite", "loss._target_=x", player="third", kinds=("loss",)), 1,
         [("third.lr=0.002",), SLOWER]),
        (found("non_finite", "weight=1", player="third"), 2, [SLOWER]),
    ],
)  # fmt: skip
def test_the_remedy_where_it_is_numbers_else_a_tenth_of_the_rate_in_the_end_of_all(finding, tried, changes):
    assert diagnosis()[0].changes(finding, tried) == changes


@pytest.mark.parametrize(
    ("finding", "tried", "changes"),
    [
        (found("bad", "data._target_=x", kinds=("data",)), 0, []),
        (found("non_finite", "weight=1", player="third"), 0, [("weight=1",), SLOWER]),
        (found("non_finite", "weight=1", player="third"), 1, [SLOWER]),
        (found("exploded", "weight=1", player="third"), 0, [("weight=1",), SLOWER]),
    ],
)
def test_a_run_that_draws_nothing_never_returns_to_be_the_same_again(finding, tried, changes):
    assert diagnosis()[0].changes(finding, tried, redraws=False) == changes


def test_a_run_draws_where_an_owner_or_torch_does():
    class Own:
        def __init__(self, **fields):
            vars(self).update(fields)

        def restart(self, *names): ...

    back, net = Rollbacks(3), nn.Linear(1, 1)
    back.redraw({}, 1)
    assert not back.redraws({"net": net, "rollbacks": back, "descent": Own(random=False)})
    assert back.redraws({"generators": Own()})
    torch.rand(1)  # as dropout does
    assert back.redraws({"descent": Own(random=False)})


def test_where_something_had_grown_before_a_number_is_not_finite_its_remedy_comes_first():
    made, _ = diagnosis()
    for step, norm in enumerate((1.0, 1.0, 10.5)):
        made.observe(step, {"third/gradient/norm": norm})
    assert made.changes(found("non_finite", "weight=1", player="third"))[0] == ("weight=1",)
    assert made.changes(found("non_finite", "weight=1", player="first"))[0] == ()


@pytest.mark.parametrize(
    ("before", "scale", "lr", "third"),
    [
        (1.0, 0.5, 0.04, 0.002),
        (1.0, 9.0, 0.04, 0.002),
        (1.0, 1e4, 4e-5, 2e-6),
        (20.0, 1e4, 8e-4, 4e-5),  # its tenth is not what it was at the checkpoint
        (0.01, 1.0, 0.04, 0.002),  # a warm-up
        (0.01, 1e4, 4e-5, 2e-6),
    ],
)
@pytest.mark.parametrize("points", [2, 40])  # of which the last is behind the checkpoint
def test_what_a_schedule_has_raised_goes_back_to_what_it_was_at_the_checkpoint(
    points, before, scale, lr, third
):
    made, steps = diagnosis()
    for step in range(points):
        for each in steps.values():
            each.set_lr_scale(scale if step == points - 1 else before)
        made.update(step)
    slower = (f"optimizer.lr={lr:g}", f"second.lr={lr:g}", f"third.lr={third:g}")
    raised, seen = scale > 10.0, found("exploded", "weight=1", player="first")
    for tried in (0, 1):
        changes = made.changes(seen, tried, since=points - 2)
        assert changes == [("weight=1",)] * (not raised and not tried) + [slower]
    assert made.changes(seen, 1) == [SLOWER]  # it has returned there with lower rates


def test_a_rate_that_was_raised_before_the_first_point_goes_back_to_the_typed_one():
    made, steps = diagnosis()
    for each in steps.values():
        each.set_lr_scale(1e4)
    made.update(5)
    assert made.changes(found("exploded"), since=0)[0][0] == "optimizer.lr=4e-05"


def test_rates_are_told_from_other_numbers():
    made, _ = diagnosis()
    assert made.rates_in(["weight=1", "third.lr=0.1"])
    assert not made.rates_in(["weight=1", "clipper=global_norm"])


def test_a_rate_is_that_of_all_groups_of_the_players_that_it_holds_for():
    made, steps = diagnosis()
    for step in steps.values():
        step.set_lr_scale(0.5)  # a schedule changes no rate of these
    rates = made.rates(("optimizer.lr=0.1", "clipper=global_norm"))
    assert rates == {"first": [0.1, 0.2], "second": [0.1, 0.2], "third": [0.02, 0.04]}
    assert made.rates(("second.lr=0.2",))["second"] == [0.2, 0.4]
    assert made.rates(("second.lr=0.2",))["first"] == [0.4, 0.8]
    assert made.rates(("third.lr=0.01",))["third"] == [0.01, 0.02]


@pytest.mark.parametrize(
    ("on_finding", "name", "severity", "ends"),
    [
        ("report", "wrong", "error", False),
        ("stop", "wrong", "warning", True),
        ("stop", "wrong", "note", False),
        ("rollback", "wrong", "error", True),
        ("rollback", "wrong", "warning", False),
        ("rollback", "exploding_gradient", "warning", True),
        ("rollback", "collapsed", "warning", True),
    ],
)
def test_which_finding_ends_a_run(monkeypatch, on_finding, name, severity, ends):
    made, _ = diagnosis(on_finding)
    seen = Finding(**{**vars(found(name)), "severity": severity})
    monkeypatch.setattr(Diagnosis, "findings", [seen])
    assert (made.ends([seen]) is seen) == ends
    assert made.ends([Finding(**{**vars(seen), "active": False})]) is None


def test_a_checkpoint_is_good_again_once_the_fault_would_have_shown():
    back = Rollbacks(3)
    assert back.proven_from == 0
    one = {"step": 130, "to": 100, "finding": "wrong", "player": "", "remedy": []}
    back.load_state_dict({"done": [one, {**one, "step": 150}, {**one, "step": 110}], "begins": False})
    assert back.proven_from == 200


def test_a_run_is_sent_back_so_often_and_no_more():
    back = Rollbacks(2)
    back.consider(None)
    with pytest.raises(RollingBack, match="error: wrong"):
        back.consider(found("wrong"))
    one = {"step": 7, "to": 5, "finding": "wrong", "player": "", "remedy": ["a=1"]}
    back.load_state_dict({"done": [one, one], "begins": False})
    back.consider(found("wrong"))
    assert back.curve() == {"rollbacks": 2.0}
    assert "| 7 | 5 | wrong | – | `a=1` |" in back.table("steps")
    assert (Rollbacks(0).summary(), Rollbacks(1).summary(), bool(Rollbacks(0))) == (
        {},
        {"rollbacks": []},
        False,
    )


def test_what_is_written_is_the_good_checkpoint_with_the_remedy_in_it(tmp_path):
    folder, weight = tmp_path / "checkpoints", torch.arange(3.0)
    step = {"base_lrs": [1.0], "transforms": [{"memory": weight}], "combine": {"seed": 1}, "optimizer": {}}
    good = {
        "net": {"w": weight},
        "run": {
            "step": 5,
            "wall_s": 2.0,
            "cpu_s": 1.0,
            "best_score": 1.0,
            "diagnosis": {"history": {}, "ledger": {}},
        },
        "a_gradient_step": step,
    }
    checkpoint.save(folder / "good.pt", good)
    checkpoint.save(folder / "best.pt", good | {"run": {"step": 6, "best_score": 4.0}})
    checkpoint.save(folder / "last.pt", good | {"run": {"step": 8}})
    before = Rollbacks(3)

    def write(*remedy: str) -> None:
        rates, seconds = {"a": [0.5]}, {"wall_s": 8.0, "cpu_s": 7.0}
        write_rollback(tmp_path, before, found("wrong", player="a"), remedy, rates, step=9, seconds=seconds)

    write("optimizer.lr=0.5")
    last = checkpoint.load(folder / "last.pt")
    assert (folder / "last.pt").samefile(folder / "good.pt")
    assert torch.equal(last["net"]["w"], weight)
    diagnosis = last["run"].pop("diagnosis")
    assert last["run"] == {"step": 5, "wall_s": 8.0, "cpu_s": 7.0, "best_score": 4.0}
    ledger = Ledger(1)
    require_form(diagnosis["ledger"], ledger.state_form())
    ledger.load_state_dict(diagnosis["ledger"])
    (kept,) = ledger.findings
    assert (kept.name, kept.player, kept.active, kept.rolled_back) == ("wrong", "a", False, True)
    assert last["a_gradient_step"]["base_lrs"] == [0.5]
    assert last["a_gradient_step"]["combine"] == {"seed": 1}
    one = {"step": 9, "to": 5, "finding": "wrong", "player": "a", "remedy": ["optimizer.lr=0.5"]}
    assert last["rollbacks"] == {"done": [one], "begins": True}
    require_form(last["rollbacks"], form_of(before))
    assert remedies_of(tmp_path) == ("optimizer.lr=0.5",)
    write("clipper=global_norm")  # by a run that knows of none before: the same list again
    last = checkpoint.load(folder / "last.pt")
    assert len(last["rollbacks"]["done"]) == 1
    assert (last["a_gradient_step"]["transforms"], last["a_gradient_step"]["combine"]) == (None, {})
    (folder / "good.pt").write_bytes(b"damaged")
    with pytest.raises(ConfigError, match=r"good.pt is not a whole checkpoint"):
        write("optimizer.lr=0.5")


def test_a_step_takes_a_state_of_another_clipper_with_a_memory_of_its_own():
    _, steps = diagnosis()
    state = steps["first"].state_dict() | {"transforms": None}
    require_form(state, form_of(steps["first"]))
    steps["first"].load_state_dict(state)
    assert steps["first"].transform_states == []
