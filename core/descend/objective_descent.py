"""Descent on an objective: a network, its loss on all samples, and the quality of its gradients."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from core.curvature import Hessian, classify, classify_point, twice_differentiable
from core.curvature.critical import FLAT, Kind
from core.descend.batches import Batch, BatchStream
from core.descend.diagnosis import RULES_OF_OBJECTIVE
from core.descend.functions import PlaneFunction
from core.descend.objectives import Data, Logistic, Supervised
from core.descend.plot import FRAMES, Plot
from core.descend.trajectory import Trajectory, point
from core.form import Number
from core.gradients import Metrics, Objective
from core.gradients.equal_units import equal_units
from core.gradients.unit_health import remarkable_inputs
from core.history import History
from core.noise import noise_statistics
from core.numbers import plain_number
from core.seeding import Generators, seed_for
from core.state import StateDict

DENSE = 32  # parameters up to which the Hessian is written out; above, Lanczos finds its two ends
LANCZOS = 50  # products with the Hessian at most, for its two ends
DRAWS = 32  # batches whose gradients are compared with that of all samples
COLUMNS = (
    "step", "samples", "value", "gradient_norm", "accuracy", "held_out_value", "held_out_accuracy",
    "gradient_cosine", "noise_scale",
)  # fmt: skip


@dataclass(frozen=True)
class ObjectivePoint:
    """What is measured at one point of a descent; losses in the unit of the objective.

    Attributes:
        value: loss over all training samples.
        gradient_norm: of its gradient.
        accuracy, held_out_value, held_out_accuracy: shares in [0, 1], and the loss on the samples held out.
        gradient_cosine: between a batch's gradient and that of all samples, mean of some draws; 1 for the
            full batch.
        noise_scale: tr(Sigma) / |G|^2 over the training samples: the batch size at which noise and signal
            are equally long; NaN where the gradient is 0.
        samples: seen so far, with repetition.
        evaluations: gradients of batches evaluated so far.
    """

    value: float
    gradient_norm: float
    accuracy: float
    held_out_value: float
    held_out_accuracy: float
    gradient_cosine: float
    noise_scale: float
    samples: int
    evaluations: int

    def metrics(self, seconds: float) -> Metrics:
        """What is logged: of this very point, not averaged over the steps before it."""
        values = {
            "loss/train": self.value,
            "loss/held_out": self.held_out_value,
            "accuracy/train": self.accuracy,
            "accuracy/held_out": self.held_out_accuracy,
            "full_gradient/norm": self.gradient_norm,
            "full_gradient/cosine": self.gradient_cosine,
            "full_gradient/noise_scale": self.noise_scale,
            "descent/samples": float(self.samples),
            "descent/evaluations": float(self.evaluations),
            "time/descent_s": seconds,
        }
        return {tag: torch.tensor(v, dtype=torch.float64) for tag, v in values.items() if not math.isnan(v)}


class CriticalKind(NamedTuple):
    """The kind of a critical point; None where it is not known.

    Attributes:
        kind: by the contract of `core.curvature.critical` and `core.curvature.point`.
        eigenvalues: of the Hessian, ascending: all, or the lowest and the largest.
        saddle_index: how many are negative; None where only the ends are known.
    """

    kind: Kind | None
    eigenvalues: list[float] | None
    saddle_index: int | None


class ObjectiveDescent:
    """A network that descends on an objective.

    Args:
        objective: the loss and its data.
        batch: how many samples a gradient is taken of.
        start: the first parameters, all in a row; None = those that the seed draws.
        seed: of the weights and of the order of the samples.
        device: one with float64.

    Raises:
        ValueError: `start` has another number of parameters; a batch is larger than the data.
    """

    headline = ("loss/train", "accuracy/held_out")
    rules = RULES_OF_OBJECTIVE

    def __init__(
        self,
        objective: Supervised,
        batch: Batch,
        start: Sequence[float] | None,
        seed: int,
        device: torch.device,
    ) -> None:
        random = Generators(seed)
        data = objective.load()
        self.objective, self.seed = objective, seed
        self.network = objective.make(data, random.torch("network")).to(device)
        self.data: Data = data.to(device)
        self.samples = batch.count(len(data.x))
        self.stream = BatchStream(len(data.x), self.samples, random.torch("data"))
        self.named = list(self.network.named_parameters())
        self.parameters = [p for _, p in self.named]
        self.size = sum(p.numel() for p in self.parameters)
        if start is not None:
            self._place(start)
        self.evaluations = self.seen = 0
        self.train_s = 0.0
        self._began = 0.0
        self._steps = 0
        self._path = History(self.point()) if self.size == 2 else None
        first = self.measure()
        self._history = History(self._row(first))
        zeros, count = self._loss_of_zeros(), float(len(data.x))
        self.limits = {"first_loss": first.value, "loss_of_zeros": zeros, "train_samples": count}
        self._seconds = History(torch.zeros(1))
        self.plot = Plot.of(data) if data.x.shape[1] == 2 and set(data.y.tolist()) == {0, 1} else None
        self.shares = None if self.plot is None else History(self.plot.row(self.network, 0), FRAMES)

    @property
    def exact(self) -> bool:
        """Whether the gradient of a step is that of all samples."""
        return self.samples == len(self.data.x)

    def point(self) -> Tensor:
        """All parameters in a row, [d]."""
        return torch.cat([p.detach().flatten() for p in self.parameters])

    def next(self) -> Callable[[], tuple[Tensor, Metrics]]:
        """The closure of the next step, on samples that stay the same however often it is called."""
        self._began = time.perf_counter()
        chosen = self.stream.next().to(self.data.x.device)
        x, y = (self.data.x, self.data.y) if self.exact else (
            self.data.x[chosen], self.data.y[chosen]
        )  # fmt: skip

        def evaluate() -> tuple[Tensor, Metrics]:
            self.evaluations += 1
            self.seen += self.samples
            loss = self.objective.loss(self.network, x, y)
            return loss, {"loss/batch": loss.detach()}

        return evaluate

    def record(self) -> None:
        """Count a step and append the current point to the path."""
        self.train_s += time.perf_counter() - self._began
        self._steps += 1
        if self._path is not None:
            self._path.add(self.point())

    def frozen(self) -> Objective:
        """The loss over all training samples."""
        return Objective(self.network, self.objective.loss, (self.data.x, self.data.y))

    def gradient(self, chosen: Tensor | None = None) -> Tensor:
        """Gradient of the loss over the samples `chosen`, or over all, [d]."""
        x, y = (self.data.x, self.data.y) if chosen is None else (self.data.x[chosen], self.data.y[chosen])
        with torch.enable_grad():
            gradients = torch.autograd.grad(self.objective.loss(self.network, x, y), self.parameters)
        return torch.cat([g.flatten() for g in gradients])

    def draws(self, count: int, *names: str | int) -> Tensor:
        """Gradients [count, d] of batches drawn for this purpose alone; the training's own order stays."""
        random = torch.Generator().manual_seed(seed_for(self.seed, "draws", *names))
        total, device = len(self.data.x), self.data.x.device
        orders = (torch.randperm(total, generator=random)[: self.samples] for _ in range(count))
        return torch.stack([self.gradient(order.to(device)) for order in orders])

    def measure(self) -> ObjectivePoint:
        """Measure at the current parameters; changes nothing."""
        data, objective = self.data, self.objective
        with torch.no_grad():
            output, held_out = self.network(data.x), self.network(data.held_out_x)
            value = objective.loss(self.network, data.x, data.y)
            held_out_value = objective.loss(self.network, data.held_out_x, data.held_out_y)
        right = [(objective.classes(o) == y).double().mean() for o, y in
                 ((output, data.y), (held_out, data.held_out_y))]  # fmt: skip
        noise = noise_statistics(self.frozen()).noise
        full = self.gradient()
        norm = torch.linalg.vector_norm(full)
        return ObjectivePoint(
            value=value.item(),
            gradient_norm=norm.item(),
            accuracy=right[0].item(),
            held_out_value=held_out_value.item(),
            held_out_accuracy=right[1].item(),
            gradient_cosine=self._cosine(full),
            noise_scale=(noise.variance / norm.square()).item() if norm > 0 else math.nan,
            samples=self.seen,
            evaluations=self.evaluations,
        )

    def metrics(self) -> Metrics:
        """Measure for the curves, and keep the values for the pictures."""
        now = self.measure()
        self._history.add(self._row(now))
        self._seconds.add(torch.tensor([self.train_s]))
        if self.plot is not None and self.shares is not None:
            self.shares.add(self.plot.row(self.network, self._steps))
        names = [name for name, _ in self.named]
        odd = remarkable_inputs(self.data.x) | equal_units(names, self.parameters)
        return now.metrics(self.train_s) | {tag: torch.tensor(value) for tag, value in odd.items()}

    def fields(self) -> dict[str, object]:
        """The fields of the summary at the current parameters."""
        now, kind = self.measure(), self.classify()
        return {
            "x": self.point().tolist() if self.size <= DENSE else None,
            **vars(now),
            "hessian_eigenvalues": kind.eigenvalues,
            "saddle_index": kind.saddle_index,
            "critical_point": kind.kind,
            "parameters": self.size,
            "batch_size": self.samples,
        }

    def classify(self) -> "CriticalKind":
        """What kind of point of the loss over all training samples this is; unknown where it is not finite.

        Up to DENSE parameters all eigenvalues of the Hessian; above, Lanczos finds the two ends, which tell a
        saddle from a minimum but not its index.
        """
        try:
            with twice_differentiable(self.network):
                hessian = Hessian(self.frozen()(), self.parameters)
            if self.size <= DENSE:
                identity = torch.eye(self.size, dtype=hessian.dtype, device=hessian.device)
                rows = torch.stack([hessian(row) for row in identity])
                if not (hessian.gradient.isfinite().all() and rows.isfinite().all()):
                    raise FloatingPointError("a second derivative is not finite")
                found = classify(hessian.gradient, rows)
                return CriticalKind(found.kind, list(found.eigenvalues), found.saddle_index)
            random = torch.Generator().manual_seed(seed_for(self.seed, "lanczos"))
            seen = classify_point(hessian, random, steps=LANCZOS, eps=FLAT)
        except FloatingPointError:
            return CriticalKind(None, None, None)
        return CriticalKind(seen.kind, [seen.lowest, seen.sharpness], None)

    def lines(self, steps: int, advice: str) -> list[str]:
        """The lines printed at the end: loss, accuracy, and what kind of point it is.

        Args:
            steps: taken so far.
            advice: what to try where numbers are not finite.

        Raises:
            FloatingPointError: the loss or its gradient is not finite here.
        """
        now = self.measure()
        if not (math.isfinite(now.value) and math.isfinite(now.gradient_norm)):
            advice = f"; {advice}" if steps else ""
            raise FloatingPointError(f"the loss or its gradient is not finite after {steps:,} steps{advice}")
        passes = plain_number(now.samples / len(self.data.x))
        effort = f"{steps:,} steps, {now.samples:,} samples ({passes} passes)" if steps else "the start"
        kind = self.classify()
        ends = point(kind.eigenvalues)[1:-1] if kind.eigenvalues else "not finite"
        which = "" if self.size <= DENSE else "lowest and largest "
        name = {
            "slope": "still on a slope",
            "degenerate": "a degenerate point",
            "None": "no kind of point",
        }.get(str(kind.kind), f"a {kind.kind}")
        return [
            f"{effort}: loss {plain_number(now.value)}, held out {plain_number(now.held_out_value)}; "
            f"accuracy {now.accuracy:.1%}, held out {now.held_out_accuracy:.1%}",
            f"{name}: |g| = {plain_number(now.gradient_norm)}; {which}eigenvalues of the Hessian: {ends}",
            f"a gradient of {self.samples:,} of {len(self.data.x):,} samples: its cosine with that of all is "
            f"{now.gradient_cosine:.3f}, its noise scale {plain_number(now.noise_scale)}",
        ]

    def plane_function(self) -> PlaneFunction | None:
        """The loss as maps show it; None unless there are two parameters."""
        objective, data = self.objective, self.data
        if not isinstance(objective, Logistic):
            return None
        return PlaneFunction(lambda w: objective.at(w, data), objective.domain, (), "Logistic regression")

    def trajectory(self, name: str) -> Trajectory:
        """The path so far, for pictures."""
        _, rows = self._history.rows()
        _, seconds = self._seconds.rows()
        columns = dict(zip(COLUMNS, rows.T.tolist(), strict=True))
        path_steps, path = self._path.rows() if self._path is not None else ([], None)
        kind = self.classify().kind or "diverged"
        return Trajectory(
            name=name,
            steps=[int(step) for step in columns.pop("step")],
            value=columns.pop("value"),
            gradient_norm=columns.pop("gradient_norm"),
            ended=str(kind),
            path=path,
            path_steps=path_steps,
            more=columns | {"seconds": seconds[:, 0].tolist()},
        )

    @property
    def random(self) -> bool:
        """Whether the samples of a step are drawn."""
        return not self.exact

    def restart(self, *names: str | int) -> None:
        """Draw the batches in another order from now on, another one for other names."""
        self.stream.restart(seed_for(self.seed, "data", *names))

    def state_dict(self) -> StateDict:
        """Weights, the order of the samples, the counts, and the path."""
        return {
            "network": self.network.state_dict(),
            "stream": self.stream.state_dict(),
            "evaluations": self.evaluations,
            "seen": self.seen,
            "steps": self._steps,
            "train_s": {"now": self.train_s, "history": self._seconds.state_dict()},
            "history": self._history.state_dict(),
            "path": self._path and self._path.state_dict(),
            "shares": self.shares and self.shares.state_dict(),
        }

    def state_form(self) -> StateDict:
        """What `state_dict` must look like."""
        return {
            **self.state_dict(),
            "train_s": {"now": Number(0), "history": self._seconds.state_form()},
            "history": self._history.state_form(),
            "path": self._path and self._path.state_form(),
            "shares": self.shares and self.shares.state_form(),
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`."""
        self.network.load_state_dict(state["network"])
        self.stream.load_state_dict(state["stream"])
        self.evaluations, self.seen, self._steps = state["evaluations"], state["seen"], state["steps"]
        self.train_s = state["train_s"]["now"]
        self._seconds.load_state_dict(state["train_s"]["history"])
        self._history.load_state_dict(state["history"])
        if self._path is not None:
            self._path.load_state_dict(state["path"])
        if self.shares is not None:
            self.shares.load_state_dict(state["shares"])

    def _row(self, now: ObjectivePoint) -> Tensor:
        known = {"step": self._steps, **vars(now)}
        return torch.tensor([known[name] for name in COLUMNS], dtype=torch.float64)

    def _cosine(self, full: Tensor) -> float:
        """Mean cosine between gradients of batches and the gradient of all samples."""
        if self.exact:
            return 1.0
        drawn = self.draws(DRAWS, "look", self._steps)
        return torch.nn.functional.cosine_similarity(drawn, full[None]).mean().item()

    @torch.no_grad()
    def _loss_of_zeros(self) -> float:
        """The loss over all training samples of a network whose outputs are zeros."""
        data = self.data
        return self.objective.loss(lambda x: torch.zeros_like(self.network(x)), data.x, data.y).item()

    def _place(self, start: Sequence[float]) -> None:
        """Write the first parameters."""
        if len(start) != self.size:
            raise ValueError(
                f"start must be null or a list of {self.size} numbers, the parameters of this objective, "
                f"got {list(start)}"
            )
        with torch.no_grad():
            parts = torch.tensor(start, dtype=torch.float64).split([p.numel() for p in self.parameters])
            for parameter, part in zip(self.parameters, parts, strict=True):
                parameter.copy_(part.view_as(parameter))
