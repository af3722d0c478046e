"""What a fitted detector learnt, as arrays under names that say what they were.

    tensor.NAME, point.NAME (without axes), number.NAME, entry.NAME.KEY (of a ParameterDict)

Only these are read back: nothing in a file names a class or a function.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

Array = npt.NDArray[Any]

# Attributes that hold what we gave.
_OURS = ("encoder", "model", "backbone", "head", "detector", "_device")


def learned_arrays(fresh: Any, fitted: Any) -> dict[str, Array] | None:
    """Attributes of a fitted detector that a fresh one lacks; None where some are no arrays."""
    arrays: dict[str, Array] = {}
    for name, value in vars(fitted).items():
        before = vars(fresh).get(name)
        if name in _OURS or value is before or value is None:
            continue
        if isinstance(value, Tensor):
            if not (isinstance(before, Tensor) and torch.equal(before, value)):
                arrays[f"{'tensor' if value.ndim else 'point'}.{name}"] = _array(value)
        elif isinstance(value, nn.ParameterDict):
            arrays.update({f"entry.{name}.{key}": _array(item) for key, item in value.items()})
        elif isinstance(value, bool | int | float):
            if value != before:
                arrays[f"number.{name}"] = np.array([value])
        elif value != before:
            return None
    return arrays


def take_back(fresh: Any, state: Mapping[str, Array]) -> Any:
    """Give a fresh detector the arrays of `learned_arrays`; returns it."""
    for key, array in state.items():
        kind, _, name = key.partition(".")
        if kind in ("tensor", "point"):
            tensor = torch.from_numpy(np.array(array))
            value = tensor if kind == "tensor" else tensor.reshape(())
            trained = isinstance(vars(fresh).get(name), nn.Parameter)
            setattr(fresh, name, nn.Parameter(value, requires_grad=False) if trained else value)
        elif kind == "number":
            setattr(fresh, name, array.reshape(-1)[0].item())
        elif kind == "entry":
            name, _, item = name.partition(".")
            parameter = nn.Parameter(torch.from_numpy(np.array(array)), requires_grad=False)
            getattr(fresh, name)[item] = parameter
    return fresh


def _array(value: Tensor) -> Array:
    array: Array = value.detach().cpu().numpy()
    return np.array(array, ndmin=1, order="C")
