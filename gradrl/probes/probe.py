"""A probe of the policy gradient: signal, noise, variance with each baseline, agreement of minibatches."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from core.checks import require
from core.gradients import GradientStep, Objective
from core.gradients.probe import Probe
from core.noise.per_sample import require_no_shared_statistics
from gradrl.probes.policy_gradient import Acted, PolicyGradients


class PolicyObjective(Objective):
    """An agent's loss on its last rollout, with the policy that acted in it.

    Args:
        objective: the loss.
        acted: what `remember` has kept.
    """

    def __init__(self, objective: Objective, acted: Acted) -> None:
        super().__init__(
            objective.module, objective.loss, objective.batch, objective.terms, objective.batch_names
        )
        self.names, self.parameters = objective.names, objective.parameters
        self.acted = acted


@dataclass(frozen=True, kw_only=True)
class PolicyGradientProbe:
    """Signal, noise and directions of the policy gradient alone, without value loss and entropy bonus.

    Attributes:
        interval: optimizer steps between two probes; >= 1. One costs about ten gradients of the rollout.
        minibatches: random minibatches whose gradients are compared with that of a larger batch; >= 1.
        minibatch_size: samples of each; >= 1, None = the agent's own.
        chunk_size: samples whose gradients are in memory at once where they are formed (convolutions); >= 1,
            None = all of them.
    """

    interval: int = 500
    minibatches: int = 8
    minibatch_size: int | None = None
    chunk_size: int | None = 32

    def __post_init__(self) -> None:
        for name in ("interval", "minibatches"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "an integer >= 1")
        for name in ("minibatch_size", "chunk_size"):
            value = getattr(self, name)
            require(value is None or value >= 1, name, value, "an integer >= 1 or null")

    def check(self, network: nn.Module) -> None:
        """Refuse what has no policy, or mixes its samples by batch normalisation."""
        ok = callable(getattr(network, "policy", None))
        require(ok, "the network", type(network).__name__, "one with a policy and its log-probabilities")
        require_no_shared_statistics(network)

    def __call__(self, objective: Objective, step: GradientStep, generator: Generator) -> dict[str, float]:
        """Probe once; changes neither parameters nor gradients nor the global generators.

        Args:
            objective: of an agent that learns from rollouts; of any other nothing is found.
            step: not used; other probes look at it.
            generator: draws the minibatches.

        Returns:
            Values by tag, below `policy_gradient/`; what is undetermined is left out.
            norm: of the gradient with the agent's own weights.
            signal_to_noise: |G|^2 / tr(Sigma) of one sample with them; noise_scale, its inverse, in samples.
            variance_NAME: tr(Sigma) with each weights of `Acted.weights`, (return per parameter)^2.
            value_cosine: of policy and value gradient on the layers they share.
            minibatch_cosine: of a minibatch's gradient and that of the rest of the rollout.
            minibatch_cosine_100x: of a minibatch's gradient and that of 100 times as many other samples.
        """
        if not isinstance(objective, PolicyObjective):
            return {}
        policy = PolicyGradients(objective.acted, self.chunk_size)
        if policy.samples < 2:
            return {}
        weights = objective.acted.weights()
        variances = {f"variance_{name}": policy.noise(weight).variance for name, weight in weights.items()}
        noise = policy.noise(policy.advantage)
        size = self.minibatch_size or objective.acted.minibatch_size
        tags: dict[str, Tensor | None] = variances | {
            "norm": policy.gradient(policy.advantage).norm(),
            "signal_to_noise": noise.signal_to_noise,
            "noise_scale": noise.scale,
            "value_cosine": policy.value_cosine(),
            "minibatch_cosine": policy.minibatch_cosine(size, self.minibatches, generator),
            "minibatch_cosine_100x": policy.large_batch_cosine(size, self.minibatches, generator),
        }
        found = {name: value for name, value in tags.items() if value is not None}
        values = torch.stack([value.to(policy.dtype) for value in found.values()])
        usable = values.isfinite().tolist()
        return {
            f"policy_gradient/{name}": value
            for name, value, ok in zip(found, values.tolist(), usable, strict=True)
            if ok
        }


def check_agent(probes: Mapping[str, Probe] | None, agent: type) -> None:
    """Raise ValueError for a probe of the policy gradient on an agent that keeps no `acted`."""
    asked = [name for name, probe in (probes or {}).items() if isinstance(probe, PolicyGradientProbe)]
    apart = not getattr(agent, "by_sequences", False)
    allowed = f"left out for {agent.__name__}, whose single steps have no gradient apart from their sequence"
    require(not asked or apart, "probe", ", ".join(asked), allowed)
    allowed = f"left out for {agent.__name__}, which does not learn from rollouts of its own policy"
    require(not asked or hasattr(agent, "acted"), "probe", ", ".join(asked), allowed)
