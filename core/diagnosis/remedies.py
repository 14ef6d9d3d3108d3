"""Overrides that cure something, computed from the run's own options so that they can be pasted.

Each function returns a tuple of overrides, which is empty where this run has no such option: then nothing is
proposed. Where the value at fault was typed and the default lies in the direction of the cure, the default is
proposed: it was tuned.
"""

import math
from collections.abc import Mapping, Sequence
from typing import cast

from core.diagnosis.context import Context, Overrides, Player
from core.diagnosis.findings import is_sentence

SOUND = (1e-5, 3e-3)  # learning rates that Adam and its kin are commonly run at
CALM = 1e-3  # of these, one that seldom does harm
LR = "optimizer.lr"
FARTHEST = 1e3  # times the present rate, or a part of it: what is measured now says nothing beyond it
NO_CLIPPING = ("Centralize", "GradientNoise", "SkipNonFinite", "PCGrad", "")  # transforms that limit no norm
UNSCALED = ("SGD", "ASGD", "Adadelta", "Rprop", "LBFGS", "Muon", "PerturbedSGD", "SAM")  # no division by |g|


def exist(context: Context, overrides: Overrides) -> bool:
    """Whether the run has every option: as a value, as a group, or below a group that is chosen here."""
    names: list[str] = []
    for text in overrides:
        name = text.partition("=")[0]
        below = any(option.startswith(f"{name}.") for option in context.options)
        chosen_here = any(name.startswith(f"{group}.") for group in names)
        if not (name in context.options or below or chosen_here):
            return False
        names.append(name)
    return True


def existing(context: Context, player: str, remedy: Overrides) -> Overrides:
    """A remedy, whoever the player; empty where the run lacks one of its options."""
    return remedy if exist(context, remedy) else ()


def changing(context: Context, remedy: Overrides) -> Overrides:
    """A remedy without what would leave an option at the value that it has."""
    return tuple(text for text in remedy if is_sentence(text) or not _is_set(context, text))


def _is_set(context: Context, text: str) -> bool:
    option, _, value = text.partition("=")
    if option not in context.options:
        return False  # a group, or an option of one that is chosen here
    now = _number(context, context.options, option)
    if now is None:
        return value == ("null" if context.options[option] is None else str(context.options[option]))
    return value == override(option, now).partition("=")[2] or value == str(context.options[option])


def applied(overrides: Sequence[str], remedy: Sequence[str]) -> Overrides:
    """The overrides of a command with a remedy's behind them, in place of those of the same options."""
    return (*kept(overrides, remedy), *remedy)


def kept(overrides: Sequence[str], remedy: Sequence[str]) -> Overrides:
    """The overrides that a remedy leaves in place: those of other options.

    Where the remedy chooses another file of a group, what was overridden below that group goes as well: the
    options there may be others.
    """
    own = tuple(f"{_option(text)}." for text in remedy)
    return tuple(text for text in overrides if not f"{_option(text)}.".startswith(own))


def _option(text: str) -> str:
    """What an override sets, without Hydra's signs for adding and deleting."""
    return text.partition("=")[0].lstrip("+~")


def override(option: str, value: float | int | str) -> str:
    """One override; numbers with at most three digits."""
    return f"{option}={value:.3g}" if isinstance(value, float) else f"{option}={value}"


def toward(context: Context, option: str, value: float | int) -> str:
    """One override that moves a number towards `value`: to the default where that lies on the way."""
    defaults = context.defaults()
    now, default = (_number(context, options, option) for options in (context.options, defaults))
    if now is None or default is None or (default - now) * (value - now) <= 0:
        return override(option, value)
    own = cast(float | None, defaults.get(option))
    return override(option, "null" if own is None else own)


def fewer(context: Context, option: str) -> Overrides:
    """The default where a larger number was typed."""
    now, default = context.number(option), context.defaults().get(option)
    if now is None or not isinstance(default, int) or default >= now:
        return ()
    return (override(option, default),)


def built_in(context: Context, group: str) -> Overrides:
    """The default class of a group of options, where another one was typed: that is the first suspect."""
    option = f"{group}._target_"
    default = context.defaults().get(option) if group else None
    return (override(option, str(default)),) if default and default != context.options.get(option) else ()


def built_in_network(context: Context) -> Overrides:
    """The default network, where another one was typed."""
    return built_in(context, context.remedies.network)


def built_in_loss(context: Context) -> Overrides:
    """The default loss, where another one was typed."""
    return built_in(context, context.remedies.loss)


def learning_rate(context: Context, player: Player, factor: float) -> Overrides:
    """The player's learning rate times `factor`; a lower one is at once low enough to be sound."""
    if factor < 1.0 and _adaptive(player):
        return rate(context, player, min(player.lr * factor, CALM))
    return rate(context, player, player.lr * factor)


def rate(context: Context, player: Player, lr: float) -> Overrides:
    """Set the player's learning rate, by its own option where it has one."""
    if not lr > 0:
        return ()
    option = _option_of_rate(context, player)
    if context.options.get(option) is None and not SOUND[0] <= player.lr <= 3 * SOUND[1]:
        option = "optimizer.lr"  # all players have it, and it is right for none of them
    return (toward(context, option, lr),) if option in context.options else ()


def slower(context: Context, player: Player, factor: float = 0.1) -> Overrides:
    """A part of the rate that the player has, whatever the default is."""
    option = _option_of_rate(context, player)
    return (override(option, factor * player.lr),) if player.lr > 0 and option in context.options else ()


def rated(context: Context, option: str) -> list[Player]:
    """The players whose learning rate this option holds."""
    own = {player.name: context.remedies.own_rates.get(player.name, "") for player in context.players}
    shared = {name for name, each in own.items() if context.options.get(each) is None}
    return [p for p in context.players if option == own[p.name] or (option == LR and p.name in shared)]


def _option_of_rate(context: Context, player: Player) -> str:
    own = context.remedies.own_rates.get(player.name, "")
    return own if own in context.options else "optimizer.lr"


def sound_rate(context: Context, player: Player, proposed: float, least: float = SOUND[0]) -> Overrides:
    """The proposed rate, but at least `least` and within what the optimizer is commonly run at.

    Of one that is not comparable, within `FARTHEST` of the present one. Never in the other direction.
    """
    low, high = (least, SOUND[1]) if _adaptive(player) else (player.lr / FARTHEST, player.lr * FARTHEST)
    within = min(max(proposed, low), high)
    turned = (within - player.lr) * (proposed - player.lr) <= 0
    return rate(context, player, proposed if turned else within)


def _adaptive(player: Player) -> bool:
    """Whether the optimizer divides by the gradient's size, so that its rates are comparable."""
    return player.optimizer not in UNSCALED


def own_option(context: Context, player: Player, name: str) -> object:
    """An option of a player's optimizer, whether or not the player has one of its own."""
    own = context.options.get(f"{player.prefix.replace('/', '.')}optimizer.{name}")
    return context.options.get(f"optimizer.{name}") if own is None else own


def own_number(context: Context, player: Player, name: str) -> float | None:
    """The same, where it is a number."""
    value = own_option(context, player, name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def own_value(context: Context, player: Player, name: str, value: float) -> Overrides:
    """Set it, to the default where that lies on the way."""
    own = f"{player.prefix.replace('/', '.')}optimizer.{name}"
    return (toward(context, own if own in context.options else f"optimizer.{name}", value),)


def if_too_fast(context: Context, player: Player) -> Overrides:
    """A lower rate where one far above what the optimizer is commonly run at was typed; else nothing."""
    option = _option_of_rate(context, player)
    typed = _number(context, context.defaults(), option) != player.lr
    fast = _adaptive(player) and player.lr > 3 * SOUND[1] and typed
    return learning_rate(context, player, 0.1) if fast else ()


def clip(context: Context, max_norm: float) -> Overrides:
    """Clip the joint norm; nothing for LBFGS, which reads curvatures from differences of gradients.

    A line search compares slopes with losses, too.
    """
    if any(player.optimizer == "LBFGS" for player in context.players):
        return ()
    return ("clipper=global_norm", override("clipper.max_norm", max_norm))


def has_clipping(context: Context) -> bool:
    """Whether a clipper limits the norm."""
    return context.chosen("clipper") not in NO_CLIPPING


def batch(context: Context, player: Player, samples: float) -> Overrides:
    """A batch of about `samples`, rounded up to a power of two.

    At most 16 times the present one, or 32: the noise scale will itself change with the batch, and is not to
    be trusted any further.
    """
    most = max(16.0 * (player.batch or samples), 32.0)
    wanted = 2 ** math.ceil(math.log2(max(min(samples, most), 1.0)))
    return context.remedies.larger_batch(context, player, wanted)


def _number(context: Context, options: Mapping[str, object], option: str) -> float | None:
    """A number; a player's own rate that is null follows optimizer.lr."""
    value = options.get(option)
    if value is None and option in context.remedies.own_rates.values():
        value = options.get("optimizer.lr")
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
