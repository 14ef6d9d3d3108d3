"""Rules about agents on planted signals."""

import math
from dataclasses import replace

import pytest

from core.diagnosis import History
from gradrl.diagnosis.experience import EntropyDominates, EpisodesCut, ShortHorizon
from gradrl.diagnosis.rules import CollapsedEntropy, improved
from tests.signals import (
    Border,
    Fault,
    context,
    found_where_and_when_it_is,
    ids,
    remedy_is_taken,
    said_at_the_border,
    watch,
)

FAULTS = [
    Fault("ppo", "saturated_units", {"layer/1/saturated_units": 0.97, "episode/return": lambda n: 20.0 * n},
          layer="1", severity="note"),
    Fault("sac", "stale_target", {"target/initial_share": 0.99, "target/distance": 0.7}, player="critic"),
    Fault("ppo", "non_finite_experience", {"experience/left_out": lambda n: 5.0 * n}),
    Fault("sac", "non_finite_experience", {"experience/left_out": lambda n: 1.0 * n}, severity="note"),
    Fault("ppo", "collapsed_entropy", {"policy/entropy": 0.0001}),
    Fault("sac", "collapsed_entropy", {"policy/entropy": -6.0}, player="actor"),
    Fault("ppo", "runaway_kl", {"policy/approx_kl": 0.6}),
    Fault("ppo", "ratio_out_of_hand", {"policy/clip_fraction": 0.8}),
    Fault("ppo", "ratio_out_of_hand", {"policy/ratio_max": 10000.0}, overrides=("optimizer.lr=0.1",)),
    Fault("sac", "exploding_value", {"value/q_mean": -100000.0}, overrides=("agent.critic_lr=0.05",),
          player="critic"),
    Fault("ppo", "exploding_value", {"policy/explained_variance": -30.0, "policy/advantage_std": 30.0}),
    Fault("ppo", "unnormalized_advantage", {"policy/advantage_std": 60.0},
          overrides=("agent.normalize_advantage=false",)),
    Fault("ppo", "reward_scale", {"policy/advantage_std": 30000.0}),
    Fault("ppo", "reward_scale", {"policy/advantage_std": 0.0}),
    Fault("sac", "reward_scale", {"loss/critic": 100000000.0}, player="critic"),
    Fault("ppo", "short_horizon", {"episode/length": 60.0}, overrides=("agent.gamma=0.5",)),
    Fault("ppo", "reward_opposes_return", {"eval/return_mean": lambda n: -float(n) ** 3,
          "episode/return": lambda n: 50.0 + 10.0 * n}),
    Fault("ppo", "reward_opposes_return", {"eval/return_mean": -400.0, "episode/return": 380.0}),
    Fault("ppo", "entropy_dominates", {"policy/entropy": 0.693, "loss_share/entropy": 0.7},
          overrides=("agent.entropy_coef=1.0",)),
    Fault("sac", "entropy_dominates", {"policy/entropy": 0.65}, overrides=("agent.temperature=100.0",),
          player="actor"),
    Fault("ppo", "ratio_out_of_hand", {"policy/clip_fraction": 0.9}, overrides=("agent.clip_coef=1e-4",)),
    Fault("ppo", "meaningless_observation", {"experience/unchanged": 1.0}),
    Fault("sac", "meaningless_observation", {"experience/memory": 0.02}, player="actor"),
    Fault("ppo", "actions_without_effect", {"experience/influence": 0.05}),
]  # fmt: skip


BORDERS = [
    Border("ppo", "collapsed_entropy", {"policy/entropy": 0.021 * 0.6931},
           {"policy/entropy": 0.019 * 0.6931}),
    Border("sac", "collapsed_entropy", {"policy/entropy": math.log(0.021) + 1.4189},
           {"policy/entropy": math.log(0.019) + 1.4189}),
    Border("ppo", "runaway_kl", {"policy/approx_kl": 0.19},
           {"policy/approx_kl": 0.21}),
    Border("ppo", "runaway_kl", {"policy/approx_kl": 0.49},
           {"policy/approx_kl": 0.51}, overrides=("agent.target_kl=0.05",)),
    Border("ppo", "ratio_out_of_hand", {"policy/clip_fraction": 0.59},
           {"policy/clip_fraction": 0.61}),
    Border("ppo", "ratio_out_of_hand", {"policy/ratio_max": 99.0},
           {"policy/ratio_max": 101.0}),
    Border("sac", "exploding_value", {"value/q_mean": -2509.0},
           {"value/q_mean": -2511.0}),
    Border("sac", "exploding_value", {"value/q_mean": 2509.0},
           {"value/q_mean": 2511.0}),
    Border("ppo", "exploding_value", {"policy/explained_variance": -4.9, "policy/advantage_std": 30.0},
           {"policy/explained_variance": -5.1, "policy/advantage_std": 30.0}),
    Border("ppo", "exploding_value", {"policy/explained_variance": -9.0, "policy/advantage_std": 4.9},
           {"policy/explained_variance": -9.0, "policy/advantage_std": 5.1}),
    Border("ppo", "unnormalized_advantage", {"policy/advantage_std": 9.9},
           {"policy/advantage_std": 10.1}, overrides=("agent.normalize_advantage=false",)),
    Border("ppo", "reward_scale", {"policy/advantage_std": 999.0},
           {"policy/advantage_std": 1001.0}),
    Border("ppo", "reward_scale", {"policy/advantage_std": 1.1e-6},
           {"policy/advantage_std": 0.9e-6}),
    Border("sac", "reward_scale", {"loss/critic": 0.5 * 999.0**2},
           {"loss/critic": 0.5 * 1001.0**2}),
    Border("ppo", "reward_opposes_return", {"eval/return_mean": -400.0, "episode/return": 210.0},
           {"eval/return_mean": -400.0, "episode/return": 220.0}),
    Border("sac", "entropy_dominates", {"policy/entropy": 0.592}, {"policy/entropy": 0.594},
           overrides=("agent.temperature=100.0",)),
    Border("sac", "stale_target", {"target/initial_share": 0.5, "target/distance": 0.09},
           {"target/initial_share": 0.9, "target/distance": 0.11}),
]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=ids(FAULTS))
def test_a_planted_fault_is_found_where_and_when_it_is_and_closes_when_it_goes(fault):
    found_where_and_when_it_is(fault)


@pytest.mark.parametrize("fault", FAULTS, ids=ids(FAULTS))
def test_the_remedy_is_overrides_that_the_configuration_takes(fault):
    remedy_is_taken(fault)


def test_a_note_of_an_odd_but_customary_signal_is_no_warning():
    """Clipping every step to 0.5 is what PPO does; a learnt policy may be sure of itself."""
    planted = {"policy/entropy": 1e-4, "episode/return": lambda n: 50.0 + 10.0 * n}
    found, _ = watch(context("ppo"), "ppo", planted | {"gradient/clipped": 1.0})
    assert {f.name: f.severity for f in found} == {"collapsed_entropy": "note", "clipping_always_on": "note"}


def test_what_shortens_a_step_without_a_clipper_is_not_clipping():
    """TRPO's natural step stands where a clipper would: it may be a thirtieth of the gradient."""
    for overrides, wanted in ((), ["clipping_always_on"]), (("clipper=none",), []):
        found, _ = watch(context("ppo", overrides), "ppo", {"gradient/clipped": 1.0})
        assert [f.name for f in found] == wanted


def test_a_critic_at_the_ends_of_its_units_is_a_note_and_an_actor_is_not():
    findings, _ = watch(context("ppo"), "ppo", {"layer/critic.1/saturated_units": 1.0})
    assert [(f.severity, f.layer) for f in findings] == [("note", "critic.1")]
    planted = {"layer/critic.1/saturated_units": 1.0, "layer/actor.1/saturated_units": 1.0}
    findings, _ = watch(context("ppo"), "ppo", planted)
    assert [(f.severity, f.layer) for f in findings] == [("warning", "actor.1")]


def test_epochs_that_were_typed_go_back_to_as_many_as_were_tuned():
    where = context("ppo", ("agent.num_epochs=150",))
    findings, _ = watch(where, "ppo", {"policy/approx_kl": 0.6})
    assert [f.remedy for f in findings] == [("agent.num_epochs=20", "agent.target_kl=0.02")]


@pytest.mark.parametrize("border", BORDERS, ids=ids(BORDERS))
def test_a_rule_speaks_beyond_its_border_and_not_before(border):
    said_at_the_border(border)


def signs(rule, values, points=12, **where):
    """What a rule says of a run whose every point has these values."""
    history = History()
    for point in range(1, points + 1):
        history.add(100 * point, values)
    return list(rule(history, replace(context("ppo"), **where)))


@pytest.mark.parametrize(
    ("trained", "evaluated", "said"),
    [(20.0, 500.0, True), (20.0, 39.0, False), (40.0, 20.0, True), (40.0, 21.0, False)],
)
def test_episodes_that_end_elsewhere_than_evaluated_ones_are_named(trained, evaluated, said):
    values = {"episode/length": trained, "eval/length_mean": evaluated}
    found = signs(EpisodesCut(), values)
    assert [sign.kinds for sign in found] == [("terminal",)] * said


def test_episodes_of_different_lengths_are_cut_by_nobody():
    history = History()
    for point, length in enumerate((20.0, 20.0, 21.0, 20.0, 20.0), 1):
        history.add(100 * point, {"episode/length": length, "eval/length_mean": 500.0})
    assert not list(EpisodesCut()(history, context("ppo")))


@pytest.mark.parametrize(("growth", "said"), [(1.29, False), (1.31, True)])
def test_a_deviation_that_the_bonus_drives_apart_is_named(growth, said):
    """The entropy of a Gaussian of deviation s is log(s sqrt(2 pi e)) per number."""
    entropy = 2 * math.log(growth * math.sqrt(2 * math.pi * math.e))
    where = replace(context("ppo", ("agent.entropy_coef=0.5",)), limits={"action_size": 2.0})
    history = History()
    for point in range(1, 13):
        history.add(100 * point, {"policy/entropy": entropy, "episode/return": 5.0})
    assert [sign.remedy for sign in EntropyDominates()(history, where)] == [("agent.entropy_coef=0",)] * said


@pytest.mark.parametrize(("step", "said"), [(72, False), (88, True)])
def test_a_horizon_is_short_beside_an_episode_that_has_not_ended(step, said):
    """Of 8 copies, each has taken an eighth of the steps: 10 is five horizons of 1 / (1 - 0.5) steps."""
    history = History()
    history.add(step, {"policy/entropy": 0.5})
    found = list(ShortHorizon()(history, context("ppo", ("agent.gamma=0.5",))))
    assert [sign.name for sign in found] == ["short_horizon"] * said


def test_a_narrow_clipping_interval_is_widened():
    where = context("ppo", ("agent.clip_coef=1e-4",))
    findings, _ = watch(where, "ppo", {"policy/clip_fraction": 0.9})
    assert [f.remedy for f in findings] == [("agent.clip_coef=0.2",)]


@pytest.mark.parametrize("size", [1, 6])
@pytest.mark.parametrize(("deviation", "collapsed"), [(0.021, False), (0.019, True)])
def test_a_gaussian_has_collapsed_by_the_deviation_of_each_of_its_numbers(size, deviation, collapsed):
    where = replace(context("sac"), limits={"action_size": float(size)})
    history, entropy = History(), size * math.log(deviation * math.sqrt(2 * math.pi * math.e))
    for step in range(10):
        history.add(step, {"policy/entropy": entropy})
    found = list(CollapsedEntropy()(history, where))
    assert [sign.evidence["left"] for sign in found] == [pytest.approx(deviation)] * collapsed


# MiniGrid-Empty-5x5, whose best is 0.955.
QUICK = [0.274, 0.742, 0.923, 0.952, 0.954, 0.955, 0.955, 0.955, 0.955, 0.955]


@pytest.mark.parametrize(
    ("returns", "risen"),
    [
        (QUICK, True),
        (QUICK[:7], None),
        ([*QUICK[:6], 0.8, 0.8, 0.8, 0.8], False),  # it has not stayed there
        ([0.9, 0.274, 0.9, *QUICK[3:]], False),  # it began in the middle
        ([9.4, 9.3, 9.5, 9.2, 9.4, 9.3, 9.5, 9.3, 9.4, 9.3], False),  # noise
        ([1.0] * 10, False),
    ],
)
def test_a_return_has_risen_also_where_the_first_points_have_learnt(returns, risen):
    history = History()
    for step, value in enumerate(returns):
        history.add(step, {"episode/return": value})
    assert improved(history) is risen


def test_returns_that_are_alike_because_they_are_the_best_are_no_fault_of_the_rewards():
    for returns, found in ((lambda n: QUICK[min(n, 10) - 1], False), (0.955, True)):
        planted = {"policy/advantage_std": lambda n: 1.0 if n < 12 else 1e-7, "episode/return": returns}
        findings, _ = watch(context("ppo"), "ppo", planted, start=1)
        assert ("reward_scale" in {f.name for f in findings}) is found
