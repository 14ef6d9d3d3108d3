"""A typed option that changes nothing in this run is named with its reason; a default or a page's is not."""

import pytest

from core.cli.job import check
from core.cli.launch import compose_tree
from core.config import ConfigError, config_dir


def said(*overrides: str) -> tuple[str, ...]:
    tree, _, composed = compose_tree("descend", overrides, [config_dir()])
    return check(tree, composed.typed)


PLANE = "maps are of two variables"
VECTOR = "the variables of a function are one vector, which has no rows"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("clipper=centralize", f"clipper has no effect here: {VECTOR}"),
        (
            "clipper=chain clipper.transforms=[{_target_:core.gradients.Centralize}]",
            f"clipper.transforms.0 has no effect here: {VECTOR}",
        ),
        (
            "optimizer=sgd optimizer.groups=no_decay optimizer.weight_decay=0.1",
            f"optimizer.weight_decay has no effect here: optimizer.groups is no_decay, and {VECTOR}",
        ),
        (
            "optimizers=[sgd,momentum] optimizers.sgd.dampening=0.5",
            "optimizers.sgd.dampening has no effect here: optimizers.sgd.momentum is 0",
        ),
        ("clipper=pcgrad", "clipper has no effect here: every gradient step has one loss"),
        (
            "objective=logistic optimizer=rprop optimizer.groups=no_decay",
            "optimizer.groups has no effect here: Rprop has no weight decay",
        ),
        (
            "objective=moons clipper=pcgrad",
            "clipper has no effect here: every gradient step has one loss",
        ),
        (
            "function=ackley function.dim=3 pictures=[path,video,curves]",
            f"pictures=[path] and pictures=[video] have no effect here: {PLANE}",
        ),
        ("objective=moons pictures=[surface]", f"pictures=[surface] has no effect here: {PLANE}"),
        ("pictures=[arrows]", "pictures=[arrows] has no effect here: a function has no samples"),
        (
            "objective=logistic pictures=[basins]",
            "pictures=[basins] has no effect here: basins are of functions",
        ),
        (
            "optimizer=lbfgs pictures=[basins]",
            "pictures=[basins] has no effect here: LBFGS looks at more than one number at a time",
        ),
        (
            "objective=logistic batch=full schedule=noise_adaptive schedule.exponent=0.5",
            "schedule.exponent has no effect here: gradients of all samples have no noise scale, and the "
            "rate stays",
        ),
        ("steps=0 pictures=[curves]", "pictures=[curves] has no effect here: there are no steps"),
    ],
)
def test_a_typed_option_without_effect_is_named_with_its_reason(words, line):
    assert line in said(*words.split())


@pytest.mark.parametrize(
    "words",
    [
        "function=ackley function.dim=3",
        "objective=moons clipper=centralize",
        "objective=logistic pictures=[path,surface,curves,video,arrows]",
        "pictures=[path,surface,curves,video,basins]",
        "optimizers=[lbfgs,sgd] pictures=[basins]",  # of the second there is a map
    ],
)
def test_nothing_is_said_of_what_has_an_effect_or_was_not_typed(words):
    assert said(*words.split()) == ()


def test_a_pattern_that_leaves_nothing_out_is_refused():
    assert said("objective=moons", "clipper=agc", "clipper.exclude=[*.bias]") == ()
    with pytest.raises(ConfigError, match=r"clipper\.exclude: the pattern nothing\.\* matches no parameter"):
        said("objective=moons", "clipper=agc", "clipper.exclude=[nothing.*]")
