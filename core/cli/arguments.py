"""The words of a command line: Hydra's flags, options, and the run directories that stand alone."""

import os
import re
from argparse import Namespace
from collections.abc import Sequence
from typing import NoReturn

from core.cli.choices import YamlFile
from core.cli.comments import takes_list
from core.cli.paths import element
from core.config import ConfigError
from core.text import shortened

VERSION = "--version"


def parsed(arguments: Sequence[str]) -> Namespace:
    """Hydra's flags and the overrides.

    Raises:
        ConfigError: there is no such flag, or it is not read here.
    """
    from hydra._internal.utils import get_args_parser

    parser = get_args_parser()
    parser.error = _refuse  # argparse's own prints the usage, several lines of it
    others = [each for each in arguments if not (each.startswith("--v") and VERSION.startswith(each))]
    args = parser.parse_intermixed_args(others)
    args.version = len(others) < len(arguments)  # Hydra's own prints Hydra's
    if args.config_path or args.config_name:
        raise ConfigError(
            "--config-name and --config-path: the root file is fixed; use --config-dir FOLDER to add YAML "
            "files of your own"
        )
    return args


def shows(args: Namespace) -> bool:
    """Whether the command line asks for something to read."""
    return bool(
        args.help or args.version or args.cfg or args.info or args.hydra_help or args.shell_completion
    )


def own_words(words: Sequence[str], root: YamlFile) -> list[str]:
    """Those of the words that are options of a command around a trainer; the others are the trainer's."""
    names = {*root.content, *root.choices} - {"hydra"}
    return [word for word in words if re.split(r"[.=@]", word.lstrip("+~"))[0] in names]


def with_names(words: Sequence[str], root: YamlFile) -> list[str]:
    """The words of a tool, its run directories written as the options that they stand for.

    `A B` is `run=A against=B` where the root file says `run_paths: [run, against]`; an option that takes a
    list takes all of them. A directory with `=` in its name is one all the same.

    Raises:
        ConfigError: there are more of them than options.
    """
    names = list(root.content.get("run_paths") or ())
    alone = [word for word in words if names and _is_path(word, root)]
    options = [word for word in words if word not in alone]
    typed = {word.partition("=")[0].lstrip("+~") for word in options}
    free = [name for name in names if name not in typed]
    if free and takes_list(free[0], root.path):
        found = [f"{free[0]}=[{','.join(element(word, free[0], root) for word in alone)}]"] if alone else []
    else:
        found = [f"{name}={element(word, name, root)}" for name, word in zip(free, alone, strict=False)]
        if len(alone) > len(free):
            taken = " and ".join(f"{name}=" for name in names)
            raise ConfigError(
                f"{shortened(' '.join(alone))}: more directories than there are options, {taken}"
            )
    return [*options, *found]


def _is_path(word: str, root: YamlFile) -> bool:
    """Whether a word is a path: it names no option of this command, and either has no value or exists."""
    key, value, _ = word.partition("=")
    name = key.lstrip("+~")
    option = name.partition(".")[0] in {*root.content, *root.choices, "hydra"} or name.startswith("hydra/")
    if not value:
        return bool(word) and (os.path.exists(word) or not (option and word.startswith("~")))
    return not option and (os.path.exists(word) or "/" in key)


def _refuse(message: str) -> NoReturn:
    raise ConfigError(message)
