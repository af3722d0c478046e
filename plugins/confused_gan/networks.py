"""Generator and discriminator of the released ARPL+CS code, for any number of channels."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

# Multiples of the width before each doubling of the side, by the number of doublings.
WIDTHS = {3: (8, 4, 2), 4: (8, 4, 2, 1)}
# First side and doublings for each size; the released networks are those that start with 4.
SIZES = {start << doublings: (start, doublings) for doublings in WIDTHS for start in (4, 5, 6, 7)}


def _start(module: nn.Module) -> None:
    """DCGAN's start: convolutions N(0, 0.02), BatchNorm scales N(1, 0.02), shifts 0."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)


class GeneratorNetwork(nn.Sequential):
    """Noise [B, noise_dim] to images [B, channels, size, size] in (0, 1)."""

    def __init__(self, noise_dim: int, width: int, channels: int, size: int) -> None:
        first, doublings = SIZES[size]
        widths = [factor * width for factor in WIDTHS[doublings]]
        layers: list[nn.Module] = [nn.Unflatten(1, (noise_dim, 1, 1))]
        layers += [nn.ConvTranspose2d(noise_dim, widths[0], first, 1, 0, bias=False)]
        for inputs, outputs in pairwise(widths):
            layers += [nn.BatchNorm2d(inputs), nn.ReLU(inplace=True)]
            layers += [nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False)]
        layers += [nn.BatchNorm2d(widths[-1]), nn.ReLU(inplace=True)]
        layers += [nn.ConvTranspose2d(widths[-1], channels, 4, 2, 1, bias=False), nn.Sigmoid()]
        super().__init__(*layers)
        self.apply(_start)


class DiscriminatorNetwork(nn.Module):
    """Images [B, channels, size, size] to raw scores [B]; a sigmoid makes them probabilities."""

    def __init__(self, width: int, channels: int, squash: bool) -> None:
        super().__init__()
        wide = [factor * width for factor in (2, 4, 8, 16)]
        layers: list[nn.Module] = [
            nn.Conv2d(channels, wide[0], 4, 2, 1, bias=False),
            nn.LeakyReLU(0.2, inplace=True),
        ]
        for inputs, outputs in pairwise(wide[:3]):
            layers += [
                nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.LeakyReLU(0.2, inplace=True),
            ]
        layers.append(nn.Conv2d(wide[2], wide[3], 4, 1, 0, bias=False))
        if squash:
            layers.append(nn.Sigmoid())
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.last = nn.Linear(wide[3], 1)
        self.apply(_start)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.features(images)).squeeze(1)  # type: ignore[no-any-return]


class InputSpace(nn.Module):
    """Images in (0, 1) to the model's input space and back.

    The networks work in (0, 1), as released; a discriminator that saw generated images in
    (0, 1) beside normalised real ones would tell them apart by their range alone.

    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

    def enter(self, images: Tensor) -> Tensor:
        """From (0, 1) to the model's input."""
        return (images - self.mean) / self.std

    def leave(self, images: Tensor) -> Tensor:
        """From the model's input to [0, 1]."""
        return images * self.std + self.mean
