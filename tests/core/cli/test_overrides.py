"""Mappings on the command line are their options one by one."""

import pytest

from core.cli.compose import compose_checked
from core.cli.launch import compose_tree
from core.config import config_dir


def composed(*overrides: str, root: str = "rl"):
    return compose_tree(root, overrides, [config_dir()])[0]


@pytest.mark.parametrize(
    ("whole", "single"),
    [
        ("env.kwargs={g: 9.81}", ["env.kwargs.g=9.81"]),
        ("+env.kwargs={g: 9.81, render_mode: null}", ["env.kwargs.g=9.81", "env.kwargs.render_mode=null"]),
        ("env={kwargs: {g: 9.81}, vectorization: sync}", ["env.kwargs.g=9.81", "env.vectorization=sync"]),
        ("agent={clip_coef: 0.3}", ["agent.clip_coef=0.3"]),
        ("logging={interval: 3}", ["logging.interval=3"]),
        ("optimizer={lr: 0.5}", ["optimizer.lr=0.5"]),
        (
            "optimizer={_target_: torch.optim.NAdam, momentum_decay: 0.1}",
            ["optimizer._target_=torch.optim.NAdam", "optimizer.momentum_decay=0.1"],
        ),
    ],
)
def test_a_mapping_is_its_options_one_by_one(whole, single):
    assert composed(whole) == composed(*single)
    assert composed(whole) != composed()


def test_keyword_arguments_that_a_page_does_not_list_are_taken_beside_those_that_it_lists():
    before = composed("env=pong")["env"]["kwargs"]
    assert len(before) > 0
    for typed in ("env.kwargs={difficulty: 1}", "env.kwargs.difficulty=1"):
        assert composed("env=pong", typed)["env"]["kwargs"] == before | {"difficulty": 1}


def test_a_mapping_may_stand_in_the_place_of_a_part_that_is_none():
    tree = composed("clipper={_target_: core.gradients.Value, max_value: 0.5}", root="gan")
    assert tree["clipper"] == {"_target_": "core.gradients.Value", "max_value": 0.5}


@pytest.mark.parametrize("form", ["${hydra.runtime.choices.clipper}", "${hydra:runtime.choices.clipper}"])
def test_a_sweep_may_name_its_folders_by_a_choice(form):
    overrides = ["clipper=none", "hydra.sweep.dir=runs", f"hydra.sweep.subdir={form}"]
    place = compose_checked("rl", overrides, [config_dir()]).place(0)
    assert place is None if "hydra:" in form else str(place) == "runs/none"
