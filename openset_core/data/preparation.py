"""The parts of an experiment's data, ready for training and extraction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import numpy as np

from openset_core.data import splits
from openset_core.data.images import ImageSet, load_images
from openset_core.errors import ProtocolError
from openset_core.plugins import Registry
from openset_core.protocols import Protocol, UnknownPart

UNKNOWN_PREFIX = "unknown/"


@attrs.frozen(kw_only=True)
class DataPart:
    """One part: a data set's images and the rows that belong to the part."""

    images: ImageSet = attrs.field(repr=False)
    split: splits.Split

    def __len__(self) -> int:
        return len(self.split)


@attrs.frozen(kw_only=True)
class ExperimentData:
    """All data of one trial.

    Attributes:
        parts: `train`, `validation`, `known` (test) and `unknown/NAME` for each unknown set.
        class_names: names of the known classes, in label order.
    """

    parts: dict[str, DataPart]
    class_names: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        """What is written down about the data: sizes and fingerprints."""
        return {
            name: {
                "samples": len(part),
                "split": part.split.fingerprint(),
                "data": part.images.fingerprint(),
            }
            for name, part in self.parts.items()
        }


def prepare_data(
    protocol: Protocol,
    trial: int,
    root: Path,
    download: bool = False,
    plugins: Registry | None = None,
) -> ExperimentData:
    """Load and split the data of one trial.

    Validation data is held out of the known training samples with the trial's number as
    seed, so that it does not depend on the training seed.

    Raises:
        DataError: missing or damaged data.
        ProtocolError: a class that does not exist, or an empty part.
    """
    protocol.check_trial(trial)
    loader = _Loader(root, download, plugins, {})
    content = protocol.content
    known = content.known.trials[trial]
    where = f"{protocol.name}.known.trials[{trial}]"
    train_set, train_rows, test_set, test_rows = loader.known_sides(protocol)
    splits.check_classes(known, train_set, where)
    all_train = _restricted(train_set, train_rows, known, relabel=True)
    kept, held_out = splits.stratified(all_train.label, content.validation.fraction, seed=trial)
    parts = {
        "train": DataPart(images=train_set, split=splits.take(all_train, kept)),
        "validation": DataPart(images=train_set, split=splits.take(all_train, held_out)),
        "known": DataPart(
            images=test_set, split=_restricted(test_set, test_rows, known, relabel=True)
        ),
    }
    for name, unknown in content.unknown.items():
        parts[UNKNOWN_PREFIX + name] = _unknown_part(
            loader, unknown, protocol, trial, test_set, test_rows, name
        )
    for name, part in parts.items():
        if not len(part):
            raise ProtocolError(f"protocol {protocol.name}, trial {trial}: part {name} is empty")
    names = tuple(train_set.classes[number] for number in known)
    return ExperimentData(parts=parts, class_names=names)


@attrs.define
class _Loader:
    """Loads each data set once, and splits sets that have no test part of their own."""

    root: Path
    download: bool
    plugins: Registry | None
    cache: dict[tuple[str, str], ImageSet]

    def load(self, name: str, part: str) -> ImageSet:
        key = (name, part)
        if key not in self.cache:
            self.cache[key] = load_images(name, part, self.root, self.download, self.plugins)
        return self.cache[key]

    def has_test_part(self, name: str) -> bool:
        from openset_core.plugins import registry

        spec = (self.plugins or registry()).find(name, ("dataset",)).spec
        return "test" in spec.parts

    def known_sides(
        self, protocol: Protocol
    ) -> tuple[ImageSet, splits.Indices, ImageSet, splits.Indices]:
        """Training set with its rows, test set with its rows."""
        known = protocol.content.known
        if self.has_test_part(known.dataset):
            train, test = self.load(known.dataset, "train"), self.load(known.dataset, "test")
            return train, np.arange(len(train)), test, np.arange(len(test))
        if known.test_fraction is None:
            raise ProtocolError(
                f"{protocol.name}.known lacks test_fraction; data set {known.dataset} has no test "
                "part of its own"
            )
        whole = self.load(known.dataset, "all")
        train_rows, test_rows = splits.stratified(
            whole.labels, known.test_fraction, known.split_seed
        )
        return whole, train_rows, whole, test_rows


def _restricted(
    image_set: ImageSet, rows: splits.Indices, classes: tuple[int, ...], relabel: bool
) -> splits.Split:
    chosen = (splits.known_rows if relabel else splits.class_rows)(image_set.labels[rows], classes)
    return splits.Split(index=rows[chosen.index], label=chosen.label)


def _unknown_part(
    loader: _Loader,
    unknown: UnknownPart,
    protocol: Protocol,
    trial: int,
    known_test: ImageSet,
    known_test_rows: splits.Indices,
    name: str,
) -> DataPart:
    known = protocol.content.known
    if unknown.dataset == known.dataset:
        image_set, rows = known_test, known_test_rows
    else:
        part = "test" if loader.has_test_part(unknown.dataset) else "all"
        image_set = loader.load(unknown.dataset, part)
        rows = np.arange(len(image_set))
    everything = tuple(range(len(image_set.classes)))
    if unknown.trials:
        classes = unknown.trials[trial]
        splits.check_classes(classes, image_set, f"{protocol.name}.unknown.{name}.trials[{trial}]")
    elif unknown.classes == "all":
        classes = everything
    else:
        classes = tuple(sorted(set(everything) - set(known.trials[trial])))
    return DataPart(images=image_set, split=_restricted(image_set, rows, classes, relabel=False))
