"""Mean return of a policy on environments of its own, made anew each time from fixed seeds."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from torch import Tensor

from core.checks import require
from core.run.seeding import seed_for
from gradrl.collector import Act
from gradrl.envs import EnvConfig, EnvInfo, autoreset_mode, make_envs, reset_envs
from gradrl.networks import MLPActorCritic
from gradrl.normalize import ObservationNormalizer


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """How a policy is judged.

    Attributes:
        episodes: of the final evaluation.
        interval_episodes: of each evaluation during training (logging.eval_interval says how often).
        num_envs: copies that run side by side; each contributes the same number of episodes, give or take one,
            so that short episodes are not over-represented.
        max_episode_steps: episodes are cut off here, for environments without a limit of their own.
        deterministic: the most likely action; false samples.
    """

    episodes: int
    interval_episodes: int
    num_envs: int
    max_episode_steps: int
    deterministic: bool

    def __post_init__(self) -> None:
        for name in ("episodes", "interval_episodes", "num_envs", "max_episode_steps"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "an integer >= 1")


@dataclass(frozen=True)
class Episodes:
    """What an evaluation saw.

    Attributes:
        returns: undiscounted sum of rewards per episode, [E].
        lengths: steps per episode, [E].
        capped: episodes cut off by evaluation.max_episode_steps and not by the environment's own limit.
    """

    returns: np.ndarray
    lengths: np.ndarray
    capped: int


def evaluate(
    act: Act, env: EnvConfig, info: EnvInfo, *, episodes: int, num_envs: int, max_episode_steps: int, seed: int
) -> Episodes:
    """Run episodes and add up their rewards.

    Args:
        act: chooses actions from encoded observations.
        env: which environment.
        info: its spaces and limits.
        episodes: E.
        num_envs: at most so many side by side.
        max_episode_steps: cap per episode.
        seed: decides all initial states.

    Returns:
        The episodes in order of environment, then time.
    """
    num_envs = min(num_envs, episodes)
    quota = np.full(num_envs, episodes // num_envs)
    quota[: episodes % num_envs] += 1
    binding = info.max_episode_steps is None or max_episode_steps < info.max_episode_steps
    envs = make_envs(env, num_envs, max_episode_steps=max_episode_steps if binding else None)
    try:
        finished = _run(act, envs, info, quota, [seed_for(seed, "evaluation", i) for i in range(num_envs)])
    finally:
        envs.close()
    returns, lengths, truncated = (np.array(column) for column in zip(*sum(finished, []), strict=True))
    capped = int((truncated & (lengths >= max_episode_steps)).sum()) if binding else 0
    return Episodes(returns, lengths, capped)


@torch.no_grad()
def _run(act, envs, info: EnvInfo, quota: np.ndarray, seeds: list[int]) -> list[list[tuple[float, int, bool]]]:
    """(return, length, truncated) of the first `quota[n]` episodes of every environment."""
    resets_late = autoreset_mode(envs) is AutoresetMode.NEXT_STEP
    finished: list[list[tuple[float, int, bool]]] = [[] for _ in quota]
    total, length = np.zeros(len(quota)), np.zeros(len(quota), np.int64)
    ended = np.zeros(len(quota), np.bool_)
    missing = int(quota.sum())
    obs = reset_envs(envs, seeds)
    while missing:
        action = act(torch.from_numpy(info.observation.encode(obs)))
        obs, reward, terminated, truncated, _ = envs.step(info.action.decode(action))
        valid = ~ended if resets_late else np.ones_like(ended)
        total += np.where(valid, reward, 0.0)
        length += valid
        ended = terminated | truncated
        for n in np.flatnonzero(ended):
            if len(finished[n]) < quota[n]:
                finished[n].append((float(total[n]), int(length[n]), bool(truncated[n] and not terminated[n])))
                missing -= 1
            total[n], length[n] = 0.0, 0
    return finished


def actor(
    model: MLPActorCritic,
    normalizer: ObservationNormalizer | None,
    *,
    deterministic: bool,
    seed: int,
) -> Act:
    """The policy as it now is, as a function of raw encoded observations on the CPU.

    Args:
        model: policy and value function.
        normalizer: what the model was trained behind; used, not moved.
        deterministic: the most likely action instead of a random one.
        seed: of the generator that random actions are drawn from, so that training's own stands still.
    """
    device = next(model.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)

    @torch.inference_mode()
    def act(obs: Tensor) -> Tensor:
        seen = obs if normalizer is None else normalizer(obs)
        policy = model.policy(seen.to(device))
        return (policy.mode() if deterministic else policy.sample(generator)).cpu()

    return act
