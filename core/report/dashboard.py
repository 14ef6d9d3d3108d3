"""The page of TensorBoard, made of the charts of the report: the same titles, captions and curves."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from core.config import Tree
from core.report.charts import CURVATURE, GRADIENTS, NOISE, Chart
from core.report.record import Kind, Record
from core.run.dashboard import Dashboard, Panel

FIRST = (
    "Gradient norm",
    "Cosine",
    "Update ratio",
    "Noise scale",
    "Clipped",
)  # of the gradient, in the overview
NO_BIAS = "(?!.*bias/)"  # one that begins at 0 moves by many times its length, and would set the scale
LAYERS = {  # by what a tag ends in; the first two are in the overview
    "gradient_norm": (
        "Gradient norm",
        "One line for each weight and bias. A line far below the others is a layer that hardly learns; norms "
        "that shrink or grow from layer to layer are a gradient that vanishes or explodes with depth.",
    ),
    "update_ratio": (
        "Update ratio",
        "How far one step moves a layer relative to its own size. About 10⁻³ is common; far above, the layer "
        "changes too fast; far below, it hardly learns.",
    ),
    "cosine": ("Cosine", "Of each layer's gradient with that of the step before."),
    "weight_norm": ("Weight norm", "Length of each layer's parameters."),
    "effective_lr": (
        "Effective learning rate",
        "The rate at which plain gradient descent would move the layer as far.",
    ),
    "signal_to_noise": ("Signal to noise", "In the gradient of one sample, by layer."),
    "dead_units": (
        "Dead units",
        "Share of a layer's units that are 0 for every sample: they get no gradient.",
    ),
    "saturated_units": (
        "Saturated units",
        "Share of a layer's units at an end of their range, where the slope is about 0.",
    ),
}


def dashboard(kind: Kind, options: Tree, players: Sequence[str]) -> Dashboard:
    """What TensorBoard shows of a run.

    Args:
        kind: its charts.
        options: the run's, resolved.
        players: names of its gradient steps.
    """
    record = Record(
        directory=Path(), kind=kind, status="running", options=options, command="", flags=(), overrides=(),
        summary={}, curves={}, media={}, findings=None, landscape={}, started="",
    )  # fmt: skip
    layers = [panel for quantity in LAYERS for panel in _layers(quantity, players, kind.players)]
    weights = [
        panel
        for quantity in [*LAYERS][:2]
        for panel in _layers(quantity, players, kind.players, weights=True)
    ]
    gradients = [_panel(chart, players=True) for chart in GRADIENTS]
    plain = {
        "Learning": kind.outcome,
        "Gradients, further": kind.gradients,
        **{topic.heading: topic.charts for topic in kind.topics},
        "Losses": kind.losses,
        "Noise": NOISE,
        "Curvature": CURVATURE,
    }
    sections = {heading: tuple(map(_panel, charts)) for heading, charts in plain.items()}
    overview = (
        *(replace(panel, alternative=True) for panel in sections["Learning"]),
        *map(_panel, kind.overview),
        *(panel for panel in gradients if panel.title in FIRST),
        *weights,
    )
    first = {"Overview": overview, "Learning": sections.pop("Learning"), "Gradients": tuple(gradients)}
    whole = {**first, "Layers": tuple(layers), **sections}
    charts = (*kind.outcome, *GRADIENTS, *kind.losses)
    names = {tag: name for chart in charts for tag, name in _names(chart)}
    return Dashboard(kind.title(record), {h: panels for h, panels in whole.items() if panels}, names)


def dashboard_of(kind: Kind) -> Callable[[Tree, Sequence[str]], Dashboard]:
    """`dashboard` of one kind of run."""
    return lambda options, players: dashboard(kind, options, players)


def _panel(chart: Chart, players: bool = False) -> Panel:
    """A chart with its curves, those of all players where each has them."""
    before = "(.+/)?" if players else ""
    tags = tuple(f"{before}{re.escape(line.tag)}$" for line in chart.lines)
    return Panel(chart.title, tags, _without_drawing(chart.caption.format(clipped="")))


def _without_drawing(caption: str) -> str:
    """A caption without what it says of a drawing that TensorBoard draws otherwise."""
    parts = re.split(r"(?<=[.;]) ", caption)
    kept = [part for part in parts if not re.search("Logarithmic|band|[Dd]otted", part)]
    return re.sub(";$", ".", " ".join(kept))


def _layers(
    quantity: str, players: Sequence[str], networks: Sequence[str], *, weights: bool = False
) -> Iterator[Panel]:
    """One quantity of all layers: a chart for each player, or for each network where one step has several."""
    title, caption = LAYERS[quantity]
    what, kept = ("weight", NO_BIAS) if weights else ("layer", "")
    for name in players:
        start = f"{re.escape(name)}/" if name else ""
        parts = [(name, f"{start}layer/{kept}.+/{quantity}$")]
        if not name and networks:
            rest = "".join(rf"(?!{re.escape(network)}\.)" for network in networks)
            parts = [(network, rf"layer/{kept}{re.escape(network)}\..+/{quantity}$") for network in networks]
            parts += [("", f"layer/{kept}{rest}.+/{quantity}$")]
        for whose, pattern in parts:
            yield Panel(f"{title} of every {what}" + f" ({whose})" * bool(whose), (pattern,), caption)


def _names(chart: Chart) -> Iterator[tuple[str, str]]:
    for line in chart.lines:
        yield line.tag, chart.title if len(chart.lines) == 1 else f"{chart.title}, {line.label}"
