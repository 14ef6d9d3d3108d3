"""Target networks: slow copies that learning targets are computed with."""

import copy
from typing import Generic, TypeVar

from torch import nn

from core.optim.following import Follower
from core.state import StateDict

Net = TypeVar("Net", bound=nn.Module)


class Target(Generic[Net]):
    """A slow copy of a network that targets are computed with: the network itself would chase its own values.

        theta' <- theta' + tau (theta - theta')

    Buffers (running statistics) are copied.

    Args:
        source: the network that learns.
        tau: how far the copy moves, in (0, 1].

    Attributes:
        net: the copy; its parameters require no gradient.

    Source: Lillicrap et al. 2016, arXiv:1509.02971, section 3.
    """

    def __init__(self, source: Net, tau: float) -> None:
        self.net = copy.deepcopy(source).requires_grad_(False)
        self.tau = tau
        self._follower = Follower(self.net, source, running_statistics=False)

    def follow(self) -> None:
        """Move towards the source as it now is."""
        self._follower.move(self.tau)

    def lag(self, moves: int) -> dict[str, float]:
        """How far the copy is from its source, after a number of moves.

        Returns:
            target/distance: |copy - source| / |source|; target/initial_share: how much of the copy are still
            its initial weights, (1 - tau)^moves, in [0, 1].
        """
        return {
            "target/distance": self._follower.distance(),
            "target/initial_share": (1.0 - self.tau) ** moves,
        }

    def state_dict(self) -> StateDict:
        """The copy's parameters and buffers."""
        return {**self.net.state_dict(), **self._follower.state_dict()}

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`."""
        self._follower.load_state_dict(state)
        self.net.load_state_dict({name: value for name, value in state.items() if name != "left_over"})
