"""Options that have no effect in a configuration: what a run says of them where they were typed."""

from core.gradients import Clipper
from core.gradients.arguments import clipper_without_effect
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
