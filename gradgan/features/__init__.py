"""Networks that images are compared under: what FID and its kin ask of one.

Distances under one network are comparable only with distances under the same one: they always carry its name,
and stand beside the distance of real images from real images.
"""

from collections.abc import Callable
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from gradgan.images import Images

BATCH = 64  # images taken at once; on a CPU the activations of many more leave the cache


class FeatureNetwork(nn.Module):
    """Images to features; in evaluation mode, without gradients.

    Attributes:
        num_features: F, size of a feature vector.
        shares: of the data's own K classes among its images, float64 [K], where the logits are of these
            classes; None where they are of others, or there are none.
    """

    num_features: int
    shares: Tensor | None = None

    def forward(self, pixels: Tensor) -> Tensor:
        """Features, float32 [B, F], of uint8 images [B, C, H, W], C = 1 or 3."""
        raise NotImplementedError

    def logits(self, features: Tensor) -> Tensor | None:
        """Class logits [B, K], nats, of features [B, F]; None = this network knows no classes."""
        return None


class Features(Protocol):
    """A choice of the feature network, made when the images are known.

    Attributes:
        needs_labels: without labels it cannot be made, and nothing is measured.
    """

    needs_labels: ClassVar[bool]

    def name_on(self, data_name: str) -> str:
        """What stands beside every number measured under it, for data of this name."""
        ...

    def check(self, images: Images) -> None:
        """Look, before a run begins, whether it can be made.

        Raises:
            ConfigError: no weights, no library, or labels that it cannot learn.
        """
        ...

    def make(self, images: Images, say: Callable[[str], None] = print) -> FeatureNetwork:
        """The network, on the CPU; may train one, and say so: that takes seconds to minutes.

        Raises:
            ConfigError: as `check`.
        """
        ...


@torch.no_grad()
def extract(network: FeatureNetwork, pixels: Tensor, device: torch.device) -> Tensor:
    """Features, float32 [N, F] on the device, of uint8 images [N, C, H, W]; the network must be there too."""
    return torch.cat([network(batch.to(device)) for batch in pixels.split(BATCH)])
