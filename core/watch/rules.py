"""Rules about faults that only a loop of one's own can have: it clears, connects and feeds by hand.

Each looks at what is certain, not at what is likely: the border lies where a healthy loop cannot stand.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from core.diagnosis import Context, History, Rule, Sign, network_rules
from core.diagnosis.causes import LITTLE_LEARNT, NO_GRADIENT, PROGRAM
from core.diagnosis.gradients import NonFinite
from core.diagnosis.inputs import UnscaledInputs
from core.diagnosis.learning import LossMaximised, learnt
from core.diagnosis.steps import NoiseDominated
from core.diagnosis.units import DeadUnits, SaturatedUnits
from core.watch.described import kind_of_loss
from core.watch.fit import ConstantTargets, OutOfScale, OutputDoesNotFit, QuantitiesOfClasses
from core.watch.idle import GAME, MANY, Idle
from core.watch.models import Strays
from core.watch.progress import NoBetterThanConstant, NotTrainedLongEnough, WorseHeldOut
from core.watch.remedies import divided


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
                    explains=PROGRAM,
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
                    explains=PROGRAM,
                )


@dataclass(frozen=True, kw_only=True)
class NeverSteps:
    """An optimizer is not called at all, and the gradients of its parameters are cleared unused.

    Attributes:
        idle: by player, those that have not stepped yet.
        least: gradients that were cleared, from which it is said.
        game: the same where another player steps.
    """

    idle: Callable[[], Mapping[str, Idle]]
    least: int = MANY
    game: int = GAME

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One sign for each player."""
        idle = self.idle()
        for player in context.players:
            found = idle.get(player.name)
            alone = len(idle) == len(context.players)
            if found is None or found.unused < (self.least if alone else self.game):
                continue
            moved = found.moved
            yield Sign(
                name="optimizer_never_steps",
                severity="error",
                player=player.name,
                evidence={"unused": float(found.unused)},
                what=(
                    f"{found.unused:,} gradients of its parameters were cleared, and step() was never called"
                    f"{', while something else moves the parameters' * moved}."
                ),
                cause=(
                    "The loop steps another optimizer, made after this watch, or anew in each step."
                    if moved
                    else "optimizer.step() is missing from the loop, or belongs to another optimizer."
                ),
                remedy=(
                    "make the optimizer once, before the loop, and hand that one to Watch"
                    if moved
                    else "call optimizer.step() after loss.backward(), on the optimizer that Watch was given",
                ),
                kinds=("stale_optimizer", "optimizer"),
                explains=PROGRAM,
                patience=1,
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
            explains=LITTLE_LEARNT,
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
            explains=("unoptimized_parameters", *NO_GRADIENT),
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


def begun(history: History) -> bool | None:
    """Whether the loss has come down from that of the best constant."""
    return learnt(history, 0.9)


LAST: tuple[Rule, ...] = (NoBetterThanConstant(), NotTrainedLongEnough())  # what only the end can say


def rules_of(loss: object, found: Callable[[], Strays], scaled: Callable[[], bool]) -> tuple[Rule, ...]:
    """The rules for a foreign loop: those for any network, and those of this package.

    Args:
        loss: module or function.
        found: what models and optimizers do not have in common, as it now is.
        scaled: whether a loss scaler is at work. It begins with too large a scale on purpose: the first steps
            overflow in healthy loops.
    """
    unscaled = NonFinite(skips=False)
    overflow = NonFinite(rare=0.5, points=4)

    def non_finite(history: History, context: Context) -> Iterator[Sign]:
        return (overflow if scaled() else unscaled)(history, context)

    return (
        non_finite,
        *(
            rule
            for rule in network_rules(
                DeadUnits(patience=2),  # measured twice by then: no later than what it brings about
                SaturatedUnits(learnt=learnt),
                NoiseDominated(learnt=begun),
                UnscaledInputs(remedy=divided),
            )
            if not isinstance(rule, NonFinite)
        ),
        GradientsNotCleared(),
        NoGradient(),
        UnoptimizedParameters(found=found),
        StaleParameters(found=found),
        OutputDoesNotFit(loss=kind_of_loss(loss)),
        QuantitiesOfClasses(),
        ConstantTargets(),
        OutOfScale(),
        LossMaximised(),
        NoBetterThanConstant(share=0.97, least=2000),
        WorseHeldOut(),
        WrongMode(),
    )


def _and_more(names: tuple[str, ...]) -> str:
    return f" nor {len(names) - 1} more" if len(names) > 1 else ""
