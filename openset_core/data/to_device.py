"""Small tensors from the CPU to the training device."""

from __future__ import annotations

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A CPU tensor on the device, without waiting for what the device is doing.

    A copy from ordinary memory waits until the device has finished all that it was given; one
    from pinned memory takes its place in the device's queue.
    """
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
