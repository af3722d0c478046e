"""Comparison of tensors and modules, for checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from openset_core.testing.report import fail

TENSORS = dict[str, Tensor]


def tensors_of(module: nn.Module) -> TENSORS:
    """A copy of every parameter and buffer, also of those that are not saved."""
    members = [*module.named_parameters(), *module.named_buffers()]
    return {name: tensor.detach().clone() for name, tensor in members}


def changed(before: TENSORS, after: nn.Module | TENSORS) -> list[str]:
    now = tensors_of(after) if isinstance(after, nn.Module) else after
    return sorted(
        name
        for name in before.keys() | now.keys()
        if name not in before
        or name not in now
        or not torch.equal(before[name].nan_to_num(), now[name].nan_to_num())
    )


def expect_tensor(
    value: Any, what: str, shape: Sequence[int], dtype: torch.dtype | None = None
) -> None:
    """Fail unless it is a finite float tensor of a shape and dtype."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        fail(f"{what} is {tensor_text(value)}")
    if value.shape != tuple(shape):
        fail(f"{what} has shape {list(value.shape)}, not {list(shape)}")
    if dtype is not None and value.dtype != dtype:
        fail(f"{what} is {value.dtype}, not {dtype}")
    expect_finite({what: value})


def expect_finite(values: Mapping[str, Tensor], where: str = "") -> None:
    for name, value in values.items():
        if not torch.isfinite(value).all():
            fail(f"{name}{where} holds NaN or infinite values")


def expect_equal(
    first: Mapping[str, Tensor], second: Mapping[str, Tensor], where: str, tolerance: float = 0.0
) -> None:
    """Fail unless the tensors of each name agree, to a share of their largest magnitude."""
    for name, value in first.items():
        other = second[name]
        if value.shape != other.shape:
            fail(f"{name} {where}: shape {list(value.shape)} against {list(other.shape)}")
        difference = float((value.float() - other.float()).abs().max()) if value.numel() else 0.0
        scale = float(value.abs().max()) if value.numel() else 0.0
        if not difference <= tolerance * max(scale, 1e-3):
            fail(f"{name} {where}: they differ by {difference:.3g}, where values reach {scale:.3g}")


def tensor_text(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor {str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    text = repr(value)
    return f"a {type(value).__name__} {text if len(text) < 60 else f'{text[:57]}...'}"


def some(names: Sequence[str], limit: int = 4) -> str:
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
