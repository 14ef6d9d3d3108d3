"""Rules about what an agent learns from: rewards, how far it looks ahead, and what it tries."""

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

from core.diagnosis import Context, History, Sign, remedies
from core.diagnosis.causes import LITTLE_LEARNT
from gradrl.diagnosis.rules import improved, policy_player

NOTHING_TO_LEARN = ("collapsed_entropy", "reward_scale", "vanishing_gradient", *LITTLE_LEARNT)


@dataclass(frozen=True, kw_only=True)
class OpposedReward:
    """What the agent is trained on rises, and what it is evaluated by falls.

    Attributes:
        evaluations: before it is said; the last two count.
        fall: of the evaluated return, as a share of the largest that an evaluation has had.
    """

    evaluations: int = 4
    fall: float = 0.3

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One sign."""
        course, player = history.course("eval/return_mean"), policy_player(context)
        if player is None or len(course) < self.evaluations or not improved(history):
            return
        first, now = course[0], median(course[-2:])
        if now > min(course[:2]) - self.fall * max(map(abs, course)):
            return
        yield Sign(
            name="reward_opposes_return",
            severity="warning",
            kinds=("reward",),
            explains=NOTHING_TO_LEARN,
            player=player.name,
            evidence={"eval/return_first": first, "eval/return": now},
            what=f"evaluated, the return has fallen from {first:.3g} to {now:.3g}; in training it rises.",
            cause="The reward that is trained on rewards something else: its sign is turned, say.",
            remedy=context.remedies.bare_data(context),
        )


@dataclass(frozen=True, kw_only=True)
class ConstantReturn:
    """Every episode has had the same return: no action can be told from another.

    Attributes:
        episodes: logged points before it is said.
        progress: share of the run before it is said.
        spread: of the returns, relative to the largest, that counts as none.
    """

    episodes: int = 8
    progress: float = 0.1
    spread: float = 1e-6

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One sign; returns that are all 0 are `reward_scale`'s."""
        course, player = history.course("episode/return"), policy_player(context)
        if player is None or len(course) < self.episodes or history.step < self.progress * context.total:
            return
        largest = max(map(abs, course))
        if not largest or max(course) - min(course) > self.spread * largest:
            return
        yield Sign(
            name="constant_return",
            severity="warning",
            kinds=("reward",),
            explains=NOTHING_TO_LEARN,
            player=player.name,
            evidence={"episode/return": course[-1], "points": float(len(course))},
            what=f"every episode so far has had a return of {course[-1]:.4g}.",
            cause="The reward does not depend on what is done, or no episode has come to where it does.",
            remedy=context.remedies.bare_data(context),
        )


@dataclass(frozen=True, kw_only=True)
class ShortHorizon:
    """The discount forgets rewards long before they come.

    Attributes:
        steps: 1 / (1 - gamma) below which hardly more than the next rewards count.
        episodes: times that horizon that an episode is long.
    """

    steps: float = 4.0
    episodes: float = 5.0

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One sign."""
        gamma, player = context.number("agent.gamma"), policy_player(context)
        length = history.level("episode/length", 2)
        if gamma is None or player is None or length is None:
            return
        horizon = 1.0 / max(1.0 - gamma, 1e-9)
        if horizon >= self.steps or length < self.episodes * horizon:
            return
        yield Sign(
            name="short_horizon",
            severity="warning",
            kinds=("discount",),
            explains=NOTHING_TO_LEARN,
            player=player.name,
            evidence={"gamma": gamma, "horizon": horizon, "episode/length": length},
            what=f"rewards count for {horizon:.2g} steps, and episodes last {length:.3g}.",
            cause="gamma is too small: what comes later is not learnt from.",
            remedy=(remedies.toward(context, "agent.gamma", 0.99),),
        )


@dataclass(frozen=True, kw_only=True)
class EntropyDominates:
    """The entropy bonus outweighs the reward: the policy stays as it would without any.

    Attributes:
        left: of the largest possible entropy, from which nothing has been decided.
        share: of the gradient's length that comes from the bonus.
        large: coefficient of the bonus from which its share need not be known; 0.01 is usual.
        progress: share of the run before it is said.
    """

    left: float = 0.98
    share: float = 0.5
    large: float = 0.1
    progress: float = 0.05

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One sign, for agents with a bonus."""
        bonus, player = context.number("agent.entropy_coef"), policy_player(context)
        entropy, largest = history.level("policy/entropy", 2), context.limits.get("entropy_max")
        share = history.last("loss_share/entropy")
        of_policy = history.last("loss_share/policy")
        if not bonus or player is None or entropy is None or not largest or improved(history):
            return
        drowned = share is not None and of_policy is not None and share > self.share * (share + of_policy)
        undecided = entropy > self.left * largest and history.step >= self.progress * context.total
        if not (drowned or bonus >= self.large) or not undecided:
            return
        yield Sign(
            name="entropy_dominates",
            severity="warning",
            kinds=("exploration",),
            explains=NOTHING_TO_LEARN,
            player=player.name,
            evidence={"entropy": entropy, "largest": largest, "entropy_coef": bonus},
            what=f"the entropy is {entropy / largest:.0%} of the largest possible one, and stays there.",
            cause="The bonus outweighs the reward: to act at random is the best that it allows.",
            remedy=(remedies.toward(context, "agent.entropy_coef", bonus / 100),),
        )


@dataclass(frozen=True, kw_only=True)
class NoExploration:
    """An actor without randomness learns from its own habits alone."""

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One sign, for agents that add noise to what the actor says."""
        deviation, player = context.number("agent.noise.std"), policy_player(context)
        if deviation is None or deviation > 0.0 or player is None:
            return
        yield Sign(
            name="no_exploration",
            severity="warning",
            kinds=("exploration",),
            explains=NOTHING_TO_LEARN,
            player=player.name,
            evidence={"noise_std": deviation},
            what="the actions have no noise, and the actor none of its own.",
            cause="The replay holds what the actor does, and nothing that it could do instead.",
            remedy=(remedies.toward(context, "agent.noise.std", 0.1),),
        )
