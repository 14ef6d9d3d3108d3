"""Features of the Inception network that published FIDs are measured under; torch-fidelity has it."""

from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from sys import stderr
from typing import ClassVar

import torch
from torch import Tensor, nn

from core.config import ConfigError
from gradgan.features import FeatureNetwork, read_weights
from gradgan.images import Images


class Inception(FeatureNetwork):
    """The 2,048 features before the last layer of the Inception network of 2015.

    Args:
        extractor: uint8 images [B, 3, H, W] to a tuple that begins with the features [B, 2048]; has the last
            layer as `fc`. torch-fidelity's resizes to 299 pixels as the first TensorFlow did.

    Source: Szegedy et al. 2016, arXiv:1512.00567; as in Heusel et al. 2017, arXiv:1706.08500.
    """

    num_features = 2048

    def __init__(self, extractor: nn.Module) -> None:
        super().__init__()
        self.extractor = extractor
        self.eval().requires_grad_(False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Features, float32 [B, 2048], of uint8 images [B, C, H, W]; grey is repeated to three channels."""
        return self.extractor(pixels.expand(-1, 3, -1, -1))[0]

    def logits(self, features: Tensor) -> Tensor:
        """Logits [B, 1008] without the bias, as the Inception Score has always been computed."""
        last = self.extractor.fc
        assert isinstance(last, nn.Linear)
        return features @ last.weight.T


@dataclass(frozen=True, kw_only=True)
class InceptionFeatures:
    """The Inception network of torch-fidelity, an optional dependency.

    Attributes:
        weights: file of them, `weights-inception-2015-12-05-6726825d.pth`; null = fetched once by
            torch-fidelity (91 MB).
    """

    needs_labels: ClassVar[bool] = False

    weights: str | None

    def name_on(self, data_name: str) -> str:
        """`inception`, on all data."""
        return "inception"

    def check(self, images: Images) -> None:
        """Check that torch-fidelity is installed and that there are weights."""
        self.make(images)

    def make(self, images: Images, say: Callable[[str], None] = print) -> FeatureNetwork:
        """Load it.

        Raises:
            ConfigError: torch-fidelity is not installed, no such file, or the weights could not be fetched.
        """
        if find_spec("torch_fidelity") is None:
            raise ConfigError("features=inception needs torch-fidelity: pip install 'gradsight[inception]'")
        library = import_module("torch_fidelity.feature_extractor_inceptionv3")
        if self.weights is not None:
            read_weights(self.weights, "torch-fidelity's Inception")  # the library will trust it
        # torch's constructors draw weights that are then replaced; the library prints what it fetches.
        with torch.random.fork_rng(devices=[]), redirect_stdout(stderr):
            try:
                extractor = library.FeatureExtractorInceptionV3(
                    "inception-v3-compat", ["2048"], feature_extractor_weights_path=self.weights
                )
            except OSError as error:
                raise ConfigError(
                    "features.weights=null: torch-fidelity could not fetch Inception's weights "
                    f"({' '.join(str(error).split())}); set features.weights= to their file"
                ) from error
            except (RuntimeError, TypeError) as error:
                raise ConfigError(
                    f"features.weights={self.weights} is of another network than Inception"
                ) from error
        return Inception(extractor)
