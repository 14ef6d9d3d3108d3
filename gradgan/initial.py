"""Begin with the weights of another pair of players: `init_from=DIR`."""

from core.run.initial import read_initial, take_over
from gradgan.game.players import Discriminator, Generator
from gradgan.networks import Shape
from gradgan.sampler import TRAINED, interface_of


def take_players(
    init_from: str,
    players: tuple[Generator, Discriminator],
    latent_size: int,
    shape: Shape,
    *,
    statistics: bool,
) -> None:
    """Load the weights of a run into both players.

    Args:
        init_from: its directory or one of its checkpoints.
        players: of the new run.
        latent_size: numbers in a latent.
        shape: of one sample.
        statistics: the running statistics of batch norm too.

    Raises:
        ConfigError: there is no such run, it is damaged, or something differs, layer by layer.
    """
    generator, discriminator = players
    saved = read_initial(
        "init_from", init_from, TRAINED, interface_of(latent_size, shape, generator.num_classes)
    )
    take_over({"generator": generator, "discriminator": discriminator}, saved, statistics=statistics)
