"""Every image model of timm as a backbone: `timm:resnet18`, `timm:convnext_tiny.fb_in1k`, ..."""

from __future__ import annotations

from typing import Any

from attrs import frozen
from attrs.validators import ge

from openset_core import FamilySpec, hookimpl, option


def _stages_or_word(_instance: Any, attribute: Any, value: int | str) -> None:
    allowed = value in ("none", "all") if isinstance(value, str) else value >= 0
    if not allowed:
        raise ValueError(f"{attribute.name} must be none, all or a number of stages: {value!r}")


@frozen(kw_only=True)
class TimmOptions:
    pretrained: bool = option(False, "start from timm's weights of that name, downloaded once")
    checkpoint: str = option(
        "",
        "instead, a local file of weights for the same model, .safetensors or .pth; a .pth is "
        "read as weights only, so that it cannot run code",
    )
    freeze: int | str = option(
        "none",
        "what is not trained: none, all, or a number N for the first N feature stages with the "
        "stem before them. Frozen BatchNorm keeps its statistics",
        validator=_stages_or_word,
    )
    rate: float = option(1.0, "factor on the learning rate of the model", validator=ge(0.0))
    preprocessing: str = option(
        "auto",
        "what the model sees. protocol: images of the protocol's size and normalisation; model: "
        "resized and normalised as the model's weights expect; auto: model with pretrained or "
        "checkpoint, else protocol",
        choices=("auto", "model", "protocol"),
    )
    maps: str = option(
        "last",
        "feature maps handed out: last stage of each resolution, or all stages, as for choosing "
        "among a transformer's blocks",
        choices=("last", "all"),
    )

    def __attrs_post_init__(self) -> None:
        """Refuse two sources of weights."""
        if self.pretrained and self.checkpoint:
            raise ValueError("pretrained=true and checkpoint exclude each other; give one")

    @property
    def own_preprocessing(self) -> bool:
        """Whether images are resized and normalised as the model's weights expect."""
        if self.preprocessing == "auto":
            return self.pretrained or bool(self.checkpoint)
        return self.preprocessing == "model"


@hookimpl
def openset_backbones() -> list[FamilySpec]:
    return [
        FamilySpec(
            prefix="timm",
            of="backbone",
            summary="any image model of timm, with or without its pretrained weights",
            resolve="openset_plugins.timm_models.catalogue:resolve",
            names="openset_plugins.timm_models.catalogue:names",
            reference="Wightman, PyTorch Image Models, "
            "https://github.com/huggingface/pytorch-image-models",
        )
    ]
