"""A DCGAN's training step against the same step in the order of pytorch/examples: images per CPU second.

Both train the same pair of networks on the same batches with the same loss and Adam: one update of D on real
and generated images, then one of G on the same ones. The order of pytorch/examples takes three backward
passes, of which the last also computes gradients of D's weights that nobody uses, in torch's default memory
layout. Ours is the whole `Trainer.update` as configured by default (channels_last), with the gradient monitor
and the average of the generator's weights that the other one does without.

Steps are taken in turn in one process; the clock is its CPU time. The figure is the median of the ratios of
neighbouring pairs.
"""

import copy
import time
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from core.cli.launch import compose_tree
from core.config import build, config_dir
from core.numbers import quartiles
from core.seeding import Generators
from gradgan.batch import Batch
from gradgan.train import TrainConfig, build_trainer

if TYPE_CHECKING:
    from scripts.bench import BenchConfig

ROUNDS = 15
BATCH, LATENT = 64, 100
OVERRIDES = [
    "data=cifar10",
    "network=dcgan",
    "network.width=64",
    "network.batch_norm=true",
    "loss=nonsaturating",
    "penalty=none",
    "optimizer.lr=2e-4",
    "optimizer.betas=[0.5,0.999]",
    "device=cpu",
    f"batch_size={BATCH}",
    f"latent_size={LATENT}",
]


def run(cfg: "BenchConfig") -> None:
    """Print medians and quartiles of both steps and of their ratio."""
    torch.set_num_threads(1)
    tree, _, _ = compose_tree("gan", OVERRIDES, [config_dir()])
    options = build(tree)
    assert isinstance(options, TrainConfig)
    trainer = build_trainer(options, Generators(1), torch.device("cpu"))
    players = trainer.generator, trainer.discriminator
    examples = Examples(
        # In torch's own layout, as the example leaves it; ours is channels_last.
        *(copy.deepcopy(player).to(memory_format=torch.contiguous_format) for player in players)
    )
    random = torch.Generator().manual_seed(0)

    def batch() -> Tensor:
        return torch.rand(BATCH, 3, 32, 32, generator=random) * 2 - 1

    seconds: dict[str, list[float]] = {"gradgan": [], "pytorch/examples": []}
    for i in range((cfg.rounds or ROUNDS) + 1):
        real = batch()
        steps = {
            "gradgan": lambda real=real: trainer.update([Batch(real, None)], progress=0.0),
            "pytorch/examples": lambda real=real: examples.update(real, random),
        }
        for name in list(steps)[:: 1 if i % 2 else -1]:
            began = time.process_time()
            steps[name]()
            if i:  # the first pair is not counted
                seconds[name].append(time.process_time() - began)
    parts = ", ".join(f"{sum(p.numel() for p in player.parameters()):,}" for player in players)
    print(f"DCGAN, 32x32 in colour, batch {BATCH}, {parts} parameters; torch {torch.__version__}, one thread")
    print(f"{'':<20}{'images per CPU second':>30}")
    for name, taken in seconds.items():
        print(f"{name:<20}{quartiles([BATCH / s for s in taken], '.1f'):>30}")
    pairs = zip(seconds["pytorch/examples"], seconds["gradgan"], strict=True)
    print(f"{'ratio':<20}{quartiles([theirs / ours for theirs, ours in pairs], '.2f'):>30}")


class Examples:
    """The step as the DCGAN example of PyTorch orders it.

    Args:
        generator: latents to images.
        discriminator: images to logits.
    """

    def __init__(self, generator: nn.Module, discriminator: nn.Module) -> None:
        self.generator, self.discriminator = generator, discriminator
        self.optimizers = [
            torch.optim.Adam(player.parameters(), lr=2e-4, betas=(0.5, 0.999))
            for player in (generator, discriminator)
        ]

    def update(self, real: Tensor, random: torch.Generator) -> None:
        """Two backward passes for D, then one for G, with all gradients of both players."""
        of_generator, of_discriminator = self.optimizers
        of_discriminator.zero_grad()
        softplus(-self.discriminator(real)).mean().backward()
        fake = self.generator(torch.randn(len(real), LATENT, generator=random))
        softplus(self.discriminator(fake.detach())).mean().backward()
        of_discriminator.step()
        of_generator.zero_grad()
        softplus(-self.discriminator(fake)).mean().backward()
        of_generator.step()
