"""What a state must look like before anything is built from it.

A form is written like the state that it describes, and where possible it is the state of the object itself,
freshly built: a tensor stands for tensors of its shape and dtype, a number for numbers of its kind, a
dictionary for one with its keys, a list for one of its length. What is empty may have grown; the classes
below say into what.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:  # what reads no checkpoint describes its state too, and does without torch
    import torch
    from torch import Tensor

    from core.state import StateDict


class Anything:
    """Whatever a checkpoint can hold: what an object of somebody else keeps, which looks into it itself."""


@dataclass(frozen=True)
class Maybe:
    """A part that may be None.

    Attributes:
        form: what it looks like where it is there.
        absent: whether a dictionary may lack it, as one from before it was saved does.
    """

    form: Any
    absent: bool = False


@dataclass(frozen=True)
class Begun:
    """A dictionary that is empty until there is something to keep; then it has this form."""

    form: Any


@dataclass(frozen=True)
class Either:
    """One of these forms."""

    forms: tuple[Any, ...]


@dataclass(frozen=True)
class Each:
    """A dictionary with any keys of text whose values have one form."""

    form: Any


@dataclass(frozen=True)
class Only:
    """A dictionary with no other keys than these."""

    form: Mapping[str, Any]


@dataclass(frozen=True)
class Many:
    """A list whose elements have one form."""

    form: Any
    at_least: int = 0
    at_most: float = math.inf


@dataclass(frozen=True)
class Table:
    """A dictionary whose `Many` and `Rows` have one length."""

    form: Mapping[str, Any]


@dataclass(frozen=True)
class Rows:
    """A tensor with any number of rows, otherwise like this one, which has rows too, or like any (None)."""

    like: "Tensor | None"


@dataclass(frozen=True)
class AnyTensor:
    """A tensor of any shape; where a dtype is given, of such numbers."""

    dtype: "torch.dtype | None" = None


@dataclass(frozen=True)
class Floats:
    """A tensor of this shape, in any precision."""

    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class Scalar:
    """A tensor of one real number."""


@dataclass(frozen=True)
class Number:
    """A number, in [low, high]; where it is `whole`, an integer."""

    low: float = -math.inf
    high: float = math.inf
    whole: bool = False
    finite: bool = True


@dataclass(frozen=True)
class OneOf:
    """One of these texts."""

    texts: tuple[str, ...]


@runtime_checkable
class Described(Protocol):
    """An object whose state, freshly built, does not say all that there is to say."""

    def state_form(self) -> "StateDict":
        """The form of its states."""
        ...


def form_of(owner: Any) -> Any:
    """The form of an object's states: its own description, else the state that it has now, freshly built."""
    return owner.state_form() if isinstance(owner, Described) else owner.state_dict()


def require_form(state: Any, form: Any, place: str = "") -> None:
    """Check a state, all the way down.

    Args:
        state: a state or a part of it.
        form: what it must look like.
        place: where in a state it is, for messages.

    Raises:
        ValueError: one line about the first part that is otherwise.
    """
    from torch import Tensor

    if isinstance(form, Anything) or form is None:
        return
    if isinstance(form, Maybe):
        if state is not None:
            require_form(state, form.form, place)
    elif isinstance(form, Begun):
        if state != {}:
            require_form(state, form.form, place)
    elif isinstance(form, Either):
        _require(any(_has_form(state, each) for each in form.forms), place, state, "what belongs there")
    elif isinstance(form, Tensor | Rows | AnyTensor | Floats | Scalar):
        _require_tensor(state, form, place)
    elif isinstance(form, Mapping | Each | Table | Only):
        _require_dict(state, form, place)
    elif isinstance(form, list | tuple | Many):
        _require_list(state, form, place)
    elif isinstance(form, OneOf):
        _require(state in form.texts, place, state, f"one of {', '.join(form.texts)}")
    elif type(form) in (bool, str, bytes):
        _require(type(state) is type(form), place, state, f"a {type(form).__name__}")
    else:
        _require_number(state, form, place)


def _has_form(state: Any, form: Any) -> bool:
    try:
        require_form(state, form)
    except ValueError:
        return False
    return True


def _require_number(state: Any, form: Any, place: str) -> None:
    """A number of a fresh state: counts do not become negative, nor anything NaN that was not."""
    if isinstance(form, int):
        form = Number(0 if form >= 0 else -math.inf, whole=True)
    elif isinstance(form, float):
        form = Number(finite=math.isfinite(form))
    if not isinstance(form, Number):
        return  # of a class that no state of ours holds
    kind = "a whole number" if form.whole else "a number"
    limits = f" >= {form.low:g}" * (form.low > -math.inf) + f" <= {form.high:g}" * (form.high < math.inf)
    whole = isinstance(state, int) and not isinstance(state, bool)
    fits = whole or (isinstance(state, float) and not form.whole)
    if fits and form.finite:
        fits = whole or math.isfinite(state)
    if fits and limits:
        fits = form.low <= state <= form.high
    _require(fits, place, state, kind + limits)


def _require_tensor(state: Any, form: Any, place: str) -> None:
    import torch
    from torch import Tensor

    if not isinstance(state, Tensor) or state.layout != torch.strided:
        raise _odd(place, state, "a tensor")
    if isinstance(form, AnyTensor):
        kind = form.dtype or state.dtype
        _require(state.dtype == kind, place, state, f"a tensor of {kind}")
        return
    if isinstance(form, Rows) and form.like is None:
        _require(state.dim() > 0, place, state, "a tensor of rows")
        return
    if isinstance(form, Scalar):
        _require(state.dim() == 0 and not state.is_complex(), place, state, "a tensor of one number")
        return
    like: Any = form.like if isinstance(form, Rows) else form
    shape, wanted = tuple(state.shape), tuple(like.shape)
    rows = isinstance(form, Rows) and state.dim() > 0
    if 0 in wanted and state.dim() == like.dim():  # nothing in it yet
        wanted = shape
    if (shape[1:] if rows else shape) != (wanted[1:] if rows else wanted):
        raise ValueError(f"size mismatch for {place or 'it'}: {list(shape)}, not {list(wanted)}")
    if isinstance(form, Floats):
        _require(state.is_floating_point(), place, state, "a tensor of real numbers")
    elif state.dtype != like.dtype:
        raise ValueError(f"{place or 'it'} has numbers of {state.dtype}, not of {like.dtype}")


def _require_dict(state: Any, form: Any, place: str) -> None:
    _require(isinstance(state, dict), place, state, "a dictionary")
    if isinstance(form, Each):
        for key, value in state.items():
            _require(isinstance(key, str), f"a key of {place}", key, "a text")
            require_form(value, form.form, _inside(place, key))
        return
    inside = form if isinstance(form, Mapping) else form.form
    if isinstance(form, Only) and (strange := [key for key in state if key not in inside]):
        raise ValueError(f"{_inside(place, strange[0])} is of another version")
    for key, part in inside.items():
        if key in state:
            require_form(state[key], part, _inside(place, key))
        elif not (part is None or (isinstance(part, Maybe) and part.absent)):
            raise ValueError(f"it lacks {_inside(place, key)}")
    if isinstance(form, Table):
        lengths = {key: len(state[key]) for key, part in inside.items() if isinstance(part, Many | Rows)}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"{place or 'it'} has parts of different lengths: {lengths}")


def _require_list(state: Any, form: Any, place: str) -> None:
    _require(isinstance(state, list | tuple), place, state, "a list")
    parts = [form.form] * len(state) if isinstance(form, Many) else form
    if isinstance(form, Many):
        length = f"a list of {form.at_least} to {form.at_most}"
        _require(form.at_least <= len(state) <= form.at_most, place, state, length)
    elif form and len(form) != len(state):
        raise ValueError(f"{place or 'it'} is a list of {len(state)}, not of {len(form)}")
    for number, (value, part) in enumerate(zip(state, parts, strict=False)):
        require_form(value, part, _inside(place, number))


def _inside(place: str, key: Any) -> str:
    return ".".join(part for part in (place, str(key)) if part)


def _require(ok: bool, place: str, state: Any, wanted: str) -> None:
    if not ok:
        raise _odd(place, state, wanted)


def _odd(place: str, state: Any, wanted: str) -> ValueError:
    plain = isinstance(state, int | float | str) or state is None
    what = f"{state!r:.40}" if plain else f"a {type(state).__name__}"
    return ValueError(f"{place or 'it'} is {what}, not {wanted}")
