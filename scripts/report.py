"""Write one self-contained page about a run: `report.py run=DIR`, or two: `against=DIR`."""

from pathlib import Path
from typing import TYPE_CHECKING

from core.cli.command import tool

if TYPE_CHECKING:
    from core.report.page import ReportConfig
    from core.report.record import Kind


def report(cfg: "ReportConfig") -> None:
    """Write the page into the run's directory and say where it is."""
    from core.report.page import write_page  # here, so that a misspelt option is answered without torch

    against = None if cfg.against is None else Path(cfg.against)
    print(f"report: {write_page(Path(str(cfg.run)), against, kind_of)}")


def kind_of(target: str) -> "Kind":
    """What is known about the runs of a trainer, by the `_target_` of their options."""
    from core.descend.report import DESCENT
    from core.report.record import Kind
    from core.watch.report import WATCHED
    from gradgan.report import GAN
    from gradrl.report import AGENT

    kinds = {"core.descend": DESCENT, "core.watch": WATCHED, "gradgan": GAN, "gradrl": AGENT}
    return next((kind for start, kind in kinds.items() if target.startswith(f"{start}.")), Kind())


def main() -> None:
    tool("report", report)


if __name__ == "__main__":
    main()
