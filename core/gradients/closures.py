"""What a training loop hands to a `GradientStep`: closures that return a loss and metrics."""

from collections.abc import Callable, Mapping

from torch import Tensor

Metrics = dict[str, Tensor]  # 0-d, detached, on the device
Loss = Tensor | Mapping[str, Tensor]
Closure = Callable[[], tuple[Loss, Metrics]]
