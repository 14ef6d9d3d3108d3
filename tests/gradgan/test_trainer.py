"""`gradgan.trainer`: one update against a slow reference, the Dirac-GAN, and every combination of parts."""

import itertools
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from core.gradients import GradientStep
from core.optim.averaging import AverageConfig, ExponentialMovingAverage
from core.optim.game import Alternating, Scheme, Simultaneous
from core.optim.schedules import Constant, Cosine, Schedule
from gradgan.losses import Loss
from gradgan.losses.nonsaturating import NonSaturating
from gradgan.losses.relativistic import Relativistic
from gradgan.networks.dcgan import DCGAN
from gradgan.networks.mlp import MLP
from gradgan.penalties import R1, R1R2, R2, Penalty
from gradgan.trainer import Trainer

LATENT = 3


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_trainer(
    generator: nn.Module,
    discriminator: nn.Module,
    loss: Loss,
    penalty: Penalty | None,
    scheme: Scheme,
    *,
    lr: float = 0.1,
    schedule: Schedule | None = None,
    latent_size: int = LATENT,
) -> Trainer:
    steps = [
        GradientStep(module, torch.optim.SGD(module.parameters(), lr=lr), name=name)
        for name, module in (("generator", generator), ("discriminator", discriminator))
    ]
    return Trainer(
        generator=generator,
        discriminator=discriminator,
        generator_step=steps[0],
        discriminator_step=steps[1],
        average=ExponentialMovingAverage(AverageConfig(half_life=10.0, ramp_up=None), generator),
        loss=loss,
        penalty=penalty,
        scheme=scheme,
        schedule=schedule or Constant(),
        latent_size=latent_size,
        random=random(7),
    )


def pair() -> tuple[nn.Module, nn.Module]:
    network = MLP(width=6, depth=1, slope=0.2)
    return (
        network.generator(LATENT, (2,), random(1)).double(),
        network.discriminator((2,), random(2)).double(),
    )


def reference_step(
    real: Tensor, relativistic: bool, gamma: float, lr: float, simultaneous: bool
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Both players after one update, sample by sample and term by term."""
    generator, discriminator = pair()
    latent_source = random(7)
    z1, z2 = (torch.randn(len(real), LATENT, generator=latent_source).double() for _ in range(2))
    fake = generator(z1).detach()
    total = torch.zeros((), dtype=torch.float64)
    for x, y in zip(real, fake, strict=True):
        x, y = (v.unsqueeze(0).requires_grad_() for v in (x.detach(), y.detach()))
        dx, dy = discriminator(x)[0], discriminator(y)[0]
        total = total - (logsigmoid(dx - dy) if relativistic else logsigmoid(dx) + logsigmoid(-dy))
        for point, logit in ((x, dx), (y, dy)):
            (slope,) = torch.autograd.grad(logit, point, create_graph=True)
            total = total + gamma / 2 * (slope[0, 0] ** 2 + slope[0, 1] ** 2)
    d_gradient = torch.autograd.grad(total / len(real), list(discriminator.parameters()))

    def move(module: nn.Module, gradient: tuple[Tensor, ...]) -> None:
        with torch.no_grad():
            for p, g in zip(module.parameters(), gradient, strict=True):
                p.sub_(lr * g)

    if not simultaneous:
        move(discriminator, d_gradient)
    total = torch.zeros((), dtype=torch.float64)
    for x, z in zip(real, z2, strict=True):
        dy = discriminator(generator(z.unsqueeze(0)))[0]
        total = total - (
            logsigmoid(dy - discriminator(x.unsqueeze(0))[0]) if relativistic else logsigmoid(dy)
        )
    g_gradient = torch.autograd.grad(total / len(real), list(generator.parameters()))
    if simultaneous:
        move(discriminator, d_gradient)
    move(generator, g_gradient)
    return generator.state_dict(), discriminator.state_dict()


@pytest.mark.parametrize("simultaneous", [False, True], ids=["alternating", "simultaneous"])
@pytest.mark.parametrize("relativistic", [False, True], ids=["nonsaturating", "relativistic"])
def test_one_update_of_both_players_agrees_with_a_slow_reference(
    relativistic: bool, simultaneous: bool
) -> None:
    real = torch.randn(5, 2, generator=random(3), dtype=torch.float64)
    generator, discriminator = pair()
    loss = Relativistic() if relativistic else NonSaturating()
    scheme = Simultaneous() if simultaneous else Alternating()
    penalty = R1R2(gamma=0.7, final=1.0, interval=1)
    trainer = make_trainer(generator, discriminator, loss, penalty, scheme, latent_size=LATENT)
    # The latents are float32, as in training; the networks of this test are float64.
    generator.register_forward_pre_hook(lambda _, inputs: (inputs[0].double(),))
    trainer.update(real, progress=0.0)
    expected = reference_step(real, relativistic, 0.7, 0.1, simultaneous)
    for module, state in zip((generator, discriminator), expected, strict=True):
        for name, tensor in module.state_dict().items():
            torch.testing.assert_close(tensor, state[name], rtol=1e-10, atol=1e-12)


class Point(nn.Module):
    """The generator of the Dirac-GAN: all its mass at theta."""

    def __init__(self, theta: float) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor([theta], dtype=torch.float64))

    def forward(self, z: Tensor) -> Tensor:
        return self.theta.expand(len(z), 1)


class Slope(nn.Module):
    """The discriminator of the Dirac-GAN: D(x) = psi x."""

    def __init__(self, psi: float) -> None:
        super().__init__()
        self.psi = nn.Parameter(torch.tensor([psi], dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.psi * x[:, 0]


def dirac(loss: Loss, penalty: Penalty | None, scheme: Scheme, lr: float, updates: int) -> float:
    """Distance from the equilibrium (0, 0) after so many updates from (1, 1); real data are all at 0."""
    generator, discriminator = Point(1.0), Slope(1.0)
    trainer = make_trainer(generator, discriminator, loss, penalty, scheme, lr=lr, latent_size=1)
    real = torch.zeros(1, 1, dtype=torch.float64)
    for _ in range(updates):
        trainer.update(real, progress=0.0)
    return math.hypot(generator.theta.item(), discriminator.psi.item())


@pytest.mark.parametrize("loss", [NonSaturating(), Relativistic()], ids=["nonsaturating", "relativistic"])
def test_simultaneous_steps_without_a_penalty_end_in_the_known_limit_cycle(loss: Loss) -> None:
    """Radius sqrt(2 lr). With D(real) = 0 the relativistic game is the non-saturating one."""
    assert dirac(loss, None, Simultaneous(), 0.1, 1500) == pytest.approx(math.sqrt(0.2), rel=0.02)


def test_alternating_steps_without_a_penalty_close_in_as_the_root_of_time() -> None:
    """r(t) -> sqrt(8 / t) with t = steps * lr."""
    assert dirac(NonSaturating(), None, Alternating(), 0.2, 1500) == pytest.approx(
        math.sqrt(8 / 300), rel=0.1
    )


@pytest.mark.parametrize("scheme", [Alternating(), Simultaneous()], ids=["alternating", "simultaneous"])
@pytest.mark.parametrize("loss", [NonSaturating(), Relativistic()], ids=["nonsaturating", "relativistic"])
@pytest.mark.parametrize("cls", [R1, R2])
def test_a_zero_centred_penalty_makes_the_game_converge_linearly(
    cls: type[R1] | type[R2], loss: Loss, scheme: Scheme
) -> None:
    """At gamma = 1 = 2 f'(0) the eigenvalues are -1/2, twice: 400 steps of 0.1 shrink by about e^-20."""
    assert dirac(loss, cls(gamma=1.0, final=1.0, interval=1), scheme, 0.1, 400) < 1e-6


def single_pair() -> tuple[nn.Module, nn.Module]:
    network = MLP(width=6, depth=1, slope=0.2)
    return network.generator(LATENT, (2,), random(1)), network.discriminator((2,), random(2))


def test_only_due_updates_pay_for_the_penalty() -> None:
    trainer = make_trainer(
        *single_pair(), NonSaturating(), R1(gamma=1.0, final=1.0, interval=3), Alternating()
    )
    real = torch.randn(4, 2, generator=random(3))
    seen = ["penalty/real_gradient" in trainer.update(real, 0.0) for _ in range(7)]
    assert seen == [True, False, False, True, False, False, True]


def test_the_schedule_moves_both_learning_rates() -> None:
    trainer = make_trainer(*single_pair(), NonSaturating(), None, Alternating(), schedule=Cosine(final=0.0))
    trainer.update(torch.zeros(4, 2), progress=0.5)
    rates = [s.optimizer.param_groups[0]["lr"] for s in (trainer.generator_step, trainer.discriminator_step)]
    assert rates == pytest.approx([0.05, 0.05])


@pytest.mark.parametrize(
    ("loss", "penalty", "scheme"),
    list(
        itertools.product(
            [NonSaturating(), Relativistic()],
            [None, *(cls(gamma=1.0, final=0.1, interval=2) for cls in (R1, R2, R1R2))],
            [Alternating(), Simultaneous()],
        )
    ),
    ids=lambda part: type(part).__name__,
)
@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (MLP(width=8, depth=1, slope=0.0), (2,)),
        (MLP(width=8, depth=1, slope=0.2), (1, 8, 8)),
        (DCGAN(width=2, max_width=4, batch_norm=False), (1, 8, 8)),
        (DCGAN(width=2, max_width=4, batch_norm=True), (3, 16, 16)),
    ],
    ids=["mlp-points", "mlp-images", "dcgan", "dcgan-batch-norm"],
)
def test_every_combination_takes_finite_steps_of_both_players(
    network: MLP | DCGAN, shape: tuple[int, ...], loss: Loss, penalty: Penalty | None, scheme: Scheme
) -> None:
    generator = network.generator(LATENT, shape, random(1))
    discriminator = network.discriminator(shape, random(2))
    before = [p.detach().clone() for m in (generator, discriminator) for p in m.parameters()]
    trainer = make_trainer(generator, discriminator, loss, penalty, scheme, lr=1e-3)
    for step in range(3):
        metrics = trainer.update(torch.rand(4, *shape, generator=random(step)) * 2 - 1, progress=step / 3)
        assert all(value.isfinite() and value.dim() == 0 for value in metrics.values())
        assert {"loss/generator", "loss/discriminator"} <= set(metrics)
    after = [p for m in (generator, discriminator) for p in m.parameters()]
    assert all(p.isfinite().all() for p in after)
    assert any(not torch.equal(x, y) for x, y in zip(before, after, strict=True))
    assert trainer.updates == 3
