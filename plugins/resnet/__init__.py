"""ResNet-18 and ResNet-34 for small images, as in ARPL's out-of-distribution experiments."""

from __future__ import annotations

from attrs import frozen

from openset_core import BackboneSpec, hookimpl, option


@frozen(kw_only=True)
class ResNetOptions:
    stem: str = option(
        "cifar",
        "first layer. cifar: one 3x3 convolution with stride 1, for small images; imagenet: 7x7 "
        "with stride 2 and max-pooling, a quarter of the side for everything after it",
        choices=("cifar", "imagenet"),
    )


@hookimpl
def openset_backbones() -> list[BackboneSpec]:
    return [
        BackboneSpec(
            name=f"resnet{depth}",
            summary=f"ResNet-{depth} with a stem for small images, a 512-d vector, maps r1 r2 r4 "
            "r8",
            factory=f"openset_plugins.resnet.network:build_resnet{depth}",
            config=ResNetOptions,
            provides=("feature vector", "feature maps", "batchnorm"),
            reference="He et al., Deep Residual Learning for Image Recognition, CVPR 2016; stem "
            "as in the released code of Chen et al., ARPL, TPAMI 2021",
        )
        for depth in (18, 34)
    ]
