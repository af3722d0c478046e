"""The feature store: what the network says of every sample, in one HDF5 file.

    /                    attrs: format, key, ingredients (JSON), num_classes, learnt (JSON)
    /parts/NAME/         attrs: complete; one dataset an array, first axis = samples
    /landmarks/          attrs: name; points [P, E] and label [P], where the loss keeps such points

Splits are `train`, `validation`, `known` and `unknown/NAME`; arrays are `embedding`, `logits`,
`label` and `index`. A split counts once it is complete, the file appears by rename once all
splits are. The key is a hash of all that the numbers depend on, so that a stale store is
noticed and rebuilt. No torch is needed to read a store.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import attrs
import h5py
import numpy as np
import numpy.typing as npt

from openset_core.errors import StoreError
from openset_core.files import os_errors_as

FORMAT = "openset-features-1"
CHUNK_ROWS = 1024
READ_ROWS = 8192
Ingredients = Mapping[str, Any]


def key_of(ingredients: Ingredients) -> str:
    return hashlib.sha256(json.dumps(ingredients, sort_keys=True).encode()).hexdigest()


def changed(expected: Ingredients, actual: Ingredients) -> list[str]:
    return sorted(
        name for name in expected.keys() | actual.keys() if expected.get(name) != actual.get(name)
    )


@attrs.frozen(eq=False)
class StoredLandmarks:
    """Points that a loss keeps in the space of its embedding; see `components.Landmarks`."""

    points: npt.NDArray[np.float32]  # float32 [P, E]
    labels: npt.NDArray[np.int64]  # class of each point, int64 [P]
    name: str  # of one of them, in the singular


# --- writing ------------------------------------------------------------------------------------


class FeatureWriter:
    """Builds a store beside its final path, where leaving the context without an error moves it."""

    def __init__(self, path: Path, ingredients: Ingredients, num_classes: int) -> None:
        self.path = path
        self.partial = path.with_name(f".{path.name}.partial")
        self._ingredients, self._num_classes = ingredients, num_classes
        self._file: Any = None

    def __enter__(self) -> FeatureWriter:
        with os_errors_as(self.path):
            self._file = self._continued() or self._fresh()
        return self

    def _continued(self) -> Any:
        """The partial file of an interrupted writer of the same store, if it is sound."""
        if not self.partial.exists():
            return None
        file = None
        with contextlib.suppress(OSError, KeyError, RuntimeError):
            file = h5py.File(self.partial, "r+")
            if file.attrs.get("key") == key_of(self._ingredients):
                for split in _split_names(file):
                    if not file["parts"][split].attrs.get("complete", False):
                        del file["parts"][split]
                return file
        if file is not None:
            file.close()
        return None

    def _fresh(self) -> Any:
        self.partial.parent.mkdir(parents=True, exist_ok=True)
        file = h5py.File(self.partial, "w")
        file.attrs["format"] = FORMAT
        file.attrs["key"] = key_of(self._ingredients)
        file.attrs["ingredients"] = json.dumps(self._ingredients, sort_keys=True)
        file.attrs["num_classes"] = self._num_classes
        file.create_group("parts")
        return file

    def has(self, split: str) -> bool:
        splits = self._file["parts"]
        return split in splits and bool(splits[split].attrs.get("complete", False))

    def write_split(self, split: str, batches: Iterator[Mapping[str, npt.NDArray[Any]]]) -> None:
        """Append arrays batch by batch, samples as first axis, and mark the split complete."""
        with os_errors_as(self.path):
            if split in self._file["parts"]:  # begun by an interrupted writer, perhaps empty
                del self._file["parts"][split]
            group = self._file["parts"].create_group(split)
            for batch in batches:
                for name, array in batch.items():
                    _append(group, name, array)
            group.attrs["complete"] = True
            self._file.flush()

    def write_loss(self, scalars: Mapping[str, float], landmarks: StoredLandmarks | None) -> None:
        """Keep what the loss learnt beside its weights: single numbers, and points."""
        with os_errors_as(self.path):
            self._file.attrs["learnt"] = json.dumps(dict(scalars), sort_keys=True)
            if "landmarks" in self._file:  # of an interrupted writer
                del self._file["landmarks"]
            if landmarks is not None:
                group = self._file.create_group("landmarks")
                group.attrs["name"] = landmarks.name
                for name, array in (("points", landmarks.points), ("label", landmarks.labels)):
                    group.create_dataset(name, data=array, fletcher32=True)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._file.close()
        except (OSError, RuntimeError):  # a full disk shows again here; the first error counts
            if kind is None:
                raise
        if kind is None:
            with os_errors_as(self.path):
                self.partial.replace(self.path)


def _append(group: Any, name: str, array: npt.NDArray[Any]) -> None:
    if name not in group:
        group.create_dataset(
            name,
            data=array,
            maxshape=(None, *array.shape[1:]),
            chunks=(CHUNK_ROWS, *array.shape[1:]),
            fletcher32=True,  # a checksum: changed numbers are an error when they are read
        )
        return
    dataset = group[name]
    start = dataset.shape[0]
    dataset.resize(start + len(array), axis=0)
    dataset[start:] = array


# --- reading ------------------------------------------------------------------------------------


def _split_names(file: Any) -> list[str]:
    """Splits in a file; names may hold a slash, as `unknown/rest` does."""
    names = []

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Group) and any(
            isinstance(child, h5py.Dataset) for child in item.values()
        ):
            names.append(name)

    file["parts"].visititems(visit)
    return names


class FeatureStore:
    """A complete store, open for reading; use as a context manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        advice = "`openset extract RUN --rebuild` replaces it"
        if not path.exists():
            raise StoreError(f"{path} does not exist; `openset extract RUN` builds it")
        try:
            self._file = h5py.File(path, "r")
        except OSError as error:
            raise StoreError(f"{path} is damaged or not an HDF5 file; {advice}") from error
        try:
            if self._file.attrs.get("format") != FORMAT:
                raise StoreError(f"{path} was not written by this version of openset; {advice}")
            self.key = str(self._file.attrs["key"])
            self.ingredients: dict[str, Any] = json.loads(self._file.attrs["ingredients"])
            self.num_classes = int(self._file.attrs["num_classes"])
            self.splits = _split_names(self._file)
            if not all(map(self._sound, self.splits)) or key_of(self.ingredients) != self.key:
                raise StoreError(f"{path} is incomplete or was changed; {advice}")
        except (KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
            self.close()
            raise StoreError(f"{path} is damaged; {advice}") from error
        except StoreError:
            self.close()
            raise

    def _sound(self, split: str) -> bool:
        """Whether a split is complete, with labels and as many rows in every array."""
        group = self._file["parts"][split]
        lengths = {array.shape[0] for array in group.values()}
        return bool(group.attrs.get("complete")) and "label" in group and len(lengths) == 1

    def __enter__(self) -> FeatureStore:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    def arrays(self, split: str) -> list[str]:
        return sorted(self._file["parts"][split])

    def rows(self, split: str) -> int:
        return int(self._file["parts"][split]["label"].shape[0])

    def array(self, split: str, name: str) -> npt.NDArray[Any]:
        (whole,) = self.chunks(split, name, size=max(1, self.rows(split)))
        return whole[name]

    @property
    def describes_loss(self) -> bool:
        """Whether the store says what the loss learnt; older ones do not."""
        return "learnt" in self._file.attrs

    @property
    def learned_scalars(self) -> dict[str, float]:
        return dict(json.loads(self._file.attrs.get("learnt", "{}")))

    @property
    def landmarks(self) -> StoredLandmarks | None:
        """Points that the loss keeps in the embedding's space; None where it keeps none."""
        if "landmarks" not in self._file:
            return None
        group = self._file["landmarks"]
        try:
            return StoredLandmarks(group["points"][:], group["label"][:], str(group.attrs["name"]))
        except (KeyError, OSError) as error:
            raise StoreError(
                f"{self.path} is damaged in its landmarks; `openset extract RUN --rebuild` "
                "replaces it"
            ) from error

    def chunks(
        self, split: str, *names: str, size: int = READ_ROWS
    ) -> Iterator[dict[str, npt.NDArray[Any]]]:
        group = self._file["parts"][split]
        for name in names:
            if name not in group:
                raise StoreError(
                    f"{self.path} has no array {name!r} for split {split}; it has "
                    f"{', '.join(sorted(group))}"
                )
        for start in range(0, self.rows(split), size):
            try:
                chunk = {name: group[name][start : start + size] for name in names}
            except OSError as error:
                raise StoreError(
                    f"{self.path} is damaged in split {split}; `openset extract RUN --rebuild` "
                    "replaces it"
                ) from error
            yield chunk


@attrs.frozen
class StoredSplit:
    """One split of a store, as a scorer's `fit` sees the training split."""

    store: FeatureStore
    split: str
    arrays: Sequence[str]

    @property
    def num_classes(self) -> int:
        return self.store.num_classes

    @property
    def rows(self) -> int:
        return self.store.rows(self.split)

    def chunks(self, *arrays: str) -> Iterator[dict[str, npt.NDArray[Any]]]:
        """The named arrays, all that the scorer reads when none is named."""
        return self.store.chunks(self.split, *(arrays or self.arrays))


def as_float(array: Any) -> npt.NDArray[np.float32]:
    """A tensor of any float type as a float32 array on the CPU."""
    return array.detach().float().cpu().numpy()  # type: ignore[no-any-return]
