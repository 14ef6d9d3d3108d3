"""Losses of policy-gradient agents: pure functions of tensors, returning 0-d tensors and `Metrics`."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

from core.gradients import Metrics


def policy_gradient_loss(log_prob: Tensor, advantage: Tensor) -> Tensor:
    """A loss whose gradient is the negative policy gradient; its value means nothing.

        L = -mean(A log pi(a|s)),   -grad L = mean(A grad log pi(a|s))

    Args:
        log_prob: log pi(a|s), nats, [B]; carries the gradient.
        advantage: A, [B], in units of (normalised) return; no gradient.

    Returns:
        The scalar loss.

    Raises:
        ValueError: the shapes differ.

    Source: Williams 1992, Machine Learning 8, theorem 1; Sutton et al. 2000, eq. 3.
    """
    _require_one_shape("policy_gradient_loss", log_prob, advantage)
    return -(advantage * log_prob).mean()


def surrogate_loss(log_prob: Tensor, old_log_prob: Tensor, advantage: Tensor) -> tuple[Tensor, Metrics]:
    """Negative surrogate objective: the gain of a policy by importance sampling from the one that acted.

        L = -mean(r A),   r = exp(log_prob - old_log_prob)

    Where both policies are the same its gradient is that of `policy_gradient_loss`.

    Args:
        log_prob: log pi(a|s) of the policy in training, nats, [B]; carries the gradient.
        old_log_prob: the same under the policy that acted, nats, [B]; no gradient.
        advantage: [B], in units of (normalised) return; no gradient.

    Returns:
        The scalar loss, and policy/ratio_min, policy/ratio_max.

    Raises:
        ValueError: the three shapes differ.

    Source: Schulman et al. 2015, arXiv:1502.05477, eq. 14.
    """
    _require_one_shape("surrogate_loss", log_prob, old_log_prob, advantage)
    ratio = (log_prob - old_log_prob).exp()
    lowest, highest = ratio.detach().aminmax()
    return -(ratio * advantage).mean(), {"policy/ratio_min": lowest, "policy/ratio_max": highest}


def clipped_surrogate_loss(
    log_prob: Tensor, old_log_prob: Tensor, advantage: Tensor, clip_coef: float | Tensor
) -> tuple[Tensor, Metrics]:
    """Negative PPO-clip objective; minimising it improves the policy.

        L = -mean(min(r A, clip(r, 1 - eps, 1 + eps) A)),   r = exp(log_prob - old_log_prob)

    Args:
        log_prob: log pi(a|s) of the policy in training, nats, [B]; carries the gradient.
        old_log_prob: the same under the policy that acted, nats, [B]; no gradient.
        advantage: [B], in units of (normalised) return; no gradient.
        clip_coef: eps, half-width of the interval around r = 1; in (0, 1). A 0-d tensor lets a compiled graph
            follow its schedule.

    Returns:
        The scalar loss, and scalars on the same device: policy/approx_kl (nats, the k3 estimator, never
        negative), policy/clip_fraction in [0, 1], policy/ratio_min and policy/ratio_max.

    Raises:
        ValueError: the three shapes differ ([B] against [B, 1] would broadcast to [B, B]).

    Source: Schulman et al. 2017, arXiv:1707.06347, eq. 7; k3: joschu.net/blog/kl-approx.html.
    """
    _require_one_shape("clipped_surrogate_loss", log_prob, old_log_prob, advantage)
    log_ratio = log_prob - old_log_prob
    ratio = log_ratio.exp()
    with torch.no_grad():
        low, high = cast(tuple[float, float], (1 - clip_coef, 1 + clip_coef))  # its types forbid a union
        clipped = ratio.clamp(low, high)
        stopped = clipped * advantage < ratio * advantage
        lowest, highest = ratio.aminmax()
        metrics = {
            "policy/approx_kl": (ratio - 1 - log_ratio).mean(),
            "policy/clip_fraction": (ratio != clipped).float().mean(),
            "policy/ratio_min": lowest,
            "policy/ratio_max": highest,
        }
    # A clipped ratio is a constant, so it stays outside the graph: min() would keep both branches, at a third
    # more time. Where they are equal, and where one is NaN, the ratio itself counts.
    return -(torch.where(stopped, clipped, ratio) * advantage).mean(), metrics


def value_loss(
    value: Tensor, target: Tensor, old_value: Tensor | None = None, clip_coef: float | None = None
) -> Tensor:
    """Half the mean squared error of the critic, optionally with the change of its prediction clipped.

        L = mean((V - target)^2) / 2
        L = mean(max((V - target)^2, (V_clip - target)^2)) / 2,   V_clip = V_old + clip(V - V_old, -c, c)

    Both forms have the same scale, so switching clipping on does not change `value_coef`.

    Args:
        value: V(s), [B], in units of return; carries the gradient.
        target: estimated return, [B]; no gradient.
        old_value: V(s) when the rollout was made, [B]; needed with `clip_coef`.
        clip_coef: c, largest change that is rewarded, in units of return; None = no clipping.

    Returns:
        The scalar loss.

    Raises:
        ValueError: the shapes differ, or `clip_coef` came without `old_value`.

    Source: the clipped form is OpenAI baselines' (Engstrom et al. 2020, arXiv:2005.12729, section 3).
    """
    if value.shape != target.shape or (old_value is not None and old_value.shape != value.shape):
        raise ValueError(f"value_loss wants one shape, got {tuple(value.shape)} and {tuple(target.shape)}")
    if clip_coef is not None:
        if old_value is None:
            raise ValueError("value_loss needs old_value to clip the change of the value")
        with torch.no_grad():
            change = value - old_value
            limited = change.clamp(-clip_coef, clip_coef)
            clipped = old_value + limited
            # Only a value that was clipped: V_old + (V - V_old) is V but for rounding.
            stopped = ((clipped - target).abs() > (value - target).abs()) & (change != limited)
        value = torch.where(stopped, clipped, value)
    return 0.5 * functional.mse_loss(value, target)


def weighted_terms(
    policy_loss: Tensor, critic_loss: Tensor, entropy: Tensor, value_coef: float, entropy_coef: float
) -> tuple[dict[str, Tensor], Metrics]:
    """The terms whose sum an actor-critic minimises, and the same without weights as metrics.

        L = L_policy + value_coef L_value - entropy_coef H(pi)

    Args:
        policy_loss: 0-d.
        critic_loss: 0-d.
        entropy: mean over the batch, nats, 0-d.
        value_coef: weight of the value loss.
        entropy_coef: weight of the entropy bonus; at 0 its gradient is not computed.

    Source: Mnih et al. 2016, arXiv:1602.01783, section 4.
    """
    losses = {"policy": policy_loss, "value": value_coef * critic_loss}
    if entropy_coef:
        losses["entropy"] = -entropy_coef * entropy
    return losses, {
        "loss/policy": policy_loss.detach(),
        "loss/value": critic_loss.detach(),
        "loss/entropy": -entropy.detach(),
        "policy/entropy": entropy.detach(),
    }


def normalize_advantage(advantage: Tensor) -> Tensor:
    """Advantages with mean 0 and standard deviation 1 over the batch, [B].

    One alone has no deviation and comes back as it is; a constant batch becomes 0.
    """
    if advantage.numel() < 2:
        return advantage
    std, mean = torch.std_mean(advantage)
    return (advantage - mean) / (std + 1e-8)


def mean_metrics(history: Sequence[Metrics]) -> Metrics:
    """The mean of each metric over the gradient steps that have it (a delayed actor takes only some of them).

    Where its name ends in _max or _min it is the extreme.
    """
    if len(history) == 1:
        return history[0]
    columns: dict[str, list[Tensor]] = {}
    for metrics in history:
        for name, value in metrics.items():
            columns.setdefault(name, []).append(value)
    stacked = {name: torch.stack(values) for name, values in columns.items()}
    return {
        name: x.max() if name.endswith("_max") else x.min() if name.endswith("_min") else x.mean()
        for name, x in stacked.items()
    }


def _require_one_shape(function: str, *tensors: Tensor) -> None:
    """Raise ValueError unless all shapes are equal ([B] against [B, 1] would broadcast to [B, B])."""
    shapes = [tuple(x.shape) for x in tensors]
    if any(shape != shapes[0] for shape in shapes):
        count = {2: "two", 3: "three"}[len(tensors)]
        raise ValueError(f"{function} wants {count} tensors of one shape, got {shapes}")
