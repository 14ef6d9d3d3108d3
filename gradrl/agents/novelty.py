"""How new an observation is: the error of predicting the output of a fixed random network.

The predictor learns on what has been seen, so its error is small there and large elsewhere: a reward for
finding something new. Random network distillation has no model of the environment, and is not fooled by
randomness in its transitions, because what is predicted is a deterministic function of the observation alone.

Source: Burda et al. 2018, arXiv:1810.12894, section 2.
"""

from dataclasses import dataclass, fields, replace
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge
from numpy.typing import NDArray
from torch import Tensor, nn

from core.checks import require
from core.form import Rows, require_form
from core.state import StateDict
from gradrl.envs.observations import Observation
from gradrl.envs.spaces import Action
from gradrl.experience.normalize import RewardNormalizer, RunningMoments
from gradrl.experience.rollout import Rollout
from gradrl.policies.actor import Acting, Actor
from gradrl.policies.distributions import Policy
from gradrl.policies.networks import ActorCritic, MLPConfig, network

CLIP = 5.0  # deviations of an observation that the networks see; the paper's


@dataclass(frozen=True, kw_only=True)
class NoveltyConfig(MLPConfig):
    """Shape and initialisation of actor and critic, and of what measures novelty.

    Attributes:
        embedding_size: F, numbers that the random network makes of an observation.
        novelty_sizes: width of each hidden layer of the random network; the predictor has one more, as wide
            as the last.
    """

    embedding_size: Annotated[int, Ge(1)] = 64
    novelty_sizes: tuple[Annotated[int, Ge(1)], ...] = (64,)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(bool(self.novelty_sizes), "novelty_sizes", self.novelty_sizes, "one or more integers >= 1")

    def part(self) -> MLPConfig:
        """The options of actor and critic alone."""
        return MLPConfig(**{field.name: getattr(self, field.name) for field in fields(MLPConfig)})


class NoveltyActorCritic(nn.Module):
    """Actor, critic, a second critic for the value of novelty, and the two networks that measure it.

    Arguments and errors are those of `ActorCritic`.

    Attributes:
        target: fixed random network, rows to embeddings [.., F].
        predictor: learns what the target says; relu, as the paper has it, in both.
        pixels: columns that belong to images, bool, [D].
    """

    def __init__(
        self, cfg: NoveltyConfig, observation: Observation, action: Action, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.actor_critic = ActorCritic(cfg.part(), observation, action, generator)
        self.intrinsic_critic = nn.Sequential(*network(cfg.part(), observation, 1, 1.0, generator))
        sizes = cfg.novelty_sizes
        relu = replace(cfg.part(), activation="relu", hidden_sizes=sizes, network=None)
        wider = replace(relu, hidden_sizes=(*sizes, sizes[-1]))
        self.target = nn.Sequential(*network(relu, observation, cfg.embedding_size, 1.0, generator))
        self.target.requires_grad_(False)
        self.predictor = nn.Sequential(*network(wider, observation, cfg.embedding_size, 1.0, generator))
        self.pixels = np.zeros(observation.size, np.bool_)
        for part in observation.parts:
            self.pixels[part.start : part.stop] = part.kind == "image"

    def policy(self, obs: Tensor) -> Policy:
        """pi(.|s) for rows [B, D]."""
        return self.actor_critic.policy(obs)

    def value(self, obs: Tensor) -> Tensor:
        """V(s) of the environment's reward and of novelty, for rows [..., D]: [..., 2]."""
        return torch.stack([self.actor_critic.value(obs), self.intrinsic_critic(obs)[..., 0]], -1)

    def forward(self, obs: Tensor) -> tuple[Policy, Tensor]:
        """Policy and both values of rows [B, D]."""
        policy, value = self.actor_critic(obs)
        return policy, torch.stack([value, self.intrinsic_critic(obs)[..., 0]], -1)

    def novelty(self, rows: Tensor) -> Tensor:
        """Mean squared error of the prediction, for normalised rows [B, D]: [B]; carries the gradient."""
        return (self.predictor(rows) - self.target(rows)).square().mean(-1)

    def make_actor(self, generator: np.random.Generator, *, deterministic: bool = False) -> Actor:
        """The policy at work, sampled or its most likely actions."""
        return self.actor_critic.make_actor(generator, deterministic=deterministic)

    def acting(self) -> Acting:
        """The policy as it now is, as a function."""
        return self.actor_critic.acting()

    def mode(self, rows: Tensor) -> Tensor:
        """The most likely action for rows [B, D]: [B] or [B, A]."""
        return self.actor_critic.mode(rows)


class Curiosity:
    """The reward of novelty, on a scale that stays: that of its own discounted sum.

    Args:
        model: measures novelty.
        gamma: discount per step of that sum, which goes on through the ends of episodes.
    """

    def __init__(self, model: NoveltyActorCritic, gamma: float) -> None:
        self.model, self.gamma = model, gamma
        self.moments = RunningMoments((len(model.pixels),))
        self.scale: RewardNormalizer | None = None

    def rows(self, rollout: Rollout) -> Tensor:
        """What each step led to, normalised, [T, N, D]; its statistics move first.

        A random network does not adapt to the scale of what it sees: an element that hardly varies would
        have no say in novelty.
        """
        seen = rollout.next_obs
        self.moments.update(seen.cpu().numpy()[rollout.valid.cpu().numpy()])
        return self.normalized(seen)

    def normalized(self, obs: Tensor) -> Tensor:
        """Observations [..., D] as what measures novelty sees them; the statistics do not move."""
        deviation = np.sqrt(self.moments.variance + 1e-8)
        rows = ((obs.cpu().numpy() - self.moments.mean) / deviation).clip(-CLIP, CLIP)
        rows[..., self.model.pixels] *= 255  # by which the encoder will divide
        return torch.from_numpy(rows.astype(np.float32)).to(obs.device)

    @torch.no_grad()
    def reward(self, rollout: Rollout, rows: Tensor) -> Tensor:
        """The bonus over the running deviation of its discounted sum, [T, N]; 0 where a step is not valid.

        Args:
            rollout: T steps of N environments.
            rows: what each of them led to, normalised, [T, N, D].
        """
        bonus = torch.where(rollout.valid, self.bonus(rollout, rows), 0.0)
        if self.scale is None:
            self.scale = RewardNormalizer(bonus.shape[1], self.gamma)
        valid: NDArray = rollout.valid.cpu().numpy()
        return torch.from_numpy(self.scale(bonus.cpu().numpy(), np.zeros_like(valid), valid)).to(rows.device)

    def bonus(self, rollout: Rollout, rows: Tensor) -> Tensor:
        """What each step is rewarded for, [T, N]: the novelty of what it led to."""
        return self.novelty(rows)

    def novelty(self, rows: Tensor) -> Tensor:
        """Novelty of normalised observations [T, N, D], [T, N]."""
        return self.model.novelty(rows.flatten(0, 1)).view(rows.shape[:2])

    def state_dict(self) -> StateDict:
        """Statistics of observations and of the novelty's sum; its networks are the model's."""
        scale = None if self.scale is None else self.scale.state_dict()
        return {"moments": self.moments.state_dict(), "scale": scale}

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`."""
        self.moments.load_state_dict(state["moments"])
        self.scale = None
        if state["scale"] is not None:
            form = RewardNormalizer(1, self.gamma).state_dict()
            require_form(state["scale"], form | {"running": Rows(form["running"])}, "scale")
            self.scale = RewardNormalizer(len(state["scale"]["running"]), self.gamma)
            self.scale.load_state_dict(state["scale"])
