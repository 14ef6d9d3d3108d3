"""Policy gradients of a rollout: one pass over it, and what any weights make of the scores.

Everything is taken at the parameters that *acted*. After the update the same rollout has been learnt from and
looks better than it is; and only before it is every probability ratio 1, so that the surrogate losses of all
on-policy methods have one and the same gradient,

    g = mean_i g_i,   g_i = psi_i s_i,   s_i = grad log pi(a_i | s_i)

which differs between them in the weights psi alone. So the norms of all scores s_i, from one pass over the
batch, give the variance under every choice of weights.

Sources: Williams 1992, Machine Learning 8 (reinforcement baselines); Greensmith et al. 2004, JMLR 5 (what a
baseline does to the variance); Schulman et al. 2016, arXiv:1506.02438, eq. 1 (the choices of psi).
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, cast

import torch
from torch import Generator, Tensor, nn

from core.gradients import NoiseEstimate, Objective
from core.gradients.norms import accumulation_dtype
from core.noise import per_sample_norms
from gradrl.experience.rollout import Estimates
from gradrl.losses import normalize_advantage
from gradrl.policies.distributions import Policy
from gradrl.returns import generalized_estimates

LARGER = 100  # times the minibatch: the batch whose gradient stands for the true one


class Model(Protocol):
    """What is asked of a model."""

    def policy(self, obs: Tensor) -> Policy:
        """pi(.|s) for observations [B, D]."""
        ...

    def value(self, obs: Tensor) -> Tensor:
        """V(s), [B]."""
        ...


@dataclass(frozen=True, kw_only=True)
class RolloutSnapshot:
    """A rollout, and the policy that acted in it.

    Attributes:
        module: the model; its parameters have moved on since.
        parameters: by name, as they were.
        estimates: the rollout, on the model's device, and what the agent made of it at those parameters.
        gamma: discount per step.
        gae_lambda: of the `gae` weights; None = leave them out. Not used without a critic.
        minibatch_size: samples of one gradient step.
        normalize: the agent learns from advantages of mean 0 and deviation 1.
    """

    module: nn.Module
    parameters: Mapping[str, Tensor]
    estimates: Estimates
    gamma: float
    gae_lambda: float | None
    minibatch_size: int
    normalize: bool

    def model(self) -> nn.Module:
        """A copy of the model as it was when it acted."""
        model = copy.deepcopy(self.module)
        model.load_state_dict(dict(self.parameters), strict=False)  # buffers: as they are
        return model

    def weights(self) -> dict[str, Tensor]:
        """The weights psi under each baseline, in units of return, of the valid steps, [B] each.

        `no_baseline`: return-to-go, continued by V where the rollout or the clock ends an episode in the
        middle; `mean_baseline`: less its mean over the rollout; `value_baseline`: less V(s); `gae`: the
        exponentially weighted temporal-difference errors, which look less far ahead. The first three have
        the same expectation of the gradient; `gae` trades some bias for less variance.
        """
        lambda_1 = self._estimate(1.0)
        returns = lambda_1 + self.valid(self.estimates.value)
        weights = {"no_baseline": returns, "mean_baseline": returns - returns.mean()}
        if self.estimates.critic:
            weights["value_baseline"] = lambda_1
            if self.gae_lambda is not None:
                weights["gae"] = self._estimate(self.gae_lambda)
        return weights

    def valid(self, steps: Tensor) -> Tensor:
        """Of something per step, [T, N, ...], what belongs to valid ones, [B, ...]."""
        return steps[self.estimates.rollout.valid]

    @torch.no_grad()
    def _estimate(self, gae_lambda: float) -> Tensor:
        """Generalized advantages of the valid steps, [B]; without a critic, returns-to-go."""
        known = self.estimates
        again = generalized_estimates(known.rollout, known.value, known.next_value, self.gamma, gae_lambda)
        return self.valid(again.advantage)


class PolicyGradients:
    """The scores of a rollout's valid steps, and the policy gradients that weights make of them.

    Every gradient is that of the expected return, uphill, as one vector [P] over all trainable parameters.

    Args:
        snapshot: rollout and policy.
        chunk_size: as in `per_sample_norms`.

    Attributes:
        samples: B, valid steps.
        advantage: the agent's own weights, normalised if it does so (over the rollout), [B].
    """

    def __init__(self, snapshot: RolloutSnapshot, chunk_size: int | None = None) -> None:
        self.snapshot = snapshot
        self.chunk_size = chunk_size
        self.module = snapshot.model()
        self.model = cast(Model, self.module)
        self.parameters = [p for p in self.module.parameters() if p.requires_grad]
        rollout = snapshot.estimates.rollout
        self.obs, self.action = snapshot.valid(rollout.obs[:-1]), snapshot.valid(rollout.action)
        self.samples = len(self.obs)
        self.dtype = accumulation_dtype(self.obs.device)
        advantage = snapshot.valid(snapshot.estimates.advantage)
        self.advantage = normalize_advantage(advantage) if snapshot.normalize else advantage

    @cached_property
    def norms(self) -> Tensor:
        """Lengths of the scores, |s_i|, [B]."""

        def loss(forward: Callable[..., tuple[Policy, Tensor]], obs: Tensor, action: Tensor) -> Tensor:
            return forward(obs)[0].log_prob(action).mean()

        objective = Objective(self.module, loss, (self.obs, self.action))
        return torch.stack([*per_sample_norms(objective, chunk_size=self.chunk_size).values()]).norm(dim=0)

    def gradient(self, weight: Tensor, rows: Tensor | None = None) -> Tensor:
        """mean_i psi_i s_i over all samples or some rows of them, [P]."""
        if rows is None:
            return self._flat(self._log_prob, weight / self.samples, self.parameters)
        with torch.enable_grad():
            log_prob = self.model.policy(self.obs[rows]).log_prob(self.action[rows])
        return self._flat(log_prob, weight[rows] / len(rows), self.parameters)

    def noise(self, weight: Tensor) -> NoiseEstimate:
        """Unbiased |G|^2 and tr(Sigma) of one sample's gradient.

        tr(Sigma) = (sum_i psi_i^2 |s_i|^2 - B |g|^2) / (B - 1),   |G|^2 = |g|^2 - tr(Sigma) / B

        Steps of one episode are not independent, so a rollout's mean can vary more than tr(Sigma) / B.
        """
        total = (weight.to(self.dtype) * self.norms).square().sum()
        length = self.gradient(weight).square().sum()
        variance = ((total - self.samples * length) / (self.samples - 1)).clamp(min=0)
        return NoiseEstimate(length - variance / self.samples, variance)

    def value_cosine(self) -> Tensor | None:
        """Cosine of the steps that policy and value loss ask of the layers they share; None without any."""
        shared = getattr(self.module, "shared_parameters", list)()  # by name
        parameters = [p for _, p in shared if p.requires_grad]
        estimates = self.snapshot.estimates
        if not estimates.critic or not parameters:
            return None
        with torch.enable_grad():
            value = self.model.value(self.obs)
        target = self.snapshot.valid(estimates.advantage + estimates.value)
        uphill = self._flat(self._log_prob, self.advantage, parameters)
        return cosine(uphill, self._flat(value, target - value.detach(), parameters))

    def minibatch_cosine(self, size: int, count: int, generator: Generator) -> Tensor | None:
        """Mean cosine of `count` random minibatches' gradients with that of the rest of the rollout.

        None where the rest would be smaller than the minibatch.
        """
        if self.samples < 2 * size:
            return None
        whole = self.samples * self.gradient(self.advantage)
        rows = [self._order(self.samples, generator)[:size] for _ in range(count)]
        sums = [size * self.gradient(self.advantage, chosen) for chosen in rows]
        return torch.stack([cosine(own, whole - own) for own in sums]).mean()

    def large_batch_cosine(self, size: int, count: int, generator: Generator) -> Tensor | None:
        """Mean cosine of `count` random minibatches' gradients with that of 100 times as many other samples.

        None where the rollout does not have as many.
        """
        if self.samples < (LARGER + 1) * size:
            return None
        order = self._order(self.samples, generator)
        large = self.gradient(self.advantage, order[: LARGER * size])
        others = order[LARGER * size :]
        rows = [others[self._order(len(others), generator)[:size]] for _ in range(count)]
        found = [cosine(self.gradient(self.advantage, chosen), large) for chosen in rows]
        return torch.stack(found).mean()

    @cached_property
    def _log_prob(self) -> Tensor:
        """Of all samples, with its graph, [B]."""
        with torch.enable_grad():
            return self.model.policy(self.obs).log_prob(self.action)

    def _order(self, size: int, generator: Generator) -> Tensor:
        return torch.randperm(size, generator=generator, device=generator.device).to(self.obs.device)

    def _flat(self, outputs: Tensor, weight: Tensor, parameters: Sequence[Tensor]) -> Tensor:
        """sum_i weight_i grad outputs_i as one vector; zeros where a parameter is not reached."""
        found = torch.autograd.grad(
            outputs,
            parameters,
            weight.to(outputs),
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        return torch.cat([g.flatten().to(self.dtype) for g in found])


def cosine(first: Tensor, second: Tensor) -> Tensor:
    """Cosine of the angle between two vectors; NaN where one is zero."""
    return first @ second / (first.norm() * second.norm())
