"""Search spaces as YAML says them, as distributions of Optuna, and as words of a command line."""

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from core.config import ConfigError, nearest
from core.text import shown

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Value = float | int | str | bool | None
Space = dict[str, "BaseDistribution"]
RANGE, CHOICES = ("low", "high", "log"), ("choices",)


def read_space(tree: Mapping[str, Any]) -> Space:
    """The distribution of each option, by dotted name.

    Args:
        tree: nested as the options are; a mapping with `low` and `high`, or with `choices`, is that of one.

    Raises:
        ConfigError: there is none, or one is empty or something else.
    """
    found = dict(_distributions(tree, ""))
    if not found:
        raise ConfigError("search.space is empty: nothing would be varied")
    return found


def words_of(values: Mapping[str, Value]) -> list[str]:
    """Values of options as words of a command line."""
    return [f"{name}={_word(value)}" for name, value in values.items()]


def extremes(space: Space) -> Iterator[dict[str, Value]]:
    """The first values of all options together, and the last ones."""
    for last in (False, True):
        yield {name: _extreme(distribution, last) for name, distribution in space.items()}


def contains(distribution: "BaseDistribution", value: object) -> bool:
    """Whether a value, as it stands in options, is one of those that are searched."""
    try:
        return distribution._contains(distribution.to_internal_repr(as_value(value)))
    except (ValueError, TypeError):
        return False


def as_value(value: object) -> Value:
    """A value of an option as Optuna keeps it: a list is a text."""
    if isinstance(value, list | tuple | dict):
        return json.dumps(value).replace('"', "").replace(" ", "")
    return value if isinstance(value, float | int | str | bool) or value is None else str(value)


def _distributions(tree: Mapping[str, Any], path: str) -> "Iterator[tuple[str, BaseDistribution]]":
    for key, inner in tree.items():
        name = f"{path}{key}"
        if not isinstance(inner, Mapping):
            allowed = "a range {low: 0.1, high: 1.0}, choices {choices: [a, b]}, or a group of these"
            raise ConfigError(f"search.space.{name} must be {allowed}, got {shown(inner)}")
        if {*RANGE, *CHOICES} & {key for key, value in inner.items() if not isinstance(value, Mapping)}:
            yield name, _distribution(name, dict(inner))
        else:
            yield from _distributions(inner, f"{name}.")


def _distribution(name: str, options: dict[str, Any]) -> "BaseDistribution":
    """The distribution of one option.

    Raises:
        ConfigError: it is empty, or no distribution.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    where = f"search.space.{name}"
    for key in options:
        if key not in (RANGE if "choices" not in options else CHOICES):
            raise ConfigError(f"unknown option {where}.{key}{nearest(key, (*RANGE, *CHOICES))}")
    if "choices" in options:
        choices = options["choices"]
        if not isinstance(choices, list) or not choices:
            raise ConfigError(f"{where}.choices must be a list of values, got {shown(choices)}")
        return CategoricalDistribution([as_value(each) for each in choices])
    low, high, log = options.get("low"), options.get("high"), options.get("log", False)
    numbers = [each for each in (low, high) if isinstance(each, int | float) and not isinstance(each, bool)]
    if len(numbers) < 2 or not isinstance(log, bool):
        raise ConfigError(
            f"{where} must have two numbers, low and high, and log: true or false, got {shown(options)}"
        )
    if not numbers[0] < numbers[1] or (log and numbers[0] <= 0):
        above = "above 0 and " if log else ""
        raise ConfigError(f"{where} is empty: low must be {above}below high, got {shown(options)}")
    if all(isinstance(each, int) for each in numbers):
        return IntDistribution(*map(int, numbers), log=log)
    return FloatDistribution(*numbers, log=log)


def _word(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "null" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _extreme(distribution: Any, last: bool) -> Value:
    if hasattr(distribution, "choices"):
        return distribution.choices[-1 if last else 0]
    return distribution.high if last else distribution.low
