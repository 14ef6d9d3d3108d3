"""Curves of healthy runs as numbers, and what a diagnosis makes of them when a fault is planted."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from core.cli.launch import compose_tree
from core.config import Tree, build, config_dir, flat
from core.descend import diagnosis as descents
from core.diagnosis import Context, Finding, History, Layer, Ledger, Player, Remedies, Rule, diagnose
from core.diagnosis.remedies import applied
from gradgan import diagnosis as games
from gradrl import diagnosis as agents

EVERY = 100  # steps between two points
ROOTS = {
    "ppo": ("rl", ("agent=ppo", "env=cartpole")),
    "sac": ("rl", ("agent=sac", "env=pendulum")),
    "gan": ("gan", ("data=digits",)),
    "ring": ("gan", ("data=ring",)),
    "descend": ("descend", ()),
    "classes": ("descend", ("objective=digits_mlp",)),
}
RULES: dict[str, tuple[Rule, ...]] = {
    "ppo": agents.RULES,
    "sac": agents.RULES,
    "gan": games.RULES,
    "ring": games.RULES,
    "descend": descents.RULES_OF_FUNCTION,
    "classes": descents.RULES_OF_OBJECTIVE,
}
REMEDIES: dict[str, Remedies] = {
    "ppo": agents.REMEDIES,
    "sac": agents.REMEDIES,
    "gan": games.REMEDIES,
    "ring": games.REMEDIES,
    "descend": descents.REMEDIES,
    "classes": descents.REMEDIES,
}
Values = Mapping[str, float | Callable[[int], float] | None]


@lru_cache(maxsize=64)
def options(kind: str, overrides: tuple[str, ...] = ()) -> dict[str, object]:
    return flat(composed(kind, overrides), empty=True)


@lru_cache(maxsize=256)
def composed(kind: str, overrides: tuple[str, ...]) -> Tree:
    """The run's configuration."""
    root, own = ROOTS[kind]
    return compose_tree(root, applied(own, overrides), [config_dir()])[0]


def stack(*names: str) -> tuple[Layer, ...]:
    return tuple(
        layer for name in names for layer in (Layer(f"{name}.weight", 4096, 2), Layer(f"{name}.bias", 64, 1))
    )


PLAYERS = {
    "ppo": (
        Player("", stack("actor.0", "actor.2", "actor.4", "critic.0", "critic.2", "critic.4"), 1e-3, 128),
    ),
    "sac": (
        Player("critic", stack("0", "2", "4"), 1e-3, 256),
        Player("actor", stack("0", "2", "4"), 1e-3, 256),
        Player("temperature", (Layer("log_temperature", 1, 0),), 1e-3, 256),
    ),
    "gan": (
        Player("generator", stack("0", "2", "4"), 2e-3, 64),
        Player("discriminator", stack("0", "2", "4"), 2e-3, 64),
    ),
    "descend": (Player("", (Layer("x", 2, 1),), 0.01, None, "SGD"),),
    "classes": (Player("", stack("0", "2", "4"), 0.01, 32, "SGD"),),
}
PLAYERS["ring"] = PLAYERS["gan"]
LIMITS = {
    "ppo": {"entropy_max": math.log(2)},
    "sac": {"action_size": 1.0},
    "gan": {"train_samples": 1347.0},
    "ring": {"modes": 8.0},
    "descend": {},
    "classes": {"first_loss": 2.3, "loss_of_zeros": 2.3},
}


def context(kind: str, overrides: tuple[str, ...] = (), total: int = 10_000) -> Context:
    choices = tuple(each for each in overrides if (config_dir() / each.partition("=")[0]).is_dir())
    return Context(
        options=options(kind, overrides),
        players=PLAYERS[kind],
        unit="steps",
        total=total,
        limits=LIMITS[kind],
        remedies=REMEDIES[kind],
        defaults=lambda: options(kind, choices),
    )


def healthy(kind: str, number: int = 1) -> dict[str, float | Callable[[int], float] | None]:
    """One point of a healthy run, the `number`-th."""
    values: dict[str, float | Callable[[int], float] | None] = {}
    for player in PLAYERS[kind]:
        p = player.prefix
        values |= {
            f"{p}gradient/norm": 2.0,
            f"{p}gradient/norm_clipped": 0.5,
            f"{p}gradient/clipped": 0.7,
            f"{p}gradient/skipped": 0.0,
            f"{p}gradient/cosine": 0.1,
            f"{p}gradient/update_cosine": 0.3,
            f"{p}gradient/update_ratio": 1e-3,
            f"{p}gradient/lr_scale": 1.0,
            f"{p}gradient/noise_scale": 300.0,
        }
        for layer in player.layers:
            values |= {
                f"{p}layer/{layer.name}/gradient_norm": 0.5,
                f"{p}layer/{layer.name}/update_ratio": 1e-3,
            }
        for name in ("1", "3"):
            values |= {f"{p}layer/{name}/dead_units": 0.1, f"{p}layer/{name}/saturated_units": 0.2}
    extra = {
        "ppo": {
            "policy/entropy": 0.5,
            "policy/approx_kl": 0.01,
            "policy/clip_fraction": 0.1,
            "policy/ratio_max": 1.5,
            "policy/explained_variance": 0.8,
            "policy/advantage_std": 3.0,
            "loss/value": 2.0,
            "episode/return": 50.0 - 0.01 * (number % 7 == 0),
            "episode/length": 9.0,
            "loss_share/entropy": 0.01,
            "curvature/stability": 0.5,
            "loss_cosine/policy_vs_value": 0.1,
            "loss_share/policy": 0.4,
            "loss_share/value": 0.6,
        },
        "sac": {
            "policy/entropy": 0.5,
            "value/q_mean": -100.0,
            "episode/return": -500.0 + 0.01 * (number % 7 == 0),
            "episode/length": 9.0,
            "loss/critic": 5.0,
            "critic/noise/noise_scale": 300.0,
            "target/distance": 0.01,
            "target/initial_share": 0.01,
        },
        "gan": {
            "logits/real": 0.8,
            "logits/fake": -0.8,
            "logits/accuracy": 0.75,
            "game/logit_gap": 1.6,
            "game/logit_gradient": 0.5,
            "game/overfitting": 0.1,
            "game/diversity": 0.9,
            "game/sample_gradient": 0.9,
            "game/energy_distance": 0.05,
            "discriminator/loss_share/penalty": 0.3,
            "discriminator/loss_share/adversarial": 0.7,
            "average/distance": 0.1,
            "average/initial_share": 0.0,
        },
        "descend": {
            "descent/value": 1.0 + 1.0 / number,
            "curvature/sharpness": 10.0,
            "curvature/lowest": 1.0,
        },
        "classes": {"loss/train": 2.0 / number, "full_gradient/noise_scale": 300.0},
    }
    return values | extra["gan" if kind == "ring" else kind] | ({"eval/modes": 8.0} if kind == "ring" else {})


def watch(
    where: Context, kind: str, planted: Values, *, start: int = 12, end: int = 40, points: int = 80
) -> tuple[list[Finding], dict[int, list[Finding]]]:
    """Findings of a run whose points from `start` until before `end` have other values, and their changes.

    Args:
        where: the run.
        kind: of the healthy run.
        planted: values by tag; None leaves the tag out, a function is called with the point's number.
        start, end, points: number of the first and last planted point, and of all.
    """
    history, ledger, changes = History(), Ledger(patience=3), {}
    for number in range(1, points + 1):
        values = healthy(kind, number)
        if start <= number < end:
            values |= {tag: v(number) if callable(v) else v for tag, v in planted.items()}
        step = number * EVERY
        history.add(step, {tag: v for tag, v in values.items() if v is not None})
        if changed := ledger.update(step, diagnose(RULES[kind], history, where)):
            changes[step] = changed
    return ledger.findings, changes


class Fault(NamedTuple):
    """What is planted into healthy signals, and the finding it must lead to."""

    kind: str
    name: str
    planted: Values
    overrides: tuple[str, ...] = ()
    player: str = ""
    layer: str | None = None
    severity: str = "warning"


LATE = 14  # points that a rule may look back over


def found_where_and_when_it_is(fault: Fault) -> Finding:
    """The one finding of this name: it must be right, and close when the fault goes."""
    found, _ = watch(context(fault.kind, fault.overrides), fault.kind, fault.planted, start=30, end=50)
    (finding,) = [f for f in found if f.name == fault.name]
    assert (finding.player, finding.severity) == (fault.player, fault.severity)
    if fault.layer is not None:
        assert finding.layer == fault.layer
    assert 30 * EVERY <= finding.first_step <= (30 + LATE) * EVERY
    assert 49 * EVERY - 1 <= finding.last_step <= (50 + LATE) * EVERY
    assert not finding.active
    assert finding.evidence
    assert all(math.isfinite(value) for value in finding.evidence.values())
    return finding


def remedied(kind: str, overrides: tuple[str, ...], remedy: tuple[str, ...]) -> Tree:
    """The configuration with the remedy's overrides, which must be accepted."""
    tree = composed(kind, applied(overrides, remedy))
    build(tree)
    return tree


def remedy_is_taken(fault: Fault) -> None:
    """The finding's remedy is accepted by the configuration of its run, and changes it."""
    finding = found_where_and_when_it_is(fault)
    if not finding.remedy:
        empty = (
            "non_finite",
            "non_finite_experience",
            "detached_layer",
            "reward_scale",
            "discriminator_overfitting",
            "equal_units",
            "plateau",
            "constant_inputs",
            "unscaled_inputs",
            "reward_opposes_return",
            "meaningless_observation",
            "actions_without_effect",
        )
        assert fault.name in empty or fault.severity == "error"
        return
    before = composed(fault.kind, fault.overrides)
    tree = remedied(fault.kind, fault.overrides, finding.remedy)
    assert tree != before or finding.severity == "note", finding.remedy


def ids(faults: Sequence["Fault | Border"]) -> list[str]:
    """Names of the parametrized tests."""
    return [f"{fault.name}-{fault.kind}-{number}" for number, fault in enumerate(faults)]


class Border(NamedTuple):
    """Healthy signals with something planted on either side of a border of a rule, and what is said there."""

    kind: str
    name: str
    inside: Values
    beyond: Values
    overrides: tuple[str, ...] = ()
    said: tuple[str | None, str] = (None, "warning")  # severities inside and beyond; None = nothing


def said_at_the_border(border: Border) -> None:
    """The finding of this name on either side, by its severity."""
    where = context(border.kind, border.overrides)
    for planted, severity in zip((border.inside, border.beyond), border.said, strict=True):
        findings, _ = watch(where, border.kind, planted)
        assert {f.name: f.severity for f in findings}.get(border.name) == severity, planted
