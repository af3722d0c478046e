"""Weights from a local file, read without running anything from it."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from openset_core.errors import ModelError

# What training scripts put around the weights, and what wrappers put before each name.
WRAPPINGS = ("state_dict", "model", "model_state_dict")
PREFIXES = ("_orig_mod.", "module.", "_orig_mod.")


def read_weights(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ModelError(f"checkpoint {path} does not exist; name a .safetensors or .pth file")
    loaded = _safetensors(path) if path.suffix == ".safetensors" else _pickled(path)
    for key in WRAPPINGS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
            break
    if not (
        isinstance(loaded, Mapping)
        and loaded
        and all(isinstance(value, Tensor) for value in loaded.values())
    ):
        raise ModelError(f"checkpoint {path} holds no state dict; save model.state_dict() instead")
    return {_plain(str(name)): value for name, value in loaded.items()}


def _safetensors(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"checkpoint {path} is damaged: {first_line(error)}") from error


def _pickled(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"checkpoint {path} is damaged or holds more than weights, and is not loaded because "
            "that could run code; save model.state_dict() alone, best as .safetensors"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise ModelError(f"checkpoint {path} is damaged: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__


def _plain(name: str) -> str:
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return name
