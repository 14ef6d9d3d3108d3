"""Ranges of options: stated in the type and checked in one place, and one way to say what is out of range.

    @dataclass(frozen=True, kw_only=True)
    @checked
    class Config:
        interval: Annotated[int, Ge(1)]
        gamma: Annotated[float, Interval(ge=0, le=1)]
        max_norm: Annotated[float | None, Gt(0), Finite]

What concerns two options stands in the class's own `__post_init__`, which is called afterwards.
"""

import functools
import math
import typing
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from annotated_types import Ge, GroupedMetadata, Gt, Le, Lt, Predicate

from core.text import shown

Finite = Predicate(math.isfinite)  # neither NaN nor infinite; a range alone lets an infinite number through
BOUNDS: dict[type, tuple[str, str, Callable[[Any, Any], bool]]] = {
    Ge: ("ge", ">=", lambda value, bound: value >= bound),
    Gt: ("gt", ">", lambda value, bound: value > bound),
    Le: ("le", "<=", lambda value, bound: value <= bound),
    Lt: ("lt", "<", lambda value, bound: value < bound),
}
Options = TypeVar("Options")


def require(ok: bool, name: str, value: object, allowed: str) -> None:
    """Raise unless `ok`, naming the option, what is allowed and what came.

    NaN needs no case of its own: write the test as a comparison that must be true.

    Args:
        ok: whether the value is allowed.
        name: the option as the user writes it, without the path in front (the launcher adds that).
        value: what the user gave.
        allowed: the allowed range as text, to read after "must be".

    Raises:
        ValueError: `ok` is false.
    """
    if not ok:
        typed = list(value) if isinstance(value, tuple) else value
        raise ValueError(f"{name} must be {allowed}, got {'null' if typed is None else shown(typed)}")


def checked(cls: type[Options]) -> type[Options]:
    """Let a dataclass check the ranges of its annotations whenever one is made; stands below `@dataclass`.

    A field may be `Annotated` with `Ge`, `Gt`, `Le`, `Lt`, `Interval` and `Finite`; null is let through
    where the type allows it, and of a tuple every element is checked. A `Literal` allows its values.
    """
    own = getattr(cls, "__post_init__", None)

    def __post_init__(self: Options) -> None:  # noqa: N807  (the name that dataclasses call)
        for name, constraints, allowed in _ranges(type(self)):
            value = getattr(self, name)
            values = value if isinstance(value, tuple) else () if value is None else (value,)
            require(all(_holds(v, constraints) for v in values), name, value, allowed)
        if own is not None:
            own(self)

    cls.__post_init__ = __post_init__  # pyright: ignore[reportAttributeAccessIssue]
    return cls


@functools.cache
def _ranges(cls: type) -> list[tuple[str, list[object], str]]:
    """Name, constraints and allowed range (as text) of every field that has a range or a choice."""
    found = []
    for name, hint in typing.get_type_hints(cls, include_extras=True).items():
        constraints = [one for given in _metadata(hint) for one in _single(given)]
        if typing.get_origin(hint) is typing.Literal:
            values = typing.get_args(hint)
            found.append((name, [Predicate(values.__contains__)], f"one of {list(values)}"))
        elif constraints:
            found.append((name, constraints, _range_text(hint, constraints)))
    return found


def _holds(value: Any, constraints: list[object]) -> bool:
    """Whether a value keeps to all constraints; NaN keeps to none."""
    for one in constraints:
        if isinstance(one, Predicate):
            if not one.func(value):
                return False
        else:
            attribute, _, compare = BOUNDS[type(one)]
            if not compare(value, getattr(one, attribute)):
                return False
    return True


def _metadata(hint: object) -> Iterator[object]:
    """Everything that `Annotated` adds, however deep inside a type."""
    yield from getattr(hint, "__metadata__", ())
    inner = [getattr(hint, "__origin__", None)] if hasattr(hint, "__metadata__") else typing.get_args(hint)
    for part in inner:
        yield from _metadata(part)


def _single(given: object) -> Iterator[object]:
    """The single constraints of one piece of metadata; nothing where it is none of ours."""
    for one in given if isinstance(given, GroupedMetadata) else (given,):
        if isinstance(one, Predicate) or type(one) in BOUNDS:
            yield one


def _range_text(hint: object, constraints: list[object]) -> str:
    """An allowed range as a user reads it: "an integer >= 1 or null", "in (0, 1]"."""
    types = set(_types(hint))
    limits = {type(one): getattr(one, BOUNDS[type(one)][0]) for one in constraints if type(one) in BOUNDS}
    lower, upper = limits.keys() & {Ge, Gt}, limits.keys() & {Le, Lt}
    if lower and upper:
        ends = f"{limits[min(lower, key=str)]:g}, {limits[min(upper, key=str)]:g}"
        text = f"in {'[' if Ge in lower else '('}{ends}{']' if Le in upper else ')'}"
        text = f"an integer {text}" if int in types else text
    else:
        bounds = " and ".join(f"{BOUNDS[kind][1]} {limit:g}" for kind, limit in limits.items())
        finite = any(isinstance(one, Predicate) for one in constraints)
        text = "an integer" if int in types else "a finite number" if finite else "a number"
        text = f"{text} {bounds}".rstrip()
    if tuple in types:
        text = f"a list of {text.replace('an integer', 'integers').replace('a finite', 'finite')}"
        text = text.replace("a number", "numbers").replace("finite number ", "finite numbers ")
    return f"{text} or null" if type(None) in types else text


def _types(hint: object) -> Iterator[object]:
    """The plain types a hint is made of, tuple included."""
    if hasattr(hint, "__metadata__"):
        yield from _types(getattr(hint, "__origin__", None))
        return
    if typing.get_origin(hint) is tuple:
        yield tuple
    arguments = [part for part in typing.get_args(hint) if part is not Ellipsis]
    if not arguments:
        yield hint
    for part in arguments:
        yield from _types(part)
