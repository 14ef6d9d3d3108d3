"""Running normalisation of observations and rewards, with statistics in float64.

Statistics stand still during a rollout and move once after it. So every observation of a rollout, and
the final ones behind its truncations, are on one scale, and evaluation can use them as they are.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.state import StateDict

Float64 = NDArray[np.float64]
LARGEST = float(np.finfo(np.float32).max)  # what networks see; the squares of a float64 beyond it overflow


def is_finite(numbers: NDArray[Any]) -> NDArray[np.bool_]:
    """Which numbers float32 can hold: no NaN, no infinity, none that would become one."""
    return np.abs(numbers) <= LARGEST


class RunningMoments:
    """Mean and variance of all rows seen so far, per element; float64.

    Args:
        shape: of one row.

    Source: Chan, Golub and LeVeque 1979, "Updating formulae and a pairwise algorithm", eq. 2.1.
    """

    def __init__(self, shape: tuple[int, ...] = ()) -> None:
        self.count = 0
        self.mean: Float64 = np.zeros(shape)
        self.variance: Float64 = np.ones(shape)

    def update(self, rows: NDArray[np.floating]) -> None:
        """Take in rows [M, *shape]; M = 0 changes nothing."""
        if len(rows):
            rows = rows.astype(np.float64)
            self.merge(len(rows), rows.mean(0), rows.var(0))

    def update_by_tensor(self, rows: Tensor) -> None:
        """Take in rows [M, *shape] on any device, M > 0; their moments come to the host in one transfer."""
        variance, mean = torch.var_mean(rows.double(), 0, correction=0)
        mean, variance = torch.stack([mean, variance]).cpu().numpy()
        self.merge(len(rows), mean, variance)

    def merge(self, new: int, mean: Float64, variance: Float64) -> None:
        """Take in `new` rows, of which there is one at least, by their moments, [*shape] each."""
        total = self.count + new
        shift = mean - self.mean
        # The variance before the first row is a placeholder (1); its weight, count = 0, removes it here.
        squares = self.count * self.variance + new * variance + shift**2 * (self.count * new / total)
        self.mean = self.mean + shift * (new / total)
        self.variance = squares / total
        self.count = total

    def state_dict(self) -> StateDict:
        """Count, mean and variance."""
        mean, variance = (torch.as_tensor(np.array(x)) for x in (self.mean, self.variance))
        return {"count": self.count, "mean": mean, "variance": variance}

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`."""
        self.count = int(state["count"])
        self.mean = state["mean"].cpu().numpy().copy()
        self.variance = state["variance"].cpu().numpy().copy()


class ObservationNormalizer:
    """Observations with mean 0 and variance 1 per element, clipped.

        o -> clip((o - mean) / sqrt(variance + 1e-8), -clip, clip)

    Args:
        size: D, length of an encoded observation.
        clip: largest absolute value let through.
        columns: elements to normalise, bool, [D] (images and masks are left alone); None = all.
    """

    def __init__(self, size: int, clip: float = 10.0, columns: NDArray[np.bool_] | None = None) -> None:
        self.moments = RunningMoments((size if columns is None else int(columns.sum()),))
        self.clip = clip
        self.columns = columns
        self._refresh()

    def __call__(self, obs: NDArray[np.floating]) -> NDArray[np.float32]:
        """Normalise observations [..., D], in their own precision; the statistics do not move."""
        if self.columns is None:
            return self._scaled(obs)
        normalized = obs.astype(np.float32)
        normalized[..., self.columns] = self._scaled(obs[..., self.columns])
        return normalized

    def on(self, device: torch.device) -> Callable[[Tensor], Tensor]:
        """As a call now normalises, for float32 observations [..., D] on a device; all columns are."""
        mean, inverse_std = (torch.from_numpy(x).to(device) for x in self._constants[np.dtype(np.float32)])
        return lambda obs: ((obs - mean) * inverse_std).clamp(-self.clip, self.clip)

    def update_by_tensor(self, obs: Tensor) -> None:
        """Take raw observations [M, D] on any device into the statistics; all columns are normalised."""
        self.moments.update_by_tensor(obs)
        self._refresh()

    def update(self, obs: NDArray[np.floating]) -> None:
        """Take raw observations [M, D] into the statistics."""
        self.moments.update(obs if self.columns is None else obs[..., self.columns])
        self._refresh()

    def state_dict(self) -> StateDict:
        """The statistics."""
        return self.moments.state_dict()

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`."""
        self.moments.load_state_dict(state)
        self._refresh()

    def _scaled(self, obs: NDArray[np.floating]) -> NDArray[np.float32]:
        mean, inverse_std = self._constants[obs.dtype]
        return ((obs - mean) * inverse_std).clip(-self.clip, self.clip).astype(np.float32, copy=False)

    def _refresh(self) -> None:
        wide = self.moments.mean, 1 / np.sqrt(self.moments.variance + 1e-8)
        # float64 rows keep their own precision up to here; float32 ones have no more to keep.
        self._constants = {
            np.dtype(kind): tuple(x.astype(kind) for x in wide) for kind in (np.float32, np.float64)
        }


def as_seen(obs: NDArray[Any], normalizer: ObservationNormalizer | None) -> NDArray[Any]:
    """Raw encoded observations [..., D] as a network sees them: normalised, float64 rounded to float32."""
    if normalizer is not None:
        return normalizer(obs)
    return obs.astype(np.float32) if obs.dtype == np.float64 else obs


class RewardNormalizer:
    """Rewards divided by the standard deviation of the running discounted return; their mean stays.

        g_t = gamma g_{t-1} + r_t   (g starts at 0 in every episode),   r_t -> clip(r_t / sqrt(Var(g) + 1e-8))

    It changes the unit of the value function, never which policy is best.

    Args:
        num_envs: N, environments whose returns are followed.
        gamma: discount per step of the agent.
        clip: largest absolute value let through.

    Source: Engstrom et al. 2020, arXiv:2005.12729, section 3, "reward scaling".
    """

    def __init__(self, num_envs: int, gamma: float, clip: float = 10.0) -> None:
        self.moments = RunningMoments()
        self.gamma = gamma
        self.clip = clip
        self.running: Float64 = np.zeros(num_envs)

    def __call__(
        self, reward: NDArray[np.float32], done: NDArray[np.bool_], valid: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Take a rollout into the statistics, then scale its rewards by them.

        Args:
            reward: [T, N].
            done: the episode ended at this step, [T, N].
            valid: the step was a transition and not an autoreset, [T, N].

        Returns:
            Scaled rewards, float32, [T, N].
        """
        returns = np.empty(reward.shape)
        for t in range(len(reward)):
            self.running = np.where(valid[t], self.gamma * self.running + reward[t], self.running)
            returns[t] = self.running
            self.running = np.where(done[t], 0.0, self.running)
        self.moments.update(returns[valid])
        return self.scaled(reward)

    def on_tensors(self, reward: Tensor, done: Tensor) -> Tensor:
        """The same for tensors [T, N] on any device, of which every step is a transition."""
        running = torch.from_numpy(self.running).to(reward.device)
        returns, running = running_returns(running, reward, done, self.gamma)
        self.running = running.cpu().numpy()
        self.moments.update_by_tensor(returns.flatten())
        return (reward * self.scale).clamp(-self.clip, self.clip)

    @property
    def scale(self) -> float:
        """What rewards are multiplied with."""
        return 1 / math.sqrt(float(self.moments.variance) + 1e-8)

    def scaled(self, reward: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scale rewards, of any shape; the statistics do not move."""
        return np.clip(reward * self.scale, -self.clip, self.clip).astype(np.float32)

    def state_dict(self) -> StateDict:
        """Statistics and the half-finished returns."""
        return self.moments.state_dict() | {"running": torch.from_numpy(self.running.copy())}

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`."""
        self.moments.load_state_dict(state)
        self.running = state["running"].cpu().numpy().copy()


def running_returns(start: Tensor, reward: Tensor, done: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """Discounted sums of the rewards so far, of the episode that each step belongs to.

        g_t = gamma g_{t-1} + r_t   (g starts at 0 in every episode)

    Args:
        start: g before the first step, float64, [...].
        reward: r_t, [T, ...].
        done: the episode ended at this step, bool, [T, ...] or what broadcasts to it.
        gamma: discount per step.

    Returns:
        g_t, float64, [T, ...], and what the next call starts from.
    """
    running, returns = start, []
    for earned, ended in zip(reward.double(), done, strict=True):
        running = gamma * running + earned
        returns.append(running)
        running = torch.where(ended, 0.0, running)
    return torch.stack(returns), running
