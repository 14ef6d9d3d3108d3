"""Networks whose features images are compared by: what FID and similar metrics need.

Distances are comparable only under the same network. They are reported with its name, and with the distance
between two sets of real images.
"""

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from core.config import ConfigError
from core.run.pace import Pace
from core.state import StateDict
from gradgan.images import Images

BATCH = 64  # images in one pass; on a CPU the activations of many more do not fit the cache


class FeatureNetwork(nn.Module):
    """Uint8 images [B, C, H, W], C = 1 or 3, to features, float32 [B, F]; in evaluation mode, no gradients.

    Attributes:
        num_features: F, size of a feature vector.
        shares: of the data's own K classes among its images, float64 [K], where the logits are of these
            classes; None where they are of others, or there are none.
    """

    num_features: int
    shares: Tensor | None = None

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
        """The name that is reported with every number measured under it, for data of this name."""
        ...

    def check(self, images: Images) -> None:
        """Check, before a run begins, whether it can be made.

        Raises:
            ConfigError: no weights, no library, or labels that it cannot learn.
        """
        ...

    def make(self, images: Images, say: Callable[[str], None] = print) -> FeatureNetwork:
        """The network, on the CPU. Where it has to be trained, which takes minutes at most, `say` is told.

        Raises:
            ConfigError: as `check`.
        """
        ...


@torch.no_grad()
def extract(network: FeatureNetwork, pixels: Tensor, device: torch.device) -> Tensor:
    """Features, float32 [N, F] on the device, of uint8 images [N, C, H, W]; the network must be there too.

    Where it takes long, it is said how far it is.
    """
    found, pace = [], Pace()
    for batch in pixels.split(BATCH):
        found.append(network(batch.to(device)))
        if pace.due():
            done = sum(map(len, found))
            left = pace.left(done, len(pixels))
            print(
                f"evaluation: features of {done:,} of {len(pixels):,} images{left and f', {left}'}",
                flush=True,
            )
    return torch.cat(found)


def read_weights(path: str, holds: str) -> StateDict:
    """The tensors of a file of weights, and nothing else: no code of it is run.

    Args:
        path: of the file.
        holds: whose weights it should hold, for the message.

    Raises:
        ConfigError: there is no such file, or it is damaged.
    """
    if not Path(path).is_file():
        raise ConfigError(f"features.weights={path} is no file; it should hold {holds}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a foreign file makes the unpickler raise anything
        raise ConfigError(f"features.weights={path} is cut off, damaged or no file of weights") from error
