"""Units that pass nothing on, counted on a frozen batch, and how loss terms share a gradient."""

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from core.gradients import GradientStep, Objective
from core.gradients.unit_health import UnitHealth

HEALTH = UnitHealth(max_samples=64)


def network(activation: type[nn.Module], *args: float) -> nn.Sequential:
    torch.manual_seed(3)
    layers = [nn.Linear(5, 16), activation(*args), nn.Linear(16, 16), activation(*args), nn.Linear(16, 2)]
    return nn.Sequential(*layers)


def mean_square(forward, x):
    return forward(x).square().mean()


def measured(net: nn.Module, x: torch.Tensor, terms=None) -> dict[str, float]:
    step = GradientStep(net, torch.optim.SGD(net.parameters(), lr=0.1))
    return HEALTH(Objective(net, mean_square, (x,), terms=terms), step, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("args", [(nn.ReLU,), (nn.LeakyReLU, 0.0)])
def test_a_layer_that_is_dead_at_the_start_is_found_exactly(args):
    net, x = network(*args), torch.randn(64, 5)
    with torch.no_grad():
        net[0].bias[:7] = -10.0  # 7 of 16 units out of reach
        net[2].bias[:] = -100.0
    found = measured(net, x)
    first = net[0](x).tolist()
    dead = sum(all(max(row[unit], 0.0) == 0.0 for row in first) for unit in range(16))
    assert dead >= 7
    assert found == {"layer/1/dead_units": dead / 16, "layer/3/dead_units": 1.0}


def test_a_leaky_unit_cannot_die_and_is_not_looked_at():
    assert measured(network(nn.LeakyReLU, 0.2), torch.randn(64, 5)) == {}


@pytest.mark.parametrize(("activation", "end"), [(nn.Tanh, 0.97), (nn.Sigmoid, 0.985)])
def test_saturated_units_are_those_at_an_end_for_nearly_every_sample(activation, end):
    net, x = network(activation), torch.randn(64, 5)
    with torch.no_grad():
        net[0].bias[:4], net[0].bias[4:6] = 30.0, -30.0
    found = measured(net, x)
    low = 1 - end if activation is nn.Sigmoid else -end
    columns = net[1](net[0](x)).T.tolist()
    saturated = sum(sum(v > end or v < low for v in column) >= 0.95 * 64 for column in columns)
    assert saturated >= 6
    assert found["layer/1/saturated_units"] == saturated / 16


def test_a_unit_is_saturated_from_95_percent_of_the_samples_and_dead_only_for_all():
    """Unit j of 100 samples is at an end for 0, 5, 50, 94, 95, 99 and 100 of them, at either end."""
    counts = [0, 5, 50, 94, 95, 99, 100]
    x = torch.tensor([[(-9.0 if i % 2 else 9.0) if i < n else 0.1 for n in counts] for i in range(100)])
    health = UnitHealth(max_samples=100)
    for activation, tag, share in ((nn.Tanh(), "saturated_units", 3 / 7), (nn.ReLU(), "dead_units", 1 / 7)):
        net = nn.Sequential(nn.Linear(7, 7, bias=False), activation)
        inputs = x if tag == "saturated_units" else torch.where(x == 0.1, 1.0, -1.0)
        with torch.no_grad():
            net[0].weight.copy_(torch.eye(7))
        step = GradientStep(net, torch.optim.SGD(net.parameters(), lr=0.1))
        found = health(Objective(net, mean_square, (inputs,)), step, torch.Generator())
        assert found == {f"layer/1/{tag}": pytest.approx(share)}


def test_a_channel_of_a_convolution_is_a_unit():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 36, 1))
    with torch.no_grad():
        net[0].bias[:2] = -100.0
    assert measured(net, torch.randn(8, 1, 8, 8)) == {"layer/1/dead_units": pytest.approx(2 / 6)}


def test_cosine_and_shares_of_loss_terms_are_those_of_their_gradients():
    net, x = network(nn.SiLU), torch.randn(64, 5)

    def terms(forward, x):
        y = forward(x)
        return {"first": y[:, 0].square().mean(), "second": 3 * y[:, 1].exp().mean()}

    found = measured(net, x, terms)
    flat = [
        torch.cat(
            [g.flatten() for g in torch.autograd.grad(loss, list(net.parameters()), retain_graph=True)]
        ).double()
        for loss in terms(net, x).values()
    ]
    a, b = (g.norm() for g in flat)
    assert found["loss_share/first"] == pytest.approx((a / (a + b)).item(), rel=1e-6)
    assert found["loss_cosine/first_vs_second"] == pytest.approx(
        (flat[0] @ flat[1] / (a * b)).item(), rel=1e-5
    )


def test_terms_without_a_common_parameter_have_no_cosine():
    nets = nn.ModuleList([nn.Linear(2, 1), nn.Linear(2, 1)])
    nets.forward = lambda x: torch.cat([net(x) for net in nets], 1)
    step = GradientStep(nets, torch.optim.SGD(nets.parameters(), lr=0.1))

    def terms(forward, x):
        return dict(zip("ab", forward(x).square().mean(0), strict=True))

    objective = Objective(nets, mean_square, (torch.randn(8, 2),), terms=terms)
    assert HEALTH(objective, step, torch.Generator()).keys() == {"loss_share/a", "loss_share/b"}


class Between(nn.Module):
    """A layer, something done to its output, and an activation."""

    def __init__(self, layer: nn.Module, between, activation: nn.Module):
        super().__init__()
        self.layer, self.between, self.activation = layer, between, activation

    def forward(self, x):
        return self.activation(self.between(self.layer(x)))


class Turned(nn.Module):
    def forward(self, x):
        return x.transpose(1, 2)


def row_wise() -> nn.Linear:
    return nn.Linear(4, 10)


def heads(x):
    return x.unflatten(-1, (2, 5)).transpose(1, 2)  # [batch, time, 10] to [batch, heads, time, 5]


SEQUENCE, MAPS = (32, 6, 4), (32, 4, 5, 5)
PLACES = {
    "rows": (row_wise, nn.Identity(), (32, 4)),
    "a sequence": (row_wise, nn.Identity(), SEQUENCE),
    "a sequence of as many steps as units": (row_wise, nn.Identity(), (32, 10, 4)),
    "a sequence of one": (row_wise, nn.Identity(), (32, 1, 4)),
    "channels last": (row_wise, nn.Identity(), (32, 5, 5, 4)),
    "a copy with channels first": (row_wise, lambda x: x.transpose(1, 2), SEQUENCE),
    "turned by a module": (row_wise, nn.Sequential(Turned(), nn.Dropout(0.0)), SEQUENCE),
    "heads": (row_wise, heads, SEQUENCE),
    "a shortcut": (row_wise, lambda x: x + 0.0 * x, SEQUENCE),
    "spectral norm": (lambda: spectral_norm(row_wise()), nn.Identity(), SEQUENCE),
    "one dimension": (lambda: nn.Conv1d(4, 10, 3, padding=1), nn.Identity(), (32, 4, 7)),
    "maps": (lambda: nn.Conv2d(4, 10, 3), nn.Identity(), MAPS),
    "maps, transposed": (lambda: nn.ConvTranspose2d(4, 10, 3, groups=2), nn.Identity(), MAPS),
    "maps turned into a sequence": (lambda: nn.Conv2d(4, 10, 3), lambda x: x.flatten(2).mT, MAPS),
    "pooled maps": (lambda: nn.Conv2d(4, 10, 3), nn.AvgPool2d(2), MAPS),
}


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh])
@pytest.mark.parametrize("place", PLACES)
def test_units_are_those_of_the_layer_wherever_their_axis_stands(place, activation):
    """Three of ten units lie far below zero; all others move, and none is at an end."""
    make, between, shape = PLACES[place]
    torch.manual_seed(0)
    layer = make()
    with torch.no_grad():
        layer.bias[:3], layer.bias[3:] = -1000.0, 0.0
        for p in layer.parameters():
            if p.dim() > 1:
                p.mul_(0.1)
    found = measured(Between(layer, between, activation()), torch.randn(shape))
    name = "dead_units" if activation is nn.ReLU else "saturated_units"
    assert found[f"layer/activation/{name}"] == pytest.approx(0.3)
