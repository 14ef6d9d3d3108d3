"""A typed option that changes nothing in this run is named with its reason; a default or a page's is not."""

import pytest
import torch
from torch import nn

from core.cli.job import check
from core.cli.launch import compose_tree
from core.config import ConfigError, config_dir
from core.optim.sam import SAM
from gradgan.effects import twice_counted


def said(*overrides: str) -> tuple[str, ...]:
    tree, _, composed = compose_tree("gan", ["device=cpu", *overrides], [config_dir()])
    return check(tree, composed.typed)


ONE_LOSS = "without penalty, regularizer and class loss every gradient step has one loss"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            "data=ring features=mobilenet",
            "features has no effect here: the points of data=ring are compared as they are",
        ),
        (
            "data=grid features.weights=x features=inception",
            "features has no effect here: the points of data=grid are compared as they are",
        ),
        (
            "data=ring channels_last=false",
            "channels_last has no effect here: network=mlp has no convolutions",
        ),
        (
            "data=digits network=mlp channels_last=true",
            "channels_last has no effect here: network=mlp has no convolutions",
        ),
        (
            "data=digits network=dcgan network.width=8 network.max_width=8",
            "network.max_width has no effect here: no level would be wider without it",
        ),
        (
            "data=digits network=resnet network.width=8 network.max_width=16",
            "network.max_width has no effect here: no level would be wider without it",
        ),
        (
            "data=ring penalty=r1 clipper=pcgrad clipper.seed=1",
            "clipper.seed has no effect here: two losses have one order",
        ),
        (
            "data=ring optimizer.groups=no_decay",
            "optimizer.groups has no effect here: optimizer.weight_decay is 0",
        ),
        ("data=ring penalty=none clipper=pcgrad", f"clipper has no effect here: {ONE_LOSS}"),
        (
            "data=digits penalty=none regularizer=weight_clipping clipper=pcgrad",
            f"clipper has no effect here: {ONE_LOSS}",
        ),
    ],
)
def test_a_typed_option_without_effect_is_named_with_its_reason(words, line):
    assert said(*words.split()) == (line,)


@pytest.mark.parametrize(
    "words",
    [
        "data=ring",
        "data=digits network=dcgan features=classifier channels_last=false",
        "data=digits network=resnet network.width=8 network.max_width=8",
        "data=ring clipper=pcgrad",
        "data=ring regularizer=lecam clipper=pcgrad clipper.seed=1",
        "data=digits penalty=none regularizer=lecam clipper=pcgrad",
        "data=digits penalty=none conditioning=auxiliary clipper=pcgrad",
    ],
)
def test_nothing_is_said_of_what_has_an_effect_or_was_not_typed(words):
    assert said(*words.split()) == ()


def test_a_pattern_that_leaves_nothing_out_is_refused():
    assert said("data=ring", "clipper=agc", "clipper.exclude=[head.*]") == ()
    with pytest.raises(ConfigError, match=r"clipper\.exclude: the pattern nothing\.\* matches no parameter"):
        said("data=ring", "clipper=agc", "clipper.exclude=[nothing.*]")


@pytest.mark.parametrize(
    ("optimizer", "batch_norm", "count"), [(SAM, True, 1), (SAM, False, 0), (torch.optim.Adam, True, 0)]
)
def test_batch_norm_under_sam_is_said(optimizer, batch_norm, count):
    generator = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2) if batch_norm else nn.Identity())
    assert len(twice_counted(optimizer, generator)) == count
