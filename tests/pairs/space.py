"""What can be typed: the choices of every group, and other values for the options of a composed tree."""

import dataclasses
import types
import typing
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

import yaml

from core.cli.compose import compose_checked
from core.config import Component, ConfigError, Tree, build, config_dir


@dataclasses.dataclass(frozen=True)
class Space:
    """Words of one program.

    Attributes:
        program: its root file.
        facts: space.toml.
    """

    program: str
    facts: dict[str, Any]

    def groups(self) -> dict[str, list[str]]:
        """The choices of each group of the root file's defaults."""
        root = yaml.safe_load((config_dir() / f"{self.program}.yaml").read_text())
        names = [name for entry in root["defaults"] if isinstance(entry, dict) for name in entry]
        found = {}
        for group in names:
            if (config_dir() / group).is_dir() and group != "experiment":
                stems = sorted(path.stem for path in (config_dir() / group).glob("*.yaml"))
                found[group] = [stem for stem in stems if stem not in self.facts["left_out"].get(group, [])]
        return found

    def tree(self, overrides: Sequence[str]) -> Tree:
        """The options that these overrides stand for.

        Raises:
            ConfigError: they cannot be composed.
        """
        return compose_checked(self.program, overrides, [config_dir()]).options

    def sizes(self, overrides: Sequence[str]) -> list[str]:
        """What keeps a run with these overrides short, as far as its options exist and are not typed."""
        choices = [override for override in overrides if "." not in key(override)]
        try:
            composed = compose_checked(self.program, choices, [config_dir()])
        except ConfigError:  # the run will say it
            return []
        chosen = {f"{group}={choice}" for group, choice in composed.tree.hydra.runtime.choices.items()}
        wanted = {key(override): override for override in self.facts["sizes"][self.program].split()}
        for choice, text in self.facts["sizes_of"].items():
            wanted |= {key(override): override for override in text.split() if choice in chosen}
        typed, there = {key(override) for override in overrides}, dotted(composed.options)
        return [
            override
            for name, override in wanted.items()
            if name not in typed and name in {*there, "experiment"}
        ]

    def options(self, overrides: Sequence[str]) -> dict[str, list[str]]:
        """Values other than its own for every option of the tree of these overrides."""
        try:
            tree = self.tree([*overrides, *self.sizes(overrides)])
            built = build(tree)
        except ConfigError:
            return {}
        typed, found = {key(override) for override in overrides}, {}
        fixed = [*self.facts["fixed"]["options"], *map(key, self.facts["sizes"][self.program].split())]
        for name, value in dotted(tree).items():
            if name in typed or any(fnmatchcase(name, pattern) for pattern in fixed):
                continue
            values = self.facts["values"].get(name) or list(others(value, hint(built, name.split("."))))
            if values:
                found[name] = values
        return found


def key(override: str) -> str:
    """The option that an override sets."""
    return override.partition("=")[0]


def dotted(tree: object, path: str = "") -> dict[str, object]:
    """Options by dotted name; a list counts as one value, unless it holds parts."""
    if isinstance(tree, dict) and (tree or not path):
        parts = tree.items()
    elif isinstance(tree, list) and tree and all(isinstance(each, dict) for each in tree):
        parts = enumerate(tree)
    else:
        return {path: tree}
    return {
        name: v for k, part in parts for name, v in dotted(part, f"{path}.{k}" if path else str(k)).items()
    }


def hint(built: object, path: Sequence[str]) -> object:
    """The type that the dataclass of an option gives it; None where the class is another package's."""
    for part in path[:-1]:
        built = built.options if isinstance(built, Component) else built
        if isinstance(built, dict):
            built = built.get(part)
        elif isinstance(built, tuple):
            built = built[int(part)]
        else:
            built = getattr(built, part, None)
    built = built.options if isinstance(built, Component) else built
    return typing.get_type_hints(type(built)).get(path[-1]) if dataclasses.is_dataclass(built) else None


def others(value: object, wanted: object) -> Iterator[str]:
    """Values other than this one, of the same kind or of a kind that is wanted."""
    is_union = typing.get_origin(wanted) in (typing.Union, types.UnionType)
    kinds = typing.get_args(wanted) if is_union else (wanted,)
    literals = [
        each for kind in kinds if typing.get_origin(kind) is typing.Literal for each in typing.get_args(kind)
    ]
    yield from (str(each) for each in literals if each != value)
    if isinstance(value, bool):
        yield str(not value).lower()
    elif isinstance(value, int):
        yield from (str(each) for each in sorted({value * 2 or 2, max(value // 2, 1)} - {value}))
    elif isinstance(value, float):
        yield from (f"{each:g}" for each in ({value * 2, value / 2} if value else {0.5}))
    elif value is None:
        yield from (text for kind, text in ((bool, "true"), (int, "2"), (float, "0.1")) if kind in kinds)
    if value is not None and type(None) in kinds:
        yield "null"
