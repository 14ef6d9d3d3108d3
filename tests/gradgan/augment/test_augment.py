"""`gradgan.augment`: derivatives and independence of both kinds, and what DiffAugment does to pixels."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from gradgan.augment import Augment
from gradgan.augment.ada import ADA
from gradgan.augment.diffaugment import DiffAugment, colour, cutout, translation

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
    """One image on a sheet of zeros, cut out again."""
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
