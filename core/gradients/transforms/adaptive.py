"""Clipping with thresholds that follow the weights or the history of the norms.

The history lives in `state` as tensors on the gradients' device and is updated with `torch.where`, so no
number is read back. Its tensors are replaced and never written into: a saved state stays what it was. A
non-finite norm (a step that will be skipped) never enters a history, and neither does a norm of zero (no
reward yet, a loss that is satisfied): a threshold of zero would let no later gradient through.
"""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Interval
from torch import Tensor

from core.checks import Finite, checked, require
from core.gradients.norms import GradientView, accumulation_dtype
from core.gradients.transforms.clipping import clip_to, row_values
from core.state import StateDict

SPREADLESS = 1e-6  # a deviation this small against its mean is rounding: the norms have no spread


@dataclass(frozen=True, kw_only=True)
@checked
class AGC:
    """Adaptive gradient clipping: no row's gradient may be large against the row's own weights.

        G_i <- G_i min(1, clipping max(|W_i|, eps) / |G_i|)

    for every unit i: an output row (index of the first dimension) of a matrix or a convolution, the whole
    tensor of a vector or a scalar. (A transposed convolution has its inputs first.) Of a sparse embedding
    gradient the rows that it has.

    Attributes:
        clipping: lambda, largest ratio of gradient norm to weight norm. The paper's 0.01 is for
            batches of 4096; smaller batches allow larger values.
        eps: weight norms below it count as it, so that zero weights can learn.
        exclude: parameters left as they are, by name, with the wildcards of fnmatch; the paper leaves out
            the last linear layer.

    Source: Brock et al. 2021, arXiv:2102.06171, eq. 3 and section 4.1.
    """

    clipping: Annotated[float, Gt(0), Finite] = 0.01
    eps: Annotated[float, Gt(0), Finite] = 1e-3
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        named = isinstance(self.exclude, tuple | list) and all(isinstance(p, str) for p in self.exclude)
        require(named, "exclude", self.exclude, "a list of parameter names or patterns")

    def __call__(self, gradients: GradientView, state: StateDict) -> None:
        """Scale every unit by its own factor."""
        for name, parameter, value in zip(
            gradients.names, gradients.parameters, gradients.values, strict=True
        ):
            if any(fnmatchcase(name, pattern) for pattern in self.exclude):
                continue
            rows, weights = row_values(name, value), parameter.detach()
            if value.is_sparse and parameter.ndim > 1:
                weights = weights[value.indices()[0]]
            limit = self.clipping * _unit_norms(weights).clamp(min=self.eps)
            size = _unit_norms(rows)
            factor = torch.where(size > limit, limit / size, 1.0)
            rows.mul_(factor.to(torch.promote_types(rows.dtype, torch.float32)))
        gradients.changed()


@dataclass(frozen=True, kw_only=True)
@checked
class AutoClip:
    """Clip to a percentile of the joint norms seen so far.

        threshold_t = percentile_p(|g_(t - window + 1)|, ..., |g_t|)

    The history includes the current step, unless its norm is zero, so a spike raises the threshold at once by
    its own weight among the window. Between two norms the percentile is interpolated linearly.

    Attributes:
        percentile: p; 10 clips about 90 % of the steps, 100 none.
        window: steps of history. The paper keeps all of them.

    Source: Seetharaman et al. 2020, arXiv:2007.14469, algorithm 1.
    """

    percentile: Annotated[float, Interval(gt=0, le=100)] = 10.0
    window: Annotated[int, Ge(1)] = 1000

    def __call__(self, gradients: GradientView, state: StateDict) -> None:
        """Enter the norm into the history and clip to the percentile."""
        norm = gradients.norm
        if not state:
            state["norms"] = norm.new_full((self.window,), torch.nan)
            state["count"] = torch.zeros((), dtype=torch.int64, device=norm.device)
        norms, count, usable = state["norms"], state["count"], _usable(norm)
        place = (count % self.window).reshape(1)
        norms = norms.index_copy(0, place, torch.where(usable, norm, norms[place]).reshape(1))
        state["norms"], state["count"] = norms, count + usable
        clip_to(gradients, torch.nanquantile(norms, self.percentile / 100))


@dataclass(frozen=True, kw_only=True)
@checked
class ZClip:
    """Clip a joint norm n that is a statistical outlier against a running mean m and deviation s.

        z = (n - m) / (s + 1e-6);   n* = m + z_threshold^2 s / z  if z > z_threshold, else n
        clip to min(n*, max_norm);  m <- alpha m + (1 - alpha) n*;  s^2 <- alpha s^2 + (1 - alpha) (n* - m)^2

    The larger the outlier, the further below m + z_threshold s it ends. The first `warmup_steps` usable
    norms (finite, not zero) only give m and s^2 (mean and population variance) and are clipped to `max_norm`
    alone.

    One departure from the paper: while s <= 1e-6 m, where it would freeze for good, nothing is an outlier.
    This happens after norms that were all equal, and after norms that stayed far above m for so long (some
    800 steps at alpha = 0.97) that s has decayed; the next norm then enters unclipped and s grows again.

    Attributes:
        alpha: smoothing of mean and variance; 0.97 averages over about 33 steps.
        z_threshold: deviations above the mean from which a norm is an outlier.
        warmup_steps: norms of the first estimate.
        max_norm: limit on the joint norm that holds at every step; None = no such limit.

    Source: Kumar et al. 2025, arXiv:2504.02507, algorithm 1 (reciprocal clipping) and table 1.
    """

    alpha: Annotated[float, Interval(ge=0, lt=1)] = 0.97
    z_threshold: Annotated[float, Gt(0), Finite] = 2.5
    warmup_steps: Annotated[int, Ge(1)] = 25
    max_norm: Annotated[float | None, Gt(0), Finite] = 1.0

    def __call__(self, gradients: GradientView, state: StateDict) -> None:
        """Clip, then enter what the norm has become into mean and variance."""
        norm = gradients.norm
        zero = torch.zeros_like(norm)
        count, mean, var = (state.get(name, zero) for name in ("count", "mean", "var"))
        warm, std = count < self.warmup_steps, var.sqrt()
        z = (norm - mean) / (std + 1e-6)
        outlier = ~warm & (std > SPREADLESS * mean) & (z > self.z_threshold)
        target = torch.where(outlier, mean + self.z_threshold**2 * std / z, norm)

        weight = torch.where(warm, 1 / (count + 1), 1 - self.alpha)  # of the new norm among the old ones
        new_mean = mean + weight * (target - mean)
        # Welford's form gives the warm-up's variance exactly; the paper's takes the new mean twice.
        spread = (target - torch.where(warm, mean, new_mean)) * (target - new_mean)
        new_var = var + weight * (spread - var)
        usable = _usable(norm)
        state["count"] = count + usable
        state["mean"] = torch.where(usable, new_mean, mean)
        state["var"] = torch.where(usable, new_var, var)
        clip_to(gradients, target if self.max_norm is None else target.clamp(max=self.max_norm))


@dataclass(frozen=True, kw_only=True)
@checked
class AdaGC:
    """Clip every parameter's gradient against the running average of its own clipped norms.

        g_l <- g_l min(1, lambda_rel gamma_l / |g_l|);   gamma_l <- beta gamma_l + (1 - beta) |g_l|

    In the first `warmup_steps` steps (skipped ones do not count) all gradients are clipped together to
    `lambda_abs`, and gamma_l is the smallest clipped norm so far. Two departures from the paper, both only
    where it would divide by zero or freeze a parameter for good: a gradient of exactly zero does not enter
    gamma_l, and a parameter whose first gradient comes after the warm-up is not clipped at that step.

    Attributes:
        lambda_rel: largest ratio of a norm to the average of those before. The average can
            grow by (1 - beta) (lambda_rel - 1) per step at most: 0.1 % with the defaults.
        lambda_abs: largest joint norm during the warm-up.
        beta: smoothing of the average.
        warmup_steps: finite steps of the warm-up.

    Source: Wang et al. 2025, arXiv:2502.11034, algorithm 1.
    """

    lambda_rel: Annotated[float, Gt(0), Finite] = 1.05
    lambda_abs: Annotated[float, Gt(0), Finite] = 1.0
    beta: Annotated[float, Interval(ge=0, lt=1)] = 0.98
    warmup_steps: Annotated[int, Ge(1)] = 100

    def __call__(self, gradients: GradientView, state: StateDict) -> None:
        """Clip, then enter the clipped norms into the averages."""
        index = _places(gradients, state)
        gamma = state["gamma"] if index is None else state["gamma"][index]
        norm, norms = gradients.norm, gradients.norms
        steps = torch.as_tensor(state["steps"], device=norm.device)
        warm, usable = steps < self.warmup_steps, norm.isfinite() & (norms > 0)
        limit = self.lambda_rel * gamma
        jointly = torch.where(norm > self.lambda_abs, self.lambda_abs / norm, 1.0)
        gradients.shrink_each_(torch.where(warm, jointly, torch.where(norms > limit, limit / norms, 1.0)))
        clipped = gradients.norms
        average = self.beta * gamma + (1 - self.beta) * clipped
        average = torch.where(gamma.isfinite(), average, clipped)
        new = torch.where(usable, torch.where(warm, torch.minimum(gamma, clipped), average), gamma)
        state["gamma"] = new if index is None else state["gamma"].index_copy(0, index, new)
        state["steps"] = steps + norm.isfinite()


def _places(gradients: GradientView, state: StateDict) -> Tensor | None:
    """Where each gradient's average stands in `state["gamma"]`; None if just in this order.

    A parameter can be without gradient at some steps; it is entered by its name when it first has one, with
    an infinite average, which limits nothing.
    """
    if not state:
        state["steps"], state["names"] = 0, []
        state["gamma"] = gradients.norms.new_zeros(0)
    names = list(gradients.names)
    if names == state["names"]:
        return None
    known = set(state["names"])
    unknown = [name for name in names if name not in known]
    if unknown:
        state["names"] = state["names"] + unknown
        state["gamma"] = torch.cat([state["gamma"], gradients.norms.new_full((len(unknown),), torch.inf)])
    places = {name: i for i, name in enumerate(state["names"])}
    return torch.tensor([places[name] for name in names], device=gradients.norms.device)


def _usable(norm: Tensor) -> Tensor:
    """Whether a norm may enter a history, 0-d bool."""
    return norm.isfinite() & (norm > 0)


def _unit_norms(x: Tensor) -> Tensor:
    """Norm of every row, [rows, 1, ...]; of a vector or a scalar as a whole, 0-d."""
    rows = x.ndim > 1
    dims = tuple(range(1, x.ndim)) if rows else None
    return torch.linalg.vector_norm(x, dim=dims, keepdim=rows, dtype=accumulation_dtype(x.device))
