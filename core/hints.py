"""Type hints of options: what they allow, and what a message calls them."""

import types
import typing


def union(hint: object) -> tuple[object, ...]:
    """The types that a hint allows: those of a union, or itself."""
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return typing.get_args(hint) if is_union else (hint,)


def described_type(hint: object) -> str:
    """A type, as an error message calls it."""
    names = {int: "an integer", float: "a number", bool: "true or false", str: "a string"}
    names |= {dict: "a group of options", type(None): "null"}
    parts = []
    for choice in union(hint):
        args = typing.get_args(choice)
        if typing.get_origin(choice) is tuple:
            count = "" if args[-1] is Ellipsis else f"{len(args)} "
            plural = {int: "integers", str: "strings", float: "numbers"}
            parts.append(f"a list of {count}{plural.get(args[0], 'classes with a _target_')}")
        else:
            parts.append(
                names.get(typing.get_origin(choice) or choice, getattr(choice, "__name__", str(choice)))
            )
    return " or ".join(parts)
