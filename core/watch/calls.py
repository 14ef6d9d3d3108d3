"""Hooks that leave no trace on a user's modules: a model is copied, saved and scripted as it is."""

import warnings
from collections import OrderedDict
from collections.abc import Callable
from contextlib import nullcontext
from operator import itemgetter
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils.hooks import RemovableHandle

from core.watch.guard import Hook

# torch warns that they are called for its wrapper too, which is no module of the user's.
warnings.filterwarnings("ignore", "Using `torch.compile.module.` when there are global hooks on modules")

Hooks = dict[int, OrderedDict[int, Hook]]


class Calls:
    """Hears the calls of chosen modules by torch's hooks for all modules, which are there while it is open.

    A copy of a module is another module, and is not heard.
    """

    def __init__(self) -> None:
        self._before: Hooks = {}
        self._after: Hooks = {}
        self._handles = [
            register_module_forward_pre_hook(self._heard_before),
            register_module_forward_hook(self._heard_after),
        ]

    def before(self, module: nn.Module, hook: Hook) -> RemovableHandle:
        """Call `hook(module, inputs)` before each call of this module; what it returns has no effect."""
        return _add(self._before, module, hook)

    def after(self, module: nn.Module, hook: Hook) -> RemovableHandle:
        """Call `hook(module, inputs, output)` after each call of this module; likewise."""
        return _add(self._after, module, hook)

    def close(self) -> None:
        """Hear nothing any more."""
        for handle in self._handles:
            handle.remove()

    def _heard_before(self, module: nn.Module, inputs: object) -> None:
        _tell(self._before, module, inputs)

    def _heard_after(self, module: nn.Module, inputs: object, output: object) -> None:
        _tell(self._after, module, inputs, output)


def _add(hooks: Hooks, module: nn.Module, hook: Hook) -> RemovableHandle:
    own = hooks.setdefault(_key(module), OrderedDict())
    handle = RemovableHandle(own)
    own[handle.id] = hook
    return handle


def _tell(hooks: Hooks, module: nn.Module, *given: object) -> None:
    if torch.compiler.is_compiling():  # what is compiled now is called when nobody listens
        return
    for hook in tuple(hooks.get(_key(module), {}).values()):
        hook(module, *given)


def _key(module: nn.Module) -> int:
    """The same for the replicas of DataParallel, which share it, and another one for a copy."""
    return id(vars(module).get("_forward_hooks"))


class Heard:
    """A loss that is a function, heard at every call; a copy or a saved one is the function alone.

    Args:
        loss: the function.
        hear: what is called with it, its arguments, those by name, and what it has returned.
    """

    def __init__(self, loss: Callable[..., Any], hear: Hook) -> None:
        self.loss, self._hear = loss, hear

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the loss returns."""
        output = self.loss(*args, **kwargs)
        self._hear(self.loss, args, kwargs, output)
        return output

    def __reduce__(self) -> tuple[Any, ...]:
        return itemgetter(0), ((self.loss,),)


class Passing:
    """A hook on one module, for a whole training; a copy or a saved one has a hook without effect.

    Args:
        hook: what is called.
    """

    def __init__(self, hook: Hook) -> None:
        self._hook = hook

    def __call__(self, *given: Any) -> Any:
        """What the hook says."""
        return self._hook(*given)

    def __reduce__(self) -> tuple[Any, ...]:
        # Of the standard library, so that whoever loads the module needs no package of ours: its exit takes
        # any arguments and returns None.
        return getattr, (nullcontext(), "__exit__")
