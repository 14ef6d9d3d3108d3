"""Options of an optimizer where an agent has several players: whose they are, and when they are refused."""

import pytest
import torch

from core.cli.job import check
from core.cli.launch import compose_tree
from core.config import Component, ConfigError, config_dir
from core.optim.groups import own_groups
from core.optim.sam import SAMConfig
from gradrl.agent import Learning
from gradrl.agents.sac import SAC, SACConfig
from tests.gradrl.off_policy import make

NAMED = [(name, torch.zeros(1)) for name in ("critic.0.weight", "critic.0.bias")]


def tree(*overrides):
    return compose_tree("rl", list(overrides), [config_dir()])[0]


def rates(step):
    """Learning rate of every parameter, by name."""
    by_id = {id(p): group["lr"] for group in step.optimizer.param_groups for p in group["params"]}
    return {name: by_id[id(p)] for name, p in zip(step.names, step.parameters, strict=True)}


def sac(groups):
    model = make("sac").model
    adam = Component(torch.optim.Adam, {"lr": 1e-2, "groups": groups}, "optimizer")
    return SAC(
        SACConfig(),
        model,
        Learning(optimizer=adam, clipper=None, schedule=lambda progress: 1.0),
        torch.Generator(),
    )


def test_patterns_go_by_the_models_names_and_each_player_takes_its_own():
    agent = sac({"critic.*": {"lr": 1e-4}, "*.bias": {"lr": 0.5}, "*": {"lr": 0.25}})
    assert set(rates(agent.critic_step).values()) == {1e-4}
    assert rates(agent.actor_step) == {
        name: 0.5 if name.endswith("bias") else 0.25 for name in agent.actor_step.names
    }
    assert rates(agent.temperature_step) == {"log_temperature": 1e-2}
    assert agent.critic_step.names[0] == "q.0.0.weight"  # tags stay short: the player stands before them


def test_a_pattern_that_decides_over_nothing_of_ones_own_is_left_out():
    groups = {"*.bias": {"lr": 1.0}, "critic.0.bias": {"lr": 2.0}, "actor.*": {"lr": 3.0}}
    adam = Component(torch.optim.Adam, {"lr": 0.1, "groups": groups}, "optimizer")
    assert own_groups(adam, NAMED).options == {"lr": 0.1, "groups": {"*.bias": {"lr": 1.0}}}
    assert own_groups(adam, []).options == {"lr": 0.1, "groups": None}
    for groups in (None, "no_decay"):
        same = Component(torch.optim.Adam, {"lr": 0.1, "groups": groups}, "optimizer")
        assert own_groups(same, []) is same


def test_the_optimizer_inside_of_another_is_treated_alike():
    base = Component(torch.optim.Adam, {"groups": {"actor.*": {"lr": 1.0}}}, "optimizer.base")
    sam = Component(object, SAMConfig(lr=0.1, rho=0.05, adaptive=False, base=base), "optimizer")
    inside = own_groups(sam, NAMED).options
    assert inside.base.options == {"groups": None}
    assert (inside.lr, inside.rho) == (0.1, 0.05)


@pytest.mark.parametrize("agent", ["sac", "td3", "ddpg"])
@pytest.mark.parametrize("groups", ["{*.bias:{lr:0.01}}", "{critic.*:{lr:1e-4}}", "{actor.*:{lr:1e-4}}"])
def test_options_for_one_player_or_for_all_are_accepted(agent, groups):
    check(tree(f"agent={agent}", "env=pendulum", f"optimizer.groups={groups}"))


@pytest.mark.parametrize("exclude", ["[]", "[actor.*0.weight]", "[critic.*0.weight]"])
def test_muon_takes_the_matrices_of_every_player_and_leaves_the_temperature_to_the_other_optimizer(exclude):
    check(tree("agent=sac", "env=pendulum", "optimizer=muon", f"optimizer.exclude={exclude}"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["agent=sac", "optimizer.groups={nobody.*:{lr:0.01}}"], r"the pattern nobody\.\* matches no"),
        (
            ["agent=sac", "optimizer=muon", "optimizer.exclude=[head.*]"],
            r"the pattern head\.\* matches no matrix",
        ),
        (["agent=trpo", "optimizer.groups={actor.*:{lr:0.01}}"], r"the pattern actor\.\* matches no"),
        (
            ["agent=reinforce", "agent.baseline=mean", "optimizer.groups={critic.*:{lr:0.01}}"],
            r"the pattern critic\.\* matches no",
        ),
        (["agent=ppo_rnd", "optimizer.groups={target.*:{lr:0.01}}"], r"the pattern target\.\* matches no"),
    ],
)
def test_what_a_player_refuses_is_one_line_before_anything_is_made(overrides, message):
    with pytest.raises(ConfigError, match=message) as caught:
        check(tree(*overrides))
    assert "\n" not in str(caught.value)


def test_the_predictor_of_novelty_can_have_a_rate_of_its_own():
    check(tree("agent=ppo_rnd", "optimizer.groups={predictor.*:{lr:0.01}}"))
