"""What several ranks can train together, and what is refused by name."""

from typing import TYPE_CHECKING

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from core.checks import require
from gradgan.game.players import make_players
from gradgan.losses import compares_samples
from gradgan.losses.relativistic_average import RelativisticAverage
from gradgan.networks.batch_norm import BatchNorm2d

if TYPE_CHECKING:
    from gradgan.train import TrainConfig


def check_ranks(cfg: "TrainConfig", ranks: int) -> None:
    """Refuse what several ranks cannot train together, or not as one would.

    Raises:
        ValueError: the batch cannot be divided evenly; a part compares the samples of a batch in a way that
            ranks cannot, or differentiates gradients; a part of the user's own draws for its rows alone; the
            steps are compiled.
    """
    which, size, parts = f"for {ranks} ranks", cfg.batch_size, cfg.micro_batches
    even = size % (parts * ranks) == 0
    allowed = f"a multiple of {ranks * parts} {which}" + f" and micro_batches={parts}" * (parts > 1)
    require(even, "batch_size", size, allowed)
    kind = type(cfg.update).__name__
    require(not cfg.update.needs_joint_graph, "update", kind, f"one that differentiates no gradients {which}")
    require(cfg.generator.top_k == 1, "generator.top_k", cfg.generator.top_k, f"1 {which}")
    compares = compares_samples(cfg.loss) and not isinstance(cfg.loss, RelativisticAverage)
    allowed = f"one that is the mean over the pairs of samples {which}"
    require(not compares, "loss", type(cfg.loss).__name__, allowed)
    require(cfg.compile == "off", "compile", cfg.compile, f"off {which}")
    drawing = {"penalty": cfg.penalty, "augment": cfg.augment}
    drawing |= {f"regularizer.{name}": part for name, part in (cfg.regularizer or {}).items()}
    for option, part in drawing.items():
        ours = part is None or type(part).__module__.startswith("gradgan.")
        allowed = f"one of ours {which}: it draws for the rows of all"
        require(ours, option, type(part).__name__, allowed)
    _check_norms(cfg, which)


def _check_norms(cfg: "TrainConfig", which: str) -> None:
    """Raise ValueError where a network has batch norm whose statistics would be each rank's own."""
    classes = cfg.data.num_classes if cfg.conditioning is not None else None
    random = [torch.Generator(), torch.Generator()]
    players = make_players(cfg.network, cfg.conditioning, cfg.latent_size, cfg.data.shape, classes, *random)
    for part in (part for player in players for part in player.modules()):
        ours = not isinstance(part, _BatchNorm) or isinstance(part, BatchNorm2d)
        allowed = f"without {type(part).__name__} {which}: gradgan.networks.batch_norm has one for them"
        require(ours, "network", type(cfg.network).__name__, allowed)
