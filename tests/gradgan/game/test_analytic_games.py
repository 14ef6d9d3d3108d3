"""Games with known answers, trained through the trainer: the Dirac-GAN under every loss, penalty and scheme.

Real data are all at 0, generated ones at theta, D(x) = psi x. At the equilibrium (0, 0) the field's Jacobian
is a rotation of angular speed f'(0): 1/2 for the logistic losses, 1 for the Wasserstein loss, where the game
is bilinear and w = theta + i psi is multiplied by the same number, or matrix, in every step.
"""

import math

import pytest
import torch

from core.optim.schemes.joint import Consensus, SymplecticAdjustment
from core.optim.schemes.schemes import Alternating, Extragradient, Scheme, Simultaneous
from core.optim.schemes.stateful import Lookahead, NegativeMomentum, Optimistic
from gradgan.game.game import Game
from gradgan.losses import Loss
from gradgan.losses.hinge import Hinge
from gradgan.losses.minimax import Minimax
from gradgan.losses.nonsaturating import NonSaturating
from gradgan.losses.relativistic import Relativistic
from gradgan.losses.relativistic_average import RelativisticAverage
from gradgan.losses.wasserstein import Wasserstein
from gradgan.penalties import Penalty
from gradgan.penalties.one_centred import WGANGP
from gradgan.penalties.zero_centred import R1, R1R2
from gradgan.regularizers.weight_clipping import WeightClipping
from tests.gradgan.playing import Point, Slope, make_trainer, unlabelled
from tests.thinned import thinned

H = 0.1


def distances(
    scheme: Scheme,
    updates: int,
    loss: Loss | None = None,
    penalty: Penalty | None = None,
    start: float = 1.0,
    clipped_at: float | None = None,
) -> list[float]:
    """From the equilibrium, before the first update and after each."""
    generator, discriminator = players = Point(start), Slope(start)
    regularizers = {} if clipped_at is None else {"weight_clipping": WeightClipping(bound=clipped_at)}
    game = Game(loss=loss or Wasserstein(), penalty=penalty, regularizers=regularizers)
    trainer = make_trainer(players, game, scheme, lr=H, latent_size=1)
    real = unlabelled(torch.zeros(1, 1, dtype=torch.float64))
    found = [math.sqrt(2) * start]
    for _ in range(updates):
        trainer.update(real, progress=0.0)
        found.append(math.hypot(generator.theta.item(), discriminator.psi.item()))
    return found


def factor(scheme: Scheme, updates: int, window: int) -> float:
    """Mean growth of the distance per update, over whole turns at the end."""
    found = distances(scheme, updates)
    return (found[-1] / found[-1 - window]) ** (1 / window)


def test_simultaneous_steps_grow_by_the_same_factor_each_time() -> None:
    found = distances(Simultaneous(), 300)
    for t in (1, 10, 300):
        assert found[t] == pytest.approx(math.sqrt(2) * (1 + H * H) ** (t / 2), rel=1e-9)


def test_alternating_steps_stay_on_an_ellipse() -> None:
    """They preserve x^2 + y^2 - h x y up to a sign of the last term: bounded, and never nearer for good."""
    found = distances(Alternating(), 630)
    assert max(found) < math.sqrt(2) * (1 + H)
    assert max(found[-63:]) == pytest.approx(max(found[:63]), rel=1e-3)
    assert min(found[-63:]) == pytest.approx(min(found[:63]), rel=1e-3)


@pytest.mark.parametrize(
    ("scheme", "modulus"),
    [
        (Extragradient(), math.sqrt(1 - H**2 + H**4)),
        (Optimistic(), 0.994936),
        (Consensus(gamma=0.5), abs(complex(1 - H * 0.5, H))),
        (SymplecticAdjustment(gamma=0.5, align=False), abs(complex(1 - H * 0.5, H))),
        (NegativeMomentum(beta=-0.5), 0.998518),
        (NegativeMomentum(beta=0.5), 1.0323),
        (NegativeMomentum(beta=0.0), 1.0),
        (Lookahead(k=5, alpha=0.5, inner=Simultaneous()), abs(0.5 + 0.5 * complex(1, H) ** 5) ** 0.2),
    ],
    ids=lambda x: type(x).__name__ if not isinstance(x, float) else f"{x:.4f}",
)
def test_every_scheme_turns_the_bilinear_game_by_its_own_factor(scheme: Scheme, modulus: float) -> None:
    """Over 315 updates, five turns of 2 pi / h: what an ellipse adds within a turn drops out."""
    assert factor(scheme, 400, 315) == pytest.approx(modulus, abs=4e-4)


def test_the_saturating_game_spirals_out() -> None:
    """Zero-sum, with the eigenvalues +-i / 2: near the equilibrium each step is sqrt(1 + h^2 / 4) as far."""
    found = distances(Simultaneous(), 200, Minimax(), start=0.01)
    assert found[-1] / found[0] == pytest.approx((1 + H * H / 4) ** 100, rel=1e-2)
    assert distances(Simultaneous(), 1000, Minimax())[-1] > 1.5 * math.sqrt(2)


@pytest.mark.parametrize(
    "loss", [NonSaturating(), Relativistic(), RelativisticAverage()], ids=lambda loss: type(loss).__name__
)
def test_without_a_penalty_logistic_losses_only_turn(loss: Loss) -> None:
    """The eigenvalues are +-i / 2 in every one of them."""
    found = distances(Simultaneous(), 100, loss, start=1e-3)
    assert found[-1] / found[0] == pytest.approx((1 + H * H / 4) ** 50, rel=1e-4)


def test_simultaneous_steps_of_the_non_saturating_game_end_on_a_circle() -> None:
    """Of radius sqrt(2 h), where a step adds what the loss takes; from inside and from outside."""
    radius = math.sqrt(2 * H)
    inside, on, outside = (
        distances(Simultaneous(), 320, NonSaturating(), start=share * radius / math.sqrt(2))
        for share in (0.6, 1.0, 1.5)
    )
    turn = 126  # updates: 2 pi / (h / 2)
    assert all(0.97 < r / radius < 1.03 for r in on)
    assert min(inside[-turn:]) > 1.05 * inside[0]
    assert max(outside[-turn:]) < 0.85 * outside[0]


def test_alternating_steps_of_the_non_saturating_game_near_their_goal_ever_more_slowly() -> None:
    """d(r^2) / dt = -r^4 / 8 once averaged over a turn: r = sqrt(8 / (t + 8 / r_0^2)), no linear rate."""
    found = distances(Alternating(), 630, NonSaturating(), start=0.7)
    turn = 126
    for end in (315, 630):
        mean = math.sqrt(sum(r * r for r in found[end - turn : end]) / turn)
        time = H * (end - turn / 2)
        assert mean == pytest.approx(math.sqrt(8 / (time + 8 / found[0] ** 2)), rel=0.03)


def test_the_hinge_is_the_bilinear_game_within_its_margin() -> None:
    inside, bilinear = (distances(Simultaneous(), 40, loss, start=0.3) for loss in (Hinge(), Wasserstein()))
    assert inside == pytest.approx(bilinear, rel=1e-12)


@pytest.mark.parametrize(
    ("gamma", "both"),
    thinned([(0.5, False), (0.5, True), (1.0, False), (1.0, True), (2.0, False), (2.0, True)]),
)
def test_a_zero_centred_penalty_attracts_as_fast_as_its_eigenvalues_say(gamma: float, both: bool) -> None:
    """-gamma / 2 +- sqrt(gamma^2 / 4 - 1/4), both penalties add up: at 1/2 a spiral, at 1 the fastest."""
    cls = R1R2 if both else R1
    own = gamma / 2 if both else gamma
    found = distances(Simultaneous(), 700, NonSaturating(), cls(gamma=own, final=1.0, interval=1), start=1e-3)
    slowest = max(abs(1 + H * root) for root in roots(gamma))
    if gamma == 1.0:  # a double eigenvalue: t (1 - h / 2)^t
        assert found[600] / found[300] == pytest.approx(2 * slowest**300, rel=0.02)
    else:
        turn = 566 if gamma < 1 else 300  # with gamma = 1/2, four turns of 2 pi / atan(0.433 h / 0.975)
        assert (found[-1] / found[-1 - turn]) ** (1 / turn) == pytest.approx(slowest, abs=1e-4)


def roots(gamma: float) -> tuple[complex, complex]:
    inside = complex(gamma**2 / 4 - 0.25) ** 0.5
    return -gamma / 2 + inside, -gamma / 2 - inside


@pytest.mark.slow
def test_neither_clipping_nor_a_one_centred_penalty_brings_the_critic_to_rest() -> None:
    clipped = distances(Alternating(), 1000, clipped_at=1.0)
    penalised = distances(Alternating(), 1000, penalty=WGANGP(weight=1.0, interval=1))
    for found in (clipped, penalised):
        assert max(found[-200:]) > 0.5
        assert max(found) < 3
    assert max(found[-200:]) == pytest.approx(max(found[-400:-200]), rel=0.05)
