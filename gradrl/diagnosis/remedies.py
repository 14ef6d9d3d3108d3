"""What an agent's options can do about a finding."""

import math

from core.diagnosis import Context, Overrides, Player, Remedies
from core.diagnosis.remedies import override


def larger_batch(context: Context, player: Player, samples: int) -> Overrides:
    """A larger batch from the replay; of a rollout fewer minibatches, or else more steps."""
    size = context.number("agent.batch_size")
    if size is not None:
        return (override("agent.batch_size", samples),) if samples > size else ()
    if player.batch is None or samples <= player.batch:
        return ()
    parts, steps = context.number("agent.num_minibatches"), context.number("agent.num_steps")
    if parts and parts > 1:
        fewer = max(1, int(parts * player.batch // samples))
        while int(parts) % fewer:  # a divisor of what divides the rollout divides it too
            fewer -= 1
        return (override("agent.num_minibatches", fewer),)
    return (override("agent.num_steps", int(steps * math.ceil(samples / player.batch))),) if steps else ()


def shallower(context: Context) -> Overrides:
    """What lets the gradient through: the initialisation, then fewer layers, then the activation."""
    options = context.options
    if options.get("policy.orthogonal") is False:
        return ("policy.orthogonal=true",)
    sizes = options.get("policy.hidden_sizes")
    if isinstance(sizes, list | tuple) and len(sizes) > 2:
        return (f"policy.hidden_sizes=[{sizes[0]},{sizes[0]}]",)
    return ("policy.activation=relu",) if options.get("policy.activation") in ("tanh", "elu") else ()


def leakier(context: Context) -> Overrides:
    """An activation that passes something on either side."""
    return ("policy.activation=silu",) if context.options.get("policy.activation") == "relu" else ()


def scaled_observations(context: Context) -> Overrides:
    """Observations with mean 0 and deviation 1, where the agent allows it; else no wrappers."""
    if context.options.get("normalize_observation") is not False or _off_policy(context):
        return bare_environment(context)
    return ("normalize_observation=true",)


def scaled_rewards(context: Context) -> Overrides:
    """Rewards divided by a running deviation, where the agent allows it; else no wrappers."""
    if context.options.get("normalize_reward") is not False or _off_policy(context):
        return bare_environment(context)
    return ("normalize_reward=true",)


def bare_environment(context: Context) -> Overrides:
    """No wrappers, where some were typed and none are the default."""
    defaults = context.defaults()
    options = ("env.train_wrappers", "env.wrappers")
    return tuple(f"{name}=[]" for name in options if defaults.get(name) == [] and context.options.get(name))


def _off_policy(context: Context) -> bool:
    """Whether the agent has a replay, which would keep what was normalised on older scales."""
    return "agent.replay_size" in context.options


REMEDIES = Remedies(
    own_rates={"critic": "agent.critic_lr"},
    ruinous=("exploding_value", "runaway_kl", "collapsed_entropy"),
    live=("agent.num_epochs", "agent.target_kl", "agent.clip_coef", "agent.entropy_coef"),
    network="policy",
    larger_batch=larger_batch,
    shallower=shallower,
    leakier=leakier,
    smaller_inputs=scaled_observations,
    smaller_targets=scaled_rewards,
    varied_inputs=bare_environment,
    bare_data=bare_environment,
)
