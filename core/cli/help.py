"""A command's help: examples, its groups, and its options as the YAML files explain them."""

import re
import shutil
import sys
import textwrap
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import yaml
from omegaconf import OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from core.cli.choices import YamlFile, find
from core.cli.comments import explanations, of_groups
from core.cli.compose import Composed, compose_checked
from core.cli.groups import choices_of
from core.cli.overrides import SEVERAL
from core.config import ConfigError, Tree
from core.text import shortened, told

WIDTH = 110  # columns where there is no terminal
NAMES = 34  # columns of an option and its value, before the explanation
END = """\
--cfg job prints only the configuration, -m runs a sweep (seed=1,2,3), --config-dir FOLDER adds YAML files of
your own, hydra.run.dir=DIR sets the run directory, --version says what is installed, --hydra-help lists what
else Hydra offers."""


def help_text(config_name: str, overrides: Sequence[str], folders: Sequence[Path], typed: str = "") -> str:
    """What a command is for, examples, the groups that it chooses from, and its options as composed now.

    Args:
        config_name: the root YAML, without its ending.
        overrides: as typed.
        folders: of YAML files, ours first.
        typed: what was typed in front of them; empty = the name under which the command is installed.
    """
    root = find(config_name, tuple(folders))
    assert root is not None
    composed = compose_checked(config_name, overrides, folders)
    width = shutil.get_terminal_size((WIDTH, 0)).columns if sys.stdout.isatty() else WIDTH
    tree = _container(composed)
    explained = explanations(config_name, tree["hydra"]["runtime"]["choices"], folders)
    groups = list(_group_lines(root, folders, width))
    parts = [
        purpose(root),
        "== Examples ==\n" + "\n".join(_example_lines(root, typed or tree["hydra"]["job"]["name"])),
        "== Groups: GROUP=CHOICE ==\n" + "\n".join(groups) if groups else "",
        "== Options: OPTION=VALUE, GROUP.OPTION=VALUE, with their present values ==\n"
        + "\n".join(_option_lines({key: tree[key] for key in tree if key != "hydra"}, explained, width)),
        END,
    ]
    return "\n\n".join(part for part in parts if part)


def purpose(root: YamlFile) -> str:
    """The first lines of a root file."""
    return "\n".join(line[2:] for line in _head(root) if not line.startswith("#  "))


def examples(root: YamlFile) -> list[tuple[str, str]]:
    """Words of command lines, and what each is for: the indented lines at the top of a root file."""
    lines = [line[1:].strip() for line in _head(root) if line.startswith("#  ")]
    return [(words, note) for words, note in (re.split(r"  +", line, maxsplit=1) for line in lines)]


def configuration(composed: Composed, args: Namespace) -> str:
    """One job's configuration as YAML: `--cfg job|hydra|all`, `--package NAME`, `--resolve`."""
    tree = composed.tree
    with open_dict(tree):
        tree.hydra.job.num, tree.hydra.job.id = 0, "0"  # of a run that is no part of a sweep
    if args.cfg != "all":
        keys = [str(key) for key in tree if (key == "hydra") == (args.cfg == "hydra")]
        tree = OmegaConf.masked_copy(tree, keys)
    try:
        chosen = OmegaConf.select(tree, args.package) if args.package else tree
        return (
            OmegaConf.to_yaml(chosen, resolve=args.resolve) if OmegaConf.is_config(chosen) else f"{chosen}\n"
        )
    except OmegaConfBaseException as error:
        what = f"--package {shortened(args.package)}" if args.package else "--resolve"
        raise ConfigError(f"{what}: {told(error)}") from error


def _head(root: YamlFile) -> list[str]:
    lines = root.path.read_text(encoding="utf-8").splitlines()
    return lines[: lines.index("defaults:")]


def _example_lines(root: YamlFile, typed: str) -> Iterator[str]:
    for words, note in examples(root):
        yield f"{typed} {words}"
        yield f"    {note}"


def _group_lines(root: YamlFile, folders: Sequence[Path], width: int) -> Iterator[str]:
    """Each group with its choices and what the defaults list says of it."""
    said = of_groups(root.path)
    for name in root.choices:
        if "/" not in name:
            yield from _wrapped(f"{name}: ", ", ".join(choices_of(name, root, folders)), width)
            yield from _wrapped("    # ", said.get(name, ""), width) if said.get(name) else ()
    for name, one in SEVERAL.items():
        if name in root.content:
            yield f"{name}: several choices of {one}, as {name}=[A,B]"


def _option_lines(
    tree: Mapping[str, object], said: Mapping[str, str], width: int, path: str = ""
) -> Iterator[str]:
    """The options as YAML, each with its explanation as a comment."""
    indent = "  " * path.count(".")
    for key, value in tree.items():
        name = path + key
        parts = {str(inner): each for inner, each in value.items()} if isinstance(value, dict) else {}
        if name in said and not any(option.startswith(f"{name}.") for option in said):
            parts = {}  # explained as a whole, it stands on one line
        text = (
            ""
            if parts
            else " "
            + yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**6).split("\n...")[0]
        )
        head = f"{indent}{key}:{text.rstrip()}"
        yield from _explained(head, said.get(name, ""), width)
        yield from _option_lines(parts, said, width, f"{name}.")


def _explained(head: str, comment: str, width: int) -> Iterator[str]:
    """One option and its comment, which goes on below itself."""
    if not comment:
        yield head
        return
    column = NAMES if width >= 2 * NAMES else 4
    lines = textwrap.wrap(comment, max(width - column - 2, 20))
    if len(head) < column:
        yield f"{head:<{column}}# {lines.pop(0)}"
    else:
        yield head
    for line in lines:
        yield f"{'':<{column}}# {line}"


def _wrapped(head: str, text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, initial_indent=head, subsequent_indent="    ", break_on_hyphens=False)


def _container(composed: Composed) -> Tree:
    container = OmegaConf.to_container(composed.tree, resolve=False)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}
