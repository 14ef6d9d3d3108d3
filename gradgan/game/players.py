"""The two players: a pair of networks with what the conditioning adds to each, and the latents."""

import math

import torch
from torch import Tensor, nn

from core.own_module import seeded
from core.transfer import send
from gradgan.networks import Network, Shape
from gradgan.networks.conditioning import Auxiliary, Conditioning, Projection
from gradgan.networks.layers import embedding, linear, normalise_spectra


class Generator(nn.Module):
    """Latents, and labels where it is conditional, to samples.

    Args:
        network: latents [B, latent_size + K] to samples [B, ...].
        num_classes: K, or None for an unconditional generator, where K counts 0 above.
    """

    def __init__(self, network: nn.Module, num_classes: int | None) -> None:
        super().__init__()
        self.network = network
        self.num_classes = num_classes

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Samples [B, ...].

        Args:
            z: latents [B, latent_size].
            labels: class of each sample to make, int64 [B], in 0..K-1 (a label outside that range makes a
                sample of no class; checking would make the host wait for the device). An unconditional
                generator does not read them.

        Raises:
            ValueError: a conditional generator got no labels.
        """
        if self.num_classes is None:
            return self.network(z)
        if labels is None:
            raise ValueError("a conditional generator wants a label for each latent, got none")
        # torch's one_hot waits for the device to check the labels, and cannot be mapped over samples.
        classes = torch.arange(self.num_classes, device=labels.device)
        return self.network(torch.cat([z, (labels[:, None] == classes).to(z.dtype)], dim=1))


class Discriminator(nn.Module):
    """Samples, and labels under projection, to logits.

    Args:
        body: samples [B, ...] to features [B, F].
        head: features to one logit [B, 1].
        embedding: labels to vectors [B, F] whose inner product with the features is added, or None.
        class_head: features to class logits [B, K], for `classify`; None = there is none.
    """

    def __init__(
        self,
        body: nn.Module,
        head: nn.Module,
        *,
        embedding: nn.Module | None = None,
        class_head: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.body = body
        self.head = head
        self.embedding = embedding
        self.class_head = class_head

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Logits [B], nats: positive for real.

        Args:
            x: samples [B, ...].
            labels: class of each sample, int64 [B]; read under projection only.

        Raises:
            ValueError: under projection, no labels.
        """
        return self._logits(self.body(x), labels)

    def classify(self, x: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Logits [B] as from `forward`, and class logits [B, K], from one pass through the body.

        Args:
            x: samples [B, ...].
            labels: class of each sample, int64 [B]; the class logits never see them.

        Raises:
            ValueError: there is no second head, which only `Auxiliary` adds.
        """
        if self.class_head is None:
            raise ValueError("class logits need the second head of conditioning=auxiliary")
        features = self.body(x)
        return self._logits(features, labels), self.class_head(features)

    def _logits(self, features: Tensor, labels: Tensor | None) -> Tensor:
        logits = self.head(features).squeeze(1)
        if self.embedding is None:
            return logits
        if labels is None:
            raise ValueError("a discriminator under conditioning=projection wants labels, got none")
        return logits + (self.embedding(labels) * features).sum(dim=1)


def latents(
    count: int,
    size: int,
    random: torch.Generator,
    device: torch.device,
    *,
    truncation: float | None = None,
) -> Tensor:
    """Standard normal latents, float32 [count, size]; drawn where the generator is, then moved.

    Args:
        count: how many.
        size: numbers in each.
        random: decides them.
        device: where they are wanted.
        truncation: > 0: no element is beyond it, as if larger ones were drawn again; fidelity rises and
            variety falls as it shrinks. None = all of the normal distribution.

    Source: truncation: Brock et al. 2019, arXiv:1809.11096, section 3.1.
    """
    if truncation is None:
        return send(torch.randn(count, size, generator=random, device=random.device), device)
    # The inverse of the distribution function takes one draw for each element, however small the interval.
    uniform = 2 * torch.rand(count, size, generator=random, device=random.device, dtype=torch.float64) - 1
    inside = math.sqrt(2) * torch.special.erfinv(uniform * math.erf(truncation / math.sqrt(2)))
    return send(inside.clamp(-truncation, truncation).float(), device)


def make_generator(
    network: Network, latent_size: int, shape: Shape, num_classes: int | None, random: torch.Generator
) -> Generator:
    """A generator with its initial weights, on the CPU; `num_classes` is None where it is not conditional."""
    size = latent_size + (num_classes or 0)
    made = seeded(random.initial_seed(), lambda: network.generator(size, shape, random))
    return Generator(made, num_classes)


def make_players(
    network: Network,
    conditioning: Conditioning | None,
    latent_size: int,
    shape: Shape,
    num_classes: int | None,
    generator_random: torch.Generator,
    discriminator_random: torch.Generator,
) -> tuple[Generator, Discriminator]:
    """Both players with their initial weights, on the CPU.

    Args:
        network: builds the generator and the discriminator's body.
        conditioning: what labels do; None = nothing, and `num_classes` is not read.
        latent_size: numbers in a latent, >= 1.
        shape: of one sample.
        num_classes: K, the classes of the data, or None without labels.
        generator_random: draws the generator's weights.
        discriminator_random: draws the discriminator's weights: body, then head, then what conditioning adds.

    Raises:
        ValueError: a conditioning without classes; a shape that the network does not take.
    """
    if conditioning is None:
        num_classes = None
    elif num_classes is None:
        raise ValueError(f"conditioning={conditioning.name} wants data with labels")
    generator = make_generator(network, latent_size, shape, num_classes, generator_random)
    seed = discriminator_random.initial_seed()
    body, num_features = seeded(seed, lambda: network.body(shape, discriminator_random))
    if network.spectral_norm:
        normalise_spectra(body, discriminator_random)
    head = linear(num_features, 1, discriminator_random, gain=1.0)
    added: dict[str, nn.Module] = {}
    if num_classes is not None and isinstance(conditioning, Projection):
        added["embedding"] = embedding(num_classes, num_features, discriminator_random)
    if num_classes is not None and isinstance(conditioning, Auxiliary):
        added["class_head"] = linear(num_features, num_classes, discriminator_random, gain=1.0)
    if network.spectral_norm:
        for module in (head, *added.values()):
            normalise_spectra(module, discriminator_random)
    return generator, Discriminator(body, head, **added)
