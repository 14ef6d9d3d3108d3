"""Made-up rollouts for agents that learn from a replay."""

import torch

from gradrl.experience.rollout import Rollout


def rollout(obs, action, reward, *, terminated=None, truncated=None, valid=None, final=None) -> Rollout:
    """A rollout of `obs` [T + 1, N, D]; `final` = {(t, n): observation} for the truncated under SAME_STEP."""
    t, n = reward.shape
    nowhere = torch.zeros(t, n, dtype=torch.bool)
    valid = ~nowhere if valid is None else valid
    final = final or {}
    return Rollout(
        obs=obs,
        action=action,
        reward=reward,
        terminated=nowhere if terminated is None else terminated,
        truncated=nowhere if truncated is None else truncated,
        valid=valid,
        num_valid=int(valid.sum()),
        final_index=torch.tensor([row * n + column for row, column in final], dtype=torch.int64),
        final_obs=torch.stack([*final.values()]) if final else obs.new_zeros(0, obs.shape[-1]),
        terminal_index=torch.zeros(0, dtype=torch.int64),
        terminal_obs=obs.new_zeros(0, obs.shape[-1]),
        episode_start=torch.zeros(t + 1, n, dtype=torch.bool),
        recurrent_state=torch.zeros(n, 0),
    )


def random_rollout(t, n, seed=0, *, discrete=False, size=3) -> Rollout:
    """All random; a fifth of the steps ends the world, a fifth is cut off, a seventh is no transition."""
    g = torch.Generator().manual_seed(seed)
    ends = torch.rand(t, n, generator=g)
    truncated = (ends >= 0.2) & (ends < 0.4)
    final = {(int(i), int(j)): torch.randn(size, generator=g) for i, j in truncated.nonzero()}
    action = torch.randint(3, (t, n), generator=g) if discrete else torch.rand(t, n, 2, generator=g) * 2 - 1
    valid = torch.rand(t, n, generator=g) > 1 / 7
    valid[0, 0] = True
    return rollout(
        torch.randn(t + 1, n, size, generator=g),
        action,
        torch.randn(t, n, generator=g),
        terminated=ends < 0.2,
        truncated=truncated,
        valid=valid,
        final=final,
    )
