"""One self-contained HTML page about a run, or several: no script, no network; on a phone and on paper."""

from dataclasses import dataclass
from pathlib import Path

from core.checks import require
from core.config import ConfigError
from core.report.family import child_runs, read_family, render_family
from core.report.pair import check_pair, render_pair
from core.report.read import read_run
from core.report.single import render
from core.run.files import write_text


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Which run to write about.

    Attributes:
        run: its directory, or one whose sub-directories are runs that belong together.
        against: directory of a second run to set beside it.
    """

    run: str | None
    against: str | None = None

    def __post_init__(self) -> None:
        require(self.run is not None, "run", self.run, "a run directory")


def write_page(directory: Path, against: Path | None = None) -> Path:
    """Write `report.html` into a run directory, of a finished run or one under way; returns its path.

    Beside another run it is `report_against_NAME.html`, so that the run's own page stays.

    Args:
        directory: of a run, or of several that belong together.
        against: directory of a second run.

    Raises:
        ConfigError: there is no run, its files are damaged, or the two cannot stand beside each other.
    """
    children = child_runs(directory)
    if against is not None:
        for name, place in (("run", directory), ("against", against)):
            if child_runs(place):
                raise ConfigError(f"{name}={place} holds several runs; name one of its sub-directories")
        first, second = read_run(directory), read_run(against, "against")
        check_pair(first, second)
        path = directory / f"report_against_{against.resolve().name}.html"
        write_text(path, render_pair(first, second))
        return path
    path = directory / "report.html"
    write_text(
        path, render_family(read_family(directory, children)) if children else render(read_run(directory))
    )
    return path
