"""A trained policy as a function: `policy = load_policy(run)`, `action, state = policy(observation, state)`.

Observations go in and actions come out as the environment has them: encoding, normalisation, masks and
bounds are inside. Nothing of the environment is needed, nor is anything of training imported.
"""

from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import nn

from core.config import Component, ConfigError
from core.run import checkpoint as checkpoints
from core.run.saved import Saved, read_saved
from gradrl.envs.observations import Leaf, Observation, find
from gradrl.envs.plain_spaces import Plain, from_plain, to_plain
from gradrl.envs.spaces import Action, action_decoder
from gradrl.experience.normalize import ObservationNormalizer, as_seen
from gradrl.policies.actor import Acting
from gradrl.policies.numpy_policy import Array

TRAINED = "gradrl.train.TrainConfig"
SPACES = ("observation_space", "action_space")


class ActingModel(Protocol):
    """Networks whose policy can be had as a function."""

    def acting(self) -> Acting:
        """The policy as it now is."""
        ...


class Policy:
    """pi(.|s) of a trained agent, as a function without state: threads may share it.

    Args:
        model: the networks; they shall not be trained any more.
        observation_space: of one environment.
        action_space: of one environment.
        normalizer: what the networks were trained behind; None for nothing.

    Attributes:
        recurrent_state_size: M, numbers of the recurrent state of one environment; 0 without one.
    """

    def __init__(
        self,
        model: ActingModel,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        normalizer: ObservationNormalizer | None = None,
    ) -> None:
        self.model, self.normalizer = model, normalizer
        self.observation_space, self.action_space = observation_space, action_space
        self.observation, self.action = Observation(observation_space), action_decoder(action_space)
        self._leaves = [leaf for leaf, _ in self.observation.leaves]
        acting = model.acting()
        self.recurrent_state_size, self._step = acting.state_size, acting.step

    def __call__(
        self,
        observation: Any,
        state: Array | None = None,
        *,
        deterministic: bool = True,
        generator: np.random.Generator | None = None,
    ) -> tuple[Any, Array | None]:
        """Choose an action for one observation, or one for each of a batch.

        Args:
            observation: as the observation space has it, or N of them: arrays [N, ...], for a Dict or Tuple
                space a mapping or tuple of such. The mask of allowed actions, where there is one, is a part.
            state: what the last call returned, [M] or [N, M]; None or 0 where an episode begins.
            deterministic: the most likely action; false draws one.
            generator: draws it; None = one of this call's own, which nobody can repeat. Threads shall not
                share one.

        Returns:
            The action as the action space has it, or N of them, [N, ...]; and the next recurrent state, None
            for a policy without one.

        Raises:
            ValueError: an observation or state that does not fit; one line.
        """
        rows, single = self._rows(observation)
        random = None if deterministic else generator or np.random.default_rng()
        before = self._state(state, len(rows), single)
        action, after = self._step(as_seen(rows, self.normalizer), before, random)
        decoded = self.action.decode(action)
        if single:
            decoded, after = decoded[0], after[0]
        return decoded, after if self.recurrent_state_size else None

    def _rows(self, observation: Any) -> tuple[NDArray[Any], bool]:
        """Encoded rows [N, D], and whether there was one observation and no batch."""
        values = []
        for leaf in self._leaves:
            try:
                value = find(observation, leaf.path)
            except (KeyError, IndexError, TypeError):
                raise ValueError(f"the observation lacks {_named(leaf)} of its space") from None
            values.append(_batch(value, leaf))
        if len({(len(value), single) for value, single in values}) > 1:
            raise ValueError("the parts of the observation must all be single, or batches of one length")
        return self.observation.join([value for value, _ in values]), values[0][1]

    def _state(self, state: Array | None, count: int, single: bool) -> Array:
        size = self.recurrent_state_size
        if state is None:
            return np.zeros((count, size), np.float32)
        array = np.asarray(state, np.float32)
        wanted = (size,) if single else (count, size)
        if array.shape != wanted or not size:
            shape = f"an array of shape {wanted}" if size else "None: this policy has none"
            raise ValueError(f"the recurrent state must be {shape}, got shape {array.shape}")
        return array.reshape(count, size)


def load_policy(run: str | Path, checkpoint: str = "last", device: str = "cpu") -> Policy:
    """The policy of a trained agent. No environment is made, and no code of the run's directory is run.

    Args:
        run: its directory.
        checkpoint: "last", "best" (by the evaluations during the training), or "good" (the last one with
            finite parameters and no error open).
        device: of networks with convolutions: cpu, cuda, cuda:N, mps or auto. Others act in NumPy.

    Raises:
        ConfigError: there is no such run or checkpoint, or a file is damaged or of another network.
    """
    return policy_of(read_saved(run, TRAINED, checkpoint, device))


def policy_of(saved: Saved) -> Policy:
    """The policy that a run's directory describes; errors as `load_policy`."""
    try:
        observed, acted = (from_plain(saved.interface[name]) for name in SPACES)
        observation, action = Observation(observed), action_decoder(acted)
    except (KeyError, ValueError) as error:
        raise ConfigError(f"{saved.directory}: its interface.json is damaged: {error}") from error
    model = build_model(saved, observation, action)
    checkpoints.restore(cast(Any, model), saved.state, "policy", saved.path)
    normalizer = None
    if saved.options.get("normalize_observation"):
        normalizer = normalizer_of(observation)
    if normalizer is not None:
        checkpoints.restore(normalizer, saved.state, "observation_normalizer", saved.path)
    return Policy(cast(ActingModel, model.to(saved.device)), observed, acted, normalizer)


def build_model(saved: Saved, observation: Observation, action: Action) -> nn.Module:
    """The networks of a run's options, with weights that are yet to be loaded."""
    component = saved.part("policy")
    target = component.target if isinstance(component, Component) else type(component)
    if not isinstance(component, Component) or not (
        issubclass(target, nn.Module) and hasattr(target, "acting")
    ):
        raise ConfigError(f"policy={target.__qualname__} cannot act on its own: it has no method `acting`")
    try:
        return cast(nn.Module, component(observation, action, torch.Generator()))
    except (TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"{saved.directory}: its options fit no policy of these spaces: {reason}"
        ) from error


def interface_of(observation_space: spaces.Space, action_space: spaces.Space) -> dict[str, Plain]:
    """What a run notes of what goes into its policy and comes out."""
    return dict(zip(SPACES, map(to_plain, (observation_space, action_space)), strict=True))


def normalizer_of(observation: Observation) -> ObservationNormalizer | None:
    """What stands between the environment's observations and the policy; None where all are images."""
    columns = np.zeros(observation.size, np.bool_)
    for part in observation.parts:
        columns[part.start : part.stop] = part.kind == "vector"
    if not columns.any():  # images alone: their bytes stay bytes
        return None
    return ObservationNormalizer(observation.size, columns=None if columns.all() else columns)


def _batch(value: Any, leaf: Leaf) -> tuple[NDArray[Any], bool]:
    """A part of an observation as a batch of its space's own type, and whether it was a single one."""
    array, shape, dtype = np.asarray(value), leaf.space.shape or (), cast(np.dtype, leaf.space.dtype)
    if array.dtype != dtype:
        cast_array = array.astype(dtype) if array.dtype.kind in "biuf" else None
        whole = dtype.kind == "f" or array.dtype.kind in "biu"
        if cast_array is None or not whole or (dtype.kind != "f" and (cast_array != array).any()):
            raise ValueError(f"{_named(leaf)} must be of {dtype}, got {array.dtype}")
        array = cast_array
    if array.shape == shape:
        return array[None], True
    if array.shape[1:] == shape and array.ndim == len(shape) + 1:
        return array, False
    raise ValueError(f"{_named(leaf)} must have shape {shape}, or {('N', *shape)} for N, got {array.shape}")


def _named(leaf: Leaf) -> str:
    return "the observation" + "".join(f"[{key!r}]" for key in leaf.path)
