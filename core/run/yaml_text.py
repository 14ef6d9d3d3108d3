"""YAML that anybody may have written or damaged, looked at before it is loaded."""

from collections.abc import Iterable
from pathlib import Path

import yaml

LARGEST = 100_000  # parts, aliases counted as often as they are used


def safe_text(path: Path) -> str:
    """The text of a YAML file that can be loaded.

    Raises:
        ValueError: it cannot be read or is none, in one line; a few lines of nested aliases that stand for
            billions of parts are none.
    """
    if path.exists() and not path.is_file():
        raise ValueError("it is no file")
    try:
        text = path.read_text(encoding="utf-8")
        if "*" in text and _size(yaml.compose(text, yaml.SafeLoader), {}) > LARGEST:
            raise ValueError("its aliases stand for too much")
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ValueError(" ".join(str(error).split())[:200]) from error
    return text


def _size(node: yaml.Node | None, known: dict[int, float]) -> float:
    """The number of parts of a node; infinite where it contains itself."""
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) not in known:
        known[id(node)] = float("inf")
        inside: Iterable = node.value
        parts = [part for pair in inside for part in (pair if isinstance(pair, tuple) else [pair])]
        known[id(node)] = 1 + sum(_size(part, known) for part in parts)
    return known[id(node)]
