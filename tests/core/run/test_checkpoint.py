import collections
import fcntl
import math
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from core.config import ConfigError
from core.errors import ContractError
from core.gradients import GradientStep
from core.run import checkpoint
from core.run.directory import Lock, in_use, write_summary
from core.seeding import Generators, seed_for


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    path = tmp_path / "checkpoints" / "last.pt"
    net = nn.Linear(2, 3)
    checkpoint.save(path, {"policy": net.state_dict(), "run": {"step": 3, "best": None}})
    state = checkpoint.load(path)
    assert state["run"] == {"step": 3, "best": None}
    assert torch.equal(state["policy"]["weight"], net.weight)
    assert [p.name for p in path.parent.iterdir()] == ["last.pt"]


@pytest.mark.parametrize("keep", [0, 10, 700])
def test_a_checkpoint_cut_off_anywhere_is_refused_in_one_line(tmp_path, keep):
    path = tmp_path / "last.pt"
    checkpoint.save(path, {"policy": nn.Linear(20, 30).state_dict()})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ConfigError, match="not a whole checkpoint"):
        checkpoint.load(path)


def test_another_programs_file_is_refused(tmp_path):
    torch.save({"model": torch.zeros(3)}, tmp_path / "last.pt")
    with pytest.raises(ConfigError, match="not a checkpoint of gradsight"):
        checkpoint.load(tmp_path / "last.pt")


def test_a_part_that_cannot_be_read_is_told_and_the_others_are_kept(tmp_path):
    path = tmp_path / "last.pt"
    net = nn.Linear(2, 3)
    optimizer = {"state": {0: {"recent": collections.deque([torch.zeros(2)], maxlen=3)}}}
    with pytest.raises(ContractError, match=r"'optimizer' .*\['recent'\] is a coll"):
        checkpoint.save(path, {"policy": net.state_dict(), "optimizer": optimizer, "run": {"step": 3}})
    assert checkpoint.load(path).keys() == {"format", "policy", "run"}
    assert torch.equal(checkpoint.load(path)["policy"]["weight"], net.weight)


class Evil:
    def __reduce__(self):
        return (print, ("this must never run",))


def test_loading_runs_no_code(tmp_path, capsys):
    torch.save({"format": checkpoint.FORMAT, "policy": Evil()}, tmp_path / "last.pt")
    with pytest.raises(ConfigError, match="not a whole checkpoint"):
        checkpoint.load(tmp_path / "last.pt")
    assert "never" not in capsys.readouterr().out


def test_another_networks_state_is_refused_by_name(tmp_path):
    with pytest.raises(ConfigError, match=r"'policy' is of another network .*size mismatch for weight"):
        checkpoint.restore(nn.Linear(2, 3), {"policy": nn.Linear(2, 4).state_dict()}, "policy", tmp_path)
    with pytest.raises(ConfigError, match="no state named 'generator'; it holds policy"):
        checkpoint.restore(nn.Linear(2, 3), {"policy": {}}, "generator", tmp_path)


def test_a_directory_belongs_to_one_run_at_a_time(tmp_path):
    lock = Lock(tmp_path)
    with pytest.raises(ConfigError, match="in use by another run"):
        Lock(tmp_path)
    lock.release()
    Lock(tmp_path).release()


def test_readers_who_ask_for_a_run_do_not_take_each_other_or_a_starting_run_for_one(tmp_path, monkeypatch):
    lock = Lock(tmp_path)
    assert in_use(tmp_path)
    lock.release()
    (tmp_path / ".lock").chmod(0o444)
    reader = (tmp_path / ".lock").open("rb")  # just asking, as `in_use` does
    fcntl.flock(reader, fcntl.LOCK_SH)
    assert not in_use(tmp_path)
    (tmp_path / ".lock").chmod(0o644)
    monkeypatch.setattr(time, "sleep", lambda seconds: reader.close())  # has its answer while the run waits
    Lock(tmp_path).release()
    assert not in_use(tmp_path / "nowhere")


def test_a_directory_that_cannot_be_made_is_refused_in_words(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="file/run cannot hold a run: Not a directory"):
        Lock(tmp_path / "file" / "run")


def test_a_summary_is_json_even_when_a_number_is_not(tmp_path):
    write_summary(tmp_path, {"status": "failed", "loss": float("nan"), "layers": (1, float("inf"))})
    assert '"loss": null' in (tmp_path / "summary.json").read_text()


def test_streams_of_one_seed_are_different_and_stable():
    assert seed_for(1, "environment", 0) != seed_for(1, "environment", 1) != seed_for(2, "environment", 0)
    assert seed_for(1, "evaluation") == 1820906261106485909
    assert 0 <= seed_for(1, "evaluation") < 2**63


def test_generators_continue_where_they_were_saved():
    generators = Generators(1)
    generators.numpy("b").random(3)
    torch.rand(2, generator=generators.torch("a"))
    state = generators.state_dict()
    expected = torch.rand(2, generator=generators.torch("a")), generators.numpy("b").random(2)
    again = Generators(1)
    again.load_state_dict(state)
    assert torch.equal(torch.rand(2, generator=again.torch("a")), expected[0])
    assert (again.numpy("b").random(2) == expected[1]).all()


@pytest.mark.parametrize("sealed", [True, False])
def test_every_flipped_bit_is_noticed_or_changes_no_value(tmp_path, sealed):
    path = tmp_path / "last.pt"
    state = {"format": checkpoint.FORMAT, "policy": {"weight": torch.arange(12.0)}, "run": {"step": 3}}
    checkpoint.save(path, state) if sealed else torch.save(state, path)
    whole = path.read_bytes()
    for bit in range(0, 8 * len(whole), 23):  # 23 and 8 have no common divisor: every bit of a byte is met
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        try:
            loaded = checkpoint.load(path)
        except ConfigError:
            continue
        assert torch.equal(loaded["policy"]["weight"], torch.arange(12.0))
        assert loaded["run"] == {"step": 3}


@pytest.mark.parametrize("damage", [lambda last: last.write_bytes(last.read_bytes()[:-100]), Path.unlink])
@pytest.mark.parametrize("other", ["best.pt", "good.pt"])
def test_a_lost_checkpoint_names_the_whole_one_and_the_words_that_continue_from_it(tmp_path, other, damage):
    last, best = (tmp_path / "checkpoints" / name for name in ("last.pt", other))
    checkpoint.save(best, {"run": {"step": 3}})
    last.write_bytes(best.read_bytes())
    assert checkpoint.begun(tmp_path)
    damage(last)
    with pytest.raises(ConfigError, match=rf"last.pt.* {other} beside it is whole$"):
        checkpoint.load(last)
    words = f"{other} beside it is whole; to continue from it: cp {best} {last} and then resume={tmp_path}$"
    with pytest.raises(ConfigError, match=words):
        checkpoint.begun(tmp_path)


def test_a_run_without_any_checkpoint_begins_anew_unless_it_has_finished(tmp_path):
    assert not checkpoint.begun(tmp_path)
    write_summary(tmp_path, {"status": "failed"})
    assert not checkpoint.begun(tmp_path)
    write_summary(tmp_path, {"status": "finished"})
    with pytest.raises(ConfigError, match=r"last.pt, although this run has finished; begin another one$"):
        checkpoint.begun(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "best.pt").write_bytes(b"damaged")
    write_summary(tmp_path, {"status": "stopped"})
    with pytest.raises(ConfigError, match=r"no checkpoint at .*last.pt$"):
        checkpoint.begun(tmp_path)


@pytest.mark.parametrize(
    "make", [torch.optim.Adam, torch.optim.SGD, torch.optim.RMSprop, torch.optim.Adagrad]
)
def test_an_optimizer_state_of_other_shapes_never_reaches_the_kernel(tmp_path, make):
    def step_of(width):
        net = nn.Linear(2, width)
        return GradientStep(
            net, make(net.parameters(), lr=0.1, **({"momentum": 0.9} if make is torch.optim.SGD else {}))
        )

    small, large = step_of(3), step_of(300)
    small(lambda: (small.parameters[0].square().sum() + small.parameters[1].sum(), {}))
    large(lambda: (large.parameters[0].square().sum() + large.parameters[1].sum(), {}))
    state = {
        "step": large.state_dict()
        | {"optimizer": small.optimizer.state_dict(), "monitor": large.monitor.state_dict()}
    }
    with pytest.raises(ConfigError, match=r"optimizer\.state\.0\..*\[3, 2\], not \[300, 2\]"):
        checkpoint.restore(step_of(300), state, "step", tmp_path / "last.pt")
    checkpoint.restore(step_of(300), {"step": large.state_dict()}, "step", tmp_path / "last.pt")


@pytest.mark.parametrize("lr", [math.nan, -0.1, None, "0.1"])
def test_a_learning_rate_that_is_none_is_refused(tmp_path, lr):
    net = nn.Linear(2, 3)
    step = GradientStep(net, torch.optim.Adam(net.parameters(), lr=0.1))
    state = step.state_dict()
    state["optimizer"]["param_groups"][0]["lr"] = lr
    with pytest.raises(ConfigError, match=r"param_groups\.0\.lr is .*, not a number >= 0"):
        checkpoint.restore(step, {"step": state}, "step", tmp_path / "last.pt")
