"""Rules about agents: a policy that stops exploring or runs away, values and rewards out of scale."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

from core.diagnosis import Context, History, Overrides, Player, Severity, Sign, known, remedies
from gradrl.diagnosis.remedies import bare_environment, scaled_rewards

DIVERGENCES = ("policy/approx_kl", "policy/kl")  # from the policy that acted, nats
POINTS = 2  # logged points whose median every rule looks at


def improved(history: History) -> bool | None:
    """Whether the return is clearly above that of the first episodes; None before there are enough.

    Of an agent that learns within the first points, it stays at the top, where the very first point was not.
    """
    course = history.course("episode/return")
    now = history.level("episode/return", 4)
    if now is None or len(course) < 8:
        return None
    top, spread = max(course), max(course) - min(course)
    stays = now >= top - 0.05 * spread and course[0] <= top - 0.5 * spread and spread > 1e-6
    return stays or now > median(course[:4]) + max(0.25 * spread, 1e-6)


def policy_player(context: Context) -> Player | None:
    """The player that moves the policy."""
    return context.player("actor", "policy", "actor_critic", "")


def value_player(context: Context) -> Player | None:
    """The player that moves the value function."""
    return context.player("critic") or policy_player(context)


@dataclass(frozen=True, kw_only=True)
class NonFiniteExperience:
    """Rewards or observations that are no finite numbers; such steps are left out.

    Attributes:
        rare: share of the steps since the last logged point up to which it is a note only.
    """

    rare: float = 0.02

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One sign, at once."""
        share = history.rise("experience/left_out")
        if not share:
            return
        yield Sign(
            name="non_finite_experience",
            kinds=("data",),
            severity="error" if share > 0.999 else "warning" if share > self.rare else "note",
            evidence={"share": share, "left_out": history.last("experience/left_out") or 0.0},
            what=(
                f"{share:.2g} of the steps have a reward or an observation that is not a finite number; "
                "they are left out."
            ),
            cause="The environment, or a wrapper of it, computes something that has no value.",
            remedy=context.remedies.bare_data(context),
            patience=1,
        )


@dataclass(frozen=True, kw_only=True)
class CollapsedEntropy:
    """The policy has stopped exploring.

    Attributes:
        share: of the largest possible entropy, of a choice among actions.
        deviation: of a continuous action, whose box spans [-1, 1]: exp(entropy per number - 1.419), below
            which it is a point.
    """

    share: float = 0.02
    deviation: float = 0.02

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One sign; a note once the return has risen: a policy that has learnt may be sure of itself."""
        entropy, player = history.level("policy/entropy", POINTS), policy_player(context)
        if entropy is None or player is None:
            return
        largest, size = context.limits.get("entropy_max"), context.limits.get("action_size")
        if largest:
            left, low = entropy / largest, self.share
            what = f"its entropy is {left:.1%} of the largest possible one."
        elif size:
            left, low = math.exp(entropy / size - 0.5 * math.log(2 * math.pi * math.e)), self.deviation
            what = f"its deviation is {left:.1e} of half the action's range."
        else:
            return
        if left >= low:
            return
        risen = improved(history)
        severity: Severity = "note" if risen or risen is None else "warning"
        yield Sign(
            name="collapsed_entropy",
            kinds=("exploration",),
            severity=severity,
            player=player.name,
            evidence={"entropy": entropy, "left": left},
            what=f"the policy always does the same: {what}",
            cause="It became certain before it had learnt; it cannot learn about what it does not try.",
            remedy=self._remedy(history, context, player),
        )

    def _remedy(self, history: History, context: Context, player: Player) -> Overrides:
        initial = context.number("policy.log_std")
        if initial is not None and math.exp(initial) < self.deviation:  # it has never explored
            return (remedies.toward(context, "policy.log_std", 0.0),)
        # Thrown there by one long step rather than drawn there by many: a bonus would not have held it.
        thrown = max((max(history.course(tag), default=0.0) for tag in DIVERGENCES), default=0.0)
        if thrown > 0.2 or player.lr > 1e-2:
            return _calmer(context, player)
        if context.options.get("agent.temperature") not in (None, "auto"):
            return ("agent.temperature=auto",)
        bonus = context.number("agent.entropy_coef")
        if bonus is None:
            return remedies.learning_rate(context, player, 0.1)
        return (remedies.toward(context, "agent.entropy_coef", max(10 * bonus, 0.01)),)


@dataclass(frozen=True, kw_only=True)
class RunawayKL:
    """The policy moves far from the one that acted within one update.

    Attributes:
        kl: nats. PPO is healthy between 0.005 and 0.05.
        sudden: nats in one point alone that are a finding at once: a policy does not come back from there.
        beyond: times the trust region's own limit, where the agent has one.
    """

    kl: float = 0.2
    sudden: float = 1.0
    beyond: float = 10.0

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One sign."""
        player = policy_player(context)
        for tag in DIVERGENCES:
            now, lasting = history.now(tag), history.level(tag, POINTS)
            sudden = now is not None and now > self.sudden
            kl = now if sudden else lasting
            limits = (context.number(f"agent.{name}") for name in ("max_kl", "target_kl"))
            limit = next((self.beyond * value for value in limits if value), self.kl)
            if player is None or kl is None or not kl > max(limit, self.kl):
                continue
            yield Sign(
                name="runaway_kl",
                kinds=("learning_rate",),
                severity="warning",
                player=player.name,
                evidence={"kl": kl},
                what=f"one update moves the policy by {kl:.2g} nats from the one that acted.",
                cause="The learning rate is too high, or each rollout is used too often.",
                remedy=_calmer(context, player),
                patience=1 if sudden else None,
            )


def _calmer(context: Context, player: Player) -> Overrides:
    """As many epochs as were tuned, and a lower rate where it is above what is common, else an early end."""
    return (*remedies.fewer(context, "agent.num_epochs"), *_slower(context, player))


def _slower(context: Context, player: Player) -> Overrides:
    if player.lr > 1e-3 or "agent.target_kl" not in context.options:
        return remedies.sound_rate(context, player, min(player.lr * 0.1, 3e-4))
    if context.number("agent.target_kl") is None:
        return ("agent.target_kl=0.02",)
    return remedies.learning_rate(context, player, 0.3)


@dataclass(frozen=True, kw_only=True)
class RatioOutOfHand:
    """Most samples have left the clipping interval, or single ones weigh a hundredfold.

    Attributes:
        clip_fraction: of the samples; healthy PPO has 0.05 to 0.3.
        ratio: largest probability ratio.
        narrow: half-width of a clipping interval that a sound step leaves; PPO has 0.1 to 0.3.
    """

    clip_fraction: float = 0.6
    ratio: float = 100.0
    narrow: float = 0.03

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One sign, for agents that learn more than once from a rollout."""
        player = policy_player(context)
        fraction = history.level("policy/clip_fraction", POINTS)
        ratio = history.level("policy/ratio_max", POINTS)
        clipped = fraction is not None and fraction > self.clip_fraction
        interval = context.number("agent.clip_coef")
        narrow = clipped and interval is not None and interval < self.narrow
        if player is None or not (clipped or (ratio is not None and ratio > self.ratio)):
            return
        yield Sign(
            name="ratio_out_of_hand",
            kinds=("learning_rate", "epochs"),
            severity="warning",
            player=player.name,
            evidence=known(clip_fraction=fraction, ratio_max=ratio),
            what=(
                f"{fraction:.0%} of the samples have left the clipping interval."
                if clipped
                else f"single samples have become {ratio:.3g} times as likely within one update."
            ),
            cause="The clipping interval is too small for any step."
            if narrow
            else "The rollout no longer says anything about a policy that has moved this far.",
            remedy=(remedies.toward(context, "agent.clip_coef", 0.2),)
            if narrow
            else _calmer(context, player),
        )


@dataclass(frozen=True, kw_only=True)
class ExplodingValue:
    """Values leave the range that any return of this run has had, or explain less than their mean would.

    Attributes:
        times: the largest absolute return of an episode that a value may reach. A value that counts an
            entropy bonus as well, or an endless task, goes beyond 1.
        margin: return added to it.
        explained_variance: of the critic of an on-policy agent, below which it does harm; 0 explains nothing.
        matters: deviation of the advantages, relative to max(1, |return|), below which it does none.
    """

    times: float = 5.0
    margin: float = 10.0
    explained_variance: float = -5.0
    matters: float = 0.1

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One sign."""
        player = value_player(context)
        returns = history.course("episode/return")
        q = history.level("value/q_mean", POINTS)
        explained = history.level("policy/explained_variance", POINTS)
        if player is None:
            return
        if q is not None and returns:
            bound = self.times * max(map(abs, returns)) + self.margin
            if abs(q) > bound:
                yield self._sign(
                    context,
                    player,
                    {"q_mean": q, "bound": bound},
                    f"its mean is {q:.3g}, where no return has passed {bound / self.times:.3g}.",
                )
            return
        error = history.level("policy/advantage_std", POINTS)
        scale = max(1.0, abs(history.last("episode/return") or 0.0))
        harmful = error is None or error > self.matters * scale
        if explained is not None and explained < self.explained_variance and harmful:
            yield self._sign(
                context,
                player,
                {"explained_variance": explained},
                f"it is worse than no prediction at all (explained variance {explained:.2g}).",
            )

    def _sign(self, context: Context, player: Player, evidence: dict[str, float], what: str) -> Sign:
        return Sign(
            name="exploding_value",
            kinds=("learning_rate", "discount"),
            severity="warning",
            player=player.name,
            evidence=evidence,
            what=f"the value function has lost touch: {what}",
            cause="Its errors feed its own targets: the critic's steps are too long, or gamma is too near 1.",
            remedy=self._remedy(context, player),
        )

    def _remedy(self, context: Context, player: Player) -> Overrides:
        gamma = context.number("agent.gamma")
        if gamma is not None and gamma > 0.999:
            return ("agent.gamma=0.99",)
        critic_lr, lr = context.number("agent.critic_lr"), context.number("optimizer.lr")
        if critic_lr is not None and lr is not None and critic_lr > lr:
            return ("agent.critic_lr=null",)
        return remedies.learning_rate(context, player, 0.1)


@dataclass(frozen=True, kw_only=True)
class UnnormalizedAdvantage:
    """The policy's loss is scaled by advantages that nobody brings to a common scale.

    Attributes:
        large: deviation of the advantages above which the policy's gradient is their scale's.
    """

    large: float = 10.0

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One sign, for agents that could normalise and do not."""
        if context.options.get("agent.normalize_advantage") is not False:
            return
        scale, player = history.level("policy/advantage_std", POINTS), policy_player(context)
        if scale is None or player is None or scale < self.large:
            return
        yield Sign(
            name="unnormalized_advantage",
            kinds=("normalisation",),
            severity="warning",
            player=player.name,
            evidence={"advantage_std": scale},
            what=(
                f"advantages deviate by {scale:.3g}: they scale the policy's loss relative to "
                "every other term."
            ),
            cause="agent.normalize_advantage=false with returns of a large scale.",
            remedy=("agent.normalize_advantage=true", *scaled_rewards(context)),
        )


@dataclass(frozen=True, kw_only=True)
class RewardScale:
    """Rewards of a scale that the critic cannot learn at, or all alike.

    Attributes:
        large: deviation of the advantages, or root of the critic's squared error, in units of return.
        small: the same, below which all actions look alike; likewise where no episode has had any return.
        progress: share of the run from which there should have been one.
    """

    large: float = 1000.0
    small: float = 1e-6
    progress: float = 0.1

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One sign; none of returns that are all alike because they have risen as far as they can."""
        player = value_player(context)
        scale = history.level("policy/advantage_std", POINTS)
        if scale is None:
            loss = history.level("loss/critic", POINTS)
            loss = loss if loss is not None else history.level("loss/value", POINTS)
            scale = None if loss is None or loss < 0 else math.sqrt(2 * loss)
        returns = history.course("episode/return")
        none = len(returns) >= 4 and not any(returns) and history.step >= self.progress * context.total
        if player is None or scale is None or (self.small < scale < self.large and not none):
            return
        if scale < self.large and improved(history):  # all episodes have the return that can be had
            return
        if scale >= self.large:
            what = f"returns differ by {scale:.3g} from what is expected of them."
            cause = (
                "Rewards are too large: the critic's gradient drowns all others, and its output layer "
                "cannot reach them."
            )
        else:
            what = f"returns differ by {scale:.1e} from what is expected: no action is better than another."
            what = "no episode has had any return." if none else what
            cause = (
                "Rewards are constant, or vanish before they reach the agent; nothing can be "
                "learnt from them."
            )
        yield Sign(
            name="reward_scale",
            kinds=("reward",),
            severity="warning",
            player=player.name,
            evidence={"scale": scale},
            what=what,
            cause=cause,
            remedy=(scaled_rewards if scale >= self.large else bare_environment)(context),
        )
