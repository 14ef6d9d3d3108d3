"""The dynamics of gymnasium's classic control as functions of tensors: N copies take a step at once.

A state is [k, N], one row for each of its numbers. Every operation stands in gymnasium's order and precision:
its states are float64, but for MountainCarContinuous, which rounds them to float32 after every step; actions
are float32, and so is what it computes of an action alone. Observations are float32 everywhere.

Source: gymnasium.envs.classic_control, version 1.4; Barto, Sutton and Anderson 1983 (CartPole), Sutton 1996
(Acrobot), Moore 1990 (MountainCar).
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor


class Dynamics(Protocol):
    """What happens in one kind of environment; a frozen dataclass of its options, without a state.

    Attributes:
        draws: random numbers that a start takes.
    """

    draws: ClassVar[int]

    def start(self, uniform: Tensor) -> Tensor:
        """First states of episodes, [k, ...], from numbers drawn in [0, 1), float64, [draws, ...]."""
        ...

    def observe(self, state: Tensor) -> Tensor:
        """What is seen of states [k, N]: float32, [N, D]."""
        ...

    def step(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One step of all copies.

        Args:
            state: [k, N].
            action: int64 [N] of Discrete actions, float32 [N, 1] of Box actions.

        Returns:
            The next states [k, N], rewards [N] of at least the state's precision, and whether the world has
            ended, bool, [N].
        """
        ...


@dataclass(frozen=True, kw_only=True)
class CartPole:
    """A pole on a cart that is pushed left or right: position, velocity, angle and angular velocity.

    Attributes:
        sutton_barto_reward: -1 for the step that ends the episode and 0 for all others, instead of 1.
    """

    sutton_barto_reward: bool = False
    draws: ClassVar[int] = 4

    def start(self, uniform: Tensor) -> Tensor:
        """Uniform in [-0.05, 0.05)."""
        return -0.05 + 0.1 * uniform

    def observe(self, state: Tensor) -> Tensor:
        """The state itself, [N, 4]."""
        return state.T.float()

    def step(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Euler's method over 0.02 s; the world ends beyond 12 degrees or 2.4 m."""
        x, x_dot, theta, theta_dot = state
        force = 10.0 * (2 * action - 1)
        cos, sin = theta.cos(), theta.sin()
        pole, total = 0.1 * 0.5, 0.1 + 1.0  # mass times half length of the pole; mass of pole and cart
        push = (force + pole * theta_dot.square() * sin) / total
        theta_acc = (9.8 * sin - cos * push) / (0.5 * (4.0 / 3.0 - 0.1 * cos.square() / total))
        x_acc = push - pole * theta_acc * cos / total
        change = torch.stack([x_dot, x_acc, theta_dot, theta_acc])
        state = state + 0.02 * change
        terminated = (state[0].abs() > 2.4) | (state[2].abs() > 12 * 2 * math.pi / 360)
        reward = 0.0 - terminated.to(state) if self.sutton_barto_reward else torch.ones_like(x)
        return state, reward, terminated


@dataclass(frozen=True, kw_only=True)
class Acrobot:
    """Two links, the joint between them driven: both angles and both angular velocities.

    Masses, lengths and moments of inertia are 1, the centres of mass in the middle; the book's equations.
    """

    draws: ClassVar[int] = 4

    def start(self, uniform: Tensor) -> Tensor:
        """Uniform in [-0.1, 0.1), rounded to float32."""
        return (-0.1 + 0.2 * uniform).float().double()

    def observe(self, state: Tensor) -> Tensor:
        """Cosine and sine of both angles, and the velocities, [N, 6]."""
        first, second, *velocities = state
        rows = [first.cos(), first.sin(), second.cos(), second.sin(), *velocities]
        return torch.stack(rows, -1).float()

    def step(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Runge and Kutta's method over 0.2 s; the world ends where the tip is 1 above the first joint."""
        torque, dt = (action - 1).to(state), 0.2
        k1 = self._slope(state, torque)
        k2 = self._slope(state + dt / 2 * k1, torque)
        k3 = self._slope(state + dt / 2 * k2, torque)
        k4 = self._slope(state + dt * k3, torque)
        angles, velocities = (state + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)).split(2)
        # Into [-pi, pi]; what is there stays as it is.
        turns = ((angles.abs() - math.pi) / (2 * math.pi)).ceil().clamp(min=0)
        angles = angles - angles.sign() * turns * (2 * math.pi)
        first, second = velocities
        first = first.clamp(-4 * math.pi, 4 * math.pi)
        second = second.clamp(-9 * math.pi, 9 * math.pi)
        terminated = -angles[0].cos() - (angles[1] + angles[0]).cos() > 1.0
        return torch.stack([*angles, first, second]), terminated.to(state) - 1.0, terminated

    @staticmethod
    def _slope(state: Tensor, torque: Tensor) -> Tensor:
        """Time derivative of states [4, N]."""
        theta1, theta2, dtheta1, dtheta2 = state
        cos2, sin2 = theta2.cos(), theta2.sin()
        d1, d2 = 3.5 + cos2, 1.25 + 0.5 * cos2
        phi2 = 4.9 * (theta1 + theta2).sin()
        phi1 = -0.5 * dtheta2.square() * sin2 - dtheta2 * dtheta1 * sin2 + 14.7 * theta1.sin() + phi2
        ratio = d2 / d1
        ddtheta2 = (torque + ratio * phi1 - 0.5 * dtheta1.square() * sin2 - phi2) / (1.25 - d2 * ratio)
        return torch.stack([dtheta1, dtheta2, -(d2 * ddtheta2 + phi1) / d1, ddtheta2])


@dataclass(frozen=True, kw_only=True)
class Pendulum:
    """A pendulum driven at its joint: angle from upright and angular velocity.

    Attributes:
        g: gravity, m/s^2.
    """

    g: float = 10.0
    draws: ClassVar[int] = 2

    def start(self, uniform: Tensor) -> Tensor:
        """The angle uniform in [-pi, pi), the velocity in [-1, 1)."""
        return torch.stack([-math.pi + 2 * math.pi * uniform[0], -1.0 + 2.0 * uniform[1]])

    def observe(self, state: Tensor) -> Tensor:
        """Cosine and sine of the angle, and the velocity, [N, 3]."""
        angle, velocity = state
        return torch.stack([angle.cos(), angle.sin(), velocity], -1).float()

    def step(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """0.05 s with the torque held; it never ends by itself."""
        angle, velocity = state
        torque, dt = action[:, 0].clamp(-2.0, 2.0), 0.05
        wrapped = (angle + math.pi).remainder(2 * math.pi) - math.pi
        cost = wrapped.square() + 0.1 * velocity.square() + 0.001 * torque.square()
        velocity = velocity + (3 * self.g / 2 * angle.sin() + 3.0 * torque) * dt
        velocity = velocity.clamp(-8.0, 8.0)
        state = torch.stack([angle + velocity * dt, velocity])
        return state, -cost, torch.zeros_like(angle, dtype=torch.bool)


@dataclass(frozen=True, kw_only=True)
class MountainCar:
    """A car in a valley, pushed left, not at all or right: position and velocity.

    Attributes:
        goal_velocity: least velocity at the goal with which the world ends.
    """

    goal_velocity: float = 0.0
    draws: ClassVar[int] = 1

    def start(self, uniform: Tensor) -> Tensor:
        """The position uniform in [-0.6, -0.4), at rest."""
        return _at_rest(uniform)

    def observe(self, state: Tensor) -> Tensor:
        """The state itself, [N, 2]."""
        return state.T.float()

    def step(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One step; -1 for each, the one that ends the world too."""
        position, velocity = state
        push = (action - 1).to(state) * 0.001 + (3 * position).cos() * -0.0025
        position, velocity = _rolled(position, velocity + push)
        terminated = (position >= 0.5) & (velocity >= self.goal_velocity)
        return torch.stack([position, velocity]), -torch.ones_like(position), terminated


@dataclass(frozen=True, kw_only=True)
class MountainCarContinuous:
    """The same car with a motor: position and velocity, float32.

    Attributes:
        goal_velocity: least velocity at the goal with which the world ends.
    """

    goal_velocity: float = 0.0
    draws: ClassVar[int] = 1

    def start(self, uniform: Tensor) -> Tensor:
        """The position uniform in [-0.6, -0.4), at rest; gymnasium rounds it to float32 one step later."""
        return _at_rest(uniform).float()

    def observe(self, state: Tensor) -> Tensor:
        """The state itself, [N, 2]."""
        return state.T.float()

    def step(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One step; 100 for reaching the goal, less a tenth of the square of each action."""
        position, velocity = state
        force = action[:, 0].clamp(-1.0, 1.0)
        pull = 0.0025 * (3 * position).double().cos()  # gymnasium takes this cosine in float64
        position, velocity = _rolled(position, velocity + (force * 0.0015 - pull.to(velocity)))
        terminated = (position >= 0.45) & (velocity >= self.goal_velocity)
        reward = 100.0 * terminated - action[:, 0].double().square() * 0.1
        return torch.stack([position, velocity]), reward, terminated


def _at_rest(uniform: Tensor) -> Tensor:
    """Cars in [-0.6, -0.4) that do not move, [2, ...]."""
    position = -0.6 + 0.2 * uniform[0]
    return torch.stack([position, torch.zeros_like(position)])


def _rolled(position: Tensor, velocity: Tensor) -> tuple[Tensor, Tensor]:
    """Cars after a step with these velocities; the wall on the left stops them."""
    velocity = velocity.clamp(-0.07, 0.07)
    position = (position + velocity).clamp(-1.2, 0.6)
    stopped = (position == -1.2) & (velocity < 0)
    return position, torch.where(stopped, 0.0, velocity)
