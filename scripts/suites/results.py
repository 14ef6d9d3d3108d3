"""Write the tables of docs/results.md anew from the summaries beside it: `make results`.

A table stands between `<!-- NAME -->` and `<!-- /NAME -->`, one for each function of `TABLES`. What a row is
held against is docs/results/published.toml. Nothing is chosen: a row has every seed whose summary is kept.
"""

import json
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from core.compare.statistics import estimate, interquartile_mean, mean
from core.numbers import tick

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
RESAMPLES = 10_000
MIXTURES = {"ring": 8, "grid": 25}  # their modes
MIXTURE_LOSSES = {  # the ending of a folder, and what its rows are called
    "nonsaturating_none": "non-saturating, no penalty",
    "nonsaturating": "non-saturating, R1",
    "minimax": "minimax, R1",
    "least_squares": "least squares, R1",
    "hinge": "hinge, spectral norm",
    "wasserstein": "Wasserstein, WGAN-GP",
    "relativistic_average": "relativistic average, R1, R2",
}
IMAGE_LOSSES = {
    "r1": "non-saturating, R1",
    "wgan_gp": "Wasserstein, WGAN-GP",
    "hinge": "hinge, spectral norm",
    "relativistic": "relativistic pairing, R1, R2",
}
IMAGES = {"mnist": "MNIST", "fashion": "Fashion-MNIST"}
FEW_IMAGES = {"none": "none", "ada": "ADA"}
KEPT = 0.8  # share of the modes below which a seed has collapsed

Summary = Mapping[str, Any]
Table = Callable[[], list[list[str]]]


def main() -> None:
    """Replace every table in docs/results.md."""
    page = RESULTS.with_suffix(".md")
    page.write_text(written(page.read_text(encoding="utf-8")), encoding="utf-8")


def written(page: str, tables: Mapping[str, Table] | None = None) -> str:
    """A page with its tables made anew, without others those of docs/results.md; each has one place in it."""
    for name, table in (TABLES if tables is None else tables).items():
        before, _, rest = page.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- /{name} -->")
        assert end, f"the page has no place for the table {name!r}"
        page = f"{before}<!-- {name} -->\n{markdown(table())}\n{end}{after}"
    return page


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, its header first."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def summaries(name: str, ending: str = "") -> list[Summary]:
    """Every seed of docs/results/NAME, in order; with an ending, those measured with another setting."""
    seeds = {}
    for path in RESULTS.glob(f"{name}/seed*.json"):
        if number := re.fullmatch(rf"seed(\d+){re.escape(ending)}", path.stem):
            seeds[int(number[1])] = json.loads(path.read_text(encoding="utf-8"))
    return [seeds[number] for number in sorted(seeds)]


def figures(runs: Sequence[Summary], key: str) -> list[float]:
    """One figure of every run."""
    return [float(run[key]) for run in runs]


def beside_published(name: str) -> list[list[str]]:
    """The experiments of one table of published.toml, each beside the published return."""
    header = ["environment, steps", "experiment", "published", "its steps", "from", "return"]
    header += ["interquartile mean", "by seed", "sampled", "minutes", ""]
    rows = tomllib.loads((RESULTS / "published.toml").read_text(encoding="utf-8"))[name]
    return [header, *(agent_row(row, summaries(row.get("folder", row["experiment"]))) for row in rows)]


def agent_row(row: Mapping[str, Any], runs: Sequence[Summary]) -> list[str]:
    """One row of `beside_published`: of a row of published.toml and the summaries of all seeds."""
    returns = figures(runs, "eval_return_mean")
    found = estimate(returns, mean, RESAMPLES, 0)
    low, high = found.interval or (found.value, found.value)
    published, budget = row["published"], row["steps"]
    steps = min(figures(runs, "env_steps"))
    verdict = "above" if low > published else "within" if high >= published else "below"
    if budget and steps < 0.9 * budget:
        verdict += f", {tick(100 * steps / budget, 2)} % of the steps"
    return [
        f"{row['environment']}, {rounded_steps(steps)}",
        f"`{row['experiment']}`",
        shown(published),
        rounded_steps(budget) if budget else "–",
        row["said"],
        f"{shown(found.value)} [{shown(low)}, {shown(high)}]",
        shown(float(interquartile_mean(np.asarray(returns)))),
        ", ".join(shown(each) for each in returns),
        shown(float(np.mean(figures(runs, "eval_return_mean_stochastic")))),
        minutes(min(figures(runs, "wall_s"))),
        verdict,
    ]


def mixtures() -> list[list[str]]:
    """Modes, quality and reverse KL of the two mixtures, a row for each seed."""
    rows = [["", "modes", "high quality", "reverse KL"]]
    for name, total in MIXTURES.items():
        for run in summaries(f"gan_{name}_25000"):
            quality, divergence = f"{run['high_quality']:.3f}", f"{run['reverse_kl']:.4f}"
            rows.append([f"{name}, seed {run['seed']}", f"{run['modes']} of {total}", quality, divergence])
    return rows


def losses() -> list[list[str]]:
    """The mixtures with every other loss: each cell lists the seeds."""
    cells = ["modes", "high quality", "reverse KL"]
    rows = [["", *(f"ring: {cells[0]}", *cells[1:]), *(f"grid: {cells[0]}", *cells[1:]), ""]]
    for ending, said in MIXTURE_LOSSES.items():
        row, collapsed = [said], False
        for name, total in MIXTURES.items():
            runs = summaries(f"gan_{name}_{ending}")
            row.append(" ".join(f"{run['modes']}" for run in runs))
            row.append(" ".join(f"{each:.3f}" for each in figures(runs, "high_quality")))
            row.append(" ".join(f"{each:.4f}" for each in figures(runs, "reverse_kl")))
            collapsed |= min(figures(runs, "modes")) <= KEPT * total
        rows.append([*row, "collapsed" if collapsed else ""])
    return rows


def data_alone() -> list[list[str]]:
    """The mixtures by `data=` alone, a row for each seed."""
    cells = ["modes", "high quality", "reverse KL"]
    rows = [["seed", f"ring: {cells[0]}", *cells[1:], f"grid: {cells[0]}", *cells[1:]]]
    for runs in zip(*(summaries(f"gan_{name}") for name in MIXTURES), strict=True):
        row = [str(runs[0]["seed"])]
        for run, total in zip(runs, MIXTURES.values(), strict=True):
            row += [f"{run['modes']} of {total}", f"{run['high_quality']:.3f}", f"{run['reverse_kl']:.4f}"]
        rows.append(row)
    return rows


def digits() -> list[list[str]]:
    """FID and the rarest class of the digits, a column for each seed."""
    runs = summaries("gan_digits")
    rarest = [str(round(min(run["class_counts"]))) for run in runs]
    rows = [["seed", *(str(run["seed"]) for run in runs)]]
    return [*rows, ["FID", *(f"{each:.3f}" for each in figures(runs, "fid"))], ["rarest class", *rarest]]


def images() -> list[list[str]]:
    """Distances under the data's own classifier and under MobileNet, and the real images' below them."""
    rows = [["", "FID, classifier", "KID", "FID, mobilenet", "KID", "classes"]]
    for data, said in IMAGES.items():
        pair: tuple[Summary, Summary] | None = None
        for ending, loss in IMAGE_LOSSES.items():
            both = (summaries(f"gan_{data}_{ending}", each) for each in ("", "_mobilenet"))
            for pair in zip(*both, strict=True):
                classes = sum(count > 0 for count in pair[0]["class_counts"])
                row = f"{said}: {loss}, seed {pair[0]['seed']}"
                rows.append([row, *distances(pair, ""), f"{classes} of 10"])
        assert pair, f"docs/results/ has no run on {said}"
        rows.append([f"{said}: real images", *distances(pair, "_floor"), ""])
    return rows


def few_images() -> list[list[str]]:
    """A thousand images of MNIST without augmentation and with ADA, a row for each seed."""
    rows = [["", "FID, mobilenet", "KID", "precision", "recall", "coverage"]]
    runs: list[Summary] = []
    for name, said in FEW_IMAGES.items():
        runs = summaries(f"gan_mnist1000_{name}")
        rows += [[f"{said}, seed {run['seed']}", *near(run, "")] for run in runs]
    return [*rows, ["real images", *near(runs[0], "_floor")]]


def near(run: Summary, ending: str) -> list[str]:
    """How near samples come to the images held out."""
    shares = (f"{run[f'{what}{ending}']:.2f}" for what in ("precision", "recall", "coverage"))
    return [f"{run[f'fid{ending}']:.1f}", f"{run[f'kid{ending}']:.4f}", *shares]


def distances(pair: tuple[Summary, Summary], ending: str) -> list[str]:
    """FID and KID of one run under each of both features."""
    cells = []
    for run, places in zip(pair, (3, 2), strict=True):
        cells += [f"{run[f'fid{ending}']:.{places}f}", f"{run[f'kid{ending}']:.4f}"]
    return cells


def shown(value: float) -> str:
    """A return: whole from 1,000 on, one decimal below, three below 1; without zeros at its end."""
    size = abs(value)
    places = 0 if size >= 999.5 else 1 if size >= 0.9995 else 3
    text = f"{size:,.{places}f}".removesuffix("." + places * "0")
    return f"−{text}" if value < 0 and text != "0" else text


def rounded_steps(steps: float) -> str:
    """Environment steps in thousands or millions, as a budget is named: a rollout more is not said."""
    size, letter = (1e6, "M") if steps >= 999_500 else (1e3, "k")
    return f"{float(f'{steps / size:.2g}'):g} {letter}"


def minutes(seconds: float) -> str:
    """Whole minutes; tenths below one."""
    return f"{seconds / 60:.0f}" if seconds >= 57 else f"{seconds / 60:.1f}"


TABLES: dict[str, Table] = {
    "agents": partial(beside_published, "agents"),
    "mujoco": partial(beside_published, "mujoco"),
    "mixtures": mixtures,
    "losses": losses,
    "data alone": data_alone,
    "digits": digits,
    "images": images,
    "few images": few_images,
}

if __name__ == "__main__":
    main()
