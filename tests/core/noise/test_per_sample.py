from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from core.gradients import Objective
from core.noise import noise_statistics, per_sample_gradients, per_sample_norms

SAMPLES = 5


def filled(module: nn.Module, dtype: torch.dtype = torch.float64, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in [*module.parameters(), *(b for b in module.buffers() if b.is_floating_point())]:
            tensor.copy_(torch.randn(tensor.shape, generator=generator).abs() / 2 + 0.1)
            if isinstance(tensor, nn.Parameter):
                tensor.copy_(torch.randn(tensor.shape, generator=generator) / 2)
    return module.to(dtype)


def drawn(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def objective_of(module: nn.Module, *shape: int, dtype: torch.dtype = torch.float64) -> Objective:
    """A loss that weighs every output of every sample differently, averaged over the samples."""
    filled(module, dtype)
    x = drawn(SAMPLES, *shape, dtype=dtype)
    return Objective(module, weighted_loss, [x, drawn(SAMPLES, 1, seed=2, dtype=dtype)])


def weighted_loss(forward: Callable[..., Tensor], x: Tensor, weight: Tensor) -> Tensor:
    y = forward(x).flatten(1)
    scale = torch.linspace(0.5, 2.0, y.shape[1], dtype=y.dtype)
    return (y * scale + weight).tanh().square().mean()


def one_by_one(objective: Objective) -> dict[str, Tensor]:
    """The definition: a batch of one, sample after sample."""
    rows = []
    for i in range(objective.samples):
        loss = objective.on([part[i : i + 1] for part in objective.batch])
        rows.append(
            torch.autograd.grad(loss, objective.parameters, allow_unused=True, materialize_grads=True)
        )
    return {name: torch.stack(g) for name, g in zip(objective.names, zip(*rows, strict=True), strict=True)}


def assert_gradients_and_norms_are_right(objective: Objective, chunk_size: int | None = None) -> None:
    truth = one_by_one(objective)
    tight = {"rtol": 1e-12, "atol": 1e-14}
    torch.testing.assert_close(per_sample_gradients(objective, chunk_size=chunk_size), truth, **tight)
    truth = {name: g.reshape(SAMPLES, -1) for name, g in truth.items()}
    norms = {name: g.norm(dim=1) for name, g in truth.items()}
    torch.testing.assert_close(per_sample_norms(objective, chunk_size=chunk_size), norms, **tight)
    flat = torch.cat([*truth.values()], dim=1)
    found = noise_statistics(objective, chunk_size=chunk_size)
    again = noise_statistics(per_sample_gradients(objective))
    torch.testing.assert_close(found.noise, again.noise, rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(found.noise.variance, flat.var(0).sum(), rtol=1e-10, atol=0)
    dots = flat @ flat.mean(0)
    length = flat.mean(0).square().sum()
    torch.testing.assert_close(
        found.inner_product_test, (dots.var() / SAMPLES).sqrt() / length, rtol=1e-10, atol=0
    )
    for name, g in truth.items():
        component = g.var(0)
        zero = g.norm(dim=0) == 0
        if not zero.all() and component[~zero].min() > 1e-20:  # else rounding errors of what should be zero
            ratio = (g.mean(0).square() / component)[~zero].mean() - 1 / SAMPLES
            torch.testing.assert_close(found.layer_signal_to_noise[name], ratio, rtol=1e-8, atol=0)


class Twice(nn.Module):
    """One layer called twice, at different depths."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.layer(x).sin())


class Tied(nn.Module):
    """Two layers with one weight, biases of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).sin())


class TiedToEmbedding(nn.Module):
    """A weight that is used by a linear layer and by one without factors."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(6, 4)
        self.out = nn.Linear(4, 6, bias=False)
        self.out.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.argsort(1) % 6
        return self.out(self.embedding(tokens).sin().mean(1))


class PositionsFirst(nn.Module):
    """A layer that sees [T, B, F]: its samples are not in front."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.out = nn.Linear(4, 3), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.layer(x.transpose(0, 1)).transpose(0, 1).sin().flatten(1))


class Scaled(nn.Module):
    """Parameters without dimensions, one of which is not reached."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.scale, self.unused = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.layer(x).sin()


class Unreached(nn.Module):
    """A layer that is never called, one whose output goes nowhere, a frozen one, one under no_grad."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.never, self.wasted, self.frozen = (nn.Linear(4, 4) for _ in range(4))
        self.frozen.requires_grad_(False)
        self.loose = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        self.wasted(x)
        with torch.no_grad():
            shift = self.used(x)
        return self.frozen(self.used(x).sin()) + shift


def conv(kind: type[nn.Module], **options: object) -> nn.Module:
    return nn.Sequential(kind(4, 6, **options), nn.ReLU(inplace=True), nn.Flatten(), nn.LazyLinear(3))


CONVS = [
    (nn.Conv1d, (9,), {"kernel_size": 3, "stride": 2, "padding": 1}),
    (nn.Conv1d, (9,), {"kernel_size": 2, "dilation": 3, "padding_mode": "circular", "padding": 2}),
    (nn.Conv2d, (6, 7), {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 2), "groups": 2}),
    (nn.Conv2d, (5, 5), {"kernel_size": 2, "padding": "same", "dilation": (1, 3)}),
    (nn.Conv2d, (6, 6), {"kernel_size": 3, "padding": "valid", "bias": False}),
    (nn.Conv2d, (5, 5), {"kernel_size": 3, "padding": 1, "padding_mode": "reflect", "dilation": 2}),
    (nn.Conv2d, (2, 2), {"kernel_size": 2}),  # one position
    (nn.Conv2d, (4, 4), {"kernel_size": 3}),  # few positions: the Gram form
    (nn.Conv3d, (3, 4, 4), {"kernel_size": (2, 3, 2), "stride": (1, 2, 1), "padding": 1}),
]


@pytest.mark.parametrize(("kind", "shape", "options"), CONVS)
@pytest.mark.parametrize("chunk_size", [None, 2])
def test_convolutions_of_every_kind(kind, shape, options, chunk_size):
    module = conv(kind, **options)
    module(torch.zeros(1, 4, *shape))  # gives the lazy layer its size
    assert_gradients_and_norms_are_right(objective_of(module, 4, *shape), chunk_size)


NETWORKS = {
    "mlp": (lambda: nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2, bias=False)), (4,)),
    "in place": (lambda: nn.Sequential(nn.Linear(4, 8), nn.ELU(inplace=True), nn.Linear(8, 2)), (4,)),
    "short sequence": (lambda: nn.Sequential(nn.Linear(8, 9), nn.Tanh(), nn.Linear(9, 8)), (3, 8)),
    "long sequence": (lambda: nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 3)), (5, 2, 3)),
    "layer norm": (
        lambda: nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.PReLU(), nn.Linear(6, 2)),
        (4,),
    ),
    "group norm": (lambda: nn.Sequential(nn.Conv1d(4, 6, 2), nn.GroupNorm(3, 6), nn.Flatten()), (4, 5)),
    "instance norm": (lambda: nn.Sequential(nn.Conv1d(4, 6, 2), nn.InstanceNorm1d(6, affine=True)), (4, 5)),
    "batch norm": (lambda: nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 2)).eval(), (4,)),
    "attention": (lambda: nn.TransformerEncoderLayer(4, 2, 5, dropout=0.0, batch_first=True), (3, 4)),
    "weight norm": (lambda: nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)), (4,)),
    "twice": (Twice, (4,)),
    "tied": (Tied, (4,)),
    "tied to an embedding": (TiedToEmbedding, (4,)),
    "positions first": (PositionsFirst, (2, 4)),
    "scaled by a number": (Scaled, (4,)),
    "unreached": (Unreached, (4,)),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("chunk_size", [None, 2])
def test_networks_of_every_kind(name, chunk_size):
    make, shape = NETWORKS[name]
    objective = objective_of(make(), *shape)
    assert_gradients_and_norms_are_right(objective, chunk_size)
    assert not any(module._forward_hooks for module in objective.module.modules())


def test_a_hook_that_replaces_a_layers_output_does_not_disturb_the_norms():
    module = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    module[0].register_forward_hook(lambda layer, args, output: 3 * output.sin())
    assert_gradients_and_norms_are_right(objective_of(module, 4))
    assert len(module[0]._forward_hooks) == 1


def test_in_single_precision_norms_agree_to_a_millionth():
    module = nn.Sequential(nn.Linear(16, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 4))
    objective = objective_of(module, 16, dtype=torch.float32)
    gradients = per_sample_gradients(objective)
    for name, norms in per_sample_norms(objective).items():
        torch.testing.assert_close(norms, gradients[name].double().flatten(1).norm(dim=1), rtol=1e-6, atol=0)


def test_frozen_parameters_are_left_out_and_unreached_ones_are_zero():
    objective = objective_of(Unreached(), 4)
    gradients, norms = per_sample_gradients(objective), per_sample_norms(objective)
    assert set(gradients) == set(norms) == set(objective.names)
    assert not any(name.startswith("frozen") for name in gradients)
    for name in ("never.weight", "wasted.bias", "loose"):
        assert not gradients[name].any()
        assert norms[name].tolist() == [0.0] * SAMPLES


def test_a_loss_that_reaches_no_parameter_has_zero_gradients():
    objective = Objective(nn.Linear(2, 2), lambda forward, x: x.mean(), [torch.ones(3, 2)])
    assert not any(g.any() for g in per_sample_gradients(objective).values())
    assert not any(n.any() for n in per_sample_norms(objective).values())


def test_one_sample_has_the_gradient_of_its_batch():
    objective = objective_of(nn.Linear(4, 2), 4)
    one = Objective(objective.module, objective.loss, [part[:1] for part in objective.batch])
    expected = torch.autograd.grad(one(), one.parameters)
    torch.testing.assert_close([g[0] for g in per_sample_gradients(one).values()], list(expected))
    torch.testing.assert_close([n[0] for n in per_sample_norms(one).values()], [g.norm() for g in expected])


def test_measuring_leaves_gradients_parameters_buffers_modes_and_generators_alone():
    module = nn.Sequential(
        nn.Linear(4, 4), nn.Dropout(0.5), nn.LayerNorm(4), nn.BatchNorm1d(4), nn.Linear(4, 1)
    )
    objective = objective_of(module, 4)
    module[3].eval()
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    modes = [m.training for m in module.modules()]
    for measure in (per_sample_gradients, per_sample_norms, noise_statistics):
        random = torch.get_rng_state()
        measure(objective)
        assert torch.equal(random, torch.get_rng_state())
    torch.testing.assert_close(module.state_dict(), state, rtol=0, atol=0)
    assert [m.training for m in module.modules()] == modes
    assert all(p.grad is None for p in module.parameters())


def test_every_sample_has_a_dropout_mask_of_its_own_and_the_same_one_every_time():
    module = nn.Sequential(nn.Linear(2, 64), nn.Dropout(0.5))
    objective = Objective(module, lambda forward, x: forward(x).mean(), [torch.ones(4, 2)])
    for chunk_size in (None, 1, 2):
        gradients = per_sample_gradients(objective, chunk_size=chunk_size)["0.bias"]
        assert len({tuple(row.tolist()) for row in gradients}) == 4
        torch.testing.assert_close(
            per_sample_gradients(objective, chunk_size=chunk_size)["0.bias"], gradients, rtol=0, atol=0
        )
    assert per_sample_norms(objective)["0.bias"].unique().numel() > 1


def test_batch_normalisation_in_training_mode_is_refused_with_the_reason():
    module = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6))
    for measure in (per_sample_gradients, per_sample_norms, noise_statistics):
        with pytest.raises(ValueError, match="1, a BatchNorm1d that uses the batch's statistics"):
            measure(objective_of(module, 4))
    untracked = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6, track_running_stats=False)).eval()
    with pytest.raises(ValueError, match="shared by all samples"):
        per_sample_norms(objective_of(untracked, 4))


def normalised(forward: Callable[..., Tensor], x: Tensor) -> Tensor:
    """A policy loss at a ratio of 1: its value is 0 for any batch, only the gradient tells."""
    advantage = x[:, 0] - x[:, 0].mean()
    y = forward(x)[:, 0]
    return -((y - y.detach()).exp() * advantage).mean()


WRONG = {
    "sum": lambda forward, x: forward(x).square().sum(),
    "normalised": normalised,
    "contrastive": lambda forward, x: nn.functional.cross_entropy(forward(x) @ x.T, torch.arange(len(x))),
    "unbiased deviation": lambda forward, x: (forward(x) / x.std(0)).square().mean(),
}


@pytest.mark.filterwarnings("ignore:std")
@pytest.mark.parametrize("loss", WRONG)
@pytest.mark.parametrize("layers", ["linear", "layer norm", "dropout", "layer norm and dropout"])
@pytest.mark.parametrize("measure", [per_sample_gradients, per_sample_norms, noise_statistics])
def test_a_loss_that_is_not_the_mean_of_its_samples_own_is_refused(loss, layers, measure):
    module = nn.Sequential(
        nn.LayerNorm(4) if "layer norm" in layers else nn.Linear(4, 4),
        nn.Dropout(0.2 if "dropout" in layers else 0.0),
    )
    objective = Objective(filled(module), WRONG[loss], [drawn(6, 4)])
    with pytest.raises(ValueError, match="not the mean of its samples' own losses"):
        measure(objective)


def test_a_weight_used_outside_of_its_layer_is_refused_by_the_norms_and_handled_by_the_gradients():
    class Reused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x).sin() @ self.layer.weight

    objective = objective_of(Reused(), 4)
    torch.testing.assert_close(per_sample_gradients(objective), one_by_one(objective))
    with pytest.raises(ValueError, match="a weight is used outside of its layer's forward"):
        per_sample_norms(objective)


def branches(forward: Callable[..., Tensor], x: Tensor) -> Tensor:
    return forward(x).mean() if x.sum() > 0 else -forward(x).mean()


def writes(forward: Callable[..., Tensor], x: Tensor) -> Tensor:
    out = torch.zeros(1, 2)
    out += forward(x)
    return out.mean()


@pytest.mark.parametrize("loss", [branches, writes, lambda forward, x: forward(x).mean() * x.sum().item()])
def test_what_cannot_be_mapped_over_samples_is_refused_with_vmaps_reason(loss):
    objective = Objective(nn.Linear(2, 2), loss, [torch.ones(1, 2)])
    with pytest.raises(ValueError, match=r"vmap cannot map this loss over single samples.*Its reason: "):
        per_sample_gradients(objective)


def test_other_errors_of_the_loss_come_through():
    objective = Objective(nn.Linear(3, 2), lambda forward, x: forward(x).mean(), [torch.ones(4, 2)])
    for measure in (per_sample_gradients, per_sample_norms):
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            measure(objective)
    assert not objective.module._forward_hooks


@pytest.mark.parametrize("batch", [[torch.ones(0, 2)], [torch.ones(3, 2), torch.ones(2, 2)]])
def test_a_batch_without_a_common_number_of_samples_is_refused(batch):
    objective = Objective(nn.Linear(2, 2), lambda forward, x, *rest: forward(x).mean(), batch)
    for measure in (per_sample_gradients, per_sample_norms):
        with pytest.raises(ValueError, match=r"want tensors \[B, ...\] with one B >= 1"):
            measure(objective)


def test_a_gradient_that_is_not_finite_is_reported_as_such_and_not_as_a_wrong_loss():
    objective = objective_of(nn.Linear(4, 2), 4)
    objective.batch[0][2] = torch.nan
    assert per_sample_gradients(objective)["bias"].isnan().any(1).tolist() == [i == 2 for i in range(5)]
    assert per_sample_norms(objective)["bias"].isnan().tolist() == [i == 2 for i in range(5)]


@pytest.mark.parametrize("measure", [noise_statistics, per_sample_norms, per_sample_gradients])
def test_a_gradient_of_rounding_errors_is_not_taken_for_a_loss_that_mixes_its_samples(measure):
    """At 5e-41 a product of float32 has two digits left."""
    net = filled(nn.Sequential(nn.Linear(64, 256), nn.Tanh(), nn.Linear(256, 4)), torch.float32)
    x = drawn(64, 64, dtype=torch.float32)
    measure(Objective(net, lambda forward, x: (5e-41 * forward(x)).mean(), [x]))


@pytest.mark.parametrize("measure", [noise_statistics, per_sample_norms, per_sample_gradients])
def test_a_loss_that_mixes_its_samples_is_refused_at_gradients_that_are_small_but_no_rounding(measure):
    net = filled(nn.Linear(4, 2), torch.float32)
    x = drawn(16, 4, dtype=torch.float32)
    mixes = Objective(net, lambda forward, x: 1e-4 * (forward(x) - forward(x).mean(0)).square().mean(), [x])
    with pytest.raises(ValueError, match="own losses"):
        measure(mixes)
