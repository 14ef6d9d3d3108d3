"""The words of the command line, held against the YAML files before anything heavy is imported.

Hydra lets `+group.typo=1` through, checks no types of plain YAML, and answers a misspelt name with advice to
append it. So every word is looked up here first: its name must exist, and its value must look like the one
it replaces. Ranges and classes are checked later, by `core.config`.
"""

import os
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from core.config import AUTO, ConfigError, config_dir, nearest

SEVERAL = {"optimizers": "optimizer", "batches": "batch"}  # groups whose choices take the place of another's


def compose_checked(
    config_name: str, words: Sequence[str], folders: Sequence[Path]
) -> tuple[DictConfig, list[str]]:
    """Compose a configuration after checking every word.

    Args:
        config_name: the root YAML, without its ending.
        words: the overrides, as typed.
        folders: our configuration folder first, then the user's own (`--config-dir`).

    Returns:
        The composed tree with the `hydra` node, and the words as Hydra wants them: an option below a
        free-form mapping gets the `++` that Hydra asks for there.

    Raises:
        ConfigError: one line about the first word that is wrong.
    """
    overrides = [parse(word) for word in words]
    _refuse_one_beside_several(words, overrides)
    base = compose_choices(config_name, words, folders)
    accepted: list[str] = []
    for word, override in zip(words, overrides, strict=True):
        plain = _is_group(override, folders) or override.key_or_group.startswith("hydra")
        free = not plain and _check_word(override, base, overrides)
        accepted.append(f"++{word.lstrip('+')}" if free else word)
    return _compose(config_name, accepted, folders), accepted


def compose_choices(config_name: str, words: Sequence[str], folders: Sequence[Path]) -> DictConfig:
    """Compose from those of the words that choose a file of a group, leaving out those that set a value.

    Args:
        config_name: as in `compose_checked`.
        words: the same.
        folders: the same.

    Raises:
        ConfigError: there is no such choice.
    """
    choices = tuple(word for word in words if _is_group(parse(word), folders))
    return _compose_base(config_name, choices, tuple(folders))


def parse(word: str) -> Override:
    """One word in Hydra's grammar.

    Raises:
        ConfigError: it is not `option=value`.
    """
    try:
        return OverridesParser.create().parse_override(word)
    except HydraException as error:
        raise ConfigError(f"cannot read {word!r}: expected option=value") from error


def _is_group(override: Override, folders: Sequence[Path]) -> bool:
    key = override.key_or_group.split("@")[0]
    return any((folder / key).is_dir() for folder in folders)


@lru_cache(maxsize=4)  # the jobs of a sweep share it
def _compose_base(config_name: str, choices: tuple[str, ...], folders: tuple[Path, ...]) -> DictConfig:
    return _compose(config_name, choices, folders)


def _compose(config_name: str, words: Sequence[str], folders: Sequence[Path]) -> DictConfig:
    own, *others = folders
    extra = [f"hydra.searchpath=[{','.join(f'file://{folder}' for folder in others)}]"] if others else []
    try:
        with initialize_config_dir(os.fspath(own), version_base="1.3"):
            return compose(config_name, [*extra, *words], return_hydra_config=True)
    except MissingConfigException as error:
        raise ConfigError(_missing_choice(error, words)) from error
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        said = " ".join(str(error).split())
        raise ConfigError(_foreign(said) or said) from error


def _foreign(said: str) -> str:
    """What to say instead when Hydra misses a group that only another command has; else nothing."""
    found = re.search(r"(?:In '([^']+)': )?Could not override '([^'@]+)", said)
    if not found:
        return ""
    where, group = found.groups()
    of = f"{where} belongs to another command: " if where else ""
    return f"{of}this command has no options {group}"


def _refuse_one_beside_several(words: Sequence[str], overrides: Sequence[Override]) -> None:
    """Refuse `optimizer.lr=0.1 optimizers=[sgd,adam]`: the several do not read the options of the one."""
    for override in overrides:
        several = override.key_or_group
        one = SEVERAL.get(several)
        if one is None or override.value() in ("none", None):
            continue
        for word, other in zip(words, overrides, strict=True):
            key = other.key_or_group
            if key == one or key.startswith((f"{one}.", f"{one}@")):
                raise ConfigError(
                    f"{word} is not read beside {several}=, where each has options of its own: "
                    f"{several}.NAME.OPTION=..."
                )


def _missing_choice(error: MissingConfigException, words: Sequence[str]) -> str:
    """What to say of a group's option that has no file."""
    missing, options = error.missing_cfg_file or "", list(error.options or [])
    group, _, choice = missing.rpartition("/")
    if not options and (config_dir() / group).is_dir():  # one of a list of choices, of which Hydra says less
        options = sorted(path.stem for path in (config_dir() / group).glob("*.yaml"))
    if not options:
        return f"there is no configuration file {missing}.yaml"
    there = ", ".join(options)
    return f"{group}={choice} has no configuration file; there are {there}{nearest(choice, options)}"


def _check_word(override: Override, base: DictConfig, overrides: Sequence[Override]) -> bool:
    """Check one option's name and the look of its value; true for a name that the YAML leaves open."""
    key = override.key_or_group
    parts = key.split(".")
    node: object = base
    for depth, part in enumerate(parts):
        if isinstance(node, DictConfig) and part in node and part != "hydra":
            node = OmegaConf.select(node, part, throw_on_resolution_failure=False)
            continue
        if isinstance(node, ListConfig) and part.isdecimal() and int(part) < len(node):
            if override.is_delete() and depth == len(parts) - 1:
                whole = ".".join(parts[:depth])
                raise ConfigError(f"cannot take {key} out of its list; write the whole one, {whole}=[...]")
            node = node[int(part)]
            continue
        path = ".".join(parts[:depth])
        if _is_open(node, depth, path, overrides):
            return True
        raise ConfigError(f"unknown option {key}{nearest(key, _dotted(base))}")
    for value in [] if override.is_delete() else _values(override):
        _check_value(key, value, node)
    return False


def _is_open(node: object, depth: int, path: str, overrides: Sequence[Override]) -> bool:
    """Whether names that the YAML does not list may stand below this node.

    An empty mapping is free-form. Where the user names another class, the class decides.
    """
    if not isinstance(node, DictConfig) or depth == 0:
        return False
    return len(node) == 0 or any(o.key_or_group == f"{path}._target_" for o in overrides)


def _values(override: Override) -> Iterator[object]:
    """The value, or each of a sweep's."""
    if override.is_choice_sweep():
        yield from override.sweep_iterator()
    elif not override.is_sweep_override():
        yield override.value()


def _check_value(key: str, value: object, old: object) -> None:
    """Refuse a value that is of another kind than the one in the YAML; null in the YAML tells nothing."""
    if old is None or (isinstance(value, str) and "${" in value):
        return
    if key == "optimizer.lr" and value == AUTO:
        return
    if value is None:
        return  # whether null is allowed, the dataclass knows
    wanted = None
    if isinstance(old, bool):
        wanted = None if isinstance(value, bool) else "true or false"
    elif isinstance(old, int):
        wanted = None if isinstance(value, int) and not isinstance(value, bool) else "an integer"
        if isinstance(value, float) and value.is_integer():
            wanted = f"an integer, written {int(value)}"
    elif isinstance(old, float):
        wanted = None if isinstance(value, int | float) and not isinstance(value, bool) else "a number"
    elif isinstance(old, str):
        wanted = "a word" if isinstance(value, dict | list) else None
    elif OmegaConf.is_list(old):
        wanted = None if isinstance(value, list) else "a list such as [64,64]"
    elif OmegaConf.is_dict(old):
        wanted = None if isinstance(value, dict) else f"a group of options ({key}.NAME=...)"
    if wanted:
        raise ConfigError(f"{key} must be {wanted}, got {value!r}")


def _dotted(tree: DictConfig, path: str = "") -> list[str]:
    """The options of a tree, by path, the `hydra` node left out."""
    names: list[str] = []
    for key in tree:
        if not path and key == "hydra":
            continue
        full = f"{path}.{key}" if path else str(key)
        child = tree._get_node(key)
        if isinstance(child, DictConfig) and not child._is_none() and not child._is_missing():
            names += _dotted(child, full)
        elif isinstance(child, ListConfig) and not child._is_none() and not child._is_missing():
            links = (i for i in range(len(child)) if isinstance(child._get_node(i), DictConfig))
            names += [full, *(name for i in links for name in _dotted(child[i], f"{full}.{i}"))]
        else:
            names.append(full)
    return names
