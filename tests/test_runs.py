"""Run directories named without an option or by `last`, their list, and what is typed after a command."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from core.cli.arguments import with_names
from core.cli.choices import YamlFile
from core.cli.follow_up import follow_up, next_line, of_sweep
from core.cli.job import execute
from core.cli.launch import compose_tree
from core.cli.paths import typed_run
from core.config import ConfigError, config_dir
from core.run.directory import Lock
from core.run.listing import newest_first, target_of
from core.scripts import runs as listing  # pyright: ignore[reportMissingImports]
from tests.conftest import Command, assert_refused
from tests.test_cli_runs import SMALL
from tests.thinned import thinned

pytestmark = pytest.mark.usefixtures("blank_figures")

WORDS = {**SMALL, "descend": ["steps=3", "pictures=[]", "logging.progress=false"]}
KINDS = ("rl", "gan", "descend")  # from the oldest to the newest
ODD = ("lr=0.1", "größe", "it's", "a,b", "[b]", "2024_01", "my run", "{a}", "true", "~x", "./-x")


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> dict[str, Path]:
    """A finished run of each trainer; tests work on copies."""
    made = {}
    for name in KINDS:
        made[name] = tmp_path_factory.mktemp("finished") / name
        assert execute(compose_tree(name, WORDS[name], [config_dir()])[0], made[name]) == 0
    return made


@pytest.fixture
def runs(command: Command, finished) -> dict[str, Path]:
    """Copies below runs/ of the folder that commands are called from."""
    copies = {}
    for age, (name, run) in enumerate(reversed(finished.items())):
        copies[name] = shutil.copytree(run, Path("runs", name, "x"))
        begun = time.time() - 95.0 * (age + 1)
        os.utime(copies[name] / "config.yaml", (begun, begun))
    return copies


def root(name: str) -> YamlFile:
    return YamlFile(config_dir() / f"{name}.yaml")


# Run directories without an option.


@pytest.mark.parametrize(
    ("name", "words", "options"),
    [
        ("report", ["runs/a"], ["run=runs/a"]),
        ("report", ["runs/a", "runs/b"], ["run=runs/a", "against=runs/b"]),
        ("report", ["runs/b", "run=runs/a"], ["run=runs/a", "against=runs/b"]),
        ("report", ["run=runs/a", "against=runs/b"], ["run=runs/a", "against=runs/b"]),
        ("evaluate", ["episodes=3", "runs/a", "features.x=1"], ["episodes=3", "features.x=1", "run=runs/a"]),
        ("evaluate", ["hydra.verbose=true"], ["hydra.verbose=true"]),
        ("evaluate", ["~features", "+seed=1"], ["~features", "+seed=1"]),
        ("evaluate", ["sede=1"], ["sede=1"]),
        ("evaluate", ["runs/lr=0.1"], ["run='runs/lr=0.1'"]),
        ("compare", ["a", "b/*"], ["runs=[a,b/*]"]),
        ("compare", ["target=3", "a,b"], ["target=3", "runs=['a,b']"]),
        ("compare", ["runs=[a]", "target=3"], ["runs=[a]", "target=3"]),
        ("bench", ["rl"], ["rl"]),
    ],
)
def test_a_word_alone_is_a_run_directory(name, words, options):
    assert with_names(words, root(name)) == options


@pytest.mark.parametrize("name", thinned(ODD, 4))
def test_a_directory_that_exists_is_that_directory_whatever_it_is_called(command: Command, finished, name):
    shutil.copytree(finished["rl"], Path(name))
    outcome = command("report", name)
    assert outcome.status == 0, outcome.err
    assert Path(name, "report.html").is_file()


def test_an_option_wins_over_a_file_of_the_same_name(command: Command, runs):
    Path("run=runs").mkdir()
    assert command("report", f"run={runs['rl']}").status == 0


@pytest.mark.parametrize("words", [["a", "b"], ["run=a", "b"]])
def test_more_directories_than_a_command_takes_are_refused(command: Command, words):
    assert_refused(command("export", *words), words[-1], "more directories than there are options, run=")


def test_a_directory_that_holds_no_run_is_named(command: Command):
    assert_refused(command("evaluate", "runs/none"), "there is no run in runs/none")


@pytest.mark.parametrize(
    "name", thinned(["evaluate", "export", "report", "landscape", "replay", "compare"], 2)
)
def test_every_tool_takes_a_run_by_its_directory_alone(command: Command, runs, name):
    quick = {
        "evaluate": ["episodes=1"],
        "landscape": ["grid=3", "which=[slices]"],
        "replay": ["step=1"],
        "compare": ["resamples=100"],
    }
    outcome = command(name, str(runs["rl"]), *quick.get(name, []))
    assert outcome.status == 0, outcome.err


# `last`


def test_last_is_the_newest_run_of_all_for_a_tool_and_of_its_own_for_a_trainer(command: Command, runs):
    assert typed_run("last", "run", root("report")) == "runs/descend/x"
    assert typed_run("last", "resume", root("rl")) == "runs/rl/x"
    assert typed_run("last", "init_from", root("gan")) == "runs/gan/x"
    assert command("report", "last").out.startswith("report: runs/descend/x/report.html\n")
    assert command("report", "run=last").out.startswith("report: runs/descend/x/report.html\n")
    itself = command("report", "runs/descend/x", "against=last")
    assert "against=runs/descend/x is the run itself" in itself.err
    assert command("rl", "resume=last").out == "runs/rl/x is already finished; nothing to do\n"
    assert command("compare", "runs=[last]", "resamples=100").err.startswith(
        "error: runs: runs/descend/x has no score: compare takes"
    )
    outcome = command("rl", *WORDS["rl"], "init_from=last", "hydra.run.dir=new")
    assert outcome.status == 0, outcome.err
    assert "init_from: runs/rl/x" in Path("new", "config.yaml").read_text()


def test_an_existing_path_named_last_is_that_path(command: Command, runs):
    shutil.copytree(runs["rl"], "last")
    for words in (["last"], ["run=last"]):
        assert command("report", *words).out.startswith("report: last/report.html\n")
    assert command("rl", "resume=last").out == "last is already finished; nothing to do\n"


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("report", ["last"], "run=last: there is no run in runs/"),
        ("report", ["runs/x", "last"], "against=last: there is no run in runs/"),
        ("evaluate", ["run=last"], "run=last: there is no run in runs/"),
        ("compare", ["last"], "runs=last: there is no run in runs/"),
        ("rl", ["resume=last"], "resume=last: there is no run of this command in runs/"),
        ("gan", ["data=ring", "init_from=last"], "init_from=last: there is no run of this command in runs/"),
    ],
)
def test_where_there_is_no_run_last_is_refused(command: Command, name, words, message):
    assert_refused(command(name, *words), message)


def test_a_run_that_continues_is_the_newest_again(command: Command, runs):
    assert command("rl", f"resume={runs['rl']}", "total_steps=128").status == 0
    assert typed_run("last", "run", root("report")) == "runs/rl/x"


# The list of runs


def damage(folder: Path) -> dict[str, str]:
    """Runs that were damaged in every way, below a folder, and the status that each has in the list."""
    for name in ("text", "list", "deep", "huge", "fifo", "folder", "killed", "alias", "binary", "odd\nname"):
        (folder / name / ".hydra").mkdir(parents=True)
        (folder / name / "config.yaml").write_text("_target_: x.Y\n")
    (folder / "text" / "summary.json").write_text("{")
    (folder / "list" / "summary.json").write_text("[1]")
    (folder / "deep" / "summary.json").write_text("[" * 100_000)
    (folder / "huge" / "summary.json").write_text(
        f'{{"status": "finished", "value": 1{"0" * 400}, "fid": NaN}}'
    )
    os.mkfifo(folder / "fifo" / "summary.json")
    os.mkfifo(folder / "fifo" / ".lock")
    (folder / "folder" / "summary.json").mkdir()
    (folder / "folder" / ".hydra" / "overrides.yaml").mkdir()
    (folder / "alias" / ".hydra" / "overrides.yaml").write_text("- &a x\n- *a\n- [*b]\n")
    (folder / "binary" / ".hydra" / "overrides.yaml").write_bytes(b"\xff\xfe\x00")
    (folder / "binary" / "config.yaml").write_bytes(b"\xff\xfe\x00")
    (folder / "odd\nname" / ".hydra" / "overrides.yaml").write_text("- 'seed=1\x85'\n- {a: 1}\n")
    (folder / "loop").symlink_to(folder)
    (folder / "config.txt").write_text("no run")
    kept = dict.fromkeys(("killed", "alias", "binary", "odd\nname"), "unfinished")
    return {**dict.fromkeys(("text", "list", "deep", "huge", "fifo", "folder"), "damaged"), **kept}


def test_damaged_runs_are_listed_too_and_none_ends_in_a_trace(command: Command, capfd):
    expected = damage(Path("odd").absolute())
    outcome = command("runs", "odd")
    assert (outcome.status, outcome.err) == (0, "")
    assert len(outcome.out.splitlines()) == len(expected)
    found = json.loads(command("runs", "odd", "--json").out)
    assert {Path(each["directory"]).name: each["status"] for each in found} == expected
    assert "odd\\nname" in outcome.out


def test_the_list_has_status_headline_age_and_words_the_newest_first(
    command: Command, runs, finished, monkeypatch
):
    # Typed by its installed name, not as pytest was.
    monkeypatch.setattr(sys, "orig_argv", ["gradsight-runs"])
    Path("runs/rl/x/.hydra").mkdir()
    Path("runs/rl/x/.hydra/overrides.yaml").write_text("- agent=ppo\n- hydra.run.dir=x\n- seed=1\n")
    shutil.copytree(runs["gan"], "runs/gan/x/inner")  # belongs to the run around it
    found = json.loads(command("runs", "--json").out)
    assert [each["directory"] for each in found] == [f"runs/{name}/x" for name in reversed(KINDS)]
    summary = json.loads((finished["rl"] / "summary.json").read_text())
    assert found[-1]["headline"] == {"name": "return", "value": summary["eval_return_mean"]}
    assert (found[-1]["status"], found[-1]["typed"]) == ("finished", ["agent=ppo", "seed=1"])
    assert [each["headline"]["name"] for each in found] == ["f", "modes", "return"]
    lines = command("runs").out.splitlines()
    status, name, _, age, unit = lines[2].split()[:5]
    assert (status, name, unit) == ("finished", "return", "min")
    assert 5 <= int(age) <= 15  # of a run dated five minutes back, by however slow a machine
    assert lines[2].endswith("runs/rl/x  agent=ppo seed=1")
    assert lines[4].startswith("next: gradsight-report runs/descend/x")


@pytest.mark.parametrize(
    ("age", "text"),
    [(5.0, " 5 s "), (600.0, " 10 min "), (36_000.0, " 10.0 h "), (864_000.0, " 10 d "), (-9.0, " 0 s ")],
)
def test_the_age_is_in_the_unit_that_fits(age, text):
    row = listing.Row("runs/x", "finished", None, 1_000_000.0, ())
    assert text in listing.line(row, 1_000_000.0 + age)


def test_a_run_at_work_is_running_whatever_its_summary_says(command: Command, runs):
    lock = Lock(runs["gan"])
    try:
        assert command("runs", "runs/gan").out.startswith("running     –")
    finally:
        lock.release()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "there is no folder nowhere"),
        (["a", "b"], "unrecognized arguments: b"),
        (["--jsn"], "unrecognized arguments: --jsn"),
        (["x" * 300], "there is no folder x"),
        (["\0"], "there is no folder"),
    ],
)
def test_words_that_the_list_does_not_know_are_refused(command: Command, words, message):
    assert_refused(command("runs", *words), message)


def test_no_run_is_one_line_and_no_error(command: Command):
    Path("empty").mkdir()
    assert command("runs", "empty").out == "there is no run in empty\n"
    assert json.loads(command("runs", "empty", "--json").out) == []


def test_the_list_imports_neither_torch_nor_hydra(runs):
    source = (
        "import sys\nfrom core.scripts.runs import main\nsys.argv = ['runs.py', '--json']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print({'torch', 'hydra', 'omegaconf'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert done.stderr == "set()\n"


def test_runs_are_found_at_a_folder_and_below_it_and_sorted_by_their_beginning(tmp_path):
    for number, name in enumerate(("a/b", "c", ".hidden/d", "a/e/f")):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.yaml").write_text(f"seed: 1\n_target_: kind.{number}\n")
        os.utime(tmp_path / name / "config.yaml", (number, number))
    assert newest_first(tmp_path) == [
        (3.0, tmp_path / "a/e/f"),
        (1.0, tmp_path / "c"),
        (0.0, tmp_path / "a/b"),
    ]
    assert newest_first(tmp_path / "c") == [(1.0, tmp_path / "c")]
    assert newest_first(tmp_path / "nowhere") == []
    assert target_of(tmp_path / "c") == "kind.1"
    assert target_of(tmp_path / "a") is None


# What is typed next


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("", "next: gradsight-report 'a b'"),
        ("gradrl", "next: gradsight-report 'a b'"),
        (".venv/bin/gradrl", "next: .venv/bin/gradsight-report 'a b'"),
        ("python scripts/train_rl.py", "next: python scripts/report.py 'a b'"),
        ("python -X dev /x/train_rl.py", "next: python -X dev /x/report.py 'a b'"),
        ("python -m core.scripts.train_rl", "next: python -m core.scripts.report 'a b'"),
        ("train_rl.py", "next: report.py 'a b'"),
    ],
)  # fmt: skip
def test_what_to_type_next_has_the_form_of_what_was_typed(typed, line):
    assert next_line("report", ["a b"], typed) == line


NEXT = {
    "rl": ["gradsight-report RUN", "gradsight-evaluate RUN render=gif"],
    "gan": ["gradsight-report RUN", "gradsight-landscape RUN"],
    "descend": ["gradsight-report RUN", "descend 'optimizers=[sgd,momentum,adam]'"],
}


@pytest.mark.parametrize("name", KINDS)
def test_a_training_ends_with_where_its_pictures_are_and_two_commands(command: Command, name):
    outcome = command(name, *WORDS[name], "hydra.run.dir=a b")
    assert outcome.status == 0, outcome.err
    assert outcome.out.splitlines()[-3:] == [
        "pictures: a b/media",
        *(f"next: {each.replace('RUN', shlex.quote('a b'))}" for each in NEXT[name]),
    ]


@pytest.mark.parametrize(
    ("name", "others"),
    [
        ("report", ["gradsight-evaluate RUN render=gif", "gradsight-landscape RUN"]),
        ("evaluate", ["gradsight-report RUN", "gradsight-landscape RUN"]),
        ("landscape", ["gradsight-report RUN", "gradsight-evaluate RUN render=gif"]),
        ("export", ["gradsight-report RUN", "gradsight-evaluate RUN render=gif"]),
        ("replay", ["gradsight-report RUN", "gradsight-evaluate RUN render=gif"]),
        ("compare", ["gradsight-report RUN", "gradsight-evaluate RUN render=gif"]),
        ("runs", ["gradsight-report RUN", "gradsight-evaluate RUN render=gif"]),
    ],
)
def test_a_tool_ends_with_two_commands_other_than_itself(command: Command, runs, name, others):
    quick = {
        "evaluate": ["episodes=1"],
        "landscape": ["grid=3", "which=[slices]"],
        "replay": ["step=1"],
        "compare": ["resamples=100"],
    }
    outcome = command(name, str(runs["rl"]), *quick.get(name, []))
    assert outcome.status == 0, outcome.err
    assert outcome.out.splitlines()[-3:] == [
        "pictures: runs/rl/x/media",
        *(f"next: {each.replace('RUN', 'runs/rl/x')}" for each in others),
    ]


def test_a_sweep_ends_with_its_page_and_its_list(command: Command):
    outcome = command("descend", "-m", *WORDS["descend"], "seed=1,2", "hydra.sweep.dir=sweep")
    said = [line for line in outcome.out.splitlines() if line.startswith("next: ") and "sweep" in line]
    assert said == ["next: gradsight-report sweep", "next: gradsight-runs sweep"]
    assert command("report", "sweep").status == 0
    assert len(json.loads(command("runs", "sweep", "--json").out)) == 2


@pytest.mark.parametrize(
    ("command", "swept", "names"),
    [
        ("rl", ("env", "seed"), ["compare", "report", "runs"]),
        ("rl", ("optimizer.lr",), ["report", "runs"]),
        ("gan", ("seed",), ["report", "runs"]),  # what `compare` compares are runs of rl
    ],
)
def test_a_sweep_over_seeds_that_can_be_compared_says_how(command, swept, names):
    said = [*of_sweep(command, Path("sweep"), swept, "")]
    assert said == [f"next: gradsight-{name} sweep" for name in names]


@pytest.mark.parametrize("name", thinned(KINDS))
def test_every_command_that_is_said_is_accepted(command: Command, runs, name):
    count = "episodes=1" if name == "rl" else "samples=16"
    small = {
        "evaluate": [count],
        "landscape": ["grid=3", "which=[slices]"],
        "descend": ["steps=2", "pictures=[]"],
    }
    for entry in root(name).content["next"]:
        script, *words = [str(runs[name]) if word == "RUN" else word for word in entry.split()]
        outcome = command(script, *words, *small.get(script, []))
        assert outcome.status == 0, f"{entry}: {outcome.err}"


def test_of_a_loop_that_no_command_began_nothing_is_said(tmp_path):
    (tmp_path / "config.yaml").write_text("_target_: core.watch.watch.Watch\n")
    assert list(follow_up("report", tmp_path, "")) == []
    assert list(follow_up("report", tmp_path / "nowhere", "")) == []


def test_a_trainer_takes_no_directory_alone(command: Command):
    assert_refused(command("rl", "runs/rl/x"), "cannot read 'runs/rl/x': expected option=value")
    with pytest.raises(ConfigError):
        typed_run("last", "resume", root("rl"))
