"""What every loss says of the logits it reads."""

import torch
from torch import Tensor

from core.gradients import Metrics


def sides(real_logits: Tensor, fake_logits: Tensor) -> Metrics:
    """Mean logits, and how often they fall on their own side of 0.

    Args:
        real_logits: D(real), [B].
        fake_logits: D(fake), [B].

    Returns:
        logits/real and logits/fake, means; logits/accuracy, the fraction in [0, 1] of both batches on their
        own side of 0 (0 itself is neither).
    """
    real, fake = real_logits.detach(), fake_logits.detach()
    accuracy = 0.5 * ((real > 0).float().mean() + (fake < 0).float().mean())
    return {"logits/real": real.mean(), "logits/fake": fake.mean(), "logits/accuracy": accuracy}


def ranks(real_logits: Tensor, fake_logits: Tensor) -> Metrics:
    """Mean logits, and how often they are in the right order, where only their differences have a meaning.

    Args:
        real_logits: D(real), [B].
        fake_logits: D(fake), [B].

    Returns:
        logits/real and logits/fake, means; logits/accuracy, the fraction in [0, 1] of pairs of one real and
        one generated sample, all with all, that are ranked rightly.
    """
    real, fake = real_logits.detach(), fake_logits.detach()
    right = (real[:, None] > fake[None]).to(torch.float32).mean()
    return {"logits/real": real.mean(), "logits/fake": fake.mean(), "logits/accuracy": right}
