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
    side = "train" if request.part == "train" else "val"
    return _split("imagenet", request.root / "imagenet", side, request)


def load_imagenet_o(_config: NoOptions, request: DataRequest) -> ImageSet | ImageFiles:
    return read_class_folders(_present("imagenet-o", request.root / "imagenet-o"), request)


def load_air300(_config: NoOptions, request: DataRequest) -> ImageSet | ImageFiles:
    return _split("air300", request.root / "air300", request.part, request)


def load_ssb(config: SSBOptions, request: DataRequest) -> ImageSet | ImageFiles:
    """The splits `easy` and `hard` hold classes that share little or much with a known one."""
    folder = request.root / config.folder
    if request.part in ("train", "test"):
        return _split("ssb", folder, request.part, request)
    return read_class_folders(_present("ssb", folder / request.part), request)


def load_image_folder(config: ImageFolderOptions, request: DataRequest) -> ImageSet | ImageFiles:
    """From `<path>/<class>/`, the split `all`, or `<path>/{train,test or val}/<class>/`."""
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
    path = request.root / config.list
    if not path.exists():
        raise missing_data("image-list", path, can_download=False)
    images = read_list(path)
    names = class_names(images)
    numbers = {name: number for number, name in enumerate(names)}
    files, labels = [image.file for image in images], [numbers[image.label] for image in images]
    return read_images(files, labels, names, request)


# --- TinyImageNet -----------------------------------------------------------------------------


def load_tiny_imagenet(_config: NoOptions, request: DataRequest) -> ImageSet | ImageFiles:
    """TinyImageNet from `<root>/tiny-imagenet-200` as it was downloaded; `val` is the test split.

    The validation images lie in one folder there, their classes in `val_annotations.txt`;
    a `val` already sorted into class folders is read as well.
    """
    folder = _present("tiny-imagenet", request.root / "tiny-imagenet-200")
    if request.part == "train":
        return read_class_folders(folder / "train", request)
    names = tuple(class_folders(folder / "train"))  # sorted: the published numbers' order
    numbers = {name: number for number, name in enumerate(names)}
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
    """Loads all images below `<root>/<folder>` as one class."""

    def load(_config: NoOptions, request: DataRequest) -> ImageSet | ImageFiles:
        place = _present(name, request.root / folder)
        files = list(image_files(place))
        if not files:
            raise DataError(f"data set {name}: {place} holds no images")
        return read_images(files, [0] * len(files), (name,), request, default_size=32, fit=fit)

    return load


# Crops keep the scale of the photographs: where a file is larger than wanted, its middle counts.
load_imagenet_crop = _flat("imagenet-crop", "Imagenet", fit="cut")
load_imagenet_resize = _flat("imagenet-resize", "Imagenet_resize")
load_lsun_crop = _flat("lsun-crop", "LSUN", fit="cut")
load_lsun_resize = _flat("lsun-resize", "LSUN_resize")


# --- DomainNet --------------------------------------------------------------------------------


def load_domainnet(config: DomainNetOptions, request: DataRequest) -> ImageSet | ImageFiles:
    """A domain, by its published lists: lines of a file below `domainnet` and its class number."""
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


def load_omniglot(config: OmniglotOptions, request: DataRequest) -> ImageSet | ImageFiles:
    """Background alphabets train; the evaluation alphabets, which are other classes, test."""
    from torchvision.datasets import Omniglot

    name = {"train": "images_background", "test": "images_evaluation"}[request.part]
    place = request.root / "omniglot-py" / name
    if not place.is_dir():
        archive = {
            "url": f"{Omniglot.download_url_prefix}/{name}.zip",
            "filename": f"{name}.zip",
            "md5": Omniglot.zips_md5[name],
        }
        fetch("omniglot", request, place, extract_root=str(place.parent), **archive)
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
