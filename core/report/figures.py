"""The charts of a run: its curves, put together as the plans say."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from core.report.charts import CURVATURE, GAME, GRADIENTS, LOSSES, NOISE, OUTCOME, POLICY_GRADIENTS, Plan
from core.report.curves import Series
from core.report.findings import Finding
from core.report.html import slug
from core.report.read import Record

# Colours: 1 the agent or the generator, 2 the discriminator, 3 and 4 real and generated samples.
COLOURS = {"generator": 1, "discriminator": 2}
NAMED = 3  # layers in one chart


@dataclass(frozen=True)
class Figure:
    """One chart: what it shows, in words and as lines, and the tags of its curves."""

    title: str
    caption: str
    series: tuple[Series, ...]
    log: bool = False
    tags: tuple[str, ...] = ()
    level: float | None = None

    @property
    def anchor(self) -> str:
        """Its id on the page."""
        return f"chart-{slug(self.title)}"


def outcome_figures(record: Record) -> list[Figure]:
    """How good the result was, over the run."""
    return _planned(record, OUTCOME)


def game_figures(record: Record) -> list[Figure]:
    """What the two players of a GAN do to each other."""
    return _planned(record, GAME)


def loss_figures(record: Record) -> list[Figure]:
    """What was minimised, and what it did to policy or players."""
    return _planned(record, LOSSES)


def gradient_figures(record: Record, findings: Sequence[Finding] = ()) -> list[Figure]:
    """The gradients of every player, drawn together; and the layers that findings are about."""
    figures = []
    for title, caption, quantity, log in GRADIENTS:
        series = tuple(
            Series(player or quantity.replace("_", " "), record.curves[tag], COLOURS.get(player, 1))
            for player, tag in _gradient_tags(record, quantity)
        )
        clipped = tuple(_after_clipping(record)) if quantity == "norm" else ()
        if series and not (quantity in ("clipped", "skipped") and _all_zero(series)):
            caption = caption.format(clipped=", before clipping and (dotted) after it" if clipped else "")
            tags = tuple(tag for _, tag in _gradient_tags(record, quantity))
            figures.append(Figure(title, caption, series + clipped, log, tags))
    # The layers that findings name stand next to the norm of the whole.
    figures[1:1] = _named_layers(record, findings)
    return figures + _planned(record, POLICY_GRADIENTS)


def noise_figures(record: Record) -> list[Figure]:
    """What single samples say of the gradient."""
    return _of_players(record, NOISE)


def curvature_figures(record: Record) -> list[Figure]:
    """Second derivatives."""
    return _of_players(record, CURVATURE)


def other_figures(record: Record) -> list[Figure]:
    """Every curve that no other chart shows, one by one; curves of single layers have their table."""
    planned = {tag for plan in OUTCOME + GAME + LOSSES + POLICY_GRADIENTS for _, tag, _, _ in plan.lines}
    probed = {tag for plan in NOISE + CURVATURE for _, tag, _, _ in plan.lines}
    planned |= {f"{player}/{tag}".lstrip("/") for player in record.players for tag in probed}
    told = ("/layer/", "/gradient/", "/final/")
    rest = [
        t for t in sorted(record.curves) if t not in planned and not any(word in f"/{t}" for word in told)
    ]
    return [Figure(t, "", (Series(t.split("/")[-1], record.curves[t]),), tags=(t,)) for t in rest]


def _planned(record: Record, plans: tuple[Plan, ...]) -> list[Figure]:
    return [figure for plan in plans for figure in _drawn(record, plan, plan.title, plan.lines)]


def _of_players(record: Record, plans: tuple[Plan, ...]) -> list[Figure]:
    """Plans with one line: all players in one chart; with several: a chart for each player."""
    figures = []
    for plan in plans:
        if len(plan.lines) == 1:
            label, tag, _, _ = plan.lines[0]
            lines = [(p or label, f"{p}/{tag}".lstrip("/"), COLOURS.get(p, 1), False) for p in record.players]
            figures += _drawn(record, plan, plan.title, lines)
            continue
        for player in record.players:
            lines = [(label, f"{player}/{tag}".lstrip("/"), *look) for label, tag, *look in plan.lines]
            title = f"{plan.title} ({player})" if player else plan.title
            figures += _drawn(record, plan, title, lines)
    return figures


def _drawn(record: Record, plan: Plan, title: str, lines: Sequence[tuple]) -> list[Figure]:
    """The figure of a plan; none without a curve."""
    there = [line for line in lines if record.curves.get(line[1])]
    series = tuple(
        Series(label, record.curves[tag], colour, dashed, deviation=_deviation(record.curves, tag))
        for label, tag, colour, dashed in there
    )
    if not series:
        return []
    log = plan.log and not any(value < 0 for line in series for value in line.points.values())
    return [Figure(title, plan.caption, series, log, tuple(line[1] for line in there), plan.level)]


def _named_layers(record: Record, findings: Sequence[Finding]) -> Iterator[Figure]:
    """The layers that findings are about, beside the whole gradient."""
    for player in record.players:
        prefix = f"{player}/" if player else ""
        layers = dict.fromkeys(f.layer for f in findings if f.layer and f.player == player)
        curves = {name: f"{prefix}layer/{name}/gradient_norm" for name in layers}
        drawn = [(name, tag) for name, tag in curves.items() if tag in record.curves][:NAMED]
        series = [Series(name, record.curves[tag], 1 + i) for i, (name, tag) in enumerate(drawn)]
        if series:
            series.append(Series("median of all layers", _median_layer(record, prefix), 4, dashed=True))
            of = f" ({player})" if player else ""
            caption = "Length of the gradient of each of them, and of a typical layer. Logarithmic."
            tags = tuple(tag for _, tag in drawn)
            yield Figure(f"Layers with findings{of}", caption, tuple(series), True, tags)


def _median_layer(record: Record, prefix: str) -> dict[int, float]:
    """The median over the layers of their gradient norms, at every step."""
    values: dict[int, list[float]] = {}
    for tag, curve in record.curves.items():
        if tag.startswith(f"{prefix}layer/") and tag.endswith("/gradient_norm"):
            for step, value in curve.items():
                values.setdefault(step, []).append(value)
    return {step: statistics.median(found) for step, found in sorted(values.items())}


def _deviation(curves: Mapping[str, dict[int, float]], tag: str) -> dict[int, float] | None:
    return curves.get(tag.replace("_mean", "_std")) if tag.endswith("_mean") else None


def _gradient_tags(record: Record, quantity: str) -> Iterator[tuple[str, str]]:
    for player in record.players:
        tag = f"{player}/gradient/{quantity}".lstrip("/")
        if tag in record.curves:
            yield player, tag


def _after_clipping(record: Record) -> Iterator[Series]:
    """The norms after clipping, of those players whose gradients clipping changed at all."""
    before = dict(_gradient_tags(record, "norm"))
    for player, tag in _gradient_tags(record, "norm_clipped"):
        points = record.curves[tag]
        if points != record.curves[before[player]]:
            label = f"{player} after clipping".strip()
            yield Series(label, points, COLOURS.get(player, 1) if player else 2, dashed=True)


def _all_zero(series: tuple[Series, ...]) -> bool:
    return not any(value for line in series for value in line.points.values())
