"""`gradgan.augment.ada`: against slow references for single pixels, exact cases, frequencies, a recursion."""

import math

import pytest
import torch
from torch import Tensor

from gradgan.augment.ada import ADA, _Draws, colouring, movement, recoloured
from gradgan.augment.sampling import bilinear

ADAPTIVE = ADA(initial=0.0, target=0.6, speed=1000.0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(count: int = 6, channels: int = 3, side: int = 8, dtype: torch.dtype = torch.float64) -> Tensor:
    drawn = torch.rand(count, channels, side, side, generator=generator(1), dtype=torch.float64)
    return (2 * drawn - 1).to(dtype)


def probability(p: float) -> Tensor:
    return torch.tensor(p)


# Sampling between pixels


def reflected(index: int, size: int) -> int:
    """An index outside of 0 .. size - 1, bounced back as often as it takes."""
    while not 0 <= index < size:
        index = -index if index < 0 else 2 * (size - 1) - index
    return index


def sampled(channel: list[list[float]], x: float, y: float) -> float:
    """One pixel between four, with x and y from the centre, by the textbook."""
    height, width = len(channel), len(channel[0])
    column, row = x + (width - 1) / 2, y + (height - 1) / 2
    left, above = math.floor(column), math.floor(row)
    total = 0.0
    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
        share = (1 - abs(column - left - j)) * (1 - abs(row - above - i))
        total += share * channel[reflected(above + i, height)][reflected(left + j, width)]
    return total


@pytest.mark.parametrize("size", [(5, 5), (4, 7)])
def test_bilinear_agrees_with_the_textbook_pixel_by_pixel(size: tuple[int, int]) -> None:
    height, width = size
    x = torch.randn(4, 2, height, width, generator=generator(), dtype=torch.float64)
    maps = torch.randn(4, 2, 3, generator=generator(1), dtype=torch.float64) * torch.tensor([1.0, 1.0, 9.0])
    out = bilinear(x, maps)
    for image, affine, found in zip(x.tolist(), maps.tolist(), out.tolist(), strict=True):
        for channel, found_channel in zip(image, found, strict=True):
            for i in range(height):
                for j in range(width):
                    at = (j - (width - 1) / 2, i - (height - 1) / 2, 1.0)
                    place = [sum(a * b for a, b in zip(row, at, strict=True)) for row in affine]
                    assert found_channel[i][j] == pytest.approx(sampled(channel, *place), abs=1e-9)


@pytest.mark.parametrize("side", [7, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_where_a_map_leads_to_pixels_exactly_these_come(side: int, dtype: torch.dtype) -> None:
    x = images(1, 3, side, dtype)

    def moved(*rows: list[float]) -> Tensor:
        return bilinear(x, torch.tensor([rows], dtype=dtype))

    assert torch.equal(moved([1, 0, 0], [0, 1, 0]), x)
    assert torch.equal(moved([-1, 0, 0], [0, 1, 0]), x.flip(3))
    assert torch.equal(moved([0, -1, 0], [1, 0, 0]), x.rot90(1, (2, 3)))
    padded = torch.nn.functional.pad(x, (3, 3, 3, 3), mode="reflect")
    shifted = moved([1, 0, 2], [0, 1, -3])  # comes from two to the right and three above
    assert torch.equal(shifted, padded[:, :, :side, 5 : 5 + side])


# ADA


class Noted(_Draws):
    """Draws that remember what they said, in order."""

    def __init__(self, images: Tensor, p: float, seed: int) -> None:
        super().__init__(images, probability(p), generator(seed))
        self.said: list[list[float]] = []

    def kept(self, values: Tensor, otherwise: float, p: Tensor | None = None) -> Tensor:
        out = super().kept(values, otherwise, p)
        self.said.append(out.tolist())
        return out


class Loud(Noted):
    """Notes the bare draws too."""

    def normal(self) -> Tensor:
        out = super().normal()
        self.said.append(out.tolist())
        return out

    def integers(self, low: int, high: int) -> Tensor:
        out = super().integers(low, high)
        self.said.append(out.tolist())
        return out


def undone(x: float, y: float, said: list[float], side: int) -> tuple[float, float]:
    """Where a new pixel comes from: each transformation taken back, the last one first."""
    quarter, mirror = said[1], said[3]
    right, down, shifts = said[4], said[5], said[6]
    scale, turn, stretch, turn_again = said[8], said[9], said[11], said[12]
    far_right, far_down, slides = said[13], said[14], said[15]
    place = complex(x - slides * far_right * side / 8, y - slides * far_down * side / 8)
    place *= complex(math.cos(turn_again), math.sin(turn_again))
    place = complex(place.real / stretch, place.imag * stretch)
    place *= complex(math.cos(turn), math.sin(turn))
    place /= scale
    place -= complex(shifts * right, shifts * down)
    place *= 1j ** round(quarter)
    return mirror * place.real, place.imag


@pytest.mark.parametrize("p", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("side", [8, 32])
def test_an_images_movement_is_its_transformations_one_after_the_other(p: float, side: int) -> None:
    x = images(40, 1, side)
    draws = Loud(x, p, seed=3)
    maps = movement(draws, side).tolist()
    assert len(draws.said) == 16
    corners = [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (3.5, -2.5)]
    for affine, said in zip(maps, zip(*draws.said, strict=True), strict=True):
        for at in corners:
            place = [row[0] * at[0] + row[1] * at[1] + row[2] for row in affine]
            assert place == pytest.approx(undone(*at, list(said), side), abs=1e-5)


def recoloured_pixel(pixel: list[float], said: list[float]) -> list[float]:
    """Brightness, contrast, luma flip, hue, saturation of one pixel, by vector algebra."""
    brightness, contrast, flip, *rest = said
    pixel = [contrast * (v + brightness) for v in pixel]
    if flip:  # reflected at the plane of no luma
        pixel = [v - 2 * sum(pixel) / len(pixel) for v in pixel]
    if not rest:
        return pixel
    hue, saturation = rest
    grey = sum(pixel) / 3
    red, green, blue = (v - grey for v in pixel)
    across = [(blue - green), (red - blue), (green - red)]  # (1, 1, 1) x (r, g, b)
    turned = [
        math.cos(hue) * v + math.sin(hue) * w / math.sqrt(3)
        for v, w in zip((red, green, blue), across, strict=True)
    ]
    return [grey + saturation * v for v in turned]


@pytest.mark.parametrize("p", [0.5, 1.0])
@pytest.mark.parametrize("channels", [1, 3])
def test_colours_change_as_single_pixels_do(channels: int, p: float) -> None:
    x = images(40, channels, 2)
    draws = Noted(x, p, seed=3)
    out = recoloured(x, colouring(draws))
    assert len(draws.said) == (5 if channels == 3 else 3)
    for image, said, found in zip(x, zip(*draws.said, strict=True), out, strict=True):
        for i in range(2):
            for j in range(2):
                expected = recoloured_pixel(image[:, i, j].tolist(), list(said))
                assert found[:, i, j].tolist() == pytest.approx(expected, abs=1e-5)


def test_hue_and_saturation_leave_grey_as_it_is() -> None:
    grey = images(50, 1, 2).expand(-1, 3, -1, -1)
    draws = Noted(grey, 1.0, seed=3)
    out = recoloured(grey, colouring(draws))
    assert torch.allclose(out, out.mean(dim=1, keepdim=True).expand_as(out), atol=1e-5)


def test_a_third_of_a_turn_of_hue_makes_red_green() -> None:
    class Third(_Draws):
        def kept(self, values: Tensor, otherwise: float, p: Tensor | None = None) -> Tensor:
            turned = values.abs().max() > 1.5 and otherwise == 0.0
            return torch.full_like(values, 2 * math.pi / 3 if turned else otherwise)

        def uniform(self, low: float, high: float) -> Tensor:
            return torch.full((len(self.images),), high).to(self.images)

        def normal(self) -> Tensor:
            return torch.zeros(len(self.images)).to(self.images)

    red = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64).reshape(1, 3, 1, 1)
    out = recoloured(red, colouring(Third(red, probability(1.0), generator())))
    assert out.flatten().tolist() == pytest.approx([0.0, 1.0, 0.0], abs=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [8, 31, 128])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_at_probability_zero_the_images_come_back_exactly(
    channels: int, side: int, dtype: torch.dtype, precision: str
) -> None:
    x = images(3, channels, side, dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        assert torch.equal(ADAPTIVE(x, probability(0.0), generator()), x)


def test_autocast_does_not_move_pixels() -> None:
    x = images(8, 3, 64, torch.float32)
    expected = ADAPTIVE(x, probability(1.0), generator())
    with torch.autocast("cpu", torch.bfloat16):
        found = ADAPTIVE(x, probability(1.0), generator())
    assert torch.equal(found, expected)


def test_float32_agrees_with_float64() -> None:
    found = ADAPTIVE(images(8, 3, 32, torch.float32), probability(1.0), generator())
    expected = ADAPTIVE(images(8, 3, 32), probability(1.0), generator())
    assert torch.allclose(found.double(), expected, atol=2e-3)  # white noise: neighbours differ by about 1


@pytest.mark.parametrize("p", [0.2, 0.8])
def test_each_transformation_happens_as_often_as_it_should(p: float) -> None:
    count = 4000
    draws = Noted(images(count, 3, 2), p, seed=11)
    movement(draws, 2)
    colouring(draws)
    turns = 1 - math.sqrt(1 - p)  # each of two, so that one of them happens with probability p
    # In order: quarter turns (one of four is none), mirror (half), and so on.
    expected = [0.75 * p, 0.5 * p, p, p, turns, p, turns, p, p, p, 0.5 * p, p, p]
    neutral = [0, 1, 0, 1, 0, 1, 0, 0, 0, 1, 0, 0, 1]
    for said, share, value in zip(draws.said, expected, neutral, strict=True):
        found = sum(v != value for v in said) / count
        assert abs(found - share) < 3.5 * math.sqrt(share * (1 - share) / count)
    # And by themselves: of the images that are mirrored, the usual share is scaled.
    mirrored, scaled = (torch.tensor(draws.said[i]) != 1 for i in (1, 3))
    both_share = (mirrored & scaled).float().mean().item()
    assert both_share == pytest.approx(0.5 * p * p, abs=3.5 * math.sqrt(0.5 * p * p / count))


def test_the_sizes_of_the_transformations_are_the_papers() -> None:
    """Standard deviations 0.2 of log2 scale and brightness, 0.5 and 1 of log2 contrast and saturation."""
    draws = Noted(images(4000, 3, 2), 1.0, seed=11)
    movement(draws, 2)
    colouring(draws)
    said = [torch.tensor(values) for values in draws.said]
    for at, deviation in ((3, 0.2), (5, 0.2), (9, 0.5), (12, 1.0)):
        assert said[at].log2().std().item() == pytest.approx(deviation, rel=0.05)
        assert said[at].log2().mean().item() == pytest.approx(0.0, abs=0.06 * deviation)
    assert said[8].std().item() == pytest.approx(0.2, rel=0.05)
    for at in (4, 6, 11):  # angles
        assert said[at].abs().max().item() == pytest.approx(math.pi, rel=0.01)
        assert said[at].std().item() == pytest.approx(math.pi / math.sqrt(3), rel=0.05)


def test_p_follows_a_recursion_done_by_hand() -> None:
    """Steps of 64 / 1000, up above the target of 0.6, down below it, none at it; never out of [0, 1]."""
    signs = [1.0, 0.9, 0.5, 0.6, -1.0, 0.61] + [1.0] * 16
    expected = [0.064, 0.128, 0.064, 0.064, 0.0, 0.064]
    expected += [min(1.0, 0.064 * (i + 2)) for i in range(16)]
    p, found = probability(ADAPTIVE.initial), []
    for sign in signs:
        p = ADAPTIVE.adapt(p, torch.tensor(sign), 64)
        found.append(p.item())
    assert found == pytest.approx(expected, abs=1e-6)
    assert found[-1] == 1.0


def test_p_goes_from_none_to_all_in_as_many_images_as_it_says() -> None:
    augment = ADA(initial=0.0, target=0.6, speed=6400.0)
    p = probability(0.0)
    for _ in range(99):
        p = augment.adapt(p, probability(1.0), 64)
    assert p.item() == pytest.approx(0.99, abs=1e-5)
    assert augment.adapt(p, probability(1.0), 64).item() == pytest.approx(1.0, abs=1e-5)


def test_p_may_be_more_than_one_step_below_zero_and_stays_there() -> None:
    p = ADAPTIVE.adapt(probability(0.03), probability(-1.0), 10_000)
    assert p.item() == 0.0
    assert p.shape == ()


def test_a_sign_that_is_nan_leaves_p_as_it_is() -> None:
    assert ADAPTIVE.adapt(probability(0.3), probability(math.nan), 64).item() == probability(0.3).item()


@pytest.mark.parametrize("shape", [(2,), (2, 8, 8), (3, 8, 16)])
def test_ada_refuses_what_is_not_a_square_image_in_grey_or_colour(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="square images of 1 or 3 channels"):
        ADAPTIVE.check(shape)
