"""Which curves are drawn together, and the sentence that explains each picture."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from core.report.curves import Series
from core.report.read import Record

# Colours: 1 the agent or the generator, 2 the discriminator, 3 and 4 real and generated samples.
COLOURS = {"generator": 1, "discriminator": 2}


@dataclass(frozen=True)
class Figure:
    """One chart: what it shows, in words and as lines."""

    title: str
    caption: str
    series: tuple[Series, ...]
    log: bool = False


@dataclass(frozen=True)
class Plan:
    """A chart to draw when any of its curves exists; lines are (label, tag, colour, dashed)."""

    title: str
    caption: str
    lines: tuple[tuple[str, str, int, bool], ...]
    log: bool = False


OUTCOME = (
    Plan(
        "Return",
        "Sum of rewards of an episode. Evaluation plays separate episodes; its band is ± one deviation "
        "between them.",
        (("training", "episode/return", 3, False), ("evaluation", "eval/return_mean", 1, False)),
    ),
    Plan("Episode length", "Steps until an episode ends.", (("training", "episode/length", 3, False),)),
    Plan(
        "FID",
        "Distance between generated and real images in a feature space. The floor is what real images "
        "score against other real images.",
        (("generated", "eval/fid", 1, False), ("floor", "eval/fid_floor", 3, True)),
        log=True,
    ),
    Plan(
        "KID",
        "A second distance in the same feature space, about 0 for real images.",
        (("generated", "eval/kid", 1, False), ("floor", "eval/kid_floor", 3, True)),
    ),
    Plan(
        "Modes found",
        "Clusters of the data that got at least one good sample.",
        (("modes", "eval/modes", 1, False),),
    ),
    Plan(
        "High quality",
        "Share of samples close to a cluster of the data.",
        (("share", "eval/high_quality", 1, False),),
    ),
    Plan(
        "Reverse KL",
        "How unevenly the samples are spread over the clusters, in nats; 0 is even.",
        (("nats", "eval/reverse_kl", 1, False),),
        log=True,
    ),
)

LOSSES = (
    Plan(
        "Losses of the two players",
        "What each network minimises. Neither has to fall: the other one moves too.",
        (("generator", "loss/generator", 1, False), ("discriminator", "loss/discriminator", 2, False)),
    ),
    Plan(
        "Verdicts of the discriminator",
        "Its mean output for real and for generated samples; far apart, it tells them apart.",
        (("real", "logits/real", 3, False), ("generated", "logits/fake", 4, False)),
    ),
    Plan("Accuracy of the discriminator", "Share of samples it judges rightly; 0.5 is guessing.",
         (("share", "logits/accuracy", 2, False),)),
    Plan(
        "Gradient penalty",
        "Mean squared gradient of the discriminator at its input: how steep it is there.",
        (("at real samples", "penalty/real_gradient", 3, False),
         ("at generated samples", "penalty/fake_gradient", 4, False)),
        log=True,
    ),
    Plan("Policy loss", "Negative surrogate objective of the policy.", (("loss", "loss/policy", 1, False),)),
    Plan("Value loss", "Squared error of the predicted return.", (("loss", "loss/value", 1, False),), True),
    Plan("Entropy", "Randomness of the policy, in nats; it falls as the agent makes up its mind.",
         (("nats", "policy/entropy", 1, False),)),
    Plan("Change of the policy", "KL divergence of an update's policy from the one that acted, in nats.",
         (("nats", "policy/approx_kl", 1, False),), log=True),
    Plan("Clipped ratios", "Share of samples at which the surrogate objective was clipped.",
         (("share", "policy/clip_fraction", 1, False),)),
    Plan("Explained variance", "Of the returns, by the value function; 1 is perfect, 0 is a constant guess.",
         (("share", "policy/explained_variance", 1, False),)),
)  # fmt: skip

# Title, caption, quantity below gradient/, logarithmic.
GRADIENTS = (
    ("Gradient norm", "Length of the whole gradient vector{clipped}. Logarithmic.", "norm", True),
    ("Cosine", "Of the angle to the gradient one step before: 1 the same direction, 0 unrelated (mostly "
     "noise), −1 back and forth.", "cosine", False),
    ("Update ratio", "Length of a step relative to the parameters it changes. Logarithmic.",
     "update_ratio", True),
    ("Noise scale", "Samples at which noise and signal of a batch's gradient are equally long. A batch far "
     "below it is mostly noise. Logarithmic.", "noise_scale", True),
    ("Effective learning rate", "The rate that plain descent would need to step as far as the optimizer "
     "does. Logarithmic.", "effective_lr", True),
    ("Clipped", "Share of steps whose gradient was cut back to the limit.", "clipped", False),
    ("Skipped", "Share of steps left out because their gradient was not finite.", "skipped", False),
)  # fmt: skip

POLICY_GRADIENTS = (
    Plan(
        "Variance of the policy gradient",
        "Of one sample's gradient, when the return is weighed as it is, less its mean, less the predicted "
        "value, or as a generalized advantage. Logarithmic.",
        (("no baseline", "policy_gradient/variance_no_baseline", 2, False),
         ("mean", "policy_gradient/variance_mean_baseline", 3, False),
         ("value", "policy_gradient/variance_value_baseline", 4, False),
         ("advantage", "policy_gradient/variance_gae", 1, False)),
        log=True,
    ),
    Plan(
        "Agreement of minibatches",
        "Cosine of a minibatch's policy gradient with that of the rest of the rollout, and with that of 100 "
        "times as many other samples.",
        (("rest of the rollout", "policy_gradient/minibatch_cosine", 1, False),
         ("100 times as many", "policy_gradient/minibatch_cosine_100x", 3, False)),
    ),
    Plan(
        "Policy against value",
        "Cosine of policy and value gradient on the layers they share; negative: they pull apart.",
        (("cosine", "policy_gradient/value_cosine", 1, False),),
    ),
    Plan(
        "Noise scale of the policy gradient",
        "Samples at which its signal and its noise are equally long; none where noise drowns the signal. "
        "Logarithmic.",
        (("samples", "policy_gradient/noise_scale", 1, False),),
        log=True,
    ),
)  # fmt: skip


def outcome_figures(record: Record) -> list[Figure]:
    """How good the result was, over the run."""
    return _planned(record, OUTCOME)


def loss_figures(record: Record) -> list[Figure]:
    """What was minimised, and what it did to policy or players."""
    return _planned(record, LOSSES)


def gradient_figures(record: Record) -> list[Figure]:
    """The gradients of every player, drawn together."""
    figures = []
    for title, caption, quantity, log in GRADIENTS:
        series = tuple(
            Series(player or quantity.replace("_", " "), record.curves[tag], COLOURS.get(player, 1))
            for player, tag in _gradient_tags(record, quantity)
        )
        clipped = tuple(_after_clipping(record)) if quantity == "norm" else ()
        if series and not (quantity in ("clipped", "skipped") and _all_zero(series)):
            caption = caption.format(clipped=", before clipping and (dashed) after it" if clipped else "")
            figures.append(Figure(title, caption, series + clipped, log))
    return figures + _planned(record, POLICY_GRADIENTS)


def other_figures(record: Record) -> list[Figure]:
    """Every curve that no other chart shows, one by one; curves of single layers have their table."""
    planned = {tag for plan in OUTCOME + LOSSES + POLICY_GRADIENTS for _, tag, _, _ in plan.lines}
    told = ("/layer/", "/gradient/", "/final/")
    rest = [
        t for t in sorted(record.curves) if t not in planned and not any(word in f"/{t}" for word in told)
    ]
    return [Figure(tag, "", (Series(tag.split("/")[-1], record.curves[tag]),)) for tag in rest]


def _planned(record: Record, plans: tuple[Plan, ...]) -> list[Figure]:
    figures = []
    for plan in plans:
        there = [line for line in plan.lines if record.curves.get(line[1])]
        series = tuple(
            Series(label, record.curves[tag], colour, dashed, _deviation(record.curves, tag))
            for label, tag, colour, dashed in there
        )
        if series:
            figures.append(Figure(plan.title, plan.caption, series, plan.log))
    return figures


def _deviation(curves: Mapping[str, dict[int, float]], tag: str) -> dict[int, float] | None:
    return curves.get(tag.replace("_mean", "_std")) if tag.endswith("_mean") else None


def _gradient_tags(record: Record, quantity: str) -> Iterator[tuple[str, str]]:
    for player in record.players:
        tag = f"{player}/gradient/{quantity}".lstrip("/")
        if tag in record.curves:
            yield player, tag


def _after_clipping(record: Record) -> Iterator[Series]:
    """The norms after clipping, of those players whose gradients clipping changed at all."""
    before = dict(_gradient_tags(record, "norm"))
    for player, tag in _gradient_tags(record, "norm_clipped"):
        points = record.curves[tag]
        if points != record.curves[before[player]]:
            label = f"{player} after clipping".strip()
            yield Series(label, points, COLOURS.get(player, 1) if player else 2, dashed=True)


def _all_zero(series: tuple[Series, ...]) -> bool:
    return not any(value for line in series for value in line.points.values())
