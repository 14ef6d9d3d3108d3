"""What every loss says of the logits it reads."""

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
        logits/real and logits/fake, means; logits/accuracy, the fraction in [0, 1] of pairs, sample i of one
        kind with sample i of the other, that are ranked rightly (a tie is not). They have one label: across
        labels a discriminator that is told them need not rank.
    """
    real, fake = real_logits.detach(), fake_logits.detach()
    accuracy = (real > fake).float().mean()
    return {"logits/real": real.mean(), "logits/fake": fake.mean(), "logits/accuracy": accuracy}
