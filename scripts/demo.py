"""Both trainers at work on something real, in three minutes: what `make demo` runs."""

import json
import subprocess
import sys
import time
from pathlib import Path

RUNS = {
    "PPO on CartPole": ("train_rl", ["agent=ppo", "env=cartpole", "total_steps=100000"]),
    "a GAN on scikit-learn's digits": ("train_gan", ["data=digits"]),
}


def main() -> None:
    began = time.monotonic()
    folder = Path("runs") / "demo" / time.strftime("%Y%m%d-%H%M%S")
    reached = []
    for title, (script, words) in RUNS.items():
        directory = folder / script.removeprefix("train_")
        print(f"\n=== {title}: {script}.py {' '.join(words)}", flush=True)
        call(script, *words, f"hydra.run.dir={directory}")
        call("report", f"run={directory}")
        summary = json.loads((directory / "summary.json").read_text(encoding="utf-8"))
        reached.append(f"  {title}: {in_words(summary)}\n    {directory / 'report.html'}")
    print(f"\nDone in {time.monotonic() - began:.0f} s.\n" + "\n".join(reached))
    print(f"\nEverything, layer by layer: make tensorboard, or tensorboard --logdir {folder}")


def call(script: str, *words: str) -> None:
    """Run one of our scripts as a user would; its failure is ours."""
    status = subprocess.run([sys.executable, "-m", f"core.scripts.{script}", *words], check=False).returncode
    if status:
        sys.exit(status)


def in_words(summary: dict[str, object]) -> str:
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
