"""Small files in the formats of torchvision's data sets, with pixels and labels that the tests know."""

import pickle
from pathlib import Path

import numpy as np


def pixels(seed: int, *shape: int) -> np.ndarray:
    """Random bytes."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write_idx(path: Path, array: np.ndarray) -> None:
    """The format of MNIST: a magic number, the sizes as big-endian integers, the bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


def write_mnist(
    root: Path, folder: str, parts: dict[str, tuple[np.ndarray, np.ndarray]], prefixes: dict[str, str]
) -> None:
    """Images [N, 28, 28] and labels [N] of "train" and "test", in `root/folder/raw`."""
    for part, (images, labels) in parts.items():
        write_idx(root / folder / "raw" / f"{prefixes[part]}-images-idx3-ubyte", images)
        write_idx(root / folder / "raw" / f"{prefixes[part]}-labels-idx1-ubyte", labels)


MNIST_PREFIXES = {"train": "train", "test": "t10k"}


def small_mnist(
    root: Path, num_train: int = 20, num_test: int = 10
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """MNIST with few digits, all ten classes; returns what was written."""
    parts = {
        "train": (pixels(1, num_train, 28, 28), np.arange(num_train) % 10),
        "test": (pixels(2, num_test, 28, 28), np.arange(num_test)[::-1] % 10),
    }
    write_mnist(root, "MNIST", parts, MNIST_PREFIXES)
    return parts


def write_pickle(path: Path, content: dict[str, object]) -> None:
    """The format of CIFAR."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content))
