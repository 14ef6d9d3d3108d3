"""`on_finding=rollback`: at what would end a run, it returns to `good.pt`, changes a number, and goes on.

A rollback is written before it is made: `good.pt` as it was, with the new numbers and the list of rollbacks
in it, becomes `last.pt`, and from there on it is the resumption of a run. So a kill at any moment loses
nothing: before the write the run meets the same finding again, after it the rollback has been.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch

from core.diagnosis import Finding, Overrides
from core.diagnosis.findings import returned
from core.form import Many, Only
from core.run import checkpoint
from core.run.files import duplicate
from core.run.good import NAME
from core.seeding import global_state, seed_globally
from core.state import StateDict

TAG = "rollbacks"


class RollingBack(Exception):  # noqa: N818  (an order, not an error)
    """A finding sends the run back."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.line())
        self.finding = finding


@runtime_checkable
class Drawing(Protocol):
    """Something that draws random numbers, unless it has an attribute `random` that is False."""

    def restart(self, *names: str | int) -> None:
        """Begin every stream anew, an unrelated one for other names."""
        ...


class Rollbacks:
    """The rollbacks of a run so far; a part of its checkpoints where `on_finding=rollback`.

    Args:
        most: how many there may be; 0 = the run does not roll back.

    Attributes:
        done: one dictionary for each: `step` of the finding, `to` which step the run returned, `finding`,
            `player`, and the `remedy`, as overrides.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.done: list[StateDict] = []
        self._begins = False  # whether this very checkpoint was written by a rollback
        self._torch = global_state()

    def __bool__(self) -> bool:
        return self.most > 0

    def consider(self, finding: Finding | None) -> None:
        """Raise RollingBack at a finding, if there may be another rollback."""
        if finding is not None and len(self.done) < self.most:
            raise RollingBack(finding)

    def redraw(self, owners: Mapping[str, object], seed: int) -> None:
        """Draw other numbers where the run has just returned: each owner that draws, and torch."""
        if self._begins:
            self._begins = False
            for owner in owners.values():
                if isinstance(owner, Drawing):
                    owner.restart("rollback", len(self.done))
            seed_globally(seed, "rollback", len(self.done))
        self._torch = global_state()

    def redraws(self, owners: Mapping[str, object]) -> bool:
        """Whether other numbers make another run: an owner draws them, or torch has since `redraw`."""
        if any(isinstance(owner, Drawing) and getattr(owner, "random", True) for owner in owners.values()):
            return True
        before, now = self._torch, global_state()
        pairs = zip((before["cpu"], *before["cuda"]), (now["cpu"], *now["cuda"]), strict=True)
        return any(not torch.equal(one, other) for one, other in pairs)

    @property
    def proven_from(self) -> int:
        """From which step on a checkpoint may be good again.

        A fault took from the checkpoint to the finding to show. For as long again, it may only not show yet.
        """
        return max((2 * one["step"] - one["to"] for one in self.done), default=0)

    def curve(self) -> dict[str, float]:
        """How many there have been, from the first one on; its steps are where they happened."""
        return {TAG: float(len(self.done))} if self.done else {}

    def summary(self) -> dict[str, object]:
        """What the run's summary says."""
        return {TAG: self.done} if self else {}

    def table(self, unit: str) -> str:
        """All of them as Markdown; empty where there are none."""
        if not self.done:
            return ""
        rows = [
            (f"{one['step']:,}", f"{one['to']:,}", one["finding"], one["player"] or "–", _code(one["remedy"]))
            for one in self.done
        ]
        head = (f"at ({unit})", f"to ({unit})", "finding", "player", "remedy"), ("---",) * 5
        return "\n".join(f"| {' | '.join(row)} |" for row in (*head, *rows))

    def state_dict(self) -> StateDict:
        """The list, and whether the run begins with the last of them."""
        return {"done": [dict(one) for one in self.done], "begins": self._begins}

    def state_form(self) -> StateDict:
        """What `state_dict` must look like."""
        one = {"step": 0, "to": 0, "finding": "", "player": "", "remedy": Many("")}
        return {"done": Many(Only(one)), "begins": True}

    def load_state_dict(self, state: StateDict) -> None:
        """Continue."""
        self.done, self._begins = [dict(one) for one in state["done"]], state["begins"]


def write_rollback(
    directory: Path,
    rollbacks: Rollbacks,
    finding: Finding,
    remedy: Overrides,
    rates: Mapping[str, Sequence[float]],
    *,
    step: int,
    seconds: Mapping[str, float],
) -> None:
    """Write what the run goes on from: the good checkpoint with the remedy in it, as `good.pt` and `last.pt`.

    The best checkpoint and its score stay what they are, also where they lie in the part that is taken back.

    Args:
        directory: of the run.
        rollbacks: before this one.
        finding: that the run returns from.
        remedy: overrides.
        rates: the learning rates of each gradient step from now on, by its name.
        step: where on the x-axis the finding was.
        seconds: of the run so far, by the names of its clocks.

    Raises:
        ConfigError: `good.pt` is damaged.
        ContractError: it cannot be written.
    """
    folder, clips = directory / "checkpoints", any(text.startswith("clipper") for text in remedy)
    state = checkpoint.load(folder / NAME, mmap=True)
    best = folder / "best.pt"
    run = state["run"] = {**state["run"], **seconds}
    run["diagnosis"] = {**run["diagnosis"], "ledger": returned(run["diagnosis"]["ledger"], finding)}
    if best.is_file():
        run["best_score"] = checkpoint.load(best, mmap=True)["run"]["best_score"]
    for gradient_step, own in rates.items():
        name = checkpoint.name_of(gradient_step)
        fresh: StateDict = {"transforms": None, "combine": {}} if clips else {}  # another one has no memory
        state[name] = {**state[name], "base_lrs": list(own), **fresh}
    to = checkpoint.step_of(state, folder / NAME)
    one = {"step": step, "to": to, "finding": finding.name, "player": finding.player, "remedy": list(remedy)}
    state["rollbacks"] = {"done": [*rollbacks.done, one], "begins": True}
    # In this order: a run that is killed in between finds the same finding, and writes the same again.
    checkpoint.save(folder / NAME, state)
    duplicate(folder / NAME, folder / "last.pt")


def remedies_of(directory: Path) -> Overrides:
    """What the rollbacks of a run have changed so far, oldest first."""
    path = directory / "checkpoints" / "last.pt"
    state = checkpoint.load(path, mmap=True).get("rollbacks") if path.exists() else None
    return tuple(text for one in (state or {"done": ()})["done"] for text in one["remedy"])


def _code(remedy: Sequence[str]) -> str:
    return " ".join(f"`{text}`" for text in remedy)
