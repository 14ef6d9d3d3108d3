"""Any folder of images as a data set: found recursively, cut to squares, kept in memory."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor

from core.checks import require
from core.run.config import ConfigError
from gradgan.data import Images
from gradgan.networks import Shape

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
NAMED = 3  # broken files named in the message; the rest is counted


@dataclass(frozen=True, kw_only=True)
class Folder:
    """Every image below a folder; sub-folders (classes) are not told apart, and nothing is held out.

    Attributes:
        root: the folder.
        size: side in pixels to which images are cropped (centre) and resized, >= 1.
        channels: 3 for colour, 1 for grey.
    """

    name: ClassVar[str] = "folder"

    root: str | None
    size: int
    channels: Literal[1, 3]

    def __post_init__(self) -> None:
        require(bool(self.root), "root", self.root, "a folder of images")
        require(self.size >= 1, "size", self.size, "an integer >= 1")
        require(self.channels in (1, 3), "channels", self.channels, "1 or 3")

    @property
    def shape(self) -> Shape:
        """(channels, height, width)."""
        return (self.channels, self.size, self.size)

    def load(self) -> Images:
        """Read all images, in the order of their paths.

        Raises:
            ConfigError: the folder is missing, holds no image, or holds files that cannot be read as images.
        """
        root = Path(self.root or "").expanduser()
        if not root.is_dir():
            raise ConfigError(f"data.root={self.root} is not a folder")
        paths = sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
        if not paths:
            raise ConfigError(f"data.root={self.root} holds no image ({', '.join(SUFFIXES)})")
        images: list[Tensor] = []
        broken: list[str] = []
        for path in paths:
            try:
                images.append(self._read(path))
            except (OSError, SyntaxError, ValueError):  # what PIL raises on cut-off and foreign files
                broken.append(str(path.relative_to(root)))
        if broken:
            rest = f" and {len(broken) - NAMED} more" if len(broken) > NAMED else ""
            raise ConfigError(
                f"data.root={self.root}: {len(broken)} of {len(paths)} images cannot be read: "
                f"{', '.join(broken[:NAMED])}{rest}; repair or remove them"
            )
        nothing = torch.empty(0, *self.shape, dtype=torch.uint8)
        return Images(train=torch.stack(images), held_out=nothing, labels=None)

    def _read(self, path: Path) -> Tensor:
        """One image, uint8 [C, size, size]; raises OSError, SyntaxError or ValueError if it is broken."""
        import numpy as np
        from PIL import Image, ImageOps  # late: not needed for any other data set

        with Image.open(path) as image:
            colour = image.convert("L" if self.channels == 1 else "RGB")
        square = np.array(ImageOps.fit(colour, (self.size, self.size), Image.Resampling.LANCZOS))
        return torch.from_numpy(square.reshape(self.size, self.size, self.channels)).permute(2, 0, 1)
