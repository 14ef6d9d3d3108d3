"""`compile=update` for both players: what is refused before anything is made, and what runs eagerly."""

from collections.abc import Callable

import torch

from core.checks import require
from core.run.compiled import Compile, begin_compiling, check_compile
from gradgan.game.game import Game
from gradgan.game.recordable import RecordableGame
from gradgan.networks import Network
from gradgan.trainer import Trainer
from gradgan.trial import ours


def check(mode: Compile, device: torch.device, network: Network, game: Game) -> None:
    """Refuse what cannot be compiled here.

    Raises:
        ValueError: there is no compiler, or a part is the user's own: it may read what a graph cannot see
            change, for it is recorded once.
    """
    check_compile(mode, device)
    parts = {"network": network, "loss": game.loss, "penalty": game.penalty, "augment": game.augment}
    parts |= {f"regularizer.{name}": part for name, part in game.regularizers.items()}
    for option, part in parts.items():
        own = part is not None and not ours(part)
        require(mode == "off" or not own, "compile", mode, f"off with {option} of one's own")


def begin(mode: Compile, trainer: Trainer, say: Callable[[str], None]) -> None:
    """Let both players' steps be compiled; one line about what cannot be."""
    if mode == "off":
        return
    scheme = f"update {type(trainer.scheme).__name__} differentiates their gradients again"
    parts = f"the gradient of micro_batches={trainer.micro_batches} comes in parts"
    for reason, holds in ((scheme, trainer.game.joint_graph), (parts, trainer.micro_batches > 1)):
        if holds:
            say(f"compile={mode}: both steps run eagerly: {reason}")
            return
    steps = trainer.generator_step, trainer.discriminator_step
    if trainer.game.top_k < 1:
        say(f"compile={mode}: the step of generator runs eagerly: generator.top_k keeps ever fewer samples")
        steps = steps[1:]
    begin_compiling(mode, steps, say)
    if any(step.compiled is not None for step in steps):
        trainer.recordable = RecordableGame(trainer.game, trainer.generator, trainer.discriminator)
