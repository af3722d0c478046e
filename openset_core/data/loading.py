"""Batches of images, augmented on the training device.

Images held in memory live as uint8 on the device; prepared ones are read some batches ahead in
threads. A batch is gathered, augmented with a different draw for each sample and scaled
in a few whole-batch operations. No worker processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from openset_core.data.augmentation import Augmentation
from openset_core.data.images import ImageSet
from openset_core.data.prefetch import prefetch, workers
from openset_core.data.preparation import DataSplit
from openset_core.data.resizing import resized
from openset_core.data.to_device import to_device
from openset_core.experiment.protocol import ImageOptions

BATCHES_AHEAD = 2  # read beyond one a thread; they bound the memory that streaming takes


class Loader:
    """A split of the data, cut into batches; the same whatever the images are kept in.

    `batch_size` counts images over all `world_size` processes, each of which takes its share of
    every batch. Batches differ in size by one at most, so that no tiny last one upsets batch
    statistics.
    """

    def __init__(
        self,
        split: DataSplit,
        image: ImageOptions,
        device: torch.device,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.device = device
        self.labels = torch.from_numpy(split.split.label).to(device)
        self.index = torch.from_numpy(split.split.index)
        self.rank, self.world_size = rank, world_size
        self.batches = max(1, -(-len(self.index) // batch_size))
        self.scale = PixelScale(image, device)
        self.open(split, image)

    def open(self, split: DataSplit, image: ImageOptions) -> None:
        raise NotImplementedError

    def __len__(self) -> int:
        return self.batches

    @property
    def samples(self) -> int:
        return len(self.labels)

    def shuffled(
        self, generator: torch.Generator, augmentation: Augmentation
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch of training batches, images float [B, C, H, W] and labels int64 [B]."""
        order = torch.randperm(self.samples, generator=generator)
        batches = order.tensor_split(self.batches)
        shares = [
            torch.arange(len(batch)).tensor_split(self.world_size)[self.rank] for batch in batches
        ]
        mine = [batch[share] for batch, share in zip(batches, shares, strict=True)]
        pixels = self.pixels(mine)
        for batch, share, rows, images in zip(batches, shares, mine, pixels, strict=True):
            # Drawn for the whole batch on every process: shares differ in size, and generators
            # that have drawn differently would give the processes different next epochs.
            draws = augmentation.draw(len(batch), generator)
            changed = augmentation.apply(images, draws[:, share])
            yield self.scale(changed), self.labels[to_device(rows, self.device)]

    def in_order(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """All images once, in order: images, labels, and rows of the data set."""
        batches = torch.arange(self.samples).tensor_split(self.batches)
        for rows, images in zip(batches, self.pixels(batches), strict=True):
            start, stop = int(rows[0]), int(rows[-1]) + 1
            yield self.scale(images), self.labels[start:stop], self.index[start:stop]

    def pixels(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """Pixels of each batch of positions, uint8 [b, C, H, W] on the device."""
        raise NotImplementedError


class MemoryLoader(Loader):
    """A split whose images all live on the device."""

    def open(self, split: DataSplit, image: ImageOptions) -> None:
        pixels = torch.from_numpy(split.images.gather(split.split.index))
        self.images = resized(pixels.permute(0, 3, 1, 2), image).to(self.device)

    def pixels(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        for rows in batches:
            yield self.images[to_device(rows, self.device)]


class StreamLoader(Loader):
    """A split whose images are read and resized batch by batch, some ahead."""

    def open(self, split: DataSplit, image: ImageOptions) -> None:
        self.source, self.image = split.images, image
        self.rows = np.asarray(split.split.index)

    def pixels(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        for pixels in prefetch(self._read, batches, workers() + BATCHES_AHEAD):
            yield pixels.to(self.device, non_blocking=True)

    def _read(self, rows: Tensor) -> Tensor:
        images = torch.from_numpy(self.source.gather(self.rows[rows.numpy()]))
        pixels = resized(images.permute(0, 3, 1, 2), self.image)
        return pixels.pin_memory() if self.device.type == "cuda" else pixels


def make_loader(
    split: DataSplit,
    image: ImageOptions,
    device: torch.device,
    batch_size: int,
    rank: int = 0,
    world_size: int = 1,
) -> Loader:
    """The loader that suits a split: images in memory, or prepared ones streamed."""
    kind = MemoryLoader if isinstance(split.images, ImageSet) else StreamLoader
    return kind(split, image, device, batch_size, rank, world_size)


class PixelScale:
    """uint8 pixels to the model's input: scaled to [0, 1], then (x - mean) / std."""

    def __init__(self, image: ImageOptions, device: torch.device) -> None:
        mean = torch.tensor(image.per_channel(image.mean), device=device)
        std = torch.tensor(image.per_channel(image.std), device=device)
        # x / 255 / std - mean / std as one multiplication and one addition.
        self.factor = (1.0 / (255.0 * std))[:, None, None]
        self.offset = (-mean / std)[:, None, None]

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 [B, C, H, W] to float32, channels last in memory."""
        scaled = images.float() * self.factor + self.offset
        return scaled.contiguous(memory_format=torch.channels_last)
