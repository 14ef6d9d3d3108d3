"""PPO for recurrent policies: it learns from sequences.

It differs from PPO in its minibatches, which hold all steps of some environments in order. The LSTMs are
unrolled with the current parameters from the recurrent state before the rollout, which is reset where an
episode starts. So the gradient reaches back to the first step of the rollout or of the episode (truncated
backpropagation through time, T steps); the state before the rollout is treated as a constant.

Source: Schulman et al. 2017, arXiv:1707.06347; stored states: Kapturowski et al. 2019, "R2D2", section 3.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor

from core.checks import require
from core.gradients import GradientStep, Metrics, Objective
from gradrl.agents.on_policy import Forward, Losses, total
from gradrl.agents.ppo import PPO, PPOConfig
from gradrl.experience.rollout import Batch, Rollout
from gradrl.losses import normalize_advantage
from gradrl.policies.recurrent import RecurrentActorCritic


@dataclass(frozen=True, kw_only=True)
class PPORecurrentConfig(PPOConfig):
    """Options of PPO; conf/agent/ppo_recurrent.yaml gives the defaults.

    Attributes:
        num_minibatches: gradient steps per pass; divides the number of environments.
    """

    num_minibatches: Annotated[int, Ge(1)] = 4

    def minibatches(self, num_envs: int) -> tuple[int, int]:
        """Gradient steps on each rollout, at most, and sequences of each; ValueError unless equal."""
        ok = num_envs % self.num_minibatches == 0
        require(ok, "agent.num_minibatches", self.num_minibatches, f"a divisor of num_envs = {num_envs}")
        return self.num_epochs * self.num_minibatches, num_envs // self.num_minibatches


@dataclass(frozen=True, kw_only=True)
class Sequences(Batch):
    """T steps of N environments in order: step t of environment n is row t N + n.

    Attributes:
        episode_start: obs is the first of an episode, bool, [T N].
        recurrent_state: before the first step, [N, M].
        valid: the step was a transition, bool, [T N], or row numbers of those that were; None = all were.
    """

    episode_start: Tensor
    recurrent_state: Tensor
    valid: Tensor | None

    def shuffled(
        self, valid: Tensor, num_valid: int, num_minibatches: int, generator: torch.Generator
    ) -> Iterator["Sequences"]:
        """One epoch: every environment's sequence once, in equal minibatches; arguments as `Batch`."""
        order = torch.randperm(len(self.recurrent_state), generator=generator, device=valid.device)
        for envs in order.chunk(num_minibatches):
            yield self.of(envs)

    def of(self, envs: Tensor) -> "Sequences":
        """The sequences of some environments, int64, [n]."""
        steps = {name: x[:, envs].flatten(0, 1) for name, x in self.by_time().items()}
        return replace(self, recurrent_state=self.recurrent_state[envs], **steps)

    def by_time(self) -> dict[str, Tensor]:
        """Everything that there is per step, [T, N, ...]."""
        per_step = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "recurrent_state"}
        shape = (-1, len(self.recurrent_state))
        return {name: x.unflatten(0, shape) for name, x in per_step.items() if x is not None}

    def transitions(self) -> Batch:
        """The valid rows, without order."""
        rows = slice(None) if self.valid is None else self.valid
        return self.rows(rows)


class PPORecurrent(PPO):
    """Learns from rollouts; arguments, `update` and what it reports are PPO's. A sample is a sequence."""

    by_sequences: ClassVar[bool] = True
    model_type: ClassVar[type] = RecurrentActorCritic
    cfg: PPORecurrentConfig
    model: RecurrentActorCritic

    @torch.no_grad()
    def observe(self, rollout: Rollout) -> tuple[Sequences, Tensor]:
        """The rollout as sequences, and which of their rows are transitions, bool [T N]."""
        rollout = rollout.to(self.device)
        estimates = self.estimate(rollout)
        policy, _ = self.model(rollout.obs[:-1], rollout.episode_start[:-1], rollout.recurrent_state)
        action, valid = rollout.action.flatten(0, 1), rollout.valid.flatten()
        batch = Sequences(
            obs=rollout.obs[:-1].flatten(0, 1),
            action=action,
            log_prob=policy.log_prob(action),
            advantage=estimates.advantage.flatten(),
            value=estimates.value.flatten(),
            target=estimates.target.flatten(),
            episode_start=rollout.episode_start[:-1].flatten(),
            recurrent_state=rollout.recurrent_state,
            valid=None if rollout.num_valid == len(valid) else valid,
        )
        self.last = batch, valid
        return batch, valid

    def update_minibatch(self, batch: Batch) -> Metrics:
        """One gradient step."""
        assert isinstance(batch, Sequences)
        closure = partial(self.minibatch_loss, batch, self.clip_coef)
        return self.gradient_step(closure, samples=len(batch.recurrent_state))

    def normalized(self, batch: Batch) -> Batch:
        """The batch with the advantages that its loss weighs: normalised over the valid steps."""
        valid = batch.valid if isinstance(batch, Sequences) else None
        if valid is None or not self.cfg.normalize_advantage:
            return super().normalized(batch)
        normal = normalize_advantage(batch.advantage[valid])
        return replace(batch, advantage=batch.advantage.masked_scatter(valid, normal))

    def loss(
        self, batch: Batch, forward: Forward | None = None, clip_coef: float | Tensor | None = None
    ) -> Losses:
        """PPO's three terms over the valid steps, the LSTMs unrolled with a gradient."""
        assert isinstance(batch, Sequences)
        steps = batch.by_time()
        found = (forward or self.model)(
            steps["obs"], steps["episode_start"], batch.recurrent_state, batch.valid
        )
        return super().loss(batch.transitions(), lambda _: found, clip_coef)

    def objectives(self) -> list[tuple[Objective, GradientStep]]:
        """The loss on the last rollout, its advantages normalised as a whole; a sample is a sequence.

        So that all have one length, the step before an invalid one counts in its place.
        """
        if self.last is None:
            return []
        batch = self.normalized(self.last[0])
        assert isinstance(batch, Sequences)
        steps = batch.by_time()
        shape = steps["episode_start"].shape
        time = torch.arange(shape[0], device=self.device)[:, None].expand(shape)
        if "valid" in steps:
            time = torch.where(steps.pop("valid"), time, (time - 1).abs()).clamp(max=shape[0] - 1)

        def losses(forward: Forward, *by_env: Tensor) -> dict[str, Tensor]:
            recurrent_state, time, *others = by_env
            names = dict(zip(steps, others, strict=True))
            by_time = {name: x.transpose(0, 1).flatten(0, 1) for name, x in names.items()}
            env = torch.arange(len(recurrent_state), device=time.device)
            rows = (time.T * len(recurrent_state) + env).flatten()
            frozen = replace(batch, recurrent_state=recurrent_state, valid=rows, **by_time)
            return self.loss(frozen, lambda *args: forward(*args, True))[0]

        by_env = [batch.recurrent_state, time.T, *(x.transpose(0, 1) for x in steps.values())]
        objective = Objective(
            self.model,
            lambda *args: total(losses(*args)),
            by_env,
            terms=losses,
            batch_names=("recurrent_state", "time", *steps),
        )
        return [(objective, self.gradient_step)]
