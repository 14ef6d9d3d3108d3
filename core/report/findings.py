"""What the diagnosis found in a run, read from its `findings.json`."""

import json
from dataclasses import dataclass
from pathlib import Path

from core.config import ConfigError

SEVERITIES = ("error", "warning", "note")  # worst first

MEASURED = ("gradient", "layer", "noise", "curvature", "policy_gradient")  # what a player's name can precede


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong, or worth a look.

    Attributes:
        name: snake_case.
        severity: one of `SEVERITIES`.
        player: name of the gradient step; empty for a run with one.
        layer: parameter tensor; None where it is about all of them.
        first_step: where it began, on the run's x-axis.
        last_step: where it was last seen.
        active: it was still there at the last look.
        evidence: {tag, end of a tag, or description: number}.
        what: what was seen, one sentence.
        cause: what is likely behind it, one sentence.
        remedy: words to add to the command.
    """

    name: str
    severity: str
    player: str
    layer: str | None
    first_step: int
    last_step: int
    active: bool
    evidence: dict[str, object]
    what: str
    cause: str
    remedy: tuple[str, ...]

    @property
    def title(self) -> str:
        """The name in words."""
        return self.name.replace("_", " ").capitalize().replace(" kl", " KL")

    def concerns(self, tag: str) -> bool:
        """Whether a curve shows what this is about: it is evidence, or the norm that the layer is in."""
        player, rest = _player(tag)
        if player and self.player and player != self.player:
            return False
        if rest.startswith("layer/") and not rest.startswith(f"layer/{self.layer}/"):
            return False
        if self.layer and rest in ("gradient/norm", f"layer/{self.layer}/gradient_norm"):
            return True
        return any(f"/{tag}".endswith(f"/{name}") for name in self.evidence)


def read_findings(directory: Path) -> tuple[Finding, ...] | None:
    """All findings, worst first; None where no diagnosis was made.

    Raises:
        ConfigError: the file is damaged.
    """
    path = directory / "findings.json"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is damaged: {error}") from error
    if not text.strip():  # made, and not yet written
        return None
    try:
        found = [_finding(entry) for entry in json.loads(text)["findings"]]
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path} is damaged: {error}") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path} is damaged: it holds no findings ({_said(error)})") from error
    return tuple(sorted(found, key=lambda f: (SEVERITIES.index(f.severity), not f.active, f.first_step)))


def _finding(entry: dict) -> Finding:
    severity = str(entry["severity"])
    if severity not in SEVERITIES:
        raise ValueError(f"severity {severity}")
    first = int(entry["first_step"])
    return Finding(
        name=str(entry["name"]),
        severity=severity,
        player=str(entry.get("player") or ""),
        layer=str(entry["layer"]) if entry.get("layer") else None,
        first_step=first,
        last_step=max(first, int(entry.get("last_step", first))),
        active=bool(entry.get("active", False)),
        evidence=dict(entry.get("evidence") or {}),
        what=str(entry.get("what", "")),
        cause=str(entry.get("cause", "")),
        remedy=tuple(str(word) for word in entry.get("remedy") or ()),
    )


def _player(tag: str) -> tuple[str, str]:
    """The player that a tag begins with, empty without one, and the rest of the tag."""
    first, _, rest = tag.partition("/")
    of_player = rest.split("/")[0] in MEASURED and first not in MEASURED
    return (first, rest) if of_player else ("", tag)


def _said(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)
