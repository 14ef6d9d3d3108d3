"""A trained generator as a function: `generate = load_generator(run)`, `images = generate(16, seed=1)`.

No data set is read, and nothing of training is imported.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from core.config import ConfigError
from core.run import checkpoint as checkpoints
from core.run.saved import Saved, read_saved
from core.text import shown
from gradgan.evaluation.sampling import even_labels, sample
from gradgan.game.players import Generator, latents, make_generator
from gradgan.images import to_pixels
from gradgan.networks import Network, Shape

TRAINED = "gradgan.train.TrainConfig"
MOST = 2**27  # numbers of a sample: a file shall not make this process ask for all its memory


class Sampler:
    """Samples of a trained generator, as a function without state: threads may share it.

    Args:
        generator: in evaluation mode, on its device.
        latent_size: numbers in a latent.
        shape: of one sample.
        truncation: no element of a latent is beyond it; None = all of the normal distribution.

    Attributes:
        num_classes: K of a conditional generator; None for one without labels.
    """

    def __init__(
        self, generator: Generator, latent_size: int, shape: Shape, truncation: float | None = None
    ) -> None:
        self.generator, self.latent_size, self.shape = generator, latent_size, shape
        self.truncation, self.num_classes = truncation, generator.num_classes
        self.device = next(generator.parameters()).device

    def __call__(
        self, n: int, *, labels: int | Sequence[int] | Tensor | None = None, seed: int | None = None
    ) -> Tensor:
        """Generate samples.

        Args:
            n: how many, >= 1.
            labels: class of all or of each, 0 to K - 1; None = every class as often, in random order.
            seed: the same seed gives the same samples; None = others at every call.

        Returns:
            Images, uint8 [n, C, H, W], or points, float32 [n, D]; on the CPU.

        Raises:
            ValueError: n, labels or seed do not fit; one line.
        """
        if n < 1:
            raise ValueError(f"n must be >= 1, got {n}")
        random = torch.Generator()
        if seed is None:
            random.seed()
        else:
            random.manual_seed(seed)
        z = latents(n, self.latent_size, random, self.device, truncation=self.truncation)
        samples = sample(self.generator, z, self._labels(n, labels, random))
        return to_pixels(samples) if len(self.shape) > 1 else samples

    def _labels(
        self, n: int, labels: int | Sequence[int] | Tensor | None, random: torch.Generator
    ) -> Tensor | None:
        if self.num_classes is None:
            if labels is not None:
                raise ValueError("this generator is not conditional: it takes no labels")
            return None
        if labels is None:
            return even_labels(n, self.num_classes, random)
        chosen = torch.as_tensor(labels)
        if chosen.is_floating_point() or chosen.shape not in ((), (n,)):
            raise ValueError(f"labels must be an integer or {n} of them, got {shown(labels)}")
        if ((chosen < 0) | (chosen >= self.num_classes)).any():
            raise ValueError(f"labels must be 0 to {self.num_classes - 1}, got {shown(labels)}")
        return chosen.long().expand(n)


def load_generator(run: str | Path, checkpoint: str = "last", device: str = "cpu") -> Sampler:
    """The averaged generator of a trained pair. No data are read, and no code of the run's directory is run.

    Args:
        run: its directory.
        checkpoint: "last", "best" (by the evaluations during the training), or "good" (the last one with
            finite parameters and no error open).
        device: cpu, cuda, cuda:N, mps or auto.

    Raises:
        ConfigError: there is no such run or checkpoint, or a file is damaged or of another network.
    """
    return sampler_of(read_saved(run, TRAINED, checkpoint, device))


def sampler_of(saved: Saved) -> Sampler:
    """The generator that a run's directory describes; errors as `load_generator`."""
    try:
        shape = tuple(int(size) for size in saved.interface["shape"])
        num_classes, latent_size = saved.interface["num_classes"], int(saved.interface["latent_size"])
        sizes = [latent_size, *shape, num_classes or 1]
        if not shape or min(sizes) < 1 or torch.Size(sizes).numel() > MOST:
            raise ValueError(f"sizes {sizes}")
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"{saved.directory}: its interface.json is damaged: {error}") from error
    generator = _build(saved, latent_size, shape, num_classes)
    average = saved.state.get("average")
    checkpoints.restore(generator, average if isinstance(average, dict) else {}, "module", saved.path)
    generator.eval().requires_grad_(False).to(saved.device)
    evaluation = saved.options.get("evaluation")
    truncation = evaluation.get("truncation") if isinstance(evaluation, dict) else None
    return Sampler(generator, latent_size, shape, truncation)


def interface_of(latent_size: int, shape: Shape, num_classes: int | None) -> dict[str, object]:
    """What a run notes of what goes into its generator and comes out; K where it is conditional."""
    return {"latent_size": latent_size, "shape": list(shape), "num_classes": num_classes}


def _build(saved: Saved, latent_size: int, shape: Shape, num_classes: int | None) -> Generator:
    network = saved.part("network")
    if not callable(getattr(network, "generator", None)):
        raise ConfigError(f"{saved.directory}: network={type(network).__qualname__} builds no generator")
    try:
        pair = cast(Network, network)
        pair.check(shape)
        return make_generator(pair, latent_size, shape, num_classes, torch.Generator())
    except (TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{saved.directory}: its options fit no such samples: {reason}") from error
