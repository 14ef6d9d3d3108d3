"""Small files that are whole or not there at all, whatever happens while they are written."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import yaml

from core.config import ConfigError
from core.draw.media import Media, dark_of, encode
from core.errors import DiskError
from core.text import as_text


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
        ConfigError: it cannot be read, is not JSON, or has an integer that no float can be.
    """
    if path.exists() and not path.is_file():
        raise ConfigError(f"{path} is damaged: it is no file")
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_int=_integer)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} is damaged: {error}") from error
    except RecursionError as error:
        raise ConfigError(f"{path} is damaged: it is nested too deeply") from error


def _integer(text: str) -> int:
    """An integer that can be measured and drawn."""
    try:
        float(value := int(text))
    except OverflowError:
        raise ValueError(f"an integer of {len(text)} digits") from None
    return value


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all, as `writing` does; what is no UTF-8 is escaped."""
    write_bytes(path, as_text(text).encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file, whole or not at all, as `writing` does."""
    with writing(path) as file:
        file.write(data)


def write_media(folder: Path, name: str, media: Media) -> tuple[bytes, Path]:
    """Write NAME.png or NAME.gif, and into the folder `dark` its rendering for a dark page, if it has one.

    Returns:
        The bytes of the light one, and where it is.
    """
    data, ending = encode(media)
    place = folder / f"{name}.{ending}"
    write_bytes(place, data)
    if (dark := dark_of(media)) is not None:
        write_bytes(folder / "dark" / place.name, encode(dark)[0])
    return data, place


@contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """A file under a temporary name; once it is written it is synced and renamed. Its folder is made.

    The folder is synced too, so that the new name survives a power cut. Where writing fails, what there was
    under the final name stays, and half of a file is not kept. What stands under the temporary name is never
    written into: a kill in `duplicate` leaves another name of a whole file there.

    Raises:
        DiskError: the disk is full or refuses; one line with the path.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        with temporary.open("x+b") as file:  # a checkpoint is read again for its digest
            yield file
            file.flush()
            os.fsync(file.fileno())
        _rename(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        cause = error.__context__ if isinstance(error, RuntimeError) else error  # torch.save hides it
        if isinstance(cause, OSError):
            raise DiskError(f"{path} cannot be written: {cause.strerror}") from error
        raise


def duplicate(source: Path, path: Path) -> None:
    """Give a file another name in its folder, at once or not at all.

    Both names are one file where the file system can do that, and no byte is written; elsewhere it is a copy.

    Raises:
        DiskError: the disk is full or refuses; one line with the path.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        temporary.unlink(missing_ok=True)
        os.link(source, temporary)
        _rename(temporary, path)
        temporary.unlink(missing_ok=True)  # it stays where both were one file already
    except OSError:
        with source.open("rb") as whole, writing(path) as file:
            shutil.copyfileobj(whole, file)


def _rename(temporary: Path, path: Path) -> None:
    """Give a file its final name, which then survives a power cut."""
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def refuse_unwritable(*paths: Path) -> None:
    """Check that files can be written where they will be, before the work for them begins; makes nothing.

    Raises:
        ConfigError: a folder is none, or may not be written; names the file and the folder.
    """
    for path in paths:
        reason = unwritable(path.parent)
        if reason or path.is_dir():
            raise ConfigError(f"{path} cannot be written: {reason or 'it is a folder'}")


def make_folder(folder: Path, name: str) -> None:
    """Make a folder where there is none.

    Args:
        folder: which.
        name: what it was named by, for the message.

    Raises:
        ConfigError: it cannot be made, or may not be written; one line.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        reason = unwritable(folder)
    except OSError as error:
        reason = error.strerror or str(error)
    if reason:
        raise ConfigError(f"{name}={folder} cannot be written: {reason}")


def unwritable(folder: Path) -> str | None:
    """Why no file can be made in a folder, which may still have to be made itself; None where one can be."""
    there = next((path for path in (folder, *folder.parents) if path.exists()), Path())
    if not there.is_dir():
        return f"{there} is no folder"
    return None if os.access(there, os.W_OK | os.X_OK) else f"{there} may not be written"
