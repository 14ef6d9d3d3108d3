"""Freed memory is reused without asking the system."""

import platform
import subprocess
import sys

import pytest

MEASURE = """
import resource, sys
import torch
from core.cli.allocator import keep_freed_memory

kept = keep_freed_memory() if sys.argv[1] == "keep" else False
torch.set_num_threads(1)

def faults(times):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        torch.empty(16_000_000).fill_(1.0)  # 64 MB, 15,625 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults(30)  # aligned blocks leave splinters, and it takes some until none is wanted any more
print(kept, faults(5))
"""


def measured(mode: str, **environment: str) -> tuple[str, int]:
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, mode], capture_output=True, text=True, check=True,
        env={"PATH": "", "PYTHONPATH": ":".join(sys.path), **environment},
    )  # fmt: skip
    kept, faults = done.stdout.split()
    return kept, int(faults)


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_a_large_tensor_is_made_again_without_a_page_fault() -> None:
    kept, faults = measured("keep")
    assert kept == "True"
    assert faults < 100
    _, otherwise = measured("leave")
    assert otherwise > 5_000  # or this test could not fail; huge pages may save some


@pytest.mark.slow
def test_whoever_has_chosen_an_allocator_keeps_it() -> None:
    assert measured("keep", MALLOC_ARENA_MAX="4")[0] == "False"


def test_the_collector_sleeps_while_a_command_imports_and_is_awake_when_it_works_and_afterwards(
    tmp_path,
) -> None:
    program = """
import gc, sys
from core.cli.command import _imported
launcher = _imported()
print(gc.isenabled())
import core.cli.launch
core.cli.launch.build = lambda tree: None
show = lambda cfg: print(gc.isenabled(), gc.get_freeze_count() > 10_000)
launcher.status_of_tool("report", ["run=."], show)
gc.disable()
launcher.status_of_tool("report", ["nonsense=1"], print)
print(gc.isenabled())
"""
    # In an empty folder: of the runs of a checkout more would be said.
    line = [sys.executable, "-c", program]
    done = subprocess.run(line, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.split("\n")[:3] == ["False", "True True", "True"]
