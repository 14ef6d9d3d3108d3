"""The pages of the documentation, cut into what tests look at: fenced blocks and commands."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
METHODS = sorted(path for folder in ("agents", "losses") for path in (ROOT / "docs" / folder).glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")), *METHODS]


@dataclass(frozen=True)
class Block:
    """A fenced block of a page; `line` is that of the fence, from 1."""

    page: str
    line: int
    label: str
    text: str


@dataclass(frozen=True)
class Command:
    """One command of a page, on which line it begins, and its words."""

    page: str
    line: int
    words: tuple[str, ...]

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(text: str, page: str) -> list[Block]:
    """All fenced blocks, in order.

    Raises:
        ValueError: the last one is not closed.
    """
    found, opened = [], None
    for number, line in enumerate(text.splitlines(), 1):
        fence = re.match(r"\s*(```|~~~)(.*)", line)
        if fence and opened is None:
            opened, body = (number, fence[2].strip()), []
        elif fence and opened is not None:
            found.append(Block(page, *opened, "\n".join(body)))
            opened = None
        elif opened is not None:
            body.append(line)
    if opened is not None:
        raise ValueError(f"{page}:{opened[0]}: this block is never closed")
    return found


def commands(block: Block) -> Iterator[Command]:
    """The commands of a shell block: comments left out, continued lines joined."""
    joined, begun = "", 0
    for number, line in enumerate(block.text.splitlines(), block.line + 1):
        begun = begun if joined else number
        joined += line.removesuffix("\\")
        if line.endswith("\\"):
            continue
        if words := shlex.split(joined, comments=True):
            yield Command(block.page, begun, tuple(words))
        joined = ""


def inline_commands(text: str, page: str) -> Iterator[Command]:
    """Commands in running text: `scripts/NAME.py option=value`."""
    prose = re.sub(r"```.*?```", lambda fenced: "\n" * fenced[0].count("\n"), text, flags=re.DOTALL)
    for found in re.finditer(r"`(?:python )?(scripts/\w+\.py\s[^`]+)`", prose):
        line = prose.count("\n", 0, found.start()) + 1
        yield Command(page, line, ("python", *shlex.split(found[1])))


def section(page: Path, heading: str) -> str:
    """What stands below a heading of the second level; nothing where there is none."""
    return page.read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def commands_of(page: Path, heading: str) -> list[Command]:
    """The commands of a section's shell blocks; their lines are the section's."""
    shell = [block for block in blocks(section(page, heading), name(page)) if block.label == "sh"]
    return [command for block in shell for command in commands(block)]


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


BLOCKS = [block for page in PAGES for block in blocks(page.read_text(encoding="utf-8"), name(page))]


def every_command() -> list[Command]:
    """Each command once, where it is first shown."""
    first: dict[tuple[str, ...], Command] = {}
    for page in PAGES:
        shell = [block for block in BLOCKS if block.page == name(page) and block.label == "sh"]
        inline = inline_commands(page.read_text(encoding="utf-8"), name(page))
        for command in (*(found for block in shell for found in commands(block)), *inline):
            first.setdefault(command.words, command)
    return [*first.values()]


COMMANDS = every_command()
