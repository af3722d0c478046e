"""Which images train, which are held out for the threshold, and which test.

Each known class is split by itself and by a seed. Copies of a picture stay in one split; a picture
that lies in two classes contradicts itself and is left out.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import attrs
import numpy as np
import numpy.typing as npt

from openset_core.data.folders import some
from openset_core.data.image_folders.duplicates import Duplicates, members
from openset_core.data.image_folders.scan import ImageFolderConfig, ScannedFile, ScannedFolder
from openset_core.data.image_list import LEFT_OUT
from openset_core.errors import DataError

TRAIN, VALIDATION, TEST = "train", "validation", "test"
FEW_IMAGES = 10
"""Images of a class below which a note names it."""

_PURPOSES = {TRAIN: "training", VALIDATION: "the threshold", TEST: "testing"}

Rows = npt.NDArray[np.int64]


@attrs.define
class SplitAssignment:
    """The split of each image, and why.

    Attributes:
        splits: by row, one of the splits of an image list.
        notes: by row, a remark on the image.
        findings: what a user should know of all of it, a sentence each.
    """

    splits: list[str]
    notes: list[str]
    findings: list[str] = attrs.field(factory=list)

    def leave_out(self, rows: Iterable[int], note: str) -> None:
        """Leave images out of every split."""
        for row in rows:
            self.splits[row], self.notes[row] = LEFT_OUT, note


def assign_splits(
    scan: ScannedFolder,
    files: Sequence[ScannedFile],
    duplicates: Duplicates,
    options: ImageFolderConfig,
) -> SplitAssignment:
    """Split images by class.

    Args:
        scan: the folder that holds them.
        files: the images that can be read, by row.
        duplicates: which of them show the same picture.
        options: shares and seed.

    Raises:
        DataError: a known class without an image to train on, or no image to test or to hold out.
    """
    assignment = SplitAssignment([""] * len(files), [""] * len(files))
    _assign_unknown(assignment, files, scan)
    _leave_out_contradictions(assignment, files, duplicates.exact, scan)
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
        copies = [own[group] for group in members(duplicates.resaved[own])]
        if scan.divided:
            copies = _keep_splits(assignment, files, copies)
        _split_class(assignment, name, copies, shares, options.split_seed)
    _note_copies(assignment, files, duplicates, scan)
    _check(assignment, files, scan)
    return assignment


def _assign_unknown(
    assignment: SplitAssignment, files: Sequence[ScannedFile], scan: ScannedFolder
) -> None:
    """Images of other classes are for testing, unless they lie among training images."""
    aside = []
    for row, file in enumerate(files):
        if file.label not in scan.known:
            assignment.splits[row] = TEST
            if scan.divided and file.split != TEST:
                aside.append(row)
    assignment.leave_out(aside, "not of a known class, and not for testing")
    if aside:
        names = sorted({files[row].label for row in aside})
        assignment.findings.append(
            f"{len(aside)} training images of classes that are not known were left out "
            f"({some(names)})"
        )


def _leave_out_contradictions(
    assignment: SplitAssignment, files: Sequence[ScannedFile], exact: Rows, scan: ScannedFolder
) -> None:
    """Leave out a picture in two known classes, and unknown images that show a known one."""
    contradictions = []
    for rows in members(exact):
        labels = {files[row].label for row in rows}
        known = labels & set(scan.known)
        if len(labels) < 2 or not known:
            continue
        wrong = [row for row in rows if len(known) > 1 or files[row].label not in known]
        assignment.leave_out(wrong, f"the same picture lies in {' and '.join(sorted(labels))}")
        contradictions.append(_equal(files, rows, scan.folder))
    if contradictions:
        assignment.findings.append(
            f"{len(contradictions)} {_plural(contradictions, 'picture lies', 'pictures lie')} in "
            "more than one class; files that contradict each other were left out: "
            f"{some(contradictions, separator='; ')}"
        )


def _keep_splits(
    assignment: SplitAssignment, files: Sequence[ScannedFile], copies: Sequence[Rows]
) -> list[Rows]:
    """Keep the splits of a divided folder; of copies in several, those for testing stay.

    Returns:
        The groups of copies that are for training.
    """
    training = []
    for rows in copies:
        present = {files[row].split for row in rows}
        strongest = next(split for split in (TEST, VALIDATION, TRAIN) if split in present)
        kept = [row for row in rows if files[row].split == strongest]
        gone = [row for row in rows if files[row].split != strongest]
        assignment.leave_out(gone, f"a copy of an image for {_PURPOSES[strongest]}")
        for row in kept:
            assignment.splits[row] = strongest
        if strongest == TRAIN:
            training.append(np.array(kept, np.int64))
    return training


def _split_class(
    assignment: SplitAssignment,
    name: str,
    copies: Sequence[Rows],
    shares: Mapping[str, float],
    seed: int,
) -> None:
    """Draw the images of a class for each split but training; at least one group trains."""
    total = sum(map(len, copies))
    # Its own stream for each class: another class more or less does not change the split.
    own = np.random.default_rng((seed, zlib.crc32(name.encode("utf-8", "surrogateescape"))))
    rest = [copies[number] for number in own.permutation(len(copies))]
    for split, share in shares.items():
        taken, rest = _take(rest, max(1, round(share * total)))
        for row in (row for rows in taken for row in rows):
            assignment.splits[row] = split
    for row in (row for rows in rest for row in rows):
        assignment.splits[row] = TRAIN


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


def _note_copies(
    assignment: SplitAssignment,
    files: Sequence[ScannedFile],
    duplicates: Duplicates,
    scan: ScannedFolder,
) -> None:
    """Say which images are copies of others."""
    copies = []
    for rows in members(duplicates.resaved):
        for row in rows[1:]:
            first = rows[0]
            assignment.notes[row] = assignment.notes[row] or f"a copy of {files[first].path}"
            if files[row].label == files[first].label:
                copies.append(_equal(files, (first, row), scan.folder))
    if copies:
        assignment.findings.append(
            f"{len(copies)} {_plural(copies, 'file is a copy', 'files are copies')} of another of "
            f"the class; copies were kept in one split: {some(copies, separator='; ')}"
        )
    labels = {files[row].label for row in duplicates.look_alikes} & set(scan.known)
    if labels:
        assignment.findings.append(
            f"many images of {some(sorted(labels))} look alike, and only those with the same "
            "pixels were kept in one split; the accuracy on test images may be too good"
        )


def _check(assignment: SplitAssignment, files: Sequence[ScannedFile], scan: ScannedFolder) -> None:
    """Refuse a split that cannot work, and name classes with few images."""
    known = scan.known
    count = Counter(
        (file.label, split) for file, split in zip(files, assignment.splits, strict=True)
    )
    totals = {name: sum(count[name, split] for split in _PURPOSES) for name in known}
    for name in known:
        if not count[name, TRAIN]:
            raise DataError(
                f"known class {name!r} has no image left to train on; `openset run` needs at least "
                "three different ones of a class"
            )
    for split in (TEST, VALIDATION):
        if not any(count[name, split] for name in known):
            raise DataError(
                f"no image of a known class is left for {_PURPOSES[split]}; the known classes have "
                f"{', '.join(f'{name} {total}' for name, total in totals.items())} images in "
                f"{scan.folder}; three different ones of a class are the least"
            )
    few = [f"{name} {total}" for name, total in totals.items() if total < FEW_IMAGES]
    if few:
        assignment.findings.append(
            f"few images, so that little can be learned and measured: {some(few, 20)}"
        )
    held_out = sum(count[name, VALIDATION] for name in known)
    if held_out < 20:
        assignment.findings.append(
            f"the threshold rests on {held_out} held-out images, and is coarse"
        )


def _plural(items: Sequence[object], one: str, many: str) -> str:
    return one if len(items) == 1 else many


def _equal(files: Sequence[ScannedFile], rows: Iterable[int], folder: Path) -> str:
    paths = (files[row].path for row in rows)
    return " = ".join(
        str(path.relative_to(folder) if path.is_relative_to(folder) else path) for path in paths
    )
