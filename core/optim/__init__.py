"""What torch.optim lacks: two-player schemes, averages, schedules, and the factory."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from core.optim.averaging import AverageConfig, ExponentialMovingAverage
    from core.optim.escape import PerturbedSGD
    from core.optim.lr_proposal import RateProposal, propose_lr
    from core.optim.natural import natural_gradient
    from core.optim.sam import SAM
    from core.optim.schemes.schemes import Extragradient, Move
    from core.optim.split import Split

__all__ = [
    "SAM",
    "AverageConfig",
    "ExponentialMovingAverage",
    "Extragradient",
    "Move",
    "PerturbedSGD",
    "RateProposal",
    "Split",
    "natural_gradient",
    "propose_lr",
]
PLACES = {
    "AverageConfig": "core.optim.averaging",
    "ExponentialMovingAverage": "core.optim.averaging",
    "Extragradient": "core.optim.schemes.schemes",
    "Move": "core.optim.schemes.schemes",
    "PerturbedSGD": "core.optim.escape",
    "RateProposal": "core.optim.lr_proposal",
    "SAM": "core.optim.sam",
    "Split": "core.optim.split",
    "natural_gradient": "core.optim.natural",
    "propose_lr": "core.optim.lr_proposal",
}


def __getattr__(name: str) -> object:
    """What is public, imported when it is asked for."""
    if name in PLACES:
        return getattr(import_module(PLACES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
