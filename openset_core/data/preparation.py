"""The parts of an experiment's data, ready for training and extraction."""

from __future__ import annotations

import zlib
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from openset_core.data import splits
from openset_core.data.cache import open_images
from openset_core.data.image_list import SIDES, sides
from openset_core.data.images import Images
from openset_core.errors import ProtocolError
from openset_core.experiment.classes import Classes, sample_rows, selected
from openset_core.experiment.protocol import ImageOptions, Protocol, UnknownSection, is_same_set
from openset_core.registry import Registry

UNKNOWN_PREFIX = "unknown/"
LATER_PREFIX = "later/"


@attrs.frozen(kw_only=True)
class DataSplit:
    """One part: a data set's images and the rows that belong to the part."""

    images: Images = attrs.field(repr=False)
    split: splits.Split

    def __len__(self) -> int:
        return len(self.split)


@attrs.frozen(kw_only=True)
class ExperimentData:
    """All data of one trial.

    Attributes:
        splits: `train`, `validation`, `known` (test), `unknown/NAME` for each unknown set, and
            `later/train` and `later/test` for classes added after training, labelled from K on.
        class_names: names of the known classes, in label order.
    """

    splits: dict[str, DataSplit]
    class_names: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        """What is written down about the data: sizes and fingerprints."""
        return {name: dict(facts) for name, facts in self._record.items()}

    @cached_property
    def _record(self) -> dict[str, Any]:
        # Parts share image sets, and a fingerprint reads all of a set.
        sets = {id(part.images): part.images for part in self.splits.values()}
        data = {number: images.fingerprint() for number, images in sets.items()}
        return {
            name: {
                "samples": len(part),
                "split": part.split.fingerprint(),
                "data": data[id(part.images)],
            }
            for name, part in self.splits.items()
        }

    def unknown_classes(self) -> dict[str, dict[str, str]]:
        """Names of the classes of each unknown set, by set and number."""
        return {
            name.removeprefix(UNKNOWN_PREFIX): {
                str(number): part.images.classes[number]
                for number in np.unique(part.split.label).tolist()
            }
            for name, part in self.splits.items()
            if name.startswith(UNKNOWN_PREFIX)
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
    seed, so that it does not depend on the training seed, or by the protocol's own list.

    Raises:
        DataError: missing or damaged data.
        ProtocolError: a class that does not exist, or an empty part.
    """
    protocol.check_trial(trial)
    content = protocol.content
    loader = _Loader(protocol.data_root(root), download, plugins, content.image, {})
    train_set, train_rows, test_set, test_rows, validation_rows = loader.known_sides(protocol)
    known = content.known.in_trial(trial, train_set.classes, f"{protocol.name}.known")
    all_train = _restricted(train_set, train_rows, known, relabel=True)
    if content.known.samples is not None and content.known.samples < len(all_train):
        share = content.known.samples / len(all_train)
        _left_out, wanted = splits.stratified(all_train.label, share, seed=trial)
        all_train = splits.take(all_train, wanted)
    if validation_rows is None:
        kept, held = splits.stratified(all_train.label, content.validation.fraction, seed=trial)
        training, validation = (splits.take(all_train, rows) for rows in (kept, held))
    else:
        training = all_train
        validation = _restricted(train_set, validation_rows, known, relabel=True)
    parts = {
        "train": DataSplit(images=train_set, split=training),
        "validation": DataSplit(images=train_set, split=validation),
        "known": DataSplit(
            images=test_set, split=_restricted(test_set, test_rows, known, relabel=True)
        ),
    }
    for name, unknown in content.unknown.items():
        parts[UNKNOWN_PREFIX + name] = _unknown_part(
            loader, unknown, protocol, trial, known, (test_set, test_rows, parts["known"]), name
        )
    if content.incremental:
        where = f"{protocol.name}.incremental.classes"
        later = selected(content.incremental.classes, train_set.classes, known, where)
        later = tuple(number for number in later if number not in known)
        for side, image_set, rows in (
            ("train", train_set, train_rows),
            ("test", test_set, test_rows),
        ):
            split = _restricted(image_set, rows, later, relabel=True)
            split = splits.Split(index=split.index, label=split.label + len(known))
            parts[LATER_PREFIX + side] = DataSplit(images=image_set, split=split)
    for name, part in parts.items():
        if not len(part):
            advice = (
                "leave classes for it that are not known"
                if name.startswith(UNKNOWN_PREFIX)
                else "give its classes more images"
            )
            raise ProtocolError(
                f"protocol {protocol.name}, trial {trial}: part {name} is empty; {advice}"
            )
    names = tuple(train_set.classes[number] for number in known)
    return ExperimentData(splits=parts, class_names=names)


@attrs.define
class _Loader:
    """Loads each data set once, and splits sets that have no test part of their own."""

    root: Path
    download: bool
    plugins: Registry | None
    image: ImageOptions
    cache: dict[tuple[str, str, str], Images]

    def load(self, name: str, part: str, options: dict[str, Any] | None = None) -> Images:
        key = (name, part, repr(sorted((options or {}).items())))
        if key not in self.cache:
            self.cache[key] = open_images(
                name,
                part,
                self.root,
                self.image.size,
                self.image.interpolation,
                self.download,
                self.plugins,
                options,
                self.image.fit,
            )
        return self.cache[key]

    def parts(self, name: str) -> tuple[str, ...]:
        """The parts of a data set."""
        from openset_core.registry import registry

        spec = (self.plugins or registry()).find(name, ("dataset",)).spec
        return tuple(spec.parts)

    def known_sides(
        self, protocol: Protocol
    ) -> tuple[Images, splits.Indices, Images, splits.Indices, splits.Indices | None]:
        """Training set with its rows, test set with its rows, validation rows where listed."""
        known = protocol.content.known
        try:
            sides_of = known.sides(self.parts(known.dataset))
        except ValueError as error:
            raise ProtocolError(f"{protocol.name}.known {error}") from None
        train_set, test_set = (self.load(known.dataset, side, known.options) for side in sides_of)
        if known.split is not None:
            listed = sides(self.root / known.split, len(train_set))
            train, validation, test = (np.array(listed[side], np.int64) for side in SIDES)
            return train_set, train, test_set, test, validation
        if sides_of[0] != sides_of[1]:
            rows = (np.arange(len(train_set)), np.arange(len(test_set)))
            return train_set, rows[0], test_set, rows[1], None
        assert known.test_fraction is not None
        whole = train_set
        train_rows, test_rows = splits.stratified(
            whole.labels, known.test_fraction, known.split_seed
        )
        return whole, train_rows, whole, test_rows, None


def _restricted(
    image_set: Images, rows: splits.Indices, classes: tuple[int, ...], relabel: bool
) -> splits.Split:
    chosen = (splits.known_rows if relabel else splits.class_rows)(image_set.labels[rows], classes)
    return splits.Split(index=rows[chosen.index], label=chosen.label)


def _unknown_part(
    loader: _Loader,
    unknown: UnknownSection,
    protocol: Protocol,
    trial: int,
    known: Classes,
    known_test: tuple[Images, splits.Indices, DataSplit],
    name: str,
) -> DataSplit:
    test_set, test_rows, known_part = known_test
    same = is_same_set(unknown, protocol.content.known)
    if same and unknown.part in (None, "test"):
        image_set, rows = test_set, test_rows
    else:
        part = unknown.source(loader.parts(unknown.dataset))
        image_set = loader.load(unknown.dataset, part, unknown.options)
        rows = np.arange(len(image_set))
    where = f"{protocol.name}.unknown.{name}"
    classes = unknown.in_trial(trial, image_set.classes, known if same else (), where)
    split = _restricted(image_set, rows, classes, relabel=False)
    if unknown.samples is not None:
        wanted = len(known_part) if unknown.samples == "known" else int(unknown.samples)
        seed = (trial, zlib.crc32(name.encode()))
        split = splits.take(split, sample_rows(len(split), wanted, seed))
    return DataSplit(images=image_set, split=split)
