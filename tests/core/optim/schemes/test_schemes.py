"""Two-player schemes where something goes wrong: lost gradients, interruptions, unfit optimizers."""

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch.nn.utils.parametrizations import weight_norm

from core.gradients import GradientStep
from core.optim.schemes.joint import Consensus, SymplecticAdjustment
from core.optim.schemes.schemes import Alternating, Extragradient, Move, Scheme, Simultaneous
from core.optim.schemes.stateful import Lookahead, NegativeMomentum, Optimistic
from core.state import StateDict
from tests.core.optim.schemes.games import Game, H, bilinear, nonsaturating
from tests.foreign import Recent

SCHEMES: list[Scheme] = [
    Alternating(),
    Simultaneous(),
    Extragradient(),
    Optimistic(),
    NegativeMomentum(beta=-0.5),
    Lookahead(k=3, alpha=0.5, inner=Alternating()),
    Consensus(gamma=0.5),
    SymplecticAdjustment(gamma=0.5, align=False),
]


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: type(s).__name__)
def test_a_lost_gradient_costs_one_update_and_nothing_else(
    scheme: Scheme, optimizer: type[torch.optim.Optimizer]
) -> None:
    """With all of an update's gradients NaN, the game goes on as if that update had not been called."""
    lossy, clean = (
        Game(nonsaturating, optimizer=optimizer, lr=0.05),
        Game(nonsaturating, optimizer=optimizer, lr=0.05),
    )
    for game in (lossy, clean):
        game.play(scheme, 3)
    before = lossy.at
    lossy.fails = lambda _, __: True
    lossy.play(scheme)
    assert torch.equal(lossy.at, before) or isinstance(scheme, Lookahead)
    if isinstance(scheme, Lookahead):  # it counts calls: bring both to the same number
        clean.state["updates"] += 1
    lossy.fails = lambda _, __: False
    for game in (lossy, clean):
        game.play(scheme, 3)
    assert torch.equal(lossy.at, clean.at)
    skipped = lossy.generator.monitor.drain()["x/gradient/skipped"]
    assert 0 < skipped < 0.5


@pytest.mark.parametrize(
    "scheme", [Optimistic(), NegativeMomentum(beta=-0.5)], ids=lambda s: type(s).__name__
)
@pytest.mark.parametrize("player", ["x", "y"])
def test_a_lost_first_gradient_leaves_no_trace_in_the_memory(scheme: Scheme, player: str) -> None:
    game = Game(bilinear)
    game.fails = lambda _, who: who == player
    game.play(scheme)
    game.fails = lambda _, __: False
    mine = "generator" if player == "x" else "discriminator"
    assert torch.equal(game.state[mine][0], torch.zeros(1, dtype=torch.float64))
    other = {"x": "discriminator", "y": "generator"}[player]
    assert game.state[other][0].item() != 0.0
    start = game.at
    game.play(scheme)
    plain = Game(bilinear)
    plain.at = start
    plain.play(Simultaneous() if isinstance(scheme, Optimistic) else Alternating())
    index = "xy".index(player)
    if isinstance(scheme, Optimistic) or player == "y":  # otherwise y's own velocity has moved y elsewhere
        assert game.at[index] == plain.at[index]


def states(game: Game) -> list[StateDict]:
    return copy.deepcopy([step.optimizer.state_dict() for step in (game.discriminator, game.generator)])


def equal(left: object, right: object) -> bool:
    if isinstance(left, Tensor) and isinstance(right, Tensor):
        return torch.equal(left, right)
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(equal(v, right[k]) for k, v in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(equal(a, b) for a, b in zip(left, right, strict=True))
    return left == right


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
@pytest.mark.parametrize("updates_before", [0, 2])
def test_extragradient_puts_everything_back_when_a_closure_raises(
    optimizer: type[torch.optim.Optimizer], updates_before: int
) -> None:
    game = Game(nonsaturating, optimizer=optimizer)
    game.play(Extragradient(), updates_before)
    point, kept = game.at, states(game)
    last = game.evaluations + 4  # the generator's gradient at the step ahead

    def fails(evaluation: int, _: str) -> bool:
        if evaluation == last:
            assert not torch.equal(game.at, point)
            raise KeyboardInterrupt
        return False

    game.fails = fails
    with pytest.raises(KeyboardInterrupt):
        game.play(Extragradient())
    assert torch.equal(game.at, point)
    assert equal(states(game), kept)


def test_extragradient_without_a_step_ahead_is_a_plain_step() -> None:
    extra, plain = Game(nonsaturating), Game(nonsaturating)
    extra.fails = lambda evaluation, _: evaluation <= 2
    extra.play(Extragradient())
    plain.play(Simultaneous())
    assert torch.equal(extra.at, plain.at)


def test_extragradient_puts_back_what_is_no_tensor_too() -> None:
    """On f = x y each player steps by the sum of its last three gradients, which are kept in a deque."""
    game = Game(bilinear, optimizer=Recent, lr=0.1)
    x, y = game.at.tolist()
    game.play(Extragradient(), 6)
    xs, ys = [], []
    for _ in range(6):
        ahead_x, ahead_y = x - 0.1 * sum([*xs, y][-3:]), y - 0.1 * sum([*ys, -x][-3:])
        xs, ys = [*xs, ahead_y][-3:], [*ys, -ahead_x][-3:]
        x, y = x - 0.1 * sum(xs), y - 0.1 * sum(ys)
    assert game.at.tolist() == pytest.approx([x, y], rel=1e-12)
    recent = game.generator.optimizer.state[game.generator.parameters[0]]["recent"]
    assert (len(recent), recent.maxlen) == (3, 3)


def test_extragradient_steps_ahead_with_the_optimizer_and_then_from_the_state_before() -> None:
    """Adam by hand: the step ahead is Adam's own, and the moments see only the gradient there."""
    beta1, beta2, eps = 0.9, 0.999, 1e-8

    def adam(w: Tensor, g: Tensor, m: Tensor, s: Tensor, t: int) -> tuple[Tensor, Tensor, Tensor]:
        m, s = beta1 * m + (1 - beta1) * g, beta2 * s + (1 - beta2) * g * g
        return w - H * (m / (1 - beta1**t)) / ((s / (1 - beta2**t)).sqrt() + eps), m, s

    def gradient(w: Tensor) -> Tensor:
        return torch.stack([w[1], -w[0]])  # of the bilinear game, x first

    w = torch.tensor([1.0, 2.0], dtype=torch.float64)
    m, s = torch.zeros_like(w), torch.zeros_like(w)
    game = Game(bilinear, optimizer=torch.optim.Adam)
    game.at = w
    for t in (1, 2, 3):
        ahead, _, _ = adam(w, gradient(w), m, s, t)
        w, m, s = adam(w, gradient(ahead), m, s, t)
        game.play(Extragradient())
        torch.testing.assert_close(game.at, w, rtol=1e-12, atol=0)


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: type(s).__name__)
def test_schemes_that_change_the_gradient_refuse_an_optimizer_that_would_lose_it(scheme: Scheme) -> None:
    game = Game(nonsaturating, optimizer=torch.optim.LBFGS)
    start = game.at
    if isinstance(scheme, Alternating | Simultaneous | Lookahead):
        game.play(scheme)
        assert not torch.equal(game.at, start)
    else:
        with pytest.raises(ValueError, match="changes gradients, but LBFGS evaluates them again; choose"):
            game.play(scheme)
        assert torch.equal(game.at, start)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NegativeMomentum(beta=-1.0), r"beta must be in \(-1, 1\)"),
        (lambda: Consensus(gamma=-0.1), "gamma must be a finite number >= 0"),
        (lambda: SymplecticAdjustment(gamma=math.inf, align=True), "gamma must be a finite number >= 0"),
        (lambda: Lookahead(k=0, alpha=0.5, inner=Alternating()), "k must be an integer >= 1"),
        (lambda: Lookahead(k=5, alpha=0.0, inner=Alternating()), r"alpha must be in \(0, 1\]"),
    ],
)
def test_options_out_of_range_are_refused(make: Callable[[], Scheme], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_consensus_has_the_right_derivatives_of_norms_under_a_gradient_penalty() -> None:
    torch.manual_seed(0)
    generator = weight_norm(nn.Linear(3, 3)).double()
    critic = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Tanh(), nn.Linear(4, 1)).double()
    z = torch.randn(8, 3, dtype=torch.float64)

    def loss_of_critic() -> Tensor:
        x = generator(z)
        score = critic(x)
        (slope,) = torch.autograd.grad(score.sum(), x, create_graph=True)
        return softplus(score).mean() + slope.square().sum(1).mean()

    def loss_of_generator() -> Tensor:
        return softplus(-critic(generator(z))).mean()

    losses = (critic, loss_of_critic), (generator, loss_of_generator)
    every = [p for player, _ in losses for p in player.parameters()]

    def field() -> Tensor:
        gradients = [torch.autograd.grad(loss(), list(player.parameters())) for player, loss in losses]
        return torch.cat([g.flatten() for own in gradients for g in own])

    def move(direction: Tensor) -> None:
        with torch.no_grad():
            for p, d in zip(every, direction.split([p.numel() for p in every]), strict=True):
                p.add_(d.view_as(p))

    v = field()
    direction = torch.randn(v.shape, dtype=torch.float64)
    heights = []  # of |v|^2 / 2, whose gradient is J^T v
    for e in (1e-6, -2e-6):
        move(e * direction)
        heights.append(0.5 * field().square().sum())
    move(1e-6 * direction)
    before = torch.cat([p.detach().flatten() for p in every])
    steps = [GradientStep(player, torch.optim.SGD(player.parameters(), lr=1.0)) for player, _ in losses]
    closures = [(lambda loss=loss: (loss(), {}),) for _, loss in losses]
    Consensus(gamma=1.0)(*map(Move, steps, closures), {})
    found = before - torch.cat([p.detach().flatten() for p in every]) - v
    torch.testing.assert_close(found @ direction, (heights[0] - heights[1]) / 2e-6, rtol=1e-6, atol=0.0)
