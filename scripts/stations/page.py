"""The stations as one HTML page, as Markdown, and as a notebook in which their numbers can be changed."""

import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import core.report
from core.draw.media import Image, dark_of

from . import STATIONS
from .station import Station, uri

TITLE = "A tour of the gradient"
LEAD = (
    "Ten stations for a reader who knows one thing: the gradient of a function is the vector of its partial "
    "derivatives. Each says what it is about, states in one sentence what was measured when this page was "
    "made, and shows it."
)


def names() -> list[str]:
    """A name for each station that files and addresses can have."""
    return [f"{i:02}_{make.__module__.rpartition('.')[2]}" for i, make in enumerate(STATIONS, 1)]


def as_html(stations: Sequence[Station], pictures: Sequence[tuple[Image, Image]]) -> str:
    """One page without script or network, in light and dark.

    Args:
        stations: all.
        pictures: of each, the wide one and the tall one, for a phone.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folders = [Path(__file__).parent, Path(str(core.report.__file__)).parent]
    environment = Environment(
        loader=FileSystemLoader(folders), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    shown = [[(uri(picture), uri(cast(Image, dark_of(picture)))) for picture in both] for both in pictures]
    return environment.get_template("tour.html.jinja").render(
        title=TITLE, lead=LEAD, stations=list(zip(names(), stations, shown, strict=True))
    )


def as_markdown(stations: Sequence[Station], folder: str) -> str:
    """The same as Markdown, with pictures in a folder beside it; those for a dark page are in its `dark`."""
    parts = [f"# {TITLE}", LEAD, "Made by `make tour`, which also writes one page of HTML."]
    for i, (name, station) in enumerate(zip(names(), stations, strict=True), 1):
        parts += [
            f"## {i}. {station.title}",
            station.idea,
            f"> {station.law} ({station.source})",
            f"**{station.sentence}**",
            "<picture>\n"
            f'<source media="(prefers-color-scheme: dark)" srcset="{folder}/dark/{name}.png">\n'
            f'<img alt="{station.title}" src="{folder}/{name}.png">\n'
            "</picture>",
            f"```sh\n{station.command}\n```",
        ]
    return "\n\n".join(parts) + "\n"


def as_notebook(stations: Sequence[Station]) -> str:
    """A notebook with a cell for each station, which calls it with the number that is worth changing."""
    cells = [_markdown(f"# {TITLE}\n\n{LEAD} Change a number and run its cell again.")]
    for i, (make, station) in enumerate(zip(STATIONS, stations, strict=True), 1):
        module = make.__module__.rpartition(".")[2]
        ((knob, parameter),) = inspect.signature(make).parameters.items()
        call = f"{module}.station({knob}={parameter.default})"
        cells.append(
            _markdown(f"## {i}. {station.title}\n\n{station.idea}\n\n> {station.law} ({station.source})")
        )
        cells.append(
            _cell(
                "code",
                f"from core.scripts.stations import {module}\n\n{call}",
                execution_count=None,
                outputs=[],
            )
        )
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    whole = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 4}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def _markdown(text: str) -> Mapping[str, object]:
    return _cell("markdown", text)


def _cell(kind: str, text: str, **more: object) -> Mapping[str, object]:
    return {"cell_type": kind, "metadata": {}, "source": text.splitlines(keepends=True), **more}
