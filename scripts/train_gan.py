"""Train a GAN: `train_gan.py data=digits total_images=200000 seed=1`."""

from core.cli.command import launch


def main() -> None:
    launch("gan")


if __name__ == "__main__":
    main()
