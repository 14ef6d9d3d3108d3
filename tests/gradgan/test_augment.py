"""`gradgan.augment`: against slow references for single pixels, exact cases, derivatives, and frequencies."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from gradgan.augment import Augment
from gradgan.augment.ada import ADA, _Draws, colouring, movement, recoloured
from gradgan.augment.diffaugment import DiffAugment, colour, cutout, translation
from gradgan.augment.sampling import bilinear

ADAPTIVE = ADA(initial=0.0, target=0.6, speed=1000.0)
EVERY = DiffAugment(policy=("colour", "translation", "cutout"))
BOTH = [ADAPTIVE, EVERY]
both = pytest.mark.parametrize("augment", BOTH, ids=lambda a: type(a).__name__)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(count: int = 6, channels: int = 3, side: int = 8, dtype: torch.dtype = torch.float64) -> Tensor:
    drawn = torch.rand(count, channels, side, side, generator=generator(1), dtype=torch.float64)
    return (2 * drawn - 1).to(dtype)


def probability(p: float) -> Tensor:
    return torch.tensor(p)


# Both


@both
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [8, 28, 128])
def test_images_keep_their_shape_and_type(augment: Augment, channels: int, side: int) -> None:
    augment.check((channels, side, side))
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        x = images(2, channels, side, dtype)
        out = augment(x, probability(1.0), generator())
        assert (out.shape, out.dtype) == (x.shape, dtype)
        assert out.isfinite().all()
        assert not torch.equal(out, x)


@both
def test_the_same_generator_gives_the_same_images_and_the_global_one_is_left_alone(augment: Augment) -> None:
    before = torch.random.get_rng_state()
    first, second = (augment(images(), probability(0.7), generator(3)) for _ in range(2))
    other = augment(images(), probability(0.7), generator(4))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), before)


@both
@pytest.mark.parametrize("channels", [1, 3])
def test_each_image_is_transformed_by_itself(augment: Augment, channels: int) -> None:
    """Another image in its place changes that one only, and each result depends on its own image alone."""
    x = images(5, channels)
    changed = x.clone()
    changed[2] = images(6, channels)[5]
    before, after = (augment(v, probability(1.0), generator(2)) for v in (x, changed))
    same = [torch.equal(a, b) for a, b in zip(before, after, strict=True)]
    assert same == [True, True, False, True, True]
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(augment(x, probability(1.0), generator(2))[3].square().sum(), x)
    assert (gradient.flatten(1).abs().sum(dim=1) > 0).tolist() == [False, False, False, True, False]


@both
def test_images_of_one_batch_are_transformed_differently(augment: Augment) -> None:
    one = images(1).expand(4, -1, -1, -1)
    out = augment(one, probability(1.0), generator(2))
    assert len({tuple(x.flatten().tolist()) for x in out}) == 4


@both
def test_first_and_second_derivatives_agree_with_finite_differences(augment: Augment) -> None:
    x = images(1, 3, 4).requires_grad_()
    weight = torch.linspace(-0.05, 0.1, 48, dtype=torch.float64)  # so small that the tanh is not at its end

    def logits(x: Tensor) -> Tensor:
        return torch.tanh(augment(x, probability(0.8), generator(2)).flatten(1) @ weight)

    assert logits(x).abs().max() < 0.95
    assert torch.autograd.gradcheck(logits, (x,))
    assert torch.autograd.gradgradcheck(logits, (x,))


@both
def test_a_gradient_penalty_on_images_reaches_the_weights_through_it(augment: Augment) -> None:
    x = images(2, 3, 4).requires_grad_()
    weight = torch.linspace(-0.05, 0.1, 48, dtype=torch.float64, requires_grad=True)

    def penalty(weight: Tensor) -> Tensor:
        logits = torch.tanh(augment(x, probability(1.0), generator(2)).flatten(1) @ weight)
        (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
        return gradient.square().sum()

    assert penalty(weight).item() > 1e-3
    assert torch.autograd.gradcheck(penalty, (weight,))


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


@pytest.mark.parametrize("shape", [(2,), (2, 8, 8), (3, 8, 16)])
def test_ada_refuses_what_is_not_a_square_image_in_grey_or_colour(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="square images of 1 or 3 channels"):
        ADAPTIVE.check(shape)


# DiffAugment


@pytest.mark.parametrize("channels", [1, 3])
def test_colour_follows_the_papers_formulas(channels: int) -> None:
    x = images(5, channels, 3)
    brightness, saturation, contrast = torch.rand(3, 5, generator=generator(2)).tolist()
    out = colour(x, generator(2))
    for image, b, s, c, found in zip(x.tolist(), brightness, saturation, contrast, out.tolist(), strict=True):
        pixels = [[image[k][i][j] + b - 0.5 for k in range(channels)] for i in range(3) for j in range(3)]
        greys = [sum(pixel) / channels for pixel in pixels]
        pixels = [[g + 2 * s * (v - g) for v in pixel] for pixel, g in zip(pixels, greys, strict=True)]
        level = sum(map(sum, pixels)) / (9 * channels)
        expected = [[level + (c + 0.5) * (v - level) for v in pixel] for pixel in pixels]
        for place, pixel in enumerate(expected):
            i, j = divmod(place, 3)
            assert [found[k][i][j] for k in range(channels)] == pytest.approx(pixel, abs=1e-6)


def moved_with_zeros(image: Tensor, down: int, right: int) -> Tensor:
    """One image on a sheet of zeros, cut out anew."""
    side = image.shape[-1]
    sheet = torch.nn.functional.pad(image, (side, side, side, side))
    return sheet[:, side - down : 2 * side - down, side - right : 2 * side - right]


@pytest.mark.parametrize(("side", "reach"), [(8, 1), (16, 2), (28, 4)])
def test_translation_moves_by_whole_pixels_and_zeros_move_in(side: int, reach: int) -> None:
    x = images(150, 2, side)
    out = translation(x, generator(2))
    found = []
    for before, after in zip(x, out, strict=True):
        which = [
            (down, right)
            for down in range(-reach, reach + 1)
            for right in range(-reach, reach + 1)
            if torch.equal(moved_with_zeros(before, down, right), after)
        ]
        assert len(which) == 1
        found += which
    for steps in zip(*found, strict=True):  # each step about equally often
        counts = [steps.count(step) for step in range(-reach, reach + 1)]
        share = 1 / len(counts)
        assert all(abs(n - 150 * share) < 4 * math.sqrt(150 * share * (1 - share)) for n in counts)
    assert any(down != right for down, right in found)


@pytest.mark.parametrize(("side", "size"), [(8, 4), (10, 5), (28, 14)])
def test_cutout_zeroes_exactly_a_square(side: int, size: int) -> None:
    x = images(200, 3, side) + 2  # no zeros of its own
    out = cutout(x, generator(2))
    whole = 0
    for before, after in zip(x, out, strict=True):
        hole = (after == 0).all(dim=0)
        assert torch.equal(hole, (after == 0).any(dim=0))  # of all channels alike
        assert torch.equal(after, torch.where(hole, 0.0, before))
        rows, columns = hole.any(dim=1).nonzero().flatten(), hole.any(dim=0).nonzero().flatten()
        height, width = (int(v[-1] - v[0]) + 1 for v in (rows, columns))
        assert hole.sum().item() == height * width  # full
        # Smaller only where it hangs over an edge, and then by at most half.
        for at, length in ((rows, height), (columns, width)):
            assert size // 2 <= length <= size
            assert length == size or at[0] == 0 or at[-1] == side - 1
        whole += height == width == size
    assert 0 < whole < 200


@pytest.mark.parametrize("policy", [("translation",), ("cutout", "colour"), ("colour", "translation")])
def test_only_what_the_policy_names_is_done_in_the_papers_order(policy: tuple[str, ...]) -> None:
    steps: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
        "colour": colour,
        "translation": translation,
        "cutout": cutout,
    }
    random, expected = generator(2), images()
    for name, step in steps.items():
        if name in policy:
            expected = step(expected, random)
    found = DiffAugment(policy=policy)(images(), probability(1.0), generator(2))
    assert torch.equal(found, expected)


def test_diffaugment_has_no_probability_to_adapt() -> None:
    p = probability(0.3)
    assert EVERY.initial == 1.0
    assert EVERY.adapt(p, probability(1.0), 1000) is p
    first, second = (EVERY(images(), probability(q), generator(2)) for q in (0.0, 1.0))
    assert torch.equal(first, second)


def test_diffaugment_refuses_points() -> None:
    with pytest.raises(ValueError, match="these samples are points"):
        EVERY.check((2,))


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: ADA(initial=1.5, target=0.6, speed=1.0), "initial"),
        (lambda: ADA(initial=0.0, target=2.0, speed=1.0), "target"),
        (lambda: ADA(initial=0.0, target=0.6, speed=0.0), "speed"),
        (lambda: ADA(initial=0.0, target=0.6, speed=math.nan), "speed"),
        (lambda: DiffAugment(policy=()), "policy"),
        (lambda: DiffAugment(policy=("color",)), "policy"),
    ],
)
def test_options_out_of_range_are_refused_by_name(make: Callable[[], object], name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be"):
        make()
