"""What a `GradientStep` is given, and one line about each way in which it does not fit."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from core.gradients.measure.norms import require_real
from core.gradients.transforms.guard import SkipNonFinite
from core.gradients.transforms.protocol import Combine, Transform

Metrics = dict[str, Tensor]  # 0-d, detached, on the device
Loss = Tensor | Mapping[str, Tensor]
Closure = Callable[[], tuple[Loss, Metrics]]


def trainable(parameters: nn.Module | Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """Trainable parameters by name, each once.

    Raises:
        ValueError: there is none, or one is complex.
    """
    pairs = parameters.named_parameters() if isinstance(parameters, nn.Module) else parameters
    named: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, parameter in pairs:
        if parameter.requires_grad and id(parameter) not in seen:
            seen.add(id(parameter))
            named[name] = parameter
    if not named:
        raise ValueError("GradientStep needs at least one parameter that requires a gradient, got none")
    require_real("GradientStep", list(named), list(named.values()))
    return named


def require_same_parameters(named: Mapping[str, Tensor], optimizer: torch.optim.Optimizer) -> None:
    """Raise ValueError unless the optimizer holds these parameters, and besides them only frozen ones."""
    held = {id(p): p for group in optimizer.param_groups for p in group["params"]}
    own = {id(p) for p in named.values()}
    others = [p for key, p in held.items() if key not in own]
    if not own <= held.keys() or any(p.requires_grad for p in others):
        raise ValueError("the optimizer must hold exactly the trainable parameters given to GradientStep")
    for p in others:
        p.grad = None  # left over from before it was frozen: the optimizer would step with it for ever


def require_true_line_search(
    optimizer: torch.optim.Optimizer, transforms: Sequence[Transform | Combine]
) -> None:
    """Raise ValueError where a line search would be given slopes that are not those of its loss."""
    changing = [type(t).__name__ for t in transforms if not isinstance(t, SkipNonFinite)]
    if changing and any(group.get("line_search_fn") for group in optimizer.param_groups):
        raise ValueError(
            f"clipper: {' and '.join(changing)} would change the gradients that the line search of "
            f"{type(optimizer).__name__} compares with the loss; leave it out (clipper=none), or the search "
            "(optimizer.line_search_fn=null)"
        )


def only_combine(transforms: Sequence[Transform | Combine]) -> Combine | None:
    """The one transform that combines losses, if there is one."""
    combiners = [t for t in transforms if isinstance(t, Combine)]
    if len(combiners) > 1:
        raise ValueError(f"one transform can combine the losses, got {len(combiners)}: {combiners}")
    return combiners[0] if combiners else None


def step_needs_closure(optimizer: torch.optim.Optimizer) -> bool:
    """Whether `optimizer.step` cannot be called without a closure (LBFGS, SAM and the like)."""
    closure = inspect.signature(type(optimizer).step).parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty


def require_even_parts(samples: int | None, closures: int) -> None:
    """Raise ValueError unless `samples` (None = unknown) can be those of so many equal micro-batches."""
    if closures < 1:
        raise ValueError("a step needs at least one closure, got none")
    if samples is not None and (samples < 1 or samples % closures):
        raise ValueError(
            f"samples must be those of all {closures} closures together, micro-batches of one size: a "
            f"positive multiple of {closures}, got {samples}"
        )


def require_trainable(names: Sequence[str], parameters: Sequence[Tensor]) -> None:
    """Raise ValueError where a parameter has been frozen since the step was built."""
    frozen = [name for name, p in zip(names, parameters, strict=True) if not p.requires_grad]
    if frozen:
        raise ValueError(
            f"requires_grad of {', '.join(frozen[:6])} was set to False after the GradientStep was built: "
            "freeze before that, or build another GradientStep"
        )


def evaluated(closure: Closure) -> tuple[dict[str, Tensor], Metrics]:
    """The closure's losses by name, and its metrics.

    Raises:
        ValueError: it returns something else, or a loss that no gradient can be taken of.
    """
    returned: object = closure()
    if not isinstance(returned, tuple) or len(returned) != 2 or not isinstance(returned[1], Mapping):
        what = type(returned).__name__
        if isinstance(returned, tuple):
            what = f"({', '.join(type(part).__name__ for part in returned)})"
        raise ValueError(
            f"a closure must return (loss, metrics), with {{}} where there are no metrics; got {what}"
        )
    loss, metrics = returned
    losses = dict(loss) if isinstance(loss, Mapping) else {"loss": loss}
    for name, term in losses.items():
        if term.dim() or not term.requires_grad:
            reason = f"has shape {tuple(term.shape)}" if term.dim() else "does not depend on any parameter"
            raise ValueError(f"the loss {name!r} must be a scalar with a gradient; it {reason}")
    return losses, dict(metrics)


def averaged(collected: Sequence[Metrics]) -> Metrics:
    """The mean of every metric over the closures of one step.

    Raises:
        ValueError: they have not all the same.
    """
    first = collected[0]
    if len(collected) == 1:
        return first
    different = {key for metrics in collected for key in first.keys() ^ metrics.keys()}
    if different:
        listed = ", ".join(sorted(different)[:6])
        raise ValueError(f"all closures of a step must return the same metrics; only some have {listed}")
    return {key: torch.stack([metrics[key] for metrics in collected]).mean() for key in first}


@contextmanager
def freed_graph_explained() -> Iterator[None]:
    """Say what to do when a loss comes with a graph that an earlier backward has freed."""
    try:
        yield
    except RuntimeError as error:
        if "through the graph a second time" not in str(error):
            raise
        raise ValueError(
            "the graph of this loss is already freed: build the loss inside the closure, anew at every call"
        ) from error
