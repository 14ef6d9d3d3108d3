"""One self-contained HTML page about a run, or several: no script, no network; on a phone and on paper."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from core.checks import require
from core.config import ConfigError
from core.report.cards import title_of
from core.report.comparison import child_runs, comparison_page
from core.report.facts import status
from core.report.layout import Page
from core.report.pair import check_pair, pair_page
from core.report.read import read_run
from core.report.record import KindOf, unknown
from core.report.single import single_page
from core.run.files import refuse_unwritable, write_text


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Which run to write about.

    Attributes:
        run: its directory, or one whose sub-directories are runs that belong together.
        against: directory of a second run to set side by side with it.
    """

    run: str | None
    against: str | None = None

    def __post_init__(self) -> None:
        require(self.run is not None, "run", self.run, "a run directory: type run=DIR")


def write_page(directory: Path, against: Path | None = None, kind_of: KindOf = unknown) -> Path:
    """Write `report.html` into a run directory, of a finished run or one under way; returns its path.

    The directory may also hold several runs that belong together. With a second run the page is
    `report_against_NAME.html`, so that the run's own page stays.

    Raises:
        ConfigError: there is no run, its files are damaged, or the two cannot be shown on one page.
    """
    name = "report" if against is None else f"report_against_{against.resolve().name}"
    path = directory / f"{name}.html"
    if directory.is_dir():
        refuse_unwritable(path)
    children = child_runs(directory, kind_of)
    if against is None:
        if children:
            page = comparison_page(directory, {path.name: read_run(path, kind_of) for path in children})
        else:
            page = single_page(read_run(directory, kind_of))
    else:
        for name, place in (("run", directory), ("against", against)):
            if child_runs(place, kind_of):
                raise ConfigError(f"{name}={place} holds several runs; name one of its sub-directories")
        first, second = read_run(directory, kind_of), read_run(against, kind_of, "against")
        check_pair(first, second)
        page = pair_page(first, second)
    write_text(path, render(page))
    return path


def breakable(name: str) -> Markup:
    """A name that a narrow page breaks between its parts only, and where a part does not fit, inside it."""
    return Markup(re.sub(r"(?<=[a-zA-Z0-9\]])([./_])(?=\S)", r"\1<wbr>", str(escape(name))))


def render(page: Page) -> str:
    """The page as HTML; every text in it is escaped."""
    folder = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=folder, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "shell": shlex.quote,
        "status": status,
        "title_of": title_of,
        "breakable": breakable,
    }
    return environment.get_template("page.html.jinja").render(page=page)
