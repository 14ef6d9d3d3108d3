"""conf/: every YAML composes and builds for its root, explains its options, and says what its class says."""

import dataclasses
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from core.cli.launch import compose_tree
from core.config import ConfigError, Tree, build, config_dir, import_target
from tests.thinned import thinned

CONF = config_dir()
ROOTS = {"rl": "gradrl.train", "gan": "gradgan.train", "descend": "core.descend.descent"}
NEEDS = {"by_id": ["env.id=Acrobot-v1"], "folder": ["data.root=pictures"]}  # options without a default


def read(path: Path) -> Tree:
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {}


def groups(root: str) -> list[str]:
    """The groups that a root chooses from, by its defaults list."""
    keys = [
        key for entry in read(CONF / f"{root}.yaml")["defaults"] if isinstance(entry, dict) for key in entry
    ]
    names = [key.removeprefix("optional ").partition("@")[0] for key in keys]
    return [name for name in names if not name.startswith("override ")]


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def composed(root: str, *overrides: str) -> Tree:
    return compose_tree(root, overrides, [CONF])[0]


def note(root: str, *overrides: str) -> str | None:
    return " ".join(compose_tree(root, overrides, [CONF])[2].notes) or None


def components(root: str) -> list[tuple[str, str, str]]:
    """Every file that a user can choose by `group=option`, with the root it serves."""
    experiments = [f"{root}/{option}" for option in options(f"experiment/{root}")]
    return [
        (root, group, option)
        for group in groups(root)
        for option in (*options(group), *(experiments if group == "experiment" else ()))
    ]


CHOICES = [choice for root in ROOTS for choice in components(root)]
FIRST = list({choice[1:]: choice for choice in reversed(CHOICES)}.values())  # of the roots that share a file
EXPERIMENTS = [choice for choice in FIRST if choice[1] == "experiment"]  # composed by their names below, too
AT_ONCE = [choice for choice in FIRST if choice not in EXPERIMENTS][::2]


def test_every_folder_of_yaml_files_is_a_group_of_some_root():
    used = {group for root in ROOTS for group in groups(root)}
    used |= {f"experiment/{root}" for root in ROOTS if options(f"experiment/{root}")}
    used |= {"hydra/launcher", *groups("tune")}  # the first is of every root
    assert {str(path.parent.relative_to(CONF)) for path in CONF.rglob("*.yaml")} - {"."} == used


@pytest.mark.parametrize(
    ("root", "group", "option"),
    [choice if choice in AT_ONCE else pytest.param(*choice, marks=pytest.mark.slow) for choice in CHOICES],
)
def test_every_option_of_every_group_composes_and_builds(root, group, option):
    overrides = [f"{group}={option}", *NEEDS.get(option.rpartition("/")[2], [])]
    if group in ("batch", "function") and (option == "none") == (group == "function"):
        overrides.append("objective=logistic")  # whose function is none
    if root == "descend" and group == "probe" and option != "none":
        overrides.append("objective=logistic")
    cfg = build(composed(root, *overrides))
    assert type(cfg).__module__ == ROOTS[root]
    if group != "experiment":
        assert (getattr(cfg, group) is None) == (option == "none")


def leaves(tree: Tree, path: str = "") -> Iterator[tuple[str, object]]:
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def pages() -> list[Any]:
    """Root, the overrides that a page of an experiment stands for, its file; five in six are slow.

    A page that is named after its budget too, `_300k`, stands for nothing but itself.
    """
    found = []
    for path in sorted((CONF / "experiment" / "rl").glob("*.yaml")):
        if re.search(r"_\d+k$", path.stem):
            continue
        agent, env = split_name(path.stem, "agent", "env")
        found.append(("rl", [f"agent={agent}", f"env={env}"], path))
    gan = CONF / "experiment" / "gan"
    found += [
        ("gan", [f"data={data}", *NEEDS.get(data, [])], gan / f"{data}.yaml") for data in options("data")
    ]
    return thinned(found, 6)


def split_name(name: str, first: str, second: str) -> tuple[str, str]:
    """The two options that a page is named after; both may hold underscores."""
    pairs = [(name[:cut], name[cut + 1 :]) for cut, letter in enumerate(name) if letter == "_"]
    (pair,) = [pair for pair in pairs if pair[0] in options(first) and pair[1] in options(second)]
    return pair


@pytest.mark.parametrize(("root", "overrides", "path"), pages(), ids=lambda value: str(value)[-40:])
def test_the_choices_in_its_name_stand_for_an_experiment(root, overrides, path):
    tree = composed(root, *overrides)
    build(tree)
    arrived = dict(leaves(tree))
    page = {name: value for name, value in read(path).items() if name != "defaults"}
    for name, value in leaves(page):
        assert arrived[name] == value, f"{path.name}: {name}"
    named = f"{root}/{path.stem}"
    assert tree == composed(root, f"experiment={named}", *overrides[1:] if root == "gan" else ())
    assert (note(root, *overrides) or "").startswith(
        f"settings: experiment={named}; type experiment=none for"
    )


def test_an_agent_or_an_environment_at_its_default_stands_for_an_experiment_too():
    assert composed("rl") == composed("rl", "experiment=rl/ppo_cartpole")
    assert composed("rl", "env=acrobot") == composed("rl", "experiment=rl/ppo_acrobot")
    assert composed("gan") == composed("gan", "experiment=gan/digits")


def test_without_a_page_there_are_the_defaults_of_every_part_and_no_line():
    assert composed("rl", "agent=a2c", "env=ant") == composed("rl", "agent=a2c", "env=ant", "experiment=none")
    assert note("rl", "agent=a2c", "env=ant") is None
    assert note("rl", "experiment=none") is None


def test_typed_options_win_over_a_page():
    tree = composed("rl", "agent=ppo", "env=cartpole", "agent.num_epochs=3", "optimizer=sgd", "num_envs=4")
    assert (tree["agent"]["num_epochs"], tree["num_envs"], tree["agent"]["gamma"]) == (3, 4, 0.98)
    assert tree["optimizer"]["_target_"] == "torch.optim.SGD"
    assert tree["optimizer"]["lr"] == 1e-3


def test_a_part_with_other_options_than_the_pages_has_its_own():
    tree = composed("gan", "data=grid", "penalty=wgan_gp", "network=dcgan")
    assert tree["penalty"] == read(CONF / "penalty" / "wgan_gp.yaml")
    assert tree["network"] == read(CONF / "network" / "dcgan.yaml")
    assert composed("gan", "data=grid", "penalty=none")["penalty"] is None
    assert composed("gan", "data=grid", "penalty=r1")["penalty"]["gamma"] == 0.1  # as R1 and R2 there
    line = note("gan", "data=mnist", "penalty=wgan_gp") or ""
    assert "without its penalty" in line
    assert "experiment=gan/mnist_wgan_gp" in line


def test_an_optimizer_has_what_a_trainer_an_agent_or_a_function_wants_of_it():
    assert composed("gan", "optimizer=adamw")["optimizer"]["betas"] == [0.0, 0.99]
    assert "betas" not in composed("gan", "optimizer=sgd")["optimizer"]
    assert composed("rl", "agent=a2c")["optimizer"]["eps"] == 1e-5
    assert composed("rl", "agent=a2c", "optimizer=adam")["optimizer"]["eps"] == 1e-8
    assert composed("descend", "function=beale", "optimizer=sgd")["optimizer"]["lr"] == 1e-3
    assert composed("descend", "function=booth", "optimizer=sgd")["optimizer"]["lr"] == 5e-2
    assert composed("descend", "objective=moons", "optimizer=sgd")["optimizer"]["lr"] == 0.1
    assert composed("descend", "objective=moons", "optimizer=muon")["optimizer"]["lr"] == 3e-4


def test_the_general_settings_are_those_without_an_experiment():
    cfg, tuned = composed("rl", "experiment=none"), composed("rl")
    assert cfg["agent"] == read(CONF / "agent" / "ppo.yaml")
    assert tuned["agent"] != cfg["agent"]


@pytest.mark.parametrize("data", thinned(options("data"), 2))
def test_a_data_set_alone_chooses_what_fits_and_explicit_words_win(data):
    needed = NEEDS.get(data, [])
    alone = composed("gan", f"data={data}", *needed)
    assert build(alone).data.name == data
    entries = read(CONF / "experiment" / "gan" / f"{data}.yaml")["defaults"]
    chosen = {key.removeprefix("override /"): option for entry in entries for key, option in entry.items()}
    assert chosen.keys() >= {"network", "loss", "penalty"}
    for group, option in chosen.items():
        assert alone[group]["_target_"] == read(CONF / group / f"{option}.yaml")["_target_"]
    overrides = ["network=mlp", "loss=relativistic", "penalty=none", "optimizer.lr=0.125", "total_images=640"]
    tree = composed("gan", *overrides, f"data={data}", *needed)
    assert tree["network"]["_target_"] == read(CONF / "network" / "mlp.yaml")["_target_"]
    assert tree["loss"]["_target_"] == read(CONF / "loss" / "relativistic.yaml")["_target_"]
    assert (tree["penalty"], tree["optimizer"]["lr"], tree["total_images"]) == (None, 0.125, 640)
    build(tree)


@pytest.mark.parametrize("env", ["pong", "breakout"])
def test_a_game_alone_chooses_a_policy_that_sees_unless_the_agent_or_a_word_chooses(env):
    def policy(*overrides):
        return composed("rl", f"env={env}", "experiment=none", *overrides)["policy"]

    assert policy() == read(CONF / "policy" / "cnn.yaml")
    assert policy("policy=mlp") == read(CONF / "policy" / "mlp.yaml")
    assert policy("agent=sac") == read(CONF / "policy" / "sac.yaml")


@pytest.mark.parametrize("data", ["ring", "grid"])
def test_what_cannot_fit_is_refused(data):
    with pytest.raises(ConfigError, match="network=dcgan takes square images"):
        build(composed("gan", f"data={data}", "network=dcgan"))


def option_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Every option of a YAML file by its path in the whole configuration, with its line."""
    lines = path.read_text(encoding="utf-8").splitlines()
    folder = path.parent.relative_to(CONF)
    above = [] if path.parent == CONF or "# @package _global_" in lines else [(-1, folder.name)]
    for line in lines:
        name, colon, _ = line.partition(":")
        indent = len(line) - len(line.lstrip())
        if not colon or name.lstrip().startswith(("#", "-")):
            continue
        above = [(depth, key) for depth, key in above if depth < indent] + [(indent, name.strip())]
        yield ".".join(key for _, key in above), line


def is_leaf(line: str) -> bool:
    return bool(line.partition(":")[2].split("#")[0].strip())


YAMLS = sorted(CONF.rglob("*.yaml"))
FOREIGN = ("launcher", "sampler", "pruner")  # whose classes are of libraries that may be missing
VARIANTS = {"cnn", "ppo_recurrent"}  # other values for a class whose defaults another file gives


@pytest.mark.parametrize("root", sorted(ROOTS))
def test_every_option_is_explained_where_it_stands_or_where_it_is_first_set(root):
    """An experiment, which sets the options of others, need not repeat their explanations."""
    folders = groups(root)
    own = [CONF / f"{root}.yaml"] + [path for path in YAMLS if str(path.parent.relative_to(CONF)) in folders]
    lines = [(path, name, line) for path in own for name, line in option_lines(path) if is_leaf(line)]
    explained = {name for _, name, line in lines if "#" in line}
    bare = [
        f"{path.relative_to(CONF)}: {name}"
        for path, name, _ in lines
        if name not in explained
        and name.split(".")[0] not in ("hydra", "defaults", "optimizer_defaults")
        and not name.endswith(("_target_", ".defaults"))
        and path.stem != "none"
    ]
    assert bare == []


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: str(path.relative_to(CONF)))
def test_a_file_without_options_says_what_its_choice_is(path):
    lines = [line for name, line in option_lines(path) if is_leaf(line) and not name.startswith("hydra")]
    targets = [line for line in lines if line.strip().startswith("_target_")]
    if path.parent != CONF and lines == targets:
        assert "#" in path.read_text(encoding="utf-8") or path.parent.name == "schedule"


def schema(target: object) -> type | None:
    """The dataclass that a class of ours is checked against: itself, or the type of its `cfg` argument."""
    if isinstance(target, type) and dataclasses.is_dataclass(target):
        return target
    hints = typing.get_type_hints(getattr(target, "__init__", None))
    return typing.cast(type | None, hints.get("cfg"))


def described(tree: Tree, cls: type | None) -> Iterator[tuple[type, Tree]]:
    """Every mapping in a YAML file with the dataclass it fills."""
    if "_target_" in tree:
        cls = schema(import_target(tree["_target_"], "_target_"))
    hints = typing.get_type_hints(cls) if cls is not None else {}
    if cls is not None:
        yield cls, tree
    for key, value in tree.items():
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, dict) and key != "hydra":
                hint = hints.get(key)
                yield from described(part, hint if dataclasses.is_dataclass(hint) else None)


@pytest.mark.parametrize(
    "path",
    [p for p in YAMLS if not {"experiment", *FOREIGN} & {*p.parts} and p.stem != "none"],
    ids=lambda path: str(path.relative_to(CONF)),
)
def test_a_yaml_lists_every_field_of_its_dataclass_and_agrees_with_its_defaults(path):
    tree = read(path)
    if tree.get("defaults") == ["by_id"]:  # an environment that differs in its id alone
        tree = read(path.with_name("by_id.yaml")) | tree
    # The two groups without a `_target_`: the root's field says what they are.
    classes = {"env": "gradrl.envs.make.EnvConfig", "search": "core.tune.config.Search"}
    cls = import_target(classes[path.parent.name], "_target_") if path.parent.name in classes else None
    tree = tree.get("env", tree) if cls is not None else tree  # one that also chooses its networks
    filled = list(described(tree, typing.cast(type | None, cls)))
    assert filled or tree["_target_"].startswith("torch.")
    chosen_elsewhere = (
        set(groups(path.stem)) if path.stem in (*ROOTS, "tune") and path.parent == CONF else set()
    )
    for owner, values in filled:
        for field in dataclasses.fields(owner):
            if not field.init or field.name in chosen_elsewhere:
                continue
            assert field.name in values, f"{owner.__name__}.{field.name} is not in {path.name}"
            if field.default is not dataclasses.MISSING and path.stem not in VARIANTS:
                value = values[field.name]
                value = tuple(value) if isinstance(value, list) else value
                assert value == field.default, f"{owner.__name__}.{field.name} in {path.name}"


@pytest.mark.parametrize(("several", "one"), [("optimizers", "optimizer"), ("batches", "batch")])
def test_every_choice_of_one_is_a_choice_of_several_with_the_same_options(several, one):
    needs = ["objective=logistic"] if one == "batch" else []
    names = [name for name in options(one) if name != "none"]
    together = composed("descend", f"{several}=[{','.join(names)}]", *needs)
    assert together[one] is None
    for name in names:
        assert together[several][name] == composed("descend", f"{one}={name}", *needs)[one]
