"""Override words that cure something, computed from the run's own options so that they can be pasted.

Each returns a tuple of words, empty where this run has no such option: then nothing is proposed. Where the
value at fault was typed and the recipe's own lies in the direction of the cure, the recipe's is proposed: it
was tuned.
"""

import math
from collections.abc import Mapping
from typing import cast

from core.diagnosis.signals import Context, Player

SOUND = (1e-5, 3e-3)  # learning rates that Adam and its kin are commonly run at
CALM = 1e-3  # of these, one that seldom does harm
FOLLOWS = {"discriminator.lr": "optimizer.lr", "agent.critic_lr": "optimizer.lr"}  # where they are null
NO_CLIPPING = ("Centralize", "GradientNoise", "SkipNonFinite", "PCGrad", "")  # transforms that limit no norm


def word(option: str, value: float | int | str) -> str:
    """One override; numbers with at most three digits."""
    if isinstance(value, float):
        value = f"{value:.3g}"
    return f"{option}={value}"


def toward(context: Context, option: str, value: float | int) -> str:
    """One override that moves a number towards `value`: to the recipe's own where that lies on the way."""
    now, tuned = _number(context.options, option), _number(context.recipe(), option)
    if now is None or tuned is None or (tuned - now) * (value - now) <= 0:
        return word(option, value)
    own = cast(float | None, context.recipe().get(option))
    return word(option, "null" if own is None else own)


def fewer(context: Context, option: str) -> tuple[str, ...]:
    """The recipe's own number where a larger one was typed."""
    now, tuned = context.number(option), context.recipe().get(option)
    return (word(option, tuned),) if now is not None and isinstance(tuned, int) and tuned < now else ()


def _number(options: Mapping[str, object], option: str) -> float | None:
    """A number, or that of the option which is followed where this one is null."""
    value = options.get(option)
    value = options.get(FOLLOWS.get(option, "")) if value is None else value
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def built_in(context: Context, part: str) -> tuple[str, ...]:
    """The recipe's own class for a part of the configuration, where another was typed: the first suspect."""
    option = f"{part}._target_"
    tuned = context.recipe().get(option)
    return (word(option, str(tuned)),) if tuned and tuned != context.options.get(option) else ()


def built_in_network(context: Context) -> tuple[str, ...]:
    """The recipe's own network, where another one was typed."""
    return built_in(context, "policy") or built_in(context, "network")


def bare_environment(context: Context) -> tuple[str, ...]:
    """No wrappers but the recipe's, where some were typed."""
    option = "env.train_wrappers"
    tuned = context.recipe().get(option)
    return (f"{option}=[]",) if tuned == [] and context.options.get(option) else ()


def learning_rate(context: Context, player: Player, factor: float) -> tuple[str, ...]:
    """The player's learning rate, `factor` times what it is; a lower one at once low enough to be sound."""
    if factor < 1.0 and _adaptive(player):
        return rate(context, player, min(player.lr * factor, CALM))
    return rate(context, player, player.lr * factor)


def rate(context: Context, player: Player, lr: float) -> tuple[str, ...]:
    """Set the player's learning rate, by the option that only it has where there is one."""
    if not lr > 0:
        return ()
    option = _option_of_rate(context, player)
    if context.options.get(option) is None and not SOUND[0] <= player.lr <= 3 * SOUND[1]:
        option = "optimizer.lr"  # which both have, and which is right for neither
    return (toward(context, option, lr),) if option in context.options else ()


def _option_of_rate(context: Context, player: Player) -> str:
    own = {"discriminator": "discriminator.lr", "critic": "agent.critic_lr"}.get(player.name, "")
    return own if own in context.options else "optimizer.lr"


def sound_rate(context: Context, player: Player, proposed: float, least: float = SOUND[0]) -> tuple[str, ...]:
    """The proposed rate, but within what the optimizer is commonly run at, and `least` at least."""
    if _adaptive(player):
        proposed = min(max(proposed, least), SOUND[1])
    return rate(context, player, proposed)


def _adaptive(player: Player) -> bool:
    """Whether the optimizer divides by the gradient's size, so that its rates are comparable."""
    return player.optimizer not in (
        "SGD",
        "ASGD",
        "Adadelta",
        "Rprop",
        "LBFGS",
        "Muon",
        "PerturbedSGD",
        "SAM",
    )


def if_too_fast(context: Context, player: Player) -> tuple[str, ...]:
    """A lower rate where it is far above what the optimizer is commonly run at, and typed; else nothing."""
    tuned = _number(context.recipe(), _option_of_rate(context, player)) == player.lr
    fast = _adaptive(player) and player.lr > 3 * SOUND[1] and not tuned
    return learning_rate(context, player, 0.1) if fast else ()


def clip(context: Context, max_norm: float) -> tuple[str, ...]:
    """Clip the joint norm; nothing where a line search forbids it."""
    if context.options.get("optimizer.line_search_fn"):
        return ()
    return ("clipper=global_norm", word("clipper.max_norm", max_norm))


def has_clipping(context: Context) -> bool:
    """Whether a clipper limits the norm."""
    return context.chosen("clipper") not in NO_CLIPPING


def batch(context: Context, player: Player, samples: float) -> tuple[str, ...]:
    """A batch of about so many samples, the next power of two, as large as the data allow.

    At most 16 times the present one: as far as a noise scale that will itself change with the batch is to be
    trusted.
    """
    options = context.options
    most = 16.0 * (player.batch or samples)
    wanted = 2 ** math.ceil(math.log2(max(min(samples, most), 1.0)))
    limit = context.limits.get("train_samples")
    if limit is not None:
        wanted = min(wanted, 2 ** math.floor(math.log2(limit)))
    for option in ("batch_size", "agent.batch_size", "batch.size", "batch.batch_size"):
        if option in options:
            return (word(option, wanted),) if wanted > (context.number(option) or 0) else ()
    parts, steps = context.number("agent.num_minibatches"), context.number("agent.num_steps")
    if player.batch is None or wanted <= player.batch:
        return ()
    if parts and parts > 1:
        fewer = max(1, int(parts * player.batch // wanted))
        while int(parts) % fewer:  # a divisor of what divides the rollout divides it too
            fewer -= 1
        return (word("agent.num_minibatches", fewer),)
    return (word("agent.num_steps", int(steps * math.ceil(wanted / player.batch))),) if steps else ()


def scaled_rewards(context: Context) -> tuple[str, ...]:
    """Rewards divided by a running deviation, where the agent allows it."""
    if context.options.get("normalize_reward") is not False or "agent.replay_size" in context.options:
        return ()
    return ("normalize_reward=true",)


def penalty(context: Context, factor: float) -> tuple[str, ...]:
    """The discriminator's penalty, `factor` times as strong; R1 of its usual strength where there is none."""
    if not context.chosen("penalty"):
        return ("penalty=r1",) if "penalty" in context.options else ()
    for option in ("penalty.gamma", "penalty.weight"):
        now = context.number(option)
        if now is not None:
            return (toward(context, option, now * factor if now > 0 else 1.0),)
    return ()


def augmentation(context: Context) -> tuple[str, ...]:
    """Augment what the discriminator sees, where the data are images and nothing is augmented yet."""
    points = "mixtures" in str(context.options.get("data._target_"))
    if context.kind != "gradgan" or points or context.chosen("augment"):
        return ()
    return ("augment=diffaugment",)
