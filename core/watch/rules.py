"""Rules about faults that only a loop of one's own can have: it clears, connects and feeds by hand.

Each looks at what is certain, not at what is likely: the border lies where a healthy loop cannot stand.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from core.diagnosis import RULES, Context, History, Rule, Sign
from core.diagnosis.gradients import NonFinite
from core.watch.models import Strays


@dataclass(frozen=True, kw_only=True)
class GradientsNotCleared:
    """Every backward pass adds to the gradient of the step before.

    Attributes:
        share: of the last gradient that is still there when the next one is added.
        points: in a row.
    """

    share: float = 0.9
    points: int = 2

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One sign for each player."""
        for player in context.players:
            left = history.recent(f"{player.prefix}gradient/carried", self.points)
            if left and min(left) >= self.share:
                yield Sign(
                    name="gradients_not_cleared",
                    severity="error",
                    player=player.name,
                    evidence={"gradient/carried": left[-1]},
                    what=f"{left[-1]:.0%} of the last step's gradient is still there when the next is added.",
                    cause="zero_grad is never called, or is called on another optimizer: every step follows "
                    "the sum of all gradients so far.",
                    remedy=("call optimizer.zero_grad() after optimizer.step(), once every step",),
                    kinds=("zero_grad",),
                )


@dataclass(frozen=True, kw_only=True)
class NoGradient:
    """The optimizer steps while no parameter has a gradient.

    Attributes:
        share: of the steps of a window.
        points: in a row.
    """

    share: float = 0.999
    points: int = 2

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One sign for each player."""
        for player in context.players:
            empty = history.recent(f"{player.prefix}gradient/absent", self.points)
            lost = history.recent(f"{player.prefix}gradient/lost", self.points)
            cleared = bool(lost) and min(lost) == 1.0
            if cleared or (empty and min(empty) >= self.share):
                yield Sign(
                    name="no_gradient",
                    severity="error",
                    player=player.name,
                    evidence={"gradient/lost": lost[-1]} if cleared else {"gradient/absent": empty[-1]},
                    what=(
                        "backward gives its parameters a gradient, and none is left when the optimizer steps."
                        if cleared
                        else "the optimizer steps, and not one of its parameters has a gradient."
                    ),
                    cause=(
                        "zero_grad stands between backward and step."
                        if cleared
                        else "backward is not called, or the loss does not depend on these parameters: it is "
                        "computed by another model, or cut off by detach(), item() or no_grad()."
                    ),
                    remedy=(
                        "call optimizer.zero_grad() before loss.backward(), or after optimizer.step()"
                        if cleared
                        else "compute the loss from this model's outputs, and call loss.backward() before "
                        "optimizer.step()",
                    ),
                    kinds=("zero_grad",) if cleared else ("loss", "stale_optimizer"),
                )


@dataclass(frozen=True, kw_only=True)
class UnoptimizedParameters:
    """Parameters of a model that require a gradient and that no optimizer moves.

    Attributes:
        found: what models and optimizers do not have in common, as it now is.
    """

    found: Callable[[], Strays]

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """A warning where they receive gradients; a note where they only might."""
        found = self.found()
        if not found.orphans:
            return
        yield Sign(
            name="unoptimized_parameters",
            severity="warning" if found.reached else "note",
            layer=(found.reached or found.orphans)[0],
            evidence={
                "parameters": float(len(found.orphans)),
                "with_gradient": float(len(found.reached)),
                "share": found.elements[0] / found.elements[1],
            },
            what=(
                f"no optimizer has it{_and_more(found.orphans)}: {found.elements[0]:,} of "
                f"{found.elements[1]:,} numbers require a gradient and stay as they are."
            ),
            cause="It was made after the optimizer, or only a part of the model was handed to it.",
            remedy=(
                "hand it to the optimizer (optimizer.add_param_group), or call requires_grad_(False) on it",
            ),
            kinds=("stale_optimizer", "frozen"),
        )


@dataclass(frozen=True, kw_only=True)
class StaleParameters:
    """Parameters that an optimizer holds and the model does not have any more.

    Attributes:
        found: as above.
    """

    found: Callable[[], Strays]

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One sign for all optimizers: these parameters never receive a gradient."""
        found = self.found()
        if not found.stale:
            return
        yield Sign(
            name="stale_parameters",
            severity="error" if found.stale == found.held else "warning",
            evidence={"stale": float(found.stale), "held": float(found.held)},
            what=f"{found.stale:,} of {found.held:,} tensors that the optimizer moves are not in the model.",
            cause="A part of the model was replaced (or loaded anew) after the optimizer was made.",
            remedy=("make the optimizer after the model has its last form: Optimizer(model.parameters())",),
            kinds=("stale_optimizer",),
        )


@dataclass(frozen=True, kw_only=True)
class OutputDoesNotFit:
    """The loss is given something else than it expects: probabilities for scores, scores for logarithms.

    Attributes:
        loss: "cross_entropy", "nll", "bce", "bce_with_logits", "elementwise", or empty where not known.
        points: in a row.
        numbers: that must lie in [0, 1] before they are taken for probabilities; scores about zero never do
            by chance, 2^-64.
    """

    loss: str
    points: int = 2
    numbers: int = 64

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """At most one sign, the most certain."""

        def always(tag: str) -> float:
            return min(history.recent(f"output/{tag}", self.points) or [-1.0])

        numbers, classes = always("numbers"), always("classes")
        probabilities, logs = always("probabilities"), always("log_probabilities")
        inside, spread = always("in_unit_interval") == 1.0, always("broadcast")
        if self.loss == "elementwise" and spread > 1.0:
            yield self._sign(
                {"output/broadcast": spread},
                f"predictions and targets of different shapes become {spread:.0f} times as many numbers.",
                "Every prediction is compared with every target: [B, 1] against [B] becomes [B, B].",
                "bring both to one shape: predictions.squeeze(1), or targets.unsqueeze(1)",
                ("loss", "layers"),
            )
        elif self.loss in ("cross_entropy", "nll") and classes == 1.0:
            yield self._sign(
                {"output/classes": classes},
                "it chooses among one class: the loss is 0 whatever the network says.",
                "A softmax over a single output is always 1.",
                "give the last layer one output for each class, or use BCEWithLogitsLoss for a single one",
                ("loss", "activation"),
            )
        elif self.loss == "cross_entropy" and probabilities == 1.0:
            yield self._sign(
                {"output/probabilities": probabilities},
                "every row of the predictions is already a softmax: it is taken twice.",
                "CrossEntropyLoss applies the softmax itself; the second one flattens the gradient.",
                "leave out the softmax at the end of the model",
                ("activation", "loss"),
            )
        elif self.loss == "nll" and 0.0 <= logs < 0.5:
            yield self._sign(
                {"output/log_probabilities": logs},
                "its predictions are no logarithms of probabilities, which it expects.",
                "NLLLoss takes the output of log_softmax; of anything else it has no lower bound.",
                "put nn.LogSoftmax(dim=1) at the end of the model, or use CrossEntropyLoss",
                ("activation", "loss"),
            )
        elif self.loss == "bce_with_logits" and inside and numbers >= self.numbers:
            yield self._sign(
                {"output/in_unit_interval": 1.0, "output/numbers": numbers},
                "all predictions lie between 0 and 1: the sigmoid is taken twice.",
                "BCEWithLogitsLoss applies the sigmoid itself; no output can come near 0 any more.",
                "leave out the sigmoid at the end of the model, or use BCELoss",
                ("activation", "loss"),
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
        )


@dataclass(frozen=True, kw_only=True)
class UnscaledInputs:
    """A linear or convolutional layer meets inputs of a large scale, or inputs that are all the same.

    Attributes:
        rms: root mean square from which one should act: bytes as floats have 70 to 150, standardised data 1,
            pixels in [0, 1] below 1.
        variation: largest standard deviation of a component over its samples, over the root mean square,
            below which all samples are equal.
        points: in a row.
    """

    rms: float = 50.0
    variation: float = 1e-6
    points: int = 2

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """At most one sign for each player."""
        for player in context.players:
            sizes = history.recent(f"{player.prefix}input/rms", self.points)
            varied = history.recent(f"{player.prefix}input/variation", self.points)
            if varied and max(varied) < self.variation:
                yield Sign(
                    name="constant_inputs",
                    severity="warning",
                    player=player.name,
                    evidence={"input/variation": varied[-1]},
                    what="all samples of a batch are the same.",
                    cause="What loads the data returns one sample again and again, or a constant.",
                    remedy=("look at what the data loader returns: every sample should be another one",),
                    kinds=("data", "observation"),
                )
            elif sizes and min(sizes) >= self.rms:
                yield Sign(
                    name="unscaled_inputs",
                    severity="warning",
                    player=player.name,
                    evidence={
                        "input/rms": sizes[-1],
                        "input/largest": history.last(f"{player.prefix}input/largest") or 0.0,
                    },
                    what=f"the inputs have a root mean square of {sizes[-1]:.3g}.",
                    cause="They are not normalised: the first layer's steps are too long by this factor.",
                    remedy=(
                        f"divide the inputs by {sizes[-1]:.2g}, or scale them to mean 0 and deviation 1",
                    ),
                    kinds=("preprocessing", "normalisation"),
                )


@dataclass(frozen=True, kw_only=True)
class WrongMode:
    """Dropout and batch statistics are in the mode of evaluation while training, or the other way round.

    Attributes:
        points: in a row.
    """

    points: int = 2

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """At most one sign for each player, and one for losses without a gradient."""
        for player in context.players:
            shares = history.recent(f"{player.prefix}mode/evaluation", self.points)
            if shares and min(shares) == 1.0:
                yield Sign(
                    name="trained_in_evaluation_mode",
                    severity="warning",
                    player=player.name,
                    evidence={"mode/evaluation": shares[-1]},
                    what="it is trained in evaluation mode: its dropout or batch normalisation does nothing.",
                    cause="model.eval() was called, and model.train() not again.",
                    remedy=("call model.train() before the training loop goes on",),
                    kinds=("eval_mode",),
                )
        shares = history.recent("mode/training_without_gradient", self.points)
        if shares and min(shares) == 1.0:
            yield Sign(
                name="evaluated_in_training_mode",
                severity="warning",
                evidence={"mode/training_without_gradient": shares[-1]},
                what="losses are computed without a gradient while the model is in training mode.",
                cause="Dropout drops and batch normalisation learns from what is only to be measured.",
                remedy=("call model.eval() before the evaluation, and model.train() after it",),
                kinds=("eval_mode",),
            )


LOSSES = {
    "crossentropyloss": "cross_entropy",
    "nllloss": "nll",
    "bceloss": "bce",
    "binarycrossentropy": "bce",
    "bcewithlogitsloss": "bce_with_logits",
    "binarycrossentropywithlogits": "bce_with_logits",
    "crossentropy": "cross_entropy",
    "mseloss": "elementwise",
    "l1loss": "elementwise",
    "smoothl1loss": "elementwise",
    "huberloss": "elementwise",
}


def kind_of_loss(loss: object) -> str:
    """Which of torch's losses it is, by the name of the class or function; empty for any other."""
    name = getattr(loss, "__name__", type(loss).__name__)
    return LOSSES.get(name.replace("_", "").lower(), "")


def rules_of(
    loss: object, found: Callable[[], Strays], scaled: Callable[[], bool], own: tuple[Rule, ...]
) -> tuple[Rule, ...]:
    """The rules for a foreign loop: those for any network, those of this file, and the user's own.

    Args:
        loss: module or function.
        found: what models and optimizers do not have in common, as it now is.
        scaled: whether a loss scaler is at work. It begins with too large a scale on purpose: the first steps
            overflow in healthy loops.
        own: further ones.
    """
    unscaled = NonFinite(skips=False)
    overflow = NonFinite(rare=0.5, points=4)

    def non_finite(history: History, context: Context) -> Iterator[Sign]:
        return (overflow if scaled() else unscaled)(history, context)

    return (
        non_finite,
        *(rule for rule in RULES if not isinstance(rule, NonFinite)),
        GradientsNotCleared(),
        NoGradient(),
        UnoptimizedParameters(found=found),
        StaleParameters(found=found),
        OutputDoesNotFit(loss=kind_of_loss(loss)),
        UnscaledInputs(),
        WrongMode(),
        *own,
    )


def _and_more(names: tuple[str, ...]) -> str:
    return f" nor {len(names) - 1} more" if len(names) > 1 else ""
