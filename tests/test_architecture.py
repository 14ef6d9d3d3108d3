"""How the source is laid out: short files, imports that only go down, nothing of anybody's machine in it."""

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from core.cli.compose import FOR_LAUNCHER

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("core", "gradrl", "gradgan", "scripts")
LONGEST = 400
# Which packages may import what, anywhere in a file.
HOMES = {
    "hydra": ("core/cli",),
    "omegaconf": ("core/cli",),
    "gymnasium": ("gradrl", "scripts/suites"),
    "torchvision": ("gradgan", "scripts/suites"),
    "lightning": ("core/watch/lightning.py", "scripts/suites/programs/games.py"),
    "transformers": ("core/watch/transformers.py",),
    "wandb": ("core/run/loggers/wandb.py",),
    "mlflow": ("core/run/loggers/mlflow.py",),
    "trackio": ("core/run/loggers/trackio.py",),
    "stable_baselines3": ("gradrl/watch/stable_baselines3.py", "scripts/suites"),
}
# Seconds to import.
LATE = ("torchvision", "torchmetrics", "sklearn", "matplotlib", "PIL", "rich", "wandb", "mlflow", "trackio")


def source() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def everything() -> list[Path]:
    """Every file that is, or would be, committed."""
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


@functools.cache
def imports(path: Path, anywhere: bool) -> list[tuple[int, str]]:
    """Line and full name of every module that a file imports; in all of it, or when it is imported itself."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = ast.walk(tree) if anywhere else at_import(tree)
    return [(getattr(node, "lineno", 0), name) for node in nodes for name in imported(node)]


def imported(node: ast.AST) -> list[str]:
    """Full names of the modules that one statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) and node.module else []


def at_import(tree: ast.Module) -> Iterator[ast.AST]:
    """Statements that run when the module is imported: function bodies and `if TYPE_CHECKING` left out."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
            continue
        waiting += ast.iter_child_nodes(node)


def offences(files: list[Path], forbidden: tuple[str, ...], *, anywhere: bool) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in files
        for line, name in imports(path, anywhere)
        if name.split(".")[0] in forbidden
    ]


def test_no_python_file_is_longer_than_400_lines():
    files = [path for path in everything() if path.suffix == ".py"]
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in files
    }
    assert lengths
    assert {name: length for name, length in lengths.items() if length > LONGEST} == {}


@pytest.mark.parametrize("library", sorted(HOMES))
def test_a_library_is_imported_only_where_it_belongs(library):
    outside = [
        path
        for path in source()
        if not any(path.is_relative_to(ROOT / home) for home in HOMES[library])
    ]  # fmt: skip
    assert offences(outside, (library,), anywhere=True) == []


def test_libraries_that_take_seconds_to_import_are_imported_late():
    assert offences(source(), LATE, anywhere=False) == []


def test_the_walk_sees_what_it_should(tmp_path):
    late = tmp_path / "late.py"
    late.write_text(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import PIL\n"
        "def draw():\n    import matplotlib.pyplot\n"
    )
    early = tmp_path / "early.py"
    early.write_text("try:\n    from rich.console import Console\nexcept ImportError:\n    pass\n")
    names = [
        [name for node in at_import(ast.parse(path.read_text())) for name in imported(node)]
        for path in (late, early)
    ]
    assert names == [["typing"], ["rich.console"]]


@pytest.mark.parametrize("package", ["core", "gradrl", "gradgan"])
def test_imports_go_down_and_never_sideways(package):
    above = {
        "core": ("gradrl", "gradgan", "scripts", "tests"),
        "gradrl": ("gradgan", "scripts", "tests"),
        "gradgan": ("gradrl", "scripts", "tests"),
    }
    files = [path for path in source() if path.is_relative_to(ROOT / package)]
    assert files
    assert offences(files, above[package], anywhere=True) == []


# Names of options and prefixes of tags that packages above have as well, and why core may use them.
OWN_OPTIONS = {
    "batch_norm": "a function of torch.nn.functional",
    "batch_size": "samples of one gradient: an argument of GradientStep",
    "eval_interval": "an option of core.run.config.RunConfig",
    "gradient_steps": "an argument of Run.start",
    "half_life": "an option of core.optim.averaging.AverageConfig",
    "held_out": "samples that an objective of a descent does not train on",
    "import_module": "a function of Python's importlib",
    "logging.snapshots": "an option of core.run.config.RunConfig",
    "max_kl": "an argument of the natural gradient's step",
    "ramp_up": "an option of core.optim.averaging.AverageConfig",
    "spectral_norm": "a module of torch.nn.utils",
}
OWN_TAGS = {
    "eval/": "Run writes every final measurement there",
    "loss/": "a descent has a loss, too",
    "loss_share/": "UnitHealth measures the shares of any loss's terms",
}


def yaml_options(tree: object, path: str = "") -> Iterator[str]:
    """Dotted names of the options below a YAML node."""
    for key, value in tree.items() if isinstance(tree, dict) else ():
        if key not in ("defaults", "hydra", "_target_", *FOR_LAUNCHER):
            yield f"{path}{key}"
            yield from yaml_options(value, f"{path}{key}.")


def options_of(root: str) -> set[str]:
    """Every option of a command, by dotted name: of its root file and of all files of its groups."""
    conf = ROOT / "conf"
    tree = yaml.safe_load((conf / f"{root}.yaml").read_text(encoding="utf-8"))
    found = set(yaml_options(tree))
    for entry in tree["defaults"]:
        for key in entry if isinstance(entry, dict) else ():
            group = key.removeprefix("optional ").removeprefix("override ").partition("@")[0].lstrip("/")
            for file in (conf / group).rglob("*.yaml"):
                text = file.read_text(encoding="utf-8")
                below = "" if "# @package _global_" in text else f"{group}."
                found |= {group, *yaml_options(yaml.safe_load(text), below)}
    return found


def strings(package: str) -> Iterator[str]:
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


@functools.cache
def names_above() -> re.Pattern[str]:
    """Whatever names a package above core, one of its options or one of its tags.

    An option counts by its dotted name, by its last part where that is several words (clip_coef), and as an
    override (env=cartpole). `data` or `loss` alone are words of any language.
    """
    own = options_of("descend")
    theirs = (options_of("rl") | options_of("gan")) - own
    leaves = {name.rpartition(".")[2] for name in theirs} - {name.rpartition(".")[2] for name in own}
    known = {name for name in theirs if "." in name} | {leaf for leaf in leaves if "_" in leaf}
    groups = {name for name in theirs if (ROOT / "conf" / name).is_dir()}
    tags = {m.group() for package in ("gradrl", "gradgan") for text in strings(package)
            if (m := re.match(r"[a-z_]+/(?=[a-z_]*$)", text))}  # fmt: skip
    assert {"agent.clip_coef", "num_minibatches", "total_images", "normalize_reward"} <= known
    assert {"policy/", "episode/", "game/", "discriminator/"} <= tags
    assert {"agent", "env", "data"} <= groups
    assert known >= OWN_OPTIONS.keys(), "what nobody above has needs no exception"
    assert tags >= OWN_TAGS.keys(), "what nobody above has needs no exception"
    return re.compile(
        r"gradrl|gradgan"
        rf"|(?<!\w)(?:{'|'.join(map(re.escape, sorted(known - OWN_OPTIONS.keys())))})(?!\w)"
        rf"|[`'\" ](?:{'|'.join(sorted(groups))})=[a-z\[{{]\w*[`'\" ]"
        rf"|(?<![\w./])(?:{'|'.join(sorted(tags - OWN_TAGS.keys()))})[a-z_{{]"
    )


def test_core_knows_nobody_by_import_by_name_or_by_string():
    pattern = names_above()
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match.group()}"
        for path in everything()
        if path.suffix == ".py" and path.is_relative_to(ROOT / "core")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if (match := pattern.search(line))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ('"gradrl": GRADIENTS', True),
        ('"""A clip of agent.clip_coef."""', True),
        ("self.num_minibatches = 4", True),
        ('history.now("policy/entropy")', True),
        ('f"discriminator/{name}"', True),
        ('raise ConfigError("env=cartpole has none")', True),
        ('("penalty=r1",)', True),
        ("penalty=self.penalty, data=x", False),
        ("module(data.x, network.width_of)", False),
        ('"gradient/norm"', False),
    ],
)
def test_the_search_finds_what_it_should(line, found):
    assert bool(names_above().search(line)) is found


def test_the_import_contracts_hold():
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache"], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


# Written in two halves, so that this file does not contain what it looks for.
HOSTS = ["pypi" + ".org", "files.python" + "hosted", "download.py" + "torch", "conda." + "anaconda",
         "registry." + "npmjs", "test.py" + "pi"]  # fmt: skip
PLACES = [r"/ho" + r"me/\w", r"/Use" + r"rs/\w", r"/ro" + r"ot/\w", r"/wo" + r"rk/\w", r"/mn" + r"t/\w",
          r"[A-Z]:\\Use" + r"rs"]  # fmt: skip


def test_no_file_names_the_host_of_a_package_registry_or_a_place_on_somebodys_machine():
    pattern = re.compile("|".join([re.escape(host) for host in HOSTS] + [rf"(?<![\w.]){p}" for p in PLACES]))
    found = []
    for path in everything():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture
        found += [
            f"{path.relative_to(ROOT)}:{number}: {match.group()}"
            for number, line in enumerate(text.splitlines(), 1)
            if (match := pattern.search(line))
        ]
    assert found == []


def test_no_lock_file_is_committed():
    locks = {"uv.lock", "py" + "lock.toml", "poetry.lock", "Pipfile.lock"}
    assert [path.name for path in everything() if path.name in locks] == []
