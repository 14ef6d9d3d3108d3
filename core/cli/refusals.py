"""What is said where Hydra cannot compose, in words of this project."""

import re
from collections.abc import Sequence

from hydra.errors import MissingConfigException

from core.cli.choices import EXPERIMENT, YamlFile
from core.cli.overrides import SEVERAL
from core.config import config_dir, nearest
from core.text import listed, shortened

BY_ID = "by_id"  # the choice of a group for whatever has no YAML of its own
ID = re.compile(r"-v\d+$")  # how an id ends


def _pages(config_name: str) -> list[str]:
    """Names of the pages of experiments that a command has, `none` first."""
    text = (config_dir() / f"{config_name}.yaml").read_text(encoding="utf-8")
    page = re.search(r"^page: (\w+)/", text, re.M)
    folder = config_dir() / EXPERIMENT / (page[1] if page else "none")
    return ["none", *sorted(f"{folder.name}/{path.stem}" for path in folder.glob("*.yaml"))]


def foreign(message: str, config_name: str) -> str:
    """The message in place of Hydra's where only another command has the group; else nothing."""
    found = re.search(r"(?:In '([^']+)': )?Could not override '([^'@]+)", message)
    if not found:
        return ""
    where, group = found.groups()
    of = f"{where} belongs to another command: " if where else ""
    command = YamlFile(config_dir() / f"{config_name}.yaml").content["hydra"]["job"]["name"]
    return f"{of}{command} has no option {group}"


def missing_choice(error: MissingConfigException, chosen: Sequence[str], config_name: str) -> str:
    """The message about a choice that has no file."""
    missing, options = error.missing_cfg_file or "", list(error.options or [])
    group, _, choice = missing.rpartition("/")
    if group.split("/")[0] == EXPERIMENT:  # its pages stand in a folder for each command
        group, choice = EXPERIMENT, missing.removeprefix(f"{EXPERIMENT}/")
        options = _pages(config_name)
    if not options and (config_dir() / group).is_dir():  # one of a list of choices, of which Hydra says less
        options = sorted(path.stem for path in (config_dir() / group).glob("*.yaml"))
    if not options and not _by_id(missing):
        return f"there is no configuration file {shortened(missing)}.yaml"
    for several, one in SEVERAL.items():
        group = several if f"+{one}@{several}.{choice}={choice}" in chosen else group
    by_id = _by_id(missing)
    if by_id:
        return by_id
    choice = shortened(choice, 40)
    near = nearest(choice, options) or nearest(choice.lower(), options)
    return f"{shortened(group, 40)}={choice} does not exist; choose from {listed(options)}{near}"


def _by_id(missing: str) -> str:
    """The message about an id in place of a choice, in a group that takes any id; else nothing."""
    group, _, name = missing.partition("/")
    if not ID.search(name) or not (config_dir() / group / f"{BY_ID}.yaml").is_file():
        return ""
    return f"{group}={shortened(name)} is no choice of {group}; an id is typed {group}.id={shortened(name)}"
