"""The command `export`: what it writes, and that nothing is made where it refuses."""

import importlib

import onnxruntime
import pytest
import torch

from core.run import checkpoint
from tests.conftest import Command, assert_refused
from tests.gradgan import test_sampler
from tests.gradrl import saved_runs


@pytest.mark.parametrize("form", ["onnx", "pt2", "safetensors"])
def test_a_policy_is_written_with_its_card_and_what_goes_in_is_said(command: Command, form, tmp_path):
    saved_runs.write_run(tmp_path / "run", normalize=True)
    outcome = command("export", f"run={tmp_path / 'run'}", f"format={form}")
    assert outcome.status == 0, outcome.err
    folder = tmp_path / "run" / "export"
    assert sorted(path.name for path in folder.iterdir()) == ["MODEL_CARD.md", f"policy.{form}"]
    line, *_ = outcome.out.splitlines()
    assert line.startswith(str(folder / f"policy.{form}"))
    assert form == "safetensors" or "inputs observation; outputs action" in line


def test_the_card_of_a_folder_names_every_file_in_it(command: Command, tmp_path):
    saved_runs.write_run(tmp_path / "run")
    for form in ("onnx", "safetensors"):
        assert command("export", f"run={tmp_path / 'run'}", f"format={form}").status == 0
    text = (tmp_path / "run" / "export" / "MODEL_CARD.md").read_text()
    assert "`policy.onnx`, of an earlier export:" in text
    assert 'onnxruntime.InferenceSession("policy.onnx")' in text
    assert 'load_file("policy.safetensors")' in text
    assert "policy.pt2" not in text


def test_a_folder_can_be_chosen(command: Command, tmp_path):
    test_sampler.write_run(tmp_path / "run")
    outcome = command("export", f"run={tmp_path / 'run'}", f"folder={tmp_path / 'there'}", "checkpoint=best")
    assert outcome.status == 0, outcome.err
    session = onnxruntime.InferenceSession(tmp_path / "there" / "generator.onnx")
    assert [each.name for each in session.get_inputs()] == ["latent", "label"]
    assert not (tmp_path / "run" / "export").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.yaml", b"\xff\xfe"),
        ("config.yaml", b"_target_: core.descend.descent.TrainConfig\n"),
        ("interface.json", b"{}"),
        ("checkpoints/last.pt", b"nothing"),
    ],
)
def test_a_damaged_run_is_refused_and_nothing_is_made(command: Command, name, content, tmp_path):
    saved_runs.write_run(tmp_path / "run")
    (tmp_path / "run" / name).write_bytes(content)
    outcome = command("export", f"run={tmp_path / 'run'}")
    assert outcome.status == 2
    assert len(outcome.err.splitlines()) == 1
    assert outcome.err.startswith("error: ")
    assert not (tmp_path / "run" / "export").exists()


def test_a_checkpoint_that_says_no_step_is_refused_and_nothing_is_made(command: Command, tmp_path):
    model, _ = saved_runs.write_run(tmp_path / "run")
    checkpoint.save(
        tmp_path / "run" / "checkpoints" / "last.pt", {"policy": model.state_dict(), "run": torch.ones(1)}
    )
    outcome = command("export", f"run={tmp_path / 'run'}")
    assert (outcome.status, len(outcome.err.splitlines())) == (2, 1)
    assert not (tmp_path / "run" / "export").exists()


def test_a_library_that_is_missing_is_named(command: Command, tmp_path, monkeypatch):
    saved_runs.write_run(tmp_path / "run")
    formats = importlib.import_module("core.export.formats")
    monkeypatch.setitem(formats.NEEDS, "onnx", ("nowhere_to_be_found",))
    outcome = command("export", f"run={tmp_path / 'run'}")
    assert_refused(
        outcome, "format=onnx needs nowhere_to_be_found, not installed: pip install 'gradsight[export]'"
    )
