"""The splits of an experiment's data, ready for training and extraction."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from openset_core.data import splits
from openset_core.data.cache import SplitSource, open_images
from openset_core.data.image_format import ImageFormat
from openset_core.data.image_list import SIDES, sides
from openset_core.data.images import Images
from openset_core.errors import ProtocolError
from openset_core.experiment.classes import Classes, sample_rows, selected
from openset_core.experiment.protocol import ImageOptions, Protocol, is_same_set
from openset_core.registry import Registry, registry

UNKNOWN_PREFIX = "unknown/"
LATER_PREFIX = "later/"


@attrs.frozen(kw_only=True)
class DataSplit:
    images: Images = attrs.field(repr=False)
    split: splits.Split

    def __len__(self) -> int:
        return len(self.split)


@attrs.frozen(kw_only=True)
class ExperimentData:
    """All data of one trial.

    Its splits are `train`, `validation`, `known` (test), `unknown/NAME` for each unknown set, and
    `later/train` and `later/test` for classes added after training, labelled from K on.
    """

    splits: dict[str, DataSplit]
    class_names: tuple[str, ...]  # of the known classes, in label order

    def record(self) -> dict[str, Any]:
        """What is written down about the data: sizes and fingerprints."""
        return {name: dict(facts) for name, facts in self._record.items()}

    @cached_property
    def _record(self) -> dict[str, Any]:
        # Splits share image sets, and a fingerprint reads all of a set.
        image_sets = {id(split.images): split.images for split in self.splits.values()}
        data = {number: images.fingerprint() for number, images in image_sets.items()}
        return {
            name: {
                "samples": len(split),
                "split": split.split.fingerprint(),
                "data": data[id(split.images)],
            }
            for name, split in self.splits.items()
        }

    def unknown_classes(self) -> dict[str, dict[str, str]]:
        """Names of the classes of each unknown set, by set and number."""
        return {
            name.removeprefix(UNKNOWN_PREFIX): {
                str(number): split.images.classes[number]
                for number in np.unique(split.split.label).tolist()
            }
            for name, split in self.splits.items()
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
    """
    protocol.check_trial(trial)
    content = protocol.content
    loader = _Loader(protocol.data_root(root), download, plugins, content.image)
    train, test, validation_rows = loader.known_images(protocol)
    known = content.known.in_trial(trial, train.images.classes, f"{protocol.name}.known")
    all_train = train.of(known)
    if content.known.samples is not None and content.known.samples < len(all_train):
        share = content.known.samples / len(all_train)
        _left_out, wanted = splits.stratified(all_train.label, share, seed=trial)
        all_train = splits.take(all_train, wanted)
    if validation_rows is None:
        rows = splits.stratified(all_train.label, content.validation.fraction, seed=trial)
        training, validation = (splits.take(all_train, side) for side in rows)
    else:
        training = all_train
        validation = _Candidates(train.images, validation_rows).of(known)
    data = {
        "train": DataSplit(images=train.images, split=training),
        "validation": DataSplit(images=train.images, split=validation),
        "known": DataSplit(images=test.images, split=test.of(known)),
    }
    for name, unknown in content.unknown.items():
        same, candidates = is_same_set(unknown, content.known), test
        if not same or unknown.part not in (None, "test"):
            source = unknown.source(loader.splits_of(unknown.dataset))
            images = loader.load(unknown.dataset, source, unknown.options)
            candidates = _Candidates(images, np.arange(len(images)))
        where = f"{protocol.name}.unknown.{name}"
        classes = unknown.in_trial(trial, candidates.images.classes, known if same else (), where)
        split = candidates.of(classes, splits.class_rows)
        if unknown.samples is not None:
            count = len(data["known"]) if unknown.samples == "known" else int(unknown.samples)
            seed = (trial, zlib.crc32(name.encode()))
            split = splits.take(split, sample_rows(len(split), count, seed))
        data[UNKNOWN_PREFIX + name] = DataSplit(images=candidates.images, split=split)
    if content.incremental:
        where = f"{protocol.name}.incremental.classes"
        later = selected(content.incremental.classes, train.images.classes, known, where)
        later = tuple(number for number in later if number not in known)
        for side, candidates in (("train", train), ("test", test)):
            split = candidates.of(later)
            split = splits.Split(index=split.index, label=split.label + len(known))
            data[LATER_PREFIX + side] = DataSplit(images=candidates.images, split=split)
    for name, data_split in data.items():
        if not len(data_split):
            advice = "give its classes more images"
            if name.startswith(UNKNOWN_PREFIX):
                advice = "leave classes for it that are not known"
            raise ProtocolError(
                f"protocol {protocol.name}, trial {trial}: split {name} is empty; {advice}"
            )
    names = tuple(train.images.classes[number] for number in known)
    return ExperimentData(splits=data, class_names=names)


@attrs.frozen
class _Candidates:
    """Images and the rows of them that a split may take."""

    images: Images
    rows: splits.Indices

    def of(
        self, classes: Classes, choose: Callable[..., splits.Split] = splits.known_rows
    ) -> splits.Split:
        """Those of some classes, labelled by position in `classes` or as `choose` labels them."""
        chosen = choose(self.images.labels[self.rows], classes)
        return splits.Split(index=self.rows[chosen.index], label=chosen.label)


@attrs.define
class _Loader:
    """Loads each data set once, and splits sets that have no test split of their own."""

    root: Path
    download: bool
    plugins: Registry | None
    image: ImageOptions
    loaded: dict[tuple[str, str, str], Images] = attrs.field(factory=dict)

    def load(self, name: str, split: str, options: dict[str, Any] | None = None) -> Images:
        key = (name, split, repr(sorted((options or {}).items())))
        if key not in self.loaded:
            source = SplitSource(
                dataset=name,
                split=split,
                root=self.root,
                format=ImageFormat.of(self.image),
                options=options or {},
                plugins=self.plugins,
            )
            self.loaded[key] = open_images(source, self.download)
        return self.loaded[key]

    def splits_of(self, name: str) -> tuple[str, ...]:
        return tuple((self.plugins or registry()).find(name, ("dataset",)).spec.parts)

    def known_images(
        self, protocol: Protocol
    ) -> tuple[_Candidates, _Candidates, splits.Indices | None]:
        """Training and test images, and the rows for validation where a list says them."""
        known = protocol.content.known
        try:
            names = known.sides(self.splits_of(known.dataset))
        except ValueError as error:
            raise ProtocolError(f"{protocol.name}.known {error}") from None
        train, test = (self.load(known.dataset, name, known.options) for name in names)
        validation = None
        if known.split is not None:
            listed = sides(self.root / known.split, len(train))
            rows, validation, test_rows = (np.array(listed[side], np.int64) for side in SIDES)
        elif names[0] != names[1]:
            rows, test_rows = np.arange(len(train)), np.arange(len(test))
        else:
            assert known.test_fraction is not None
            rows, test_rows = splits.stratified(train.labels, known.test_fraction, known.split_seed)
        return _Candidates(train, rows), _Candidates(test, test_rows), validation
