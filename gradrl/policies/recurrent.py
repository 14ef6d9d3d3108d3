"""Recurrent actor and critic: an LSTM before each, for environments that do not show their whole state.

While acting the LSTM advances step by step, in NumPy; for learning it is unrolled from the state before the
rollout. Its state is reset where an episode starts. Actor and critic have an LSTM each, because what predicts
the return need not be what decides the action; with images they share one, for cost.

Source: Hochreiter and Schmidhuber 1997, Neural Computation 9; in PPO: Pleines et al. 2023, "Memory gym".
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from core.form import Maybe, Rows, form_of
from core.state import StateDict
from gradrl.envs.observations import MASK, Observation
from gradrl.envs.spaces import Action
from gradrl.experience.rollout import Rollout
from gradrl.policies.actor import Acting, Actor
from gradrl.policies.distributions import Policy
from gradrl.policies.encoders import Encoder, needs_encoder
from gradrl.policies.networks import ActorCritic, MLPConfig
from gradrl.policies.numpy_policy import Array, numpy_forward
from gradrl.policies.own_network import observing


@dataclass(frozen=True, kw_only=True)
class RecurrentConfig(MLPConfig):
    """Shape and initialisation; the options of `MLPConfig` are those of the layers behind the LSTM.

    Attributes:
        hidden_sizes: width of each hidden layer between LSTM and outputs; () = none.
        shared: actor and critic share the LSTM, and the convolutions before it.
        recurrent_size: H, size of the LSTM's output; its cell state has the same size.
    """

    hidden_sizes: tuple[Annotated[int, Ge(1)], ...] = (64,)
    activation: Literal["tanh", "relu", "elu", "silu"] = "tanh"
    recurrent_size: Annotated[int, Ge(1)] = 64

    def head(self) -> MLPConfig:
        """The options of actor and critic behind their LSTMs."""
        options = {field.name: getattr(self, field.name) for field in fields(MLPConfig)}
        return MLPConfig(**{**options, "shared": False, "network": None})


class RecurrentActorCritic(nn.Module):
    """Sequences of rows [T, N, D] to policy and value; arguments and errors are those of `ActorCritic`.

    Attributes:
        recurrent_state_size: M, size of the recurrent state per environment.
    """

    def __init__(
        self, cfg: RecurrentConfig, observation: Observation, action: Action, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.mask = observation.mask
        features: spaces.Space = spaces.Box(-1, 1, (cfg.recurrent_size,))
        if self.mask is not None:
            allowed = spaces.MultiBinary(self.mask.stop - self.mask.start)
            features = spaces.Dict({"features": features, MASK: allowed})
        count = 1 if cfg.shared else 2
        self.recurrent = nn.ModuleList(RecurrentEncoder(cfg, observation, generator) for _ in range(count))
        self.head = ActorCritic(cfg.head(), Observation(features), action, generator)
        self.recurrent_state_size = 2 * cfg.recurrent_size * count

    def forward(
        self,
        obs: Tensor,
        episode_start: Tensor,
        recurrent_state: Tensor,
        rows: Tensor | None = None,
        mappable: bool = False,
    ) -> tuple[Policy, Tensor]:
        """Policy and value along sequences.

        Args:
            obs: [T, N, D].
            episode_start: obs[t] is the first of an episode, bool, [T, N].
            recurrent_state: before obs[0], [N, M].
            rows: the steps asked for, bool [T N] or int64 row numbers; None = everything.
            mappable: by small steps, which `torch.func` can map; ten times slower.

        Returns:
            Of B = T N rows, step t of sequence n in row t N + n, or of those asked for.
        """
        parts = recurrent_state.chunk(len(self.recurrent), -1)
        encoders = zip(self.recurrent, parts, strict=True)
        if mappable:
            features = [stepwise(encoder, obs, episode_start, part) for encoder, part in encoders]
        else:
            segments = Segments(episode_start)
            features = [encoder(obs, segments, part)[0] for encoder, part in encoders]
        features = [x.flatten(0, 1) for x in features]
        if self.mask is not None:
            mask = obs[..., self.mask].flatten(0, 1)
            features = [torch.cat([x, mask], -1) for x in features]
        if rows is not None:
            features = [x[rows] for x in features]
        return self.head.policy(features[0]), self.head.value(features[-1])

    @torch.no_grad()
    def values(self, rollout: Rollout) -> tuple[Tensor, Tensor]:
        """V of what each action was chosen from and of what it led to, [T, N] each.

        A final observation is valued with the recurrent state of the episode that it ends.
        """
        last, width = self.recurrent[-1], self.recurrent_state_size // len(self.recurrent)
        segments = Segments(rollout.episode_start, rollout.final_index)
        features = last(rollout.obs, segments, rollout.recurrent_state[:, -width:], rollout.final_obs)
        value = self._value(features[0], rollout.obs)
        return value[:-1], rollout.next_value(value, self._value(features[1], rollout.final_obs))

    def make_actor(self, generator: np.random.Generator, *, deterministic: bool = False) -> "RecurrentActor":
        """The policy at work, sampled or its most likely actions."""
        return RecurrentActor(self, self.head.make_actor(generator, deterministic=deterministic))

    def acting(self) -> Acting:
        """The policy as it now is, as a function; its state is that of the actor's LSTM, output and cell."""
        cell, head, mask = _cell(self.recurrent[0]), self.head.acting(), self.mask

        def step(
            rows: Array, state: Array, generator: np.random.Generator | None
        ) -> tuple[np.ndarray, Array]:
            state = cell(rows, state)
            return head.step(_seen(rows, state, mask), state, generator)

        return Acting(self.recurrent_state_size // len(self.recurrent), step)

    def mode(self, rows: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One step of the most likely actions: rows [N, D] and states [N, 2 H] to actions and states."""
        encoder = self.recurrent[0]
        h, c = advance(encoder, input_gates(encoder, rows), *state.chunk(2, -1))
        features = h if self.mask is None else torch.cat([h, rows[:, self.mask]], -1)
        return self.head.mode(features), torch.cat([h, c], -1)

    def _value(self, features: Tensor, obs: Tensor) -> Tensor:
        if self.mask is not None:
            features = torch.cat([features, obs[..., self.mask]], -1)
        return self.head.value(features)


class RecurrentEncoder(nn.Module):
    """Convolutions where there are images, or a network of the user's own, then an LSTM.

    A GRU would do as well, but has no fused kernel on the CPU: 128 steps there and back take 36 ms, not 2.5.
    """

    def __init__(self, cfg: RecurrentConfig, observation: Observation, generator: torch.Generator) -> None:
        super().__init__()
        self.encoder: nn.Module = nn.Identity()
        size = observation.size
        if cfg.network is not None:
            self.encoder = observing(cfg.network, observation, generator)
            size = self.encoder.size
        elif needs_encoder(observation):
            self.encoder = Encoder(cfg.convolutions, observation, cfg.orthogonal, generator)
            size = self.encoder.size
        with torch.random.fork_rng(devices=[]):
            self.lstm = nn.LSTM(size, cfg.recurrent_size)
        for name, parameter in self.lstm.named_parameters():
            _initialise(name, parameter, cfg, generator)

    def forward(
        self, obs: Tensor, segments: "Segments", recurrent_state: Tensor, final_obs: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Features along sequences.

        Args:
            obs: [T, N, D].
            segments: the episodes in them.
            recurrent_state: output and cell of the LSTM before the first step, side by side, [N, 2 H].
            final_obs: [K, D], at the `final_index` of the segments.

        Returns:
            Features [T, N, H], and those of the final observations, [K, H].
        """
        x, final = self.encoder(obs), None if final_obs is None else self.encoder(final_obs)
        state = segments.states(recurrent_state)[None].chunk(2, -1)
        out, _ = self.lstm(segments.pack(x, final), (state[0].contiguous(), state[1].contiguous()))
        return segments.unpack(out)


def stepwise(encoder: nn.Module, obs: Tensor, episode_start: Tensor, state: Tensor) -> Tensor:
    """Outputs of a `RecurrentEncoder`, [T, N, H], without a fused kernel or a shape that depends on data.

    Args:
        encoder: the layers.
        obs: [T, N, D].
        episode_start: obs[t] is the first of an episode, bool, [T, N].
        state: the LSTM's output and cell before the first step, [N, 2 H].
    """
    h, c = state.chunk(2, -1)
    steps = []
    for gates, begin in zip(input_gates(encoder, obs), episode_start, strict=True):
        h, c = (torch.where(begin[:, None], 0.0, x) for x in (h, c))
        h, c = advance(encoder, gates, h, c)
        steps.append(h)
    return torch.stack(steps)


def input_gates(encoder: nn.Module, obs: Tensor) -> Tensor:
    """What observations [..., D] add to the gates of a `RecurrentEncoder`, with both biases: [..., 4 H]."""
    assert isinstance(encoder, RecurrentEncoder)
    w_input, _, b_input, b_hidden = encoder.lstm.parameters()
    return functional.linear(encoder.encoder(obs), w_input, b_input + b_hidden)


def advance(encoder: nn.Module, gates: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Output and cell after one step, [N, H] each, from the inputs' part of the gates and those before."""
    assert isinstance(encoder, RecurrentEncoder)
    _, w_hidden, _, _ = encoder.lstm.parameters()
    i, f, new, o = (gates + functional.linear(h, w_hidden)).chunk(4, -1)
    c = f.sigmoid() * c + i.sigmoid() * new.tanh()
    return o.sigmoid() * c.tanh(), c


class Segments:
    """Episodes inside T steps of N environments, laid side by side: an LSTM runs through all at once.

    Without them the recurrence would have to stop wherever an environment starts an episode.

    Args:
        episode_start: step t is the first of an episode, bool, [T, N].
        final_index: flat positions t N + n of steps that a final observation follows which is not among the
            steps, int64, [K]; such a step is the last of its segment.
    """

    def __init__(self, episode_start: Tensor, final_index: Tensor | None = None) -> None:
        self.episode_start = episode_start
        starts = episode_start.clone()
        starts[0] = True
        time = torch.arange(len(episode_start), device=episode_start.device)[:, None]
        self.position = time - torch.where(starts, time, 0).cummax(0).values
        self.segment = starts.T.flatten().cumsum(0).view(episode_start.T.shape).T - 1
        length, count = torch.stack([self.position.max(), self.segment.max()]).tolist()
        self.final: tuple[Tensor, Tensor] | None = None
        if final_index is not None and len(final_index):
            self.final = self.position.flatten()[final_index] + 1, self.segment.flatten()[final_index]
            length += 1
        self.shape = length + 1, count + 1

    def states(self, recurrent_state: Tensor) -> Tensor:
        """The state before each segment, [S, ...]: that before the rollout, [N, ...], or 0 at a start."""
        kept = torch.where(self.episode_start[0, :, None], 0.0, recurrent_state)
        zeros = recurrent_state.new_zeros(self.shape[1], recurrent_state.shape[-1])
        return zeros.index_copy(0, self.segment[0], kept)

    def pack(self, x: Tensor, final: Tensor | None = None) -> Tensor:
        """Steps [T, N, F], and what follows some, [K, F], by segment [L, S, F]; zeros behind its end."""
        packed = x.new_zeros(*self.shape, x.shape[-1]).index_put((self.position, self.segment), x)
        return packed if self.final is None or final is None else packed.index_put(self.final, final)

    def unpack(self, packed: Tensor) -> tuple[Tensor, Tensor]:
        """Segments [L, S, H] as steps [T, N, H], and what follows some, [K, H]."""
        steps = packed[self.position, self.segment]
        return steps, packed[0, :0] if self.final is None else packed[self.final]


class RecurrentActor:
    """Acts with a recurrent state per environment.

    Args:
        model: its parameters are read at every `begin`.
        head: chooses the actions from the output of the actor's LSTM.
    """

    def __init__(self, model: RecurrentActorCritic, head: Actor) -> None:
        self.model, self.head = model, head
        self.state: Array | None = None

    def begin(self, num_envs: int) -> None:
        """Take over the parameters; the recurrent state is kept, or 0 at first."""
        self.head.begin(num_envs)
        self.cells = [_cell(encoder) for encoder in self.model.recurrent]
        if self.state is None:
            self.state = np.zeros((num_envs, self.model.recurrent_state_size), np.float32)

    def __call__(self, obs: Array, episode_start: NDArray[np.bool_]) -> np.ndarray:
        """Actions, [N] or [N, A]."""
        assert self.state is not None
        state = np.where(episode_start[:, None], np.float32(0), self.state)
        parts = np.split(state, len(self.cells), -1)
        parts = [cell(obs, part) for cell, part in zip(self.cells, parts, strict=True)]
        self.state = np.concatenate(parts, -1)
        return self.head(_seen(obs, parts[0], self.model.mask), episode_start)

    @property
    def recurrent_state(self) -> Array:
        """Output and cell of the actor's LSTM, then of the critic's if it has its own, [N, M]."""
        assert self.state is not None
        return self.state

    def state_dict(self) -> StateDict:
        """The recurrent state, and the state of the head."""
        state = None if self.state is None else torch.from_numpy(self.state.copy())
        return {"state": state, "head": self.head.state_dict()}

    def state_form(self) -> StateDict:
        """What `state_dict` must look like."""
        state = torch.empty(0, self.model.recurrent_state_size)
        return {"state": Maybe(Rows(state)), "head": form_of(self.head)}

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`."""
        self.state = None if state["state"] is None else state["state"].cpu().numpy().copy()
        self.head.load_state_dict(state["head"])


def _seen(obs: Array, state: Array, mask: slice | None) -> Array:
    """What the layers behind an LSTM see: its output, and the mask where there is one."""
    output = state[:, : state.shape[-1] // 2]
    return output if mask is None else np.concatenate([output, obs[:, mask]], -1)


def _cell(encoder: nn.Module) -> Callable[[Array, Array], Array]:
    """One step of an encoder: rows [N, D] and state [N, 2 H] to the next state; half the time of torch's."""
    assert isinstance(encoder, RecurrentEncoder)
    encode = (lambda x: x) if isinstance(encoder.encoder, nn.Identity) else numpy_forward([encoder.encoder])
    w_input, w_hidden, b_input, b_hidden = (p.detach().cpu().numpy().T for p in encoder.lstm.parameters())
    bias, size = b_input + b_hidden, encoder.lstm.hidden_size

    def step(obs: Array, state: Array) -> Array:
        gates = encode(obs) @ w_input
        gates += state[:, :size] @ w_hidden
        gates += bias
        new = np.tanh(gates[:, 2 * size : 3 * size])
        gates *= 0.5
        np.tanh(gates, out=gates)  # sigmoid(x) = (1 + tanh(x / 2)) / 2, which does not overflow
        gates += 1
        gates *= 0.5
        c = gates[:, size : 2 * size] * state[:, size:] + gates[:, :size] * new
        return np.concatenate([gates[:, 3 * size :] * np.tanh(c), c], -1)

    return step


def _initialise(name: str, parameter: Tensor, cfg: RecurrentConfig, generator: torch.Generator) -> None:
    """Orthogonal gates and zero biases, or uniform in +-1/sqrt(H) as torch has it."""
    with torch.no_grad():
        if not cfg.orthogonal:
            bound = 1 / math.sqrt(cfg.recurrent_size)
            parameter.uniform_(-bound, bound, generator=generator)
        elif name.startswith("weight"):
            for gate in parameter.chunk(4):
                nn.init.orthogonal_(gate, generator=generator)
        else:
            parameter.zero_()
