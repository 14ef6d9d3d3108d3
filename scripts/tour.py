"""A tour of the gradient: ten stations, each one sentence of measured numbers and one picture."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from annotated_types import Ge

from core.checks import checked, require
from core.cli.command import tool


@dataclass(frozen=True, kw_only=True)
@checked
class TourConfig:
    """Where the tour is written; conf/tour.yaml explains each option."""

    directory: str
    markdown: str | None
    notebook: str | None
    num_threads: Annotated[int | None, Ge(1)]

    def __post_init__(self) -> None:
        for name, ending in (("markdown", ".md"), ("notebook", ".ipynb")):
            value = getattr(self, name)
            require(value is None or value.endswith(ending), name, value, f"null or a file name in {ending}")


def tour(cfg: TourConfig) -> None:
    """Visit every station, then write one page about all.

    Raises:
        ConfigError: a file cannot be written.
    """
    from core.run.device import set_num_threads
    from core.run.files import refuse_unwritable, write_media, write_text
    from core.scripts.stations import STATIONS, page  # pyright: ignore[reportMissingImports]

    folder = Path(cfg.directory)
    also = {Path(path) for path in (cfg.markdown, cfg.notebook) if path is not None}
    refuse_unwritable(folder / "tour.html", *also)
    set_num_threads(cfg.num_threads)
    began, stations, pictures = time.monotonic(), [], []
    folders = [folder, *(path.with_suffix("") for path in also if path.suffix == ".md")]
    for i, (name, make) in enumerate(zip(page.names(), STATIONS, strict=True), 1):
        station = make()
        stations.append(station)
        pictures.append((station.picture(), station.picture(tall=True)))
        for each in folders:
            write_media(each, name, pictures[-1][0])
        print(f"{i}. {station.title}\n   {station.sentence}\n   {folder / name}.png", flush=True)
    write_text(folder / "tour.html", page.as_html(stations, pictures))
    for path in also:
        markdown = path.suffix == ".md"
        text = page.as_markdown(stations, path.stem) if markdown else page.as_notebook(stations)
        write_text(path, text)
    print(f"\n{folder / 'tour.html'}   {time.monotonic() - began:.0f} s")


def main() -> None:
    tool("tour", tour)


if __name__ == "__main__":
    main()
