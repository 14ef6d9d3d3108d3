"""What a run itself keeps in a checkpoint, and how it is brought back or rescued."""

from typing import TYPE_CHECKING

from core.errors import ContractError, DiskError, MemoryShortageError
from core.form import Maybe, Number
from core.gradients.ranks import num_ranks
from core.run import checkpoint
from core.run.callbacks import CallbackError
from core.run.directory import resumption
from core.run.ranks import RankStates, is_first
from core.seeding import GLOBAL_STATE, global_state, set_global_state
from core.state import StateDict

if TYPE_CHECKING:
    from core.run.run import Run


class RunState:
    """A run's own part of its checkpoints: its counts, the half-filled windows, and what has been found.

    Args:
        run: whose.
    """

    def __init__(self, run: "Run") -> None:
        self.run = run

    def state_dict(self) -> StateDict:
        """As it now is."""
        run = self.run
        return {
            "step": run.step,
            "iteration": run.iteration,
            "train_s": run.train_s,
            **run.clocks.seconds(),
            "best_score": run.best_score,
            "sound_at": run.good.sound_at,
            "window": run.window.state_dict(),
            "gradient_charts": run.charts.state_dict(),
            "diagnosis": run.diagnosis.state_dict(),
            "generators": global_state(),
        }

    def state_form(self) -> StateDict:
        """What `state_dict` must look like."""
        run = self.run
        return {
            **self.state_dict(),
            "train_s": Number(0),
            **dict.fromkeys(run.clocks.seconds(), Number(0)),
            "best_score": Maybe(Number(finite=False)),
            "window": run.window.state_form(),
            "gradient_charts": run.charts.state_form(),
            "diagnosis": run.diagnosis.state_form(),
            "generators": GLOBAL_STATE,
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`."""
        run = self.run
        run.step, run.iteration = state["step"], state["iteration"]
        run.train_s = state["train_s"]
        run.clocks.continue_from(state)
        run.best_score, run.good.sound_at = state["best_score"], state["sound_at"]
        run.window.load_state_dict(state["window"])
        run.charts.load_state_dict(state["gradient_charts"])
        run.diagnosis.load_state_dict(state["diagnosis"])
        set_global_state(state["generators"])
        run.resumed_at = run.step

    def restore(self) -> str:
        """Continue the run from its last checkpoint; returns what has to be said about the number of ranks.

        Raises:
            ConfigError: the checkpoint is damaged or of another network.
        """
        path = self.run.directory / "checkpoints" / "last.pt"
        state = checkpoint.load(path)
        own = {"ranks": RankStates()} if "ranks" in state else {}
        checkpoint.restore_all({**self.run.state, "run": self, **own}, state, path)
        self.run.good.not_before = self.run.rollbacks.proven_from
        if is_first():
            self.run.good.saved(self.run.step)  # a kill may have come before it was looked at
        before = len(state["ranks"]["generators"]) if own else 1
        if before == num_ranks():
            return ""
        return f", saved by {before} rank{'s' * (before > 1)}: {num_ranks()} continue it, but not to the bit"


def rescue(run: "Run", error: ContractError) -> str:
    """Save what there is after something outside of the run has failed; how to continue, to be said.

    What the disk did not take would be missing for ever after a checkpoint of this moment, and an update
    that memory did not suffice for, or a callback, half done; from the one before, the run does it again. Of
    several ranks all would have to take part, and nobody knows where the others are.
    """
    if not run.started:
        return ""
    try:
        if run.good.saved_at != run.step or num_ranks() > 1:
            if num_ranks() > 1 or isinstance(error, DiskError | MemoryShortageError | CallbackError):
                raise error
            run.save("last.pt")
    except ContractError:  # the disk or the memory has failed, or no file can hold the state
        kept = "the checkpoint before is kept" if run.resuming else "there is no checkpoint yet"
        how = f", continue with {resumption(run.directory)}" if num_ranks() > 1 and run.resuming else ""
        return f"; not saved at {run.step:,} {run.unit}, {kept}{how}"
    return f"; saved at {run.step:,} {run.unit}, continue with {resumption(run.directory)}"
