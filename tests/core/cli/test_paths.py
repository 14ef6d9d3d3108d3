"""Paths on the command line are the paths that were typed, and what is printed to be pasted is quoted."""

import shlex
from pathlib import Path

import pytest

from core.cli.choices import YamlFile
from core.cli.launch import compose_tree
from core.cli.overrides import parse
from core.cli.paths import as_text, quoted, typed_path
from core.config import config_dir
from core.run.directory import resumption

pytestmark = pytest.mark.usefixtures("blank_figures")

ODD = (
    "lr=0.1",
    "größe",
    "h#1",
    "a(1)",
    "b[2]",
    "~x",
    "x,y",
    "2024_01",
    "1e3",
    "my run",
    "it's",
    "{a}",
    "true",
    "a\\,b",
)
ROOT = YamlFile(config_dir() / "gan.yaml")


def read(override: str, **kwargs: bool) -> object:
    return parse(as_text([override], ROOT, **kwargs)[0]).value()


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/houses/ada")
    return tmp_path


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("exists", [True, False])
def test_a_path_is_the_text_that_was_typed(here, name, exists):
    if exists:
        Path(name).mkdir()
    for key in ("data.root", "+data.root", "features.weights", "hydra.run.dir", "hydra.sweep.dir"):
        assert read(f"{key}={name}") == name
        assert read(f"{key}=/pictures/{name}") == f"/pictures/{name}"
    assert typed_path(name, "run") == name


@pytest.mark.parametrize("name", ODD)
def test_every_element_of_a_list_is_a_path_of_its_own(here, name):
    root = YamlFile(config_dir() / "compare.yaml")
    (override,) = as_text([f"runs=[{quoted(name) if ',' in name else name}, b/*]"], root)
    assert parse(override).value() == [name, "b/*"]


def test_quotes_and_the_home_folder_are_understood_unless_there_is_a_file_of_that_name(here):
    assert read("data.root='lr=0.1'") == "lr=0.1"
    assert read("data.root=~/pictures") == "/houses/ada/pictures"
    Path("~").mkdir()
    Path("~/pictures").mkdir()
    Path("'a'").mkdir()
    assert read("data.root=~/pictures") == "~/pictures"
    assert read("data.root='a'") == "'a'"


def test_a_backslash_as_hydra_wants_it_is_understood_where_only_that_folder_exists(here):
    Path("a,b").mkdir()
    assert read("data.root=a\\,b") == "a,b"


def test_null_interpolations_and_sweeps_stay_what_they_are(here, monkeypatch):
    monkeypatch.setenv("PICTURES", "/größe")
    assert read("data.root=null") is None
    tree = compose_tree(
        "gan", as_text(["data=folder", "data.root=${oc.env:PICTURES}/h#1"], ROOT), [config_dir()]
    )[0]
    assert tree["data"]["root"] == "/größe/h#1"
    assert parse(as_text(["data.root=a,b"], ROOT, sweep=True)[0]).is_sweep_override()
    Path("a,b").mkdir()
    assert read("data.root=a,b", sweep=True) == "a,b"
    assert as_text(["seed=1,2"], ROOT, sweep=True) == ["seed=1,2"]


@pytest.mark.parametrize("name", ODD)
def test_a_run_directory_is_the_folder_that_was_typed(here, name):
    overrides = as_text(["data=ring", f"hydra.run.dir={name}/${{seed}}"], ROOT)
    assert compose_tree("gan", overrides, [config_dir()])[1] == Path(f"{name}/1")


@pytest.mark.parametrize("name", [name for name in ODD if "/" not in name])
def test_a_folder_of_own_files_may_have_any_name(here, name):
    folder = here / name / "optimizer"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("_target_: torch.optim.SGD\nlr: 0.125\n")
    tree = compose_tree("descend", ["optimizer=mine"], [config_dir(), folder.parent])[0]
    assert tree["optimizer"]["lr"] == 0.125


@pytest.mark.parametrize("name", ODD)
def test_what_is_printed_to_continue_a_run_survives_the_shell(name):
    assert shlex.split(resumption(Path(name))) == [f"resume={name}"]


@pytest.mark.parametrize("name", ["größe=1", "a(1)", "2024_01"])
def test_the_commands_take_such_paths(here, command, name):
    place = here / "here" / name
    quick = ["steps=0", "pictures=[]", "logging.progress=false"]
    first = command("descend", *quick, f"hydra.run.dir={name}")
    assert (first.status, first.made) == (0, [name])
    again = command("descend", *quick, f"hydra.run.dir={name}")
    assert again.err.endswith(f"continue it with {resumption(Path(name))} or choose another\n")
    assert command("descend", f"resume={name}").out == f"{name} is already finished; nothing to do\n"
    assert command("report", f"run={name}").status == 0
    assert (place / "report.html").exists()
