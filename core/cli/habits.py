"""What people type who come from elsewhere, answered with the words of this command (`conf/habits.toml`)."""

import re
import tomllib
from collections.abc import Mapping, Sequence

from core.cli.choices import YamlFile
from core.config import config_dir, nearest
from core.text import shortened

LINE = 190  # characters of an answer
FLAG = re.compile(r"--?([A-Za-z][\w.-]*)(?:=(.*))?", re.DOTALL)


def hint(root: YamlFile, arguments: Sequence[str]) -> str | None:
    """One line about the first word that is another project's name for something; None where there is none.

    Only a command line that was refused is looked at: no row of the table is a valid word.
    """
    table = _table(root)
    for number, word in enumerate(arguments):
        flag = FLAG.fullmatch(word)
        if flag and not _hydras(word.partition("=")[0]):
            following = arguments[number + 1 : number + 2]
            value = flag[2]
            if value is None and following and not following[0].startswith("-") and "=" not in following[0]:
                value = following[0]
                word = f"{word} {value}"
            said = _of_flag(word, flag[1], value, root, table)
        else:
            key, _, value = word.partition("=")
            said = _of_option(word, key.lstrip("+"), value, table)
        if said:
            return said
    return None


def _of_flag(word: str, name: str, value: str | None, root: YamlFile, table: Mapping[str, str]) -> str | None:
    key = name.replace("-", "_").lower()
    ours = _translated(key, value or "", table)
    names = [*root.content, *root.choices]
    if ours is None and key.partition(".")[0] in names:
        ours = f"{key}={value or 'VALUE'}"
    if ours is None and word.startswith("--"):
        return f"there is no flag --{shortened(name)}; options are typed NAME=VALUE{nearest(key, names)}"
    return ours and _line(word, f": options are typed without dashes, here {ours}")


def _of_option(word: str, key: str, value: str, table: Mapping[str, str]) -> str | None:
    ours = _translated(key.replace("-", "_").lower(), value, table)
    return ours and _line(word, f": here this is {ours}")


def _line(word: str, said: str) -> str:
    return shortened(word, max(LINE - len(said), 20)) + said


def _translated(key: str, value: str, table: Mapping[str, str]) -> str | None:
    """Our words for `key=value`: of this value, of a number, or of any value."""
    number = re.fullmatch(r"-?[\d_.]+(?:e-?\d+)?", value.lower())
    rows = (f"{key}={value.lower()}", f"{key}=#" if number else "", key)
    found = next((table[row] for row in rows if row in table), None)
    given = shortened(value, 40) or "VALUE"
    return found and found.replace("{}", given).replace("{lower}", given.lower())


def _hydras(flag: str) -> bool:
    """Whether Hydra has this flag; long ones may be cut short."""
    from hydra._internal.utils import get_args_parser

    flags = get_args_parser()._option_string_actions
    return flag in flags or (flag.startswith("--") and any(known.startswith(flag) for known in flags))


def _table(root: YamlFile) -> dict[str, str]:
    tables = tomllib.loads((config_dir() / "habits.toml").read_text(encoding="utf-8"))
    kind = "trainers" if "resume" in root.content else "tools"
    return {**tables[kind], **tables.get(root.path.stem, {})}
