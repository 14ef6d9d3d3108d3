"""`compile=update`: a run whose gradient steps are compiled, from the check to what is said at the end."""

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import torch

from core.config import ConfigError
from core.gradients import GradientStep
from core.gradients.captured import Captured
from core.run.files import make_folder
from core.text import shown

Compile = Literal["off", "update"]
DEVICES = ("cpu", "cuda")


def check_compile(mode: Compile, device: torch.device) -> None:
    """Refuse what this machine cannot compile, before anything is made.

    Raises:
        ConfigError: there is no compiler for the device, or no folder for what it makes.
    """
    if mode == "off":
        return
    if cache := os.environ.get("TORCHINDUCTOR_CACHE_DIR"):
        make_folder(Path(cache), f"compile={mode}: TORCHINDUCTOR_CACHE_DIR")
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it warns of a missing GPU
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    if device.type not in DEVICES:
        raise ConfigError(f"compile={mode} works on {' and '.join(DEVICES)}, not on {device.type}")
    try:
        get_cpp_compiler()
    except (InvalidCxxCompiler, OSError) as error:
        if (named := os.environ.get("CXX")) is not None:
            raise ConfigError(
                f"compile={mode} needs a C++ compiler, and the environment variable CXX={shown(named)} names "
                "none that works: name another, or unset it"
            ) from error
        raise ConfigError(
            f"compile={mode} needs a C++ compiler, and there is none: install g++ or clang++, or name "
            "yours in the environment variable CXX; compile=off trains without one"
        ) from error


def begin_compiling(mode: Compile, steps: Sequence[GradientStep], say: Callable[[str], None]) -> None:
    """Let the steps compile what they are called with; a line about each that runs without, or waits."""
    for step in steps if mode == "update" else ():
        whose = f"the step of {step.name}" if step.name else "the step"
        try:
            step.compile(lambda line, whose=whose: say(f"compile={mode}: {whose} {line}"))
        except ValueError as error:
            say(f"compile={mode}: {whose} runs eagerly: {error}")
    if any(step.compiled for step in steps):
        say(f"compile={mode}: the first update waits for its graph, up to a minute where no cache has it")


def say_saved(mode: Compile, steps: Sequence[GradientStep], say: Callable[[str], None]) -> None:
    """Say what compiling has cost and saved, as timed when each graph was made."""
    graphs = [graph for step in steps if step.compiled for graph in step.compiled.graphs]
    if graphs:
        cost = sum(graph.compile_s for graph in graphs)
        saved = sum(graph.saved_s * graph.calls for graph in graphs)
        calls = sum(graph.calls for graph in graphs)
        cuda = sum(isinstance(graph.run, Captured) for graph in graphs)
        all_of_them = f"{len(graphs)} graph{'s' * (len(graphs) > 1)}"
        as_cuda = f" ({cuda} as CUDA graph{'s' * (cuda > 1)})" if cuda else ""
        say(
            f"compile={mode}: {all_of_them}{as_cuda} compiled in {cost:.1f} s; "
            f"{calls:,} gradients by them took about {abs(saved):.1f} s {'less' if saved > 0 else 'more'}"
        )
