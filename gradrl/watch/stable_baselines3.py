"""stable-baselines3, watched: `model.learn(..., callback=WatchCallback("runs/mine"))`.

It is here and not beside the other callbacks in `core.watch` because it asks the rules about agents.
"""

import inspect
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from core.diagnosis import Rule
from core.watch.continued import Continued
from core.watch.watch import Watch
from gradrl.watch.agents import agent_rules, in_our_units

try:
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.vec_env import VecNormalize
except ImportError as error:
    raise ImportError(
        "stable-baselines3 is not installed: pip install 'gradsight[stable-baselines3]'"
    ) from error

# Names of its logger's numbers that mean the same as ours, and the factor to our unit.
TAGS = {
    "approx_kl": ("policy/approx_kl", 1.0),
    "clip_fraction": ("policy/clip_fraction", 1.0),
    "explained_variance": ("policy/explained_variance", 1.0),
    "policy_gradient_loss": ("loss/policy", 1.0),
    "policy_loss": ("loss/policy", 1.0),
    "value_loss": ("loss/value", 0.5),  # ours is half of the squared error
    "actor_loss": ("loss/actor", 1.0),
    "critic_loss": ("loss/critic", 1.0),
    "ent_coef": ("policy/temperature", 1.0),
    "ent_coef_loss": ("loss/temperature", 1.0),
}
# Names of our agents' options, and of its arguments.
WORDS = {
    "gamma": "gamma",
    "entropy_coef": "ent_coef",
    "num_epochs": "n_epochs",
    "num_steps": "n_steps",
    "target_kl": "target_kl",
    "normalize_advantage": "normalize_advantage",
    "replay_size": "buffer_size",
    "tau": "tau",
}


class WatchCallback(BaseCallback):
    """Watches every `learn`; a second one of the same model goes on in the same run.

    PPO and A2C are one player; SAC, TD3 and DDPG are actor, critic and, where it is learnt, temperature.
    Numbers of the logger are curves under our tags; returns and lengths are those of single episodes.

    Args:
        directory: as of `Watch`, like all other arguments.
        rules: further ones.
        interval: steps between two logged points.

    Raises:
        ValueError: when `learn` begins, as of `Watch`.
    """

    def __init__(
        self, directory: str | Path | None = None, *, rules: Sequence[Rule] = (), interval: int = 250
    ) -> None:
        super().__init__()
        self._runs = Continued(directory, rules, interval)
        self._updates = 0
        self._handle: Any = None

    @property
    def watch(self) -> Watch | None:
        """Of the `learn` that runs, or of the last one."""
        return self._runs.watch

    def _on_training_start(self) -> None:
        model = self.model
        usual = {name: p.default for name, p in inspect.signature(type(model).__init__).parameters.items()}
        rules = agent_rules(
            model.action_space,
            options_of(model),
            {ours: usual[theirs] for ours, theirs in WORDS.items() if theirs in usual},
            lambda: 1.0 - self.model._current_progress_remaining,
            WORDS,
        )
        self._runs.open(*players(model), rules=rules)
        self._updates = getattr(model, "_n_updates", 0)
        self._stop_hearing()
        if isinstance(critic := getattr(model, "critic", None), nn.Module):
            self._handle = critic.register_forward_hook(self._hear)

    def _on_step(self) -> bool:
        for info in self.locals.get("infos", ()):
            if "episode" in info:
                episode = info["episode"]
                self._runs.log(**{"episode/return": episode["r"], "episode/length": episode["l"]})
        return True

    def _on_rollout_start(self) -> None:
        self._take_in()

    def _on_rollout_end(self) -> None:
        advantages = getattr(getattr(self.model, "rollout_buffer", None), "advantages", None)
        if advantages is not None:
            self._runs.log(**{"policy/advantage_std": float(advantages.std())})

    def _on_training_end(self) -> None:
        self._take_in()
        self._stop_hearing()
        self._runs.end()

    def _take_in(self) -> None:
        """Log what the last update has recorded, before the logger forgets it."""
        if (updates := getattr(self.model, "_n_updates", 0)) != self._updates:
            self._updates = updates
            self._runs.log(**dict(recorded(self.model)))

    def _hear(self, _: nn.Module, inputs: tuple[Any, ...], values: Any) -> None:
        """Values of a critic, where they are learnt from."""
        first = values[0] if isinstance(values, tuple) and values else values
        if torch.is_grad_enabled() and isinstance(first, Tensor):
            self._runs.log(**{"value/q_mean": first.detach().mean()})

    def _stop_hearing(self) -> None:
        if self._handle is not None:
            self._handle.remove()
            self._handle = None


class Temperature(nn.Module):
    """SAC's temperature, which is a tensor and no parameter, as a module for `Watch`."""

    def __init__(self, log: Tensor) -> None:
        super().__init__()
        self.log = log

    def named_parameters(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, Any]]:
        """The logarithm."""
        yield "log_temperature", self.log


def players(model: BaseAlgorithm) -> tuple[dict[str, nn.Module], dict[str, torch.optim.Optimizer]]:
    """Models and optimizers by name; the name is empty where one optimizer moves the whole policy."""
    models: dict[str, Any] = {"": model.policy}
    actor, critic = getattr(model, "actor", None), getattr(model, "critic", None)
    if isinstance(actor, nn.Module) and isinstance(critic, nn.Module):
        models = {"actor": actor, "critic": critic}
    optimizers = {name: each.optimizer for name, each in models.items()}
    if (learnt := getattr(model, "ent_coef_optimizer", None)) is not None:
        # Only SAC and its like have one, and those have its logarithm.
        models["temperature"] = Temperature(model.log_ent_coef)  # type: ignore[attr-defined]
        optimizers["temperature"] = learnt
    return models, optimizers


def options_of(model: BaseAlgorithm) -> dict[str, object]:
    """What is set, by the names of our agents' options."""
    found = {ours: getattr(model, theirs) for ours, theirs in WORDS.items() if hasattr(model, theirs)}
    normalizer = model.get_vec_normalize_env()
    scaled = isinstance(normalizer, VecNormalize)
    return {
        **found,
        "normalize_reward": scaled and normalizer.norm_reward,
        "normalize_observation": scaled and normalizer.norm_obs,
    }


def recorded(model: BaseAlgorithm) -> Iterator[tuple[str, float]]:
    """What the logger holds of the last update, by our tags."""
    values = model.logger.name_to_value
    for name, (tag, factor) in TAGS.items():
        if (value := values.get(f"train/{name}")) is not None:
            yield tag, factor * float(value)
    if (value := values.get("train/entropy_loss")) is not None:
        yield "policy/entropy", in_our_units(-float(value), model.action_space)
