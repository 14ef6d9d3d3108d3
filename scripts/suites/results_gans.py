"""Tables of docs/results.md on GANs."""

from collections.abc import Sequence

from scripts.suites.kept import Summary, figures, summaries
from scripts.suites.markdown import better

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
RATES = ("2e-3", "1e-3", "5e-4")
OWN_RATES = {"r1": "2e-3", "hinge": "2e-3", "wgan_gp": "1e-3", "relativistic": "1e-3"}  # of their pages
IMAGES = {"mnist": "MNIST", "fashion": "Fashion-MNIST"}
FEW_IMAGES = {"none": "none", "ada": "ADA"}
SHARES = ("precision", "recall", "coverage")
NEAR = ("fid", "kid", *SHARES)
COLOURS = {"": "alternating", "_simultaneous": "`update=simultaneous`"}  # the ending of a folder, and its row
KEPT = 0.8  # share of the modes below which a seed has collapsed


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
            both = (summaries(f"gan_{data}_{ending}{features}") for features in ("", "_mobilenet"))
            for pair in zip(*both, strict=True):
                classes = sum(count > 0 for count in pair[0]["class_counts"])
                row = f"{said}: {loss}, seed {pair[0]['seed']}"
                rows.append([row, *distances(pair, ""), f"{classes} of 10"])
        assert pair, f"docs/results/ has no run on {said}"
        rows.append([f"{said}: real images", *distances(pair, "_floor"), ""])
    return rows


def rates() -> list[list[str]]:
    """FID on MNIST under both features, of every seed, at three learning rates."""
    rows = [["rate", *RATES]]
    for name, said in IMAGE_LOSSES.items():
        row = [said]
        for rate in RATES:
            folder = f"gan_mnist_{name}" if rate == OWN_RATES[name] else f"gan_mnist_{name}_lr_{rate}"
            own, mobile = (figures(summaries(f"{folder}{ending}"), "fid") for ending in ("", "_mobilenet"))
            cell = "; ".join(
                [" ".join(f"{each:.3f}" for each in own), " ".join(f"{each:.1f}" for each in mobile)]
            )
            row.append(cell if own else "saturates" if rate == "2e-3" else "")
        rows.append(row)
    return rows


def few_images() -> list[list[str]]:
    """A thousand images of MNIST without and with ADA, a row for each seed, and how likely ADA is better."""
    rows = [["", "FID, mobilenet", "KID", "precision", "recall", "coverage"]]
    runs = {name: summaries(f"gan_mnist1000_{name}") for name in FEW_IMAGES}
    for name, said in FEW_IMAGES.items():
        rows += [[f"{said}, seed {run['seed']}", *near(run, "")] for run in runs[name]]
    rows.append(["ADA better than none", *(nearer(runs["ada"], runs["none"], key) for key in NEAR)])
    return [*rows, ["real images", *near(runs["none"][0], "_floor")]]


def nearer(ours: Sequence[Summary], theirs: Sequence[Summary], key: str) -> str:
    """Probability that a run of ours is nearer to the data than one of theirs."""
    pair = figures(ours, key), figures(theirs, key)
    return better(*(pair if key in SHARES else pair[::-1]))  # a distance falls


def near(run: Summary, ending: str) -> list[str]:
    """How near samples come to the images held out."""
    shares = (f"{run[f'{what}{ending}']:.2f}" for what in SHARES)
    return [f"{run[f'fid{ending}']:.1f}", f"{run[f'kid{ending}']:.4f}", *shares]


def stacked() -> list[list[str]]:
    """Modes and distances of stacked MNIST, a row for each seed, and the real images' below them.

    Those are measured by each run, under the classifier that it has trained, and shown from least to most.
    """
    runs = summaries("gan_stacked_mnist")
    rows = [["", "modes", "reverse KL", "FID", "precision", "recall"]]
    rows += [[f"seed {run['seed']}", *spread(run, "")] for run in runs]
    floors = zip(*(spread(run, "_floor") for run in runs), strict=True)
    return [*rows, ["real images", *(" to ".join(dict.fromkeys((min(f), max(f)))) for f in floors)]]


def spread(run: Summary, ending: str) -> list[str]:
    """How many modes there are, how evenly, and how near."""
    modes = f"{run[f'modes{ending}']:,}"
    near = (f"{run[f'{what}{ending}']:.2f}" for what in ("fid", "precision", "recall"))
    return [modes, f"{run[f'reverse_kl{ending}']:.3f}", *near]


def cifar() -> list[list[str]]:
    """CIFAR-10 with both orders of updates, and the real images' below them."""
    rows = [["", "FID, mobilenet", "KID", "precision", "recall", "coverage"]]
    for ending, said in COLOURS.items():
        runs = summaries(f"gan_cifar10{ending}")
        rows += [[f"{said}, seed {run['seed']}", *near(run, "")] for run in runs]
    return [*rows, ["real images", *near(summaries("gan_cifar10")[0], "_floor")]]


def distances(pair: tuple[Summary, Summary], ending: str) -> list[str]:
    """FID and KID of one run under each of both features."""
    cells = []
    for run, places in zip(pair, (3, 2), strict=True):
        cells += [f"{run[f'fid{ending}']:.{places}f}", f"{run[f'kid{ending}']:.4f}"]
    return cells
