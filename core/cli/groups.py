"""The choices of a command's groups."""

from collections.abc import Sequence
from pathlib import Path

from core.cli.choices import EXPERIMENT, YamlFile


def choices_of(group: str, root: YamlFile, folders: Sequence[Path]) -> list[str]:
    """The choices of a group; of experiments, those of this command's own folder too."""
    pages = str(root.content.get("page", "")).rpartition("/")[0]
    inside = f"{pages}/" if group == EXPERIMENT and pages else ""
    names = {path.stem for folder in folders for path in (folder / group).glob("*.yaml")}
    paged = {path.stem for f in folders if inside for path in (f / group / inside).glob("*.yaml")}
    return sorted(names) + [f"{inside}{name}" for name in sorted(paged)]
