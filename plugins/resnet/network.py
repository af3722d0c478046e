"""torchvision's ResNets with another stem, PyTorch's own initialisation, and no classifier."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock
from torchvision.models.resnet import ResNet as TorchvisionResNet

from openset_core import Backbone, BackboneContext, FeatureMap, Features
from openset_plugins.resnet import ResNetOptions

WIDTHS = (64, 128, 256, 512)


class ResNet(Backbone):
    """Four stages of basic blocks with 64, 128, 256 and 512 channels, and their average.

    With the CIFAR stem the stages' maps are r1, r2, r4 and r8, with the ImageNet stem r4, r8,
    r16 and r32. Where width or resolution changes, the shortcut is a 1x1 convolution with
    BatchNorm. ResNet-34 with a linear head for 10 classes has 21,282,122 parameters, as the one
    of the released ARPL code. That code leaves PyTorch's default initialisation, so torchvision's
    own one is undone here.

    """

    vector_dim = WIDTHS[-1]

    def __init__(
        self, depths: Sequence[int], channels: int, image_size: int, stem: str = "cifar"
    ) -> None:
        super().__init__()
        network = TorchvisionResNet(BasicBlock, list(depths))
        if stem == "cifar":
            first = nn.Conv2d(channels, WIDTHS[0], 3, padding=1, bias=False)
            self.stem = nn.Sequential(first, network.bn1, network.relu)
        else:
            first = nn.Conv2d(channels, WIDTHS[0], 7, stride=2, padding=3, bias=False)
            self.stem = nn.Sequential(first, network.bn1, network.relu, network.maxpool)
        self.stages = nn.ModuleList(
            [network.layer1, network.layer2, network.layer3, network.layer4]
        )
        self.pool = network.avgpool
        scale = 1 if stem == "cifar" else 4
        self._names = [f"r{scale * 2**depth}" for depth in range(len(WIDTHS))]
        self.feature_info = tuple(
            FeatureMap(name=name, channels=width, reduction=int(name[1:]))
            for name, width in zip(self._names, WIDTHS, strict=True)
            if image_size % int(name[1:]) == 0
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                module.reset_parameters()

    def forward(self, images: Tensor) -> Features:
        """Features of float [B, C, H, W] images: a vector [B, 512] and the declared maps."""
        outputs, hidden = {}, self.stem(images)
        for name, stage in zip(self._names, self.stages, strict=True):
            hidden = outputs[name] = stage(hidden)
        vector = self.pool(hidden).flatten(1)
        return Features(vector, {info.name: outputs[info.name] for info in self.feature_info})


def build_resnet18(config: ResNetOptions, context: BackboneContext) -> ResNet:
    return ResNet((2, 2, 2, 2), context.channels, context.image_size, config.stem)


def build_resnet34(config: ResNetOptions, context: BackboneContext) -> ResNet:
    return ResNet((3, 4, 6, 3), context.channels, context.image_size, config.stem)
