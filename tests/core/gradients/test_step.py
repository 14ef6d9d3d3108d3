"""GradientStep against plain torch: same maths, same bits."""

import copy

import pytest
import torch
from torch import nn

from core.gradients import GlobalNorm, GradientStep, MonitorConfig, Value


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))


def batches(count: int, size: int = 16) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(size, 4, generator=generator), torch.randn(size, 2, generator=generator))
        for _ in range(count)
    ]


def loss_of(net: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    return (net(batch[0]) - batch[1]).square().mean()


def adam(net: nn.Module, fused: bool = True) -> torch.optim.Adam:
    return torch.optim.Adam(net.parameters(), lr=1e-2, fused=fused)


@pytest.mark.parametrize("sample_interval", [2, 1000])
def test_training_is_bit_identical_to_the_plain_loop_whatever_is_measured(sample_interval):
    ours, plain = network(), network()
    monitor = MonitorConfig(sample_interval=sample_interval)
    step = GradientStep(ours, adam(ours), [Value(max_value=0.01)], monitor=monitor)
    optimizer = adam(plain)
    for batch in batches(25):
        step(lambda batch=batch: (loss_of(ours, batch), {}))
        optimizer.zero_grad()
        loss_of(plain, batch).backward()
        nn.utils.clip_grad_value_(plain.parameters(), 0.01)
        optimizer.step()
        step.monitor.drain()
    for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
        assert torch.equal(a, b)


def test_only_its_own_parameters_receive_a_gradient():
    first, second = network(0), nn.Linear(2, 1)
    step = GradientStep(first, adam(first))
    step(lambda: (second(first(torch.ones(3, 4))).mean(), {}))
    assert all(p.grad is None for p in second.parameters())
    assert all(p.grad is not None for p in first.parameters())


def test_micro_batches_give_the_gradient_of_the_whole_batch():
    whole, parts = network(), network()
    (x, y), *_ = batches(1, size=32)
    one = GradientStep(whole, torch.optim.SGD(whole.parameters(), lr=0.1))
    one(lambda: (loss_of(whole, (x, y)), {}))
    several = GradientStep(parts, torch.optim.SGD(parts.parameters(), lr=0.1))
    chunks = list(zip(x.chunk(4), y.chunk(4), strict=True))
    metrics = several(
        *(lambda c=c, i=i: (loss_of(parts, c), {"i": torch.tensor(float(i))}) for i, c in enumerate(chunks))
    )
    assert metrics["i"].item() == 1.5
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


def test_named_losses_add_up():
    summed, named = network(), network()
    batch = batches(1)[0]
    GradientStep(summed, torch.optim.SGD(summed.parameters(), lr=0.1))(
        lambda: (loss_of(summed, batch) * 1.5, {})
    )
    GradientStep(named, torch.optim.SGD(named.parameters(), lr=0.1))(
        lambda: ({"whole": loss_of(named, batch), "half": 0.5 * loss_of(named, batch)}, {})
    )
    for a, b in zip(summed.parameters(), named.parameters(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_non_finite_gradient_is_skipped_counted_and_localised(fused, poison):
    net = network()
    step = GradientStep(net, adam(net, fused), [GlobalNorm(max_norm=0.5)])
    good, bad, _ = batches(3)
    step(lambda: (loss_of(net, good), {}))
    before, state = copy.deepcopy(net.state_dict()), copy.deepcopy(step.optimizer.state_dict()["state"])
    step(lambda: (loss_of(net, bad) + net[2].bias.sum() * poison, {}))
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, before[name])
    after = step.optimizer.state_dict()["state"]
    assert all(torch.equal(after[i]["step"], state[i]["step"]) for i in state)
    tags = step.monitor.drain()
    assert tags["gradient/skipped"] == 0.5
    assert [tag for tag in tags if tag.endswith("/nonfinite")] == ["layer/2.bias/nonfinite"]


def test_a_parameter_without_gradient_is_called_detached_and_stays():
    net = nn.ModuleDict({"used": nn.Linear(2, 1), "unused": nn.Linear(2, 1)})
    kept = net["unused"].weight.clone()
    step = GradientStep(net, adam(net))
    step(lambda: (net["used"](torch.ones(1, 2)).sum(), {}))
    tags = step.monitor.drain()
    assert tags["layer/unused.weight/detached"] == 1.0
    assert "layer/unused.weight/gradient_norm" not in tags
    assert "layer/used.weight/detached" not in tags
    assert tags["layer/used.weight/gradient_norm"] == pytest.approx(2**0.5)
    assert torch.equal(net["unused"].weight, kept)


def test_tied_and_frozen_parameters_are_counted_once_and_not_at_all():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))
    net[1].weight = net[0].weight
    net[2].requires_grad_(False)
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1)
    assert GradientStep(net, optimizer).names == ["0.weight", "0.bias", "1.bias"]


def test_a_sparse_embedding_trains_and_is_clipped():
    net = nn.Embedding(10, 3, sparse=True)
    untouched = net.weight[5].clone()
    step = GradientStep(net, torch.optim.SGD(net.parameters(), lr=1.0), [GlobalNorm(max_norm=1.0)])
    step(lambda: (net(torch.tensor([1, 1, 2])).sum() * 100, {}))
    tags = step.monitor.drain()
    assert tags["gradient/norm"] == pytest.approx(100 * (3 * 4 + 3) ** 0.5, rel=1e-6)
    assert tags["gradient/norm_clipped"] == pytest.approx(1.0, rel=1e-5)
    assert torch.equal(net.weight[5], untouched)


@pytest.mark.parametrize("clips", [False, True])
def test_layers_have_curves_of_what_clipping_did_only_where_something_clips(clips):
    net = nn.Linear(2, 1)
    step = GradientStep(
        net, torch.optim.SGD(net.parameters(), lr=0.1), [GlobalNorm(max_norm=0.5)] if clips else []
    )
    step(lambda: (3 * net.weight.sum() + 4 * net.bias.sum(), {}))
    tags = step.monitor.drain()
    norm = (2 * 3**2 + 4**2) ** 0.5
    assert tags["gradient/norm_clipped"] == pytest.approx(0.5 if clips else norm, rel=1e-5)
    assert tags["gradient/clipped"] == float(clips)
    expected = {
        "layer/weight/gradient_norm_clipped": 0.5 * 18**0.5 / norm,
        "layer/bias/gradient_norm_clipped": 0.5 * 4 / norm,
        "layer/weight/clipped": 1.0, "layer/bias/clipped": 1.0,
    }  # fmt: skip
    found = {tag: value for tag, value in tags.items() if tag.startswith("layer/") and "clipped" in tag}
    assert found == pytest.approx(expected if clips else {}, rel=1e-5)


def test_mixed_precision_parameters_share_one_clip():
    half, single = nn.Parameter(torch.zeros(3, dtype=torch.bfloat16)), nn.Parameter(torch.zeros(4))
    optimizer = torch.optim.SGD([half, single], lr=1.0)
    step = GradientStep([("half", half), ("single", single)], optimizer, [GlobalNorm(max_norm=1.0)])
    step(lambda: (3 * half.float().sum() + 3 * single.sum(), {}))
    assert step.monitor.drain()["gradient/norm"] == pytest.approx(3 * 7**0.5)
    torch.testing.assert_close(single.detach(), torch.full((4,), -(7**-0.5)), rtol=1e-5, atol=0)


def test_bfloat16_autocast_runs_the_closure_in_bfloat16():
    net, seen = network(), []
    step = GradientStep(net, adam(net), precision="bfloat16")

    def closure():
        out = net(torch.ones(2, 4))
        seen.append(out.dtype)
        return out.float().square().mean(), {}

    step(closure)
    assert seen == [torch.bfloat16]
    assert all(p.grad.dtype == torch.float32 for p in net.parameters())


def test_float16_scales_the_loss_measures_the_unscaled_gradient_and_backs_off_on_overflow():
    net, plain = network(), network()
    step = GradientStep(net, torch.optim.SGD(net.parameters(), lr=0.1), precision="float16")
    batch = batches(1)[0]
    step(lambda: (loss_of(net, batch), {}))
    loss_of(plain, batch).backward()
    exact = torch.cat([p.grad.flatten() for p in plain.parameters()]).norm().item()
    assert step.monitor.drain()["gradient/norm"] == pytest.approx(exact, rel=1e-2)
    scale = step.scaler.get_scale()
    step(lambda: (loss_of(net, batch) * float("inf"), {}))
    assert step.scaler.get_scale() == scale / 2
    assert step.monitor.drain()["gradient/skipped"] == 1.0


def test_the_learning_rate_scale_multiplies_every_groups_own_rate():
    net = network()
    groups = [{"params": list(net[0].parameters()), "lr": 0.5}, {"params": list(net[2].parameters())}]
    step = GradientStep(net, torch.optim.SGD(groups, lr=0.1))
    step.set_lr_scale(0.5)
    assert [g["lr"] for g in step.optimizer.param_groups] == [0.25, 0.05]


def test_a_step_saved_in_the_middle_of_a_window_continues_bit_for_bit():
    ours = network()
    monitor = MonitorConfig(sample_interval=4)
    step = GradientStep(ours, adam(ours), [GlobalNorm(max_norm=0.5)], monitor=monitor)
    stream = batches(15)
    for batch in stream[:7]:
        step(lambda batch=batch: (loss_of(ours, batch), {}))
    again = copy.deepcopy(ours)
    other = GradientStep(again, adam(again), [GlobalNorm(max_norm=0.5)], monitor=monitor)
    other.load_state_dict(copy.deepcopy(step.state_dict()))
    for batch in stream[7:]:
        step(lambda batch=batch: (loss_of(ours, batch), {}))
        other(lambda batch=batch: (loss_of(again, batch), {}))
    assert step.monitor.drain() == other.monitor.drain()
    for a, b in zip(ours.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda net: net(torch.ones(2, 4)), "must be a scalar"),
        (lambda net: torch.tensor(1.0), "does not depend"),
    ],
)
def test_a_loss_that_gives_no_gradient_is_named(loss, message):
    net = network()
    with pytest.raises(ValueError, match=message):
        GradientStep(net, adam(net))(lambda: ({"value": loss(net)}, {}))


def test_an_optimizer_over_other_parameters_is_refused():
    with pytest.raises(ValueError, match="exactly the trainable parameters"):
        GradientStep(network(), adam(network()))


def test_a_module_without_trainable_parameters_is_refused():
    with pytest.raises(ValueError, match="at least one parameter"):
        GradientStep(nn.Tanh(), adam(network()))


def test_a_graph_that_is_already_freed_is_explained():
    net = nn.Linear(2, 1)
    step = GradientStep(net, adam(net))
    loss = net(torch.ones(1, 2)).square().sum()
    step(lambda: (loss, {}))
    with pytest.raises(ValueError, match="already freed: build the loss inside the closure"):
        step(lambda: (loss, {}))


def test_a_gradient_under_a_loss_scale_is_unscaled_once_and_applied_once():
    net = nn.Linear(2, 1)
    step = GradientStep(net, torch.optim.SGD(net.parameters(), lr=0.1), precision="float16")
    closure = lambda: (net(torch.ones(1, 2)).sum().float() / 4, {})  # noqa: E731
    step.compute(closure)
    step.compute(closure)  # schemes that look twice before they move
    torch.testing.assert_close(net.weight.grad, torch.full((1, 2), 0.25))
    step.apply()
    with pytest.raises(ValueError, match=r"apply\(\) without compute\(\)"):
        step.apply()


def test_a_step_that_meets_a_non_finite_gradient_on_its_way_is_undone_and_localised():
    net = nn.Linear(2, 1)
    before = [p.detach().clone() for p in net.parameters()]
    step = GradientStep(net, torch.optim.LBFGS(net.parameters(), lr=1.0))
    calls = []

    def closure():
        calls.append(1)
        loss = net(torch.ones(1, 2)).square().sum()
        return (loss + net.bias.sum() * float("nan") if len(calls) == 3 else loss), {}

    step(closure)
    assert len(calls) == 3
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    tags = step.monitor.drain()
    assert tags["gradient/skipped"] == 1.0
    assert tags["layer/bias/nonfinite"] == 1.0
    step(closure)  # and goes on from there
    assert not torch.equal(before[0], net.weight)


def test_micro_batches_tell_the_noise_within_one_step():
    """Two parts with gradients (3, 0) and (1, 2): small 7 on average, big |(2, 1)|^2 = 5, B = 4 and 8."""
    p = nn.Parameter(torch.zeros(2))
    monitor = MonitorConfig(sample_interval=2)
    step = GradientStep([("p", p)], torch.optim.SGD([p], lr=0.0), monitor=monitor)
    parts = [torch.tensor([3.0, 0.0]), torch.tensor([1.0, 2.0])]
    for _ in range(2):
        step(*(lambda g=g: (p @ g, {}) for g in parts), samples=8)
    signal, variance = (x.item() for x in step.noise_scale.noise)
    assert signal == pytest.approx((8 * 5 - 4 * 7) / (8 - 4))
    assert variance == pytest.approx((7 - 5) / (1 / 4 - 1 / 8))
    torch.testing.assert_close(p.grad, torch.tensor([2.0, 1.0]))


def test_without_knowing_its_samples_a_step_claims_no_noise_scale():
    p = nn.Parameter(torch.zeros(2))
    step = GradientStep([("p", p)], torch.optim.SGD([p], lr=0.1), monitor=MonitorConfig(sample_interval=2))
    for i in range(6):
        step(lambda i=i: (p.sum() * i, {}))
    assert step.noise_scale.value() is None
    assert "gradient/noise_scale" not in step.monitor.drain()


class Overflow:
    """Finite gradients become infinite in the steps that are told."""

    def __init__(self, *steps: int) -> None:
        self.steps, self.count = steps, 0

    def __call__(self, gradients, state):
        self.count += 1
        if self.count in self.steps:
            for value in gradients.values[:1]:
                value.mul_(1e30).mul_(1e30)
        gradients.changed()


@pytest.mark.parametrize("fused", [True, False])
def test_a_gradient_that_a_transform_makes_infinite_is_skipped_counted_and_localised(fused):
    ours, plain = network(), network()
    monitor = MonitorConfig(sample_interval=2)
    step = GradientStep(ours, adam(ours, fused), [Overflow(2)], monitor=monitor)
    other = GradientStep(plain, adam(plain, fused), monitor=monitor)
    first, poisoned, third = batches(3)
    step(lambda: (loss_of(ours, first), {}))
    other(lambda: (loss_of(plain, first), {}))
    norm = other.monitor.drain()["gradient/norm"]
    step(lambda: (loss_of(ours, poisoned), {}))
    tags = step.monitor.drain()
    assert (tags["gradient/skipped"], tags["gradient/norm"]) == (0.5, norm)
    assert [tag for tag in tags if tag.endswith("/nonfinite")] == ["layer/0.weight/nonfinite"]
    assert "gradient/update_ratio" not in tags
    step(lambda: (loss_of(ours, third), {}))
    other(lambda: (loss_of(plain, third), {}))
    for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
        assert torch.equal(a, b)


def test_an_infinite_gradient_that_a_transform_hides_is_skipped_all_the_same():
    """Clipping by value makes 5 of infinity."""
    p = nn.Parameter(torch.tensor([1.0, 2.0]))
    step = GradientStep([("p", p)], torch.optim.SGD([p], lr=1.0), [Value(max_value=5.0)])
    for slope, expected in ((float("inf"), [1.0, 2.0]), (3.0, [-2.0, -1.0]), (7.0, [-7.0, -6.0])):
        step(lambda slope=slope: ((slope * p).sum(), {}))
        assert p.tolist() == expected
    assert step.monitor.drain()["gradient/skipped"] == pytest.approx(1 / 3)


def test_a_transform_that_overflows_on_the_way_of_lbfgs_undoes_the_step():
    """At the last gradient it takes, after which it would look no more."""
    net = network()
    before = copy.deepcopy(net.state_dict())
    step = GradientStep(net, torch.optim.LBFGS(net.parameters(), max_iter=2), [Overflow(3)])
    step(lambda: (loss_of(net, batches(1)[0]), {}))
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert step.monitor.drain()["gradient/skipped"] == 1.0


def test_windows_that_the_loss_scale_skips_enter_no_history():
    """Steps 1, 4 and 7 overflow: of the pairs (2, 3), (4, 5), (6, 7), (8, 9) the outer two are left."""
    p = nn.Parameter(torch.zeros(2))
    monitor = MonitorConfig(sample_interval=2, histogram_interval=2)
    step = GradientStep([("p", p)], torch.optim.SGD([p], lr=1.0), precision="float16", monitor=monitor)
    gradients = torch.randn(10, 2, generator=torch.Generator().manual_seed(0))
    overflows = (1, 4, 7)
    for i, g in enumerate(gradients[1:], start=1):
        step(lambda i=i, g=g: ((p * g).sum() * (float("inf") if i in overflows else 1.0), {}), samples=8)
    pairs = [(gradients[a].double(), gradients[a + 1].double()) for a in (2, 8)]
    variances = [4 * (a - b).square().sum().item() for a, b in pairs]
    signals = [(a @ b).item() for a, b in pairs]
    signal, variance = (x.item() for x in step.noise_scale.noise)
    assert variance == pytest.approx((0.99 * variances[0] + variances[1]) / 1.99, rel=1e-5)
    assert signal == pytest.approx((0.99 * signals[0] + signals[1]) / 1.99, rel=1e-5)
    assert step.monitor.exponents.take().sum() == 2 * 3  # of steps 2, 6, 8
    tags = step.monitor.drain()
    kept = [i for i in range(1, 10) if i not in overflows]
    assert tags["gradient/skipped"] == pytest.approx(3 / 9)
    assert tags["gradient/norm"] == pytest.approx(gradients[kept].norm(dim=1).mean().item(), rel=1e-5)
    cosines = [(a @ b / a.norm() / b.norm()).item() for a, b in pairs]
    assert tags["gradient/cosine"] == pytest.approx(sum(cosines) / 2, rel=1e-5)
    assert tags["gradient/update_cosine"] == pytest.approx(1.0)
