"""Which operation of which module made the first number that is not finite, in which rows."""

import math

import pytest
import torch
from torch import Tensor, nn

from core.replay.birth import Microscope


class Breaking(nn.Module):
    """Applies a function to two rows."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        rows = torch.zeros(len(x), 1, dtype=torch.bool)
        rows[[3, 7]] = True
        return torch.where(rows, self.function(x), x)


def born(network: nn.Module, loss=lambda y: y.square().mean(), x: Tensor | None = None):
    torch.manual_seed(0)
    x = torch.randn(9, 4) if x is None else x
    modules = {name: part for name, part in network.named_modules() if name}
    scope = Microscope(modules, {"x": x, **dict(network.named_parameters())})
    return scope.look(
        lambda: (loss(network(x)), {}), list(network.parameters()), lambda returned: returned[0]
    )


def layers(function) -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 4), nn.Tanh(), Breaking(function), nn.Linear(4, 2))


def test_a_module_that_makes_nan_forward_is_named_with_the_operation():
    found = born(layers(lambda x: (0 * x).log()))
    assert found is not None
    assert (found.how, found.name, found.kind, found.operation) == ("forward", "2", "Breaking", "log")


def test_rows_are_those_where_the_operation_made_it():
    x = torch.ones(9, 4)
    x[4] = 400.0
    network = nn.Sequential(nn.Linear(4, 1, bias=False))
    with torch.no_grad():
        network[0].weight.fill_(1.0)
    found = born(network, lambda y: y.exp().mean(), x)  # exp(1600) is one, exp(4) is none
    assert found is not None
    assert (found.how, found.operation, found.rows, found.of) == ("loss", "exp", (4,), 9)


def test_a_module_whose_slope_is_infinite_is_named_on_the_way_back():
    found = born(layers(lambda x: x + (0 * x).sqrt()))
    assert found is not None
    assert (found.how, found.name, found.operation) == ("backward", "2", "SqrtBackward")


def test_a_loss_whose_gradient_is_none_belongs_to_no_module():
    found = born(nn.Sequential(nn.Linear(4, 2)), lambda y: (0 * y).square().sum().sqrt())
    assert found is not None
    assert (found.how, found.name, found.operation) == ("loss", "gradient", "SqrtBackward")


def test_the_logarithm_of_zero_in_the_loss_is_no_modules():
    found = born(nn.Sequential(nn.Linear(4, 2)), lambda y: (0 * y).log().mean())
    assert found is not None
    assert (found.how, found.operation, found.num_rows, found.of) == ("loss", "log", 9, 9)


def test_a_number_that_was_in_the_batch_is_named_with_its_row():
    x = torch.ones(9, 4)
    x[5, 1] = math.nan
    found = born(layers(lambda y: y), x=x)
    assert found is not None
    assert (found.how, found.name, found.rows, found.of) == ("batch", "x", (5,), 9)


def test_a_mask_of_minus_infinity_that_arrives_nowhere_is_no_fault():
    def masked(y: Tensor) -> Tensor:
        mask = torch.tensor([True, False])
        return -y.masked_fill(mask, -math.inf).softmax(1).square().mean()

    assert born(nn.Sequential(nn.Linear(4, 2)), masked) is None


def test_of_a_mask_and_a_fault_behind_it_the_fault_is_named():
    def masked(y: Tensor) -> Tensor:
        mask = torch.tensor([True, False])
        return y.masked_fill(mask, -math.inf).softmax(1).mean() + (0 * y).log().sum()

    found = born(nn.Sequential(nn.Linear(4, 2)), masked)
    assert found is not None
    assert (found.how, found.operation) == ("loss", "log")


def test_a_penalty_on_gradients_is_followed_into_the_module():
    network = nn.Sequential(nn.Linear(4, 4), Breaking(lambda x: x + (0 * x).sqrt()), nn.Linear(4, 1))
    x = torch.randn(9, 4, requires_grad=True)

    def penalty(y: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        return gradient.square().sum()

    found = born(network, penalty, x)
    assert found is not None
    assert (found.how, found.name) == ("backward", "1")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_overflow_is_one_too(dtype):
    network = nn.Sequential(
        nn.Linear(1, 1, bias=False, dtype=dtype), nn.Linear(1, 1, bias=False, dtype=dtype)
    )
    with torch.no_grad():
        for p in network.parameters():
            p.fill_(torch.finfo(dtype).max / 2)
    found = born(network, lambda y: y.sum(), torch.ones(9, 1, dtype=dtype))
    assert found is not None
    assert (found.how, found.name, found.kind, found.num_rows) == ("forward", "1", "Linear", 9)


def test_where_all_is_finite_nothing_is_born():
    assert born(layers(lambda x: 2 * x)) is None
