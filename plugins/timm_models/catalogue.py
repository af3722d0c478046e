"""Which models timm has, and the spec of each. timm itself is imported when a name is asked for."""

from __future__ import annotations

import logging
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from openset_core import BackboneSpec
from openset_core.errors import PluginError, did_you_mean
from openset_plugins.timm_models import TimmOptions

if TYPE_CHECKING:
    from openset_core import BackboneContext
    from openset_plugins.timm_models.backbone import TimmBackbone

logger = logging.getLogger(__name__)


@cache
def names() -> tuple[str, ...]:
    """Every model name, and every name with the tag of its weights, in timm's order."""
    import timm

    models: list[str] = timm.list_models()
    tagged: list[str] = timm.list_models(include_tags=True)
    return tuple(dict.fromkeys([*models, *tagged]))


@cache
def resolve(name: str) -> BackboneSpec:
    """The spec of `timm:NAME`; no weights are made or fetched."""
    if name not in names():
        raise PluginError(_unknown(name))
    summary, structure = _outline(name)
    return BackboneSpec(
        name=f"timm:{name}",
        summary=summary,
        factory=partial(_build, name),
        config=TimmOptions,
        image_size=partial(_own_size, name),
        provides=("feature vector", *structure),
        reference=_reference(name),
    )


def _build(name: str, config: TimmOptions, context: BackboneContext) -> TimmBackbone:
    from openset_plugins.timm_models.backbone import build

    return build(name, config, context)


def _own_size(name: str, config: TimmOptions) -> int | None:
    """Side of the images that the model's weights were made for, where these matter."""
    import timm

    known: Any = timm.get_pretrained_cfg(name)
    return int(known.input_size[-1]) if known is not None and config.own_preprocessing else None


def _outline(name: str) -> tuple[str, tuple[str, ...]]:
    """Summary line, and what the model has beside the vector.

    Only the model itself knows; built on the meta device it costs a second and no memory. What
    cannot be built there promises nothing.
    """
    import timm
    import torch
    from torch.nn.modules.batchnorm import _BatchNorm

    from openset_plugins.timm_models.backbone import has_stages

    summary = f"{name} of timm {timm.__version__}"
    try:
        with torch.device("meta"):
            network = timm.create_model(name, num_classes=0)
    except Exception as error:
        logger.info("timm:%s cannot be outlined: %s", name, error)
        return summary, ()
    millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    structure: tuple[str, ...] = ("feature maps",) if has_stages(network) else ()
    if any(isinstance(layer, _BatchNorm) for layer in network.modules()):
        structure += ("batchnorm",)
    return f"{summary}, {millions:.1f} million parameters", structure


def _reference(name: str) -> str:
    import timm

    known: Any = timm.get_pretrained_cfg(name)
    words = "Wightman, PyTorch Image Models"
    if known is not None and known.has_weights and known.license:
        words += f"; weights under {known.license}"
    return words


def _unknown(name: str) -> str:
    import timm
    from timm.models import get_deprecated_models

    renamed = get_deprecated_models().get(name)
    if renamed:
        return f"timm has renamed {name}; write timm:{renamed}"
    model = name.partition(".")[0]
    tags = [known for known in names() if known.startswith(f"{model}.")]
    if model in names():
        have = ", ".join(tags) or "none"
        return f"timm:{model} has no weights called {name!r}; with a tag it has: {have}"
    return (
        f"timm {timm.__version__} has no model {name!r}{did_you_mean(name, names())}; "
        "`timm.list_models()` lists them"
    )
