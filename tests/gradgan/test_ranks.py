"""The players of several ranks move as those of one, in float64; what ranks cannot do is refused by name."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from core.config import build
from core.optim.schemes.schemes import Alternating, Extragradient, Simultaneous
from gradgan.augment.ada import ADA
from gradgan.augment.diffaugment import DiffAugment
from gradgan.game.game import Game
from gradgan.losses.nonsaturating import NonSaturating
from gradgan.losses.relativistic import Relativistic
from gradgan.losses.relativistic_average import RelativisticAverage
from gradgan.losses.wasserstein import Wasserstein
from gradgan.networks.batch_norm import BatchNorm2d
from gradgan.networks.dcgan import DCGAN
from gradgan.penalties.one_centred import DRAGAN, WGANGP
from gradgan.penalties.zero_centred import R1
from gradgan.ranks import check_ranks
from gradgan.regularizers.consistency import Consistency
from gradgan.regularizers.lecam import LeCam
from tests.gradgan.playing import in_float64, made, make_trainer, random, unlabelled
from tests.ranks import on_ranks
from tests.signals import composed

SHIFTED = Consistency(weight=1.0, balanced=True, shift=1, mirror=True, interval=1)
GAMES = {
    "ada": (
        Game(
            loss=RelativisticAverage(),
            augment=ADA(initial=0.4, target=0.0, speed=50.0),
            regularizers={"lecam": LeCam(weight=0.3, decay=0.9, warm_up=2)},
        ),
        Alternating(),
        1,
    ),
    "wgan_gp": (
        Game(
            loss=Wasserstein(),
            penalty=WGANGP(weight=1.0, interval=2),
            regularizers={
                "consistency": Consistency(weight=1.0, balanced=True, shift=1, mirror=True, interval=1)
            },
            instance_noise=0.3,
        ),
        Simultaneous(),
        2,
    ),
    "dragan": (
        Game(loss=NonSaturating(), penalty=DRAGAN(weight=1.0, interval=1, spread=0.5)),
        Extragradient(),
        1,
    ),
    "r1": (
        Game(
            loss=Relativistic(),
            penalty=R1(gamma=0.7, final=1.0, interval=1),
            augment=DiffAugment(policy=("colour", "translation", "cutout")),
        ),
        Alternating(),
        1,
    ),
}


def played(name: str) -> tuple[list[torch.Tensor], dict[str, float]]:
    """All that has a state after 20 updates on fixed images, and the metrics of the last."""
    game, scheme, parts = GAMES[name]
    pair = made(DCGAN(width=2, max_width=2, batch_norm=True, spectral_norm=False), (3, 8, 8))
    trainer = make_trainer(in_float64(pair), game, scheme, lr=0.02, micro_batches=parts)
    trainer.augmentation = trainer.augmentation.double()
    for update in range(20):
        real = torch.rand(16, 3, 8, 8, dtype=torch.float64, generator=random(100 + update)) * 2 - 1
        metrics = trainer.update(unlabelled(real), update / 20)
    tensors = [*trainer.generator.state_dict().values(), *trainer.discriminator.state_dict().values()]
    state = [x.clone() for x in tensors] + [trainer.augmentation]
    return state, {tag: value.item() for tag, value in metrics.items()}


def played_all(*names: str) -> dict[str, tuple[list[torch.Tensor], dict[str, float]]]:
    return {name: played(name) for name in names}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ranks", "names"), [(2, tuple(GAMES)), pytest.param(4, ("ada",), marks=pytest.mark.long)]
)
def test_the_players_of_several_ranks_move_as_those_of_one(ranks, names):
    expected = played_all(*names)
    for found in on_ranks(played_all, ranks, *names):
        for name, (state, metrics) in found.items():
            torch.testing.assert_close(state, expected[name][0], rtol=0, atol=1e-5)
            assert metrics == pytest.approx(expected[name][1], abs=1e-5), name


def normalised() -> list[torch.Tensor | None]:
    """Outputs of this rank's rows, their second derivatives, and the running statistics."""
    from core.gradients.ranks import own

    x = torch.randn(8, 3, 2, 2, dtype=torch.float64, generator=random()).requires_grad_()
    norm = BatchNorm2d(3).double()
    y = norm(own(x))
    (slope,) = torch.autograd.grad(y.pow(3).sum(), x, create_graph=True)
    slope.square().sum().backward()
    return [y.detach(), slope.detach(), x.grad, norm.running_mean, norm.running_var]


@pytest.mark.slow
def test_batch_norm_has_the_statistics_of_all_ranks_and_their_second_derivatives():
    x = torch.randn(8, 3, 2, 2, dtype=torch.float64, generator=random()).requires_grad_()
    norm = nn.BatchNorm2d(3).double()
    y = norm(x)
    (slope,) = torch.autograd.grad(y.pow(3).sum(), x, create_graph=True)
    slope.square().sum().backward()
    ranks = on_ranks(normalised, 2)
    torch.testing.assert_close(torch.cat([each[0] for each in ranks]), y.detach())
    torch.testing.assert_close(sum(each[1] for each in ranks), slope.detach())
    torch.testing.assert_close(sum(each[2] for each in ranks), x.grad)
    for each in ranks:
        torch.testing.assert_close(each[3:], [norm.running_mean, norm.running_var])


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("batch_size=10",), r"batch_size must be a multiple of 4 for 4 ranks, got 10"),
        (("batch_size=8", "micro_batches=4"), r"batch_size must be a multiple of 16 for 4 ranks and micro_b"),
        (
            ("update=consensus",),
            r"update must be one that differentiates no gradients for 4 ranks",
        ),
        (("generator.top_k=0.5",), r"generator.top_k must be 1 for 4 ranks, got 0.5"),
    ],
)
def test_what_ranks_cannot_divide_is_refused_by_name(words, line):
    cfg = build(composed("gan", words))
    with pytest.raises(ValueError, match=line):
        check_ranks(cfg, 4)
    check_ranks(build(composed("gan", ())), 4)


def test_batch_norm_of_ones_own_and_parts_that_draw_are_refused():
    class OwnPenalty(R1):
        pass

    cfg = build(composed("gan", ()))
    with pytest.raises(ValueError, match=r"penalty must be one of ours for 2 ranks.*got 'OwnPenalty'"):
        check_ranks(replace(cfg, penalty=OwnPenalty(gamma=1.0, final=1.0, interval=1)), 2)
