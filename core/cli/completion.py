"""What a shell may complete a command line with; Hydra's scripts for bash, zsh and fish ask for it.

Hydra's own answer has the groups of every command and no pages of experiments.
"""

import glob
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from omegaconf import OmegaConf

from core.cli.choices import YamlFile
from core.cli.comments import explanations
from core.cli.compose import compose_checked
from core.cli.groups import choices_of
from core.cli.paths import LAST
from core.config import ConfigError, Tree
from core.run.listing import RUNS, newest_first

MOST_RUNS = 50  # the newest ones


def candidates(root: YamlFile, line: str, folders: Sequence[Path]) -> list[str]:
    """Words that begin as the last one of a line does.

    Args:
        root: the root file of the command.
        line: what has been typed, the command in front; a space at the end begins a new word.
        folders: of YAML files, ours first.
    """
    typed = line.split()
    word = "" if not typed or line[-1:].isspace() else typed.pop()
    words = typed[2 if typed and os.path.basename(typed[0]).startswith("python") else 1 :]
    tree, chosen = _composed(root, words, folders)
    key, equals, _ = word.partition("=")
    found = _values(root, key, word, tree, chosen, folders) if equals else _names(root, word, tree)
    return [each for each in dict.fromkeys(found) if each.startswith(word) and not re.search(r"\s", each)]


def _composed(root: YamlFile, words: Sequence[str], folders: Sequence[Path]) -> tuple[Tree, Tree]:
    """The options as the words make them, or as they are without, and what is chosen from each group."""
    for typed in ([word for word in words if "=" in word and not word.startswith("-")], []):
        try:
            tree = OmegaConf.to_container(compose_checked(root.path.stem, typed, folders).tree, resolve=False)
        except ConfigError:
            continue
        assert isinstance(tree, dict)
        options = {str(key): value for key, value in tree.items()}
        return options, options.pop("hydra")["runtime"]["choices"]
    return {}, {}


def _names(root: YamlFile, word: str, tree: Tree) -> Iterator[str]:
    """Options and groups of options, those below `agent.` once that is typed."""
    parent = word.rpartition(".")[0]
    node: object = tree
    for part in parent.split(".") if parent else ():
        node = node.get(part) if isinstance(node, dict) else None
    if not parent:
        yield from (f"{group}=" for group in root.choices if "/" not in group)
        yield from _runs() if root.content.get("run_paths") and "resume" not in root.content else ()
        yield from ("hydra.run.dir=",) if "resume" in root.content else ()
    for key, value in node.items() if isinstance(node, dict) else ():
        if key != "_target_":
            name = f"{parent}.{key}" if parent else key
            yield f"{name}." if isinstance(value, dict) and value else f"{name}="


def _values(
    root: YamlFile, key: str, word: str, tree: Tree, chosen: Tree, folders: Sequence[Path]
) -> Iterator[str]:
    """What the option of a word can be, as `option=value`."""
    found: Iterator[str] | list[str]
    value: object = tree
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if key in root.choices:
        found = choices_of(key, root, folders)
    elif key == "resume" or key in (root.content.get("run_paths") or ()):
        found = [*_runs(), *_files(word)]
    elif key in (root.content.get("paths") or ()) or key.startswith("hydra."):
        found = _files(word)
    elif isinstance(value, bool):
        found = ["true", "false"]
    else:
        said = explanations(root.path.stem, chosen, folders).get(key, "")
        named = re.match(r"\w+(?: \| \w+)+", said)
        found = named[0].split(" | ") if named else [] if value is None else [str(value).replace(" ", "")]
    return (f"{key}={each}" for each in found)


def _runs() -> Iterator[str]:
    yield LAST
    yield from (os.fspath(directory) for _, directory in newest_first(RUNS)[:MOST_RUNS])


def _files(word: str) -> list[str]:
    begun = word.partition("=")[2]
    return [
        f"{path}/" if os.path.isdir(path) else path for path in sorted(glob.glob(glob.escape(begun) + "*"))
    ]
