"""Probes of a run: called when they are due, each with a generator of its own for every measurement."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

import torch
from torch import nn

from core.gradients import Objective
from core.gradients.measured import Measured
from core.gradients.probe import Probe
from core.run.attempts import Attempts
from core.seeding import seed_for

STREAMS = {"unit_health": "vitals"}  # a stream keeps its first name, so that runs draw the same numbers
Objectives = Callable[[], Sequence[tuple[Objective, Measured]]]


def check_probes(probes: Mapping[str, Probe] | None, networks: Callable[[], Iterable[nn.Module]]) -> None:
    """Refuse a probe that cannot measure these networks, before anything is made.

    Raises:
        ValueError: one line about the first.
    """
    for network in networks() if probes else ():
        for name, probe in dict(probes or {}).items():
            try:
                probe.check(network)
            except ValueError as error:
                raise ValueError(f"probe={name}: {error}") from error


class Probes:
    """All probes of a run, by name.

    Nothing has to be saved: generators follow from seed, name and step, and the batch from the training.

    Args:
        probes: by name, or None.
        seed: of the run.
        objectives: the losses to look at as they now are, each with the `GradientStep` of its parameters.
        unit_health: for the diagnosis, measured like a probe of that name; None = nothing is.
        others: what else of the players is measured whenever the first one's units are, by tag.
    """

    def __init__(
        self,
        probes: Mapping[str, Probe] | None,
        seed: int,
        objectives: Objectives,
        unit_health: Probe | None = None,
        others: Callable[[], Mapping[str, float]] = dict,
    ) -> None:
        self.probes = dict(probes or {}) | ({} if unit_health is None else {"unit_health": unit_health})
        self.seed = seed
        self.objectives = objectives
        self.others = others

    def start(self, steps: Sequence[Measured], attempt: Attempts) -> None:
        """Take in the steps of the run, by whose counts probes become due, and who is told what fails."""
        self._steps, self._attempt = steps, attempt
        self._taken = {step.name: step.monitor.steps for step in steps}

    def unmeasured(self) -> Iterator[str]:
        """A line for each probe of the user's that no step of the run so far was due for."""
        taken = max(step.monitor.steps for step in self._steps)
        for name, probe in self.probes.items():
            if name != "unit_health" and taken < probe.interval:
                yield (
                    f"probe={name} and probe.{name} have no effect here: it measures every "
                    f"{probe.interval:,} optimizer steps, and the run has taken {taken:,}"
                )

    def measure(self) -> dict[str, float]:
        """What the probes find that have become due since the last call, by tag; nothing where one fails."""
        before, after = self._taken, {step.name: step.monitor.steps for step in self._steps}
        self._taken = after
        due = {
            (name, step)
            for name, probe in self.probes.items()
            for step in after
            if after[step] // probe.interval > before[step] // probe.interval
        }
        values: dict[str, float] = {}
        for objective, step in self.objectives() if due else ():
            for name, probe in self.probes.items():
                if (name, step.name) in due:
                    stream = STREAMS.get(name, name)
                    seed = seed_for(self.seed, "probe", stream, step.name, after[step.name])
                    of = f"probe={name}" + f" ({step.name})" * bool(step.name)
                    random = torch.Generator().manual_seed(seed)
                    found = self._attempt(of, partial(probe, objective, step, random))
                    values |= {f"{step.monitor.prefix}{tag}": value for tag, value in found.items()}
        if ("unit_health", next(iter(after))) in due:
            values |= self._attempt("measurements of the diagnosis", self.others)
        return values
