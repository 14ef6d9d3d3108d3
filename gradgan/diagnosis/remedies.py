"""What the options of a GAN can do about a finding."""

import math

from core.diagnosis import Context, Overrides, Player, Remedies
from core.diagnosis.remedies import built_in, override, toward


def penalty(context: Context, factor: float) -> Overrides:
    """The discriminator's penalty, `factor` times as strong; R1 of its usual strength where there is none."""
    if not context.chosen("penalty"):
        return ("penalty=r1",)
    for option in ("penalty.gamma", "penalty.weight"):
        now = context.number(option)
        if now is not None:
            return (toward(context, option, now * factor if now > 0 else 1.0),)
    return ()


def augmentation(context: Context) -> Overrides:
    """Augment what the discriminator sees, where the data are images and nothing is augmented yet."""
    images = "train_samples" in context.limits
    return ("augment=diffaugment",) if images and not context.chosen("augment") else ()


def larger_batch(context: Context, player: Player, samples: int) -> Overrides:
    """A larger batch, as large as the data allow."""
    limit = context.limits.get("train_samples")
    if limit is not None:
        samples = min(samples, 2 ** math.floor(math.log2(limit)))
    return (override("batch_size", samples),) if samples > (context.number("batch_size") or 0) else ()


def shallower(context: Context) -> Overrides:
    """Half the hidden layers of both networks, where their number is an option."""
    depth = context.number("network.depth")
    return (toward(context, "network.depth", int(depth // 2)),) if depth and depth > 2 else ()


def leakier(context: Context) -> Overrides:
    """A slope on the negative side, where it is an option and 0."""
    return ("network.slope=0.2",) if context.number("network.slope") == 0.0 else ()


def full_precision(context: Context) -> Overrides:
    """32 bits in place of 16."""
    return ("precision=float32",) if context.options.get("precision") == "bfloat16" else ()


def built_in_data(context: Context) -> Overrides:
    """The data's own class, where another one was typed."""
    return built_in(context, "data")


REMEDIES = Remedies(
    own_rates={"discriminator": "discriminator.lr"},
    ruinous=("mode_collapse",),
    live=("penalty.gamma", "penalty.weight"),
    network="network",
    loss="loss",
    larger_batch=larger_batch,
    shallower=shallower,
    leakier=leakier,
    full_precision=full_precision,
    smaller_inputs=built_in_data,
    varied_inputs=built_in_data,
)
