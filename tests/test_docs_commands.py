"""Commands that the documentation shows are accepted: short ones run, long ones are composed and checked."""

import json
import re
import shlex
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from tests.conftest import call
from tests.gradgan.data.files_of_torchvision import MNIST_PREFIXES, pixels, small_mnist, write_mnist
from tests.pages import BLOCKS, COMMANDS, ROOT, commands

pytestmark = pytest.mark.usefixtures("blank_figures")

INSTALLED = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TARGETS = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
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
    ("", "runs/rl/THE-SWEEP"): "{rl}",
    ("runs", "docs/results"): f"{ROOT}/docs/results",
    ("run", "runs/rl/YOUR-RUN"): "{rl}",
    ("run", "DIR"): "{rl}",
    ("run", "RUN"): "{gan}",
    ("against", "OTHER"): "{other}",
    ("against", "DIR"): "{other}",
    ("resume", "runs/rl/YOUR-RUN"): "{rl}",
    ("resume", "runs/rl/THE-SWEEP"): "{rl}",
    ("init_from", "runs/rl/YOUR-RUN"): "{rl}",
    ("run", "runs/gan/YOUR-RUN"): "{gan}",
    ("data.root", "DIR"): "{images}",
    ("data.root", "PHOTOS"): "{images}",
    ("features.weights", "FILE"): "{weights}",
    ("", "runs/rl/YOUR-RUN"): "{rl}",
    ("", "DIR"): "{rl}",
    ("", "OTHER"): "{other}",
    ("", "A"): "{rl}",
    ("", "B"): "{other}",
}


SMALL = {
    "rl": ("train_rl", "agent=ppo", "env=cartpole", "total_steps=256", "num_envs=2", "agent.num_steps=32",
           "agent.num_minibatches=2", "agent.num_epochs=1", "evaluation.episodes=2",
           "evaluation.interval_episodes=2", "evaluation.num_envs=2", "evaluation.max_episode_steps=20",
           "logging.eval_interval=128"),
    "gan": ("train_gan", "data=ring", "total_images=512", "batch_size=64", "network.width=8",
            "network.depth=1", "evaluation.samples=50"),
}  # fmt: skip


QUIET = ("device=cpu", "logging.progress=false")


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory) -> dict[str, Path]:
    """What placeholders stand for: two small runs of an agent, one of a GAN, and images to learn from."""
    folder = tmp_path_factory.mktemp("stand_ins")
    for run, kind, seed in (("rl", "rl", 1), ("other", "rl", 2), ("gan", "gan", 1)):
        assert call(*SMALL[kind], *QUIET, f"seed={seed}", f"hydra.run.dir={folder / run}") == 0
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


@pytest.mark.slow
@pytest.mark.parametrize("shown", COMMANDS, ids=lambda shown: shown.place)
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
    if script == "runs" or any(word in ("last", "resume=last") for word in words):
        Path("runs").symlink_to(request.getfixturevalue("stand_ins")["rl"].parent)
    if script == "tune":
        pytest.importorskip("optuna")
    for word in words:
        if word.startswith("hydra/launcher="):
            library = {"joblib": "joblib", "submitit": "submitit"}[word.partition("=")[2].partition("_")[0]]
            pytest.importorskip(f"hydra_plugins.hydra_{library}_launcher")
        if word.startswith("env.import_module="):
            pytest.importorskip(word.partition("=")[2])
        if word.startswith("logger="):
            for library in {"wandb", "mlflow", "trackio"} & set(re.findall(r"\w+", word)):
                pytest.importorskip(library)
        if word == "data.download=true":  # what lies there already is not fetched
            Path("data").symlink_to(request.getfixturevalue("stand_ins")["images"])
    words += cheaper(script, words, monkeypatch)
    status = call(script, *words)
    assert status == 0, f"{shown.place}: {shlex.join(shown.words)}\n{capfd.readouterr().err}"


@pytest.mark.parametrize(
    ("page", "number", "quick", "status"),
    [
        pytest.param(
            "README.md",
            0,
            ["evaluation.episodes=1", "logging.eval_interval=100000"],
            0,
            marks=pytest.mark.slow,
        ),
        ("README.md", 1, ["pictures=[]"], 0),
        ("docs/diagnosis.md", 0, ["on_finding=stop"], 1),
    ],
)
def test_the_output_that_a_page_shows_is_that_of_the_command_above_it(
    page, number, quick, status, tmp_path, monkeypatch, capfd
):
    monkeypatch.chdir(tmp_path)
    shown = [block for block in BLOCKS if block.page == page]
    above, output = [pair for pair in pairwise(shown) if pair[1].label == "text"][number]
    *_, last = commands(above)
    script, words = script_of(list(last.words), last.place)
    assert call(str(script), *words, *quick, "logging.progress=false") == status
    assert is_printed(output.text, capfd.readouterr().out)


@pytest.mark.slow
def test_the_replay_that_its_page_shows_is_what_is_printed(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    above, output = [block for block in BLOCKS if block.page == "docs/replay.md"][:2]
    training, replay = (script_of(list(shown.words), shown.place) for shown in commands(above))
    assert call(str(training[0]), *training[1], "hydra.run.dir=runs/gan/x", "logging.progress=false") == 1
    capfd.readouterr()
    assert call(str(replay[0]), *replay[1]) == 0
    assert is_printed(output.text, capfd.readouterr().out)


def is_printed(text: str, printed: str) -> bool:
    """Whether these lines were printed, one after the other; numbers of a training to 15 %.

    Another CPU multiplies matrices in another order, and what is trained differs from the last digits on.
    """
    wanted, lines = text.splitlines(), printed.splitlines()
    places = range(len(lines) - len(wanted) + 1)
    return any(all(map(alike, wanted, lines[place:])) for place in places)


def alike(line: str, other: str) -> bool:
    """Whether two lines have the same words, whatever the space between them, and about the same numbers."""
    number = r"\d[\d,]*(?:\.\d+)?(?:e[+-]\d+)?"
    words, others = (re.sub(number, "#", each).split() for each in (line, other))
    pairs = zip(re.findall(number, line), re.findall(number, other), strict=False)
    values = [(float(a.replace(",", "")), float(b.replace(",", ""))) for a, b in pairs]
    return words == others and all(abs(a - b) <= 0.15 * max(abs(a), abs(b)) for a, b in values)


def test_lines_are_printed_where_words_are_the_same_and_numbers_nearly():
    printed = "first\n  943 steps: moves by 1.8 nats\n  a.1   4.57e+08\nlast"
    assert is_printed("  943 steps: moves by 2 nats\n  a.1      4.6e+08", printed)
    assert not is_printed("  943 steps: moves by 3 nats", printed)
    assert not is_printed("  943 steps: move by 2 nats", printed)
    assert not is_printed("  943 steps: moves by 2 nats\nlast", printed)


def test_the_point_that_the_docs_classify_is_the_saddle_that_they_mean(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (shown,) = [each for each in COMMANDS if each.words[-1] == "steps=0"]
    script, words = script_of(list(shown.words), shown.place)
    assert call(str(script), *words, "hydra.run.dir=run") == 0
    found = json.loads(Path("run", "summary.json").read_text(encoding="utf-8"))
    assert found["critical_point"] == "saddle"


def test_a_run_directory_holds_what_the_readme_says(tmp_path):
    directory = tmp_path / "run"
    assert call(*SMALL["rl"], *QUIET, f"hydra.run.dir={directory}") == 0
    text = (
        (ROOT / "README.md")
        .read_text(encoding="utf-8")
        .partition("## A run directory")[2]
        .partition("\n\n[")[0]
    )
    assert call("report", f"run={directory}") == 0
    files = re.findall(r"`([\w/]+(?:/|\.\w+))`", text)
    assert len(files) > 5
    assert [file for file in files if not (directory / file).exists()] == []


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
    if program == "torchrun":  # one process takes the same words
        program, rest = "python", [word for word in rest if not word.startswith("--")]
    assert program == "python", f"{place}: {program} is no command of ours"
    path = ROOT / rest[0]
    assert path.is_file(), f"{place}: there is no {rest[0]}"
    return (path.stem, rest[1:]) if path.parent.name == "scripts" else (None, [])


def filled(word: str) -> str:
    """A word of a command with its placeholders replaced."""
    option, equals, value = word.partition("=") if "=" in word else ("", "", word)
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
    if script == "replay":  # of a run without an error
        return ["step=1"]
    if script == "descend" and not any(word.startswith("objective=") for word in words):
        length = [] if any(word.startswith("steps=") for word in words) else ["steps=50"]
        return [*length, "pictures=[]", "logging.progress=false"]
    if script in TRAINERS:
        monkeypatch.setattr("core.cli.launch.execute", lambda *_, **__: 0)
        monkeypatch.setattr("core.cli.launch.run_all", lambda *_, **__: 0)
    elif script == "tune":
        monkeypatch.setattr("core.tune.search.Study.work", lambda *_: None)
        monkeypatch.setattr("core.tune.search.Study.best", 1)
        monkeypatch.setattr("core.tune.report.report", lambda *_: ())
    elif script == "bench" or any(word.startswith("features") for word in words):  # minutes; files of weights
        monkeypatch.setattr(f"core.scripts.{script}.{script}", lambda _: None)
    return []


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
    assert [filled(word) for word in ("runs/rl/YOUR-RUN", "A", "last", "-m")] == [
        "{rl}",
        "{rl}",
        "last",
        "-m",
    ]
