"""What `make demo` runs: both trainers on a real task, in three minutes. It takes no options."""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from core.cli.command import typed_command
from core.cli.follow_up import next_line
from core.run.dashboard import URL
from core.text import shortened

RUNS = {
    "PPO on CartPole": ("train_rl", ["agent=ppo", "env=cartpole", "total_steps=100000"]),
    "a GAN on scikit-learn's digits": ("train_gan", ["data=digits"]),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    _, others = parser.parse_known_args()
    if others:
        word = shortened(" ".join(others[0].split()))
        print(f"error: {word} is not read: this command takes no options", file=sys.stderr)
        sys.exit(2)
    began = time.monotonic()
    folder = Path("runs") / "demo" / time.strftime("%Y%m%d-%H%M%S")
    reached = []
    for title, (script, overrides) in RUNS.items():
        directory = folder / script.removeprefix("train_")
        print(f"\n=== {title}: {script}.py {' '.join(overrides)}", flush=True)
        call(script, *overrides, f"hydra.run.dir={directory}")
        call("report", f"run={directory}")
        summary = json.loads((directory / "summary.json").read_text(encoding="utf-8"))
        reached.append(f"  {title}: {outcome(summary)}\n    {directory / 'report.html'}")
    print(f"\nDone in {time.monotonic() - began:.0f} s.\n" + "\n".join(reached))
    print(f"\nEverything, layer by layer, at {URL}: make tensorboard, or tensorboard --logdir {folder}")
    typed = typed_command(sys.argv[1:])
    print(next_line("runs", [str(folder)], typed))
    print(next_line("evaluate", [str(folder / "rl"), "render=gif"], typed))


def call(script: str, *overrides: str) -> None:
    """Run one of our scripts as a user would; exit with its status if it fails."""
    status = subprocess.run(
        [sys.executable, "-m", f"core.scripts.{script}", *overrides], check=False
    ).returncode
    if status:
        sys.exit(status)


def outcome(summary: dict[str, object]) -> str:
    """What a run reached, in one line."""
    if "eval_return_mean" in summary:
        solved = summary.get("solved_at_env_steps")
        return f"mean return {summary['eval_return_mean']:.1f} over {summary['eval_episodes']} episodes" + (
            f", solved after {solved:,} environment steps" if solved else ", not solved"
        )
    floor = f"real against real: {summary['fid_floor']:.2f}"
    return f"FID {summary['fid']:.2f} under {summary['features']} ({floor})"


if __name__ == "__main__":
    main()
