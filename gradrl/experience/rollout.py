"""What a collector hands to an agent, and what an agent trains on.

A `Rollout` keeps time: [T, N], T steps of N environments. A `Batch` is flat: its B = T N rows are
shuffled into minibatches whose shape never changes.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """T steps of N environments.

    Attributes:
        obs: encoded observations; obs[t] is what the action at t was chosen from, [T + 1, N, D].
        action: the policy's actions, [T, N] int64 or [T, N, A].
        reward: [T, N].
        terminated: the world ended at step t, bool, [T, N].
        truncated: the episode was cut off at step t, bool, [T, N].
        valid: step t was a transition, bool, [T, N]; false for a NEXT_STEP autoreset, whose action and reward
            mean nothing: it is never trained on.
        num_valid: transitions among the T N steps.
        final_index: flat positions t N + n of steps that cut an episode off and whose final observation is
            not obs[t + 1] (truncated, not terminated, under SAME_STEP), int64, [K].
        final_obs: those final observations, [K, D]; their values stand for what would have come.
        terminal_index: likewise of steps at which the world ended (terminated, under SAME_STEP), int64, [L].
        terminal_obs: their final observations, [L, D]; nothing follows them, so they are never valued.
        episode_start: obs[t] is the first of an episode, bool, [T + 1, N].
        recurrent_state: of a recurrent policy before the first step, [N, M]; M = 0 for all others.
    """

    obs: Tensor
    action: Tensor
    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    valid: Tensor
    num_valid: int
    final_index: Tensor
    final_obs: Tensor
    terminal_index: Tensor
    terminal_obs: Tensor
    episode_start: Tensor
    recurrent_state: Tensor

    @property
    def next_obs(self) -> Tensor:
        """The observation that each step led to, final ones included, [T, N, D]."""
        following = self.obs[1:].flatten(0, 1).index_copy(0, self.final_index, self.final_obs)
        following.index_copy_(0, self.terminal_index, self.terminal_obs)
        return following.view_as(self.obs[1:])

    def next_value(self, value: Tensor, final_value: Tensor) -> Tensor:
        """V of the observation that each step led to, [T, N]; where the world ended, of some other.

        Args:
            value: V(obs), [T + 1, N].
            final_value: V(final_obs), [K].
        """
        following = value[1:].flatten()
        following = following.index_copy(0, self.final_index, final_value)  # a copy: value stays as it is
        return following.view_as(value[1:])

    def to(self, device: torch.device) -> "Rollout":
        """The same on another device; itself when it is there already."""
        if self.obs.device == device:
            return self
        tensors = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "num_valid"}
        moved = {name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()}
        return replace(self, **moved)


class Policy(Protocol):
    """pi(.|s) in some states."""

    def log_prob(self, action: Tensor) -> Tensor:
        """Log-probabilities of actions, nats, [B]."""
        ...


@dataclass(frozen=True)
class Estimates:
    """What an agent makes of a rollout before it learns from it; nothing carries a gradient.

    Attributes:
        rollout: on the model's device.
        value: V(s_t), [T, N].
        next_value: V of the observation that each step led to, [T, N].
        advantage: what the log-probabilities are weighted with, before any normalisation, [T, N].
        target: what V(s_t) should have been, [T, N].
        critic: the values are those of a critic; without one they are 0.
    """

    rollout: Rollout
    value: Tensor
    next_value: Tensor
    advantage: Tensor
    target: Tensor
    critic: bool = True

    @torch.no_grad()
    def batch(self, policy: Callable[[Tensor], Policy]) -> "Batch":
        """The rollout as T N rows, with the log-probabilities of its actions under the policy that acted."""
        obs, action = self.rollout.obs[:-1].flatten(0, 1), self.rollout.action.flatten(0, 1)
        return Batch(
            obs=obs,
            action=action,
            log_prob=policy(obs).log_prob(action),
            advantage=self.advantage.flatten(),
            value=self.value.flatten(0, 1),
            target=self.target.flatten(0, 1),
        )

    def transitions(self, batch: "Batch") -> "Batch":
        """The valid rows of its `batch`, in order."""
        valid, num_valid = self.rollout.valid.flatten(), self.rollout.num_valid
        return batch if num_valid == len(batch) else batch.rows(valid_rows(valid, num_valid))


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Transitions without order; rows of all tensors belong together.

    Attributes:
        obs: [B, D].
        action: [B] or [B, A].
        log_prob: log pi(a|s) of the policy that acted, nats, [B].
        advantage: [B].
        value: V(s) before the update, [B].
        target: what V(s) should have been, [B].
    """

    obs: Tensor
    action: Tensor
    log_prob: Tensor
    advantage: Tensor
    value: Tensor
    target: Tensor

    def __len__(self) -> int:
        return len(self.obs)

    def rows(self, index: Tensor | slice) -> "Batch":
        """Some of the transitions: int64 row numbers, bool [B], or a slice."""
        return Batch(**{f.name: getattr(self, f.name)[index] for f in fields(Batch)})

    def shuffled(
        self, valid: Tensor, num_valid: int, num_minibatches: int, generator: torch.Generator
    ) -> Iterator["Batch"]:
        """One epoch: `num_minibatches` minibatches of equal, fixed size.

        Args:
            valid: which rows may be trained on, bool, [B].
            num_valid: their number; the host knows it, so no device has to be asked.
            num_minibatches: must divide B.
            generator: shuffles; on the batch's device.

        Yields:
            Batches of B / num_minibatches rows.

        Raises:
            ValueError: `num_minibatches` does not divide B, or no row is valid.
        """
        if len(self) % num_minibatches:
            raise ValueError(f"num_minibatches={num_minibatches} does not divide {len(self)} rows")
        order = epoch_order(valid, num_valid, generator)
        names = [f.name for f in fields(self)]
        # Shuffled once and then cut: half the cost of picking the rows of every minibatch.
        columns = [getattr(self, name).index_select(0, order).chunk(num_minibatches) for name in names]
        for parts in zip(*columns, strict=True):
            yield Batch(**dict(zip(names, parts, strict=True)))


def epoch_order(valid: Tensor, num_valid: int, generator: torch.Generator) -> Tensor:
    """A random order of the valid rows, as long as if all were valid.

    Every valid row comes once; the places of the invalid ones (one in some hundred, under NEXT_STEP
    autoreset) are filled by repeating random valid rows, so that shapes stay static.

    Args:
        valid: bool, [B].
        num_valid: number of true elements.
        generator: on the device of `valid`.

    Returns:
        Row numbers, int64, [B].

    Raises:
        ValueError: no row is valid.
    """
    size = len(valid)
    if num_valid == 0:
        raise ValueError("epoch_order needs at least one valid row, got none")
    order = torch.randperm(size, generator=generator, device=valid.device)
    if num_valid == size:
        return order
    rows = valid_rows(valid, num_valid)
    extra = torch.randint(num_valid, (size - num_valid,), generator=generator, device=valid.device)
    return torch.cat([rows, rows[extra]])[order]


def valid_rows(valid: Tensor, num_valid: int) -> Tensor:
    """The numbers of the valid rows, in order, int64; unlike nonzero it does not wait for the device."""
    return torch.argsort((~valid).byte(), stable=True)[:num_valid]
