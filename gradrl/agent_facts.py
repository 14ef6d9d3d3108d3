"""What the diagnosis should know of an agent beside what it logs: bounds, and how far its targets lag."""

import math
from typing import TYPE_CHECKING

from core.optim.averaging import distance
from gradrl.agents.off_policy import Target
from gradrl.envs.spaces import Action, BoxAction, DiscreteAction, MultiDiscreteAction

if TYPE_CHECKING:
    from gradrl.train import Agent


def limits(action: Action) -> dict[str, float]:
    """Largest entropy of a choice, "entropy_max" in nats; or "action_size", the numbers of a Box."""
    if isinstance(action, BoxAction):
        return {"action_size": float(action.size)}
    if isinstance(action, DiscreteAction):
        return {"entropy_max": math.log(action.size)}
    if isinstance(action, MultiDiscreteAction):
        return {"entropy_max": sum(math.log(size) for size in action.sizes)}
    return {"entropy_max": action.size * math.log(2)}


def followers(agent: "Agent") -> dict[str, float]:
    """How far the critics' target is from what it follows.

    Returns:
        target/distance: |target - critic| / |critic|; target/initial_share: how much of it are still its
            initial weights, (1 - tau)^n after n moves, in [0, 1]. Nothing where there is no target.
    """
    target = getattr(agent, "target_critic", None)
    if not isinstance(target, Target):
        return {}
    moves = agent.gradient_steps[-1].monitor.steps  # TD3's follow when the actor moves
    return {
        "target/distance": distance(target.following, target.followed),
        "target/initial_share": (1.0 - target.tau) ** moves,
    }
