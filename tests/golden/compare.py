"""Compare the digests of two revisions, the older one's names read as the newer one's.

A result is {run directory: {"parameters" | "tags" | "fields": {name: digest}}}, or {"error": reason}. Renames
map names to names and never touch a digest, and two names cannot become one: a rename cannot hide a number.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

Result = Mapping[str, object]
Names = Mapping[str, str]  # old to new; `*`, once on each side, stands for any characters
ABSENT = "absent"


@dataclass(frozen=True)
class Difference:
    """One digest that is not what it was; `wanted` says why it need not be."""

    command: str
    digest: str
    old: str
    new: str
    wanted: str | None = None

    def __str__(self) -> str:
        line = f"{self.command}  {self.digest}: {self.old} -> {self.new}"
        return line if self.wanted is None else f"{line}  (wanted: {self.wanted})"


def rename(name: str, names: Names) -> str:
    """The name's new form: an exact entry wins over patterns, of which the first that fits counts."""
    if name in names:
        return names[name]
    for old, new in names.items():
        head, star, tail = old.partition("*")
        if star and len(name) >= len(head + tail) and name.startswith(head) and name.endswith(tail):
            return new.replace("*", name[len(head) : len(name) - len(tail)])
    return name


def old_line(line: str, overrides: Names) -> str:
    """A command line with the older revision's overrides: by the whole override, else by its option."""
    back = {new: old for old, new in overrides.items()}
    if len(back) < len(overrides):
        raise ValueError("[overrides]: two old overrides have one new form, which cannot be led back")

    def old(override: str) -> str:
        whole, (key, equals, value) = rename(override, back), override.partition("=")
        return whole if whole != override else rename(key, back) + equals + value

    return " ".join(map(old, line.split()))


def flatten(result: Result, renames: Mapping[str, Names]) -> dict[str, str]:
    """{"run directory, section: name": digest}, with new names.

    Raises:
        ValueError: two names would become one, so that one of their digests would be lost.
    """
    if "error" in result:
        return {"error": str(result["error"])}
    found: dict[str, str] = {}
    for directory, sections in result.items():
        for section, digests in sections.items():
            for name, digest in digests.items():
                full = f"{directory}, {section}: {rename(name, renames.get(section, {}))}"
                if full in found:
                    raise ValueError(f"[{section}]: {full} would stand for two names, the second {name}")
                found[full] = digest
    return found


def compare(
    old: Mapping[str, Result],
    new: Mapping[str, Result],
    renames: Mapping[str, Names],
    wanted: list[dict[str, str]],
) -> tuple[list[Difference], int]:
    """All differences, the wanted ones marked, and the number of digests that are equal.

    A command that ends in an error is one difference, even if both revisions end so: it has proved nothing.
    """
    differences, equal = [], 0
    for command in new:
        before, after = flatten(old[command], renames), flatten(new[command], {})
        names = {"error"} if "error" in before or "error" in after else before.keys() | after.keys()
        for name in sorted(names):
            pair = before.get(name, ABSENT), after.get(name, ABSENT)
            if pair[0] == pair[1] and name != "error":
                equal += 1
            else:
                differences.append(Difference(command, name, *pair, wanted=reason(command, name, wanted)))
    return differences, equal


def reason(command: str, digest: str, wanted: list[dict[str, str]]) -> str | None:
    """Why this difference is wanted, if it is."""
    for entry in wanted:
        if fnmatchcase(command, entry["command"]) and fnmatchcase(digest, entry["digest"]):
            return entry["reason"]
    return None
