"""Which device a model runs on."""

from __future__ import annotations

import torch


def pick_device(wish: str) -> str:
    """`"cpu"`, or what this machine trains fastest on."""
    if wish == "cpu":
        return "cpu"
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return accelerator.type if accelerator else "cpu"
