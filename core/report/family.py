"""Runs that belong together, each in a sub-directory: descents by several optimizers or batches."""

from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path

from core.report import beside, cards, figures, words
from core.report.html import document, section
from core.report.pictures import picture
from core.report.read import Record, read_media, read_run
from core.run.config import ConfigError
from core.run.directory import is_run, read_summary, typed_words

FOLDER = ("directory", "dir", "path", "name", "run")  # where an entry of the summary's list may say its own


@dataclass(frozen=True, kw_only=True)
class Family:
    """Runs that belong together.

    Attributes:
        directory: that holds them.
        status: of all of them.
        words: what was typed on the command line.
        media: pictures of all of them, by name.
        names: of the runs.
        runs: in order.
    """

    directory: Path
    status: str
    words: tuple[str, ...]
    media: dict[str, Path]
    names: tuple[str, ...]
    runs: tuple[Record, ...]


def child_runs(directory: Path) -> list[Path]:
    """Runs of a directory that has none of its own, as its summary lists them, else by name; empty for a run.

    Raises:
        ConfigError: the summary is damaged.
    """
    if not directory.is_dir() or any(directory.glob("events.out.tfevents.*")):
        return []
    summary = read_summary(directory) or {}
    listed = summary.get("runs")
    entries = list(listed) if isinstance(listed, list | dict) else []
    found = [directory / Path(_folder(entry)).name for entry in entries if _folder(entry)]
    found = [path for path in found if path.is_dir() and is_run(path)]
    return found or sorted(path for path in directory.iterdir() if path.is_dir() and is_run(path))


def read_family(directory: Path, children: list[Path]) -> Family:
    """Everything the page needs.

    Raises:
        ConfigError: a file is damaged, or the runs are of different kinds.
    """
    runs = tuple(read_run(path) for path in children)
    kinds = {record.package for record in runs}
    if len(kinds) > 1:
        raise ConfigError(f"run={directory} holds runs of different kinds; name one of its sub-directories")
    return Family(
        directory=directory,
        status=str((read_summary(directory) or {}).get("status", "unfinished")),
        words=typed_words(directory),
        media=read_media(directory),
        names=tuple(path.name for path in children),
        runs=runs,
    )


def render_family(family: Family) -> str:
    """The page as one string."""
    title = f"{family.runs[0].kind} on {', '.join(dict.fromkeys(map(words.subject, family.runs)))}"
    charts = partial(cards.charts, end=max(record.step for record in family.runs))
    drawn = [
        beside.family_figures([plan(record) for record in family.runs], family.names)
        for plan in (figures.outcome_figures, figures.gradient_figures, figures.curvature_figures)
    ]
    shared = "".join(picture(path, name) for name, path in family.media.items())
    differing = beside.options_table(family.runs, family.names)
    body = "".join(
        [
            _header(family, title),
            section("What was reached", beside.family_table(family.runs, family.names)),
            section("What differs", differing or '<p class="quiet">No option: all are the same.</p>'),
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
        f"{len(family.runs)} runs in <code>{escape(str(family.directory))}</code></p></header>\n"
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


def _folder(entry: object) -> str:
    if isinstance(entry, dict):
        return next((str(entry[key]) for key in FOLDER if isinstance(entry.get(key), str)), "")
    return str(entry)
