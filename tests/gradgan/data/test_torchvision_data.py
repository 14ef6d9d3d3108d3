"""`gradgan.data.torchvision_data`: pixels, labels and sizes from files as torchvision stores them."""

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from core.config import ConfigError
from gradgan.data.torchvision_data import DatasetName, Torchvision
from gradgan.images import resized
from tests.gradgan.data.files_of_torchvision import (
    MNIST_PREFIXES,
    pixels,
    small_mnist,
    write_idx,
    write_mnist,
    write_pickle,
)

NAMES = get_args(DatasetName)


def data(dataset: str, root: Path, *, size: int | None = None, download: bool = False) -> Torchvision:
    return Torchvision(dataset=dataset, root=str(root), download=download, size=size)


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without torchvision's checksums, which small files cannot have."""
    for module in ("cifar", "svhn", "stl10"):
        monkeypatch.setattr(f"torchvision.datasets.{module}.check_integrity", lambda *_: True)


@pytest.mark.parametrize(
    ("dataset", "folder", "name"),
    [
        ("MNIST", "MNIST", "mnist"),
        ("FashionMNIST", "FashionMNIST", "fashion_mnist"),
        ("KMNIST", "KMNIST", "kmnist"),
    ],
)
def test_grey_images_and_labels_are_those_of_the_files(dataset, folder, name, tmp_path) -> None:
    train, test = pixels(1, 20, 28, 28), pixels(2, 7, 28, 28)
    parts = {"train": (train, np.arange(20) % 10), "test": (test, np.arange(7))}
    write_mnist(tmp_path, folder, parts, MNIST_PREFIXES)
    found = data(dataset, tmp_path)
    assert (found.name, found.shape, found.num_classes) == (name, (1, 28, 28), 10)
    images = found.load()
    assert torch.equal(images.train[:, 0], torch.from_numpy(train))
    assert torch.equal(images.held_out[:, 0], torch.from_numpy(test))
    assert images.train_labels.tolist() == list(range(10)) * 2
    assert images.held_out_labels.tolist() == list(range(7))
    assert images.labels.dtype == torch.int64


@pytest.mark.parametrize(("split", "first", "classes"), [("letters", 1, 26), ("digits", 0, 10)])
def test_emnist_is_turned_upright_shuffled_and_numbered_from_0(split, first, classes, tmp_path) -> None:
    stored, labels = pixels(3, 2 * classes, 28, 28), np.arange(2 * classes) // 2 + first  # class by class
    parts = {"train": (stored, labels), "test": (stored[:10], labels[:10])}
    prefixes = {part: f"emnist-{split}-{part}" for part in parts}
    write_mnist(tmp_path, "EMNIST", parts, prefixes)
    found = data(f"EMNIST{split.title()}", tmp_path)
    assert (found.name, found.num_classes) == (f"emnist_{split}", classes)
    images = found.load()
    label_of = {image.T.tobytes(): int(label) - first for image, label in zip(stored, labels, strict=True)}
    assert [label_of[image.numpy().tobytes()] for image in images.train] == images.train_labels.tolist()
    assert sorted(images.train_labels.tolist()) == sorted(label_of.values())
    assert images.train_labels.tolist() != sorted(images.train_labels.tolist())
    assert torch.equal(images.train, found.load().train)  # always alike


@pytest.mark.parametrize(
    ("dataset", "base", "train_files", "test_file", "meta", "key", "classes"),
    [
        ("CIFAR10", "cifar-10-batches-py", [f"data_batch_{i}" for i in range(1, 6)], "test_batch",
         ("batches.meta", "label_names"), "labels", 10),
        ("CIFAR100", "cifar-100-python", ["train"], "test", ("meta", "fine_label_names"), "fine_labels", 100),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("unchecked")
def test_cifar_is_read_plane_by_plane(
    dataset, base, train_files, test_file, meta, key, classes, tmp_path
) -> None:
    stored = pixels(4, len(train_files) + 1, 3, 32, 32)
    for index, file in enumerate([*train_files, test_file]):
        content = {"data": stored[index].reshape(1, -1), key: [classes - 1 - index]}
        write_pickle(tmp_path / base / file, content)
    write_pickle(tmp_path / base / meta[0], {meta[1]: [str(c) for c in range(classes)]})
    found = data(dataset, tmp_path)
    assert (found.name, found.shape, found.num_classes) == (dataset.lower(), (3, 32, 32), classes)
    images = found.load()
    assert torch.equal(torch.cat([images.train, images.held_out]), torch.from_numpy(stored))
    assert images.labels.tolist() == [classes - 1 - index for index in range(len(stored))]
    assert images.train.is_contiguous()


@pytest.mark.usefixtures("unchecked")
def test_svhn_has_its_zeros_as_class_0(tmp_path: Path) -> None:
    from scipy.io import savemat

    stored = pixels(5, 4, 3, 32, 32)
    for part in ("train", "test"):
        content = {"X": stored.transpose(2, 3, 1, 0), "y": np.array([[10], [1], [9], [10]], np.uint8)}
        savemat(tmp_path / f"{part}_32x32.mat", content)
    found = data("SVHN", tmp_path)
    assert (found.name, found.shape, found.num_classes) == ("svhn", (3, 32, 32), 10)
    images = found.load()
    assert torch.equal(images.train, torch.from_numpy(stored))
    assert images.labels.tolist() == [0, 1, 9, 0] * 2


@pytest.fixture
def stl10(tmp_path: Path, unchecked: None) -> dict[str, np.ndarray]:
    """Files of STL-10: columns before rows, labels from 1; what was written, upright."""
    base = tmp_path / "stl10_binary"
    base.mkdir()
    parts = {
        "train": pixels(6, 3, 3, 96, 96),
        "test": pixels(7, 2, 3, 96, 96),
        "unlabeled": pixels(8, 4, 3, 96, 96),
    }
    for part, stored in parts.items():
        (base / f"{part}_X.bin").write_bytes(stored.transpose(0, 1, 3, 2).tobytes())
    (base / "train_y.bin").write_bytes(bytes([1, 10, 5]))
    (base / "test_y.bin").write_bytes(bytes([2, 3]))
    return parts


def test_stl10_trains_on_its_labelled_part(stl10: dict[str, np.ndarray], tmp_path: Path) -> None:
    found = data("STL10", tmp_path)
    assert (found.name, found.shape, found.num_classes) == ("stl10", (3, 96, 96), 10)
    images = found.load()
    assert torch.equal(images.train, torch.from_numpy(stl10["train"]))
    assert torch.equal(images.held_out, torch.from_numpy(stl10["test"]))
    assert images.labels.tolist() == [0, 9, 4, 1, 2]


def test_stl10_without_labels_has_none_at_all(stl10: dict[str, np.ndarray], tmp_path: Path) -> None:
    found = data("STL10Unlabeled", tmp_path, size=48)
    assert (found.name, found.shape, found.num_classes) == ("stl10_unlabeled", (3, 48, 48), None)
    images = found.load()
    assert torch.equal(images.train, resized(torch.from_numpy(stl10["unlabeled"]), 48))
    assert images.held_out.shape == (2, 3, 48, 48)
    assert images.labels is None


@pytest.mark.parametrize("size", [28, 32, 16])
def test_a_size_is_that_of_both_parts_and_of_the_shape(size: int, tmp_path: Path) -> None:
    parts = small_mnist(tmp_path)
    found = data("MNIST", tmp_path, size=size)
    images = found.load()
    assert found.shape == images.train.shape[1:] == images.held_out.shape[1:] == (1, size, size)
    assert torch.equal(images.held_out, resized(torch.from_numpy(parts["test"][0]).unsqueeze(1), size))


@pytest.mark.parametrize("dataset", NAMES)
def test_data_that_are_not_there_say_which_option_to_set(dataset: str, tmp_path: Path) -> None:
    message = rf"data.root={tmp_path} holds no intact {dataset} .*data.download=true"
    with pytest.raises(ConfigError, match=message):
        data(dataset, tmp_path).load()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


@pytest.mark.parametrize(
    "breaks",
    [
        lambda raw: cut(raw / "train-images-idx3-ubyte"),
        lambda raw: (raw / "train-images-idx3-ubyte").write_bytes(b""),
        lambda raw: (raw / "train-images-idx3-ubyte").write_bytes(b"<html>404</html>"),
        lambda raw: write_idx(raw / "train-labels-idx1-ubyte", np.zeros(19)),  # one is missing
        lambda raw: write_idx(raw / "train-labels-idx1-ubyte", np.full(20, 10)),  # no such digit
        lambda raw: write_idx(raw / "train-images-idx3-ubyte", np.zeros((20, 8, 8))),
        lambda raw: (raw / "t10k-labels-idx1-ubyte").unlink(),
    ],
)
def test_broken_files_are_refused_in_one_line(breaks: Callable[[Path], object], tmp_path: Path) -> None:
    small_mnist(tmp_path)
    breaks(tmp_path / "MNIST" / "raw")
    with pytest.raises(ConfigError, match="holds no intact MNIST in torchvision's layout") as info:
        data("MNIST", tmp_path).load()
    assert "\n" not in str(info.value)


def test_a_download_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise RuntimeError("no route\nto host")

    monkeypatch.setattr("torchvision.datasets.MNIST.download", refuse)
    with pytest.raises(ConfigError, match=r"data.download=true: could not fetch MNIST: no route to host"):
        data("MNIST", tmp_path, download=True).load()


def test_options_out_of_range_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="size must be an integer >= 1 or null, got 0"):
        data("MNIST", tmp_path, size=0)
    with pytest.raises(ValueError, match=r"dataset must be one of \['MNIST', .*, got 'ImageNet'"):
        data("ImageNet", tmp_path)
