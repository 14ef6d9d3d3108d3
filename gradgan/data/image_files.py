"""The image files of a folder or a zip archive: which there are, and their bytes. Nothing is unpacked."""

import os
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from core.config import ConfigError

SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm",
    ".pbm", ".pnm",
)  # fmt: skip
MAX_BYTES = 256 * 2**20  # of one image file; the largest picture that Pillow opens has 90 million pixels
BOMB_RATIO, BOMB_BYTES = 100, 2**30  # an archive that grows by more, to more, holds no pictures
NAMED = 3  # files named in a message; the rest is counted
BROKEN = (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)  # of `read`


@dataclass(frozen=True, kw_only=True)
class ImageFiles:
    """The image files below a root.

    Attributes:
        names: path of each below the root as its parts, sorted.
        others: how many files of other kinds there are.
        read: the bytes of one of them; raises one of BROKEN. Threads may call it at once.
    """

    names: list[tuple[str, ...]]
    others: int
    read: Callable[[tuple[str, ...]], bytes]


@contextmanager
def open_files(root: Path, option: str) -> Iterator[ImageFiles]:
    """List the images of a folder or a zip archive, which stays open meanwhile.

    What begins with a dot, and the `__MACOSX` of archives, is passed over. Links in a folder are followed.

    Args:
        root: the folder or the archive.
        option: its name in messages, "data.root=PATH".

    Raises:
        ConfigError: it is neither; or it holds no image; or the archive is corrupt or encrypted, names
            something outside itself, contains links, or would grow out of all proportion.
    """
    if root.is_dir():
        yield _chosen(_walk(root, option), option, lambda name: _bytes(os.path.join(root, *name)))
        return
    if not root.is_file():
        raise ConfigError(f"{option} is not a folder or a zip archive: there is no such file")
    try:
        archive = zipfile.ZipFile(root)
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise ConfigError(f"{option} is not a folder, nor a zip archive that can be read: {error}") from error
    with archive:
        members = _members(archive, root.stat().st_size, option)
        yield _chosen(list(members), option, lambda name: archive.read(members[name]))


def listed(names: list[tuple[str, ...]]) -> str:
    """The first few names, and how many more."""
    rest = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join("/".join(name) for name in names[:NAMED]) + rest


def _chosen(
    names: list[tuple[str, ...]], option: str, read: Callable[[tuple[str, ...]], bytes]
) -> ImageFiles:
    """The images among all files."""
    seen = [name for name in names if not any(part.startswith(".") or part == "__MACOSX" for part in name)]
    images = sorted(name for name in seen if name[-1].lower().endswith(SUFFIXES))
    if not images:
        raise ConfigError(f"{option} holds no image ({', '.join(SUFFIXES)})")
    return ImageFiles(names=images, others=len(seen) - len(images), read=read)


def _walk(root: Path, option: str) -> list[tuple[str, ...]]:
    """Every file below a folder.

    Raises:
        ConfigError: a folder cannot be listed, or a link leads back to a folder that it lies in.
    """

    def fail(error: OSError) -> None:
        raise ConfigError(f"{option}: {error.filename} cannot be read: {error.strerror}") from error

    names = []
    for base, folders, files in os.walk(root, followlinks=True, onerror=fail):
        own = Path(base).resolve()
        for folder in folders:
            path = Path(base, folder)
            if path.is_symlink() and own.is_relative_to(path.resolve()):
                raise ConfigError(f"{option}: the link {path.relative_to(root)} leads back to its own folder")
        parts = Path(base).relative_to(root).parts
        names += [(*parts, file) for file in files]
    return names


def _bytes(path: str) -> bytes:
    """A file, if it is a plain one and not too large to be an image."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
        raise ValueError(f"not a plain file of at most {MAX_BYTES} bytes")
    with open(path, "rb") as file:
        return file.read()


def _members(archive: zipfile.ZipFile, size: int, option: str) -> dict[tuple[str, ...], zipfile.ZipInfo]:
    """Every file of an archive that is what it should be, by the parts of its name."""
    members = {}
    for info in archive.infolist():
        # Windows' rules see a climb in every spelling: ../x, ..\x, /x, \\host\x, C:\x.
        path = PureWindowsPath(info.filename)
        if path.anchor or path.drive or ".." in path.parts:
            raise ConfigError(f"{option} is refused: its member {info.filename!r} lies outside the archive")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise ConfigError(f"{option} is refused: its member {info.filename!r} is a link")
        if info.flag_bits & 1:
            raise ConfigError(f"{option} is encrypted: unpack it, and give the folder")
        if info.file_size > MAX_BYTES and path.suffix.lower() in SUFFIXES:
            raise ConfigError(f"{option} is refused: its member {info.filename!r} has {info.file_size} bytes")
        if path.parts in members:
            raise ConfigError(f"{option} is refused: it holds {info.filename!r} twice")
        if not info.is_dir():
            members[path.parts] = info
    total = sum(info.file_size for info in members.values())
    if total > max(BOMB_BYTES, BOMB_RATIO * size):
        raise ConfigError(f"{option} is refused: {size} bytes that would become {total} hold no pictures")
    return members
