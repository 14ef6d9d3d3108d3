"""How an optimizer takes its step: never with a gradient that is not finite, and by the shortest way.

torch's fused Adam is called without its bookkeeping: the same kernel on the same state, in a fraction of the
time. `torch.optim.Adam(fused=True).step()` spends four fifths of its 105 us (5 k parameters, one CPU thread)
on grouping tensors, profiler marks and hooks that are not registered: more than all measurements of a
`GradientStep` together. Where none of that has an effect, the kernel is called directly; the numbers are the
same to the bit. In any other case the optimizer's own `step` is called.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.optim.optimizer as registry
from torch import Tensor

KNOWN = (torch.optim.Adam, torch.optim.AdamW)


@dataclass(frozen=True)
class _Group:
    """One parameter group as the kernel wants it: aligned lists, the tensors those of the optimizer."""

    options: dict
    parameters: list[Tensor]
    exp_avgs: list[Tensor]
    exp_avg_sqs: list[Tensor]
    maxima: list[Tensor]
    steps: list[Tensor]
    counts: Tensor  # [P], what `steps` are views of: counting is one addition, not one per parameter


class OptimizerStep:
    """Calls `optimizer.step()`, or the fused kernel directly where that does the same.

    Args:
        optimizer: any optimizer; the kernel is called directly only for torch's own fused Adam and AdamW on
            the CPU.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        self._groups: list[_Group] | None = None
        self._state: object = None  # whose tensors are in the groups; loading a state replaces it

    def __call__(self) -> None:
        """Take the step with the gradients that are in `.grad`."""
        optimizer = self.optimizer
        if type(optimizer) not in KNOWN or _observed(optimizer):
            optimizer.step()
            return
        if self._groups is None or not self._current():
            self._groups, self._state = _groups(optimizer), optimizer.state
        gradients = [[p.grad for p in group.parameters] for group in self._groups or ()]
        if not gradients or not all(map(_usable, self._groups or (), gradients)):
            optimizer.step()
            return
        with torch.no_grad():
            for group, values in zip(self._groups or (), gradients, strict=True):
                _step(group, values)

    def guarded(self, norm: Tensor) -> None:
        """Take the step unless the norm of the gradient, 0-d, is not finite."""
        optimizer = self.optimizer
        if norm.device.type != "cpu" and takes_found_inf(optimizer):
            # The two attributes through which torch's own GradScaler instructs fused optimizers.
            vars(optimizer).update(grad_scale=None, found_inf=not_finite(norm))
            optimizer.step()
            del vars(optimizer)["grad_scale"], vars(optimizer)["found_inf"]
        elif math.isfinite(norm.item()):
            self()

    def undoable(self, closure: Callable[[], float], parameters: list[Tensor]) -> None:
        """Take the step of an optimizer that evaluates again; undo it after a `NonFiniteError`."""
        before = [p.detach().clone() for p in parameters]
        try:
            self.optimizer.step(closure)
        except NonFiniteError:
            with torch.no_grad():
                torch._foreach_copy_(parameters, before)
            if isinstance(self.optimizer, torch.optim.LBFGS):
                self.optimizer.state.clear()  # interrupted halfway, its history belongs to no point

    def _current(self) -> bool:
        """Whether the tensors of the groups are still those of the optimizer."""
        groups, optimizer = self._groups or [], self.optimizer
        return (
            self._state is optimizer.state
            and len(groups) == len(optimizer.param_groups)
            and sum(len(group.parameters) for group in groups) == len(optimizer.state)
            and all(
                group.options is options
                and optimizer.state[group.parameters[0]].get("exp_avg") is group.exp_avgs[0]
                for group, options in zip(groups, optimizer.param_groups, strict=True)
            )
        )


class NonFiniteError(Exception):
    """A gradient at a point that the optimizer tried is not finite."""


def leave_fused(optimizer: torch.optim.Optimizer) -> None:
    """Let torch choose another implementation from now on, also for the optimizer inside SAM.

    The fused kernels of SGD and Adagrad take no sparse gradients; Adam refuses them with its own message.
    """
    fused = [group for group in optimizer.param_groups if group.get("fused")]
    for group in fused:
        group["fused"] = None
    if fused:
        vars(optimizer)["_step_supports_amp_scaling"] = False  # as if it had never been fused


def takes_found_inf(optimizer: torch.optim.Optimizer) -> bool:
    """Whether this step of the optimizer can be skipped by its `found_inf`, without a synchronisation."""
    takes = getattr(optimizer, "_step_supports_amp_scaling", False)
    return takes and not lacks_velocity(optimizer)


def not_finite(norm: Tensor) -> Tensor:
    """1.0 for a 0-d infinity or NaN, else 0.0, float32: in two kernels, where isfinite alone takes four."""
    flag = torch.empty((), device=norm.device)
    return torch.ne(norm - norm, 0, out=flag)  # infinity - infinity is NaN, which is unequal to all


def lacks_velocity(optimizer: torch.optim.Optimizer) -> bool:
    """Whether SGD would begin a momentum buffer now.

    Its fused kernel leaves a buffer uninitialised when `found_inf` tells it to skip the step that would have
    filled it.
    """
    return isinstance(optimizer, torch.optim.SGD) and any(
        optimizer.state.get(p, {}).get("momentum_buffer") is None
        for group in optimizer.param_groups
        if group["momentum"]
        for p in group["params"]
        if p.grad is not None
    )


def _step(group: _Group, gradients: list[Any]) -> None:
    """What `torch.optim.Adam` does for one group with `fused=True`."""
    options = group.options
    group.counts.add_(1)
    kernel = torch._fused_adamw_ if options["decoupled_weight_decay"] else torch._fused_adam_
    kernel(
        group.parameters,
        gradients,
        group.exp_avgs,
        group.exp_avg_sqs,
        group.maxima,
        group.steps,
        amsgrad=options["amsgrad"],
        lr=options["lr"],
        beta1=options["betas"][0],
        beta2=options["betas"][1],
        weight_decay=options["weight_decay"],
        eps=options["eps"],
        maximize=options["maximize"],
        grad_scale=None,
        found_inf=None,
    )


def _observed(optimizer: torch.optim.Optimizer) -> bool:
    """Whether a call of `step` would be noticed: by hooks, or by a scheduler that has wrapped it."""
    return bool(
        "step" in vars(optimizer)
        or optimizer._optimizer_step_pre_hooks
        or optimizer._optimizer_step_post_hooks
        or registry._global_optimizer_pre_hooks
        or registry._global_optimizer_post_hooks
    )


def _groups(optimizer: torch.optim.Optimizer) -> list[_Group] | None:
    """The optimizer's groups; None while a parameter has no state, or is not one the kernel takes."""
    groups = []
    for options in optimizer.param_groups:
        parameters = options["params"]
        states = [optimizer.state.get(p) for p in parameters]
        if not all(states) or len({p.dtype for p in parameters}) != 1:
            return None
        if any(p.device.type != "cpu" for p in parameters):
            return None
        known = [s for s in states if s]
        exp_avgs, exp_avg_sqs = ([s[key] for s in known] for key in ("exp_avg", "exp_avg_sq"))
        maxima = [s["max_exp_avg_sq"] for s in known] if options["amsgrad"] else []
        counts = torch.stack([s["step"] for s in known])
        steps = list(counts.unbind())
        for state, step in zip(known, steps, strict=True):
            state["step"] = step
        groups.append(_Group(options, parameters, exp_avgs, exp_avg_sqs, maxima, steps, counts))
    return groups


def _usable(group: _Group, gradients: Sequence[Tensor | None]) -> bool:
    """Whether the options are those that the kernel takes as they are, and every gradient is there."""
    options = group.options
    dtype = group.parameters[0].dtype
    return (
        options["fused"] is True
        and type(options["lr"]) is float
        and not (options["differentiable"] or options["capturable"])
        and type(options["betas"][0]) is float
        and options["amsgrad"] == bool(group.maxima)
        and all(g is not None and g.dtype == dtype and not g.is_sparse for g in gradients)
    )
