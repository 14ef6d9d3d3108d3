"""Take a run to a step again and look at it: `replay.py run=DIR [step=N]`."""

from pathlib import Path
from typing import TYPE_CHECKING

from core.cli.command import tool

if TYPE_CHECKING:
    from core.replay.replay import ReplayConfig


def replay(cfg: "ReplayConfig") -> None:
    """Say where a number was born that should not be, and write the page."""
    from core.replay.page import write_page  # here, so that a misspelt option is answered without torch
    from core.replay.replay import replay as replayed
    from core.replay.told import lines
    from core.scripts.report import kind_of  # pyright: ignore[reportMissingImports]

    found = replayed(Path(str(cfg.run)), cfg.step)
    for line in lines(found):
        print(line)
    print(f"replay: {write_page(found, kind_of)}")


def main() -> None:
    tool("replay", replay)


if __name__ == "__main__":
    main()
