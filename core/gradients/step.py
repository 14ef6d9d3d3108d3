"""`GradientStep`: from a closure to an update, and everything that is known about the gradient on the way.

    zero -> closure -> backward -> average over ranks -> measure -> transform -> guard -> apply -> measure

One object owns the named parameters of one player and their optimizer. AMP, accumulation, several ranks,
several losses, closures that are called more than once (LBFGS, SAM) and the two halves that two-player
schemes need all live here, so that a training loop only says what the loss is.
"""

import math
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from functools import reduce
from typing import Literal

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version

from core.gradients.closures import (
    Closure,
    Metrics,
    averaged,
    evaluated,
    freed_graph_explained,
    only_combine,
    require_even_parts,
    require_same_parameters,
    require_trainable,
    require_true_line_search,
    step_needs_closure,
    trainable,
)
from core.gradients.fused import FusedStep, lacks_velocity, leave_fused
from core.gradients.measure.monitor import Monitor, MonitorConfig
from core.gradients.measure.noise_scale import NoiseScale
from core.gradients.measure.norms import global_norm
from core.gradients.measure.view import GradientView
from core.gradients.ranks import average_over_ranks, num_ranks
from core.gradients.transforms.protocol import Combine, Transform
from core.state import StateDict, copied


class GradientStep:
    """Takes optimizer steps from closures and watches every gradient.

        step = GradientStep(model, torch.optim.Adam(model.parameters()), [GlobalNorm(max_norm=0.5)])
        metrics = step(lambda: (loss(model, batch), {}))

    Only its own parameters receive a gradient: other networks in the graph stay untouched and cost no weight
    gradients. A step whose gradient has a non-finite number, as it arrives or after the transforms, is
    skipped, counted and localised; it never reaches the optimizer. On an accelerator that decision needs no
    synchronisation for optimizers that take `found_inf` (fused SGD, Adam, AdamW, Adagrad); for others the
    host waits once per step.

    Args:
        parameters: a module, or pairs of name and parameter; frozen parameters are left out, tied ones
            counted once.
        optimizer: any `torch.optim.Optimizer` over exactly these parameters, and frozen ones.
        transforms: applied to the gradient in order (clipping and the like). One `Combine` among them
            (PCGrad) makes one gradient of several named losses; without it they are summed.
        name: with more than one step in a run, its name: the tags become "<name>/gradient/norm".
        batch_size: samples of every step on this rank, where it is always the same: the noise scale's unit.
        precision: "float32"; "bfloat16" or "float16" runs the closures under autocast, the latter with loss
            scaling.
        monitor: what is measured.

    Raises:
        ValueError: no trainable parameter, a complex one, an optimizer that holds other parameters than
            these, or one whose line search the transforms would mislead.
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
        self.device = self.parameters[0].device
        self.optimizer = optimizer
        self.transforms = [t for t in transforms if not isinstance(t, Combine)]
        self.combine = only_combine(transforms)
        self.memories: list[StateDict] = [{} for _ in self.transforms]
        self.combine_memory: StateDict = {}
        self.precision = precision
        self.scaler = torch.amp.GradScaler(self.device.type) if precision == "float16" else None
        self.base_lrs = [group["lr"] for group in optimizer.param_groups]
        self.monitor = Monitor(self.names, self.parameters, monitor or MonitorConfig(), name and f"{name}/")
        self._step = FusedStep(optimizer)
        self._needs_closure = step_needs_closure(optimizer)
        self.batch_size = batch_size
        self._samples: int | None = None  # behind the gradient that is in `.grad`
        self._unscaled = False  # a gradient under a loss scale is ready to be applied
        self._parts = 1  # micro-batches and ranks that it is the mean of
        self._part_norms: list[Tensor] = []  # of the parts, in a step that samples them

    def __call__(self, *closures: Closure, samples: int | None = None) -> Metrics:
        """Take one step.

        Args:
            closures: each returns a loss, or several by name, and its metrics. Several closures are the
                micro-batches of one step (gradient accumulation): their losses are averaged. Optimizers that
                look more than once (LBFGS, SAM) call them again, so a closure must not consume its batch.
            samples: how many samples these closures together take the mean of, on this rank; None =
                `batch_size`. Where neither is known, only the noise of gradients in parts is measured, in
                units of a part.

        Returns:
            The closures' own metrics at the first evaluation, averaged; what is known of the gradient is in
            `monitor`.

        Raises:
            ValueError: a loss is not a scalar, or does not depend on these parameters; a closure returns no
                metrics, or not those of the others; the closures cannot have the same number of samples; a
                parameter has been frozen meanwhile.
        """
        metrics = self.compute(*closures, samples=samples)
        self.apply(*closures)
        return metrics

    def compute(self, *closures: Closure, samples: int | None = None) -> Metrics:
        """First half of a step: the gradient at the current parameters, averaged over ranks, in `.grad`."""
        ranks = num_ranks()
        known = self.batch_size if samples is None else samples
        require_even_parts(known, len(closures))
        require_trainable(self.names, self.parameters)
        self._samples = None if known is None else known * ranks
        self._parts = len(closures) * ranks
        self._part_norms = []
        metrics, _ = self._evaluate(closures, self._in_parts and self.monitor.sampling)
        return metrics

    def apply(self, *closures: Closure, measure: bool = True) -> None:
        """Second half: measure, transform, guard and apply the gradient that is in `.grad`.

        Args:
            closures: needed only by an optimizer that evaluates again.
            measure: False for a step that the caller will take back (extragradient's look ahead).

        Raises:
            ValueError: there is no gradient, or an optimizer that evaluates again got no closure.
        """
        if self._needs_closure and not closures:
            name = type(self.optimizer).__name__
            raise ValueError(f"{name} evaluates the loss again in its step: apply() needs the closures too")
        if self.scaler and not self._unscaled:
            raise ValueError("apply() without compute(): this gradient has been unscaled and applied already")
        view, index = self._view()
        if not measure:
            self._guarded_step(self._transform(view), closures)
            return
        # A gradient in parts shows its noise within one step; one of a single part beside the next step's.
        self.monitor.observe_gradient(view, index, None if self._in_parts else self._samples)
        if self._part_norms:
            self.monitor.observe_parts(view.norm, self._part_norms, self._parts, self.samples)
        norm = self._transform(view)
        self.monitor.observe_transformed(view, index)
        self.monitor.before_update()
        self._guarded_step(norm, closures)
        self.monitor.after_update(self.optimizer)
        if self.scaler:
            self.scaler.update()
            self._unscaled = False

    @property
    def samples(self) -> int:
        """Samples behind the last gradient, over all ranks; its parts where nobody said how many."""
        return self._parts if self._samples is None else self._samples

    @property
    def noise_scale(self) -> NoiseScale:
        """Running estimate of the gradient's noise, in samples when the steps are told how many they have."""
        return self.monitor.noise_scale

    def set_lr_scale(self, scale: float) -> None:
        """Set every group's learning rate to `scale` times the one it was built with."""
        for group, lr in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["lr"] = lr * scale

    def state_dict(self) -> StateDict:
        """Optimizer, loss scale and half-filled monitor window."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "base_lrs": list(self.base_lrs),
            "scaler": self.scaler.state_dict() if self.scaler else None,
            "transforms": copied(self.memories),
            "combine": copied(self.combine_memory),
            "monitor": self.monitor.state_dict(),
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.base_lrs = list(state["base_lrs"])
        if self.scaler:
            self.scaler.load_state_dict(state["scaler"])
        self.memories = copied(state["transforms"], self.device)
        self.combine_memory = copied(state["combine"], self.device)
        self.monitor.load_state_dict(state["monitor"])

    def _evaluate(
        self, closures: Sequence[Closure], measure_parts: bool = False
    ) -> tuple[Metrics, float | Tensor]:
        """Gradient of the mean loss into `.grad`; the metrics, and the loss if the optimizer asks for it."""
        for p in self.parameters:
            p.grad = None
        collected: list[Metrics] = []
        total: float | Tensor = 0.0
        for closure in closures:
            with self._autocast():
                losses, metrics = evaluated(closure)
            if measure_parts:
                self._backward_apart(losses, len(closures))
            else:
                self._backward(losses, 1 / len(closures))
            if self._needs_closure:
                total = total + sum(term.detach() for term in losses.values()) / len(closures)
            collected.append(metrics)
        if self.scaler:
            if self._unscaled:  # looked at twice in one step: the scaler allows one gradient between updates
                self.scaler.update()
            self.scaler.unscale_(self.optimizer)
            self._unscaled = True
        average_over_ranks(self.parameters)
        return averaged(collected), total

    def _backward_apart(self, losses: dict[str, Tensor], parts: int) -> None:
        """As `_backward`, with this part's own norm written down before it is added to the others."""
        others = [p.grad for p in self.parameters]
        for p in self.parameters:
            p.grad = None
        self._backward(losses, 1 / parts)
        own = [p.grad for p in self.parameters if p.grad is not None]
        self._part_norms.append(global_norm(own) * parts)
        for p, other in zip(self.parameters, others, strict=True):
            if other is not None:
                p.grad = other if p.grad is None else other + p.grad

    def _backward(self, losses: dict[str, Tensor], weight: float) -> None:
        """Add the weighted gradient of the losses to `.grad`."""
        if self.combine is None:
            total = reduce(torch.add, losses.values())
            with freed_graph_explained():
                torch.autograd.backward(self._scaled(total, weight), inputs=self.parameters)
            return
        last = len(losses) - 1
        by_name = {
            name: self._gradient_of(self._scaled(loss, weight), retain_graph=i < last)
            for i, (name, loss) in enumerate(losses.items())
        }
        combined = self.combine.combine(by_name, self.combine_memory)
        for p, gradient in zip(self.parameters, combined, strict=True):
            p.grad = gradient if p.grad is None else p.grad + gradient

    def _gradient_of(self, loss: Tensor, retain_graph: bool) -> list[Tensor]:
        """The gradient of one of several losses, zeros where it does not reach."""
        with freed_graph_explained():
            gradients = torch.autograd.grad(
                loss, self.parameters, retain_graph=retain_graph, allow_unused=True, materialize_grads=True
            )
        return list(gradients)

    def _scaled(self, loss: Tensor, weight: float) -> Tensor:
        """The loss as backward shall see it: its share of the micro-batches, and AMP's scale."""
        weighted = loss if weight == 1.0 else loss * weight
        return self.scaler.scale(weighted) if self.scaler else weighted

    @property
    def _in_parts(self) -> bool:
        """Whether the gradient's parts can be compared; under a loss scale that would need a sync."""
        return self._parts > 1 and self.scaler is None

    def _transform(self, view: GradientView) -> Tensor:
        """Apply the transforms; the larger norm of before and after, not finite where one of them is not."""
        before = view.norm
        for transform, memory in zip(self.transforms, self.memories, strict=True):
            transform(view, memory)
        return torch.maximum(before, view.norm) if self.transforms else before

    def _view(self) -> tuple[GradientView, list[int] | None]:
        """The gradients that are there, and their positions unless none is missing."""
        values = [p.grad for p in self.parameters if p.grad is not None]
        if not values:
            raise ValueError(
                "no parameter of this GradientStep has a gradient; is the loss detached from it?"
            )
        if any(v.is_sparse for v in values):
            leave_fused(self.optimizer)
            # Coalesced once, so that a transform writes into the values and not into a copy of them.
            values = [v.coalesce() if v.is_sparse else v for v in values]
            for p, v in zip((p for p in self.parameters if p.grad is not None), values, strict=True):
                p.grad = v
        if len(values) == len(self.parameters):
            return GradientView(self.names, self.parameters, values), None
        index = [i for i, p in enumerate(self.parameters) if p.grad is not None]
        parameters = [self.parameters[i] for i in index]
        return GradientView([self.names[i] for i in index], parameters, values), index

    def _guarded_step(self, norm: Tensor, closures: Sequence[Closure]) -> None:
        """Let the optimizer step, unless the gradient's norm is not finite."""
        if self._needs_closure:
            if math.isfinite(norm.item()):
                self._closure_step(closures)
        elif norm.device.type != "cpu" and self._takes_found_inf():
            # The two attributes through which torch's own GradScaler speaks to fused optimizers.
            vars(self.optimizer).update(grad_scale=None, found_inf=_not_finite(norm))
            self.optimizer.step()
            del vars(self.optimizer)["grad_scale"], vars(self.optimizer)["found_inf"]
        elif math.isfinite(norm.item()):
            self._step()
        # Fused kernels write unnoticed: a graph from before would pass its backward with the new parameters.
        increment_version(self.parameters)

    def _takes_found_inf(self) -> bool:
        """Whether the optimizer can skip this step by itself, without the host's knowing."""
        takes = getattr(self.optimizer, "_step_supports_amp_scaling", False)
        return takes and not lacks_velocity(self.optimizer)

    def _closure_step(self, closures: Sequence[Closure]) -> None:
        """One step of an optimizer that evaluates again; undone when it meets a non-finite gradient."""

        def closure() -> float:
            # torch's convention: the transformed gradient at the parameters as they now are, and the loss.
            with torch.enable_grad():
                _, loss = self._evaluate(closures)
            view, index = self._view()
            if not math.isfinite(loss):  # log(x) below 0 is NaN, but its gradient 1 / x is not
                torch._foreach_mul_(view.dense(), math.nan)
                view.changed()
            if not (math.isfinite(view.norm.item()) and math.isfinite(self._transform(view).item())):
                self.monitor.observe_undone(view, index)
                raise _NonFiniteError
            return float(loss)

        before = [p.detach().clone() for p in self.parameters]
        try:
            self.optimizer.step(closure)
        except _NonFiniteError:
            with torch.no_grad():
                torch._foreach_copy_(self.parameters, before)
            if isinstance(self.optimizer, torch.optim.LBFGS):
                self.optimizer.state.clear()  # stopped halfway, its history fits no point any more

    def _autocast(self) -> torch.autocast | nullcontext[None]:
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, getattr(torch, self.precision))


def _not_finite(norm: Tensor) -> Tensor:
    """1.0 for a 0-d infinity or NaN, else 0.0, float32: in two kernels, where isfinite alone takes four."""
    flag = torch.empty((), device=norm.device)
    return torch.ne(norm - norm, 0, out=flag)  # infinity - infinity is NaN, which is unequal to all


class _NonFiniteError(Exception):
    """A gradient at a point that the optimizer tried is not finite."""
