"""`GradientStep`: from a closure to an update, and everything that is known about the gradient on the way.

    zero -> closure -> backward -> average over ranks -> measure -> transform -> guard -> apply -> measure

One object owns the named parameters of one player and their optimizer. AMP, accumulation, several ranks,
several losses, closures that are called more than once (LBFGS, SAM) and the two halves that two-player
schemes need all live here, so that a training loop only says what the loss is.
"""

import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from functools import reduce
from typing import Literal

import torch
from torch import Tensor, nn

from core.gradients.monitor import Monitor, MonitorConfig
from core.gradients.transform import Combine, Transform
from core.gradients.view import GradientView
from core.state import StateDict

Metrics = dict[str, Tensor]  # 0-d, detached, on the device
Loss = Tensor | Mapping[str, Tensor]
Closure = Callable[[], tuple[Loss, Metrics]]


class GradientStep:
    """Takes optimizer steps from closures and watches every gradient.

        step = GradientStep(model, torch.optim.Adam(model.parameters()), [GlobalNorm(max_norm=0.5)])
        metrics = step(lambda: (loss(model, batch), {}))

    Only its own parameters receive a gradient: other networks in the graph stay untouched and cost no weight
    gradients. A step whose gradient has a non-finite number is skipped, counted and localised; it never
    reaches the optimizer. On an accelerator that decision needs no synchronisation for optimizers that take
    `found_inf` (fused SGD, Adam, AdamW, Adagrad); for others the host waits once per step.

    Args:
        parameters: a module, or pairs of name and parameter; frozen parameters are left out, tied ones
            counted once.
        optimizer: any `torch.optim.Optimizer` over exactly these parameters.
        transforms: applied to the gradient in order (clipping and the like). One `Combine` among them
            (PCGrad) makes one gradient of several named losses; without it they are summed.
        name: with more than one step in a run, its name: the tags become "<name>/gradient/norm".
        precision: "float32"; "bfloat16" or "float16" runs the closures under autocast, the latter with loss
            scaling.
        monitor: what is measured.

    Raises:
        ValueError: no trainable parameter, or the optimizer holds other parameters than these.
    """

    def __init__(
        self,
        parameters: nn.Module | Iterable[tuple[str, Tensor]],
        optimizer: torch.optim.Optimizer,
        transforms: Sequence[Transform | Combine] = (),
        *,
        name: str = "",
        precision: Literal["float32", "bfloat16", "float16"] = "float32",
        monitor: MonitorConfig | None = None,
    ) -> None:
        named = _trainable(parameters)
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        if {id(p) for p in named.values()} != held:
            raise ValueError("the optimizer must hold exactly the trainable parameters given to GradientStep")
        self.name = name
        self.names = list(named)
        self.parameters = list(named.values())
        self.device = self.parameters[0].device
        self.optimizer = optimizer
        self.transforms = [t for t in transforms if not isinstance(t, Combine)]
        self.combine = _only([t for t in transforms if isinstance(t, Combine)])
        self.memories: list[StateDict] = [{} for _ in self.transforms]
        self.combine_memory: StateDict = {}
        self.precision = precision
        self.scaler = torch.amp.GradScaler(self.device.type) if precision == "float16" else None
        self.base_lrs = [group["lr"] for group in optimizer.param_groups]
        self.monitor = Monitor(self.names, self.parameters, monitor or MonitorConfig(), name and f"{name}/")
        self._needs_closure = _step_needs_closure(optimizer)

    def __call__(self, *closures: Closure) -> Metrics:
        """Take one step.

        Args:
            closures: each returns a loss, or several by name, and its metrics. Several closures are the
                micro-batches of one step (gradient accumulation): their losses are averaged. Optimizers that
                look more than once (LBFGS, SAM) call them again, so a closure must not consume its batch.

        Returns:
            The closures' own metrics at the first evaluation, averaged; what is known of the gradient is in
            `monitor`.

        Raises:
            ValueError: a loss is not a scalar, or does not depend on these parameters.
        """
        metrics = self.compute(*closures)
        self.apply(*closures)
        return metrics

    def compute(self, *closures: Closure) -> Metrics:
        """First half of a step: the gradient at the current parameters, averaged over ranks, in `.grad`."""
        metrics, _ = self._evaluate(closures)
        return metrics

    def apply(self, *closures: Closure) -> None:
        """Second half: measure, transform, guard and apply the gradient that is in `.grad`.

        Args:
            closures: needed only by an optimizer that evaluates again.
        """
        view, index = self._view()
        self.monitor.observe_gradient(view, index)
        norm = view.norm
        self._transform(view)
        self.monitor.observe_transformed(view, index)
        before = self.monitor.before_update()
        self._guarded_step(norm, closures)
        self.monitor.after_update(before)
        if self.scaler:
            self.scaler.update()

    def set_lr_scale(self, scale: float) -> None:
        """Set every group's learning rate to `scale` times the one it was built with."""
        for group, lr in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["lr"] = lr * scale

    def state_dict(self) -> StateDict:
        """Optimizer, loss scale and half-filled monitor window."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict() if self.scaler else None,
            "transforms": [dict(memory) for memory in self.memories],
            "combine": dict(self.combine_memory),
            "monitor": self.monitor.state_dict(),
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`."""
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scaler:
            self.scaler.load_state_dict(state["scaler"])
        self.memories = [_on(self.device, memory) for memory in state["transforms"]]
        self.combine_memory = _on(self.device, state["combine"])
        self.monitor.load_state_dict(state["monitor"])

    def _evaluate(self, closures: Sequence[Closure]) -> tuple[Metrics, float | Tensor]:
        """Gradient of the mean loss into `.grad`; the metrics, and the loss if the optimizer asks for it."""
        for p in self.parameters:
            p.grad = None
        collected: list[Metrics] = []
        total: float | Tensor = 0.0
        for closure in closures:
            with self._autocast():
                loss, metrics = closure()
            losses = dict(loss) if isinstance(loss, Mapping) else {"loss": loss}
            self._backward(losses, 1 / len(closures))
            if self._needs_closure:
                total = total + sum(term.detach() for term in losses.values()) / len(closures)
            collected.append(metrics)
        if self.scaler:
            self.scaler.unscale_(self.optimizer)
        _average_over_ranks(self.parameters)
        if len(collected) == 1:
            return collected[0], total
        return {key: torch.stack([m[key] for m in collected]).mean() for key in collected[0]}, total

    def _backward(self, losses: dict[str, Tensor], weight: float) -> None:
        """Add the weighted gradient of the losses to `.grad`."""
        for name, loss in losses.items():
            if loss.dim() or not loss.requires_grad:
                reason = (
                    f"has shape {tuple(loss.shape)}" if loss.dim() else "does not depend on any parameter"
                )
                raise ValueError(f"the loss {name!r} must be a scalar with a gradient; it {reason}")
        if self.combine is None:
            total = reduce(torch.add, losses.values())
            torch.autograd.backward(self._scaled(total, weight), inputs=self.parameters)
            return
        last = len(losses) - 1
        by_name = {
            name: [
                torch.zeros_like(p) if g is None else g
                for p, g in zip(
                    self.parameters,
                    torch.autograd.grad(
                        self._scaled(loss, weight), self.parameters, retain_graph=i < last, allow_unused=True
                    ),
                    strict=True,
                )
            ]
            for i, (name, loss) in enumerate(losses.items())
        }
        for p, gradient in zip(
            self.parameters, self.combine.combine(by_name, self.combine_memory), strict=True
        ):
            p.grad = gradient if p.grad is None else p.grad + gradient

    def _scaled(self, loss: Tensor, weight: float) -> Tensor:
        """The loss as backward shall see it: its share of the micro-batches, and AMP's scale."""
        weighted = loss if weight == 1.0 else loss * weight
        return self.scaler.scale(weighted) if self.scaler else weighted

    def _transform(self, view: GradientView) -> None:
        for transform, memory in zip(self.transforms, self.memories, strict=True):
            transform(view, memory)

    def _view(self) -> tuple[GradientView, list[int] | None]:
        """The gradients that are there, and their positions unless none is missing."""
        values = [p.grad for p in self.parameters if p.grad is not None]
        if not values:
            raise ValueError(
                "no parameter of this GradientStep has a gradient; is the loss detached from it?"
            )
        if any(v.is_sparse for v in values):
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
                self.optimizer.step(self._reevaluate(closures))
        elif norm.device.type != "cpu" and getattr(self.optimizer, "_step_supports_amp_scaling", False):
            # The two attributes through which torch's own GradScaler speaks to fused optimizers.
            vars(self.optimizer).update(grad_scale=None, found_inf=(~norm.isfinite()).float())
            self.optimizer.step()
            del vars(self.optimizer)["grad_scale"], vars(self.optimizer)["found_inf"]
        elif math.isfinite(norm.item()):
            self.optimizer.step()

    def _reevaluate(self, closures: Sequence[Closure]) -> Callable[[], float]:
        """The closure of torch's convention: the gradient, transformed, at the parameters as they now are."""

        def closure() -> float:
            with torch.enable_grad():
                _, loss = self._evaluate(closures)
            view, _ = self._view()
            self._transform(view)
            return float(loss)

        return closure

    def _autocast(self) -> torch.autocast | nullcontext[None]:
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, getattr(torch, self.precision))


def _trainable(parameters: nn.Module | Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """Trainable parameters by name, each once."""
    pairs = parameters.named_parameters() if isinstance(parameters, nn.Module) else parameters
    named: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, parameter in pairs:
        if parameter.requires_grad and id(parameter) not in seen:
            seen.add(id(parameter))
            named[name] = parameter
    if not named:
        raise ValueError("GradientStep needs at least one parameter that requires a gradient, got none")
    return named


def _only(combiners: Sequence[Combine]) -> Combine | None:
    """The one transform that combines losses, if there is one."""
    if len(combiners) > 1:
        raise ValueError(f"one transform can combine the losses, got {len(combiners)}: {combiners}")
    return combiners[0] if combiners else None


def _on(device: torch.device, memory: StateDict) -> StateDict:
    """A saved memory, its tensors on the device."""
    return {key: v.to(device) if isinstance(v, Tensor) else v for key, v in memory.items()}


def _step_needs_closure(optimizer: torch.optim.Optimizer) -> bool:
    """Whether `optimizer.step` cannot be called without a closure (LBFGS, SAM and the like)."""
    closure = inspect.signature(type(optimizer).step).parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty


def _average_over_ranks(parameters: Sequence[Tensor]) -> None:
    """Replace every gradient by its mean over the ranks of `torch.distributed`, in one flat message.

    A gradient missing on one rank counts as zero there; missing everywhere, it comes back as zero.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flat = torch.cat([g.flatten() for g in gradients])
    torch.distributed.all_reduce(flat)
    flat /= torch.distributed.get_world_size()
    for p, g in zip(parameters, flat.split([g.numel() for g in gradients]), strict=True):
        p.grad = g.view_as(p)
