"""What every transform must bear: any dtype, emptiness, zeros, non-finite numbers, a save in the middle."""

import io
import math

import pytest
import torch
from torch import nn

from core.gradients import (
    AGC,
    AdaGC,
    AutoClip,
    Centralize,
    Chain,
    GlobalNorm,
    GradientNoise,
    GradientStep,
    GradientView,
    PCGrad,
    PerLayerNorm,
    SkipNonFinite,
    Value,
    ZClip,
    as_transforms,
)

TRANSFORMS = [
    GlobalNorm(max_norm=0.05),
    PerLayerNorm(max_norm=0.03),
    Value(max_value=0.01),
    AGC(clipping=0.02),
    AutoClip(percentile=40, window=6),
    ZClip(warmup_steps=4, z_threshold=0.5, alpha=0.8),
    AdaGC(warmup_steps=4, lambda_abs=0.1, beta=0.8),
    Centralize(),
    GradientNoise(eta=1e-4),
    SkipNonFinite(max_consecutive=3),
]
CLIPPERS = [
    *TRANSFORMS,
    PCGrad(),
    Chain(
        transforms=(SkipNonFinite(), PCGrad(), Centralize(), GradientNoise(eta=1e-4), ZClip(warmup_steps=4))
    ),
]


def name_of(transform: object) -> str:
    return type(transform).__name__


def view(gradients: list[torch.Tensor]) -> GradientView:
    weights = [torch.ones(g.shape, dtype=g.dtype) for g in gradients]
    return GradientView([f"layer{i}" for i in range(len(gradients))], weights, gradients)


def mixed(scale: float = 1.0) -> list[torch.Tensor]:
    """Gradients of every dtype, shape and kind that can meet in one step."""
    generator = torch.Generator().manual_seed(0)
    kinds = [((3, 4), torch.float16), ((5,), torch.bfloat16), ((2, 3, 2, 2), torch.float32)]
    kinds += [((4, 2), torch.float64), ((), torch.float32), ((0, 3), torch.float32), ((3, 0), torch.float16)]
    gradients = [(torch.randn(s, generator=generator) * scale).to(dtype) for s, dtype in kinds]
    sparse = torch.sparse_coo_tensor([[0, 3]], torch.randn(2, 3, generator=generator) * scale, (5, 3))
    return [*gradients, sparse.coalesce()]


def whole(gradients: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat([(g.to_dense() if g.is_sparse else g).flatten().double() for g in gradients])


@pytest.mark.parametrize("transform", TRANSFORMS, ids=name_of)
def test_dtypes_mix_and_the_norms_are_those_after_it(transform):
    state = {}
    for scale in (1.0, 30.0, 1e-3, 5.0, 1.0, 100.0):
        gradients, exact = mixed(scale), [g.to_dense().double() for g in mixed(scale)]
        seen = view(gradients)
        _ = seen.norm
        transform(seen, state)
        assert whole(gradients).isfinite().all()
        assert [g.dtype for g in gradients] == [g.dtype for g in mixed()]
        torch.testing.assert_close(seen.norms, view(gradients).norms, rtol=5e-3, atol=1e-6)
    if isinstance(transform, GradientNoise):
        return  # the noise of another dtype is another one
    wide = view([g.double() for g in exact])
    reference_state = {}
    for scale in (1.0, 30.0, 1e-3, 5.0, 1.0, 100.0):
        wide = view([g.to_dense().double() for g in mixed(scale)])
        transform(wide, reference_state)
    # bfloat16 carries 8 bits.
    error = (whole(gradients) - whole(list(wide.values))).norm() / whole(list(wide.values)).norm()
    assert error < 5e-3


@pytest.mark.parametrize("transform", TRANSFORMS, ids=name_of)
def test_zero_gradients_and_zero_weights_make_no_nan(transform):
    state = {}
    for _ in range(6):
        gradients = [torch.zeros(3, 2), torch.zeros(4), torch.zeros(0, 2)]
        transform(GradientView(["a", "b", "c"], [torch.zeros_like(g) for g in gradients], gradients), state)
        assert whole(gradients).isfinite().all()
        if not isinstance(transform, GradientNoise):
            assert whole(gradients).abs().max() == 0
    gradients = [torch.ones(3, 2), torch.ones(4), torch.zeros(0, 2)]
    transform(GradientView(["a", "b", "c"], [torch.zeros_like(g) for g in gradients], gradients), state)
    assert whole(gradients).isfinite().all()


@pytest.mark.parametrize("transform", TRANSFORMS, ids=name_of)
@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_a_non_finite_gradient_raises_nothing_and_poisons_no_state(transform, poison):
    def run(poisoned_steps):
        state, last = {}, []
        for step in range(12):
            last = [torch.full((2, 2), 0.1 + step), torch.full((3,), 0.2)]
            if step in poisoned_steps:
                last[1][1] = poison
            transform(view(last), state)
        for value in state.values():
            if isinstance(value, torch.Tensor) and value.shape != (6,):  # AutoClip's window starts as NaN
                assert value.isfinite().all()
        return last

    assert whole(run({0, 3, 6, 7})).isfinite().all()
    if not isinstance(transform, AutoClip | ZClip | AdaGC):
        assert torch.equal(whole(run({0, 3, 6, 7})), whole(run(set())))


@pytest.mark.parametrize(
    "transform", [t for t in TRANSFORMS if not isinstance(t, SkipNonFinite | GradientNoise)], ids=name_of
)
def test_no_number_is_read_back_from_an_accelerator(transform):
    """On the meta device there are no numbers: whatever asks for one raises."""
    state = {}
    for step in range(6):
        gradients = [torch.zeros(3, 2, device="meta"), torch.zeros(4, device="meta")]
        transform(GradientView(["a", "b"], [torch.zeros_like(g) for g in gradients], gradients), state)
        if step and "steps" not in state:
            assert all(value.is_meta for value in state.values())


def test_surgery_reads_no_number_back_either():
    losses = {name: [torch.zeros(3, 2, device="meta"), torch.zeros(4, device="meta")] for name in "abc"}
    assert all(g.is_meta for g in PCGrad().combine(losses, {}))


def make(clipper, seed: int = 0) -> tuple[nn.Module, GradientStep]:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2, fused=True)
    return net, GradientStep(net, optimizer, as_transforms(clipper))


def train(net: nn.Module, step: GradientStep, first: int, last: int) -> None:
    for index in range(first, last):
        generator = torch.Generator().manual_seed(index)
        x, y = torch.randn(8, 4, generator=generator), torch.randn(8, 2, generator=generator)
        poison = math.nan if index % 9 == 5 else 1.0

        def closure(x=x, y=y, poison=poison):
            error = net(x) - y
            return {"first": error[:, 0].square().mean() * poison, "second": error[:, 1].square().mean()}, {}

        step(closure)


@pytest.mark.parametrize("clipper", CLIPPERS, ids=name_of)
def test_a_step_saved_in_the_middle_continues_bit_for_bit(clipper):
    net, step = make(clipper)
    train(net, step, 0, 8)
    file = io.BytesIO()
    torch.save({"net": net.state_dict(), "step": step.state_dict()}, file)
    kept = step.state_dict()["transforms"]
    train(net, step, 8, 20)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    # A state that was taken is not written into by the steps after it.
    for state, same in zip(kept, saved["step"]["transforms"], strict=True):
        for key, value in state.items():
            if isinstance(value, torch.Tensor):
                torch.testing.assert_close(value, same[key], rtol=0, atol=0, equal_nan=True)
            else:
                assert value == same[key]
    again, resumed = make(clipper, seed=1)
    again.load_state_dict(saved["net"])
    resumed.load_state_dict(saved["step"])
    torch.manual_seed(99)
    train(again, resumed, 8, 20)
    assert step.monitor.drain() == resumed.monitor.drain()
    for ours, theirs in zip(net.parameters(), again.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_under_float16_the_history_holds_unscaled_norms_and_no_overflow():
    """A gradient of 2 overflows float16 at the loss scales 65536 and 32768; the third step goes through."""
    net = nn.Linear(4, 1)
    step = GradientStep(
        net, torch.optim.SGD(net.parameters(), lr=1.0), [AutoClip(percentile=100)], precision="float16"
    )
    before = net.weight.detach().clone()
    for _ in range(3):
        step(lambda: (net(torch.ones(2, 4)).float().sum(), {}))
    assert step.monitor.drain()["gradient/skipped"] == pytest.approx(2 / 3)
    torch.testing.assert_close(before - net.weight.detach(), torch.full((1, 4), 2.0), rtol=1e-3, atol=0)
    norms = step.transform_states[0]["norms"]
    assert norms[norms.isfinite()].tolist() == pytest.approx([math.sqrt(5 * 2**2)], rel=1e-3)
