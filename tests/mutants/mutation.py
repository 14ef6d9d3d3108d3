"""One small mistake in a source file, and whether tests notice it."""

import os
import sys
import tomllib
from dataclasses import dataclass
from importlib.util import cache_from_source
from pathlib import Path

LIST = Path(__file__).with_name("mutants.toml")


@dataclass(frozen=True)
class Mutant:
    """A mistake.

    Attributes:
        path: of the source file, from the root of the tree.
        old: text that stands once in it.
        new: what is put in its place.
        tests: paths, from the root, of the tests that are to notice it.
        alike: why no test can tell the two apart; empty for any other.
    """

    path: str
    old: str
    new: str
    tests: tuple[str, ...]
    alike: str = ""

    def __str__(self) -> str:
        return f"{self.path}: {self.old.strip()!r} -> {self.new.strip()!r}"

    def mutated(self, source: str) -> str:
        """The source with the mistake.

        Raises:
            ValueError: the old text does not stand there exactly once, or the new text is the same.
        """
        count = source.count(self.old)
        if count != 1 or self.new == self.old:
            raise ValueError(f"{self}: the old text is there {count} times")
        return source.replace(self.old, self.new)


def all_mutants() -> list[Mutant]:
    """The committed list."""
    with LIST.open("rb") as file:
        entries = tomllib.load(file)
    return [
        Mutant(path, old, new, tuple(entry["tests"]), *alike)
        for path, entry in entries.items()
        for old, new, *alike in entry["mutants"]
    ]


def write(tree: Path, path: str, source: str) -> None:
    """Replace a file of a copied tree; a changed file of the same second and length keeps no bytecode."""
    file = tree / path
    file.write_text(source)
    Path(cache_from_source(str(file))).unlink(missing_ok=True)


def run_tests(tree: Path, tests: tuple[str, ...], log: Path) -> None:
    """Leave the process with pytest's status; the first failure ends it.

    It is a group of its own, so that what a test starts ends with it.
    """
    import pytest

    os.setpgrp()
    os.chdir(tree)
    sys.path.insert(0, str(tree))
    os.environ["PYTHONPATH"] = str(tree)
    output = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    # The last plugin collects garbage at the end, of torch and all, for a quarter of the time.
    plugins = ["-p", "no:cacheprovider", "-p", "no:unraisableexception"]
    options = ["-x", "-q", "-n", "0", "-m", "not slow", "--tb=line", *plugins]
    status = pytest.main([*options, *tests])
    sys.stdout.flush()
    os._exit(status)
