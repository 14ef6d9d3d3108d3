"""`gradgan.losses`: against the formulas in float64, derivatives by hand, symmetric cases, extreme logits."""

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from gradgan.game.game import logit_metrics
from gradgan.losses import Loss, compares_samples
from gradgan.losses.hinge import Hinge
from gradgan.losses.least_squares import LeastSquares
from gradgan.losses.minimax import Minimax
from gradgan.losses.nonsaturating import NonSaturating
from gradgan.losses.relativistic import Relativistic
from gradgan.losses.relativistic_average import RelativisticAverage
from gradgan.losses.wasserstein import Wasserstein

ALL = [
    Minimax(),
    NonSaturating(),
    LeastSquares(),
    Hinge(),
    Wasserstein(),
    Relativistic(),
    RelativisticAverage(),
]
JUDGING_EACH = ALL[:4]  # 0 is the border between the two kinds
COMPARING = ALL[4:]  # only differences of logits have a meaning
every_loss = pytest.mark.parametrize("loss", ALL, ids=lambda loss: type(loss).__name__)


def logits(count: int = 7) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    real, fake = (3 * torch.randn(2, count, generator=random, dtype=torch.float64)).unbind()
    return real.requires_grad_(), fake.requires_grad_()


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def formulas(loss: Loss, real: list[float], fake: list[float]) -> tuple[float, float]:
    """Both players' losses as the papers write them."""
    log, pairs = math.log, list(zip(real, fake, strict=True))
    of_both = -mean([log(sigmoid(r)) for r in real]) - mean([log(1 - sigmoid(f)) for f in fake])
    match loss:
        case Minimax():
            return of_both, mean([log(1 - sigmoid(f)) for f in fake])
        case NonSaturating():
            return of_both, -mean([log(sigmoid(f)) for f in fake])
        case LeastSquares():
            squares = mean([(r - 1) ** 2 for r in real]) + mean([(f + 1) ** 2 for f in fake])
            return squares / 2, mean([f**2 for f in fake]) / 2
        case Hinge():
            margins = mean([max(0.0, 1 - r) for r in real]) + mean([max(0.0, 1 + f) for f in fake])
            return margins, -mean(fake)
        case Wasserstein():
            return mean(fake) - mean(real), -mean(fake)
        case Relativistic():
            return -mean([log(sigmoid(r - f)) for r, f in pairs]), -mean(
                [log(sigmoid(f - r)) for r, f in pairs]
            )
        case _:
            r_mean, f_mean = mean(real), mean(fake)
            real_up = mean([log(sigmoid(r - f_mean)) for r in real])
            fake_down = mean([log(1 - sigmoid(f - r_mean)) for f in fake])
            fake_up = mean([log(sigmoid(f - r_mean)) for f in fake])
            real_down = mean([log(1 - sigmoid(r - f_mean)) for r in real])
            return -(real_up + fake_down) / 2, -(fake_up + real_down) / 2


@every_loss
def test_the_losses_are_the_papers_formulas(loss: Loss) -> None:
    real, fake = logits()
    discriminator, generator = formulas(loss, real.tolist(), fake.tolist())
    assert loss.discriminator(real, fake).item() == pytest.approx(discriminator, rel=1e-12)
    assert loss.generator(fake, real).item() == pytest.approx(generator, rel=1e-12)


Slope = Callable[[float], float]
# d L_D / d D(real), d L_D / d D(fake) and d L_G / d D(fake) at one sample of each kind, worked out by hand.
SLOPES: list[tuple[Loss, Slope, Slope, Slope]] = [
    (Minimax(), lambda r: -sigmoid(-r), sigmoid, lambda f: -sigmoid(f)),
    (NonSaturating(), lambda r: -sigmoid(-r), sigmoid, lambda f: -sigmoid(-f)),
    (LeastSquares(), lambda r: r - 1, lambda f: f + 1, lambda f: f),
    (Hinge(), lambda r: -1.0 if r < 1 else 0.0, lambda f: 1.0 if f > -1 else 0.0, lambda f: -1.0),
    (Wasserstein(), lambda r: -1.0, lambda f: 1.0, lambda f: -1.0),
]


@pytest.mark.parametrize(
    ("loss", "at_real", "at_fake", "of_generator"), SLOPES, ids=lambda part: type(part).__name__
)
def test_each_logit_is_pushed_by_the_derivative_worked_out_by_hand(
    loss: Loss, at_real: Slope, at_fake: Slope, of_generator: Slope
) -> None:
    real, fake = logits()
    found = torch.autograd.grad(loss.discriminator(real, fake), (real, fake))
    (pulled,) = torch.autograd.grad(loss.generator(fake, real), fake)
    for gradient, slope, at in zip(
        (*found, pulled), (at_real, at_fake, of_generator), (real, fake, fake), strict=True
    ):
        assert (7 * gradient).tolist() == pytest.approx([slope(x) for x in at.tolist()], abs=1e-12)


def test_relativistic_pushes_both_of_a_pair_apart_alike() -> None:
    real, fake = logits()
    at_real, at_fake = torch.autograd.grad(Relativistic().discriminator(real, fake), (real, fake))
    expected = [-sigmoid(f - r) / 7 for r, f in zip(real.tolist(), fake.tolist(), strict=True)]
    assert at_real.tolist() == pytest.approx(expected, rel=1e-12)
    assert at_fake.tolist() == pytest.approx([-e for e in expected], rel=1e-12)


def test_relativistic_average_pushes_through_the_means_too() -> None:
    real, fake = logits()
    (at_real,) = torch.autograd.grad(RelativisticAverage().discriminator(real, fake), real)
    r_mean, f_mean = mean(real.tolist()), mean(fake.tolist())
    through_mean = mean([sigmoid(f - r_mean) for f in fake.tolist()])
    expected = [-(sigmoid(f_mean - r) + through_mean) / 14 for r in real.tolist()]
    assert at_real.tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("loss", "slope"),
    list(zip(ALL, [0.5, 0.5, 1.0, 1.0, 1.0, 0.5, 0.5], strict=True)),
    ids=lambda part: type(part).__name__,
)
def test_around_the_equilibrium_the_dirac_gan_only_turns(loss: Loss, slope: float) -> None:
    """D(x) = psi x, all real samples at 0, all generated at theta: v = -(dL_D/dpsi, dL_G/dtheta).

    The Jacobian of v at (0, 0) has the eigenvalues +- i f'(0), except that least squares with D(0) = 0 has no
    force on theta where psi = 0: its generator wants D(fake) = 0, which it has.
    """

    def field(point: Tensor) -> Tensor:
        psi, theta = point
        real, fake = psi * torch.zeros(4, dtype=torch.float64), psi * theta.expand(4)
        (of_psi,) = torch.autograd.grad(loss.discriminator(real, fake), psi, create_graph=True)
        (of_theta,) = torch.autograd.grad(loss.generator(fake, real), theta, create_graph=True)
        return -torch.stack([of_psi, of_theta])

    origin = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    jacobian = torch.autograd.functional.jacobian(field, origin)
    force_on_theta = 0.0 if isinstance(loss, LeastSquares) else slope
    assert jacobian.tolist() == [
        pytest.approx([0.0, -slope], abs=1e-12),
        pytest.approx([force_on_theta, 0.0], abs=1e-12),
    ]


def test_only_the_nonsaturating_generator_learns_where_the_discriminator_is_sure() -> None:
    fake = torch.full((4,), -30.0, dtype=torch.float64, requires_grad=True)
    (learns,) = torch.autograd.grad(NonSaturating().generator(fake), fake)
    (vanishes,) = torch.autograd.grad(Minimax().generator(fake), fake)
    assert (4 * learns).tolist() == pytest.approx([-1.0] * 4, abs=1e-12)
    assert (4 * vanishes).tolist() == pytest.approx([-math.exp(-30)] * 4, rel=1e-9)


def test_minimax_is_a_game_of_zero_sum() -> None:
    real, fake = logits()
    (of_discriminator,) = torch.autograd.grad(Minimax().discriminator(real, fake), fake)
    (of_generator,) = torch.autograd.grad(Minimax().generator(fake), fake)
    assert torch.equal(of_generator, -of_discriminator)


def test_the_best_least_squares_discriminator_lets_the_generator_see_pearsons_divergence() -> None:
    p_real = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    p_fake = torch.tensor([0.1, 0.3, 0.6], dtype=torch.float64)
    best = (p_real - p_fake) / (p_real + p_fake)  # minimises p_real (D - 1)^2 + p_fake (D + 1)^2 at each x
    # The paper's eq. 6 adds the generator's square on real samples, which does not depend on it.
    both = sum(
        p * LeastSquares().generator(d.reshape(1))
        for p, d in zip(torch.cat([p_real, p_fake]), best.repeat(2), strict=True)
    )
    pearson = ((2 * p_fake - (p_real + p_fake)).square() / (p_real + p_fake)).sum()
    assert 2 * both.item() == pytest.approx(pearson.item(), rel=1e-12)


@pytest.mark.parametrize("loss", COMPARING, ids=lambda loss: type(loss).__name__)
def test_a_loss_that_compares_does_not_feel_a_shift_of_all_logits(loss: Loss) -> None:
    real, fake = logits()
    before, metrics_before = loss.discriminator(real, fake), logit_metrics(real, fake, has_threshold=False)
    after = loss.discriminator(real + 5, fake + 5)
    metrics_after = logit_metrics(real + 5, fake + 5, has_threshold=loss.has_threshold)
    assert after.item() == pytest.approx(before.item(), rel=1e-12)
    assert torch.equal(metrics_before["logits/accuracy"], metrics_after["logits/accuracy"])


@pytest.mark.parametrize(
    "loss", [Relativistic(), RelativisticAverage()], ids=lambda loss: type(loss).__name__
)
def test_the_relativistic_players_swap_roles(loss: Loss) -> None:
    real, fake = logits()
    assert torch.equal(loss.generator(fake, real), loss.discriminator(fake, real))


@pytest.mark.parametrize(
    ("loss", "discriminator", "generator"),
    [
        (Minimax(), 2 * math.log(2), -math.log(2)),
        (NonSaturating(), 2 * math.log(2), math.log(2)),
        (LeastSquares(), 1.0, 0.0),
        (Hinge(), 2.0, 0.0),
        (Wasserstein(), 0.0, 0.0),
        (Relativistic(), math.log(2), math.log(2)),
        (RelativisticAverage(), math.log(2), math.log(2)),
    ],
    ids=lambda part: type(part).__name__,
)
def test_what_a_blind_discriminator_costs(loss: Loss, discriminator: float, generator: float) -> None:
    zero = torch.zeros(5, dtype=torch.float64)
    assert loss.discriminator(zero, zero).item() == pytest.approx(discriminator)
    assert loss.generator(zero, zero).item() == pytest.approx(generator)


@every_loss
@pytest.mark.parametrize("size", [-1e4, 1e4])
def test_extreme_logits_give_finite_losses_and_gradients(loss: Loss, size: float) -> None:
    real, fake = (torch.full((3,), s * size, requires_grad=True) for s in (1.0, -1.0))
    total = loss.discriminator(real, fake) + loss.generator(fake, real)
    gradients = torch.autograd.grad(total, (real, fake))
    assert total.isfinite()
    assert all(g.isfinite().all() for g in gradients)


@every_loss
def test_better_logits_cost_the_discriminator_less_and_the_generator_more(loss: Loss) -> None:
    """Up to the hinge's margin, and up to the label of least squares."""
    steps = torch.linspace(-0.9, 0.9, 7, dtype=torch.float64)
    of_discriminator = [loss.discriminator(s.expand(2), -s.expand(2)).item() for s in steps]
    assert all(later < earlier for earlier, later in pairwise(of_discriminator))
    pulled = torch.zeros(2, dtype=torch.float64)
    lower = loss.generator(pulled - 0.5, pulled).item()
    assert lower > loss.generator(pulled, pulled).item()


@pytest.mark.parametrize("loss", JUDGING_EACH, ids=lambda loss: type(loss).__name__)
def test_accuracy_counts_the_samples_on_their_side_of_zero(loss: Loss) -> None:
    real, fake = torch.tensor([2.0, 1.0, -2.0, 0.0]), torch.tensor([-1.0, -3.0, 1.0, 0.0])
    metrics = logit_metrics(real, fake, has_threshold=loss.has_threshold)
    assert metrics["logits/accuracy"].item() == pytest.approx(4 / 8)
    assert metrics["logits/real"].item() == pytest.approx(0.25)
    assert metrics["logits/fake"].item() == pytest.approx(-0.75)


@pytest.mark.parametrize("loss", COMPARING, ids=lambda loss: type(loss).__name__)
def test_accuracy_counts_the_pairs_in_the_right_order(loss: Loss) -> None:
    real, fake = torch.tensor([2.0, -4.0, -2.0, 3.0]), torch.tensor([1.0, -5.0, 1.0, 3.0])
    metrics = logit_metrics(real, fake, has_threshold=loss.has_threshold)
    assert metrics["logits/accuracy"].item() == pytest.approx(2 / 4)
    assert metrics["logits/real"].item() == pytest.approx(-0.25)
    assert metrics["logits/fake"].item() == pytest.approx(0.0)


@every_loss
def test_metrics_carry_no_graph(loss: Loss) -> None:
    metrics = logit_metrics(*logits(), has_threshold=loss.has_threshold)
    assert set(metrics) == {"logits/real", "logits/fake", "logits/accuracy"}
    assert not any(value.requires_grad for value in metrics.values())


def test_a_loss_says_whether_its_generator_reads_real_logits() -> None:
    real, fake = logits()
    for loss in ALL:
        gradient = torch.autograd.grad(loss.generator(fake, real), real, allow_unused=True)[0]
        assert loss.generator_uses_real == (gradient is not None), type(loss).__name__


def test_pairing_refuses_batches_of_different_shape() -> None:
    with pytest.raises(ValueError, match=r"one shape, got \(4,\) and \(4, 1\)"):
        Relativistic().discriminator(torch.zeros(4, 1), torch.zeros(4))


@pytest.mark.parametrize("loss", [Relativistic(), RelativisticAverage()])
def test_relativistic_generators_refuse_to_go_without_real_logits(loss: Loss) -> None:
    with pytest.raises(ValueError, match="wants the logits of real samples"):
        loss.generator(torch.zeros(4))


@every_loss
def test_only_the_loss_with_a_mean_inside_compares_the_samples_of_a_batch(loss: Loss) -> None:
    assert compares_samples(loss) is isinstance(loss, RelativisticAverage)
