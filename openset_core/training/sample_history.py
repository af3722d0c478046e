"""What a sample generator made as training went on: some looks, kept in the run folder.

    looks.h5: attrs format; epoch int64 [E], from 1; images uint8 [E, N, H, W, C]

Looks are spread over the epochs: when there are too many, every second one goes.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
from attrs import frozen

from openset_core.files import atomic_write
from openset_core.observers import Observer, RunEvent, SamplesDrawn

FORMAT = "openset-looks-1"
MOST_LOOKS = 16
MOST_BYTES = 32 * 2**20
"""Bound on the pixels of all looks together; at least two looks are kept whatever their size."""


@frozen(eq=False)
class SampleHistory:
    epochs: npt.NDArray[np.int64]  # finished epochs at each look, from 1, int64 [E]
    images: npt.NDArray[np.uint8]  # from the same noise each time, uint8 [E, N, H, W, C]


def read_sample_history(path: Path) -> SampleHistory | None:
    """The looks that a run kept; None where there is no file, or none that can be read."""
    with contextlib.suppress(OSError, KeyError, RuntimeError), h5py.File(path, "r") as file:
        if file.attrs.get("format") == FORMAT:
            return SampleHistory(file["epoch"][:], file["images"][:])
    return None


def kept_epochs(epochs: npt.NDArray[np.int64], most: int) -> npt.NDArray[np.bool_]:
    """Which looks stay: the last, and evenly spread ones. `epochs` ascend from 1, `most` >= 2."""
    stride, last = 1, int(epochs[-1])
    while (last - 1) // stride + 1 + bool((last - 1) % stride) > most:
        stride *= 2
    stay: npt.NDArray[np.bool_] = (epochs - 1) % stride == 0
    stay[-1] = True
    return stay


class SampleHistoryRecorder(Observer):
    wants = (SamplesDrawn,)

    def __init__(self, path: Path) -> None:
        self.path = path

    def receive(self, event: RunEvent) -> None:
        """Keep a look; those of the same epoch or later ones, from before a restart, go."""
        if not isinstance(event, SamplesDrawn):
            return
        images = np.asarray(event.images, dtype=np.uint8)[None]
        epochs = np.array([event.epoch + 1], dtype=np.int64)
        before = read_sample_history(self.path)
        if before is not None and before.images.shape[1:] == images.shape[1:]:
            earlier = before.epochs < epochs[0]
            epochs = np.concatenate([before.epochs[earlier], epochs])
            images = np.concatenate([before.images[earlier], images])
        stay = kept_epochs(epochs, max(2, min(MOST_LOOKS, MOST_BYTES // images[0].nbytes)))
        with atomic_write(self.path) as temporary, h5py.File(temporary, "w") as file:
            file.attrs["format"] = FORMAT
            file.create_dataset("epoch", data=epochs[stay])
            file.create_dataset("images", data=images[stay], compression="gzip", fletcher32=True)
