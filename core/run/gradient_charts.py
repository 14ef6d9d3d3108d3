"""Charts of a run's own gradients: the heat map and the exponents of every `GradientStep`."""

from collections.abc import Iterable, Mapping

from torch import Tensor

from core.draw.exponents import draw_exponents
from core.draw.heatmap import HeatMap
from core.draw.media import Media
from core.form import Maybe
from core.gradients.measure.exponents import histogram
from core.gradients.measured import Measured
from core.run.tensorboard import Writer
from core.state import StateDict


class GradientCharts:
    """Keeps what the charts of the gradients show, and draws them."""

    def __init__(self, steps: Iterable[Measured]) -> None:
        self.players = list(steps)
        self._heat_maps = {s.monitor.prefix: HeatMap(s.monitor.names, s.monitor.prefix) for s in self.players}
        self._exponents: dict[str, Tensor] = {}

    def add(self, step: int, player: Measured, tags: Mapping[str, float], writer: Writer) -> None:
        """Take in one logged point of one player; write a new histogram of exponents when there is one."""
        prefix = player.monitor.prefix
        self._heat_maps[prefix].add(step, tags)
        counts = player.monitor.exponents.take()
        if counts is not None:
            writer.histogram(f"{prefix}gradient/exponent", *histogram(counts), step)
            self._exponents[prefix] = counts

    def draw(self, unit: str) -> dict[str, Media]:
        """All charts, by tag."""
        charts: dict[str, Media] = {
            f"{prefix}gradient/heat_map": heat.draw(unit)
            for prefix, heat in self._heat_maps.items()
            if heat.rows
        }
        for player in self.players:
            prefix = player.monitor.prefix
            if (counts := self._exponents.get(prefix)) is not None:
                charts[f"{prefix}gradient/exponents"] = draw_exponents(
                    counts, player.monitor.names, prefix.rstrip("/")
                )
        return charts

    def state_dict(self) -> StateDict:
        """All points and counts so far."""
        heat_maps = {prefix: heat.state_dict() for prefix, heat in self._heat_maps.items()}
        return {"heat_maps": heat_maps, "exponents": dict(self._exponents)}

    def state_form(self) -> StateDict:
        """The heat maps of all players, and counts of some."""
        heat_maps = {prefix: heat.state_form() for prefix, heat in self._heat_maps.items()}
        counts = {s.monitor.prefix: Maybe(s.monitor.exponents.counts, absent=True) for s in self.players}
        return {"heat_maps": heat_maps, "exponents": counts}

    def load_state_dict(self, state: StateDict) -> None:
        """Continue."""
        for prefix, heat in self._heat_maps.items():
            heat.load_state_dict(state["heat_maps"][prefix])
        self._exponents = dict(state["exponents"])


def with_curves(values: Mapping[str, float], players: Iterable[Measured]) -> dict[str, float]:
    """The values that have curves: those of single layers only up to `max_layer_scalars` layers of a player.

    Whatever they come from, the monitor, a probe, or a forward pass; the heat map and the rules have all.
    """
    monitors = [player.monitor for player in players]
    hidden = tuple(f"{m.prefix}layer/" for m in monitors if len(m.names) > m.cfg.max_layer_scalars)
    return {tag: value for tag, value in values.items() if not tag.startswith(hidden)}
