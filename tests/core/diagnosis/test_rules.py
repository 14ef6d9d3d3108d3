"""Every rule on signals that are planted in healthy ones: it names the fault, the layer, and when it goes."""

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from core.cli.launch import compose_tree
from core.config import build, config_dir
from core.diagnosis import RULES
from core.diagnosis.remedies import toward
from tests.core.diagnosis.signals import EVERY, ROOTS, Values, context, healthy, watch


class Fault(NamedTuple):
    """What is planted into healthy signals, and the finding it must lead to."""

    kind: str
    name: str
    planted: Values
    words: tuple[str, ...] = ()
    player: str = ""
    layer: str | None = None
    severity: str = "warning"


FAULTS = [
    Fault("ppo", "vanishing_gradient", {"layer/actor.0.weight/gradient_norm": 1e-06},
          layer="actor.0.weight"),
    Fault("ppo", "vanishing_gradient", {"layer/critic.2.weight/gradient_norm": 0.0},
          words=("policy.orthogonal=false",), layer="critic.2.weight"),
    Fault("gan", "vanishing_gradient", {"generator/layer/0.weight/gradient_norm": 1e-06},
          player="generator", layer="0.weight"),
    Fault("gan", "vanishing_gradient", {"generator/gradient/norm": 0.0}, player="generator",
          layer="4.bias", severity="error"),
    Fault("ppo", "exploding_gradient", {"gradient/norm": 900.0,
          "layer/critic.4.weight/gradient_norm": 899.0}, layer="critic.4.weight"),
    Fault("ppo", "exploding_gradient", {"gradient/norm": 900.0}, words=("clipper=none",),
          layer="actor.0.weight"),
    Fault("ppo", "non_finite", {"gradient/skipped": 0.5, "layer/actor.2.weight/nonfinite": 1.0,
          "layer/actor.0.weight/nonfinite": 1.0}, layer="actor.2.weight"),
    Fault("gan", "non_finite", {"discriminator/gradient/skipped": 1.0,
          "discriminator/layer/2.bias/nonfinite": 1.0}, player="discriminator", layer="2.bias",
          severity="error"),
    Fault("ppo", "detached_layer", {"layer/actor.0.weight/detached": 1.0,
          "layer/actor.0.bias/detached": 1.0}, layer="actor.0.bias"),
    Fault("gan", "dead_units", {"generator/layer/3/dead_units": 0.95}, player="generator", layer="3"),
    Fault("ppo", "dead_units", {"layer/3/dead_units": 1.0}, words=("policy.activation=relu",), layer="3",
          severity="error"),
    Fault("sac", "dead_units", {"actor/layer/3/dead_units": 0.95}, player="actor", layer="3"),
    Fault("ppo", "saturated_units", {"layer/1/saturated_units": 0.97}, layer="1"),
    Fault("ppo", "saturated_units", {"layer/1/saturated_units": 0.97, "episode/return": lambda n: 20.0 * n},
          layer="1", severity="note"),
    Fault("ppo", "clipping_always_on", {"gradient/clipped": 1.0, "gradient/norm_clipped": 1e-06}),
    Fault("ppo", "clipping_always_on", {"gradient/clipped": 1.0}, severity="note"),
    Fault("ppo", "update_too_large", {"gradient/update_ratio": 0.4}),
    Fault("sac", "update_too_large", {"critic/gradient/update_ratio": 0.4}, player="critic"),
    Fault("gan", "update_too_large", {"discriminator/gradient/update_ratio": 0.4}, player="discriminator"),
    Fault("ppo", "update_too_small", {"gradient/update_ratio": 1e-07}),
    Fault("ppo", "update_too_small", {"layer/critic.2.weight/update_ratio": 0.0}, layer="critic.2.weight",
          words=("optimizer.groups={critic.2*:{lr:0.0}}",)),
    Fault("ppo", "oscillation", {"gradient/cosine": -0.8}, severity="note"),
    Fault("descend", "oscillation", {"gradient/cosine": -0.8}, words=("optimizer=sgd",)),
    Fault("gan", "oscillation", {"generator/gradient/update_cosine": -0.4}, words=("optimizer=momentum",
          "optimizer.momentum=0.99"), player="generator", severity="note"),
    Fault("ppo", "noise_dominated", {"gradient/noise_scale": 100000.0}, severity="note"),
    Fault("gan", "noise_dominated", {"discriminator/gradient/noise_scale": 100000.0},
          player="discriminator", severity="note"),
    Fault("sac", "noise_dominated", {"critic/noise/noise_scale": 100000.0}, player="critic",
          severity="note"),
    Fault("ppo", "above_edge_of_stability", {"curvature/stability": 3.0}, words=("probe=curvature",)),
    Fault("descend", "above_edge_of_stability", {"curvature/sharpness": 500.0}, words=("optimizer=sgd",)),
    Fault("descend", "saddle", {"descent/value": 0.7, "gradient/norm": 1e-05, "curvature/lowest": -4.0},
          words=("optimizer=sgd",)),
    Fault("descend", "plateau", {"descent/value": 0.7, "gradient/norm": 1e-05, "curvature/lowest": 0.0,
          "curvature/sharpness": 0.0001}, words=("optimizer=sgd",)),
    Fault("ppo", "conflicting_losses", {"loss_cosine/policy_vs_value": -0.9},
          words=("policy.shared=true",), severity="note"),
    Fault("gan", "stale_average", {"average/initial_share": 0.99, "average/distance": 0.7},
          player="generator"),
    Fault("sac", "stale_target", {"target/initial_share": 0.99, "target/distance": 0.7}, player="critic"),
    Fault("ppo", "collapsed_entropy", {"policy/entropy": 0.0001}),
    Fault("sac", "collapsed_entropy", {"policy/entropy": -6.0}, player="actor"),
    Fault("ppo", "runaway_kl", {"policy/approx_kl": 0.6}),
    Fault("ppo", "ratio_out_of_hand", {"policy/clip_fraction": 0.8}),
    Fault("ppo", "ratio_out_of_hand", {"policy/ratio_max": 10000.0}, words=("optimizer.lr=0.1",)),
    Fault("sac", "exploding_value", {"value/q_mean": -100000.0}, words=("agent.critic_lr=0.05",),
          player="critic"),
    Fault("ppo", "exploding_value", {"policy/explained_variance": -30.0, "policy/advantage_std": 30.0}),
    Fault("ppo", "unnormalized_advantage", {"policy/advantage_std": 60.0},
          words=("agent.normalize_advantage=false",)),
    Fault("ppo", "reward_scale", {"policy/advantage_std": 30000.0}),
    Fault("ppo", "reward_scale", {"policy/advantage_std": 0.0}),
    Fault("sac", "reward_scale", {"loss/critic": 100000000.0}, player="critic"),
    Fault("gan", "discriminator_too_strong", {"logits/accuracy": 1.0, "logits/real": 15.0,
          "logits/fake": -15.0}, words=("penalty=none",), player="discriminator"),
    Fault("gan", "discriminator_too_strong", {"logits/accuracy": 1.0, "game/logit_gradient": 0.0001},
          words=("loss=minimax",), player="discriminator"),
    Fault("gan", "discriminator_too_weak", {"game/logit_gap": 0.001, "game/energy_distance": 0.6},
          words=("penalty.gamma=1000",), player="discriminator"),
    Fault("gan", "mode_collapse", {"game/diversity": 0.05}, player="generator"),
    Fault("ring", "mode_collapse", {"eval/modes": 2.0}, words=("penalty=none",), player="generator"),
    Fault("gan", "rotation", {"logits/fake": lambda n: 6.0 * math.sin(1.9 * n)}, player="generator",
          severity="note"),
    Fault("gan", "penalty_dominating", {"discriminator/loss_share/penalty": 0.99, "logits/accuracy": 0.4},
          player="discriminator"),
    Fault("gan", "penalty_asleep", {"discriminator/loss_share/penalty": 1e-05, "logits/accuracy": 0.99},
          player="discriminator"),
    Fault("gan", "penalty_asleep", {"discriminator/loss_share/penalty": 1e-05}, player="discriminator",
          severity="note"),
    Fault("gan", "exploding_gradient", {"game/sample_gradient": 20.0}, words=("loss=wasserstein",),
          player="discriminator"),
    Fault("descend", "plateau", {"loss/train": 2.3}, words=("optimizer=sgd",)),
    Fault("gan", "discriminator_overfitting", {"game/overfitting": 0.9}, player="discriminator"),
    Fault("ring", "discriminator_overfitting", {"game/overfitting": 0.9}, player="discriminator"),
]  # fmt: skip
IDS = [f"{fault.name}-{fault.kind}-{number}" for number, fault in enumerate(FAULTS)]
LATE = 14  # points that a rule may look back over


@pytest.mark.parametrize("fault", FAULTS, ids=IDS)
def test_a_planted_fault_is_found_where_and_when_it_is_and_closes_when_it_goes(fault):
    found, _ = watch(context(fault.kind, fault.words), fault.kind, fault.planted, start=30, end=50)
    (finding,) = [f for f in found if f.name == fault.name]
    assert (finding.player, finding.severity) == (fault.player, fault.severity)
    if fault.layer is not None:
        assert finding.layer == fault.layer
    assert 30 * EVERY <= finding.first_step <= (30 + LATE) * EVERY
    assert 49 * EVERY - 1 <= finding.last_step <= (50 + LATE) * EVERY
    assert not finding.active
    assert finding.evidence
    assert all(math.isfinite(value) for value in finding.evidence.values())


@pytest.mark.parametrize("kind", ROOTS)
def test_a_healthy_run_has_no_findings(kind):
    assert watch(context(kind), kind, {})[0] == []


def test_every_finding_that_a_rule_can_make_is_planted_here_and_explained_in_the_docs():
    root = Path(__file__).resolve().parents[3]
    source = "".join(path.read_text() for path in (root / "core" / "diagnosis").glob("*.py"))
    names = set(re.findall(r'name="(\w+)"', source)) | {"stale_average", "stale_target"}
    page = (root / "docs" / "diagnosis.md").read_text()
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    assert {fault.name for fault in FAULTS} == names - {"frozen_layer"}  # no signal, a fact
    assert names <= set(re.findall(r"`(\w+)`", " ".join(rows)))
    assert len({rule for rules in RULES.values() for rule in rules}) == 30


@pytest.mark.parametrize("fault", FAULTS, ids=IDS)
def test_the_remedy_is_words_that_the_configuration_takes(fault):
    kind, words = fault.kind, fault.words
    found, _ = watch(context(kind, words), kind, fault.planted, start=30, end=50)
    (finding,) = [f for f in found if f.name == fault.name]
    if not finding.remedy:
        empty = ("non_finite", "detached_layer", "reward_scale", "discriminator_overfitting")
        assert fault.name in empty or fault.severity == "error"
        return
    keys = [word.partition("=")[0] for word in finding.remedy]
    root, own = ROOTS[kind]
    kept = [word for word in (*own, *words) if word.partition("=")[0] not in keys]
    before = compose_tree(root, [*own, *words], [config_dir()])[0]
    tree = compose_tree(root, [*kept, *finding.remedy], [config_dir()])[0]
    build(tree)
    assert tree != before or finding.severity == "note", finding.remedy


def test_a_note_of_an_odd_but_customary_signal_is_no_warning():
    """Clipping every step to 0.5 is what PPO does; a learnt policy may be sure of itself."""
    planted = {"policy/entropy": 1e-4, "episode/return": lambda n: 50.0 + 10.0 * n}
    found, _ = watch(context("ppo"), "ppo", planted | {"gradient/clipped": 1.0})
    assert {f.name: f.severity for f in found} == {"collapsed_entropy": "note", "clipping_always_on": "note"}


def test_a_schedule_that_ends_the_training_is_no_update_too_small():
    planted = {
        "gradient/update_ratio": lambda n: 1e-3 * (40 - n) / 40,
        "gradient/lr_scale": lambda n: (40 - n) / 40,
    }
    assert watch(context("ppo"), "ppo", planted)[0] == []


def test_short_steps_at_a_minimum_are_right():
    planted = {"gradient/update_ratio": 1e-8, "gradient/norm": 1e-6, "gradient/norm_clipped": 1e-6}
    assert "update_too_small" not in [f.name for f in watch(context("ppo"), "ppo", planted)[0]]


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
        (("optimizer.lr=0.1",), 1e-4, "optimizer.lr=0.001"),  # the recipe's lies on the way
        (("optimizer.lr=1e-7",), 3e-4, "optimizer.lr=0.001"),
        (("optimizer.lr=1e-4",), 1e-5, "optimizer.lr=1e-05"),  # it lies the other way
        ((), 1e-5, "optimizer.lr=1e-05"),  # it is what has been used
    ],
)
def test_a_number_goes_back_to_the_recipes_own_where_that_is_on_the_way(typed, wanted, proposed):
    assert toward(context("ppo", typed), "optimizer.lr", wanted) == proposed


def test_a_rate_of_ones_own_goes_back_to_following_the_others():
    where = context("gan", ("discriminator.lr=1e-7",))
    assert toward(where, "discriminator.lr", 1e-3) == "discriminator.lr=null"
    assert toward(where, "discriminator.lr", 1e-8) == "discriminator.lr=1e-08"


def test_a_point_of_the_plane_may_move_by_more_than_its_length():
    where = context("descend")
    assert watch(where, "descend", {"gradient/update_ratio": 0.5, "gradient/norm": 2.0})[0] == []
    over_data = replace(where, options={**where.options, "objective._target_": "my.Objective"})
    findings, _ = watch(over_data, "descend", {"gradient/update_ratio": 0.5, "gradient/norm": 2.0})
    assert [f.name for f in findings] == ["update_too_large"]


def test_a_penalty_that_a_steep_slope_needs_is_one_of_slopes():
    where = context("gan", ("loss=wasserstein", "penalty=none"))
    findings, _ = watch(where, "gan", {"game/sample_gradient": 20.0})
    assert [f.remedy for f in findings] == [("penalty=wgan_gp",)]


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
