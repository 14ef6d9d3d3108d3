"""Findings: a sign becomes one when it has lasted, and closes when it has been gone for as long."""

import math
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, cast

from core.form import Each, Either, Many, Maybe, Number, OneOf, Only

if TYPE_CHECKING:
    from core.state import StateDict

Severity = Literal["note", "warning", "error"]
SEVERITIES: tuple[Severity, ...] = ("note", "warning", "error")  # ascending
FILE = "findings.json"
VERSION = 1  # of the file format


@dataclass(frozen=True, kw_only=True)
class Sign:
    """What a rule sees at one logged point.

    Attributes:
        name: of the rule, such as "dead_units".
        severity: note (worth knowing), warning (one should act), error (the run cannot go on like this).
        player: name of the `GradientStep` concerned; empty where there is only one, or where all are.
        layer: the parameter tensor or module concerned, or None.
        evidence: the numbers that the sign rests on, by label.
        what: one sentence about what is the case.
        cause: one sentence about the likely reason.
        remedy: overrides, valid for this run, of the one best cure; a sentence where a loop has no options;
            empty where there is none.
        kinds: what kinds of fault it is evidence for, the likeliest first.
        explains: names of findings that it may have brought about.
        patience: points in a row at which the sign must be seen; None = the usual number.
    """

    name: str
    severity: Severity
    evidence: Mapping[str, float]
    what: str
    cause: str
    remedy: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    explains: tuple[str, ...] = ()
    player: str = ""
    layer: str | None = None
    patience: int | None = None


def require_sign(sign: object) -> Sign:
    """What a rule of somebody's own has yielded, if a finding can be made of it.

    Raises:
        ValueError: it cannot; one line.
    """
    if not isinstance(sign, Sign):
        raise ValueError(f"a rule must yield core.diagnosis.Sign, got {type(sign).__name__}")
    several = (sign.remedy, sign.kinds, sign.explains)
    texts = (sign.name, sign.player, sign.what, sign.cause, "" if sign.layer is None else sign.layer)
    if not all(isinstance(text, str) for text in texts) or not sign.name or "|" in sign.name:
        raise ValueError("name, player, layer, what and cause of a Sign must be text, its name without |")
    if not all(isinstance(each, tuple) and all(isinstance(t, str) for t in each) for each in several):
        raise ValueError(f"remedy, kinds and explains of {sign.name} must be tuples of text")
    if sign.patience is not None and not (isinstance(sign.patience, int) and sign.patience >= 1):
        raise ValueError(f"patience of {sign.name} must be an integer >= 1 or None, got {sign.patience!r}")
    if sign.severity not in SEVERITIES:
        raise ValueError(
            f"severity of {sign.name} must be one of {', '.join(SEVERITIES)}, got {sign.severity}"
        )
    for label, value in sign.evidence.items():
        if not isinstance(label, str) or not isinstance(value, int | float):
            raise ValueError(f"evidence of {sign.name} must be numbers by label, got {type(value).__name__}")
    return sign


def known(**evidence: float | None) -> dict[str, float]:
    """The evidence of a sign without what was not measured."""
    return {label: value for label, value in evidence.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A sign that has lasted.

    Fields as in `Sign`: the latest evidence, texts and remedy, the worst severity, the first layer.

    Attributes:
        first_step: x-axis value at which it was first seen.
        last_step: x-axis value at which it was last seen.
        active: whether it still holds.
        consequence_of: name of the finding that explains it; empty where none does.
        rolled_back: the run has returned from it, and what it was seen in is no part of the run any more.
    """

    name: str
    severity: Severity
    player: str
    layer: str | None
    first_step: int
    last_step: int
    active: bool
    evidence: dict[str, float]
    what: str
    cause: str
    remedy: tuple[str, ...]
    kinds: tuple[str, ...] = ()
    explains: tuple[str, ...] = ()
    consequence_of: str = ""
    rolled_back: bool = False

    @property
    def where(self) -> str:
        """Player and layer, as far as they are known."""
        return ", ".join(part for part in (self.player, self.layer) if part)

    def line(self) -> str:
        """The finding in one line, with the overrides to paste."""
        where = f" ({self.where})" if self.where else ""
        sentences = any(map(is_sentence, self.remedy))
        tried = "; ".join(self.remedy) if sentences else shlex.join(self.remedy)
        remedy = f"; try{':' * sentences} {tried}" if self.remedy else ""
        because = f" (a consequence of {self.consequence_of})" if self.consequence_of else ""
        return f"{self.severity}: {self.name}{where}: {self.what.rstrip('.')}{because}{remedy}"

    def as_json(self) -> dict[str, object]:
        """Plain containers; a number that is not finite becomes null."""
        evidence = {k: v if math.isfinite(v) else None for k, v in self.evidence.items()}
        return asdict(self) | {
            "evidence": evidence,
            "remedy": list(self.remedy),
            "kinds": list(self.kinds),
            "explains": list(self.explains),
        }

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> "Finding":
        """The inverse of `as_json`: null in the evidence becomes NaN, and an optional field may be missing.

        Raises:
            KeyError: there is no name, severity or first step.
            TypeError, ValueError: a value is of another kind.
        """
        severity, first = entry["severity"], int(entry["first_step"])
        if severity not in SEVERITIES:
            raise ValueError(f"severity {severity}")
        evidence = dict(entry.get("evidence") or {})
        return cls(
            name=str(entry["name"]),
            severity=cast(Severity, severity),
            player=str(entry.get("player") or ""),
            layer=str(entry["layer"]) if entry.get("layer") else None,
            first_step=first,
            last_step=max(first, int(entry.get("last_step", first))),
            active=bool(entry.get("active", False)),
            evidence={label: math.nan if v is None else float(v) for label, v in evidence.items()},
            what=str(entry.get("what", "")),
            cause=str(entry.get("cause", "")),
            remedy=tuple(str(override) for override in entry.get("remedy") or ()),
            kinds=tuple(str(kind) for kind in entry.get("kinds") or ()),
            explains=tuple(str(name) for name in entry.get("explains") or ()),
            consequence_of=str(entry.get("consequence_of") or ""),
            rolled_back=bool(entry.get("rolled_back", False)),
        )


def is_sentence(remedy: str) -> bool:
    """Whether a part of a remedy is a sentence and no override: an option's name has no spaces."""
    return " " in remedy.partition("=")[0]


def markdown(findings: Iterable[Finding], unit: str) -> str:
    """A table of findings; the names of those that still hold in bold."""
    rows = [
        (
            f"**{f.name}**" if f.active else f.name + " (rolled back)" * f.rolled_back,
            f.severity,
            f.where or "–",
            f"{f.first_step:,} to {f.last_step:,}",
            f"{_because(f)}{f.what} {f.cause}".replace("|", "\\|"),
            " ".join(text if is_sentence(text) else f"`{text}`" for text in f.remedy) or "–",
        )
        for f in findings
    ]
    if not rows:
        return "No findings."
    head = ("finding", "severity", "where", unit, "what", "try"), ("---",) * 6
    return "\n".join(f"| {' | '.join(row)} |" for row in (*head, *rows))


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """Causes first, the worst of them on top, and below each its consequences, which name it.

    What the run has returned from comes last: it explains nothing that is left.

    A finding is the consequence of one that explains it, of the same player or of the whole run, unless that
    one is a note, or itself explained by the first. What cures the cause cures it: its remedy is the cause's.
    """
    found = list(findings)
    worst = sorted(found, key=lambda f: (f.rolled_back, -rank(f.severity), not f.active, f.first_step))
    causes = {id(f): next((c for c in worst if _brings(c, f)), None) for f in found}
    roots = [f for f in worst if causes[id(f)] is None]
    placed: list[Finding] = []
    for root in roots:
        placed.append(replace(root, consequence_of=""))
        placed += [
            replace(f, consequence_of=root.name, remedy=root.remedy)
            for f in worst
            if causes[id(f)] is not None and _root(f, causes) is root
        ]
    return placed


def _brings(cause: Finding, effect: Finding) -> bool:
    together = cause.player == effect.player or not cause.player or not effect.player
    mutual = cause.name in effect.explains
    present = not cause.rolled_back and not effect.rolled_back and cause.severity != "note"
    return together and effect.name in cause.explains and not mutual and present


def _root(finding: Finding, causes: Mapping[int, Finding | None]) -> Finding:
    """The finding at the beginning of a chain of explanations; a circle ends where it would begin anew."""
    seen: set[int] = set()
    while (cause := causes[id(finding)]) is not None and id(finding) not in seen:
        seen.add(id(finding))
        finding = cause
    return finding


def _because(finding: Finding) -> str:
    return f"A consequence of {finding.consequence_of}: " if finding.consequence_of else ""


@dataclass
class _Life:
    """What is known of one finding of one player."""

    streak: int = 0  # points in a row at which it was seen
    quiet: int = 0  # points in a row at which it was not
    began: int = 0  # step at which the streak began
    finding: Finding | None = None


class Ledger:
    """Opens and closes findings; there is at most one of each name and player.

    Args:
        patience: logged points in a row at which a sign must be seen before it becomes a finding, and be
            absent before the finding closes; >= 1.
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self._lives: dict[tuple[str, str], _Life] = {}

    @property
    def findings(self) -> list[Finding]:
        """All so far, in the order in which they began."""
        found = [life.finding for life in self._lives.values() if life.finding is not None]
        return sorted(found, key=lambda f: (f.first_step, f.name, f.player))

    def update(self, step: int, signs: Iterable[Sign]) -> list[Finding]:
        """Take in what the rules see at one point; returns what has opened or closed."""
        seen: dict[tuple[str, str], Sign] = {}
        for sign in signs:
            key = sign.name, sign.player
            if key not in seen or rank(sign.severity) > rank(seen[key].severity):
                seen[key] = sign
        changed = [self._seen(key, step, sign) for key, sign in seen.items()]
        changed += [self._missed(life) for key, life in self._lives.items() if key not in seen]
        return [finding for finding in changed if finding is not None]

    def _seen(self, key: tuple[str, str], step: int, sign: Sign) -> Finding | None:
        life = self._lives.setdefault(key, _Life())
        life.began = life.began if life.streak else step
        life.streak += 1
        life.quiet = 0
        before = None if life.finding is not None and life.finding.rolled_back else life.finding
        patience = self.patience if sign.patience is None else sign.patience
        if (before is None or not before.active) and life.streak < patience:
            return None
        first = before.first_step if before else life.began
        severity = max(sign.severity, before.severity, key=rank) if before else sign.severity
        layer = before.layer if before and before.active else sign.layer
        known = {name: value for name, value in vars(sign).items() if name != "patience"}
        known |= {"severity": severity, "layer": layer, "evidence": dict(sign.evidence)}
        life.finding = Finding(first_step=first, last_step=step, active=True, **known)
        worse = before is not None and rank(severity) > rank(before.severity)
        return life.finding if before is None or not before.active or worse else None

    def _missed(self, life: _Life) -> Finding | None:
        life.streak = 0
        life.quiet += 1
        if life.finding is None or not life.finding.active or life.quiet < self.patience:
            return None
        life.finding = replace(life.finding, active=False)
        return life.finding

    def conclude(self, step: int, signs: Iterable[Sign]) -> list[Finding]:
        """Take in what is seen once, at the end; what has opened."""
        changed = [self._seen((s.name, s.player), step, replace(s, patience=1)) for s in signs]
        return [finding for finding in changed if finding is not None]

    def as_json(self, step: int) -> dict[str, object]:
        """The content of findings.json, causes before their consequences."""
        return {"version": VERSION, "step": step, "findings": [f.as_json() for f in ordered(self.findings)]}

    def state_dict(self) -> "StateDict":
        """Every finding, and how far each sign is from becoming one."""
        return {"|".join(key): asdict(life) for key, life in self._lives.items()}

    def state_form(self) -> Each:
        """Findings of any names."""
        texts = dict.fromkeys(("name", "player", "what", "cause"), "")
        finding = texts | {
            "severity": OneOf(SEVERITIES), "layer": Maybe(""), "first_step": 0, "last_step": 0,
            "active": True, "evidence": Each(Either((Number(finite=False), True))), "remedy": Many(""),
            "kinds": Maybe(Many(""), absent=True), "explains": Maybe(Many(""), absent=True),
            "consequence_of": Maybe("", absent=True), "rolled_back": Maybe(True, absent=True),
        }  # fmt: skip
        return Each(Only({"streak": 0, "quiet": 0, "began": 0, "finding": Maybe(Only(finding))}))

    def load_state_dict(self, state: "StateDict") -> None:
        """Continue."""
        self._lives = {}
        for key, saved in state.items():
            name, _, player = key.partition("|")
            finding = saved["finding"]
            if finding is not None:
                finding = Finding(
                    **finding
                    | {name: tuple(finding.get(name, ())) for name in ("remedy", "kinds", "explains")}
                )
            self._lives[name, player] = _Life(**saved | {"finding": finding})


def returned(ledger: "StateDict", finding: Finding) -> "StateDict":
    """The state of a ledger of before, with a finding that the run has returned from since."""
    over = replace(finding, active=False, rolled_back=True)
    return {**ledger, f"{finding.name}|{finding.player}": asdict(_Life(finding=over))}


def rank(severity: Severity) -> int:
    """0 for the mildest."""
    return SEVERITIES.index(severity)
