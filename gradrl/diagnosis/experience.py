"""Rules about what an agent learns from: rewards, how far it looks ahead, and what it tries."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from core.diagnosis import Context, History, Sign, remedies
from core.diagnosis.causes import LITTLE_LEARNT
from gradrl.diagnosis.rules import improved, policy_player

NOTHING_TO_LEARN = ("collapsed_entropy", "reward_scale", "vanishing_gradient", *LITTLE_LEARNT)


@dataclass(frozen=True, kw_only=True)
class OpposedReward:
    """What the agent is trained on rises, and what it is evaluated by falls, or is its negative.

    Attributes:
        evaluations: before a fall is said; the last three count.
        fall: of the evaluated return, as a share of the largest that an evaluation has had.
        mirrored: sum of both returns, as a share of their difference, below which one is the negative of the
            other, at three evaluations in a row.
    """

    evaluations: int = 5
    fall: float = 0.3
    mirrored: float = 0.3

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One sign."""
        course, player = history.course("eval/return_mean"), policy_player(context)
        trained, last = history.level("episode/return", 3), history.recent("eval/return_mean", 3)
        if player is None or trained is None or not last:
            return
        fallen = len(course) >= self.evaluations and improved(history)
        fallen = fallen and max(last) <= min(course[:2]) - self.fall * max(map(abs, course))
        if not fallen and not all(self._negative(trained, value) for value in last):
            return
        yield Sign(
            name="reward_opposes_return",
            severity="warning",
            kinds=("reward",),
            explains=NOTHING_TO_LEARN,
            player=player.name,
            evidence={"eval/return_first": course[0], "eval/return": last[-1], "episode/return": trained},
            what=f"the return is {trained:.3g} in training, and {last[-1]:.3g} in evaluations.",
            cause="The reward that is trained on rewards something else: its sign is turned, say.",
            remedy=context.remedies.bare_data(context),
        )

    def _negative(self, trained: float, evaluated: float) -> bool:
        return evaluated < 0 < trained and abs(trained + evaluated) < self.mirrored * (trained - evaluated)


@dataclass(frozen=True, kw_only=True)
class EpisodesCut:
    """In training all episodes end after the same few steps, and evaluated ones last longer; or the reverse.

    Attributes:
        points: logged, of training.
        evaluations: in a row.
        times: by which the lengths differ.
    """

    points: int = 4
    evaluations: int = 2
    times: float = 2.0

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One sign, for agents whose return has not risen."""
        course, player = history.course("episode/length"), policy_player(context)
        others = history.recent("eval/length_mean", self.evaluations)
        if (
            player is None
            or len(course) < self.points
            or len(set(course)) > 1
            or not others
            or improved(history)
        ):
            return
        length = course[0]
        if min(others) < self.times * length and max(others) * self.times > length:
            return
        short = others[-1] > length
        yield Sign(
            name="episode_end_misplaced",
            severity="warning",
            kinds=("terminal",),
            explains=("constant_return", *NOTHING_TO_LEARN),
            player=player.name,
            evidence={"episode/length": length, "eval/length_mean": others[-1]},
            what=f"in training every episode has {length:g} steps; evaluated ones have {others[-1]:.4g}.",
            cause="They are cut off there, and what follows is never learnt."
            if short
            else "Their end is not told: the environment goes on where it should begin again.",
            remedy=context.remedies.bare_data(context),
        )


@dataclass(frozen=True, kw_only=True)
class MeaninglessObservation:
    """What is observed never changes, or has nothing to do with what was observed a step before.

    Attributes:
        points: measurements in a row.
    """

    points: int = 2

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One sign; noise alone is none where the return rises all the same."""
        player = policy_player(context)
        still = history.fresh("experience/unchanged", self.points)
        noise = history.fresh("experience/memory", self.points)
        if player is None or not (still or (noise and not improved(history))):
            return
        yield Sign(
            name="meaningless_observation",
            severity="warning",
            kinds=("observation",),
            explains=("equal_units", "reward_opposes_return", "actions_without_effect", *NOTHING_TO_LEARN),
            player=player.name,
            evidence={"unchanged": still[-1]} if still else {"correlation": noise[-1]},
            what="no step has changed the observation."
            if still
            else f"observations have a correlation of {noise[-1]:.2g} with those a step before.",
            cause="A buffer is not filled, or that of the reset is returned again and again."
            if still
            else "The policy is shown noise, or samples that have been shuffled.",
            remedy=context.remedies.bare_data(context),
        )


@dataclass(frozen=True, kw_only=True)
class IdleActions:
    """Neither the next observation nor the reward depends on the action.

    Attributes:
        points: measurements in a row, each of a few hundred steps or more.
    """

    points: int = 4

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One sign, for agents whose return has not risen: effects may be small and late."""
        player, found = policy_player(context), history.fresh("experience/influence", self.points)
        if player is None or not found or improved(history):
            return
        yield Sign(
            name="actions_without_effect",
            severity="warning",
            kinds=("data",),
            explains=NOTHING_TO_LEARN,
            player=player.name,
            evidence={"correlation": found[-1]},
            what=f"actions have a correlation of {found[-1]:.2g} at most with what a step changes.",
            cause="They do not reach the environment, or are taken for others on the way.",
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
    """The discount forgets rewards long before they come. An episode that has not ended is at least so long.

    Attributes:
        steps: 1 / (1 - gamma) below which hardly more than the next rewards count.
        episodes: times that horizon that an episode is long.
    """

    steps: float = 4.0
    episodes: float = 5.0

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One sign."""
        gamma, player = context.number("agent.gamma"), policy_player(context)
        ended = history.level("episode/length", 1)
        length = history.step / (context.number("num_envs") or 1) if ended is None else ended
        if gamma is None or player is None:
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
        wider: deviation of continuous actions over the initial one, from which the bonus drives it.
        near: nats below a uniform action, per number of it, within which nothing has been decided.
        share: of the gradient's length that comes from the bonus.
        large: coefficient of the bonus from which its share need not be known; 0.01 is usual.
        progress: share of the run before it is said.
    """

    left: float = 0.98
    wider: float = 1.3
    near: float = 0.1
    share: float = 0.5
    large: float = 0.1
    progress: float = 0.05

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One sign, for agents with a bonus or a fixed temperature."""
        player, entropy = policy_player(context), history.level("policy/entropy", 2)
        option = "agent.temperature" if context.number("agent.temperature") else "agent.entropy_coef"
        bonus = context.number(option)
        if not bonus or player is None or entropy is None or improved(history):
            return
        level = self._undecided(context, entropy, squashed=option == "agent.temperature")
        if (
            level is None
            or history.step < self.progress * context.total
            or not self._heavy(history, bonus, context)
        ):
            return
        yield Sign(
            name="entropy_dominates",
            severity="warning",
            kinds=("exploration",),
            explains=NOTHING_TO_LEARN,
            player=player.name,
            evidence={"entropy": entropy, option.removeprefix("agent."): bonus},
            what=level,
            cause="The bonus outweighs the reward: to act at random is the best that it allows.",
            remedy=("agent.temperature=auto",)
            if option == "agent.temperature"
            else (remedies.toward(context, option, bonus / 100),),
        )

    def _undecided(self, context: Context, entropy: float, *, squashed: bool) -> str | None:
        """In words, how near to random the policy acts; None where it has decided something."""
        largest, size = context.limits.get("entropy_max"), context.limits.get("action_size")
        if largest:
            said = f"the entropy is {entropy / largest:.0%} of the largest possible one, and stays there."
            return said if entropy > self.left * largest else None
        if not size:
            return None
        if squashed:
            said = f"the entropy is {entropy:.3g} nats, and that of uniform actions {size * math.log(2):.3g}."
            return said if entropy > size * (math.log(2) - self.near) else None
        deviation = math.exp(entropy / size - 0.5 * math.log(2 * math.pi * math.e))
        first = math.exp(context.number("policy.log_std") or 0.0)
        said = f"the actions' deviation has grown from {first:.2g} to {deviation:.2g}."
        return said if deviation > self.wider * first else None

    def _heavy(self, history: History, bonus: float, context: Context) -> bool:
        """Whether the bonus is large beside the reward, by gradients, by coefficient, or by steps."""
        share, of_policy = (history.last(f"loss_share/{term}") for term in ("entropy", "policy"))
        if context.number("agent.temperature"):
            gained, length = history.last("episode/return"), history.last("episode/length")
            return gained is not None and bool(length) and bonus > abs(gained) / length
        drowned = share is not None and of_policy is not None and share > self.share * (share + of_policy)
        return drowned or bonus >= self.large


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
