"""LeNet++ with a two-dimensional feature, whose space can be drawn."""

from __future__ import annotations

from attrs import frozen
from attrs.validators import ge

from openset_core import BackboneSpec, hookimpl, option


@frozen(kw_only=True)
class LeNetOptions:
    feature_dim: int = option(
        2, "length of the feature vector; 2 for pictures of the feature space", validator=ge(1)
    )


@hookimpl
def openset_backbones() -> list[BackboneSpec]:
    return [
        BackboneSpec(
            name="lenet-plus-plus",
            summary="six 5x5 convolutions with PReLU, a 2-d vector for pictures, maps r2 r4 r8",
            factory="openset_plugins.lenet.network:build",
            config=LeNetOptions,
            provides=("feature vector", "feature maps"),
            reference="Wen et al., A Discriminative Feature Learning Approach for Deep Face "
            "Recognition, ECCV 2016",
        )
    ]
