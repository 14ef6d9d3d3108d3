"""What the YAML files say of their options: the comments behind them, which are the help."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ENTRY = re.compile(r"(?P<indent> *)(?P<item>- )?(?P<name>[\w.]+):(?= |$)")


def named_lines(text: str) -> Iterator[tuple[str, str]]:
    """Every option of a YAML text, by its path in this text, and its line; elements of lists are counted."""
    above: list[tuple[int, str]] = []
    for line in text.splitlines():
        entry = ENTRY.match(line)
        if entry is None:
            continue
        indent = len(entry["indent"])
        before = [(depth, name) for depth, name in above if depth < indent]
        if entry["item"]:
            number = next((int(name) + 1 for depth, name in above if depth == indent and name.isdigit()), 0)
            before, indent = [*before, (indent, str(number))], indent + 2
        above = [*before, (indent, entry["name"])]
        yield ".".join(name for _, name in above), line


def comment_of(line: str) -> str:
    """The comment behind an option; empty without one."""
    return line.partition(" #")[2].strip()


def comments(path: Path, group: str = "") -> dict[str, str]:
    """Comments of a file by the full names of its options; it stands for this group, or for the root."""
    text = path.read_text(encoding="utf-8")
    header = re.search(r"^# @package (\S+)", text, re.M)
    package = header[1] if header else group.replace("/", ".")
    prefix = "" if package in ("", "_global_") else f"{package}."
    return {prefix + name: found for name, line in named_lines(text) if (found := comment_of(line))}


def explanations(root: str, choices: Mapping[str, object], folders: Sequence[Path]) -> dict[str, str]:
    """The explanation of every option of a command.

    Args:
        root: the root YAML, without its ending.
        choices: what is chosen from each group, `group` or `group@package`; Hydra notes no list of choices.
        folders: of YAML files, ours first.
    """
    keys = [*choices, *of_groups(folders[0] / f"{root}.yaml")]
    groups = {key: key.partition("@")[::2] for key in keys if not key.startswith("hydra/")}
    found: dict[str, str] = {}
    for folder in folders:
        files = [(folder / f"{root}.yaml", "")]
        for key, (group, package) in groups.items():
            chosen = _with_defaults(folder / group, str(choices.get(key)))
            files += [(path, package or group) for path in chosen]
        # An option is explained where it stands, or where another choice of its group sets it first.
        for group, package in groups.values():
            files += [(path, package or group) for path in sorted((folder / group).glob("*.yaml"))]
        for path, package in files:
            if path.is_file():
                found = comments(path, package) | found
    return found


def _with_defaults(folder: Path, name: str) -> Iterator[Path]:
    """The file of a choice, and those of its own group that it begins with."""
    path = folder / f"{name}.yaml"
    if path.is_file():
        yield path
        inline = re.search(r"^defaults: \[(.*)\]", path.read_text(encoding="utf-8"), re.M)
        for other in re.findall(r"\w+", inline[1]) if inline else ():
            yield from _with_defaults(folder, other) if other != name else ()


def of_groups(root: Path) -> dict[str, str]:
    """What the defaults list of a root file says of each group."""
    lines = named_lines(root.read_text(encoding="utf-8"))
    return {
        entry[1]: comment_of(line)
        for name, line in lines
        if (entry := re.fullmatch(r"defaults\.\d+\.(\w+)", name))
    }


def takes_list(option: str, root: Path) -> bool:
    """Whether an option is a list in the YAML, or null or a group whose comment shows one: `start=[0,0]`."""
    if "[" in of_groups(root).get(option, ""):
        return True
    group, _, inner = option.partition(".")
    files = [(root, option), *((path, inner) for path in (root.parent / group).glob("*.yaml"))]
    lines = (line for path, name in files for line in _lines_of(path, name, option))
    return any(re.search(r":\s+(\[|null\s+#.*(?<!in )\[)", line) for line in lines)


def _lines_of(path: Path, *names: str) -> Iterator[str]:
    text = path.read_text(encoding="utf-8")
    return (line for name, line in named_lines(text) if name in names)
