"""What figures keep in a run folder: images, activation maps, measurements.

    figures.h5    /NAME/  attrs: features (key of the feature store); arrays and plain values

A figure that needs the data set, the network or a measurement asks for it once; afterwards it is
made from the run folder alone. What belongs to other features than the run has now is ignored.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import numpy.typing as npt

from openset_core.data.images import data_root
from openset_core.errors import DataError, FigureError, RunFolderError
from openset_core.files import atomic_write
from openset_core.report.data import Integers, RunData

if TYPE_CHECKING:
    from openset_core.data.preparation import ExperimentData

FORMAT = "openset-figures-1"
Arrays = dict[str, npt.NDArray[Any]]
Pixels = npt.NDArray[np.uint8]


def kept(run: RunData, name: str) -> Arrays | None:
    """Arrays that were kept under a name for the run's present features; None without."""
    path = run.folder.kept
    with contextlib.suppress(OSError, KeyError, RuntimeError), h5py.File(path, "r") as file:
        group = file[name]
        if file.attrs.get("format") == FORMAT and group.attrs.get("features") == _features(run):
            return {key: dataset[()] for key, dataset in group.items()}
    return None


def keep(run: RunData, name: str, arrays: Mapping[str, Any]) -> bool:
    """Keep arrays under a name; whether the run folder could be written.

    A folder that is read-only is no error: the figure is made all the same.
    """
    path = run.folder.kept
    with contextlib.suppress(RunFolderError):
        with atomic_write(path) as temporary, h5py.File(temporary, "w") as file:
            file.attrs["format"] = FORMAT
            _copy_others(path, file, name)
            group = file.create_group(name)
            group.attrs["features"] = _features(run)
            for key, array in arrays.items():
                group.create_dataset(key, data=array)
        return True
    return False


def _copy_others(path: Path, file: Any, name: str) -> None:
    """Take over what was kept under other names; a damaged file is begun anew."""
    with contextlib.suppress(OSError, KeyError, RuntimeError), h5py.File(path, "r") as old:
        for other in old:
            if other != name:
                old.copy(other, file)


def _features(run: RunData) -> str:
    return "" if run.store is None else run.store.key


# --- images ---------------------------------------------------------------------------------------


def split_images(run: RunData, split: str, rows: Integers, root: Path | None = None) -> Pixels:
    """Images of some samples of a split, as they lie in the data set; see `images_of`.

    Args:
        run: the run.
        split: name of the split in the feature store.
        rows: their numbers within the split.
        root: folder of data sets; $OPENSET_DATA or `./data` by default.

    Returns:
        uint8 [n, H, W, C], in the order of `rows`.

    Raises:
        FigureError: they are not kept, and the data set is not there or has changed.
    """
    images = images_of(run, {split: rows}, root)[split]
    return np.stack([images[int(row)] for row in rows])


def images_of(
    run: RunData,
    wanted: Mapping[str, Integers],
    root: Path | None = None,
    data: ExperimentData | None = None,
) -> dict[str, dict[int, Pixels]]:
    """Images of some samples, as they lie in the data sets.

    Those that the run folder keeps are taken from there; others from the data sets, which are read
    once for all splits, and kept.

    Args:
        run: the run.
        wanted: numbers of samples within their split, by split of the feature store.
        root: folder of data sets; $OPENSET_DATA or `./data` by default.
        data: the run's data where it is there already.

    Returns:
        For each split the images that are kept now, uint8 [H, W, C] by number, the wanted ones
        among them.

    Raises:
        FigureError: they are not kept, and the data set is not there or has changed.
    """
    there = {split: kept_images(run, split) for split in wanted}
    missing = {
        split: np.array(sorted({int(row) for row in rows} - there[split].keys()), dtype=np.int64)
        for split, rows in wanted.items()
    }
    missing = {split: rows for split, rows in missing.items() if len(rows)}
    for split, images in (_from_data(run, missing, root, data) if missing else {}).items():
        there[split] |= dict(zip(missing[split].tolist(), images, strict=True))
        numbers = sorted(there[split])
        every = np.stack([there[split][number] for number in numbers])
        keep(run, _images_name(split), {"rows": np.array(numbers), "images": every})
    return there


def kept_images(run: RunData, split: str) -> dict[int, Pixels]:
    """Images of a split that the run folder keeps, uint8 [H, W, C] by number within the split."""
    cached = kept(run, _images_name(split))
    if cached is None:
        return {}
    return dict(zip(cached["rows"].tolist(), cached["images"], strict=True))


def _images_name(split: str) -> str:
    return "images-" + split.replace("/", "-")


def _from_data(
    run: RunData, missing: Mapping[str, Integers], root: Path | None, data: ExperimentData | None
) -> dict[str, Pixels]:
    from openset_core.data.preparation import prepare_data
    from openset_core.run_folder import open_folder

    if data is None:
        _, experiment = open_folder(run.folder.path)
        try:
            data = prepare_data(experiment.protocol, experiment.trial, data_root(root))
        except DataError as error:
            raise FigureError(
                f"{run.folder.path} does not keep these images yet, and its data is not there: "
                f"{error}"
            ) from error
    facts = data.record()
    images = {}
    for split, rows in missing.items():
        if facts.get(split) != run.record.get("data", {}).get(split):
            raise FigureError(
                f"the data of split {split} changed since {run.folder.path} was trained; bring "
                "back the old data"
            )
        stored = data.splits[split]
        images[split] = stored.images.gather(np.asarray(stored.split.index)[rows])
    return images
