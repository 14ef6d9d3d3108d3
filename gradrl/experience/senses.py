"""What is odd about transitions whatever the agent makes of them: nothing is seen, or nothing can be done."""

import math

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from gradrl.experience.replay import Transitions

FEW = 32  # transitions from which something is said of observations
MANY = 400  # and of actions, whose effect is smaller
ELEMENTS = 256  # of an observation; images and tables of states are not looked at
CHANCE = 4.0  # standard deviations, 1 / sqrt(n), that correlations of what is independent seldom reach


@torch.no_grad()
def odd_experience(seen: Transitions) -> dict[str, float]:
    """What is remarkable about transitions; empty where nothing is.

    Args:
        seen: of one policy or of several.

    Returns:
        experience/unchanged: 1 where no step has changed the observation, left out elsewhere;
        experience/memory: largest absolute correlation of an element with itself one step later, left out
            where it is more than chance;
        experience/influence: largest absolute correlation of an action with what it changes, an element of
            the observation or the reward; left out where it is more than chance.
    """
    obs, next_obs, action = seen.obs, seen.next_obs, seen.action
    count, size = obs.shape
    if count < FEW or size > ELEMENTS:
        return {}
    if bool((next_obs == obs).all()):
        return {"experience/unchanged": 1.0}
    chance, found = CHANCE / math.sqrt(count), {}
    before, after = _standardised(obs), _standardised(next_obs)
    memory = (before * after).mean(0).abs().amax().item()
    if memory < chance:
        found["experience/memory"] = memory
    acts = _standardised(one_hot(action) if action.dim() == 1 else action)
    if count >= MANY and bool(acts.any()):
        changed = _standardised(torch.cat([next_obs - obs, next_obs, seen.reward[:, None]], 1))
        influence = (acts.T @ changed / count).abs().amax().item()
        if influence < chance:
            found["experience/influence"] = influence
    return found


def _standardised(x: Tensor) -> Tensor:
    """Columns [B, D] with mean 0 and deviation 1, float64; 0 where a column is constant."""
    x = x.double()
    deviation = x.std(0, correction=0)
    moves = deviation > 1e-9 * x.abs().amax(0).clamp(min=1e-30)
    return (x - x.mean(0)) / torch.where(moves, deviation, math.inf)
