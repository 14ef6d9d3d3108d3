"""Parameter groups by name: which parameters have options of their own."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, cast

from torch import Tensor

from core.checks import require
from core.config import Component
from core.text import shown

NO_DECAY = "no_decay"
# A module called norm, norm1, layer_norm, attention_layernorm, ...; not norm_head, denorm, normal.
NORM = re.compile(r"(?:.*_)?(?:layer|batch|group|instance|rms|pixel)?_?norm_?\d*d?", re.IGNORECASE)


@dataclass(frozen=True)
class Group:
    """Parameters that share options.

    Attributes:
        parameters: at least one, unless it is the group of those without options of their own.
        options: what differs from the optimizer's options.
        path: where these options stand in the configuration, for messages.
    """

    parameters: list[Tensor]
    options: dict[str, Any]
    path: str


def split_by_name(groups: object, named: Sequence[tuple[str, Tensor]], path: str) -> list[Group]:
    """Divide parameters into groups.

    Args:
        groups: None, all in one group; "no_decay", no weight decay for biases and the gains of
            normalisation, see `_decays`; or a mapping from name patterns to options, as in
            {"*.bias": {"lr": 0.01}}, where `*` stands for anything, dots included. The first pattern that
            matches a parameter decides.
        named: the parameters.
        path: where `groups` stands in the configuration, for messages.

    Returns:
        First the group without options of its own (left out where it is empty), then the others.

    Raises:
        ValueError: not one of these three, or a pattern matches no parameter that is left by the ones before.
    """
    if not groups:
        return [Group([p for _, p in named], {}, path)]
    if groups == NO_DECAY:
        decays = _decays(named)
        rest = [p for name, p in named if name in decays]
        chosen = [Group([p for name, p in named if name not in decays], {"weight_decay": 0.0}, path)]
    else:
        rest, chosen = _by_pattern(groups, named, path)
    return [group for group in (Group(rest, {}, path), *chosen) if group.parameters]


def _decays(named: Sequence[tuple[str, Tensor]]) -> set[str]:
    """Names of what is neither a bias nor a gain, as far as names and shapes tell.

    A norm over maps has a gain of as many dimensions as a kernel. What tells it: a bias beside it of the same
    shape, or that its module is called a norm. A gain without either decays.
    """
    shapes = {name: p.shape for name, p in named}

    def decays(name: str, p: Tensor) -> bool:
        place, _, last = name.rpartition(".")
        bias = shapes.get(f"{place}.bias" if place else "bias")
        of_norm = NORM.fullmatch(place.rpartition(".")[2])
        return p.dim() >= 2 and "bias" not in last and bias != p.shape and not of_norm

    return {name for name, p in named if decays(name, p)}


def _by_pattern(
    groups: object, named: Sequence[tuple[str, Tensor]], path: str
) -> tuple[list[Tensor], list[Group]]:
    allowed = f"null, {NO_DECAY} or a mapping from name patterns to options such as {{*.bias: {{lr: 0.01}}}}"
    if not isinstance(groups, Mapping):
        raise ValueError(f"{path} must be {allowed}, got {shown(groups)}")
    waiting = list(named)
    chosen: list[Group] = []
    for pattern, options in groups.items():
        require(isinstance(options, Mapping), f"{path}.{pattern}", options, "a mapping of options")
        taken = [p for name, p in waiting if fnmatchcase(name, str(pattern))]
        if not taken:
            known = ", ".join(name for name, _ in waiting[:6]) or "no parameter"
            raise ValueError(
                f"{path}: the pattern {pattern} matches no parameter's name; left to match: {known}"
                + (", ..." if len(waiting) > 6 else "")
            )
        waiting = [(name, p) for name, p in waiting if not fnmatchcase(name, str(pattern))]
        plain = {str(key): tuple(v) if isinstance(v, list) else v for key, v in options.items()}
        chosen.append(Group(taken, plain, f"{path}.{pattern}"))
    return [p for _, p in waiting], chosen


def own_groups(optimizer: Component, named: Iterable[tuple[str, Tensor]]) -> Component:
    """The optimizer without those patterns of its `groups` and `exclude` that are meant for other players.

    A pattern that no player has is refused where the options are tried on the whole model.

    Args:
        optimizer: class and options; those of optimizers inside of it are treated alike.
        named: the player's parameters, by the model's own names; none = all patterns are for others.
    """
    return _at_names(optimizer, [name for name, _ in named])


def _at_names(optimizer: Component, names: list[str]) -> Component:
    options = optimizer.options
    if isinstance(options, dict):
        if not isinstance(groups := options.get("groups"), Mapping):  # null and no_decay go for every player
            return optimizer
        return replace(optimizer, options=options | {"groups": _deciding(groups, names)})
    if not is_dataclass(options):
        return optimizer
    all_options = {f.name: getattr(options, f.name) for f in fields(options)}
    inside: dict[str, object] = {
        name: _at_names(x, names) for name, x in all_options.items() if isinstance(x, Component)
    }
    if "exclude" in all_options:
        inside["exclude"] = tuple(p for p in all_options["exclude"] if any(fnmatchcase(n, p) for n in names))
    return replace(optimizer, options=replace(cast(Any, options), **inside)) if inside else optimizer


def _deciding(groups: Mapping[str, object], names: list[str]) -> dict[str, object] | None:
    """Patterns that decide over at least one name; the first that matches a name decides. None for none."""
    waiting, kept = list(names), {}
    for pattern, options in groups.items():
        left = [name for name in waiting if not fnmatchcase(name, str(pattern))]
        if len(left) < len(waiting):
            kept[pattern] = options
        waiting = left
    return kept or None
