"""What the documentation shows is true: its Python runs, and its links, names and options exist."""

import importlib
import re
import subprocess
import traceback
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from gymnasium import spaces
from PIL import Image

from core.export.formats import write
from gradrl.export import exportable_policy
from tests.gradgan import test_sampler
from tests.gradrl import saved_runs
from tests.pages import BLOCKS, PAGES, ROOT, Block, blocks, commands, inline_commands, name

pytestmark = pytest.mark.usefixtures("blank_figures")

LABELS = ("python", "sh", "yaml", "text")
THE_THREE = ("core", "gradrl", "gradgan")
ENDINGS = (".png", ".gif")
PICTURES = sorted(
    path for path in (ROOT / "docs").rglob("*") if path.suffix in ENDINGS and path.parent.name != "dark"
)
SHOWN = (
    r'<picture>\n<source media="\(prefers-color-scheme: dark\)" srcset="([^"]+)">\n'
    r'<img alt="[^"]{5,}" src="([^"]+)">\n</picture>'
)
OURS = "core|gradrl|gradgan|conf|scripts|tests|docs|examples"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_block_says_what_language_it_is_in(page):
    unlabelled = [
        f"{b.page}:{b.line}: {b.label!r}" for b in BLOCKS if b.page == name(page) if b.label not in LABELS
    ]
    assert unlabelled == []
    for block in BLOCKS:
        if block.page == name(page) and block.label == "yaml":
            yaml.safe_load(block.text)


def test_every_shell_block_can_be_pasted_into_a_shell():
    ours = re.compile(r"#!|(?:gradrl|gradgan|descend|gradsight-\w+) ")
    shown = [block for block in BLOCKS if block.label == "sh" or ours.match(block.text)]
    assert len(shown) > 50
    for block in shown:
        parsed = subprocess.run(["bash", "-n"], input=block.text, text=True, capture_output=True, check=False)
        assert parsed.stderr == "", f"{block.page}:{block.line}: {parsed.stderr}"


def bare(text: str) -> list[str]:
    """Words of a shell block with brackets that no quotes protect: zsh takes them for names of files."""
    return re.findall(r"\S*[\[{(]\S*", re.sub(r"""(?<!\S)#.*|"[^"]*"|'[^']*'""", "", text))


def test_lists_in_shell_blocks_stand_in_quotes():
    found = [(b.page, b.line, words) for b in BLOCKS if b.label == "sh" if (words := bare(b.text))]
    assert found == []
    assert bare("descend start=[0,1] 'a=[1]' \"b=[{c: 1}]\"  # [d]") == ["start=[0,1]"]


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.slow] * (page == "docs/watch_frameworks.md"))
        for page in sorted({block.page for block in BLOCKS if block.label == "python"})
    ],
)
def test_the_python_of_a_page_runs_from_top_to_bottom(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = [block for block in BLOCKS if block.page == page and block.label == "python"]
    if any("import pandas" in block.text for block in shown):
        pytest.importorskip("pandas")
    if any("YOUR-RUN" in block.text for block in shown):
        write_runs(tmp_path / "runs")
    run_python(shown)


def write_runs(folder: Path) -> None:
    """What `runs/rl/YOUR-RUN` and `runs/gan/YOUR-RUN` stand for, and an exported file."""
    bounds = np.float32([4.8, np.inf, 0.42, np.inf])
    agent = folder / "rl" / "YOUR-RUN"
    saved_runs.write_run(
        agent, observation_space=spaces.Box(-bounds, bounds), action_space=spaces.Discrete(2)
    )
    write(exportable_policy(agent, "last")[0], "onnx", agent / "export" / "policy.onnx")
    (agent / "curves.csv").write_text("step,eval/return_mean\n10,1.0\n20,\n")
    test_sampler.write_run(folder / "gan" / "YOUR-RUN")


def run_python(shown: list[Block]) -> None:
    """Run blocks in one namespace; what fails names its page and line."""
    namespace = {"__name__": "shown"}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for block in shown:
            place = block.page
            try:
                exec(compile("\n" * block.line + block.text, place, "exec"), namespace)
            except Exception as error:
                lines = [
                    frame.lineno
                    for frame in traceback.extract_tb(error.__traceback__)
                    if frame.filename == place
                ]
                line = lines[-1] if lines else getattr(error, "lineno", block.line)
                pytest.fail(f"{place}:{line}: {type(error).__name__}: {error}")


def test_the_examples_of_own_parts_are_shown_as_they_are_and_fit_on_a_screen():
    text = (ROOT / "docs" / "extend.md").read_text(encoding="utf-8")
    shown = re.findall(r"\(\.\./(examples/own_\w+\.py)\)\n\n```python\n(.*?)\n```\n", text, re.DOTALL)
    longer = ("own_agent.py", "own_function.py", "own_callbacks.py")  # shown elsewhere, or not as a whole
    files = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "examples").glob("own_*.py")
        if path.name not in longer
    }
    assert {name for name, _ in shown} == files
    for path, block in shown:
        content = (ROOT / path).read_text(encoding="utf-8")
        assert block + "\n" == content, f"docs/extend.md shows another {path}"
        assert len(content.splitlines()) <= 40, path


def anchors(page: Path) -> set[str]:
    """What the headings of a page can be linked by, as GitHub makes it."""
    prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    titles = re.findall(r"^#+ (.*)", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=name)
def test_every_link_leads_to_a_file_and_every_anchor_to_a_heading(page):
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        if "://" not in target and not (linked.exists() and (not anchor or anchor in anchors(linked))):
            dead.append(target)
    assert dead == []


@pytest.mark.parametrize("picture", PICTURES, ids=name)
def test_a_picture_has_a_rendering_of_its_size_for_a_dark_page(picture):
    with Image.open(picture) as light, Image.open(picture.parent / "dark" / picture.name) as dark:
        assert dark.size == light.size
        bright, shades = (np.asarray(each.convert("L")).astype(int) for each in (light, dark))
    assert shades.mean() < 0.8 * bright.mean()
    edge = np.concatenate([shades[0], shades[-1], shades[:, 0], shades[:, -1]])
    assert np.median(edge) < 60, "the page around is no dark one"
    assert (abs(shades - shades[0, 0]) > 50).mean() > 0.004, "nothing can be seen"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_page_shows_every_picture_in_light_and_in_dark(page):
    text = page.read_text(encoding="utf-8")
    shown = re.findall(SHOWN, text)
    for dark, light in shown:
        picture = page.parent / light
        assert picture in PICTURES
        assert page.parent / dark == picture.parent / "dark" / picture.name
    assert len(re.findall(r"<img |!\[.*\]\(", text)) == len(shown), "a picture that is shown in another way"


def test_every_picture_of_the_docs_is_on_a_page_and_every_dark_one_is_of_a_light_one():
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert [name(picture) for picture in PICTURES if f'{picture.name}">' not in text] == []
    dark = [path for ending in ENDINGS for path in (ROOT / "docs").rglob(f"dark/*{ending}")]
    assert len(dark) == len(PICTURES) >= 34


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_path_that_a_page_names_exists(page):
    missing = []
    for path in re.findall(rf"(?<![\w./-])(?:{OURS})/[\w./]*\w", page.read_text(encoding="utf-8")):
        mine = re.search(
            r"mine|[A-Z]{4}", path
        )  # a file of the reader's own, or a choice: its folder has to exist
        if not (ROOT / (path.rpartition("/")[0] if mine else path)).exists():
            missing.append(path)
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_name_of_ours_that_a_page_writes_with_dots_can_be_imported(page):
    text = page.read_text(encoding="utf-8")
    for dotted in set(re.findall(r"`((?:core|gradrl|gradgan)(?:\.\w+)+)`", text)):
        found, *rest = dotted.split(".")
        module = importlib.import_module(found)
        for part in rest:
            if not hasattr(module, part):
                importlib.import_module(f"{module.__name__}.{part}")
            module = getattr(module, part)


def options() -> set[str]:
    """The full names of all options of all commands, from every YAML file."""

    def below(tree: object, prefix: str) -> Iterator[str]:
        for key, value in tree.items() if isinstance(tree, dict) else ():
            yield f"{prefix}{key}"
            yield from below(value, f"{prefix}{key}.")

    found = set()
    for path in (ROOT / "conf").rglob("*.yaml"):
        text = path.read_text(encoding="utf-8")
        package = re.match(r"# @package (\S+)", text)
        owner = package[1] if package else ".".join(path.relative_to(ROOT / "conf").parts[:-1])
        found |= set(below(yaml.safe_load(text), "" if owner in ("", "_global_") else f"{owner}."))
    return found


OPTIONS = options()


def known(option: str, value: str) -> bool:
    """Whether there is such an option; of a group, whether it has such a choice, or all of several."""
    group = ROOT / "conf" / option
    if group.is_dir():
        choices = [choice for choice in value.strip("[]").split(",") if re.fullmatch(r"[a-z0-9_/]+", choice)]
        return all(choice == "none" or (group / f"{choice}.yaml").exists() for choice in choices)
    return re.sub(r"^optimizers\.\w+\.", "optimizer.", option) in OPTIONS


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_option_that_running_text_names_exists(page):
    prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    unknown = []
    for code in re.findall(r"`([^`()]+)`", prose):
        words = re.findall(r'(?<!\S)"?([a-z_]+(?:\.\w+)*)=([^"\s]*)"?(?!\S)', code)
        unknown += [f"{option}={value}" for option, value in words if not known(option, value)]
    assert unknown == []


def test_an_option_that_does_not_exist_is_seen():
    assert known("optimizer", "[sgd,adam]")
    assert known("optimizers.sgd.lr", "0.1")
    assert known("env.id", "Acrobot-v1")
    assert not known("optimizer", "sgdd")
    assert not known("optimizer.lrr", "0.1")


def test_the_architecture_names_every_package():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    inits = [init for package in THE_THREE for init in (ROOT / package).rglob("__init__.py")]
    packages = [init.parent.relative_to(ROOT) for init in inits]
    shown = {path.as_posix() for path in packages if not (ROOT / Path(*path.parts[:2])).is_symlink()}
    assert len(shown) > 20
    unnamed = {path for path in shown if not re.search(rf"(?<![\w/]){path}(?![\w/])", text)}
    assert unnamed == set(), f"docs/architecture.md does not say what is in {', '.join(sorted(unnamed))}"


PAGE = """
```python
good = 1
```
~~~
unlabelled
~~~
```sh
make lint   # a comment
python scripts/train_rl.py "probe=[noise]" \\
    seed=S
```
```python
good += 1
assert good == 3
```
"""


def test_blocks_are_found_with_their_lines_and_their_labels():
    assert [(b.line, b.label) for b in blocks(PAGE, "page")] == [
        (2, "python"),
        (5, ""),
        (8, "sh"),
        (13, "python"),
    ]
    with pytest.raises(ValueError, match="page:2: this block is never closed"):
        blocks("\n```python\nx = 1\n", "page")


def test_commands_are_joined_and_begin_on_their_line():
    (shell,) = (block for block in blocks(PAGE, "page") if block.label == "sh")
    assert [(c.line, c.words) for c in commands(shell)] == [
        (9, ("make", "lint")),
        (10, ("python", "scripts/train_rl.py", "probe=[noise]", "seed=S")),
    ]
    (inline,) = inline_commands(f"{PAGE}\nand `scripts/report.py run=DIR\nagainst=OTHER`", "page")
    assert (inline.line, inline.words) == (18, ("python", "scripts/report.py", "run=DIR", "against=OTHER"))


def test_python_that_fails_names_its_page_and_line():
    shown = [block for block in blocks(PAGE, "page.md") if block.label == "python"]
    with pytest.raises(pytest.fail.Exception, match=r"^page\.md:15: AssertionError"):
        run_python(shown)
