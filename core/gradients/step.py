"""`GradientStep`: from a closure to an update, and everything that is known about the gradient on the way.

    zero -> closure -> backward -> average over ranks -> measure -> transform -> guard -> apply -> measure

One object owns the named parameters of one player and their optimizer. Mixed precision, gradient
accumulation, several ranks, several losses, optimizers that call the closure again (LBFGS, SAM) and the two
halves of a step that two-player schemes need all live here: a training loop only says what the loss is.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce
from typing import Literal

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version

from core.gradients.arguments import (
    explain_freed_graph,
    malformed,
    only_combine,
    require_same_parameters,
    require_true_line_search,
    step_needs_closure,
    trainable,
    unequal_metrics,
    uneven,
    without_gradient,
)
from core.gradients.closures import Closure, Metrics
from core.gradients.compiled import CompiledGradients, compiled_gradients
from core.gradients.first_step import step_form
from core.gradients.graph import refuse_reentrant
from core.gradients.measure.monitor import Monitor, MonitorConfig
from core.gradients.measure.noise_scale import NoiseScale
from core.gradients.norms import GradientView, global_norm
from core.gradients.optimizer_step import NonFiniteError, OptimizerStep, leave_fused
from core.gradients.ranks import average_over_ranks, mean_over_ranks, num_ranks
from core.gradients.transforms.protocol import Combine, Transform
from core.state import StateDict, copied


class GradientStep:
    """Takes optimizer steps from closures and measures every gradient.

        step = GradientStep(model, torch.optim.Adam(model.parameters()), [GlobalNorm(max_norm=0.5)])
        metrics = step(lambda: (loss(model, batch), {}))

    Only the step's own parameters receive a gradient: other networks in the graph stay untouched and cost no
    weight gradients. A step whose gradient is not finite, before or after the transforms, is skipped, counted
    and localised; such a gradient never reaches the optimizer. On an accelerator this needs no
    synchronisation for optimizers that take `found_inf` (fused SGD, Adam, AdamW, Adagrad); for others the
    host waits once per step.

    Args:
        parameters: a module, or pairs of name and parameter; frozen parameters are left out, tied ones
            are counted once.
        optimizer: any `torch.optim.Optimizer` that holds exactly these parameters; it may hold frozen ones
            too.
        transforms: applied to the gradient in order (clipping and the like). One `Combine` among them
            (PCGrad) makes one gradient of several named losses; without it the losses are summed.
        name: needed where a run has more than one step; the tags become "<name>/gradient/norm".
        batch_size: samples of every step on this rank, if it is constant; the unit of the noise scale.
        precision: "float32"; "bfloat16" or "float16" (with loss scaling) runs the closures under autocast.
        monitor: what is measured.

    Raises:
        ValueError: there is no trainable parameter, or a complex one; the optimizer holds other parameters
            than these, or its line search would be misled by the transforms.
    """

    def __init__(
        self,
        parameters: nn.Module | Iterable[tuple[str, Tensor]],
        optimizer: torch.optim.Optimizer,
        transforms: Sequence[Transform | Combine] = (),
        *,
        name: str = "",
        batch_size: int | None = None,
        precision: Literal["float32", "bfloat16", "float16"] = "float32",
        monitor: MonitorConfig | None = None,
    ) -> None:
        pairs = list(parameters.named_parameters() if isinstance(parameters, nn.Module) else parameters)
        named = trainable(pairs)
        require_same_parameters(named, optimizer)
        require_true_line_search(optimizer, transforms)
        self.name = name
        self.names = list(named)
        self.frozen = [name for name, p in pairs if not p.requires_grad]
        self.parameters = list(named.values())
        self._own = {id(p) for p in self.parameters}
        self.device = self.parameters[0].device
        self.optimizer = optimizer
        self.transforms = [t for t in transforms if not isinstance(t, Combine)]
        self.combine = only_combine(transforms)
        self.transform_states: list[StateDict] = [{} for _ in self.transforms]
        self.combine_state: StateDict = {}
        self.precision = precision
        self.scaler = torch.amp.GradScaler(self.device.type) if precision == "float16" else None
        self.base_lrs = [group["lr"] for group in optimizer.param_groups]
        cfg, prefix = monitor or MonitorConfig(), name and f"{name}/"
        self.monitor = Monitor(self.names, self.parameters, cfg, prefix, transformed=bool(transforms))
        self.compiled: CompiledGradients | None = None
        self.ranks = num_ranks()
        self._step = OptimizerStep(optimizer)
        self._needs_closure = step_needs_closure(type(optimizer))
        self.batch_size = batch_size
        self._samples: int | None = None  # that the gradient in `.grad` is the mean of, over all ranks
        self._parts = 1  # micro-batches times ranks that it is the mean of
        self._in_parts = False  # whether the norms of these parts can be compared
        self._part_norms: list[Tensor] = []  # norms of the parts' gradients, in a sampled step
        self._missed: set[tuple[int, ...]] = set()  # sets of parameters that had no gradient, looked into
        self._unscaled = False  # under a loss scale: the gradient is ready to be applied

    def __call__(self, *closures: Closure, samples: int | None = None) -> Metrics:
        """Take one step.

        Args:
            closures: each returns a loss, or several by name, and metrics. Several closures are the
                micro-batches of one step (gradient accumulation): their losses are averaged. Optimizers that
                evaluate again (LBFGS, SAM) call them again, so a closure must not consume its batch.
            samples: how many all closures together average over, on this rank; None = `batch_size`. Where
                neither is known, noise is measured between micro-batches and ranks alone, in their units.

        Returns:
            Their own metrics at the first evaluation, averaged, over ranks too, which all have the same ones;
            `monitor` has those of the gradient.

        Raises:
            ValueError: a loss is not a scalar, or does not depend on these parameters; a closure returns no
                metrics, or not the same as the others; the samples cannot be divided evenly among the
                closures; a parameter has been frozen, or unfrozen or added to the optimizer, since the step
                was built; a reentrant checkpoint hides parameters.
        """
        metrics = self.compute(*closures, samples=samples)
        self.apply(*closures)
        return metrics

    def compute(self, *closures: Closure, samples: int | None = None) -> Metrics:
        """First half of a step: the gradient at the current parameters, averaged over ranks, in `.grad`."""
        known = self.batch_size if samples is None else samples
        if not closures:
            raise ValueError("a step needs at least one closure, got none")
        if known is not None and (known < 1 or known % len(closures)):
            raise uneven(known, len(closures))
        self._require_trainable()
        self._samples = None if known is None else known * self.ranks
        self._parts = len(closures) * self.ranks
        self._in_parts = self._parts > 1 and self.scaler is None  # a loss scale would need a sync
        self._part_norms = []
        return self._evaluate(closures, self._in_parts and self.monitor.sampling)[0]

    def apply(self, *closures: Closure, measure: bool = True) -> None:
        """Second half: measure, transform, guard and apply the gradient that is in `.grad`.

        Args:
            closures: needed only by an optimizer that evaluates again.
            measure: False for a step that the caller will undo (extragradient's look ahead).

        Raises:
            ValueError: there is no gradient, or an optimizer that evaluates again got no closure.
        """
        if self._needs_closure and not closures:
            who = type(self.optimizer).__name__
            raise ValueError(f"{who} evaluates the loss again in its step: apply() needs the closures too")
        if self.scaler and not self._unscaled:
            raise ValueError("apply() without compute(): this gradient has been unscaled and applied already")
        view = self._view()
        if not measure:
            self._guarded_step(self._transform(view), closures)
            return
        # A gradient in parts shows its noise within one step; a whole one, compared with the next step's.
        self.monitor.observe_gradient(view, None if self._in_parts else self._samples)
        if self._part_norms:
            self.monitor.observe_parts(view.norm, self._part_norms, self._parts, self.samples)
        norm = self._transform(view)
        self.monitor.observe_transformed(view)
        self.monitor.before_update()
        self._guarded_step(norm, closures)
        self.monitor.after_update(self.optimizer)
        if self.scaler:
            self.scaler.update()
            self._unscaled = False

    @property
    def samples(self) -> int:
        """Samples behind the last gradient, over all ranks; where they are unknown, its parts."""
        return self._parts if self._samples is None else self._samples

    @property
    def batch(self) -> int | None:
        """The same; None where they are unknown and in one part."""
        return self.samples if self.samples > 1 else self._samples

    @property
    def noise_scale(self) -> NoiseScale:
        """Running estimate of the gradient's noise scale, in units of `samples`."""
        return self.monitor.noise_scale

    def set_lr_scale(self, scale: float) -> None:
        """Set every group's rate to `scale` times its initial one, of a later group the one it came with."""
        groups = self.optimizer.param_groups
        self.base_lrs += [group["lr"] for group in groups[len(self.base_lrs) :]]
        for group, lr in zip(groups, self.base_lrs, strict=True):
            group["lr"] = lr * scale

    def compile(self, say: Callable[[str], None]) -> None:
        """From now on take gradients by compiled graphs; `say` takes a line on what runs without.

        Raises:
            ValueError: something of this step needs the losses' own graphs.
        """
        self.compiled = compiled_gradients(self, self._losses, say)

    def state_dict(self) -> StateDict:
        """Optimizer, loss scale, transforms, and the half-filled window of the monitor."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "base_lrs": list(self.base_lrs),
            "scaler": self.scaler.state_dict() if self.scaler else None,
            "transforms": copied(self.transform_states),
            "combine": copied(self.combine_state),
            "monitor": self.monitor.state_dict(),
        }

    def state_form(self) -> StateDict:
        """What `state_dict` must look like: what the parts keep after a first step."""
        return step_form(self)

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.base_lrs = list(state["base_lrs"])
        if self.scaler:
            self.scaler.load_state_dict(state["scaler"])
        self.transform_states = copied(state["transforms"], self.device) or self.transform_states
        self.combine_state = copied(state["combine"], self.device)
        self.monitor.load_state_dict(state["monitor"])

    def _require_trainable(self) -> None:
        """Raise ValueError where what is to be trained has changed since the step was built."""
        frozen = [name for name, p in zip(self.names, self.parameters, strict=True) if not p.requires_grad]
        if frozen:
            raise ValueError(
                f"requires_grad of {', '.join(frozen[:6])} was set to False after the GradientStep was "
                "built: freeze before that, or build another GradientStep"
            )
        held = (p for group in self.optimizer.param_groups for p in group["params"])
        if new := sum(p.requires_grad and id(p) not in self._own for p in held):
            raise ValueError(
                f"{new} of the optimizer's parameters were unfrozen or added after the GradientStep was "
                "built and would never be trained: do so before that, or build another GradientStep"
            )

    def _evaluate(self, closures: Sequence[Closure], apart: bool = False) -> tuple[Metrics, float | Tensor]:
        """Write the gradient of the mean loss to `.grad`; return metrics, and the loss if it is needed."""
        for p in self.parameters:
            p.grad = None
        collected: list[Metrics] = []
        total: float | Tensor = 0.0
        if self.compiled and len(closures) == 1 and (metrics := self.compiled(*closures)) is not None:
            collected, closures = [metrics], ()
        for closure in closures:
            losses, metrics = self._losses(closure)
            if apart:
                self._backward_apart(losses, len(closures))
            else:
                self._backward(losses, 1 / len(closures))
            self._require_reached(losses)
            if self._needs_closure:
                total = total + sum(term.detach() for term in losses.values()) / len(closures)
            collected.append(metrics)
        metrics = _averaged(collected)
        if self.ranks > 1:  # before the scale is looked at: all ranks see the same overflow
            metrics, total = average_over_ranks(self.parameters, metrics, total)
        if self.scaler:
            if self._unscaled:  # evaluated again in one step: the scaler allows one gradient between updates
                self.scaler.update()
            self.scaler.unscale_(self.optimizer)
            self._unscaled = True
        return metrics, total

    def _require_reached(self, losses: dict[str, Tensor]) -> None:
        """Look whether a reentrant checkpoint is why parameters have no gradient, once for the same ones."""
        missing = tuple(i for i, p in enumerate(self.parameters) if p.grad is None)
        if missing and missing not in self._missed:
            self._missed.add(missing)
            for loss in losses.values():
                refuse_reentrant(loss)

    def _backward_apart(self, losses: dict[str, Tensor], parts: int) -> None:
        """As `_backward`; keeps the norm of this part's gradient before it is added to the others."""
        others = [p.grad for p in self.parameters]
        for p in self.parameters:
            p.grad = None
        self._backward(losses, 1 / parts)
        self._part_norms.append(parts * global_norm([p.grad for p in self.parameters if p.grad is not None]))
        for p, other in zip(self.parameters, others, strict=True):
            if other is not None:
                p.grad = other if p.grad is None else other + p.grad

    def _backward(self, losses: dict[str, Tensor], weight: float) -> None:
        """Add the weighted gradient of the losses to `.grad`."""
        try:
            if self.combine is None:
                total = reduce(torch.add, losses.values())
                torch.autograd.backward(self._scaled(total, weight), inputs=self.parameters)
                return
            by_name = {
                name: list(torch.autograd.grad(
                    self._scaled(loss, weight), self.parameters, retain_graph=i < len(losses) - 1,
                    allow_unused=True, materialize_grads=True,
                ))
                for i, (name, loss) in enumerate(losses.items())
            }  # fmt: skip
        except RuntimeError as error:
            explain_freed_graph(error)
            raise
        if self.ranks > 1:  # what is combined are the gradients of the whole batch
            by_name = {name: mean_over_ranks(gradients) for name, gradients in by_name.items()}
        combined = self.combine.combine(by_name, self.combine_state)
        for p, gradient in zip(self.parameters, combined, strict=True):
            p.grad = gradient if p.grad is None else p.grad + gradient

    def _scaled(self, loss: Tensor, weight: float) -> Tensor:
        """The loss that backward is called on: weighted, and multiplied by the loss scale."""
        weighted = loss if weight == 1.0 else loss * weight
        return self.scaler.scale(weighted) if self.scaler else weighted

    def _transform(self, view: GradientView) -> Tensor:
        """Apply the transforms; return the larger norm of before and after, not finite if either is not."""
        before = view.norm
        if self.compiled is None or not self.compiled.transform(view):
            for transform, state in zip(self.transforms, self.transform_states, strict=True):
                transform(view, state)
        return torch.maximum(before, view.norm) if self.transforms else before

    def _view(self) -> GradientView:
        """The gradients in `.grad`."""
        view = GradientView.of(self.names, self.parameters)
        if any(value.is_sparse for value in view.values):
            leave_fused(self.optimizer)
        if self.compiled is not None:
            self.compiled.measure(view)
        return view

    def _guarded_step(self, norm: Tensor, closures: Sequence[Closure]) -> None:
        """Call the optimizer's step, unless the gradient's norm is not finite."""
        if not self._needs_closure:
            self._step.guarded(norm)
        elif math.isfinite(norm.item()):
            self._step.undoable(lambda: self._evaluate_again(closures), self.parameters)
        # Fused kernels count no write, so backward through an older graph would use the new parameters.
        increment_version(self.parameters)

    def _evaluate_again(self, closures: Sequence[Closure]) -> float:
        """Torch's convention for a closure: put the transformed gradient into `.grad` and return the loss."""
        with torch.enable_grad():
            _, loss = self._evaluate(closures)
        view = self._view()
        if not math.isfinite(loss):  # log(x) below 0 is NaN, but its gradient 1 / x is not
            torch._foreach_mul_(view.dense(), math.nan)
            view.changed()
        if not (math.isfinite(view.norm.item()) and math.isfinite(self._transform(view).item())):
            self.monitor.observe_undone(view)
            raise NonFiniteError
        return float(loss)

    def _losses(self, closure: Closure) -> tuple[dict[str, Tensor], Metrics]:
        """A closure's losses by name, and its metrics."""
        if self.precision == "float32":
            return _evaluated(closure)
        with torch.autocast(self.device.type, getattr(torch, self.precision)):
            return _evaluated(closure)


def _evaluated(closure: Closure) -> tuple[dict[str, Tensor], Metrics]:
    """The closure's losses by name, and its metrics; ValueError where no gradient can be taken of a loss."""
    returned: object = closure()
    if not isinstance(returned, tuple) or len(returned) != 2 or not isinstance(returned[1], Mapping):
        raise malformed(returned)
    loss, metrics = returned
    losses = dict(loss) if isinstance(loss, Mapping) else {"loss": loss}
    for name, term in losses.items():
        if term.dim() or not term.requires_grad:
            raise without_gradient(name, term)
    return losses, dict(metrics)


def _averaged(collected: Sequence[Metrics]) -> Metrics:
    """The mean of every metric over the closures of one step; ValueError where their metrics differ."""
    first = collected[0]
    if len(collected) == 1:
        return first
    if different := {key for metrics in collected for key in first.keys() ^ metrics.keys()}:
        raise unequal_metrics(different)
    return {key: torch.stack([metrics[key] for metrics in collected]).mean() for key in first}
