"""CIFAR-10 and CIFAR-100 from their pickled batches, read without running code from them.

torchvision unpickles these files after comparing their hash. Here whatever a file asks for is
refused except what an array needs, so that other orders or extracts of the data load as well.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from openset_core import DataRequest, ImageSet, NoOptions
from openset_core.data.images import missing_data
from openset_core.errors import DataError
from openset_plugins.datasets import CIFAR10_BATCHES
from openset_plugins.datasets.torchvision_sets import fetch

_HARMLESS: dict[str, Any] = {
    "numpy.core.multiarray._reconstruct": np.empty(0).__reduce__()[0],
    "numpy.ndarray": np.ndarray,
    "numpy.dtype": np.dtype,
    "numpy.core.numeric._frombuffer": lambda buffer, dtype, shape, order: np.frombuffer(
        buffer, dtype
    ).reshape(shape, order=order),
    # Bytes of an array that Python 3 wrote by an early protocol.
    "_codecs.encode": lambda text, encoding: text.encode(encoding),
}


class _ArraysOnly(pickle.Unpickler):
    """Reads containers, numbers, texts and arrays; anything else is refused."""

    def find_class(self, module: str, name: str) -> Any:
        asked = f"{module}.{name}"
        if (plain := asked.replace("numpy._core", "numpy.core")) not in _HARMLESS:
            raise pickle.UnpicklingError(f"it asks for {asked}")
        return _HARMLESS[plain]


def _read_batch(path: Path, name: str) -> dict[str, Any]:
    try:
        values = _ArraysOnly(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    # A damaged pickle raises whatever its bytes happen to mean.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise DataError(
            f"data set {name}: {path} is damaged or no data ({reason}); delete its folder and "
            "fetch it again with --download"
        ) from error
    if not isinstance(values, dict):
        raise DataError(f"data set {name}: {path} holds no table of images and labels")
    return values


def _images(values: dict[str, Any], path: Path, name: str, labels: str) -> tuple[Any, Any]:
    pixels, numbers = np.asarray(values.get("data")), np.asarray(values.get(labels))
    if pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape[1] != 3 * 32 * 32:
        raise DataError(f"data set {name}: {path} holds no images of 32x32 pixels")
    if numbers.shape != pixels.shape[:1] or numbers.dtype.kind not in "iu":
        raise DataError(f"data set {name}: {path} holds {len(pixels)} images, but not their labels")
    return pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), numbers.astype(np.int64)


def _load(
    name: str,
    request: DataRequest,
    files: Sequence[str],
    meta: str,
    labels: str,
    names: str,
    archive: Any,
) -> ImageSet:
    """One split from the batches `files`; `labels` and `names` are keys in them and in `meta`."""
    folder = request.root / archive.base_folder
    for can_fetch in (True, False):
        missing = [file for file in (*files, meta) if not (folder / file).exists()]
        label = f"{name} ({', '.join(missing)})" if folder.is_dir() else name
        if missing and can_fetch:
            source = {"url": archive.url, "filename": archive.filename, "md5": archive.tgz_md5}
            fetch(label, request, folder, **source)
        elif missing:
            raise missing_data(label, folder, can_download=True)
    batches = [
        _images(_read_batch(folder / file, name), folder / file, name, labels) for file in files
    ]
    classes = _read_batch(folder / meta, name).get(names)
    if not isinstance(classes, list) or not all(isinstance(item, str) for item in classes):
        raise DataError(f"data set {name}: {folder / meta} holds no class names")
    return ImageSet(
        images=np.ascontiguousarray(np.concatenate([images for images, _labels in batches])),
        labels=np.concatenate([numbers for _images, numbers in batches]),
        classes=tuple(classes),
    )


def load_cifar10(_config: NoOptions, request: DataRequest) -> ImageSet:
    from torchvision.datasets import CIFAR10

    keys = ("batches.meta", "labels", "label_names")
    return _load("cifar10", request, CIFAR10_BATCHES[request.part], *keys, CIFAR10)


def load_cifar100(_config: NoOptions, request: DataRequest) -> ImageSet:
    from torchvision.datasets import CIFAR100

    keys = ("meta", "fine_labels", "fine_label_names")
    return _load("cifar100", request, [request.part], *keys, CIFAR100)
