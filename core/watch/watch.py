"""`Watch`: three lines in anyone's training loop, and its gradients are measured and its faults named.

It listens to the optimizers' hooks before and after a step, to the loss, and at the steps that need it to the
models. It patches nothing and changes no number: parameters, gradients and random states are those of the
same loop without it, to the bit.
"""

import atexit
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from core.diagnosis import Finding, Rule
from core.form import form_of, require_form
from core.gradients.unit_health import UnitHealth
from core.run.attempts import Attempts
from core.run.diagnosis import Diagnosis, DiagnosisConfig
from core.run.window import Window
from core.state import StateDict, Stateful
from core.watch import arguments
from core.watch.followed import Followed, due
from core.watch.guard import Guard
from core.watch.idle import Idle
from core.watch.journal import Journal, options_of
from core.watch.listening import LOSS, LossEar, ModelEar, listened
from core.watch.models import Strays, named_parameters, prefixes, strays
from core.watch.objectives import Frozen, draw_landscape, objective_of
from core.watch.remedies import remedies_of
from core.watch.rules import LAST, NeverSteps, rules_of
from core.watch.stepping import Scale, observing

UNIT = "steps"


class Watch:
    """Watches a training loop: what its gradients do, and what is wrong with it.

        watch = Watch(model, optimizer, loss=criterion, directory="runs/mine")
        for x, y in loader:  # the loop stays as it is
            ...
        watch.close()

    The gradient is measured as the optimizer is given it: after the loop's own clipping, with a loss scale
    divided out. A fault inside of it never ends the training: it says so once and watches no longer.

    Args:
        model: a module, or several by name.
        optimizer: an optimizer, or several by name; with several, tags begin with the name.
        loss: a module, which is listened to: the loss, predictions, targets and the number of samples are
            seen at every call. A function cannot be listened to; where one is given, call `watch.loss` in its
            place, which is the same function, heard.
        directory: of the run: TensorBoard events, findings.json, summary.json; None = no files.
        scaler: the `GradScaler`, so that steps that it skips are counted.
        rules: further ones of one's own, asked like those of `core.diagnosis`.
        interval: steps between two logged points; at the beginning they are closer.
        resume: whether the directory may hold a run that goes on, see `load_state_dict`.

    Attributes:
        loss: the loss, heard.

    Raises:
        ValueError: no parameter requires a gradient; an optimizer has none of the models' parameters, a
            complex one, or is watched already; the directory is in use or holds a run, or none to go on with
            (`core.config.ConfigError`).
        TypeError: not a module, not an optimizer, or another argument of a wrong kind.
    """

    def __init__(
        self,
        model: nn.Module | Mapping[str, nn.Module],
        optimizer: torch.optim.Optimizer | Mapping[str, torch.optim.Optimizer],
        loss: Callable[..., Any] | None = None,
        directory: str | Path | None = None,
        *,
        scaler: torch.amp.GradScaler | None = None,
        rules: Sequence[Rule] = (),
        interval: int = 500,
        resume: bool = False,
    ) -> None:
        arguments.refuse_options(loss, scaler, rules, interval, directory, resume)
        self._models = arguments.by_name("model", model, nn.Module)
        self._optimizers = arguments.by_name("optimizer", optimizer, torch.optim.Optimizer)
        arguments.refuse_strangers(self._models, self._optimizers)
        self._reached = 0  # steps at the last one that was looked at
        self._interval = interval
        self._scale = Scale(scaler)
        self._closed = False
        self._guarded = Guard(self._say)
        self._guarded.off = not arguments.first_rank()
        self._players = [Followed(name, each, interval) for name, each in self._optimizers.items()]
        self._followed: list[Followed] = []
        self._strays = Strays()
        self._began = False
        self._window = Window()
        self._idle: dict[str, Idle] = {}  # by player that has not stepped yet
        self._rules = (
            *rules_of(loss, lambda: self._strays, lambda: self._scale.used),
            NeverSteps(idle=lambda: self._idle),
        )
        self._options = options_of(self._models, self._optimizers, loss)
        asked = DiagnosisConfig(unit_health=UnitHealth(), rules=tuple(rules))
        self._diagnosis, self._attempt = Diagnosis(asked, "report", self._options), Attempts(self._say)
        self._frozen = Frozen(self._say)
        self._ear = LossEar(self._models, loss, len(self._players) == 1, self._guarded)
        held = {player.name: player.held for player in self._players}
        self._eyes = ModelEar(self._models, prefixes(self._models, held), self._guarded)
        folder = None if self._guarded.off else arguments.directory_of(directory, resume)
        watched = self._models, self._optimizers
        self._journal = None if folder is None else Journal(folder, resume, watched, self._attempt)
        self._handles: list[Any] = []
        self.loss, handles = listened(loss, self._guarded(self._ear.hear))
        self._handles.extend(handles)
        if not self._guarded.off:
            for player in self._players:
                self._listen(player)
                self._idle[player.name] = Idle(player.held, self._guarded, self._report_idle)
            atexit.register(self._at_exit)

    @property
    def step(self) -> int:
        """Optimizer steps so far; of several optimizers, those of the one with most."""
        return max(player.steps for player in self._players)

    @property
    def findings(self) -> list[Finding]:
        """All so far, the likeliest cause first, and below each its consequences."""
        return self._diagnosis.findings

    def log(self, loss: Tensor | float | None = None, **curves: Tensor | float) -> None:
        """Add numbers of one's own to the curves; they are averaged until the next logged point.

        Args:
            loss: becomes loss/train, or loss/logged where the loss is listened to already.
            curves: by tag; a tag with a slash is passed as `**{"accuracy/held_out": 0.9}`.

        Raises:
            RuntimeError: the watch is closed.
            TypeError, ValueError: not one number; or the curve is one that is measured.
        """
        self._require_open("log")
        own = {tag: arguments.number_of(tag, value) for tag, value in curves.items()}
        if loss is not None:
            own[LOSS if self.loss is None else "loss/logged"] = arguments.number_of("loss", loss)
        if not self._guarded.off:
            self._window.add(own)

    def objective(self, loss: Callable[..., Tensor], batch: Sequence[Tensor], model: str = "") -> None:
        """Open what needs a frozen batch: noise of single samples, curvature, units, where a NaN is born.

            watch.objective(lambda forward, x, y: cross_entropy(forward(x), y), (x, y))

        It is measured every few hundred steps, and costs some dozens of gradients each time.

        Args:
            loss: called with the model's forward and the batch; returns the mean over the samples, 0-d.
            batch: tensors [B, ...]; they are kept.
            model: name of the model, where there are several.

        Raises:
            RuntimeError: the watch is closed.
            TypeError: the loss is no function, or the batch no sequence of tensors.
            ValueError: there is no model of that name, no optimizer moves it, or a layer of it is lazy; the
                batch is empty, or its tensors differ in length; the loss, which is called once, fails,
                returns something else than one real number, or depends on no parameter of the model.
        """
        self._require_open("objective")
        objective = objective_of(self._models, model, loss, batch)
        self._look_up()
        with self._guarded.resting():
            self._frozen.add(objective, self._followed, self._models)

    def landscape(
        self, views: Sequence[str] = ("slices", "surface", "spectrum"), grid: int = 25
    ) -> list[Path]:
        """Draw the loss of the objectives around the parameters as they now are, into the directory's media.

        Args:
            views: some of slices, surface, spectrum.
            grid: points along each axis.

        Returns:
            The pictures; the report shows them.

        Raises:
            RuntimeError: the watch is closed.
            ValueError: there is no objective, no directory (any longer), or no such view; the grid is none.
        """
        self._require_open("landscape")
        arguments.refuse_views(views, grid)
        if self._journal is None or not self._frozen.pairs:
            raise ValueError("landscape() needs a directory to draw into, and a loss: call objective() first")
        self._journal.require_there()
        with self._guarded.resting():
            return draw_landscape(self._journal.directory, self._frozen.pairs, self.step, views, grid)

    def close(self, status: str = "finished") -> None:
        """Write what is left, the pictures, and the summary with the status; a second call does nothing."""
        self._end(status)

    def __enter__(self) -> "Watch":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(arguments.status_after(error, "finished"))

    def state_dict(self) -> StateDict:
        """All that is needed to go on: save it beside the model and the optimizer."""
        self._look_up()
        players = {player.name: player.state_dict() for player in self._players}
        parts = {name: part.state_dict() for name, part in self._parts().items()}
        return {"step": self.step, "players": players, "journal": None} | parts

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`, after model and optimizer have been loaded.

        Raises:
            RuntimeError: the watch is closed.
            ValueError: it is of another loop, or not what was saved, or a layer has no shape yet; one line,
                and nothing was loaded.
        """
        self._require_open("load_state_dict")
        arguments.refuse_lazy("load_state_dict", self._models.values())
        self._look_up()
        parts = self._parts()
        form = {"step": 0, "players": {player.name: player.state_form() for player in self._players}}
        form |= {name: form_of(part) for name, part in parts.items()}
        require_form(state, form, "state")
        for name, part in parts.items():
            part.load_state_dict(state[name])
        for player in self._players:
            player.load_state_dict(state["players"][player.name])
        self._reached = state["step"]

    def _parts(self) -> dict[str, Stateful]:
        """What has a state besides the players; first what looks at it once more."""
        parts = {"window": self._window, "ear": self._ear, "diagnosis": self._diagnosis}
        return parts if self._journal is None else {**parts, "journal": self._journal}

    def _listen(self, player: Followed) -> None:
        """Hook into one optimizer."""
        measure, look = self._guarded(self._before), self._guarded(self._after)

        def before(_: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if player.steps + 1 < player.busy and self._scale.scaler is None:
                return None  # nine steps of ten: the least that can be done
            return measure(player, args, kwargs)

        setattr(before, arguments.WATCHED, self)

        def after(*_: object) -> None:
            player.steps += 1
            self._ear.samples = 0
            if player.steps >= player.busy:
                look(player)

        self._handles.append(player.optimizer.register_step_pre_hook(before))
        self._handles.append(player.optimizer.register_step_post_hook(after))

    def _before(self, player: Followed, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Before a step: measure the gradient, or have it measured once the closure has made it."""
        if player.name in self._idle:
            self._idle.pop(player.name).stop()
        if due(player.steps + 1, self._interval) or player not in self._followed:
            player.wake()
        if player not in self._followed:
            self._look_up()
        if player not in self._followed:
            return None  # all that it holds is frozen
        self._scale.count(player)
        observed = observing(args, kwargs, self._guarded(lambda: self._measure(player)))
        if observed is None:
            self._measure(player)
        return observed

    @torch.no_grad()
    def _measure(self, player: Followed) -> None:
        alone = len(self._players) == 1  # of several, one cannot tell whose loss was heard
        player.before(self._ear.samples * arguments.num_ranks() or None if alone else None)

    @torch.no_grad()
    def _after(self, player: Followed) -> None:
        """After a step: measure the update, and log a point where one is due."""
        player.after()
        if due(player.steps, self._interval):
            player.look(self._guarded)
        if player.steps <= self._reached:
            return
        self._reached = player.steps
        if due(self.step, self._interval):
            self._point()
        self._ear.looking = due(self.step + 1, self._interval)
        if self._ear.looking:
            self._eyes.open()

    def _look_up(self) -> None:
        """Look up which parameters there are, and begin anew where they have changed."""
        known = named_parameters(self._models)
        changed = [player.take(known) for player in self._players]
        held = [p for player in self._players for p in player.held]
        self._strays = strays(known, held, sum(player.stale for player in self._players))
        if self._began and not any(changed):
            return
        self._began = True
        self._followed = [player for player in self._players if player.parameters]
        names = tuple(player.name for player in self._followed)
        remedies = remedies_of(names, lambda: self._scale.used or self._ear.half)
        frozen = self._frozen.for_diagnosis
        self._diagnosis.begin(UNIT, 1, self._followed, frozen, self._rules, remedies, attempt=self._attempt)
        if self._journal is not None:
            self._journal.begin(self._followed, self._options)

    def _point(self) -> None:
        """Write one point of every curve, and ask the rules."""
        self._eyes.close()
        values = self._window.drain() | self._ear.drain() | self._eyes.drain()
        for player in self._followed:
            tags = player.drain()
            if self._journal is not None:
                self._journal.add(self.step, player, tags)
            values |= tags
        values |= self._frozen.measure(self.step)
        self._look_up()
        self._ask(values)

    def _report_idle(self) -> None:
        """No optimizer steps: there will be no point at which the rules are asked."""
        if len(self._idle) == len(self._players):
            self._look_up()
            self._ask(self._ear.drain())

    def _ask(self, values: dict[str, float]) -> None:
        """Ask the rules about one point, and write it."""
        self._diagnosis.observe(self.step, values)
        changed = self._diagnosis.update(self.step)
        for line in self._diagnosis.messages(changed):
            self._say(line)
        if self._journal is not None:
            self._journal.write(self.step, values, self._diagnosis, bool(changed))

    def _end(self, status: str) -> None:
        """Take every hook away and write what is left."""
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self._at_exit)
        for handle in self._handles:
            handle.remove()
        self._guarded(self._last_point)(status)
        self._guarded.off = True
        stops = (self._eyes.close, *(part.stop for part in (*self._players, *self._idle.values())))
        for last in (*stops, lambda: self._summarise(status)):
            Guard(self._say)(last)()

    def _summarise(self, status: str) -> None:
        """Write the pictures and the summary."""
        if self._journal is not None and self._journal.close(
            self.step, UNIT, status, self._diagnosis, self._guarded.fault
        ):
            self._say(
                f"{status}: {self._journal.directory}; write its page with: gradsight-report "
                f"run={self._journal.directory}"
            )

    def _at_exit(self) -> None:
        self._end(arguments.status_after(arguments.uncaught(), "stopped"))

    def _last_point(self, status: str) -> None:
        if len(self._idle) == len(self._players):
            self._say("nothing was seen: no optimizer of this watch has stepped since it was made")
            self._look_up()
        for player in self._followed:
            self._scale.count(player)
        if self.step and not due(self.step, self._interval):
            self._point()
        elif self._journal is not None:  # what was logged since the last point
            self._journal.write(self.step, self._window.drain() | self._ear.drain(), self._diagnosis, False)
        if status == "finished":
            last = (*LAST, NeverSteps(idle=lambda: self._idle, least=2))
            for line in self._diagnosis.messages(self._diagnosis.conclude(self.step, last)):
                self._say(line)

    def _require_open(self, method: str) -> None:
        if self._closed:
            raise RuntimeError(
                f"{method}() of a Watch that is closed: make another one, with a directory of its own"
            )

    def _say(self, line: str) -> None:
        print(f"{self.step:>11,} {UNIT}   {line}", flush=True)
