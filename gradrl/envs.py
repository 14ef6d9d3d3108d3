"""Environments by gymnasium id: what an id offers, and N copies of it as one vector environment."""

import difflib
import importlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec, load_env_creator
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

from core.checks import require
from gradrl.snapshot import Replayable
from gradrl.spaces import (
    BoxAction,
    BoxObservation,
    DiscreteAction,
    DiscreteObservation,
    action_decoder,
    observation_encoder,
)

MODES = {"next_step": AutoresetMode.NEXT_STEP, "same_step": AutoresetMode.SAME_STEP}


@dataclass(frozen=True, kw_only=True)
class EnvConfig:
    """Which environment, and how its copies run.

    Attributes:
        id: gymnasium id, "CartPole-v1".
        kwargs: given to `gymnasium.make`.
        import_module: imported first, for a package that registers ids of its own; None for none.
        vectorization: "native" is the environment's own vector version in numpy; "sync" steps copies one
            after the other, "async" each in a process of its own (worth it only where a step takes a
            millisecond); "auto" is native where there is one, else sync.
        autoreset: when sync and async copies begin anew: "same_step" at once, "next_step" at the following
            step, as native ones do. Learning is the same; next_step loses one step per episode.
    """

    id: str
    kwargs: dict[str, Any]
    import_module: str | None
    vectorization: Literal["auto", "native", "sync", "async"]
    autoreset: Literal["same_step", "next_step"]

    def __post_init__(self) -> None:
        require(bool(self.id), "id", self.id, "a gymnasium id such as CartPole-v1")
        allowed = ("auto", "native", "sync", "async")
        require(self.vectorization in allowed, "vectorization", self.vectorization, f"one of {list(allowed)}")
        require(self.autoreset in MODES, "autoreset", self.autoreset, f"one of {list(MODES)}")


@dataclass(frozen=True)
class EnvInfo:
    """What training must know of an environment before it makes the copies.

    Attributes:
        observation: turns its observations into vectors.
        action: turns the policy's actions into its own.
        reward_threshold: mean return at which it counts as solved; None where its authors set none.
        max_episode_steps: its time limit in steps, None without one.
    """

    observation: BoxObservation | DiscreteObservation
    action: DiscreteAction | BoxAction
    reward_threshold: float | None
    max_episode_steps: int | None


def inspect_env(cfg: EnvConfig) -> EnvInfo:
    """Open one copy, read its spaces, and close it.

    Raises:
        ValueError: unknown id (with the nearest right one), a package that is missing, an option the
            environment lacks, or a space that is not supported; one line.
    """
    spec = find_spec(cfg)
    if cfg.vectorization == "native" and not has_native(cfg, spec):
        raise ValueError(
            f"env.vectorization=native: {cfg.id} has no vector version in numpy; use sync or async"
        )
    try:
        env = gym.make(spec, **cfg.kwargs)
    except Exception as error:  # whatever a third-party constructor raises, the user named the environment
        reason = " ".join(str(error).split())
        raise ValueError(f"env.id={cfg.id} cannot be made: {type(error).__name__}: {reason}") from error
    try:
        observation, action = observation_encoder(env.observation_space), action_decoder(env.action_space)
    except ValueError as error:
        raise ValueError(f"env.id={cfg.id}: {error}") from error
    finally:
        env.close()
    limit = cfg.kwargs.get("max_episode_steps", spec.max_episode_steps)
    limit = limit if isinstance(limit, int) and limit > 0 else None
    return EnvInfo(observation, action, spec.reward_threshold, limit)


def find_spec(cfg: EnvConfig) -> EnvSpec:
    """The registration of the id.

    Raises:
        ValueError: `import_module` cannot be imported, or nothing is registered under the id.
    """
    if cfg.import_module is not None:
        try:
            importlib.import_module(cfg.import_module)
        except ImportError as error:
            raise ValueError(f"env.import_module={cfg.import_module} cannot be imported: {error}") from error
    if cfg.id in gym.registry:
        return gym.registry[cfg.id]
    lower = {known.lower(): known for known in gym.registry}
    near = difflib.get_close_matches(cfg.id.lower(), lower, n=1, cutoff=0.5)
    hint = f"; did you mean {lower[near[0]]}?" if near else ""
    raise ValueError(
        f"env.id must be an environment that gymnasium knows, got {cfg.id!r}{hint}"
        " (env.import_module imports a package that registers more)"
    )


def has_native(cfg: EnvConfig, spec: EnvSpec) -> bool:
    """Whether there is a vector version in numpy that takes these options (versions in jax do not count)."""
    entry = spec.vector_entry_point
    if entry is None or spec.additional_wrappers or (isinstance(entry, str) and "jax" in entry.lower()):
        return False
    try:
        accepted = inspect.signature(load_env_creator(entry) if isinstance(entry, str) else entry).parameters
    except ImportError:
        return False
    variadic = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in accepted.values())
    return variadic or cfg.kwargs.keys() <= accepted.keys()


def make_envs(cfg: EnvConfig, num_envs: int, *, max_episode_steps: int | None = None) -> VectorEnv:
    """N copies of the environment; reset them before the first step.

    Args:
        cfg: which, and how they run.
        num_envs: N.
        max_episode_steps: replaces the time limit of the registration.

    Returns:
        A vector environment whose metadata names its autoreset mode.

    Raises:
        ValueError: as `inspect_env`, or the native version autoresets in no supported way.
    """
    spec = find_spec(cfg)
    kwargs = dict(cfg.kwargs)
    if max_episode_steps is not None:
        kwargs["max_episode_steps"] = max_episode_steps
    if cfg.vectorization in ("auto", "native") and has_native(cfg, spec):
        envs = gym.make_vec(spec, num_envs, vectorization_mode="vector_entry_point", **kwargs).unwrapped
        autoreset_mode(envs)
        return envs
    make: Callable[[], gym.Env] = _Maker(cfg, kwargs)
    kind = AsyncVectorEnv if cfg.vectorization == "async" else SyncVectorEnv
    return kind([make] * num_envs, autoreset_mode=MODES[cfg.autoreset])


class _Maker:
    """Makes one copy, also in another process, where the registry starts out without third-party ids."""

    def __init__(self, cfg: EnvConfig, kwargs: dict[str, Any]) -> None:
        self.cfg = cfg
        self.kwargs = kwargs

    def __call__(self) -> gym.Env:
        # The checker's warnings are for authors of environments; it costs a tenth of a CartPole step.
        return Replayable(gym.make(find_spec(self.cfg), disable_env_checker=True, **self.kwargs))


def autoreset_mode(envs: VectorEnv) -> AutoresetMode:
    """How this vector environment begins anew.

    Raises:
        ValueError: it does not say, or it leaves resetting to the caller.
    """
    mode = envs.metadata.get("autoreset_mode")
    if mode not in (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP):
        raise ValueError(
            f"env.vectorization=native: {type(envs).__name__} autoresets in no supported way: {mode}"
        )
    return mode


def reset_envs(envs: VectorEnv, seeds: Sequence[int]) -> np.ndarray:
    """Reset with one seed per copy (a native version takes only the first); returns the observations."""
    if isinstance(envs, (SyncVectorEnv, AsyncVectorEnv)):
        return envs.reset(seed=list(seeds))[0]
    return envs.reset(seed=seeds[0])[0]
