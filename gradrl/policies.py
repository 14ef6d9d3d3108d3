"""Distributions over actions, as plain tensor arithmetic.

`torch.distributions` draws from the global generator, validates every call and computes the
normalising constant again in each method; a rollout of a small network spends a third of its time there.
"""

import math
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor


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


class Categorical:
    """Choice among A actions.

    Args:
        logits: unnormalised log-probabilities, [B, A].
    """

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

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
        return self.log_probs.gather(-1, action[..., None])[..., 0]

    def entropy(self) -> Tensor:
        """-sum_a p log p, nats, [B]; in [0, log A]."""
        return -(self.log_probs.exp() * self.log_probs).sum(-1)


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
        """One action per state, [B, A]; not differentiable with respect to the parameters' sampling noise."""
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
