"""A probe of the policy gradient: signal, noise, variance with each baseline, agreement of minibatches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol

import torch
from annotated_types import Ge
from torch import Generator, Tensor, nn

from core.checks import checked, require
from core.gradients import Objective
from core.gradients.measured import Measured
from core.gradients.probe import Probe
from core.noise.per_sample import require_no_shared_statistics
from gradrl.agent import Agent, AgentConfig
from gradrl.experience.rollout import Estimates
from gradrl.probes.policy_gradient import PolicyGradients, RolloutSnapshot


class PolicyObjective(Objective):
    """An agent's loss on its last rollout, with the policy that acted in it.

    Args:
        objective: the loss.
        snapshot: of rollout and policy.
    """

    def __init__(self, objective: Objective, snapshot: RolloutSnapshot) -> None:
        super().__init__(
            objective.module, objective.loss, objective.batch, objective.terms, objective.batch_names
        )
        self.names, self.parameters = objective.names, objective.parameters
        self.snapshot = snapshot


@dataclass(frozen=True, kw_only=True)
@checked
class PolicyGradientProbe:
    """Signal, noise and directions of the policy gradient alone, without value loss and entropy bonus.

    Attributes:
        interval: optimizer steps between two probes; >= 1. One costs about ten gradients of the rollout.
        minibatches: random minibatches whose gradients are compared with that of a larger batch; >= 1.
        minibatch_size: samples of each; >= 1, None = the agent's own.
        chunk_size: samples whose gradients are in memory at once where they are formed (convolutions); >= 1,
            None = all of them.
    """

    interval: Annotated[int, Ge(1)] = 500
    minibatches: Annotated[int, Ge(1)] = 8
    minibatch_size: Annotated[int | None, Ge(1)] = None
    chunk_size: Annotated[int | None, Ge(1)] = 32

    def check(self, network: nn.Module) -> None:
        """Refuse what has no policy, or mixes its samples by batch normalisation."""
        ok = callable(getattr(network, "policy", None))
        require(ok, "the network", type(network).__name__, "one with a policy and its log-probabilities")
        require_no_shared_statistics(network)

    def __call__(self, objective: Objective, step: Measured, generator: Generator) -> dict[str, float]:
        """Probe once; changes neither parameters nor gradients nor the global generators.

        Args:
            objective: of an agent that learns from rollouts; of any other nothing is found.
            step: not used; other probes look at it.
            generator: draws the minibatches.

        Returns:
            Values by tag, below `policy_gradient/`; what is undetermined is left out.
            norm: of the gradient with the agent's own weights.
            signal_to_noise: |G|^2 / tr(Sigma) of one sample with them; noise_scale, its inverse, in samples.
            variance_NAME: tr(Sigma) with each weights of `RolloutSnapshot.weights`, (return per parameter)^2.
            value_cosine: of policy and value gradient on the layers they share.
            minibatch_cosine: of a minibatch's gradient and that of the rest of the rollout.
            minibatch_cosine_100x: of a minibatch's gradient and that of 100 times as many other samples.
        """
        if not isinstance(objective, PolicyObjective):
            return {}
        policy = PolicyGradients(objective.snapshot, self.chunk_size)
        if policy.samples < 2:
            return {}
        weights = objective.snapshot.weights()
        variances = {f"variance_{name}": policy.noise(weight).variance for name, weight in weights.items()}
        noise = policy.noise(policy.advantage)
        size = self.minibatch_size or objective.snapshot.minibatch_size
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


class Options(AgentConfig, Protocol):
    """Options of an agent that a snapshot needs."""

    @property
    def gae_lambda(self) -> float | None:
        """Of the agent's advantages; None = they have none."""
        ...

    @property
    def normalize_advantage(self) -> bool:
        """Whether the agent learns from advantages of mean 0 and deviation 1."""
        ...


class OnPolicyAgent(Agent, Protocol):
    """An agent that learns from rollouts of its own policy, which its first gradient step moves."""

    estimates: Estimates | None

    @property
    def cfg(self) -> Options:
        """Its options."""
        ...

    @property
    def model(self) -> nn.Module:
        """Its networks."""
        ...


class PolicySnapshots:
    """Copies of the parameters that acted, made only before an update in which a probe may fall due.

    A probe looks at an agent after the update, when the policy that acted has moved on.

    Args:
        agent: its parameters are copied.
        probes: of the run, by name, or None.
        num_envs: N, environments of each rollout.
    """

    def __init__(self, agent: OnPolicyAgent, probes: Mapping[str, Probe] | None, num_envs: int) -> None:
        self.agent, self.num_envs = agent, num_envs
        probes = probes or {}
        self.intervals = [p.interval for p in probes.values() if isinstance(p, PolicyGradientProbe)]
        self.parameters: dict[str, Tensor] | None = None

    def take(self) -> None:
        """Copy the parameters if a probe of the policy gradient may fall due in the next update."""
        self.parameters = None
        if not self.intervals:
            return
        taken = self.agent.gradient_steps[0].monitor.steps
        steps, _ = self.agent.cfg.minibatches(self.num_envs)
        if any((taken + steps) // interval > taken // interval for interval in self.intervals):
            self.parameters = {name: p.detach().clone() for name, p in self.agent.model.named_parameters()}

    def objectives(self) -> Sequence[tuple[Objective, Measured]]:
        """The agent's; the first one with the policy that acted, where its parameters were copied."""
        objectives = self.agent.objectives()
        if self.parameters is None or not objectives:
            return objectives
        (objective, step), *others = objectives
        return [(PolicyObjective(objective, self._snapshot(self.parameters)), step), *others]

    def _snapshot(self, parameters: dict[str, Tensor]) -> RolloutSnapshot:
        cfg, estimates = self.agent.cfg, self.agent.estimates
        assert estimates is not None
        return RolloutSnapshot(
            module=self.agent.model,
            parameters=parameters,
            estimates=estimates,
            gamma=cfg.gamma,
            gae_lambda=cfg.gae_lambda,
            minibatch_size=cfg.minibatches(self.num_envs)[1],
            normalize=cfg.normalize_advantage,
        )


def check_agent(probes: Mapping[str, Probe] | None, agent: type) -> None:
    """Raise ValueError for a probe of the policy gradient on an agent that has none of single steps."""
    asked = [name for name, probe in (probes or {}).items() if isinstance(probe, PolicyGradientProbe)]
    apart = not getattr(agent, "by_sequences", False)
    allowed = f"left out for {agent.__name__}, whose single steps have no gradient apart from their sequence"
    require(not asked or apart, "probe", ", ".join(asked), allowed)
    allowed = f"left out for {agent.__name__}, which does not learn from rollouts of its own policy"
    require(not asked or hasattr(agent, "estimates"), "probe", ", ".join(asked), allowed)
