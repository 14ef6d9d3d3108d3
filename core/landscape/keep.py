"""Where the pictures and the numbers of a landscape are kept: in the directory of its run."""

import json
from pathlib import Path

from core.config import ConfigError
from core.landscape.subject import Subject
from core.landscape.views import View
from core.run.directory import jsonable
from core.run.files import read_json, write_media, write_text


def keep(subject: Subject, tag: str, view: View, seed: int) -> Path:
    """Write the picture to media/landscape/ and the numbers into landscape.json; where the picture is.

    A view without a picture is in landscape.json alone.

    Raises:
        ConfigError: landscape.json is damaged.
    """
    path = place = subject.directory / "landscape.json"
    if view.picture is not None:
        _, place = write_media(subject.directory / "media" / "landscape", tag, view.picture)
    before = read_json(path) if path.exists() else {}
    if not isinstance(before, dict):
        raise ConfigError(f"{path} is damaged: it holds no landscapes; delete it")
    head = {"checkpoint": subject.checkpoint, "step": subject.step, "batch": subject.batch, "seed": seed}
    write_text(path, json.dumps(jsonable({**before, tag: head | view.numbers}), allow_nan=False) + "\n")
    return place
