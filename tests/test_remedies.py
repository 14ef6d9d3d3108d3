"""Every rule on every kind of run: what it proposes is accepted by that run's configuration."""

import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import pytest

from core.diagnosis import Context, Overrides, diagnose
from core.diagnosis.findings import Sign
from core.diagnosis.remedies import applied, exist
from core.diagnosis.signals import History
from tests.core.descend import test_diagnosis as descents
from tests.core.diagnosis import test_rules as networks
from tests.gradgan import test_diagnosis as games
from tests.gradrl import test_diagnosis as agents
from tests.signals import EVERY, PLAYERS, ROOTS, RULES, Fault, Values, context, healthy, remedied

FAULTS = [*networks.FAULTS, *agents.FAULTS, *games.FAULTS, *descents.FAULTS]
NAMED = {fault.name for fault in FAULTS}
# Options under which a remedy is another one, by kind of run.
VARIANTS: dict[str, list[tuple[str, ...]]] = {
    "ppo": [
        ("agent=a2c", "optimizer=momentum", "optimizer.momentum=0.99"),
        ("agent=trpo", "policy.activation=relu"),
        ("agent=ppo_kl", "optimizer.lr=0.3", "agent.num_epochs=150"),
        ("agent=vtrace", "clipper=value", "optimizer.groups=no_decay"),
        ("agent=reinforce", "policy.orthogonal=false"),
        ("agent=ppo_recurrent", "agent.num_minibatches=1", "policy.log_std=-10.0"),
        ("clipper=chain", "policy.hidden_sizes=[64,64,64]", "agent.normalize_advantage=false"),
        ("policy.shared=true", "agent.gamma=0.9999", "optimizer=sgd"),
        ("optimizer.weight_decay=1.0", "optimizer.eps=0.1", "agent.entropy_coef=1.0", "agent.gamma=0.5"),
        ("env.train_wrappers=[{_target_:gymnasium.wrappers.ClipReward}]", "optimizer.lr=0.1"),
    ],
    "sac": [
        ("agent=td3", "agent.critic_lr=0.05", "policy.hidden_sizes=[64,64,64]"),
        ("agent=ddpg", "policy.activation=tanh", "clipper=none"),
        ("agent.temperature=0.1", "optimizer=sgd"),
    ],
    "gan": [
        ("network=dcgan", "loss=minimax", "penalty=none", "discriminator.steps=5"),
        ("loss=wasserstein", "penalty=wgan_gp", "precision=bfloat16"),
        ("loss=hinge", "optimizer.lr=0.3", "augment=ada"),
        ("loss=relativistic", "penalty=none", "discriminator.lr=1e-7"),
        ("network=mlp", "penalty.gamma=1000", "update=extragradient"),
        ("optimizer=momentum", "optimizer.momentum=0.99", "clipper=autoclip"),
    ],
    "ring": [("penalty=none",), ("loss=wasserstein", "penalty=none"), ("network.slope=0.1", "batch_size=4")],
    "descend": [("optimizer=sgd",), ("optimizer=momentum", "optimizer.momentum=0.99"), ("optimizer=lbfgs",)],
    "classes": [
        ("objective=deep_linear", "optimizer=sgd"),
        ("objective=deep_sigmoid", "batch=stochastic"),
        ("batch=full", "optimizer=momentum", "optimizer.momentum=0.99"),
        ("batch.size=2", "clipper=none"),
    ],
}
CASES = [(kind, given) for kind in ROOTS for given in [(), *VARIANTS[kind]]]


def planted_in(kind: str, fault: Fault) -> Values:
    """The fault's values under the tags that the players of this kind of run have."""
    values: dict[str, float | Callable[[int], float] | None] = {}
    prefixes = {f"{p.name}/" for players in PLAYERS.values() for p in players if p.name}
    for tag, value in fault.planted.items():
        rest = next((tag.removeprefix(p) for p in prefixes if tag.startswith(p)), tag)
        for player in PLAYERS[kind]:
            own = rest
            if parameter := re.match(r"layer/[\w.]+\.(?:weight|bias)/(.*)", rest):
                own = f"layer/{player.layers[0].name}/{parameter.group(1)}"
            of_player = own.startswith(("gradient/", "layer/", "curvature/", "noise/", "loss_"))
            values[f"{player.prefix}{own}" if of_player else tag] = value
    return values


@cache
def history(kind: str, number: int) -> History:
    """A healthy run in which a fault has begun 15 points ago."""
    found, planted = History(), planted_in(kind, FAULTS[number])
    for point in range(1, 46):
        values = healthy(kind, point)
        if point > 30:
            values |= {tag: v(point) if callable(v) else v for tag, v in planted.items()}
        found.add(point * EVERY, {tag: v for tag, v in values.items() if v is not None})
    return found


@cache
def signs(kind: str, overrides: tuple[str, ...]) -> list[Sign]:
    """Everything that the rules see, whatever is planted."""
    where = context(kind, overrides)
    return [s for number in range(len(FAULTS)) for s in diagnose(RULES[kind], history(kind, number), where)]


def kind_of(remedy: Overrides) -> Overrides:
    """The remedy without its fractions: it is accepted or not whatever they are."""
    return tuple(re.sub(r"=(?=.*[.e])[\d.e+-]+$", "=fraction", override) for override in remedy)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "overrides"), CASES, ids=[f"{kind}-{'-'.join(given)}" for kind, given in CASES]
)
def test_every_remedy_is_accepted_by_the_configuration_it_is_proposed_for(kind, overrides):
    remedies = {kind_of(sign.remedy): sign.remedy for sign in signs(kind, overrides) if sign.remedy}
    assert len(remedies) >= 3
    for remedy in remedies.values():
        remedied(kind, overrides, remedy)


@pytest.mark.slow
def test_every_finding_has_been_seen_and_those_of_any_network_in_every_kind_of_run():
    seen = {kind: {s.name for of, given in CASES if of == kind for s in signs(kind, given)} for kind in ROOTS}
    for names in seen.values():
        assert names >= {"exploding_gradient", "oscillation", "above_edge_of_stability", "non_finite"}
    assert {name for names in seen.values() for name in names} == NAMED


def test_every_finding_that_a_rule_can_make_is_planted_and_explained_in_the_docs():
    root = Path(__file__).resolve().parents[1]
    files = [*(root / "core" / "diagnosis").glob("*.py"), root / "core" / "descend" / "diagnosis.py"]
    files += [
        path for package in ("gradrl", "gradgan") for path in (root / package / "diagnosis").glob("*.py")
    ]
    names = set(re.findall(r'name="(\w+)"', "".join(path.read_text() for path in files)))
    names |= {"stale_average", "stale_target"}
    page = (root / "docs" / "diagnosis.md").read_text()
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    whole = {"frozen_layer", "no_exploration", "constant_return", "episode_end_misplaced", "players_agree"}
    assert (
        names - whole - {"worse_held_out"} == NAMED
    )  # facts of a whole run, and what needs two curves to stop
    assert names <= set(re.findall(r"`(\w+)`", " ".join(rows)))
    assert len({type(rule) for rules in RULES.values() for rule in rules}) == 49


def test_a_pasted_override_replaces_the_one_before_and_a_pasted_choice_what_was_below_its_group():
    assert applied(["a=1", "b.c=2", "b=x"], ["b.c=3", "d=4"]) == ("a=1", "b=x", "b.c=3", "d=4")
    assert applied(["b=x", "b.c=2", "bc=1"], ["b=y", "b.d=3"]) == ("bc=1", "b=y", "b.d=3")
    assert applied(["+b.c=2", "~bc"], ["b=y"]) == ("~bc", "b=y")


@pytest.mark.parametrize(
    ("overrides", "there"),
    [
        (("optimizer.lr=0.1",), True),
        (("clipper=global_norm", "clipper.max_norm=0.5"), True),  # below a group that is chosen here
        (("clipper.max_norm=0.5",), False),
        (("optimizer=sgd",), True),
        (("optimizer.lr=0.1", "objective.activation=relu"), False),
        (("optimize=sgd",), False),
        ((), True),
    ],
)
def test_an_override_exists_where_the_run_has_its_option(overrides, there):
    where = Context(options={"optimizer._target_": "torch.optim.Adam", "optimizer.lr": 1.0, "clipper": None})
    assert exist(where, overrides) is there


def test_a_remedy_that_the_run_does_not_have_is_not_proposed():
    def rule(history: History, where: Context):
        yield Sign(name="a", severity="note", evidence={}, what="", cause="", remedy=("agent.tau=1",))

    def proposed(options: Mapping[str, object]) -> list[tuple[str, ...]]:
        return [sign.remedy for sign in diagnose((rule,), History(), Context(options=options))]

    assert proposed({"agent.tau": 0.5}) == [("agent.tau=1",)]
    assert proposed({"agent": None}) == [()]
