"""What a command says at its end: where the pictures of its run are, and what to type next."""

import os
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from core.cli.choices import YamlFile
from core.config import config_dir
from core.run.listing import target_of

SAID = 2  # commands
SCRIPTS = {"rl": "train_rl", "gan": "train_gan"}  # of root files, where a script has another name


def follow_up(command: str, directory: Path, typed: str) -> Iterator[str]:
    """Lines about a run, and the first commands for its kind of run: the root file of its trainer lists them.

    Args:
        command: the root YAML of the command that ends; it is not proposed for the same run again.
        directory: of the run.
        typed: what was typed in front of the overrides, as `typed_command` has it.
    """
    entries = _next_of(target_of(directory))
    if not entries:  # a loop of somebody's own, or nothing was made
        return
    if (directory / "media").is_dir():
        yield f"pictures: {_near(directory / 'media')}"
    others = [words for words in map(str.split, entries) if words[:2] != [command, "RUN"]]
    for name, *words in others[:SAID]:
        yield next_line(name, [_near(directory) if word == "RUN" else word for word in words], typed)


def of_sweep(command: str, directory: Path, swept: Sequence[str], typed: str) -> Iterator[str]:
    """Lines about the folder of a sweep of `command` over the options `swept`."""
    root = YamlFile(config_dir() / f"{command}.yaml")
    over_seeds = root.content.get("next_of_seeds") if "seed" in swept else None
    for name in (*(over_seeds or ()), "report", "runs"):
        yield next_line(name, [_near(directory)], typed)


def next_line(command: str, words: list[str], typed: str) -> str:
    """A line that says what to type next, as `in_form` has it."""
    return f"next: {in_form(command, words, typed)}"


def in_form(command: str, words: list[str], typed: str) -> str:
    """Another command of ours, by its root YAML, in the form in which this one was typed."""
    *before, last = shlex.split(typed) or [""]
    script = SCRIPTS.get(command, command)
    if last.endswith(".py"):
        found = os.path.join(os.path.dirname(last), f"{script}.py")
    elif last.startswith("core.scripts."):
        found = f"core.scripts.{script}"
    else:
        before, found = [], os.path.join(os.path.dirname(last), _installed(command))
    return shlex.join([*before, found, *words])


def continued_by(directory: Path, root: str, typed: str) -> str:
    """The end of a message: what goes on with the run or sweep in a directory, of the command `root`."""
    return f"; continue it with: {in_form(root, [f'resume={directory}'], typed)}"


def _next_of(target: str | None) -> list[str]:
    """What the root file with this `_target_` proposes; of the others only the text is read."""
    line = f"_target_: {target}"
    texts = ((path, path.read_text(encoding="utf-8")) for path in sorted(config_dir().glob("*.yaml")))
    found = next((path for path, text in texts if line in text.splitlines()), None)
    return (YamlFile(found).content.get("next") or []) if found else []


def _installed(command: str) -> str:
    """The name under which a command is installed."""
    path = config_dir() / f"{command}.yaml"
    return YamlFile(path).content["hydra"]["job"]["name"] if path.is_file() else f"gradsight-{command}"


def _near(path: Path) -> str:
    """A path as it would be typed from here."""
    whole, here = os.path.abspath(path), os.getcwd()
    return os.path.relpath(whole) if whole.startswith(os.path.join(here, "")) else whole
