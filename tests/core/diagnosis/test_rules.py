"""The rules for any network on planted signals: each names the fault, and closes when it goes."""

from dataclasses import replace

import pytest

from core.diagnosis import Context, History, Remedies
from core.diagnosis.followers import Stale
from core.diagnosis.remedies import batch, clip, toward
from core.diagnosis.signals import LOST
from tests.signals import (
    ROOTS,
    Border,
    Fault,
    context,
    found_where_and_when_it_is,
    healthy,
    ids,
    remedy_is_taken,
    said_at_the_border,
    watch,
)

FAULTS = [
    Fault("ppo", "vanishing_gradient", {"layer/actor.0.weight/gradient_norm": 1e-06},
          layer="actor.0.weight"),
    Fault("ppo", "vanishing_gradient", {"layer/critic.2.weight/gradient_norm": 0.0},
          overrides=("policy.orthogonal=false",), layer="critic.2.weight"),
    Fault("gan", "vanishing_gradient", {"generator/layer/0.weight/gradient_norm": 1e-06},
          player="generator", layer="0.weight"),
    Fault("gan", "vanishing_gradient", {"generator/gradient/norm": 0.0}, player="generator",
          layer="4.bias", severity="error"),
    Fault("ppo", "exploding_gradient", {"gradient/norm": 900.0,
          "layer/critic.4.weight/gradient_norm": 899.0}, layer="critic.4.weight"),
    Fault("ppo", "exploding_gradient", {"gradient/norm": 900.0}, overrides=("clipper=none",),
          layer="actor.0.weight"),
    Fault("ppo", "non_finite", {"gradient/skipped": 0.5, "layer/actor.2.weight/nonfinite": 1.0,
          "layer/actor.0.weight/nonfinite": 1.0}, layer="actor.2.weight"),
    Fault("gan", "non_finite", {"discriminator/gradient/skipped": 1.0,
          "discriminator/layer/2.bias/nonfinite": 1.0}, player="discriminator", layer="2.bias",
          severity="error"),
    Fault("ppo", "non_finite", {LOST: 1.0}, severity="error"),
    Fault("gan", "non_finite", {LOST: 1.0}, severity="error"),
    Fault("ppo", "detached_layer", {"layer/actor.0.weight/detached": 1.0,
          "layer/actor.0.bias/detached": 1.0}, layer="actor.0.bias"),
    Fault("gan", "dead_units", {"generator/layer/3/dead_units": 0.95}, player="generator", layer="3"),
    Fault("ppo", "dead_units", {"layer/3/dead_units": 1.0}, overrides=("policy.activation=relu",), layer="3",
          severity="error"),
    Fault("sac", "dead_units", {"actor/layer/3/dead_units": 0.95}, player="actor", layer="3"),
    Fault("ppo", "saturated_units", {"layer/1/saturated_units": 0.97}, layer="1"),
    Fault("ppo", "clipping_always_on", {"gradient/clipped": 1.0, "gradient/norm_clipped": 1e-06}),
    Fault("ppo", "clipping_always_on", {"gradient/clipped": 1.0}, severity="note"),
    Fault("ppo", "update_too_large", {"gradient/update_ratio": 0.4}),
    Fault("sac", "update_too_large", {"critic/gradient/update_ratio": 0.4}, player="critic"),
    Fault("gan", "update_too_large", {"discriminator/gradient/update_ratio": 0.4}, player="discriminator"),
    Fault("ppo", "update_too_small", {"gradient/update_ratio": 1e-07}),
    Fault("ppo", "update_too_small", {"layer/critic.2.weight/update_ratio": 0.0}, layer="critic.2.weight",
          overrides=("optimizer.groups={critic.2*:{lr:0.0}}",)),
    Fault("ppo", "oscillation", {"gradient/cosine": -0.8}, severity="note"),
    Fault("gan", "oscillation", {"generator/gradient/update_cosine": -0.4}, overrides=("optimizer=momentum",
          "optimizer.momentum=0.99"), player="generator", severity="note"),
    Fault("ppo", "noise_dominated", {"gradient/noise_scale": 100000.0}, severity="note"),
    Fault("gan", "noise_dominated", {"discriminator/gradient/noise_scale": 100000.0},
          player="discriminator", severity="note"),
    Fault("sac", "noise_dominated", {"critic/noise/noise_scale": 100000.0}, player="critic",
          severity="note"),
    Fault("ppo", "above_edge_of_stability", {"curvature/stability": 3.0}, overrides=("probe=curvature",)),
    Fault("descend", "above_edge_of_stability", {"curvature/sharpness": 500.0}, overrides=("optimizer=sgd",)),
    Fault("ppo", "conflicting_losses", {"loss_cosine/policy_vs_value": -0.9},
          overrides=("policy.shared=true",), severity="note"),
    Fault("ppo", "equal_units", {"layer/actor.0.weight/equal_units": 1.0}, layer="actor.0.weight"),
    Fault("gan", "equal_units", {"generator/layer/2.weight/equal_units": 1.0}, player="generator",
          layer="2.weight"),
    Fault("ppo", "unscaled_inputs", {"input/rms": 1e4}),
    Fault("gan", "ranks_differ", {"ranks/differing_tensors": 1.0}, severity="error"),
    Fault("gan", "unscaled_inputs", {"discriminator/input/rms": 140.0}, player="discriminator"),
    Fault("ppo", "constant_inputs", {"input/variation": 0.0}),
    Fault("ppo", "weight_decay_dominates", {"gradient/weight_norm": 100.0},
          overrides=("optimizer.weight_decay=1.0",)),
    Fault("ppo", "eps_too_large", {"gradient/norm": 0.5}, overrides=("optimizer.eps=0.1",)),
]  # fmt: skip


BORDERS = [
    Border("ppo", "vanishing_gradient", {"layer/actor.0.weight/gradient_norm": 0.5 * 1.1e-5},
           {"layer/actor.0.weight/gradient_norm": 0.5 * 0.9e-5}),
    Border("ppo", "exploding_gradient", {"gradient/norm": 199.0},
           {"gradient/norm": 201.0}),
    Border("ppo", "non_finite", {"gradient/skipped": 0.019},
           {"gradient/skipped": 0.021}, said=("note", "warning")),
    Border("ppo", "non_finite", {"gradient/skipped": 0.99},
           {"gradient/skipped": 1.0}, said=("warning", "error")),
    Border("ppo", "detached_layer", {"layer/actor.0.weight/detached": 0.998},
           {"layer/actor.0.weight/detached": 0.9995}),
    Border("ppo", "conflicting_losses", {"loss_cosine/policy_vs_value": -0.49},
           {"loss_cosine/policy_vs_value": -0.51}, said=(None, "note")),
    Border("ppo", "conflicting_losses", {"loss_cosine/policy_vs_value": -0.9, "loss_share/policy": 0.09},
           {"loss_cosine/policy_vs_value": -0.9, "loss_share/policy": 0.11}, said=(None, "note")),
    Border("ppo", "conflicting_losses", {"loss_cosine/policy_vs_value": -0.9, "loss_share/value": 0.09},
           {"loss_cosine/policy_vs_value": -0.9, "loss_share/value": 0.11}, said=(None, "note")),
    Border("ppo", "dead_units", {"layer/1/dead_units": 0.59},
           {"layer/1/dead_units": 0.61}, said=(None, "note")),
    Border("ppo", "dead_units", {"layer/1/dead_units": 0.89},
           {"layer/1/dead_units": 0.91}, said=("note", "warning")),
    Border("ppo", "saturated_units", {"layer/1/saturated_units": 0.59},
           {"layer/1/saturated_units": 0.61}, said=(None, "note")),
    Border("ppo", "saturated_units", {"layer/1/saturated_units": 0.89},
           {"layer/1/saturated_units": 0.91}, said=("note", "warning")),
    Border("ppo", "dead_units", {"layer/1/dead_units": lambda n: 0.95 if n % 2 else 0.1},
           {"layer/1/dead_units": 0.99}),
    Border("ppo", "clipping_always_on", {"gradient/clipped": 0.985},
           {"gradient/clipped": 0.995}, said=(None, "note")),
    Border("ppo", "clipping_always_on", {"gradient/clipped": 1.0, "gradient/norm_clipped": 2.2e-5},
           {"gradient/clipped": 1.0, "gradient/norm_clipped": 1.8e-5}, said=("note", "warning")),
    Border("ppo", "update_too_large", {"gradient/update_ratio": 0.099},
           {"gradient/update_ratio": 0.101}),
    Border("ppo", "update_too_large", {"gradient/update_ratio": lambda n: 0.4 if n % 2 else 0.01},
           {"gradient/update_ratio": 0.4}),
    Border("ppo", "update_too_small", {"gradient/update_ratio": 1.1e-5},
           {"gradient/update_ratio": 0.9e-5}),
    Border("ppo", "update_too_small", {"gradient/update_ratio": 1e-7, "gradient/lr_scale": 0.019},
           {"gradient/update_ratio": 1e-7, "gradient/lr_scale": 0.021}),
    Border("ppo", "update_too_small", {"gradient/update_ratio": 1.1e-6, "gradient/lr_scale": 0.1},
           {"gradient/update_ratio": 0.9e-6, "gradient/lr_scale": 0.1}),
    Border("ppo", "update_too_small", {"gradient/update_ratio": 1.1e-5, "gradient/lr_scale": 100.0},
           {"gradient/update_ratio": 0.9e-5, "gradient/lr_scale": 100.0}),
    Border("ppo", "oscillation", {"gradient/cosine": -0.39},
           {"gradient/cosine": -0.41}, said=(None, "note")),
    Border("gan", "oscillation", {"generator/gradient/cosine": -0.74},
           {"generator/gradient/cosine": -0.76}, said=(None, "note")),
    Border("ppo", "oscillation", {"gradient/update_cosine": -0.09},
           {"gradient/update_cosine": -0.11}, said=(None, "note")),
    Border("ppo", "oscillation", {"gradient/cosine": -0.9, "gradient/norm": 1.9e-4},
           {"gradient/cosine": -0.9, "gradient/norm": 2.1e-4}, said=(None, "note")),
    Border("ppo", "noise_dominated", {"gradient/noise_scale": 99.0 * 128},
           {"gradient/noise_scale": 101.0 * 128}, said=(None, "note")),
    Border("ppo", "above_edge_of_stability", {"curvature/stability": 1.49},
           {"curvature/stability": 1.51}),
    Border("ppo", "above_edge_of_stability", {"curvature/stability": 101.0},
           {"curvature/stability": 99.0}),
    Border("ppo", "above_edge_of_stability", {"curvature/stability": lambda n: 3.0 if n % 2 else 1.0},
           {"curvature/stability": 3.0}),
]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=ids(FAULTS))
def test_a_planted_fault_is_found_where_and_when_it_is_and_closes_when_it_goes(fault):
    found_where_and_when_it_is(fault)


@pytest.mark.parametrize("fault", FAULTS, ids=ids(FAULTS))
def test_the_remedy_is_overrides_that_the_configuration_takes(fault):
    remedy_is_taken(fault)


@pytest.mark.parametrize("kind", ROOTS)
def test_a_healthy_run_has_no_findings(kind):
    assert watch(context(kind), kind, {})[0] == []


def test_a_schedule_that_ends_the_training_is_no_update_too_small():
    planted = {
        "gradient/update_ratio": lambda n: 1e-3 * (40 - n) / 40,
        "gradient/lr_scale": lambda n: (40 - n) / 40,
    }
    assert watch(context("ppo"), "ppo", planted)[0] == []


def test_short_steps_at_a_minimum_are_right():
    planted = {"gradient/update_ratio": 1e-8, "gradient/norm": 1e-6, "gradient/norm_clipped": 1e-6}
    assert "update_too_small" not in [f.name for f in watch(context("ppo"), "ppo", planted)[0]]


def test_no_clipping_is_proposed_to_a_method_that_reads_curvature_from_gradients():
    where = context("ppo", ("clipper=none",))
    assert clip(where, 0.5) == ("clipper=global_norm", "clipper.max_norm=0.5")
    (player,) = where.players
    assert clip(replace(where, players=(replace(player, optimizer="LBFGS"),)), 0.5) == ()


@pytest.mark.parametrize(("back", "found"), [(1.0, []), (90.0, ["exploding_gradient"])])
def test_a_gradient_that_had_vanished_and_comes_back_explodes_only_beyond_what_it_began_with(back, found):
    planted = {"gradient/norm": lambda n: 1e-6 if n < 60 else back}
    findings, _ = watch(context("ppo", ("clipper=none",)), "ppo", planted, start=4, end=80)
    assert [f.name for f in findings] == found
    assert [f.remedy for f in findings] == [("clipper=global_norm", "clipper.max_norm=2")] * len(found)


@pytest.mark.parametrize(
    ("stability", "optimizer", "remedy"),
    [
        (80.0, "Adam", [("optimizer.lr=1e-05",)]),  # and not 1e-3 * 0.7 / 80, at which nothing trains
        (7_000.0, "Adam", []),  # of denominators that stand for no gradient at all
        (7_000.0, "SGD", [("optimizer.lr=1e-07",)]),
    ],
)
def test_a_sharp_direction_is_believed_as_far_as_the_preconditioner_can_be(stability, optimizer, remedy):
    where = context("ppo", ("probe=curvature",))
    where = replace(where, players=(replace(where.players[0], optimizer=optimizer),))
    findings, _ = watch(where, "ppo", {"curvature/stability": stability})
    assert [f.remedy for f in findings if f.name == "above_edge_of_stability"] == remedy


def test_nothing_is_said_of_a_point_or_two():
    planted = {"gradient/update_ratio": 0.5, "policy/clip_fraction": 0.9}
    assert watch(context("ppo"), "ppo", planted, start=20, end=22)[0] == []
    assert healthy("ppo")["gradient/update_ratio"] == 1e-3


@pytest.mark.parametrize(("norm", "found"), [(33.0, []), (90.0, ["update_too_large"])])
def test_weights_that_the_first_steps_have_blown_up_are_seen_though_steps_look_short_beside_them(norm, found):
    where = context("gan", ("optimizer.lr=0.3",))
    players = tuple(replace(player, lr=0.3, initial_norm=30.0) for player in where.players)
    planted = {"generator/gradient/weight_norm": norm, "discriminator/gradient/weight_norm": 31.0}
    findings, _ = watch(replace(where, players=players), "gan", planted, start=1, end=99)
    assert [f.name for f in findings] == found
    assert [(f.player, f.remedy) for f in findings] == [("generator", ("optimizer.lr=0.002",))] * len(found)


def test_frozen_parameters_are_a_note_with_the_name_of_the_first():
    where = context("ppo", ("policy._target_=my.Own",))
    (player,) = where.players
    where = replace(where, players=(replace(player, frozen=("actor.0.weight", "actor.0.bias")),))
    findings, _ = watch(where, "ppo", {})
    assert [(f.name, f.severity, f.layer) for f in findings] == [("frozen_layer", "note", "actor.0.weight")]
    assert findings[0].remedy == ("policy._target_=gradrl.policies.networks.ActorCritic",)


@pytest.mark.parametrize(
    ("typed", "wanted", "proposed"),
    [
        (("optimizer.lr=0.1",), 1e-4, "optimizer.lr=0.001"),  # the experiment's value lies in that direction
        (("optimizer.lr=1e-7",), 3e-4, "optimizer.lr=0.001"),
        (
            ("optimizer.lr=1e-4",),
            1e-5,
            "optimizer.lr=1e-05",
        ),  # the experiment's value lies in the other direction
        ((), 1e-5, "optimizer.lr=1e-05"),  # the experiment's value is the one in use
    ],
)
def test_a_number_goes_back_to_the_recipes_own_where_that_is_on_the_way(typed, wanted, proposed):
    assert toward(context("ppo", typed), "optimizer.lr", wanted) == proposed


def test_a_rate_of_ones_own_goes_back_to_following_the_others():
    where = context("gan", ("discriminator.lr=1e-7",))
    assert toward(where, "discriminator.lr", 1e-3) == "discriminator.lr=null"
    assert toward(where, "discriminator.lr", 1e-8) == "discriminator.lr=1e-08"


@pytest.mark.parametrize("border", BORDERS, ids=ids(BORDERS))
def test_a_rule_speaks_beyond_its_border_and_not_before(border):
    said_at_the_border(border)


@pytest.mark.parametrize(
    ("batch", "times", "severity"),
    [
        (8, 7.9, None),
        (8, 8.1, "warning"),
        (9, 8.1, None),
        (9, 101.0, "note"),
        (3, 2.1, None),
        (2, 2.1, "warning"),
        (1, 1.9, None),
        (1, 2.1, "warning"),
    ],
)
def test_noise_is_severe_where_the_batch_is_small(batch, times, severity):
    where = context("ppo")
    where = replace(where, players=(replace(where.players[0], batch=batch),))
    findings, _ = watch(where, "ppo", {"gradient/noise_scale": times * batch}, end=81)
    said = {f.name: f.severity for f in findings if f.active}
    assert said.get("noise_dominated") == severity


def test_one_sequence_is_no_small_batch_and_the_exact_scale_of_one_sample_is_taken_at_its_word():
    where = context("ppo", ("agent=ppo_recurrent",))
    where = replace(where, players=(replace(where.players[0], batch=1),))
    assert watch(where, "ppo", {"gradient/noise_scale": 300.0})[0] == []
    where = context("classes")
    for scale, severity in ((7.9, None), (8.1, "warning")):
        one = replace(where, players=(replace(where.players[0], batch=1),))
        findings, _ = watch(one, "classes", {"full_gradient/noise_scale": scale}, start=1, end=81)
        assert {f.name: f.severity for f in findings}.get("noise_dominated") == severity


@pytest.mark.parametrize(
    ("momentum", "sharpness", "found"),
    [(0.0, 299.0, False), (0.0, 301.0, True), (0.5, 449.0, False), (0.5, 451.0, True)],
)
def test_momentum_lets_a_descent_bear_more_curvature(momentum, sharpness, found):
    """With a rate of 0.01 the threshold is (2 + 2 b) / 0.01, and 1.5 times it is said."""
    where = context("descend", ("optimizer=momentum", f"optimizer.momentum={momentum}"))
    findings, _ = watch(where, "descend", {"curvature/sharpness": sharpness})
    assert ("above_edge_of_stability" in {f.name for f in findings}) == found


@pytest.mark.parametrize(("norm", "found"), [(2.1e-5, False), (1.9e-5, True)])
def test_gradients_of_layers_of_different_size_are_compared_by_their_root_mean_square(norm, found):
    """The first layer has 16 times the elements of the others, whose norm is 0.5: four times the length."""
    where = context("ppo")
    first, *others = where.players[0].layers
    player = replace(where.players[0], layers=(replace(first, size=16 * first.size), *others))
    planted = {"layer/actor.0.weight/gradient_norm": norm}
    findings, _ = watch(replace(where, players=(player,)), "ppo", planted)
    assert ("vanishing_gradient" in {f.name for f in findings}) == found


@pytest.mark.parametrize(
    ("step", "share", "stale"),
    [
        (250, 0.75, True),  # 0.75^4 = 0.316 will be left at the end
        (250, 0.73, False),  # 0.73^4 = 0.284
        (1000, 0.31, True),
        (1000, 0.29, False),
        (90, 1.0, False),  # too early to say
    ],
)
def test_a_follower_is_stale_by_what_will_be_left_of_its_first_weights_at_the_end(step, share, stale):
    history, context = History(), Context(options={}, players=(), unit="steps", total=1000)
    history.add(step, {"target/initial_share": share, "target/distance": 0.5})
    rule = Stale(follower="target", player="critic", cause="", remedy=lambda context: ())
    assert bool(list(rule(history, context))) == stale


@pytest.mark.parametrize(
    ("now", "samples", "wanted"), [(64, 300.0, 512), (64, 256.0, 256), (64, 1e6, 1024), (None, 0.2, 1)]
)
def test_the_batch_that_is_advised_is_the_next_power_of_two_and_at_most_sixteen_times_the_present_one(
    now, samples, wanted
):
    remedies = Remedies(larger_batch=lambda context, player, samples: (f"batch_size={samples}",))
    where = Context(options={}, players=(), unit="steps", total=1, remedies=remedies)
    player = replace(context("gan").players[0], batch=now)
    assert batch(where, player, samples) == (f"batch_size={wanted}",)
