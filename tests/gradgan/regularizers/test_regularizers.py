"""`gradgan.regularizers`: the formulas in plain Python, their memories, small discriminators."""

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from core.state import StateDict, copied
from gradgan.batch import ScoredBatch
from gradgan.regularizers import Regularizer
from gradgan.regularizers.consistency import Consistency
from gradgan.regularizers.lecam import LeCam
from gradgan.regularizers.weight_clipping import WeightClipping

LECAM = LeCam(weight=0.3, decay=0.9, warm_up=1)
OPTIONS = {"weight": 10.0, "balanced": False, "shift": 2, "mirror": True, "interval": 1}
CONSISTENCY = Consistency(**OPTIONS)
ALL = [LECAM, CONSISTENCY, WeightClipping(bound=0.5)]


def images(seed: int = 0, count: int = 6, side: int = 8, channels: int = 3) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return 2 * torch.rand(count, channels, side, side, generator=random, dtype=torch.float64) - 1


def seen(
    discriminate: Callable[[Tensor], Tensor], real: Tensor | None = None, fake: Tensor | None = None
) -> ScoredBatch:
    real = images(1) if real is None else real
    fake = images(2) if fake is None else fake
    return ScoredBatch(
        discriminate=discriminate,
        real=real,
        real_logits=discriminate(real),
        fake=fake,
        fake_logits=discriminate(fake),
        progress=0.0,
        random=torch.Generator().manual_seed(5),
    )


def with_logits(real: list[float], fake: list[float]) -> ScoredBatch:
    """A round where the samples are their own logits; both can be differentiated."""
    x, y = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (real, fake))
    return seen(lambda x: x, x, y)


def means(real: float, fake: float, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    return {"logits/real": torch.tensor(real, dtype=dtype), "logits/fake": torch.tensor(fake, dtype=dtype)}


# LeCam


def test_lecam_counts_what_passes_the_other_kinds_average_squared() -> None:
    real, fake = [1.5, -2.0, 0.5], [-1.0, 0.75, 2.0]
    state = {"real": torch.tensor(0.5), "fake": torch.tensor(-0.25)}
    above = sum(max(0.0, r + 0.25) ** 2 for r in real) / 3
    below = sum(max(0.0, 0.5 - f) ** 2 for f in fake) / 3
    term, metrics = LECAM.loss(with_logits(real, fake), 1, state)
    assert term is not None
    assert term.item() == pytest.approx(0.3 * (above + below), rel=1e-12)
    assert metrics["regularizer/lecam"].item() == pytest.approx(above + below, rel=1e-12)
    assert not metrics["regularizer/lecam"].requires_grad


def test_lecam_pulls_each_logit_back_by_twice_its_excess() -> None:
    shown = with_logits([1.5, -2.0, 0.5], [-1.0, 0.75, 2.0])
    state = {"real": torch.tensor(0.5), "fake": torch.tensor(-0.25)}
    term, _ = LECAM.loss(shown, 1, state)
    at_real, at_fake = torch.autograd.grad(term, (shown.real, shown.fake))
    assert at_real.tolist() == pytest.approx([0.1 * 2 * e for e in (1.75, 0.0, 0.75)], rel=1e-6)
    assert at_fake.tolist() == pytest.approx([-0.1 * 2 * e for e in (1.5, 0.0, 0.0)], rel=1e-6)


def test_lecams_averages_begin_at_the_first_update_and_then_follow() -> None:
    state: StateDict = {}
    real, fake = [2.0, 1.0, 4.0, -1.0], [-3.0, 0.0, 1.0, 5.0]
    expected = (real[0], fake[0])
    for step, values in enumerate(zip(real, fake, strict=True)):
        LECAM.after(nn.Identity(), means(*values), state)
        if step > 0:
            expected = tuple(0.9 * old + 0.1 * new for old, new in zip(expected, values, strict=True))
        assert (state["real"].item(), state["fake"].item()) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 1, 3])
def test_what_is_not_finite_stays_out_of_lecams_averages_wherever_it_comes(odd: float, place: int) -> None:
    """The averages of the finite values alone, each kind by itself, in plain Python."""
    state: StateDict = {}
    real, fake = [2.0, 1.0, 4.0, -1.0], [-3.0, 0.0, 1.0, 5.0]
    expected = [real[1 if place == 0 else 0], fake[0]]
    for step, values in enumerate(zip(real, fake, strict=True)):
        LECAM.after(nn.Identity(), means(odd if step == place else values[0], values[1]), state)
        if step > (1 if place == 0 else 0) and step != place:
            expected[0] = 0.9 * expected[0] + 0.1 * values[0]
        if step > 0:
            expected[1] = 0.9 * expected[1] + 0.1 * values[1]
    assert [state["real"].item(), state["fake"].item()] == pytest.approx(expected, rel=1e-12)


def test_lecams_averages_do_not_stop_in_the_precision_of_bfloat16() -> None:
    """From 1 towards 2 by hundredths of the way: in bfloat16 itself they would stop at 1.6."""
    slow = LeCam(weight=1.0, decay=0.99, warm_up=1)
    state: StateDict = {}
    slow.after(nn.Identity(), means(1.0, 1.0, torch.bfloat16), state)
    for _ in range(1000):
        slow.after(nn.Identity(), means(2.0, 2.0, torch.bfloat16), state)
    assert state["real"].dtype == torch.float32
    assert state["real"].item() == pytest.approx(2 - 0.99**1000, abs=1e-4)


def test_lecam_waits_until_its_averages_have_settled() -> None:
    shown = with_logits([1.0], [-1.0])
    late = LeCam(weight=1.0, decay=0.9, warm_up=3)
    state = {"real": torch.tensor(1.0), "fake": torch.tensor(-1.0)}
    assert [late.loss(shown, update, state)[0] is None for update in range(5)] == [True] * 3 + [False] * 2
    assert late.loss(shown, 4, {}) == (
        None,
        {},
    )  # a run that continues without its state starts the averages again


def test_lecams_memory_survives_being_saved(tmp_path: str) -> None:
    state: StateDict = {}
    for step in range(3):
        LECAM.after(nn.Identity(), means(float(step), -float(step)), state)
    torch.save(state, f"{tmp_path}/state.pt")
    again = torch.load(f"{tmp_path}/state.pt", weights_only=True)
    shown = with_logits([1.5, 0.3], [0.1, -2.0])
    assert torch.equal(LECAM.loss(shown, 3, state)[0], LECAM.loss(shown, 3, again)[0])


def test_lecams_memory_holds_no_graph_and_is_not_the_metric_itself() -> None:
    state: StateDict = {}
    metrics = means(1.0, -1.0)
    LECAM.after(nn.Identity(), metrics, state)
    metrics["logits/real"] += 5
    assert state["real"].item() == 1.0
    assert not state["real"].requires_grad


# Consistency


def brute(image: list[list[list[float]]], down: int, right: int, mirrored: bool) -> list[list[list[float]]]:
    """An image [C][H][W] of lists, mirrored, then shifted, with its border repeated."""
    height, width = len(image[0]), len(image[0][0])
    flipped = [[row[::-1] if mirrored else row for row in channel] for channel in image]
    return [
        [
            [
                channel[min(max(i - down, 0), height - 1)][min(max(j - right, 0), width - 1)]
                for j in range(width)
            ]
            for i in range(height)
        ]
        for channel in flipped
    ]


def choices(shift: int, mirror: bool) -> list[tuple[int, int, bool]]:
    steps = range(-shift, shift + 1)
    return [(d, r, m) for d in steps for r in steps for m in ((False, True) if mirror else (False,))]


def found_choices(regularizer: Consistency, x: Tensor) -> list[tuple[int, int, bool]]:
    """By which of all possible moves each image was moved, found by trying them."""
    moved = regularizer.transformed(x, torch.Generator().manual_seed(3)).tolist()
    found = []
    for before, after in zip(x.tolist(), moved, strict=True):
        which = [c for c in choices(regularizer.shift, regularizer.mirror) if brute(before, *c) == after]
        assert len(which) == 1, "not a shift and a mirroring with a repeated border"
        found.append(which[0])
    return found


def test_consistency_moves_each_image_by_whole_pixels_and_mirrors_half_of_them() -> None:
    found = found_choices(CONSISTENCY, images(count=200, side=6, channels=2))
    down, right, mirrored = (torch.tensor(column) for column in zip(*found, strict=True))
    for steps in (down, right):
        counts = torch.bincount(steps + 2, minlength=5)
        assert counts.min() > 40 - 3 * math.sqrt(200 * 0.2 * 0.8)  # 40 of each are expected
    assert abs(mirrored.float().mean().item() - 0.5) < 3 * math.sqrt(0.25 / 200)
    assert (down != right).any()


def test_consistency_without_mirroring_only_shifts_and_without_shifts_only_mirrors() -> None:
    shifting = Consistency(**OPTIONS | {"mirror": False})
    assert not any(mirrored for *_, mirrored in found_choices(shifting, images(count=30)))
    mirroring = Consistency(**OPTIONS | {"shift": 0})
    assert {(d, r) for d, r, _ in found_choices(mirroring, images(count=30))} == {(0, 0)}


def curved(x: Tensor) -> Tensor:
    """A discriminator that notices every shift: logits [B] from each pixel's own weight, squared."""
    weight = torch.linspace(-1, 2, x[0].numel(), dtype=x.dtype)
    return (x.flatten(1) * weight).sum(dim=1) + (x.flatten(1).square() * weight.square()).sum(dim=1)


@pytest.mark.parametrize("balanced", [False, True])
def test_consistency_is_the_squared_difference_of_the_logits(balanced: bool) -> None:
    regularizer = Consistency(**OPTIONS | {"balanced": balanced})
    shown = seen(curved)
    random = torch.Generator().manual_seed(5)
    expected = 0.0
    for kind in (shown.real, shown.fake) if balanced else (shown.real,):
        moved = regularizer.transformed(kind, random)
        pairs = zip(curved(kind).tolist(), curved(moved).tolist(), strict=True)
        expected += sum((a - b) ** 2 for a, b in pairs) / len(kind)
    term, metrics = regularizer.loss(shown, 0, {})
    assert term is not None
    assert term.item() == pytest.approx(10 * expected, rel=1e-12)
    assert metrics["regularizer/consistency"].item() == pytest.approx(expected, rel=1e-12)


def test_a_discriminator_of_the_mean_colour_of_flat_images_costs_nothing() -> None:
    flat = torch.linspace(-1, 1, 6, dtype=torch.float64).reshape(6, 1, 1, 1).expand(6, 3, 8, 8)
    term, _ = CONSISTENCY.loss(seen(lambda x: x.mean(dim=(1, 2, 3)), flat, flat), 0, {})
    assert term is not None
    assert term.item() == pytest.approx(0.0, abs=1e-20)


def test_consistencys_gradient_reaches_the_weights_through_both_logits() -> None:
    weight = torch.linspace(-1, 1, 48, dtype=torch.float64, requires_grad=True)

    def term(weight: Tensor) -> Tensor:
        found, _ = CONSISTENCY.loss(
            seen(lambda x: torch.tanh(x.flatten(1) @ weight), images(1, side=4), images(2, side=4)), 0, {}
        )
        assert found is not None
        return found

    assert torch.autograd.gradcheck(term, (weight,))


def test_balanced_consistency_carries_the_graph_of_generated_samples() -> None:
    theta = torch.tensor([0.7, -0.4], dtype=torch.float64, requires_grad=True)
    balanced = Consistency(**OPTIONS | {"balanced": True})
    noise = images(2, side=4)

    def term(theta: Tensor) -> Tensor:
        found, _ = balanced.loss(
            seen(curved, images(1, side=4), torch.tanh(theta[0] * noise + theta[1])), 0, {}
        )
        assert found is not None
        return found

    assert torch.autograd.gradcheck(term, (theta,))


@pytest.mark.parametrize("interval", [1, 2, 8])
def test_lazy_consistency_has_the_same_mean_over_updates(interval: int) -> None:
    lazy = Consistency(**OPTIONS | {"interval": interval})
    terms = [lazy.loss(seen(curved), update, {})[0] for update in range(16)]
    assert [update for update, term in enumerate(terms) if term is not None] == list(range(0, 16, interval))
    every, _ = CONSISTENCY.loss(seen(curved), 0, {})
    assert every is not None
    assert sum(t.item() for t in terms if t is not None) / 16 == pytest.approx(every.item())


def test_consistency_refuses_points_and_shifts_out_of_the_frame() -> None:
    with pytest.raises(ValueError, match="these samples are points"):
        CONSISTENCY.check((2,))
    with pytest.raises(ValueError, match="shift=2 pixels would move images of 2x2 out of their frame"):
        CONSISTENCY.check((1, 2, 2))
    CONSISTENCY.check((1, 8, 8))


# Weight clipping


def test_weight_clipping_cuts_every_parameter_and_leaves_small_ones() -> None:
    network = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 1)).double()
    random = torch.Generator().manual_seed(0)
    for p in network.parameters():
        p.data = torch.randn(p.shape, generator=random, dtype=torch.float64)
    before = copy.deepcopy(list(network.parameters()))
    WeightClipping(bound=0.5).after(network, means(0.0, 0.0), {})
    for old, new in zip(before, network.parameters(), strict=True):
        expected = [min(max(v, -0.5), 0.5) for v in old.flatten().tolist()]
        assert new.flatten().tolist() == expected
        assert new.requires_grad
    assert sum(int((p.abs() == 0.5).sum()) for p in network.parameters()) > 3


def test_weight_clipping_bounds_the_slope_of_a_critic() -> None:
    network = nn.Linear(4, 1).double()
    nn.init.constant_(network.weight, 7.0)
    WeightClipping(bound=0.01).after(network, means(0.0, 0.0), {})
    assert network.weight.norm().item() == pytest.approx(0.01 * 2)


def test_weight_clipping_adds_no_term() -> None:
    assert WeightClipping(bound=0.01).loss(seen(curved), 0, {}) == (None, {})


# All of them


@pytest.mark.parametrize("regularizer", ALL, ids=lambda r: type(r).__name__)
def test_asking_twice_gives_the_same_term_and_changes_no_memory(regularizer: Regularizer) -> None:
    state: StateDict = {}
    regularizer.after(nn.Linear(1, 1), means(1.0, -1.0), state)
    before = copied(state)
    first, _ = regularizer.loss(seen(curved), 2, state)
    second, _ = regularizer.loss(seen(curved), 2, state)
    assert state == before
    assert (first is None) == (second is None)
    assert first is None or torch.equal(first, second)


@pytest.mark.parametrize("regularizer", [LECAM, WeightClipping(bound=0.5)], ids=lambda r: type(r).__name__)
@pytest.mark.parametrize("shape", [(2,), (1, 8, 8)])
def test_any_samples_are_taken(regularizer: Regularizer, shape: tuple[int, ...]) -> None:
    regularizer.check(shape)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: LeCam(weight=-1.0, decay=0.9, warm_up=1), "weight"),
        (lambda: LeCam(weight=1.0, decay=1.0, warm_up=1), "decay"),
        (lambda: LeCam(weight=1.0, decay=0.9, warm_up=0), "warm_up"),
        (lambda: Consistency(**OPTIONS | {"weight": float("inf")}), "weight"),
        (lambda: Consistency(**OPTIONS | {"shift": -1}), "shift"),
        (lambda: Consistency(**OPTIONS | {"shift": 0, "mirror": False}), "shift"),
        (lambda: Consistency(**OPTIONS | {"interval": 0}), "interval"),
        (lambda: WeightClipping(bound=0.0), "bound"),
    ],
)
def test_options_out_of_range_are_refused_by_name(make: Callable[[], object], name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be"):
        make()
