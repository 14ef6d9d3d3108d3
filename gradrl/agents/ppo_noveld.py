"""PPO with a reward for crossing into what is new: NovelD (Zhang et al. 2021).

Random network distillation rewards every step in a new place, so that standing there pays as well as going
on. Here a step is rewarded for leading from what is known to what is not, and within an episode only the
first time that an observation is seen: to go back and forth over the border gains nothing. With every episode
all of it can be earned again, less what has become known in the meantime.
"""

from dataclasses import dataclass
from hashlib import blake2b
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge
from numpy.typing import NDArray
from torch import Tensor

from core.checks import Finite, checked
from core.form import Many, Rows, require_form
from core.state import StateDict
from gradrl.agent import Learning
from gradrl.agents.novelty import Curiosity, NoveltyActorCritic
from gradrl.agents.ppo_rnd import PPORND, PPORNDConfig
from gradrl.experience.rollout import Rollout

DIGEST = 16  # bytes that stand for an observation: no two are alike by chance


@dataclass(frozen=True, kw_only=True)
@checked
class PPONovelDConfig(PPORNDConfig):
    """Options of PPO with novelty, and one more; conf/agent/ppo_noveld.yaml gives the defaults.

    Attributes:
        previous_coef: alpha, share of the novelty of the observation before that is taken off.
    """

    previous_coef: Annotated[float, Ge(0), Finite] = 0.5


class PPONovelD(PPORND):
    """Learns from rollouts; the arguments are PPO's, and so is all but the reward for novelty PPORND's."""

    cfg: PPONovelDConfig

    def __init__(
        self, cfg: PPONovelDConfig, model: NoveltyActorCritic, learning: Learning, generator: torch.Generator
    ) -> None:
        super().__init__(cfg, model, learning, generator)
        self.curiosity = NovelD(model, cfg.intrinsic_gamma, cfg.previous_coef)


class NovelD(Curiosity):
    """The reward for what is new in an episode and newer than what came before, on a scale that stays.

        max(novelty(s') - alpha novelty(s), 0) [s' is seen for the first time in this episode]

    Args:
        model: measures novelty.
        gamma: discount per step of the reward's sum, over whose deviation it is paid.
        previous_coef: alpha.

    Attributes:
        visited: digests of what the running episode of each environment has shown so far.

    Source: Zhang et al. 2021, "NovelD: A Simple yet Effective Exploration Criterion", section 3.
    """

    def __init__(self, model: NoveltyActorCritic, gamma: float, previous_coef: float) -> None:
        super().__init__(model, gamma)
        self.previous_coef = previous_coef
        self.visited: list[set[bytes]] | None = None

    def bonus(self, rollout: Rollout, rows: Tensor) -> Tensor:
        """What each step is rewarded for, before the scale, [T, N]."""
        before = self.novelty(self.normalized(rollout.obs[:-1]))
        gain = (self.novelty(rows) - self.previous_coef * before).clamp(min=0)
        return torch.where(self.first_visits(rollout), gain, 0.0)

    def first_visits(self, rollout: Rollout) -> Tensor:
        """Which steps led to what their episode had not shown before, bool, [T, N]; remembers what they did.

        An observation is known again by its numbers, all of them.
        """
        start, valid = rollout.episode_start[:-1].cpu().numpy(), rollout.valid.cpu().numpy()
        obs, led_to = (x.cpu().numpy() for x in (rollout.obs[:-1], rollout.next_obs))
        self.visited = self.visited or [set() for _ in range(valid.shape[1])]
        first = np.zeros_like(valid)
        for t, n in np.argwhere(start | valid):
            if start[t, n]:
                self.visited[n] = {digest(obs[t, n])}
            if valid[t, n]:
                here = digest(led_to[t, n])
                first[t, n] = here not in self.visited[n]
                self.visited[n].add(here)
        return torch.from_numpy(first).to(rollout.valid.device)

    def state_dict(self) -> StateDict:
        """As for novelty alone, and what the running episodes have shown."""
        visited = None if self.visited is None else [as_rows(digests) for digests in self.visited]
        return super().state_dict() | {"visited": visited}

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`."""
        super().load_state_dict(state)
        self.visited = None
        if state["visited"] is not None:
            require_form(state["visited"], Many(Rows(as_rows({bytes(DIGEST)}))), "visited")
            self.visited = [{row.tobytes() for row in rows.cpu().numpy()} for rows in state["visited"]]


def digest(obs: NDArray[Any]) -> bytes:
    """What stands for an observation [D]."""
    return blake2b(obs.tobytes(), digest_size=DIGEST).digest()


def as_rows(digests: set[bytes]) -> Tensor:
    """Digests as bytes, in order, uint8, [K, DIGEST]."""
    return torch.tensor([list(each) for each in sorted(digests)], dtype=torch.uint8).view(-1, DIGEST)
