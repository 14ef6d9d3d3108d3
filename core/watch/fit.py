"""Rules about what the loss is given: outputs and targets that it, and each other, do not fit."""

from collections.abc import Iterator
from dataclasses import dataclass

from core.diagnosis import Context, History, Sign
from core.diagnosis.causes import PROGRAM, SCALE
from core.diagnosis.learning import left

BOUNDED = ("sigmoid", "tanh", "softsign", "relu")  # what takes from scores of classes what they need


def always(history: History, tag: str, points: int) -> float:
    """The least of a tag's last values; -1 where there are not as many."""
    return min(history.recent(tag, points) or [-1.0])


@dataclass(frozen=True, kw_only=True)
class OutputDoesNotFit:
    """The loss is given something else than it expects: probabilities for scores, scores for logarithms.

    Attributes:
        loss: "cross_entropy", "nll", "bce", "bce_with_logits", "elementwise", or empty where not known.
        points: in a row.
        outside: share of the targets that cannot be reached, from which one should act.
    """

    loss: str
    points: int = 2
    outside: float = 0.02

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """At most one sign, the most certain."""
        sign = self._shape(history) or self._classes(history) or self._range(history)
        if sign is not None:
            yield sign

    def _shape(self, history: History) -> Sign | None:
        """Numbers of predictions and targets, and outputs that cannot differ."""
        spread = always(history, "output/broadcast", self.points)
        classes = always(history, "output/classes", self.points)
        if self.loss == "elementwise" and spread > 1.0:
            return self._sign(
                {"output/broadcast": spread},
                f"predictions and targets of different shapes become {spread:.0f} times as many numbers.",
                "Every prediction is compared with every target: [B, 1] against [B] becomes [B, B].",
                "bring both to one shape: predictions.squeeze(1), or targets.unsqueeze(1)",
                ("loss", "layers"),
            )
        if self.loss in ("cross_entropy", "nll") and classes == 1.0:
            return self._sign(
                {"output/classes": classes},
                "it chooses among one class: the loss is 0 whatever the network says.",
                "A softmax over a single output is always 1.",
                "give the last layer one output for each class, or use BCEWithLogitsLoss for a single one",
                ("loss", "activation"),
            )
        if classes == 1.0 and always(history, "output/ends_in/softmax", self.points) == 1.0:
            return self._sign(
                {"output/classes": classes},
                "a softmax over a single output is 1 whatever the network says.",
                "A softmax shares 1 among its outputs, and there is only one.",
                "use nn.Sigmoid in place of nn.Softmax, or BCEWithLogitsLoss and neither",
                ("activation",),
            )
        return None

    def _classes(self, history: History) -> Sign | None:
        """Scores, probabilities and their logarithms."""
        probabilities = always(history, "output/probabilities", self.points)
        logs = always(history, "output/log_probabilities", self.points)
        last = next((n for n in BOUNDED if always(history, f"output/ends_in/{n}", self.points) == 1.0), "")
        if self.loss == "cross_entropy" and probabilities == 1.0:
            return self._sign(
                {"output/probabilities": probabilities},
                "every row of the predictions is already a softmax: it is taken twice.",
                "CrossEntropyLoss applies the softmax itself; the second one flattens the gradient.",
                "leave out the softmax at the end of the model",
                ("activation", "loss"),
            )
        if self.loss == "cross_entropy" and last:
            return self._sign(
                {f"output/ends_in/{last}": 1.0},
                f"its scores come out of a {last}, which leaves them no room to be sure of a class.",
                "CrossEntropyLoss applies a softmax to scores of any size and sign.",
                f"leave out the {last} at the end of the model",
                ("activation",),
            )
        if self.loss == "nll" and 0.0 <= logs < 0.5:
            return self._sign(
                {"output/log_probabilities": logs},
                "its predictions are no logarithms of probabilities, which it expects.",
                "NLLLoss takes the output of log_softmax; of anything else it has no lower bound.",
                "put nn.LogSoftmax(dim=1) at the end of the model, or use CrossEntropyLoss",
                ("activation", "loss"),
            )
        if self.loss == "bce_with_logits" and last:
            return self._sign(
                {f"output/ends_in/{last}": 1.0},
                f"its logits come out of a {last}: they cannot be of any size and sign.",
                "BCEWithLogitsLoss applies the sigmoid itself.",
                f"leave out the {last} at the end of the model" + ", or use BCELoss" * (last == "sigmoid"),
                ("activation", "loss"),
            )
        return None

    def _range(self, history: History) -> Sign | None:
        """Targets that the output, or the loss, cannot reach."""
        outside = always(history, "label/outside", self.points)
        if outside < self.outside:
            return None
        if self.loss.startswith("bce"):
            return self._sign(
                {"label/outside": outside},
                f"{outside:.0%} of its targets are no probabilities: they lie outside of 0 and 1.",
                "A binary cross-entropy of other targets has no lower bound.",
                "use MSELoss for quantities, or bring the labels to 0 and 1",
                ("loss", "labels"),
            )
        return self._sign(
            {"label/outside": outside},
            f"{outside:.0%} of the targets lie outside of what the last activation can reach.",
            "The activation at the end of the model does not fit the targets.",
            "leave out the activation at the end of the model, or scale the targets into its range",
            ("activation", "preprocessing"),
        )

    def _sign(
        self, evidence: dict[str, float], what: str, cause: str, remedy: str, kinds: tuple[str, ...]
    ) -> Sign:
        return Sign(
            name="output_does_not_fit_loss",
            severity="warning",
            evidence=evidence,
            what=what,
            cause=cause,
            remedy=(remedy,),
            kinds=kinds,
            explains=PROGRAM,
        )


@dataclass(frozen=True, kw_only=True)
class QuantitiesOfClasses:
    """Classes are learnt by the distance of numbers, which says little of a class that is wrong.

    Attributes:
        points: in a row.
        steps: before it is more than a note: some networks learn in spite of it.
        share: of the best constant's loss that must then be left.
    """

    points: int = 2
    steps: int = 50
    share: float = 0.5

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One sign."""
        shares = history.recent("label/of_classes", self.points)
        if not shares or min(shares) < 1.0 or len(context.players) != 1:
            return
        now = left(history)
        stuck = history.step >= self.steps and now is not None and not now < self.share
        yield Sign(
            name="classes_taken_for_quantities",
            severity="warning" if stuck else "note",
            kinds=("loss",),
            explains=("no_better_than_constant", "not_trained_long_enough", "vanishing_gradient"),
            evidence={"label/of_classes": shares[-1]} | ({} if now is None else {"left": now}),
            what="its targets are classes, zeros and ones, and the loss is a distance.",
            cause="The gradient of a distance vanishes where a probability is most wrong.",
            remedy=("use CrossEntropyLoss (or BCEWithLogitsLoss for one output) on the scores themselves",),
        )


@dataclass(frozen=True, kw_only=True)
class ConstantTargets:
    """All targets are the same: there is nothing to learn.

    Attributes:
        points: in a row.
    """

    points: int = 4

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One sign, of a run with one player: a game's are constant."""
        shares = history.recent("label/constant", self.points)
        if not shares or min(shares) < 1.0 or len(context.players) != 1:
            return
        yield Sign(
            name="constant_targets",
            severity="warning",
            kinds=("labels", "data"),
            explains=("vanishing_gradient", "update_too_small"),
            evidence={"label/constant": shares[-1]},
            what="all targets of a batch are the same.",
            cause="What loads the labels returns one again and again, or a column of zeros.",
            remedy=("look at what the data loader returns: targets should differ",),
        )


@dataclass(frozen=True, kw_only=True)
class OutOfScale:
    """Outputs are far larger than the targets before the first step, or targets than any output.

    Attributes:
        scores: deviation of the classes' scores within a row, at the first call.
        times: outputs over targets, root mean squares, at the first call.
        large: root mean square of targets, from which an untrained network cannot come near.
        points: of the beginning, in which it is said.
        left: share of the best constant's loss from which large targets are a fault, after so many steps.
        steps: these.
        lost: the same before: the loss has exploded.
    """

    scores: float = 5.0
    times: float = 10.0
    large: float = 30.0
    points: int = 8
    left: float = 0.9
    steps: int = 50
    lost: float = 10.0

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """At most one sign of each."""
        first, target = history.last("output/at_start"), history.recent("label/rms", 2)
        compared = bool(target)
        most = self.times if compared else self.scores
        if first is not None and first > most and history.count("loss/train") <= self.points:
            yield Sign(
                name="outputs_too_large",
                severity="warning",
                kinds=("layers", "init"),
                explains=SCALE,
                evidence={"output/at_start": first},
                what=(
                    f"before the first step the outputs are {first:.3g} times as large as the targets."
                    if compared
                    else f"before the first step the scores of a sample deviate by {first:.3g}."
                ),
                cause="Something multiplies the outputs, or the last weights are too large.",
                remedy=(f"divide the last layer's weights, or its output, by {first:.2g}",),
            )
        now = left(history)
        away = now is not None and not now < (self.left if history.step >= self.steps else self.lost)
        usual = history.steady("label/rms") or 0.0  # targets that a network makes itself grow with it
        if target and min(*target, usual) > self.large and now is not None and away:
            yield Sign(
                name="unscaled_targets",
                severity="warning",
                kinds=("preprocessing", "normalisation"),
                explains=SCALE,
                evidence={"label/rms": target[-1], "left": now},
                what=f"the targets have a root mean square of {target[-1]:.3g}.",
                cause="They are not normalised: the gradient grows with them, and outputs have far to go.",
                remedy=(f"divide the targets by {usual:.2g}, or scale them to mean 0 and deviation 1",),
            )
