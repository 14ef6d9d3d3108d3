"""What the documentation shows is true: its Python runs, its commands are accepted, its links lead on."""

import importlib
import logging
import re
import shlex
import sys
import tomllib
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml

from tests.gradgan.data.files_of_torchvision import MNIST_PREFIXES, pixels, small_mnist, write_mnist

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LABELS = ("python", "sh", "yaml", "text", "mermaid")
INSTALLED = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TARGETS = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
THE_THREE = ("core", "gradrl", "gradgan")
TRAINERS = ("train_rl", "train_gan", "descend")
FOREIGN = ("stable-baselines3",)  # what a benchmark compares with
# A placeholder, by the option in which it stands; None: in any.
PLACEHOLDERS = {
    ("seed", "S"): "1",
    ("experiment", "NAME"): "ppo_pendulum",
    ("runs", "NAME"): "ppo_pendulum",
    ("target", "PUBLISHED"): "-172",
    ("runs", "A"): "{rl}",
    ("runs", "B"): "{other}",
    ("runs", "runs/rl/THE-SWEEP"): "{rl}",
    ("runs", "docs/results"): f"{ROOT}/docs/results",
    ("run", "runs/rl/YOUR-RUN"): "{rl}",
    ("run", "DIR"): "{rl}",
    ("run", "RUN"): "{gan}",
    ("against", "OTHER"): "{other}",
    ("against", "DIR"): "{other}",
    ("resume", "runs/rl/YOUR-RUN"): "{rl}",
    ("data.root", "DIR"): "{images}",
    ("data.root", "PHOTOS"): "{images}",
    ("features.weights", "FILE"): "{weights}",
}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page; `line` is that of the fence, from 1."""

    page: str
    line: int
    label: str
    text: str


@dataclass(frozen=True)
class Command:
    """One command of a page, on which line it begins, and its words."""

    page: str
    line: int
    words: tuple[str, ...]

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(text: str, page: str) -> list[Block]:
    """All fenced blocks, in order.

    Raises:
        ValueError: the last one is not closed.
    """
    found, opened = [], None
    for number, line in enumerate(text.splitlines(), 1):
        fence = re.match(r"\s*(```|~~~)(.*)", line)
        if fence and opened is None:
            opened, body = (number, fence[2].strip()), []
        elif fence and opened is not None:
            found.append(Block(page, *opened, "\n".join(body)))
            opened = None
        elif opened is not None:
            body.append(line)
    if opened is not None:
        raise ValueError(f"{page}:{opened[0]}: this block is never closed")
    return found


def commands(block: Block) -> Iterator[Command]:
    """The commands of a shell block: comments left out, continued lines joined."""
    joined, begun = "", 0
    for number, line in enumerate(block.text.splitlines(), block.line + 1):
        begun = begun if joined else number
        joined += line.removesuffix("\\")
        if line.endswith("\\"):
            continue
        if words := shlex.split(joined, comments=True):
            yield Command(block.page, begun, tuple(words))
        joined = ""


def inline_commands(text: str, page: str) -> Iterator[Command]:
    """Commands in running text: `scripts/NAME.py option=value`."""
    prose = re.sub(r"```.*?```", lambda fenced: "\n" * fenced[0].count("\n"), text, flags=re.DOTALL)
    for found in re.finditer(r"`(?:python )?(scripts/\w+\.py\s[^`]+)`", prose):
        line = prose.count("\n", 0, found.start()) + 1
        yield Command(page, line, ("python", *shlex.split(found[1])))


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


BLOCKS = [block for page in PAGES for block in blocks(page.read_text(encoding="utf-8"), name(page))]
COMMANDS = {  # each one once, however often it is shown
    command.words: command
    for page in reversed(PAGES)
    for command in (
        *inline_commands(page.read_text(encoding="utf-8"), name(page)),
        *(
            found
            for block in BLOCKS
            if block.page == name(page) and block.label == "sh"
            for found in commands(block)
        ),
    )
}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_block_says_what_language_it_is_in(page):
    unlabelled = [
        f"{b.page}:{b.line}: {b.label!r}" for b in BLOCKS if b.page == name(page) if b.label not in LABELS
    ]
    assert unlabelled == []
    for block in BLOCKS:
        if block.page == name(page) and block.label == "yaml":
            yaml.safe_load(block.text)


@pytest.mark.parametrize("page", sorted({block.page for block in BLOCKS if block.label == "python"}))
def test_the_python_of_a_page_runs_from_top_to_bottom(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_python([block for block in BLOCKS if block.page == page and block.label == "python"])


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


OURS = "core|gradrl|gradgan|conf|scripts|tests|docs|examples"


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


def test_the_architecture_names_every_package():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    inits = [init for package in THE_THREE for init in (ROOT / package).rglob("__init__.py")]
    packages = [init.parent.relative_to(ROOT) for init in inits]
    shown = {path.as_posix() for path in packages if not (ROOT / Path(*path.parts[:2])).is_symlink()}
    assert len(shown) > 20
    assert {path for path in shown if not re.search(rf"(?<![\w/]){path}(?![\w/])", text)} == set()


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


def call(script: str, *words: str) -> int:
    """Call a script's `main` in this process; its exit status."""
    handlers = list(logging.getLogger().handlers)
    main = importlib.import_module(f"core.scripts.{script}").main
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"{script}.py", *words])
        with pytest.raises(SystemExit) as ended:
            main()
    logging.getLogger().handlers[:] = handlers  # Hydra's write to a stream that ends with this test
    return int(ended.value.code or 0)


SMALL = {
    "rl": ("train_rl", "agent=ppo", "env=cartpole", "total_steps=256", "num_envs=2", "agent.num_steps=32",
           "agent.num_minibatches=2", "agent.num_epochs=1", "evaluation.episodes=2",
           "evaluation.interval_episodes=2", "evaluation.num_envs=2", "evaluation.max_episode_steps=20"),
    "gan": ("train_gan", "data=ring", "total_images=512", "batch_size=64", "network.width=8",
            "network.depth=1", "evaluation.samples=50"),
}  # fmt: skip


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory) -> dict[str, Path]:
    """What placeholders stand for: two small runs of an agent, one of a GAN, and images to learn from."""
    folder = tmp_path_factory.mktemp("stand_ins")
    quiet = ("device=cpu", "logging.progress=false")
    for run, kind, seed in (("rl", "rl", 1), ("other", "rl", 2), ("gan", "gan", 1)):
        assert call(*SMALL[kind], *quiet, f"seed={seed}", f"hydra.run.dir={folder / run}") == 0
    write_images(folder / "images")
    from torchvision.models import mobilenet_v2

    torch.save(mobilenet_v2().state_dict(), folder / "weights")
    return {place.name: place for place in folder.iterdir()}


def write_images(root: Path) -> None:
    """MNIST, Fashion-MNIST, and a folder of pictures, all in one place and small."""
    from PIL import Image

    count = 128  # no batch of images in the docs is larger
    small_mnist(root, num_train=count, num_test=50)
    labels = pixels(0, count) % 10
    parts = {part: (pixels(1, count, 28, 28), labels) for part in MNIST_PREFIXES}
    write_mnist(root, "FashionMNIST", parts, MNIST_PREFIXES)
    for part in ("train", "test"):
        (root / part).mkdir()
        for number, picture in enumerate(pixels(3, count if part == "train" else 8, 32, 32, 3)):
            Image.fromarray(picture).save(root / part / f"{number}.bmp")


@pytest.mark.parametrize("shown", [*reversed(COMMANDS.values())], ids=lambda shown: shown.place)
def test_a_command_that_is_shown_is_accepted(shown, tmp_path, monkeypatch, request, capfd):
    monkeypatch.chdir(tmp_path)
    words = list(shown.words)
    while re.fullmatch(r"PYTHONPATH=\w+", words[0]):
        monkeypatch.syspath_prepend(ROOT / words.pop(0).partition("=")[2])
    script, words = script_of(words, shown.place)
    if script is None:
        return
    if "{" in " ".join(words := [filled(word) for word in words]):
        places = request.getfixturevalue("stand_ins")
        words = [re.sub(r"\{(\w+)\}", lambda key: str(places.get(key[1], key[0])), word) for word in words]
    for word in words:
        if word.startswith("env.import_module="):
            pytest.importorskip(word.partition("=")[2])
        if word == "data.download=true":  # what lies there already is not fetched
            Path("data").symlink_to(request.getfixturevalue("stand_ins")["images"])
    words += cheaper(script, words, monkeypatch)
    status = call(script, *words)
    assert status == 0, f"{shown.place}: {shlex.join(shown.words)}\n{capfd.readouterr().err}"


def script_of(words: list[str], place: str) -> tuple[str | None, list[str]]:
    """Which of our scripts a command calls, and with what; None for another one that is in order."""
    program, *rest = words
    program = program.removeprefix(".venv/bin/")
    if program == "make":
        unknown = [word for word in rest if word not in TARGETS]
        assert not unknown, f"{place}: the Makefile has no target {unknown}"
        return None, []
    if program == "pip":
        assert rest[0] == "install", place
        assert rest[1] in FOREIGN, f"{place}: {rest[1]} is none of what the docs compare with"
        return None, []
    if program in INSTALLED["scripts"]:
        return INSTALLED["scripts"][program].removeprefix("core.scripts.").removesuffix(":main"), rest
    assert program == "python", f"{place}: {program} is no command of ours"
    path = ROOT / rest[0]
    assert path.is_file(), f"{place}: there is no {rest[0]}"
    return (path.stem, rest[1:]) if path.parent.name == "scripts" else (None, [])


def filled(word: str) -> str:
    """A word of a command with its placeholders replaced."""
    option, equals, value = word.partition("=")
    for (owner, placeholder), substitute in PLACEHOLDERS.items():
        if option == owner:
            value = re.sub(
                rf"(?<![\w.-]){re.escape(placeholder)}(?![\w.-])", lambda _, s=substitute: s, value
            )
    return option + equals + value


def cheaper(script: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Options that make a command quick; where none do, its work is left out once its options are checked."""
    if script == "landscape":
        return ["grid=3"]
    if script == "descend" and not any(word.startswith("objective=") for word in words):
        length = [] if any(word.startswith("steps=") for word in words) else ["steps=50"]
        return [*length, "pictures=[]", "logging.progress=false"]
    if script in TRAINERS:
        monkeypatch.setattr("core.cli.launch._hydra", lambda *_: 0)
    elif script == "bench" or any(word.startswith("features") for word in words):  # minutes; files of weights
        monkeypatch.setattr(f"core.scripts.{script}.{script}", lambda _: None)
    return []


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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["make", "tea"], "no target"),
        (["python", "scripts/nothing.py"], "there is no scripts/nothing.py"),
        (["rm", "-r", "runs"], "rm is no command of ours"),
        (["pip", "install", "something"], "something is none of"),
    ],
)
def test_a_command_of_nobody_is_refused(words, message):
    with pytest.raises(AssertionError, match=message):
        script_of(words, "page:1")


def test_a_placeholder_is_replaced_where_it_stands_for_something():
    assert filled("run=runs/rl/YOUR-RUN") == "run={rl}"
    assert filled("runs=[A,B]") == "runs=[{rl},{other}]"
    assert filled("data.root=DIR") == "data.root={images}"
    assert filled("optimizer=SGD") == "optimizer=SGD"
