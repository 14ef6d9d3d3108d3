"""Which YAML files the overrides choose: the experiment that they stand for, and what its page says of parts.

An experiment is one page, `conf/experiment/...`. The key `page:` of a root file makes its name from the
choices in other groups (`rl/${agent}_${env}`). Where that page exists and no `experiment=` is typed, it is
chosen.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from core.cli.yaml_file import read_yaml
from core.config import ConfigError, Tree, import_target, same_options

EXPERIMENT = "experiment"
CLASS = "_target_"
KEPT = "lr"  # of an optimizer: every one has it, so an experiment's value is kept when another is typed
BY_OPTIMIZER = "optimizer_defaults"  # options of optimizers by name, where they are not those of their files


@dataclass(frozen=True)
class YamlFile:
    """One file of the configuration, not composed.

    Attributes:
        path: where it is.
    """

    path: Path

    @cached_property
    def content(self) -> Tree:
        """Its options, interpolations as they are written."""
        try:
            content = OmegaConf.to_container(read_yaml(self.path))
        except (ValueError, OmegaConfBaseException) as error:
            raise ConfigError(f"{self.path} cannot be read: {' '.join(str(error).split())}") from error
        return cast(Tree, content) if isinstance(content, dict) else {}

    @property
    def choices(self) -> dict[str, str]:
        """The options of other groups that its defaults list chooses, by group."""
        found = {}
        for entry in self.content.get("defaults") or ():
            for key, option in entry.items() if isinstance(entry, dict) else ():
                found[key.removeprefix("override ").lstrip("/")] = option
        return found

    def options_of(self, group: str) -> Tree | None:
        """The options that it gives as a choice of this group; None where it takes them from other files."""
        header = re.search(r"^# @package (\S+)", self.path.read_text(encoding="utf-8"), re.M)
        package = header[1] if header else group
        if package == "_global_":
            return cast(Tree, self.content.get(group) or {})
        return self.content if package == group and "defaults" not in self.content else None


@lru_cache(maxsize=256)  # the jobs of a sweep read the same files
def find(name: str, folders: tuple[Path, ...]) -> YamlFile | None:
    """The file of this name without its ending, in the first folder that has it."""
    paths = (folder / f"{name}.yaml" for folder in folders)
    return next((YamlFile(path) for path in paths if os.path.isfile(path)), None)  # of any length


@dataclass(frozen=True)
class Choices:
    """What is chosen from the groups of a root file.

    Attributes:
        root: the root file.
        folders: of YAML files, ours first.
        typed: the options that overrides choose, by group; of several from one group, a list.
    """

    root: YamlFile
    folders: tuple[Path, ...]
    typed: Mapping[str, object]

    @cached_property
    def page(self) -> str | None:
        """The experiment that the other choices stand for; None where one is typed or there is no page."""
        template = self.root.content.get("page")
        if template is None or EXPERIMENT in self.typed:
            return None
        chosen = {**self.root.choices, **self.typed}
        name = re.sub(r"\$\{(\w+)\}", lambda match: str(chosen[match[1]]), template)
        return name if find(f"{EXPERIMENT}/{name}", self.folders) else None

    def note(self) -> str | None:
        """One line about the page that is chosen without having been typed."""
        if self.page is None:
            return None
        groups = re.findall(r"\$\{(\w+)\}", self.root.content["page"])
        whose = f"the {groups[0]}'s defaults" if len(groups) > 1 else "the defaults of every part"
        line = f"settings: {EXPERIMENT}={self.page}"
        replaced = self.replaced().keys() & self._experiment().content.keys()
        if replaced:
            line += f" without its {' and '.join(sorted(replaced))}"
            others = self._pages_with(sorted(replaced))
            line += f" (with settings of its own: {', '.join(others)})" if others else ""
        return f"{line}; type {EXPERIMENT}=none for {whose}"

    def replaced(self) -> dict[str, Tree]:
        """Own options of each typed part whose option names differ from those of the part it replaces.

        What an experiment, an agent or the root file sets for a part holds for the part that it chooses, and
        for one with the same option names (R2 for R1). Any other part keeps its own options.
        """
        found = {}
        for group, option in self.typed.items():
            usual = self._usual(group)
            if option == usual or not isinstance(option, str) or usual is None:
                continue
            files = [find(f"{group}/{name}", self.folders) for name in (option, usual)]
            own, replaced = (file.options_of(group) if file else None for file in files)
            named = CLASS in (self._experiment().content.get(group) or {})
            if own is not None and replaced is not None and (named or own.keys() != replaced.keys()):
                found[group] = own
        return found

    def classes(self) -> dict[str, Tree]:
        """What the experiment sets for each part whose class it names."""
        return {
            group: options
            for group, options in self._experiment().content.items()
            if isinstance(options, dict) and CLASS in options and group not in self.typed
        }

    def _usual(self, group: str) -> str | None:
        """The option of a group that would be chosen had none been typed."""
        usual = self.root.choices.get(group)
        experiment = self._experiment().choices
        chosen: dict[str, object] = {**self.root.choices, **experiment, **self.typed}
        for other, option in chosen.items():
            file = find(f"{other}/{option}", self.folders) if other not in (group, EXPERIMENT) else None
            usual = file.choices.get(group, usual) if file else usual
        return experiment.get(group, usual)

    def _experiment(self) -> YamlFile:
        chosen = self.page or self.typed.get(EXPERIMENT) or "none"
        return find(f"{EXPERIMENT}/{chosen}", self.folders) or self.root

    def _pages_with(self, groups: Sequence[str]) -> list[str]:
        """Pages called after this one that choose these groups' options as they are typed."""
        folder, _, name = str(self.page).rpartition("/")
        paths = [p for f in self.folders for p in sorted((f / EXPERIMENT / folder).glob(f"{name}_*.yaml"))]
        return [
            f"{EXPERIMENT}={folder}/{path.stem}"
            for path in paths
            if all(YamlFile(path).choices.get(group) == self.typed[group] for group in groups)
        ]


def put_back(tree: Any, replaced: Mapping[str, Tree]) -> None:
    """Give the replaced parts of a composed tree their own options, and the learning rate that it has.

    Args:
        tree: the composed tree, changed in place.
        replaced: as `Choices.replaced`.
    """
    for group, own in replaced.items():
        kept = {KEPT: tree[group][KEPT]} if KEPT in own else {}
        tree[group] = {**own, **kept} or None


def leave_file(tree: Any, choices: Choices) -> None:
    """Take from a composed tree what files set for parts whose class the experiment names."""
    for group, options in choices.classes().items():
        file = find(f"{group}/{tree.hydra.runtime.choices.get(group)}", choices.folders)
        usual = file.content.get(CLASS) if file else None
        classes = [import_target(name, f"{group}.{CLASS}") for name in (options[CLASS], usual) if name]
        if len(classes) == 2 and not same_options(*cast(list[type], classes)):
            tree[group] = options


def set_optimizer_defaults(tree: Any, folders: tuple[Path, ...]) -> None:
    """Give the optimizers of a composed tree the options that its root file, agent or function has for them.

    What an experiment sets stays: only an option that is still as in the optimizer's own file changes.
    """
    for name, options in (tree.pop(BY_OPTIMIZER, None) or {}).items():
        for key, chosen in tree.hydra.runtime.choices.items():
            group, _, package = str(key).partition("@")
            file = find(f"{group}/{name}", folders)
            if group != "optimizer" or chosen != name or file is None:
                continue
            node = OmegaConf.select(tree, package or group)
            for option, value in options.items():
                if node[option] == file.content.get(option):
                    node[option] = value
