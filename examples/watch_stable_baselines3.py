"""An agent of stable-baselines3, watched: a rate far too high, what the Watch says of it, and mended.

python examples/watch_stable_baselines3.py && gradsight-report run=runs/watch_stable_baselines3/mistaken
"""

import argparse
from pathlib import Path

from stable_baselines3 import PPO

from core.diagnosis import Finding
from gradrl.watch.stable_baselines3 import WatchCallback


def train(directory: Path, *, lr: float, steps: int = 4096) -> list[Finding]:
    """Learn to balance the pole; returns what was found."""
    model = PPO("MlpPolicy", "CartPole-v1", learning_rate=lr, n_steps=256, n_epochs=4, seed=1, device="cpu")
    callback = WatchCallback(directory)  # the one new line
    model.learn(steps, callback=callback)
    return callback.watch.findings if callback.watch else []


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    for name, lr in (("mistaken", 0.1), ("mended", 3e-4)):
        found = train(Path("runs/watch_stable_baselines3", name), lr=lr)
        print(f"{name}: {', '.join(finding.name for finding in found) or 'no findings'}\n")
