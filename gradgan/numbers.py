"""Which numbers a run leaves, known before it begins: what a search may have as its objective."""

from typing import TYPE_CHECKING

from gradgan.evaluation.evaluator import FixedLatents, ImageEvaluator, MixtureEvaluator
from gradgan.evaluation.metrics import MIXTURE_NAMES, NAMES

if TYPE_CHECKING:
    from gradgan.train import TrainConfig

COUNTS = ("images", "images_per_s", "updates")


def numbers(cfg: "TrainConfig") -> tuple[str, ...] | None:
    """Entries of the summary that are numbers, and tags of the curves `eval/...`.

    None where the evaluator is somebody's own, and what it measures not known.

    Raises:
        ConfigError: the data or the feature network are not available.
    """
    evaluator = cfg.data.evaluator(
        FixedLatents(size=cfg.latent_size, seed=0), 2, cfg.features, lambda line: None
    )
    if not isinstance(evaluator, ImageEvaluator | MixtureEvaluator):
        return None
    names = MIXTURE_NAMES if isinstance(evaluator, MixtureEvaluator) else NAMES
    measured = [] if evaluator.unmeasured else [*names, *(f"{name}_floor" for name in names)]
    return (*measured, *(f"eval/{name}" for name in measured), *COUNTS)
