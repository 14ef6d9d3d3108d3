"""One backward pass through the discriminator for both players, where both gradients are taken at one point.

Both losses then read the same logits l_i = D(y_i) of the same generated samples. As long as D takes each
sample by itself, l_i is all in either loss that depends on y_i:

    dL_D/dy_i = (dL_D/dl_i) dl_i/dy_i
    dL_G/dy_i = (dL_G/dl_i) dl_i/dy_i = (dL_G/dl_i / dL_D/dl_i) dL_D/dy_i

The backward pass of L_D goes on to y and gives dL_D/dy_i; each sample's is then scaled by the ratio of the
two slopes. Both slopes come from autograd, so the losses may be any functions of all logits, paired or
cut to the best k. It saves the generator's own pass through D, forward and backward; exact up to rounding.

Where D's slope vanishes there is nothing to scale: the logistic loss underflows at logits below -100. A slope
below `LEAST` is raised to it for both players, on the device and for every sample by itself, so nothing waits
and no sample loses its gradient. D's gradient is thereby off by at most `LEAST` |dl_i/dw| a sample, whose
square is 0 in float32; that it stays unseen is why `learns_everywhere` turns away losses that are flat over
a range (hinge), whose exact zeros would become such numbers.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

LEAST = 2.0**-80  # 2^46 above float32's smallest normal number, for what D's layers multiply it with


class SharedPass:
    """What the discriminator's loss leaves of its pass over generated samples to the generator's loss.

    Args:
        generator: made the samples.
        discriminator: takes each sample by itself; see `scores_alone`.
    """

    def __init__(self, generator: nn.Module, discriminator: nn.Module) -> None:
        self._parameters = [*generator.parameters(), *discriminator.parameters()]
        self._version = self._versions()
        # A backward pass for D's parameters comes by at the samples because this one seems to lie behind.
        self._anchor = next(p for p in discriminator.parameters() if p.requires_grad)
        self._slopes: list[Tensor] = []
        self._gradients: list[Tensor] = []
        self._logits: tuple[Tensor, Tensor] | None = None

    def samples(self, y: Tensor) -> Tensor:
        """Generated samples, for the discriminator; backward notes dL_D/dy as it arrives here."""
        watched: Any = _Samples.apply(y, self._anchor, self._gradients)
        return watched

    def logits(self, fake_logits: Tensor, real_logits: Tensor) -> Tensor:
        """The logits of `samples`, [B], for L_D; backward notes dL_D/dl and raises what is below `LEAST`."""
        self._logits = fake_logits.detach(), real_logits.detach()
        watched: Any = _Logits.apply(fake_logits, self._slopes)
        return watched

    @property
    def complete(self) -> bool:
        """Whether L_D has been differentiated, as a whole, where both players still are."""
        # Losses apart (PCGrad), and a penalty that differentiates the logits itself, note more than one.
        noted = len(self._slopes) == len(self._gradients) == 1
        return noted and self._version == self._versions()

    def again(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """D's logits of the samples and of the real ones, [B] each, as if it were asked again; if `complete`.

        Args:
            y: the samples, with their graph; the gradient of the first result goes to them.
        """
        assert self._logits is not None
        fake_logits, real_logits = self._logits
        again: Any = _Again.apply(y, fake_logits, self._slopes[0], self._gradients[0])
        return again, real_logits

    def _versions(self) -> int:
        return sum(p._version for p in self._parameters)


def scores_alone(discriminator: nn.Module) -> bool:
    """Whether a pass leaves no trace and mixes no samples: neither batch norm nor a persistent buffer.

    Such buffers are what a pass may change: spectral normalisation counts every one. Modules of the user's
    own may compare the samples of a batch, which nothing here can see: they take the usual two passes.
    """
    norms = nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm
    parameters = {name for name, _ in discriminator.named_parameters(remove_duplicate=False)}
    mixes = any(isinstance(module, norms) for module in discriminator.modules())
    known = all(
        type(module).__module__.startswith(("torch.nn.", "gradgan.")) for module in discriminator.modules()
    )
    return known and not mixes and discriminator.state_dict().keys() == parameters


class _Samples(Function):
    """The identity; backward notes the gradient and ends there."""

    @staticmethod
    def forward(ctx: Any, samples: Tensor, anchor: Tensor, noted: list[Tensor]) -> Tensor:
        ctx.noted = noted
        return samples.view_as(samples)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, None]:
        ctx.noted.append(gradient.detach())
        return None, None, None


class _Logits(Function):
    """The identity; backward notes the slopes, none below `LEAST`, and hands these on."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, noted: list[Tensor]) -> Tensor:
        ctx.noted = noted
        return logits.view_as(logits)

    @staticmethod
    def backward(ctx: Any, slopes: Tensor) -> tuple[Tensor, None]:
        least = torch.full_like(slopes, LEAST).copysign(slopes)
        raised = torch.where(slopes.abs() < LEAST, least, slopes)
        ctx.noted.append(raised.detach())
        return raised, None


class _Again(Function):
    """Known logits of the samples; backward scales a known gradient of each sample."""

    @staticmethod
    def forward(ctx: Any, samples: Tensor, logits: Tensor, slopes: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(slopes, gradient)
        return logits.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slopes: Tensor) -> tuple[Tensor, None, None, None]:
        before, gradient = ctx.saved_tensors
        ratio = slopes.to(torch.promote_types(slopes.dtype, torch.float32)) / before
        scaled = gradient * ratio.reshape(-1, *[1] * (gradient.dim() - 1))
        return scaled.to(gradient.dtype), None, None, None
