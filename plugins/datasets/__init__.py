"""Data sets: the embedded `digits`, and what torchvision knows."""

from __future__ import annotations

from openset_core import DatasetSpec, hookimpl

_DIGITS = tuple(str(digit) for digit in range(10))


@hookimpl
def openset_datasets() -> list[DatasetSpec]:
    """The first-party data sets."""
    return [
        DatasetSpec(
            name="digits",
            summary="1,797 handwritten digits of 8x8 pixels, inside scikit-learn",
            factory="openset_plugins.datasets.digits:load_digits",
            parts=("all",),
            classes=_DIGITS,
            reference="Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI 1998",
        ),
        DatasetSpec(
            name="mnist",
            summary="70,000 handwritten digits of 28x28 pixels",
            factory="openset_plugins.datasets.torchvision_sets:load_mnist",
            classes=_DIGITS,
            files=("MNIST/raw/train-images-idx3-ubyte*", "MNIST/raw/t10k-images-idx3-ubyte*"),
            reference="LeCun, Cortes and Burges, The MNIST database of handwritten digits",
        ),
    ]
