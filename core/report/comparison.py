"""The page about several runs that belong together, each in a sub-directory of one directory."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from core.cli.command import typed_command
from core.cli.saved import saved_options
from core.config import ConfigError
from core.report import cards, facts, figures
from core.report.layout import Origin, Page, PictureCard, Section, Table
from core.report.pictures import in_order
from core.report.read import read_media
from core.report.record import KindOf, Record, unknown
from core.report.sections import options_section
from core.run.directory import in_use, is_run, read_summary


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


def comparison_page(directory: Path, runs: Mapping[str, Record]) -> Page:
    """All runs of a directory, what they reached first.

    Raises:
        ConfigError: the summary is damaged, or the runs are of different kinds.
    """
    records, names = list(runs.values()), list(runs)
    if len({record.package for record in records}) > 1:
        raise ConfigError(f"run={directory} holds runs of different kinds; name one of its sub-directories")
    kind, summary = records[0].kind, read_summary(directory) or {}
    subjects = ", ".join(filter(None, dict.fromkeys(map(kind.subject, records))))
    status = "running" if in_use(directory) else str(summary.get("status") or _together(directory, records))
    charts = partial(cards.charts, end=max(record.step for record in records))
    outcome, gradients, curvature = (
        charts(figures.comparison_figures([make(record) for record in records], names))
        for make in (
            partial(figures.chart_figures, charts=kind.outcome),
            figures.gradient_figures,
            figures.curvature_figures,
        )
    )
    found = [cards.finding_cards(record, {}, name) for name, record in runs.items() if record.findings]
    return Page(
        brand="runs side by side",
        title=f"{len(runs)} runs on {subjects}" if subjects else f"{len(runs)} runs",
        origins=[Origin(status=status, known=kind.name, directory=str(directory))],
        sections=[
            Section(heading="What was reached", table=_outcomes(runs)),
            options_section(runs),
            Section(heading="Findings", findings=found),
            Section(heading="The outcome", pictures=_pictures(directory, runs), charts=outcome),
            Section(heading="Gradients", charts=gradients),
            Section(heading="Curvature", charts=curvature),
            Section(heading="Each run", links=[_link(name, record) for name, record in runs.items()]),
        ],
    )


def _together(directory: Path, records: Sequence[Record]) -> str:
    """The status of the runs of a directory without a summary: a sweep has none, nor one that was killed."""
    found = {record.status for record in records} | ({"unfinished"} if is_run(directory) else set())
    return next(s for s in ("running", "failed", "stopped", "unfinished", "finished") if s in found)


def _outcomes(runs: Mapping[str, Record]) -> Table:
    """What each run reached, a row each."""
    found = [{fact.label: fact.value for fact in facts.reached(record)} for record in runs.values()]
    labels = list(dict.fromkeys(label for values in found for label in values))
    rows = [
        [name, facts.status(record.status), *(values.get(label, "–") for label in labels)]
        for (name, record), values in zip(runs.items(), found, strict=True)
    ]
    return Table(["run", "status", *labels], rows)


def _pictures(directory: Path, runs: Mapping[str, Record]) -> list[PictureCard]:
    """Pictures of all runs together, then the path of each."""
    first, media = next(iter(runs.values())), read_media(directory)
    shared = [cards.picture(first, name, path=media[name]) for name in in_order(media, first.kind.captions)]
    return shared + [
        cards.picture(record, media, name)
        for name, record in runs.items()
        for media in record.media
        if "path" in media
    ]


def _link(name: str, record: Record) -> tuple[str, str]:
    """Where the page of a single run is, or how to make it."""
    if (record.directory / "report.html").is_file():
        return f"{name}/report.html", name
    return "", f"{typed_command(sys.argv[1:]) or 'gradsight-report'} {shlex.quote(f'run={record.directory}')}"


def _listed(summary: dict[str, object]) -> list[str]:
    """Names of directories in a summary: those of its lists, and the keys of its dictionaries."""
    entries = [e for value in summary.values() if isinstance(value, list | dict) for e in value]
    names = [entry.get("directory") if isinstance(entry, dict) else entry for entry in entries]
    return [Path(name).name for name in names if isinstance(name, str)]
