"""Snapshots along a run: when, how many, the same after a kill, thinned when the run is prolonged."""

import pytest
import torch
from torch import nn

from core.config import ConfigError
from core.gradients import GradientStep
from core.run import checkpoint
from core.run import snapshots as path_module
from core.run.snapshots import Snapshots, files, read_snapshots


class Line:
    """A number that counts up, behind two gradient steps."""

    def __init__(self) -> None:
        self.nets = [nn.Linear(1, 2, bias=False), nn.Linear(1, 1, bias=False)]
        self.steps = [
            GradientStep(net, torch.optim.SGD(net.parameters(), lr=0.1), name=name)
            for net, name in zip(self.nets, ("first", "second"), strict=True)
        ]
        self.set(0)

    def set(self, step: int) -> None:
        for net in self.nets:
            nn.init.constant_(net.weight, float(step))

    def walk(self, path: Snapshots, start: int, end: int, stride: int = 10) -> None:
        self.set(start)
        path.start(start)
        for step in range(start + stride, end + stride, stride):
            self.set(step)
            path.add(step)


def recorder(directory, line, points=5, total=100, say=print) -> Snapshots:
    return Snapshots(directory, points, total, line.steps, say)


def contents(directory) -> dict[int, dict]:
    return dict(read_snapshots(directory, 10**9))


def test_snapshots_are_evenly_spaced_from_the_start_to_the_end(tmp_path):
    line = Line()
    line.walk(recorder(tmp_path, line), 0, 100)
    found = contents(tmp_path)
    assert list(found) == [0, 30, 50, 80, 100]  # bins of 25, looked at every 10
    for step, players in found.items():
        assert {name: list(of) for name, of in players.items()} == {"first": ["weight"], "second": ["weight"]}
        assert players["first"]["weight"].tolist() == [[step], [step]]
    assert list(dict(read_snapshots(tmp_path, 50))) == [0, 30, 50]
    assert torch.load(files(tmp_path)[1][0], weights_only=True)["step"] == 30


@pytest.mark.parametrize(("saved", "reached"), [(0, 20), (20, 70), (50, 50), (70, 90), (10, 100)])
def test_a_run_that_went_further_than_its_checkpoint_writes_the_same_snapshots_again(
    tmp_path, saved, reached
):
    line = Line()
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    line.walk(recorder(tmp_path / "whole", line), 0, 100)
    line.walk(recorder(tmp_path / "killed", line), 0, reached)
    line.walk(recorder(tmp_path / "killed", line), saved, 100)
    whole, killed = contents(tmp_path / "whole"), contents(tmp_path / "killed")
    assert list(whole) == list(killed)
    for step in whole:
        assert torch.equal(whole[step]["first"]["weight"], killed[step]["first"]["weight"])


def test_a_prolonged_run_thins_its_old_snapshots_out(tmp_path):
    line = Line()
    line.walk(recorder(tmp_path, line), 0, 100)
    line.walk(recorder(tmp_path, line, total=400), 100, 400)
    assert list(contents(tmp_path)) == [0, 100, 200, 300, 400]


def test_large_networks_get_fewer_snapshots_or_none_and_it_is_said(tmp_path, monkeypatch):
    said: list[str] = []
    line = Line()
    monkeypatch.setattr(path_module, "CAP", 3 * 12 + 5)  # three points of three float32 numbers
    line.walk(recorder(tmp_path, line, say=said.append), 0, 100)
    assert list(contents(tmp_path)) == [0, 50, 100]
    assert "logging.snapshots=5" in said[0]
    assert "keeps 3" in said[0]
    (tmp_path / "none").mkdir()
    monkeypatch.setattr(path_module, "CAP", 2 * 12)
    line.walk(recorder(tmp_path / "none", line, say=said.append), 0, 100)
    assert not (tmp_path / "none" / "snapshots").exists()
    assert "keeps none" in said[1]


def test_no_points_leave_no_folder(tmp_path):
    line = Line()
    line.walk(recorder(tmp_path, line, points=0), 0, 100)
    assert list(tmp_path.iterdir()) == []


def test_a_run_resumed_at_its_end_keeps_its_last_snapshot_though_its_bin_has_another(tmp_path):
    line = Line()
    line.walk(recorder(tmp_path, line, total=90), 0, 90)  # bins of 23: 70 and 90 are both in the fourth
    assert list(contents(tmp_path)) == [0, 30, 50, 70, 90]
    recorder(tmp_path, line, total=90).start(90)
    assert list(contents(tmp_path)) == [0, 30, 50, 70, 90]


@pytest.mark.parametrize("damage", ["cut", "bit", "empty", "text", "folder"])
def test_a_damaged_snapshot_is_named_in_one_line(tmp_path, damage):
    line = Line()
    line.walk(recorder(tmp_path, line), 0, 100)
    path, _ = files(tmp_path)[2]
    whole = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    else:
        flipped = bytearray(whole)
        flipped[whole.index(b"\x00\x00H\x42")] ^= 1  # of 50.0 as float32
        path.write_bytes({"cut": whole[:300], "bit": flipped, "empty": b"", "text": b"no archive"}[damage])
    with pytest.raises(ConfigError, match=path.name) as caught:
        read_snapshots(tmp_path, 100)
    assert "\n" not in str(caught.value)
    assert list(dict(read_snapshots(tmp_path, 40))) == [0, 30]  # those before it can be read


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ({"policy": {"weight": torch.zeros(2)}}, "it lacks parameters"),
        ({"parameters": [torch.zeros(2)]}, "parameters is a list, not a dictionary"),
        ({"parameters": {"first": torch.zeros(2)}}, "parameters.first is a Tensor, not a dictionary"),
        ({"parameters": {"first": {"weight": [1.0]}}}, "parameters.first.weight is a list, not a tensor"),
        ({"parameters": {"first": {"weight": torch.zeros(2).double()}}}, "not a tensor of torch.float32"),
        ({"parameters": {"first": {0: torch.zeros(2)}}}, "a key of parameters.first is 0, not a text"),
    ],
)
def test_a_file_that_is_no_snapshot_is_named_in_one_line(tmp_path, state, says):
    checkpoint.save(tmp_path / "snapshots" / "000000000010.pt", state)
    with pytest.raises(ConfigError, match=f"000000000010.pt is no snapshot of a run: .*{says}"):
        read_snapshots(tmp_path, 100)


def test_another_programs_file_among_the_snapshots_is_refused(tmp_path):
    (tmp_path / "snapshots").mkdir()
    torch.save({"parameters": {"first": {"weight": torch.zeros(2)}}}, tmp_path / "snapshots" / "10.pt")
    with pytest.raises(ConfigError, match=r"10\.pt is not a checkpoint of gradsight"):
        read_snapshots(tmp_path, 100)
