"""`gradgan.trainer`, `gradgan.game.game`: an update against a slow reference, the Dirac-GAN, every scheme."""

import io
import itertools
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from core.optim.schedules import Cosine
from core.optim.schemes.joint import Consensus, SymplecticAdjustment
from core.optim.schemes.schemes import Alternating, Extragradient, Scheme, Simultaneous
from core.optim.schemes.stateful import Lookahead, NegativeMomentum, Optimistic
from gradgan.augment.ada import ADA
from gradgan.game.game import Game
from gradgan.losses import Loss
from gradgan.losses.nonsaturating import NonSaturating
from gradgan.losses.relativistic import Relativistic
from gradgan.networks.dcgan import DCGAN
from gradgan.networks.mlp import MLP
from gradgan.penalties import Penalty
from gradgan.penalties.zero_centred import R1, R1R2, R2
from gradgan.regularizers.lecam import LeCam
from gradgan.trainer import Trainer
from tests.gradgan.playing import LATENT, Point, Slope, in_float64, made, make_trainer, random, unlabelled
from tests.thinned import thinned

NETWORK = MLP(width=6, depth=1, slope=0.2, spectral_norm=False)


def reference_step(
    real: Tensor, relativistic: bool, gamma: float, lr: float, simultaneous: bool
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Both players after one update, sample by sample and term by term."""
    generator, discriminator = in_float64(made(NETWORK))
    latents = torch.randn(len(real), LATENT, generator=random(7))
    fake = generator(latents).detach()
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
    for x, z in zip(real, latents, strict=True):
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
    players = in_float64(made(NETWORK))
    loss = Relativistic() if relativistic else NonSaturating()
    scheme = Simultaneous() if simultaneous else Alternating()
    game = Game(loss=loss, penalty=R1R2(gamma=0.7, final=1.0, interval=1))
    make_trainer(players, game, scheme).update(unlabelled(real), progress=0.0)
    expected = reference_step(real, relativistic, 0.7, 0.1, simultaneous)
    for module, state in zip(players, expected, strict=True):
        for name, tensor in module.state_dict().items():
            torch.testing.assert_close(tensor, state[name], rtol=1e-10, atol=1e-12)


def dirac(loss: Loss, penalty: Penalty | None, scheme: Scheme, lr: float, updates: int) -> float:
    """Distance from the equilibrium (0, 0) after so many updates from (1, 1); real data are all at 0."""
    generator, discriminator = players = Point(1.0), Slope(1.0)
    trainer = make_trainer(players, Game(loss=loss, penalty=penalty), scheme, lr=lr, latent_size=1)
    real = unlabelled(torch.zeros(1, 1, dtype=torch.float64))
    for _ in range(updates):
        trainer.update(real, progress=0.0)
    return math.hypot(generator.theta.item(), discriminator.psi.item())


@pytest.mark.parametrize(
    "loss", thinned([NonSaturating(), Relativistic()]), ids=["nonsaturating", "relativistic"]
)
def test_simultaneous_steps_without_a_penalty_end_in_the_known_limit_cycle(loss: Loss) -> None:
    """Radius sqrt(2 lr). With D(real) = 0 the relativistic game is the non-saturating one."""
    assert dirac(loss, None, Simultaneous(), 0.1, 1500) == pytest.approx(math.sqrt(0.2), rel=0.02)


def test_alternating_steps_without_a_penalty_close_in_as_the_root_of_time() -> None:
    """r(t) -> sqrt(8 / t) with t = steps * lr."""
    assert dirac(NonSaturating(), None, Alternating(), 0.2, 1500) == pytest.approx(
        math.sqrt(8 / 300), rel=0.1
    )


@pytest.mark.parametrize(
    ("cls", "loss", "scheme"),
    thinned(itertools.product([R1, R2], [NonSaturating(), Relativistic()], [Alternating(), Simultaneous()])),
)
def test_a_zero_centred_penalty_makes_the_game_converge_linearly(
    cls: type[R1] | type[R2], loss: Loss, scheme: Scheme
) -> None:
    """At gamma = 1 = 2 f'(0) the eigenvalues are -1/2, twice: 400 steps of 0.1 shrink by about e^-20."""
    assert dirac(loss, cls(gamma=1.0, final=1.0, interval=1), scheme, 0.1, 400) < 1e-6


def test_only_due_updates_pay_for_the_penalty() -> None:
    game = Game(loss=NonSaturating(), penalty=R1(gamma=1.0, final=1.0, interval=3))
    trainer = make_trainer(made(NETWORK), game, Alternating())
    real = unlabelled(torch.randn(4, 2, generator=random(3)))
    seen = ["penalty/real_gradient" in trainer.update(real, 0.0) for _ in range(7)]
    assert seen == [True, False, False, True, False, False, True]


def test_the_schedule_moves_both_learning_rates() -> None:
    game = Game(loss=NonSaturating())
    trainer = make_trainer(made(NETWORK), game, Alternating(), schedule=Cosine(final=0.0))
    trainer.update(unlabelled(torch.zeros(4, 2)), progress=0.5)
    rates = [s.optimizer.param_groups[0]["lr"] for s in (trainer.generator_step, trainer.discriminator_step)]
    assert rates == pytest.approx([0.05, 0.05])


SCHEMES: list[Scheme] = [
    Alternating(),
    Simultaneous(),
    Extragradient(),
    Optimistic(),
    NegativeMomentum(beta=-0.5),
    Lookahead(k=3, alpha=0.5, inner=Optimistic()),
    Consensus(gamma=0.1),
    SymplecticAdjustment(gamma=0.5, align=True),
]


def saved(trainer: Trainer) -> bytes:
    """Everything a checkpoint would hold of it."""
    steps = trainer.generator_step, trainer.discriminator_step
    owners = (trainer, trainer.generator, trainer.discriminator, trainer.average, *steps)
    file = io.BytesIO()
    torch.save([*(owner.state_dict() for owner in owners), trainer.random.get_state()], file)
    return file.getvalue()


def leaves(state: object) -> list[object]:
    """The numbers of a nested state in order, tensors as bytes."""
    if isinstance(state, dict):
        return [leaf for key, value in state.items() for leaf in (key, *leaves(value))]
    if isinstance(state, list | tuple):
        return [leaf for value in state for leaf in leaves(value)]
    return [state.numpy().tobytes() if isinstance(state, Tensor) else state]


def restore(trainer: Trainer, state: bytes) -> None:
    steps = trainer.generator_step, trainer.discriminator_step
    owners = (trainer, trainer.generator, trainer.discriminator, trainer.average, *steps)
    *states, random_state = torch.load(io.BytesIO(state), weights_only=True)
    for owner, own in zip(owners, states, strict=True):
        owner.load_state_dict(own)
    trainer.random.set_state(random_state)


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: type(s).__name__)
def test_every_scheme_takes_finite_steps_and_goes_on_bit_by_bit(scheme: Scheme) -> None:
    """With batch norm, two losses per player's gradient, and penalties that differentiate twice."""

    def make() -> Trainer:
        network = DCGAN(width=2, max_width=4, batch_norm=True, spectral_norm=False)
        game = Game(loss=Relativistic(), penalty=R1R2(gamma=0.5, final=1.0, interval=2))
        return make_trainer(made(network, (1, 8, 8)), game, scheme, lr=1e-2)

    real = [unlabelled(torch.rand(4, 1, 8, 8, generator=random(i)) * 2 - 1) for i in range(8)]
    whole, begun, resumed = make(), make(), make()
    before = torch.cat([p.detach().flatten() for p in whole.generator.parameters()])
    for batch in real:
        metrics = whole.update(batch, progress=0.0)
        assert all(value.isfinite() and value.dim() == 0 for value in metrics.values())
        assert {"loss/generator", "loss/discriminator"} <= set(metrics)
    after = torch.cat([p.detach().flatten() for p in whole.generator.parameters()])
    assert after.isfinite().all()
    assert not torch.equal(before, after)
    for batch in real[:4]:
        begun.update(batch, progress=0.0)
    restore(resumed, saved(begun))
    for batch in real[4:]:
        resumed.update(batch, progress=0.0)
    ended, again = (leaves(torch.load(io.BytesIO(saved(t)), weights_only=True)) for t in (whole, resumed))
    assert again == ended


def test_a_joint_scheme_of_weight_0_updates_a_gan_as_the_simultaneous_one() -> None:
    penalty = R1R2(gamma=0.7, final=1.0, interval=1)
    ends = []
    for scheme in (Simultaneous(), Consensus(gamma=0.0), SymplecticAdjustment(gamma=0.0, align=True)):
        players = made(NETWORK)
        trainer = make_trainer(players, Game(loss=Relativistic(), penalty=penalty), scheme)
        trainer.update(unlabelled(torch.randn(5, 2, generator=random(3))), progress=0.0)
        ends.append([p for player in players for p in player.parameters()])
    for joint in ends[1:]:
        for p, q in zip(ends[0], joint, strict=True):
            torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("penalty", [None, R1(gamma=0.7, final=1.0, interval=1)], ids=["plain", "r1"])
def test_consensus_lowers_the_squared_norm_of_both_gradients(penalty: Penalty | None) -> None:
    """The update is -lr (v + gamma d(|v|^2/2)/dw), v being both losses' gradients; by finite differences."""
    gamma, lr = 0.6, 0.1
    real = torch.randn(5, 2, generator=random(3), dtype=torch.float64)

    def make(scheme: Scheme) -> tuple[Trainer, list[Tensor]]:
        players = in_float64(made(NETWORK))
        trainer = make_trainer(players, Game(loss=Relativistic(), penalty=penalty), scheme, lr=lr)
        return trainer, [p for player in players for p in player.parameters()]

    def flat(parameters: list[Tensor]) -> Tensor:
        return torch.cat([p.detach().flatten() for p in parameters])

    def field(offset: Tensor) -> Tensor:
        """Both players' gradients at the start plus an offset, from what a plain update does there."""
        trainer, parameters = make(Simultaneous())
        with torch.no_grad():
            for p, o in zip(parameters, offset.split([p.numel() for p in parameters]), strict=True):
                p += o.view_as(p)
        before = flat(parameters)
        trainer.update(unlabelled(real), progress=0.0)
        return (before - flat(parameters)) / lr

    trainer, parameters = make(Consensus(gamma=gamma))
    before = flat(parameters)
    trainer.update(unlabelled(real), progress=0.0)
    moved = (before - flat(parameters)) / lr
    zero = torch.zeros_like(before)
    term = moved - field(zero)
    for direction in torch.randn(4, len(before), generator=random(4), dtype=torch.float64):
        ahead, behind = (field(sign * 1e-5 * direction).square().sum() / 2 for sign in (1, -1))
        assert (term @ direction).item() == pytest.approx(
            (gamma * (ahead - behind) / 2e-5).item(), rel=1e-4, abs=1e-7
        )


class Shown(ADA):
    """ADA's probability, of samples that are shown as they are."""

    def __call__(self, images: Tensor, p: Tensor, random: torch.Generator) -> Tensor:
        return images


def test_a_batch_with_a_nan_moves_no_discriminator_and_no_statistic_and_is_counted() -> None:
    """The averages are those of the logits' means at the other updates, written out."""
    decay, speed = 0.75, 40.0
    game = Game(
        loss=NonSaturating(),
        augment=Shown(initial=0.5, target=-1.0, speed=speed),
        regularizers={"lecam": LeCam(weight=0.3, decay=decay, warm_up=1)},
    )
    generator, discriminator = players = made(NETWORK)
    trainer = make_trainer(players, game, Alternating())
    averages: dict[str, float] = {}
    for update in range(6):
        x = torch.randn(4, 2, generator=random(update))
        x[1, 0] = math.nan if update == 2 else x[1, 0]
        before = [p.detach().clone() for p in discriminator.parameters()]
        p = trainer.augmentation.item()
        metrics = trainer.update(unlabelled(x), progress=0.0)
        moved = [not torch.equal(a, b) for a, b in zip(before, discriminator.parameters(), strict=True)]
        assert any(moved) == (update != 2)
        if update != 2:
            p += len(x) / speed * (metrics["augment/real_sign"].item() > -1.0)
        for kind in ("real", "fake"):
            mean = metrics[f"logits/{kind}"].item()
            if math.isfinite(mean):
                averages[kind] = decay * averages.get(kind, mean) + (1 - decay) * mean
        assert trainer.augmentation.item() == pytest.approx(min(p, 1.0))
        found = {kind: value.item() for kind, value in trainer.regularizer_states["lecam"].items()}
        assert found == pytest.approx(averages, rel=1e-5)
    assert trainer.discriminator_step.monitor.drain()["discriminator/gradient/skipped"] == pytest.approx(
        1 / 6
    )
    assert all(p.isfinite().all() for p in (*generator.parameters(), *discriminator.parameters()))
