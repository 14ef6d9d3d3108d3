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
from core.gradients import GradientStep, Metrics
from core.gradients.ranks import alone, num_ranks
from core.numbers import beats
from core.optim.evaluation import evaluation_parameters
from core.run import checkpoint
from core.run.attempts import Attempts
from core.run.callbacks import Callbacks, Means
from core.run.clocks import Clocks
from core.run.config import RunConfig
from core.run.console import Console
from core.run.dashboard import Dashboards
from core.run.diagnosis import Diagnosis, Stopping
from core.run.directory import count_field, resumption, write_summary
from core.run.ending import ending
from core.run.evaluation import Evaluation, below_eval
from core.run.files import to_yaml, write_text
from core.run.finite import require_finite
from core.run.good import Good
from core.run.gradient_charts import GradientCharts, with_curves
from core.run.interrupts import Interrupts, Stopped
from core.run.loggers.loggers import Chosen, Loggers, Start
from core.run.probes import Probes
from core.run.ranks import RankStates, agree, begin_alike, differing_tensors, is_first, meet
from core.run.rollback import Rollbacks
from core.run.run_state import RunState
from core.run.snapshots import Snapshots
from core.run.window import Window
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
        self._first = is_first()  # of several ranks, who alone writes, evaluates and draws
        self.cfg = cfg
        self.step = self.iteration = 0
        self.train_s, self.clocks = 0.0, Clocks()
        self.best_score: float | None = None
        self.resumed_at: int | None = None
        self.started = False  # `start` has succeeded: there is something to save
        self._options = options
        self._facts, self._start = dict(facts), began
        self._mark = time.perf_counter()
        self.interrupts = Interrupts()
        self._loggers = Loggers(loggers or {}, self.say)  # open since `start`, as long as there is a console
        self.callbacks, self.rollbacks = callbacks or Callbacks(()), rollbacks or Rollbacks(0)
        self.console: Console | None = None
        self.window = Window()
        self.charts = GradientCharts(())
        self.diagnosis = diagnosis or Diagnosis(None, "report", options)
        self._attempt = Attempts(self.say)
        self._stop: Finding | None = None
        self.state: dict[str, Stateful] = {}
        self._steps: list[GradientStep] = []

    @property
    def wall_s(self) -> float:
        """Seconds since the run began, over all its resumptions."""
        return self.clocks.seconds()["wall_s"]

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
        if self.console is not None:
            self.console.say(line)
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
        evaluate: Callable[[], Evaluation | None] | None = None,
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
            evaluate: called every `eval_interval`, by all ranks; must not touch the training state.
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
        self.state = {**state, **named_steps, **{name: part for name, part in own.items() if part}}
        networks, optimizers = (modules or {}).values(), [s.optimizer for s in self._steps]
        begin_alike(networks, self._options.get("seed", 0))
        self.callbacks.begin(total, modules or {}, self.state, self._write, self.say)
        self.good = Good(self.directory / "checkpoints", networks, optimizers)
        self.charts = GradientCharts(self._steps)
        self.diagnosis.begin(unit, total, self._steps, probes, rules, remedies, limits, self._attempt)
        inexact = RunState(self).restore() if self.resuming else ""
        self.rollbacks.redraw(self.state, self._options.get("seed", 0))
        if num_ranks() > 1:
            self.state["ranks"] = RankStates()
        if not self._first:
            meet()
            self.interrupts.listen()
            self._mark, self.started = time.perf_counter(), True
            return
        write_text(self.directory / "config.yaml", to_yaml(self._options))
        page = dashboard and dashboard(self._options, [step.name for step in self._steps])
        self._loggers.open(self.directory, self._options, self.resumed_at, page, headline, self._start)
        if table := self.rollbacks.table(unit):
            self._loggers.events.text("rollbacks", table, self.step)
            self._loggers.findings(self.diagnosis.table(), self.step)
            self.diagnosis.write(self.directory, self.step)
        self.console = Console(total, unit, headline, not self.cfg.progress)
        if self.resumed_at is not None:
            self.say(f"resumed at {self.step:,} {unit}{inexact}")
        self.interrupts.listen()
        if probes is not None:
            probes.start(self._steps, self._attempt)
        self._snapshots = Snapshots(self.directory, self.cfg.snapshots, total, self._steps, self.say)
        self._snapshots.start(self.step)
        with alone():
            self.callbacks.call("on_start", self.step, {})
        if self.rollbacks and not self.resuming:
            self.save("last.pt")  # the first that a run may return to
        meet()
        self._mark, self.started = time.perf_counter(), True

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
        self.window.add(metrics)
        self._unread = checkpoint.require_readable_steps(self._unread)
        logs = self.iteration % self.cfg.interval == 0 or step >= self.total
        if logs:
            self._log()
        if self._first:
            self._snapshots.add(step)
            with alone():
                if self._probes is not None and (measured := self._probes.measure()):
                    self._write(measured)
        evaluated = None
        if self._evaluate is not None and self._crossed(previous, self.cfg.eval_interval):
            with self._evaluation_parameters():
                evaluated = self._record(self._evaluate)
        if self._first and self._draw is not None and self._crossed(previous, self.cfg.draw_interval):
            with self._evaluation_parameters(), alone():
                self._show()
        if self._first and self.callbacks:
            with alone():
                self.callbacks.after_step(step, Means(metrics), evaluated and evaluated.metrics)
        early = self.callbacks.stopped_early is not None
        unsaved = evaluated is not None and not self.resuming  # a best checkpoint continues no run
        found = self._stop is not None
        found, unsaved, early, caught = agree(found, unsaved, early, self.interrupts.caught or 0)
        if early and self.callbacks:
            self.callbacks.stopped_early = self.callbacks.stopped_early or "on the first rank"
            if not (self.goes_on or logs):
                self._log()
                (found,) = agree(self._stop is not None)
        if found or caught or unsaved or self._crossed(previous, self.cfg.checkpoint_interval):
            self.save("last.pt")
        if found:
            reason = self._stop.line() if self._stop else "a finding of another rank"
            how = f"on_finding={self.diagnosis.on_finding}: {reason}"
            raise Stopping(f"stopped at {self.step:,} {self.unit} by {how}")
        if caught:
            self.say(f"stopped at {self.step:,} {self.unit}; continue with {resumption(self.directory)}")
            raise Stopped(128 + caught)
        self._mark = time.perf_counter()

    def finish(
        self,
        measure: Callable[[], Mapping[str, object] | None],
        curves: Callable[[Mapping[str, object]], Mapping[str, float]] | None = None,
    ) -> None:
        """End the run: last checkpoint, final evaluation, last pictures, summary with status `finished`.

        `measure` is the final evaluation, by all ranks; `curves` gives the last points of curves from it,
        None all numbers below `eval/`. KeyboardInterrupt: two signals came while measuring; resumed, the run
        goes on here.
        """
        self.save("last.pt")  # measuring may take minutes, be stopped, or fail
        for line in self._probes.unmeasured() if self._probes and self._first else ():
            self.say(line)
        self.interrupts.answer = lambda: self.say("trained and saved; a second signal stops the measurement")
        try:
            with self._evaluation_parameters():
                extra = measure() or {}
                if self._first:
                    with alone():
                        finals = (curves or below_eval)(extra)
                        measured = time.perf_counter()
                        shown = self._show()
        except KeyboardInterrupt:
            self.say(f"trained, but not measured; continue with {resumption(self.directory)}")
            raise
        if not self._first:
            meet()
            self.save("last.pt")
            return
        if finals:
            self._write(finals)
        with alone():
            self.callbacks.call("on_end", self.step, finals)
        meet()
        self.save("last.pt")
        self.good.ended(finals.values())
        self.write_summary("finished", extra)
        for line in ending(self.directory, measured - self._mark, time.perf_counter() - measured, shown):
            self.say(line)

    def write_summary(self, status: str, extra: Mapping[str, object] | None = None) -> None:
        """Write `findings.json`, then `summary.json` with the status and, besides its own, `extra` fields."""
        if not self._first:
            return
        self.diagnosis.write(self.directory, self.step)  # what the summary calls finished is whole
        started = bool(self.state)
        axis = {"unit": self.unit, count_field(self.unit): self.step} if started else {}
        summary = (
            {"status": status, **self._facts, **self.clocks.seconds(), "train_s": self.train_s}
            | ({} if self.best_score is None else {"best_score": self.best_score})
            | self.diagnosis.summary()
            | self.rollbacks.summary()
            | axis
            | self.callbacks.summary()
            | (self._summarise() if started else {})
            | dict(extra or {})
        )
        write_summary(self.directory, summary)
        self._loggers.summary(summary)

    def save(self, name: str) -> None:
        """Write the events so far, then a checkpoint, so that no curve has a gap; all ranks take part."""
        state: StateDict = {key: owner.state_dict() for key, owner in self.state.items()}
        if not self._first:
            return
        self._loggers.events.flush()
        state["run"] = RunState(self).state_dict()
        checkpoint.save(self.directory / "checkpoints" / name, state)
        if name == "last.pt":
            self.good.saved(self.step)

    def close(self) -> None:
        """Release the terminal, the signals and the loggers."""
        self.interrupts.leave()
        if self.console is not None:
            self.console.close()
            self._loggers.close()
            self.console = None

    def _log(self) -> None:
        """Write one point of every curve."""
        values = self.window.drain()
        for step in self._steps:
            values |= (tags := step.monitor.drain())
            if self._first:
                self.charts.add(self.step, step, tags, self._loggers.events)
        values |= self.rollbacks.curve() | differing_tensors(self._steps)
        values["time/steps_per_s"] = self.step / max(self.train_s, 1e-9)
        if self._first:
            self._write(values)
            self._diagnose()
        for step in self._steps:
            require_finite(step, values, f"{self.cfg.interval} iterations", f"{self.step:,} {self.unit}")
        if self._first:
            self.good.logged(self.step, sound=self.diagnosis.sound)

    def _diagnose(self) -> None:
        """Ask the rules about the point just written, and say what they have found."""
        changed = self.diagnosis.update(self.step, lost=not self.good.finite)
        for line in self.diagnosis.messages(changed):
            self.say(f"{self.step:>11,} {self.unit}   {line}")
        if changed:
            self._loggers.findings(self.diagnosis.table(), self.step)
            self.diagnosis.write(self.directory, self.step)
        self._stop = self._stop or self.diagnosis.ends(changed)
        self.rollbacks.consider(self._stop)

    def _record(self, evaluate: Callable[[], Evaluation | None]) -> Evaluation | None:
        """An evaluation, which the first rank writes down; the best one so far is saved."""
        evaluation, better = evaluate(), False
        if self._first and evaluation is not None:
            self._write(evaluation.metrics)
            self.say(f"{self.step:>11,} {self.unit}   {evaluation.line()}")
            if better := beats(evaluation.score, self.best_score):
                self.best_score = evaluation.score
        (better,) = agree(better)
        if better:
            self.save("best.pt")
        return evaluation

    def _write(self, values: Mapping[str, float]) -> None:
        assert self.console is not None
        self.diagnosis.observe(self.step, values)
        self._loggers.scalars(with_curves(values, self._steps), self.step)
        self.console.update(self.step, values)

    def _show(self) -> list[str]:
        """Show pictures, always together with the charts of the gradients; their tags."""
        pictures = {} if self._draw is None else self._attempt("pictures", self._draw)
        charts = self._attempt("charts of the gradients", lambda: self.charts.draw(self.unit))
        for tag, media in {**pictures, **charts}.items():
            self._loggers.media(tag, media, self.step)
        return [*pictures, *charts]

    def _evaluation_parameters(self) -> AbstractContextManager[None]:
        return evaluation_parameters(*(step.optimizer for step in self._steps))

    def _crossed(self, previous: int, interval: int) -> bool:
        """Whether a multiple of `interval` lies in (previous, step]."""
        return self.step // interval > previous // interval
