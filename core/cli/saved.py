"""How a run was started, read from its directory."""

import os
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from core.cli.choices import CLASS, EXPERIMENT, YamlFile
from core.cli.compose import plain
from core.cli.yaml_file import read_yaml
from core.config import ConfigError, Tree, build, config_dir
from core.run.directory import is_run

FOLDER = "file://"  # in front of a folder in Hydra's search path


def saved_options(directory: Path) -> Tree:
    """The options a run was started with, as plain containers.

    Raises:
        ConfigError: there is no run in this directory, or its configuration is damaged.
    """
    if not is_run(directory):
        raise ConfigError(f"there is no run in {directory}")
    return _options(options_path(directory))


def first_options(directory: Path) -> Tree:
    """The options that a run began with, as Hydra noted them: a rollback changes those in `config.yaml`.

    Raises:
        ConfigError: they were not noted, or the note is damaged.
    """
    path = directory / ".hydra" / "config.yaml"
    if not path.is_file():
        raise ConfigError(f"{path} is missing: what this run began with is not known")
    return _options(path)


def _options(path: Path) -> Tree:
    tree = _load(path)
    options = plain(tree) if isinstance(tree, DictConfig) else {}
    if not isinstance(options.get(CLASS), str):
        raise ConfigError(f"{path} is damaged: it contains no options of a run ({CLASS} names no class)")
    return options


def options_path(directory: Path) -> Path:
    """Where the options of a run are: one killed in its first moments has only Hydra's own copy."""
    path = directory / "config.yaml"
    return path if os.path.lexists(path) else directory / ".hydra" / "config.yaml"


def build_saved(directory: Path) -> object:
    """The configuration of a run, built from its options.

    Raises:
        ConfigError: they are damaged or of another version; names the file.
    """
    return _built(saved_options(directory), directory)


def build_to_measure(directory: Path) -> object:
    """As `build_saved`, without what only a training needs: a module of the user's own may be elsewhere."""
    options, unneeded = saved_options(directory), {"callbacks": [], "logger": {}}
    return _built(options | {key: empty for key, empty in unneeded.items() if key in options}, directory)


def lacking(options: Tree) -> list[str]:
    """The groups that a run of this kind has and these options have not."""
    roots = [YamlFile(path) for path in sorted(config_dir().glob("*.yaml"))]
    groups = next((root.choices for root in roots if root.content.get(CLASS) == options[CLASS]), {})
    return [name for name in groups if name not in options and name != EXPERIMENT and "/" not in name]


def saved_command(directory: Path) -> str:
    """What was typed in front of the overrides, words quoted for a shell; empty where it was not noted.

    Raises:
        ConfigError: the note is damaged.
    """
    return str(_hydras(directory, "help.app_name") or "")


def saved_flags(directory: Path) -> tuple[str, ...]:
    """`--config-dir` and the user's own folder of YAML files, where the run was started with one.

    Raises:
        ConfigError: the note is damaged.
    """
    places = map(str, cast(Any, _hydras(directory, "searchpath")) or ())
    folders = [place.removeprefix(FOLDER) for place in places if place.startswith(FOLDER)]
    return ("--config-dir", folders[0]) if folders else ()


def saved_overrides(directory: Path) -> tuple[str, ...]:
    """The overrides that started a run, those of Hydra's own options left out; empty where none were noted.

    Raises:
        ConfigError: the note is damaged.
    """
    path = directory / ".hydra" / "overrides.yaml"
    overrides = OmegaConf.to_container(_load(path)) if path.exists() else []
    return tuple(str(each) for each in overrides or [] if not str(each).startswith("hydra."))


def _hydras(directory: Path, option: str) -> object:
    """One of Hydra's own options, as it noted them; None where it did not."""
    path = directory / ".hydra" / "hydra.yaml"
    noted = _load(path) if path.exists() else None
    return OmegaConf.select(noted, f"hydra.{option}") if isinstance(noted, DictConfig) else None


def _built(options: Tree, directory: Path) -> object:
    try:
        return build(options)
    except ConfigError as error:
        raise ConfigError(f"{options_path(directory)}: {error}") from error


def _load(path: Path) -> object:
    try:
        return read_yaml(path)
    except ValueError as error:
        raise ConfigError(f"{path} is damaged: {error}") from error
