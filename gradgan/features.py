"""A small classifier trained on the data set itself: features for FID and KID that need no download.

Distances under it are comparable only with distances under the same network: they always carry its name, and
stand beside the distance of real images from real images.
"""

import contextlib
import hashlib
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from core.run import checkpoint
from core.run.config import ConfigError
from gradgan.networks import Shape
from gradgan.networks.layers import convolution, halving, linear

VERSION = 1  # part of the cache key: raise it with any change to the network or its training
NUM_FEATURES = 64
UPDATES = 600  # 98 % on MNIST's test part; the 1,797 digits are learnt by heart
BATCH = 128
LEARNING_RATE = 2e-3
SCALED_ON = 2000  # images that the unit of the features is measured on


class Classifier(nn.Module):
    """Two convolutions and two linear layers; `forward` gives the features before the last one.

    Attributes:
        num_features: size of a feature vector (torchmetrics reads it).
        num_classes: of the labels.
        scale: makes the mean square of a feature 1 on the training images, so that distances under
            classifiers of different data sets are of one order (FID has the features' unit squared).
    """

    num_features = NUM_FEATURES
    scale: Tensor

    def __init__(self, shape: Shape, num_classes: int, random: torch.Generator) -> None:
        super().__init__()
        channels, height, width = shape
        self.num_classes = num_classes
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

    def classify(self, pixels: Tensor) -> Tensor:
        """The likeliest class, int64 [B], of uint8 images [B, C, H, W]."""
        return self.head(self(pixels) / self.scale).argmax(dim=1)


@torch.enable_grad()
def train_classifier(pixels: Tensor, labels: Tensor) -> Classifier:
    """Train from scratch: the seed is fixed, so the same data give the same network on the same machine.

    Args:
        pixels: uint8 [N, C, H, W].
        labels: int64 [N], from 0.

    Returns:
        The network in evaluation mode, without gradients.
    """
    random = torch.Generator().manual_seed(VERSION)
    network = Classifier(tuple(pixels.shape[1:]), int(labels.max()) + 1, random)
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE, fused=True)
    for _ in range(UPDATES):
        chosen = torch.randint(len(pixels), (BATCH,), generator=random)
        loss = cross_entropy(network.head(network(pixels[chosen])), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval().requires_grad_(False)
    sample = pixels[torch.randperm(len(pixels), generator=random)[:SCALED_ON]]
    network.scale.copy_(network(sample).square().mean().rsqrt())
    return network


def cached_classifier(name: str, pixels: Tensor, labels: Tensor, folder: Path | None = None) -> Classifier:
    """The classifier of these data, from the cache or trained now (seconds) and put there.

    Args:
        name: of the features, part of the file name.
        pixels: uint8 [N, C, H, W].
        labels: int64 [N].
        folder: of the cache; None = `gradsight` in the user's cache directory.

    Returns:
        The network in evaluation mode. A cached file that cannot be read, or does not fit, is replaced; a
        cache that cannot be written costs the training again next time.
    """
    if folder is None:
        from platformdirs import user_cache_path

        folder = user_cache_path("gradsight")
    path = folder / f"{name}-{_digest(pixels, labels)}.pt"
    network = Classifier(tuple(pixels.shape[1:]), int(labels.max()) + 1, torch.Generator())
    try:
        checkpoint.restore(network, checkpoint.load(path), "classifier", path)
        return network.eval().requires_grad_(False)
    except ConfigError:
        network = train_classifier(pixels, labels)
    with contextlib.suppress(OSError):  # a read-only home: nothing is lost but time
        checkpoint.save(path, {"classifier": network.state_dict()})
    return network


def _digest(pixels: Tensor, labels: Tensor) -> str:
    """A key of the data, the network and its training."""
    digest = hashlib.sha256(f"{VERSION}/{tuple(pixels.shape)}".encode())
    digest.update(pixels.numpy().tobytes())
    digest.update(labels.numpy().tobytes())
    return digest.hexdigest()[:16]
