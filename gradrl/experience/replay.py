"""Replay: the last transitions, to learn from more than once.

    (s, a, r, s', terminated)

Every transition keeps the observation that it really led to, the final one where an episode was cut off, so
that only `terminated` ends the bootstrap (Pardo et al. 2018, arXiv:1712.00378). That doubles the memory of an
observation and spares every question about neighbours: rows are independent of one another.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from core.form import Begun, Rows, Table, require_form
from core.gradients.ranks import own
from core.state import StateDict
from gradrl.experience.rollout import Rollout


@dataclass(frozen=True, kw_only=True)
class Transitions:
    """Transitions without order; rows of all tensors belong together.

    Attributes:
        obs: s, [B, D], float32 or, where all of it is images, uint8.
        action: a, [B] int64 or [B, A] float32.
        reward: r, [B].
        next_obs: s', what the step led to, final observations included, [B, D].
        terminated: the world ended at s', so nothing can follow; [B], 1.0 or 0.0.
    """

    obs: Tensor
    action: Tensor
    reward: Tensor
    next_obs: Tensor
    terminated: Tensor

    def __len__(self) -> int:
        return len(self.obs)


COLUMNS = tuple(field.name for field in fields(Transitions))


def transitions(rollout: Rollout) -> Transitions:
    """Its valid steps in order of time."""
    columns = {
        "obs": rollout.obs[:-1].flatten(0, 1),
        "action": rollout.action.flatten(0, 1),
        "reward": rollout.reward.flatten(),
        "next_obs": rollout.next_obs.flatten(0, 1),
        "terminated": rollout.terminated.flatten().float(),
    }
    if rollout.num_valid < len(columns["reward"]):
        valid = rollout.valid.flatten()
        columns = {name: rows[valid] for name, rows in columns.items()}
    return Transitions(**columns)


class Replay:
    """A ring of transitions in storage made once; memory is touched only as it fills.

    Args:
        capacity: most transitions held; then the oldest are overwritten.
        device: where they are kept and sampled.

    Attributes:
        total: transitions taken in since the beginning, overwritten ones too.
    """

    def __init__(self, capacity: int, device: torch.device) -> None:
        self.capacity = capacity
        self.device = device
        self.total = 0
        self._rows: dict[str, Tensor] = {}

    def __len__(self) -> int:
        return min(self.total, self.capacity)

    def add(self, rollout: Rollout) -> None:
        """Take in a rollout's valid steps in order of time; copied, so its storage may be used again."""
        columns = vars(transitions(rollout.to(self.device)))
        self._append(columns, rollout.num_valid)

    def sample(self, size: int, generator: torch.Generator) -> Transitions:
        """Transitions drawn uniformly, with replacement; of several ranks, this one's rows of them.

        Args:
            size: B, how many, of all ranks.
            generator: on the replay's device.

        Raises:
            ValueError: there is none to draw.
        """
        if not self.total:
            raise ValueError("the replay is empty")
        rows = own(torch.randint(len(self), (size,), generator=generator, device=self.device))
        return Transitions(**{name: self._rows[name].index_select(0, rows) for name in COLUMNS})

    def latest(self, size: int) -> Transitions:
        """The last ones taken in, at most `size`, oldest first; none before the first."""
        if not self.total:
            nothing = torch.empty(0, 0)
            return Transitions(**dict.fromkeys(COLUMNS, nothing))
        rows = torch.arange(max(self.total - size, self.total - len(self)), self.total) % self.capacity
        rows = rows.to(self.device)
        return Transitions(**{name: self._rows[name].index_select(0, rows) for name in COLUMNS})

    def state_dict(self) -> StateDict:
        """The filled rows and how many have been taken in.

        A partly filled ring is copied up to there, because saving a part of a tensor would write all of it; a
        full one is handed out as it is, to be saved before the next `add`.
        """
        size = len(self)
        full = size == self.capacity
        rows = {name: rows if full else rows[:size].clone() for name, rows in self._rows.items()}
        return {"rows": rows, "total": self.total}

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`.

        Raises:
            ValueError: it is of another capacity.
        """
        require_form(state["rows"], Begun(Table(dict.fromkeys(COLUMNS, Rows(None)))), "rows")
        size = len(next(iter(state["rows"].values()), ()))
        if size != min(state["total"], self.capacity):
            raise ValueError(
                f"the saved replay holds {size} transitions; this one's capacity is {self.capacity}"
            )
        self.total = state["total"]
        self._rows = {}
        for name, rows in state["rows"].items():
            self._rows[name] = self._room(rows)
            self._rows[name][:size] = rows

    def _append(self, columns: dict[str, Tensor], count: int) -> None:
        """Write `count` rows after the last ones, around the end of the ring."""
        if not self._rows:
            self._rows = {name: self._room(rows) for name, rows in columns.items()}
        kept = min(count, self.capacity)  # of more than the ring holds, the last
        start = (self.total + count - kept) % self.capacity
        before_end = min(kept, self.capacity - start)
        for name, rows in columns.items():
            ring, rows = self._rows[name], rows[count - kept :]
            ring[start : start + before_end] = rows[:before_end]
            ring[: kept - before_end] = rows[before_end:]
        self.total += count

    def _room(self, rows: Tensor) -> Tensor:
        """Uninitialised storage for `capacity` rows like these."""
        return torch.empty((self.capacity, *rows.shape[1:]), dtype=rows.dtype, device=self.device)
