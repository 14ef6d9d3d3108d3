"""What the tensors and modules of a run are called: a closure's own, parameters, buffers, layers."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from core.gradients import GradientStep


def held(closure: object, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """The tensors that a closure was given, by the names that it knows them under: batch.obs, real.x.

    What it holds of networks, agents and gradient steps is none of the batch.
    """
    if isinstance(closure, Tensor):
        yield name, closure
    elif isinstance(closure, partial):
        names = _argument_names(closure.func)
        given = dict(zip(names, closure.args, strict=False)) | closure.keywords
        for each, value in given.items():
            yield from held(value, each)
    elif isinstance(closure, Mapping):
        for key, value in closure.items():
            yield from held(value, f"{name}.{key}".lstrip("."))
    elif is_dataclass(closure) and not isinstance(closure, type):
        for each in fields(closure):
            yield from held(getattr(closure, each.name, None), f"{name}.{each.name}".lstrip("."))
    elif isinstance(closure, tuple) and hasattr(closure, "_fields"):
        for each in closure._fields:  # type: ignore[attr-defined]  # of a named tuple
            yield from held(getattr(closure, each), f"{name}.{each}".lstrip("."))
    elif isinstance(cells := getattr(closure, "__closure__", None), tuple):
        names = getattr(closure, "__code__").co_freevars  # noqa: B009
        for each, cell in zip(names, cells, strict=True):
            value = cell.cell_contents
            if each != "self":
                yield from held(value, each)
    elif name and hasattr(closure, "__dict__") and not isinstance(closure, nn.Module | type):
        own = {each: value for each, value in vars(closure).items() if not each.startswith("_")}
        yield from ((f"{name}.{each}", value) for each, value in own.items() if isinstance(value, Tensor))


def _argument_names(function: Callable[..., Any]) -> Sequence[str]:
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    if code is None:
        return [f"argument {i}" for i in range(20)]
    names = code.co_varnames[: code.co_argcount]
    return names[1:] if hasattr(function, "__self__") else names


def named_modules(modules: Mapping[str, nn.Module]) -> Iterator[tuple[str, nn.Module]]:
    """Every module that computes something of its own, by the names of its network and its own.

    The name of the network is left out where there is only one.
    """
    seen: set[int] = set()
    for network, module in modules.items():
        for name, part in module.named_modules():
            if id(part) not in seen and not isinstance(
                part, nn.Sequential | nn.ModuleList | nn.ParameterDict
            ):
                seen.add(id(part))
                alone = len(modules) == 1 and name
                yield (name if alone else f"{network}.{name}".rstrip(".")), part


def parameters_of(step: GradientStep, several: bool) -> Iterator[tuple[str, Tensor]]:
    """Parameters of a step by name, of several steps behind its own."""
    for name, p in zip(step.names, step.parameters, strict=True):
        yield (f"{step.name}.{name}" if several else name), p


def buffers_of(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Those of a module itself."""
    yield from module.named_buffers(recurse=False)


def attributes_of(owner: object) -> dict[str, Any]:
    """Those of an object, to be written to."""
    return getattr(owner, "__dict__", {})
