"""`gradgan.folder`: any folder of images, and folders that are not."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from core.run.config import ConfigError
from gradgan.folder import Folder


def write(path: Path, size: tuple[int, int], colour: tuple[int, int, int] | int, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)


def folder(root: Path, size: int = 8, channels: int = 3) -> Folder:
    return Folder(root=str(root), size=size, channels=1 if channels == 1 else 3)


def test_images_of_any_kind_and_depth_become_squares_of_one_size(tmp_path: Path) -> None:
    write(tmp_path / "a" / "red.png", (20, 10), (255, 0, 0))
    write(tmp_path / "b" / "c" / "grey.PNG", (5, 5), 128, mode="L")
    (tmp_path / "notes.txt").write_text("not an image")
    images = folder(tmp_path).load()
    assert images.train.shape == (2, 3, 8, 8)
    assert images.train.dtype == torch.uint8
    assert images.train[0, :, 3, 3].tolist() == [255, 0, 0]
    assert images.train[1].unique().tolist() == [128]
    assert len(images.held_out) == 0
    assert images.labels is None


def test_one_channel_takes_the_luminance(tmp_path: Path) -> None:
    write(tmp_path / "green.png", (8, 8), (0, 255, 0))
    pixel = folder(tmp_path, channels=1).load().train[0, 0, 0, 0].item()
    assert pixel == pytest.approx(0.587 * 255, abs=1)


def test_the_centre_is_kept_when_an_image_is_not_square(tmp_path: Path) -> None:
    wide = np.zeros((8, 24, 3), np.uint8)
    wide[:, 8:16] = 255
    Image.fromarray(wide).save(tmp_path / "wide.png")
    assert folder(tmp_path).load().train.min().item() == 255


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"data.root={tmp_path / 'nowhere'} is not a folder"):
        folder(tmp_path / "nowhere").load()


def test_a_folder_without_images_says_what_would_count(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not an image")
    with pytest.raises(ConfigError, match=r"holds no image \(.png, .jpg"):
        folder(tmp_path).load()


def test_broken_files_are_named_and_the_rest_counted(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    for name in "abcdef":
        Image.fromarray(noise).save(tmp_path / f"{name}.png")
    cut = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(cut[: len(cut) // 2])
    (tmp_path / "b.jpg").write_text("a web page that says 404")
    (tmp_path / "c.png").write_bytes(b"")
    (tmp_path / "d.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"junk" * 9)
    with pytest.raises(ConfigError, match=r"4 of 7 images cannot be read: a.png, b.jpg, c.png and 1 more;"):
        folder(tmp_path).load()


def test_no_folder_given_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="root must be a folder of images, got None"):
        Folder(root=None, size=8, channels=3)
