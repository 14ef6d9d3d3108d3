"""What several ranks can train together, and what is refused by name."""

from typing import TYPE_CHECKING, cast

from core.checks import require
from core.config import Tree
from core.gradients.ranks import num_ranks
from gradrl.agent import AgentConfig
from gradrl.agents.a2c import A2C
from gradrl.agents.ddpg import DDPG
from gradrl.agents.ppo import PPO
from gradrl.agents.ppo_kl import PPOKL
from gradrl.agents.reinforce import REINFORCE
from gradrl.agents.sac import SAC
from gradrl.agents.td3 import TD3
from gradrl.agents.vtrace import VTrace
from gradrl.envs.make import find_spec, has_native

if TYPE_CHECKING:
    from gradrl.train import TrainConfig

AGENTS = (A2C, DDPG, PPO, PPOKL, REINFORCE, SAC, TD3, VTrace)  # those that divide their batches


def check_ranks(cfg: "TrainConfig", ranks: int) -> None:
    """Refuse what several ranks cannot train together, or not as one would.

    Raises:
        ValueError: the agent does not divide its batches; environments or rows cannot be divided evenly;
            the environments are tensors, the policy keeps noise of its own, or the step is compiled.
    """
    agent, which = cfg.agent.target, f"for {ranks} ranks"
    names = ", ".join(each.__name__ for each in AGENTS)
    require(agent in AGENTS, "agent", agent.__name__, f"one of {names} {which}")
    require(cfg.num_envs % ranks == 0, "num_envs", cfg.num_envs, f"a multiple of {ranks} {which}")
    _, rows = cast(AgentConfig, cfg.agent.options).minibatches(cfg.num_envs)
    if agent in (DDPG, SAC, TD3):
        require(rows % ranks == 0, "agent.batch_size", rows, f"a multiple of {ranks} {which}")
    if agent in (PPO, PPOKL):
        minibatches = getattr(cfg.agent.options, "num_minibatches", 1)
        allowed = f"such that {ranks} divides the {rows} rows of each {which}"
        require(rows % ranks == 0, "agent.num_minibatches", minibatches, allowed)
    for_numpy = cfg.env.vectorization not in ("native", "torch")
    allowed = f"auto, sync or async {which} from its beginning: each copy draws from a generator of its own"
    require(for_numpy, "env.vectorization", cfg.env.vectorization, allowed)
    require(not getattr(cfg.policy.options, "sde", False), "policy.sde", "true", f"false {which}")
    require(cfg.compile == "off", "compile", cfg.compile, f"off {which}")


def settled(cfg: "TrainConfig", tree: Tree) -> Tree:
    """The options with what `env.vectorization=auto` takes, where that depends on the number of ranks.

    A run that begins keeps it: under another number of ranks, `auto` would take copies of another state.
    """
    env = cfg.env
    if env.vectorization != "auto" or not has_native(env, find_spec(env)):
        return tree
    return tree | {"env": tree["env"] | {"vectorization": "native" if num_ranks() == 1 else "sync"}}
