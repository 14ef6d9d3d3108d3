"""Callbacks of your own: stop early, a curve of your own, an environment that becomes harder.

python examples/own_callbacks.py env=cartpole 'callbacks=[{_target_: own_callbacks.Solved, times: 3}]'
PYTHONPATH=examples python scripts/train_rl.py env=cartpole 'callbacks=[{_target_: own_callbacks.Heavier}]'

A callback is any class with some of the functions of `core.run.callbacks.Callback`, in a module that Python
can import: from the folder of the command, of the script, or from PYTHONPATH. The options of a dataclass are
checked like all others. Several are called in the order of the list.
"""

from dataclasses import dataclass

from torch import nn

from core.cli.command import launch
from core.run.callbacks import Event


@dataclass
class Solved:
    """Ends the training once the mean return of several evaluations in a row is high enough.

    Attributes:
        threshold: of the mean return.
        times: how many evaluations.
    """

    threshold: float = 475.0
    times: int = 2

    def __post_init__(self) -> None:
        self.seen = 0

    def on_evaluation(self, event: Event) -> None:
        """Count."""
        self.seen = self.seen + 1 if event.metrics["eval/return_mean"] >= self.threshold else 0
        if self.seen == self.times:
            event.stop(f"a mean return of {self.threshold:g} in {self.times} evaluations in a row")

    def state_dict(self) -> dict:
        """Saved in every checkpoint, so that a resumed run goes on counting."""
        return {"seen": self.seen}

    def load_state_dict(self, state: dict) -> None:
        """Continue."""
        self.seen = state["seen"]


class WeightNorm:
    """A curve of your own: the length of all trained weights, at every 10th iteration."""

    def __init__(self, interval: int = 10) -> None:
        self.interval, self.iterations = interval, 0

    def on_iteration(self, event: Event) -> None:
        """Write a point."""
        self.iterations += 1
        if self.iterations % self.interval == 0:
            parameters = nn.utils.parameters_to_vector(event.modules["policy"].parameters())
            event.log({"policy/weight_norm": parameters.detach().norm().item()})

    def state_dict(self) -> dict:
        """How many iterations there were."""
        return {"iterations": self.iterations}

    def load_state_dict(self, state: dict) -> None:
        """Continue."""
        self.iterations = state["iterations"]


@dataclass
class Heavier:
    """A curriculum: CartPole's gravity grows over the first half; evaluations keep the usual one.

    Attributes:
        gravity: at the end, in m/s^2.
    """

    gravity: float = 12.0

    def on_start(self, event: Event) -> None:
        """A resumed run has new environments, and no step is taken before this."""
        share = min(2 * event.progress, 1.0)
        envs = event.parts["collector"].envs.unwrapped  # of most others: envs.set_attr("gravity", ...)
        envs.gravity = 9.8 + share * (self.gravity - 9.8)

    def on_iteration(self, event: Event) -> None:
        """As at the start."""
        self.on_start(event)


if __name__ == "__main__":
    launch("rl", by_id="env")
