"""Copies from the host to an accelerator that do not wait for the work queued there."""

import torch
from torch import Tensor


def send(tensor: Tensor, to: torch.device | Tensor) -> Tensor:
    """A tensor of the host on a device, or on another tensor's device and in its dtype.

    Random numbers are drawn on the host, so that every device sees the same ones; they travel in every
    update. torch's plain copy lets the host wait until the device has done all that was asked of it before.

    Args:
        tensor: on the CPU (or already there: then it is returned as it is).
        to: the device, or a tensor on it.
    """
    # CUDA has read ordinary memory when such a copy returns, so the source may go. Apple's MPS has not.
    kind = to.type if isinstance(to, torch.device) else to.device.type
    return tensor.to(to, non_blocking=kind == "cuda")
