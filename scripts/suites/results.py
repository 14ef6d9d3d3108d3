"""Write the tables of docs/results.md anew from the summaries beside it: `make results`.

A table stands between `<!-- NAME -->` and `<!-- /NAME -->`, one for each function of `TABLES`. What a row is
held against is docs/results/published.toml. Nothing is chosen: a row has every seed whose summary is kept.
"""

from functools import partial

from core.run.files import write_media
from scripts.suites import results_agents as agents
from scripts.suites import results_gans as gans
from scripts.suites.kept import RESULTS
from scripts.suites.markdown import Table, written
from scripts.suites.results_picture import draw

PAGE = RESULTS.with_suffix(".md")
TABLES: dict[str, Table] = {
    "cartpole": agents.cartpole,
    "proposed rate": agents.proposed_rate,
    "agents": partial(agents.beside_published, "agents"),
    "half": partial(agents.beside_published, "half"),
    "slm lab": partial(agents.beside_published, "slm_lab", sampled=True),
    "baselines cartpole": partial(agents.baselines, "cartpole"),
    "baselines pendulum": partial(agents.baselines, "pendulum"),
    "order of baselines": agents.order_of_baselines,
    "batch x100": agents.large_batch,
    "mixtures": gans.mixtures,
    "losses": gans.losses,
    "data alone": gans.data_alone,
    "digits": gans.digits,
    "stacked": gans.stacked,
    "images": gans.images,
    "rates": gans.rates,
    "few images": gans.few_images,
    "cifar": gans.cifar,
}


def main() -> None:
    """Replace every table in docs/results.md, and draw its picture."""
    write_media(PAGE.parent, "results", draw())
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), TABLES), encoding="utf-8")


if __name__ == "__main__":
    main()
