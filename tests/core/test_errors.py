"""What is recognised as a want of memory, and how an error is told in one line."""

import numpy as np
import pytest
import torch

from core.errors import MemoryShortageError, as_shortage, described


@pytest.mark.parametrize(
    ("ask", "size"),
    [
        (lambda: torch.empty(2**50, dtype=torch.uint8), "1125899906842624 bytes"),
        (lambda: np.empty(2**50, np.uint8), "1.00 PiB"),
        (lambda: bytearray(2**60), None),
    ],
)
def test_whoever_is_asked_for_too_much_memory_it_is_a_shortage(ask, size):
    with pytest.raises((MemoryError, RuntimeError)) as caught:
        ask()
    shortage = as_shortage(caught.value)
    assert isinstance(shortage, MemoryShortageError)
    assert "there is not enough memory" in str(shortage)
    assert size is None or f"for {size} at once" in str(shortage)


def test_a_device_without_memory_is_a_shortage_and_another_mistake_is_none():
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total ...")
    assert "for 2.00 GiB at once" in str(as_shortage(error))
    assert as_shortage(RuntimeError("shapes do not match")) is None


def test_an_error_in_an_installed_package_names_the_package_and_no_path_of_this_machine():
    import gymnasium as gym

    with pytest.raises((TypeError, AssertionError)) as caught:  # the latter before gymnasium 1.4
        gym.vector.VectorWrapper((2,))  # type: ignore[arg-type]
    text = described(caught.value)
    assert text.endswith(" (in gymnasium)")
    assert len(text) < 130
