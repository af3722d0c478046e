"""Resume state: everything that the next epoch depends on.

Checkpoints hold tensors and plain values and are read with `weights_only`, so that loading
one never runs code from it.
"""

from __future__ import annotations

import contextlib
import pickle
import random
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from openset_core.components import OpenSetModel
from openset_core.errors import ModelError, TrainingError
from openset_core.files import atomic_write
from openset_core.training.optimisation import PhaseOptimizer

FILE_NAME = "last.pt"
FORMAT = "openset-checkpoint-1"


def random_state() -> dict[str, Any]:
    """State of every global random generator, as tensors and plain values."""
    version, internal, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    state = {
        "torch": torch.get_rng_state(),
        "python": [version, list(internal), gauss],
        "numpy": [name, torch.from_numpy(np.asarray(keys).copy()), position, has_gauss, cached],
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def restore_random_state(state: dict[str, Any]) -> None:
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy(), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])


def seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@contextlib.contextmanager
def preserved_random_state(seed: int | None = None) -> Iterator[None]:
    """Put every global random generator back after the block, which may have a seed of its own."""
    state = random_state()
    try:
        if seed is not None:
            seed_everything(seed)
        yield
    finally:
        restore_random_state(state)


def save(folder: Path, state: dict[str, Any]) -> None:
    with atomic_write(folder / FILE_NAME) as temporary:
        torch.save({"format": FORMAT, **state}, temporary)


def load(folder: Path) -> dict[str, Any] | None:
    """The last checkpoint; None when there is none."""
    path = folder / FILE_NAME
    if not path.exists():
        return None
    advice = "delete it to train from the start"
    try:
        with zipfile.ZipFile(path) as archive:  # torch does not compare the checksums it wrote
            changed = archive.testzip()
        if changed:
            raise zipfile.BadZipFile(f"{changed} was changed")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (
        OSError,
        RuntimeError,
        EOFError,
        ValueError,
        KeyError,
        pickle.UnpicklingError,
        zipfile.BadZipFile,
    ) as error:
        raise ModelError(f"checkpoint {path} is damaged or not a checkpoint; {advice}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ModelError(f"checkpoint {path} was not written by this version of openset; {advice}")
    return state


def capture(
    epochs_done: int,
    model: OpenSetModel,
    optimizers: Sequence[PhaseOptimizer],
    order: torch.Generator,
) -> dict[str, Any]:
    """All that the next epoch depends on; `order` draws the data order and the augmentation."""
    return {
        "epochs_done": epochs_done,
        "model": model.state_dict(),
        "optimizers": {
            name: optimizer.state_dict() for name, optimizer in _by_phase(optimizers).items()
        },
        "order": order.get_state(),
        "random": random_state(),
    }


def resume(
    folder: Path, model: OpenSetModel, optimizers: Sequence[PhaseOptimizer], order: torch.Generator
) -> int:
    """Bring back the last checkpoint; returns the number of finished epochs, 0 without one."""
    state = load(folder)
    if state is None:
        return 0
    try:
        model.load_state_dict(state["model"])
        for name, optimizer in _by_phase(optimizers).items():
            optimizer.load_state_dict(state["optimizers"][name])
        order.set_state(state["order"])
        restore_random_state(state["random"])
        return int(state["epochs_done"])
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise TrainingError(
            f"checkpoint in {folder} does not fit this experiment: "
            f"{str(error).splitlines()[0]}; delete it to train from the start"
        ) from error


def _by_phase(optimizers: Sequence[PhaseOptimizer]) -> dict[str, torch.optim.Optimizer]:
    """Optimisers by the phase that owns them; other phases may share one of these."""
    return {
        item.phase.name: item.optimizer
        for item in optimizers
        if item.phase.shares_optimizer is None
    }
