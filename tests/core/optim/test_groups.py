"""Parameter groups by name: who is in which, with which options, and what is refused."""

import pytest
import torch
from torch import nn

from core.config import Component, ConfigError, build
from core.gradients import GradientStep
from core.optim.factory import build_optimizer, check_optimizer
from core.optim.groups import split_by_name


def of(target: type, **options: object) -> Component:
    return Component(target, options, "optimizer")


class Quadratic(nn.Module):
    """0.5 sum a (w - 1)^2 over a matrix and a vector."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4, 3))
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self) -> torch.Tensor:
        a = torch.tensor([1.0, 2.0, 4.0])
        return 0.5 * ((a * (self.weight - 1).square()).sum() + (a * (self.bias - 1).square()).sum())


def groups_of(chosen: Component) -> list[tuple[set[str], dict]]:
    model = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3), nn.Linear(3, 1))
    names = {id(p): name for name, p in model.named_parameters()}
    optimizer = build_optimizer(chosen, model.named_parameters())
    return [({names[id(p)] for p in group["params"]}, group) for group in optimizer.param_groups]


def test_no_decay_spares_biases_and_norms():
    (rest, first), (spared, second) = groups_of(of(torch.optim.AdamW, weight_decay=0.1, groups="no_decay"))
    assert rest == {"0.weight", "2.weight"}
    assert spared == {"0.bias", "1.weight", "1.bias", "2.bias"}
    assert (first["weight_decay"], second["weight_decay"]) == (0.1, 0.0)


def test_no_decay_spares_the_gains_of_norms_over_maps_and_biases_of_any_shape():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.LayerNorm([8, 4, 4]), nn.LSTM(3, 3, bias=True))
            self.map_norm = nn.RMSNorm([8, 4, 4])
            self.normal_head = nn.Linear(3, 3)
            self.bias = nn.Parameter(torch.zeros(8, 1, 1))
            self.square = nn.Bilinear(2, 2, 2)

    net = Net()
    chosen = of(torch.optim.AdamW, weight_decay=0.5, lr=0.1, groups="no_decay")
    optimizer = build_optimizer(chosen, net.named_parameters())
    for p in net.parameters():
        nn.init.ones_(p)
        p.grad = torch.zeros_like(p)
    optimizer.step()  # without a gradient, only the decay moves anything
    decayed = {name for name, p in net.named_parameters() if not torch.equal(p, torch.ones_like(p))}
    lstm = {"body.2.weight_ih_l0", "body.2.weight_hh_l0"}
    assert decayed == {"body.0.weight", "normal_head.weight", "square.weight"} | lstm


def test_the_first_pattern_that_matches_decides_and_the_rest_keep_the_options():
    groups = {"2.*": {"lr": 0.5, "betas": [0.1, 0.2]}, "*.bias": {"weight_decay": 0.3}}
    found = groups_of(of(torch.optim.Adam, lr=0.01, groups=groups))
    assert [names for names, _ in found] == [
        {"0.weight", "1.weight"},
        {"2.weight", "2.bias"},
        {"0.bias", "1.bias"},
    ]
    assert [(g["lr"], g["betas"], g["weight_decay"]) for _, g in found] == [
        (0.01, (0.9, 0.999), 0),
        (0.5, (0.1, 0.2), 0),
        (0.01, (0.9, 0.999), 0.3),
    ]


def test_groups_train_as_torchs_own_do():
    ours, plain_one = Quadratic(), Quadratic()
    chosen = of(torch.optim.SGD, lr=0.1, groups={"bias": {"lr": 0.02, "momentum": 0.5}})
    step = GradientStep(ours, build_optimizer(chosen, ours.named_parameters()))
    optimizer = torch.optim.SGD(
        [{"params": [plain_one.weight]}, {"params": [plain_one.bias], "lr": 0.02, "momentum": 0.5}], lr=0.1
    )
    for scale in (1.0, 0.5, 0.25):
        step.set_lr_scale(scale)
        step(lambda: (ours(), {}))
        optimizer.param_groups[0]["lr"], optimizer.param_groups[1]["lr"] = 0.1 * scale, 0.02 * scale
        optimizer.zero_grad()
        plain_one().backward()
        optimizer.step()
    torch.testing.assert_close(ours.weight, plain_one.weight, rtol=1e-6, atol=0)
    torch.testing.assert_close(ours.bias, plain_one.bias, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (
            {"*.gain": {"lr": 0.1}},
            r"optimizer.groups: the pattern \*.gain matches no parameter's name; left to",
        ),
        ({"*": {"lr": 0.1}, "bias": {"lr": 1}}, "the pattern bias matches no parameter's name"),
        ({"bias": {"learning_rate": 0.1}}, "unknown option optimizer.groups.bias.learning_rate: Adam"),
        ({"bias": {"weight_decy": 0.1}}, "has no such option; did you mean weight_decay"),
        ({"bias": {"lr": -0.1}}, "optimizer.groups.bias.lr must be a number >= 0, got -0.1"),
        ({"bias": {"betas": [2.0, 0.9]}}, "optimizer.groups.bias: Adam refuses its options: Invalid beta"),
        ({"bias": 0.1}, "optimizer.groups.bias must be a mapping of options, got 0.1"),
        ("no_decy", "optimizer.groups must be null, no_decay or a mapping .*, got 'no_decy'"),
        (["bias"], "optimizer.groups must be null, no_decay or a mapping"),
    ],
)
def test_a_wrong_group_is_refused_in_one_line_before_anything_is_made(groups, message):
    with pytest.raises(ValueError, match=message):
        check_optimizer(of(torch.optim.Adam, groups=groups), lambda: [Quadratic()])


def test_groups_are_refused_where_the_class_has_none():
    for chosen in (
        of(torch.optim.LBFGS, groups={"bias": {"lr": 0.1}}),
        of(torch.optim.Rprop, groups="no_decay"),
    ):
        with pytest.raises(ValueError, match=r"LBFGS doesn't support|unknown option .*weight_decay: Rprop"):
            check_optimizer(chosen, lambda: [Quadratic()])


def test_groups_of_anything_but_an_optimizer_are_an_unknown_option():
    with pytest.raises(ConfigError, match=r"unknown option env.groups"):
        build({"_target_": "fractions.Fraction", "groups": None}, "env")


SPARED = ("norm", "norm1", "layer_norm", "block.attention_layernorm")
DECAYED = ("norm_head", "denorm", "normflow", "norm.gamma_proj", "normal")


@pytest.mark.parametrize(
    ("module", "decays"), [*((name, False) for name in SPARED), *((name, True) for name in DECAYED)]
)
def test_a_weight_of_two_dimensions_decays_unless_its_module_is_called_a_norm(module, decays):
    named = [(f"{module}.weight", torch.zeros(3, 4)), ("other.weight", torch.zeros(2, 2))]
    groups = split_by_name("no_decay", named, "optimizer.groups")
    assert any(p is named[0][1] for p in groups[0].parameters) == decays
