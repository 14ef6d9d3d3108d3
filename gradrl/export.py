"""A policy as a module for `torch.export`: observations as the environment has them to its actions."""

import copy
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from gymnasium import spaces
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional

from core.config import ConfigError
from core.export.card import Card, measured, unmeasured
from core.export.formats import Exportable
from core.numbers import plain_number
from core.run import checkpoint as checkpoints
from core.run.saved import Saved, read_saved
from gradrl.envs.observations import Leaf
from gradrl.envs.spaces import Action, BoxAction, DiscreteAction, MultiDiscreteAction
from gradrl.policy import TRAINED, Policy, policy_of


class PolicyModule(nn.Module):
    """The most likely actions, normalisation and bounds inside.

    Args:
        policy: a trained one; it is copied.

    Raises:
        ConfigError: its networks have no method `mode`.
    """

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        if not hasattr(policy.model, "mode"):
            kind = type(policy.model).__qualname__
            raise ConfigError(f"policy={kind} cannot be exported: it has no method `mode`")
        # `mode` is asked for above; the protocol of policies does not say that they are modules.
        self.policy: Any = copy.deepcopy(policy.model).cpu().eval().requires_grad_(False)  # type: ignore[attr-defined]  # a Module
        self.leaves = [leaf for leaf, _ in policy.observation.leaves]
        self.raw_dtype = _torch_dtype(policy.observation.raw_dtype)
        self.recurrent = policy.recurrent_state_size > 0
        self.decode = Decoder(policy.action)
        self.normalize = None
        if policy.normalizer is not None:
            moments, columns = policy.normalizer.moments, policy.normalizer.columns
            chosen = np.ones(policy.observation.size, np.bool_) if columns is None else columns
            mean, variance = np.zeros(len(chosen)), np.ones(len(chosen))
            mean[chosen], variance[chosen] = moments.mean, moments.variance
            self.normalize = Normalize(mean, variance, chosen, policy.normalizer.clip, self.raw_dtype)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Actions [N, ...]; with a recurrent state as the last input also the next one, [N, M].

        Args:
            inputs: the leaves of the observation space, [N, ...] each.
        """
        observed = inputs[:-1] if self.recurrent else inputs
        parts = [
            _encode(value, leaf).to(self.raw_dtype) for value, leaf in zip(observed, self.leaves, strict=True)
        ]
        rows = parts[0] if len(parts) == 1 else torch.cat(parts, -1)
        if self.normalize is not None:
            rows = self.normalize(rows)
        elif rows.dtype == torch.float64:
            rows = rows.float()
        if self.recurrent:
            action, state = self.policy.mode(rows, inputs[-1])
            return self.decode(action), state
        return (self.decode(self.policy.mode(rows)),)


class Normalize(nn.Module):
    """Rows as `ObservationNormalizer` gives them to the network."""

    def __init__(
        self, mean: np.ndarray, variance: np.ndarray, columns: np.ndarray, clip: float, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.clip = clip
        kind = torch.float64 if dtype == torch.float64 else torch.float32
        self.register_buffer("mean", torch.from_numpy(mean).to(kind))
        self.register_buffer("inverse_std", torch.from_numpy(1 / np.sqrt(variance + 1e-8)).to(kind))
        self.register_buffer("columns", torch.from_numpy(columns.copy()))

    def forward(self, rows: Tensor) -> Tensor:
        """Float32, [N, D]; images and masks as they are."""
        mean, inverse_std, columns = cast(Any, (self.mean, self.inverse_std, self.columns))
        scaled = ((rows - mean) * inverse_std).clamp(-self.clip, self.clip).float()
        return torch.where(columns, scaled, rows.float())


class Decoder(nn.Module):
    """The policy's actions as the environment's."""

    def __init__(self, action: Action) -> None:
        super().__init__()
        self.action = action
        self.dtype = torch.int64 if isinstance(action, DiscreteAction) else _torch_dtype(action.dtype)
        if isinstance(action, BoxAction):
            for name in ("scale", "centre", "low", "high"):
                self.register_buffer(name, torch.from_numpy(np.array(getattr(action, name))))
        elif isinstance(action, MultiDiscreteAction):
            self.register_buffer("start", torch.from_numpy(np.array(action.start, np.int64)))

    def forward(self, action: Tensor) -> Tensor:
        """[N, ...]."""
        own = self.action
        if isinstance(own, DiscreteAction):
            return action + own.start
        if isinstance(own, MultiDiscreteAction):
            action = action + cast(Tensor, self.start)
        elif isinstance(own, BoxAction):
            scale, centre, low, high = cast(Any, (self.scale, self.centre, self.low, self.high))
            action = torch.clamp((action * scale + centre).to(low.dtype), low, high)
        return action.to(self.dtype).reshape(-1, *own.shape)


def exportable_policy(run: str | Path, checkpoint: str) -> tuple[Exportable, Saved]:
    """The policy of a run as what can be exported.

    Raises:
        ConfigError: as `load_policy`, or its class or spaces cannot be exported.
    """
    saved = read_saved(run, TRAINED, checkpoint)
    policy = policy_of(saved)
    module = PolicyModule(policy).eval()
    inputs = {
        _name(leaf): torch.from_numpy(np.zeros((2, *_shape(leaf)), leaf.space.dtype))
        for leaf in module.leaves
    }
    if module.recurrent:
        inputs["state"] = torch.zeros(2, policy.recurrent_state_size)
    return Exportable(
        "policy", module, inputs, ("action", "next_state") if module.recurrent else ("action",)
    ), saved


def card(saved: Saved, checkpoint: str, command: str, versions: Mapping[str, str]) -> Card:
    """What a policy's card says of it."""
    agent, env = (saved.options.get(name) for name in ("agent", "env"))
    name = str(agent.get("_target_", "")).rpartition(".")[2] if isinstance(agent, dict) else ""
    env_id = str(env.get("id", "")) if isinstance(env, dict) else ""
    step = checkpoints.step_of(saved.state, saved.path)
    what = (
        f"A policy of the agent {name} for the environment {env_id}, after {step:,} environment steps "
        f"(`checkpoint={checkpoint}`). Observations go in as the environment gives them, its actions come "
        "out: the most likely ones. Normalisation, masks and bounds are inside."
    )
    title = f"{name} on {env_id}"
    return Card(title, what, _score(saved, checkpoint), ("reinforcement-learning", env_id), command, versions)


def _score(saved: Saved, checkpoint: str) -> str:
    """The mean return and its 95 % interval, of the checkpoint's own measurement."""
    found, names = (
        measured(saved.directory, checkpoint),
        ("eval_return_mean", "eval_return_std", "eval_episodes"),
    )
    mean, std, episodes = (found.get(name) for name in names)
    if not isinstance(mean, float) or not isinstance(std, float) or not isinstance(episodes, int):
        return unmeasured(saved.directory, checkpoint)
    if episodes < 2:
        return f"Its return was {plain_number(mean)} in one episode."
    half = float(stats.t.ppf(0.975, episodes - 1)) * std / math.sqrt(episodes - 1)
    interval = f"{plain_number(mean - half)} to {plain_number(mean + half)}"
    return f"Mean return {plain_number(mean)}, 95 % interval {interval}, over {episodes} episodes."


def _encode(value: Tensor, leaf: Leaf) -> Tensor:
    """A leaf of the observation [N, *shape] as columns [N, size], as `Observation.encode` gives them."""
    space = leaf.space
    if isinstance(space, spaces.Discrete):
        return functional.one_hot(value.reshape(-1).long() - int(space.start), int(space.n))
    if isinstance(space, spaces.MultiDiscrete):
        numbers = value.flatten(1).long() - torch.from_numpy(space.start.reshape(-1).astype(np.int64))
        sizes = space.nvec.reshape(-1).tolist()
        return torch.cat([functional.one_hot(numbers[:, k], size) for k, size in enumerate(sizes)], -1)
    if leaf.kind == "image" and leaf.shape != space.shape:
        value = value.permute(0, 3, 1, 2)
    if leaf.kind == "mask":
        value = value != 0
    return value.reshape(value.shape[0], leaf.size)


def _name(leaf: Leaf) -> str:
    return ".".join(["observation", *map(str, leaf.path)])


def _shape(leaf: Leaf) -> tuple[int, ...]:
    return leaf.space.shape or ()


def _torch_dtype(dtype: Any) -> torch.dtype:
    try:
        return torch.from_numpy(np.zeros(1, dtype)).dtype
    except TypeError as error:
        raise ConfigError(f"numbers of {np.dtype(dtype)} cannot be exported") from error
