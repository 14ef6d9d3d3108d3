"""Returns and advantages of a rollout: functions of [T, N] tensors, time first.

An episode can end in two ways that look alike and mean different things. *Terminated*: the world ended,
nothing can be earned after it, the value behind it is 0. *Truncated*: only the clock ran out, so the
value of the final observation stands for what would have come.
"""

import torch
from torch import Tensor

from gradrl.experience.rollout import Estimates, Rollout


def discounted_return(
    reward: Tensor, next_value: Tensor, terminated: Tensor, truncated: Tensor, gamma: float
) -> Tensor:
    """Return-to-go, continued by a value where a rollout or the clock ends an episode in the middle.

        G_t = r_t + gamma G_{t+1}                          inside an episode
        G_t = r_t + gamma V(s_{t+1}) (1 - terminated_t)    at its end, and at t = T - 1

    So it is the n-step return with n as large as the rollout allows. With `next_value` = 0 every cut counts
    as an end: the plain sum of what the rollout holds.

    Args:
        reward: r_t, [T, N].
        next_value: V of the observation that step t led to, [T, N]; read only where an episode or the rollout
            ends.
        terminated: the world ended at step t, bool, [T, N].
        truncated: the episode was cut off at step t, bool, [T, N].
        gamma: discount per step, in [0, 1].

    Returns:
        G_t, [T, N], in units of reward; no gradient is cut here.

    Raises:
        ValueError: the four tensors are not of one shape [T, N].

    Source: Sutton and Barto 2018, "Reinforcement learning", eq. 3.9 and 7.1.
    """
    _require_time_first("discounted_return", reward, next_value, terminated, truncated)
    behind = gamma * next_value * ~terminated
    ends = terminated | truncated
    running = behind[-1]
    returns = []
    for t in range(len(reward) - 1, -1, -1):
        running = reward[t] + torch.where(ends[t], behind[t], running)
        returns.append(running)
        running = gamma * running
    return torch.stack(returns[::-1])


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
    _require_time_first("generalized_advantage_estimate", reward, value, next_value, terminated, truncated)
    delta = reward + gamma * next_value * ~terminated - value
    decay = (gamma * gae_lambda) * (~(terminated | truncated)).to(reward.dtype)
    return _decayed_sum(delta, decay)


def generalized_estimates(
    rollout: Rollout, value: Tensor, next_value: Tensor, gamma: float, gae_lambda: float
) -> Estimates:
    """A rollout with its generalized advantages; the target of each value is advantage + value."""
    ends = rollout.terminated, rollout.truncated
    advantage = generalized_advantage_estimate(rollout.reward, value, next_value, *ends, gamma, gae_lambda)
    return Estimates(rollout, value, next_value, advantage, advantage + value)


def vtrace(
    log_ratio: Tensor,
    reward: Tensor,
    value: Tensor,
    next_value: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    gamma: float,
    rho_bar: float = 1.0,
    c_bar: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Targets of the critic and advantages of the actor from experience of an older policy.

        rho_t = min(rho_bar, pi(a_t|s_t) / mu(a_t|s_t)),   c_t = min(c_bar, pi(a_t|s_t) / mu(a_t|s_t))
        delta_t = rho_t (r_t + gamma V(s_{t+1}) - V(s_t))
        v_t     = V(s_t) + delta_t + gamma c_t (v_{t+1} - V(s_{t+1}))
        A_t     = rho_t (r_t + gamma v_{t+1} - V(s_t))

    with V(s_{t+1}) = v_{t+1} = 0 behind a termination, and v_{t+1} = V(s_{t+1}) behind a truncation and the
    rollout's last step. rho_bar decides whose value the critic learns (that of pi as it grows, of mu as it
    falls to 0), c_bar how fast and with which variance. Where pi = mu and neither bound is below 1, v is the
    n-step return `discounted_return`.

    Args:
        log_ratio: log pi(a_t|s_t) - log mu(a_t|s_t), nats, [T, N]; mu is the policy that acted.
        reward: r_t, [T, N].
        value: V(s_t), [T, N].
        next_value: V of the observation that step t led to, [T, N]; where the episode ended it belongs to the
            final observation.
        terminated: the world ended at step t, bool, [T, N].
        truncated: the episode was cut off at step t, bool, [T, N].
        gamma: discount per step, in [0, 1].
        rho_bar: upper bound of the weights of the errors, > 0.
        c_bar: upper bound of the weights of the trace, >= 0.

    Returns:
        v_t and A_t, [T, N] each, in units of reward; no gradient is cut here, so call it without one.

    Raises:
        ValueError: the six tensors are not of one shape [T, N].

    Source: Espeholt et al. 2018, arXiv:1802.01561, eq. 1, remark 1, and section 4.2 for A.
    """
    _require_time_first("vtrace", log_ratio, reward, value, next_value, terminated, truncated)
    ratio = log_ratio.exp()
    rho, c = ratio.clamp(max=rho_bar), ratio.clamp(max=c_bar)
    behind = gamma * next_value * ~terminated
    delta = rho * (reward + behind - value)
    decay = gamma * c * ~(terminated | truncated)
    target_excess = _decayed_sum(delta, decay)  # v_t - V(s_t)
    following = torch.cat([target_excess[1:], torch.zeros_like(target_excess[:1])])
    following = following * ~(terminated | truncated)
    return value + target_excess, rho * (reward + behind + gamma * following - value)


def _decayed_sum(delta: Tensor, decay: Tensor) -> Tensor:
    """x_t = delta_t + decay_t x_{t+1} of [T, N] tensors, x_T = 0."""
    running, sums = torch.zeros_like(delta[0]), []
    for delta_t, decay_t in zip(reversed(delta.unbind()), reversed(decay.unbind()), strict=True):
        running = torch.addcmul(delta_t, decay_t, running)
        sums.append(running)
    return torch.stack(sums[::-1])


def value_fit(value: Tensor, target: Tensor) -> dict[str, Tensor]:
    """What the critic knew of a rollout before it learnt from it, as metrics.

    Args:
        value: V(s), [B], or a column for each of several critics.
        target: what it should be.

    Returns:
        policy/explained_variance, as below; policy/advantage_std: deviation of target - value, which is the
        advantage before any normalisation, in units of return.
    """
    return {
        "policy/explained_variance": explained_variance(value, target),
        "policy/advantage_std": (target - value).std(correction=0),
    }


def explained_variance(value: Tensor, target: Tensor) -> Tensor:
    """Share of the targets' variance that the values explain: 1 - Var(target - value) / Var(target).

    Args:
        value: predictions, any shape.
        target: what they should have been, same shape.

    Returns:
        0-d, at most 1; 0 for a constant prediction, negative for one worse than that, 0 where the targets
        do not vary by more than the rounding of a sum of values and targets of their size.

    Raises:
        ValueError: the shapes differ.
    """
    if value.shape != target.shape:
        raise ValueError(
            f"explained_variance wants one shape, got {tuple(value.shape)}, {tuple(target.shape)}"
        )
    largest = torch.maximum(target.abs().max(), value.abs().max()).clamp(min=torch.finfo(target.dtype).tiny)
    target, value = target / largest, value / largest  # squares neither overflow nor vanish
    variance = (target - target.flatten()[0]).var(correction=0)  # shifted: exactly 0 for a constant
    unexplained = (target - value).var(correction=0)
    size = target.square().mean() + value.square().mean()
    rounding = size * (2 * torch.finfo(target.dtype).eps) ** 2
    return torch.where(variance > rounding, 1 - unexplained / variance, 0.0)


def _require_time_first(function: str, *tensors: Tensor) -> None:
    """Raise ValueError unless all are of one shape [T, N]."""
    shapes = [tuple(x.shape) for x in tensors]
    if len(set(shapes)) != 1 or tensors[0].dim() != 2:
        count = {4: "four", 5: "five", 6: "six"}[len(tensors)]
        raise ValueError(f"{function} wants {count} tensors of one shape [T, N], got {shapes}")
