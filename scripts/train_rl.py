"""Train a policy-gradient agent: `train_rl.py agent=ppo env=cartpole total_steps=100000 seed=1`."""

from core.cli.command import launch


def main() -> None:
    launch("rl", by_id="env")


if __name__ == "__main__":
    main()
