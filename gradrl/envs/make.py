"""Environments by gymnasium id: what an id offers, and N copies of it as one vector environment."""

import difflib
import importlib
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, cast

import gymnasium as gym
import numpy as np
import torch
from gymnasium.envs.registration import EnvSpec, load_env_creator
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

from core.checks import checked, require
from core.config import Component
from core.errors import ContractError, described
from core.gradients.ranks import num_ranks
from core.text import told
from gradrl.envs.copies import Copies
from gradrl.envs.env_state import Origin, Replayable
from gradrl.envs.observations import Observation, unscaled_images
from gradrl.envs.processes import Processes
from gradrl.envs.simulators import REGISTERED_BY, missing_package, quiet
from gradrl.envs.spaces import Action, MultiDiscreteAction, action_decoder
from gradrl.envs.torch_dynamics import Dynamics
from gradrl.envs.torch_envs import TorchEnvs, dynamics_of
from gradrl.envs.wrappers import remarks

MODES = {"next_step": AutoresetMode.NEXT_STEP, "same_step": AutoresetMode.SAME_STEP}
TRIAL_STEPS = 4  # what breaks the contract at all mostly does so at once
LEARNING = {
    gym.wrappers.NormalizeObservation: "normalize_observation",
    gym.wrappers.NormalizeReward: "normalize_reward",
}


@dataclass(frozen=True, kw_only=True)
@checked
class EnvConfig:
    """Which environment, and how its copies run.

    Attributes:
        id: gymnasium id, "CartPole-v1".
        kwargs: given to `gymnasium.make`.
        import_module: imported first, for a package that registers ids of its own; None for none.
        wrappers: classes of gymnasium.Wrapper around every copy, the first innermost. There is then no
            native version.
        train_wrappers: further ones while training only, outside the others: an evaluation or a video goes
            without them. They leave the spaces as they are.
        vectorization: "native" is the environment's own vector version in numpy; "sync" steps copies one
            after the other, "async" each in a process of its own with shared memory; "auto" is native where
            there is one and no ranks divide the copies, else sync; a run keeps what it began with. Async
            costs 0.3 ms per copy and step: more than a step of Box2D or MuJoCo takes (0.2 ms); Atari's
            (1.2 ms) gain from it with four or more idle cores, not with two.
            "torch" is for classic control: training's copies are tensors on the run's device and never leave
            it, those of evaluations and videos are gymnasium's, as with "auto".
        autoreset: when sync and async copies reset after an episode: "same_step" at once, as torch ones do,
            or "next_step" at the following step, as native ones do. Learning is the same; next_step loses
            one step per episode.
    """

    id: str
    kwargs: dict[str, Any]
    import_module: str | None
    wrappers: tuple[Component, ...]
    train_wrappers: tuple[Component, ...]
    vectorization: Literal["auto", "native", "sync", "async", "torch"]
    autoreset: Literal["same_step", "next_step"]

    def __post_init__(self) -> None:
        require(bool(self.id), "id", self.id, "a gymnasium id such as CartPole-v1")
        for name in ("wrappers", "train_wrappers"):
            for i, wrapper in enumerate(getattr(self, name)):
                target = wrapper.target if isinstance(wrapper, Component) else type(wrapper)
                fits = isinstance(wrapper, Component) and issubclass(target, gym.Wrapper)
                allowed = "a class of gymnasium.Wrapper"
                if target in LEARNING:  # their statistics are neither saved nor known to an evaluation
                    fits, allowed = False, f"{allowed} that learns nothing; use {LEARNING[target]}=true"
                require(fits, f"{name}.{i}._target_", target.__qualname__, allowed)


@dataclass(frozen=True)
class EnvInfo:
    """What training must know of an environment before it makes the copies.

    Attributes:
        observation: turns its observations into vectors.
        action: turns the policy's actions into its own.
        reward_threshold: mean return at which it counts as solved; None where its authors set none.
        max_episode_steps: its time limit in steps, None without one. Wrappers that repeat actions make
            fewer of it.
        observation_space, action_space: of one copy.
        remarks: what a reader of its returns and steps must know, a sentence each.
    """

    observation: Observation
    action: Action
    reward_threshold: float | None
    max_episode_steps: int | None
    observation_space: gym.Space
    action_space: gym.Space
    remarks: tuple[str, ...] = ()


def inspect_env(cfg: EnvConfig) -> EnvInfo:
    """Open one copy, read its spaces, and close it.

    Raises:
        ValueError: unknown id (with the nearest right one), a package that is missing, an option the
            environment lacks, a wrapper that does not fit, or a space that is not supported; one line.
    """
    spec = find_spec(cfg)
    if cfg.vectorization == "native" and not has_native(cfg, spec):
        reason = "wrappers go around single copies" if _wrapped(cfg) else "it has no vector version in numpy"
        raise ValueError(f"env.vectorization=native: {cfg.id}: {reason}; use sync or async")
    if cfg.vectorization == "torch":
        find_dynamics(cfg, spec)
    env = make_env(cfg, disable_env_checker=False)
    try:
        observation, action = Observation(env.observation_space), action_decoder(env.action_space)
    except ValueError as error:
        raise ValueError(f"env.id={cfg.id}: {error}") from error
    finally:
        env.close()
    training = env
    if cfg.train_wrappers:
        training = make_env(cfg, training=True)
        training.close()
        for kind in ("observation_space", "action_space"):
            if getattr(training, kind) != getattr(env, kind):
                raise ValueError(f"env.train_wrappers must leave the {kind} as it is; use env.wrappers")
    limit = cfg.kwargs.get("max_episode_steps")
    limit = spec.max_episode_steps if limit is None else limit
    limit = limit if isinstance(limit, int) and limit > 0 else None
    found = remarks(env, training)
    if unscaled_images(env.observation_space):
        found += ("only images of bytes are scaled: these numbers up to 255 reach the network as they are",)
    spaces = env.observation_space, env.action_space
    return EnvInfo(observation, action, spec.reward_threshold, limit, *spaces, found)


def try_env(cfg: EnvConfig, info: EnvInfo) -> None:
    """Take a few steps of one copy, as training would: an environment that breaks its contract is found.

    It is stepped with action 0, or the first that its mask allows; with "async" in a process of its own, so
    that one that dies is found too, and nothing that a simulator starts lives in this process.

    Raises:
        ContractError: what `reset` or `step` raised, or returned instead of what it should; one line.
    """
    envs = make_envs(cfg, 1, training=True)
    try:
        obs = reset_envs(envs, [0])
        for _ in range(TRIAL_STEPS):
            obs = envs.step(info.action.decode(_first_action(info, obs)))[0]
    finally:
        envs.close()


def _first_action(info: EnvInfo, obs: Any) -> Any:
    """The policy's first action that the mask of one copy allows, [1, ...]."""
    action, row = info.action.storage(1), info.observation.encode(obs)[0]
    if info.observation.mask is not None:
        allowed = row[info.observation.mask]
        sizes = info.action.sizes if isinstance(info.action, MultiDiscreteAction) else (len(allowed),)
        stops = np.cumsum(sizes)
        firsts = [allowed[stop - size : stop].argmax() for stop, size in zip(stops, sizes, strict=True)]
        action[0] = firsts if action.ndim == 2 else firsts[0]
    return action


def find_spec(cfg: EnvConfig) -> EnvSpec:
    """The registration of the id.

    Raises:
        ValueError: `import_module` cannot be imported, or nothing is registered under the id.
    """
    before, _, name = cfg.id.rpartition(":")  # gymnasium's own "module:Id-v0"
    _import(cfg, f"env.import_module={cfg.import_module}", cfg.import_module)
    _import(cfg, f"env.id={cfg.id}", before)
    if name in gym.registry:
        return gym.registry[name]
    lower = {known.lower(): known for known in gym.registry}
    near = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.5)
    hint = f"; did you mean {lower[near[0]]}?" if near else ""
    module = next((module for start, module in REGISTERED_BY.items() if name.startswith(start)), None)
    if module not in (None, cfg.import_module):
        hint = f"; it comes with env.import_module={module}"
    raise ValueError(
        f"env.id must be an environment that gymnasium knows, got {name!r}{hint}"
        " (env.import_module imports a package that registers more)"
    )


def _import(cfg: EnvConfig, typed: str, module: str | None) -> None:
    """Import a package that registers environments, if there is one, and call its `register_envs`, if any.

    Gymnasium before 1.0 called what a package had declared as its plugin, by custom a function of that name.

    Raises:
        ValueError: it cannot be imported; says what named it.
    """
    if not module:
        return
    try:
        register = getattr(importlib.import_module(module), "register_envs", None)
        known = cfg.id.rpartition(":")[2] in gym.registry
        if register not in (None, gym.register_envs) and not known:  # gymnasium's own does something else
            register()
    except (Exception, SystemExit) as error:  # it is somebody's own, and runs when it is imported
        needs = missing_package(error)
        if needs and module in REGISTERED_BY.values():
            raise ValueError(f"env.id={cfg.id} needs {needs}") from error
        raise ValueError(f"{typed} cannot be imported: {described(error)}") from error


def has_native(cfg: EnvConfig, spec: EnvSpec) -> bool:
    """Whether there is a vector version in numpy that takes these options and has the same spaces.

    Of gymnasium's own only CartPole has one; versions in jax do not count. ale-py's preprocesses by itself,
    so its spaces differ.
    """
    entry = spec.vector_entry_point
    if entry is None or spec.additional_wrappers or _wrapped(cfg):
        return False
    if isinstance(entry, str) and ("jax" in entry.lower() or entry.startswith("ale_py.")):
        return False
    try:
        accepted = inspect.signature(load_env_creator(entry) if isinstance(entry, str) else entry).parameters
    except ImportError:
        return False
    variadic = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in accepted.values())
    return variadic or cfg.kwargs.keys() <= accepted.keys()


def find_dynamics(cfg: EnvConfig, spec: EnvSpec) -> Dynamics:
    """The batched version of the environment, for copies on a device.

    Raises:
        ValueError: there is none, or not with these options or behind these wrappers; one line.
    """
    try:
        if _wrapped(cfg):
            raise ValueError("wrappers go around single copies")
        return dynamics_of(spec, cfg.kwargs)
    except ValueError as error:
        raise ValueError(f"env.vectorization=torch: {cfg.id}: {error}; use auto, sync or async") from error


def make_env(
    cfg: EnvConfig, *, training: bool = False, max_episode_steps: int | None = None, **kwargs: Any
) -> gym.Env:
    """One copy of the environment behind its wrappers.

    Args:
        cfg: which.
        training: also behind `train_wrappers`.
        max_episode_steps: replaces the time limit of the registration; with wrappers it is a further one,
            counted outside them.
        kwargs: further ones for `gymnasium.make`.

    Raises:
        ValueError: as `inspect_env`.
    """
    spec = find_spec(cfg)
    # The checker's warnings are for authors of environments; it costs a tenth of a CartPole step.
    options = {"disable_env_checker": True} | cfg.kwargs | kwargs
    if max_episode_steps is not None and not _wrapped(cfg):
        options["max_episode_steps"] = max_episode_steps
    try:
        if isinstance(spec.entry_point, str):
            load_env_creator(spec.entry_point)
        quiet()
        env = gym.make(spec, **options)
    except Exception as error:  # whatever a third-party constructor raises, the user named the environment
        raise ValueError(f"env.id={cfg.id} {_reason(error, 'cannot be made')}") from error
    if not _wrapped(cfg):
        return env
    env = Origin(env)
    for wrapper in cfg.wrappers + (cfg.train_wrappers if training else ()):
        try:
            env = cast(gym.Env, wrapper(env))
        except Exception as error:
            env.close()
            what = f"{wrapper.path}={wrapper.target.__name__}"
            raise ValueError(f"{what} {_reason(error, f'does not fit {cfg.id}')}") from error
    return env if max_episode_steps is None else gym.wrappers.TimeLimit(env, max_episode_steps)


def make_envs(
    cfg: EnvConfig, num_envs: int, *, training: bool = False, max_episode_steps: int | None = None
) -> VectorEnv:
    """N copies of the environment in numpy; reset them before the first step.

    Args:
        cfg: which, and how they run; "torch" counts as "auto".
        num_envs: N.
        training: behind `train_wrappers` too.
        max_episode_steps: replaces the time limit of the registration (with wrappers: a further one).

    Returns:
        A vector environment whose metadata names its autoreset mode.

    Raises:
        ValueError: as `inspect_env` (a ContractError for single copies), or the native version autoresets in
            no supported way.
    """
    spec = find_spec(cfg)
    # A native version draws for all its copies from one generator: ranks could not divide them.
    if cfg.vectorization in ("auto", "native", "torch") and num_ranks() == 1 and has_native(cfg, spec):
        kwargs = dict(cfg.kwargs)
        if max_episode_steps is not None:
            kwargs["max_episode_steps"] = max_episode_steps
        envs = gym.make_vec(spec, num_envs, vectorization_mode="vector_entry_point", **kwargs).unwrapped
        autoreset_mode(envs)
        # A policy gives no action outside of the space; asking about each is a fifth of a step of CartPole.
        vars(envs.action_space)["contains"] = _anything
        return envs
    make = partial(_replayable, cfg, training, max_episode_steps)
    mode = MODES[cfg.autoreset]
    if cfg.vectorization == "async":
        return Processes(make, num_envs, mode, f"env.id={cfg.id}")
    return Copies(make, num_envs, mode)


def make_torch_envs(cfg: EnvConfig, info: EnvInfo, seeds: Sequence[int], device: torch.device) -> TorchEnvs:
    """One copy of the environment for each seed, on a device; they have begun their first episodes.

    Raises:
        ValueError: as `find_dynamics`.
    """
    return TorchEnvs(find_dynamics(cfg, find_spec(cfg)), info.max_episode_steps, seeds, device)


def _replayable(cfg: EnvConfig, training: bool, max_episode_steps: int | None) -> gym.Env:
    """One copy, also in another process, where the registry starts out without third-party ids.

    Raises:
        ContractError: it cannot be made, though another could: a device or a port that only one can have.
    """
    try:
        return Replayable(make_env(cfg, training=training, max_episode_steps=max_episode_steps))
    except ValueError as error:
        raise ContractError(str(error)) from error


def _anything(action: object) -> bool:
    """Whether an action is in the space, where nobody needs to ask."""
    return True


def _wrapped(cfg: EnvConfig) -> bool:
    """Whether copies have wrappers, while training at least."""
    return bool(cfg.wrappers or cfg.train_wrappers)


def _reason(error: Exception, otherwise: str) -> str:
    """Why something could not be made: a package that is missing, or the error itself."""
    needs = missing_package(error)
    return f"needs {needs}" if needs else f"{otherwise}: {type(error).__name__}: {told(error)}"


def autoreset_mode(envs: VectorEnv) -> AutoresetMode:
    """When the copies of this vector environment reset after an episode.

    Raises:
        ValueError: it does not say, or it leaves resetting to the caller.
    """
    mode = envs.metadata.get("autoreset_mode")
    if mode not in (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP):
        raise ValueError(
            f"env.vectorization=native: {type(envs).__name__} autoresets in no supported way: {mode}"
        )
    return mode


def reset_envs(envs: VectorEnv, seeds: Sequence[int]) -> Any:
    """Reset with one seed per copy (a native version takes only the first); returns the observations."""
    if isinstance(envs, (SyncVectorEnv, AsyncVectorEnv)):
        return envs.reset(seed=list(seeds))[0]
    return envs.reset(seed=seeds[0])[0]
