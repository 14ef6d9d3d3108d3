"""Curvature and step size: what the quadratic model predicts, and how far the optimizer is from instability.

On a quadratic, an optimizer with a fixed linear update diverges along every eigenvector whose eigenvalue
exceeds a threshold that only its options decide. Training drifts towards that threshold and stays there
(Cohen et al. 2021, arXiv:2103.00065): sharpness / threshold near 1 is the edge of stability.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from core.curvature.products import Hessian, LinearOperator
from core.curvature.spectrum import eigenvalues
from core.gradients.norms import accumulation_dtype

Group = dict[str, Any]  # one of `optimizer.param_groups`: options of any type
WITH_THRESHOLD = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop)


@dataclass(frozen=True)
class Along:
    """The loss along a direction d to second order, L(t) = L + t g.d + t^2 d^T H d / 2; 0-d, on the device.

    Attributes:
        slope: g.d.
        bend: d^T H d.
        curvature: d^T H d / |d|^2, the Rayleigh quotient: between the lowest and the largest eigenvalue.
    """

    slope: Tensor
    bend: Tensor
    curvature: Tensor

    def change(self, t: float | Tensor = 1.0) -> Tensor:
        """Predicted L(t) - L; for d = -g and t = lr: -lr |g|^2 + lr^2 g^T H g / 2."""
        return t * self.slope + 0.5 * t * t * self.bend

    @property
    def newton_step(self) -> Tensor:
        """The t that minimises the model, -g.d / d^T H d; infinite where it has no minimum (d^T H d <= 0)."""
        return torch.where(self.bend > 0, -self.slope / self.bend, torch.inf)


def along(hessian: Hessian, direction: Tensor) -> Along:
    """Slope and curvature along a direction, by one product.

    Args:
        hessian: with the gradient at the same point.
        direction: d, [d]; the update that is about to be made, or -gradient.
    """
    wide = accumulation_dtype(hessian.device)
    d = direction.to(hessian.device, wide)
    bend = d @ hessian(d).to(wide)
    return Along(hessian.gradient.to(wide) @ d, bend, bend / (d @ d))


def momentum_threshold(
    lr: float, momentum: float = 0.0, *, dampening: float = 0.0, nesterov: bool = False
) -> float:
    """Largest stable eigenvalue of `torch.optim.SGD` on a quadratic: 2 / lr without momentum.

    With v <- b v + (1 - dampening) g it is (2 + 2 b) / (lr (1 - dampening)), for Nesterov's momentum
    (2 + 2 b) / (lr (1 + 2 b)).

    Args:
        lr: > 0.
        momentum: b, in [0, 1).
        dampening: in [0, 1).
        nesterov: look ahead.

    Source: Cohen et al. 2021, arXiv:2103.00065.
    """
    if nesterov:
        return (2 + 2 * momentum) / (lr * (1 + 2 * momentum))
    return (2 + 2 * momentum) / (lr * (1 - dampening if momentum else 1.0))


def adam_threshold(lr: float, beta1: float = 0.9) -> float:
    """Largest stable eigenvalue of P^-1 H for Adam, (2 + 2 beta1) / ((1 - beta1) lr): 38 / lr at beta1 = 0.9.

    Args:
        lr: > 0.
        beta1: in [0, 1).

    Source: Cohen et al. 2022, arXiv:2207.14484.
    """
    return (2 + 2 * beta1) / ((1 - beta1) * lr)


@dataclass(frozen=True)
class Stability:
    """How far an optimizer is from where it would diverge.

    Attributes:
        sharpness: largest eigenvalue of what the optimizer steps on: H for SGD, P^-1 H where it
            preconditions, with weight decay added; of H alone when the optimizer is not known.
        bound: an eigenvalue lies within this distance of it, see `Ritz.bounds`.
        threshold: the largest stable one; None when it is not known.
        reason: why there is no threshold; "" otherwise.
    """

    sharpness: float
    bound: float
    threshold: float | None
    reason: str = ""

    @property
    def ratio(self) -> float | None:
        """Sharpness / threshold: below 1 stable, near 1 at the edge, above 1 the sharpest direction grows."""
        return None if self.threshold is None else self.sharpness / self.threshold


@dataclass(frozen=True)
class UpdateRule:
    """An optimizer's update with its preconditioner held: x <- x - lr S (momentum of H x), and weight decay.

    Attributes:
        lr: the largest learning rate of the parameter groups, > 0.
        threshold: largest stable eigenvalue of S^(1/2) H S^(1/2) + shift.
        scale: diagonal of S: 1 / P, times the group's learning rate / `lr`; [d], or a number for all.
        shift: what weight decay adds to the diagonal; [d], or a number for all.
    """

    lr: float
    threshold: float
    scale: Tensor | float
    shift: Tensor | float

    def preconditioned(self, hessian: Hessian) -> LinearOperator:
        """The symmetric operator that `threshold` is about, in the dtype of the Hessian's products."""
        root, shift = (
            x.to(hessian.dtype) if isinstance(x, Tensor) else x for x in (self.scale**0.5, self.shift)
        )

        def product(vector: Tensor) -> Tensor:
            v = vector.to(hessian.dtype)
            bent = hessian(v * root).mul_(root)
            return bent if isinstance(shift, float) and shift == 0 else bent.add_(v * shift)

        return product


class UnknownRuleError(ValueError):
    """The stability threshold of this optimizer, in this state, is not known."""


def stability(
    optimizer: torch.optim.Optimizer, hessian: Hessian, generator: torch.Generator, *, steps: int = 20
) -> Stability:
    """Sharpness as the optimizer meets it, against its threshold.

    Args:
        optimizer: its options and state are read as they are now; schedules act through the group's lr.
        hessian: over the optimizer's parameters, in any order.
        generator: draws Lanczos' start.
        steps: products; 10 gave the largest eigenvalue of small networks to 4 % at worst, 20 to 1e-4.

    Raises:
        ValueError: the Hessian is over other parameters than the optimizer.
        FloatingPointError: a product with the Hessian is not finite.
    """
    try:
        rule = update_rule(optimizer, hessian.parameters)
    except UnknownRuleError as unknown:
        found = eigenvalues(hessian, hessian.size, generator, steps=steps, bottom=0)
        return Stability(float(found.top[0]), float(found.top_bounds[0]), None, str(unknown))
    found = eigenvalues(
        rule.preconditioned(hessian), hessian.size, generator, steps=steps, bottom=0, device=hessian.device
    )
    return Stability(float(found.top[0]), float(found.top_bounds[0]), rule.threshold)


def update_rule(optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor]) -> UpdateRule:
    """Read an optimizer's update off its options and state.

    Known are SGD, Adam, AdamW and RMSprop of torch with all their options but `maximize`; subclasses may do
    something else and are not. Learning rates and decays may differ between groups, momenta may not. Adam's
    bias corrections are those of its last step, exactly as torch applies them: P = (1 - beta1^t)
    (sqrt(v / (1 - beta2^t)) + eps). A parameter that never had a gradient does not move: its S is 0.

    Args:
        optimizer: any.
        parameters: its trainable parameters, in the order of the flat vectors.

    Raises:
        ValueError: `parameters` are others than the optimizer's.
        UnknownRuleError: no threshold is known; the message says why.
    """
    owner = {id(p): group for group in optimizer.param_groups for p in group["params"] if p.requires_grad}
    if len(owner) != len(parameters) or not all(id(p) in owner for p in parameters):
        raise ValueError("the Hessian must be over exactly the trainable parameters of the optimizer")
    groups: list[Group] = [owner[id(p)] for p in parameters]
    thresholds = {_relative_threshold(optimizer, group) for group in groups}
    if len(thresholds) > 1:
        raise UnknownRuleError("the parameter groups differ in momentum")
    lr = max(float(group["lr"]) for group in groups)
    if not lr > 0:
        raise UnknownRuleError("the learning rate is 0")
    threshold = thresholds.pop() / lr
    scales = [
        float(group["lr"]) / lr / _preconditioner(optimizer, p, group)
        for p, group in zip(parameters, groups, strict=True)
    ]
    # Coupled decay is part of the gradient and is preconditioned with it. Decoupled decay bypasses momentum:
    # at the edge, where x changes sign every step, lr * decay takes its share of the 2 that is allowed.
    shifts = [
        float(group["weight_decay"]) * (float(group["lr"]) * threshold / 2 if _decoupled(group) else scale)
        for scale, group in zip(scales, groups, strict=True)
    ]
    return UpdateRule(lr, threshold, _diagonal(scales, parameters), _diagonal(shifts, parameters))


def _relative_threshold(optimizer: torch.optim.Optimizer, group: Group) -> float:
    """Threshold times learning rate of one group."""
    kind = type(optimizer)
    if kind not in WITH_THRESHOLD:
        raise UnknownRuleError(f"no threshold is known for {kind.__qualname__}")
    if group["maximize"]:
        raise UnknownRuleError("no threshold is known for maximize=True")
    if "betas" in group:
        return adam_threshold(1.0, float(group["betas"][0]))
    return momentum_threshold(
        1.0, group["momentum"], dampening=group.get("dampening", 0.0), nesterov=group.get("nesterov", False)
    )


def _preconditioner(optimizer: torch.optim.Optimizer, p: Tensor, group: Group) -> Tensor | float:
    """Diagonal of P for one parameter, in its shape; infinite where the optimizer has not moved it."""
    if isinstance(optimizer, torch.optim.SGD):
        return 1.0
    state = optimizer.state.get(p)
    if not state:
        if not optimizer.state:
            raise UnknownRuleError(f"{type(optimizer).__qualname__} has not stepped yet")
        return math.inf
    wide = accumulation_dtype(p.device)
    if isinstance(optimizer, torch.optim.RMSprop):
        square = state["square_avg"].to(wide)
        if group["centered"]:
            square = square - state["grad_avg"].to(wide).square()
        return square.sqrt() + group["eps"]
    beta1, beta2 = (float(beta) for beta in group["betas"])
    t = float(state["step"])
    square = state["max_exp_avg_sq" if group["amsgrad"] else "exp_avg_sq"].to(wide)
    return (1 - beta1**t) * ((square / (1 - beta2**t)).sqrt() + group["eps"])


def _decoupled(group: Group) -> bool:
    return bool(group.get("decoupled_weight_decay", False))


def _diagonal(values: Sequence[Tensor | float], parameters: Sequence[Tensor]) -> Tensor | float:
    """One number when all parameters have the same, else [d]."""
    numbers = {value for value in values if not isinstance(value, Tensor)}
    if len(numbers) == 1 and not any(isinstance(value, Tensor) for value in values):
        return numbers.pop()
    wide = accumulation_dtype(parameters[0].device)
    return torch.cat(
        [
            torch.as_tensor(value, dtype=wide, device=p.device).expand(p.shape).reshape(-1)
            for value, p in zip(values, parameters, strict=True)
        ]
    )
