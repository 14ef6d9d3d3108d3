"""`CurvatureProbe`: the curvature of a training loss at a fixed interval, as curves.

A probe changes nothing: it differentiates the objective itself, so no `.grad`, parameter, buffer or global
random number is touched, and a run is the same to the bit with it and without it.
"""

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn

from core.checks import checked, require
from core.curvature.kernels import twice_differentiable
from core.curvature.products import Hessian
from core.curvature.spectrum import Ritz, eigenvalues, lanczos
from core.curvature.stability import Along, UnknownRuleError, UpdateRule, along, update_rule
from core.curvature.trace import hutch_pp
from core.gradients.measured import Measured
from core.gradients.objective import Objective


@dataclass(frozen=True, kw_only=True)
@checked
class CurvatureProbe:
    """Measures the Hessian of an objective over the parameters of one `GradientStep`.

    It costs one gradient, `lanczos_steps` + 1 products of 1.5 to 2 gradients each, and the float64 basis:
    with the defaults 23 gradients on 5 k parameters and 47 on 1 M, one CPU thread. With `stability`, an
    optimizer that preconditions (Adam, RMSprop) costs as much again.

    Attributes:
        interval: optimizer steps between two measurements.
        lanczos_steps: products for the eigenvalues; 10 gave the largest to 4 % at worst, see `lowest` too.
        trace_products: products for the trace by Hutch++; 0 = no trace.
        stability: measure what the optimizer steps on against its stability threshold.
    """

    interval: Annotated[int, Ge(1)] = 500
    lanczos_steps: Annotated[int, Ge(2)] = 10
    trace_products: int = 0
    stability: bool = True

    def __post_init__(self) -> None:
        allowed = self.trace_products == 0 or self.trace_products >= 6
        require(allowed, "trace_products", self.trace_products, "0 or an integer >= 6")

    def check(self, network: nn.Module) -> None:
        """Any network will do."""

    def __call__(self, objective: Objective, step: Measured, generator: torch.Generator) -> dict[str, float]:
        """Measure once, at the parameters as they now are.

        Args:
            objective: the loss on a frozen batch; parameters of the step that it does not reach count zero.
            step: the `GradientStep` of these parameters; its optimizer gives the stability threshold.
            generator: draws the random vectors; the only thing that moves.

        Returns:
            curvature/sharpness: the largest eigenvalue of the Hessian;
            curvature/lowest: the lowest, from above: 10 steps fell a third short at worst where it is a
                tenth of the largest, and gave a positive number where it is below 1 % of it;
            curvature/negative_share: estimated share of the eigenvalues below -1 % of the largest |one|;
            curvature/along_gradient: g^T H g / |g|^2;
            curvature/newton_step: |g|^2 / g^T H g, the learning rate that would minimise the quadratic model
                along -g; left out where that has no minimum;
            curvature/trace: by Hutch++, with `trace_products`;
            curvature/stability: sharpness / threshold as the optimizer meets them, see `update_rule`;
            curvature/predicted_decrease: by how much one step of the optimizer, with its learning rate and
                its preconditioner as they stand but without momentum, clipping and decay, lowers the
                objective by the quadratic model; negative where the step is too long.
            The last two only with `stability` and an optimizer that is known. Nothing at all where the
            gradient or a product is not finite: there is no curvature to speak of.

        Raises:
            RuntimeError: a kernel of the network cannot be differentiated twice.
        """
        with twice_differentiable(objective.module):
            hessian = Hessian(objective(), step.parameters)
        if not hessian.gradient.isfinite().all():
            return {}
        try:
            values = self._measure(hessian, step.optimizer, generator)
        except FloatingPointError:
            return {}
        return {f"curvature/{name}": value for name, value in values.items() if math.isfinite(value)}

    def _measure(
        self, hessian: Hessian, optimizer: torch.optim.Optimizer, generator: torch.Generator
    ) -> dict[str, float]:
        ritz = lanczos(hessian, hessian.size, self.lanczos_steps, generator).ritz()
        downhill = along(hessian, -hessian.gradient)
        values = {
            "sharpness": float(ritz.values[-1]),
            "lowest": float(ritz.values[0]),
            "negative_share": ritz.negative_share,
            "along_gradient": float(downhill.curvature),
            "newton_step": float(downhill.newton_step),
        }
        if self.trace_products:
            trace = hutch_pp(hessian, hessian.size, generator, products=self.trace_products)
            values["trace"] = trace.value
        if not self.stability:
            return values
        try:
            rule = update_rule(optimizer, hessian.parameters)
        except UnknownRuleError:
            return values
        values["stability"] = self._sharpness(rule, hessian, ritz, generator) / rule.threshold
        return values | {"predicted_decrease": -float(_change(rule, hessian, downhill))}

    def _sharpness(self, rule: UpdateRule, hessian: Hessian, ritz: Ritz, generator: torch.Generator) -> float:
        """Largest eigenvalue of what the optimizer steps on; no new products where that is H and a shift."""
        if not isinstance(rule.scale, Tensor) and not isinstance(rule.shift, Tensor):
            return rule.scale * float(ritz.values[-1]) + rule.shift
        found = eigenvalues(
            rule.preconditioned(hessian),
            hessian.size,
            generator,
            steps=self.lanczos_steps,
            bottom=0,
            device=hessian.device,
        )
        return float(found.top[0])


def _change(rule: UpdateRule, hessian: Hessian, downhill: Along) -> Tensor:
    """Predicted change of the loss over -lr S g."""
    if not isinstance(rule.scale, Tensor):
        return downhill.change(rule.lr * rule.scale)
    return along(hessian, -rule.lr * rule.scale * hessian.gradient).change()
