"""Steps N environments that are tensors T times, and keeps what happened where it happened, on the device.

What `gradrl.collector` does in NumPy for any environment, for those of `gradrl.envs.torch_envs`: they reset
in the step that ends an episode, every step is a transition, and numbers are finite where the actions are.
The host waits for the device when a rollout is complete, to learn how many episodes have ended in it.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from core.form import Rows
from core.gradients import Metrics
from core.state import StateDict
from gradrl.envs.spaces import Action, BoxAction
from gradrl.envs.torch_envs import TorchEnvs
from gradrl.experience.normalize import ObservationNormalizer, RewardNormalizer, running_returns
from gradrl.experience.rollout import Rollout
from gradrl.policies.actor import Actor, distribution_of


class TensorCollector:
    """Collects rollouts of fixed size into storage made once, on the environments' device.

    Args:
        envs: the environments.
        action: decodes the policy's actions: Discrete from 0, or Box.
        num_steps: T, steps per rollout and environment.
        generator: draws the actions, on the environments' device.
        observation_normalizer: applied to what the policy sees; its statistics move after each rollout.
        reward_normalizer: applied to the rewards of each rollout.

    Attributes:
        env_steps: transitions so far.
        left_out: none of them ever is.
    """

    left_out = 0

    def __init__(
        self,
        envs: TorchEnvs,
        action: Action,
        num_steps: int,
        generator: torch.Generator,
        observation_normalizer: ObservationNormalizer | None = None,
        reward_normalizer: RewardNormalizer | None = None,
    ) -> None:
        self.envs, self.num_steps, self.generator = envs, num_steps, generator
        self.observation_normalizer, self.reward_normalizer = observation_normalizer, reward_normalizer
        obs, shape = envs.obs, (num_steps, envs.num_envs)
        self.device = obs.device
        self.decode = _decoder(action, self.device)
        self.obs = obs.new_empty(num_steps + 1, *obs.shape)
        self.final_obs = obs.new_empty(num_steps, *obs.shape)  # what each step led to
        self.action = torch.from_numpy(action.storage(*shape)).to(self.device)
        self.reward = obs.new_empty(shape)
        self.terminated = torch.empty(shape, dtype=torch.bool, device=self.device)
        self.truncated = torch.empty_like(self.terminated)
        self.episode_start = torch.ones(num_steps + 1, envs.num_envs, dtype=torch.bool, device=self.device)
        self.valid = torch.ones_like(self.terminated)
        self.obs[-1] = obs
        self.env_steps = 0
        self.running = torch.zeros(2, envs.num_envs, dtype=torch.float64, device=self.device)
        self.finished = self.running.new_empty(0, 2)

    @torch.no_grad()
    def collect(self, actor: Actor) -> Rollout:
        """The next T steps of every environment.

        Args:
            actor: its policy, which `distribution_of` gives, is sampled at (normalised) observations.

        Returns:
            A rollout on the device. Its tensors are this collector's storage, without a copy: they hold until
            the next call.

        Raises:
            ValueError: the actor has no policy for tensors.
            FloatingPointError: an action was not a finite number.
        """
        policy = distribution_of(actor)
        if policy is None:
            raise ValueError(f"{type(actor).__name__} acts in NumPy, and the environments are tensors")
        normalizer = self.observation_normalizer
        normalize = None if normalizer is None else normalizer.on(self.device)
        self.obs[0], self.episode_start[0] = self.obs[-1], self.episode_start[-1]
        for t in range(self.num_steps):
            seen = self.obs[t] if normalize is None else normalize(self.obs[t])
            self.action[t] = action = policy(seen).sample(self.generator)
            step = self.envs.step(self.decode(action))
            self.obs[t + 1], self.reward[t], self.final_obs[t] = step.obs, step.reward, step.final_obs
            self.terminated[t], self.truncated[t] = step.terminated, step.truncated
        done = self.terminated | self.truncated
        self.episode_start[1:] = done
        if not (self.final_obs.isfinite().all() & self.reward.isfinite().all()):
            raise FloatingPointError(
                f"an action was not a finite number, near env step {self.env_steps:,}: the policy's network "
                "gives none for what it sees"
            )
        self.env_steps += done.numel()
        self._count_episodes(done)
        return self._rollout(done, normalize)

    def require_finite(self, rollouts: int) -> None:
        """Nothing to do: `collect` returns finite numbers alone."""

    def drain(self) -> Metrics:
        """Return and length of each episode that ended since the last call, [E]; none when none did."""
        finished, self.finished = self.finished, self.finished[:0]
        if not len(finished):
            return {}
        return {"episode/return": finished[:, 0], "episode/length": finished[:, 1]}

    def state_dict(self) -> StateDict:
        """Environments in mid-episode, half-counted episodes, and the count of steps."""
        return {
            "envs": self.envs.state_dict(),
            "env_steps": self.env_steps,
            "episode_start": self.episode_start[-1].clone(),
            "running": self.running,
            "finished": self.finished.clone(),
        }

    def state_form(self) -> StateDict:
        """What `state_dict` must look like."""
        return self.state_dict() | {"finished": Rows(self.running.new_empty(1, 2))}

    def load_state_dict(self, state: StateDict) -> None:
        """Continue in the middle of the saved episodes."""
        self.envs.load_state_dict(state["envs"])
        self.obs[-1], self.episode_start[-1] = self.envs.obs, state["episode_start"]
        self.env_steps = state["env_steps"]
        self.running, self.finished = (state[name].to(self.device) for name in ("running", "finished"))

    def _count_episodes(self, done: Tensor) -> None:
        """Add the rollout to the running episodes; those that ended go to `finished`, in order of time."""
        counted = torch.stack([self.reward, torch.ones_like(self.reward)], 1)
        totals, self.running = running_returns(self.running, counted, done[:, None], 1.0)
        self.finished = torch.cat([self.finished, totals.transpose(1, 2)[done]])

    def _rollout(self, done: Tensor, normalize: Callable[[Tensor], Tensor] | None) -> Rollout:
        """Normalise and wrap up what the loop stored."""
        ended, cut = done.flatten().nonzero()[:, 0], ~self.terminated.flatten()
        final_index, terminal_index = ended[cut[ended]], ended[~cut[ended]]
        final_obs, terminal_obs = (self.final_obs.flatten(0, 1)[i] for i in (final_index, terminal_index))
        obs, reward = self.obs, self.reward
        if normalize is not None and self.observation_normalizer is not None:
            obs, final_obs, terminal_obs = map(normalize, (obs, final_obs, terminal_obs))
            self.observation_normalizer.update_by_tensor(self.obs[:-1].flatten(0, 1))
        if self.reward_normalizer is not None:
            reward = self.reward_normalizer.on_tensors(reward, done)
        return Rollout(
            obs=obs,
            action=self.action,
            reward=reward,
            terminated=self.terminated,
            truncated=self.truncated,
            valid=self.valid,
            num_valid=done.numel(),
            final_index=final_index,
            final_obs=final_obs,
            terminal_index=terminal_index,
            terminal_obs=terminal_obs,
            episode_start=self.episode_start,
            recurrent_state=obs.new_empty(self.envs.num_envs, 0),
        )


def _decoder(action: Action, device: torch.device) -> Callable[[Tensor], Tensor]:
    """From the policy's actions to the environment's, as `Action.decode` has them."""
    if not isinstance(action, BoxAction):
        return lambda chosen: chosen
    scale, centre, low, high = (
        torch.from_numpy(x).to(device) for x in (action.scale, action.centre, action.low, action.high)
    )
    return lambda chosen: (chosen * scale + centre).clamp(low, high)
