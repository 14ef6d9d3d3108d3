"""What a loss is called with, and what the best constant prediction would have lost on the same targets."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from core.form import AnyTensor, Maybe, Number
from core.state import StateDict

SAMPLES = 4096  # rows of predictions that are looked at
COLUMNS = 4096  # components of a target whose means are kept one by one

LOSSES = {
    "crossentropyloss": "cross_entropy",
    "nllloss": "nll",
    "bceloss": "bce",
    "binarycrossentropy": "bce",
    "bcewithlogitsloss": "bce_with_logits",
    "binarycrossentropywithlogits": "bce_with_logits",
    "crossentropy": "cross_entropy",
    "mseloss": "elementwise",
    "l1loss": "elementwise",
    "smoothl1loss": "elementwise",
    "huberloss": "elementwise",
}
# Nodes of the graph that leave every number as it is, and those of activations: names and ranges.
PASSING = ("View", "UnsafeView", "Reshape", "Squeeze", "Unsqueeze", "Permute", "Transpose", "T", "Alias")
ENDINGS = {
    "Sigmoid": ("sigmoid", 0.0, 1.0),
    "Hardsigmoid": ("sigmoid", 0.0, 1.0),
    "Tanh": ("tanh", -1.0, 1.0),
    "Hardtanh": ("tanh", -1.0, 1.0),
    "Softsign": ("softsign", -1.0, 1.0),
    "Relu": ("relu", 0.0, float("inf")),
    "Softmax": ("softmax", 0.0, 1.0),
}


def kind_of_loss(loss: object) -> str:
    """Which of torch's losses it is, by the name of the class or function; empty for any other."""
    name = getattr(loss, "__name__", type(loss).__name__)
    return LOSSES.get(name.replace("_", "").lower(), "")


def ending(predictions: Tensor) -> tuple[str, float, float] | None:
    """The activation that predictions come out of, its least and largest value; None where there is none."""
    node = predictions.grad_fn
    while node is not None and _name(node) in PASSING:
        node = node.next_functions[0][0]
    if node is None:
        return None
    if _name(node) == "Div" and len(node.next_functions) == 2 and node.next_functions[1][0] is not None:
        below = node.next_functions[1][0]  # torch's softsign: x / (1 + |x|)
        inner = below.next_functions[0][0] if _name(below) == "Add" else None
        return ENDINGS["Softsign"] if inner is not None and _name(inner) == "Abs" else None
    return ENDINGS.get(_name(node))


def _name(node: Any) -> str:
    return node.name().removesuffix("0").removesuffix("1").removesuffix("2").removesuffix("Backward")


def described(kind: str, predictions: Tensor, targets: Tensor | None) -> dict[str, Tensor]:
    """What a loss was given, 0-d each.

    Args:
        kind: of loss, as `kind_of_loss` says.
        predictions: the first tensor that the loss was called with; classes, if there are any, on axis 1.
        targets: the second.

    Returns:
        output/classes: size of axis 1; 1 for a vector.
        output/probabilities: share of rows that are probabilities of classes, not negative and of sum 1.
        output/log_probabilities: share of rows whose exponentials are.
        output/ends_in/<activation>: 1, of the activation that they come out of.
        output/broadcast: numbers of predictions and targets, spread over each other, over those of the larger
            one; 1 where the shapes fit.
        label/outside: share of the targets that this activation, or a loss of probabilities, cannot reach.
        label/of_classes: 1 where targets are one-hot rows, or zeros and ones of a single column.
        label/constant: 1 where all targets are the same; left out for a single one.
        label/rms, output/rms: root mean squares, of a loss that compares number with number.
    """
    if not predictions.is_floating_point() or not predictions.numel():
        return {}
    x = predictions.detach().float()
    rows = _rows(x)
    like = rows.new_tensor
    found = {"output/classes": like(float(rows.shape[1]))}
    last = ending(predictions)
    if last is not None:
        found[f"output/ends_in/{last[0]}"] = like(1.0)
    if rows.shape[1] > 1:
        whole = (rows >= 0).all(1) & ((rows.sum(1) - 1).abs() < 1e-3)
        log = (rows <= 0).all(1) & ((rows.exp().sum(1) - 1).abs() < 1e-3)
        found |= {
            "output/probabilities": whole.float().mean(),
            "output/log_probabilities": log.float().mean(),
        }
    return found if targets is None else found | _compared(kind, predictions, targets, last)


def _compared(
    kind: str, predictions: Tensor, targets: Tensor, last: tuple[str, float, float] | None
) -> dict[str, Tensor]:
    """Of predictions and targets."""
    found: dict[str, Tensor] = {}
    like = predictions.detach().float().new_tensor
    if not targets.numel() or targets.device != predictions.device:
        return found
    y = targets.detach()
    if y.numel() > 1:
        found["label/constant"] = (_rows(y) == _rows(y)[:1]).all().float()
    if not y.is_floating_point():
        return found
    if y.shape != predictions.shape:
        try:
            spread = torch.broadcast_shapes(y.shape, predictions.shape).numel()
        except RuntimeError:
            return found
        found["output/broadcast"] = like(spread / max(y.numel(), predictions.numel()))
    elif kind == "elementwise":
        own = _rows(y.float())
        binary = ((own == 0) | (own == 1)).all()
        one_hot = (own.sum(1) == 1).all() if own.shape[1] > 1 else ~(own == own[0]).all()
        found["label/of_classes"] = (binary & one_hot).float()
        found["label/rms"] = y.float().square().mean().sqrt()
        found["output/rms"] = predictions.detach().float().square().mean().sqrt()
    low, high = (0.0, 1.0) if kind.startswith("bce") else last[1:] if last else (0.0, float("inf"))
    if kind.startswith("bce") or (kind == "elementwise" and last is not None):
        found["label/outside"] = ((y < low) | (y > high)).float().mean()
    return found


def at_start(kind: str, predictions: Tensor, targets: Tensor | None) -> float | None:
    """How large the first predictions are: how scores deviate within a row, or all numbers over the targets.

    None for another kind of loss, or targets that are all zero.
    """
    x = _rows(predictions.detach().float())
    if kind == "cross_entropy" and x.shape[1] > 1:
        return x.std(1, correction=0).square().mean().sqrt().item()
    if kind != "elementwise" or targets is None or targets.shape != predictions.shape:
        return None
    size = targets.detach().float().square().mean().sqrt().item()
    return x.square().mean().sqrt().item() / size if size else None


def _rows(x: Tensor) -> Tensor:
    """[B, C, ...] as rows of C numbers, the first `SAMPLES` of them."""
    rows = x.movedim(1, -1).flatten(0, -2) if x.dim() > 1 else x[:, None] if x.dim() else x[None, None]
    return rows[:SAMPLES]


class Constant:
    """The loss of the best constant prediction, from all targets that have been seen.

    Args:
        loss: one of torch's own; it is called with that prediction, past its hooks.
    """

    def __init__(self, loss: Callable[..., Any] | None) -> None:
        self.kind = kind_of_loss(loss)
        own = isinstance(loss, nn.Module) and type(loss).__module__ == "torch.nn.modules.loss"
        known = own or (not isinstance(loss, nn.Module) and bool(self.kind))
        self._call = (loss.forward if isinstance(loss, nn.Module) else loss) if known and self.kind else None
        self._total: Tensor | None = None
        self._count = 0.0

    @torch.no_grad()
    def loss(self, predictions: Tensor, targets: Tensor | None, others: Mapping[str, Any]) -> Tensor | None:
        """On these targets, 0-d; None where the loss is not one of torch's, or the shapes do not fit.

        Args:
            predictions: [B, ...]; only the shape is used.
            targets: [B, ...].
            others: further arguments of the call.
        """
        if self._call is None or targets is None or not predictions.dim():
            return None
        means = self._mean(predictions, targets.detach())
        if means is None:
            return None
        guess = means.clamp(1e-6, 1 - 1e-6)
        if self.kind in ("cross_entropy", "nll"):
            means = guess.log()
        elif self.kind == "bce_with_logits":
            means = guess.logit()
        elif self.kind == "bce":
            means = guess
        found = self._call(means.to(predictions.dtype).expand_as(predictions), targets, **others)
        return found if found.dim() == 0 and found.isfinite() else None

    def _mean(self, predictions: Tensor, targets: Tensor) -> Tensor | None:
        """Mean target so far, frequencies of classes, of a shape that spreads over the predictions."""
        if targets.shape == predictions.shape and targets.is_floating_point():
            if targets.dim() > 1 and targets[0].numel() <= COLUMNS:
                total, count, shape = targets.double().sum(0), len(targets), targets.shape[1:]
            else:
                total, count, shape = targets.double().sum()[None], targets.numel(), (1,)
        elif self.kind in ("cross_entropy", "nll") and not targets.is_floating_point():
            classes = predictions.shape[1] if predictions.dim() > 1 else 1
            kept = targets[(targets >= 0) & (targets < classes)].flatten()
            total, count = torch.bincount(kept, minlength=classes).double(), kept.numel()
            shape = (classes, *(1 for _ in predictions.shape[2:]))
        else:
            return None
        if self._total is None or self._total.shape != total.shape or self._total.device != total.device:
            self._total, self._count = torch.zeros_like(total), 0.0
        self._total = self._total + total
        self._count += count
        return (self._total / max(self._count, 1.0)).reshape(shape)

    def state_dict(self) -> StateDict:
        """Sums so far."""
        return {"total": self._total, "count": self._count}

    def state_form(self) -> StateDict:
        """Sums of any targets: of others than the next ones they begin anew."""
        return {"total": Maybe(AnyTensor()), "count": Number(0)}

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`."""
        self._total, self._count = state["total"], state["count"]
