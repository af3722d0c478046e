"""The backbone around a timm model: one pass for the vector and the maps, all shapes measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import timm
import torch
from torch import Tensor, nn

from openset_core import Backbone, BackboneContext, FeatureMap, Features
from openset_core.errors import CompositionError, ModelError
from openset_plugins.timm_models import TimmOptions
from openset_plugins.timm_models.preprocessing import Conversion, for_channels
from openset_plugins.timm_models.weights import first_line, read_weights


@attrs.frozen(kw_only=True)
class StageMap(FeatureMap):
    """A map whose side was measured.

    `reduction` counts pixels of what the model sees, which may have been resized from the
    protocol's images, so the side does not follow from it.

    """

    pixels: int  # height and width

    def side(self, image_size: int) -> int:
        return self.pixels


class TimmBackbone(Backbone):
    """A timm model without its classifier.

    The vector is what the model's classifier would see, `forward_head(..., pre_logits=True)`:
    for VGG that has 4096 entries, whatever `num_features` says. Maps come from the same pass and
    are named by reduction: `r4` is the last stage of reduction 4; with all stages asked for,
    `r4.0` is stage 0, which has that reduction too. A transformer's tokens are laid out as maps
    [B, C, H, W]. Maps of one pixel say no more than the vector and are left out, as are maps
    that are not square.

    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        context: BackboneContext,
        options: TimmOptions,
        conversion: nn.Module,
        input_size: int,
    ) -> None:
        super().__init__()
        self.rate = options.rate
        self.network = network
        self.conversion = conversion
        # Stages asked for: all of them while measuring, none of a model that gives none.
        self._taken: list[int] | None = None if has_stages(network) else []
        self._names: tuple[str, ...] = ()  # of the maps among them; "" is not handed out
        self._frozen: tuple[str, ...] = ()
        sample = torch.zeros(1, context.channels, context.image_size, context.image_size)
        network.eval()
        try:
            with torch.no_grad():
                vector, stages = self._run(sample)
        except Exception as error:
            raise CompositionError(
                f"backbone {name} cannot take {context.channels}x{input_size}x{input_size} images "
                f"({first_line(error)}); set {name}.preprocessing=model, which resizes them to the "
                "model's own size, or change image.size"
            ) from error
        self.vector_dim = vector.shape[1]
        self._choose(stages, input_size, every=options.maps == "all")
        if options.freeze != "none":
            self._freeze(name, options.freeze, sample, len(stages))
        self.train()

    def forward(self, images: Tensor) -> Features:
        """Features of float [B, C, H, W] images of the protocol: a vector [B, D] and maps."""
        vector, stages = self._run(images)
        named = zip(self._names, stages, strict=True)
        return Features(vector, {name: stage for name, stage in named if name})

    def _run(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        network: Any = self.network
        images = self.conversion(images)
        if self._taken == []:
            last, stages = network.forward_features(images), []
        else:
            last, stages = network.forward_intermediates(
                images, indices=self._taken, output_fmt="NCHW"
            )
        return network.forward_head(last, pre_logits=True).flatten(1), stages

    def _choose(self, stages: Sequence[Tensor], input_size: int, *, every: bool) -> None:
        """Decide which stages' outputs are maps, and declare them as they were measured."""
        network: Any = self.network
        declared = [entry["reduction"] for entry in getattr(network, "feature_info", ())]
        stage_maps: dict[int, StageMap] = {}
        for number, stage in enumerate(stages):
            height, width = stage.shape[-2:]
            if height != width or height == 1:
                continue
            likely = declared[number] if number < len(declared) else 0
            reduction = _reduction(input_size, height, likely)
            stage_maps[number] = StageMap(
                name=f"r{reduction}", channels=stage.shape[1], reduction=reduction, pixels=height
            )
        deepest = {info.reduction: number for number, info in stage_maps.items()}
        if every:
            stage_maps = {
                number: info
                if deepest[info.reduction] == number
                else attrs.evolve(info, name=f"{info.name}.{number}")
                for number, info in stage_maps.items()
            }
        else:
            stage_maps = {number: stage_maps[number] for number in sorted(deepest.values())}
        self.feature_info = tuple(stage_maps.values())
        # Some models, Hiera for one, run no further than the last stage asked for, so the very
        # last is always among them.
        self._taken = sorted({*stage_maps, len(stages) - 1}) if stage_maps else []
        self._names = tuple(stage_maps[n].name if n in stage_maps else "" for n in self._taken)

    def _freeze(self, name: str, freeze: int | str, sample: Tensor, stages: int) -> None:
        if freeze == "all":
            self.network.requires_grad_(False)
            self._frozen = ("",)
            return
        count = int(freeze)
        if count > stages:
            raise CompositionError(
                f"{name}.freeze={count} asks for more than the {stages} feature stages of the "
                "model; give a smaller number or all"
            )
        if count == 0:
            return
        # What a stage is made of differs from model to model; its parameters are those that its
        # output depends on.
        network: Any = self.network
        with torch.enable_grad():
            outputs = network.forward_intermediates(
                self.conversion(sample), indices=list(range(count)), intermediates_only=True
            )
            parameters = [p for p in network.parameters() if p.requires_grad]
            gradients = torch.autograd.grad(
                sum(output.sum() for output in outputs), parameters, allow_unused=True
            )
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.requires_grad_(gradient is None)
        self._frozen = tuple(_frozen_modules(network))

    def train(self, mode: bool = True) -> TimmBackbone:
        """Switch to training or evaluation; what is frozen stays in evaluation."""
        super().train(mode)
        for name in self._frozen:
            # Looked up by name each time: a BatchNorm may have got an auxiliary side since.
            self.network.get_submodule(name).eval()
        return self


def _frozen_modules(module: nn.Module, name: str = "") -> list[str]:
    """The largest submodules that hold parameters and train none of them."""
    parameters = list(module.parameters())
    if not parameters:
        return []
    if not any(parameter.requires_grad for parameter in parameters):
        return [name]
    return [
        submodule
        for child_name, child in module.named_children()
        for submodule in _frozen_modules(child, f"{name}.{child_name}" if name else child_name)
    ]


def _reduction(size: int, side: int, declared: int) -> int:
    """Pixels for each pixel of a map: timm's figure where it gives the side that was measured."""
    if declared and side in (size // declared, -(-size // declared)):
        return declared
    return max(1, round(size / side))


def has_stages(network: Any) -> bool:
    """Whether a model gives its stages' outputs; in timm 1.0.20 all but VGG do."""
    return hasattr(network, "forward_intermediates")


def build(model: str, options: TimmOptions, context: BackboneContext) -> TimmBackbone:
    name = f"timm:{model}"
    known: Any = timm.get_pretrained_cfg(model) or timm.models.PretrainedCfg()
    height, width = known.input_size[1:]
    conversion: nn.Module = nn.Identity()
    arguments: dict[str, Any] = {"num_classes": 0, "in_chans": context.channels}
    if options.own_preprocessing:
        conversion = Conversion(
            (height, width),
            known.interpolation,
            given=(context.pixel_mean, context.pixel_std),
            wanted=(
                for_channels(known.mean, context.channels),
                for_channels(known.std, context.channels),
            ),
        )
        input_size = height
    else:
        input_size = context.image_size
        if known.fixed_input_size:
            arguments["img_size"] = input_size
    if options.pretrained and context.initial_weights:
        network = _pretrained(name, model, known, arguments)
    elif options.checkpoint and context.initial_weights:
        network = _from_file(name, model, known, arguments, Path(options.checkpoint).expanduser())
    else:
        network = _create(name, model, arguments)
    _check_patches(name, network, input_size)
    return TimmBackbone(name, network, context, options, conversion, input_size)


def _create(name: str, model: str, arguments: dict[str, Any]) -> nn.Module:
    try:
        return timm.create_model(model, **arguments)  # type: ignore[no-any-return]
    except Exception as error:
        size = arguments.get("img_size")
        what = f"for {size}x{size} images" if size else f"for {arguments['in_chans']} channels"
        raise CompositionError(
            f"backbone {name} cannot be built {what} ({first_line(error)}); set "
            f"{name}.preprocessing=model, which resizes them to the model's own size, or choose "
            "another model"
        ) from error


def _pretrained(name: str, model: str, known: Any, arguments: dict[str, Any]) -> nn.Module:
    if not known.has_weights:
        base = model.partition(".")[0]
        others = ", ".join(timm.list_pretrained(f"{base}.*")) or "none under any tag"
        raise CompositionError(
            f"timm has no pretrained weights for {model}; it has: {others}; leave out "
            f"{name}.pretrained"
        )
    try:
        return timm.create_model(  # type: ignore[no-any-return]
            model, pretrained=True, **arguments
        )
    except Exception as error:
        raise ModelError(
            f"the pretrained weights of {name} cannot be downloaded or loaded "
            f"({first_line(error)}); check the network, or give a local file as {name}.checkpoint"
        ) from error


def _from_file(
    name: str, model: str, known: Any, arguments: dict[str, Any], path: Path
) -> nn.Module:
    weights = read_weights(path)
    heads = known.classifier or ()
    for head in (heads,) if isinstance(heads, str) else heads:
        for key in [key for key in weights if key.startswith(f"{head}.")]:
            del weights[key]
    # timm's own loading adapts names, channels and position embeddings. Without a classifier
    # to replace it is strict, so that a file for another model cannot pass unnoticed.
    overlay = {"state_dict": weights, "custom_load": False, "num_classes": 0, "classifier": None}
    try:
        network: Any = timm.create_model(
            model, pretrained=True, pretrained_cfg_overlay=overlay, **arguments
        )
    except Exception as error:
        raise ModelError(
            f"checkpoint {path} does not fit {name}: {' '.join(str(error).split())[:300]}"
        ) from error
    network.pretrained_cfg.pop("state_dict", None)  # a second copy of all weights
    return network  # type: ignore[no-any-return]


def _check_patches(name: str, network: nn.Module, size: int) -> None:
    """A first layer that cuts patches side by side silently drops the pixels that fill none."""
    first = next((layer for layer in network.modules() if isinstance(layer, nn.Conv2d)), None)
    if first is None or first.kernel_size != first.stride or first.padding not in (0, (0, 0)):
        return
    if any(size % side for side in first.kernel_size):
        patch = "x".join(map(str, first.kernel_size))
        raise CompositionError(
            f"backbone {name} cuts images into {patch} patches, which do not fill {size}x{size} "
            f"pixels; set {name}.preprocessing=model, or image.size to a multiple"
        )
