"""Which curves are drawn together, and the sentence that explains each picture."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """A chart to draw when any of its curves exists; lines are (label, tag, colour, dashed).

    Where a curve takes values below 0 its axis is not logarithmic after all. `level`: a height that means
    something.
    """

    title: str
    caption: str
    lines: tuple[tuple[str, str, int, bool], ...]
    log: bool = False
    level: float | None = None


OUTCOME = (
    Plan(
        "Return",
        "Sum of rewards of an episode. Evaluation plays separate episodes; its band is ± one deviation "
        "between them.",
        (("training", "episode/return", 3, False), ("evaluation", "eval/return_mean", 1, False)),
    ),
    Plan(
        "Value of the function",
        "At the point the descent has come to.",
        (("value", "descent/value", 1, False),),
        log=True,
    ),
    Plan(
        "Coordinates",
        "Of that point, the first four.",
        tuple((f"x{i}", f"descent/x{i}", 1 + i, False) for i in range(4)),
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
        "Fidelity and variety",
        "Precision: share of samples that lie among the real ones; recall: share of real ones that lie among "
        "the samples. Dashed: real images.",
        (("precision", "eval/precision", 1, False), ("recall", "eval/recall", 2, False),
         ("precision of real ones", "eval/precision_floor", 1, True),
         ("recall of real ones", "eval/recall_floor", 2, True)),
    ),
    Plan(
        "Density and coverage",
        "The same two questions, asked so that outliers count less. Dashed: real images.",
        (("density", "eval/density", 1, False), ("coverage", "eval/coverage", 2, False),
         ("density of real ones", "eval/density_floor", 1, True),
         ("coverage of real ones", "eval/coverage_floor", 2, True)),
    ),
    Plan(
        "Inception Score",
        "How sure of single samples and how undecided about all of them together a classifier is.",
        (("generated", "eval/inception_score", 1, False), ("real", "eval/inception_score_floor", 3, True)),
    ),
    Plan(
        "Modes found",
        "Clusters of the data that got a good sample, or classes that got any.",
        (("modes", "eval/modes", 1, False), ("real", "eval/modes_floor", 3, True)),
    ),
    Plan(
        "High quality",
        "Share of samples close to a cluster of the data.",
        (("share", "eval/high_quality", 1, False),),
    ),
    Plan(
        "Reverse KL",
        "How unevenly the samples are spread over clusters or classes, in nats; 0 is as the data are.",
        (("generated", "eval/reverse_kl", 1, False), ("real", "eval/reverse_kl_floor", 3, True)),
        log=True,
    ),
)  # fmt: skip

# Both players together; the pictures of the same section are `pictures.GAME_PICTURES`.
GAME = (
    Plan(
        "Verdicts of the discriminator",
        "Its mean output for real and for generated samples; far apart, it tells them apart.",
        (("real", "logits/real", 3, False), ("generated", "logits/fake", 4, False)),
    ),
    Plan("Accuracy of the discriminator", "Share of samples it judges rightly; 0.5 is guessing.",
         (("share", "logits/accuracy", 2, False),)),
    Plan(
        "Gap of the logits",
        "Mean logit of training samples less that of generated ones, always on the same samples.",
        (("gap", "game/logit_gap", 2, False),),
        level=0.0,
    ),
    Plan(
        "Overfitting of the discriminator",
        "Share of that gap between training and held-out samples: at 0 it treats both alike, at 1 held-out "
        "ones look generated to it.",
        (("share", "game/overfitting", 2, False),),
        level=0.0,
    ),
    Plan(
        "The generator's gradient through the discriminator",
        "Its length as it leaves the discriminator, for one sample, and its first factor, the slope of the "
        "loss at the logit. The second vanishes where the loss saturates, the first also where the "
        "discriminator is flat. Logarithmic.",
        (("at the sample", "game/sample_gradient", 1, False),
         ("at the logit", "game/logit_gradient", 4, False)),
        log=True,
    ),
    Plan(
        "Generator's gradient over discriminator's",
        "Ratio of the two norms on the same samples. Logarithmic.",
        (("ratio", "game/gradient_ratio", 1, False),),
        log=True,
        level=1.0,
    ),
    Plan(
        "Variety of the samples",
        "Mean distance between generated samples over that between real ones: 1 as different as the data, "
        "near 0 all alike.",
        (("ratio", "game/diversity", 1, False),),
        level=1.0,
    ),
    Plan(
        "Energy distance",
        "Between samples and data, in [0, 1]; 0: the same distribution.",
        (("distance", "game/energy_distance", 1, False),),
    ),
    Plan(
        "The discriminator's gradient, by terms of its loss",
        "Length of each term's gradient over the sum of their lengths.",
        (("adversarial", "discriminator/loss_share/adversarial", 2, False),
         ("penalty", "discriminator/loss_share/penalty", 1, False),
         ("classification", "discriminator/loss_share/classification", 3, False)),
    ),
    Plan(
        "Adversarial loss against penalty",
        "Cosine of their gradients; negative: they pull apart.",
        (("cosine", "discriminator/loss_cosine/adversarial_vs_penalty", 2, False),),
        level=0.0,
    ),
    Plan(
        "The average behind the generator",
        "Distance of the averaged weights from the present ones, over their length, and how much of the "
        "average are still the initial weights.",
        (("distance", "average/distance", 1, False), ("initial weights", "average/initial_share", 3, False)),
    ),
)  # fmt: skip

LOSSES = (
    Plan(
        "Losses of the two players",
        "What each network minimises. Neither has to fall: the other one moves too.",
        (("generator", "loss/generator", 1, False), ("discriminator", "loss/discriminator", 2, False)),
    ),
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

# The probes, for each player; tags without its name.
NOISE = (
    Plan(
        "Noise scale of single samples",
        "Samples at which noise and signal are equally long, and the batch whose gradient would be off by "
        "the probe's theta. Logarithmic.",
        (("noise scale", "noise/noise_scale", 1, False),
         ("recommended batch", "noise/recommended_batch", 3, False)),
        log=True,
    ),
    Plan(
        "Is the batch large enough?",
        "Relative error of its gradient: along it, across it, and both. Above 1 the batch does not know the "
        "direction. Logarithmic.",
        (("both", "noise/norm_test", 1, False), ("along", "noise/inner_product_test", 3, False),
         ("across", "noise/orthogonality_test", 2, False)),
        log=True,
        level=1.0,
    ),
    Plan("Signal to noise", "Of the gradient of one sample; none where noise drowns the signal. Logarithmic.",
         (("signal to noise", "noise/signal_to_noise", 1, False),), log=True),
)  # fmt: skip

CURVATURE = (
    Plan(
        "Sharpness",
        "Largest and lowest eigenvalue of the Hessian. Below 0: the loss curves downwards somewhere.",
        (("largest", "curvature/sharpness", 1, False), ("lowest", "curvature/lowest", 2, False)),
        level=0.0,
    ),
    Plan("Edge of stability", "Sharpness as the optimizer meets it, over what it can stand. Above 1 the "
         "sharpest direction grows. Logarithmic.",
         (("ratio", "curvature/stability", 1, False),), log=True, level=1.0),
    Plan("Curvature down the gradient", "Second derivative along the gradient.",
         (("curvature", "curvature/along_gradient", 1, False),), level=0.0),
    Plan("Newton step", "Learning rate at which plain descent would reach the bottom of the parabola below "
         "it; none where there is no bottom. Logarithmic.",
         (("rate", "curvature/newton_step", 1, False),), log=True),
    Plan("Predicted decrease", "Of the loss by the next step. Below 0 the step is too long for its parabola.",
         (("decrease", "curvature/predicted_decrease", 1, False),), level=0.0),
    Plan("Negative curvature", "Share of the eigenvalues that are clearly below 0.",
         (("share", "curvature/negative_share", 1, False),)),
    Plan("Trace of the Hessian", "Sum of all eigenvalues.", (("trace", "curvature/trace", 1, False),)),
)  # fmt: skip
