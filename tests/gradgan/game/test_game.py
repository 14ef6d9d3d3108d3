"""What each player sees and pays for, by hand: views, classes, signs, the best samples, what is due when."""

import math
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from core.optim.schemes.schemes import Alternating
from gradgan.augment.ada import ADA
from gradgan.batch import Batch
from gradgan.game.game import FakeBatch, Game, StepInfo, logit_metrics
from gradgan.game.players import make_players
from gradgan.losses.hinge import Hinge
from gradgan.losses.nonsaturating import NonSaturating
from gradgan.losses.relativistic import Relativistic
from gradgan.losses.wasserstein import Wasserstein
from gradgan.networks.conditioning import Auxiliary
from gradgan.networks.mlp import MLP
from gradgan.penalties.one_centred import WGANGP
from gradgan.penalties.zero_centred import R1
from tests.gradgan.playing import Point, Slope, make_trainer, random


class Same(nn.Module):
    """A generator that returns its latents."""

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        return z


class Watching(nn.Module):
    """A discriminator, D(x) = a sum of squares or the first coordinate, that keeps what it was shown."""

    def __init__(self, *, square: bool = False) -> None:
        super().__init__()
        self.square = square
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        self.seen.append(x.detach())
        return x.square().flatten(1).sum(1) if self.square else x.flatten(1)[:, 0]


@dataclass(frozen=True)
class Lifted:
    """An augmentation that adds 10 p."""

    initial: float = 0.0

    def check(self, shape: object) -> None: ...

    def __call__(self, images: Tensor, p: Tensor, random: torch.Generator) -> Tensor:
        return images + 10 * p

    def adapt(self, p: Tensor, real_sign: Tensor, images: int) -> Tensor:
        return p


def info(*, update: int = 0, progress: float = 0.0, p: float = 0.0, seed: int = 3) -> StepInfo:
    return StepInfo(update, progress, torch.tensor(p), seed)


def column(*values: float) -> Tensor:
    return torch.tensor(values)[:, None]


def fakes(z: Tensor, labels: Tensor | None = None) -> FakeBatch:
    return FakeBatch(Same(), z, labels, shared=False)


def test_the_discriminator_sees_real_and_generated_samples_through_the_augmentation() -> None:
    discriminator = Watching()
    game = Game(loss=Hinge(), augment=Lifted())
    _, metrics = game.discriminator_loss(
        discriminator, Batch(column(1.0, 2.0), None), fakes(column(-3.0, -4.0)), info(p=0.5), {}
    )
    assert [x.flatten().tolist() for x in discriminator.seen] == [[6.0, 7.0], [2.0, 1.0]]
    assert metrics["logits/real"] == 6.5
    assert metrics["logits/fake"] == 1.5


def test_the_generator_is_judged_through_the_augmentation_beside_real_samples_seen_the_same_way() -> None:
    discriminator = Watching()
    game = Game(loss=Relativistic(), augment=Lifted())
    losses, _ = game.generator_loss(
        discriminator, Batch(column(1.0, 2.0), None), fakes(column(0.5, 0.0)), info(p=0.5)
    )
    assert [x.flatten().tolist() for x in discriminator.seen] == [[5.5, 5.0], [6.0, 7.0]]
    expected = (math.log1p(math.exp(0.5)) + math.log1p(math.exp(2.0))) / 2
    assert losses["adversarial"].item() == pytest.approx(expected)


@pytest.mark.parametrize(("progress", "std"), [(0.0, 0.8), (0.25, 0.6), (1.0, 0.0)])
def test_instance_noise_lies_on_both_kinds_and_fades_with_training(progress: float, std: float) -> None:
    discriminator = Watching()
    game = Game(loss=Hinge(), instance_noise=0.8)
    zeros = torch.zeros(100, 100)
    game.discriminator_loss(discriminator, Batch(zeros, None), fakes(zeros), info(progress=progress), {})
    game.generator_loss(discriminator, Batch(zeros, None), fakes(zeros), info(progress=progress, seed=4))
    assert len(discriminator.seen) == 3
    for shown in discriminator.seen:
        assert shown.std().item() == pytest.approx(std, rel=0.03)  # four standard errors of 10,000 numbers
    assert (std == 0) == torch.equal(*discriminator.seen[:2])


def test_both_players_pay_for_the_classes_of_generated_samples_and_one_for_those_of_real_ones() -> None:
    network = MLP(width=8, depth=1, slope=0.2, spectral_norm=False)
    _, discriminator = make_players(network, Auxiliary(weight=3.0), 2, (2,), 3, random(1), random(2))
    labels = torch.tensor([0, 2, 1, 1])
    real, z = torch.randn(4, 2, generator=random(3)), torch.randn(4, 2, generator=random(4))
    game = Game(loss=Hinge(), auxiliary=Auxiliary(weight=3.0))
    assert discriminator.class_head is not None
    of_real, of_fake = (
        cross_entropy(discriminator.class_head(discriminator.body(x)), labels).item() for x in (real, z)
    )
    losses, metrics = game.discriminator_loss(
        discriminator, Batch(real, labels), fakes(z, labels), info(), {}
    )
    assert losses["classification"].item() == pytest.approx(3.0 * (of_real + of_fake), rel=1e-5)
    assert metrics["loss/classification"].item() == pytest.approx(of_real, rel=1e-5)
    losses, _ = game.generator_loss(discriminator, Batch(real, labels), fakes(z, labels), info())
    assert losses["classification"].item() == pytest.approx(3.0 * of_fake, rel=1e-5)


def test_the_sign_that_steers_the_augmentation_is_that_of_real_logits() -> None:
    game = Game(loss=NonSaturating(), augment=Lifted())
    batch = Batch(column(1.0, 2.0, 3.0, -0.5), None)
    _, metrics = game.discriminator_loss(Watching(), batch, fakes(column(-1.0, -2.0, -3.0, -4.0)), info(), {})
    assert metrics["augment/real_sign"] == 0.5  # three of four are above 0
    assert metrics["augment/probability"] == 0.0


@pytest.mark.parametrize("one", [math.nan, math.inf, -math.inf])
def test_a_real_logit_that_is_nan_makes_the_sign_nan_and_an_infinite_one_has_its_own(one: float) -> None:
    game = Game(loss=NonSaturating(), augment=Lifted())
    batch = Batch(column(1.0, 2.0, 3.0, one), None)
    _, metrics = game.discriminator_loss(Watching(), batch, fakes(column(-1.0, -2.0, -3.0, -4.0)), info(), {})
    expected = {math.inf: 1.0, -math.inf: 0.5}.get(one, math.nan)
    assert metrics["augment/real_sign"].item() == pytest.approx(expected, nan_ok=True)


def test_the_best_samples_keep_their_own_real_partners() -> None:
    real, fake = [5.0, -1.0, 2.0, 0.0], [0.0, 3.0, -2.0, 1.0]
    game = Game(loss=Relativistic(), top_k=0.5)
    batch = Batch(column(*real), None)
    losses, _ = game.generator_loss(Watching(), batch, fakes(column(*fake)), info(progress=1.0))
    pairs = [(3.0, -1.0), (1.0, 0.0)]  # the two largest of `fake`, each with what stands beside it
    expected = sum(math.log1p(math.exp(r - f)) for f, r in pairs) / 2
    assert losses["adversarial"].item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("count", "progress", "kept"), [(10, 0.0, 10), (10, 0.5, 6), (10, 1.0, 2), (2, 1.0, 1), (3, 1.0, 1)]
)
def test_the_share_of_samples_that_teach_falls_to_top_k(count: int, progress: float, kept: int) -> None:
    assert Game(loss=Hinge(), top_k=0.2).kept(count, progress) == kept


def test_a_penalty_measures_the_slope_of_what_is_shown() -> None:
    """At x = 0, shown as 5, the slope of a sum of two squares is sqrt(2) 10; unshown it is 0."""
    zeros = torch.zeros(4, 2)
    game = Game(loss=Wasserstein(), penalty=WGANGP(weight=2.0, interval=1), augment=Lifted())
    losses, metrics = game.discriminator_loss(
        Watching(square=True), Batch(zeros, None), fakes(zeros), info(p=0.5), {}
    )
    assert metrics["penalty/slope"].item() == pytest.approx(10 * math.sqrt(2))
    assert losses["penalty"].item() == pytest.approx(2.0 * (10 * math.sqrt(2) - 1) ** 2)


@pytest.mark.parametrize(("update", "due"), [(0, True), (1, False), (2, False), (3, True)])
def test_a_lazy_penalty_is_paid_at_every_third_update_and_then_threefold(update: int, due: bool) -> None:
    ones = torch.ones(4, 2)
    game = Game(loss=Hinge(), penalty=R1(gamma=1.0, final=1.0, interval=3))
    losses, _ = game.discriminator_loss(
        Watching(square=True), Batch(ones, None), fakes(ones), info(update=update), {}
    )
    assert ("penalty" in losses) == due
    if due:  # 3 / 2 |2 x|^2
        assert losses["penalty"].item() == pytest.approx(12.0)


@pytest.mark.parametrize(("threshold", "accuracy"), [(True, 0.75), (False, 0.5)])
def test_accuracy_counts_samples_on_their_side_of_zero_or_pairs_in_order(
    threshold: bool, accuracy: float
) -> None:
    real, fake = torch.tensor([1.0, 2.0, -1.0, 3.0]), torch.tensor([-1.0, -0.5, -0.5, 4.0])
    metrics = logit_metrics(real, fake, has_threshold=threshold)
    assert metrics["logits/accuracy"] == accuracy  # (3 + 3) / 8; the first two pairs


def test_a_generator_that_has_moved_makes_its_samples_anew() -> None:
    generator = Point(1.0)
    fake = FakeBatch(generator, torch.zeros(2, 3), None, shared=True)
    assert fake.detached().tolist() == [[1.0], [1.0]]
    with torch.no_grad():
        generator.theta.add_(1.0)
    assert fake.with_graph().tolist() == [[2.0], [2.0]]


@pytest.mark.parametrize("joint", [False, True])
def test_only_a_joint_graph_carries_the_discriminators_loss_to_the_generator(joint: bool) -> None:
    """With D(x) = psi x and all samples at theta, dL_D / dtheta = psi sigmoid(psi theta)."""
    generator, discriminator = Point(0.5), Slope(2.0)
    real = Batch(torch.ones(4, 1, dtype=torch.float64), None)
    fake = FakeBatch(generator, torch.zeros(4, 3), None, shared=False)
    game = Game(loss=NonSaturating(), joint_graph=joint)
    losses, _ = game.discriminator_loss(discriminator, real, fake, info(), {})
    (found,) = torch.autograd.grad(losses["adversarial"], generator.theta, allow_unused=True)
    assert (found is None) != joint
    if found is not None:
        assert found.item() == pytest.approx(2.0 / (1 + math.exp(-1.0)))


@dataclass
class Counting:
    """A penalty of nothing that keeps the numbers of the updates it is asked about."""

    asked: list[int] = field(default_factory=list)
    on_real = False
    on_fake = False

    def due(self, update: int) -> bool:
        self.asked.append(update)
        return False

    def __call__(self, batch: object) -> tuple[Tensor, dict[str, Tensor]]:
        raise AssertionError("not due")


def batches(count: int, size: int) -> list[Batch]:
    return [Batch(torch.ones(size, 1, dtype=torch.float64), None) for _ in range(count)]


def test_penalties_count_the_discriminators_updates() -> None:
    penalty = Counting()
    trainer = make_trainer(
        (Point(0.0), Slope(1.0)), Game(loss=NonSaturating(), penalty=penalty), Alternating()
    )
    for _ in range(2):
        trainer.update(batches(3, 4), 0.0)
    assert penalty.asked == [0, 1, 2, 3, 4, 5]


def test_ada_moves_by_the_images_that_the_discriminator_has_seen() -> None:
    class Flat(ADA):
        def __call__(self, images: Tensor, p: Tensor, random: torch.Generator) -> Tensor:
            return images

    game = Game(loss=NonSaturating(), augment=Flat(initial=0.5, target=0.6, speed=100.0))
    trainer = make_trainer((Point(0.0), Slope(1.0)), game, Alternating())
    trainer.update(batches(3, 4), 0.0)  # D(1) = 1 > 0: a sign of 1, above the target
    assert trainer.augmentation.item() == pytest.approx(0.5 + 12 / 100)


def test_the_average_counts_all_real_images_of_an_update() -> None:
    trainer = make_trainer((Point(0.0), Slope(1.0)), Game(loss=NonSaturating()), Alternating())
    trainer.update(batches(3, 4), 0.0)
    assert trainer.average.seen == 12


def test_the_players_are_shown_different_noise() -> None:
    watching = Watching()
    watching.scale = nn.Parameter(torch.ones(()))
    generator = Same()
    generator.unused = nn.Parameter(torch.ones(()))
    watching.forward = lambda x, labels=None: (watching.seen.append(x.detach()), watching.scale * x[:, 0])[1]
    generator.forward = lambda z, labels=None: 0 * generator.unused * z
    trainer = make_trainer(
        (generator, watching), Game(loss=NonSaturating(), instance_noise=1.0), Alternating(), latent_size=1
    )
    trainer.update([Batch(torch.zeros(4, 1), None)], 0.0)
    of_real, of_fake, of_generator = watching.seen
    assert not torch.equal(of_real, of_fake)
    assert not torch.equal(of_generator, of_fake)
    assert not torch.equal(of_generator, of_real)
