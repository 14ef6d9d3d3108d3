"""Small files that are whole or not there at all, whatever happens while they are written."""

import os
from pathlib import Path


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
