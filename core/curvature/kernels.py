"""Kernels that can be differentiated twice, and what is wrong with those that cannot.

Two of torch's kernels keep what they have computed as constants, so that a later derivative comes out wrong
without an error: weight_norm its norm, which the second derivative misses (a Hessian off by 16 %), and layer
norm its mean and deviation, which the third one misses: the Hessian of a gradient penalty (7 %).
Batch norm has no third derivative at all.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from core.gradients.graph import nodes, refuse_reentrant

# Of the loss' own graph: its derivatives are taken twice more.
_WRONG = {
    "WeightNormInterfaceBackward0": "second derivatives of weight_norm",
    "NativeLayerNormBackwardBackward0": "third derivatives of layer norm (a gradient penalty)",
}


@contextmanager
def twice_differentiable(*modules: nn.Module) -> Iterator[None]:
    """Choose kernels with right second derivatives for what is computed inside.

    Plain attention, plain norms of layers, batches and instances, plain weight_norm, and no cuDNN where one
    of the modules is an RNN.
    """
    with ExitStack() as stack:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.enter_context(_PlainNorms())
        if any(isinstance(part, nn.RNNBase) for module in modules for part in module.modules()):
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        yield


def require_twice_differentiable(loss: Tensor) -> None:
    """Raise RuntimeError where a kernel in the graph of a loss would give wrong second derivatives."""
    refuse_reentrant(loss)
    for node in nodes([loss]):
        if what := _WRONG.get(node.name()):
            raise RuntimeError(
                f"torch's {what} are wrong: compute the loss under "
                "core.curvature.twice_differentiable(module)"
            )


def require_differentiable(gradients: Sequence[Tensor | None]) -> None:
    """Raise RuntimeError where a function behind these gradients cannot be differentiated again.

    Autograd would not: it prunes the node that is there to raise, and the second derivative comes out wrong.
    """
    for node in nodes(gradients):
        if node.name() != "torch::autograd::Error":
            continue
        if any("BatchNorm" in other.name() for other in nodes(gradients)):
            raise RuntimeError(
                "batch norm in training mode has no third derivatives, which the Hessian of a gradient "
                "penalty needs: compute the loss under core.curvature.twice_differentiable(module)"
            )
        raise RuntimeError(
            "a custom function of this network is marked once_differentiable: use the plain operations"
        )


class _PlainNorms(TorchFunctionMode):
    """Computes by plain operations what `_PLAIN` lists."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        return _PLAIN.get(func, func)(*args, **(kwargs or {}))


def _standardised(
    x: Tensor, dims: tuple[int, ...], eps: float, weight: Tensor | None, bias: Tensor | None
) -> Tensor:
    """Mean 0 and variance 1 over some dimensions, then gain and bias, which broadcast."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    centred = wide - wide.mean(dims, keepdim=True)
    out = centred * (centred.square().mean(dims, keepdim=True) + eps).rsqrt()
    out = out if weight is None else out * weight
    return (out if bias is None else out + bias).to(x.dtype)


def _layer_norm(
    input: Tensor,  # noqa: A002 (torch's name)
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Tensor:
    return _standardised(input, tuple(range(-len(normalized_shape), 0)), eps, weight, bias)


def _batch_norm(
    input: Tensor,  # noqa: A002 (torch's name)
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    moved = functional.batch_norm, (input, running_mean, running_var), (training, momentum, eps)
    return _by_channel(*moved, (0, *range(2, input.dim())), weight, bias)


def _instance_norm(
    input: Tensor,  # noqa: A002 (torch's name)
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    moved = functional.instance_norm, (input, running_mean, running_var), (use_input_stats, momentum, eps)
    return _by_channel(*moved, tuple(range(2, input.dim())), weight, bias)


def _by_channel(
    own: Callable[..., Tensor],
    tensors: tuple[Tensor, Tensor | None, Tensor | None],
    options: tuple[bool, float, float],
    dims: tuple[int, ...],
    weight: Tensor | None,
    bias: Tensor | None,
) -> Tensor:
    """A norm of every channel; torch's own moves the running statistics, and serves where they are used."""
    if not options[0]:
        return own(*tensors, weight, bias, *options)
    with torch.no_grad():
        own(*tensors, None, None, *options)
    x = tensors[0]
    weight, bias = (t if t is None else t.view(-1, *[1] * (x.dim() - 2)) for t in (weight, bias))
    return _standardised(x, dims, options[2], weight, bias)


def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    return v * (g / torch.norm_except_dim(v, 2, dim))


_PLAIN: dict[Any, Callable[..., Tensor]] = {
    functional.layer_norm: _layer_norm,
    functional.batch_norm: _batch_norm,
    functional.instance_norm: _instance_norm,
    torch.layer_norm: _layer_norm,
    torch._weight_norm: _weight_norm,
}
