"""The help of every command explains every option in the words of its YAML file, and its examples work."""

import importlib.metadata
import re
import shlex
import subprocess
import sys

import pytest
import yaml

from core.cli.arguments import own_words, parsed, with_names
from core.cli.choices import YamlFile
from core.cli.comments import comments, named_lines, takes_list
from core.cli.compose import compose_checked
from core.cli.help import examples, purpose
from core.config import config_dir
from tests.conftest import Command
from tests.thinned import thinned

ROOTS = sorted(path.stem for path in config_dir().glob("*.yaml"))
EXAMPLES = [(name, words) for name in ROOTS for words, _ in examples(YamlFile(config_dir() / f"{name}.yaml"))]


def root_of(name: str) -> YamlFile:
    return YamlFile(config_dir() / f"{name}.yaml")


@pytest.mark.parametrize("name", thinned(ROOTS, 2))
def test_every_command_has_a_purpose_and_three_examples(command: Command, name):
    assert len(examples(root_of(name))) == 3
    lines = command(name, "--help").out.splitlines()
    assert lines[: lines.index("")] == purpose(root_of(name)).splitlines()
    assert sum(line.startswith(f"{root_of(name).content['hydra']['job']['name']} ") for line in lines) == 3


@pytest.mark.parametrize(("name", "words"), EXAMPLES, ids=lambda value: str(value)[:40])
def test_every_example_is_accepted(tmp_path, monkeypatch, name, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "rl" / "x").mkdir(parents=True)
    (tmp_path / "runs" / "rl" / "x" / "config.yaml").write_text("_target_: x.Y\n")
    args = parsed(shlex.split(words))
    swept = [word.partition(",")[0] if args.multirun else word for word in args.overrides]
    if name == "tune":  # the others are a trainer's
        swept = own_words(swept, root_of(name))
    compose_checked(name, with_names(swept, root_of(name)), [config_dir()])


@pytest.mark.parametrize("name", ROOTS)
def test_the_help_is_the_configuration_with_the_words_of_the_yaml_behind_it(command: Command, name):
    text = command(name, "--help").out
    shown = text[text.index("== Options") :].split("\n", 1)[1].rsplit("\n\n", 1)[0]
    assert yaml.safe_load(shown) == yaml.safe_load(command(name, "--cfg", "job").out)
    told = " ".join(re.sub(r"^ *# ", "", line) for line in shown.splitlines())
    own = comments(root_of(name).path)
    options = [key for key in own if key.split(".")[0] in yaml.safe_load(shown)]
    for option in options:
        assert " ".join(own[option].split()) in " ".join(told.split()), option
    bare = [
        option
        for option, line in named_lines(shown)
        if "#" not in line and not option.endswith("_target_") and len(line) < 34 and "." in option
    ]
    assert [option for option in bare if not option.startswith(("logger", "probe"))] == []


@pytest.mark.parametrize(
    ("words", "option", "said"),
    [
        ([], "agent.clip_coef", "eps, how far the probability ratio may gain; in (0, 1)"),
        (["agent=sac"], "agent.tau", "how far target networks move at every gradient step, in (0, 1]"),
        (["env=pong"], "env.kwargs.frameskip", "frames per action of the game itself"),
        (["env=acrobot"], "env.wrappers", "a _target_ (of gymnasium.wrappers, gradrl.envs.wrappers)"),
        (["optimizer=sam"], "optimizer.base.eps", "added to the denominator, >= 0"),
        (
            ["probe=[noise,curvature]"],
            "probe.curvature.lanczos_steps",
            "Hessian products for the eigenvalues",
        ),
    ],
)
def test_an_option_is_explained_by_the_file_that_was_chosen(command: Command, words, option, said):
    text = command("rl", "--help", *words).out
    shown = text[text.index("== Options") :].split("\n", 1)[1]
    (line,) = [line for name, line in named_lines(shown) if name == option]
    behind = shown[shown.index(line) :].splitlines()
    end = next(i for i, each in enumerate(behind) if i and not each.lstrip().startswith("#"))
    assert said in " ".join(" ".join(each.partition("#")[2] for each in behind[:end]).split())


def test_the_help_fits_into_80_columns_of_a_terminal(command: Command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    from core.cli.help import help_text

    text = help_text("gan", [], [config_dir()])
    options = text[text.index("== Options") :].rsplit("\n\n", 1)[0].splitlines()
    assert max(map(len, options[1:])) <= 80


def test_named_lines_count_the_elements_of_lists():
    text = "a: 1\nb:\n  - _target_: x\n    c: 2\n  - _target_: y\n    d: {e: 3}\nf:\n  g: [1]\n"
    assert [name for name, _ in named_lines(text)] == [
        "a", "b", "b.0._target_", "b.0.c", "b.1._target_", "b.1.d", "f", "f.g",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "option", "several"),
    [
        ("rl", "probe", True), ("rl", "policy.hidden_sizes", True), ("rl", "seed", False),
        ("rl", "clipper", False), ("gan", "optimizer.betas", True), ("descend", "start", True),
        ("descend", "optimizers", True), ("compare", "runs", True), ("compare", "target", False),
        ("landscape", "which", True), ("landscape", "grid", False), ("report", "run", False),
        ("replay", "step", False),
        ("bench", "models", True), ("evaluate", "truncation", False),
    ],
)  # fmt: skip
def test_which_options_take_a_list(name, option, several):
    assert takes_list(option, root_of(name).path) is several


@pytest.mark.parametrize("flag", ["--version", "--vers"])
def test_the_version_is_ours_and_says_what_results_depend_on(command: Command, flag):
    first, second = command("compare", flag).out.splitlines()
    assert first.startswith(
        f"gradsight {importlib.metadata.version('gradsight')}: python {sys.version.split()[0]}"
    )
    for name in ("torch", "torchvision", "gymnasium", "hydra-core"):
        assert f"{name} {importlib.metadata.version(name)}" in first
    assert re.fullmatch(r"device=auto is (cpu|mps|cuda \(.+\))", second)


def test_the_help_needs_hydra_alone(tmp_path):
    """What takes long to import (torch, NumPy, gymnasium, ...) is left to the run."""
    source = (
        "import sys\nsys.argv = ['gradrl', '--help']\nfrom core.scripts.train_rl import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "sys.stderr.write(' '.join({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    foreign = {name for name in done.stderr.split() if not name.startswith("_")} - sys.stdlib_module_names
    own = {"core", "cython_runtime", "yaml", "hydra", "hydra_plugins", "omegaconf"}
    assert foreign <= own | {"antlr4", "attr", "packaging"}
