"""What the report and `compare` know about generative adversarial networks."""

import math
from collections.abc import Iterator

from core.compare.find import Score
from core.numbers import number, percent
from core.report.charts import Chart, Line
from core.report.facts import class_name, option
from core.report.record import Bars, Fact, Kind, Record, Topic

# Colours: 1 the generator, 2 the discriminator, 3 and 4 real and generated samples.
OUTCOME = (
    Chart("FID",
          "Distance between generated and real images in a feature space. The floor is what real images "
          "score against other real images.",
          (Line("generated", "eval/fid"), Line("floor", "eval/fid_floor", 3, dashed=True)), log=True),
    Chart("KID", "A second distance in the same feature space, about 0 for real images.",
          (Line("generated", "eval/kid"), Line("floor", "eval/kid_floor", 3, dashed=True))),
    Chart("Fidelity and variety",
          "Precision is the share of samples that lie among the real ones; recall is the share of real ones "
          "that lie among the samples. Dotted: real images.",
          (Line("precision", "eval/precision"), Line("recall", "eval/recall", 2),
           Line("precision of real images", "eval/precision_floor", dashed=True),
           Line("recall of real images", "eval/recall_floor", 2, dashed=True))),
    Chart("Density and coverage",
          "The same two questions, asked so that outliers count less. Dotted: real images.",
          (Line("density", "eval/density"), Line("coverage", "eval/coverage", 2),
           Line("density of real images", "eval/density_floor", dashed=True),
           Line("coverage of real images", "eval/coverage_floor", 2, dashed=True))),
    Chart("Inception Score",
          "How sure a classifier is of single samples, and how evenly all of them spread over its classes.",
          (Line("generated", "eval/inception_score"),
           Line("real", "eval/inception_score_floor", 3, dashed=True))),
    Chart("Modes found", "Clusters of the data with a good sample, or classes with any sample.",
          (Line("modes", "eval/modes"), Line("real", "eval/modes_floor", 3, dashed=True))),
    Chart("High quality", "Share of samples close to a cluster of the data.",
          (Line("share", "eval/high_quality"),)),
    Chart("Reverse KL",
          "How unevenly the samples are spread over clusters or classes, in nats; 0 means as in the data.",
          (Line("generated", "eval/reverse_kl"),
           Line("real", "eval/reverse_kl_floor", 3, dashed=True)), log=True),
)  # fmt: skip

GAME = (
    Chart("Verdicts of the discriminator",
          "Its mean output for real and for generated samples; the further apart they are, the better it "
          "tells them apart.", (Line("real", "logits/real", 3), Line("generated", "logits/fake", 4))),
    Chart("Accuracy of the discriminator", "Share of samples that it classifies correctly; 0.5 is guessing.",
          (Line("share", "logits/accuracy", 2),)),
    Chart("Gap of the logits",
          "Mean logit of training samples less that of generated ones, always on the same samples.",
          (Line("gap", "game/logit_gap", 2),), level=0.0),
    Chart("Overfitting of the discriminator",
          "Share of that gap between training and held-out samples: at 0 it treats both alike, at 1 "
          "held-out samples look generated to it.", (Line("share", "game/overfitting", 2),), level=0.0),
    Chart("The generator's gradient through the discriminator",
          "Its length as it leaves the discriminator, for one sample, and its first factor, the slope of "
          "the loss at the logit. The second vanishes where the loss saturates, the first also where the "
          "discriminator is flat. Logarithmic.",
          (Line("at the sample", "game/sample_gradient"),
           Line("at the logit", "game/logit_gradient", 4)), log=True),
    Chart("Generator's gradient over discriminator's",
          "Ratio of the two norms on the same samples. Logarithmic.",
          (Line("ratio", "game/gradient_ratio"),), log=True, level=1.0),
    Chart("Variety of the samples",
          "Mean distance between generated samples over that between real ones: at 1 they are as different "
          "as the data, near 0 they are all alike.", (Line("ratio", "game/diversity"),), level=1.0),
    Chart("Energy distance",
          "Distance between samples and data, in [0, 1]; at 0 both have the same distribution.",
          (Line("distance", "game/energy_distance"),)),
    Chart("The discriminator's gradient, by terms of its loss",
          "Length of each term's gradient over the sum of their lengths.",
          (Line("adversarial", "discriminator/loss_share/adversarial", 2),
           Line("penalty", "discriminator/loss_share/penalty"),
           Line("classification", "discriminator/loss_share/classification", 3))),
    Chart("Adversarial loss against penalty",
          "Cosine of their gradients; where it is negative, they pull apart.",
          (Line("cosine", "discriminator/loss_cosine/adversarial_vs_penalty", 2),), level=0.0),
    Chart("The average behind the generator",
          "Distance of the averaged weights from the present ones, over their length, and the share of the "
          "initial weights in the average.",
          (Line("distance", "average/distance"), Line("initial weights", "average/initial_share", 3))),
)  # fmt: skip

LOSSES = (
    Chart("Losses of the two players",
          "What each network minimises. Neither has to fall, because the other one moves too.",
          (Line("generator", "loss/generator"), Line("discriminator", "loss/discriminator", 2))),
    Chart("Gradient penalty",
          "Root mean square gradient of the discriminator with respect to its input: how steep it is there.",
          (Line("at real samples", "penalty/real_gradient", 3),
           Line("at generated samples", "penalty/fake_gradient", 4)), log=True),
)  # fmt: skip

CAPTIONS = {
    "samples": "What the generator makes of the same random inputs, with its latest averaged weights.",
    "interpolations": "From one random input to another, in even steps.",
    "neighbours": "Generated images, each next to the nearest images of the training data.",
    "field_video": "The field that the generator feels, along the training.",
    "field": "The discriminator's surface, and where it pushes each generated point now.",
    "logits": "Outputs of the discriminator for real and for generated samples.",
    "eigenvalues": "Eigenvalues of the game's Jacobian: imaginary parts rotate, negative real parts attract.",
    "path_angle": "Angle between the vector field of both players and the path that they took.",
}


def subject(record: Record) -> str:
    """The data."""
    return str(record.summary.get("data") or class_name(record.options.get("data")))


def title(record: Record) -> str:
    """The data, by the name of its class while there is no summary."""
    return f"GAN on {record.summary.get('data') or class_name(record.options.get('data')).lower()}"


def class_counts(record: Record) -> Bars | None:
    """How many generated images fell into each class; None where that was not measured."""
    counts = record.summary.get("class_counts")
    if not isinstance(counts, list) or not counts:
        return None
    return Bars("Generated images in each class, as the classifier sees them", tuple(map(int, counts)))


def facts(record: Record) -> Iterator[Fact]:
    """Quality and variety of what is generated, each number with what real data score."""
    for name in ("fid", "kid"):
        value, at = _measured(record, name)
        if value is not None:
            floor = number(_measured(record, f"{name}_floor")[0])
            features = record.summary.get("features")
            under = f"; features of {features}" if features and name == "fid" else ""
            note = f"real images against other real images: {floor}{under}{at}"
            yield Fact(number(value), f"{name.upper()}, lower is better", note, value)
    yield from _modes(record)
    quality, at = _measured(record, "high_quality")
    if quality is not None:
        note = f"of the samples lie within 3 deviations of a cluster's centre; of real data 98.9 %{at}"
        yield Fact(percent(quality), "high quality", note, quality)
    kl, at = _measured(record, "reverse_kl")
    if kl is not None:
        note = f"how unevenly clusters or classes are drawn; 0 means as in the data{at}"
        yield Fact(f"{number(kl)} nats", "reverse KL", note, kl)


def _modes(record: Record) -> Iterator[Fact]:
    """How many classes or clusters are drawn."""
    found = class_counts(record)
    if found:
        counts = found.counts
        rarest, commonest = min(counts), max(counts)
        note = f"of {sum(counts):,} images, {rarest} in the rarest class and {commonest} in the commonest"
        drawn = sum(count > 0 for count in counts)
        yield Fact(f"{drawn} of {len(counts)}", "classes drawn", note, drawn)
        return
    modes, at = _measured(record, "modes")
    if modes is not None:
        total, what = _num_modes(record), "clusters of the data with a good sample"
        if total is None:
            total, what = _measured(record, "modes_floor")[0], "classes of the data with a sample"
        of = f" of {total:,.0f}" if total else ""
        yield Fact(f"{modes:,.0f}{of}", "modes found", f"{what}{at}", modes)


def _measured(record: Record, name: str) -> tuple[float | None, str]:
    """A number of the summary; without it, the last one on its curve and, for the note, where that was."""
    value = record.summary.get(name)
    if isinstance(value, int | float) and math.isfinite(value):
        return value, ""
    last = record.last(f"eval/{name}") if name not in record.summary else None
    return (last[0], f"; measured at {last[1]:,} {record.unit}") if last else (None, "")


def _num_modes(record: Record) -> int | None:
    """Clusters of a mixture in the plane; None for images."""
    modes, side = (option(record.options, "data", name) for name in ("num_modes", "side"))
    return modes if isinstance(modes, int) else side**2 if isinstance(side, int) else None


GAN = Kind(
    name="GAN",
    unit="real images shown",
    length="total_images",
    efforts={"images_per_s": "images a second"},
    players=("generator", "discriminator"),
    title=title,
    subject=subject,
    facts=facts,
    bars=class_counts,
    outcome=OUTCOME,
    overview=tuple(
        chart for chart in GAME if chart.title.startswith(("Accuracy", "Generator's gradient over"))
    ),
    topics=(Topic("The game", GAME, ("field_video", "field", "logits", "eigenvalues", "path_angle")),),
    losses=LOSSES,
    captions=CAPTIONS,
)

SCORE = Score(
    package="gradgan",
    command="train_gan",
    runs="GANs",
    label="FID (of mixtures: reverse KL)",
    unit="images",
    long_unit="real images shown",
    entries=("fid", "reverse_kl"),
    curves=("eval/fid", "eval/reverse_kl"),
    task=("data", "features"),
    task_options=("data", "features"),
    method="loss",
    falls=True,
    floor="fid_floor",
)
