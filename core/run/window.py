"""Means of metrics between two logged points, kept on the device until they are read."""

import torch
from torch import Tensor

from core.form import Each, Number, Scalar
from core.gradients import Metrics
from core.state import StateDict


class Window:
    """Sums and counts by tag; a tag may be missing from some iterations."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, metrics: Metrics) -> None:
        """Add one iteration's tensors; a mean is over all elements, however many an iteration has."""
        for tag, value in metrics.items():
            value = value.detach().double() if value.device.type != "mps" else value.detach()
            self._sums[tag] = self._sums[tag] + value.sum() if tag in self._sums else value.sum()
            self._counts[tag] = self._counts.get(tag, 0) + value.numel()

    def drain(self) -> dict[str, float]:
        """Means since the last call; waits for each device once."""
        means: dict[str, float] = {}
        for device in {value.device for value in self._sums.values()}:
            tags = [tag for tag, value in self._sums.items() if value.device == device]
            sums = torch.stack([self._sums[tag] for tag in tags]).tolist()
            means |= {tag: total / self._counts[tag] for tag, total in zip(tags, sums, strict=True)}
        self._sums, self._counts = {}, {}
        return means

    def state_dict(self) -> StateDict:
        """The half-filled window."""
        return {"sums": dict(self._sums), "counts": dict(self._counts)}

    def state_form(self) -> StateDict:
        """Sums and counts of any tags."""
        return {"sums": Each(Scalar()), "counts": Each(Number(1, whole=True))}

    def load_state_dict(self, state: StateDict) -> None:
        """Continue a window saved by `state_dict`."""
        if state["sums"].keys() != state["counts"].keys():
            raise ValueError("window has sums and counts of different tags")
        self._sums, self._counts = dict(state["sums"]), dict(state["counts"])
