"""What a run was and what it reached, in plain words: the few numbers a reader wants first."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from core.config import Tree
from core.report.numbers import number, percent, seconds
from core.report.read import Record

STATUS = {
    "finished": "finished",
    "stopped": "stopped before its end",
    "failed": "failed",
    "running": "not finished, still running",
    "unfinished": "not finished",
}
# Of a descent that learns from data.
OF_DATA = ("accuracy", "held_out_value", "held_out_accuracy", "noise_scale", "samples")
SPEEDS = {
    "updates": "gradient steps",
    "env_steps_per_s": "environment steps a second",
    "images_per_s": "images a second",
    "evaluations": "gradients asked for",
    "wall_s": "seconds in all",
}
UNLISTED = ("_target_", "logging", "monitor", "evaluation", "resume")  # of the main options


@dataclass(frozen=True)
class Fact:
    """One big number, what it is, and what to compare it with."""

    value: str
    label: str
    note: str = ""
    amount: float | None = None  # the number itself, for a difference


def title(record: Record) -> str:
    """One line: what ran on what."""
    options = record.options
    if record.package == "gradrl":
        return f"{_name(options.get('agent'))} on {subject(record)}"
    if record.package == "gradgan":
        return f"GAN on {record.summary.get('data') or _name(options.get('data')).lower()}"
    if record.package == "core":
        return f"{_name(options.get('optimizer'))} on {subject(record)}"
    return record.directory.name


def reached(record: Record) -> list[Fact]:
    """The numbers to begin with, best known first; from `summary.json`, else from the curves so far."""
    facts = {"gradrl": _agent_reached, "gradgan": _generator_reached, "core": _descent_reached}.get(
        record.package
    )
    return [*(facts(record) if facts else ()), _effort(record)]


def speed(record: Record) -> Iterator[Fact]:
    """How fast it was, number by number."""
    for key, label in SPEEDS.items():
        value = record.summary.get(key)
        if isinstance(value, int | float):
            shown = f"{value:,.0f}"
            yield Fact(shown, label, "", float(value))


def class_counts(record: Record) -> list[int]:
    """How many generated images fell into each class; empty when that was not measured."""
    counts = record.summary.get("class_counts")
    return [int(c) for c in counts] if isinstance(counts, list) else []


def subject(record: Record) -> str:
    """What it was trained on: the environment, the data or the function."""
    options = record.options
    if record.package == "gradrl":
        return str(_entry(options, "env", "id"))
    if record.package == "gradgan":
        return str(record.summary.get("data") or _name(options.get("data")))
    return _name(options.get("function") or options.get("objective"))


def in_plane(record: Record) -> bool:
    """Whether a generator draws points in the plane, not images."""
    return record.package == "gradgan" and _num_modes(record.options) is not None


def chosen(record: Record) -> list[tuple[str, str]]:
    """The main options; a component is its class, with its options where they are few."""
    rows = [(k.replace("_", " "), component(v)) for k, v in record.options.items() if k not in UNLISTED]
    return [(name, value) for name, value in rows if value]


def component(value: object) -> str:
    """An option's value in words; an empty string for what is left out."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, dict):
        return (
            f"{value:,}"
            if isinstance(value, int)
            else f"{value:g}"
            if isinstance(value, float)
            else str(value)
        )
    if "id" in value:
        return str(value["id"])
    options = [(k, v) for k, v in value.items() if k != "_target_" and v is not None and v != {}]
    if len(options) > 3 and "_target_" in value:
        options = [(k, v) for k, v in options if k in ("lr", "hidden_sizes")]
    described = ", ".join(f"{k.replace('_', ' ')} {component(v)}" for k, v in options)
    return ": ".join(part for part in (_name(value) if "_target_" in value else "", described) if part)


def made_with(record: Record) -> list[tuple[str, str]]:
    """Versions and the commit, as the summary has them."""
    found = record.summary.get("versions")
    rows = [(str(k), str(v)) for k, v in found.items()] if isinstance(found, dict) else []
    git = record.summary.get("git")
    if isinstance(git, dict):
        changed = ", with uncommitted changes" if git.get("dirty") else ""
        rows.append(("git commit", f"{str(git.get('commit'))[:12]}{changed}"))
    return rows


def gradients(record: Record) -> Iterator[str]:
    """What the gradients did, a sentence for each player."""
    for player in record.players:
        tag = f"{player}/gradient/".lstrip("/")
        norms = sorted(v for v in record.curves[f"{tag}norm"].values() if math.isfinite(v))
        middle = number(norms[len(norms) // 2]) if norms else "no finite value"
        clipped, skipped = (_mean(record.curves.get(f"{tag}{what}")) for what in ("clipped", "skipped"))
        who = f"The {player}'s gradient" if player else "The gradient"
        yield f"{who} had a median norm of {middle}; clipped: {clipped}; skipped as not finite: {skipped}."


def _agent_reached(record: Record) -> Iterator[Fact]:
    summary = record.summary
    if summary.get("eval_return_mean") is not None:
        best = _entry(record.options, "evaluation", "deterministic")
        how = "the most likely action" if best else "sampled actions"
        note = f"final parameters, {how}; ± is the deviation between episodes"
        if summary.get("eval_episodes_capped"):
            note += f"; {summary['eval_episodes_capped']} were cut off by evaluation.max_episode_steps"
        value = f"{number(summary['eval_return_mean'])} ± {number(summary.get('eval_return_std'))}"
        label = f"mean return over {number(summary.get('eval_episodes'))} episodes"
        yield Fact(value, label, note, _float(summary["eval_return_mean"]))
    else:
        for tag, of in (("eval/return_mean", "evaluation"), ("episode/return", "training episodes")):
            last = record.last(tag)
            if last:
                yield Fact(
                    number(last[0]), f"last mean return, {of}", f"at {last[1]:,} {record.unit}", last[0]
                )
    if summary.get("solved_at_env_steps") is not None:
        note = f"first evaluation at or above the threshold, after {seconds(summary.get('solved_at_wall_s'))}"
        steps = summary["solved_at_env_steps"]
        yield Fact(number(steps), "environment steps until solved", note, _float(steps))
    elif "solved_at_env_steps" in summary:
        note = "no evaluation reached the environment's reward threshold, or it has none"
        yield Fact("not solved", "environment steps until solved", note)
    if summary.get("best_eval_return_mean") is not None:
        note = "of the evaluations during training; kept in checkpoints/best.pt"
        best = summary["best_eval_return_mean"]
        yield Fact(number(best), "best mean return", note, _float(best))


def _generator_reached(record: Record) -> Iterator[Fact]:
    for name in ("fid", "kid"):
        value, at = _measured(record, name)
        if value is not None:
            floor = number(_measured(record, f"{name}_floor")[0])
            features = record.summary.get("features")
            under = f"; features of {features}" if features and name == "fid" else ""
            note = f"real images against other real images: {floor}{under}{at}"
            yield Fact(number(value), f"{name.upper()}, lower is better", note, value)
    counts = class_counts(record)
    if counts:
        note = (
            f"of {sum(counts):,} images, {min(counts)} in the rarest class and {max(counts)} in the commonest"
        )
        drawn = sum(count > 0 for count in counts)
        yield Fact(f"{drawn} of {len(counts)}", "classes drawn", note, drawn)
    modes, at = _measured(record, "modes")
    if modes is not None and not counts:
        total, what = _num_modes(record.options), "clusters of the data with a good sample"
        if total is None:
            total, what = _measured(record, "modes_floor")[0], "classes of the data with a sample"
        of = f" of {total:,.0f}" if total else ""
        yield Fact(f"{modes:,.0f}{of}", "modes found", f"{what}{at}", modes)
    quality, at = _measured(record, "high_quality")
    if quality is not None:
        note = f"of the samples lie within 3 deviations of a cluster's centre; of real data 98.9 %{at}"
        yield Fact(percent(quality), "high quality", note, quality)
    kl, at = _measured(record, "reverse_kl")
    if kl is not None:
        note = f"how unevenly clusters or classes are drawn; 0 is as the data are{at}"
        yield Fact(f"{number(kl)} nats", "reverse KL", note, kl)


def _descent_reached(record: Record) -> Iterator[Fact]:
    summary = record.summary
    kind, x = summary.get("critical_point"), summary.get("x")
    eigenvalues = summary.get("hessian_eigenvalues")
    if kind is not None:
        shown = ", ".join(number(v) for v in eigenvalues[:6]) if isinstance(eigenvalues, list) else "unknown"
        yield Fact(str(kind), "where it ended", f"eigenvalues of the Hessian there: {shown}")
    if summary.get("value") is not None:
        place = [f"{v:.6g}" for v in x] if isinstance(x, list) else []
        note = f"at ({', '.join(place[:4])}{', …' if len(place) > 4 else ''})" if place else ""
        yield Fact(number(summary["value"]), "value of the function", note, _float(summary["value"]))
    for name in OF_DATA:
        if isinstance(summary.get(name), int | float):
            yield Fact(number(summary[name]), name.replace("_", " "), "", _float(summary[name]))
    if summary.get("gradient_norm") is not None:
        note, norm = "length of the gradient where it ended", summary["gradient_norm"]
        yield Fact(number(norm), "gradient norm", note, _float(norm))


def _effort(record: Record) -> Fact:
    """How far it went and how fast; every kind of run."""
    summary, total = record.summary, record.total
    of = f" of {number(total)}" if total and record.step < total else ""
    speed, notes = summary.get("env_steps_per_s", summary.get("images_per_s")), []
    if isinstance(speed, int | float):
        notes.append(f"{speed:,.0f} a second")
    if summary.get("updates") is not None:
        notes.append(f"{number(summary['updates'])} gradient steps")
    if summary.get("wall_s") is not None:
        notes.append(f"{seconds(summary['wall_s'])} in all")
    return Fact(f"{number(record.step)}{of}", record.unit, ", ".join(notes), record.step)


def _measured(record: Record, name: str) -> tuple[float | None, str]:
    """A number of the summary; without it, the last one on its curve and, for the note, where that was."""
    value = record.summary.get(name)
    if isinstance(value, int | float) and math.isfinite(value):
        return value, ""
    last = record.last(f"eval/{name}") if name not in record.summary else None
    return (last[0], f"; measured at {last[1]:,} {record.unit}") if last else (None, "")


def _mean(curve: dict[int, float] | None) -> str:
    """The mean of a share over the run, in words."""
    values = [v for v in (curve or {}).values() if math.isfinite(v)]
    mean = sum(values) / len(values) if values else math.nan
    return "not measured" if math.isnan(mean) else "never" if mean == 0 else f"{percent(mean)} of the steps"


def _float(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _num_modes(options: Tree) -> int | None:
    modes, side = _entry(options, "data", "num_modes"), _entry(options, "data", "side")
    return modes if isinstance(modes, int) else side**2 if isinstance(side, int) else None


def _entry(options: Tree, *path: str) -> object:
    node: object = options
    for name in path:
        node = node.get(name) if isinstance(node, dict) else None
    return node


def _name(value: object) -> str:
    """The class a component names."""
    if isinstance(value, dict) and "_target_" in value:
        return str(value["_target_"]).split(".")[-1]
    return str(value)
