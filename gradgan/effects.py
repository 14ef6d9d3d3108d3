"""Options that have no effect in a configuration: what a run says of them where they were typed."""

from torch import nn

from core.gradients import Clipper
from core.gradients.arguments import clipper_without_effect
from core.optim.sam import SAM
from gradgan.data import Data
from gradgan.game.game import Game
from gradgan.networks import Network
from gradgan.networks.mlp import MLP
from gradgan.regularizers.weight_clipping import WeightClipping


def without_effect(data: Data, network: Network, game: Game, clipper: Clipper | None) -> dict[str, str]:
    """Options that change nothing in this configuration, by dotted name, and why."""
    idle = {}
    if len(data.shape) == 1:
        idle["features"] = f"the points of data={data.name} are compared as they are"
    if isinstance(network, MLP):
        idle["channels_last"] = f"network={network.name} has no convolutions"
    return idle | clipper_without_effect(clipper, one_loss=one_loss(game))


def one_loss(game: Game) -> str:
    """Why both players have one loss; empty where one has more."""
    terms = [r for r in game.regularizers.values() if not isinstance(r, WeightClipping)]
    if game.penalty is not None or game.auxiliary is not None or terms:
        return ""
    return "without penalty, regularizer and class loss every gradient step has one loss"


def twice_counted(optimizer: type, generator: nn.Module) -> tuple[str, ...]:
    """What SAM does to the running statistics of batch norm, where there are some."""
    norms = (nn.BatchNorm1d, nn.BatchNorm2d)
    if optimizer is not SAM or not any(isinstance(module, norms) for module in generator.modules()):
        return ()
    return ("SAM takes two gradients a step, and batch norm's running statistics move with both",)
