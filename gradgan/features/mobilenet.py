"""Features of MobileNetV2, which has learnt the 1,000 classes of ImageNet; they ask for no labels."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from core.config import ConfigError
from core.state import StateDict
from gradgan.features import FeatureNetwork, read_weights
from gradgan.images import Images

SIDE = 96  # pixels; 1 to 2 ms an image on one core, a sixth of what 224 pixels cost
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's training images, as in torchvision


class MobileNet(FeatureNetwork):
    """MobileNetV2 without its last layer: 1,280 features, the means of its last maps.

    Args:
        state: torchvision's state dict of `mobilenet_v2`; it must fit.

    Raises:
        RuntimeError: it does not.

    Source: Sandler et al. 2018, arXiv:1801.04381, table 2; torchvision.models.mobilenet_v2.
    """

    num_features = 1280
    mean: Tensor
    std: Tensor

    def __init__(self, state: StateDict) -> None:
        super().__init__()
        from torchvision.models import mobilenet_v2  # late: importing it takes seconds

        with torch.random.fork_rng(devices=[]):  # torch's constructors draw weights that are then replaced
            network = mobilenet_v2()
        network.load_state_dict(state)
        # Threefold as fast on a CPU as torch's usual layout.
        self.body = network.features.to(memory_format=torch.channels_last)
        self.head = network.classifier
        self.register_buffer("mean", torch.tensor(MEAN).reshape(3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).reshape(3, 1, 1))
        self.eval().requires_grad_(False)

    def preprocess(self, pixels: Tensor) -> Tensor:
        """What the network sees, float32 [B, 3, 96, 96], of uint8 images [B, C, H, W].

        Bilinear with antialiasing, grey repeated to three channels, ImageNet's normalisation.
        """
        x = interpolate(pixels.float() / 255, (SIDE, SIDE), mode="bilinear", antialias=True)
        return (x.expand(-1, 3, -1, -1) - self.mean) / self.std

    def forward(self, pixels: Tensor) -> Tensor:
        """Features, float32 [B, 1280], of uint8 images [B, C, H, W]."""
        x = self.preprocess(pixels).contiguous(memory_format=torch.channels_last)
        return adaptive_avg_pool2d(self.body(x), 1).flatten(1)

    def logits(self, features: Tensor) -> Tensor:
        """Logits [B, 1000] of ImageNet's classes."""
        return self.head(features)


@dataclass(frozen=True, kw_only=True)
class MobileNetFeatures:
    """MobileNetV2 with torchvision's weights `IMAGENET1K_V1`.

    Attributes:
        weights: file of them, `mobilenet_v2-b0353104.pth`; null = fetched once by torchvision (14 MB).
    """

    needs_labels: ClassVar[bool] = False

    weights: str | None

    def name_on(self, data_name: str) -> str:
        """`mobilenet`, on all data."""
        return "mobilenet"

    def check(self, images: Images) -> None:
        """Check that there are weights that fit."""
        self.make(images)

    def make(self, images: Images, say: Callable[[str], None] = print) -> FeatureNetwork:
        """Load it.

        Raises:
            ConfigError: no such file, weights of another network, or they could not be fetched.
        """
        state = (
            _fetched() if self.weights is None else read_weights(self.weights, "torchvision's mobilenet_v2")
        )
        try:
            return MobileNet(state)
        except (RuntimeError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"features.weights={self.weights} is of another network than mobilenet_v2"
            ) from error


def _fetched() -> StateDict:
    from torchvision.models import MobileNet_V2_Weights

    try:
        return dict(MobileNet_V2_Weights.IMAGENET1K_V1.get_state_dict(progress=False, check_hash=True))
    except (OSError, RuntimeError) as error:
        raise ConfigError(
            "features.weights=null: torchvision could not fetch mobilenet_v2's weights "
            f"({' '.join(str(error).split())}); set features.weights= to their file"
        ) from error
