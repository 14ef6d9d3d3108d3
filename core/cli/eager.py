"""torch's compiler stays away from a process that never asks for it.

Several methods of torch's optimizers import torch._dynamo, and with it torch._inductor, triton and sympy,
only to be left out of compiled code: 150 MB, and nearly as much time as importing torch itself. As long as
nobody else has imported it there is no compiled code, and such a method does what is written in it.
"""

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

COMPILER = "torch._dynamo"
READ = "2.15."  # the release of torch whose optimizers are as described here


def keep_compiler_out() -> bool:
    """Let torch's optimizers do without the compiler until somebody else imports it.

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
    return True


def _eager(method: Callable[..., Any], *, sets_mode: bool) -> Callable[..., Any]:
    """A method of an optimizer without what torch has put around it for the compiler.

    Args:
        method: as torch has wrapped it.
        sets_mode: what is around it also turns gradients off, unless the optimizer is differentiable.
    """
    from torch import set_grad_enabled

    inner = vars(method)["__wrapped__"]

    @wraps(method)
    def eager(self: Any, *args: Any, **kwargs: Any) -> Any:
        if COMPILER in sys.modules:
            return method(self, *args, **kwargs)
        if not sets_mode:
            return inner(self, *args, **kwargs)
        with set_grad_enabled(self.defaults["differentiable"]):
            return inner(self, *args, **kwargs)

    return eager
