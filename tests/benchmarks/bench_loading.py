"""Images a second through loader and augmentation, against the training step and torchvision.

    python tests/benchmarks/bench_loading.py [--device cuda]

Times by turns and prints medians within one run; single times depend on the machine.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torchvision.transforms import v2

from openset_core.components import BackboneContext
from openset_core.data.augmentation import Augmentation
from openset_core.data.images import ImageSet
from openset_core.data.loading import make_loader
from openset_core.data.preparation import DataSplit
from openset_core.data.randaugment import RandAugment
from openset_core.data.splits import Split
from openset_core.experiment.protocol import ImageOptions
from openset_core.registry import registry

BATCH, SIDE, CLASSES = 64, 32, 6
ROUNDS = 5

OURS = {
    "none": Augmentation(),
    "crop and flip": Augmentation(crop_padding=4, flip=True),
    "RandAugment, crop and flip": Augmentation(
        randaugment=RandAugment(operations=1, magnitude=6), crop_padding=4, flip=True
    ),
}
THEIRS = {
    "none": [],
    "crop and flip": [v2.RandomCrop(SIDE, padding=4), v2.RandomHorizontalFlip()],
    "RandAugment, crop and flip": [
        v2.RandAugment(num_ops=1, magnitude=6),
        v2.RandomCrop(SIDE, padding=4),
        v2.RandomHorizontalFlip(),
    ],
}


class PillowImages(torch.utils.data.Dataset[Any]):
    """The same images as torchvision's data sets keep and change them."""

    def __init__(self, images: ImageSet, changes: list[nn.Module]) -> None:
        self.images = images
        self.change = v2.Compose(
            [*changes, v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True)]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> Any:
        return self.change(Image.fromarray(self.images.images[row])), int(self.images.labels[row])


def step_of_classifier32(device: torch.device) -> Callable[[], None]:
    """Forward, backward and update on one fixed batch."""
    part = registry().find("classifier32", ("backbone",))
    network = part.load()(part.spec.config(), BackboneContext(channels=3, image_size=SIDE))
    head = nn.Linear(network.vector_dim, CLASSES)
    network, head = network.to(device), head.to(device)
    optimizer = torch.optim.SGD([*network.parameters(), *head.parameters()], lr=0.01, fused=True)
    images = torch.randn(BATCH, 3, SIDE, SIDE, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, CLASSES, (BATCH,), device=device)
    bf16 = device.type == "cuda"

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss = nn.functional.cross_entropy(head(network(images).vector), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def rate(run: Callable[[], object], images: int, device: torch.device, calls: int = 1) -> float:
    """Images a second."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    begun = time.perf_counter()
    for _ in range(calls):
        run()
    wait()
    return images * calls / (time.perf_counter() - begun)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=0, help="of torchvision's DataLoader")
    parser.add_argument("--images", type=int, default=2048)
    chosen = parser.parse_args()
    device, count = torch.device(chosen.device), chosen.images
    random = np.random.default_rng(0)
    images = ImageSet(
        images=random.integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8),
        labels=random.integers(0, CLASSES, count),
        classes=tuple("abcdef"),
    )
    split = Split(index=np.arange(count), label=images.labels)
    part = DataSplit(images=images, split=split)
    loader = make_loader(part, ImageOptions(size=SIDE, channels=3), device, BATCH)
    step = step_of_classifier32(device)
    step()
    for name, augmentation in OURS.items():
        order = torch.Generator().manual_seed(0)
        pillow = torch.utils.data.DataLoader(
            PillowImages(images, THEIRS[name]),
            BATCH,
            shuffle=True,
            num_workers=chosen.workers,
            persistent_workers=chosen.workers > 0,
        )

        def ours(change: Augmentation = augmentation, order: torch.Generator = order) -> None:
            exhaust(loader.shuffled(order, change))

        def theirs(source: Any = pillow) -> None:
            for batch, labels in source:
                batch.to(device)
                labels.to(device)

        ours()
        theirs()
        rates = [
            (
                rate(ours, count, device),
                rate(step, BATCH, device, calls=2 if device.type == "cpu" else 50),
                rate(theirs, count, device),
            )
            for _ in range(ROUNDS)
        ]
        print(
            f"{name}: loading {median(r[0] for r in rates):,.0f} images/s, "
            f"{median(r[0] / r[1] for r in rates):.1f} times the training step "
            f"({median(r[1] for r in rates):,.0f}), {median(r[0] / r[2] for r in rates):.1f} times "
            f"torchvision with Pillow ({median(r[2] for r in rates):,.0f})",
            flush=True,
        )


def exhaust(batches: Iterator[Any]) -> None:
    """Run through an epoch."""
    for _batch in batches:
        pass


if __name__ == "__main__":
    main()
