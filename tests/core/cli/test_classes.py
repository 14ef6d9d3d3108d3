"""A class typed over a page's: of options only those typed reach it, and of all kinds only what fits."""

from pathlib import Path

import pytest
import torch

from core.cli.launch import compose_tree
from core.config import Component, build, config_dir
from core.optim.factory import build_optimizer
from tests.conftest import Command, assert_refused

CONF = config_dir()
DESCEND = ["steps=2", "pictures=[]"]
OPTIMIZERS = sorted(
    name
    for name, found in vars(torch.optim).items()
    if isinstance(found, type)
    and issubclass(found, torch.optim.Optimizer)
    and name not in ("Optimizer", "Adam")
)


def composed(root: str, *overrides: str) -> dict:
    return compose_tree(root, overrides, [CONF])[0]


def notes(root: str, *overrides: str) -> list[str]:
    return [line for line in compose_tree(root, overrides, [CONF])[2].notes if "default" in line]


def optimizer_of(*overrides: str) -> torch.optim.Optimizer:
    component = build(composed("rl", *overrides)["optimizer"], "optimizer")
    assert isinstance(component, Component)
    return build_optimizer(component, [("weight", torch.nn.Parameter(torch.zeros(2, 2)))])


@pytest.mark.filterwarnings("ignore:Muon multiplies")
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_class_of_torch_has_its_own_defaults_in_place_of_adams(name):
    optimizer = optimizer_of(f"optimizer._target_=torch.optim.{name}")
    own = getattr(torch.optim, name)([torch.nn.Parameter(torch.zeros(2, 2))])
    assert optimizer.defaults | {"fused": None} == own.defaults | {"fused": None}


def test_what_is_typed_reaches_the_class_in_any_order_and_is_said_once():
    target = "tests.foreign.ThreeBetas"
    words = ["optimizer.lr=0.5", f"optimizer._target_={target}", "optimizer.betas=[0.1,0.2,0.3]"]
    group = optimizer_of(*words).param_groups[0]
    assert (group["lr"], group["betas"], group["weight_decay"]) == (0.5, (0.1, 0.2, 0.3), 0.02)
    assert notes("rl", *words) == [
        "settings: experiment=rl/ppo_cartpole; type experiment=none for the agent's defaults",
        f"optimizer: {target}(lr=0.5, betas=[0.1, 0.2, 0.3]); every other option is the class's own default",
    ]


def test_an_option_of_another_kind_than_the_pages_is_the_classs_business():
    words = ["optimizer._target_=torch.optim.Adafactor", "optimizer.eps=[null,0.5]"]  # Adam's is one number
    assert optimizer_of(*words).param_groups[0]["eps"] == (None, 0.5)


def test_the_pages_own_class_keeps_its_values_and_takes_options_that_the_page_does_not_list():
    page = composed("rl")["optimizer"]
    assert composed("rl", "optimizer._target_=torch.optim.Adam")["optimizer"] == page
    assert composed("rl", "optimizer.amsgrad=true")["optimizer"] == {**page, "amsgrad": True}
    assert optimizer_of("optimizer.amsgrad=true").param_groups[0]["amsgrad"] is True


def test_options_of_the_page_may_be_taken_away_from_a_class_that_has_none_of_them():
    words = ["optimizer._target_=torch.optim.SGD", "~optimizer.betas", "~optimizer.eps"]
    assert composed("rl", *words)["optimizer"] == {"_target_": "torch.optim.SGD", "lr": 1e-3}


@pytest.mark.parametrize(
    "words", [["optimizer.base._target_=torch.optim.SGD"], ["optimizer.base={_target_: torch.optim.SGD}"]]
)
def test_the_optimizer_inside_of_another_too(words):
    typed = composed("rl", "optimizer=sam", *words)["optimizer"]
    assert typed["base"] == {"_target_": "torch.optim.SGD"}
    assert typed["rho"] == 0.05
    typed = composed("rl", "optimizer=sam", *words, "optimizer.base.momentum=0.9")["optimizer"]
    assert typed["base"] == {"_target_": "torch.optim.SGD", "momentum": 0.9}


def test_one_of_several_optimizers_too():
    words = [
        "optimizers=[sgd,adam]",
        "optimizers.adam._target_=torch.optim.SGD",
        "optimizers.adam.momentum=0.9",
    ]
    several = composed("descend", *words)["optimizers"]
    assert several["adam"] == {"_target_": "torch.optim.SGD", "lr": 1e-3, "momentum": 0.9}
    assert several["sgd"] == composed("descend", "optimizers=[sgd,adam]")["optimizers"]["sgd"]


@pytest.mark.parametrize(
    ("root", "page", "group", "target", "kept"),
    [
        ("gan", "data=grid", "penalty", "gradgan.penalties.zero_centred.R2", True),
        ("gan", "data=grid", "penalty", "gradgan.penalties.one_centred.WGANGP", False),
        ("rl", "env=acrobot", "clipper", "core.gradients.PerLayerNorm", True),
        ("rl", "env=acrobot", "clipper", "core.gradients.AGC", False),
        ("gan", "data=digits", "network", "scripts.suites.plants.DeadGenerator", True),
        ("gan", "data=digits", "network", "gradgan.networks.dcgan.DCGAN", False),
        ("rl", "env=cartpole", "schedule", "core.optim.schedules.Cosine", True),
        ("rl", "env=cartpole", "policy", "scripts.suites.plants.DeadUnits", True),
        ("rl", "env=cartpole", "agent", "gradrl.agents.a2c.A2C", False),
        ("descend", "function=quadratic", "function", "core.descend.functions.Himmelblau", False),
        ("descend", "objective=moons", "objective", "core.descend.objectives.DigitsMLP", False),
    ],
)
def test_a_class_of_ours_keeps_a_pages_values_where_its_options_have_the_same_names(
    root, page, group, target, kept
):
    before, after = (composed(root, page, *words)[group] for words in ([], [f"{group}._target_={target}"]))
    assert after == (before if kept else {}) | {"_target_": target}
    assert len(before) > 1


def test_a_page_that_names_a_class_gives_it_only_its_own_values(tmp_path):
    own = tmp_path / "experiment" / "mine.yaml"
    own.parent.mkdir()
    own.write_text("# @package _global_\noptimizer:\n  _target_: torch.optim.NAdam\n  lr: 0.5\n")
    found = compose_tree("rl", ["experiment=mine"], [CONF, tmp_path])[0]["optimizer"]
    assert found == {"_target_": "torch.optim.NAdam", "lr": 0.5}
    for name in ("sgd", "adamw"):
        typed = compose_tree("rl", ["experiment=mine", f"optimizer={name}"], [CONF, tmp_path])[0]["optimizer"]
        assert typed == composed("rl", "experiment=none", f"optimizer={name}")["optimizer"] | {"lr": 0.5}


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("NoRate", "optimizer: NoRate has no learning rate (lr)"),
        ("NeedsGraph", "NeedsGraph cannot take a step here: RuntimeError: the gradient has no grad_fn"),
        ("NeedsHorizon", "optimizer: NeedsHorizon refuses its options: "),
        ("NoOptimizer", "optimizer: NoOptimizer is no optimizer"),
        ("Recent", "its state['state'][0]['recent'] is a collections.deque; the run could not be resumed"),
        ("Enumerated", "its state['param_groups'][0]['norm'] is a tests.foreign.Norm"),
    ],
)
def test_an_optimizer_that_no_run_can_use_ends_in_one_line_with_nothing_made(
    command: Command, target, message
):
    assert_refused(command("descend", *DESCEND, f"optimizer._target_=tests.foreign.{target}"), message)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("descend", ["optimizer=sam", "optimizer.base._target_=tests.foreign.Recent"]),
        ("descend", ["optimizers=[sgd,adam]", "optimizers.adam._target_=tests.foreign.Recent"]),
        ("gan", ["data=ring", "optimizer._target_=tests.foreign.Recent", "discriminator.lr=0.1"]),
        ("rl", ["agent=sac", "env=pendulum", "optimizer._target_=tests.foreign.Recent"]),
    ],
)
def test_so_does_one_inside_of_another_and_one_of_several(command: Command, name, words):
    assert_refused(command(name, *words), "is a collections.deque; the run could not be resumed")


@pytest.mark.parametrize("word", ["+optimizer@optimizer.base=sgd", "optimizer@optimizer.base=sgd"])
def test_a_file_put_inside_of_another_would_replace_the_whole_and_is_refused(command: Command, word):
    assert_refused(command("rl", "optimizer=sam", word), "named by its class, optimizer.base._target_=...")


@pytest.mark.parametrize("words", [["+optimizer.foreach=true"], ["optimizer.groups={x: {foreach: true}}"]])
def test_another_kernel_of_torchs_can_be_typed_beside_the_fused_one_that_we_choose(command: Command, words):
    assert command("descend", *DESCEND, *words, "hydra.run.dir=run").status == 0
    assert Path("run", "summary.json").exists()


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        (
            "gan",
            ["loss._target_=torch.nn.ReLU"],
            "loss._target_ must name a class of the kind gradgan.losses.Loss",
        ),
        (
            "gan",
            ["update._target_=torch.nn.ReLU"],
            "update._target_ must name a class of the kind core.optim.schemes.schemes.Scheme",
        ),
        (
            "gan",
            ["features._target_=torch.nn.ReLU"],
            "features._target_ must name a class of the kind gradgan.features.Features",
        ),
        (
            "gan",
            ["network._target_=core.gradients.AGC"],
            "network._target_ must name a class of the kind gradgan.networks.Network",
        ),
        (
            "rl",
            ["optimizer._target_=builtins.dict", "optimizer.lr=1"],
            "unknown option optimizer.lr: builtins",
        ),
        ("rl", ["agent._target_=torch.nn.ReLU"], "agent must be an agent like those of gradrl.agents"),
        (
            "rl",
            ["clipper._target_=torch.nn.ReLU"],
            "clipper._target_ must name a class of the kind core.gradients.",
        ),
        (
            "rl",
            ["monitor._target_=torch.nn.ReLU"],
            "monitor._target_ must name a class of the kind core.gradients.",
        ),
        (
            "rl",
            ["optimizer._target_=core.gradients.AGC"],
            "optimizer._target_ must name a class that is no data",
        ),
        (
            "descend",
            ["optimizer.differentiable=true"],
            "optimizer: Adam cannot take a step here: RuntimeError: a leaf",
        ),
    ],
)
def test_a_class_of_another_kind_ends_in_one_line_with_nothing_made(command: Command, name, words, message):
    assert_refused(command(name, *(["data=ring"] if name == "gan" else []), *words), message)
