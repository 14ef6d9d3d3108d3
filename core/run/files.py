"""Small files that are whole or not there at all, whatever happens while they are written."""

import os
from collections.abc import Mapping
from pathlib import Path

import yaml


class _Dumper(yaml.SafeDumper):
    """Writes a text that looks like a number in quotes: what PyYAML reads as text, OmegaConf may not."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    try:
        float(text)
    except ValueError:
        return dumper.represent_str(text)
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="'")


_Dumper.add_representer(str, _text)


def to_yaml(tree: Mapping[str, object]) -> str:
    """Plain containers as YAML, in their own order."""
    return yaml.dump(
        dict(tree), Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False
    )


def write_text(path: Path, text: str) -> None:
    """Write a text file: to a temporary name, synced, then renamed."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file: to a temporary name, synced, then renamed."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    rename_synced(temporary, path)


def rename_synced(temporary: Path, path: Path) -> None:
    """Rename, and sync the folder so that the new name survives a power cut too."""
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
