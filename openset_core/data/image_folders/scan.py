"""Which classes and image files a folder holds, and which of them a user calls known.

    photos/cat/*.jpg photos/dog/*.jpg photos/unknown/*.jpg
    photos/train/cat/*.jpg ... photos/test/cat/*.jpg ... photos/test/unknown/*.jpg

Files in folders below a class's folder belong to the class.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs
from attrs.validators import ge, gt, in_, lt, optional

from openset_core.data.folders import some
from openset_core.data.reading import SUFFIXES, is_image_name, visible_files
from openset_core.errors import DataError, did_you_mean

NOTE = "note: "
"""How a line on the images begins that a user should look at."""

_TRAIN, _TEST = "train", "test"
_VALIDATION = ("val", "valid", "validation")


@attrs.frozen(kw_only=True)
class ImageFolderConfig:
    """What a user says about their own images.

    Attributes:
        folder: holds a folder for each class, or folders `train` and `test` that do.
        known: the known classes, in label order; all that are not `unknown` when empty.
        image_size: height and width in pixels that the network sees; what suits the backbone or
            the images when None.
        test: share of each known class for testing, where the folder is not divided.
        validation: share of each known class held out of training for the threshold.
        split_seed: seed of both splits.
        fit: how an image that is not square becomes so, `"crop"` or `"stretch"`.
    """

    folder: Path = attrs.field(converter=Path)
    known: tuple[str, ...] = attrs.field(default=(), converter=tuple)
    image_size: int | None = attrs.field(default=None, validator=optional(ge(8)))
    test: float = attrs.field(default=0.2, validator=[gt(0.0), lt(1.0)])
    validation: float = attrs.field(default=0.15, validator=[gt(0.0), lt(1.0)])
    split_seed: int = attrs.field(default=0, validator=ge(0))
    fit: str = attrs.field(default="crop", validator=in_(("crop", "stretch")))

    def __attrs_post_init__(self) -> None:
        if self.test + self.validation >= 1.0:
            raise ValueError(
                f"test={self.test} and validation={self.validation} leave nothing to train on"
            )


@attrs.frozen(kw_only=True)
class ScannedFile:
    path: Path
    label: str
    split: str = ""  # "train", "validation" or "test" where the folder is divided


@attrs.frozen(kw_only=True)
class ScannedFolder:
    folder: Path
    known: tuple[str, ...]  # names of the known classes, in label order
    unknown: tuple[str, ...]  # names of the others, sorted
    files: tuple[ScannedFile, ...] = attrs.field(repr=False)  # by class and path
    divided: bool  # into training and test images
    ignored: tuple[str, ...]  # what was left out, a sentence each


def scan_folder(folder: Path, known: Sequence[str] = ()) -> ScannedFolder:
    """Look for classes and their image files, known ones in label order; no image is read."""
    wanted = _names(known)
    places, ignored = _split_folders(folder, wanted)
    files: list[ScannedFile] = []
    others: Counter[str] = Counter()
    empty: set[str] = set()
    for child, split in _class_folders(folder, places, ignored):
        count = len(files)
        for path in visible_files(child):
            if is_image_name(path):
                files.append(ScannedFile(path=path, label=child.name, split=split))
            else:
                others[path.suffix.lower() or "no ending"] += 1
        if len(files) == count:
            empty.add(child.name)
    files.sort(key=lambda file: (file.label, file.path))
    present = {file.label for file in files}
    ignored += _left_out(folder, places, others, sorted(empty - present))
    training = {file.label for file in files if file.split in ("", _TRAIN)}
    candidates = sorted(name for name in training if not _is_unknown(name))
    for name in wanted:
        if name not in training:
            raise _not_known(folder, name, candidates, present, empty)
    chosen = wanted or tuple(candidates)
    if len(chosen) < 2:
        raise _too_few(folder, wanted, candidates, not files)
    return ScannedFolder(
        folder=folder,
        known=chosen,
        unknown=tuple(sorted(present - set(chosen))),
        files=tuple(files),
        divided=bool(places[0][1]),
        ignored=tuple(ignored),
    )


def _names(known: Sequence[str]) -> tuple[str, ...]:
    """Class names as a user types them; a shell's completion ends folders with a slash."""
    names = tuple(name.strip().rstrip("/\\") for name in known)
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"the known classes name {twice[0]!r} twice")
    if "" in names:
        raise DataError("the known classes hold an empty name; write cat,dog,horse")
    reserved = [name for name in names if _is_unknown(name)]
    if reserved:
        raise DataError(
            f"{reserved[0]!r} cannot be a known class: the folder of that name holds images of "
            "none of them"
        )
    return names


def _is_unknown(name: str) -> bool:
    return name.lower() == "unknown"


def _folders(place: Path) -> dict[str, Path]:
    """The visible folders in a folder, sorted by name."""
    try:
        items = sorted(place.iterdir())
        return {item.name: item for item in items if item.is_dir() and item.name[0] != "."}
    except OSError as error:
        raise DataError(f"folder {place} cannot be read: {error.strerror}") from error


def _split_folders(folder: Path, wanted: Sequence[str]) -> tuple[list[tuple[Path, str]], list[str]]:
    """Folders that hold class folders, each with its split; and what is left out."""
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise DataError(f"{folder} {what}; name a folder that holds a folder for each class")
    by_name = {name.lower(): path for name, path in _folders(folder).items()}
    held_out = [by_name[name] for name in _VALIDATION if name in by_name]
    is_divided = _TRAIN in by_name and (_TEST in by_name or bool(held_out))
    if not is_divided or {_TRAIN, _TEST, *_VALIDATION} & {name.lower() for name in wanted}:
        return [(folder, "")], []
    places = [(by_name[_TRAIN], _TRAIN)]
    if _TEST in by_name:
        places += [(by_name[_TEST], _TEST), *((path, "validation") for path in held_out)]
    else:  # with two folders the other one is for testing, whatever it is called
        places += [(path, _TEST) for path in held_out]
    used = {path for path, _split in places}
    others = (path for name, path in by_name.items() if not _is_unknown(name))
    rest = some(path.name for path in others if path not in used)
    divided = " and ".join(sorted(path.name for path in used))
    ignored = f"{folder} is divided into {divided}; left out beside them: {rest}"
    return places, [ignored] if rest else []


def _class_folders(
    folder: Path, places: Sequence[tuple[Path, str]], ignored: list[str]
) -> Iterator[tuple[Path, str]]:
    """Each class's folder with its split, without links that lead back to what holds them."""
    real = folder.resolve()
    for place, split in places:
        for path in _folders(place).values():
            if path.is_symlink() and path.resolve() in (real, *real.parents):
                ignored.append(f"{path} is a link to a folder that holds it, and was left out")
            else:
                yield path, split
    if places[0][1]:  # unknown images beside the training and test folders are for testing
        yield from ((p, _TEST) for name, p in _folders(folder).items() if _is_unknown(name))


def _left_out(
    folder: Path, places: Sequence[tuple[Path, str]], others: Counter[str], empty: Sequence[str]
) -> list[str]:
    """Sentences on what is no image of a class."""
    sentences = []
    if empty:
        sentences.append(f"without image files, and so no class: {some(empty)}")
    if others:
        counted = ", ".join(f"{count} {ending}" for ending, count in others.most_common(5))
        sentences.append(f"no images by their endings, and left out: {counted}")
    loose = [path for place, _split in places for path in _images_in(place)]
    if loose:
        names = some(str(path.relative_to(folder)) for path in loose)
        sentences.append(f"image files in no class's folder, and left out: {names}")
    return sentences


def _images_in(place: Path) -> list[Path]:
    return sorted(p for p in place.iterdir() if is_image_name(p) and p.is_file())


def _not_known(
    folder: Path, name: str, candidates: Sequence[str], present: set[str], empty: set[str]
) -> DataError:
    if name in present:
        return DataError(f"known class {name!r} has test images in {folder}, none for training")
    if name in empty:
        return DataError(f"known class {name!r} has no images: {folder / name} holds none")
    return DataError(
        f"{folder} has no class folder {name!r}{did_you_mean(name, candidates)}; it has "
        f"{some(candidates, 20) or 'none with images'}"
    )


def _too_few(
    folder: Path, wanted: Sequence[str], candidates: Sequence[str], empty: bool
) -> DataError:
    if empty and _images_in(folder):
        return DataError(
            f"{folder} holds images but no class folders; put the images of each class in a "
            f"folder of its own, as {folder / 'cat'} and {folder / 'dog'}"
        )
    if empty:
        endings = " ".join(sorted(SUFFIXES))
        return DataError(f"{folder} holds no images in class folders; images end in {endings}")
    chosen = wanted or candidates
    deeper = [name for name in chosen if not wanted and len(_folders(folder / name)) > 1]
    advice = f"; if its folders are the classes, name {folder / deeper[0]}" if deeper else ""
    return DataError(
        f"at least two known classes are needed, to tell one from another; of the classes in "
        f"{folder} ({some(candidates, 20) or 'none but unknown'}) "
        f"{f'only {chosen[0]!r}' if chosen else 'none'} is known{advice}"
    )
