"""Walk down a function with known critical points: `descend.py function=himmelblau optimizer=rmsprop`."""

from core.run.launch import launch


def main() -> None:
    launch("descend")


if __name__ == "__main__":
    main()
