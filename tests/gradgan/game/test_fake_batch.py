"""`gradgan.game.game.FakeBatch`: samples that the losses share are those that each would have made."""

import pytest
import torch
from torch import nn

from core.config import Component
from core.gradients import GradientStep
from core.optim.factory import build_optimizer
from core.optim.schemes.schemes import Alternating, Extragradient, Scheme, Simultaneous
from core.optim.schemes.stateful import Lookahead, NegativeMomentum, Optimistic
from gradgan.game.game import FakeBatch, Game
from gradgan.losses.relativistic import Relativistic
from gradgan.networks.mlp import MLP
from gradgan.penalties.zero_centred import R1R2
from tests.gradgan.playing import LATENT, made, make_trainer, random, unlabelled

NETWORK = MLP(width=8, depth=2, slope=0.2, spectral_norm=False)
SCHEMES: list[Scheme] = [
    Alternating(),
    Simultaneous(),
    Extragradient(),
    Optimistic(),
    NegativeMomentum(beta=-0.5),
    Lookahead(k=2, alpha=0.5, inner=Alternating()),
]


def generator() -> nn.Module:
    return made(NETWORK)[0]


def counted(module: nn.Module) -> list[int]:
    """Grows by one entry with every forward pass."""
    calls: list[int] = []
    module.register_forward_hook(lambda *_: calls.append(1))
    return calls


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: type(s).__name__)
def test_sharing_changes_no_bit_of_an_update(scheme: Scheme, monkeypatch: pytest.MonkeyPatch) -> None:
    def ends() -> list[torch.Tensor]:
        game = Game(loss=Relativistic(), penalty=R1R2(gamma=0.5, final=1.0, interval=2))
        trainer = make_trainer(made(NETWORK), game, scheme)
        for i in range(5):
            trainer.update(unlabelled(torch.randn(4, 2, generator=random(i))), progress=0.0)
        return [p for player in (trainer.generator, trainer.discriminator) for p in player.parameters()]

    shared = ends()
    monkeypatch.setattr(FakeBatch, "detached", lambda self: self.generator(self.z, self.labels).detach())
    for p, q in zip(shared, ends(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize(
    ("scheme", "micro_batches", "batches", "passes"),
    [
        (Alternating(), 1, 1, 1),
        (Alternating(), 1, 3, 3),
        (Alternating(), 2, 1, 4),
        (Extragradient(), 1, 1, 2),
    ],
)
def test_an_update_generates_as_often_as_the_generator_moves(
    scheme: Scheme, micro_batches: int, batches: int, passes: int
) -> None:
    """Micro-batches are made twice: keeping all their graphs would take the memory that they save."""
    players = made(NETWORK)
    calls = counted(players[0])
    trainer = make_trainer(players, Game(loss=Relativistic()), scheme, micro_batches=micro_batches)
    trainer.update(unlabelled(torch.randn(4, 2)) * batches, progress=0.0)
    assert len(calls) == passes


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam, torch.optim.RMSprop])
def test_a_generator_that_has_moved_generates_anew(kind: type[torch.optim.Optimizer]) -> None:
    """Also when the optimizer is a fused kernel."""
    module = generator()
    named = list(module.named_parameters())
    step = GradientStep(named, build_optimizer(Component(kind, {"lr": 0.1}, "optimizer"), named))
    generated = FakeBatch(module, torch.randn(4, LATENT), None, shared=True)
    before = generated.detached()
    step(lambda: (module(torch.ones(4, LATENT)).square().sum(), {}))
    live = generated.with_graph()
    assert torch.equal(live, module(generated.z))
    assert not torch.equal(live, before)


def test_a_graph_is_handed_on_once() -> None:
    module = generator()
    calls = counted(module)
    generated = FakeBatch(module, torch.randn(4, LATENT), None, shared=True)
    fixed = generated.detached()
    assert (fixed.requires_grad, generated.detached().data_ptr()) == (False, fixed.data_ptr())
    first, second = generated.with_graph(), generated.with_graph()
    assert len(calls) == 2
    for live in (first, second):
        assert torch.equal(live, fixed)
        live.sum().backward()  # each has a graph of its own
    assert FakeBatch(module, generated.z, None, shared=False).detached().grad_fn is None
