"""Data sets that come as folders of image files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from openset_core import DataRequest, ImageSet, NoOptions
from openset_core.data.folders import ImageFiles, class_folders, read_class_folders, read_images
from openset_core.data.image_list import class_names, read_list
from openset_core.data.images import missing_data
from openset_core.data.reading import image_files
from openset_core.errors import AbsentSplitError, DataError
from openset_plugins.datasets import (
    DomainNetOptions,
    ImageFolderOptions,
    ImageListOptions,
    OmniglotOptions,
    SSBOptions,
)
from openset_plugins.datasets.torchvision_sets import fetch


def _present(name: str, folder: Path) -> Path:
    if not folder.is_dir():
        raise missing_data(name, folder, can_download=False)
    return folder


# --- one folder a class -----------------------------------------------------------------------


def _split(name: str, folder: Path, split: str, request: DataRequest) -> ImageSet | ImageFiles:
    """A split of a set whose training folder says which classes there are, and their order."""
    place, training = _present(name, folder / split), folder / "train"
    if not training.is_dir():
        return read_class_folders(place, request)
    names = sorted(item.name for item in training.iterdir() if item.is_dir())
    return read_class_folders(place, request, [name for name in names if name[0] != "."])


def load_imagenet(_config: NoOptions, request: DataRequest) -> ImageSet | ImageFiles:
    """ImageNet-1K from `<root>/imagenet/{train,val}/<wnid>/`, the labels in the wnids' order."""
    side = "train" if request.part == "train" else "val"
    return _split("imagenet", request.root / "imagenet", side, request)


def load_imagenet_o(_config: NoOptions, request: DataRequest) -> ImageSet | ImageFiles:
    """ImageNet-O from `<root>/imagenet-o/<wnid>/`."""
    return read_class_folders(_present("imagenet-o", request.root / "imagenet-o"), request)


def load_air300(_config: NoOptions, request: DataRequest) -> ImageSet | ImageFiles:
    """Air-300 from `<root>/air300/{train,test}/<class>/`."""
    return _split("air300", request.root / "air300", request.part, request)


def load_ssb(config: SSBOptions, request: DataRequest) -> ImageSet | ImageFiles:
    """Fine-grained classes of one's own from `<root>/<folder>/{train,test,easy,hard}/<class>/`.

    `easy` and `hard` hold unknown classes by how little or much they share with a known one.
    """
    folder = request.root / config.folder
    if request.part in ("train", "test"):
        return _split("ssb", folder, request.part, request)
    return read_class_folders(_present("ssb", folder / request.part), request)


def load_image_folder(config: ImageFolderOptions, request: DataRequest) -> ImageSet | ImageFiles:
    """Folders of classes, from `<path>/<class>/` or `<path>/{train,test}/<class>/`.

    `path` is below the root, or absolute. `val` stands for `test` where that is missing. The first
    layout is the split `all`, the second the splits `train` and `test`.
    """
    folder = _present("image-folder", request.root / config.path)
    divided = (folder / "train").is_dir()
    if request.part == "all":
        if divided and any((folder / side).is_dir() for side in ("test", "val")):
            raise AbsentSplitError(
                f"data set image-folder: {folder} is divided into training and test images; ask "
                "for its splits train and test (in a protocol, leave out test_fraction)"
            )
        return read_class_folders(folder, request)
    if not divided:
        raise AbsentSplitError(
            f"data set image-folder: {folder} has no folder train; ask for its split all (in a "
            "protocol, give test_fraction)"
        )
    side = "val" if request.part == "test" and not (folder / "test").is_dir() else request.part
    return _split("image-folder", folder, side, request)


def load_image_list(config: ImageListOptions, request: DataRequest) -> ImageSet | ImageFiles:
    """Images that the CSV file `<list>` names, with their classes in alphabetical order."""
    path = request.root / config.list
    if not path.exists():
        raise missing_data("image-list", path, can_download=False)
    images = read_list(path)
    names = class_names(images)
    numbers = {name: number for number, name in enumerate(names)}
    files = [image.file for image in images]
    return read_images(files, [numbers[image.label] for image in images], names, request)


# --- TinyImageNet -----------------------------------------------------------------------------


def load_tiny_imagenet(_config: NoOptions, request: DataRequest) -> ImageSet | ImageFiles:
    """TinyImageNet from `<root>/tiny-imagenet-200` as it was downloaded.

    The validation images lie in one folder there, their classes in `val_annotations.txt`;
    a `val` already sorted into class folders is read as well. It serves as the test split.
    """
    folder = _present("tiny-imagenet", request.root / "tiny-imagenet-200")
    training = class_folders(folder / "train")
    names = tuple(training)  # sorted: the published class numbers count in this order
    numbers = {name: number for number, name in enumerate(names)}
    if request.part == "train":
        files = [file for members in training.values() for file in members]
        labels = [numbers[name] for name, members in training.items() for _file in members]
        return read_images(files, labels, names, request)
    annotations = folder / "val" / "val_annotations.txt"
    if not (folder / "val" / "images").is_dir():
        return read_class_folders(folder / "val", request, names)
    try:
        lines = [line.split("\t") for line in annotations.read_text("utf-8").splitlines() if line]
    except OSError as error:
        raise DataError(
            f"data set tiny-imagenet: {annotations} cannot be read ({error.strerror}); it says "
            "which class each validation image has"
        ) from error
    strange = [line for line in lines if len(line) < 2 or line[1] not in numbers]
    if strange:
        raise DataError(
            f"data set tiny-imagenet: {annotations} names no training class in "
            f"{' '.join(strange[0])!r}"
        )
    files = [folder / "val" / "images" / line[0] for line in lines]
    return read_images(files, [numbers[line[1]] for line in lines], names, request)


# --- flat folders -----------------------------------------------------------------------------


def _flat(
    name: str, folder: str, fit: str | None = None
) -> Callable[[Any, DataRequest], ImageSet | ImageFiles]:
    def load(_config: NoOptions, request: DataRequest) -> ImageSet | ImageFiles:
        place = _present(name, request.root / folder)
        files = list(image_files(place))
        if not files:
            raise DataError(f"data set {name}: {place} holds no images")
        return read_images(files, [0] * len(files), (name,), request, default_size=32, fit=fit)

    load.__doc__ = f"All images below `<root>/{folder}`, one class."
    return load


# Crops keep the scale of the photographs: where a file is larger than wanted, its middle counts.
load_imagenet_crop = _flat("imagenet-crop", "Imagenet", fit="cut")
load_imagenet_resize = _flat("imagenet-resize", "Imagenet_resize")
load_lsun_crop = _flat("lsun-crop", "LSUN", fit="cut")
load_lsun_resize = _flat("lsun-resize", "LSUN_resize")


# --- DomainNet --------------------------------------------------------------------------------


def load_domainnet(config: DomainNetOptions, request: DataRequest) -> ImageSet | ImageFiles:
    """A domain of DomainNet, by its published lists `<root>/domainnet/<domain>_{train,test}.txt`.

    Each line names a file below `<root>/domainnet` and its class number.
    """
    root = request.root / "domainnet"
    listing = root / f"{config.domain}_{request.part}.txt"
    if not (root / config.domain).is_dir():
        raise missing_data(f"domainnet ({config.domain})", root, can_download=False)
    if not listing.exists():
        raise DataError(
            f"data set domainnet: {listing} is missing, which says what belongs to the split "
            f"{request.part} and which class each image has; get it where {config.domain}.zip is "
            "from, ai.bu.edu/M3SDA"
        )
    files, labels, names = [], [], {}
    for number, line in enumerate(listing.read_text(encoding="utf-8").splitlines(), 1):
        path, _space, label = line.strip().rpartition(" ")
        if not path:
            continue
        if not label.isdigit():
            raise DataError(f"{listing}, line {number}: {line!r} is not a path and a class number")
        files.append(root / path)
        labels.append(int(label))
        names[int(label)] = Path(path).parent.name
    if not files:
        raise DataError(f"{listing} lists no images")
    classes = [names.get(number, f"class {number}") for number in range(max(names) + 1)]
    return read_images(files, labels, classes, request)


# --- Omniglot ---------------------------------------------------------------------------------

_OMNIGLOT = {"train": "images_background", "test": "images_evaluation"}


def load_omniglot(config: OmniglotOptions, request: DataRequest) -> ImageSet | ImageFiles:
    """Omniglot's characters from `<root>/omniglot-py/images_{background,evaluation}`.

    Training: the background alphabets; test: the evaluation alphabets, which are other classes.
    """
    from torchvision.datasets import Omniglot

    name = _OMNIGLOT[request.part]
    place = request.root / "omniglot-py" / name
    if not place.is_dir():
        fetch(
            "omniglot",
            request,
            place,
            url=f"{Omniglot.download_url_prefix}/{name}.zip",
            filename=f"{name}.zip",
            md5=Omniglot.zips_md5[name],
            extract_root=str(place.parent),
        )
    characters: dict[str, list[Path]] = {}
    for file in image_files(place):
        alphabet, character = file.relative_to(place).parts[:2]
        characters.setdefault(f"{alphabet}/{character}", []).append(file)
    if not characters:
        raise DataError(f"data set omniglot: {place} holds no images")
    files = [file for members in characters.values() for file in members]
    labels = [number for number, members in enumerate(characters.values()) for _file in members]
    change = np.invert if config.invert else None
    return read_images(files, labels, tuple(characters), request, change=change)
