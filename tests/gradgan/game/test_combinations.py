"""Every loss with every penalty on every network takes finite steps; and what the options of a game do."""

import itertools

import pytest
import torch

from core.optim.schemes.schemes import Alternating
from gradgan.augment import Augment
from gradgan.augment.ada import ADA
from gradgan.augment.diffaugment import DiffAugment
from gradgan.batch import Batch
from gradgan.data.mixtures import Ring
from gradgan.game.game import Game
from gradgan.game.players import make_players
from gradgan.losses import Loss
from gradgan.losses.hinge import Hinge
from gradgan.losses.least_squares import LeastSquares
from gradgan.losses.minimax import Minimax
from gradgan.losses.nonsaturating import NonSaturating
from gradgan.losses.relativistic import Relativistic
from gradgan.losses.relativistic_average import RelativisticAverage
from gradgan.losses.wasserstein import Wasserstein
from gradgan.networks import Network
from gradgan.networks.conditioning import Auxiliary, Conditioning, Projection
from gradgan.networks.dcgan import DCGAN
from gradgan.networks.mlp import MLP
from gradgan.networks.r3gan import R3GAN
from gradgan.networks.resnet import ResNet
from gradgan.networks.stylegan2 import StyleGAN2
from gradgan.penalties import Penalty
from gradgan.penalties.one_centred import DRAGAN, WGANGP
from gradgan.penalties.zero_centred import R1, R1R2, R2
from gradgan.regularizers import Regularizer
from gradgan.regularizers.consistency import Consistency
from gradgan.regularizers.lecam import LeCam
from gradgan.regularizers.weight_clipping import WeightClipping
from tests.gradgan.playing import LATENT, made, make_trainer, random, unlabelled

pytestmark = pytest.mark.slow

SHAPE = (1, 8, 8)
ZERO = {"gamma": 1.0, "final": 1.0, "interval": 1}
LOSSES: list[Loss] = [
    Minimax(),
    NonSaturating(),
    LeastSquares(),
    Hinge(),
    Wasserstein(),
    RelativisticAverage(),
    Relativistic(),
]
PENALTIES: list[Penalty | None] = [
    None,
    R1(**ZERO),
    R2(**ZERO),
    R1R2(**ZERO),
    WGANGP(weight=10.0, interval=1),
    DRAGAN(weight=10.0, spread=0.5, interval=1),
]
CONSISTENCY = Consistency(weight=10.0, balanced=True, shift=2, mirror=True, interval=1)
NETWORKS: list[Network] = [
    MLP(width=8, depth=2, slope=0.2, spectral_norm=False),
    DCGAN(width=8, max_width=16, batch_norm=True, spectral_norm=False),
    ResNet(width=8, max_width=8, batch_norm=True, spectral_norm=True),
    StyleGAN2(width=8, max_width=8, style_size=8, mapping_depth=2, mapping_lr=0.01, spectral_norm=False),
    R3GAN(width=8, max_width=8, blocks=1, expansion=2, group_size=8, spectral_norm=False),
]


def named(part: object) -> str:
    return "none" if part is None else type(part).__name__


def three_steps(network: Network, game: Game, labelled: Conditioning | None = None) -> None:
    """Three updates on random images; every number stays finite, and both players move."""
    players = make_players(network, labelled, LATENT, SHAPE, labelled and 3, random(1), random(2))
    trainer = make_trainer(players, game, Alternating(), lr=1e-4)
    before = [[p.detach().clone() for p in player.parameters()] for player in players]
    for step in range(3):
        x = torch.rand(4, *SHAPE, generator=random(step)) * 2 - 1
        metrics = trainer.update([Batch(x, torch.arange(4) % 3)], progress=step / 3)
        assert {"loss/generator", "loss/discriminator", "logits/accuracy"} <= set(metrics)
        assert all(value.isfinite() and value.dim() == 0 for value in metrics.values()), metrics
    for player, former in zip(players, before, strict=True):
        assert all(p.isfinite().all() for p in player.parameters())
        assert any(not torch.equal(p, q) for p, q in zip(player.parameters(), former, strict=True))
    assert trainer.updates == 3


@pytest.mark.parametrize(
    ("network", "penalty"), list(itertools.product(NETWORKS, PENALTIES)), ids=lambda part: named(part)
)
def test_every_loss_takes_finite_steps(network: Network, penalty: Penalty | None) -> None:
    for loss in LOSSES:
        three_steps(network, Game(loss=loss, penalty=penalty))


@pytest.mark.parametrize("network", NETWORKS, ids=named)
@pytest.mark.parametrize(
    "regularizers",
    [
        {"lecam": LeCam(weight=0.3, decay=0.9, warm_up=1)},
        {"consistency": CONSISTENCY},
        {"weight_clipping": WeightClipping(bound=0.05)},
        {"lecam": LeCam(weight=0.3, decay=0.9, warm_up=1), "consistency": CONSISTENCY},
    ],
    ids=lambda parts: "+".join(parts),
)
def test_every_regularizer_takes_finite_steps(network: Network, regularizers: dict[str, Regularizer]) -> None:
    three_steps(network, Game(loss=Hinge(), penalty=R1(**ZERO), regularizers=regularizers))


@pytest.mark.parametrize("network", NETWORKS, ids=named)
@pytest.mark.parametrize(
    "augment",
    [
        DiffAugment(policy=("colour", "translation", "cutout")),
        ADA(initial=0.8, target=0.6, speed=1000.0),
    ],
    ids=named,
)
@pytest.mark.parametrize("conditioning", [Projection(), Auxiliary(weight=1.0)], ids=named)
def test_augmentation_noise_top_k_and_labels_take_finite_steps(
    network: Network, augment: Augment, conditioning: Conditioning
) -> None:
    auxiliary = conditioning if isinstance(conditioning, Auxiliary) else None
    game = Game(
        loss=RelativisticAverage(),
        penalty=R1R2(**ZERO),
        auxiliary=auxiliary,
        augment=augment,
        instance_noise=0.1,
        top_k=0.5,
    )
    three_steps(network, game, conditioning)


@pytest.mark.parametrize(
    ("loss", "penalty"),
    [
        (Minimax(), R1(**ZERO)),
        (NonSaturating(), R1(**ZERO)),
        (NonSaturating(), DRAGAN(weight=10.0, spread=0.5, interval=1)),
        (LeastSquares(), R1(**ZERO)),
        (Hinge(), None),
        (Wasserstein(), WGANGP(weight=10.0, interval=1)),
        (RelativisticAverage(), R1R2(**ZERO)),
        (Relativistic(), R1R2(**ZERO)),
    ],
    ids=named,
)
def test_a_loss_with_its_customary_penalty_makes_200_updates_on_a_ring(
    loss: Loss, penalty: Penalty | None
) -> None:
    network = MLP(width=16, depth=2, slope=0.2, spectral_norm=isinstance(loss, Hinge))
    trainer = make_trainer(made(network), Game(loss=loss, penalty=penalty), Alternating(), lr=0.02)
    stream = Ring(num_modes=8, radius=1.0, std=0.01).stream(64, random(5), torch.device("cpu"))
    for _ in range(200):
        metrics = trainer.update([stream.next()], progress=0.0)
    assert all(value.isfinite() for value in metrics.values())
    with torch.no_grad():
        points = trainer.generator(torch.randn(256, LATENT, generator=random(6)))
    assert points.isfinite().all()
    assert 0.05 < points.square().mean().sqrt() < 5  # neither collapsed to the origin nor run away


def test_micro_batches_give_the_gradient_of_the_whole_batch() -> None:
    """With a loss that is a mean over samples; the latents differ, so only the real part is compared."""
    network = MLP(width=8, depth=1, slope=0.2, spectral_norm=False)
    gradients = []
    for parts in (1, 4):
        trainer = make_trainer(
            made(network), Game(loss=Wasserstein()), Alternating(), lr=0.0, micro_batches=parts
        )
        with torch.no_grad():  # a constant generator: every latent gives the same sample
            for p in trainer.generator.parameters():
                p.zero_()
        trainer.update(unlabelled(torch.randn(8, 2, generator=random(3))), progress=0.0)
        gradients.append([p.grad for p in trainer.discriminator.parameters()])
    for whole, in_parts in zip(*gradients, strict=True):
        torch.testing.assert_close(whole, in_parts, rtol=1e-5, atol=1e-6)


def test_several_discriminator_steps_use_a_batch_each_and_move_the_generator_once() -> None:
    network = MLP(width=8, depth=1, slope=0.2, spectral_norm=False)
    trainer = make_trainer(made(network), Game(loss=NonSaturating()), Alternating())
    batches = [Batch(torch.randn(4, 2, generator=random(i)), None) for i in range(3)]
    trainer.update(batches, progress=0.0)
    assert trainer.discriminator_step.monitor.steps == 3
    assert trainer.generator_step.monitor.steps == 1
    assert (trainer.updates, trainer.discriminator_updates, trainer.average.seen) == (1, 3, 12)


def test_top_k_lets_the_generator_learn_from_the_samples_that_look_most_real() -> None:
    """Its gradient is that of the best half alone, by a slow selection."""
    network = MLP(width=8, depth=1, slope=0.2, spectral_norm=False)
    game = Game(loss=NonSaturating(), top_k=0.5)
    assert [game.kept(10, p) for p in (0.0, 0.5, 1.0)] == [10, 8, 5]
    trainer = make_trainer(made(network), game, Alternating(), lr=0.0)
    trainer.update(unlabelled(torch.randn(10, 2, generator=random(3))), progress=1.0)
    got = [p.grad.clone() for p in trainer.generator.parameters()]
    z = torch.randn(10, LATENT, generator=random(7))
    generator, discriminator = trainer.generator, trainer.discriminator
    logits = discriminator(generator(z))
    best = sorted(range(10), key=lambda i: -logits[i].item())[:5]
    loss = torch.stack([torch.nn.functional.softplus(-logits[i]) for i in best]).mean()
    expected = torch.autograd.grad(loss, list(generator.parameters()))
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)
