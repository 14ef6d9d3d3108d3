"""Options that have no effect in a configuration: what a run says of them where they were typed.

A default or a page's value may well be idle; somebody who types an option expects it to do something.
"""

from collections.abc import Iterator, Mapping

from core.config import Component
from core.gradients import Clipper
from core.gradients.arguments import clipper_without_effect
from core.gradients.probe import Probe
from core.gradients.ranks import num_ranks
from core.optim.effects import optimizer_without_effect
from core.optim.factory import OptimizerComponent
from gradrl.agents.ddpg import DDPGConfig
from gradrl.agents.novelty import NoveltyConfig
from gradrl.agents.npg import NPGConfig
from gradrl.agents.off_policy import OffPolicyConfig
from gradrl.agents.ppo import PPOConfig
from gradrl.agents.ppo_kl import PPOKLConfig
from gradrl.agents.reinforce import REINFORCEConfig
from gradrl.agents.sac import SACConfig
from gradrl.agents.td3 import TD3Config
from gradrl.envs.make import EnvConfig, EnvInfo, find_spec, has_native
from gradrl.envs.spaces import BoxAction
from gradrl.evaluation.evaluator import EvaluationConfig
from gradrl.policies.networks import MLPConfig
from gradrl.policies.q_networks import DeterministicActorCritics, QNetworksConfig, StochasticConfig
from gradrl.policies.recurrent import RecurrentConfig

Idle = Iterator[tuple[str, str]]  # option and reason


def idle_agent(cfg: object) -> Idle:
    """Options of an agent that others of its options switch off."""
    if isinstance(cfg, PPOConfig) and cfg.num_epochs == 1:
        for name in ("recompute_advantage", "target_kl"):
            yield f"agent.{name}", "agent.num_epochs is 1, and it counts after the first epoch"
        for name in ("clip_coef", "clip_schedule", "value_clip_coef") if cfg.num_minibatches == 1 else ():
            yield f"agent.{name}", "the one gradient step on a rollout starts from the policy that acted"
    if isinstance(cfg, PPOConfig) and cfg.num_epochs == 2 and cfg.num_minibatches == 1:
        yield "agent.target_kl", "the first of two gradient steps starts from the policy that acted"
    if isinstance(cfg, SACConfig) and not isinstance(cfg.temperature, str):
        for name in ("initial_temperature", "target_entropy"):
            yield f"agent.{name}", "agent.temperature is a number and not learnt"
    if isinstance(cfg, TD3Config) and cfg.target_noise == 0:
        yield "agent.target_noise_clip", "agent.target_noise is 0"
    elif isinstance(cfg, TD3Config) and cfg.target_noise_clip == 0:
        yield "agent.target_noise", "agent.target_noise_clip is 0"
    if isinstance(cfg, DDPGConfig) and cfg.noise.std == 0:
        for name in ("kind", "theta", "dt"):
            yield f"agent.noise.{name}", "agent.noise.std is 0"
    elif isinstance(cfg, DDPGConfig) and cfg.noise.kind == "gaussian":
        for name in ("theta", "dt"):
            yield f"agent.noise.{name}", "agent.noise.kind is gaussian"
    if isinstance(cfg, REINFORCEConfig) and cfg.baseline != "learned":
        yield "agent.value_coef", f"agent.baseline is {cfg.baseline}, so there is no critic"


def idle_policy(cfg: object, info: EnvInfo) -> Idle:
    """Options of networks that this environment, or others of their options, switch off."""
    if not isinstance(cfg, MLPConfig | QNetworksConfig):
        return
    vectors = all(part.kind == "vector" for part in info.observation.parts)
    if vectors:
        yield "policy.convolutions", "no observation is an image"
    if cfg.network is not None:
        yield from _replaced(cfg, vectors)
    if not cfg.hidden_sizes and not isinstance(cfg, NoveltyConfig):  # its predictor has hidden layers
        yield "policy.activation", "policy.hidden_sizes is []"
        if type(cfg) is MLPConfig and vectors and cfg.network is None:
            yield "policy.shared", "actor and critic have no layer but the last"
    if not isinstance(cfg, MLPConfig | StochasticConfig):
        return
    if not isinstance(info.action, BoxAction):
        for name in ("log_std", "state_dependent_std", "squash", "sde", "sde_interval"):
            yield f"policy.{name}", "the actions are discrete"
    elif not cfg.sde:
        yield "policy.sde_interval", "policy.sde is false"
        if isinstance(cfg, StochasticConfig):
            yield "policy.log_std", "policy.sde is false"


def _replaced(cfg: MLPConfig | QNetworksConfig, vectors: bool) -> Idle:
    """Options of the layers that a network of the user's own takes the place of."""
    behind = isinstance(cfg, RecurrentConfig) or (isinstance(cfg, QNetworksConfig) and not vectors)
    for name in () if behind else ("hidden_sizes", "activation"):
        yield f"policy.{name}", "policy.network takes the place of these layers"
    if not isinstance(cfg, NoveltyConfig):  # what measures novelty has convolutions of its own
        yield "policy.convolutions", "policy.network takes the place of these layers"


def idle_evaluation(cfg: EvaluationConfig, env: EnvConfig, info: EnvInfo, policy: type) -> Idle:
    """Options of evaluation and environment that change nothing for these."""
    if issubclass(policy, DeterministicActorCritics):
        yield "evaluation.deterministic", "the policy is deterministic"
    limit = info.max_episode_steps
    if limit is not None and cfg.max_episode_steps >= limit:
        yield "evaluation.max_episode_steps", f"{env.id} ends its episodes after {limit} steps"
    if env.vectorization in ("auto", "native") and num_ranks() == 1 and has_native(env, find_spec(env)):
        yield "env.autoreset", f"{env.id} runs as its own vector version; env.vectorization=sync reads it"
    if env.vectorization == "torch":
        yield "env.autoreset", "with env.vectorization=torch copies reset at once"


def one_loss(agent: object, policy: object) -> str:
    """Why no gradient step has losses that could conflict; empty where one may."""
    if isinstance(agent, OffPolicyConfig | NPGConfig):
        return "every gradient step has one loss"
    if not isinstance(policy, MLPConfig) or isinstance(agent, PPOKLConfig):
        return ""  # a network that is not ours; a penalty beside the policy's loss
    alone = isinstance(agent, REINFORCEConfig) and agent.baseline != "learned"
    if (policy.shared and not alone) or getattr(agent, "entropy_coef", 1):
        return ""
    return "policy and value function share no parameter, and there is no entropy bonus"


def one_order(agent: object, policy: object) -> str:
    """Why the losses of a gradient step conflict alike in any order; empty where they may not."""
    if not isinstance(policy, MLPConfig) or isinstance(agent, PPOKLConfig):
        return ""
    if not policy.shared:
        return "policy and value function share no parameter, and two losses have one order"
    alone = isinstance(agent, REINFORCEConfig) and agent.baseline != "learned"
    return "" if getattr(agent, "entropy_coef", 1) and not alone else "two losses have one order"


def without_effect(
    agent: Component,
    policy: Component,
    clipper: Clipper | None,
    optimizer: OptimizerComponent,
    probes: Mapping[str, Probe] | None,
    evaluation: EvaluationConfig,
    env: EnvConfig,
    info: EnvInfo,
) -> dict[str, str]:
    """Options that change nothing in this configuration, by dotted name, and why."""
    return {
        **dict(idle_agent(agent.options)),
        **dict(idle_policy(policy.options, info)),
        **dict(idle_evaluation(evaluation, env, info, policy.target)),
        **clipper_without_effect(
            clipper,
            one_loss=one_loss(agent.options, policy.options),
            one_order=one_order(agent.options, policy.options),
        ),
        **optimizer_without_effect(optimizer, probes),
    }
