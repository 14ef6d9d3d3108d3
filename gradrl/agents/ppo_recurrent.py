"""PPO for policies with a memory: it learns from sequences.

As PPO, but a minibatch is made of whole environments' steps in order. Their memories are unrolled anew with
the parameters as they now are, from what was remembered before the rollout; where an episode begins they are
empty. So the gradient reaches back to the rollout's first step, or the episode's (truncated backpropagation
through time, T steps), and what was remembered earlier counts as given.

Source: Schulman et al. 2017, arXiv:1707.06347; stored states: Kapturowski et al. 2019, "R2D2", section 3.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import ClassVar, cast

import torch
from torch import Tensor

from core.checks import require
from core.config import Component
from core.gradients import Clipper, GradientStep, Metrics, MonitorConfig, Objective
from core.optim.schedules import Schedule
from gradrl.agents.actor_critic import total
from gradrl.agents.ppo import PPO, PPOConfig
from gradrl.experience.rollout import Batch, Rollout
from gradrl.losses import normalize_advantage
from gradrl.policies.distributions import Policy
from gradrl.policies.networks import ActorCritic
from gradrl.policies.recurrent import RecurrentActorCritic
from gradrl.returns import generalized_advantage_estimate


@dataclass(frozen=True, kw_only=True)
class PPORecurrentConfig(PPOConfig):
    """Options of PPO; conf/agent/ppo_recurrent.yaml gives the defaults.

    Attributes:
        num_minibatches: gradient steps per pass; divides the number of environments.
    """

    num_minibatches: int = 4

    def check(self, num_envs: int) -> None:
        """Raise ValueError when `num_envs` sequences cannot be dealt out in equal shares."""
        ok = num_envs % self.num_minibatches == 0
        require(ok, "agent.num_minibatches", self.num_minibatches, f"a divisor of num_envs = {num_envs}")

    def minibatch_size(self, num_envs: int) -> int:
        """Samples of one gradient step, which are sequences."""
        return num_envs // self.num_minibatches


@dataclass(frozen=True, kw_only=True)
class Sequences(Batch):
    """T steps of N environments in order: step t of environment n is row t N + n.

    Attributes:
        begins: obs is the first of an episode, bool, [T N].
        memory: what was remembered before the first step, [N, M].
        valid: the step was a transition, bool, [T N], or row numbers of those that were; None = all were.
    """

    begins: Tensor
    memory: Tensor
    valid: Tensor | None

    def shuffled(
        self, valid: Tensor, num_valid: int, num_minibatches: int, generator: torch.Generator
    ) -> Iterator["Sequences"]:
        """One epoch: every environment's sequence once, in equal minibatches; arguments as `Batch`."""
        order = torch.randperm(len(self.memory), generator=generator, device=valid.device)
        for envs in order.chunk(num_minibatches):
            yield self.of(envs)

    def of(self, envs: Tensor) -> "Sequences":
        """The sequences of some environments, int64, [n]."""
        steps = {name: x[:, envs].flatten(0, 1) for name, x in self.by_time().items()}
        return replace(self, memory=self.memory[envs], **steps)

    def by_time(self) -> dict[str, Tensor]:
        """Everything that there is per step, [T, N, ...]."""
        per_step = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "memory"}
        shape = (-1, len(self.memory))
        return {name: x.unflatten(0, shape) for name, x in per_step.items() if x is not None}

    def transitions(self) -> Batch:
        """The valid rows, without order."""
        rows = slice(None) if self.valid is None else self.valid
        return self.rows(rows)


class PPORecurrent(PPO):
    """Learns from rollouts; arguments, `update` and what it reports as PPO. A sample is a sequence.

    It keeps no `acted`: with a memory the probability of one step's action depends on the steps before it.
    """

    by_sequences: ClassVar[bool] = True
    model_type: ClassVar[type] = RecurrentActorCritic
    model: RecurrentActorCritic

    def __init__(
        self,
        cfg: PPORecurrentConfig,
        model: RecurrentActorCritic,
        optimizer: Component,
        clipper: Clipper | None,
        schedule: Schedule,
        generator: torch.Generator,
        monitor: MonitorConfig | None = None,
    ) -> None:
        super().__init__(cfg, cast(ActorCritic, model), optimizer, clipper, schedule, generator, monitor)

    @torch.no_grad()
    def observe(self, rollout: Rollout) -> tuple[Sequences, Tensor]:
        """The rollout as sequences, and which of their rows are valid, bool [T N]: what probes look at."""
        rollout = rollout.to(self.device)
        value, _, advantage = self.estimate(rollout)
        policy, _ = self.model(rollout.obs[:-1], rollout.begins[:-1], rollout.memory)
        action, valid = rollout.action.flatten(0, 1), rollout.valid.flatten()
        batch = Sequences(
            obs=rollout.obs[:-1].flatten(0, 1),
            action=action,
            log_prob=policy.log_prob(action),
            advantage=advantage.flatten(),
            value=value.flatten(),
            target=(advantage + value).flatten(),
            begins=rollout.begins[:-1].flatten(),
            memory=rollout.memory,
            valid=None if rollout.num_valid == len(valid) else valid,
        )
        self.last = batch, valid
        return batch, valid

    @torch.no_grad()
    def estimate(self, rollout: Rollout) -> tuple[Tensor, Tensor, Tensor]:
        """V(s_t), V of what each step led to, and the advantages, [T, N] each, by the critic as it now is."""
        value, next_value = self.model.values(rollout)
        advantage = generalized_advantage_estimate(
            rollout.reward,
            value,
            next_value,
            rollout.terminated,
            rollout.truncated,
            self.cfg.gamma,
            self.cfg.gae_lambda,
        )
        return value, next_value, advantage

    def update_minibatch(self, batch: Batch) -> Metrics:
        """One gradient step."""
        assert isinstance(batch, Sequences)
        normal = self.normalized(batch)
        return self.gradient_step(lambda: self.loss(normal), samples=len(batch.memory))

    def normalized(self, batch: Batch) -> Batch:
        """The batch with the advantages that its loss weighs: normalised over the valid steps."""
        valid = batch.valid if isinstance(batch, Sequences) else None
        if valid is None or not self.cfg.normalize_advantage:
            return super().normalized(batch)
        normal = normalize_advantage(batch.advantage[valid])
        return replace(batch, advantage=batch.advantage.masked_scatter(valid, normal))

    def loss(
        self, batch: Batch, forward: Callable[..., tuple[Policy, Tensor]] | None = None
    ) -> tuple[dict[str, Tensor], Metrics]:
        """PPO's three terms over the valid steps, the memories unrolled with a gradient."""
        assert isinstance(batch, Sequences)
        steps = batch.by_time()
        found = (forward or self.model)(steps["obs"], steps["begins"], batch.memory, batch.valid)
        return super().loss(batch.transitions(), lambda _: found)

    def objectives(self) -> list[tuple[Objective, GradientStep]]:
        """The loss on the last rollout, its advantages normalised as a whole; a sample is a sequence.

        So that all have one length, the step before an invalid one counts in its place.
        """
        if self.last is None:
            return []
        batch = self.normalized(self.last[0])
        assert isinstance(batch, Sequences)
        steps = batch.by_time()
        shape = steps["begins"].shape
        time = torch.arange(shape[0], device=self.device)[:, None].expand(shape)
        if "valid" in steps:
            time = torch.where(steps.pop("valid"), time, (time - 1).abs()).clamp(max=shape[0] - 1)

        def losses(forward: Callable[..., tuple[Policy, Tensor]], *by_env: Tensor) -> dict[str, Tensor]:
            memory, time, *others = by_env
            names = dict(zip(steps, others, strict=True))
            by_time = {name: x.transpose(0, 1).flatten(0, 1) for name, x in names.items()}
            rows = (time.T * len(memory) + torch.arange(len(memory), device=time.device)).flatten()
            frozen = replace(batch, memory=memory, valid=rows, **by_time)
            return self.loss(frozen, lambda *args: forward(*args, True))[0]

        by_env = [batch.memory, time.T, *(x.transpose(0, 1) for x in steps.values())]
        objective = Objective(
            self.model,
            lambda *args: total(losses(*args)),
            by_env,
            terms=losses,
            batch_names=("memory", "time", *steps),
        )
        return [(objective, self.gradient_step)]
