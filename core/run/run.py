"""`Run`: everything that a training loop does apart from training, in one object.

`finish_step` is the only place that logs, evaluates, draws, saves checkpoints and answers signals. The loop
hands it the data; nothing below the loop knows that it exists.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from torch import nn

from core.config import Tree
from core.diagnosis import RULES, Finding, Remedies, Rule
from core.draw.media import Media
from core.errors import ContractError
from core.form import Maybe, Number
from core.gradients import GradientStep, Metrics
from core.numbers import beats
from core.optim.evaluation import evaluation_parameters
from core.run import checkpoint
from core.run.attempts import Attempts
from core.run.callbacks import Callbacks, Means
from core.run.config import RunConfig
from core.run.console import Console
from core.run.dashboard import Dashboards
from core.run.diagnosis import Diagnosis, Stopping
from core.run.directory import count_field, resumption, write_summary
from core.run.ending import ending, rescue
from core.run.evaluation import Evaluation, below_eval
from core.run.files import to_yaml, write_text
from core.run.finite import require_finite
from core.run.good import Good
from core.run.gradient_charts import GradientCharts, with_curves
from core.run.interrupts import Interrupts, Stopped
from core.run.loggers.loggers import Chosen, Loggers, Start
from core.run.probes import Probes
from core.run.rollback import Rollbacks
from core.run.snapshots import Snapshots
from core.run.window import Window
from core.seeding import GLOBAL_STATE, global_state, set_global_state
from core.state import StateDict, Stateful


class Run:
    """One experiment's directory, clock and side effects.

    Args:
        directory: the run directory, locked by the caller.
        cfg: how often things happen.
        options: the resolved configuration, plain containers.
        facts: fields that every summary begins with (seed, versions, git, device).
        diagnosis: examines everything that is logged; None = no diagnosis.
        loggers: where it is logged besides the event file, by name.
        callbacks: called at the end of every step.
        rollbacks: of a run that may return to its last good checkpoint.
        began: how it was started.
    """

    def __init__(
        self,
        directory: Path,
        cfg: RunConfig,
        options: Tree,
        facts: Mapping[str, object],
        diagnosis: Diagnosis | None = None,
        loggers: Chosen | None = None,
        callbacks: Callbacks | None = None,
        began: Start | None = None,
        rollbacks: Rollbacks | None = None,
    ) -> None:
        self.directory = directory
        self.cfg = cfg
        self.step = self.iteration = 0
        self.train_s = self._wall_before = 0.0
        self.best_score: float | None = None
        self.resumed_at: int | None = None
        self._options = options
        self._facts, self._start = dict(facts), began
        self._began = self._mark = time.perf_counter()
        self.interrupts = Interrupts()
        self._loggers = Loggers(loggers or {}, self.say)  # open since `start`, as long as there is a console
        self.callbacks, self.rollbacks = callbacks or Callbacks(()), rollbacks or Rollbacks(0)
        self._console: Console | None = None
        self._window = Window()
        self._charts = GradientCharts(())
        self._diagnosis = diagnosis or Diagnosis(None, "report", options)
        self._attempt = Attempts(self.say)
        self._stop: Finding | None = None
        self._state: dict[str, Stateful] = {}
        self._steps: list[GradientStep] = []

    @property
    def wall_s(self) -> float:
        """Seconds since the run began, over all its resumptions."""
        return self._wall_before + time.perf_counter() - self._began

    @property
    def goes_on(self) -> bool:
        """Whether there is another iteration: this is not the end, and no callback has stopped here."""
        return self.step < self.total and self.callbacks.stopped_early is None

    @property
    def resuming(self) -> bool:
        """Whether `start` will continue from a checkpoint."""
        return os.path.lexists(self.directory / "checkpoints" / "last.pt")

    def say(self, line: str) -> None:
        """Print one line."""
        if self._console is not None:
            self._console.say(line)
        else:
            print(line, flush=True)

    def start(
        self,
        *,
        total: int,
        unit: str,
        state: Mapping[str, Stateful],
        gradient_steps: Sequence[GradientStep],
        modules: Mapping[str, nn.Module] | None = None,
        evaluate: Callable[[], Evaluation] | None = None,
        draw: Callable[[], Mapping[str, Media]] | None = None,
        probes: Probes | None = None,
        summarise: Callable[[], dict[str, object]] = dict,
        headline: tuple[str, ...] = (),
        rules: Sequence[Rule] = RULES,
        remedies: Remedies | None = None,
        limits: Mapping[str, float] | None = None,
        dashboard: Dashboards | None = None,
    ) -> None:
        """Take what the run consists of, and continue from its last checkpoint if there is one.

        Args:
            total: x-axis value at which the loop ends.
            unit: what the x-axis counts.
            state: everything that has a state, by its name in the checkpoint.
            gradient_steps: their monitors are logged, and their state is saved too.
            modules: the networks, for callbacks.
            evaluate: called every `eval_interval`; must not touch the training state.
            draw: called every `draw_interval`; must not touch the training state.
            probes: they measure when they are due.
            summarise: the summary's fields that are known at any time.
            headline: tags shown with the progress.
            rules: those of the diagnosis.
            remedies: what the trainer's options can do about a finding; None = only what all trainers can.
            limits: bounds of single quantities for the rules; see `core.diagnosis.Context`.
            dashboard: what TensorBoard shows at first sight, by options and names of the gradient steps.

        Raises:
            ConfigError: the checkpoint is damaged or of another network.
        """
        self.unit, self.total = unit, total
        self._evaluate, self._draw, self._probes, self._summarise = evaluate, draw, probes, summarise
        self._steps, self._unread = list(gradient_steps), list(gradient_steps)
        named_steps = {checkpoint.name_of(s.name): s for s in self._steps}
        own = {"callbacks": self.callbacks, "rollbacks": self.rollbacks}
        self._state = {**state, **named_steps, **{name: part for name, part in own.items() if part}}
        self.callbacks.begin(total, modules or {}, self._state, self._write, self.say)
        networks, optimizers = (modules or {}).values(), [s.optimizer for s in self._steps]
        self._good = Good(self.directory / "checkpoints", networks, optimizers)
        self._charts = GradientCharts(self._steps)
        self._diagnosis.begin(unit, total, self._steps, probes, rules, remedies, limits, self._attempt)
        if self.resuming:
            path = self.directory / "checkpoints" / "last.pt"
            checkpoint.restore_all({**self._state, "run": self}, checkpoint.load(path), path)
            self._good.saved(self.step)  # a kill may have come before it was looked at
            self.rollbacks.restart(self._state, self._options["seed"])
        write_text(self.directory / "config.yaml", to_yaml(self._options))
        page = dashboard and dashboard(self._options, [step.name for step in self._steps])
        self._loggers.open(self.directory, self._options, self.resumed_at, page, headline, self._start)
        if table := self.rollbacks.table(unit):
            self._loggers.events.text("rollbacks", table, self.step)
        self._console = Console(total, unit, headline, not self.cfg.progress)
        if self.resumed_at is not None:
            self.say(f"resumed at {self.step:,} {unit}")
        self.interrupts.listen()
        if probes is not None:
            probes.start(self._steps, self._attempt)
        self._snapshots = Snapshots(self.directory, self.cfg.snapshots, total, self._steps, self.say)
        self._snapshots.start(self.step)
        self.callbacks.call("on_start", self.step, {})
        if self.rollbacks and not self.resuming:
            self.save("last.pt")  # the first that a run may return to
        self._mark = time.perf_counter()

    def finish_step(self, step: int, metrics: Metrics) -> None:
        """End one iteration of the loop.

        Args:
            step: the x-axis value reached.
            metrics: this iteration's tensors by tag: 0-d, or one element per thing seen (an episode); the
                elements of all iterations are averaged until the next logged point.

        Raises:
            Stopped: a signal came; the run is saved.
            Stopping: a finding ends the run, which is saved.
            RollingBack: it sends the run back instead.
            FloatingPointError: every gradient since the last logged point was non-finite.
            ContractError: an optimizer keeps what no checkpoint can hold, or a callback has failed.
        """
        self.train_s += time.perf_counter() - self._mark
        previous, self.step = self.step, step
        self.iteration += 1
        self._window.add(metrics)
        self._unread = checkpoint.require_readable_steps(self._unread)
        logs = self.iteration % self.cfg.interval == 0 or step >= self.total
        if logs:
            self._log()
        self._snapshots.add(step)
        if self._probes is not None and (measured := self._probes.measure()):
            self._write(measured)
        evaluated = None
        if self._evaluate is not None and self._crossed(previous, self.cfg.eval_interval):
            with self._evaluation_parameters():
                evaluated = self._evaluate()
                self._record(evaluated)
        if self._draw is not None and self._crossed(previous, self.cfg.draw_interval):
            with self._evaluation_parameters():
                self._show()
        if self.callbacks:
            self.callbacks.after_step(step, Means(metrics), evaluated and evaluated.metrics)
            if not (self.goes_on or logs):
                self._log()
        ending = self._stop is not None or self.interrupts.caught is not None
        alone = evaluated is not None and not self.resuming  # a best checkpoint continues no run
        if ending or alone or self._crossed(previous, self.cfg.checkpoint_interval):
            self.save("last.pt")
        if self._stop is not None:
            how = f"on_finding={self._diagnosis.on_finding}: {self._stop.line()}"
            raise Stopping(f"stopped at {self.step:,} {self.unit} by {how}")
        if self.interrupts.caught is not None:
            self.say(f"stopped at {self.step:,} {self.unit}; continue with {resumption(self.directory)}")
            raise Stopped(128 + self.interrupts.caught)
        self._mark = time.perf_counter()

    def finish(
        self,
        measure: Callable[[], Mapping[str, object]],
        curves: Callable[[Mapping[str, object]], Mapping[str, float]] | None = None,
    ) -> None:
        """End the run: last checkpoint, final evaluation, last pictures, summary with status `finished`.

        `measure` is the final evaluation; `curves` gives the last points of curves from it, None all numbers
        below `eval/`. KeyboardInterrupt: two signals came while measuring; resumed, the run goes on here.
        """
        self.save("last.pt")  # measuring may take minutes, be stopped, or fail
        for line in self._probes.unmeasured() if self._probes else ():
            self.say(line)
        self.interrupts.answer = lambda: self.say("trained and saved; a second signal stops the measurement")
        try:
            with self._evaluation_parameters():
                extra = measure()
                finals = (curves or below_eval)(extra)
                measured = time.perf_counter()
                shown = self._show()
        except KeyboardInterrupt:
            self.say(f"trained, but not measured; continue with {resumption(self.directory)}")
            raise
        if finals:
            self._write(finals)
        self.callbacks.call("on_end", self.step, finals)
        self.save("last.pt")
        self.write_summary("finished", extra)
        for line in ending(self.directory, measured - self._mark, time.perf_counter() - measured, shown):
            self.say(line)

    def write_summary(self, status: str, extra: Mapping[str, object] | None = None) -> None:
        """Write `findings.json`, then `summary.json` with the status and, besides its own, `extra` fields."""
        self._diagnosis.write(self.directory, self.step)  # what the summary calls finished is whole
        started = bool(self._state)
        axis = {"unit": self.unit, count_field(self.unit): self.step} if started else {}
        summary = (
            {"status": status, **self._facts, "wall_s": self.wall_s, "train_s": self.train_s}
            | ({} if self.best_score is None else {"best_score": self.best_score})
            | self._diagnosis.summary()
            | self.rollbacks.summary()
            | axis
            | self.callbacks.summary()
            | (self._summarise() if started else {})
            | dict(extra or {})
        )
        write_summary(self.directory, summary)
        self._loggers.summary(summary)

    def save(self, name: str) -> None:
        """Write the events so far and then a checkpoint: after a kill no curve has a gap."""
        self._loggers.events.flush()
        state: StateDict = {key: owner.state_dict() for key, owner in self._state.items()}
        state["run"] = self.state_dict()
        checkpoint.save(self.directory / "checkpoints" / name, state)
        if name == "last.pt":
            self._good.saved(self.step)

    def state_dict(self) -> StateDict:
        """The run's own: its counts, the half-filled windows, and what has been found."""
        return {
            "step": self.step,
            "iteration": self.iteration,
            "train_s": self.train_s,
            "wall_s": self.wall_s,
            "best_score": self.best_score,
            "sound_at": self._good.sound_at,
            "window": self._window.state_dict(),
            "gradient_charts": self._charts.state_dict(),
            "diagnosis": self._diagnosis.state_dict(),
            "generators": global_state(),
        }

    def state_form(self) -> StateDict:
        """What `state_dict` must look like."""
        return {
            **self.state_dict(),
            "train_s": Number(0),
            "wall_s": Number(0),
            "best_score": Maybe(Number(finite=False)),
            "window": self._window.state_form(),
            "gradient_charts": self._charts.state_form(),
            "diagnosis": self._diagnosis.state_form(),
            "generators": GLOBAL_STATE,
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`."""
        self.step, self.iteration = state["step"], state["iteration"]
        self.train_s, self._wall_before = state["train_s"], state["wall_s"]
        self.best_score, self._good.sound_at = state["best_score"], state["sound_at"]
        self._window.load_state_dict(state["window"])
        self._charts.load_state_dict(state["gradient_charts"])
        self._diagnosis.load_state_dict(state["diagnosis"])
        set_global_state(state["generators"])
        self.resumed_at = self.step

    def rescue(self, error: ContractError) -> str:
        """As `core.run.ending.rescue`; empty before the run has begun."""
        return "" if self._console is None else rescue(self, self._good.saved_at == self.step, error)

    def close(self) -> None:
        """Release the terminal, the signals and the loggers."""
        self.interrupts.leave()
        if self._console is not None:
            self._console.close()
            self._loggers.close()
            self._console = None

    def _log(self) -> None:
        """Write one point of every curve."""
        values = self._window.drain()
        for step in self._steps:
            values |= (tags := step.monitor.drain())
            self._charts.add(self.step, step, tags, self._loggers.events)
        values |= self.rollbacks.curve()
        values["time/steps_per_s"] = self.step / max(self.train_s, 1e-9)
        self._write(values)
        self._diagnose()
        for step in self._steps:
            require_finite(step, values, f"{self.cfg.interval} iterations", f"{self.step:,} {self.unit}")
        self._good.logged(self.step, sound=self._diagnosis.sound)

    def _diagnose(self) -> None:
        """Ask the rules about the point just written, and say what they have found."""
        changed = self._diagnosis.update(self.step)
        for line in self._diagnosis.messages(changed):
            self.say(f"{self.step:>11,} {self.unit}   {line}")
        if changed:
            self._loggers.findings(self._diagnosis.table(), self.step)
            self._diagnosis.write(self.directory, self.step)
        self._stop = self._stop or self._diagnosis.ends(changed)
        self.rollbacks.consider(self._stop)

    def _record(self, evaluation: Evaluation) -> None:
        self._write(evaluation.metrics)
        self.say(f"{self.step:>11,} {self.unit}   {evaluation.line()}")
        if beats(evaluation.score, self.best_score):
            self.best_score = evaluation.score
            self.save("best.pt")

    def _write(self, values: Mapping[str, float]) -> None:
        assert self._console is not None
        self._diagnosis.observe(self.step, values)
        self._loggers.scalars(with_curves(values, self._steps), self.step)
        self._console.update(self.step, values)

    def _show(self) -> list[str]:
        """Show pictures, always together with the charts of the gradients; their tags."""
        pictures = {} if self._draw is None else self._attempt("pictures", self._draw)
        charts = self._attempt("charts of the gradients", lambda: self._charts.draw(self.unit))
        for tag, media in {**pictures, **charts}.items():
            self._loggers.media(tag, media, self.step)
        return [*pictures, *charts]

    def _evaluation_parameters(self) -> AbstractContextManager[None]:
        return evaluation_parameters(*(step.optimizer for step in self._steps))

    def _crossed(self, previous: int, interval: int) -> bool:
        """Whether a multiple of `interval` lies in (previous, step]."""
        return self.step // interval > previous // interval
