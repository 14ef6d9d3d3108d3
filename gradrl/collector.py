"""Steps N environments T times and keeps what happened, in whichever way they reset after an episode.

Under SAME_STEP a step that ends an episode returns the first observation of the next one; the final
observation is in `info`. Under NEXT_STEP it returns the final observation, and the following step only
resets: its action is ignored, its reward is 0, and it is marked as not valid.

A step whose reward, or whose observation before or after it, is no finite number is marked as not valid too,
so that it enters neither learning, nor a replay, nor running statistics. What its neighbours are told: the
episode is cut off in front of it, as by the clock, so their returns are continued by the value of the last
finite observation and not by what nobody knows. Numbers that are not finite are kept as 0.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv

from core.form import Many, Number
from core.gradients import Metrics
from core.gradients.ranks import whole
from core.state import StateDict
from gradrl.envs.env_state import env_state
from gradrl.envs.make import autoreset_mode, reset_envs
from gradrl.envs.observations import Observation, Row
from gradrl.envs.spaces import Action
from gradrl.experience.normalize import LARGEST, ObservationNormalizer, RewardNormalizer, is_finite
from gradrl.experience.rollout import Rollout
from gradrl.experience.shares import own_envs, share_columns, shared_dict, shared_list
from gradrl.policies.actor import Actor


class Collector:
    """Collects rollouts of fixed size into storage made once.

    Args:
        envs: the vector environment, of several ranks this one's; the collector resets it.
        observation: encodes its observations.
        action: decodes the policy's actions.
        num_steps: T, steps per rollout and environment.
        seeds: one per environment, for the first reset.
        observation_normalizer: applied to what the policy sees; its statistics move after each rollout.
        reward_normalizer: applied to the rewards of each rollout.
        say: takes one line for the user.

    Attributes:
        env_steps: transitions so far, autoreset steps left out.
        left_out: of them, those with a number that is not finite.
        not_restored: what a checkpoint could not bring back, in words; empty where it could all.
    """

    def __init__(
        self,
        envs: VectorEnv,
        observation: Observation,
        action: Action,
        num_steps: int,
        seeds: Sequence[int],
        observation_normalizer: ObservationNormalizer | None = None,
        reward_normalizer: RewardNormalizer | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        self.envs, self.observation, self.decode = envs, observation, action.decode
        self.num_steps, self.num_envs = num_steps, whole(envs.num_envs)
        self.own = own_envs(self.num_envs)
        self.observation_normalizer, self.reward_normalizer = observation_normalizer, reward_normalizer
        self.say = say
        self.resets_late = autoreset_mode(envs) is AutoresetMode.NEXT_STEP
        self.env_state = env_state(envs)
        shape = (num_steps, self.num_envs)
        obs_dtype = observation.dtype if observation_normalizer is None else observation.raw_dtype
        self.obs: Row = np.zeros((num_steps + 1, self.num_envs, observation.size), obs_dtype)
        self.action = action.storage(*shape)
        self.reward = np.zeros(shape, np.float32)
        self.terminated, self.truncated = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
        self.episode_start = np.ones((num_steps + 1, self.num_envs), np.bool_)
        self.env_steps = self.left_out = 0
        self.odd = np.zeros((num_steps + 1, self.num_envs), np.bool_)  # rows of obs that are not finite
        self.floats = obs_dtype.kind == "f"
        arrays = self.obs, self.action, self.reward, self.terminated, self.truncated, self.odd
        self.columns = (*arrays, self.episode_start)  # [T, N, ...], of all ranks after every rollout
        self.mine = tuple(array[:, self.own] for array in self.columns)
        self._keep(-1, reset_envs(envs, seeds[self.own]))
        share_columns([self.obs[-1:], self.odd[-1:]], self.own)
        self.ended = np.zeros(self.num_envs, np.bool_)  # the last step ended an episode
        self.episode_return, self.episode_length = np.zeros(self.num_envs), np.zeros(self.num_envs, np.int64)
        self.finished: list[tuple[float, int]] = []
        self.not_restored = ""
        self._fruitless = 0  # rollouts in a row without a finite step
        self._masks_said = False
        self._said = False  # that an episode is too long to be kept

    def collect(self, actor: Actor) -> Rollout:
        """The next T steps of every environment.

        Args:
            actor: chooses actions from (normalised) observations.

        Returns:
            A rollout on the CPU. Its tensors are this collector's storage, without a copy: they hold until
            the next call. It may hold no valid step, where none was finite.
        """
        normalize = self.observation_normalizer
        actor.begin(self.envs.num_envs)
        recurrent_state = torch.from_numpy(actor.recurrent_state.copy())
        self.obs[0], self.episode_start[0] = self.obs[-1], self.episode_start[-1]
        self.odd[0], self.odd[1:] = self.odd[-1], False
        late = self.ended[self.own]  # under NEXT_STEP: the step about to be taken only resets
        final: dict[int, np.ndarray] = {}  # last observations that are not among obs, by flat position
        own_obs, own_action, own_reward, own_terminated, own_truncated, _, episode_start = self.mine
        for t in range(self.num_steps):
            seen = own_obs[t]
            seen = seen if normalize is None else normalize(seen)
            own_action[t] = action = actor(seen, episode_start[t])
            obs, own_reward[t], terminated, truncated, info = self.envs.step(self.decode(action))
            self._keep(t + 1, obs)
            own_terminated[t], own_truncated[t] = terminated, truncated
            ended = terminated | truncated
            episode_start[t + 1] = late if self.resets_late else ended
            late = ended
            if "final_obs" in info and not self.resets_late:
                for n in np.flatnonzero(ended):
                    row = self.observation.encode_one(info["final_obs"][n])
                    final[t * self.num_envs + self.own.start + int(n)] = row.astype(self.obs.dtype)  # a copy
        share_columns(self.columns, self.own)
        rollout = self._rollout(shared_dict(final), recurrent_state)
        # With T = 1 all environments may have spent their only step on a reset: nothing to learn from.
        return rollout if rollout.num_valid or self._fruitless else self.collect(actor)

    def require_finite(self, rollouts: int) -> None:
        """Raise FloatingPointError where so many rollouts in a row had no step of finite numbers."""
        if self._fruitless >= rollouts:
            steps = self._fruitless * self.num_steps * self.num_envs
            raise FloatingPointError(
                f"every step had a reward or an observation that is not a finite number, for {steps:,} steps "
                f"up to {self.env_steps:,}: the fault is the environment's"
            )

    def drain(self) -> Metrics:
        """Return and length of each episode that ended since the last call, [E]; none when none did.

        And how many steps have been left out so far, once there are any.
        """
        left_out = {"experience/left_out": torch.tensor(float(self.left_out))} if self.left_out else {}
        if not self.finished:
            return left_out
        returns, lengths = zip(*self.finished, strict=True)
        self.finished = []
        return left_out | {
            "episode/return": torch.tensor(returns, dtype=torch.float64),
            "episode/length": torch.tensor(lengths, dtype=torch.float64),
        }

    def state_dict(self) -> StateDict:
        """Environments in mid-episode, half-counted episodes, and the count of steps.

        Says once where an episode has become too long for a checkpoint.
        """
        envs = shared_list(self.env_state.save())
        if None in envs and not self._said:
            self._said = True
            self.say(
                "an episode has become too long to be kept in checkpoints:"
                " when this run is resumed, its copy begins a new one"
            )
        return {
            "envs": envs,
            "env_steps": self.env_steps,
            "left_out": self.left_out,
            "ended": torch.from_numpy(self.ended.copy()),
            "episode_start": torch.from_numpy(self.episode_start[-1].copy()),
            "episode_return": torch.from_numpy(self.episode_return.copy()),
            "episode_length": torch.from_numpy(self.episode_length.copy()),
            "finished": [list(episode) for episode in self.finished],
        }

    def state_form(self) -> StateDict:
        """What `state_dict` must look like."""
        per_env = {
            name: torch.from_numpy(getattr(self, name).copy())
            for name in ("ended", "episode_return", "episode_length")
        }
        return per_env | {
            "envs": self.env_state.form(self.num_envs),
            "env_steps": 0,
            "left_out": 0,
            "episode_start": torch.from_numpy(self.episode_start[-1].copy()),
            "finished": Many((Number(finite=False), 0)),
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Continue in the middle of the saved episodes; says so where an environment does not allow that."""
        obs, lost = self.env_state.restore(state["envs"][self.own])
        lost = shared_list([n + self.own.start for n in lost])
        self._keep(-1, obs)
        share_columns([self.obs[-1:], self.odd[-1:]], self.own)
        self.episode_start[-1] = state["episode_start"].cpu().numpy()
        self.env_steps, self.left_out = state["env_steps"], state["left_out"]
        self.ended = state["ended"].cpu().numpy().copy()
        self.episode_return = state["episode_return"].cpu().numpy().copy()
        self.episode_length = state["episode_length"].cpu().numpy().copy()
        self.finished = [(float(total), int(length)) for total, length in state["finished"]]
        if lost:
            self.not_restored = f"{len(lost)} of {self.num_envs} copies of the environment keep no state"
            self.ended[lost], self.episode_start[-1, lost] = False, True
            self.episode_return[lost], self.episode_length[lost] = 0.0, 0
            self.say(
                "this environment cannot be resumed exactly: "
                f"{len(lost)} of {self.num_envs} copies begin a new episode"
            )

    def _keep(self, t: int, obs: Any) -> None:
        """Encode observations into row t; what is not finite becomes 0, and is marked."""
        row, odd = self.mine[0][t], self.mine[5]
        row[...] = self.observation.encode(obs)
        odd[t] = False
        # Where the sum of the squares is small all numbers are: a quarter of the time of looking at each.
        if self.floats and not np.vdot(row, row) <= LARGEST:
            finite = is_finite(row)
            row[~finite], odd[t] = 0.0, ~finite.all(-1)

    def _leave_out(self, final: dict[int, np.ndarray], valid: np.ndarray) -> np.ndarray:
        """The steps that stay valid; where some are left out, rewards and episodes are cut to fit."""
        following = self.odd[1:].copy()
        for i, row in final.items():
            finite = is_finite(row)
            following.flat[i], row[~finite] = not finite.all(), 0.0
        bad = valid & (~is_finite(self.reward) | self.odd[:-1] | following)
        if not bad.any():
            self._fruitless = 0
            return valid
        if not self.left_out:
            t, n = np.argwhere(bad)[0]
            what = "an observation" if is_finite(self.reward[t, n]) else "a reward"
            self.say(
                f"{what} of copy {n} is not a finite number, near env step {self.env_steps:,}: such steps "
                "are left out of what is learnt from and of running statistics"
            )
        self.left_out += int(bad.sum())
        self._fruitless = 0 if (valid & ~bad).any() else self._fruitless + 1
        self.reward[bad] = 0.0
        self.truncated[:-1] |= bad[1:]
        return valid & ~bad

    def _rollout(self, final: dict[int, np.ndarray], recurrent_state: torch.Tensor) -> Rollout:
        """Count, normalise, and wrap up what the loop stored."""
        done = self.terminated | self.truncated
        valid = np.ones_like(done)
        if self.resets_late:
            valid[0], valid[1:] = ~self.ended, ~done[:-1]
        self.ended = done[-1].copy()
        self.env_steps += int(valid.sum())
        self._look_at_masks(valid)
        self._count_episodes(done, valid)
        valid = self._leave_out(final, valid)
        world_ended = self.terminated.flatten()
        index = [[i for i in final if world_ended[i] == ended] for ended in (False, True)]
        shape = (-1, self.obs.shape[-1])
        last = [np.array([final[i] for i in rows], self.obs.dtype).reshape(shape) for rows in index]
        obs, reward = self.obs, self.reward
        if self.observation_normalizer is not None:
            obs, *last = (self.observation_normalizer(x) for x in (obs, *last))
            self.observation_normalizer.update(self.obs[:-1][valid])
        if self.reward_normalizer is not None:
            reward = self.reward_normalizer(reward, done, valid)
        return Rollout(
            obs=torch.from_numpy(obs),
            action=torch.from_numpy(self.action),
            reward=torch.from_numpy(reward),
            terminated=torch.from_numpy(self.terminated),
            truncated=torch.from_numpy(self.truncated),
            valid=torch.from_numpy(valid),
            num_valid=int(valid.sum()),
            final_index=torch.tensor(index[False], dtype=torch.int64),
            final_obs=torch.from_numpy(last[False]),
            terminal_index=torch.tensor(index[True], dtype=torch.int64),
            terminal_obs=torch.from_numpy(last[True]),
            episode_start=torch.from_numpy(self.episode_start),
            recurrent_state=recurrent_state,
        )

    def _look_at_masks(self, valid: np.ndarray) -> None:
        """Say once that an action was taken where the mask allows none; any is then drawn."""
        if self.observation.mask is None or self._masks_said:
            return
        none = valid & ~self.obs[:-1, :, self.observation.mask].any(-1)
        if none.any():
            self._masks_said = True
            self.say(
                f"action_mask allows no action at {int(none.sum())} of {none.size} steps of a rollout: any "
                "action is taken there"
            )

    def _count_episodes(self, done: np.ndarray, valid: np.ndarray) -> None:
        """Add the rollout to the running episodes; those that ended go to `finished`, in order of time."""
        # Each is summed by itself: differences of running sums carry an infinite reward into later ones.
        start = np.zeros(self.num_envs, np.int64)
        for t, n in zip(*np.nonzero(done), strict=True):
            self._count(n, slice(start[n], t + 1), valid)
            self.finished.append((float(self.episode_return[n]), int(self.episode_length[n])))
            self.episode_return[n], self.episode_length[n], start[n] = 0.0, 0, t + 1
        for n in range(self.num_envs):
            self._count(n, slice(start[n], None), valid)

    def _count(self, n: int, steps: slice, valid: np.ndarray) -> None:
        """Add some steps of environment n to its running episode."""
        self.episode_return[n] += self.reward[steps, n].sum(dtype=np.float64)
        self.episode_length[n] += valid[steps, n].sum()
