"""Test functions of few variables whose critical points are known.

Each is called with points [..., n] and returns values [...], so that a whole surface is one call. The points
listed with a function were found as roots of its gradient by Newton's method in float64, from a grid of
starts that covers its domain; tests repeat the search. The formulas, unless a class says otherwise: Jamil and
Yang 2013, "A literature survey of benchmark functions", arXiv:1308.4008.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Protocol

import torch
from annotated_types import Ge
from torch import Tensor

from core.checks import Finite, checked
from core.curvature.critical import Kind
from core.errors import described

Point = tuple[float, ...]
Domain = tuple[tuple[float, float], tuple[float, float]]  # of the first two coordinates


@dataclass(frozen=True)
class CriticalPoint:
    """A point where the gradient vanishes, the function's value there, and what it is."""

    point: Point
    value: float
    kind: Kind


class Function(Protocol):
    """A function of n variables with its known critical points."""

    @property
    def dim(self) -> int:
        """The number n of variables."""
        ...

    @property
    def start(self) -> Point:
        """The default start of a descent."""
        ...

    @property
    def domain(self) -> Domain:
        """The part of the plane that pictures show."""
        ...

    @property
    def critical_points(self) -> tuple[CriticalPoint, ...]:
        """The known critical points; each class says whether these are all."""
        ...

    def __call__(self, x: Tensor) -> Tensor:
        """Values [...] at points [..., n]."""
        ...


@dataclass(frozen=True)
class PlaneFunction:
    """A function of two variables as pictures show it.

    Attributes:
        function: points [..., 2] to values [...].
        domain: the part of the plane that is shown.
        critical_points: the known ones.
        name: of the function, as its class is called.
    """

    function: Callable[[Tensor], Tensor]
    domain: Domain
    critical_points: tuple[CriticalPoint, ...]
    name: str

    def slopes(self, points: Tensor) -> Tensor:
        """Gradients [..., 2] at points [..., 2]."""
        with torch.enable_grad():
            points = points.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.function(points).sum(), points)
        return gradient


@dataclass(frozen=True, kw_only=True)
@checked
class Rosenbrock:
    """A curved valley with a flat floor (condition number 2508 at the minimum), in n >= 2 dimensions.

    The minimum at (1, ..., 1) is the only critical point for n = 2 and 3; from n = 4 on there is a second
    minimum, with x[0] < 0, not listed. Source: Rosenbrock 1960, The Computer Journal 3(3); the start is
    his.
    """

    dim: Annotated[int, Ge(2)] = 2
    domain = ((-2.0, 2.0), (-1.0, 3.0))

    @property
    def start(self) -> Point:
        """-1.2 and 1 in turn: on the far side of the bend."""
        return tuple((-1.2, 1.0)[i % 2] for i in range(self.dim))

    @property
    def critical_points(self) -> tuple[CriticalPoint, ...]:
        """The global minimum."""
        return (CriticalPoint((1.0,) * self.dim, 0.0, "minimum"),)

    def __call__(self, x: Tensor) -> Tensor:
        """sum_i 100 (x[i+1] - x[i]^2)^2 + (1 - x[i])^2."""
        _require_dim(self, x)
        here, following = x[..., :-1], x[..., 1:]
        return (100 * (following - here**2) ** 2 + (1 - here) ** 2).sum(-1)


@dataclass(frozen=True, kw_only=True)
class Beale:
    """A plain with sharp walls: gradients of 1e5 in the corners, of 0.1 on the floor."""

    dim = 2
    start = (1.0, 1.0)
    domain = ((-4.5, 4.5), (-4.5, 4.5))
    critical_points = (  # all
        CriticalPoint((3.0, 0.5), 0.0, "minimum"),
        CriticalPoint((0.0, 1.0), 14.203125, "saddle"),
        CriticalPoint((0.1005379373, -2.6445135850), 9.8645122848, "saddle"),
    )

    def __call__(self, x: Tensor) -> Tensor:
        """(1.5 - x + xy)^2 + (2.25 - x + xy^2)^2 + (2.625 - x + xy^3)^2."""
        x, y = x.unbind(-1)
        return (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2


@dataclass(frozen=True, kw_only=True)
class Himmelblau:
    """Four minima of equal depth around one hill.

    Source: Himmelblau 1972, Applied Nonlinear Programming.
    """

    dim = 2
    start = (0.0, 0.0)
    domain = ((-5.0, 5.0), (-5.0, 5.0))
    critical_points = (  # all
        CriticalPoint((3.0, 2.0), 0.0, "minimum"),
        CriticalPoint((-2.8051180870, 3.1313125183), 0.0, "minimum"),
        CriticalPoint((-3.7793102534, -3.2831859913), 0.0, "minimum"),
        CriticalPoint((3.5844283403, -1.8481265270), 0.0, "minimum"),
        CriticalPoint((3.3851541836, 0.0738518798), 13.3119262704, "saddle"),
        CriticalPoint((0.0866775046, 2.8842547012), 67.7191500875, "saddle"),
        CriticalPoint((-3.0730257508, -0.0813530443), 104.0151629176, "saddle"),
        CriticalPoint((-0.1279613467, -1.9537149802), 178.3372392019, "saddle"),
        CriticalPoint((-0.2708445907, -0.9230385565), 181.6165215226, "maximum"),
    )

    def __call__(self, x: Tensor) -> Tensor:
        """(x^2 + y - 11)^2 + (x + y^2 - 7)^2."""
        x, y = x.unbind(-1)
        return (x**2 + y - 11) ** 2 + (x + y**2 - 7) ** 2


@dataclass(frozen=True, kw_only=True)
class MonkeySaddle:
    """A saddle for two legs and a tail: three valleys meet where the Hessian is zero.

    Unbounded below. The start is on the ridge that leads into the saddle. Source: Hilbert and Cohn-Vossen
    1932, Anschauliche Geometrie, section 29.
    """

    dim = 2
    start = (1.0, 0.0)
    domain = ((-1.5, 1.5), (-1.5, 1.5))
    critical_points = (CriticalPoint((0.0, 0.0), 0.0, "degenerate"),)

    def __call__(self, x: Tensor) -> Tensor:
        """x^3 - 3 x y^2."""
        x, y = x.unbind(-1)
        return x**3 - 3 * x * y**2


@dataclass(frozen=True, kw_only=True)
class DoubleWell:
    """Two wells and the pass between them: the start leads past the saddle before it falls."""

    dim = 2
    start = (0.01, 1.0)
    domain = ((-1.8, 1.8), (-1.3, 1.3))
    critical_points = (  # all
        CriticalPoint((1.0, 0.0), 0.0, "minimum"),
        CriticalPoint((-1.0, 0.0), 0.0, "minimum"),
        CriticalPoint((0.0, 0.0), 1.0, "saddle"),
    )

    def __call__(self, x: Tensor) -> Tensor:
        """(x^2 - 1)^2 + y^2."""
        x, y = x.unbind(-1)
        return (x**2 - 1) ** 2 + y**2


@dataclass(frozen=True, kw_only=True)
class SixHumpCamel:
    """Six minima of three depths, symmetric about the origin.

    Source: Dixon and Szegö 1978, Towards Global Optimisation 2.
    """

    dim = 2
    start = (1.4, 0.3)
    domain = ((-2.1, 2.1), (-1.2, 1.2))
    critical_points = (  # all
        CriticalPoint((0.0898420131, -0.7126564030), -1.0316284535, "minimum"),
        CriticalPoint((-0.0898420131, 0.7126564030), -1.0316284535, "minimum"),
        CriticalPoint((1.7036067150, -0.7960835687), -0.2154638244, "minimum"),
        CriticalPoint((-1.7036067150, 0.7960835687), -0.2154638244, "minimum"),
        CriticalPoint((1.6071047529, 0.5686514549), 2.1042503103, "minimum"),
        CriticalPoint((-1.6071047529, -0.5686514549), 2.1042503103, "minimum"),
        CriticalPoint((0.0, 0.0), 0.0, "saddle"),
        CriticalPoint((1.1092053368, -0.7682680925), 0.5437186010, "saddle"),
        CriticalPoint((-1.1092053368, 0.7682680925), 0.5437186010, "saddle"),
        CriticalPoint((1.6380679842, 0.2286740690), 2.2293571975, "saddle"),
        CriticalPoint((-1.6380679842, -0.2286740690), 2.2293571975, "saddle"),
        CriticalPoint((1.2960702672, 0.6050843880), 2.2294708180, "saddle"),
        CriticalPoint((-1.2960702672, -0.6050843880), 2.2294708180, "saddle"),
        CriticalPoint((1.2302298765, 0.1623345845), 2.4962953510, "maximum"),
        CriticalPoint((-1.2302298765, -0.1623345845), 2.4962953510, "maximum"),
    )

    def __call__(self, x: Tensor) -> Tensor:
        """(4 - 2.1 x^2 + x^4 / 3) x^2 + x y + (4 y^2 - 4) y^2."""
        x, y = x.unbind(-1)
        return (4 - 2.1 * x**2 + x**4 / 3) * x**2 + x * y + (4 * y**2 - 4) * y**2


@dataclass(frozen=True, kw_only=True)
class Booth:
    """A plain bowl, nine times as steep across as along."""

    dim = 2
    start = (-5.0, -5.0)
    domain = ((-10.0, 10.0), (-10.0, 10.0))
    critical_points = (CriticalPoint((1.0, 3.0), 0.0, "minimum"),)

    def __call__(self, x: Tensor) -> Tensor:
        """(x + 2y - 7)^2 + (2x + y - 5)^2."""
        x, y = x.unbind(-1)
        return (x + 2 * y - 7) ** 2 + (2 * x + y - 5) ** 2


@dataclass(frozen=True, kw_only=True)
@checked
class Rastrigin:
    """A bowl full of holes, one near every whole number, in n dimensions."""

    dim: Annotated[int, Ge(1)] = 2
    domain = ((-3.0, 3.0), (-3.0, 3.0))
    # Of one coordinate's term, those with |x| <= 1: the function is a sum, so any combination is critical.
    TERMS = (
        (0.0, 0.0, "minimum"),
        (0.9949586377, 0.9949590571, "minimum"),
        (-0.9949586377, 0.9949590571, "minimum"),
        (0.5025460366, 20.2512729910, "maximum"),
        (-0.5025460366, 20.2512729910, "maximum"),
    )

    @property
    def start(self) -> Point:
        """1.7 and -1.2 in turn: between holes, two holes away from the deepest."""
        return tuple((1.7, -1.2)[i % 2] for i in range(self.dim))

    @property
    def critical_points(self) -> tuple[CriticalPoint, ...]:
        """Up to two dimensions all with |x[i]| <= 1; above, where they are 5^n, the global minimum."""
        terms = self.TERMS if self.dim <= 2 else self.TERMS[:1]
        found = []
        for combination in itertools.product(terms, repeat=self.dim):
            points, values, kinds = zip(*combination, strict=True)
            kind: Kind = kinds[0] if len(set(kinds)) == 1 else "saddle"
            found.append(CriticalPoint(points, sum(values), kind))
        return tuple(found)

    def __call__(self, x: Tensor) -> Tensor:
        """sum_i x[i]^2 - 10 cos(2 pi x[i]) + 10."""
        _require_dim(self, x)
        return (x**2 - 10 * torch.cos(2 * math.pi * x) + 10).sum(-1)


@dataclass(frozen=True, kw_only=True)
@checked
class Ackley:
    """An almost flat plain of small holes around one deep funnel, in n dimensions.

    The minimum is the tip of a cone: the gradient's norm tends to 4 / sqrt(n) there instead of 0, and at the
    tip itself the second derivative does not exist.
    """

    dim: Annotated[int, Ge(1)] = 2
    domain = ((-4.0, 4.0), (-4.0, 4.0))

    @property
    def start(self) -> Point:
        """2.3 and -1.4 in turn."""
        return tuple((2.3, -1.4)[i % 2] for i in range(self.dim))

    @property
    def critical_points(self) -> tuple[CriticalPoint, ...]:
        """The global minimum."""
        return (CriticalPoint((0.0,) * self.dim, 0.0, "minimum"),)

    def __call__(self, x: Tensor) -> Tensor:
        """20 - 20 exp(-0.2 |x| / sqrt(n)) + e - exp(mean_i cos(2 pi x[i]))."""
        _require_dim(self, x)
        distance = torch.linalg.vector_norm(x, dim=-1) / math.sqrt(self.dim)
        waves = torch.cos(2 * math.pi * x).mean(-1)
        return (20 - 20 * torch.exp(-0.2 * distance)) + (math.e - torch.exp(waves))


@dataclass(frozen=True, kw_only=True)
@checked
class Quadratic:
    """A bowl of known condition number: where rates of convergence have closed forms.

    The eigenvalues run geometrically from 1 to the condition number.

    Attributes:
        dim: the number n of variables.
        condition_number: the largest eigenvalue over the smallest.
    """

    dim: Annotated[int, Ge(2)] = 2
    condition_number: Annotated[float, Ge(1), Finite] = 100.0
    domain = ((-1.2, 1.2), (-1.2, 1.2))

    @property
    def eigenvalues(self) -> tuple[float, ...]:
        """Of the Hessian, ascending."""
        return tuple(self.condition_number ** (i / (self.dim - 1)) for i in range(self.dim))

    @property
    def start(self) -> Point:
        """(1, ..., 1): a part in every eigenvector's direction."""
        return (1.0,) * self.dim

    @property
    def critical_points(self) -> tuple[CriticalPoint, ...]:
        """The only one."""
        return (CriticalPoint((0.0,) * self.dim, 0.0, "minimum"),)

    def __call__(self, x: Tensor) -> Tensor:
        """1/2 sum_i lambda[i] x[i]^2."""
        _require_dim(self, x)
        return 0.5 * (x.new_tensor(self.eigenvalues) * x**2).sum(-1)


def require_form(function: Function) -> None:
    """Raise ValueError unless a function takes single points and many, and its values have a gradient."""
    name, dim = type(function).__name__, function.dim
    point = torch.tensor(function.start, dtype=torch.float64, requires_grad=True)
    many = (dim + 1, dim)  # of two lengths, so that a coordinate is not taken for a point
    got = []
    for points, shape in ((point, ()), (point.expand(many), many[:1])):
        try:
            value = function(points)
        except Exception as error:
            raise ValueError(
                f"function: {name} fails on points {list(points.shape)}: {described(error)}"
            ) from error
        right = isinstance(value, Tensor) and value.shape == shape and value.requires_grad
        kind = f"{list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        graph = " without a gradient" * (isinstance(value, Tensor) and not value.requires_grad)
        got += [] if right else [f"{kind}{graph} of points {list(points.shape)}"]
    if got:
        raise ValueError(
            f"function: {name} must make values [...] with a gradient of points [..., {dim}], whether one or "
            f"many; it makes {' and '.join(got)}"
        )


def _require_dim(function: Function, x: Tensor) -> None:
    """Refuse points of another dimension, where broadcasting would hide the mistake."""
    if x.shape[-1] != function.dim:
        name = type(function).__name__
        raise ValueError(f"{name} with dim={function.dim} got points of {x.shape[-1]} coordinates")
