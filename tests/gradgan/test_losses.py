"""`gradgan.losses`: against the formulas in float64, in symmetric cases, and at extreme logits."""

import math

import pytest
import torch
from torch import Tensor

from gradgan.losses import Loss
from gradgan.losses.nonsaturating import NonSaturating
from gradgan.losses.relativistic import Relativistic

BOTH = [NonSaturating(), Relativistic()]


def logits(count: int = 7) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    real, fake = (3 * torch.randn(2, count, generator=random, dtype=torch.float64)).unbind()
    return real.requires_grad_(), fake.requires_grad_()


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_nonsaturating_losses_are_the_papers_log_likelihoods() -> None:
    real, fake = logits()
    pairs = list(zip(real.tolist(), fake.tolist(), strict=True))
    discriminator = -sum(math.log(sigmoid(r)) + math.log(1 - sigmoid(f)) for r, f in pairs) / len(pairs)
    generator = -sum(math.log(sigmoid(f)) for _, f in pairs) / len(pairs)
    assert NonSaturating().discriminator(real, fake)[0].item() == pytest.approx(discriminator, rel=1e-12)
    assert NonSaturating().generator(fake)[0].item() == pytest.approx(generator, rel=1e-12)


def test_relativistic_losses_judge_pairs() -> None:
    real, fake = logits()
    pairs = list(zip(real.tolist(), fake.tolist(), strict=True))
    discriminator = -sum(math.log(sigmoid(r - f)) for r, f in pairs) / len(pairs)
    generator = -sum(math.log(sigmoid(f - r)) for r, f in pairs) / len(pairs)
    assert Relativistic().discriminator(real, fake)[0].item() == pytest.approx(discriminator, rel=1e-12)
    assert Relativistic().generator(fake, real)[0].item() == pytest.approx(generator, rel=1e-12)


def test_the_nonsaturating_generator_still_learns_where_the_discriminator_is_sure() -> None:
    fake = torch.full((4,), -30.0, dtype=torch.float64, requires_grad=True)
    loss, _ = NonSaturating().generator(fake)
    (gradient,) = torch.autograd.grad(loss, fake)
    assert (4 * gradient).tolist() == pytest.approx([-1.0] * 4, abs=1e-12)


def test_a_relativistic_loss_does_not_feel_a_shift_of_all_logits() -> None:
    real, fake = logits()
    before, _ = Relativistic().discriminator(real, fake)
    after, _ = Relativistic().discriminator(real + 5, fake + 5)
    assert after.item() == pytest.approx(before.item(), rel=1e-12)


def test_the_relativistic_players_swap_roles() -> None:
    real, fake = logits()
    assert torch.equal(Relativistic().generator(fake, real)[0], Relativistic().discriminator(fake, real)[0])


@pytest.mark.parametrize("loss", BOTH, ids=lambda loss: type(loss).__name__)
def test_a_blind_discriminator_costs_log_two_per_decision(loss: Loss) -> None:
    zero = torch.zeros(5, dtype=torch.float64)
    decisions = 2 if isinstance(loss, NonSaturating) else 1
    assert loss.discriminator(zero, zero)[0].item() == pytest.approx(decisions * math.log(2))
    assert loss.generator(zero, zero)[0].item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("loss", BOTH, ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("size", [-1e4, 1e4])
def test_extreme_logits_give_finite_losses_and_gradients(loss: Loss, size: float) -> None:
    real, fake = (torch.full((3,), s * size, requires_grad=True) for s in (1.0, -1.0))
    total = loss.discriminator(real, fake)[0] + loss.generator(fake, real)[0]
    gradients = torch.autograd.grad(total, (real, fake))
    assert total.isfinite()
    assert all(g.isfinite().all() for g in gradients)


@pytest.mark.parametrize("loss", BOTH, ids=lambda loss: type(loss).__name__)
def test_accuracy_counts_the_samples_on_the_right_side(loss: Loss) -> None:
    real, fake = torch.tensor([2.0, 1.0, -2.0, 3.0]), torch.tensor([-1.0, -3.0, 1.0, -1.0])
    _, metrics = loss.discriminator(real, fake)
    assert metrics["logits/accuracy"].item() == pytest.approx(0.75)
    assert metrics["logits/real"].item() == pytest.approx(1.0)
    assert metrics["logits/fake"].item() == pytest.approx(-1.0)


def test_pairing_refuses_batches_of_different_shape() -> None:
    with pytest.raises(ValueError, match=r"one shape, got \(4,\) and \(4, 1\)"):
        Relativistic().discriminator(torch.zeros(4, 1), torch.zeros(4))
    with pytest.raises(ValueError, match="wants the logits of real samples"):
        Relativistic().generator(torch.zeros(4))
