"""What ends a run in one line because something outside of the project did not do what it promises."""

import re
import sysconfig
import traceback

from core.text import shortened, words

LIBRARIES = (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"))


class ContractError(ValueError):
    """Somebody else's code, process or disk broke its contract; the message is the one line the user sees.

    Before a run it is refused, as any other ValueError of a check. In the middle of a run it ends: the run is
    saved, its status is `failed`, and no traceback is printed.
    """


class DiskError(ContractError):
    """A file could not be written: the disk is full or refuses."""


class GoneError(ContractError):
    """The directory of a run was removed, moved or emptied while the run was at work."""


class RankLostError(ContractError):
    """Another of the ranks that train together has ended, or does not answer."""


class MemoryShortageError(ContractError):
    """There is less memory than a tensor or an array needs."""


def as_shortage(error: Exception) -> MemoryShortageError | None:
    """What Python, NumPy or PyTorch raised for want of memory, in one line; None for all else."""
    text = str(error)
    short = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if not (short or "can't allocate memory" in text):
        return None
    asked = re.search(r"allocate (\d[\d.]* ?(?:bytes|[KMGTP]iB))", text)
    size = f" for {asked[1]} at once" if asked else ""
    return MemoryShortageError(f"there is not enough memory{size}: take smaller batches, buffers or networks")


def described(error: BaseException) -> str:
    """An error that was just caught, in one line: its class, its text, and where it was raised.

    The place is the innermost one outside of the standard library, of installed packages and of the package
    that calls this: a file and a line. Without one it is the package that raised it.
    """
    name, text = type(error).__name__, shortened(words(error), 100)
    if isinstance(error, SyntaxError) and error.filename:
        return f"{name}: {error.msg} ({error.filename}, line {error.lineno})"
    return f"{name}: {text}{place_of(error)}"


def place_of(error: BaseException) -> str:
    """Where an error that was just caught was raised, as `described` says it; empty where it says nothing."""
    steps = [(*step, _package(step[0])) for step in traceback.walk_tb(error.__traceback__)]
    outside = [
        (frame, line)
        for frame, line, package in steps
        if package not in (steps[0][2], "importlib", "_frozen_importlib", "_frozen_importlib_external")
    ]
    own = [(frame, line) for frame, line in outside if not frame.f_code.co_filename.startswith(LIBRARIES)]
    for frame, line in (own or outside)[-1:]:
        return f" ({frame.f_code.co_filename}, line {line})" if own else f" (in {_package(frame)})"
    return ""


def _package(frame) -> str:
    return str(frame.f_globals.get("__name__")).partition(".")[0]
