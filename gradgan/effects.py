"""Options that have no effect in a configuration: what a run says of them where they were typed."""

from collections.abc import Mapping

from torch import nn

from core.gradients import Clipper
from core.gradients.arguments import clipper_without_effect
from core.gradients.probe import Probe
from core.optim.effects import optimizer_without_effect
from core.optim.factory import OptimizerComponent
from core.optim.sam import SAM
from gradgan.data import Data
from gradgan.game.game import Game
from gradgan.networks import Network
from gradgan.networks.dcgan import DCGAN
from gradgan.networks.mlp import MLP
from gradgan.networks.pyramid import ImagePair
from gradgan.regularizers.weight_clipping import WeightClipping


def without_effect(
    data: Data,
    network: Network,
    game: Game,
    clipper: Clipper | None,
    optimizer: OptimizerComponent,
    probes: Mapping[str, Probe] | None,
) -> dict[str, str]:
    """Options that change nothing in this configuration, by dotted name, and why."""
    idle = {}
    if len(data.shape) == 1:
        idle["features"] = f"the points of data={data.name} are compared as they are"
    if isinstance(network, MLP):
        idle["channels_last"] = f"network={network.name} has no convolutions"
    if isinstance(network, ImagePair) and network.width << _doublings(network, data) <= network.max_width:
        idle["network.max_width"] = "no level would be wider without it"
    losses = most_losses(game)
    alone = "without penalty, regularizer and class loss every gradient step has one loss"
    of_clipper = clipper_without_effect(
        clipper,
        one_loss=alone if losses == 1 else "",
        one_order="two losses have one order" if losses == 2 else "",
    )
    return idle | of_clipper | optimizer_without_effect(optimizer, probes)


def _doublings(network: ImagePair, data: Data) -> int:
    """How often the channels double from the largest level of an image network to the smallest."""
    levels = len(network.levels(data.shape).widths)
    return levels - (2 if isinstance(network, DCGAN) else 1)  # DCGAN's largest has half the resolution


def most_losses(game: Game) -> int:
    """Number of losses of a gradient step of the discriminator, which has at least the generator's."""
    terms = [r for r in game.regularizers.values() if not isinstance(r, WeightClipping)]
    return 1 + (game.penalty is not None) + (game.auxiliary is not None) + len(terms)


def twice_counted(optimizer: type, generator: nn.Module) -> tuple[str, ...]:
    """What SAM does to the running statistics of batch norm, where there are some."""
    norms = (nn.BatchNorm1d, nn.BatchNorm2d)
    if optimizer is not SAM or not any(isinstance(module, norms) for module in generator.modules()):
        return ()
    return ("SAM takes two gradients a step, and batch norm's running statistics move with both",)
