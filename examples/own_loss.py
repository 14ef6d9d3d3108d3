"""A loss of your own for both players of a GAN: real samples count as a little less than certain.

python examples/own_loss.py data=ring loss._target_=own_loss.Smoothed loss.target=0.8

What the class must have stands in gradgan.losses.Loss.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Interval
from torch import Tensor
from torch.nn.functional import softplus

from core.checks import checked
from core.cli.command import launch


@dataclass(frozen=True, kw_only=True)
@checked
class Smoothed:
    """The non-saturating loss with one-sided label smoothing (Salimans et al. 2016, arXiv:1606.03498)."""

    generator_uses_real: ClassVar[bool] = False  # `generator` does not read the logits of real samples
    has_threshold: ClassVar[bool] = True  # a logit above 0 says real
    target: Annotated[float, Interval(gt=0, le=1)] = 0.9  # probability that D is to give a real sample

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """L_D, a scalar, of logits [B] each."""
        real = self.target * softplus(-real_logits) + (1 - self.target) * softplus(real_logits)
        return real.mean() + softplus(fake_logits).mean()

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """L_G, a scalar."""
        return softplus(-fake_logits).mean()


if __name__ == "__main__":
    launch("gan")
