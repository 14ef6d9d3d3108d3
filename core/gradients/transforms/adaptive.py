"""Clipping with thresholds that follow the training: the weights, or the history of the norms.

The history lives in `state` as tensors on the gradients' device and is updated with `torch.where`, so no
number is read back. Its tensors are replaced and never written into: a saved state stays what it was. A
non-finite norm (a step that will be skipped) never enters a history, and neither does a norm of zero (no
reward yet, a loss that is satisfied): a threshold of zero would let no later gradient through.
"""

from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor

from core.checks import require
from core.gradients.norms import accumulation_dtype
from core.gradients.transforms.clipping import clip_to, row_values
from core.gradients.transforms.protocol import GradientView
from core.state import StateDict

SPREADLESS = 1e-6  # a deviation this small against its mean is rounding: the norms have no spread


@dataclass(frozen=True, kw_only=True)
class AGC:
    """Adaptive gradient clipping: no row's gradient may be large against the row's own weights.

        G_i <- G_i min(1, clipping max(|W_i|, eps) / |G_i|)

    for every unit i: an output row (index of the first dimension) of a matrix or a convolution, the whole
    tensor of a vector or a scalar. (A transposed convolution has its inputs first.) Of a sparse embedding
    gradient the rows that it has.

    Attributes:
        clipping: lambda, largest ratio of gradient norm to weight norm; > 0, finite. The paper's 0.01 is for
            batches of 4096; smaller batches bear larger values.
        eps: weight norms below it count as it, so that zero weights can learn; > 0, finite.
        exclude: parameters left as they are, by name, with the wildcards of fnmatch; the paper leaves out
            the last linear layer.

    Source: Brock et al. 2021, arXiv:2102.06171, eq. 3 and section 4.1.
    """

    clipping: float = 0.01
    eps: float = 1e-3
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("clipping", "eps"):
            value = getattr(self, name)
            require(0 < value < float("inf"), name, value, "a finite number > 0")
        words = isinstance(self.exclude, tuple | list) and all(isinstance(p, str) for p in self.exclude)
        require(words, "exclude", self.exclude, "a list of parameter names or patterns")

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
class AutoClip:
    """Clip to a percentile of the joint norms seen so far.

        threshold_t = percentile_p(|g_(t - window + 1)|, ..., |g_t|)

    The history includes the current step, unless its norm is zero, so a spike raises the threshold at once by
    its own weight among the window. Between two norms the percentile is interpolated linearly.

    Attributes:
        percentile: p, in (0, 100]; 10 clips about 90 % of the steps, 100 none.
        window: steps of history; >= 1. The paper keeps all of them.

    Source: Seetharaman et al. 2020, arXiv:2007.14469, algorithm 1.
    """

    percentile: float = 10.0
    window: int = 1000

    def __post_init__(self) -> None:
        require(0 < self.percentile <= 100, "percentile", self.percentile, "in (0, 100]")
        require(self.window >= 1, "window", self.window, "an integer >= 1")

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
class ZClip:
    """Clip a joint norm n that is a statistical outlier against a running mean m and deviation s.

        z = (n - m) / (s + 1e-6);   n* = m + z_threshold^2 s / z  if z > z_threshold, else n
        clip to min(n*, max_norm);  m <- alpha m + (1 - alpha) n*;  s^2 <- alpha s^2 + (1 - alpha) (n* - m)^2

    The larger the outlier, the further below m + z_threshold s it ends. The first `warmup_steps` usable
    norms (finite, not zero) only give m and s^2 (mean and population variance) and are clipped to `max_norm`
    alone.

    One departure from the paper: while s <= 1e-6 m, where it would freeze for good, nothing is an outlier.
    That is after norms that were all the same, and after norms that have stayed so far above m for so long
    (some 800 steps at alpha = 0.97) that s has died away; the next norm enters as it is and s grows again.

    Attributes:
        alpha: smoothing of mean and variance, in [0, 1); 0.97 remembers about 33 steps.
        z_threshold: deviations above the mean from which a norm is an outlier; > 0, finite.
        warmup_steps: norms of the first estimate; >= 1.
        max_norm: limit on the joint norm at every step besides; > 0 or None for none.

    Source: Kumar et al. 2025, arXiv:2504.02507, algorithm 1 (reciprocal clipping) and table 1.
    """

    alpha: float = 0.97
    z_threshold: float = 2.5
    warmup_steps: int = 25
    max_norm: float | None = 1.0

    def __post_init__(self) -> None:
        limit = self.max_norm
        require(0 <= self.alpha < 1, "alpha", self.alpha, "in [0, 1)")
        require(0 < self.z_threshold < float("inf"), "z_threshold", self.z_threshold, "a finite number > 0")
        require(self.warmup_steps >= 1, "warmup_steps", self.warmup_steps, "an integer >= 1")
        require(limit is None or 0 < limit < float("inf"), "max_norm", limit, "a finite number > 0 or null")

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
class AdaGC:
    """Clip every parameter's gradient against the running average of its own clipped norms.

        g_l <- g_l min(1, lambda_rel gamma_l / |g_l|);   gamma_l <- beta gamma_l + (1 - beta) |g_l|

    In the first `warmup_steps` steps (skipped ones do not count) all gradients are clipped together to
    `lambda_abs`, and gamma_l is the smallest clipped norm so far. Two departures from the paper, both only
    where it would divide by zero or freeze a parameter for good: a gradient of exactly zero does not enter
    gamma_l, and a parameter whose first gradient comes after the warm-up is not clipped at that step.

    Attributes:
        lambda_rel: largest ratio of a norm to the average of those before; > 0, finite. The average can
            grow by (1 - beta) (lambda_rel - 1) per step at most: 0.1 % with the defaults.
        lambda_abs: largest joint norm during the warm-up; > 0, finite.
        beta: smoothing of the average, in [0, 1).
        warmup_steps: >= 1.

    Source: Wang et al. 2025, arXiv:2502.11034, algorithm 1.
    """

    lambda_rel: float = 1.05
    lambda_abs: float = 1.0
    beta: float = 0.98
    warmup_steps: int = 100

    def __post_init__(self) -> None:
        for name in ("lambda_rel", "lambda_abs"):
            value = getattr(self, name)
            require(0 < value < float("inf"), name, value, "a finite number > 0")
        require(0 <= self.beta < 1, "beta", self.beta, "in [0, 1)")
        require(self.warmup_steps >= 1, "warmup_steps", self.warmup_steps, "an integer >= 1")

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
