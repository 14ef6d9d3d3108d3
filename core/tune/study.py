"""A study: trials are asked of Optuna, run, and told to it, until there are enough of them.

Any number of commands may work on one study. Each gives signs of life for its trials; those of one that has
died are queued again, and whoever takes such a trial goes on with its run.
"""

import json
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from core.cli.stopping import answering
from core.config import ConfigError
from core.errors import described
from core.numbers import plain_number
from core.text import shortened, shown, told
from core.tune.config import Search, TuneConfig
from core.tune.space import Space, Value, words_of
from core.tune.trial import Trainer, Trial, begin

ASKED = "asked"  # attribute of a study: what it is about
GRACE = 3  # signs of life that may be missing
RETRIES = 3  # of a trial whose process was killed
POLL_S, DATABASE_S = 0.2, 1.0


class Study:
    """An open study.

    Args:
        cfg: the options.
        directory: where the runs of its trials are.
        space: what is varied.
        trainer: what trains.

    Raises:
        ConfigError: the storage cannot be opened, or holds a study of something else under this name.
    """

    def __init__(self, cfg: TuneConfig, directory: Path, space: Space, trainer: Trainer) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        warnings.filterwarnings("ignore", "Heartbeat of storage")  # `_give_signs` records it
        self.cfg, self.directory, self.space, self.trainer = cfg, directory, space, trainer
        self._again = optuna.storages.RetryHeartbeatStaleTrialCallback(RETRIES, True)
        try:
            self._storage = optuna.storages.RDBStorage(
                cfg.storage or f"sqlite:///{directory.absolute()}/study.db",
                heartbeat_interval=cfg.heartbeat,
                grace_period=GRACE * cfg.heartbeat,
                heartbeat_stale_trial_callback=self._again,
            )
            self.optuna = optuna.create_study(
                storage=self._storage,
                study_name=directory.name,
                direction=cfg.search.direction,
                load_if_exists=True,
                sampler=_made(cfg.sampler, optuna.samplers.BaseSampler),
                pruner=_made(cfg.pruner, optuna.pruners.BasePruner),
            )
        except ConfigError:
            raise
        except Exception as error:  # of any driver of any database
            if cfg.storage is not None and "://" not in cfg.storage:
                allowed = "a URL such as postgresql://USER@HOST/NAME, or null"
                raise ConfigError(f"storage must be {allowed}, got {shown(cfg.storage)}") from error
            where = "storage" if cfg.storage else f"{directory}/study.db"
            reason = getattr(error, "orig", None) or error  # the driver's own word, without SQLAlchemy's
            raise ConfigError(f"{where} cannot be opened: {told(reason)}") from error
        self._agree(cfg.search)
        self._beaten = self._counted = 0.0
        self._stopped = False

    @property
    def best(self) -> Any | None:
        """The best trial that has ended; None while there is none."""
        done = [trial for trial in self.optuna.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"]
        return self.optuna.best_trial if done else None

    def enqueue(self, values: Mapping[str, Value]) -> None:
        """Let a trial begin with these values, once."""
        self.optuna.enqueue_trial(dict(values), skip_if_exists=True)

    def work(self, say: Callable[[str], None]) -> int | None:
        """Run trials until there are enough, those of other commands too.

        Args:
            say: prints one line.

        Returns:
            None; or the number of the signal that has ended it, whose trials are queued again.
        """
        running: list[Trial] = []
        caught: list[int] = []
        with _listening(caught):
            while True:
                self._give_signs(running)
                for trial in [each for each in running if each.process.poll() is not None]:
                    running.remove(trial)
                    self._tell(trial, say, stopped=bool(caught))
                if caught and not running:
                    return caught[0]
                for trial in running:
                    if caught:
                        trial.stop()
                    else:
                        trial.look()
                if not caught and self._due():
                    states = self._states()
                    ended = sum(state != "WAITING" for state in states.values())
                    wanted = min(self.cfg.jobs - len(running), self.cfg.trials - ended)
                    running += [self._ask() for _ in range(wanted)]
                    if not running and "RUNNING" not in states.values() and ended >= self.cfg.trials:
                        return None
                time.sleep(POLL_S)

    def _ask(self) -> Trial:
        """Take the next trial, and begin it or go on with it."""
        asked = self.optuna.ask(self.space)
        self._storage.record_heartbeat(asked._trial_id)
        self._counted = 0.0
        number = _original(self._storage.get_trial(asked._trial_id))
        place = self.directory / "trials" / str(number)
        return begin(asked, place, words_of(asked.params), self.trainer, self.cfg.search.evaluation)

    def _tell(self, trial: Trial, say: Callable[[str], None], *, stopped: bool) -> None:
        """Tell Optuna what became of a trial, and say it."""
        from optuna.trial import TrialState

        status, failed, value = trial.process.returncode, "", None
        trial.look()
        if not trial.pruned and status == 0:
            try:
                value = trial.value(self.cfg.search.objective)
            except ConfigError as error:
                failed = str(error)
        elif not trial.pruned:
            failed = trial.why()
        state = TrialState.PRUNED if trial.pruned else TrialState.FAIL if failed else TrialState.COMPLETE
        try:
            self.optuna.tell(trial.asked, value, state)
        except ValueError:  # another command has taken it over: this one gave no signs of life
            return
        frozen = self._storage.get_trial(trial.asked._trial_id)
        number = _original(frozen)
        killed = stopped or status < 0 or status > 128
        if failed and killed:
            self._again(self.optuna, frozen)
            say(f"trial {number}: interrupted; it is queued again")
            return
        name, best = self.cfg.search.objective, self.best
        became = (
            f"{name} {plain_number(value)}"
            if value is not None
            else "pruned"
            if trial.pruned
            else f"failed: {failed}"
        )
        so_far = f" (best {plain_number(best.value)})" if best is not None else ""
        say(f"trial {number}: {became}{so_far}  {shortened(' '.join(words_of(trial.asked.params)), 160)}")

    def _give_signs(self, running: list[Trial]) -> None:
        """Sign of life for each trial, and look for those that give none any more."""
        import optuna

        if time.monotonic() - self._beaten >= self.cfg.heartbeat:
            self._beaten = time.monotonic()
            for trial in running:
                self._storage.record_heartbeat(trial.asked._trial_id)
            optuna.storages.fail_stale_trials(self.optuna)

    def _due(self) -> bool:
        """Whether the database is asked again."""
        if time.monotonic() - self._counted < DATABASE_S:
            return False
        self._counted = time.monotonic()
        return True

    def _states(self) -> dict[int, str]:
        """What became of each trial at last, by the number under which it was asked for first."""
        return {_original(trial): trial.state.name for trial in self.optuna.get_trials(deepcopy=False)}

    def _agree(self, search: Search) -> None:
        """Check that the study under this name is this one, or make it so.

        Raises:
            ConfigError: it is about something else.
        """
        asked = {
            "space": {name: repr(each) for name, each in self.space.items()},
            "objective": search.objective,
            "words": list(self.trainer.words),
        }
        noted = self.optuna.user_attrs.get(ASKED)
        if noted is None:
            self.optuna.set_user_attr(ASKED, asked)
        elif noted != json.loads(json.dumps(asked)) or self.optuna.direction.name.lower() != search.direction:
            other = next((key for key in asked if noted.get(key) != asked[key]), "direction")
            raise ConfigError(
                f"{self.directory} holds a study of another {other}; type what began it, or another study="
            )


def _original(trial: Any) -> int:
    """The number under which a trial was asked for first: one that was interrupted has a new one."""
    return trial.system_attrs.get("failed_trial", trial.number)


def _made(part: Any, kind: type) -> Any:
    """A sampler or a pruner.

    Raises:
        ConfigError: it is none, or refuses its options.
    """
    try:
        made = part()
    except Exception as error:  # the class is the user's choice
        raise ConfigError(f"{part.path}: {described(error)}") from error
    if not isinstance(made, kind):
        raise ConfigError(
            f"{part.path}._target_ must name a {kind.__name__} of Optuna, got {part.target.__name__}"
        )
    return made


@contextmanager
def _listening(caught: list[int]) -> Iterator[None]:
    """Note a first SIGINT or SIGTERM; a second one ends the command at once."""

    def on_signal(number: int, frame: object) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(number)

    with answering(on_signal):
        yield
