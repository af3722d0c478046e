"""Batches from images held in memory, augmented on the training device.

Small images live as uint8 on the device; a batch is gathered, augmented with a different
draw for each sample and scaled in a few whole-batch operations. No worker processes.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor

from openset_core.data.preparation import DataPart
from openset_core.protocols import ImageOptions


@attrs.frozen(kw_only=True)
class Augmentation:
    """Random changes of training images.

    Attributes:
        crop_padding: zero pixels added on each side before a random crop.
        flip: whether images are mirrored with probability one half.
    """

    crop_padding: int = 0
    flip: bool = False

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Change uint8 [B, C, H, W] images, each by its own draw.

        Args:
            images: batch on any device.
            generator: source of the draws, on the CPU, so that they do not depend on the
                device.
        """
        return self.apply(images, self.draw(len(images), generator))

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Draws for `count` images, int64 [3, count]: row and column of the crop, mirrored."""
        if not (self.crop_padding or self.flip):
            return torch.zeros(3, count, dtype=torch.int64)
        crop = torch.randint(0, 2 * self.crop_padding + 1, (2, count), generator=generator)
        mirrored = torch.rand(count, generator=generator) < (0.5 if self.flip else 0.0)
        return torch.cat([crop, mirrored[None].long()])

    def apply(self, images: Tensor, draws: Tensor) -> Tensor:
        """Change uint8 [B, C, H, W] images by draws [3, B]."""
        if not (self.crop_padding or self.flip):
            return images
        count, _channels, height, width = images.shape
        padding = self.crop_padding
        draw, mirrored = draws[:2], draws[2].bool()
        across = torch.arange(width).expand(count, width)
        across = torch.where(mirrored[:, None], width - 1 - across, across) + draw[1][:, None]
        down = torch.arange(height) + draw[0][:, None]
        padded = F.pad(images, (padding,) * 4)
        device = images.device
        rows = torch.arange(count, device=device)[:, None, None]
        down, across = down.to(device), across.to(device)
        # Indexing with the channels last in the result gives [B, H, W, C] in one gather.
        taken = padded.permute(0, 2, 3, 1)[rows, down[:, :, None], across[:, None, :]]
        return taken.permute(0, 3, 1, 2)


class MemoryLoader:
    """One part of the data on the training device, cut into batches.

    Args:
        part: images and rows.
        image: size and preprocessing.
        device: where the images are kept.
        batch_size: images in a batch over all processes; batches differ in size by one at
            most, so that no tiny last batch upsets batch statistics.
        rank: this process's number.
        world_size: number of processes; each takes its share of every batch.
    """

    def __init__(
        self,
        part: DataPart,
        image: ImageOptions,
        device: torch.device,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        rows = torch.from_numpy(part.split.index)
        pixels = torch.from_numpy(part.images.images)[rows].permute(0, 3, 1, 2)
        self.images = resized(pixels, image).to(device)
        self.labels = torch.from_numpy(part.split.label).to(device)
        self.index = rows
        self.rank, self.world_size = rank, world_size
        self.batches = max(1, -(-len(rows) // batch_size))
        self.scale = PixelScale(image, device)

    def __len__(self) -> int:
        return self.batches

    @property
    def samples(self) -> int:
        """Number of images."""
        return len(self.labels)

    def shuffled(
        self, generator: torch.Generator, augmentation: Augmentation
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch of training batches, images float [B, C, H, W] and labels int64 [B]."""
        order = torch.randperm(self.samples, generator=generator)
        for batch in order.tensor_split(self.batches):
            # Drawn for the whole batch on every process: shares differ in size, and generators
            # that have drawn differently would give the processes different next epochs.
            draws = augmentation.draw(len(batch), generator)
            share = torch.arange(len(batch)).tensor_split(self.world_size)[self.rank]
            mine = batch[share].to(self.labels.device)
            images = augmentation.apply(self.images[mine], draws[:, share])
            yield self.scale(images), self.labels[mine]

    def in_order(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """All images once, in order: images, labels, and rows of the data set."""
        rows = torch.arange(self.samples)
        for batch in rows.tensor_split(self.batches):
            start, stop = int(batch[0]), int(batch[-1]) + 1
            yield (
                self.scale(self.images[start:stop]),
                self.labels[start:stop],
                self.index[start:stop],
            )


class PixelScale:
    """uint8 pixels to the model's input: scaled to [0, 1], then (x - mean) / std."""

    def __init__(self, image: ImageOptions, device: torch.device) -> None:
        mean = torch.tensor(image.per_channel(image.mean), device=device)
        std = torch.tensor(image.per_channel(image.std), device=device)
        # x / 255 / std - mean / std as one multiplication and one addition.
        self.factor = (1.0 / (255.0 * std))[:, None, None]
        self.offset = (-mean / std)[:, None, None]

    def __call__(self, images: Tensor) -> Tensor:
        """Scale uint8 [B, C, H, W] to float32, channels last in memory."""
        scaled = images.float() * self.factor + self.offset
        return scaled.contiguous(memory_format=torch.channels_last)


def resized(images: Tensor, image: ImageOptions) -> Tensor:
    """uint8 images [N, C, H, W] in a protocol's size and number of channels."""
    size = (image.size, image.size)
    if images.shape[1] != image.channels:
        images = images.expand(-1, 3, -1, -1) if image.channels == 3 else _grey(images)
    if images.shape[2:] == size:
        return images.contiguous()
    smooth = image.interpolation != "nearest"
    return torch.cat(
        [
            F.interpolate(chunk.contiguous(), size=size, mode=image.interpolation, antialias=smooth)
            for chunk in torch.split(images, 4096)  # bounds the memory of intermediate results
        ]
    )


def _grey(images: Tensor) -> Tensor:
    """ITU-R 601 luma, as Pillow converts to grey."""
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    return (images.float() * weights).sum(dim=1, keepdim=True).round().to(torch.uint8)
