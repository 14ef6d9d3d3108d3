"""Write one self-contained page about a run: `report.py run=DIR`, or two: `against=DIR`."""

from pathlib import Path
from typing import TYPE_CHECKING

from core.cli.launch import tool

if TYPE_CHECKING:
    from core.report.page import ReportConfig


def report(cfg: "ReportConfig") -> None:
    """Write the page into the run's directory and say where it is."""
    from core.report.page import write_page  # here, so that a misspelt option is answered without torch

    against = None if cfg.against is None else Path(cfg.against)
    print(f"report: {write_page(Path(str(cfg.run)), against)}")


def main() -> None:
    tool("report", report)


if __name__ == "__main__":
    main()
