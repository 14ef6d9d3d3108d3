"""A run directory, read into one frozen record. Nothing here knows of HTML."""

import json
import math
import re
import time
from dataclasses import dataclass
from pathlib import Path

from core.cli.saved import saved_options, saved_overrides
from core.config import ConfigError, Tree, flat
from core.report.findings import Finding, read_findings
from core.run.directory import in_use, read_summary
from core.run.tensorboard import read_scalars

Curve = dict[int, float]

# By package: what the run is called, the option with the length of the run, the unit of the x-axis.
KINDS = {
    "gradrl": ("Reinforcement learning", "total_steps", "environment steps"),
    "gradgan": ("GAN", "total_images", "real images shown"),
    "core": ("Descent", "steps", "steps"),
}


@dataclass(frozen=True, kw_only=True)
class Record:
    """What a run directory holds.

    Attributes:
        directory: the run directory.
        package: "gradrl", "gradgan", "core" for a descent, or the package of whatever else made the run.
        status: finished, stopped, failed, running, or unfinished (killed: it wrote no summary).
        options: the resolved configuration.
        words: what was typed on the command line.
        summary: `summary.json`; empty while there is none.
        curves: {tag: {step: value}}, steps ascending.
        media: picture and film files, by name; those of the landscape begin with `landscape/`.
        findings: what the diagnosis found, worst first; None where none was made.
        landscape: what `landscape.json` says of each picture, by its name and the fact's; "" is of all.
        started: date and time of the first event file, local; empty without one.
    """

    directory: Path
    package: str
    status: str
    options: Tree
    words: tuple[str, ...]
    summary: dict[str, object]
    curves: dict[str, Curve]
    media: dict[str, Path]
    findings: tuple[Finding, ...] | None
    landscape: dict[str, dict[str, object]]
    started: str

    @property
    def kind(self) -> str:
        """The kind of run in words."""
        return KINDS.get(self.package, ("Run", "", ""))[0]

    @property
    def unit(self) -> str:
        """What the x-axis counts."""
        return KINDS.get(self.package, ("", "", "steps"))[2]

    @property
    def step(self) -> int:
        """How far the run has come, on the x-axis."""
        logged = max((max(curve) for curve in self.curves.values() if curve), default=0)
        told = self.summary.get("env_steps", self.summary.get("images"))
        return max(logged, told) if isinstance(told, int) else logged

    @property
    def total(self) -> int | None:
        """How far it was to go, on the x-axis."""
        total = self.options.get(KINDS.get(self.package, ("", "", ""))[1])
        return total if isinstance(total, int) else None

    @property
    def players(self) -> tuple[str, ...]:
        """Names of the gradient steps, generator first; ("",) for a run with one."""
        norm = "gradient/norm"  # policy_gradient/norm is something else
        found = {tag.removesuffix(norm) for tag in self.curves if f"/{tag}".endswith(f"/{norm}")}
        return tuple(sorted((p.rstrip("/") for p in found), reverse=True))

    def last(self, tag: str) -> tuple[float, int] | None:
        """The last finite value of a curve and its step; None without one."""
        finite = [(v, s) for s, v in self.curves.get(tag, {}).items() if math.isfinite(v)]
        return finite[-1] if finite else None

    def layers(self, player: str) -> list[tuple[str, float | None, float | None]]:
        """Layers in the order of the network with their last gradient norm and update ratio."""
        start = f"{player}/layer/" if player else "layer/"
        names = [
            tag.removeprefix(start).removesuffix("/gradient_norm")
            for tag in self.curves
            if tag.startswith(start) and tag.endswith("/gradient_norm")
        ]
        rows = []
        for name in sorted(names, key=_natural):
            norm, ratio = (self.last(f"{start}{name}/{what}") for what in ("gradient_norm", "update_ratio"))
            rows.append((name, norm and norm[0], ratio and ratio[0]))
        return rows


def read_run(directory: Path, option: str = "run") -> Record:
    """Read everything a report needs.

    Args:
        directory: the run directory.
        option: that named it, for the message.

    Raises:
        ConfigError: there is no such directory, no run in it, or its files are damaged.
    """
    if not directory.is_dir():
        raise ConfigError(f"{option}={directory}: there is no such directory")
    options = saved_options(directory)
    summary = read_summary(directory)
    status = "unfinished" if summary is None else str(summary.get("status", "finished"))
    if in_use(directory):
        # The summary, if there is one, is of an earlier end of a run that has been resumed.
        status, summary = "running", None
    return Record(
        directory=directory,
        package=str(options["_target_"]).split(".")[0],
        status=status,
        options=options,
        words=saved_overrides(directory),
        summary=summary or {},
        curves=read_scalars(directory),
        media=read_media(directory),
        findings=read_findings(directory),
        landscape=_read_landscape(directory),
        started=_started(directory),
    )


def read_media(directory: Path) -> dict[str, Path]:
    """Pictures and films of a directory, by name."""
    found = {p.stem: p for p in sorted(directory.glob("media/*"))}
    found |= {f"landscape/{p.stem}": p for p in sorted(directory.glob("media/landscape/*"))}
    return {name: path for name, path in found.items() if path.suffix in (".png", ".gif")}


def _read_landscape(directory: Path) -> dict[str, dict[str, object]]:
    """Numbers and words about the landscape; lists are left out, they are in the pictures."""
    path = directory / "landscape.json"
    if not path.exists():
        return {}
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is damaged: {error}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} is damaged: it holds no facts")
    tree = {"": {name: v for name, v in tree.items() if not isinstance(v, dict)}} | tree
    facts = {tag: flat(part) for tag, part in tree.items() if isinstance(part, dict)}
    return {tag: {n: v for n, v in part.items() if not isinstance(v, list)} for tag, part in facts.items()}


def _started(directory: Path) -> str:
    stamps = [p.name.split(".")[3] for p in directory.glob("events.out.tfevents.*")]
    times = [int(stamp) for stamp in stamps if stamp.isdigit()]
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(min(times))) if times else ""


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort key in which layer 10 comes after layer 9, and a weight before its bias."""
    parts = re.split(r"(\d+)", name.replace(".bias", ".~bias"))
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]
