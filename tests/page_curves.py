"""Make the curves in docs/agents/ and docs/losses/: `make curves`; or one: `python -m tests.page_curves ppo`.

A page's curves are those of the commands that it shows, drawn for a light page and for a dark one. Beside an
agent's stand the final scores of all seeds in the folder of docs/results/ that its section "Curve" names.
"""

import json
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from core.draw.figure import few_numbers, legend, new_figure, picture
from core.draw.palette import Look
from core.numbers import tick
from core.report.read import read_run
from core.run.files import write_media
from tests.pages import METHODS, ROOT, commands_of, section
from tests.pictures import command

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEIGHT = 2.1  # inches of the axes and their words
UNITS = {"agents": "environment steps", "losses": "images"}
PROGRAMS = {"train_rl": "gradrl", "train_gan": "gradgan"}
SCORES = {  # tags, what they are, and the largest value if there is one
    "agents": [("eval/return_mean", "mean return of the evaluations", None)],
    "losses": [("eval/high_quality", "share of high quality", 1), ("eval/modes", "modes found", 8)],
}


def main(names: Sequence[str]) -> None:
    """Train what each page shows, and draw it."""
    for page in METHODS:
        if page.stem in names or not names:
            with tempfile.TemporaryDirectory() as folder:
                shown = commands_of(page, "Command")
                runs = [Path(folder, str(number)) for number in range(len(shown))]
                for run, (_, script, *options) in zip(runs, (each.words for each in shown), strict=True):
                    command(PROGRAMS[Path(script).stem], *options, f"hydra.run.dir={run}")
                write_media(page.parent, page.stem, draw(page, runs))


@picture
def draw(look: Look, page: Path, runs: Sequence[Path]) -> "Figure":
    """The scores of some runs along the training, and those that seeds of an experiment had at the end."""
    from matplotlib.ticker import FuncFormatter

    records, scores = [read_run(run) for run in runs], SCORES[page.parent.name]
    finals, made = kept_returns(page), new_figure(HEIGHT)
    widths = [*(1.0 for _ in scores), *([0.14] if finals else [])]
    panels = list(made.subplots(1, len(widths), squeeze=False, width_ratios=widths, sharey=bool(finals)).flat)
    for panel, (tag, label, largest) in zip(panels, scores, strict=False):
        for record, colour in zip(records, look.series, strict=False):
            chosen = str(record.options.get("loss", record.options.get("agent"))["_target_"]).split(".")[-2]
            panel.plot([*record.curves[tag]], [*record.curves[tag].values()], color=colour, label=chosen)
        panel.set_title(label)
        panel.set_xlabel(UNITS[page.parent.name])
        panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: tick(x)))
        few_numbers(panel)
        panel.set_xlim(left=0)
        if largest is not None:
            panel.set_ylim(0, 1.05 * largest)
    if finals:
        panels[-1].plot(np.linspace(-0.4, 0.4, len(finals)), finals, "o", color=look.orange, markersize=4.5)
        panels[-1].set(xlim=(-1, 1), xticks=[], title="final", xlabel=f"{len(finals)} seeds")
        panels[-1].tick_params(left=False)
    if len(records) > 1:
        legend(made, panels[0].get_lines())
    return made


def kept_returns(page: Path) -> list[float]:
    """The mean returns of the final evaluations that the page's section "Curve" points at, by seed."""
    found = re.search(r"docs/results/(\w+)/", section(page, "Curve"))
    files = sorted((ROOT / "docs" / "results" / found[1]).glob("seed*.json")) if found else []
    return [float(json.loads(file.read_text(encoding="utf-8"))["eval_return_mean"]) for file in files]


if __name__ == "__main__":
    main(sys.argv[1:])
