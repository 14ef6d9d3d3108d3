"""Runs that belong together, each in a sub-directory: descents by several optimizers or batches."""

from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path

from core.cli.saved import saved_options
from core.config import ConfigError
from core.report import beside, cards, figures, words
from core.report.finding_cards import finding_cards
from core.report.html import document, section
from core.report.pictures import in_order, picture
from core.report.read import Record, read_media, read_run
from core.run.directory import in_use, is_run, read_summary

FAMILIES = ("optimizers", "batches")  # options that make a run for each of their names


@dataclass(frozen=True, kw_only=True)
class Family:
    """Runs that belong together.

    Attributes:
        directory: that holds them.
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


def child_runs(directory: Path) -> list[Path]:
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
        listed += _listed({name: options.get(name) for name in FAMILIES})
        found = [path for path in found if path.name in listed]
    return sorted(found, key=lambda path: listed.index(path.name) if path.name in listed else len(listed))


def read_family(directory: Path, children: list[Path]) -> Family:
    """Everything the page needs.

    Raises:
        ConfigError: a file is damaged, or the runs are of different kinds.
    """
    summary = read_summary(directory) or {}
    runs = tuple(read_run(path) for path in children)
    kinds = {record.package for record in runs}
    if len(kinds) > 1:
        raise ConfigError(f"run={directory} holds runs of different kinds; name one of its sub-directories")
    return Family(
        directory=directory,
        status="running" if in_use(directory) else str(summary.get("status", "unfinished")),
        media=read_media(directory),
        names=tuple(path.name for path in children),
        runs=runs,
    )


def render_family(family: Family) -> str:
    """The page as one string."""
    title = f"{len(family.runs)} runs on {', '.join(dict.fromkeys(map(words.subject, family.runs)))}"
    charts = partial(cards.charts, end=max(record.step for record in family.runs))
    drawn = [
        beside.family_figures([plan(record) for record in family.runs], family.names)
        for plan in (figures.outcome_figures, figures.gradient_figures, figures.curvature_figures)
    ]
    shared = "".join(picture(family.media[name], name) for name in in_order(family.media))
    differing = beside.options_table(family.runs, family.names)
    body = "".join(
        [
            _header(family, title),
            section("What was reached", beside.family_table(family.runs, family.names)),
            section("What differs", differing or '<p class="quiet">No option: all are the same.</p>'),
            section("Findings", _findings(family)),
            section("The outcome", charts(drawn[0], shared + _pictures(family))),
            section("Gradients", charts(drawn[1])),
            section("Curvature", charts(drawn[2])),
            section("Each run", _pages(family)),
        ]
    )
    return document(title, body)


def _header(family: Family, title: str) -> str:
    status = escape(words.STATUS.get(family.status, family.status))
    return (
        '<header><p class="brand">gradsight <span>runs side by side</span></p>\n'
        f"<h1>{escape(title)}</h1>\n"
        f'<p class="meta"><span class="status {escape(family.status)}">{status}</span> '
        f"{escape(family.runs[0].kind)} · <code>{escape(str(family.directory))}</code></p></header>\n"
    )


def _findings(family: Family) -> str:
    """Of those runs that have some."""
    return "".join(
        finding_cards(record, {}, name)
        for name, record in zip(family.names, family.runs, strict=True)
        if record.findings
    )


def _pictures(family: Family) -> str:
    """The path of each, which has no page but this one to stand on beside the others'."""
    return "".join(
        picture(path, media, name)
        for name, record in zip(family.names, family.runs, strict=True)
        for media, path in record.media.items()
        if "path" in media
    )


def _pages(family: Family) -> str:
    """Where the single pages are, or how to make them."""
    lines = []
    for name, record in zip(family.names, family.runs, strict=True):
        if (record.directory / "report.html").exists():
            lines.append(f'<li><a href="{escape(name)}/report.html">{escape(name)}</a></li>')
        else:
            lines.append(f"<li><code>gradsight-report run={escape(str(record.directory))}</code></li>")
    return f'<ul class="pages">{"".join(lines)}</ul>'


def _listed(summary: dict[str, object]) -> list[str]:
    """Names of directories in a summary: those of its lists, and the keys of its dictionaries."""
    entries = [e for value in summary.values() if isinstance(value, list | dict) for e in value]
    names = [entry.get("directory") if isinstance(entry, dict) else entry for entry in entries]
    return [Path(name).name for name in names if isinstance(name, str)]
