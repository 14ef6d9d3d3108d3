"""Freed memory stays with the process, so that the next tensor of that size reuses it.

glibc hands large blocks back to the system when they are freed: those beyond a threshold (32 MB at most,
unless told) at once, others when they lie at the end of its heap. The activations of a larger network are
then paid with page faults: 5 % of a DCGAN's training step with R1 on one CPU thread, half of an FID under
mobilenet (compare with any MALLOC_ variable set, which turns this off). Small networks are as fast as before,
and what the process takes at most was the same to 2 %.
"""

import ctypes
import gc
import os
import sys

# Of mallopt(3).
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST = 2**30  # bytes of a block that is kept
FROZEN = 10_000  # objects; fewer are those that Python 3.12 begins with
OWN = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")  # variables of somebody who has chosen


def keep_freed_memory() -> bool:
    """Tell glibc to keep what is freed, unless the environment says how to allocate.

    Returns:
        Whether it does; other systems and C libraries have no such call, and nothing changes.
    """
    if any(name.startswith(OWN) for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    # In this order: the second fixes the threshold of the first, which must not stay at its 128 KB.
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST)) and bool(mallopt(M_TRIM_THRESHOLD, 2**31 - 1))


def collect_from_now_on() -> None:
    """Let Python look for garbage, and never again among what is there now.

    The commands import without the collector, which would look through what has been imported again and
    again and find nothing: a quarter of the time that a process takes which imports torch and ends. Once in a
    process: later, there may be garbage among it. And not where triton is there already: at the end it calls
    everything a leak that was never looked at.
    """
    if gc.get_freeze_count() < FROZEN and "triton" not in sys.modules:
        gc.freeze()
    gc.enable()
