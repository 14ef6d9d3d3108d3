"""A DCGAN's training step against the same step in the order of pytorch/examples: images per CPU second.

Both train the same pair of networks on the same batches with the same loss and Adam: one update of D on real
and generated images, then one of G on the same ones. The order of pytorch/examples takes three backward
passes, of which the last also computes gradients of D's weights that nobody uses, in torch's default memory
layout. Ours is the whole `Trainer.update` as configured by default (channels_last), with the gradient monitor
and the average of the generator's weights that the other one does without.

Simultaneous updates share one pass through D between both players; the same in two passes show what it saves.
The limit is the products and convolutions of our updates alone (`scripts.suites.limit`). Steps are taken in
turn in one process; the clock is its CPU time. Medians over the rounds, of the ratios too.
"""

import copy
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from core.cli.launch import compose_tree
from core.config import build, config_dir
from core.numbers import quartiles
from core.run.directory import versions
from core.seeding import Generators
from gradgan.batch import Batch
from gradgan.train import TrainConfig, build_trainer
from gradgan.trainer import Trainer

from .limit import Products
from .table import write_table

if TYPE_CHECKING:
    from scripts.bench import BenchConfig

ROUNDS = 15
SIZES = (32, 64)
EXAMPLES = "pytorch/examples"
LIMIT = "products of"
UPDATES = {"alternating": [], "simultaneous": ["update=simultaneous"]}
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
    """Print medians and quartiles of each step and of its ratio, at both sizes."""
    torch.set_num_threads(1)
    figures = {f"{size}x{size}": compare(size, cfg.rounds or ROUNDS) for size in SIZES}
    place = write_table(Path(cfg.folder or "runs/gan"), "gan", {"versions": versions(), "rows": figures})
    print(f"figures: {place}")


def compare(size: int, rounds: int) -> dict[str, list[float]]:
    """The steps on images of one size; CPU seconds of each in every round."""
    trainers = {name: made(size, *overrides) for name, overrides in UPDATES.items()}
    trainers["simultaneous, two passes"] = made(size, *UPDATES["simultaneous"])
    trainers["simultaneous, two passes"].one_pass = False
    first = next(iter(trainers.values()))
    players = first.generator, first.discriminator
    examples = Examples(
        # In torch's own layout, as the example leaves it; ours is channels_last.
        *(copy.deepcopy(player).to(memory_format=torch.contiguous_format) for player in players)
    )
    random = torch.Generator().manual_seed(0)
    limits = {name: Products() for name in UPDATES}
    seconds: dict[str, list[float]] = {
        name: [] for name in (EXAMPLES, *trainers, *(f"{LIMIT} {name}" for name in limits))
    }
    for i in range(rounds + 1):
        real = torch.rand(BATCH, 3, size, size, generator=random) * 2 - 1
        steps: dict[str, Callable[[], object]] = {EXAMPLES: partial(examples.update, real, random)}
        for name, trainer in trainers.items():
            steps[name] = partial(trainer.update, [Batch(real, None)], progress=0.0)
        for name, products in limits.items():
            if i:
                steps[f"{LIMIT} {name}"] = products.again
            else:
                with products:
                    steps[name]()
        for name in list(steps)[:: 1 if i % 2 else -1]:
            began = time.process_time()
            steps[name]()
            if i:  # the first round is not counted
                seconds[name].append(time.process_time() - began)
    parts = ", ".join(f"{sum(p.numel() for p in player.parameters()):,}" for player in players)
    print(
        f"DCGAN, {size}x{size} colour, batch {BATCH}, {parts} parameters; torch {torch.__version__}, 1 thread"
    )
    print(f"{'':<26}{'images per CPU second':>28}{'ratio':>24}")
    for name, taken in seconds.items():
        ratios = [theirs / ours for theirs, ours in zip(seconds[EXAMPLES], taken, strict=True)]
        print(f"{name:<26}{quartiles([BATCH / s for s in taken], '.1f'):>28}{quartiles(ratios, '.2f'):>24}")
    for name in limits:
        pairs = zip(seconds[f"{LIMIT} {name}"], seconds[name], strict=True)
        print(f"{name}: {quartiles([100 * least / ours for least, ours in pairs], '.0f')} % of its limit")
    return seconds


def made(size: int, *overrides: str) -> Trainer:
    """A trainer of a pair for images of this size, with the same initial weights at every call."""
    tree, _, _ = compose_tree("gan", [*OVERRIDES, f"data.size={size}", *overrides], [config_dir()])
    options = build(tree)
    assert isinstance(options, TrainConfig)
    return build_trainer(options, Generators(1), torch.device("cpu"))


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
