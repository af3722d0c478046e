"""From a folder of images to a run folder that holds them: read, compared, split, written down.

    images/images.csv     every file with its class and its split
    images/summary.txt    what a user should know of the images
    images/request.toml   what was asked for
    images/protocol.toml  the run's protocol
    images/prepared/      the images in the size that the network sees

With these, a run can be repeated and continued when the original folder has changed or is gone.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs
import numpy as np
import tomli_w

from openset_core.data.cache import PreparedImages, SplitSource
from openset_core.data.conversion import write_prepared
from openset_core.data.folders import some
from openset_core.data.image_folders.duplicates import HashedImageFiles, find_duplicates
from openset_core.data.image_folders.protocol import (
    LIST_DATASET,
    LIST_NAME,
    own_protocol,
    statistics,
    write_protocol,
)
from openset_core.data.image_folders.scan import (
    NOTE,
    ImageFolderConfig,
    ScannedFolder,
    scan_folder,
)
from openset_core.data.image_folders.splitting import (
    TEST,
    TRAIN,
    VALIDATION,
    SplitAssignment,
    assign_splits,
)
from openset_core.data.image_format import ImageFormat
from openset_core.data.image_list import UNREADABLE, ListedImage, write_list
from openset_core.data.prefetch import Progress, no_progress
from openset_core.errors import DataError, RunFolderError
from openset_core.experiment import config
from openset_core.experiment.experiment import Experiment
from openset_core.experiment.protocol import (
    ImageOptions,
    KnownSection,
    Protocol,
    ProtocolFile,
    load_protocol,
)
from openset_core.files import atomic_folder, os_errors_as, write_text
from openset_core.run_folder import RunFolder, refuse_foreign
from openset_core.specs import load_factory

IMAGES = "images"
PROTOCOL_NAME = "protocol.toml"
REQUEST_NAME = "request.toml"
SUMMARY_NAME = "summary.txt"

SMALL, USUAL = 32, 64
"""Sides that images are brought to where neither user nor backbone says one."""

SMALL_UP_TO = 48  # median of the images' shorter sides up to which `SMALL` is chosen
_MEASURED = 500  # images at most

Resolve = Callable[[Protocol], Experiment]


@attrs.frozen(kw_only=True)
class ImageRequest(ImageFolderConfig):
    """What `request.toml` says: what decides which images a run has, and in which form.

    As `ImageFolderConfig`, with an absolute folder, and with classes and size as they were chosen.
    """

    image_size: int
    files: str  # hash of names and lengths of the image files


def set_up(
    options: ImageFolderConfig,
    resolve: Resolve,
    folder: Path | None,
    runs: Path,
    *,
    progress: Progress = no_progress,
    notify: Callable[[str], None] = lambda _line: None,
) -> tuple[Experiment, Path]:
    """Set up a run on own images in `folder`, or in one below `runs` named after the experiment.

    What an earlier call prepared is used again. `resolve` is called once before any image is read,
    so that mistakes show early. `notify` gets each line that the user should read.
    """
    scan = scan_folder(options.folder, options.known)
    # As far as the protocol is known before an image was read.
    image = ImageOptions(size=options.image_size or USUAL)
    content = _protocol(options, scan, image, len(scan.files))
    protocol = Protocol(name=content.name, path=Path(PROTOCOL_NAME), content=content, own=True)
    draft = resolve(protocol)
    usual = config.unstructure(ImageFolderConfig(folder=options.folder))
    chosen = config.unstructure(options)
    changed = {key: value for key, value in chosen.items() if value != usual.get(key)}
    changes = {**draft.changes, "images": changed}
    folder = folder or runs / attrs.evolve(draft, changes=changes).default_folder_name()
    request = _request(options, scan, draft)
    images = folder / IMAGES
    if not _is_current(images, request, folder):
        if not RunFolder(folder).experiment.exists():
            refuse_foreign(folder, own=images / PROTOCOL_NAME)
        with os_errors_as(folder), atomic_folder(images) as temporary:
            lines = _fill(temporary, scan, request, progress)
            write_text(temporary / SUMMARY_NAME, "".join(f"{line}\n" for line in lines))
    for line in (images / SUMMARY_NAME).read_text(encoding="utf-8").splitlines():
        notify(line)
    experiment = resolve(load_protocol(str(images / PROTOCOL_NAME)))
    return attrs.evolve(experiment, changes=changes), folder


def _protocol(
    options: ImageFolderConfig, scan: ScannedFolder, image: ImageOptions, training: int
) -> ProtocolFile:
    known = KnownSection(
        dataset=LIST_DATASET, trials=(scan.known,), split=LIST_NAME, split_seed=options.split_seed
    )
    folder = _absolute(options.folder)
    return own_protocol(
        known,
        image,
        name=folder.name or "images",
        summary=f"own images: {', '.join(scan.known)}",
        source=f"folder {folder}",
        root=".",
        unknown=bool(scan.unknown),
        validation=options.validation,
        images=training,
    )


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))


def _choose_size(draft: Experiment, scan: ScannedFolder) -> int:
    """The side length that suits the backbone, else the images."""
    backbone = draft.selection.backbone
    if backbone.spec.image_size is not None:
        own = load_factory(backbone.spec.image_size)(draft.options[backbone.name])
        if own is not None:
            return int(own)
    sample = scan.files[:: len(scan.files) // _MEASURED + 1]
    sides = sorted(filter(None, (_shorter_side(file.path) for file in sample)))
    return SMALL if sides and sides[len(sides) // 2] <= SMALL_UP_TO else USUAL


def _shorter_side(path: Path) -> int:
    """Of an image, from its first bytes; 0 where they do not tell."""
    from PIL import Image

    # What is wrong with the file is said when it is read.
    with warnings.catch_warnings(), contextlib.suppress(Exception):
        warnings.simplefilter("ignore")
        if path.is_file():  # opening a pipe would wait for a writer
            with Image.open(path) as image:
                return min(image.size)
    return 0


def _request(options: ImageFolderConfig, scan: ScannedFolder, draft: Experiment) -> ImageRequest:
    digest = hashlib.sha256()
    for file in scan.files:
        with contextlib.suppress(OSError):
            name = os.fsencode(file.path.relative_to(scan.folder))
            digest.update(name + f" {file.path.stat().st_size}\n".encode())
    values = attrs.asdict(options, recurse=False) | {
        "folder": _absolute(options.folder),
        "known": scan.known,
        "image_size": options.image_size or _choose_size(draft, scan),
    }
    return ImageRequest(**values, files=digest.hexdigest()[:16])


def _is_current(images: Path, request: ImageRequest, folder: Path) -> bool:
    """Whether the run folder holds what is asked for; an error where it holds a run on others."""
    if not images.exists():
        return False
    values = config.read_toml(images / REQUEST_NAME, "image request", RunFolderError)
    old = config.structure(values, ImageRequest, str(images / REQUEST_NAME), RunFolderError)
    differing = [
        field.name.replace("_", "-")
        for field in attrs.fields(ImageRequest)
        if field.name != "folder" and getattr(old, field.name) != getattr(request, field.name)
    ]
    if not differing:
        return True
    run = RunFolder(folder)
    if not any(item.exists() for item in (run.metrics, run.checkpoints, run.model)):
        return False
    if differing == ["files"]:
        raise RunFolderError(
            f"the images in {request.folder} changed since {folder} was begun; continue with the "
            f"ones it has by `openset run {folder}`, or choose another folder with --out"
        )
    raise RunFolderError(
        f"{folder} holds a run on other images (different: {', '.join(differing)}); choose another "
        "folder with --out"
    )


def _fill(place: Path, scan: ScannedFolder, request: ImageRequest, progress: Progress) -> list[str]:
    """Read every image, split them, write everything down; lines that a user should read."""
    images, hashed = _read(place, scan, request, progress)
    rows = np.load(images.folder / "index.npy", allow_pickle=False).tolist()
    files = [scan.files[row] for row in rows]
    skipped = sorted(set(range(len(scan.files))) - set(rows))
    unreadable = list(zip((scan.files[row] for row in skipped), images.meta.skipped, strict=True))
    for name in sorted(set(scan.known) - {file.label for file in files}):
        reason = next(reason for file, reason in unreadable if file.label == name)
        raise DataError(f"no image of known class {name!r} can be read; the first: {reason}")
    duplicates = find_duplicates([hashed.hashes[row] for row in rows])
    assignment = assign_splits(scan, files, duplicates, request)
    splits = assignment.splits
    listed = [
        *zip(files, splits, assignment.notes, strict=True),
        *((file, UNREADABLE, reason) for file, reason in unreadable),
    ]
    write_list(
        place / LIST_NAME,
        (
            ListedImage(file=_absolute(file.path), label=file.label, part=split, note=note)
            for file, split, note in listed
        ),
    )
    training = np.flatnonzero([split == TRAIN for split in splits])
    mean, std = statistics(images, training)
    image = ImageOptions(size=request.image_size, mean=mean, std=std, fit=request.fit)
    tested = {file.label for file, split in zip(files, splits, strict=True) if split == TEST}
    unknown = tuple(sorted(tested - set(scan.known)))
    content = _protocol(request, attrs.evolve(scan, unknown=unknown), image, len(training))
    write_protocol(content, place / PROTOCOL_NAME)
    write_text(place / REQUEST_NAME, tomli_w.dumps(config.unstructure(request)))
    return _summary(assignment, request, [reason for _file, reason in unreadable])


def _read(
    place: Path, scan: ScannedFolder, request: ImageRequest, progress: Progress
) -> tuple[PreparedImages, HashedImageFiles]:
    names, labels = np.unique([file.label for file in scan.files], return_inverse=True)
    hashed = HashedImageFiles(
        files=tuple(file.path for file in scan.files),
        labels=labels,
        classes=tuple(names.tolist()),
        size=request.image_size,
        fit=request.fit,
    )
    image_format = ImageFormat(size=request.image_size, fit=request.fit)
    source = SplitSource(dataset=LIST_DATASET, split="all", root=place, format=image_format)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # libraries warn of oddities of single files
        return write_prepared(hashed, source, skip_unreadable=True, progress=progress), hashed


def _summary(
    assignment: SplitAssignment, request: ImageRequest, unreadable: Sequence[str]
) -> list[str]:
    scan, files = assignment.scan, assignment.files
    count: Counter[str] = Counter()
    for file, split in zip(files, assignment.splits, strict=True):
        count[split if file.label in scan.known or split != TEST else "unknown"] += 1
    how = "as the folder is divided" if scan.divided else f"split by seed {request.split_seed}"
    lines = [
        f"images: {len(files):,} in {scan.folder}; known: {some(scan.known, 10)}; unknown: "
        f"{some(scan.unknown, 10) or 'none'}",
        f"images: {count[TRAIN]:,} for training, {count[VALIDATION]:,} held out for the threshold, "
        f"{count[TEST]:,} known and {count['unknown']:,} unknown for testing, {how}; "
        f"{request.image_size}x{request.image_size} pixels",
    ]
    if not count["unknown"]:
        lines.append(f"{NOTE}no unknown images, so only closed-set figures come out")
    if unreadable:
        named = [reason.replace(f"{scan.folder}{os.sep}", "", 1) for reason in unreadable]
        number = "1 file" if len(named) == 1 else f"{len(named)} files"
        listed = some(named, separator="; ")
        lines.append(f"{NOTE}{number} cannot be read, and left out: {listed}")
    lines += [f"{NOTE}{text}" for text in (*scan.ignored, *assignment.findings)]
    # A file's name may hold control characters.
    return ["".join(c if c.isprintable() else repr(c)[1:-1] for c in line) for line in lines]
