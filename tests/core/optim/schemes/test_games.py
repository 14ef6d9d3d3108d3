"""Two-player schemes on games with known answers: every number here is derived, none is a recorded run."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from core.optim.schemes.joint import Consensus, SymplecticAdjustment
from core.optim.schemes.schemes import Alternating, Extragradient, Scheme, Simultaneous
from core.optim.schemes.stateful import Lookahead, NegativeMomentum, Optimistic
from tests.core.optim.schemes.games import (
    Game,
    H,
    Losses,
    Player,
    bilinear,
    factors,
    hinge,
    minimax,
    modulus,
    nonsaturating,
    update_matrix,
    wasserstein,
    with_r1,
)


@pytest.mark.parametrize(
    ("losses", "slope"),
    [(minimax, 0.5), (nonsaturating, 0.5), (wasserstein, 1.0), (hinge, 1.0), (bilinear, 1.0)],
)
def test_without_help_simultaneous_steps_leave_every_equilibrium_and_alternating_ones_circle(
    losses: Losses, slope: float
) -> None:
    """The field's eigenvalues are +-i f'(0): the factors of a simultaneous step are 1 +- i h f'(0)."""
    simultaneous = update_matrix(Simultaneous(), losses, size=1e-4)
    assert factors(simultaneous) == pytest.approx([1 - 1j * H * slope, 1 + 1j * H * slope], abs=1e-7)
    assert modulus(simultaneous) == pytest.approx({0.5: 1.001249, 1.0: 1.004988}[slope], abs=1e-6)
    for h in (H, 1.9):
        circling = update_matrix(Alternating(), losses, lr=h, size=1e-4)
        assert [abs(z) for z in factors(circling)] == pytest.approx([1.0, 1.0], abs=1e-6)


def test_simultaneous_steps_on_the_bilinear_game_spiral_out_at_the_exact_rate() -> None:
    game = Game(bilinear)
    game.play(Simultaneous(), 200)
    assert game.radius() == pytest.approx(2**0.5 * (1 + H**2) ** (200 / 2), rel=1e-11)


def test_alternating_steps_on_the_bilinear_game_stay_on_their_ellipse() -> None:
    """With y <- y + h x, then x <- x - h y, the number x^2 + y^2 + h x y is conserved."""
    game, radii = Game(bilinear), []
    for _ in range(130):  # two rounds
        game.play(Alternating())
        radii.append(game.radius())
    x, y = game.at.tolist()
    assert x**2 + y**2 + H * x * y == pytest.approx(2 + H, rel=1e-11)
    assert min(radii) == pytest.approx(((2 + H) / (1 + H / 2)) ** 0.5, abs=1e-3)
    assert max(radii) == pytest.approx(((2 + H) / (1 - H / 2)) ** 0.5, abs=1e-3)


def test_the_minimax_dirac_gan_spirals_out_under_simultaneous_steps() -> None:
    game = Game(minimax, lr=0.5)
    radii = [game.radius()]
    for _ in range(4):
        game.play(Simultaneous(), 20)
        radii.append(game.radius())
    assert radii == sorted(radii)
    assert radii[-1] > 2 * radii[0]


@pytest.mark.parametrize("start", [0.8, 1.25])
def test_simultaneous_steps_on_the_nonsaturating_dirac_gan_are_drawn_to_a_cycle_of_radius_root_2h(
    start: float,
) -> None:
    """q = r^2 gains h^2 q / 4 a step by the step's length and loses h q^2 / 8 by the game's damping.

    So q follows a logistic curve to K = 2h from both sides, to first order in h.
    """
    game = Game(nonsaturating)
    game.at = torch.tensor([start * math.sqrt(2 * H), 0.0])
    updates = 252  # two rounds of 4 pi / h
    game.play(Simultaneous(), updates)
    expected = 2 * H / (1 + (start**-2 - 1) * math.exp(-updates * H**2 / 4))
    assert game.radius() ** 2 == pytest.approx(expected, rel=3e-3)


def test_alternating_steps_on_the_nonsaturating_dirac_gan_close_in_as_the_root_of_8_over_t() -> None:
    """1 / r^2 grows by t / 8; r^2 is measured as x^2 + y^2 - (h/2) x y, which does not ripple as r does."""

    def inverse(game: Game) -> float:
        x, y = game.at.tolist()
        return 1 / (x**2 + y**2 - 0.5 * H * x * y)

    game = Game(nonsaturating)
    game.at = torch.tensor([0.2, 0.0])
    before = inverse(game)
    game.play(Alternating(), 252)
    assert inverse(game) - before == pytest.approx(252 * H / 8, rel=0.005)


@pytest.mark.parametrize("losses", [minimax, nonsaturating])
@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 4.0])
def test_r1_gives_the_field_the_eigenvalues_of_a_damped_oscillator(losses: Losses, gamma: float) -> None:
    """-gamma/2 +- sqrt(gamma^2/4 - 1/4); gamma = 1 = 2 f'(0) is critical. R1 and R2 together count double."""
    matrix = update_matrix(Simultaneous(), with_r1(losses, gamma), size=1e-4)
    root = np.sqrt(complex(gamma**2 / 4 - 0.25))
    expected = [1 + H * (-gamma / 2 - root), 1 + H * (-gamma / 2 + root)]
    # Trace and determinant, because a double eigenvalue is known only to the root of the error.
    assert np.trace(matrix) == pytest.approx(sum(expected).real, abs=1e-7)
    assert np.linalg.det(matrix) == pytest.approx((expected[0] * expected[1]).real, abs=1e-7)
    if gamma == 0.5:
        assert factors(matrix)[1] == pytest.approx(1 + H * (-0.25 + 0.433013j), abs=1e-6)
    if gamma == 2.0:
        assert factors(matrix) == pytest.approx([1 - H * 0.133975, 1 - H * 1.866025], abs=1e-6)


def test_r1_makes_the_nonsaturating_dirac_gan_converge_at_the_linear_rate() -> None:
    losses = with_r1(nonsaturating, 2.0)
    rate = modulus(update_matrix(Alternating(), losses, size=1e-4))
    game = Game(losses)
    game.at = torch.tensor([0.02, 0.02])
    game.play(Alternating(), 100)
    before = game.radius()
    game.play(Alternating(), 100)
    assert game.radius() / before == pytest.approx(rate**100, rel=1e-3)


def test_clipped_wasserstein_ends_on_the_largest_ellipse_that_the_clip_lets_through() -> None:
    """Inside |y| <= 1 alternating steps conserve x^2 + y^2 - h x y; y reaches 1 where that is 1 - h^2 / 4."""
    game = Game(wasserstein)
    radii = []
    for _ in range(160):
        game.play(Alternating())
        with torch.no_grad():
            game.y.p.clamp_(-1, 1)
        radii.append(game.radius())
    x, y = game.at.tolist()
    assert x**2 + y**2 - H * x * y == pytest.approx(1 - H**2 / 4, rel=2e-4)
    assert max(radii[-64:]) == pytest.approx(((1 - H**2 / 4) / (1 - H / 2)) ** 0.5, abs=2e-3)  # 1.02


def test_wasserstein_with_a_gradient_penalty_of_target_1_does_not_converge() -> None:
    """The penalty pulls |y| to 1, away from the equilibrium, where it is not differentiable."""

    def losses(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return x * y + 0.5 * (y.abs() - 1).square(), -x * y

    game = Game(losses)
    game.play(Alternating(), 100)
    radii = []
    for _ in range(100):
        game.play(Alternating())
        radii.append(game.radius())
    assert min(radii) > 1.0


def test_least_squares_with_labels_0_and_1_has_a_field_that_vanishes_to_first_order_without_a_bias() -> None:
    def losses(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return 0.5 * (x * y).square(), 0.5 * (x * y).square()  # the real sample's logit is 0 for every y

    np.testing.assert_allclose(update_matrix(Alternating(), losses, size=1e-4), np.eye(2), atol=1e-8)


@pytest.mark.parametrize("gamma", [0.1, 0.5])
def test_consensus_contracts_the_bilinear_game_by_1_minus_h_gamma(gamma: float) -> None:
    matrix = update_matrix(Consensus(gamma=gamma), bilinear)
    expected = [1 - H * gamma - 1j * H, 1 - H * gamma + 1j * H]
    assert factors(matrix) == pytest.approx(expected, abs=1e-12)
    if gamma == 0.5:
        game = Game(bilinear)
        game.play(Consensus(gamma=gamma), 100)
        assert modulus(matrix) == pytest.approx(0.955249, abs=1e-6)
        assert game.radius() == pytest.approx(2**0.5 * abs(expected[0]) ** 100, rel=1e-9)


@pytest.mark.parametrize("align", [False, True])
def test_on_a_pure_rotation_the_symplectic_adjustment_is_consensus(align: bool) -> None:
    adjusted = update_matrix(SymplecticAdjustment(gamma=0.3, align=align), bilinear)
    np.testing.assert_allclose(adjusted, update_matrix(Consensus(gamma=0.3), bilinear), atol=1e-15)


def test_extragradient_contracts_the_bilinear_game() -> None:
    matrix = update_matrix(Extragradient(), bilinear)
    assert factors(matrix) == pytest.approx([1 - H**2 - 1j * H, 1 - H**2 + 1j * H], abs=1e-12)
    assert modulus(matrix) == pytest.approx(0.995038, abs=1e-6)
    game = Game(bilinear)
    game.play(Extragradient(), 100)
    assert game.radius() == pytest.approx(2**0.5 * (1 - H**2 + H**4) ** (100 / 2), rel=1e-11)


def test_optimistic_steps_have_the_roots_of_their_recursion() -> None:
    matrix = update_matrix(Optimistic(), bilinear)
    expected = np.concatenate([np.roots([1, -(1 + 2j * s * H), 1j * s * H]) for s in (1, -1)])
    assert factors(matrix) == pytest.approx(sorted(expected, key=lambda z: (-abs(z), z.imag)), abs=1e-12)
    rounded = [0.9899 - 0.1j, 0.9899 + 0.1j, 0.0101 - 0.1j, 0.0101 + 0.1j]
    assert factors(matrix) == pytest.approx(rounded, abs=1e-3)
    assert modulus(matrix) == pytest.approx(0.994936, abs=1e-6)
    for h, converges in ((0.57, True), (0.58, False)):  # the limit is 1 / sqrt(3) = 0.577
        assert (modulus(update_matrix(Optimistic(), bilinear, lr=h)) < 1) is converges


def test_the_first_optimistic_step_is_a_plain_one() -> None:
    optimistic, plain = Game(bilinear), Game(bilinear)
    optimistic.play(Optimistic())
    plain.play(Simultaneous())
    assert torch.equal(optimistic.at, plain.at)


@pytest.mark.parametrize(("beta", "expected"), [(0.5, 1.032297), (0.0, 1.0), (-0.5, 0.998518)])
def test_negative_momentum_brakes_what_positive_momentum_feeds(beta: float, expected: float) -> None:
    matrix = update_matrix(NegativeMomentum(beta=beta), bilinear)
    assert modulus(matrix) == pytest.approx(expected, abs=1e-6)
    if beta == 0:
        np.testing.assert_array_equal(matrix[:2, :2], update_matrix(Alternating(), bilinear))


def test_momentum_here_is_that_of_torch_where_torch_allows_it() -> None:
    def heavy(parameters, lr: float) -> torch.optim.SGD:
        return torch.optim.SGD(parameters, lr=lr, momentum=0.5)

    ours, theirs = Game(nonsaturating), Game(nonsaturating, optimizer=heavy)
    ours.play(NegativeMomentum(beta=0.5), 20)
    theirs.play(Alternating(), 20)
    torch.testing.assert_close(ours.at, theirs.at, rtol=1e-13, atol=0)


@pytest.mark.parametrize("inner", [Alternating(), Simultaneous(), Extragradient(), Consensus(gamma=0.2)])
@pytest.mark.parametrize(("k", "alpha"), [(1, 1.0), (5, 0.5), (6, 0.3)])
def test_lookahead_is_the_mean_of_staying_and_k_inner_steps(inner: Scheme, k: int, alpha: float) -> None:
    """After k updates from w: w + alpha (M^k w - w), so the map is (1 - alpha) I + alpha M^k."""
    step = update_matrix(inner, bilinear)
    game = Game(bilinear)
    lookahead = Lookahead(k=k, alpha=alpha, inner=inner)
    columns = []
    for e in torch.eye(2, dtype=torch.float64):
        game.at, game.state = e, {}
        game.play(lookahead, k)
        columns.append(game.at)
    matrix = torch.stack(columns, dim=1).numpy()
    expected = (1 - alpha) * np.eye(2) + alpha * np.linalg.matrix_power(step, k)
    np.testing.assert_allclose(matrix, expected, atol=1e-14)
    if inner == Simultaneous() and k == 5:
        assert modulus(matrix) == pytest.approx(abs(0.5 + 0.5 * (1 + 0.1j) ** 5), abs=1e-12)
        assert modulus(matrix) == pytest.approx(0.981327, abs=1e-6)
    game.play(lookahead, 2 * k)  # and the slow parameters follow
    np.testing.assert_allclose(game.at.numpy(), np.linalg.matrix_power(expected, 3)[:, 1], atol=1e-14)


def general_sum(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Two and three parameters, losses that neither add to zero nor have small third derivatives.

    The discriminator's holds a penalty on an input gradient, as a GAN's does.
    """
    matrix = torch.tensor([[0.5, -1.0, 0.3], [0.8, 0.2, -0.7]], dtype=torch.float64)
    real = torch.full((3,), 0.4, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(torch.tanh(y * real).sum() * x.sum(), real, create_graph=True)
    turning = x.sin() @ matrix @ y
    of_d = -turning + 0.3 * (y**4).sum() + (x[0] * y[1]) ** 2 + slope.square().sum()
    of_g = 1.5 * turning + 0.2 * x.square().sum() * y[2] + x.prod()
    return of_d, of_g


def dense(losses: Losses, game: Game) -> tuple[Tensor, Tensor]:
    """The field v and its whole Jacobian J, in the order (x, y), row by row."""
    w = game.at.requires_grad_()
    x, y = w[: len(game.x.p)], w[len(game.x.p) :]
    of_d, of_g = losses(x, y)
    v = torch.cat(
        [
            torch.autograd.grad(of_g, x, create_graph=True)[0],
            torch.autograd.grad(of_d, y, create_graph=True)[0],
        ]
    )
    rows = [torch.autograd.grad(component, w, retain_graph=True)[0] for component in v]
    return v.detach(), torch.stack(rows)


@pytest.mark.parametrize(
    ("scheme", "term"),
    [
        (Consensus(gamma=0.7), lambda v, j: 0.7 * j.T @ v),
        (SymplecticAdjustment(gamma=0.7, align=False), lambda v, j: 0.7 * 0.5 * (j.T - j) @ v),
    ],
    ids=["consensus", "symplectic"],
)
def test_joint_schemes_agree_with_the_dense_jacobian_of_a_general_game(
    scheme: Scheme, term: Callable[[Tensor, Tensor], Tensor]
) -> None:
    game = Game(general_sum, x=Player(0.3, -0.8), y=Player(0.5, 1.1, -0.4))
    start = game.at
    v, j = dense(general_sum, game)
    assert (j - j.T).abs().max() > 0.5
    game.play(scheme)
    torch.testing.assert_close(game.at, start - H * (v + term(v, j)), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("scale", "sign"), [(-4.0, -1.0), (4.0, 1.0)])
def test_the_aligned_adjustment_pushes_away_from_unstable_points_and_towards_stable_ones(
    scale: float, sign: float
) -> None:
    """J = [[scale, 1], [-1, scale]]: <v, J'v> <A'v, J'v> has the sign of scale, much larger than 1/10."""

    def losses(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return scale / 2 * y.square() - x * y, scale / 2 * x.square() + x * y

    game = Game(losses)
    start = game.at
    v, j = dense(lambda x, y: tuple(loss.sum() for loss in losses(x, y)), game)
    h = j.T @ v
    adjustment = 0.5 * (j - j.T).T @ v
    assert torch.sign((v @ h) * (adjustment @ h) / 2 + 0.1).item() == sign
    game.play(SymplecticAdjustment(gamma=1.0, align=True))
    torch.testing.assert_close(game.at, start - H * (v + sign * adjustment), rtol=1e-12, atol=1e-14)


def test_the_alignment_is_a_mean_over_the_parameters() -> None:
    """<v, J'v> <A'v, J'v> = -0.15: over two parameters that is less than 1/10, and the sign is positive."""

    def losses(x: Tensor, y: Tensor, scale: float = 1.0) -> tuple[Tensor, Tensor]:
        return scale * (-0.5 * y.square() - x * y), scale * (-0.5 * x.square() + x * y)

    def measure(scale: float) -> tuple[Tensor, Tensor, float]:
        v, j = dense(lambda x, y: tuple(loss.sum() for loss in losses(x, y, scale)), Game(losses))
        h, adjustment = j.T @ v, 0.5 * (j - j.T).T @ v
        return v, adjustment, float((v @ h) * (adjustment @ h))

    scale = (0.15 / -measure(1.0)[2]) ** (1 / 7)  # <v, J'v> has three powers of it, and <A'v, J'v> four
    v, adjustment, towards = measure(scale)
    assert towards == pytest.approx(-0.15)
    game = Game(lambda x, y: losses(x, y, scale))
    start = game.at
    game.play(SymplecticAdjustment(gamma=1.0, align=True))
    torch.testing.assert_close(game.at, start - H * (v + adjustment), rtol=1e-12, atol=1e-14)


def test_a_game_without_turning_is_left_alone_by_the_symplectic_adjustment() -> None:
    def potential(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        shared = x.square() * y + y.square()
        return shared, shared

    adjusted, plain = Game(potential), Game(potential)
    adjusted.play(SymplecticAdjustment(gamma=1.0, align=False))
    plain.play(Simultaneous())
    assert torch.equal(adjusted.at, plain.at)


@pytest.mark.parametrize("scheme", [Consensus(gamma=0.0), SymplecticAdjustment(gamma=0.0, align=True)])
def test_a_joint_scheme_of_weight_0_is_the_simultaneous_one(scheme: Scheme) -> None:
    joint, plain = Game(nonsaturating), Game(nonsaturating)
    joint.play(scheme, 3)
    plain.play(Simultaneous(), 3)
    assert torch.equal(joint.at, plain.at)
