"""Which curves are drawn together, and the sentences that explain each chart: those of any run."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """A curve of a chart: its label, its tag, one of the style sheet's colours; dotted for a reference."""

    label: str
    tag: str
    colour: int = 1
    dashed: bool = False


@dataclass(frozen=True)
class Chart:
    """A chart that is drawn when any of its curves exists.

    Attributes:
        title: of the chart; its place on the page is named after it.
        caption: what the curves are and how to read them.
        lines: the curves.
        log: a logarithmic axis, unless a curve takes values below 0.
        level: a height that means something; a rule is drawn there.
    """

    title: str
    caption: str
    lines: tuple[Line, ...]
    log: bool = False
    level: float | None = None


# Of every gradient step, all players in one chart. `{clipped}` is a remark where clipping changed the norm.
GRADIENTS = (
    Chart("Gradient norm", "Length of the whole gradient vector{clipped}. Logarithmic.",
          (Line("norm", "gradient/norm"),), log=True),
    Chart("Cosine",
          "Cosine of the angle to the gradient one step before: 1 is the same direction, 0 is unrelated "
          "(mostly noise), −1 is the opposite one.", (Line("cosine", "gradient/cosine"),)),
    Chart("Update ratio", "Length of a step relative to the parameters that it changes. Logarithmic.",
          (Line("update ratio", "gradient/update_ratio"),), log=True),
    Chart("Noise scale",
          "Number of samples at which noise and signal of a batch's gradient are equally long. A batch far "
          "below it is mostly noise. Logarithmic.", (Line("noise scale", "gradient/noise_scale"),), log=True),
    Chart("Effective learning rate",
          "The rate at which plain gradient descent would step as far as the optimizer does. Logarithmic.",
          (Line("effective lr", "gradient/effective_lr"),), log=True),
    Chart("Clipped", "Share of steps whose gradient was shortened to the limit.",
          (Line("clipped", "gradient/clipped"),)),
    Chart("Skipped", "Share of steps that were left out because their gradient was not finite.",
          (Line("skipped", "gradient/skipped"),)),
)  # fmt: skip

NOISE = (
    Chart("Noise scale of single samples",
          "Number of samples at which noise and signal are equally long, and the batch whose gradient would "
          "be off by the probe's theta. Logarithmic.",
          (Line("noise scale", "noise/noise_scale"),
           Line("recommended batch", "noise/recommended_batch", 3)), log=True),
    Chart("Is the batch large enough?",
          "Relative error of its gradient: along it, across it, and both. Above 1 the batch does not "
          "determine the direction. Logarithmic.",
          (Line("both", "noise/norm_test"), Line("along", "noise/inner_product_test", 3),
           Line("across", "noise/orthogonality_test", 2)), log=True, level=1.0),
    Chart("Signal to noise",
          "Ratio of signal to noise in the gradient of one sample; there is none where noise drowns the "
          "signal. Logarithmic.", (Line("signal to noise", "noise/signal_to_noise"),), log=True),
)  # fmt: skip

CURVATURE = (
    Chart("Sharpness",
          "Largest and lowest eigenvalue of the Hessian. Below 0 the loss curves downwards in some "
          "direction.",
          (Line("largest", "curvature/sharpness"), Line("lowest", "curvature/lowest", 2)), level=0.0),
    Chart("Edge of stability",
          "Sharpness as the optimizer meets it, over the sharpness at which it stays stable. Above 1 the "
          "parameters oscillate ever further along the sharpest direction. Logarithmic.",
          (Line("ratio", "curvature/stability"),), log=True, level=1.0),
    Chart("Curvature along the gradient", "Second derivative along the gradient.",
          (Line("curvature", "curvature/along_gradient"),), level=0.0),
    Chart("Newton step",
          "Learning rate at which plain gradient descent would reach the bottom of the parabola below it; "
          "there is none where the parabola has no bottom. Logarithmic.",
          (Line("rate", "curvature/newton_step"),), log=True),
    Chart("Predicted decrease",
          "Decrease of the loss that the next step should bring. Below 0 the step is too long for its "
          "parabola.", (Line("decrease", "curvature/predicted_decrease"),), level=0.0),
    Chart("Negative curvature", "Share of the eigenvalues that are clearly below 0.",
          (Line("share", "curvature/negative_share"),)),
    Chart("Trace of the Hessian", "Sum of all eigenvalues.", (Line("trace", "curvature/trace"),)),
)  # fmt: skip
