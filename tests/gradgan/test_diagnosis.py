"""Rules about games on planted signals."""

import math
from dataclasses import replace

import pytest

from core.diagnosis import History
from gradgan.diagnosis.rules import ModeCollapse
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
    Fault("gan", "stale_average", {"average/initial_share": 0.99, "average/distance": 0.7},
          player="generator"),
    Fault("gan", "discriminator_too_strong", {"logits/accuracy": 1.0, "logits/real": 15.0,
          "logits/fake": -15.0}, overrides=("penalty=none",), player="discriminator"),
    Fault("gan", "discriminator_too_strong", {"logits/accuracy": 1.0, "game/logit_gradient": 0.0001},
          overrides=("loss=minimax",), player="discriminator"),
    Fault("gan", "discriminator_too_weak", {"game/logit_gap": 0.001, "game/energy_distance": 0.6},
          overrides=("penalty.gamma=1000",), player="discriminator"),
    Fault("gan", "mode_collapse", {"game/diversity": 0.05}, player="generator"),
    Fault("ring", "mode_collapse", {"eval/modes": 2.0}, overrides=("penalty=none",), player="generator"),
    Fault("gan", "rotation", {"logits/fake": lambda n: 6.0 * math.sin(1.9 * n)}, player="generator",
          severity="note"),
    Fault("gan", "penalty_dominating", {"discriminator/loss_share/penalty": 0.99, "logits/accuracy": 0.4},
          player="discriminator"),
    Fault("gan", "penalty_asleep", {"discriminator/loss_share/penalty": 1e-05, "logits/accuracy": 0.99},
          player="discriminator"),
    Fault("gan", "penalty_asleep", {"discriminator/loss_share/penalty": 1e-05}, player="discriminator",
          severity="note"),
    Fault("gan", "exploding_gradient", {"game/sample_gradient": 20.0}, overrides=("loss=wasserstein",),
          player="discriminator"),
    Fault("gan", "discriminator_overfitting", {"game/overfitting": 0.9}, player="discriminator"),
    Fault("ring", "discriminator_overfitting", {"game/overfitting": 0.9}, player="discriminator"),
]  # fmt: skip


BORDERS = [
    Border("gan", "discriminator_too_strong", {"logits/accuracy": 0.96, "logits/real": 20.0},
           {"logits/accuracy": 0.98, "logits/real": 20.0}),
    Border("gan", "discriminator_too_strong", {"logits/accuracy": 1.0, "logits/real": 14.0},
           {"logits/accuracy": 1.0, "logits/real": 14.4}),
    Border("gan", "discriminator_too_strong", {"logits/accuracy": 1.0, "game/logit_gradient": 0.031},
           {"logits/accuracy": 1.0, "game/logit_gradient": 0.029}),
    Border("gan", "discriminator_too_weak", {"game/logit_gap": 0.051, "game/energy_distance": 0.6},
           {"game/logit_gap": 0.049, "game/energy_distance": 0.6}),
    Border("gan", "discriminator_too_weak", {"game/logit_gap": 0.01, "game/energy_distance": 0.19},
           {"game/logit_gap": 0.01, "game/energy_distance": 0.21}),
    Border("gan", "mode_collapse", {"game/diversity": 0.26},
           {"game/diversity": 0.24}),
    Border("ring", "mode_collapse", {"eval/modes": 5.0},
           {"eval/modes": 4.0}),
    Border("ring", "mode_collapse", {"eval/modes": lambda n: 5.0 if n % 2 else 4.0},
           {"eval/modes": 4.0}),
    Border("gan", "rotation", {"logits/fake": lambda n: 0.95 * (-1) ** n},
           {"logits/fake": lambda n: 1.05 * (-1) ** n}, said=(None, "note")),
    Border("gan", "rotation", {"logits/fake": lambda n: 9 * math.sin(n * math.pi / 6)},
           {"logits/fake": lambda n: 9 * math.sin(n * math.pi / 2.5)}, said=(None, "note")),
    Border("gan", "rotation", {"logits/fake": lambda n: 6 * (-1) ** n + 5 * n},
           {"logits/fake": lambda n: 6 * (-1) ** n + 0.5 * n}, said=(None, "note")),
    Border("gan", "discriminator_overfitting", {"game/overfitting": 0.49},
           {"game/overfitting": 0.51}),
    Border("gan", "discriminator_overfitting", {"game/overfitting": 0.9, "game/logit_gap": 0.14},
           {"game/overfitting": 0.9, "game/logit_gap": 0.16}),
    Border("gan", "exploding_gradient", {"game/sample_gradient": 3.9},
           {"game/sample_gradient": 4.1}, overrides=("loss=wasserstein",)),
    Border("gan", "exploding_gradient", {"game/sample_gradient": 20.0, "generator/gradient/norm": 199.0},
           {"game/sample_gradient": 20.0, "generator/gradient/norm": 201.0}),
    Border("gan", "penalty_dominating", {"discriminator/loss_share/penalty": 0.89, "logits/accuracy": 0.5},
           {"discriminator/loss_share/penalty": 0.91, "logits/accuracy": 0.5}),
    Border("gan", "penalty_dominating", {"discriminator/loss_share/penalty": 0.95, "logits/accuracy": 0.61},
           {"discriminator/loss_share/penalty": 0.95, "logits/accuracy": 0.59}),
    Border("gan", "penalty_dominating", {"discriminator/loss_share/penalty": 0.95, "game/logit_gap": 0.16},
           {"discriminator/loss_share/penalty": 0.95, "game/logit_gap": 0.14}),
    Border("gan", "penalty_asleep", {"discriminator/loss_share/penalty": 0.0021, "logits/accuracy": 0.96},
           {"discriminator/loss_share/penalty": 0.0019, "logits/accuracy": 0.96}),
    Border("gan", "penalty_asleep", {"discriminator/loss_share/penalty": 0.001, "logits/accuracy": 0.94},
           {"discriminator/loss_share/penalty": 0.001, "logits/accuracy": 0.96}),
    Border("gan", "penalty_asleep", {"discriminator/loss_share/penalty": 4.1e-4},
           {"discriminator/loss_share/penalty": 3.9e-4}, said=(None, "note")),
    Border("gan", "stale_average", {"average/initial_share": 0.99, "average/distance": 0.09},
           {"average/initial_share": 0.99, "average/distance": 0.11}),
]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=ids(FAULTS))
def test_a_planted_fault_is_found_where_and_when_it_is_and_closes_when_it_goes(fault):
    found_where_and_when_it_is(fault)


@pytest.mark.parametrize("fault", FAULTS, ids=ids(FAULTS))
def test_the_remedy_is_overrides_that_the_configuration_takes(fault):
    remedy_is_taken(fault)


def test_a_penalty_that_a_steep_slope_needs_is_one_of_slopes():
    where = context("gan", ("loss=wasserstein", "penalty=none"))
    findings, _ = watch(where, "gan", {"game/sample_gradient": 20.0})
    assert [f.remedy for f in findings] == [("penalty=wgan_gp",)]


@pytest.mark.parametrize(
    ("rate", "remedy"), [(3e-3, "optimizer.lr=0.001"), (1e-3, "penalty.gamma=1"), (3e-4, "penalty.gamma=1")]
)
def test_a_discriminator_with_a_penalty_is_too_strong_at_a_high_rate(rate, remedy):
    where = context("ring", (f"optimizer.lr={rate:g}",))
    where = replace(where, players=tuple(replace(player, lr=rate) for player in where.players))
    findings, _ = watch(where, "ring", {"logits/accuracy": 1.0, "logits/real": -6.0, "logits/fake": -56.0})
    assert [(f.name, f.remedy) for f in findings] == [("discriminator_too_strong", (remedy,))]


@pytest.mark.parametrize(("reverse_kl", "found"), [(0.24, []), (0.26, ["mode_collapse"])])
def test_samples_that_lie_evenly_around_all_modes_are_inexact_and_not_collapsed(reverse_kl, found):
    values = {"eval/modes": 2.0, "eval/reverse_kl": reverse_kl}
    findings, _ = watch(context("ring", ()), "ring", values)
    assert [finding.name for finding in findings] == found


@pytest.mark.parametrize("border", BORDERS, ids=ids(BORDERS))
def test_a_rule_speaks_beyond_its_border_and_not_before(border):
    said_at_the_border(border)


@pytest.mark.parametrize(("slope", "player"), [(-1.0, "generator"), (1.0, "discriminator"), (0.0, None)])
def test_players_who_want_the_same_are_named_at_once(slope, player):
    where = context("gan", ("loss._target_=scripts.suites.mistakes.HelpsTheOther",))
    where = replace(where, limits={**where.limits, "common_slope": slope})
    findings, _ = watch(where, "gan", {}, points=2)
    wanted = [
        ("players_agree", player, "error", ("loss._target_=gradgan.losses.nonsaturating.NonSaturating",))
    ]
    assert [(f.name, f.player, f.severity, f.remedy) for f in findings] == (wanted if player else [])


@pytest.mark.parametrize(
    ("first", "kinds"), [(0.0, ("layers", "data")), (0.9, ("learning_rate", "regularisation"))]
)
def test_a_latent_that_never_reached_the_samples_is_no_collapse(first, kinds):
    history = History()
    for point in range(40):
        history.add(100 * point, {"game/diversity": first if point < 3 else 0.0})
    assert [sign.kinds for sign in ModeCollapse()(history, context("gan"))] == [kinds]


@pytest.mark.parametrize(
    ("counts", "found"), [((5.0, 4.0), False), ((4.0, 5.0), False), ((4.0, 4.0), True), ((3.0, 4.0), False)]
)
def test_modes_are_missing_where_two_evaluations_in_a_row_found_few_and_no_more(counts, found):
    """Of eight, 4.8 are few; nothing is logged about modes between the evaluations."""
    history, where = History(), context("ring")
    for step, count in zip((8000, 9000), counts, strict=True):
        history.add(step, {"eval/modes": count})
    history.add(9500, {"game/diversity": 0.9})
    assert bool(list(ModeCollapse()(history, where))) == found


@pytest.mark.parametrize(
    ("counts", "found"),
    [((4.0, 4.0), False), ((4.0, 4.0, 4.0), True), ((5.0, 4.0, 4.0), False), ((3.0, 4.0, 4.0), False)],
)
def test_early_in_a_run_a_third_evaluation_must_agree_that_modes_are_missing(counts, found):
    history, where = History(), context("ring")
    for step, count in zip((1500, 2000, 2500)[-len(counts) :], counts, strict=True):
        history.add(step, {"eval/modes": count})
    assert bool(list(ModeCollapse()(history, where))) == found
