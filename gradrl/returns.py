"""Returns and advantages of a rollout: pure functions of [T, N] tensors, time first.

An episode can end in two ways that look alike and mean different things. *Terminated*: the world ended,
nothing can be earned after it, the value behind it is 0. *Truncated*: only the clock ran out, so the
value of the final observation stands for what would have come.
"""

import torch
from torch import Tensor


def generalized_advantage_estimate(
    reward: Tensor,
    value: Tensor,
    next_value: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    gamma: float,
    gae_lambda: float,
) -> Tensor:
    """Exponentially weighted sum of temporal-difference errors.

        delta_t = r_t + gamma V(s_{t+1}) (1 - terminated_t) - V(s_t)
        A_t     = delta_t + gamma lambda (1 - terminated_t or truncated_t) A_{t+1},   A_T = 0

    Args:
        reward: r_t, [T, N].
        value: V(s_t), [T, N].
        next_value: V of the observation that step t led to, [T, N]; where the episode ended it belongs to the
            final observation, never to the one after the reset.
        terminated: the world ended at step t, bool, [T, N].
        truncated: the episode was cut off at step t, bool, [T, N].
        gamma: discount per step, in [0, 1].
        gae_lambda: 0 gives the one-step error (low variance), 1 the whole return minus V (low bias); [0, 1].

    Returns:
        A_t, [T, N], in units of reward; no gradient is cut here, so call it without one.

    Raises:
        ValueError: the five tensors are not of one shape [T, N].

    Source: Schulman et al. 2016, arXiv:1506.02438, eq. 16; truncation: Pardo et al. 2018, arXiv:1712.00378.
    """
    shapes = [tuple(x.shape) for x in (reward, value, next_value, terminated, truncated)]
    if len(set(shapes)) != 1 or reward.dim() != 2:
        raise ValueError(
            f"generalized_advantage_estimate wants five tensors of one shape [T, N], got {shapes}"
        )
    delta = reward + gamma * next_value * ~terminated - value
    decay = (gamma * gae_lambda) * (~(terminated | truncated)).to(reward.dtype)
    running = torch.zeros_like(delta[0])
    advantage = []
    for delta_t, decay_t in zip(reversed(delta.unbind()), reversed(decay.unbind()), strict=True):
        running = torch.addcmul(delta_t, decay_t, running)
        advantage.append(running)
    return torch.stack(advantage[::-1])


def explained_variance(value: Tensor, target: Tensor) -> Tensor:
    """Share of the targets' variance that the values explain: 1 - Var(target - value) / Var(target).

    Args:
        value: predictions, any shape.
        target: what they should have been, same shape.

    Returns:
        0-d, at most 1; 0 for a constant prediction, negative for one worse than that, 0 where the targets
        do not vary.

    Raises:
        ValueError: the shapes differ.
    """
    if value.shape != target.shape:
        raise ValueError(
            f"explained_variance wants one shape, got {tuple(value.shape)}, {tuple(target.shape)}"
        )
    variance = target.var(correction=0)
    unexplained = (target - value).var(correction=0)
    return torch.where(variance > 0, 1 - unexplained / variance, 0.0)
