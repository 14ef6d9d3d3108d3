import math

import pytest
import torch
from torch import nn

from core.gradients import GlobalNorm, GradientView, PerLayerNorm, Value
from core.gradients.transforms.clipping import clip_to


def view(*gradients: torch.Tensor) -> GradientView:
    return GradientView([str(i) for i in range(len(gradients))], list(gradients), list(gradients))


def random_gradients() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(5, 3, generator=generator), torch.randn(7, generator=generator)]


@pytest.mark.parametrize("max_norm", [0.1, 2.0, 1e3])
def test_global_norm_clips_as_torch_does(max_norm):
    ours, theirs = random_gradients(), [nn.Parameter(torch.zeros_like(g)) for g in random_gradients()]
    for parameter, gradient in zip(theirs, random_gradients(), strict=True):
        parameter.grad = gradient
    nn.utils.clip_grad_norm_(theirs, max_norm)
    GlobalNorm(max_norm=max_norm)(view(*ours), {})
    for gradient, parameter in zip(ours, theirs, strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-6, atol=0)


def test_a_gradient_within_the_norm_keeps_every_bit():
    gradients = random_gradients()
    GlobalNorm(max_norm=100.0)(view(*gradients), {})
    for clipped, original in zip(gradients, random_gradients(), strict=True):
        assert torch.equal(clipped, original)


def test_the_norms_follow_a_clip_without_another_pass():
    gradients = random_gradients()
    seen = view(*gradients)
    _ = seen.norms
    GlobalNorm(max_norm=0.5)(seen, {})
    fresh = view(*gradients)
    torch.testing.assert_close(seen.norms, fresh.norms, rtol=1e-6, atol=0)
    assert seen.norm.item() == pytest.approx(0.5, rel=1e-5)


def test_per_layer_norm_clips_each_gradient_as_torch_clips_it_alone():
    ours, theirs = random_gradients(), [nn.Parameter(torch.zeros_like(g)) for g in random_gradients()]
    ours[1] *= 0.01
    for parameter, gradient in zip(theirs, ours, strict=True):
        parameter.grad = gradient.clone()
        nn.utils.clip_grad_norm_([parameter], 0.5)
    seen = view(*ours)
    _ = seen.norm
    quiet = ours[1].clone()
    PerLayerNorm(max_norm=0.5)(seen, {})
    for gradient, parameter in zip(ours, theirs, strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-6, atol=0)
    assert torch.equal(ours[1], quiet)
    torch.testing.assert_close(seen.norms, view(*ours).norms, rtol=1e-6, atol=0)
    assert seen.norm.item() == pytest.approx(torch.linalg.vector_norm(view(*ours).norms).item(), rel=1e-6)


def test_value_clips_every_component_and_the_norms_are_those_after_it():
    gradients = [torch.tensor([3.0, -0.2, -9.0])]
    seen = view(*gradients)
    assert seen.norm.item() > 9
    Value(max_value=0.5)(seen, {})
    assert gradients[0].tolist() == pytest.approx([0.5, -0.2, -0.5])
    assert seen.norm.item() == pytest.approx((0.25 + 0.04 + 0.25) ** 0.5)


def test_clipping_reaches_the_values_of_a_sparse_gradient():
    sparse = torch.sparse_coo_tensor([[0, 3]], [3.0, 4.0], (5,)).coalesce()
    GlobalNorm(max_norm=1.0)(view(sparse), {})
    assert sparse.to_dense().tolist() == pytest.approx([0.6, 0, 0, 0.8, 0], rel=1e-5)


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_a_threshold_must_be_finite_and_positive(bad):
    with pytest.raises(ValueError, match="max_norm must be"):
        GlobalNorm(max_norm=bad)
    with pytest.raises(ValueError, match="max_norm must be"):
        PerLayerNorm(max_norm=bad)
    with pytest.raises(ValueError, match="max_value must be"):
        Value(max_value=bad)


@pytest.mark.parametrize("dtypes", [[torch.float32] * 2, [torch.float32, torch.float64]])
def test_shrinking_by_a_tensor_is_multiplication_by_its_number(dtypes):
    gradients = [torch.randn(50, generator=torch.Generator().manual_seed(0)).to(dtype) for dtype in dtypes]
    expected = [g * (1 / 3) for g in gradients]
    seen = view(*gradients)
    seen.shrink_(torch.tensor(1 / 3, dtype=torch.float64))
    assert all(torch.equal(g, e) and g.dtype == e.dtype for g, e in zip(gradients, expected, strict=True))
    torch.testing.assert_close(seen.norms, view(*expected).norms, rtol=1e-6, atol=0.0)


@pytest.mark.parametrize(
    ("norm", "threshold", "factor"),
    [(4.0, 1.0, 0.25), (1.0, 1.0, 1.0), (0.5, 1.0, 1.0), (0.0, 0.0, 1.0), (0.0, math.nan, 1.0),
     (math.nan, 1.0, 1.0), (math.inf, 2.0, 0.0)],
)  # fmt: skip
def test_no_factor_is_nan_because_an_accelerator_multiplies_by_it(norm, threshold, factor):
    class Recorded(GradientView):
        def shrink_(self, factor):
            self.factor = factor.item()

    seen = Recorded(["w"], [], [])
    seen._norm = torch.tensor(norm, dtype=torch.float64)
    clip_to(seen, torch.tensor(threshold, dtype=torch.float64))
    assert seen.factor == factor
