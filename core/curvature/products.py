"""Products of a vector with the Hessian, the Gauss-Newton matrix and the Fisher matrix, on flat vectors [d].

No library: double backward over a graph that is kept for all products costs 1.5 to 2 gradients, and 2 is
what the matrix products of a hidden layer take (six against three). Forward-over-reverse (`torch.func.jvp` of
`grad`) was measured at 8.5 on a small network and needs the model as a function; curvlinops takes seconds to
import and, as it iterates over a data loader, rebuilds the graph for every product. Here any graph will do.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import reduce

import torch
from torch import Tensor

from core.curvature.kernels import require_differentiable, require_twice_differentiable
from core.gradients.norms import accumulation_dtype

LinearOperator = Callable[[Tensor], Tensor]  # symmetric, [d] -> [d]

# What autograd says, what it means here, and what to do. The first match counts.
_ADVICE = (
    ("through the graph a second time", "the graph of the loss is freed already: call with a fresh loss"),
    ("modified by an inplace", "the parameters have moved since the loss was made: call with a fresh loss"),
    (
        "cudnn",
        "a cuDNN RNN cannot be differentiated twice: compute the loss under "
        "torch.backends.cudnn.flags(enabled=False)",
    ),
    (
        "attention",
        "a fused attention kernel cannot be differentiated twice: compute the loss under "
        "torch.nn.attention.sdpa_kernel(SDPBackend.MATH)",
    ),
    ("double backward", "a compiled or custom function cannot be differentiated twice: use the plain one"),
    ("derivative for", "a kernel of this network cannot be differentiated twice: use the plain operations"),
)  # fmt: skip


class Layout:
    """Between a flat vector [d] and tensors in the shapes of the parameters.

    Args:
        parameters: of real floating dtypes, which may be mixed, on one device; each once.

    Raises:
        ValueError: there is none, one is not real floating, two are the same, or devices are mixed.
    """

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self.parameters = list(parameters)
        if not self.parameters:
            raise ValueError("curvature needs at least one parameter, got none")
        kinds = {p.dtype for p in self.parameters}
        devices = {p.device for p in self.parameters}
        if any(not kind.is_floating_point for kind in kinds) or len(devices) > 1:
            raise ValueError(
                f"curvature needs real floating parameters on one device, got {sorted(map(str, kinds))} "
                f"on {sorted(map(str, devices))}"
            )
        if len({id(p) for p in self.parameters}) < len(self.parameters):
            raise ValueError("curvature needs each parameter once; a tied one came twice")
        self.shapes = [p.shape for p in self.parameters]
        self.sizes = [p.numel() for p in self.parameters]
        self.mixed = len(kinds) > 1
        self.size = sum(self.sizes)  # d
        self.device = self.parameters[0].device
        self.dtype = reduce(torch.promote_types, (p.dtype for p in self.parameters))

    def split(self, vector: Tensor) -> list[Tensor]:
        """One tensor per parameter, in its shape and dtype.

        Raises:
            ValueError: `vector` is not [d].
        """
        if vector.shape != (self.size,):
            raise ValueError(f"a vector must have shape ({self.size},), got {tuple(vector.shape)}")
        flat = vector.detach().to(self.device, self.dtype)
        pieces = [piece.view(shape) for piece, shape in zip(flat.split(self.sizes), self.shapes, strict=True)]
        if not self.mixed:
            return pieces
        return [piece.to(p.dtype) for piece, p in zip(pieces, self.parameters, strict=True)]

    def join(self, tensors: Sequence[Tensor | None]) -> Tensor:
        """[d], detached, in the parameters' promoted dtype; None counts zero."""
        flat = [
            torch.zeros(n, dtype=self.dtype, device=self.device) if t is None else t.detach().reshape(-1)
            for t, n in zip(tensors, self.sizes, strict=True)
        ]
        return torch.cat(flat).to(self.dtype)


class Hessian:
    """The second derivatives of one loss at one point: `hessian(v)` is H v.

        hessian = Hessian(objective(), objective.parameters)

    The gradient is taken once, with its graph; every product is one more backward pass through that graph,
    which lives as long as this object. The vector may be of any dtype; float32 products are right to about
    1e-6 of the largest eigenvalue.

    Args:
        loss: 0-d, with a graph that can be differentiated twice. ReLU counts as linear on both sides.
        parameters: leaves of that graph; one that the loss does not reach counts zero.
        check: test at the first product, by one more, that H is symmetric: a function whose own derivative
            is not that of its values (a custom one, or a fused kernel) is found that way. False where a
            Hessian of known operations is made at every training step.

    Attributes:
        gradient: [d], detached.
        parameters, size, device, dtype: what it acts on; the dtype is the promoted one.

    Raises:
        ValueError: the loss is not a scalar, or depends on no parameter; see also `Layout`.
        RuntimeError: the graph is freed already, or a kernel in it cannot be differentiated twice, or not
            rightly. Some kernels say so only at the first product.

    Source: Pearlmutter 1994, "Fast exact multiplication by the Hessian", by reverse over reverse.
    """

    def __init__(self, loss: Tensor, parameters: Sequence[Tensor], *, check: bool = True) -> None:
        self.layout = Layout(parameters)
        self.parameters = self.layout.parameters
        self.size, self.device, self.dtype = self.layout.size, self.layout.device, self.layout.dtype
        self._unchecked = check
        if loss.dim():
            raise ValueError(f"curvature needs a scalar loss, got one of shape {tuple(loss.shape)}")
        require_twice_differentiable(loss)
        # autograd.grad and never backward(create_graph=True): a .grad that holds its own graph is a
        # reference cycle that leaks the whole graph (and .grad belongs to the training step).
        gradients = _grad([loss], self.parameters, None, create_graph=True)
        if all(g is None for g in gradients):
            raise ValueError("the loss depends on none of these parameters")
        if any(g is not None and g.is_sparse for g in gradients):
            raise ValueError("sparse gradients have no Hessian here: build the embedding with sparse=False")
        self.gradient = self.layout.join(gradients)
        # A parameter in which the loss is linear has a gradient without a graph: its row of H is zero.
        self._curved = [i for i, g in enumerate(gradients) if g is not None and g.requires_grad]
        self._gradients = [g for g in gradients if g is not None and g.requires_grad]

    def __call__(self, vector: Tensor) -> Tensor:
        """H v, [d], detached, in the dtype of the parameters.

        Raises:
            ValueError: `vector` is not [d].
            RuntimeError: see the class.
        """
        product = self._product(vector)
        if self._unchecked:
            self._unchecked = False
            self._require_symmetric(vector, product)
        return product

    def _product(self, vector: Tensor) -> Tensor:
        pieces = self.layout.split(vector)
        products = _grad(self._gradients, self.parameters, [pieces[i] for i in self._curved])
        return self.layout.join(products)

    def _require_symmetric(self, vector: Tensor, product: Tensor) -> None:
        """Raise RuntimeError unless u.Hv = v.Hu for a random u, up to the rounding of the products.

        What rounding does shows in H(u + v) - Hu - Hv, which is asked for only on suspicion.
        """
        wide = accumulation_dtype(self.device)
        random = torch.Generator().manual_seed(0)
        u = torch.randn(self.size, generator=random).to(self.device, wide)
        length = torch.linalg.vector_norm(vector.to(self.device, wide))
        scale = torch.where(length > 0, torch.linalg.vector_norm(u) / length, 0.0)
        v, hv = vector.to(u) * scale, product.to(u) * scale
        hu = self._product(u).to(u)
        gap = (u @ hv - v @ hu).abs()  # of terms that are about |Hu| for vectors of length sqrt(d)
        typical = torch.linalg.vector_norm(hu) + torch.linalg.vector_norm(hv)
        # A softmax that is sure has second derivatives p (1 - p), of which rounding is all that is left.
        nothing = torch.finfo(self.dtype).eps * math.sqrt(self.size)
        if typical <= nothing or not gap > self._tolerance * typical:
            return
        rounding = torch.linalg.vector_norm(self._product(u + v).to(u) - hu - hv)
        if gap > self._tolerance * typical + 10 * rounding:
            raise RuntimeError(
                f"the second derivatives of this loss are not symmetric (by {float(gap / typical):.1e}): a "
                "function of the network has a wrong derivative of its derivative; use the plain operations"
            )

    @property
    def _tolerance(self) -> float:
        """Asymmetry that rounding explains, relative; convolutions on CUDA keep 10 bits by default."""
        if self.dtype == torch.float64:
            return 1e-6
        return 1e-2 if self.device.type == "cuda" else 1e-3


class GaussNewton:
    """The generalised Gauss-Newton matrix G = J^T H_out J: the Hessian with the network taken as linear.

    J are the derivatives of the outputs, H_out the Hessian of the loss as a function of the outputs; G has
    no negative eigenvalue when that loss is convex. All graphs are kept. J v is the derivative of J^T u by
    u, so a second vector-Jacobian product serves for a forward pass; a product costs 1.2 to 1.8 gradients.

    Args:
        outputs: one tensor or several, with the network's graph.
        loss: of the outputs alone, `loss(*outputs)` -> 0-d.
        parameters: leaves of the outputs' graph; one that they do not reach counts zero.

    Raises:
        ValueError: the loss is not a scalar, or the outputs depend on no parameter.
        RuntimeError: as for `Hessian`.

    Source: Schraudolph 2002, "Fast curvature matrix-vector products".
    """

    def __init__(
        self, outputs: Tensor | Sequence[Tensor], loss: Callable[..., Tensor], parameters: Sequence[Tensor]
    ) -> None:
        self.layout = Layout(parameters)
        self.parameters = self.layout.parameters
        self.size, self.device, self.dtype = self.layout.size, self.layout.device, self.layout.dtype
        self.outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
        self._points = [o.detach().clone().requires_grad_() for o in self.outputs]
        with torch.enable_grad():
            value = loss(*self._points)
        if value.dim():
            raise ValueError(f"curvature needs a scalar loss, got one of shape {tuple(value.shape)}")
        self._slopes = _grad([value], self._points, None, create_graph=True)
        self._cotangents = [torch.zeros_like(o, requires_grad=True) for o in self._points]
        self._pulled = _grad(self.outputs, self.parameters, self._cotangents, create_graph=True)
        if all(p is None for p in self._pulled):
            raise ValueError("the outputs depend on none of these parameters")

    def __call__(self, vector: Tensor) -> Tensor:
        """G v, [d], detached, in the dtype of the parameters.

        Raises:
            ValueError: `vector` is not [d].
            RuntimeError: see the class.
        """
        moved = _grad(self._pulled, self._cotangents, self.layout.split(vector))  # J v
        bent = _grad(self._slopes, self._points, moved)  # H_out J v
        products = _grad(self.outputs, self.parameters, bent)  # J^T H_out J v
        return self.layout.join(products)


class Fisher(GaussNewton):
    """The model's own Fisher matrix F = E[s s^T], s the score, under the model's own predictions.

    It is the Hessian of the Kullback-Leibler divergence from where the model now stands, and there the
    divergence's Gauss-Newton matrix is that Hessian: its gradient in the outputs is zero. This is the metric
    of natural gradients.

        Fisher(logits, lambda fixed, moving: kl_of_logits(fixed, moving).mean(), parameters)

    Args:
        outputs: what the distribution is made of (logits; mean and log std), with the network's graph.
        divergence: called with the outputs held fixed and then the outputs that move; returns the mean over
            the samples of KL(fixed || moving), nats, 0-d.
        parameters: as for `GaussNewton`.

    Raises:
        ValueError: as for `GaussNewton`.
        RuntimeError: as for `GaussNewton`.

    Source: Amari 1998; Martens 2014, arXiv:1412.1193.
    """

    def __init__(
        self,
        outputs: Tensor | Sequence[Tensor],
        divergence: Callable[..., Tensor],
        parameters: Sequence[Tensor],
    ) -> None:
        tensors = [outputs] if isinstance(outputs, Tensor) else list(outputs)
        fixed = [o.detach() for o in tensors]
        super().__init__(tensors, lambda *moving: divergence(*fixed, *moving), parameters)


def _grad(
    outputs: Sequence[Tensor | None],
    inputs: Sequence[Tensor],
    cotangents: Sequence[Tensor | None] | None,
    *,
    create_graph: bool = False,
) -> list[Tensor | None]:
    """`torch.autograd.grad` that keeps the graph and leaves out what has no derivative."""
    given = cotangents or [None] * len(outputs)
    pairs = [
        (o, c)
        for o, c in zip(outputs, given, strict=True)
        if o is not None and o.requires_grad and (c is not None or cotangents is None)
    ]
    if not pairs:
        return [None] * len(inputs)
    with _explained():
        gradients = torch.autograd.grad(
            [o for o, _ in pairs],
            inputs,
            [c for _, c in pairs],
            retain_graph=True,
            create_graph=create_graph,
            allow_unused=True,
        )
    if create_graph:
        require_differentiable(gradients)
    return list(gradients)


@contextmanager
def _explained() -> Iterator[None]:
    """Say what an error of autograd means here, and what to do."""
    try:
        yield
    except RuntimeError as error:
        message = str(error).lower()
        advice = next((text for mark, text in _ADVICE if mark in message), None)
        if advice is None:
            raise
        raise RuntimeError(f"{advice} ({str(error).splitlines()[0]})") from error
