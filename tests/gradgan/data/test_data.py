"""`gradgan.data.mixtures`, `images` and `digits`: geometry, labels, and streams that stop and go on."""

import math
from typing import ClassVar

import pytest
import torch

from core.config import ConfigError
from gradgan.data import images as images_module
from gradgan.data.digits import Digits
from gradgan.data.images import ImageData, ImageStream
from gradgan.data.mixtures import Grid, Mixture, Ring
from gradgan.images import Images, normalised, resized
from gradgan.networks import Shape

CPU = torch.device("cpu")
RING = Ring(num_modes=8, radius=1.0, std=0.01)
GRID = Grid(side=5, spacing=2.0, std=0.05)


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbered(count: int) -> torch.Tensor:
    """Images [count, 1, 1, 1] whose pixel is their number."""
    return torch.arange(count, dtype=torch.uint8).reshape(-1, 1, 1, 1)


def taken(stream: ImageStream, batches: int) -> list[int]:
    return [round(x) for _ in range(batches) for x in ((stream.next().x + 1) * 127.5).flatten().tolist()]


def stream_of(count: int, batch_size: int, seed: int = 0) -> ImageStream:
    """A stream over numbered images whose label is twice their number."""
    return ImageStream(numbered(count), 2 * torch.arange(count), batch_size, random(seed), CPU)


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
    x, labels = mixture.stream(40_000, random(), CPU).next()
    assert x.square().mean().item() == pytest.approx(1.0, abs=0.01)
    distance, nearest = torch.cdist(x * mixture.scale, mixture.centres).min(dim=1)
    assert distance.square().mean().sqrt().item() == pytest.approx(mixture.std * math.sqrt(2), rel=0.02)
    share = torch.bincount(nearest, minlength=len(mixture.centres)) / len(x)
    assert (share * len(mixture.centres) - 1).abs().max() < 0.1
    assert labels is not None
    assert labels.dtype == torch.int64
    assert torch.equal(labels, nearest)  # ten or more standard deviations lie between two centres
    assert mixture.num_classes == len(mixture.centres) == int(labels.max()) + 1


@pytest.mark.parametrize("mixture", [RING, GRID])
def test_a_point_is_its_centre_and_the_noise_that_the_generator_draws_next(mixture: Ring | Grid) -> None:
    x, labels = mixture.stream(6, random(3), CPU).next()
    own = random(3)
    mode = torch.randint(len(mixture.centres), (6,), generator=own)
    noise = torch.randn(6, 2, generator=own)
    assert torch.equal(labels, mode)
    assert torch.equal(x, (mixture.centres[mode] + mixture.std * noise) / mixture.scale)


def test_a_resumed_mixture_goes_on_with_its_generator() -> None:
    own, other = random(), random(99)
    stream = GRID.stream(5, own, CPU)
    stream.next()
    state, generator_state = stream.state_dict(), own.get_state()
    x, labels = stream.next()
    resumed = GRID.stream(5, other, CPU)
    resumed.load_state_dict(state)
    other.set_state(generator_state)
    again, labels_again = resumed.next()
    assert torch.equal(x, again)
    assert torch.equal(labels, labels_again)


def test_a_mixture_that_is_none_in_particular_says_which_there_are() -> None:
    with pytest.raises(TypeError, match="use Ring or Grid"):
        _ = Mixture(std=1.0).centres


def test_one_pass_shows_every_image_once_whatever_the_batch_size() -> None:
    stream = stream_of(20, 3)
    seen = taken(stream, 20)  # 60 images: three passes
    assert sorted(seen[:20]) == sorted(seen[20:40]) == sorted(seen[40:]) == list(range(20))
    assert seen[:20] != seen[20:40]


def test_the_order_of_a_pass_is_one_permutation_of_the_generator() -> None:
    own = random(5)
    expected = [*torch.randperm(10, generator=own).tolist(), *torch.randperm(10, generator=own).tolist()]
    assert taken(stream_of(10, 4, seed=5), 5) == expected


def test_labels_go_with_their_images_across_the_end_of_a_pass() -> None:
    stream = stream_of(10, 4)
    for _ in range(7):
        x, labels = stream.next()
        assert labels is not None
        assert labels.tolist() == [2 * round(v) for v in ((x + 1) * 127.5).flatten().tolist()]


def test_without_labels_a_batch_has_none() -> None:
    assert ImageStream(numbered(4), None, 2, random(), CPU).next().labels is None


@pytest.mark.parametrize("batches", range(6))  # of 4 among 10: at the start, inside, and across the end
def test_a_resumed_stream_goes_on_at_any_sample(batches: int) -> None:
    stream = stream_of(10, 4)
    taken(stream, batches)
    state, generator_state = stream.state_dict(), stream.random.get_state()
    state = {
        name: value.clone() if isinstance(value, torch.Tensor) else value for name, value in state.items()
    }
    expected = [stream.next() for _ in range(6)]
    resumed = stream_of(10, 4, seed=99)
    resumed.load_state_dict(state)
    resumed.random.set_state(generator_state)
    for x, labels in expected:
        again, labels_again = resumed.next()
        assert torch.equal(x, again)
        assert torch.equal(labels, labels_again)


def test_a_stream_refuses_the_state_of_another_data_set() -> None:
    stream = stream_of(10, 4)
    stream.next()
    with pytest.raises(ValueError, match="not the state of a stream over 11 images"):
        stream_of(11, 4).load_state_dict(stream.state_dict())


def test_pixels_become_numbers_from_minus_one_to_one() -> None:
    assert normalised(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [-1.0, 1.0]
    images = torch.tensor([0, 255], dtype=torch.uint8).reshape(2, 1, 1, 1)
    assert sorted(ImageStream(images, None, 2, random(), CPU).next().x.flatten().tolist()) == [-1.0, 1.0]


def test_a_batch_larger_than_the_data_set_is_refused() -> None:
    with pytest.raises(ConfigError, match="batch_size must be at most the 10 images of the data set, got 11"):
        stream_of(10, 11)


def test_a_stream_wants_a_label_for_each_image() -> None:
    with pytest.raises(ValueError, match=r"labels must be \[10\], one for each image, got \[9\]"):
        ImageStream(numbered(10), torch.zeros(9, dtype=torch.int64), 2, random(), CPU)


@pytest.mark.parametrize(("free", "stays"), [(160, False), (159, True)])
def test_images_live_on_a_gpu_up_to_a_quarter_of_its_free_memory(free, stays, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10**9))
    images = torch.zeros(10, 1, 2, 2, dtype=torch.uint8)  # 40 bytes
    assert images_module.fits(images, torch.device("cuda")) is not stays
    assert images_module.fits(images, CPU)


def test_images_that_do_not_fit_stay_and_batches_are_moved(monkeypatch) -> None:
    monkeypatch.setattr(images_module, "fits", lambda images, device: False)
    away = ImageStream(numbered(10), torch.arange(10), 4, random(), torch.device("meta"))
    batch = away.next()
    assert away.images.device == CPU
    assert batch.x.device.type == batch.labels.device.type == "meta"
    here = stream_of(10, 4)
    here.next()
    assert torch.equal(away.order, here.order)  # and the order is the same
    assert away.position == here.position == 4


def test_labels_are_parted_as_the_images_are() -> None:
    images = Images(train=numbered(3), held_out=numbered(2), labels=torch.tensor([4, 0, 1, 2, 3]))
    assert images.num_classes == 5
    assert images.train_labels.tolist() == [4, 0, 1]
    assert images.held_out_labels.tolist() == [2, 3]
    without = Images(train=numbered(3), held_out=numbered(2), labels=None)
    assert (without.num_classes, without.train_labels, without.held_out_labels) == (None, None, None)
    with pytest.raises(ValueError, match=r"labels must be \[5\], one for each image, got \[3\]"):
        Images(train=numbered(3), held_out=numbered(2), labels=torch.zeros(3, dtype=torch.int64))


def test_28_pixels_become_32_by_a_black_border_of_two() -> None:
    pixels = torch.randint(1, 256, (3, 1, 28, 28), generator=random()).to(torch.uint8)
    padded = resized(pixels, 32)
    assert torch.equal(padded[:, :, 2:30, 2:30], pixels)
    assert padded.sum() == pixels.sum()  # the border holds nothing
    assert resized(pixels, 28) is resized(pixels, None) is pixels


@pytest.mark.parametrize(("side", "size"), [(28, 14), (32, 48), (96, 40)])
def test_other_sizes_are_bilinear_and_antialiased(side: int, size: int) -> None:
    pixels = torch.randint(0, 256, (2, 3, side, side), generator=random()).to(torch.uint8)
    reference = torch.nn.functional.interpolate(
        pixels.double(), size=(size, size), mode="bilinear", antialias=True, align_corners=False
    )
    found = resized(pixels, size)
    assert found.dtype == torch.uint8
    assert (found.double() - reference).abs().max() <= 1.5  # rounded after each of the two passes


def test_pieces_of_a_large_set_are_put_together_in_order() -> None:
    pixels = torch.arange(2500).remainder(251).to(torch.uint8).reshape(-1, 1, 1, 1).expand(-1, 1, 4, 4)
    assert torch.equal(resized(pixels, 2)[:, 0, 0, 0], pixels[:, 0, 0, 0])


def test_the_digits_are_the_1797_of_scikit_learn_split_for_good() -> None:
    one, two = Digits(held_out=450).load(), Digits(held_out=450).load()
    assert one.train.shape == (1347, 1, 8, 8)
    assert one.held_out.shape == (450, 1, 8, 8)
    assert one.train.dtype == torch.uint8
    assert one.train.max() == 255
    assert one.train.min() == 0
    assert torch.equal(one.train, two.train)
    assert one.labels is not None
    assert one.num_classes == Digits.num_classes == 10
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


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_width_out_of_range_is_refused_by_name(value: float) -> None:
    with pytest.raises(ValueError, match="std must be a finite number > 0"):
        Ring(num_modes=8, radius=1.0, std=value)
    with pytest.raises(ValueError, match="spacing must be a finite number > 0"):
        Grid(side=5, spacing=value, std=0.1)


def test_a_data_set_of_images_that_lacks_something_says_what() -> None:
    class Shapeless(ImageData):
        name: ClassVar[str] = "shapeless"
        num_classes: ClassVar[None] = None

        def load(self) -> Images:
            return Images(train=numbered(2), held_out=numbered(2), labels=None)

    with pytest.raises(TypeError, match=r"abstract .*shape"):
        Shapeless()  # pyright: ignore[reportAbstractUsage]


def test_a_data_set_of_images_needs_no_more_than_to_load_them() -> None:
    class Numbered(ImageData):
        name: ClassVar[str] = "numbered"
        num_classes: ClassVar[None] = None
        shape: ClassVar[Shape] = (1, 1, 1)

        def load(self) -> Images:
            return Images(train=numbered(20), held_out=numbered(3), labels=None, notes=("read",))

    data = Numbered()
    train, held_out = data.references(5, random(), CPU)
    assert ((train.x + 1) * 127.5).flatten().tolist() == pytest.approx([0, 1, 2, 3, 4])
    assert held_out is not None
    assert len(held_out.x) == 3
    assert len(data.draw(99, random(), CPU).x) == 20  # all where there are fewer
    assert (data.notes(), data.limits()) == (("read",), {"train_samples": 20.0})


def test_a_return_changes_the_order_of_the_images_from_the_next_batch_on() -> None:
    def order(*names: str | int) -> list[int]:
        stream = stream_of(100, 10)
        begun = taken(stream, 4)
        if names:
            stream.restart(*names)
        return begun + taken(stream, 6)

    usual, other = order(), order("rollback", 1)
    assert usual[:40] == other[:40]
    assert sum(a == b for a, b in zip(usual[40:], other[40:], strict=True)) < 10
    assert sorted(other) == list(range(100))
    assert order("rollback", 1) == other != order("rollback", 2)
