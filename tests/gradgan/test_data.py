"""`gradgan.data`: the mixtures' geometry, the digits, and streams that stop and go on."""

import math

import pytest
import torch

from core.run.config import ConfigError
from gradgan.data import Digits, Grid, ImageStream, MixtureStream, Ring, Torchvision

CPU = torch.device("cpu")
RING = Ring(num_modes=8, radius=1.0, std=0.01)
GRID = Grid(side=5, spacing=2.0, std=0.05)


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbered(count: int) -> torch.Tensor:
    """Images [count, 1, 1, 1] whose pixel is their number."""
    return torch.arange(count, dtype=torch.uint8).reshape(-1, 1, 1, 1)


def taken(stream: ImageStream, batches: int) -> list[int]:
    return [round(x) for _ in range(batches) for x in ((stream.next() + 1) * 127.5).flatten().tolist()]


def test_the_ring_lies_on_its_circle_with_neighbours_at_equal_distance() -> None:
    centres = RING.centres
    assert centres.shape == (8, 2)
    assert centres.norm(dim=1).tolist() == pytest.approx([1.0] * 8, abs=1e-6)
    gaps = (centres - centres.roll(1, dims=0)).norm(dim=1)
    assert gaps.tolist() == pytest.approx([2 * math.sin(math.pi / 8)] * 8, abs=1e-6)


def test_the_grid_is_the_square_lattice_around_the_origin() -> None:
    expected = {(float(x), float(y)) for x in (-4, -2, 0, 2, 4) for y in (-4, -2, 0, 2, 4)}
    assert {(x, y) for x, y in GRID.centres.tolist()} == expected


@pytest.mark.parametrize("mixture", [RING, GRID])
def test_samples_have_the_mixtures_moments_and_unit_mean_square(mixture: Ring | Grid) -> None:
    x = MixtureStream(mixture, 40_000, random(), CPU).next()
    assert x.square().mean().item() == pytest.approx(1.0, abs=0.01)
    distance, nearest = torch.cdist(x * mixture.scale, mixture.centres).min(dim=1)
    assert distance.square().mean().sqrt().item() == pytest.approx(mixture.std * math.sqrt(2), rel=0.02)
    share = torch.bincount(nearest, minlength=len(mixture.centres)) / len(x)
    assert (share * len(mixture.centres) - 1).abs().max() < 0.1


def test_one_pass_shows_every_image_once_whatever_the_batch_size() -> None:
    stream = ImageStream(numbered(20), 3, random(), CPU)
    seen = taken(stream, 20)  # 60 images: three passes
    assert sorted(seen[:20]) == sorted(seen[20:40]) == sorted(seen[40:]) == list(range(20))
    assert seen[:20] != seen[20:40]


def test_a_resumed_stream_goes_on_in_the_middle_of_a_pass() -> None:
    stream = ImageStream(numbered(10), 4, random(), CPU)
    taken(stream, 3)
    state, generator_state = stream.state_dict(), stream.random.get_state()
    expected = taken(stream, 5)
    resumed = ImageStream(numbered(10), 4, random(99), CPU)
    resumed.load_state_dict(state)
    resumed.random.set_state(generator_state)
    assert taken(resumed, 5) == expected


def test_a_stream_refuses_the_state_of_another_data_set() -> None:
    stream = ImageStream(numbered(10), 4, random(), CPU)
    stream.next()
    with pytest.raises(ValueError, match="not the state of a stream over 11 images"):
        ImageStream(numbered(11), 4, random(), CPU).load_state_dict(stream.state_dict())


def test_pixels_become_numbers_from_minus_one_to_one() -> None:
    images = torch.tensor([0, 255], dtype=torch.uint8).reshape(2, 1, 1, 1)
    assert sorted(ImageStream(images, 2, random(), CPU).next().flatten().tolist()) == [-1.0, 1.0]


def test_a_batch_larger_than_the_data_set_is_refused() -> None:
    with pytest.raises(ConfigError, match="batch_size must be at most the 10 images of the data set, got 11"):
        ImageStream(numbered(10), 11, random(), CPU)


def test_the_digits_are_the_1797_of_scikit_learn_split_for_good() -> None:
    one, two = Digits(held_out=450).load(), Digits(held_out=450).load()
    assert one.train.shape == (1347, 1, 8, 8)
    assert one.held_out.shape == (450, 1, 8, 8)
    assert one.train.dtype == torch.uint8
    assert one.train.max() == 255
    assert one.train.min() == 0
    assert torch.equal(one.train, two.train)
    assert one.labels is not None
    assert torch.bincount(one.labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_labels_follow_their_images_through_the_split() -> None:
    from sklearn.datasets import load_digits

    pixels_of_all, labels_of_all = load_digits(return_X_y=True)
    known = {bytes((image * (255 / 16)).round().astype("uint8")): int(y)
             for image, y in zip(pixels_of_all, labels_of_all, strict=True)}  # fmt: skip
    images = Digits(held_out=100).load()
    assert images.labels is not None
    pixels = torch.cat([images.train, images.held_out])
    assert [known[bytes(x.numpy())] for x in pixels] == images.labels.tolist()


@pytest.mark.parametrize("dataset", ["MNIST", "FashionMNIST", "CIFAR10"])
def test_data_that_are_not_there_say_which_option_to_set(dataset, tmp_path) -> None:
    with pytest.raises(ConfigError, match=rf"data.root={tmp_path} holds no {dataset} .*data.download=true"):
        Torchvision(dataset=dataset, root=str(tmp_path), download=False).load()


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_width_out_of_range_is_refused_by_name(value: float) -> None:
    with pytest.raises(ValueError, match="std must be a finite number > 0"):
        Ring(num_modes=8, radius=1.0, std=value)
    with pytest.raises(ValueError, match="spacing must be a finite number > 0"):
        Grid(side=5, spacing=value, std=0.1)
