"""Generalised state-dependent exploration: noise that is a smooth function of the state.

    a = mu(s) + z(s)^T E,   E ~ N(0, sigma^2), drawn again every few steps

z(s) are the features behind the last hidden layer, E a matrix [H, A] of its own for every environment. Within
one draw the same state always gets the same noise, so a motor is not shaken at every step. What the policy is
in one state stays a Gaussian, whose variance the features decide: z^2 sigma^2. That is what is trained on;
the gradient moves sigma, and does not reach the features through the variance.

Source: Raffin, Kober and Stulp 2022, arXiv:2005.05719, section 3 (first: Rueckstiess et al. 2008).
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.form import Maybe, Rows
from core.state import StateDict
from gradrl.policies.numpy_policy import Array, NumpyPolicy

EPSILON = 1e-6  # variance where all features are 0


def exploration_log_std(features: Tensor, log_std: Tensor, *, learn_features: bool = False) -> Tensor:
    """Log deviation of the action in each state, over draws of E.

    Args:
        features: z, [B, H].
        log_std: log sigma, [H, A].
        learn_features: the gradient reaches z too.

    Returns:
        log sqrt(z^2 sigma^2 + 1e-6), [B, A].
    """
    z = features if learn_features else features.detach()
    return 0.5 * (z.square() @ (2 * log_std).exp() + EPSILON).log()


class Exploration:
    """Acts with state-dependent noise.

    Args:
        parts: gives the policy as it now is: the network up to the features, from there to the mean, and
            log sigma [H, A].
        generator: draws E.
        interval: steps between two draws; None = once per rollout.
        squash: actions are tanh of the sum above.
    """

    def __init__(
        self,
        parts: Callable[[], tuple[NumpyPolicy, NumpyPolicy, Tensor]],
        generator: np.random.Generator,
        interval: int | None,
        squash: bool,
    ) -> None:
        self.parts, self.generator, self.interval, self.squash = parts, generator, interval, squash
        self.steps = 0  # since the last draw
        self.normal: Array | None = None  # E / sigma, [N, H, A]

    def begin(self, num_envs: int) -> None:
        """Take over the parameters, sigma for the present draw too; without an interval, draw."""
        self.body, self.head, log_std = self.parts()
        self.std: Array = np.exp(log_std.cpu().numpy())
        self.recurrent_state: Array = np.zeros((num_envs, 0), np.float32)
        if self.interval is None or self.normal is None:
            self.normal = self._drawn(num_envs)
        self.noise: Array = self.std * self.normal

    def __call__(self, obs: Array, episode_start: NDArray[np.bool_]) -> np.ndarray:
        """Actions [N, A]; the beginning of an episode changes nothing."""
        if self.interval is not None and self.steps >= self.interval:
            self.normal = self._drawn(len(obs))
            self.noise = self.std * self.normal
        self.steps += 1
        features = self.body.forward(obs)
        action = self.head.forward(features) + (features[:, None, :] @ self.noise)[:, 0]
        return np.tanh(action) if self.squash else action

    def state_dict(self) -> StateDict:
        """The present draw and its age."""
        noise = None if self.normal is None else torch.from_numpy(self.normal.copy())
        return {"steps": self.steps, "noise": noise}

    def state_form(self) -> StateDict:
        """What `state_dict` must look like."""
        noise = torch.empty(1, *self.parts()[2].shape)
        return {"steps": 0, "noise": Maybe(Rows(noise))}

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`."""
        self.steps = int(state["steps"])
        self.normal = None if state["noise"] is None else state["noise"].cpu().numpy().copy()

    def _drawn(self, num_envs: int) -> Array:
        self.steps = 0
        return self.generator.standard_normal((num_envs, *self.std.shape), dtype=np.float32)
