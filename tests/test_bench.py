"""bench: which options a suite has, its summary, and one short run."""

import importlib
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from core.run.interrupts import Stopped
from scripts.suites import gan_grid, gpu, limit, rl, startup
from scripts.suites.rl_rows import ROWS
from tests.conftest import Command, assert_refused


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["suite=rl", "rows=[]"], "rows must be left out, or name some, got []"),
        (["suite=gan", "folder=/dev/null"], "folder=/dev/null cannot be written: File exists"),
        (
            ["suite=vae"],
            "suite must be one of gradients, rl, gan, gan_grid, device_envs, gpu, startup, ranks, diagnosis, "
            "elsewhere, real_faults, rollback, replay, got 'vae'",
        ),
        (["suite=rl", "models=[5k]"], "models must be left out: suite=rl does not use it, got ['5k']"),
        (["total_steps=1600"], "total_steps must be left out: suite=gradients does not use it, got 1600"),
        (["suite=rl", "total_steps=100"], "total_steps must be an integer >= 1024 or null, got 100"),
        (
            ["suite=rl", "rows=[pong]"],
            "rows must be some of cleanrl, many_envs, zoo, halfcheetah, sac, sac256, td3_256, td3, got",
        ),
        (["suite=gan_grid", "rows=[pong]"], "rows must be some of ring, dcgan32, dcgan64, got 'pong'"),
        *(
            ([f"suite={suite}", f"rows=[{row}]"], f"others, got '{row}'")
            for suite, row in (
                ("diagnosis", "ppo_cartpole"),  # without its healthy/
                ("elsewhere", "healthy/pong"),
                ("real_faults", "pong"),
                ("rollback", "pong"),
                ("replay", "healthy/pong"),
            )
        ),
        (["rounds=2"], "rounds must be an integer >= 3 or null, got 2"),
        (["models=[6k]"], "models must be some of 5k, 90k, 1M, resnet18, got '6k'"),
    ],
)
def test_an_option_that_cannot_be_is_refused(command: Command, overrides, message):
    assert_refused(command("bench", *overrides), message)


def test_the_summary_has_medians_quartiles_and_the_ratio_of_the_pairs():
    speeds = {"gradrl": [30.0, 10.0, 20.0], "stable-baselines3": [10.0, 5.0, 5.0]}
    rounds = [{name: rl.Result(column[i], 400.0 + i) for name, column in speeds.items()} for i in range(3)]
    lines = rl.summary(rounds)
    assert [line.split()[0] for line in lines[1:]] == ["gradrl", "stable-baselines3", "gradrl"]
    assert "20 [15, 25]" in lines[1]
    assert "401 [400, 402]" in lines[1]
    assert "3.00 [2.50, 3.50]" in lines[3]
    assert "alone" not in lines[3]  # nobody timed the updates
    assert len(rl.summary([{"gradrl": round_["gradrl"]} for round_ in rounds])) == 2


def test_updates_alone_are_compared_where_both_were_timed():
    took = {"gradrl": [1.0, 1.0, 2.0], "stable-baselines3": [3.0, 5.0, 8.0], "skrl": [0.0, 0.0, 0.0]}
    rounds = [{name: rl.Result(1.0, 0.0, update_s=s[i]) for name, s in took.items()} for i in range(3)]
    of_pairs = rl.summary(rounds)[-3:]
    assert [line.split()[2] for line in of_pairs] == ["stable-baselines3", "skrl", "skrl"]
    assert of_pairs[0].endswith("updates alone 4.00 [3.50, 4.50]")
    assert not any("alone" in line for line in of_pairs[1:])


def test_the_clock_of_stable_baselines3_begins_at_the_end_of_its_first_update(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, kept = [0.0], []

    class Model:
        """100 steps of 1 s without learning, then 50 of 2 s with an update of 4 s, the first of 40 s."""

        def __init__(self, policy: str, envs: object, **options: Any) -> None:
            kept.append(options)
            options["policy_kwargs"]["use_sde"] = False  # as theirs does

        def learn(self, total_timesteps: int) -> None:
            for step in range(1, total_timesteps + 1):
                self.num_timesteps = step
                now[0] += 1.0 if step <= 100 else 2.0
                if step > 100:
                    self.train(gradient_steps=1)

        def train(self, gradient_steps: int) -> None:
            now[0] += 40.0 if self.num_timesteps == 101 else 4.0

    modules = {
        "stable_baselines3": SimpleNamespace(SAC=Model),
        "stable_baselines3.common.env_util": SimpleNamespace(make_vec_env=lambda *_, **__: None),
        "stable_baselines3.common.evaluation": SimpleNamespace(evaluate_policy=lambda *_, **__: (7.0, 0.0)),
    }
    monkeypatch.setattr(rl.importlib, "import_module", modules.__getitem__)
    monkeypatch.setattr(rl.time, "process_time", lambda: now[0])
    row = ROWS["sac"]
    found = rl.theirs(row, 150, 1)
    assert found == rl.Result(speed=49 / (49 * 6.0), score=7.0, update_s=4.0, steps=150)
    assert "use_sde" in kept[0]["policy_kwargs"]
    assert "use_sde" not in row.options["policy_kwargs"]  # the next row shares it


def test_work_is_compared_by_the_gradient_steps_for_as_many_environment_steps():
    taken = {"gradrl": (2000, 64), "stable-baselines3": (2048, 64), "skrl": (2048, 128)}
    found = {
        name: rl.Result(1.0, 0.0, steps=steps, updates=updates) for name, (steps, updates) in taken.items()
    }
    _, ours, near, far = rl.work([found] * 3)
    assert "32.0 [32.0, 32.0]" in ours
    assert "31.2 [31.2, 31.2]" in near
    assert "62.5 [62.5, 62.5]  NOT EQUAL" in far
    assert "NOT EQUAL" not in ours + near


def test_every_step_of_an_optimizer_is_counted_while_it_is_asked_for():
    p = torch.nn.Parameter(torch.ones(2))
    optimizers = [torch.optim.SGD([p], lr=0.1), torch.optim.Adam([p], lr=0.1)]
    p.grad = torch.ones(2)
    with rl.counted() as taken:
        for optimizer in (*optimizers, optimizers[0]):
            optimizer.step()
    optimizers[0].step()
    assert len(taken) == 3


@pytest.mark.slow
def test_skrl_does_the_work_of_the_row_and_learns_from_it():
    pytest.importorskip("skrl")
    found = rl.of_skrl(ROWS["cleanrl"], 2048, 1)
    assert (found.steps, found.updates) == (2048, 64)
    checks = torch.distributions.Distribution.__dict__["_validate_args"]
    assert checks is __debug__  # what skrl turns off is on again
    assert found.score > 30  # 9 to 10 with one action alone, 22 with random ones


def test_what_compiling_costs_is_beyond_the_eager_run_and_pays_when_it_is_made_up_for():
    results = {"compiled": (200.0, 7.0, 4e-3), "gradrl": (100.0, 1.0, 8e-3)}
    first = {
        name: rl.Result(speed, 0.0, begin_s, update_s) for name, (speed, begin_s, update_s) in results.items()
    }
    later = first | {"compiled": rl.Result(200.0, 0.0, 3.0, 4e-3)}
    lines = rl.ends(first, [later] * 3, [2e-3] * 3)
    assert "6.0 CPU s, pays after 1,200 steps" in lines[0]  # 6 s / (1/100 - 1/200) s a step
    assert "2.0 CPU s, pays after 400 steps" in lines[1]
    assert "500 [500, 500]" in lines[2]
    assert "25 [25, 25]" in lines[3]
    assert "50 [50, 50]" in lines[4]
    assert limit.pays_after(6.0, 200.0, 100.0) == "never"


def test_the_limit_calls_every_product_of_a_step_again_and_nothing_else():
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 3), torch.nn.Flatten(), torch.nn.Linear(8, 3), torch.nn.ReLU()
    )
    with limit.Products() as products:
        model(torch.randn(5, 1, 4, 4)).square().sum().backward()
    names = [call.func.overloadpacket.__name__ for call in products.calls]
    # Forward once each, and back to inputs and weights; the first layer's input needs no gradient.
    assert names == ["convolution", "addmm", "mm", "mm", "convolution_backward"]
    with FlopCounterMode(display=False) as once:
        products.again()
    with FlopCounterMode(display=False) as whole:
        model(torch.randn(5, 1, 4, 4)).square().sum().backward()
    assert once.get_total_flops() == whole.get_total_flops() > 0


def test_the_grid_says_how_many_times_as_fast_as_eager():
    taken = {"eager": 8e-3, "channels_last": 4e-3, "bf16": 16e-3, "compile": 2e-3, gan_grid.LIMIT: 1e-3}
    found = {way: {step: [s, s, s] for step in gan_grid.STEPS} for way, s in taken.items()}
    lines = gan_grid.table("ring", found, dict.fromkeys(gan_grid.STEPS, 2.0))
    assert [line.split()[0] for line in lines[1:-1]] == [
        "eager",
        "channels_last",
        "bf16",
        "compile",
        "products",
    ]
    assert lines[2].count("4.0 2.00 [2.00, 2.00]") == 3
    assert lines[3].count("16.0 0.50 [0.50, 0.50]") == 3
    assert "pays after 1,000 updates" in lines[-1].replace("pay after", "pays after")  # 4 s / (8 - 4) ms


def test_without_a_gpu_the_suite_says_so(command: Command, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    outcome = command("bench", "suite=gpu")
    assert outcome.status == 0
    assert outcome.out.strip() == "no GPU here, so nothing was measured: suite=gpu wants a CUDA device"


@pytest.mark.slow
def test_the_agents_of_the_gpus_suite_are_trained_in_every_way(monkeypatch):
    """On the CPU, both ways eager; PPO on tensors, and SAC's updates, counted by themselves."""
    monkeypatch.setattr(gpu, "COPIES", 64)
    monkeypatch.setattr(gpu, "ROLLOUTS", 3)
    monkeypatch.setattr(gpu, "SAC_STEPS", 520)  # 500 before the first update
    monkeypatch.setattr(gpu, "WAYS", {"eager": [], "again": []})
    ppo, sac = gpu.agents(torch.device("cpu"), 2)
    assert re.fullmatch(r"PPO, steps per second: +eager [\d,]+.*  again [\d,]+.*  ratio .+", ppo)
    assert re.fullmatch(r"SAC, updates per second: +eager [\d,]+.*  again [\d,]+.*  ratio .+", sac)


def test_a_stopped_suite_ends_with_the_status_of_its_signal(command: Command, monkeypatch):
    def stopped(cfg):
        raise Stopped(130)

    monkeypatch.setattr(importlib.import_module("core.scripts.suites.gan"), "run", stopped)
    outcome = command("bench", "suite=gan")
    assert (outcome.status, outcome.err) == (130, "")


def test_a_gpus_line_has_the_ratios_of_pairs():
    speeds = {"eager": [100.0, 50.0, 100.0], "compiled": [400.0, 100.0, 300.0]}
    assert gpu.line("PPO, steps", speeds).endswith("ratio 3.00 [2.50, 3.50]")


def test_a_whole_command_is_compared_with_the_peers_in_pairs():
    seconds = {"gradrl, whole": [2.0, 4.0, 5.0], "gradrl, whole, compiler": [4.0, 5.0, 4.0]}
    seconds["stable-baselines3, whole"] = [6.0, 8.0, 5.0]
    found = {name: [startup.Cost(s, 500.0 + s) for s in column] for name, column in seconds.items()}
    lines = startup.summary(found)
    assert "4.00 [3.00, 4.50]" in lines[1]
    assert "504 [503, 504]" in lines[1]
    assert "2.00 [1.50, 2.50]" in lines[4]  # 3, 2, 1
    assert "1.50 [1.38, 1.55]" in lines[5]  # 1.5, 1.6, 1.25
    del found["stable-baselines3, whole"]
    assert len(startup.summary(found)) == 3


def test_a_process_costs_what_it_computes_and_holds():
    burn = "import time\nheld = bytearray(300 * 2**20)\nwhile time.process_time() < 0.5: held[0] = 1"
    costs = startup.cost(["-c", burn])
    assert 0.5 <= costs.cpu_s < 1.5
    assert costs.peak_mb > 300
    with pytest.raises(RuntimeError, match="status 3: no luck"):
        startup.cost(["-c", "print('no luck'); raise SystemExit(3)"])


def test_ranks_are_compared_with_one_process_in_pairs(command: Command, monkeypatch):
    suite = importlib.import_module("core.scripts.suites.ranks")
    monkeypatch.setattr(
        suite, "cost", lambda way, script, words: suite.Cost(100.0 * (way.ranks or 1), 10.0 + way.ranks, 7.0)
    )
    outcome = command("bench", "suite=ranks", "folder=here")
    assert outcome.status == 0
    lines = [line for line in outcome.out.splitlines() if line.startswith("torchrun, 2 ranks ")]
    assert len(lines) == 2
    assert all("200 [200, 200]" in line and "2.00 [2.00, 2.00]" in line for line in lines)
    assert all("12.0 [12.0, 12.0]" in line for line in lines)
    rows = json.loads(Path("here", "ranks.json").read_text())["rows"]
    assert [*rows] == ["PPO, HalfCheetah", "DCGAN, 32 pixels"]
    assert (
        rows["PPO, HalfCheetah"]["torchrun, 1 rank"] == [{"speed": 100.0, "cpu_s": 11.0, "wall_s": 7.0}] * 3
    )


def test_the_figures_of_whole_commands_are_written_and_a_peer_that_is_not_there_is_named(
    command: Command, monkeypatch
):
    suite = importlib.import_module("core.scripts.suites.startup")
    monkeypatch.setattr(suite, "cost", lambda words: suite.Cost(len(words), 100.0))
    monkeypatch.setattr(suite.importlib.util, "find_spec", lambda name: None)
    outcome = command("bench", "suite=startup", "rounds=3", "folder=here")
    assert outcome.status == 0
    assert "stable-baselines3 is not installed" in outcome.out
    rows = json.loads(Path("here", "startup.json").read_text())["rows"]
    assert rows["import torch"] == {"cpu_s": [2, 2, 2], "peak_mb": [100.0] * 3}
    assert list(rows) == list(suite.programs(50_000))


@pytest.mark.slow
@pytest.mark.long
def test_without_stable_baselines3_our_figure_stands_alone(command: Command, monkeypatch):
    for peer in ("stable_baselines3", "skrl"):
        monkeypatch.setitem(sys.modules, peer, None)  # as if it were not installed
    suite = importlib.import_module("core.scripts.suites.rl")
    monkeypatch.setattr(suite, "OVERRIDES", [*suite.OVERRIDES, "evaluation.episodes=2"])
    outcome = command("bench", "suite=rl", "rounds=3", "total_steps=1024")
    assert outcome.status == 0
    assert "stable-baselines3 is not installed, so its figures are left out: make bench-peers" in outcome.out
    assert outcome.out.count("steps/s") == 6  # compiled and not
    assert "ratio" not in outcome.out
    assert outcome.made == ["runs"]  # the figures
