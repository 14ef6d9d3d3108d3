"""The game's losses in the form that a compiled graph can take: all that differs between updates is a tensor.

A graph is recorded once and then called with other tensors, so three things of a loss have to become
arguments of it:

    what is drawn     from the seed, as the loss itself would draw it, before the loss is called
    samples           each loss makes its own from the same latents; a graph keeps none for another one
    which terms       are due (lazy penalties, warm-up): an earlier update with the same terms stands for all

The generator therefore makes its samples once more in every update than without graphs, on copies of its
buffers, so that running statistics count every batch once.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

from core.gradients import Closure, Metrics
from core.state import StateDict
from gradgan.batch import Batch
from gradgan.game.game import Game, StepInfo

Draw = Callable[..., Tensor]


@dataclass
class Samples:
    """G(z), made anew by each loss that asks; what `FakeBatch` is to eager losses.

    Attributes:
        generator: latents [B, latent_size], and labels where it is conditional, to samples [B, ...].
        z: the latents.
        labels: int64 [B], or None.
        again: whether a loss of the generator makes the same samples too, whose pass alone is to count.
    """

    generator: nn.Module
    z: Tensor
    labels: Tensor | None
    again: bool

    one_pass = False
    scored = None

    def detached(self) -> Tensor:
        """Samples without a graph."""
        buffers = {name: b.clone() for name, b in self.generator.named_buffers()} if self.again else {}
        with torch.no_grad():
            return functional_call(self.generator, buffers, (self.z, self.labels))

    def with_graph(self) -> Tensor:
        """Samples with their graph."""
        return self.generator(self.z, self.labels)


@dataclass
class RecordableGame:
    """Makes closures whose graphs can be compiled.

    Attributes:
        game: whose losses.
        generator: of the pair.
        discriminator: of the pair.
    """

    game: Game
    generator: nn.Module
    discriminator: nn.Module
    _same_terms: dict[tuple[bool, ...], int] = field(default_factory=dict)
    _draws: dict[tuple[str, int], list[Draw]] = field(default_factory=dict)

    def closures(
        self,
        real: Batch,
        z: Tensor,
        info: StepInfo,
        other_seed: int,
        states: Mapping[str, StateDict],
        *,
        shared: bool,
    ) -> tuple[Closure, Closure]:
        """Both players' losses on a batch.

        Args:
            real: real samples.
            z: latents of as many generated ones.
            info: of the discriminator's loss.
            other_seed: of everything random in the generator's.
            states: of the regularizers.
            shared: whether the generator's loss will be called too.
        """
        again = shared and any(True for _ in self.generator.buffers())
        arguments = self.discriminator, real, Samples(self.generator, z, real.labels, again)
        info = info._replace(update=self._same_terms.setdefault(self._terms(info.update), info.update))
        of_discriminator = partial(self.game.discriminator_loss, *arguments, states=states)
        of_generator = partial(self.game.generator_loss, *arguments)
        return (
            self._closure(self.discriminator_loss, of_discriminator, info),
            self._closure(self.generator_loss, of_generator, info._replace(update=0, seed=other_seed)),
        )

    def discriminator_loss(
        self, drawn: Sequence[Tensor], *arguments: Any, **named: Any
    ) -> tuple[dict[str, Tensor], Metrics]:
        """`Game.discriminator_loss`, with what it would draw."""
        with _Handed(iter(drawn)):
            return self.game.discriminator_loss(*arguments, **named)

    def generator_loss(
        self, drawn: Sequence[Tensor], *arguments: Any, **named: Any
    ) -> tuple[dict[str, Tensor], Metrics]:
        """`Game.generator_loss`, with what it would draw."""
        with _Handed(iter(drawn)):
            return self.game.generator_loss(*arguments, **named)

    def _closure(self, loss: Callable[..., Any], eager: "partial[Any]", info: StepInfo) -> Closure:
        """The loss as a function of what is drawn from the seed; it reads no seed of its own any more."""
        key = loss.__name__, info.update
        if key not in self._draws:
            self._draws[key] = self._rehearsed(partial(eager, info=info))
        random = torch.Generator().manual_seed(info.seed)
        drawn = [draw(generator=random) for draw in self._draws[key]]
        return partial(loss, drawn, *eager.args, info=info._replace(seed=0), **eager.keywords)

    def _rehearsed(self, loss: Closure) -> list[Draw]:
        """What a loss draws, in order; shapes follow from the batch, and never from numbers."""
        draws: list[Draw] = []
        with _unmoved(self.generator), _unmoved(self.discriminator), _Noted(draws):
            loss()
        return draws

    def _terms(self, update: int) -> tuple[bool, ...]:
        """Which terms of the discriminator's loss are due."""
        terms = [self.game.penalty, *self.game.regularizers.values()]
        return tuple(term is not None and cast(Any, term).due(update) for term in terms)


class _Noted(TorchFunctionMode):
    """Notes every call that draws from a generator."""

    def __init__(self, draws: list[Draw]) -> None:
        super().__init__()
        self.draws = draws

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = dict(kwargs or {})
        if named.get("generator") is not None:
            rest = {name: value for name, value in named.items() if name != "generator"}
            self.draws.append(partial(func, *args, **rest))
        return func(*args, **named)


class _Handed(TorchFunctionMode):
    """Answers every call that draws from a generator with the next of these tensors."""

    def __init__(self, drawn: Iterator[Tensor]) -> None:
        super().__init__()
        self.drawn = drawn

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = kwargs or {}
        return next(self.drawn) if named.get("generator") is not None else func(*args, **named)


@contextmanager
def _unmoved(module: nn.Module) -> Iterator[None]:
    """Put the buffers of a module back at the end."""
    before = [(buffer, buffer.clone()) for buffer in module.buffers()]
    yield
    for buffer, value in before:
        buffer.copy_(value)
