"""`gradgan.measurements.vector_field`: eigenvalues of known games, a dense Jacobian, a path, no trace."""

import math

import pytest
import torch
from torch import Tensor, nn

from gradgan.batch import Batch
from gradgan.game.game import Game, StepInfo
from gradgan.losses import Loss
from gradgan.losses.nonsaturating import NonSaturating
from gradgan.losses.relativistic import Relativistic
from gradgan.losses.wasserstein import Wasserstein
from gradgan.measurements.vector_field import VectorField
from gradgan.networks.dcgan import DCGAN
from gradgan.networks.mlp import MLP
from gradgan.penalties import Penalty
from gradgan.penalties.zero_centred import R1, R1R2
from tests.gradgan.playing import LATENT, Point, Slope, in_float64, made, random

INFO = StepInfo(update=0, progress=0.0, augmentation=torch.zeros(()), seed=3)


def field_of(
    players: tuple[nn.Module, nn.Module], game: Game, real: Tensor, latent_size: int = LATENT
) -> VectorField:
    return VectorField(game, *players, Batch(real, None), latent_size, INFO, {})


def dirac(loss: Loss, penalty: Penalty | None, theta: float = 0.0, psi: float = 0.0) -> VectorField:
    players = Point(theta), Slope(psi)
    return field_of(players, Game(loss=loss, penalty=penalty), torch.zeros(1, 1, dtype=torch.float64), 1)


@pytest.mark.parametrize(
    ("loss", "penalty", "expected"),
    [
        (NonSaturating(), None, [0.5j, -0.5j]),
        (Relativistic(), None, [0.5j, -0.5j]),
        (Wasserstein(), None, [1j, -1j]),
        (NonSaturating(), R1(gamma=0.5, final=1.0, interval=1), [-0.25 + 0.4330127j, -0.25 - 0.4330127j]),
        (NonSaturating(), R1(gamma=2.0, final=1.0, interval=4), [-1.8660254 + 0j, -0.1339746 + 0j]),
        (Relativistic(), R1R2(gamma=0.25, final=1.0, interval=1), [-0.25 + 0.4330127j, -0.25 - 0.4330127j]),
    ],
    ids=["nonsaturating", "relativistic", "wasserstein", "r1", "strong lazy r1", "r1 r2"],
)
def test_the_dirac_gans_eigenvalues(loss: Loss, penalty: Penalty | None, expected: list[complex]) -> None:
    """-gamma / 2 +- sqrt(gamma^2 / 4 - f'(0)^2) (Mescheder et al. 2018)."""
    found = dirac(loss, penalty).eigenvalues(2, random(1)).values.tolist()
    for one, other in zip(
        sorted(found, key=lambda v: (round(v.real, 6), v.imag)),
        sorted(expected, key=lambda v: (round(v.real, 6), v.imag)),
        strict=True,
    ):
        assert one == pytest.approx(other, abs=1e-6)


def test_the_field_of_the_dirac_gan_is_the_hand_written_one() -> None:
    theta, psi, gamma = 0.7, -0.4, 0.5
    generator, discriminator = dirac(
        NonSaturating(), R1(gamma=gamma, final=1.0, interval=2), theta, psi
    ).gradients()
    slope = 1 / (1 + math.exp(-theta * psi))  # of softplus at theta psi
    assert generator.item() == pytest.approx(-(1 - slope) * psi, abs=1e-12)
    assert discriminator.item() == pytest.approx(slope * theta + gamma * psi, abs=1e-12)


def test_eigenvalues_are_those_of_the_dense_jacobian_by_finite_differences() -> None:
    players = in_float64(made(MLP(width=3, depth=1, slope=0.2, spectral_norm=False)))
    game = Game(loss=Relativistic(), penalty=R1R2(gamma=0.3, final=1.0, interval=1))
    real = torch.randn(6, 2, generator=random(5), dtype=torch.float64)
    field = field_of(players, game, real)
    here, size = field.point, len(field.point)
    columns = []
    for direction in torch.eye(size, dtype=torch.float64):
        ends = []
        for sign in (1, -1):
            field._move(here + sign * 1e-6 * direction)
            ends.append(-torch.cat(field.gradients()))
        columns.append((ends[0] - ends[1]) / 2e-6)
    field._move(here)
    expected = torch.linalg.eigvals(torch.stack(columns, dim=1))
    found = field.eigenvalues(size, random(1)).values
    nearest = (found[:, None] - expected[None]).abs().min(dim=1).values
    assert nearest.max() < 1e-4 * expected.abs().max()
    assert found.abs().max().item() == pytest.approx(expected.abs().max().item(), rel=1e-5)


def test_looking_leaves_no_trace() -> None:
    players = made(DCGAN(width=2, max_width=4, batch_norm=True, spectral_norm=True), (1, 8, 8))
    before = {f"{i}{k}": v.clone() for i, p in enumerate(players) for k, v in p.state_dict().items()}
    torch_state = torch.get_rng_state()
    real = torch.rand(4, 1, 8, 8, generator=random(2)) * 2 - 1
    game = Game(loss=NonSaturating(), penalty=R1(gamma=1.0, final=1.0, interval=1))
    field = field_of(players, game, real)
    field.eigenvalues(2, random(1))
    field.path(field.point + 0.1, 3)
    after = {f"{i}{k}": v for i, p in enumerate(players) for k, v in p.state_dict().items()}
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert all(p.grad is None for player in players for p in player.parameters())
    assert torch.equal(torch_state, torch.get_rng_state())


def test_the_path_to_an_attracting_point_changes_its_sign_there() -> None:
    """A strong R1 makes the equilibrium a sink: before it the field goes along the line, after it back."""
    field = dirac(NonSaturating(), R1(gamma=4.0, final=1.0, interval=1))
    direction = torch.tensor([0.0, 1.0], dtype=torch.float64)  # along psi, where the penalty acts
    path = field.path(-direction, 7)
    assert path.shares.tolist() == [0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5]
    assert (path.cosines[:4] > 0.9).all()
    assert (path.cosines[5:] < -0.9).all()
    expected = [4 * abs(s - 1) for s in path.shares.tolist()]
    across = [0.5 * abs(s - 1) for s in path.shares.tolist()]  # the generator's gradient: psi / 2
    norms = [math.hypot(a, b) for a, b in zip(expected, across, strict=True)]
    assert path.norms.tolist() == pytest.approx(norms, rel=0.02, abs=1e-9)


def test_the_path_of_a_pure_rotation_is_at_right_angles() -> None:
    path = dirac(Wasserstein(), None).path(torch.tensor([1.0, 0.0], dtype=torch.float64), 5)
    assert path.cosines[:4].abs().max() < 1e-6
