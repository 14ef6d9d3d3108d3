"""What rules look at: a bounded history of everything logged, and what the run is made of."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from core.state import StateDict


RECENT = 32  # values kept of every curve, the last ones
COURSE = (
    64  # values kept of its whole course; a longer run keeps every second, then every fourth, ... of them
)
LAYER_RECENT = 8  # values kept of a layer's curve
# Of a layer, only what a rule reads: the rest would be most of the memory.
LAYER_QUANTITIES = ("gradient_norm", "update_ratio", "nonfinite", "detached", "dead_units", "saturated_units")


@dataclass(frozen=True)
class Layer:
    """One parameter tensor of a player.

    Attributes:
        name: as in its tags.
        size: number of its elements.
        dim: number of its dimensions; 2 and more are weights, 1 are biases and gains.
    """

    name: str
    size: int
    dim: int


@dataclass(frozen=True)
class Player:
    """What one `GradientStep` moves.

    Attributes:
        name: empty where there is only one.
        layers: from the input to the output.
        lr: the learning rate its optimizer was built with.
        batch: samples behind one gradient; None = unknown.
        optimizer: name of the optimizer's class.
        initial_norm: of all its weights as one vector, before the first step; 0 = unknown.
        frozen: names of its network's parameters that require no gradient.
    """

    name: str
    layers: tuple[Layer, ...]
    lr: float
    batch: int | None = None
    optimizer: str = "Adam"
    initial_norm: float = 0.0
    frozen: tuple[str, ...] = ()

    @property
    def prefix(self) -> str:
        """What its tags begin with."""
        return f"{self.name}/" if self.name else ""


@dataclass(frozen=True, kw_only=True)
class Context:
    """What does not change while a run is looked at.

    Attributes:
        options: by dotted name, those that are null too.
        players: in order.
        unit: of the x-axis.
        total: its value at the end.
        limits: what is known of single quantities beside the options: "entropy_max" (nats, of a choice among
            actions), "action_size" (numbers in a continuous action), "train_samples" (of a data set).
        recipe: the options as they would be had no value been typed, only choices of groups made; looked up
            when a remedy asks.
    """

    options: Mapping[str, object]
    players: tuple[Player, ...] = ()
    unit: str = "steps"
    total: int = 1
    limits: Mapping[str, float] = field(default_factory=dict)
    recipe: Callable[[], Mapping[str, object]] = dict

    @property
    def kind(self) -> str:
        """The package that trains: gradrl, gradgan, or core for a descent."""
        return str(self.options.get("_target_", "")).partition(".")[0]

    def number(self, option: str) -> float | None:
        """An option that is a number, or None."""
        value = self.options.get(option)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

    def chosen(self, group: str) -> str:
        """Class chosen for a part of the configuration, its last name; empty where there is none."""
        return str(self.options.get(f"{group}._target_") or "").rpartition(".")[2]


def flattened(tree: Mapping[str, object], path: str = "") -> dict[str, object]:
    """Options by dotted name; those that are null and empty groups stay, as None and {}."""
    named: dict[str, object] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            named |= flattened(value, f"{path}{key}.")
        else:
            named[f"{path}{key}"] = value
    return named


class Series:
    """One curve: its last values, and a thinned course of all of them.

    Args:
        recent: last values kept.
        course: values kept of the whole course; 0 = none.
    """

    __slots__ = ("_recent", "_stride", "course", "points", "seen")

    def __init__(self, recent: int = RECENT, course: int = COURSE) -> None:
        self._recent = recent
        self.points: list[tuple[int, float]] = []
        self.course: list[float] | None = [] if course else None
        self.seen = 0
        self._stride = 1

    def add(self, step: int, value: float) -> None:
        """Add a value; a second one of the same step replaces the first."""
        if self.points and self.points[-1][0] == step:
            self.points[-1] = (step, value)
            return
        self.points.append((step, value))
        if len(self.points) > self._recent:
            del self.points[0]
        if self.course is not None and math.isfinite(value):
            if self.seen % self._stride == 0:
                self.course.append(value)
                if len(self.course) > COURSE:
                    self.course = self.course[::2]
                    self._stride *= 2
            self.seen += 1

    def state_dict(self) -> "StateDict":
        """All that is kept."""
        return {"points": self.points, "course": self.course, "seen": self.seen, "stride": self._stride}

    def load_state_dict(self, state: "StateDict") -> None:
        """Continue."""
        self.points = [(int(step), float(value)) for step, value in state["points"]]
        self.course = None if state["course"] is None else list(state["course"])
        self.seen, self._stride = state["seen"], state["stride"]


class History:
    """Everything logged, by tag; memory is bounded, whatever the length of the run.

    Attributes:
        step: the last one at which something was logged.
        located: by player, where a number first was not finite: how ("forward", "backward", "batch", "loss")
            and the name of the layer or tensor.
    """

    def __init__(self) -> None:
        self.step = 0
        self.located: dict[str, tuple[str, str]] = {}
        self._series: dict[str, Series] = {}
        self._layers: dict[str, dict[str, Series]] = {}  # by "<player>/<quantity>", then by layer

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Take in the values of one point."""
        self.step = step
        for tag, value in values.items():
            if tag.startswith("time/"):  # a clock's: they would differ after a resumption
                continue
            if "layer/" not in tag:
                series = self._series.get(tag)
                if series is None:
                    series = self._series[tag] = Series()
                series.add(step, value)
                continue
            prefix, _, rest = tag.partition("layer/")
            name, _, quantity = rest.rpartition("/")
            if quantity in LAYER_QUANTITIES:
                by_name = self._layers.setdefault(prefix + quantity, {})
                if name not in by_name:
                    by_name[name] = Series(LAYER_RECENT, course=0)
                by_name[name].add(step, value)

    def tags(self) -> Iterable[str]:
        """Of all curves that are not of layers."""
        return self._series.keys()

    def now(self, tag: str) -> float | None:
        """The value logged at this very step, or None."""
        series = self._series.get(tag)
        return series.points[-1][1] if series and series.points[-1][0] == self.step else None

    def last(self, tag: str) -> float | None:
        """The last value, however old."""
        series = self._series.get(tag)
        return series.points[-1][1] if series else None

    def count(self, tag: str) -> int:
        """Finite values seen since the beginning."""
        return self._series[tag].seen if tag in self._series else 0

    def recent(self, tag: str, count: int) -> list[float]:
        """The last `count` values, oldest first; empty unless there are as many."""
        series = self._series.get(tag)
        found = [value for _, value in series.points[-count:]] if series else []
        return found if len(found) == count else []

    def level(self, tag: str, count: int) -> float | None:
        """Median of the last `count` finite values; None unless there are as many."""
        found = self.recent(tag, count)
        return median(found) if found and all(map(math.isfinite, found)) else None

    def course(self, tag: str) -> list[float]:
        """The whole course, thinned to at most 64 finite values."""
        series = self._series.get(tag)
        return list(series.course or ()) if series else []

    def usual(self, tag: str) -> float | None:
        """Median of the whole course; None with fewer than 8 values."""
        found = self.course(tag)
        return median(found) if len(found) >= 8 else None

    def layers(self, prefix: str, quantity: str) -> dict[str, float]:
        """The values of all layers at this very step, by name."""
        by_name = self._layers.get(prefix + quantity, {})
        return {n: s.points[-1][1] for n, s in by_name.items() if s.points[-1][0] == self.step}

    def layers_last(self, prefix: str, quantity: str, count: int) -> dict[str, list[float]]:
        """The last `count` values of those layers that have as many, however old."""
        by_name = self._layers.get(prefix + quantity, {})
        return {n: [v for _, v in s.points[-count:]] for n, s in by_name.items() if len(s.points) >= count}

    def state_dict(self) -> "StateDict":
        """All that is kept."""
        return {
            "step": self.step,
            "located": dict(self.located),
            "series": {tag: series.state_dict() for tag, series in self._series.items()},
            "layers": {
                key: {name: series.state_dict() for name, series in by_name.items()}
                for key, by_name in self._layers.items()
            },
        }

    def load_state_dict(self, state: "StateDict") -> None:
        """Continue a history saved by `state_dict`."""
        self.step = state["step"]
        self.located = {player: (how, where) for player, (how, where) in state["located"].items()}
        self._series = {tag: _loaded(saved, Series()) for tag, saved in state["series"].items()}
        self._layers = {
            key: {name: _loaded(saved, Series(LAYER_RECENT, course=0)) for name, saved in by_name.items()}
            for key, by_name in state["layers"].items()
        }


def _loaded(saved: "StateDict", series: Series) -> Series:
    series.load_state_dict(saved)
    return series


def branches(layers: Iterable[Layer]) -> Iterator[list[Layer]]:
    """Weights of each branch of a network, from the input on: names that begin alike, or with a number."""
    groups: dict[str, list[Layer]] = {}
    for layer in layers:
        if layer.dim >= 2:
            first = layer.name.partition(".")[0]
            groups.setdefault("" if first.isdigit() else first, []).append(layer)
    yield from groups.values()
