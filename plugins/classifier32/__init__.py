"""The classifier of OSRCI, ARPL and most open-set tables since, for 32x32 images and larger."""

from __future__ import annotations

from attrs import frozen
from attrs.validators import ge, lt

from openset_core import BackboneSpec, hookimpl, option


@frozen(kw_only=True)
class Classifier32Options:
    dropout: float = option(
        0.2,
        "share of whole channels dropped from the image and after each block but the last",
        validator=[ge(0.0), lt(1.0)],
    )


@hookimpl
def openset_backbones() -> list[BackboneSpec]:
    return [
        BackboneSpec(
            name="classifier32",
            summary="nine 3x3 convolutions with BatchNorm, a 128-d vector, maps r2 r4 r8",
            factory="openset_plugins.classifier32.network:build",
            config=Classifier32Options,
            provides=("feature vector", "feature maps", "batchnorm"),
            reference="Neal et al., Open Set Learning with Counterfactual Images, ECCV 2018, in "
            "the form of Chen et al., ARPL, TPAMI 2021",
        )
    ]
