"""Losses of agents that learn action values from replayed transitions: pure functions of tensors.

C critics value the same B transitions: their values are [C, B]. Targets carry no gradient; call what makes
them under `torch.no_grad`.
"""

import torch
from torch import Tensor


def td_target(reward: Tensor, terminated: Tensor, next_value: Tensor, gamma: float) -> Tensor:
    """What Q(s, a) should be by the next state's value, [B].

        y = r + gamma (1 - terminated) V(s')

    Args:
        reward: r, [B].
        terminated: 1 where the world ended at s', else 0 (a truncated episode goes on), [B].
        next_value: V(s') in units of return, [B].
        gamma: discount per step, in [0, 1].

    Raises:
        ValueError: the three shapes differ.
    """
    _same_shape("td_target", reward, terminated, next_value)
    return reward + gamma * (1 - terminated) * next_value


def critic_loss(q: Tensor, target: Tensor) -> Tensor:
    """Half the mean squared error of every critic, summed over them: each learns as if it were alone.

        L = sum_c mean_b (Q_c(s_b, a_b) - y_b)^2 / 2

    Args:
        q: Q_c(s, a) in units of return, [C, B]; carries the gradient.
        target: y, [B]; no gradient.

    Raises:
        ValueError: q is not [C, B] for the target's B.

    Source: Haarnoja et al. 2018, arXiv:1812.05905, eq. 5; summed: Fujimoto et al. 2018, arXiv:1802.09477.
    """
    if q.dim() != 2 or q.shape[1:] != target.shape:
        raise ValueError(
            f"critic_loss wants q [C, B] and target [B], got {tuple(q.shape)} and {tuple(target.shape)}"
        )
    return 0.5 * (q - target).square().mean(1).sum()


def smoothed_action(action: Tensor, std: float, noise_clip: float, noise: torch.Generator | Tensor) -> Tensor:
    """The target policy's action with clipped noise: similar actions should have similar values, [B, A].

        a' = clip(mu(s') + clip(n, -c, c), -1, 1),   n ~ N(0, std^2)

    Args:
        action: mu(s'), in [-1, 1], [B, A].
        std: of the noise, >= 0.
        noise_clip: c, its largest absolute value.
        noise: standard normal numbers, n / std, [B, A], or what draws them, on the action's device.

    Source: Fujimoto et al. 2018, arXiv:1802.09477, section 5.3.
    """
    if isinstance(noise, torch.Generator):
        noise = torch.empty_like(action).normal_(generator=noise)
    return (action + (std * noise).clamp(-noise_clip, noise_clip)).clamp(-1, 1)


def soft_value(q: Tensor, log_prob: Tensor, temperature: Tensor | float) -> Tensor:
    """Value of a state by one action sampled from the policy, its entropy counted as reward, [B].

        V(s) = min_c Q_c(s, a) - alpha log pi(a|s),   a ~ pi(.|s)

    Minus its mean is the policy's loss (eq. 7); at s' it belongs in the critics' target (eq. 3).

    Args:
        q: Q_c(s, a), [C, B]; the smallest counts, against overestimation.
        log_prob: log pi(a|s), nats, [B].
        temperature: alpha, return per nat, >= 0.

    Source: Haarnoja et al. 2018, arXiv:1812.05905.
    """
    return q.amin(0) - temperature * log_prob


def expected_soft_value(q: Tensor, log_probs: Tensor, temperature: Tensor | float) -> Tensor:
    """`soft_value` for a choice among A actions, as the exact expectation over them, [B].

        V(s) = sum_a pi(a|s) (min_c Q_c(s, a) - alpha log pi(a|s))

    Args:
        q: Q_c(s, .), [C, B, A].
        log_probs: log pi(.|s), nats, [B, A].
        temperature: alpha, return per nat, >= 0.

    Source: Christodoulou 2019, arXiv:1910.07207, eq. 10 and 12.
    """
    return (log_probs.exp() * (q.amin(0) - temperature * log_probs)).sum(-1)


def temperature_loss(log_temperature: Tensor, entropy: Tensor, target_entropy: float) -> Tensor:
    """Raises the temperature while the policy's entropy is below its target, and lowers it above.

        L = log(alpha) (H(pi) - H_target)

    Linear in log(alpha) and not, as in eq. 18, in alpha: both vanish at the target, but this one's gradient
    does not die with a small alpha. The authors' code does the same.

    Args:
        log_temperature: log(alpha), 0-d; carries the gradient.
        entropy: mean entropy of the policy over a batch, nats, 0-d; no gradient.
        target_entropy: H_target, nats.

    Source: Haarnoja et al. 2018, arXiv:1812.05905, section 5.
    """
    return log_temperature * (entropy - target_entropy)


def _same_shape(name: str, *tensors: Tensor) -> None:
    shapes = [tuple(x.shape) for x in tensors]
    if len(set(shapes)) > 1:
        raise ValueError(f"{name} wants tensors of one shape, got {shapes}")
