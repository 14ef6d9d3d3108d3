"""Remedies for a loop that has no options: sentences with the number to use."""

from collections.abc import Callable

from core.diagnosis import Context, Overrides, Player, Remedies
from core.diagnosis.findings import is_sentence


def told(context: Context, player: str, remedy: Overrides) -> Overrides:
    """What the rules for any network propose as overrides, in sentences; what has no sentence is left out."""
    values = {
        name: value for name, _, value in (part.partition("=") for part in remedy if not is_sentence(part))
    }
    sentences = [part for part in remedy if is_sentence(part)]
    whose = f" of the {player}" if player else ""
    for option, value in values.items():
        before = context.number(option)
        group, _, name = option.rpartition(".")
        if before is None or not group.endswith("optimizer"):
            continue
        called = "learning rate" if name == "lr" else name.replace("_", " ")
        verb = "lower" if float(value) < before else "raise"
        sentences.append(f"{verb} the {called}{whose} from {before:g} to {value}")
    if limit := values.get("clipper.max_norm"):
        sentences.append(
            f"clip the gradient{whose} before the step: "
            f"torch.nn.utils.clip_grad_norm_(parameters, max_norm={limit})"
        )
    return tuple(sentences)


def divided(context: Context, rms: float) -> Overrides:
    """Inputs whose root mean square is 1."""
    return (f"divide the inputs by {rms:.2g}, or scale them to mean 0 and deviation 1",)


def larger_batch(context: Context, player: Player, samples: int) -> Overrides:
    """About this number of samples behind one gradient."""
    now = player.batch or samples
    return (f"raise the batch from {now:,} to {samples:,} samples",) if samples > now else ()


def option(player: str, name: str) -> str:
    """The option, by dotted name, with a number of a player's optimizer."""
    return f"{player}.optimizer.{name}" if player else f"optimizer.{name}"


def remedies_of(players: tuple[str, ...], half: Callable[[], bool]) -> Remedies:
    """What a foreign loop can do.

    Args:
        players: their names.
        half: whether anything was computed in 16 bits.
    """
    return Remedies(
        own_rates={player: option(player, "lr") for player in players},
        larger_batch=larger_batch,
        shallower=lambda _: (
            "use fewer layers, or put normalisation or skip connections between them, or ReLU for sigmoid",
        ),
        leakier=lambda _: ("use nn.LeakyReLU or nn.GELU in place of nn.ReLU",),
        smaller_inputs=lambda _: ("scale the inputs to mean 0 and standard deviation 1",),
        varied_inputs=lambda _: ("look at what the data loader returns: every sample should be another one",),
        smaller_targets=lambda _: ("scale the targets to mean 0 and standard deviation 1",),
        unbounded=lambda _: ("use nn.ReLU or nn.GELU between the layers, and put normalisation before them",),
        paired=lambda _: ("look at single samples beside their targets, after all shuffling and joining",),
        longer=lambda _: ("train several times as long, or with a higher learning rate",),
        sign=lambda _: ("call backward() on the loss itself, not on its negative",),
        more_data=lambda _: (
            "check that the loader yields other samples every time; then more data, dropout or weight decay",
        ),
        random_weights=lambda _: ("leave the weights as torch draws them, or use nn.init.kaiming_normal_",),
        bare_data=lambda _: ("drop or repair what is not finite in the batch before the model reads it",),
        full_precision=lambda _: (
            ("compute this part in float32: torch.autocast(..., enabled=False)",) if half() else ()
        ),
        safe_operations=lambda _: (
            "look for a logarithm, root, norm, division or exponential that meets 0 or a large number: add "
            "an epsilon inside of it, or use log_softmax, logsumexp or a loss with logits",
        ),
        told=told,
    )
