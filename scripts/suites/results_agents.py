"""Tables of docs/results.md on agents: beside published returns, and the noise of the gradient."""

import math
import tomllib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from core.compare.statistics import interquartile_mean
from core.numbers import tick
from scripts.suites.kept import RESULTS, Summary, curves, figures, summaries
from scripts.suites.markdown import average, averaged, minutes, rounded_steps, shown, unbroken

BASELINES = {  # a curve of `probe=policy_gradient`: its column; each should leave less than the one before
    "policy_gradient/variance_no_baseline": "none",
    "policy_gradient/variance_mean_baseline": "mean",
    "policy_gradient/variance_value_baseline": "learned",
    "policy_gradient/variance_gae": "GAE",
}
EXPLAINED = "policy/explained_variance"
COMPARED = {"cartpole": 30_000, "pendulum": math.inf}  # env steps until which: CartPole is solved then


def beside_published(name: str, *, sampled: bool = False) -> list[list[str]]:
    """The experiments of one table of published.toml, each beside the published return.

    Args:
        name: of the table.
        sampled: whether the published returns are of sampled actions, so that ours of these are judged too.
    """
    header = ["experiment", "environment, steps", "return", "published", "its steps", "", "from", "by seed"]
    header += ["sampled", "interquartile mean", "minutes"]
    rows = tomllib.loads((RESULTS / "published.toml").read_text(encoding="utf-8"))[name]
    kept = ((row, summaries(row.get("folder", row["experiment"]))) for row in rows)
    return [header, *(agent_row(row, runs, sampled) for row, runs in kept)]


def agent_row(row: Mapping[str, Any], runs: Sequence[Summary], sampled: bool = False) -> list[str]:
    """One row of `beside_published`: of a row of published.toml and the summaries of all seeds."""
    returns, of_samples = (figures(runs, f"eval_return_mean{of}") for of in ("", "_stochastic"))
    published, budget = row["published"], row["steps"]
    steps = min(figures(runs, "env_steps"))
    said = verdict(returns, published)
    if sampled:
        said += f"; sampled {verdict(of_samples, published)}"
    if budget and steps < 0.9 * budget:
        said += f", {tick(100 * steps / budget, 2)} % of the steps"
    cells = [
        f"`{row['experiment']}`",
        f"{row['environment']}, {rounded_steps(steps)}",
        average(returns),
        shown(published),
        rounded_steps(budget) if budget else "–",
        said,
        row["said"],
        ", ".join(shown(each) for each in returns),
        average(of_samples) if sampled else shown(float(np.mean(of_samples))),
        shown(float(interquartile_mean(np.asarray(returns)))),
        minutes(min(figures(runs, "wall_s"))),
    ]
    return [unbroken(cell) for cell in cells]


def verdict(returns: Sequence[float], published: float) -> str:
    """Where the interval of the mean lies."""
    _, low, high = averaged(returns)
    return "above" if low > published else "within" if high >= published else "below"


def cartpole() -> list[list[str]]:
    """Returns of PPO on CartPole and when it solved it, a column for each seed."""
    return by_seed({"": summaries("cartpole_ppo")})


def proposed_rate() -> list[list[str]]:
    """The same with `optimizer.lr=auto`, on two machines."""
    return by_seed({"": summaries("cartpole_auto_lr"), ", another CPU": summaries("ablation_cartpole_auto")})


def by_seed(groups: Mapping[str, Sequence[Summary]]) -> list[list[str]]:
    """Returns of several groups of runs over the same seeds, and when each solved its task."""
    rows = [["seed", *(str(run["seed"]) for run in next(iter(groups.values())))]]
    for where, runs in groups.items():
        solved = (run["solved_at_env_steps"] for run in runs)
        rows.append([f"return{where}", *(shown(each) for each in figures(runs, "eval_return_mean"))])
        rows.append([f"solved at{where}", *(rounded_steps(each) if each else "–" for each in solved)])
    return rows


def baselines(env: str) -> list[list[str]]:
    """Noise of the policy gradient with each baseline, seed 1, at the first, second, fourth, ... point."""
    kept = curves(f"baselines_{env}")[0]
    points = list(kept[next(iter(BASELINES))])
    chosen = [points[2**power - 1] for power in range(len(points).bit_length())]
    rows = [["env steps", *BASELINES.values(), "explained variance"]]
    for step in chosen:
        noise = (tick(float(f"{kept[tag][step]:.3g}")) for tag in BASELINES)
        rows.append([f"{step:,}", *noise, f"{kept[EXPLAINED][step]:.2f}".replace("-", "−")])
    return rows


def order_of_baselines() -> list[list[str]]:
    """At how many points of all seeds each baseline leaves less noise than the one before it."""
    orders = [f"{before} > {after}" for before, after in pairwise(BASELINES.values())]
    rows = [["", "seeds", "points", *orders]]
    for env, until in COMPARED.items():
        runs = curves(f"baselines_{env}")
        points = [(run, step) for run in runs for step in run[next(iter(BASELINES))] if step <= until]
        less = (
            sum(run[before][step] > run[after][step] for run, step in points)
            for before, after in pairwise(BASELINES)
        )
        rows.append([f"`env={env}`", str(len(runs)), str(len(points)), *(str(each) for each in less)])
    return rows


def large_batch() -> list[list[str]]:
    """Cosine of a minibatch's gradient with that of a batch 100 times as large, and the noise scale."""
    (kept,) = curves("batch_x100")
    cosine, scale = (kept[f"policy_gradient/{tag}"] for tag in ("minibatch_cosine_100x", "noise_scale"))
    rows = [["env steps", "cosine", "noise scale"]]
    for step, value in cosine.items():
        samples = f"{scale[step]:,.0f}" if step in scale else "–"
        rows.append([f"{step:,}", f"{value:.2f}".replace("-", "−"), samples])
    return rows
