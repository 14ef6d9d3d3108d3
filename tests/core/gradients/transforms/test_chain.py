"""A list of transforms as one choice, and the limit on skipped steps."""

import math
import shlex

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from core.cli.compose import compose_checked
from core.config import ConfigError, build, config_dir
from core.gradients import (
    Centralize,
    Chain,
    GlobalNorm,
    GradientStep,
    GradientView,
    PCGrad,
    SkipNonFinite,
    Value,
    ZClip,
    as_transforms,
)

CENTRALIZE = {"_target_": "core.gradients.Centralize"}
CLIP = {"_target_": "core.gradients.GlobalNorm", "max_norm": 2.0}


def chain_of(*links: object) -> object:
    return build({"_target_": "core.gradients.Chain", "transforms": list(links)}, "clipper")


def test_a_list_in_yaml_becomes_a_chain_of_checked_transforms():
    chain = chain_of(CENTRALIZE, CLIP)
    assert chain == Chain(transforms=(Centralize(), GlobalNorm(max_norm=2.0)))
    assert as_transforms(chain) == [Centralize(), GlobalNorm(max_norm=2.0)]


def test_chains_unfold_and_a_single_transform_and_none_are_lists_too():
    inner = Chain(transforms=(PCGrad(), Centralize()))
    outer = Chain(transforms=(inner, GlobalNorm(max_norm=1.0)))
    assert as_transforms(outer) == [PCGrad(), Centralize(), GlobalNorm(max_norm=1.0)]
    assert as_transforms(Value(max_value=1.0)) == [Value(max_value=1.0)]
    assert as_transforms(None) == []


@pytest.mark.parametrize(
    ("links", "message"),
    [
        ([], "clipper.transforms must be a list of at least one transform, got []"),
        (
            ["global_norm"],
            "clipper.transforms must be a list of mappings with a _target_, got ['global_norm']",
        ),
        ([{"max_norm": 1.0}], "clipper.transforms must be a list of mappings with a _target_"),
        (
            [CENTRALIZE, {**CLIP, "max_norm": 0.0}],
            "clipper.transforms.1.max_norm must be a finite number > 0",
        ),
        ([{**CLIP, "max_nrm": 1.0}], "did you mean clipper.transforms.0.max_norm?"),
        ([{"_target_": "core.gradients.PCGrd"}], "core.gradients has no PCGrd; did you mean PCGrad?"),
        (
            [{"_target_": "core.gradients.PCGrad"}] * 2,
            "clipper.transforms must be a list with at most one that combines losses, got ['PCGrad', ",
        ),
        (
            [CLIP, {"_target_": "core.gradients.SkipNonFinite"}],
            "clipper.transforms must be a list with SkipNonFinite first, got ['GlobalNorm', 'SkipNonFinite']",
        ),
    ],
)
def test_a_wrong_list_is_refused_by_the_path_of_what_is_wrong(links, message):
    with pytest.raises(ConfigError) as caught:
        chain_of(*links)
    assert message in str(caught.value)


def test_something_that_is_no_list_is_refused():
    with pytest.raises(ConfigError, match=r"clipper\.transforms must be a list of mappings"):
        build({"_target_": "core.gradients.Chain", "transforms": CLIP}, "clipper")


def composed(*overrides: str) -> object:
    tree = compose_checked("rl", ["clipper=chain", *overrides], [config_dir()]).tree
    return OmegaConf.to_container(tree.clipper.transforms)


def test_one_link_is_changed_by_its_place_and_the_whole_list_by_writing_it():
    assert composed("clipper.transforms.1.max_norm=1.5")[1]["max_norm"] == 1.5
    whole = "[{_target_:core.gradients.PCGrad},{_target_:core.gradients.AGC,clipping:0.1}]"
    assert composed(f"clipper.transforms={whole}") == [
        {"_target_": "core.gradients.PCGrad"},
        {"_target_": "core.gradients.AGC", "clipping": 0.1},
    ]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("clipper.transforms.1.max_nrm=1", "did you mean clipper.transforms.1.max_norm?"),
        ("clipper.transforms.2.max_norm=1", "unknown option clipper.transforms.2.max_norm"),
        ("clipper.transforms.1.max_norm=big", "clipper.transforms.1.max_norm must be a number, got 'big'"),
        ("clipper.transforms=3", "clipper.transforms must be a list"),
        ("~clipper.transforms.1", "cannot remove clipper.transforms.1 from its list"),
    ],
)
def test_a_wrong_override_of_a_link_is_named(override, message):
    with pytest.raises(ConfigError) as caught:
        composed(override)
    assert message in str(caught.value)


def test_a_chain_does_what_its_links_do_one_after_the_other():
    gradient = torch.tensor([[4.0, 1.0, 1.0], [1.0, 5.0, 0.0]])
    net = nn.Linear(3, 2, bias=False)
    before = net.weight.detach().clone()
    chain = Chain(transforms=(Centralize(), GlobalNorm(max_norm=1.0)))
    step = GradientStep(net, torch.optim.SGD(net.parameters(), lr=1.0), as_transforms(chain))
    step(lambda: ((net.weight * gradient).sum(), {}))
    centred = gradient.double() - gradient.double().mean(1, keepdim=True)
    torch.testing.assert_close(
        (before - net.weight.detach()).double(), centred / centred.norm(), rtol=1e-5, atol=1e-6
    )


def steps_of(losses: list[float], *transforms: object) -> GradientStep:
    net = nn.ModuleDict({"first": nn.Linear(1, 1), "second": nn.Linear(1, 1)})
    step = GradientStep(net, torch.optim.SGD(net.parameters(), lr=0.1), transforms)
    for loss in losses:
        step(lambda loss=loss: (net["first"].weight.sum() + net["second"].bias.sum() * loss, {}))
    return step


def test_more_skips_in_a_row_than_the_limit_are_an_error_with_count_place_and_remedy():
    with pytest.raises(FloatingPointError) as caught:
        steps_of([1.0, *[math.nan] * 3, math.inf], SkipNonFinite(max_consecutive=3))
    assert str(caught.value) == (
        "steps skipped in a row for a non-finite gradient: 4, in second.bias; the parameters are unharmed: "
        "try a lower optimizer.lr or clipper=global_norm"
    )


def test_a_finite_step_starts_the_count_anew():
    step = steps_of([math.nan, math.nan, 1.0, math.nan, math.inf, 1.0], SkipNonFinite(max_consecutive=2))
    assert step.monitor.drain()["gradient/skipped"] == pytest.approx(4 / 6)
    with pytest.raises(FloatingPointError, match="gradient: 1, in"):
        steps_of([1.0, math.nan], SkipNonFinite(max_consecutive=0))


def test_the_limit_holds_in_front_of_a_transform_that_hides_infinities():
    with pytest.raises(FloatingPointError, match=r"gradient: 2, in second\.bias"):
        steps_of([math.inf] * 2, SkipNonFinite(max_consecutive=1), Value(max_value=1.0), ZClip())


def test_an_accelerators_count_is_read_at_every_step_after_the_limit_only():
    """On the meta device whatever reads a number raises."""
    gradients, state = [torch.zeros(3, device="meta")], {}
    for step in range(1, 9):
        seen = GradientView(["a"], gradients, gradients)
        if step % 4:
            SkipNonFinite(max_consecutive=3)(seen, state)
        else:
            with pytest.raises(RuntimeError, match="meta"):
                SkipNonFinite(max_consecutive=3)(seen, state)


def test_the_limit_must_not_be_negative():
    with pytest.raises(ValueError, match="max_consecutive must be an integer >= 0, got -1"):
        SkipNonFinite(max_consecutive=-1)


@pytest.mark.parametrize("root", ["rl", "gan", "descend"])
def test_several_clippers_are_refused_with_the_words_that_make_a_chain_of_them(root):
    names = ["agc", "pcgrad", "global_norm"]
    with pytest.raises(
        ConfigError, match=r"^clipper=\[agc,pcgrad,global_norm\] must name one clipper; "
    ) as told:
        compose_checked(root, [f"clipper=[{','.join(names)}]"], [config_dir()])
    words = shlex.split(str(told.value).partition("several of them: ")[2])
    links = compose_checked(root, words, [config_dir()]).options["clipper"]["transforms"]
    own = [
        compose_checked("descend", [f"clipper={name}"], [config_dir()]).options["clipper"] for name in names
    ]
    assert links == own
