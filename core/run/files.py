"""Small files that are whole or not there at all, whatever happens while they are written."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import yaml

from core.config import ConfigError


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


def read_json(path: Path) -> object:
    """The content of a JSON file.

    Raises:
        ConfigError: it cannot be read, or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is damaged: {error}") from error


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file, whole or not at all."""
    with writing(path) as file:
        file.write(data)


@contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """A file under a temporary name; once it is written it is synced and renamed.

    The folder is synced too, so that the new name survives a power cut.
    """
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
