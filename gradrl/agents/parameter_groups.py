"""One player's part of an optimizer's options, where an agent has several players."""

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, cast

from torch import Tensor

from core.config import Component


def own_groups(optimizer: Component, named: Iterable[tuple[str, Tensor]]) -> Component:
    """The optimizer without those patterns of its `groups` that are meant for other players.

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
        return replace(optimizer, options=options | {"groups": _matching(groups, names)})
    if not is_dataclass(options):
        return optimizer
    all_options = {f.name: getattr(options, f.name) for f in fields(options)}
    inside = {name: _at_names(x, names) for name, x in all_options.items() if isinstance(x, Component)}
    return replace(optimizer, options=replace(cast(Any, options), **inside)) if inside else optimizer


def _matching(groups: Mapping[str, object], names: list[str]) -> dict[str, object] | None:
    """Patterns that decide over at least one name; the first that matches a name decides. None for none."""
    waiting, kept = list(names), {}
    for pattern, options in groups.items():
        left = [name for name in waiting if not fnmatchcase(name, str(pattern))]
        if len(left) < len(waiting):
            kept[pattern] = options
        waiting = left
    return kept or None
