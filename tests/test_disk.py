"""Disks that are full, and places that may not be written: one line, nothing half, what there was is kept."""

import json
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from core.cli.job import execute
from core.cli.launch import compose_tree
from core.config import ConfigError, config_dir
from core.errors import ContractError
from core.run import checkpoint, files
from core.run.tensorboard import Writer, read_scalars
from tests.conftest import Command, assert_refused
from tests.test_cli_runs import SMALL


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """As on a full disk, every write beyond `size` bytes of a file fails: "File too large"."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("numbers", [25_000, 1_000_000])  # torch.save hides the system's error or does not
def test_half_a_file_is_not_kept_and_the_file_before_is(tmp_path, numbers):
    path = tmp_path / "checkpoints" / "last.pt"
    checkpoint.save(path, {"step": 1})
    with no_file_above(100_000), pytest.raises(ContractError) as caught:
        checkpoint.save(path, {"step": 2, "numbers": torch.zeros(numbers)})
    assert str(caught.value) == f"{path} cannot be written: File too large"
    assert os.listdir(path.parent) == ["last.pt"]
    assert checkpoint.load(path)["step"] == 1


def test_an_error_that_is_not_the_disks_is_not_called_one(tmp_path):
    with pytest.raises(RuntimeError, match=r"^a bug$"), files.writing(tmp_path / "x"):
        raise RuntimeError("a bug")
    assert os.listdir(tmp_path) == []


def test_an_event_file_that_cannot_be_written_is_named_and_keeps_what_it_has(tmp_path):
    writer = Writer(tmp_path)
    writer.scalars({"loss": 1.0}, 1)
    writer.flush()
    with no_file_above(10_000), pytest.raises(ContractError, match=r"events\.out\.tfevents.* too large$"):
        writer.text("long", "word " * 4_000, 2)
    with no_file_above(10_000):
        writer.close()
    assert read_scalars(tmp_path) == {"loss": {1: 1.0}}


def test_a_run_on_a_full_disk_keeps_its_summary_and_its_last_checkpoint(command: Command):
    overrides = [*SMALL["gan"], "hydra.run.dir=run", "total_images=4096", "logging.checkpoint_interval=512"]
    with no_file_above(16_000):
        outcome = command("gan", *overrides, "logging.snapshots=0")
    assert outcome.status == 1
    path = Path("run", "checkpoints", "last.pt").resolve()
    assert outcome.err == (
        f"error: {path} cannot be written: File too large;"
        " not saved at 512 images, there is no checkpoint yet\n"
    )
    summary = json.loads(Path("run", "summary.json").read_text())
    assert (summary["status"], summary["images"]) == ("failed", 512)
    assert list(Path("run").rglob("*.tmp")) == []


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A finished run."""
    directory = tmp_path_factory.mktemp("finished") / "rl"
    assert execute(compose_tree("rl", SMALL["rl"], [config_dir()])[0], directory) == 0
    return directory


@pytest.mark.parametrize(
    ("name", "argument", "destination"),
    [
        ("report", "run={run}", "report.html"),
        ("report", "run={run} against={run}", "report_against_rl.html"),
        ("evaluate", "run={run}", "evaluation.json"),
        ("landscape", "run={run}", "landscape.json"),
        ("replay", "run={run} step=1", "replay.html"),
        ("compare", "runs=[{run}] figure={run}/curves.png", "curves.png"),
    ],
)
def test_a_destination_is_checked_before_the_work_begins(
    command: Command, finished, monkeypatch, name, argument, destination
):
    def access(path, mode, **kwargs):
        return not (Path(path) == finished and mode & os.W_OK)

    monkeypatch.setattr(os, "access", access)
    outcome = command(name, *argument.format(run=finished).split())
    assert_refused(outcome, f"{finished / destination} cannot be written: {finished} may not be written")
    assert outcome.out == ""


def test_a_place_below_a_file_is_no_place(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"a\.png cannot be written: .*file is no folder$"):
        files.refuse_unwritable(tmp_path / "file" / "new" / "a.png")
    files.refuse_unwritable(tmp_path / "new" / "newer" / "a.png")
    assert os.listdir(tmp_path) == ["file"]
