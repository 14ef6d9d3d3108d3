"""How a foreign loop takes its steps: by a closure, or under a loss scaler that leaves some out."""

from collections.abc import Callable
from typing import Any

import torch

from core.watch.followed import Followed


def observing(args: tuple[Any, ...], kwargs: dict[str, Any], look: Callable[[], None]) -> Any:
    """The arguments of a step whose closure is looked at: once, at the parameters that the step begins with.

    None, as a hook returns what it leaves as it is, where there is no closure.
    """
    closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
    if not callable(closure):
        return None
    waiting = True

    def observed() -> Any:
        nonlocal waiting
        loss = closure()
        if waiting:
            waiting = False
            look()
        return loss

    if "closure" in kwargs:
        return args, {**kwargs, "closure": observed}
    return (*args[:1], observed, *args[2:]), kwargs


class Scale:
    """The loss scale, by whose shrinking the steps that it has skipped are counted.

    Args:
        scaler: None = none is known.

    Attributes:
        used: whether a loss scaler is at work, handed over or met in a fused optimizer.
    """

    def __init__(self, scaler: torch.amp.GradScaler | None) -> None:
        self.scaler = scaler
        self.used = scaler is not None and scaler.is_enabled()
        self._scale = None if scaler is None else scaler.get_scale()

    def count(self, player: Followed) -> None:
        """Count the steps that were skipped since the last one.

        A fused optimizer is called all the same, and is told.
        """
        player.fused = player.fused or hasattr(player.optimizer, "found_inf")
        self.used = self.used or player.fused
        if self.scaler is None or player.fused:
            return
        before, self._scale = self._scale, self.scaler.get_scale()
        shrunk = 0
        while before and self._scale < before:
            before *= self.scaler.get_backoff_factor()
            shrunk += before >= self._scale * 0.999
        if shrunk:
            player.skip(shrunk)
