"""Descent down a function or a loss on data: `descend.py function=himmelblau "optimizers=[rmsprop,adam]"`."""

from core.cli.command import launch


def main() -> None:
    launch("descend")


if __name__ == "__main__":
    main()
