"""`gradgan.data.stacked`: three digits in one image, the class they make, and an endless supply."""

from pathlib import Path

import numpy as np
import pytest
import torch

from core.config import ConfigError
from gradgan.data.stacked import StackedMNIST, stack
from tests.gradgan.data.files_of_torchvision import small_mnist

CPU = torch.device("cpu")


def stacked(root: Path, size: int = 28, held_out: int = 50) -> StackedMNIST:
    return StackedMNIST(root=str(root), download=False, size=size, held_out=held_out)


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def composed_of(image: torch.Tensor, digits: np.ndarray, labels: np.ndarray) -> int:
    """The class of an image [3, 28, 28], found by looking each channel up among the digits."""
    known = {digit.tobytes(): int(label) for digit, label in zip(digits, labels, strict=True)}
    a, b, c = (known[channel.numpy().tobytes()] for channel in image)
    return 100 * a + 10 * b + c


def test_each_channel_is_a_digit_and_the_class_names_all_three(tmp_path: Path) -> None:
    parts = small_mnist(tmp_path)
    images = stacked(tmp_path).load()
    assert images.train.shape == images.held_out.shape == (50, 3, 28, 28)
    assert [composed_of(x, *parts["train"]) for x in images.train] == images.train_labels.tolist()
    assert [composed_of(x, *parts["test"]) for x in images.held_out] == images.held_out_labels.tolist()
    assert len(set(images.train_labels.tolist())) > 25  # three different draws, not one digit thrice


def test_the_composition_is_what_the_indices_of_the_generator_say() -> None:
    digits = torch.arange(7, dtype=torch.uint8).reshape(7, 1, 1, 1).expand(7, 1, 2, 2)
    labels = torch.tensor([3, 1, 4, 1, 5, 9, 2])
    pixels, classes = stack(digits, labels, 40, random(8))
    chosen = torch.randint(7, (40, 3), generator=random(8))
    for image, label, indices in zip(pixels, classes.tolist(), chosen.tolist(), strict=True):
        assert image[:, 1, 0].tolist() == indices
        assert f"{label:03d}" == "".join(str(labels[i].item()) for i in indices)


def test_the_images_of_the_metrics_never_change(tmp_path: Path) -> None:
    small_mnist(tmp_path)
    one, two = stacked(tmp_path).load(), stacked(tmp_path).load()
    assert torch.equal(one.held_out, two.held_out)
    assert torch.equal(one.train, two.train)
    assert torch.equal(one.labels, two.labels)


def test_the_larger_size_is_the_smaller_one_in_a_black_border(tmp_path: Path) -> None:
    small_mnist(tmp_path)
    small, large = stacked(tmp_path, 28).load(), stacked(tmp_path, 32).load()
    assert stacked(tmp_path, 32).shape == large.train.shape[1:] == (3, 32, 32)
    assert torch.equal(large.held_out[:, :, 2:30, 2:30], small.held_out)
    assert large.held_out.sum() == small.held_out.sum()


def test_a_stream_composes_training_digits_only(tmp_path: Path) -> None:
    parts = small_mnist(tmp_path)
    x, labels = stacked(tmp_path).stream(200, random(), CPU).next()
    assert x.dtype == torch.float32
    assert x.min() == -1
    assert x.max() == 1
    back = ((x + 1) * 127.5).round().to(torch.uint8)
    assert [composed_of(image, *parts["train"]) for image in back] == labels.tolist()


@pytest.mark.parametrize("batches", [0, 1, 3])
def test_a_resumed_stream_goes_on_to_the_bit(batches: int, tmp_path: Path) -> None:
    small_mnist(tmp_path)
    own, other = random(), random(99)
    stream = stacked(tmp_path).stream(6, own, CPU)
    for _ in range(batches):
        stream.next()
    state, generator_state = stream.state_dict(), own.get_state()
    expected = [stream.next() for _ in range(3)]
    resumed = stacked(tmp_path).stream(6, other, CPU)
    resumed.load_state_dict(state)
    other.set_state(generator_state)
    for x, labels in expected:
        again, labels_again = resumed.next()
        assert torch.equal(x, again)
        assert torch.equal(labels, labels_again)


def test_all_thousand_classes_are_equally_likely() -> None:
    digits, labels = torch.zeros(10, 1, 1, 1, dtype=torch.uint8), torch.arange(10)
    _, classes = stack(digits, labels, 200_000, random())
    counts = torch.bincount(classes, minlength=StackedMNIST.num_classes).double()
    chi_square = ((counts - 200) ** 2 / 200).sum().item()
    assert len(counts) == 1000
    assert abs(chi_square - 999) < 5 * (2 * 999) ** 0.5  # mean and deviation of chi square with 999 degrees


def test_its_digits_alone_are_labelled_and_of_the_same_size(tmp_path: Path) -> None:
    small_mnist(tmp_path)
    digits = stacked(tmp_path, 32).digits.load()
    assert digits.train.shape == (20, 1, 32, 32)
    assert digits.num_classes == 10


def test_options_out_of_range_and_missing_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"size must be one of \[28, 32\], got 30"):
        stacked(tmp_path, 30)
    with pytest.raises(ValueError, match="held_out must be an integer >= 1, got 0"):
        stacked(tmp_path, held_out=0)
    with pytest.raises(ConfigError, match=f"data.root={tmp_path} holds no intact MNIST"):
        stacked(tmp_path).load()
