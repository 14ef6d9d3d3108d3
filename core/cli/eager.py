"""torch's compiler stays away from a process that never asks for it.

Several methods of torch's optimizers, and its counter of operations, import torch._dynamo, and with it
torch._inductor, triton and sympy, only to be left out of compiled code: 150 MB, and nearly as much time as
importing torch itself. As long as nobody else has imported it there is no compiled code, and such a method
does what is written in it.
"""

import sys
from collections.abc import Callable
from functools import partial, wraps
from typing import Any

COMPILER = "torch._dynamo"
READ = "2.15."  # the release of torch whose optimizers are as described here


def keep_compiler_out() -> bool:
    """Let torch's own methods do without the compiler until somebody else imports it.

    Returns:
        Whether they do: not in a release of torch that was not read for it, nor where the compiler is there.
    """
    import torch

    if not torch.__version__.startswith(READ) or COMPILER in sys.modules:
        return False
    for kind in vars(torch.optim).values():
        for name, method in list(vars(kind).items()) if isinstance(kind, type) else ():
            if COMPILER in getattr(getattr(method, "__code__", None), "co_names", ()):
                setattr(kind, name, _eager(method, sets_mode=name == "step"))
    torch._disable_dynamo = _disable  # pyright: ignore[reportAttributeAccessIssue]  # of modules still to come
    return True


def _disable(function: Callable[..., Any] | None = None, recursive: bool = True) -> Callable[..., Any]:
    """The decorator for what is left out of compiled code, with or without arguments."""
    from torch._compile import _disable_dynamo

    if function is None:
        return partial(_disable, recursive=recursive)
    return _eager(_disable_dynamo(function, recursive), sets_mode=False)


def _eager(method: Callable[..., Any], *, sets_mode: bool) -> Callable[..., Any]:
    """A method without what torch has put around it for the compiler.

    Args:
        method: as torch has wrapped it.
        sets_mode: it is an optimizer's `step`: what is around it also turns gradients off, unless the
            optimizer is differentiable.
    """
    from torch import set_grad_enabled

    inner = vars(method)["__wrapped__"]

    @wraps(method)
    def eager(*args: Any, **kwargs: Any) -> Any:
        if COMPILER in sys.modules:
            return method(*args, **kwargs)
        if not sets_mode:
            return inner(*args, **kwargs)
        with set_grad_enabled(args[0].defaults["differentiable"]):
            return inner(*args, **kwargs)

    return eager
