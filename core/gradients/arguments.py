"""What a `GradientStep` is built from, and one error for each way in which the parts do not fit together."""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from core.gradients.norms import GradientView, layer_norms, require_real
from core.gradients.transforms.adaptive import AGC
from core.gradients.transforms.chain import Clipper, by_option
from core.gradients.transforms.direction import Centralize, PCGrad
from core.gradients.transforms.guard import SkipNonFinite
from core.gradients.transforms.protocol import Combine, Transform
from core.own_module import attempt
from core.state import StateDict, unreadable


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
    """Raise ValueError unless the optimizer holds these parameters and otherwise only frozen ones."""
    held = {id(p): p for group in optimizer.param_groups for p in group["params"]}
    own = {id(p) for p in named.values()}
    others = [p for key, p in held.items() if key not in own]
    if not own <= held.keys() or any(p.requires_grad for p in others):
        raise ValueError("the optimizer must hold exactly the trainable parameters given to GradientStep")
    for p in others:
        p.grad = None  # from before it was frozen; the optimizer would use it at every step


def require_true_line_search(
    optimizer: torch.optim.Optimizer, transforms: Sequence[Transform | Combine]
) -> None:
    """Raise ValueError where a line search would see slopes that are not those of its loss."""
    changing = [type(t).__name__ for t in transforms if not isinstance(t, SkipNonFinite)]
    if changing and any(group.get("line_search_fn") for group in optimizer.param_groups):
        raise ValueError(
            f"clipper: {' and '.join(changing)} would change the gradients that the line search of "
            f"{type(optimizer).__name__} compares with the loss; leave it out (clipper=none), or the search "
            "(optimizer.line_search_fn=null)"
        )


def check_clipper(clipper: Clipper | None, names: Iterable[str]) -> None:
    """Refuse a transform of a user's own that fails, and a pattern of `exclude` that no parameter has.

    What that should have left out would be clipped.

    Raises:
        ValueError: one line about the first.
    """
    names = list(names)
    for option, transform in by_option(clipper).items():
        if not type(transform).__module__.startswith("core."):
            _try_transform(f"{option}={type(transform).__module__}.{type(transform).__qualname__}", transform)
        for pattern in transform.exclude if isinstance(transform, AGC) else ():
            if not any(fnmatchcase(name, pattern) for name in names):
                known = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
                raise ValueError(
                    f"{option}.exclude: the pattern {pattern} matches no parameter's name; there are {known}"
                )


def _try_transform(what: str, transform: Transform | Combine) -> None:
    """Raise ValueError where two steps of a transform on small gradients fail, or leave others behind."""
    names, parameters = ("weight", "bias"), [torch.zeros(3, 2), torch.zeros(3)]
    state: StateDict = {}
    for scale in (1.0, 2.0):
        values = [torch.full_like(p, scale) for p in parameters]
        view = GradientView(names, parameters, values)
        before = view.norm
        if isinstance(transform, Combine):
            losses = {"one": values, "other": [-value for value in values]}
            left: object = attempt(f"{what}: combine", transform.combine, losses, state)
        else:
            attempt(what, transform, view, state)
            left = view.values
        shapes = [v.shape if isinstance(v, Tensor) else None for v in left] if isinstance(left, list) else []
        if shapes != [p.shape for p in parameters]:
            raise ValueError(f"{what} must leave one gradient of its shape for each parameter")
        if view.norm is before and left is view.values and layer_norms(view.values).norm() != before:
            raise ValueError(f"{what} must call gradients.changed() after it has changed them")
    if lost := unreadable(state):
        raise ValueError(f"{what} keeps what no checkpoint can hold: its state{lost}")


def clipper_without_effect(
    clipper: Clipper | None, *, one_loss: str, one_order: str = "", vectors: str = ""
) -> dict[str, str]:
    """Transforms that change no gradient and options that change no transform, by dotted name, and why.

    Args:
        clipper: as it is configured.
        one_loss: why no step has losses that could conflict; empty where one may.
        one_order: why all orders of the losses are the same; empty where they may differ.
        vectors: why no parameter is a matrix; empty where one is.
    """
    found = {}
    for option, transform in by_option(clipper).items():
        reason = {PCGrad: one_loss, Centralize: vectors}.get(type(transform))
        if reason:
            found[option] = reason
        elif isinstance(transform, PCGrad) and one_order:
            found[f"{option}.seed"] = one_order
    return found


def only_combine(transforms: Sequence[Transform | Combine]) -> Combine | None:
    """The one transform that combines losses, if there is one."""
    combiners = [t for t in transforms if isinstance(t, Combine)]
    if len(combiners) > 1:
        raise ValueError(f"one transform can combine the losses, got {len(combiners)}: {combiners}")
    return combiners[0] if combiners else None


def step_needs_closure(optimizer: type[torch.optim.Optimizer]) -> bool:
    """Whether the step of this class cannot be called without a closure (LBFGS, SAM and the like)."""
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty


def malformed(returned: object) -> ValueError:
    """What to say of a closure that returned something else than losses and metrics."""
    what = type(returned).__name__
    if isinstance(returned, tuple):
        what = f"({', '.join(type(part).__name__ for part in returned)})"
    return ValueError(
        f"a closure must return (loss, metrics), with {{}} where there are no metrics; got {what}"
    )


def uneven(samples: int, closures: int) -> ValueError:
    """What to say of samples that cannot be divided evenly among the closures."""
    return ValueError(
        f"samples must be those of all {closures} closures together, micro-batches of one size: a "
        f"positive multiple of {closures}, got {samples}"
    )


def without_gradient(name: str, term: Tensor) -> ValueError:
    """What to say of a loss that no gradient can be taken of."""
    reason = f"has shape {tuple(term.shape)}" if term.dim() else "does not depend on any parameter"
    return ValueError(f"the loss {name!r} must be a scalar with a gradient; it {reason}")


def unequal_metrics(different: Iterable[str]) -> ValueError:
    """What to say of closures of one step whose metrics are not the same."""
    listed = ", ".join(sorted(different)[:6])
    return ValueError(f"all closures of a step must return the same metrics; only some have {listed}")


def explain_freed_graph(error: RuntimeError) -> None:
    """Raise ValueError, which says what to do, where an earlier backward has freed the graph of a loss."""
    if "through the graph a second time" in str(error):
        raise ValueError(
            "the graph of this loss is already freed: build the loss inside the closure, at every call"
        ) from error
