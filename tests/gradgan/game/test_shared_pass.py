"""`gradgan.game.shared_pass`: one backward pass gives both players the gradients that two would."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from core.gradients import GradientStep
from core.gradients.transforms.direction import PCGrad
from core.optim.schemes.schemes import Alternating, Extragradient, Scheme, Simultaneous
from core.optim.schemes.stateful import Lookahead, NegativeMomentum, Optimistic
from gradgan.augment.diffaugment import DiffAugment
from gradgan.batch import Batch, ScoredBatch
from gradgan.game.game import FakeBatch, Game, StepInfo
from gradgan.game.players import make_players
from gradgan.game.shared_pass import LEAST, SharedPass, scores_alone
from gradgan.losses import Loss
from gradgan.losses.hinge import Hinge
from gradgan.losses.least_squares import LeastSquares
from gradgan.losses.minimax import Minimax
from gradgan.losses.nonsaturating import NonSaturating
from gradgan.losses.relativistic import Relativistic
from gradgan.losses.relativistic_average import RelativisticAverage
from gradgan.losses.wasserstein import Wasserstein
from gradgan.networks.conditioning import Auxiliary, Projection
from gradgan.networks.dcgan import DCGAN
from gradgan.networks.mlp import MLP
from gradgan.penalties.one_centred import DRAGAN, WGANGP
from gradgan.penalties.zero_centred import R1, R1R2, R2
from gradgan.regularizers.consistency import Consistency
from gradgan.regularizers.lecam import LeCam
from gradgan.trainer import Trainer
from tests.gradgan.playing import LATENT, in_float64, made, make_trainer, random, unlabelled

NETWORK = MLP(width=6, depth=2, slope=0.2, spectral_norm=False)
LOSSES: list[Loss] = [
    NonSaturating(),
    Minimax(),
    LeastSquares(),
    Wasserstein(),
    Relativistic(),
    RelativisticAverage(),
]
r1 = R1(gamma=0.7, final=1.0, interval=1)


class BesideTheMean(nn.Module):
    """A module of one's own: each sample less the mean of its batch, [B, F]."""

    def forward(self, x):
        return x - x.mean(0)


def asked(discriminator: nn.Module) -> list[int]:
    """Grows by one entry with every forward pass."""
    calls: list[int] = []
    discriminator.register_forward_hook(lambda *_: calls.append(1))
    return calls


def gradients(trainer: Trainer, real: Batch) -> tuple[list[Tensor], list[Tensor]]:
    """Of the discriminator and the generator, by the trainer's own closures."""
    trainer.discriminator_updates = 3  # past a warm-up
    of_discriminator, of_generator = trainer.closures(real, shared=True)
    trainer.discriminator_step.compute(*of_discriminator)
    trainer.generator_step.compute(*of_generator)
    steps = trainer.discriminator_step, trainer.generator_step
    one, two = ([p.grad.clone() for p in step.parameters if p.grad is not None] for step in steps)
    return one, two


def assert_equal(found: list[Tensor], expected: list[Tensor], rtol: float = 1e-11) -> None:
    assert len(found) == len(expected) > 0
    size = max(e.abs().max().item() for e in expected)
    for f, e in zip(found, expected, strict=True):
        torch.testing.assert_close(f, e, rtol=rtol, atol=rtol * size)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_both_gradients_are_those_of_the_definition(loss: Loss) -> None:
    real = torch.randn(5, 2, generator=random(3), dtype=torch.float64)
    generator, discriminator = players = in_float64(made(NETWORK))
    trainer = make_trainer(players, Game(loss=loss, penalty=r1), Simultaneous())
    calls = asked(discriminator)
    found = gradients(trainer, Batch(real, None))
    assert len(calls) == 2
    z = torch.randn(5, LATENT, generator=random(7))
    x = real.clone().requires_grad_()
    real_logits = discriminator(x)
    (slope,) = torch.autograd.grad(real_logits.sum(), x, create_graph=True)
    total = loss.discriminator(real_logits, discriminator(generator(z).detach()))
    total = total + 0.35 * slope.square().sum(dim=1).mean()
    expected = torch.autograd.grad(total, list(discriminator.parameters()), allow_unused=True)
    assert_equal(found[0], [e for e in expected if e is not None])
    wanted = loss.generator(discriminator(generator(z)), discriminator(real))
    assert_equal(found[1], list(torch.autograd.grad(wanted, list(generator.parameters()))))


GAMES = {
    "r1": Game(loss=NonSaturating(), penalty=r1),
    "wgan_gp": Game(loss=Wasserstein(), penalty=WGANGP(weight=10.0, interval=1)),
    "dragan": Game(loss=NonSaturating(), penalty=DRAGAN(weight=10.0, interval=1, spread=0.5)),
    "r2 not due": Game(loss=Relativistic(), penalty=R1R2(gamma=0.7, final=1.0, interval=2)),
    "top_k": Game(loss=Relativistic(), top_k=0.5),
    "lecam": Game(loss=NonSaturating(), regularizers={"lecam": LeCam(weight=0.3, decay=0.9, warm_up=1)}),
    "consistency": Game(
        loss=LeastSquares(),
        regularizers={
            "consistency": Consistency(weight=10.0, balanced=True, shift=1, mirror=True, interval=1)
        },
    ),
}


def images(count: int = 4) -> Batch:
    labels = torch.arange(count) % 3
    return Batch(torch.rand(count, 1, 8, 8, generator=random(3), dtype=torch.float64) * 2 - 1, labels)


def conditional(
    game: Game, network: DCGAN, scheme: Scheme, kind: type = Projection, **options: float
) -> Trainer:
    """A trainer of a small conditional pair of images in float64, halfway through its training."""
    pair = make_players(network, kind(**options), LATENT, (1, 8, 8), 3, random(1), random(2))
    trainer = make_trainer(in_float64(pair), game, scheme)
    trainer.progress = 0.5
    trainer.regularizer_states = {
        name: {"real": torch.tensor(0.2), "fake": torch.tensor(-0.2)} for name in game.regularizers
    }
    return trainer


CONVOLUTIONS = DCGAN(width=2, max_width=4, batch_norm=False, spectral_norm=False)


@pytest.mark.parametrize("game", GAMES.values(), ids=GAMES)
def test_penalties_regularizers_and_labels_change_nothing(game: Game) -> None:
    """Two backward passes are those of the same trainer that may not share; a conditional pair of images."""
    one, two = (conditional(game, CONVOLUTIONS, Simultaneous()) for _ in range(2))
    two.one_pass = False
    calls = asked(one.discriminator), asked(two.discriminator)
    found, expected = gradients(one, images()), gradients(two, images())
    assert len(calls[1]) - len(calls[0]) == 1 + game.loss.generator_uses_real
    for f, e in zip(found, expected, strict=True):
        assert_equal(f, e)
    for f, e in zip(found[0], expected[0], strict=True):
        assert torch.equal(f, e)  # the discriminator's is the same to the bit


REFUSED: Mapping[str, Game] = {
    "hinge": Game(loss=Hinge()),
    "r2": Game(loss=NonSaturating(), penalty=R2(gamma=0.7, final=1.0, interval=1)),
    "augment": Game(loss=NonSaturating(), augment=DiffAugment(policy=("colour",))),
    "noise": Game(loss=NonSaturating(), instance_noise=0.1),
}


@pytest.mark.parametrize("game", REFUSED.values(), ids=REFUSED)
def test_a_game_whose_gradients_would_differ_takes_two(game: Game) -> None:
    one, two = (conditional(game, CONVOLUTIONS, Simultaneous()) for _ in range(2))
    two.one_pass = False
    calls = asked(one.discriminator)
    for f, e in zip(gradients(one, images()), gradients(two, images()), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(f, e, strict=True))
    assert len(calls) == 3


def test_class_logits_and_spectral_norm_take_two() -> None:
    auxiliary = conditional(
        Game(loss=NonSaturating(), auxiliary=Auxiliary(weight=1.0)),
        CONVOLUTIONS, Simultaneous(), Auxiliary, weight=1.0,
    )  # fmt: skip
    normed = conditional(
        Game(loss=NonSaturating()), replace(CONVOLUTIONS, spectral_norm=True), Simultaneous()
    )
    assert not auxiliary.one_pass
    assert not normed.one_pass


@pytest.mark.parametrize(
    ("scheme", "micro_batches", "passes"),
    [
        (Simultaneous(), 1, 2),
        (Simultaneous(), 2, 6),
        (Optimistic(), 1, 2),
        (Extragradient(), 1, 4),
        (Lookahead(k=2, alpha=0.5, inner=Optimistic()), 1, 2),
        (Alternating(), 1, 3),
        (NegativeMomentum(beta=-0.5), 1, 3),
        (Lookahead(k=2, alpha=0.5, inner=Alternating()), 1, 3),
    ],
    ids=str,
)
def test_who_moves_together_asks_once_and_goes_where_two_passes_lead(
    scheme: Scheme, micro_batches: int, passes: int
) -> None:
    ends = []
    for shared in (True, False):
        players = in_float64(made(NETWORK))
        trainer = make_trainer(
            players, Game(loss=NonSaturating(), penalty=r1), scheme, micro_batches=micro_batches
        )
        trainer.one_pass = trainer.one_pass and shared
        calls = asked(players[1])
        for i in range(4):
            real = torch.randn(4, 2, generator=random(i), dtype=torch.float64)
            trainer.update(unlabelled(real), progress=0.0)
        if shared:
            assert len(calls) == 4 * passes
        ends.append([p.detach() for player in players for p in player.parameters()])
    assert_equal(*ends)


class Line(nn.Module):
    """D(x) = w x + b of numbers."""

    def __init__(self, weight: float, bias: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))
        self.bias = nn.Parameter(torch.tensor(bias))

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.weight * x[:, 0] + self.bias


@pytest.mark.parametrize("bias", [-10.0, -60.0, -90.0, -300.0])
def test_the_generator_learns_from_a_discriminator_that_is_certain(bias: float) -> None:
    """In float32 dL_D/dl is 1e-5 down to exactly 0 in the four cases, and dL_G/dl -1/4 in all."""
    generator, discriminator = nn.Linear(1, 1), Line(0.5, bias)
    generator.forward = lambda z, labels=None: nn.functional.linear(z, generator.weight, generator.bias)
    z, real = torch.tensor([[0.1], [0.4], [-0.3], [1.0]]), Batch(torch.full((4, 1), 800.0), None)
    fake = FakeBatch(generator, z, None, shared=True, one_pass=True)
    info = StepInfo(update=0, progress=0.0, augmentation=torch.zeros(()), seed=0)
    game = Game(loss=NonSaturating())
    calls = asked(discriminator)
    losses, _ = game.discriminator_loss(discriminator, real, fake, info, {})
    found = torch.autograd.grad(losses["adversarial"], list(discriminator.parameters()))
    y = (generator.weight * z + generator.bias).detach()[:, 0]
    exact = torch.sigmoid(0.5 * y.double() + bias) / 4
    gap = LEAST * y.abs().sum().item() / 4
    for gradient, expected in zip(found, [(exact * y).sum(), exact.sum()], strict=True):
        assert gradient.item() == pytest.approx(expected.item(), rel=1e-5, abs=4 * gap + LEAST * 4)
    of_generator, _ = game.generator_loss(discriminator, real, fake, info)
    of_weight, of_bias = torch.autograd.grad(of_generator["adversarial"], list(generator.parameters()))
    assert len(calls) == 2
    certain = (1 - torch.sigmoid(0.5 * y.double() + bias)) / 4
    assert of_weight.item() == pytest.approx(-(0.5 * certain * z[:, 0]).sum().item(), rel=1e-5)
    assert of_bias.item() == pytest.approx(-0.5 * certain.sum().item(), rel=1e-5)


def test_a_player_that_has_moved_is_asked_again() -> None:
    generator, discriminator = made(NETWORK)
    for player in (generator, discriminator):
        y = generator(torch.randn(4, LATENT)).detach()
        shared = SharedPass(generator, discriminator)
        logits = shared.logits(discriminator(shared.samples(y)), torch.zeros(4))
        assert not shared.complete
        torch.autograd.backward(logits.sum(), inputs=list(discriminator.parameters()))
        assert shared.complete
        with torch.no_grad():
            next(player.parameters()).add_(1.0)
        assert not shared.complete


def test_an_optimizer_that_evaluates_again_ends_where_two_passes_lead() -> None:
    """LBFGS asks for losses at other points: those are the usual ones."""
    ends = []
    for shared in (True, False):
        players = in_float64(made(NETWORK))
        trainer = make_trainer(players, Game(loss=NonSaturating(), penalty=r1), Simultaneous())
        steps = [
            GradientStep(p, torch.optim.LBFGS(p.parameters(), lr=0.1, max_iter=3), name=name)
            for name, p in zip(("generator", "discriminator"), players, strict=True)
        ]
        trainer.generator_step, trainer.discriminator_step = steps
        trainer.one_pass = shared
        trainer.update(unlabelled(torch.randn(4, 2, generator=random(3), dtype=torch.float64)), progress=0.0)
        ends.append([p.detach() for player in players for p in player.parameters()])
    assert_equal(*ends)


@pytest.mark.parametrize(("lecam", "passes"), [(False, 2), (True, 3)])
def test_losses_that_are_differentiated_apart_share_only_where_one_reads_the_samples(
    lecam: bool, passes: int
) -> None:
    game = GAMES["lecam"] if lecam else GAMES["r1"]
    results = []
    for shared in (True, False):
        trainer = conditional(game, CONVOLUTIONS, Simultaneous())
        module = trainer.discriminator
        trainer.discriminator_step = GradientStep(
            module, torch.optim.SGD(module.parameters(), lr=0.1), [PCGrad()], name="discriminator"
        )
        trainer.one_pass = shared
        calls = asked(module)
        results.append(gradients(trainer, images()))
        if shared:
            assert len(calls) == passes
    for f, e in zip(*results, strict=True):
        assert_equal(f, e)


class Sharpness:
    """A penalty of one's own: the squared gradient of the mean logit of generated samples by D's weights."""

    on_real = on_fake = False

    def __init__(self) -> None:
        self.weights: list[Tensor] = []

    def due(self, update: int) -> bool:
        return True

    def __call__(self, batch: ScoredBatch) -> tuple[Tensor, dict[str, Tensor]]:
        by_weights = torch.autograd.grad(batch.fake_logits.mean(), self.weights, create_graph=True)
        return torch.stack([g.square().sum() for g in by_weights]).sum(), {}


def test_a_penalty_that_differentiates_the_logits_itself_takes_two() -> None:
    results = []
    for shared in (True, False):
        penalty = Sharpness()
        players = in_float64(made(NETWORK))
        penalty.weights = list(players[1].parameters())
        trainer = make_trainer(players, Game(loss=NonSaturating(), penalty=penalty), Simultaneous())
        trainer.one_pass = shared
        calls = asked(players[1])
        results.append(gradients(trainer, Batch(torch.ones(4, 2, dtype=torch.float64), None)))
        assert len(calls) == 3
    for f, e in zip(*results, strict=True):
        assert_equal(f, e)


def test_in_bfloat16_both_ways_agree_to_its_rounding() -> None:
    results = []
    for shared in (True, False):
        generator, discriminator = players = made(CONVOLUTIONS, (1, 8, 8))
        trainer = make_trainer(players, Game(loss=NonSaturating()), Simultaneous())
        trainer.generator_step, trainer.discriminator_step = (
            GradientStep(p, torch.optim.SGD(p.parameters(), lr=0.1), name=name, precision="bfloat16")
            for name, p in (("generator", generator), ("discriminator", discriminator))
        )
        trainer.one_pass = shared
        results.append(gradients(trainer, Batch(images(32).x.float(), None)))
    (one, two), (one_expected, two_expected) = results
    assert all(torch.equal(a, b) for a, b in zip(one, one_expected, strict=True))
    assert_equal(two, two_expected, rtol=0.03)


def test_a_discriminator_with_a_memory_is_asked_twice() -> None:
    """Filters that never change are no memory."""
    assert scores_alone(made(CONVOLUTIONS, (1, 8, 8))[1])
    assert not scores_alone(made(replace(CONVOLUTIONS, spectral_norm=True), (1, 8, 8))[1])
    assert not scores_alone(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)))
    assert not scores_alone(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3, track_running_stats=False)))
    tied = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    tied[1].weight = tied[0].weight
    assert scores_alone(tied)
    blur = nn.Linear(2, 1)
    blur.register_buffer("filter", torch.ones(2), persistent=False)
    assert scores_alone(blur)
    assert not scores_alone(nn.Sequential(nn.Linear(2, 3), BesideTheMean()))  # its gradients mix the samples
