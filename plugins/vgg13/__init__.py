"""VGG-13 as CROSR re-designed it for 32x32 images, used by M2IOSR."""

from __future__ import annotations

from openset_core import BackboneSpec, hookimpl


@hookimpl
def openset_backbones() -> list[BackboneSpec]:
    return [
        BackboneSpec(
            name="vgg13",
            summary="ten 3x3 convolutions with BatchNorm, a 512-d vector, maps f16 f8 f4 f2",
            factory="openset_plugins.vgg13.network:build",
            provides=("feature vector", "feature maps", "batchnorm"),
            reference="Sun et al., M2IOSR, Sec. 5.1; layers fixed by the parameters of its Table 7",
        )
    ]
