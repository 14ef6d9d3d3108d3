"""What Gymnasium promises of `reset` and `step`, checked on everything that an environment returns.

Source: gymnasium.Env.reset and gymnasium.Env.step; unlike Gymnasium's own checkers, which warn once about
much that does no harm, this refuses at every step what would be misread or fail far from its cause.
"""

import traceback
from collections.abc import Mapping
from typing import Any, cast

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from core.errors import ContractError, described

PARTED, COUNTED = (spaces.Dict, spaces.Tuple), (spaces.Discrete, spaces.MultiDiscrete)


def reset(env: gym.Env, space: spaces.Space, **kwargs: Any) -> Any:
    """Begin an episode and return its first observation.

    Args:
        env: the environment.
        space: of its observations.
        kwargs: seed and options.

    Raises:
        ContractError: it raised an error, or returned something else than (observation, info); names the id.
    """
    try:
        result = env.reset(**kwargs)
        if not isinstance(result, (tuple, list)) or len(result) != 2:
            raise _wrong("(observation, info)", result)
        obs, info = result
        if not isinstance(info, (dict, Mapping)):
            raise _wrong("a dict as info", info)
        _check_observation(obs, space)
    except ContractError as error:
        raise ContractError(f"{_named(env)}: reset() {error}") from None
    except Exception as error:
        inner = env.unwrapped
        if _in_gymnasium(error) and inner is not env:
            reset(inner, inner.observation_space, **kwargs)
        raise ContractError(f"{_named(env)}: reset() raised {described(error)}") from error
    return obs


def step(env: gym.Env, space: spaces.Space, action: Any) -> tuple[Any, float, bool, bool]:
    """Take a step; observation, reward, terminated, truncated.

    An array of one number is taken as that number.

    Args:
        env: the environment.
        space: of its observations.
        action: as its action space has them.

    Raises:
        ContractError: as `reset`.
    """
    try:
        result = env.step(action)
        if not isinstance(result, (tuple, list)) or len(result) != 5:
            raise _wrong("(observation, reward, terminated, truncated, info)", result)
        obs, reward, terminated, truncated, info = result
        if not isinstance(info, (dict, Mapping)):
            raise _wrong("a dict as info", info)
        _check_observation(obs, space)
        return obs, _number(reward), _flag(terminated, "terminated"), _flag(truncated, "truncated")
    except ContractError as error:
        raise ContractError(f"{_named(env)}: step() {error}") from None
    except Exception as error:
        inner = env.unwrapped
        if _in_gymnasium(error) and inner is not env and inner.action_space.contains(action):
            step(inner, inner.observation_space, action)
        raise ContractError(f"{_named(env)}: step() raised {described(error)}") from error


def _in_gymnasium(error: Exception) -> bool:
    """Whether one of Gymnasium's wrappers raised it, perhaps over what the environment within returned."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return str(frame.f_globals.get("__name__")).startswith("gymnasium.wrappers.")


def _named(env: gym.Env) -> str:
    return f"env.id={env.spec.id}" if env.spec is not None else type(env.unwrapped).__name__


def _wrong(wanted: str, value: Any) -> ContractError:
    return ContractError(f"must return {wanted}, it returned {_brief(value)}")


def _brief(value: Any) -> str:
    """What came, in a few words."""
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    if isinstance(value, tuple | list):
        return f"{len(value)} values"
    return "None" if value is None else f"{type(value).__name__} {str(value)[:40]!r}"


def _number(reward: Any) -> float:
    if isinstance(reward, float):  # NumPy's float64 too
        return float(reward)
    try:
        return float(reward if np.ndim(reward) == 0 else np.asarray(reward).item())
    except (TypeError, ValueError):
        raise _wrong("a number as reward", reward) from None


def _flag(value: Any, name: str) -> bool:
    try:
        return bool(value)
    except ValueError:
        raise _wrong(f"true or false as {name}", value) from None


def _check_observation(obs: Any, space: spaces.Space, name: str = "observation") -> None:
    """Raise ContractError where an observation has not the parts, shape, kind or range of its space."""
    if isinstance(space, PARTED):
        parts = dict(space.spaces if isinstance(space, spaces.Dict) else enumerate(space.spaces))
        for key, inner in parts.items():
            try:
                part = obs[key]
            except (KeyError, IndexError, TypeError):
                raise ContractError(f"returned an {name} without the part {key!r} of its space") from None
            _check_observation(part, inner, f"{name}[{key!r}]")
        return
    value = obs if type(obs) is np.ndarray else np.asarray(obs)
    if value.shape != space.shape:
        raise ContractError(f"returned an {name} of shape {value.shape}, its space has shape {space.shape}")
    if value.dtype != space.dtype and not np.can_cast(value.dtype, cast(np.dtype, space.dtype), "same_kind"):
        raise ContractError(f"returned an {name} of {value.dtype}, its space has {space.dtype}")
    if isinstance(space, COUNTED):
        low = np.asarray(space.start)
        high = low + (space.n if isinstance(space, spaces.Discrete) else space.nvec) - 1
        if ((value < low) | (value > high)).any():
            raise ContractError(
                f"returned the {name} {value.tolist()}, outside its space: {low.tolist()} to {high.tolist()}"
            )
