"""How good a policy is: its mean return in fresh environments, which start from the same seeds every time."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge
from gymnasium.vector import AutoresetMode, VectorEnv

from core.checks import checked
from core.draw.media import Media
from core.form import Maybe, Number
from core.numbers import plain_number
from core.run.evaluation import Evaluation
from core.run.pace import Pace
from core.run.run import Run
from core.seeding import seed_for
from core.state import StateDict
from gradrl.agent import Model
from gradrl.envs.make import EnvConfig, EnvInfo, autoreset_mode, make_envs, reset_envs
from gradrl.evaluation.video import Camera
from gradrl.experience.normalize import ObservationNormalizer
from gradrl.experience.shares import dealt_envs, own_draws, shared_late
from gradrl.policies.actor import Actor, RawObservationActor

MEASURED = (  # what the final evaluation writes into the summary as eval_NAME, and logs as eval/NAME
    "return_mean", "return_std", "return_mean_stochastic", "return_std_stochastic", "episodes",
    "episodes_capped",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
@checked
class EvaluationConfig:
    """How a policy is evaluated.

    Attributes:
        episodes: of the final evaluation.
        interval_episodes: of each evaluation during training (logging.eval_interval says how often).
        num_envs: copies that run side by side; each contributes the same number of episodes, give or take
            one, so that short episodes are not over-represented.
        max_episode_steps: episodes are cut off here, for environments without a limit of their own.
        deterministic: the most likely action; false samples.
    """

    episodes: Annotated[int, Ge(1)]
    interval_episodes: Annotated[int, Ge(1)]
    num_envs: Annotated[int, Ge(1)]
    max_episode_steps: Annotated[int, Ge(1)]
    deterministic: bool

    def copies(self, episodes: int) -> int:
        """Copies that run so many episodes."""
        return min(self.num_envs, episodes)


@dataclass(frozen=True)
class Episodes:
    """What an evaluation saw.

    Attributes:
        returns: undiscounted sum of rewards per episode, [E].
        lengths: steps per episode, [E].
        capped: episodes cut off by evaluation.max_episode_steps and not by the environment's own limit.
    """

    returns: np.ndarray
    lengths: np.ndarray
    capped: int

    @property
    def without_return(self) -> int:
        """Episodes whose return is not a number: then neither is the mean over all of them."""
        return int(np.isnan(self.returns).sum())


def evaluate(
    actor: Actor,
    env: EnvConfig,
    info: EnvInfo,
    cfg: EvaluationConfig,
    episodes: int,
    seed: int,
    say: Callable[[str], None] = print,
) -> Episodes:
    """Run episodes and add up their rewards; several ranks share the copies, and all know what they saw.

    Args:
        actor: chooses actions from encoded observations, those of this rank's copies.
        env: which environment.
        info: its spaces and limits.
        cfg: copies side by side, and the cap per episode.
        episodes: E.
        seed: decides all initial states.
        say: told how far it is, where it takes long.

    Returns:
        The episodes in order of environment, then time.
    """
    num_envs, max_episode_steps = cfg.copies(episodes), cfg.max_episode_steps
    quota = np.full(num_envs, episodes // num_envs)
    quota[: episodes % num_envs] += 1
    binding = info.max_episode_steps is None or max_episode_steps < info.max_episode_steps
    own = dealt_envs()
    seeds = [seed_for(seed, "evaluation", i) for i in range(num_envs)][own]
    finished: list[list[tuple[float, int, bool]]] = []
    if seeds:  # there may be more ranks than copies
        envs = make_envs(env, len(seeds), max_episode_steps=max_episode_steps if binding else None)
        try:
            finished = _run(actor, envs, info, quota[own], seeds, say)
        finally:
            envs.close()
    episodes_seen = itertools.chain.from_iterable(shared_late(finished))
    returns, lengths, truncated = (np.array(column) for column in zip(*episodes_seen, strict=True))
    capped = int((truncated & (lengths >= max_episode_steps)).sum()) if binding else 0
    return Episodes(returns, lengths, capped)


def _run(
    actor: Actor,
    envs: VectorEnv,
    info: EnvInfo,
    quota: np.ndarray,
    seeds: list[int],
    say: Callable[[str], None],
) -> list[list[tuple[float, int, bool]]]:
    """(return, length, truncated) of the first `quota[n]` episodes of every environment."""
    resets_late = autoreset_mode(envs) is AutoresetMode.NEXT_STEP
    finished: list[list[tuple[float, int, bool]]] = [[] for _ in quota]
    total, length = np.zeros(len(quota)), np.zeros(len(quota), np.int64)
    ended, episode_start = np.zeros(len(quota), np.bool_), np.ones(len(quota), np.bool_)
    episodes, pace = int(quota.sum()), Pace()
    missing = episodes
    obs = reset_envs(envs, seeds)
    actor.begin(len(quota))
    while missing:
        action = actor(info.observation.encode(obs), episode_start)
        obs, reward, terminated, truncated, _ = envs.step(info.action.decode(action))
        valid = ~ended if resets_late else np.ones_like(ended)
        total += np.where(valid, reward, 0.0)
        length += valid
        late, ended = ended, terminated | truncated
        episode_start = late if resets_late else ended
        for n in np.flatnonzero(ended):
            if len(finished[n]) < quota[n]:
                finished[n].append(
                    (float(total[n]), int(length[n]), bool(truncated[n] and not terminated[n]))
                )
                missing -= 1
            total[n], length[n] = 0.0, 0
        if pace.due():
            steps = int(length.sum()) + sum(steps for each in finished for _, steps, _ in each)
            done = episodes - missing
            left = pace.left(done, episodes)
            say(f"evaluation: {done} of {episodes} episodes, {steps:,} steps{left and f', {left}'}")
    return finished


def lost_returns(seen: Episodes) -> dict[str, object]:
    """How many episodes have no return, for a summary; empty where all have one."""
    return {"eval_episodes_without_return": seen.without_return} if seen.without_return else {}


def evaluation_actor(
    model: Model,
    normalizer: ObservationNormalizer | None,
    *,
    deterministic: bool,
    generator: np.random.Generator,
) -> Actor:
    """The policy as it now is, for raw encoded observations.

    Args:
        model: the network.
        normalizer: what the model was trained behind; used, not moved.
        deterministic: the most likely action instead of a random one.
        generator: random actions are drawn from it, so that training's own stands still.
    """
    actor = model.make_actor(generator, deterministic=deterministic)
    return RawObservationActor(actor, normalizer)


class Evaluator:
    """Evaluates a policy, draws its video and records when the environment was solved.

    Args:
        cfg: how.
        env: on which environment.
        info: its spaces and limits.
        seed: the run's; evaluation derives seeds of its own from it.
        model: the network that acts.
        normalizer: what the model sees the observations through, or None.
        run: gives the step and the time, and takes lines for the user.
    """

    def __init__(
        self,
        cfg: EvaluationConfig,
        env: EnvConfig,
        info: EnvInfo,
        seed: int,
        model: Model,
        normalizer: ObservationNormalizer | None,
        run: Run,
    ) -> None:
        self.cfg, self.env, self.info, self.seed = cfg, env, info, seed
        self.model, self.normalizer, self.run = model, normalizer, run
        self.camera = Camera(env, info, seed_for(seed, "video"), run.say)
        self.solved_at: tuple[int, float] | None = None

    def evaluate(self) -> Evaluation:
        """A short evaluation during training, from the same initial states every time."""
        seen = self._episodes(self.cfg.interval_episodes, "interval", self.cfg.deterministic)
        mean = float(seen.returns.mean())
        self._note(mean)
        metrics = {
            "eval/return_mean": mean,
            "eval/return_std": float(seen.returns.std()),
            "eval/length_mean": float(seen.lengths.mean()),
        }
        return Evaluation(metrics, mean)

    def draw(self) -> dict[str, Media]:
        """A video of the policy."""
        generator = np.random.default_rng(0)
        actor = evaluation_actor(self.model, self.normalizer, deterministic=True, generator=generator)
        video = self.camera.record(actor)
        return {} if video is None else {"agent": video}

    def final(self) -> dict[str, object]:
        """The long evaluation of the final parameters, for the summary; with sampled actions too."""
        seen = self._episodes(self.cfg.episodes, "final", self.cfg.deterministic)
        sampled = self._episodes(self.cfg.episodes, "final", False) if self.cfg.deterministic else seen
        mean = float(seen.returns.mean())
        self._note(mean)
        if seen.capped:
            self.run.say(
                f"{seen.capped} of {len(seen.returns)} final episodes were cut off by"
                f" evaluation.max_episode_steps={self.cfg.max_episode_steps}"
            )
        std = float(seen.returns.std())
        solved = f", solved at {self.solved_at[0]:,} env steps" if self.solved_at else ""
        self.run.say(
            f"final evaluation: mean return {plain_number(mean)} ± {plain_number(std)}"
            f" over {len(seen.returns)} episodes{solved}"
        )
        return {
            "eval_return_mean": mean,
            "eval_return_std": std,
            "eval_return_mean_stochastic": float(sampled.returns.mean()),
            "eval_return_std_stochastic": float(sampled.returns.std()),
            "eval_episodes": len(seen.returns),
            "eval_episodes_capped": seen.capped,
            **lost_returns(seen),
        }

    def summarise(self) -> dict[str, object]:
        """What the summary says of a run at any moment."""
        steps, wall = self.solved_at or (None, None)
        speed = self.run.step / self.run.train_s if self.run.train_s > 0 else None
        found: dict[str, object] = {
            "env": self.env.id,
            "env_steps": self.run.step,
            "env_steps_per_s": speed,
            "best_eval_return_mean": self.run.best_score,
            "solved_at_env_steps": steps,
            "solved_at_wall_s": wall,
        }
        return found | ({"remarks": [*self.info.remarks]} if self.info.remarks else {})

    def state_dict(self) -> StateDict:
        """When the environment was solved."""
        return {"solved_at": None if self.solved_at is None else list(self.solved_at)}

    def state_form(self) -> StateDict:
        """What `state_dict` must look like."""
        return {"solved_at": Maybe((0, Number(0)))}

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`."""
        self.solved_at = None if state["solved_at"] is None else tuple(state["solved_at"])

    def _episodes(self, episodes: int, purpose: str, deterministic: bool) -> Episodes:
        seed = seed_for(self.seed, "evaluation", purpose)
        draws = own_draws(np.random.default_rng(seed), self.cfg.copies(episodes), dealt_envs())
        actor = evaluation_actor(self.model, self.normalizer, deterministic=deterministic, generator=draws)
        seen = evaluate(actor, self.env, self.info, self.cfg, episodes, seed, self.run.say)
        if lost := seen.without_return:
            others = seen.returns[~np.isnan(seen.returns)]
            mean = f"; that of the others is {others.mean():.4g}" if len(others) else ""
            self.run.say(
                f"{lost} of {len(seen.returns)} returns of this evaluation are not a number, nor is their "
                f"mean{mean}"
            )
        return seen

    def _note(self, mean: float) -> None:
        threshold = self.info.reward_threshold
        if self.solved_at is None and threshold is not None and mean >= threshold:
            self.solved_at = (self.run.step, self.run.wall_s)
