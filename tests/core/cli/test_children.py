"""Runs inside a run leave the one around them as it was, and a disk that refuses is told in one line."""

import signal

import pytest
import torch

from core.cli import children
from core.errors import DiskError


def test_a_child_gives_signals_and_generators_back(tmp_path, monkeypatch):
    def execute(options, directory, *, continuing):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        torch.manual_seed(options["seed"])
        return 0

    monkeypatch.setattr(children, "execute", execute)
    handler = signal.getsignal(signal.SIGTERM)
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    assert children.run_child({"seed": 8}, tmp_path / "child", 10) == 0
    assert torch.equal(torch.rand(2), wanted)
    assert signal.getsignal(signal.SIGTERM) == handler


def test_a_note_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "hydra.yaml").write_text("{}")
    (tmp_path / "sgd").touch()  # no folder
    with pytest.raises(DiskError, match=r"sgd/\.hydra/hydra\.yaml cannot be written: "):
        children.note_start(tmp_path, "sgd", "optimizers", "optimizer")
