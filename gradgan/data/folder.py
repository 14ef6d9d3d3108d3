"""Any folder or zip archive of images as a data set: cut to squares and kept in memory."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge
from torch import Tensor

from core.checks import checked, require
from core.config import ConfigError
from gradgan.data.decoding import decode
from gradgan.data.folder_layout import Layout, Name, lay_out
from gradgan.data.image_files import BROKEN, ImageFiles, listed, open_files
from gradgan.data.images import ImageData
from gradgan.images import Images
from gradgan.networks import Shape

CHUNK = 1000  # images decoded between two checks for Ctrl-C
MAX_THREADS = 8


@dataclass(frozen=True, kw_only=True)
@checked
class Folder(ImageData):
    """Every image below a folder or in a zip archive; what lies in sub-folders of the first level has labels.

    Folders that alone hold everything (`celeba/img/...`) are entered. Then `train/` next to one of
    `test/`, `val/`, `dev/` and their like is a split, the second part held out. What is left of a path
    begins with the class, if there are two classes at least and no image lies outside them; classes are
    numbered in the order of their names as text. Images are cropped (centre) and resized; see `decoding`.

    Attributes:
        root: the folder or archive.
        size: side in pixels.
        channels: 3 for colour, 1 for grey.
        labels: whether sub-folders are classes.
        held_out: images kept from training for the metrics, always the same ones: below 1 their share, from
            1 on their number, 0 = those of the second folder of a split, if there is one.
        mixed: what to do with images of less than half the wanted size, and with grey among colour ones:
            `error` refuses them, `convert` enlarges and takes them, and says so.
    """

    name: ClassVar[str] = "folder"

    root: str | None
    size: Annotated[int, Ge(1)]
    channels: Literal[1, 3]
    labels: bool
    held_out: float
    mixed: Literal["error", "convert"]

    def __post_init__(self) -> None:
        require(bool(self.root), "root", self.root, "a folder or a zip archive of images")
        share = 0 <= self.held_out < 1 or (self.held_out >= 1 and float(self.held_out).is_integer())
        require(share, "held_out", self.held_out, "a share in [0, 1) or a whole number of images")

    @property
    def shape(self) -> Shape:
        """(channels, height, width)."""
        return (self.channels, self.size, self.size)

    @property
    def num_classes(self) -> int | None:
        """Number of class sub-folders, or None; lists the files, decodes none.

        Raises:
            ConfigError: as `load`, but for what is in the files.
        """
        with open_files(self._path, self._option) as files:
            return self._layout(files).num_classes

    def load(self) -> Images:
        """Read all images.

        Raises:
            ConfigError: there is no such folder or archive, or no image in it; it is split in an unclear way,
                or already split where `held_out` asks for another; files cannot be read; images are too small
                or mixed, and `mixed` is `error`. For archives also what `open_files` refuses.
        """
        with open_files(self._path, self._option) as files:
            layout = self._layout(files)
            pixels, notes = self._decode(files, [*layout.train, *layout.held_out])
        count = len(layout.train)
        others = files.others
        if others:
            notes.append(f"{self._option}: {others} files that are not images are ignored")
        return Images(
            train=pixels[:count],
            held_out=pixels[count:],
            labels=None if layout.labels is None else torch.tensor(layout.labels),
            notes=(f"{self._option}: {layout.summary}", *notes),
        )

    @property
    def _path(self) -> Path:
        return Path(self.root or "").expanduser()

    @property
    def _option(self) -> str:
        """How messages call the folder."""
        return f"data.root={self.root}"

    def _layout(self, files: ImageFiles) -> Layout:
        return lay_out(files.names, self._option, labels=self.labels, held_out=self.held_out)

    def _decode(self, files: ImageFiles, names: list[Name]) -> tuple[Tensor, list[str]]:
        """Pixels uint8 [N, C, size, size] of these files in this order, and notes about them."""
        pixels = torch.empty(len(names), *self.shape, dtype=torch.uint8)
        view = pixels.numpy()  # cheaper than a tensor of each image
        broken: dict[Name, str] = {}
        found: dict[str, list[Name]] = {"grey": [], "small": [], "transparent": [], "unread": []}

        def take(index: int) -> None:
            name = names[index]
            try:
                decoded = decode(files.read(name), self.size, self.channels)
            except BROKEN as error:
                broken[name] = " ".join(str(error).split())
                return
            view[index] = decoded.pixels.transpose(2, 0, 1)
            for kind, those in found.items():
                if getattr(decoded, kind):
                    those.append(name)

        with ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1)) as pool:
            for start in range(0, len(names), CHUNK):
                list(pool.map(take, range(start, min(start + CHUNK, len(names)))))
        if broken:
            first = min(broken)
            raise ConfigError(
                f"{self._option}: {len(broken)} of {len(names)} images cannot be read: "
                f"{listed(sorted(broken))}; repair or remove them ({'/'.join(first)}: {broken[first]})"
            )
        return pixels, self._misfits(len(names), {kind: sorted(those) for kind, those in found.items()})

    def _misfits(self, count: int, found: dict[str, list[Name]]) -> list[str]:
        """One line for each kind of image that does not fit; raises ConfigError where `mixed` is `error`."""
        of_all = f"{self._option}: {{}} of {count} images"
        notes = []
        grey, small, transparent, unread = found.values()
        if self.channels == 3 and 0 < len(grey) < count:
            what = f"{of_all.format(len(grey))} are grey among colour ones: {listed(grey)}"
            if self.mixed == "error":
                raise ConfigError(
                    f"{what}; remove them, make all grey (data.channels=1), or take them (data.mixed=convert)"
                )
            notes.append(what)
        elif self.channels == 3 and grey:
            notes.append(f"{self._option}: all images are grey; data.channels=1 would do")
        if small:
            what = (
                f"{of_all.format(len(small))} are smaller than half of data.size={self.size}: {listed(small)}"
            )
            if self.mixed == "error":
                raise ConfigError(
                    f"{what}; remove them, lower data.size, or enlarge them (data.mixed=convert)"
                )
            notes.append(f"{what}; they are enlarged")
        if transparent:
            notes.append(f"{of_all.format(len(transparent))} are partly transparent and laid on white")
        if unread:
            notes.append(
                f"{of_all.format(len(unread))} have text, EXIF or a colour profile that cannot be read: "
                f"{listed(unread)}; their pixels are used as they are stored"
            )
        return notes
