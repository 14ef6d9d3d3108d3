"""The page about several runs that belong together, each in a sub-directory of one directory."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from core.cli.saved import saved_options
from core.config import ConfigError
from core.report import cards, facts, figures
from core.report.cards import Origin, Page, Section, Table
from core.report.pictures import in_order
from core.report.read import read_media, read_run
from core.report.record import KindOf, Record, unknown
from core.report.sections import options_section
from core.run.directory import in_use, is_run, read_summary


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Runs that belong together.

    Attributes:
        directory: the directory that holds them.
        status: of all of them.
        media: pictures of all of them, by name.
        names: of the runs.
        runs: in order.
    """

    directory: Path
    status: str
    media: dict[str, Path]
    names: tuple[str, ...]
    runs: tuple[Record, ...]


def child_runs(directory: Path, kind_of: KindOf = unknown) -> list[Path]:
    """Runs in the sub-directories of a directory, in the order in which its summary or its options list them.

    A run's own directory may hold others by chance; then only those that it lists belong to it.

    Raises:
        ConfigError: the summary is damaged.
    """
    if not directory.is_dir():
        return []
    found = sorted(p for p in directory.iterdir() if not p.name.startswith(".") and p.is_dir() and is_run(p))
    if not found:
        return []
    listed = _listed(read_summary(directory) or {})
    if is_run(directory):
        options = saved_options(directory)
        listed += _listed({name: options.get(name) for name in kind_of(str(options["_target_"])).children})
        found = [path for path in found if path.name in listed]
    return sorted(found, key=lambda path: listed.index(path.name) if path.name in listed else len(listed))


def read_comparison(directory: Path, children: list[Path], kind_of: KindOf = unknown) -> Comparison:
    """Everything that the page needs.

    Raises:
        ConfigError: a file is damaged, or the runs are of different kinds.
    """
    summary = read_summary(directory) or {}
    runs = tuple(read_run(path, kind_of) for path in children)
    if len({record.package for record in runs}) > 1:
        raise ConfigError(f"run={directory} holds runs of different kinds; name one of its sub-directories")
    return Comparison(
        directory=directory,
        status="running" if in_use(directory) else str(summary.get("status", "unfinished")),
        media=read_media(directory),
        names=tuple(path.name for path in children),
        runs=runs,
    )


def comparison_page(comparison: Comparison) -> Page:
    """All runs, what they reached first."""
    runs, names = comparison.runs, comparison.names
    kind = runs[0].kind
    title = f"{len(runs)} runs on {', '.join(dict.fromkeys(map(kind.subject, runs)))}"
    charts = partial(cards.charts, end=max(record.step for record in runs))
    outcome, gradients, curvature = (
        charts(figures.comparison_figures([make(record) for record in runs], names))
        for make in (
            partial(figures.chart_figures, charts=kind.outcome),
            figures.gradient_figures,
            figures.curvature_figures,
        )
    )
    return Page(
        title=title,
        brand="runs side by side",
        heading=title,
        origins=[Origin(status=comparison.status, known=kind.name, directory=str(comparison.directory))],
        sections=[
            Section(heading="What was reached", table=_outcomes(comparison)),
            options_section(runs, names),
            Section(
                heading="Findings",
                findings=[
                    cards.finding_cards(record, {}, name)
                    for name, record in zip(names, runs, strict=True)
                    if record.findings
                ],
            ),
            Section(heading="The outcome", charts=outcome, pictures=_pictures(comparison)),
            Section(heading="Gradients", charts=gradients),
            Section(heading="Curvature", charts=curvature),
            Section(heading="Each run", links=_links(comparison)),
        ],
    )


def _outcomes(comparison: Comparison) -> Table:
    """What each run reached, a row each."""
    found = [{fact.label: fact.value for fact in facts.reached(record)} for record in comparison.runs]
    labels = list(dict.fromkeys(label for values in found for label in values))
    rows = [
        [name, facts.status(record.status), *(values.get(label, "–") for label in labels)]
        for name, record, values in zip(comparison.names, comparison.runs, found, strict=True)
    ]
    return Table(["run", "status", *labels], rows)


def _pictures(comparison: Comparison) -> list[cards.PictureCard]:
    """Pictures of all runs, then the path of each, which is only here beside those of the others."""
    first, media = comparison.runs[0], comparison.media
    shared = in_order(media, first.kind.captions)
    return [cards.picture(first, name, path=media[name]) for name in shared] + [
        cards.picture(record, media, name)
        for name, record in zip(comparison.names, comparison.runs, strict=True)
        for media in record.media
        if "path" in media
    ]


def _links(comparison: Comparison) -> list[tuple[str, str]]:
    """Where the pages of the single runs are, or how to make them."""
    return [
        (f"{name}/report.html", name)
        if (record.directory / "report.html").exists()
        else ("", f"gradsight-report run={record.directory}")
        for name, record in zip(comparison.names, comparison.runs, strict=True)
    ]


def _listed(summary: dict[str, object]) -> list[str]:
    """Names of directories in a summary: those of its lists, and the keys of its dictionaries."""
    entries = [e for value in summary.values() if isinstance(value, list | dict) for e in value]
    names = [entry.get("directory") if isinstance(entry, dict) else entry for entry in entries]
    return [Path(name).name for name in names if isinstance(name, str)]
