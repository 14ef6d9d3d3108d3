"""The policy gradient: it needs no derivative of the reward, and a baseline takes most of its noise away."""

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from core.draw.figure import label_ends
from core.draw.palette import Look
from core.gradients import GradientStep, NoiseEstimate, Objective
from core.noise import noise_statistics
from core.numbers import number
from gradrl.losses import policy_gradient_loss

from .station import Station

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WORTH = torch.tensor(
    [[0.0, 1.0, 2.0], [10.0, 11.0, 12.0]], dtype=torch.float64
)  # of each action in each state
STATES, ACTIONS = WORTH.shape
SAMPLES, BATCH, SHOWN = 200_000, 16, 40
RATE, STEPS, SEEDS = 0.2, 60, 10
BASELINES = ("no baseline", "mean reward", "value of the state")


class Policy(nn.Linear):
    """Every action in every state equally likely at first; scores of a softmax."""

    def __init__(self) -> None:
        super().__init__(STATES, ACTIONS, bias=False, dtype=torch.float64)
        nn.init.zeros_(self.weight)

    def act(self, count: int, random: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """States one-hot [count, STATES], actions and rewards [count]: worth, and noise of deviation 1."""
        state = torch.randint(STATES, (count,), generator=random)
        seen = torch.eye(STATES, dtype=torch.float64)[state]
        action = torch.multinomial(self(seen).detach().softmax(-1), 1, generator=random)[:, 0]
        reward = WORTH[state, action] + torch.randn(count, generator=random, dtype=torch.float64)
        return seen, action, reward

    @torch.no_grad()
    def values(self) -> Tensor:
        """Mean reward in each state, [STATES]."""
        return (self(torch.eye(STATES, dtype=torch.float64)).softmax(-1) * WORTH).sum(-1)

    def baseline(self, name: str, seen: Tensor) -> Tensor:
        """What a reward is compared with, [count]."""
        value = self.values()
        return {
            "no baseline": torch.zeros(len(seen), dtype=torch.float64),
            "mean reward": value.mean().expand(len(seen)),
            "value of the state": seen @ value,
        }[name]


def loss(forward: nn.Module, seen: Tensor, action: Tensor, advantage: Tensor) -> Tensor:
    """The loss whose gradient is the negative policy gradient."""
    log_prob = forward(seen).log_softmax(-1).gather(-1, action[:, None])[:, 0]
    return policy_gradient_loss(log_prob, advantage)


def noise_of(name: str) -> NoiseEstimate:
    """Length and variance of the policy gradient of one sample, at the first policy."""
    policy = Policy()
    seen, action, reward = policy.act(SAMPLES, torch.Generator().manual_seed(0))
    samples = (seen, action, reward - policy.baseline(name, seen))
    return noise_statistics(Objective(policy, loss, samples)).noise


def learnt(name: str, seed: int, batch: int) -> list[float]:
    """Mean reward of the policy after every step."""
    policy, random = Policy(), torch.Generator().manual_seed(seed)
    step = GradientStep(policy, partial(torch.optim.SGD, lr=RATE)(policy.parameters()))
    rewards = []
    for _ in range(STEPS):
        rewards.append(float(policy.values().mean()))
        seen, action, reward = policy.act(batch, random)
        advantage = reward - policy.baseline(name, seen)
        step(lambda some=(seen, action, advantage): (loss(policy, *some), {}))
    return rewards


def arrows(name: str, batch: int) -> Tensor:
    """Policy gradients of batches for the first state, in the plane in which they lie, [SHOWN, 2]."""
    policy, random = Policy(), torch.Generator().manual_seed(1)
    axes = torch.tensor([[-1.0, 0.0, 1.0], [-1.0, 2.0, -1.0]], dtype=torch.float64)
    axes /= axes.norm(dim=1, keepdim=True)
    drawn = []
    for _ in range(SHOWN):
        seen, action, reward = policy.act(batch, random)
        value = loss(policy, seen, action, reward - policy.baseline(name, seen))
        (gradient,) = torch.autograd.grad(value, [policy.weight])
        drawn.append(-axes @ gradient[:, 1])
    return torch.stack(drawn)


def station(batch: int = BATCH) -> Station:
    """Its variance with three baselines, and what that does to learning."""
    noise = {name: noise_of(name) for name in BASELINES}
    variance = [float(noise[name].variance) for name in BASELINES]
    length = [float(noise[name].signal) ** 0.5 for name in BASELINES]
    curves = {
        name: torch.tensor([learnt(name, seed, batch) for seed in range(SEEDS)]).mean(0) for name in BASELINES
    }

    def draw(look: Look, left: "Axes", right: "Axes") -> None:
        hues = look.colours(BASELINES)
        left.set_title(f"gradients of {batch} samples each, for one state")
        for name, hue in hues.items():
            ways = arrows(name, batch)
            left.quiver(*torch.zeros(2, SHOWN), *ways.T, angles="xy", scale_units="xy", scale=1, color=hue,
                        width=0.005, label=name, zorder=3)  # fmt: skip
        reach = 1.05 * float(arrows(BASELINES[0], batch).abs().max())
        left.set(xlim=(-reach, reach), ylim=(-reach, reach))
        left.set_xlabel("from the worst action towards the best")
        left.plot(0, 0, "o", color="white", markeredgecolor=look.ink, markersize=6, zorder=6)
        left.legend(loc="lower left")
        right.set_title(f"mean reward, of {SEEDS} trainings")
        for name, hue in hues.items():
            right.plot(curves[name], color=hue, linewidth=2)
        right.set_xlabel("step")
        label_ends(right, [(float(curves[n][-1]), n, h) for n, h in hues.items()])

    return Station(
        title="The policy gradient and its baselines",
        idea="An agent is to make large rewards likely, but nobody can differentiate the world that hands "
        "them out. The trick: move towards what was done, in proportion to the reward. That is right on "
        "average and very noisy, because where every reward is large everything is praised. Compare the "
        "reward with what was to be expected, a baseline: the mean of the gradient stays, and most of its "
        "noise goes.",
        law="∇J = E[(r − b) ∇ log π(a|s)] for any baseline b that does not depend on a",
        source="Williams 1992, Machine Learning 8; Greensmith et al. 2004, JMLR 5",
        sentence=f"In a game of two states and three actions, the policy gradient is {number(length[0])}, "
        f"{number(length[1])} and {number(length[2])} long with no baseline, the mean reward and the value "
        f"of the state as a baseline, but that of a single sample varies by {number(variance[0])}, "
        f"{number(variance[1])} and {number(variance[2])} around it: {variance[0] / variance[2]:.0f} times "
        "fewer samples are as good.",
        command="python scripts/train_rl.py agent=a2c env=cartpole probe=policy_gradient",
        draw=draw,
    )
