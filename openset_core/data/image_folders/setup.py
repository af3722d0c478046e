"""From a folder of images to a run folder that holds them: read, compared, split, written down.

A run on own images keeps in its folder

    images/images.csv     every file with its class and its side of the split
    images/summary.txt    what was found
    images/request.toml   what was asked for
    images/protocol.toml  the run's protocol
    images/prepared/      the images in the size that the network sees

so that it can be repeated and gone on with when the original folder has changed or is gone.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from openset_core.data.cache import PreparedImages, prepared_folder
from openset_core.data.conversion import Progress, encoding_for, write_prepared
from openset_core.data.image_folders.duplicates import find_duplicates
from openset_core.data.image_folders.image_hash import HashedImageFiles
from openset_core.data.image_folders.protocol import (
    LIST_DATASET,
    LIST_NAME,
    own_protocol,
    statistics,
    write_protocol,
)
from openset_core.data.image_folders.scan import (
    NOTE,
    FoundFile,
    FoundImages,
    ImageFolderConfig,
    find_images,
    some,
)
from openset_core.data.image_folders.splitting import TEST, TRAIN, VALIDATION, Division, divide
from openset_core.data.image_list import UNREADABLE, ListedImage, write_list
from openset_core.data.images import DataRequest
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
from openset_core.files import os_errors_as, write_text
from openset_core.run_folder import RunFolder, refuse_foreign
from openset_core.specs import load_factory

IMAGES = "images"
PROTOCOL_NAME = "protocol.toml"
REQUEST_NAME = "request.toml"
SUMMARY_NAME = "summary.txt"

SMALL, USUAL = 32, 64
"""Sides that images are brought to where neither user nor backbone says one."""

SMALL_UP_TO = 48
"""Shorter side of the images, in the middle of them all, up to which `SMALL` will do."""

_LOOKED_AT = 500

Resolve = Callable[[Protocol], Experiment]


@attrs.frozen(kw_only=True)
class Request:
    """What `request.toml` says: what decides which images a run has, and in which form.

    Attributes:
        folder: the original folder, absolute.
        known: known classes in label order.
        image_size: height and width in pixels.
        fit: how images become square.
        test: share for testing.
        validation: share held out.
        split_seed: seed of the split.
        files: hash of names and lengths of the image files.
    """

    folder: str
    known: tuple[str, ...]
    image_size: int
    fit: str
    test: float
    validation: float
    split_seed: int
    files: str


def _silent(items: Any, _total: int) -> Any:
    return items


def _tell_nobody(_line: str) -> None:
    pass


def start(
    wish: ImageFolderConfig,
    resolve: Resolve,
    folder: Path | None,
    runs: Path,
    *,
    progress: Progress = _silent,
    tell: Callable[[str], None] = _tell_nobody,
) -> tuple[Experiment, Path]:
    """Prepare a run on own images; what an earlier call prepared is used again.

    Args:
        wish: what the user says about the images.
        resolve: makes an experiment of a protocol; mistakes in it are found before images are read.
        folder: the run folder; named after the experiment when None.
        runs: where run folders lie.
        progress: wraps the reading of images, with their number.
        tell: is told what was found, line by line.

    Returns:
        The experiment and its run folder.

    Raises:
        OpensetError: of the kind that fits; nothing is left behind.
    """
    found = find_images(wish.folder, wish.known)
    draft = resolve(_draft(wish, found))
    size = wish.image_size or _size(draft, found)
    changes = {**draft.changes, "images": _changed(wish)}
    folder = folder or runs / attrs.evolve(draft, changes=changes).default_folder_name()
    request = _request(wish, found, size)
    images = folder / IMAGES
    if not _is_current(images, request, folder):
        if not RunFolder(folder).experiment.exists():
            refuse_foreign(folder, own=images / PROTOCOL_NAME)
        with _whole(images) as temporary:
            lines = _fill(temporary, found, wish, request, progress)
            write_text(temporary / SUMMARY_NAME, "".join(f"{line}\n" for line in lines))
    for line in (images / SUMMARY_NAME).read_text(encoding="utf-8").splitlines():
        tell(line)
    experiment = resolve(load_protocol(str(images / PROTOCOL_NAME)))
    return attrs.evolve(experiment, changes=changes), folder


def _draft(wish: ImageFolderConfig, found: FoundImages) -> Protocol:
    """The protocol as far as it is known before an image was read."""
    content = _content(wish, found, ImageOptions(size=wish.image_size or USUAL), len(found.files))
    return Protocol(name=content.name, path=Path(PROTOCOL_NAME), content=content, own=True)


def _content(
    wish: ImageFolderConfig, found: FoundImages, image: ImageOptions, training: int
) -> ProtocolFile:
    return own_protocol(
        KnownSection(
            dataset=LIST_DATASET,
            trials=(found.known,),
            split=LIST_NAME,
            split_seed=wish.split_seed,
        ),
        image,
        name=_name(wish.folder),
        summary=f"own images: {', '.join(found.known)}",
        source=f"folder {_absolute(wish.folder)}",
        root=".",
        unknown=bool(found.unknown),
        validation=wish.validation,
        images=training,
    )


def _name(folder: Path) -> str:
    return _absolute(folder).name or "images"


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))


def _changed(wish: ImageFolderConfig) -> dict[str, Any]:
    """What differs from the defaults, for the run's name."""
    usual = config.unstructure(ImageFolderConfig(folder=wish.folder))
    return {
        key: value for key, value in config.unstructure(wish).items() if value != usual.get(key)
    }


def _size(draft: Experiment, found: FoundImages) -> int:
    """The side length that suits the backbone, else the images."""
    backbone = draft.selection.backbone
    if backbone.spec.image_size is not None:
        own = load_factory(backbone.spec.image_size)(draft.options[backbone.name])
        if own is not None:
            return int(own)
    some_files = found.files[:: len(found.files) // _LOOKED_AT + 1]
    sides = sorted(filter(None, (_shorter_side(file.path) for file in some_files)))
    return SMALL if sides and sides[len(sides) // 2] <= SMALL_UP_TO else USUAL


def _shorter_side(path: Path) -> int:
    """Of an image, from its first bytes; 0 where they do not tell."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if path.is_file():  # opening a pipe would wait for who writes to it
                with Image.open(path) as image:
                    return min(image.size)
    except Exception:  # whatever is wrong with the file is said when it is read
        pass
    return 0


def _request(wish: ImageFolderConfig, found: FoundImages, size: int) -> Request:
    digest = hashlib.sha256()
    for file in found.files:
        with contextlib.suppress(OSError):
            name = os.fsencode(file.path.relative_to(found.folder))
            digest.update(name + f" {file.path.stat().st_size}\n".encode())
    return Request(
        folder=str(_absolute(wish.folder)),
        known=found.known,
        image_size=size,
        fit=wish.fit,
        test=wish.test,
        validation=wish.validation,
        split_seed=wish.split_seed,
        files=digest.hexdigest()[:16],
    )


# --- what an earlier call left ----------------------------------------------------------------


def _is_current(images: Path, request: Request, folder: Path) -> bool:
    """Whether the run folder holds what is asked for.

    Raises:
        RunFolderError: it holds other images, and something was made from them.
    """
    if not images.exists():
        return False
    values = config.read_toml(images / REQUEST_NAME, "image request", RunFolderError)
    old = config.structure(values, Request, str(images / REQUEST_NAME), RunFolderError)
    differing = [
        field.name.replace("_", "-")
        for field in attrs.fields(Request)
        if field.name != "folder" and getattr(old, field.name) != getattr(request, field.name)
    ]
    if not differing:
        return True
    run = RunFolder(folder)
    if not any(item.exists() for item in (run.metrics, run.checkpoints, run.model)):
        return False
    if differing == ["files"]:
        raise RunFolderError(
            f"the images in {request.folder} changed since {folder} was begun; go on with the ones "
            f"it has by `openset run {folder}`, or choose another folder with --out"
        )
    raise RunFolderError(
        f"{folder} holds a run on other images (different: {', '.join(differing)}); choose another "
        "folder with --out"
    )


@contextlib.contextmanager
def _whole(images: Path) -> Iterator[Path]:
    """Fill a folder beside its place, then rename it."""
    temporary = images.with_name(f".{images.name}.{os.getpid()}.partial")
    new = not images.parent.exists()
    try:
        with os_errors_as(images.parent):
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
        yield temporary
        with os_errors_as(images.parent):
            shutil.rmtree(images, ignore_errors=True)
            os.rename(temporary, images)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        if new:
            with contextlib.suppress(OSError):
                images.parent.rmdir()
        raise


# --- reading and writing ----------------------------------------------------------------------


def _fill(
    place: Path, found: FoundImages, wish: ImageFolderConfig, request: Request, progress: Progress
) -> list[str]:
    """Read every image, split them and write everything down.

    Returns:
        What a user should know of it, line by line.
    """
    prepared, readable, division, unreadable = _read(place, found, wish, request, progress)
    lines = [
        ListedImage(file=_absolute(file.path), label=file.label, part=part, note=note)
        for file, part, note in zip(readable, division.parts, division.notes, strict=True)
    ]
    lines += [
        ListedImage(file=_absolute(file.path), label=file.label, part=UNREADABLE, note=reason)
        for file, reason in unreadable
    ]
    write_list(place / LIST_NAME, lines)
    training = np.flatnonzero([part == TRAIN for part in division.parts])
    mean, std = statistics(prepared, training)
    image = ImageOptions(size=request.image_size, mean=mean, std=std, fit=request.fit)
    unknown = {
        file.label for file, part in zip(readable, division.parts, strict=True) if part == TEST
    } - set(found.known)
    tested = attrs.evolve(found, unknown=tuple(sorted(unknown)))
    content = _content(wish, tested, image, len(training))
    write_protocol(content, place / PROTOCOL_NAME)
    import tomli_w

    write_text(place / REQUEST_NAME, tomli_w.dumps(config.unstructure(request)))
    return _summary(found, wish, request, readable, division, unreadable)


def _read(
    place: Path, found: FoundImages, wish: ImageFolderConfig, request: Request, progress: Progress
) -> tuple[PreparedImages, list[FoundFile], Division, list[tuple[FoundFile, str]]]:
    names = tuple(sorted({file.label for file in found.files}))
    numbers = {name: number for number, name in enumerate(names)}
    source = HashedImageFiles(
        files=tuple(file.path for file in found.files),
        labels=np.array([numbers[file.label] for file in found.files], np.int64),
        classes=names,
        size=request.image_size,
        fit=request.fit,
    )
    target = prepared_folder(place, LIST_DATASET, "all", request.image_size, fit=request.fit)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # libraries warn of oddities of single files
        prepared = write_prepared(
            source,
            target,
            LIST_DATASET,
            DataRequest(part="all", root=place, size=request.image_size, fit=request.fit),
            encoding=encoding_for(request.image_size, lossless=True),
            skip_unreadable=True,
            progress=progress,
        )
    rows = np.load(target / "index.npy", allow_pickle=False).tolist()
    readable = [found.files[row] for row in rows]
    bad = sorted(set(range(len(found.files))) - set(rows))
    unreadable = list(zip((found.files[row] for row in bad), prepared.meta.skipped, strict=True))
    lost = set(found.known) - {file.label for file in readable}
    if lost:
        raise DataError(
            f"no image of known class {min(lost)!r} can be read; the first: "
            f"{next(reason for file, reason in unreadable if file.label == min(lost))}"
        )
    copies = find_duplicates([source.looks[row] for row in rows])
    division = divide(readable, copies, found.known, wish, divided=found.divided)
    return prepared, readable, division, unreadable


def _summary(
    found: FoundImages,
    wish: ImageFolderConfig,
    request: Request,
    readable: Sequence[FoundFile],
    division: Division,
    unreadable: Sequence[tuple[FoundFile, str]],
) -> list[str]:
    count: Counter[str] = Counter()
    for file, part in zip(readable, division.parts, strict=True):
        count[part if file.label in found.known or part != TEST else "unknown"] += 1
    others = some(found.unknown, 10) or "none"
    how = "as the folder is divided" if found.divided else f"split by seed {wish.split_seed}"
    lines = [
        f"images: {len(readable):,} in {wish.folder}; known: {some(found.known, 10)}; unknown: "
        f"{others}",
        f"images: {count[TRAIN]:,} for training, {count[VALIDATION]:,} held out for the threshold, "
        f"{count[TEST]:,} known and {count['unknown']:,} unknown for testing, {how}; "
        f"{request.image_size}x{request.image_size} pixels",
    ]
    if not count["unknown"]:
        lines.append(f"{NOTE}no unknown images, so only closed-set figures come out")
    if unreadable:
        named = some([_shortened(reason, wish) for _file, reason in unreadable], separator="; ")
        lines.append(f"{NOTE}{_files(len(unreadable))} cannot be read, and left out: {named}")
    lines += [f"{NOTE}{sentence}" for sentence in (*found.ignored, *division.findings)]
    return [_printable(line) for line in lines]


def _shortened(reason: str, wish: ImageFolderConfig) -> str:
    return reason.replace(f"{wish.folder}{os.sep}", "", 1)


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"


def _printable(text: str) -> str:
    """A text without control characters, which a file's name may hold."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
