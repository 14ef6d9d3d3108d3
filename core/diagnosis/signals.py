"""What rules look at: a bounded history of everything that is logged."""

import math
from collections.abc import Iterable, Mapping
from statistics import median
from typing import TYPE_CHECKING

from core.form import Each, Many, Number

if TYPE_CHECKING:
    from core.state import StateDict


RECENT = 32  # values kept of every curve, the last ones
COURSE = 64  # values kept of its whole course; a longer run keeps every second, then every fourth, ...
LOST = "checkpoint/lost"  # observed, and in no curve, while the last checkpoint is not finite
LAYER_RECENT = 8  # values kept of a layer's curve
# Of a layer, only what a rule reads: the rest would be most of the memory.
LAYER_QUANTITIES = (
    "gradient_norm",
    "update_ratio",
    "nonfinite",
    "detached",
    "dead_units",
    "saturated_units",
    "equal_units",
)


class Signal:
    """One curve: its last values, and where asked for a thinned course of all of them."""

    __slots__ = ("_recent", "_stride", "course", "points", "seen")

    def __init__(self, recent: int = RECENT, *, course: bool = True) -> None:
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

    def lasts(self, step: int) -> bool:
        """Whether the next value is not overdue: what is only logged where it is unusual may have ended."""
        if len(self.points) < 2:
            return False
        (before, _), (last, _) = self.points[-2:]
        return step - last <= 1.5 * (last - before)

    def state_dict(self) -> "StateDict":
        """All that is kept."""
        return {"points": self.points, "course": self.course, "seen": self.seen, "stride": self._stride}

    def state_form(self) -> "StateDict":
        """Any number of points, and of the course where one is kept."""
        number = Number(finite=False)
        course = None if self.course is None else Many(Number())
        counts = {"seen": 0, "stride": Number(1, whole=True)}
        return {"points": Many((0, number), at_least=1), "course": course, **counts}

    def load_state_dict(self, state: "StateDict") -> None:
        """Continue."""
        self.points = [(int(step), float(value)) for step, value in state["points"]]
        self.course = None if self.course is None else list(state["course"])
        self.seen, self._stride = state["seen"], state["stride"]


class History:
    """Everything logged, by tag; memory is bounded, whatever the length of the run.

    Attributes:
        step: the last one at which something was logged.
        located: by player, where a number first was not finite: how ("forward", "backward", "batch", "loss";
            "first" = known from the first gradients that were not) and the name of the layer or tensor.
    """

    def __init__(self) -> None:
        self.step = 0
        self.located: dict[str, tuple[str, str]] = {}
        self._series: dict[str, Signal] = {}
        self._layers: dict[str, dict[str, Signal]] = {}  # by "<player>/<quantity>", then by layer

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Take in the values of one point."""
        self.step = step
        for tag, value in values.items():
            if tag.startswith("time/"):  # a clock's: they would differ after a resumption
                continue
            if "layer/" not in tag:
                if tag not in self._series:
                    self._series[tag] = Signal()
                self._series[tag].add(step, value)
                continue
            prefix, _, rest = tag.partition("layer/")
            name, _, quantity = rest.rpartition("/")
            if quantity in LAYER_QUANTITIES:
                by_name = self._layers.setdefault(prefix + quantity, {})
                if name not in by_name:
                    by_name[name] = Signal(LAYER_RECENT, course=False)
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
        """The last `count` values, oldest first; empty unless there are as many, and all finite."""
        series = self._series.get(tag)
        found = [value for _, value in series.points[-count:]] if series else []
        return found if len(found) == count and all(map(math.isfinite, found)) else []

    def fresh(self, tag: str, count: int) -> list[float]:
        """As `recent`, unless the last value is older than the two before it are apart: then it has ended."""
        series = self._series.get(tag)
        return self.recent(tag, count) if series is not None and series.lasts(self.step) else []

    def layers_fresh(self, prefix: str, quantity: str, count: int) -> dict[str, list[float]]:
        """As `layers_last`, of those layers alone whose values have not ended."""
        by_name = self._layers.get(prefix + quantity, {})
        found = self.layers_last(prefix, quantity, count)
        return {name: values for name, values in found.items() if by_name[name].lasts(self.step)}

    def points(self, tag: str) -> list[tuple[int, float]]:
        """The last finite values with their steps, oldest first."""
        series = self._series.get(tag)
        return [(step, value) for step, value in series.points if math.isfinite(value)] if series else []

    def level(self, tag: str, count: int) -> float | None:
        """Median of the last `count` finite values; None unless there are as many."""
        found = self.recent(tag, count)
        return median(found) if found else None

    def rise(self, tag: str) -> float | None:
        """By how much per step the value logged now is above the one before; the first, above 0 at step 0."""
        series = self._series.get(tag)
        if series is None or series.points[-1][0] != self.step or not self.step:
            return None
        (before, low), (now, high) = [(0, 0.0), *series.points][-2:]
        return (high - low) / (now - before)

    def course(self, tag: str) -> list[float]:
        """The whole course, thinned to at most 64 finite values."""
        series = self._series.get(tag)
        return list(series.course or ()) if series else []

    def steady(self, tag: str) -> float | None:
        """Median of the course until it is ten times as large as at the beginning; None with no value."""
        found = self.course(tag)
        most = 10.0 * max(found[:3], default=0.0)
        grown = next((i for i, value in enumerate(found) if value > most), len(found))
        return median(found[:grown]) if grown else None

    def usual(self, tag: str) -> float | None:
        """Median of the whole course; None with fewer than 8 values."""
        found = self.course(tag)
        return median(found) if len(found) >= 8 else None

    def layers(self, prefix: str, quantity: str) -> dict[str, float]:
        """The values of all layers at this very step, by name."""
        by_name = self._layers.get(prefix + quantity, {})
        return {n: s.points[-1][1] for n, s in by_name.items() if s.points[-1][0] == self.step}

    def layers_last(self, prefix: str, quantity: str, count: int) -> dict[str, list[float]]:
        """The last `count` values of those layers that have as many finite ones, however old."""
        by_name = self._layers.get(prefix + quantity, {})
        found = {n: [v for _, v in s.points[-count:]] for n, s in by_name.items() if len(s.points) >= count}
        return {n: values for n, values in found.items() if all(map(math.isfinite, values))}

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

    def state_form(self) -> "StateDict":
        """Curves of any tags."""
        layer = Signal(LAYER_RECENT, course=False).state_form()
        series, layers = Each(Signal().state_form()), Each(Each(layer))
        return {"step": 0, "located": Each(("", "")), "series": series, "layers": layers}

    def load_state_dict(self, state: "StateDict") -> None:
        """Continue a history saved by `state_dict`."""
        self.step = state["step"]
        self.located = {player: (how, where) for player, (how, where) in state["located"].items()}
        self._series = {tag: _loaded(saved, Signal()) for tag, saved in state["series"].items()}
        self._layers = {
            key: {name: _loaded(saved, Signal(LAYER_RECENT, course=False)) for name, saved in by_name.items()}
            for key, by_name in state["layers"].items()
        }


def never(history: History) -> bool:
    """No: what stands for a question that a trainer cannot answer."""
    return False


def _loaded(saved: "StateDict", series: Signal) -> Signal:
    series.load_state_dict(saved)
    return series
