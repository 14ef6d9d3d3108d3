"""The diagnosis of a run while it trains: every logged point goes through the rules.

What they find is one line in the console when it appears and one when it goes, a table in TensorBoard, and
findings.json in the run directory. The training stays as it is, unless a finding is to stop it.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge

from core import own_module
from core.checks import checked
from core.config import Tree, flat
from core.diagnosis import (
    RULES,
    Context,
    Finding,
    History,
    Layer,
    Ledger,
    Overrides,
    Player,
    Remedies,
    Rule,
    Sign,
    diagnose,
    remedies,
)
from core.diagnosis.findings import FILE, markdown, ordered, require_sign
from core.diagnosis.gradients import grew
from core.diagnosis.signals import LOST
from core.form import Maybe, Number, Only
from core.gradients.localise import localise
from core.gradients.measured import Measured
from core.gradients.norms import global_norm
from core.gradients.unit_health import UnitHealth
from core.run.attempts import Attempts
from core.run.files import write_text
from core.run.probes import Probes
from core.state import StateDict

OnFinding = Literal["report", "stop", "rollback"]
EXPLODED = "exploding_gradient"
TENTH = 0.1  # of a rate, with which a run that returns goes on


@dataclass(frozen=True, kw_only=True)
@checked
class DiagnosisConfig:
    """How closely a run is looked at.

    Attributes:
        patience: logged points in a row at which something must be seen before it is a finding, and not be
            seen before the finding closes.
        unit_health: what is measured for the rules besides what is logged anyway.
        rules: the user's own, asked beside those of the trainer; one that fails is left out, said once.
    """

    patience: Annotated[int, Ge(1)] = 3
    rules: tuple[Rule, ...] = ()
    unit_health: UnitHealth


class Stopping(Exception):  # noqa: N818  (an order, not an error)
    """A finding ends the run, as `on_finding=stop` asks for; the message has the remedy."""


class Diagnosis:
    """Looks at everything that a run logs.

    Args:
        cfg: how closely; None = not at all.
        on_finding: whether a finding that is more than a note ends the run, or one that is grave.
        options: the resolved configuration.
        defaults: as in `Context`; asked once, when a remedy first needs it.

    Attributes:
        enabled: whether there is one.
        sound: whether nothing grave is open, and none was seen at the last logged point: no error, no
            exploding gradient, none of what the trainer's remedies call ruinous.
    """

    def __init__(
        self,
        cfg: DiagnosisConfig | None,
        on_finding: OnFinding,
        options: Tree,
        defaults: Callable[[], Mapping[str, object]] = dict,
    ) -> None:
        self.enabled, self.sound = cfg is not None, True
        self.on_finding = on_finding
        self._context = Context(options=flat(options, empty=True), defaults=cache(defaults))
        self._rules: Sequence[Rule] = ()
        self._own: tuple[Rule, ...] = () if cfg is None else cfg.rules
        self._history = History()
        self._ledger = Ledger(cfg.patience if cfg is not None else 1)
        self._steps: Sequence[Measured] = ()
        self._probes: Probes | None = None

    def begin(
        self,
        unit: str,
        total: int,
        steps: Sequence[Measured],
        probes: Probes | None,
        rules: Sequence[Rule] = RULES,
        remedies: Remedies | None = None,
        limits: Mapping[str, float] | None = None,
        attempt: Attempts | None = None,
    ) -> None:
        """Take in what the run is made of, as `Run.start` does; the probes hold the objectives to look at.

        `attempt` is told what rules of the user's own raise, and goes on.
        """
        guarded = partial(_guarded, attempt or Attempts(print))
        self._rules = [*rules, *(guarded(f"diagnosis.rules.{i}", rule) for i, rule in enumerate(self._own))]
        self._steps, self._probes = steps, probes
        players = tuple(
            Player(
                name=step.name,
                layers=tuple(
                    Layer(name, p.numel(), p.dim())
                    for name, p in zip(step.names, step.parameters, strict=True)
                ),
                lr=float(step.base_lrs[0]),
                optimizer=type(step.optimizer).__name__,
                initial_norm=global_norm(step.parameters).item(),
                frozen=tuple(step.frozen),
            )
            for step in steps
        )
        self._context = replace(
            self._context,
            players=players,
            unit=unit,
            total=total,
            limits=dict(limits or {}),
            remedies=remedies or Remedies(),
        )

    def observe(self, step: int, values: Mapping[str, float]) -> None:
        """Take in values; the rules are asked at the next logged point."""
        if self.enabled:
            self._history.add(step, values)

    def update(self, step: int, *, lost: bool = False) -> list[Finding]:
        """Ask the rules about a logged point that has been observed; what has opened or closed.

        `lost` says that the last checkpoint is not finite.
        """
        if not self.enabled:
            return []
        self._history.add(step, self._rates() | ({LOST: 1.0} if lost else {}))
        self._locate()
        signs = diagnose(self._rules, self._history, self._present())
        changed = self._ledger.update(step, signs)
        still = (finding for finding in self._ledger.findings if finding.active)
        self.sound = not any(map(self._is_grave, (*signs, *still)))
        return changed

    def conclude(self, step: int, rules: Sequence[Rule]) -> list[Finding]:
        """Ask rules that only the end can answer; what has opened."""
        if not self.enabled:
            return []
        return self._ledger.conclude(step, diagnose(rules, self._history, self._present()))

    @property
    def findings(self) -> list[Finding]:
        """All so far, causes before their consequences."""
        return ordered(self._ledger.findings)

    def ends(self, changed: Sequence[Finding]) -> Finding | None:
        """The new finding that ends the run, or sends it back; None = it goes on."""
        if self.on_finding == "stop":
            return next((f for f in changed if f.active and f.severity != "note"), None)
        new = {(f.name, f.player) for f in changed if f.active and self._is_grave(f)}
        back = self.on_finding == "rollback"
        return next((f for f in self.findings if back and (f.name, f.player) in new), None)

    def changes(
        self, finding: Finding, tried: int = 0, *, since: int | None = None, redraws: bool = True
    ) -> list[Overrides]:
        """What a run that returns from a finding may change, the best first.

        Rates that a schedule has raised by more than ten times since the checkpoint, as far as they were
        there: whatever the finding, that has led to it. Else nothing, where a number that is not finite came
        out of nothing: other samples are drawn. Then the remedy, where it consists of numbers that may change
        in the middle of a run; else a lower rate of the player. In the end lower rates of all. Bad data are
        cured by no number, so nothing is changed ever; neither is a loss of the wrong sign.

        Args:
            finding: the reason.
            tried: how often the run has returned from it, or to the same checkpoint, before.
            since: step of the checkpoint; None = it has returned there with a lower rate before.
            redraws: whether a run that returns draws anything: else, with nothing changed, it is the same.
        """
        context = self._present()
        options = [text.partition("=")[0] for text in finding.remedy]
        live = ("clipper", *context.remedies.live)
        numbers = all(o.startswith(live) or remedies.rated(context, o) for o in options) and bool(options)
        given = [finding.remedy] if numbers else []
        if "data" in finding.kinds:
            return [()] * redraws
        if "loss" in finding.kinds and finding.name != "non_finite":
            return given[tried:]
        all_slower = self._slower(context, context.players, since)
        if any(self._part(p, since) < TENTH for p in context.players):
            return [all_slower]
        own = [p for p in context.players if p.name == finding.player] or context.players
        sudden = finding.name == "non_finite" and not any(grew(self._history, context, p) for p in own)
        ladder = [*([()] * (sudden and redraws)), *(given or [self._slower(context, own, since)])]
        return [*ladder[tried:], all_slower]

    def _slower(self, context: Context, players: Iterable[Player], since: int | None) -> Overrides:
        """Lower rates of some players."""
        found = (text for p in players for text in remedies.slower(context, p, self._part(p, since)))
        return tuple(dict.fromkeys(found))

    def rates_in(self, changed: Sequence[str]) -> bool:
        """Whether some overrides set the rate of a player."""
        return any(remedies.rated(self._context, text.partition("=")[0]) for text in changed)

    def rates(self, changed: Overrides) -> dict[str, list[float]]:
        """The learning rates of every gradient step, by its name, once some overrides hold."""
        context, factors = self._present(), dict.fromkeys((step.name for step in self._steps), 1.0)
        for option, _, value in (text.partition("=") for text in changed):
            for player in remedies.rated(context, option):
                factors[player.name] = float(value) / player.lr
        return {step.name: [lr * factors[step.name] for lr in step.base_lrs] for step in self._steps}

    def _part(self, player: Player, since: int | None) -> float:
        """A tenth of a rate; where its schedule has raised it by more, as much as it was at the checkpoint.

        What a schedule takes at first and gives back later is not raised by that.
        """
        points = self._history.points(f"{player.prefix}gradient/lr_scale")
        if since is None or not points:
            return TENTH
        before = [scale for step, scale in points if step <= since] or [1.0]
        return min(TENTH, max(before[-1], 1.0) / max(points[-1][1], 1.0))

    def _is_grave(self, seen: Sign | Finding) -> bool:
        return seen.severity == "error" or seen.name in (EXPLODED, *self._context.remedies.ruinous)

    def messages(self, changed: Sequence[Finding]) -> list[str]:
        """Lines for the console: what has appeared, with its remedy, and what is resolved."""
        now = {(f.name, f.player): f for f in self.findings}  # with what each is a consequence of
        gone = [f"resolved: {f.name}" + f" ({f.where})" * bool(f.where) for f in changed]
        return [
            now[f.name, f.player].line() if f.active else resolved
            for f, resolved in zip(changed, gone, strict=True)
        ]

    def table(self) -> str:
        """All findings as Markdown."""
        return markdown(self.findings, self._context.unit)

    def summary(self) -> dict[str, object]:
        """What the run's summary says: name and severity of every finding that it has not returned from."""
        found = [{"name": f.name, "severity": f.severity} for f in self.findings if not f.rolled_back]
        return {"findings": found} if self.enabled else {}

    def write(self, directory: Path, step: int) -> None:
        """Write findings.json."""
        if self.enabled:
            text = json.dumps(self._ledger.as_json(step), indent=2, allow_nan=False)
            write_text(directory / FILE, text + "\n")

    def state_dict(self) -> StateDict:
        """History, findings, and what is known of the players since the first steps."""
        known = {p.name: {"initial_norm": p.initial_norm, "batch": p.batch} for p in self._context.players}
        return {
            "history": self._history.state_dict(),
            "ledger": self._ledger.state_dict(),
            "players": known,
        }

    def state_form(self) -> StateDict:
        """What `state_dict` must look like."""
        known = Only({"initial_norm": Number(0), "batch": Maybe(Number(1, whole=True), absent=True)})
        return {
            "history": self._history.state_form(),
            "ledger": self._ledger.state_form(),
            "players": {player.name: known for player in self._context.players},
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Continue."""
        self._history.load_state_dict(state["history"])
        self._ledger.load_state_dict(state["ledger"])
        players = tuple(replace(p, **state["players"][p.name]) for p in self._context.players)
        self._context = replace(self._context, players=players)

    def _rates(self) -> dict[str, float]:
        """What a schedule has left of each player's learning rate; a signal for the rules alone."""
        return {
            f"{step.monitor.prefix}gradient/lr_scale": float(step.optimizer.param_groups[0]["lr"])
            / step.base_lrs[0]
            for step in self._steps
            if step.base_lrs[0]
        }

    def _present(self) -> Context:
        """The context with the steps' rates, which a checkpoint may have brought, and their first batches.

        A batch is known only once a gradient was taken.
        """
        players = tuple(
            replace(
                player,
                lr=float(step.base_lrs[0]),
                batch=player.batch or step.batch,
            )
            for player, step in zip(self._context.players, self._steps, strict=True)
        )
        self._context = replace(self._context, players=players)
        return self._context

    def _locate(self) -> None:
        """Where a number first was not finite, once a player; by the gradients where no batch shows it."""
        for step in self._steps:
            shares = self._history.points(f"{step.monitor.prefix}gradient/skipped")[-2:]
            how, _ = self._history.located.get(step.name, ("", ""))
            if not shares or shares[-1] != (self._history.step, shares[-1][1]) or not shares[-1][1]:
                continue
            if how not in ("", "first") or self._probes is None:
                continue
            places = [
                place
                for objective, owner in self._probes.objectives()
                if owner is step and (place := localise(objective)) is not None
            ]
            if places:
                self._history.located[step.name] = (places[-1].how, places[-1].name)
            elif not how or (len(shares) == 2 and not shares[0][1]):
                self._history.located[step.name] = ("first", self._first_lost(step))

    def _first_lost(self, step: Measured) -> str:
        """The layer nearest to the loss among those lost at every step of a window, and so at the first.

        Empty where these are all layers, or unknown.
        """
        shares = self._history.layers(step.monitor.prefix, "nonfinite")
        lost = [name for name in step.names if shares.get(name, 0.0) == max(shares.values(), default=1.0)]
        return "" if not lost or len(lost) == len(step.names) else lost[-1]


def _guarded(attempt: Attempts, option: str, rule: Rule) -> Rule:
    """A rule that sees nothing where it fails."""
    named = f"{type(rule).__module__}.{type(rule).__qualname__}"

    def signs(history: History, context: Context) -> dict[str, Sign]:
        found = own_module.attempt(named, lambda: [*rule(history, context)])
        return {str(i): require_sign(sign) for i, sign in enumerate(found)}

    def guarded(history: History, context: Context) -> Iterator[Sign]:
        return iter(attempt(option, lambda: signs(history, context)).values())

    return guarded


def unit_health_of(cfg: DiagnosisConfig | None) -> UnitHealth | None:
    """The probe that a diagnosis needs."""
    return None if cfg is None else cfg.unit_health
