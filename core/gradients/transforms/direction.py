"""Transforms that change the direction of the gradient: centralisation, noise, and surgery between losses.

Random numbers are counter-based: the generator of every draw is seeded from an option and from a count in
`state`, so a resumed run draws the same numbers, and torch's global generator is never used.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from core.checks import Finite, checked
from core.gradients.norms import GradientView, accumulation_dtype
from core.gradients.transforms.clipping import row_values
from core.seeding import seed_for
from core.state import StateDict


@dataclass(frozen=True, kw_only=True)
class Centralize:
    """Subtract every output row's mean, so that an update cannot shift all weights of a unit together.

        g_i <- g_i - mean(g_i)    for every index i of the first dimension

    Vectors and scalars (biases, scales) stay. The norm never grows: this is a projection.

    Source: Yong et al. 2020, arXiv:2004.01461, eq. 1.
    """

    def __call__(self, gradients: GradientView, state: StateDict) -> None:
        """Centralise every gradient with two dimensions or more."""
        for name, parameter, value in zip(
            gradients.names, gradients.parameters, gradients.values, strict=True
        ):
            if parameter.ndim > 1:
                rows = row_values(name, value)
                wide = torch.promote_types(rows.dtype, torch.float32)  # float16 would overflow in the sum
                rows.sub_(rows.mean(dim=tuple(range(1, rows.ndim)), keepdim=True, dtype=wide))
        gradients.changed()


@dataclass(frozen=True, kw_only=True)
@checked
class GradientNoise:
    """Add Gaussian noise that decays during training.

        g_t <- g_t + N(0, sigma_t^2),   sigma_t^2 = eta / (1 + t)^gamma,   t = 0, 1, ...

    Only the existing rows of a sparse gradient receive noise. The players of one run draw different noise
    from the same seed, because their parameters differ in names or shapes.

    Attributes:
        eta: variance at the first step. The paper chooses among 0.01, 0.3 and 1.
        gamma: how fast it falls.
        seed: of the noise.

    Source: Neelakantan et al. 2015, arXiv:1511.06807, eq. 1.
    """

    eta: Annotated[float, Ge(0), Finite] = 0.01
    gamma: Annotated[float, Ge(0), Finite] = 0.55
    seed: Annotated[int, Ge(0)] = 0

    def __call__(self, gradients: GradientView, state: StateDict) -> None:
        """Draw this step's noise and add it."""
        values = gradients.dense()
        if not state:
            whose = [(name, *p.shape) for name, p in zip(gradients.names, gradients.parameters, strict=True)]
            state["stream"], state["steps"] = hashlib.sha256(str(whose).encode()).hexdigest(), 0
        step = state["steps"]
        state["steps"] = step + 1
        generator = _generator(values[0].device, self.seed, state["stream"], step)
        noise = [torch.randn(v.shape, dtype=v.dtype, device=v.device, generator=generator) for v in values]
        torch._foreach_add_(values, noise, alpha=(self.eta / (1 + step) ** self.gamma) ** 0.5)
        gradients.changed()


@dataclass(frozen=True, kw_only=True)
@checked
class PCGrad:
    """Sum the gradients of several losses after removing the components in which they conflict.

        for every loss i, for every other loss j in random order:
            g_i <- g_i - (g_i . g_j / |g_j|^2) g_j    if g_i . g_j < 0, with the g_j that backward left

    Every loss has one vector over all parameters. With one loss, or where no two conflict, the result is the
    plain sum. Everything is decided in the losses' Gram matrix: the gradients themselves are read once for
    it and once for the sum, and no number is read back from the device.

    Attributes:
        seed: of the random order.

    Source: Yu et al. 2020, arXiv:2001.06782, algorithm 1.
    """

    seed: Annotated[int, Ge(0)] = 0

    def combine(self, gradients: Mapping[str, list[Tensor]], state: StateDict) -> list[Tensor]:
        """The sum of the projected gradients."""
        vectors = [[g.to_dense() if g.is_sparse else g for g in tensors] for tensors in gradients.values()]
        step = state["steps"] = state.get("steps", -1) + 1
        if len(vectors) == 1:
            return vectors[0]
        weights = self._weights(_gram(vectors), _generator(torch.device("cpu"), self.seed, "pcgrad", step))
        first, *others = zip(vectors, weights.unbind(), strict=True)
        total = list(torch._foreach_mul(first[0], first[1]))
        for tensors, weight in others:
            torch._foreach_add_(total, torch._foreach_mul(tensors, weight))
        return total

    def _weights(self, gram: Tensor, generator: torch.Generator) -> Tensor:
        """Weight of every loss's gradient in the sum, [K], from their dot products, [K, K]."""
        unit = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        weights = torch.zeros_like(unit[0])
        for i in range(len(gram)):
            projected = unit[i]  # g_i in terms of all gradients
            for j in torch.randperm(len(gram), generator=generator).tolist():
                if j != i:
                    dot = projected @ gram[:, j]
                    projected = projected - torch.where(dot < 0, dot / gram[j, j], 0.0) * unit[j]
            weights = weights + projected
        # A non-finite gradient conflicts with nothing: it must stay in its own parameters to be localised.
        return torch.where(gram.isfinite().all(), weights, 1.0)


def _gram(vectors: list[list[Tensor]]) -> Tensor:
    """Dot products of K vectors given as lists of tensors, [K, K].

    Within a tensor in float32, which is right to 1e-6 of |a| |b| and five times as fast as float64; over the
    tensors in float64.
    """
    number, device = len(vectors), vectors[0][0].device
    gram = torch.zeros(number, number, dtype=accumulation_dtype(device), device=device)
    for tensors in zip(*vectors, strict=True):
        wide = torch.promote_types(tensors[0].dtype, torch.float32)
        flat = torch.stack([t.flatten().to(wide) for t in tensors])
        gram += flat @ flat.T
    return gram


def _generator(device: torch.device, seed: int, *names: str | int) -> torch.Generator:
    """A generator for one draw."""
    return torch.Generator(device).manual_seed(seed_for(seed, *names))
