"""Options of which it is said that they change nothing change no bit of a parameter, and the others do."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from core.curvature import CurvatureProbe
from core.optim.effects import optimizer_without_effect
from core.optim.factory import build_optimizer
from core.optim.sam import SAM


@dataclass(frozen=True)
class Part:
    target: type
    options: dict = field(default_factory=dict)
    path: str = "optimizer"


def trained(part: Part) -> list[torch.Tensor]:
    """Parameters after five steps along gradients that are the same for all."""
    random = torch.Generator().manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    for p in network.parameters():
        nn.init.normal_(p, generator=random)
    optimizer = build_optimizer(part, network.named_parameters())
    for _ in range(5):
        for p in network.parameters():
            p.grad = torch.randn(p.shape, generator=random)
        optimizer.step()
    return list(network.parameters())


OF_A_BIAS = {"*.bias": {"weight_decay": 0.1}}
PAIRS = [
    (torch.optim.RAdam, {"weight_decay": 0.0}, {"decoupled_weight_decay": True}, True),
    (torch.optim.RAdam, {"weight_decay": 0.1}, {"decoupled_weight_decay": True}, False),
    (
        torch.optim.NAdam,
        {"weight_decay": 0.0, "groups": OF_A_BIAS},
        {"decoupled_weight_decay": True},
        False,
    ),
    (torch.optim.Adam, {"weight_decay": 0.0}, {"groups": "no_decay"}, True),
    (torch.optim.Adam, {"weight_decay": 0.1}, {"groups": "no_decay"}, False),
    (torch.optim.SGD, {"lr": 0.1, "momentum": 0.0}, {"dampening": 0.5}, True),
    (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}, {"dampening": 0.5}, False),
    (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}, {"nesterov": True}, False),
    (torch.optim.ASGD, {"weight_decay": 0.0}, {"t0": 1.0}, True),
    (torch.optim.ASGD, {"weight_decay": 0.0}, {"lambd": 1.0}, False),
]


@pytest.mark.parametrize(("target", "options", "typed", "idle"), PAIRS)
def test_what_is_said_to_change_nothing_changes_no_bit(target, options, typed, idle):
    part = Part(target, options | typed)
    said = optimizer_without_effect(part)
    assert [f"optimizer.{name}" in said for name in typed] == [idle]
    same = all(map(torch.equal, trained(part), trained(Part(target, options))))
    assert same == idle


def test_an_optimizer_inside_of_another_is_looked_at():
    base = Part(torch.optim.Adam, {"weight_decay": 0.0, "groups": "no_decay"}, "optimizer.base")

    @dataclass(frozen=True)
    class Options:
        base: Part

    said = optimizer_without_effect(SimpleNamespace(target=SAM, options=Options(base), path="optimizer"))
    assert said["optimizer.base.groups"] == "optimizer.base.weight_decay is 0"


def test_a_decay_that_every_parameter_is_spared():
    part = Part(torch.optim.Adam, {"weight_decay": 0.1, "groups": "no_decay"})
    said = optimizer_without_effect(part, vectors="all are vectors")
    assert said["optimizer.weight_decay"] == "optimizer.groups is no_decay, and all are vectors"
    assert optimizer_without_effect(part) == {}


@pytest.mark.parametrize(("target", "idle"), [(torch.optim.Adafactor, True), (torch.optim.Adam, False)])
def test_a_stability_threshold_that_is_not_known(target, idle):
    said = optimizer_without_effect(Part(target), {"curvature": CurvatureProbe()})
    assert ("probe.curvature.stability" in said) == idle
