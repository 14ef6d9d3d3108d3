"""The first tensor that is not a number, planted at a known place, is named."""

import pytest
import torch
from torch import nn

from core.gradients import Objective
from core.gradients.localise import Place, localise


class Poison(torch.autograd.Function):
    """The identity; on the way forward or back it is not finite."""

    @staticmethod
    def forward(ctx, x, way):
        ctx.way = way
        return x * float("nan") if way == "forward" else x.clone()

    @staticmethod
    def backward(ctx, grad):
        return (grad * float("inf") if ctx.way == "backward" else grad), None


class Layer(nn.Linear):
    """A linear layer that can be poisoned."""

    way = ""

    def forward(self, x):
        return Poison.apply(super().forward(x), self.way)


def objective(depth: int = 5) -> Objective:
    torch.manual_seed(0)
    net = nn.Sequential(*[part for _ in range(depth) for part in (Layer(4, 4), nn.Tanh())])
    batch = torch.randn(8, 4), torch.randn(8, 4)
    return Objective(net, lambda f, x, y: (f(x) - y).square().mean(), batch, batch_names=("obs", "target"))


@pytest.mark.parametrize("way", ["forward", "backward"])
@pytest.mark.parametrize("layer", [0, 2, 4])
def test_the_layer_is_named_whose_own_arithmetic_fails(way, layer):
    asked = objective()
    asked.module[2 * layer].way = way
    assert localise(asked) == Place(way, str(2 * layer))


def test_a_healthy_objective_has_no_such_place_and_is_left_as_it_was():
    asked = objective()
    before = [p.clone() for p in asked.module.parameters()]
    assert localise(asked) is None
    assert all(torch.equal(a, b) for a, b in zip(before, asked.module.parameters(), strict=True))
    assert all(p.grad is None for p in asked.module.parameters())
    assert not any(part._forward_hooks for part in asked.module.modules())


@pytest.mark.parametrize(("index", "name"), [(0, "obs"), (1, "target")])
def test_a_batch_that_holds_a_nan_is_named_by_its_tensor(index, name):
    asked = objective()
    asked.batch[index][3, 1] = float("nan")
    assert localise(asked) == Place("batch", name)


def test_a_loss_that_leaves_its_range_is_told_from_the_network():
    asked = objective()
    asked.loss = lambda f, x, y: (f(x) - 2.0).log().mean()
    assert localise(asked) == Place("loss", "value")
    asked.loss = lambda f, x, y: (f(x) * 0.0).abs().sqrt().sum()  # finite, its derivative at 0 is not
    assert localise(asked) == Place("loss", "gradient")


def test_a_distribution_that_refuses_what_is_not_a_number_does_not_hide_the_layer():
    asked = objective()
    asked.module[4].way = "forward"

    def loss(f, x, y):
        return -torch.distributions.Normal(f(x), 1.0, validate_args=True).log_prob(y).mean()

    asked.loss = loss
    assert localise(asked) == Place("forward", "4")


class Named(Layer):
    """A layer whose output is a dictionary."""

    def forward(self, x):
        return {"rows": [super().forward(x)]}


def test_a_layer_that_returns_its_tensors_by_name_is_looked_into():
    torch.manual_seed(0)
    net = Named(4, 4)
    net.way = "forward"
    loss = lambda f, x: f(x)["rows"][0].square().mean()  # noqa: E731
    whole = nn.Module()
    whole.part, whole.forward = net, lambda x: net(x)
    assert localise(Objective(whole, loss, (torch.randn(8, 4),), batch_names=("obs",))) == Place(
        "forward", "part"
    )
