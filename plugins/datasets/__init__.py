"""Data sets: the embedded `digits`, what torchvision knows, folders of images, made noise."""

from __future__ import annotations

from typing import Any

from attrs import frozen
from attrs.validators import ge, min_len

from openset_core import DatasetSpec, hookimpl, option

DIGITS = tuple("0123456789")
IDX_FILES = tuple(
    f"{side}-{what}-ubyte" for side in ("train", "t10k") for what in ("images-idx3", "labels-idx1")
)
"""Files of a set in MNIST's format; torchvision wants both splits to be there."""

_BOTH = ("train", "test")
_CIFAR10 = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
CIFAR10_BATCHES = {
    "train": tuple(f"data_batch_{number}" for number in range(1, 6)),
    "test": ("test_batch",),
}
_CIFAR_REFERENCE = "Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009"


@frozen(kw_only=True)
class OmniglotOptions:
    invert: bool = option(False, "white characters on black, as in MNIST, instead of the reverse")


@frozen(kw_only=True)
class DomainNetOptions:
    domain: str = option(
        "real",
        "the images' style",
        choices=("clipart", "infograph", "painting", "quickdraw", "real", "sketch"),
    )


@frozen(kw_only=True)
class SSBOptions:
    folder: str = option(
        "ssb",
        "folder below the data root, with train, test, easy and hard",
        validator=min_len(1),
    )


@frozen(kw_only=True)
class ImageFolderOptions:
    path: str = option(
        "images", "folder of class folders, below the data root or absolute", validator=min_len(1)
    )


@frozen(kw_only=True)
class ImageListOptions:
    list: str = option(
        "images.csv",
        "CSV file with the columns file and class, below the data root or absolute",
        validator=min_len(1),
    )


@frozen(kw_only=True)
class NoiseOptions:
    samples: int = option(10_000, "number of images", validator=ge(1))
    seed: int = option(0, "of the noise", validator=ge(0))


def _spec(name: str, summary: str, module: str = "folder_sets", **facts: Any) -> DatasetSpec:
    factory = f"openset_plugins.datasets.{module}:load_{name.replace('-', '_')}"
    return DatasetSpec(name=name, summary=summary, factory=factory, **facts)


def _idx(name: str, folder: str, summary: str, reference: str, **facts: Any) -> DatasetSpec:
    """A set in the format of MNIST's files."""
    return _spec(
        name,
        f"70,000 {summary}",
        "torchvision_sets",
        files=tuple(f"{folder}/raw/{file}" for file in IDX_FILES),
        class_count=10,
        samples={"train": 60_000, "test": 10_000},
        side=28,
        downloadable=True,
        reference=reference,
        **facts,
    )


def _odin(name: str, folder: str, what: str) -> DatasetSpec:
    """One of the four sets of small pictures that ODIN's release hands out."""
    return _spec(
        name,
        f"10,000 photographs of {what} to 32x32 pixels",
        parts=("all",),
        files=(f"{folder}/*",),
        class_count=1,
        samples={"all": 10_000},
        obtain=f"{folder}.tar.gz by the links in github.com/facebookresearch/odin, unpacked",
        reference="Liang, Li and Srikant, ODIN, 2018",
    )


@hookimpl
def openset_datasets() -> list[DatasetSpec]:
    return [
        _spec(
            "digits",
            "1,797 handwritten digits of 8x8 pixels, inside scikit-learn",
            "digits",
            parts=("all",),
            classes=DIGITS,
            samples={"all": 1797},
            side=8,
            reference="Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI 1998",
        ),
        _idx(
            "mnist",
            "MNIST",
            "handwritten digits of 28x28 pixels",
            "LeCun, Cortes and Burges, The MNIST database of handwritten digits",
            classes=DIGITS,
        ),
        _idx(
            "fashion-mnist",
            "FashionMNIST",
            "articles of clothing of 28x28 pixels, 10 classes",
            "Xiao, Rasul and Vollgraf, Fashion-MNIST, 2017",
        ),
        _idx(
            "kmnist",
            "KMNIST",
            "handwritten Japanese characters of 28x28 pixels, 10 classes",
            "Clanuwat et al., Deep Learning for Classical Japanese Literature, 2018",
        ),
        _spec(
            "svhn",
            "99,289 house numbers of 32x32 pixels, cut from street photographs",
            "torchvision_sets",
            classes=DIGITS,
            files={side: (f"{side}_32x32.mat",) for side in _BOTH},
            samples={"train": 73_257, "test": 26_032},
            side=32,
            downloadable=True,
            reference="Netzer et al., Reading Digits in Natural Images, 2011",
        ),
        _spec(
            "cifar10",
            "60,000 photographs of 32x32 pixels, 10 classes",
            "cifar",
            classes=_CIFAR10,
            files={
                side: tuple(f"cifar-10-batches-py/{file}" for file in (*batches, "batches.meta"))
                for side, batches in CIFAR10_BATCHES.items()
            },
            samples={"train": 50_000, "test": 10_000},
            side=32,
            downloadable=True,
            reference=_CIFAR_REFERENCE,
        ),
        _spec(
            "cifar100",
            "60,000 photographs of 32x32 pixels, 100 classes",
            "cifar",
            files={side: (f"cifar-100-python/{side}", "cifar-100-python/meta") for side in _BOTH},
            class_count=100,
            samples={"train": 50_000, "test": 10_000},
            side=32,
            downloadable=True,
            reference=_CIFAR_REFERENCE,
        ),
        _spec(
            "omniglot",
            "32,460 handwritten characters of 50 alphabets; other ones for testing",
            config=OmniglotOptions,
            files={
                "train": ("omniglot-py/images_background/*",),
                "test": ("omniglot-py/images_evaluation/*",),
            },
            samples={"train": 19_280, "test": 13_180},
            side=105,
            downloadable=True,
            reference="Lake, Salakhutdinov and Tenenbaum, Human-level concept learning, 2015",
        ),
        _spec(
            "imagenet",
            "1.3 million photographs, 1,000 classes, in class folders train/ and val/",
            files={"train": ("imagenet/train/*",), "test": ("imagenet/val/*",)},
            class_count=1000,
            samples={"train": 1_281_167, "test": 50_000},
            obtain="register at image-net.org and accept its terms; unpack ILSVRC2012 into "
            "imagenet/train/<wnid>/ and imagenet/val/<wnid>/",
            reference="Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge, 2015",
        ),
        _spec(
            "imagenet-o",
            "2,000 photographs of classes that ImageNet-1K lacks",
            parts=("all",),
            files=("imagenet-o/*",),
            class_count=200,
            samples={"all": 2000},
            obtain="imagenet-o.tar from github.com/hendrycks/natural-adv-examples, as "
            "imagenet-o/<wnid>/",
            reference="Hendrycks et al., Natural Adversarial Examples, 2021",
        ),
        _spec(
            "tiny-imagenet",
            "110,000 photographs of 64x64 pixels, 200 classes, as downloaded",
            files={
                "train": ("tiny-imagenet-200/train/*",),
                "test": ("tiny-imagenet-200/train/*", "tiny-imagenet-200/val/*"),
            },
            class_count=200,
            samples={"train": 100_000, "test": 10_000},
            side=64,
            obtain="cs231n.stanford.edu/tiny-imagenet-200.zip, unpacked as it is",
            reference="Le and Yang, Tiny ImageNet Visual Recognition Challenge, 2015",
        ),
        _odin("imagenet-crop", "Imagenet", "TinyImageNet, cropped"),
        _odin("imagenet-resize", "Imagenet_resize", "TinyImageNet, resized"),
        _odin("lsun-crop", "LSUN", "LSUN, cropped"),
        _odin("lsun-resize", "LSUN_resize", "LSUN, resized"),
        _spec(
            "domainnet",
            "pictures of 345 classes in six styles; option domain",
            config=DomainNetOptions,
            files={
                side: ("domainnet/{domain}/*", f"domainnet/{{domain}}_{side}.txt") for side in _BOTH
            },
            class_count=345,
            obtain="ai.bu.edu/M3SDA, the cleaned version, for research under its fair-use notice: "
            "<domain>.zip unpacked in domainnet/, <domain>_train.txt and <domain>_test.txt there",
            reference="Peng et al., Moment Matching for Multi-Source Domain Adaptation, 2019",
        ),
        _spec(
            "air300",
            "320,000 pictures of aircraft, 300 classes, in class folders train/ and test/",
            files={side: (f"air300/{side}/*",) for side in _BOTH},
            class_count=300,
            obtain="from its authors (github.com/iCGY96/ARPL), as air300/train/<class>/ and "
            "air300/test/<class>/",
            reference="Chen et al., Learning Open Set Network with Discriminative Reciprocal "
            "Points, 2020",
        ),
        _spec(
            "ssb",
            "fine-grained classes of your own: train/, test/, unknown in easy/ and hard/",
            config=SSBOptions,
            parts=(*_BOTH, "easy", "hard"),
            files={side: (f"{{folder}}/{side}/*",) for side in (*_BOTH, "easy", "hard")},
            obtain="your own images, or the splits of github.com/sgvaze/SSB, as "
            "ssb/{train,test,easy,hard}/<class>/",
            reference="Vaze et al., Open-Set Recognition: a Good Closed-Set Classifier is All You "
            "Need?, 2022 (the benchmark's shape)",
        ),
        _spec(
            "image-folder",
            "images of your own, a folder for each class",
            config=ImageFolderOptions,
            parts=("train", "test", "all"),
            files=("{path}/*",),
            obtain="your own images, as images/<class>/ or images/{train,test}/<class>/, or "
            "anywhere by --set path=FOLDER",
        ),
        _spec(
            "image-list",
            "images of your own, listed in a CSV file with their classes",
            config=ImageListOptions,
            parts=("all",),
            files=("{list}",),
            obtain="your own images: images.csv with the columns file and class, or any list by "
            "--set list=FILE",
        ),
        _spec(
            "noise",
            "made: every pixel uniform noise",
            "noise",
            config=NoiseOptions,
            parts=("all",),
            class_count=1,
            reference="M2IOSR, Sec. 5.4",
        ),
        _spec(
            "mnist-noise",
            "made: MNIST's test images under uniform noise",
            "noise",
            config=NoiseOptions,
            parts=("all",),
            files=tuple(f"MNIST/raw/{file}" for file in IDX_FILES),
            class_count=1,
            downloadable=True,
            reference="M2IOSR, Sec. 5.4",
        ),
    ]
