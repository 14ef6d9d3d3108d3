"""The training loop: collect a rollout, learn from it, tell the run."""

import math
from dataclasses import dataclass

from core.checks import require
from core.gradients import MonitorConfig, Transform
from core.optim.factory import check_optimizer
from core.optim.schedules import Schedule
from core.run.config import Component, ConfigError
from core.run.device import resolve_device, set_num_threads
from core.run.media import Media
from core.run.run import Evaluation, Run, RunConfig, Stateful
from core.run.seeding import Generators, seed_for
from gradrl.collector import Collector
from gradrl.envs import EnvConfig, EnvInfo, inspect_env, make_envs
from gradrl.evaluate import Episodes, EvaluationConfig, actor, evaluate
from gradrl.normalize import ObservationNormalizer, RewardNormalizer
from gradrl.video import Camera


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """All options of a training run; conf/rl.yaml explains each."""

    agent: Component
    env: EnvConfig
    policy: Component
    optimizer: Component
    clipper: Transform | None
    schedule: Schedule
    monitor: MonitorConfig
    evaluation: EvaluationConfig
    logging: RunConfig
    seed: int
    total_steps: int
    num_envs: int
    normalize_observation: bool
    normalize_reward: bool
    device: str
    num_threads: int | None

    def __post_init__(self) -> None:
        require(self.seed >= 0, "seed", self.seed, "an integer >= 0")
        for name in ("total_steps", "num_envs"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "an integer >= 1")
        threads = self.num_threads
        require(threads is None or threads >= 1, "num_threads", threads, "an integer >= 1 or null")
        self.agent.options.check(self.num_envs)


def check(cfg: TrainConfig) -> None:
    """What can be known before a directory is made: the device, the optimizer's options, the environment.

    Raises:
        ConfigError: one of them is not to be had; the environment is opened only to read its spaces.
    """
    resolve_device(cfg.device)
    check_optimizer(cfg.optimizer)
    _inspect(cfg.env)


def train(cfg: TrainConfig, run: Run) -> None:
    """Train an agent.

    Raises:
        ConfigError: the environment, its spaces or the device are not what training needs; before anything is made.
    """
    device = resolve_device(cfg.device)
    info = _inspect(cfg.env)
    set_num_threads(cfg.num_threads)
    generators = Generators(cfg.seed, device)
    options = cfg.agent.options
    model = cfg.policy(info.observation.size, info.action, Generators(cfg.seed).torch("initialisation")).to(device)
    agent = cfg.agent(
        model, cfg.optimizer, cfg.clipper, cfg.schedule, generators.torch("agent"), monitor=cfg.monitor
    )
    observation_normalizer = ObservationNormalizer(info.observation.size) if cfg.normalize_observation else None
    reward_normalizer = RewardNormalizer(cfg.num_envs, options.gamma) if cfg.normalize_reward else None
    envs = make_envs(cfg.env, cfg.num_envs)
    collector = Collector(
        envs,
        info.observation,
        info.action,
        options.num_steps,
        [seed_for(cfg.seed, "environment", i) for i in range(cfg.num_envs)],
        observation_normalizer,
        reward_normalizer,
        run.say,
    )
    judge = Judge(cfg, info, model, observation_normalizer, run)
    state: dict[str, Stateful] = {
        "policy": model, "collector": collector, "generators": generators, "judge": judge
    }  # fmt: skip
    if observation_normalizer is not None:
        state["observation_normalizer"] = observation_normalizer
    if reward_normalizer is not None:
        state["reward_normalizer"] = reward_normalizer
    run.start(
        total=cfg.total_steps,
        unit="env steps",
        state=state,
        gradient_steps=[agent.gradient_step],
        evaluate=judge.evaluate,
        draw=judge.draw,
        summarise=judge.summarise,
        headline=("episode/return", "eval/return_mean"),
    )
    try:
        while run.step < cfg.total_steps:
            rollout = collector.collect(agent.act)
            metrics = agent.update(rollout, progress=run.step / cfg.total_steps)
            run.finish_step(collector.env_steps, metrics | collector.drain())
        run.finish(judge.final())
    finally:
        envs.close()


class Judge:
    """Evaluates, films and remembers when the environment was solved.

    Args:
        cfg: the run's options.
        info: the environment's spaces and limits.
        model: policy and value function.
        normalizer: what the model sees the observations through, or None.
        run: gives the step and the time, and takes lines for the user.
    """

    def __init__(
        self, cfg: TrainConfig, info: EnvInfo, model, normalizer: ObservationNormalizer | None, run: Run
    ) -> None:
        self.cfg, self.info, self.model, self.normalizer, self.run = cfg, info, model, normalizer, run
        self.camera = Camera(cfg.env, info, seed_for(cfg.seed, "video"), run.say)
        self.best: float | None = None
        self.solved_at: tuple[int, float] | None = None

    def evaluate(self) -> Evaluation:
        """A short evaluation during training, from the same initial states every time."""
        seen = self._episodes(self.cfg.evaluation.interval_episodes, "interval")
        mean = float(seen.returns.mean())
        self._remember(mean)
        metrics = {
            "eval/return_mean": mean,
            "eval/return_std": float(seen.returns.std()),
            "eval/length_mean": float(seen.lengths.mean()),
        }
        return Evaluation(metrics, mean)

    def draw(self) -> dict[str, Media]:
        """A film of the policy."""
        video = self.camera.film(actor(self.model, self.normalizer, deterministic=True, seed=0))
        return {} if video is None else {"agent": video}

    def final(self) -> dict[str, object]:
        """The long evaluation of the final parameters, for the summary."""
        seen = self._episodes(self.cfg.evaluation.episodes, "final")
        mean = float(seen.returns.mean())
        self._remember(mean)
        if seen.capped:
            self.run.say(
                f"{seen.capped} of {len(seen.returns)} final episodes were cut off by"
                f" evaluation.max_episode_steps={self.cfg.evaluation.max_episode_steps}"
            )
        return {
            "eval_return_mean": mean,
            "eval_return_std": float(seen.returns.std()),
            "eval_episodes": len(seen.returns),
            "eval_episodes_capped": seen.capped,
        }

    def summarise(self) -> dict[str, object]:
        """What the summary says of a run at any moment."""
        steps, wall = self.solved_at or (None, None)
        speed = self.run.step / self.run.train_s if self.run.train_s > 0 else None
        return {
            "env": self.cfg.env.id,
            "env_steps": self.run.step,
            "env_steps_per_s": speed,
            "best_eval_return_mean": self.best,
            "solved_at_env_steps": steps,
            "solved_at_wall_s": wall,
        }

    def state_dict(self) -> dict[str, object]:
        """Best mean return so far, and when the environment was solved."""
        return {"best": self.best, "solved_at": None if self.solved_at is None else list(self.solved_at)}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Continue from `state_dict`."""
        self.best = state["best"]
        self.solved_at = None if state["solved_at"] is None else tuple(state["solved_at"])

    def _episodes(self, episodes: int, purpose: str) -> Episodes:
        options = self.cfg.evaluation
        seed = seed_for(self.cfg.seed, "evaluation", purpose)
        act = actor(self.model, self.normalizer, deterministic=options.deterministic, seed=seed)
        return evaluate(
            act,
            self.cfg.env,
            self.info,
            episodes=episodes,
            num_envs=options.num_envs,
            max_episode_steps=options.max_episode_steps,
            seed=seed,
        )

    def _remember(self, mean: float) -> None:
        self.best = mean if self.best is None or math.isnan(self.best) else max(self.best, mean)
        threshold = self.info.reward_threshold
        if self.solved_at is None and threshold is not None and mean >= threshold:
            self.solved_at = (self.run.step, self.run.wall_s)


def _inspect(cfg: EnvConfig) -> EnvInfo:
    try:
        return inspect_env(cfg)
    except ValueError as error:
        raise ConfigError(str(error)) from error
