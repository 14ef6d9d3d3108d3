"""A small classifier trained on the data set itself: features that need no download.

For Stacked-MNIST, whose 1,000 classes are triples of digits, one classifier of single digits looks at each
colour channel by itself.
"""

import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from core.checks import checked
from core.config import ConfigError
from core.errors import ContractError
from core.run import checkpoint
from gradgan.features import FeatureNetwork
from gradgan.images import Images
from gradgan.networks import Shape
from gradgan.networks.layers import convolution, halving, linear

VERSION = 1  # part of the cache key: raise it with any change to the network or its training
NUM_FEATURES = 64
UPDATES = 600  # 98 % on MNIST's test part; the 1,797 digits are memorised
CHANNEL_UPDATES = 3  # times as many for single channels: 98.2 % of digits, where 600 give 97.1 %
BATCH = 128
LEARNING_RATE = 2e-3
SCALED_ON = 2000  # images that the unit of the features is measured on


class Classifier(FeatureNetwork):
    """Two convolutions and two linear layers; `forward` gives the features before the last one.

    Attributes:
        num_features: size of a feature vector.
        scale: makes the mean square of a feature 1 on the training images, so that distances under
            classifiers of different data sets are of one order (FID has the features' unit squared).
    """

    num_features = NUM_FEATURES
    scale: Tensor

    def __init__(self, shape: Shape, num_classes: int, random: torch.Generator) -> None:
        super().__init__()
        channels, height, width = shape
        self.body = nn.Sequential(
            convolution(channels, 16, random),
            nn.ReLU(),
            halving(16, 32, random),
            nn.ReLU(),
            nn.Flatten(1),
            linear(32 * (height // 2) * (width // 2), NUM_FEATURES, random),
            nn.ReLU(),
        )
        self.head = linear(NUM_FEATURES, num_classes, random, gain=1.0)
        self.register_buffer("scale", torch.ones(()))

    def forward(self, pixels: Tensor) -> Tensor:
        """Features, float32 [B, 64], of uint8 images [B, C, H, W]."""
        return self.body(pixels.float() / 127.5 - 1.0) * self.scale

    def logits(self, features: Tensor) -> Tensor:
        """Class logits [B, K] of features [B, 64]."""
        return self.head(features / self.scale)


class ChannelClassifier(FeatureNetwork):
    """A classifier of single digits, looking at each colour channel by itself.

    Args:
        digit: knows K digits, from images of one channel.
        num_channels: C; a class is the number whose digits, in base K, are those of the channels, red first.
    """

    def __init__(self, digit: Classifier, num_channels: int) -> None:
        super().__init__()
        self.digit = digit
        self.num_channels = num_channels
        self.num_features = num_channels * digit.num_features

    def forward(self, pixels: Tensor) -> Tensor:
        """Features, float32 [B, 64 C], of uint8 images [B, C, H, W], channel after channel."""
        return self.digit(pixels.flatten(0, 1).unsqueeze(1)).unflatten(0, (-1, self.num_channels)).flatten(1)

    def logits(self, features: Tensor) -> Tensor:
        """Log-probabilities [B, K^C] of all combinations: sums of those of the channels."""
        single = self.digit.logits(features.unflatten(1, (self.num_channels, -1))).log_softmax(dim=2)
        joint = single[:, 0]
        for channel in range(1, self.num_channels):
            joint = (joint[:, :, None] + single[:, channel, None]).flatten(1)
        return joint


@dataclass(frozen=True, kw_only=True)
class ClassifierFeatures:
    """The classifier of the data set's own classes, trained on all its images the first time, then cached."""

    needs_labels: ClassVar[bool] = True

    def name_on(self, data_name: str) -> str:
        """`<data>_classifier`: it is another network for every data set."""
        return f"{data_name}_classifier"

    def check(self, images: Images) -> None:
        """Check that there are labels."""
        _labels(images, "classifier")

    def make(self, images: Images, say: Callable[[str], None] = print) -> FeatureNetwork:
        """Load it from the cache, or train it (seconds; of 64 pixels minutes) and say so."""
        labels = _labels(images, "classifier")
        pixels = torch.cat([images.train, images.held_out])
        count = int(labels.max()) + 1
        network = cached_classifier("classifier", pixels, labels, num_classes=count, updates=UPDATES, say=say)
        network.shares = _shares(labels, count)
        return network


@dataclass(frozen=True, kw_only=True)
@checked
class ChannelClassifierFeatures:
    """The classifier of single channels, for images composed of one digit in each (Stacked-MNIST).

    Of MNIST's test digits, left out of its training for this, 98.2 % are recognised.

    Attributes:
        digits: K, classes of a single channel; the labels are 0 to K^C - 1, red being the first digit.
    """

    needs_labels: ClassVar[bool] = True

    digits: Annotated[int, Ge(2)]

    def name_on(self, data_name: str) -> str:
        """`<data>_channel_classifier`."""
        return f"{data_name}_channel_classifier"

    def check(self, images: Images) -> None:
        """Check that the labels are those of as many digits as there are channels."""
        labels, channels = _labels(images, "channel_classifier"), images.train.shape[1]
        if int(labels.max()) >= self.digits**channels:
            raise ConfigError(
                f"features=channel_classifier takes images of a digit in each channel, here {channels}, and "
                f"{self.digits**channels} classes in all; these have {images.num_classes}"
            )

    def make(self, images: Images, say: Callable[[str], None] = print) -> FeatureNetwork:
        """Load it from the cache, or train it (a minute) and say so."""
        self.check(images)
        pixels = torch.cat([images.train, images.held_out])
        channels = pixels.shape[1]
        powers = self.digits ** torch.arange(channels - 1, -1, -1)
        single = _labels(images, "channel_classifier")[:, None] // powers % self.digits  # [N, C]
        digit = cached_classifier(
            "channel_classifier",
            pixels.flatten(0, 1).unsqueeze(1),
            single.flatten(),
            num_classes=self.digits,
            updates=CHANNEL_UPDATES * UPDATES,
            say=say,
        )
        network = ChannelClassifier(digit, channels)
        # The channels are independent: the products are far better known than 1,000 counts.
        shares = torch.ones(1, dtype=torch.float64)
        for channel in single.unbind(dim=1):
            shares = torch.outer(shares, _shares(channel, self.digits)).flatten()
        network.shares = shares
        return network


@torch.enable_grad()
def train_classifier(pixels: Tensor, labels: Tensor, *, num_classes: int, updates: int) -> Classifier:
    """Train from scratch: the seed is fixed, so the same data give the same network on the same machine.

    Args:
        pixels: uint8 [N, C, H, W].
        labels: int64 [N], from 0.
        num_classes: of the labels.
        updates: on batches of 128.

    Returns:
        The network in evaluation mode, without gradients.
    """
    random = torch.Generator().manual_seed(VERSION)
    network = Classifier(tuple(pixels.shape[1:]), num_classes, random)
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE, fused=True)
    for _ in range(updates):
        chosen = torch.randint(len(pixels), (BATCH,), generator=random)
        loss = cross_entropy(network.head(network(pixels[chosen])), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval().requires_grad_(False)
    sample = pixels[torch.randperm(len(pixels), generator=random)[:SCALED_ON]]
    network.scale.copy_(network(sample).square().mean().rsqrt())
    return network


def cached_classifier(
    name: str,
    pixels: Tensor,
    labels: Tensor,
    *,
    num_classes: int,
    updates: int,
    folder: Path | None = None,
    say: Callable[[str], None] = print,
) -> Classifier:
    """The classifier of these data, from the cache, or trained now and cached.

    Args:
        name: of the kind, part of the file name: one for each way to train.
        pixels: uint8 [N, C, H, W].
        labels: int64 [N].
        num_classes: as for `train_classifier`.
        updates: likewise.
        folder: of the cache; None = `gradsight` in the user's cache directory.
        say: told when it is trained.

    Returns:
        The network in evaluation mode. A cached file that cannot be read, or does not fit, is replaced; a
        cache that cannot be written costs the training again next time.
    """
    if folder is None:
        from platformdirs import user_cache_path

        folder = user_cache_path("gradsight")
    path = folder / f"{name}-{_digest(pixels, labels)}.pt"
    network = Classifier(tuple(pixels.shape[1:]), num_classes, torch.Generator())
    try:
        checkpoint.restore(network, checkpoint.load(path), "classifier", path)
        return network.eval().requires_grad_(False)
    except ConfigError:
        kind = name.replace("_", " ")
        say(f"training the {kind} that FID and similar metrics use: once for these data")
        network = train_classifier(pixels, labels, num_classes=num_classes, updates=updates)
    with contextlib.suppress(ContractError):  # a read-only home: nothing is lost but time
        checkpoint.save(path, {"classifier": network.state_dict()})
    return network


def _labels(images: Images, option: str) -> Tensor:
    if images.labels is None:
        raise ConfigError(f"features={option} learns from labels, and these data have none")
    return images.labels


def _shares(labels: Tensor, num_classes: int) -> Tensor:
    """How often each class comes, float64 [K]."""
    return torch.bincount(labels, minlength=num_classes).double() / len(labels)


def _digest(pixels: Tensor, labels: Tensor) -> str:
    """A key of the data, the network and its training."""
    digest = hashlib.sha256(f"{VERSION}/{tuple(pixels.shape)}".encode())
    digest.update(pixels.numpy().tobytes())
    digest.update(labels.numpy().tobytes())
    return digest.hexdigest()[:16]
