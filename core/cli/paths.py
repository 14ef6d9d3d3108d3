"""Paths on the command line: a path that is typed is that path, whatever Hydra's grammar makes of it.

To Hydra `runs/lr=0.1` is a syntax error, `2024_01` the number 202401, and `a,b` a sweep. The options that are
paths are listed under `paths:` in the root file, those that name a run under `run_paths:`; they are handed on
as text in Hydra's quotes where the text alone would be read as something else.
"""

import os
import re
from collections.abc import Sequence

from hydra.core.override_parser.types import Quote, QuotedString

from core.cli.choices import YamlFile
from core.cli.overrides import parse
from core.config import ConfigError
from core.run.listing import RUNS, newest_first, target_of
from core.text import shortened

PLACES = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir")  # paths of every command
LONGEST = 255  # bytes of one name
LAST = "last"  # the newest run, unless there is a path of that name
ELEMENT = re.compile(r"""\s*('(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|[^,]*?)\s*(?:,|$)""")  # of a list


def typed_path(text: str, option: str) -> str:
    """The path that a text stands for: as it is, without quotes around it, and `~` as the home folder.

    Hydra's reading counts for text in quotes, and where only that exists (a folder whose comma is escaped).

    Raises:
        ConfigError: no system has files of such a name.
    """
    if any(len(os.fsencode(name)) > LONGEST for name in text.split("/")):
        raise ConfigError(f"{option}={shortened(text)}: a name in a path has at most {LONGEST} bytes")
    if os.path.exists(text):
        return text
    reading = _reading(text)
    if isinstance(reading, str) and (text.startswith(("'", '"')) or os.path.exists(reading)):
        text = reading
    return os.path.expanduser(text)


def typed_run(text: str, option: str, root: YamlFile) -> str:
    """The run directory that a text stands for: as `typed_path`, and `last` as the newest one below runs/.

    For a command that trains it is the newest run of this command.

    Raises:
        ConfigError: there is none, or no system has files of such a name.
    """
    if text != LAST or os.path.exists(text):
        return typed_path(text, option)
    target = root.content["_target_"] if "resume" in root.content else None
    for _, directory in newest_first(RUNS):
        if target in (None, target_of(directory)):
            return os.fspath(directory)
    whose = "" if target is None else " of this command"
    raise ConfigError(f"{option}={LAST}: there is no run{whose} in {RUNS}/")


def as_text(overrides: Sequence[str], root: YamlFile, *, sweep: bool = False) -> list[str]:
    """The overrides, those of paths written so that Hydra reads the path.

    Args:
        overrides: as typed.
        root: the root file.
        sweep: a list of values, `run=a,b`, is a sweep unless a file has that name.
    """
    return [_as_text(each, root, sweep) for each in overrides]


def quoted(path: str) -> str:
    """A text as Hydra's grammar reads it back."""
    return QuotedString(path, Quote.single).with_quotes()


def element(text: str, option: str, root: YamlFile) -> str:
    """A path, or the directory of a run where this is what the option names, as Hydra's grammar reads it."""
    of_run = option in (root.content.get("run_paths") or ())
    path = typed_run(text, option, root) if of_run else typed_path(text, option)
    return path if _reading(path) == path else quoted(path)


def _as_text(override: str, root: YamlFile, sweep: bool) -> str:
    name, _, text = override.partition("=")
    key = name.lstrip("+")
    own = [option for kind in ("paths", "run_paths") for option in root.content.get(kind) or ()]
    if key not in (*PLACES, *own) or text.lower() in ("", "null"):
        return override
    if os.path.exists(text) or key in PLACES:
        return f"{name}={element(text, key, root)}"
    if text.startswith("[") and text.endswith("]"):
        found = [match[1] for match in ELEMENT.finditer(text[1:-1]) if match[1]]
        return f"{name}=[{','.join(element(each, key, root) for each in found)}]"
    return override if sweep and _sweeps(text) else f"{name}={element(text, key, root)}"


def _reading(text: str) -> object:
    """What Hydra makes of a value; None where it cannot read it."""
    try:
        override = parse(f"path={text}")
        return None if override.is_sweep_override() else override.value()
    except ConfigError:
        return None


def _sweeps(text: str) -> bool:
    try:
        return parse(f"path={text}").is_sweep_override()
    except ConfigError:
        return False
