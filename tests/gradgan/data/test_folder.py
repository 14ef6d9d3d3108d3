"""`gradgan.data.folder`: any folder of images, its parts, classes and misfits."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from core.config import ConfigError
from gradgan.data.folder import Folder
from gradgan.data.images import ImageStream

RED, WHITE = (255, 0, 0), (255, 255, 255)


def write(path: Path, size: tuple[int, int] = (8, 8), colour: object = RED, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)


def folder(root: Path, size: int = 8, **options: object) -> Folder:
    given = {"channels": 3, "labels": True, "held_out": 0, "mixed": "error"} | options
    return Folder(root=str(root), size=size, **given)


def numbered(root: Path, *names: str) -> None:
    """Images whose red is their number."""
    for number, name in enumerate(names):
        write(root / name, colour=(number, 0, 0))


def numbers(pixels: torch.Tensor) -> list[int]:
    return pixels[:, 0, 0, 0].tolist()


def test_images_of_any_kind_and_depth_become_squares_of_one_size(tmp_path: Path) -> None:
    write(tmp_path / "a" / "red.png", (20, 10))
    write(tmp_path / "b" / "c" / "blue.PPM", (5, 5), (0, 0, 255))
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "a" / "._red.png").write_text("what a Mac leaves behind")
    images = folder(tmp_path).load()
    assert images.train.shape == (2, 3, 8, 8)
    assert images.train.dtype == torch.uint8
    assert sorted(x[:, 3, 3].tolist() for x in images.train) == [[0, 0, 255], [255, 0, 0]]
    assert len(images.held_out) == 0
    assert images.notes == (
        f"data.root={tmp_path}: 2 images to train on, none held out (data.held_out=0.1 would keep a tenth); "
        "2 classes: a, b",
        f"data.root={tmp_path}: 1 files that are not images are ignored",
    )


def lanczos(pixels: np.ndarray, start: int, side: int, size: int) -> np.ndarray:
    """Resize the first axis from `side` pixels, beginning at `start`, to `size`, in float64."""
    scale = side / size
    centre = start + (np.arange(size)[:, None] + 0.5) * scale
    x = (np.arange(len(pixels)) + 0.5 - centre) / scale
    weight = np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)
    return np.tensordot(weight / weight.sum(axis=1, keepdims=True), pixels, axes=1)


def test_resizing_is_lanczos_on_the_largest_centred_square(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(64, 192, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    rows = lanczos(noise.astype(np.float64), 0, 20, 8)
    reference = lanczos(rows.transpose(1, 0, 2), 5, 20, 8).transpose(1, 0, 2)
    found = folder(tmp_path).load().train[0].permute(1, 2, 0).numpy()
    assert np.abs(found - reference).max() <= 1.5  # rounded after each of the two passes


def test_one_channel_takes_the_luminance(tmp_path: Path) -> None:
    write(tmp_path / "green.png", colour=(0, 255, 0))
    write(tmp_path / "grey.png", colour=128, mode="L")  # no misfit where all become grey
    images = folder(tmp_path, channels=1).load()
    assert images.train.shape == (2, 1, 8, 8)
    assert sorted(numbers(images.train)) == pytest.approx([128, 0.587 * 255], abs=1)


def test_a_photograph_taken_upright_is_turned_upright(tmp_path: Path) -> None:
    halves = np.zeros((8, 8, 3), np.uint8)
    halves[:, 4:] = 255  # bright on the right as stored
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise: the right becomes the bottom
    Image.fromarray(halves).save(tmp_path / "turned.png", exif=exif)
    x = folder(tmp_path).load().train[0, 0]
    assert x[:4].max() == 0
    assert x[4:].min() == 255


def test_16_bits_of_grey_become_8(tmp_path: Path) -> None:
    levels = np.full((8, 8), 128 * 257, np.uint16)
    Image.fromarray(levels).save(tmp_path / "deep.png")
    images = folder(tmp_path, channels=1).load()
    assert images.train.unique().tolist() == [128]


def test_transparency_is_laid_on_white_and_said(tmp_path: Path) -> None:
    write(tmp_path / "clear.png", colour=(0, 0, 0, 0), mode="RGBA")
    write(tmp_path / "solid.png", colour=(9, 9, 9, 255), mode="RGBA")
    images = folder(tmp_path).load()
    assert sorted(numbers(images.train)) == [9, 255]
    assert images.notes[1].endswith("1 of 2 images are partly transparent and laid on white")


def test_sub_folders_are_classes_in_the_order_of_their_names(tmp_path: Path) -> None:
    names = ["b/0.png", "b/deep/1.png", "10/2.png", "a/3.png", "2/4.png"]
    numbered(tmp_path, *names)
    data = folder(tmp_path)
    images = data.load()
    assert data.num_classes == images.num_classes == 4
    label = {0: 3, 1: 3, 2: 0, 3: 2, 4: 1}  # 10, 2, a, b
    assert [label[n] for n in numbers(images.train)] == images.labels.tolist()
    assert "4 classes: 10, 2, a and 1 more" in images.notes[0]


@pytest.mark.parametrize(
    ("names", "options", "why"),
    [
        (["a/0.png", "b/1.png", "2.png"], {}, "some images lie outside sub-folders"),
        (["a/0.png", "a/1.png"], {}, "there are fewer than two sub-folders"),
        (["0.png", "1.png"], {}, "there are fewer than two sub-folders"),
        (["train/a/0.png", "train/a/1.png", "test/a/2.png"], {}, "there are fewer than two sub-folders"),
        (["train/0.png", "test/1.png"], {}, "there are fewer than two sub-folders"),
        (["a/0.png", "b/1.png"], {"labels": False}, "data.labels=false"),
    ],
)
def test_without_classes_there_are_no_labels_and_the_reason_is_said(names, options, why, tmp_path) -> None:
    numbered(tmp_path, *names)
    data = folder(tmp_path, **options)
    images = data.load()
    assert data.num_classes is images.num_classes is images.labels is None
    assert images.notes[0].endswith(f"no labels: {why}")


@pytest.mark.parametrize("held_out", ["test", "val", "Validation", "dev", "testing"])
def test_a_split_is_kept_and_its_classes_agree(held_out: str, tmp_path: Path) -> None:
    numbered(tmp_path, "train/cat/0.png", "train/dog/1.png", "train/dog/2.png", f"{held_out}/dog/3.png")
    images = folder(tmp_path).load()
    assert sorted(numbers(images.train)) == [0, 1, 2]
    assert numbers(images.held_out) == [3]
    assert images.held_out_labels.tolist() == [1]
    assert [min(n, 1) for n in numbers(images.train)] == images.train_labels.tolist()
    assert f"3 images to train on, 1 held out ({held_out}/); 2 classes: cat, dog" in images.notes[0]


def test_a_split_below_a_lone_folder_is_found(tmp_path: Path) -> None:
    numbered(tmp_path, "set/v1/train/0.png", "set/v1/test/1.png")
    images = folder(tmp_path).load()
    assert (numbers(images.train), numbers(images.held_out)) == ([0], [1])


def test_trains_among_other_vehicles_are_a_class(tmp_path: Path) -> None:
    numbered(tmp_path, "train/0.png", "bus/1.png", "tram/2.png")
    data = folder(tmp_path)
    assert data.num_classes == 3
    assert len(data.load().held_out) == 0


@pytest.mark.parametrize(("held_out", "count"), [(0.25, 5), (0.1, 2), (7, 7), (1, 1)])
def test_some_are_held_out_for_good(held_out: float, count: int, tmp_path: Path) -> None:
    numbered(tmp_path, *(f"{'ab'[i % 2]}/{i}.png" for i in range(20)))
    one, two = (folder(tmp_path, held_out=held_out).load() for _ in range(2))
    assert len(one.held_out) == count
    assert sorted(numbers(one.train) + numbers(one.held_out)) == list(range(20))
    assert [n % 2 for n in numbers(one.train) + numbers(one.held_out)] == one.labels.tolist()
    assert torch.equal(one.held_out, two.held_out)
    assert torch.equal(one.train, two.train)
    assert f"{count} held out (data.held_out={held_out})" in one.notes[0]


def test_the_first_images_are_of_all_classes(tmp_path: Path) -> None:
    numbered(tmp_path, *(f"{'ab'[i // 50]}/{i:03d}.png" for i in range(100)))
    labels = folder(tmp_path).load().labels
    assert 5 <= labels[:20].sum() <= 15  # metrics take the first so many


def test_links_are_followed(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere" / "x.png")
    write(tmp_path / "root" / "a" / "y.png")
    (tmp_path / "root" / "b").symlink_to(tmp_path / "elsewhere")
    assert folder(tmp_path / "root").load().num_classes == 2


def refused(root: Path, message: str, **options: object) -> None:
    with pytest.raises(ConfigError, match=message) as info:
        folder(root, **options).load()
    assert "\n" not in str(info.value)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    refused(nowhere, f"data.root={nowhere} is not a folder or a zip archive: there is no such file")


def test_a_folder_without_images_says_what_would_count(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not an image")
    refused(tmp_path, r"holds no image \(.png, .jpg")


def test_broken_files_are_named_and_the_rest_counted(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    for name in "abcdef":
        Image.fromarray(noise).save(tmp_path / f"{name}.png")
    cut = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(cut[: len(cut) // 2])
    (tmp_path / "b.jpg").write_text("a web page that says 404")
    (tmp_path / "c.png").write_bytes(b"")
    (tmp_path / "d.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"junk" * 9)
    refused(
        tmp_path,
        r"4 of 7 images cannot be read: a.png, b.jpg, c.png and 1 more; "
        r"repair or remove them \(a.png: image file is truncated",
    )


def test_what_only_looks_like_an_image_is_not_opened(tmp_path: Path) -> None:
    # Pillow would open both: one as a program for Ghostscript, one in a format that nobody asked for.
    (tmp_path / "drawing.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n")
    Image.new("RGB", (8, 8)).save(tmp_path / "brush.png", "PCX")
    Image.fromarray(np.zeros((8, 8), np.float32)).save(tmp_path / "values.tiff")
    os.mkfifo(tmp_path / "pipe.png")  # reading it would wait for ever
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    refused(tmp_path, "5 of 5 images cannot be read: brush.png, drawing.png, gone.png and 2 more")


def test_a_picture_of_too_many_pixels_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradgan.data.decoding.MAX_PIXELS", 63)
    write(tmp_path / "large.png")
    refused(tmp_path, r"1 of 1 images cannot be read: large.png; .* \(large.png: more than 63 pixels\)")


def test_grey_among_colour_is_refused_or_taken_and_said(tmp_path: Path) -> None:
    write(tmp_path / "red.png")
    write(tmp_path / "grey.png", colour=128, mode="L")
    refused(tmp_path, "1 of 2 images are grey among colour ones: grey.png; remove them, make all grey")
    images = folder(tmp_path, mixed="convert").load()
    assert sorted(numbers(images.train)) == [128, 255]
    assert "1 of 2 images are grey among colour ones: grey.png" in images.notes[1]


def test_all_grey_is_no_mixture_but_said(tmp_path: Path) -> None:
    write(tmp_path / "grey.png", colour=128, mode="L")
    images = folder(tmp_path).load()
    assert images.train.unique().tolist() == [128]
    assert images.notes[1].endswith("all images are grey; data.channels=1 would do")


def test_images_of_less_than_half_the_size_are_refused_or_enlarged_and_said(tmp_path: Path) -> None:
    write(tmp_path / "half.png", (20, 8))
    write(tmp_path / "less.png", (20, 7))
    message = "1 of 2 images are smaller than half of data.size=16: less.png"
    refused(tmp_path, f"{message}; remove them, lower data.size, or enlarge them", size=16)
    images = folder(tmp_path, size=16, mixed="convert").load()
    assert images.train.shape == (2, 3, 16, 16)
    assert images.notes[1].endswith(f"{message}; they are enlarged")


def test_two_parts_that_could_be_held_out_are_refused(tmp_path: Path) -> None:
    numbered(tmp_path, "train/0.png", "val/1.png", "test/2.png")
    refused(tmp_path, "has the folders test, train, val: keep train and one other, which is held out")


@pytest.mark.parametrize(
    "names",
    [
        ["train/cat/0.png", "train/dog/1.png", "test/cat/2.png", "test/dog/3.png", "unlabeled/4.png"],
        ["train/0.png", "test/1.png", "extra/2.png"],
        ["train/cat/0.png", "train/dog/1.png", "unlabeled/2.png"],
        ["Training/0.png", "testing/1.png", "dev/2.png"],
    ],
)
def test_parts_of_a_split_are_never_classes(tmp_path: Path, names: list[str]) -> None:
    numbered(tmp_path, *names)
    folders = ", ".join(sorted({name.split("/")[0] for name in names}))
    refused(tmp_path, f"has the folders {folders}: keep train and one other, which is held out")


def test_a_split_of_its_own_and_another_are_refused(tmp_path: Path) -> None:
    numbered(tmp_path, "train/0.png", "test/1.png")
    refused(tmp_path, r"data.held_out must be 0, since .* has test/ of its own, got 0.5", held_out=0.5)


def test_a_class_that_is_only_held_out_is_refused(tmp_path: Path) -> None:
    numbered(tmp_path, "train/a/0.png", "train/b/1.png", "test/c/2.png")
    refused(tmp_path, "the held-out part has classes that the training part has not: c;")
    assert folder(tmp_path, labels=False).load().labels is None


@pytest.mark.parametrize("held_out", [3, 4, 0.9, 0.1])
def test_holding_out_all_or_nothing_is_refused(held_out: float, tmp_path: Path) -> None:
    numbered(tmp_path, "0.png", "1.png", "2.png")
    refused(tmp_path, "data.held_out must leave some of the 3 images of .* to both parts", held_out=held_out)


def test_a_link_that_leads_back_is_refused(tmp_path: Path) -> None:
    numbered(tmp_path, "a/0.png")
    (tmp_path / "a" / "back").symlink_to(tmp_path)
    refused(tmp_path, "the link a/back leads back to its own folder")


def test_fewer_images_than_a_batch_are_refused(tmp_path: Path) -> None:
    numbered(tmp_path, "0.png", "1.png")
    images = folder(tmp_path).load()
    with pytest.raises(ConfigError, match="batch_size must be at most the 2 images of the data set, got 3"):
        ImageStream(images.train, images.train_labels, 3, torch.Generator(), torch.device("cpu"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"root": None}, "root must be a folder or a zip archive of images, got null"),
        ({"size": 0}, "size must be an integer >= 1, got 0"),
        ({"channels": 2}, r"channels must be one of \[1, 3\], got 2"),
        ({"held_out": -0.1}, r"held_out must be a share in \[0, 1\) or a whole number of images, got -0.1"),
        ({"held_out": 1.5}, r"held_out must be a share in \[0, 1\) or a whole number of images, got 1.5"),
        ({"held_out": float("nan")}, "held_out must be a share"),
        ({"held_out": float("inf")}, "held_out must be a share"),
        ({"mixed": "skip"}, r"mixed must be one of \['error', 'convert'\], got 'skip'"),
    ],
)
def test_options_out_of_range_are_refused_by_name(options: dict[str, object], message: str) -> None:
    given = {"root": "x", "size": 8, "channels": 3, "labels": True, "held_out": 0, "mixed": "error"}
    with pytest.raises(ValueError, match=message):
        Folder(**(given | options))
