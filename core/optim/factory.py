"""Optimizers by configuration: any class, fused where there is a kernel, parameter groups by name.

A class of torch's shape takes `(parameters, **options)`: those of torch.optim, pytorch_optimizer, heavyball,
schedulefree. One of ours takes `(cfg, named_parameters, lr)`, `cfg` being its dataclass of options.
`groups` is read here and, unlike a class's own options, never passed to the class.
"""

import difflib
import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from core.checks import require
from core.errors import described
from core.optim.groups import Group, split_by_name
from core.optim.trial import is_foreign, require_kind, require_optimizer, try_step
from core.text import listed, told

Named = Iterable[tuple[str, Tensor]]
INSTEAD = ("foreach", "differentiable")  # of torch's options: what the fused kernel excludes


class OptimizerComponent(Protocol):
    """An optimizer class and its options (`core.config.Component` is one)."""

    @property
    def target(self) -> type:
        """The class."""
        ...

    @property
    def options(self) -> object:
        """A dictionary of keywords, or the dataclass of a class of ours."""
        ...

    @property
    def path(self) -> str:
        """Where it stands in the configuration, for messages: "optimizer", "optimizer.base"."""
        ...


def build_optimizer(
    component: OptimizerComponent, named_parameters: Named, lr: float | None = None
) -> torch.optim.Optimizer:
    """Build an optimizer over named parameters.

    The fused kernel of SGD, Adam, AdamW and Adagrad is chosen where it works on all parameters' devices and
    dtypes; on the CPU too it takes 0.35 to 0.45 of Adam's time. Not that of SGD with momentum, which fails
    when a parameter has its first gradient after the others. The choice between `foreach` and a loop stays
    torch's: on the CPU foreach is between 17 % faster (RMSprop, 5k parameters) and 7 % slower (1M).

    Args:
        component: class and options.
        named_parameters: as `nn.Module.named_parameters` gives them; frozen ones are left out.
        lr: replaces the configured learning rate (the second player's); None keeps it. Groups that have a
            rate of their own keep that.

    Raises:
        ValueError: the class refuses an option or these parameters, or a pattern of `groups` matches none.
    """
    named = [(name, p) for name, p in named_parameters if p.requires_grad]
    if not isinstance(component.options, dict):
        require_kind(component.target, component.path)
        return component.target(component.options, named, lr)
    options: dict[str, Any] = dict(component.options)
    groups = options.pop("groups", None)
    if lr is not None:
        options["lr"] = lr
    _check_lr(component, options)
    _check_parameters(component, named)
    if issubclass(component.target, torch.optim.LBFGS):
        for _, p in named:  # it views each gradient as a vector, and a gradient is laid out as its parameter
            p.data = p.data.contiguous()
    split = split_by_name(groups, named, f"{component.path}.groups")
    momenta = [({"momentum": 0} | options | group.options)["momentum"] for group in split]
    late = component.target is torch.optim.SGD and any(momenta)
    chosen = any(each.get(name) for each in (options, *(g.options for g in split)) for name in INSTEAD)
    if not late and not chosen and _has_fused(component.target, [p for _, p in named]):
        options.setdefault("fused", True)
    optimizer = _construct(component, _as_torch(split), options)
    for group in split:
        _check_group(component, optimizer, options, group)
    if callable(getattr(optimizer, "train", None)):
        optimizer.train()  # type: ignore[reportAttributeAccessIssue]  # schedule-free ones: see evaluation.py
    return optimizer


def refuse_own_lr(component: OptimizerComponent, name: str) -> None:
    """Refuse a learning rate inside of a combined optimizer: the one outside is that of all its parts.

    Raises:
        ValueError: there is one.
    """
    if isinstance(component.options, dict) and "lr" in component.options:
        raise ValueError(f"{name}.lr must be left out, because optimizer.lr is the rate of all parts")


def check_optimizer(
    component: OptimizerComponent,
    networks: Callable[[], Iterable[nn.Module]] | None = None,
    lr: float | None = None,
) -> None:
    """Try the options before anything is made, so that the class can refuse them in one line.

    Args:
        component: class and options.
        networks: makes the networks that will be optimized; called only where the answer depends on their
            parameters (groups by name, and classes that do not take every parameter). Otherwise one parameter
            that takes no step stands for all.
        lr: as for `build_optimizer`.

    Raises:
        ValueError: `optimizer.<option> ...`, or the class's own message.
    """
    options = component.options
    own = not isinstance(options, dict)
    particular = (torch.optim.Muon, torch.optim.SparseAdam)
    theirs = component.target in particular or not component.target.__module__.startswith("torch.optim.")
    with warnings.catch_warnings(action="ignore"):  # they come when it is built in earnest, on its device
        if networks is not None and (own or options.get("groups") or theirs):
            for network in networks():
                if component.target is torch.optim.SparseAdam:
                    _check_sparse(component, network)
                make = _maker(component, lr)
                named = list(network.named_parameters())
                if is_foreign(make(named)):
                    try_step(make, named, component.path)
            return
        plain = options if own else {name: value for name, value in options.items() if name != "groups"}
        try_step(_maker(_At(component, component.path, plain), lr), [("probe", _probe())], component.path)


def _maker(component: OptimizerComponent, lr: float | None) -> Callable[[Named], torch.optim.Optimizer]:
    return lambda named: build_optimizer(component, named, lr)


def _construct(
    component: OptimizerComponent,
    parameters: Sequence[Tensor] | Sequence[dict[str, Any]],
    options: dict[str, Any],
) -> torch.optim.Optimizer:
    """Call the class; what it refuses, in whatever way, becomes one ValueError."""
    name = component.target.__qualname__
    try:
        optimizer = component.target(parameters, **options)
    except Exception as error:  # foreign classes assert, and raise what they like
        # What was meant to be read is; the text of a KeyError, or of a bare assert, says nothing alone.
        meant = isinstance(error, AssertionError | TypeError | ValueError) and str(error)
        why = told(error) if meant else described(error)
        raise ValueError(f"{component.path}: {name} refuses its options: {why}") from error
    require_optimizer(optimizer, component.path)
    return optimizer


def _as_torch(split: Sequence[Group]) -> list[Tensor] | list[dict[str, Any]]:
    """Torch's form of the groups: a plain list where there is only one without options of its own."""
    if len(split) == 1 and not split[0].options:
        return split[0].parameters
    return [{"params": group.parameters, **group.options} for group in split]


def _check_lr(component: OptimizerComponent, options: Mapping[str, object]) -> None:
    if "lr" in options:
        lr = options["lr"]
        require(isinstance(lr, int | float) and lr >= 0, f"{component.path}.lr", lr, "a number >= 0")


def _check_parameters(component: OptimizerComponent, named: Sequence[tuple[str, Tensor]]) -> None:
    """Muon's peculiarities: matrices only, and slow on the CPU.

    Newton-Schulz multiplies in bfloat16. On a CPU without it, an MLP of 5k parameters took 7 ms a step and
    one of 91k parameters 840 ms, where the fused AdamW took 0.1 ms.
    """
    if component.target is not torch.optim.Muon:
        return
    others = [name for name, p in named if p.dim() != 2]
    if others:
        raise ValueError(
            f"{component.path}: Muon takes only matrices, which {listed(others, 50)} are not; "
            "optimizer=muon gives the other parameters to AdamW"
        )
    if any(p.device.type == "cpu" for _, p in named):
        warnings.warn(
            "Muon multiplies matrices in bfloat16: on most CPUs its step takes 100 to 10,000 times as long "
            "as Adam's; use a GPU",
            stacklevel=2,
        )


def _check_sparse(component: OptimizerComponent, network: nn.Module) -> None:
    """Whether all gradients will be sparse: only an embedding made with sparse=True has such."""
    sparse = {
        id(m.weight) for m in network.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag) and m.sparse
    }
    dense = [name for name, p in network.named_parameters() if p.requires_grad and id(p) not in sparse]
    if dense:
        raise ValueError(
            f"{component.path}: SparseAdam takes only sparse gradients, those of nn.Embedding(sparse=True); "
            f"{listed(dense, 50)} will have dense ones; use optimizer=adam"
        )


def _check_group(
    component: OptimizerComponent,
    optimizer: torch.optim.Optimizer,
    options: dict[str, Any],
    group: Group,
) -> None:
    """A group's own options: torch takes any name and any value there, so they are tried on the class."""
    if not group.options:
        return
    for name in group.options:
        if name not in optimizer.defaults:
            raise ValueError(_unknown(f"{group.path}.{name}", component, name, list(optimizer.defaults)))
    merged = options | group.options
    if "lr" in merged:
        lr = merged["lr"]
        require(isinstance(lr, int | float) and lr >= 0, f"{group.path}.lr", lr, "a number >= 0")
    _construct(_At(component, group.path), [_probe()], merged)


class _At:
    """A component under another name in messages, or with other options."""

    def __init__(self, component: OptimizerComponent, path: str, options: object = None) -> None:
        self.target, self.path = component.target, path
        self.options = component.options if options is None else options


def _unknown(path: str, component: OptimizerComponent, name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"unknown option {path}: {component.target.__qualname__} has no such option{hint}"


def _probe() -> Tensor:
    return nn.Parameter(torch.zeros(1, 1))


def _has_fused(target: Callable[..., object], parameters: Sequence[Tensor]) -> bool:
    """Whether this class of torch's has a fused kernel for these parameters."""
    if not target.__module__.startswith("torch.optim") or "fused" not in inspect.signature(target).parameters:
        return False
    return all(_fused_works(target, *kind) for kind in {(p.device, p.dtype) for p in parameters})


@lru_cache(maxsize=64)
def _fused_works(
    target: Callable[..., torch.optim.Optimizer], device: torch.device, dtype: torch.dtype
) -> bool:
    """Whether a fused step runs; tried, because which class has which kernel where changes with torch."""
    parameter = torch.zeros(1, device=device, dtype=dtype, requires_grad=True)
    parameter.grad = torch.zeros_like(parameter)
    try:
        target([parameter], lr=0.0, fused=True).step()
    except (RuntimeError, NotImplementedError):  # what torch raises where it has no such kernel
        return False
    return True
