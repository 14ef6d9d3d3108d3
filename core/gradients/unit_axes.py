"""Which axes of an activation count its units: [batch, channels, length], or [batch, time, units]?

The shape does not tell; the layer that made the numbers does. What stands between it and the activation (a
view, heads split off and transposed, a norm, a sum with a shortcut) is followed by memory, module or shape.
"""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized
from torch.utils.hooks import RemovableHandle

Axes = tuple[int, ...]  # from the end, so that [units] and [batch, units] are alike
Register = Callable[[nn.Module, Callable[..., None]], RemovableHandle]  # of a hook that sees a call's output


class UnitAxes:
    """Remembers what layers make while a network is called, and tells the unit axes of tensors from it."""

    def __init__(self) -> None:
        # Kept alive, or their memory would be another tensor's soon.
        self._made: dict[int, tuple[Tensor, Axes]] = {}
        self._by_shape: dict[tuple[int, ...], Axes] = {}

    def watch(
        self, module: nn.Module, register: Register = nn.Module.register_forward_hook
    ) -> list[RemovableHandle]:
        """Remember the outputs of a layer from now on; no handle for a module that only holds others."""
        whole = is_parametrized(module) or isinstance(module, nn.MultiheadAttention)
        if any(module.children()) and not whole:
            return []
        return [register(module, self._remember)]

    def _remember(self, module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        made = output[0] if isinstance(output, tuple) and output else output
        entered = inputs[0] if inputs else None
        if not isinstance(made, Tensor):
            return
        axes = _made_by(module, made)
        if axes is None and made.untyped_storage().data_ptr() in self._made:  # a view, or changed in place
            axes = self.of(made)
        elif axes is None and isinstance(entered, Tensor) and entered.dim() == made.dim():
            axes = self.of(entered)
        if axes:
            self._made[made.untyped_storage().data_ptr()] = made, axes
            self._by_shape[tuple(made.shape)] = axes

    def of(self, x: Tensor) -> Axes | None:
        """The axes of a tensor that count units; None where nothing is known of it."""
        if known := self._made.get(x.untyped_storage().data_ptr()):
            made, axes = known
            # An axis of a view counts units where its stride lies within that of a unit axis.
            spans = [(made.stride(axis), made.stride(axis) * made.shape[axis]) for axis in axes]
            found = tuple(
                axis
                for axis in range(-x.dim(), 0)
                if x.shape[axis] > 1 and any(low <= x.stride(axis) < high for low, high in spans)
            )
            if found:
                return found
        return self._by_shape.get(tuple(x.shape))


def _made_by(module: nn.Module, made: Tensor) -> Axes | None:
    """The unit axes of what a layer with a weight has made; None for other modules."""
    if isinstance(module, nn.RNNBase | nn.Bilinear | nn.MultiheadAttention):
        return (-1,)
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor) or weight.dim() < 2 or isinstance(module, nn.LayerNorm | nn.RMSNorm):
        return None
    channels = 1 - weight.dim()  # of a convolution, [..., channels, *places]
    sizes = weight.shape[0], weight.shape[1] * getattr(module, "groups", 1)
    if weight.dim() > 2 and made.dim() >= -channels and made.shape[channels] in sizes:
        return (channels,)
    return (-1,)
