"""Batches from images held in memory, augmented on the training device.

Small images live as uint8 on the device; a batch is gathered, augmented with a different
draw for each sample and scaled in a few whole-batch operations. No worker processes.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from openset_core.data.augmentation import Augmentation
from openset_core.data.preparation import DataPart
from openset_core.protocols import ImageOptions


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
