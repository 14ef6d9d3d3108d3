"""Distributions over actions, as plain tensor arithmetic.

`torch.distributions` draws from the global generator, validates every call and computes the
normalising constant again in each method; a rollout of a small network spends a third of its time there.
"""

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Protocol, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

LOG_STD = (-20.0, 2.0)  # range of a log standard deviation that is an output of a network
# Nodes for the entropy of a squashed Gaussian: wrong by 1e-5 nats at deviation 1.5, 0.01 at 4, 0.08 at e^2.
QUADRATURE = 32
NODES, WEIGHTS = (torch.from_numpy(x) for x in np.polynomial.hermite_e.hermegauss(QUADRATURE))


class Policy(Protocol):
    """pi(.|s) for a batch of B states."""

    def sample(self, generator: torch.Generator) -> Tensor:
        """One action per state."""
        ...

    def mode(self) -> Tensor:
        """The most likely action of each state."""
        ...

    def log_prob(self, action: Tensor) -> Tensor:
        """Log pi(a|s), nats, [B]."""
        ...

    def entropy(self) -> Tensor:
        """Entropy of each state's distribution, nats, [B]."""
        ...

    def kl(self, other: Self) -> Tensor:
        """KL(self || other) in each state, nats, [B]; both of one kind."""
        ...


class Categorical:
    """Choice among A actions.

    Args:
        logits: unnormalised log-probabilities, [B, A].
        mask: which actions are allowed, [B, A], not 0 for those; None = all. One that is not allowed has
            probability 0 and its logit no gradient. A state that allows none (the last of an episode
            may) gives finite numbers without a meaning.
    """

    def __init__(self, logits: Tensor, mask: Tensor | None = None) -> None:
        # Not -inf: 0 * -inf would make the entropy NaN.
        lowest = torch.finfo(logits.dtype).min
        self.logits = logits if mask is None else torch.where(mask != 0, logits, lowest)

    @cached_property
    def log_probs(self) -> Tensor:
        """Normalised log-probabilities, nats, [B, A]."""
        return torch.log_softmax(self.logits, -1)

    def sample(self, generator: torch.Generator) -> Tensor:
        """One action per state, int64, [B].

        By the exponential race: with E_a ~ Exp(1), the a that minimises E_a / p_a has probability p_a, and
        the normalising constant of p plays no part.
        """
        race = torch.empty_like(self.logits).exponential_(generator=generator)
        return (self.logits - race.log_()).argmax(-1)

    def mode(self) -> Tensor:
        """The most likely action, int64, [B]; the first of equals."""
        return self.logits.argmax(-1)

    def log_prob(self, action: Tensor) -> Tensor:
        """Log pi(a|s) for int64 actions [B]; nats, [B]."""
        return -functional.nll_loss(self.log_probs, action, reduction="none")

    def entropy(self) -> Tensor:
        """-sum_a p log p, nats, [B]; in [0, log A]."""
        return -(self.log_probs.exp() * self.log_probs).sum(-1)

    def kl(self, other: "Categorical") -> Tensor:
        """sum_a p (log p - log q), nats, [B]."""
        return (self.log_probs.exp() * (self.log_probs - other.log_probs)).sum(-1)


class MultiCategorical:
    """Several independent choices.

    Args:
        logits: of all choices side by side, [B, sum of sizes].
        sizes: options of each of the K choices.
        mask: which options are allowed, as `logits`; None = all.
    """

    def __init__(self, logits: Tensor, sizes: Sequence[int], mask: Tensor | None = None) -> None:
        parts = logits.split(list(sizes), -1)
        masks = [None] * len(sizes) if mask is None else mask.split(list(sizes), -1)
        self.choices = [Categorical(part, m) for part, m in zip(parts, masks, strict=True)]

    def sample(self, generator: torch.Generator) -> Tensor:
        """One option of every choice, int64, [B, K]."""
        return torch.stack([choice.sample(generator) for choice in self.choices], -1)

    def mode(self) -> Tensor:
        """The most likely option of every choice, int64, [B, K]."""
        return torch.stack([choice.mode() for choice in self.choices], -1)

    def log_prob(self, action: Tensor) -> Tensor:
        """Log pi(a|s) for int64 actions [B, K]; nats, [B]."""
        parts = action.unbind(-1)
        return _sum([choice.log_prob(a) for choice, a in zip(self.choices, parts, strict=True)])

    def entropy(self) -> Tensor:
        """Sum of the choices' entropies, nats, [B]."""
        return _sum([choice.entropy() for choice in self.choices])

    def kl(self, other: "MultiCategorical") -> Tensor:
        """Sum of the choices' divergences, nats, [B]."""
        return _sum([p.kl(q) for p, q in zip(self.choices, other.choices, strict=True)])


class Bernoulli:
    """Independent switches.

    Args:
        logits: log p / (1 - p) of each switch being 1, [B, K].
    """

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

    def sample(self, generator: torch.Generator) -> Tensor:
        """0 or 1 for every switch, int64, [B, K]."""
        uniform = torch.empty_like(self.logits).uniform_(generator=generator)
        return (uniform < self.logits.sigmoid()).long()

    def mode(self) -> Tensor:
        """1 where that is more likely than 0, int64, [B, K]."""
        return (self.logits > 0).long()

    def log_prob(self, action: Tensor) -> Tensor:
        """Log pi(a|s) for actions [B, K] of 0 and 1; nats, [B]."""
        target = action.to(self.logits.dtype)
        return -functional.binary_cross_entropy_with_logits(self.logits, target, reduction="none").sum(-1)

    def entropy(self) -> Tensor:
        """Sum of the switches' entropies, nats, [B]."""
        return (functional.softplus(self.logits) - self.logits * self.logits.sigmoid()).sum(-1)

    def kl(self, other: "Bernoulli") -> Tensor:
        """Sum of the switches' divergences, nats, [B]."""
        on = functional.logsigmoid(self.logits) - functional.logsigmoid(other.logits)
        off = functional.logsigmoid(-self.logits) - functional.logsigmoid(-other.logits)
        return (self.logits.sigmoid() * on + (-self.logits).sigmoid() * off).sum(-1)


class DiagonalGaussian:
    """Independent normal distributions, one per dimension of the action.

    The deviation is held as its logarithm, so no gradient step can make it negative.

    Args:
        mean: [B, A].
        log_std: natural logarithm of the standard deviation, [A] or [B, A].
    """

    def __init__(self, mean: Tensor, log_std: Tensor) -> None:
        self.mean = mean
        self.log_std = log_std

    def sample(self, generator: torch.Generator) -> Tensor:
        """One action per state, [B, A]; no gradient."""
        return self.rsample(generator).detach()

    def rsample(self, generator: torch.Generator) -> Tensor:
        """Reparametrised actions, mean + std noise, [B, A]: they carry the gradient of both."""
        noise = torch.empty_like(self.mean).normal_(generator=generator)
        return self.mean + self.log_std.exp() * noise

    def mode(self) -> Tensor:
        """The mean, [B, A]."""
        return self.mean

    def log_prob(self, action: Tensor) -> Tensor:
        """Log-density of actions [B, A]: nats, [B]."""
        scaled = (action - self.mean) * (-self.log_std).exp()
        return -(0.5 * scaled.square() + self.log_std + 0.5 * math.log(2 * math.pi)).sum(-1)

    def entropy(self) -> Tensor:
        """Differential entropy, nats, [B]; it can be negative."""
        per_dimension = (0.5 + 0.5 * math.log(2 * math.pi)) + self.log_std
        return per_dimension.expand_as(self.mean).sum(-1)

    def kl(self, other: "DiagonalGaussian") -> Tensor:
        """Sum over dimensions of log s'/s + (s^2 + (m - m')^2) / (2 s'^2) - 1/2, nats, [B]."""
        log_ratio = self.log_std - other.log_std
        shift = (self.mean - other.mean) * (-other.log_std).exp()
        return (0.5 * ((2 * log_ratio).exp() + shift.square() - 1) - log_ratio).sum(-1)


class SquashedGaussian:
    """tanh of a Gaussian: actions in (-1, 1).

    Args:
        mean: of the Gaussian, [B, A].
        log_std: natural logarithm of its standard deviation, [A] or [B, A].

    Source: Haarnoja et al. 2018, arXiv:1812.05905, appendix C.
    """

    def __init__(self, mean: Tensor, log_std: Tensor) -> None:
        self.gaussian = DiagonalGaussian(mean, log_std)

    def rsample_with_log_prob(self, noise: torch.Generator | Tensor) -> tuple[Tensor, Tensor]:
        """Reparametrised actions [B, A] and their log-density, nats, [B]; both carry the gradient.

        Taken together, because the density of u = artanh(a) is lost to rounding where |a| is near 1.

        Args:
            noise: standard normal numbers [B, A], or what draws them.
        """
        mean, log_std = self.gaussian.mean, self.gaussian.log_std
        if isinstance(noise, torch.Generator):
            noise = torch.empty_like(mean).normal_(generator=noise)
        u = mean + log_std.exp() * noise
        log_normal = -(0.5 * noise.square() + log_std + 0.5 * math.log(2 * math.pi))
        return u.tanh(), (log_normal - _log_tanh_slope(u)).sum(-1)

    def sample(self, generator: torch.Generator) -> Tensor:
        """One action per state, [B, A]; no gradient."""
        return self.gaussian.sample(generator).tanh()

    def rsample(self, generator: torch.Generator) -> Tensor:
        """Reparametrised actions, [B, A]."""
        return self.gaussian.rsample(generator).tanh()

    def mode(self) -> Tensor:
        """The squashed mean, [B, A]: the median; the density may be highest elsewhere."""
        return self.gaussian.mean.tanh()

    def log_prob(self, action: Tensor) -> Tensor:
        """Log-density of actions [B, A], nats, [B]; those beyond 1 - 1e-6 count as being there."""
        edge = 1 - 1e-6
        u = action.clamp(-edge, edge).atanh()
        return self.gaussian.log_prob(u) - _log_tanh_slope(u).sum(-1)

    def entropy(self) -> Tensor:
        """Differential entropy, nats, [B]: that of the Gaussian plus E log(1 - tanh^2 u).

        There is no closed form; the expectation is taken by Gauss-Hermite quadrature.
        """
        mean, std = self.gaussian.mean, self.gaussian.log_std.exp()
        nodes, weights = NODES.to(mean), WEIGHTS.to(mean)
        u = mean[..., None] + std[..., None] * nodes
        expected = (_log_tanh_slope(u) * weights).sum(-1) / math.sqrt(2 * math.pi)
        return self.gaussian.entropy() + expected.sum(-1)

    def kl(self, other: "SquashedGaussian") -> Tensor:
        """That of the Gaussians: no invertible map changes it. Nats, [B]."""
        return self.gaussian.kl(other.gaussian)


def _log_tanh_slope(u: Tensor) -> Tensor:
    """Log d tanh(u) / du = log(1 - tanh^2 u), without loss for large |u|."""
    return 2 * (math.log(2) - u - functional.softplus(-2 * u))


def _sum(parts: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(parts)).sum(0)
