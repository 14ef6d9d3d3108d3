"""The tables and the curves of docs/told.md: what findings brought, and what parts of two experiments do.

`python -m scripts.suites.told` writes the tables and draws the curves anew from docs/results/, for a light
page and for a dark one. With folders it first keeps there what the runs in them have measured,
FOLDER/NAME/seed=S: the runs are those of the commands on the page, each with its `name=`. A variant of which
no run is kept has no line.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core.draw.figure import legend, new_figure, picture
from core.draw.palette import Look
from core.numbers import tick
from core.report.read import read_run
from core.run.files import write_media
from scripts.suites.kept import RESULTS, figures, keep, seed_of, summaries
from scripts.suites.markdown import average, better, rounded_steps, shown, written

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PAGE = RESULTS.parent / "told.md"
ROWS = {"pendulum": "Pendulum-v1", "cartpole": "CartPole-v1"}
FOUND = {  # name of the runs, `_before` and `_after`: what is measured, its entry of summary.json, its digits
    "told_sigmoids": ("twelve layers of sigmoids: held-out digits read", "held_out_accuracy", ".3f"),
    "told_sgd": ("plain descent: held-out digits read", "held_out_accuracy", ".3f"),
    "told_saddle": ("on a saddle: f", "value", ".1g"),
    "told_one": ("one sample a step: held-out digits read", "held_out_accuracy", ".3f"),
    "told_few": ("64 images: FID", "fid", ".2f"),
}
VARIANTS = {  # the ending of a folder: what its runs are called
    "base": ("PPO", "as tuned"),
    "none": ("PPO", "clipper=none"),
    "batch": ("PPO", "larger batch"),
    "auto": ("PPO", "optimizer.lr=auto"),
    "natural": ("TRPO", "natural gradient"),
    "plain": ("TRPO", "plain gradient"),
}
MEASURED, SCALE = "policy_gradient/norm", "policy_gradient/noise_scale"
HEIGHT = 2.3  # inches of the axes of one environment, and their words


def main(folders: list[Path]) -> None:
    """Write the tables and draw; with folders, keep their runs first."""
    for folder in folders:
        for name in FOUND:
            keep_all(folder, f"{name}_before")
            keep_all(folder, f"{name}_after")
        for name in (f"ablation_{row}_{key}" for row in ROWS for key in VARIANTS):
            keep_all(folder, name)
            keep_signal(folder, name)
    write_media(PAGE.parent, "told_signal", draw())
    PAGE.write_text(tables_written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def tables_written(page: str) -> str:
    """The page with its tables made anew."""
    ablations = {f"ablation {row}": partial(ablation, row) for row in ROWS if variants(row)}
    return written(page, {"found": found, **ablations})


def keep_all(folder: Path, name: str) -> None:
    """Keep the summary of every seed."""
    for run in sorted(folder.glob(f"{name}/seed=*")):
        keep(run, name, seed_of(run))


def keep_signal(folder: Path, name: str) -> None:
    """Keep the noise scale of every seed along its training beside its summary."""
    for run in sorted(folder.glob(f"{name}/seed=*")):
        record = read_run(run)
        player = "" if MEASURED in record.curves else "policy/"  # TRPO's critic has a step of its own
        curve = record.curves.get(player + SCALE, {})
        scales = {str(step): float(f"{scale:.3g}") for step, scale in curve.items()}
        kept = {"batch": batch_size(record.options), "measured": len(record.curves[player + MEASURED])}
        text = json.dumps({**kept, "noise_scale": scales}, indent=1)
        file = RESULTS / name / f"signal{run.name.removeprefix('seed=')}.json"
        file.write_text(f"{text}\n", encoding="utf-8")


def batch_size(options: Mapping[str, Any]) -> int:
    """Samples of one step of the policy: a minibatch of PPO, a rollout of TRPO."""
    agent = options["agent"]
    size = agent["num_steps"] * options["num_envs"]
    return size // agent["num_minibatches"] if "clip_coef" in agent else size


def variants(row: str) -> list[str]:
    """Those that are kept."""
    return [key for key in VARIANTS if (RESULTS / f"ablation_{row}_{key}").is_dir()]


def signals(name: str) -> list[dict[str, Any]]:
    """What `keep` has kept of every seed."""
    files = sorted(RESULTS.glob(f"ablation_{name}/signal*.json"))
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


def found() -> list[list[str]]:
    """A line for each finding: one figure by seed, before and after what it proposed."""
    rows = [["", "before", "after"]]
    for name, (said, key, form) in FOUND.items():
        both = (figures(summaries(f"{name}_{when}"), key) for when in ("before", "after"))
        rows.append([said, *(", ".join(format(each, form) for each in values) for values in both)])
    return rows


def ablation(row: str) -> list[list[str]]:
    """A line for each variant: returns, updates, signal to noise of a batch, what the diagnosis said."""
    header = ["", "return", "by seed", "better than as tuned", "solved at", "updates", "batch", "noise scale"]
    return [[*header, "signal to noise", "findings"], *(cells(row, key) for key in variants(row))]


def cells(row: str, key: str) -> list[str]:
    """One line of `ablation`."""
    name = f"{row}_{key}"
    runs, kept = summaries(f"ablation_{name}"), signals(name)
    returns = figures(runs, "eval_return_mean")
    tuned = figures(summaries(f"ablation_{row}_base"), "eval_return_mean")
    solved = [run["solved_at_env_steps"] for run in runs]
    batch, scale = kept[0]["batch"], typical(kept)
    return [
        ", ".join(VARIANTS[key]),
        average(returns),
        ", ".join(shown(each) for each in returns),
        "–" if key == "base" else better(returns, tuned),
        ", ".join(rounded_steps(each) if each else "–" for each in solved) if any(solved) else "–",
        f"{runs[0]['updates']:,}",
        f"{batch:,}",
        tick(float(f"{scale:.2g}")) if np.isfinite(scale) else "–",
        tick(float(f"{batch / scale:.2g}")) if np.isfinite(scale) else "–",
        findings(runs),
    ]


def typical(kept: list[dict[str, Any]]) -> float:
    """Median noise scale of all measurements, in samples; one that noise drowned counts as infinite."""
    scales = [scale for each in kept for scale in each["noise_scale"].values()]
    drowned = sum(each["measured"] for each in kept) - len(scales)
    return float(np.median(scales + [np.inf] * drowned))


def findings(runs: list[Mapping[str, Any]]) -> str:
    """Each finding of the runs, and in how many of them it is."""
    found = [sorted({(each["name"], each["severity"]) for each in run["findings"]}) for run in runs]
    count = Counter(each for run in found for each in run)
    return (
        ", ".join(f"{severity} `{name}` ({times})" for (name, severity), times in count.most_common())
        or "none"
    )


@picture
def draw(look: Look) -> "Figure":
    """Signal to noise of one batch along the training, a line a seed; a row for each environment."""
    rows = {row: variants(row) for row in ROWS if variants(row)}
    families = list(dict.fromkeys(VARIANTS[key][0] for keys in rows.values() for key in keys))
    made, colours = new_figure(HEIGHT * len(rows) + 0.4), look.colours(VARIANTS)
    panels = made.subplots(len(rows), len(families), squeeze=False, sharex=True, sharey="row")
    for (row, keys), line in zip(rows.items(), panels, strict=True):
        for family, panel in zip(families, line, strict=True):
            panel.set_title(f"{ROWS[row]}, {family}")
            for key in keys:
                if VARIANTS[key][0] == family:
                    draw_seeds(panel, f"{row}_{key}", colours[key], VARIANTS[key][1])
            finish(look, panel)
    for panel in panels[-1]:
        panel.set_xlabel("environment steps")
    for panel in panels[:, 0]:
        panel.set_ylabel("signal to noise")
    lines = [line for panel in panels.flat for line in panel.get_lines() if line.get_label()[0] != "_"]
    legend(made, [*{line.get_label(): line for line in lines}.values()])
    return made


def draw_seeds(panel: "Axes", name: str, colour: str, said: str) -> None:
    """The seeds of one variant."""
    for number, curve in enumerate(ratios(name)):
        panel.plot([*curve], [*curve.values()], color=colour, label="_" if number else said, linewidth=1.2)


def finish(look: Look, panel: "Axes") -> None:
    """Axes, and where signal and noise are equally long."""
    from matplotlib.ticker import FuncFormatter

    panel.axhline(1, color=look.faint, linestyle="--", linewidth=1, label="_")
    panel.set_yscale("log")
    panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: tick(x)))
    panel.locator_params(axis="x", nbins=3)
    panel.set_xlim(left=0)


def ratios(name: str) -> Iterator[dict[int, float]]:
    """Of each seed, the signal to noise of one batch by environment steps."""
    for kept in signals(name):
        yield {int(step): kept["batch"] / scale for step, scale in kept["noise_scale"].items()}


if __name__ == "__main__":
    main([Path(word) for word in sys.argv[1:]])
