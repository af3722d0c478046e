"""Which images train, which are held out for the threshold, and which test.

Each known class is split by itself and by a seed. Copies of a picture stay in one split; a picture
that lies in two classes contradicts itself and is left out.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Sequence

import attrs
import numpy as np

from openset_core.data.folders import some
from openset_core.data.image_folders.duplicates import Duplicates, Rows, members
from openset_core.data.image_folders.scan import ImageFolderConfig, ScannedFile, ScannedFolder
from openset_core.data.image_list import LEFT_OUT
from openset_core.errors import DataError

TRAIN, VALIDATION, TEST = "train", "validation", "test"
FEW_IMAGES = 10  # of a class, below which a note names it

_PURPOSES = {TRAIN: "training", VALIDATION: "the threshold", TEST: "testing"}


@attrs.define
class SplitAssignment:
    """The split of each image that can be read, by row, and why."""

    scan: ScannedFolder
    files: Sequence[ScannedFile]
    splits: list[str] = attrs.field(init=False)  # each one of the splits of an image list
    notes: list[str] = attrs.field(init=False)  # each a remark on the image, or empty
    findings: list[str] = attrs.field(factory=list)
    """What a user should know of all of it, a sentence each."""

    def __attrs_post_init__(self) -> None:
        self.splits = [""] * len(self.files)
        self.notes = [""] * len(self.files)

    def put(self, rows: Iterable[int], split: str, note: str = "") -> None:
        for row in rows:
            self.splits[row], self.notes[row] = split, note

    def assign_unknown(self) -> None:
        """Images of other classes are for testing, unless they lie among training images."""
        scan = self.scan
        others = [row for row, file in enumerate(self.files) if file.label not in scan.known]
        self.put(others, TEST)
        aside = [row for row in others if scan.divided and self.files[row].split != TEST]
        self.put(aside, LEFT_OUT, "not of a known class, and not for testing")
        if aside:
            names = sorted({self.files[row].label for row in aside})
            self.findings.append(
                f"{len(aside)} training images of classes that are not known were left out "
                f"({some(names)})"
            )

    def leave_out_contradictions(self, exact: Rows) -> None:
        """Leave out a picture in two known classes, and unknown images that show a known one."""
        contradictions = []
        for rows in members(exact):
            labels = {self.files[row].label for row in rows}
            known = labels & set(self.scan.known)
            if len(labels) < 2 or not known:
                continue
            wrong = [row for row in rows if len(known) > 1 or self.files[row].label not in known]
            note = f"the same picture lies in {' and '.join(sorted(labels))}"
            self.put(wrong, LEFT_OUT, note)
            contradictions.append(self._equal(rows))
        if contradictions:
            what = "picture lies" if len(contradictions) == 1 else "pictures lie"
            self.findings.append(
                f"{len(contradictions)} {what} in more than one class; files that contradict each "
                f"other were left out: {some(contradictions, separator='; ')}"
            )

    def keep_splits(self, copies: Sequence[Rows]) -> list[Rows]:
        """Keep the splits of a divided folder; of copies in several, those for testing stay.

        Returns:
            The groups of copies that are for training.
        """
        training = []
        for rows in copies:
            present = {self.files[row].split for row in rows}
            strongest = next(split for split in (TEST, VALIDATION, TRAIN) if split in present)
            kept = [row for row in rows if self.files[row].split == strongest]
            self.put(rows, LEFT_OUT, f"a copy of an image for {_PURPOSES[strongest]}")
            self.put(kept, strongest)
            if strongest == TRAIN:
                training.append(np.array(kept, np.int64))
        return training

    def note_copies(self, duplicates: Duplicates) -> None:
        copies = []
        for rows in members(duplicates.resaved):
            first = rows[0]
            for row in rows[1:]:
                self.notes[row] = self.notes[row] or f"a copy of {self.files[first].path}"
                if self.files[row].label == self.files[first].label:
                    copies.append(self._equal((first, row)))
        if copies:
            what = "file is a copy" if len(copies) == 1 else "files are copies"
            self.findings.append(
                f"{len(copies)} {what} of another of the class; copies were kept in one split: "
                f"{some(copies, separator='; ')}"
            )
        labels = {self.files[row].label for row in duplicates.look_alikes} & set(self.scan.known)
        if labels:
            self.findings.append(
                f"many images of {some(sorted(labels))} look alike, and only those with the same "
                "pixels were kept in one split; the accuracy on test images may be too good"
            )

    def _equal(self, rows: Iterable[int]) -> str:
        folder = self.scan.folder
        paths = (self.files[row].path for row in rows)
        return " = ".join(
            str(path.relative_to(folder) if path.is_relative_to(folder) else path) for path in paths
        )

    def check(self) -> None:
        """Refuse a split that cannot work, and name classes with few images."""
        known = self.scan.known
        labels = (file.label for file in self.files)
        count = Counter(zip(labels, self.splits, strict=True))
        totals = {name: sum(count[name, split] for split in _PURPOSES) for name in known}
        for name in known:
            if not count[name, TRAIN]:
                raise DataError(
                    f"known class {name!r} has no image left to train on; `openset run` needs at "
                    "least three different ones of a class"
                )
        for split in (TEST, VALIDATION):
            if not any(count[name, split] for name in known):
                sizes = ", ".join(f"{name} {total}" for name, total in totals.items())
                raise DataError(
                    f"no image of a known class is left for {_PURPOSES[split]}; the known classes "
                    f"have {sizes} images in {self.scan.folder}; three different ones of a class "
                    "are the least"
                )
        few = [f"{name} {total}" for name, total in totals.items() if total < FEW_IMAGES]
        if few:
            self.findings.append(
                f"few images, so that little can be learned and measured: {some(few, 20)}"
            )
        held_out = sum(count[name, VALIDATION] for name in known)
        if held_out < 20:
            self.findings.append(
                f"the threshold rests on {held_out} held-out images, and is coarse"
            )


def assign_splits(
    scan: ScannedFolder,
    files: Sequence[ScannedFile],
    duplicates: Duplicates,
    options: ImageFolderConfig,
) -> SplitAssignment:
    """Split the images that can be read, by class.

    A `DataError` says that no image of a known class is left to train on, or none to test with or
    to hold out.
    """
    assignment = SplitAssignment(scan, files)
    assignment.assign_unknown()
    assignment.leave_out_contradictions(duplicates.exact)
    shares = {} if scan.divided else {TEST: options.test}
    if not any(file.split == VALIDATION for file in files):
        shares[VALIDATION] = options.validation
    for name in scan.known:
        rows = [
            row
            for row, file in enumerate(files)
            if file.label == name and not assignment.splits[row]
        ]
        own = np.array(rows, np.int64)
        groups = [own[group] for group in members(duplicates.resaved[own])]
        if scan.divided:
            groups = assignment.keep_splits(groups)
        total = sum(map(len, groups))
        # Its own stream for each class: another class more or less does not change the split.
        seed = (options.split_seed, zlib.crc32(name.encode("utf-8", "surrogateescape")))
        rest = [groups[number] for number in np.random.default_rng(seed).permutation(len(groups))]
        for split, share in shares.items():
            taken, rest = _take(rest, max(1, round(share * total)))
            assignment.put((row for group in taken for row in group), split)
        assignment.put((row for group in rest for row in group), TRAIN)
    assignment.note_copies(duplicates)
    assignment.check()
    return assignment


def _take(groups: Sequence[Rows], wanted: int) -> tuple[list[Rows], list[Rows]]:
    """Groups with so many images together, and the rest, which keeps one group at least."""
    taken: list[Rows] = []
    rest: list[Rows] = []
    for number, rows in enumerate(groups):
        last = number == len(groups) - 1 and not rest
        if len(rows) <= wanted and not last:
            taken.append(rows)
            wanted -= len(rows)
        else:
            rest.append(rows)
    if not taken and len(rest) > 1:
        taken = [rest.pop(min(range(len(rest)), key=lambda number: len(rest[number])))]
    return taken, rest
