"""Batch norm whose statistics are those of the whole batch, of however many ranks it is."""

import torch
from torch import Tensor, nn

from core.gradients.ranks import batch_mean, num_ranks, whole


class BatchNorm2d(nn.BatchNorm2d):
    """As torch's; over several ranks with the mean and the variance of all their samples, also on a CPU."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  (torch's name)
        """[B, C, H, W]."""
        if num_ranks() == 1 or not self.training:
            return super().forward(input)
        mean = batch_mean(input, (0, 2, 3))
        centred = input - mean[:, None, None]
        variance = batch_mean(centred.square(), (0, 2, 3))
        self._follow(mean.detach(), variance.detach(), whole(input.numel() // input.shape[1]))
        normal = centred * (variance + self.eps).rsqrt()[:, None, None]
        return normal * self.weight[:, None, None] + self.bias[:, None, None]

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Move the running statistics, whose variance is the unbiased one of `count` values a channel."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
