"""conf/: every YAML composes and builds for its root, explains its options, and says what its class says."""

import dataclasses
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir

from core.cli.compose import plain
from core.config import ConfigError, Tree, build, config_dir, import_target

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


def composed(root: str, *words: str) -> Tree:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return plain(compose(root, list(words)))


def components(root: str) -> list[tuple[str, str, str]]:
    """Every file that a user can choose by `group=option`, with the root it serves."""
    experiments = [f"{root}/{option}" for option in options(f"experiment/{root}")]
    return [
        (root, group, option)
        for group in groups(root)
        for option in (*options(group), *(experiments if group == "experiment" else ()))
        if not group.startswith("recipe/") and not (group == "recipe" and option != "none")
    ]


CHOICES = [choice for root in ROOTS for choice in components(root)]


def test_every_folder_of_yaml_files_is_a_group_of_some_root():
    used = {group for root in ROOTS for group in groups(root)}
    used |= {f"experiment/{root}" for root in ROOTS if options(f"experiment/{root}")}
    assert {str(path.parent.relative_to(CONF)) for path in CONF.rglob("*.yaml")} - {"."} == used


@pytest.mark.parametrize(("root", "group", "option"), CHOICES)
def test_every_option_of_every_group_composes_and_builds(root, group, option):
    words = [f"{group}={option}", *NEEDS.get(option, [])]
    if group in ("batch", "batches", "function") and (option == "none") == (group == "function"):
        words.append(
            "objective=logistic"
        )  # whose function is none, and whose batches are several kinds of some
    if root == "descend" and group == "probe" and option != "none":
        words.append("objective=logistic")
    cfg = build(composed(root, *words))
    assert type(cfg).__module__ == ROOTS[root]
    if group not in ("recipe", "experiment"):
        assert (getattr(cfg, group) is None) == (option == "none")


def leaves(tree: Tree, path: str = "") -> Iterator[tuple[str, object]]:
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def recipes() -> list[tuple[str, list[str], str, Path]]:
    """Root, the words that bring a recipe about, the node it changes, its file."""
    found = []
    for path in sorted((CONF / "recipe").rglob("*_*.yaml")):
        node = "" if path.parent.name == "recipe" else path.parent.name
        root, _, option = path.stem.partition("_")
        if root in ROOTS:
            found.append((root, [f"{node}={option}"], node, path))
            continue
        # An optimizer's is named after the agent, or after a root as above; other parts' after the data.
        # A rate for one function after that; `none` is an objective, whichever.
        names = {"": ("agent", "env"), "optimizer": ("agent", node), "function": (node, "optimizer")}
        groups_of_name = names.get(node, ("data", node))
        first, second = split_name(path.stem, *groups_of_name)
        if node == "function":
            what = "objective=logistic" if first == "none" else f"function={first}"
            found.append(("descend", [what, f"optimizer={second}"], "optimizer", path))
            continue
        words = [f"{groups_of_name[0]}={first}", f"{groups_of_name[1]}={second}", *NEEDS.get(first, [])]
        found.append(("rl" if groups_of_name[0] == "agent" else "gan", words, node, path))
    return found


def split_name(name: str, first: str, second: str) -> tuple[str, str]:
    """The two options that a recipe is named after; both may hold underscores."""
    pairs = [(name[:cut], name[cut + 1 :]) for cut, letter in enumerate(name) if letter == "_"]
    (pair,) = [pair for pair in pairs if pair[0] in options(first) and pair[1] in options(second)]
    return pair


@pytest.mark.parametrize(("root", "words", "node", "path"), recipes(), ids=lambda value: str(value)[-40:])
def test_every_recipe_is_applied_by_the_words_in_its_name_and_builds(root, words, node, path):
    tree = composed(root, *words)
    build(tree)
    arrived = dict(leaves(tree[node] if node else tree))
    for name, value in leaves(read(path)):
        assert arrived[name] == value, f"{path.name}: {name}"


def test_the_general_settings_are_those_without_a_recipe():
    cfg, tuned = composed("rl", "recipe=none"), composed("rl")
    assert cfg["agent"] == read(CONF / "agent" / "ppo.yaml")
    assert tuned["agent"] != cfg["agent"]


@pytest.mark.parametrize("data", options("data"))
def test_a_data_set_alone_chooses_what_fits_and_explicit_words_win(data):
    needed = NEEDS.get(data, [])
    alone = composed("gan", f"data={data}", *needed)
    entries = [entry for entry in read(CONF / "data" / f"{data}.yaml")["defaults"] if isinstance(entry, dict)]
    chosen = {key.removeprefix("override /"): option for entry in entries for key, option in entry.items()}
    assert chosen.keys() >= {"network", "loss", "penalty"}
    for group, option in chosen.items():
        assert alone[group]["_target_"] == read(CONF / group / f"{option}.yaml")["_target_"]
    words = ["network=mlp", "loss=relativistic", "penalty=none", "optimizer.lr=0.125", "total_images=640"]
    tree = composed("gan", *words, f"data={data}", *needed)
    assert tree["network"]["_target_"] == read(CONF / "network" / "mlp.yaml")["_target_"]
    assert tree["loss"]["_target_"] == read(CONF / "loss" / "relativistic.yaml")["_target_"]
    assert (tree["penalty"], tree["optimizer"]["lr"], tree["total_images"]) == (None, 0.125, 640)
    build(tree)


@pytest.mark.parametrize("env", ["pong", "breakout"])
def test_a_game_alone_chooses_a_policy_that_sees_unless_the_agent_or_a_word_chooses(env):
    def policy(*words):
        return composed("rl", f"env={env}", "recipe=none", *words)["policy"]

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
    node = "optimizer" if folder == Path("recipe/function") else folder.name  # rates for one function
    above = [] if path.parent == CONF or "# @package _global_" in lines else [(-1, node)]
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
VARIANTS = {"cnn"}  # other values for a class whose defaults another file gives


@pytest.mark.parametrize("root", sorted(ROOTS))
def test_every_option_is_explained_where_it_stands_or_where_it_is_first_set(root):
    """A recipe, or a data set that tunes the root's options, need not repeat their explanations."""
    own = [CONF / f"{root}.yaml"] + [
        path for path in YAMLS if str(path.parent.relative_to(CONF)) in groups(root)
    ]
    lines = [(path, name, line) for path in own for name, line in option_lines(path) if is_leaf(line)]
    explained = {name for _, name, line in lines if "#" in line}
    bare = [
        f"{path.relative_to(CONF)}: {name}"
        for path, name, _ in lines
        if name not in explained
        and name.split(".")[0] not in ("hydra", "defaults")
        and not name.endswith("_target_")
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
    [
        p
        for p in YAMLS
        if not {"recipe", "experiment", "optimizers", "batches"} & set(p.parts) and p.stem != "none"
    ],
    ids=lambda path: str(path.relative_to(CONF)),
)
def test_a_yaml_lists_every_field_of_its_dataclass_and_agrees_with_its_defaults(path):
    tree = read(path)
    # The one group without a `_target_`: the root's field says what it is.
    cls = import_target("gradrl.envs.make.EnvConfig", "env") if path.parent.name == "env" else None
    tree = tree.get("env", tree) if cls is not None else tree  # one that also chooses its networks
    filled = list(described(tree, typing.cast(type | None, cls)))
    assert filled or tree["_target_"].startswith("torch.")
    chosen_elsewhere = set(groups(path.stem)) if path.stem in ROOTS and path.parent == CONF else set()
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
    left_out = {"sparse_adam"}  # which takes no dense gradient, so none of a descent
    assert set(options(several)) == (set(options(one)) | {"none"}) - left_out
    names = [name for name in options(several) if name != "none"]
    together = composed("descend", f"{several}=[{','.join(names)}]", *needs)
    assert together[one] is None
    for name in names:
        assert together[several][name] == composed("descend", f"{one}={name}", *needs)[one]
