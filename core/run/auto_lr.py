"""`optimizer.lr=auto`: the proposal of `core.optim.lr_proposal`, printed and put into the configuration."""

from collections.abc import Callable

import torch
from torch import nn

from core.config import Component, ConfigError
from core.gradients import Clipper, GradientStep, Objective, as_transforms
from core.optim.factory import build_optimizer
from core.optim.lr_proposal import propose_lr
from core.seeding import seed_for


def auto_lr(
    optimizer: Component,
    clipper: Clipper | None,
    objective: Objective,
    batch_size: int,
    seed: int,
    say: Callable[[str], None],
    name: str = "",
) -> float:
    """The learning rate that `auto` stands for, its evidence said line by line.

    The objective is the loss on data like the training's, at the initial parameters. A name is that of one of
    two players.

    Raises:
        ConfigError: there is no evidence for any rate.
    """

    def make_step(module: nn.Module, lr: float) -> GradientStep:
        built = build_optimizer(optimizer.with_lr(lr), module.named_parameters())
        return GradientStep(module, built, as_transforms(clipper))

    random = torch.Generator().manual_seed(seed_for(seed, "learning rate", name))
    try:
        proposal = propose_lr(objective, make_step, batch_size, random)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    say(f"optimizer.lr=auto{f' of the {name}' if name else ''}:")
    for line in proposal.lines():
        say(f"    {line}")
    return proposal.lr
