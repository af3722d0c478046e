"""Images a second of the training loop, against the bare step of the same network: the ceiling.

    python tests/benchmarks/bench_step.py [--device cuda] [--networks classifier32,resnet18]

The bare step is forward, backward and update on one fixed batch; the loop also loads, augments,
meters terms and sets rates. Times by turns and prints medians of ratios within one run. On a GPU
it also counts how often an epoch of the loop waits for the device; that should not grow with steps.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn

from openset_core.components import OpenSetModel
from openset_core.data.images import ImageSet
from openset_core.data.loading import make_loader
from openset_core.data.preparation import DataSplit
from openset_core.data.splits import Split
from openset_core.experiment.experiment import resolve
from openset_core.experiment.protocol import ImageOptions
from openset_core.experiment.training_options import TrainingOptions
from openset_core.model.artefact import build_model
from openset_core.observers import Observers
from openset_core.training.loop import Trainer
from openset_core.training.optimisation import build_optimizers

BATCH, SIDE, CLASSES = 64, 32, 6
IMAGE = ImageOptions(size=SIDE, channels=3)


def built(network: str, device: torch.device, channels_last: bool) -> OpenSetModel:
    """Softmax on a backbone."""
    experiment = resolve(f"softmax,{network}")
    loss, backbone = experiment.selection.loss, experiment.selection.backbone
    model = build_model(
        (backbone, experiment.options[backbone.name]),
        (loss, experiment.options[loss.name]),
        CLASSES,
        IMAGE,
    ).to(device)
    return model.to(memory_format=torch.channels_last) if channels_last else model


def compare(
    network: str,
    device: torch.device,
    batches: int,
    rounds: int,
    *,
    bf16: bool = False,
    channels_last: bool = False,
    compiled: bool = False,
    fused: bool = True,
) -> tuple[float, float, float]:
    """Medians: images a second of the loop, of the bare step, and their ratio."""
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision="bf16" if bf16 else "no")
    random = np.random.default_rng(0)
    count = BATCH * batches
    images = ImageSet(
        images=random.integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8),
        labels=random.integers(0, CLASSES, count),
        classes=tuple("abcdef"),
    )
    split = Split(index=np.arange(count), label=images.labels)
    loader = make_loader(DataSplit(images=images, split=split), IMAGE, device, BATCH)
    options = TrainingOptions(
        batch_size=BATCH, lr=0.01, crop_padding=4, flip=True, compile=compiled
    )
    trainer = Trainer(
        built(network, device, channels_last),
        loader,
        loader,
        options,
        seed=0,
        accelerator=accelerator,
        checkpoints=Path("unused"),
        observers=Observers(),
    )
    bare = built(network, device, channels_last)
    if compiled:
        bare.backbone.compile()
    (item,) = build_optimizers(bare.phases(), options)
    if not fused:
        for each in (item, *trainer.optimizers):
            for group in each.optimizer.param_groups:
                group["fused"], group["foreach"] = False, True
    bare.train()
    batch = torch.randn(BATCH, 3, SIDE, SIDE, device=device)
    batch = batch.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, CLASSES, (BATCH,), device=device)

    def ceiling() -> None:
        for _ in range(batches):
            with accelerator.autocast():
                logits = bare.loss.logits(bare.backbone(batch))
            nn.functional.cross_entropy(logits.float(), labels).backward()
            item.optimizer.step()
            item.optimizer.zero_grad(set_to_none=True)

    def loop() -> None:
        trainer._epoch(0)

    rates: list[tuple[float, float]] = []
    for _ in range(rounds + 1):
        pair = []
        for run in (loop, ceiling):
            wait(device)
            begun = time.perf_counter()
            run()
            wait(device)
            pair.append(count / (time.perf_counter() - begun))
        rates.append((pair[0], pair[1]))
    if device.type == "cuda":
        print(f"  an epoch of {batches} steps waits {synchronisations(loop)} times for the device")
    counted = rates[1:]  # the first round warms up
    return (
        median(r[0] for r in counted),
        median(r[1] for r in counted),
        median(r[0] / r[1] for r in counted),
    )


def synchronisations(run: Callable[[], None]) -> int:
    """How often a run waits for the GPU."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            run()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(item.message).lower() for item in seen)


def wait(device: torch.device) -> None:
    """Until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--networks", default="classifier32,resnet18")
    parser.add_argument("--batches", type=int, default=3, help="batches a timing")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="also with torch.compile")
    chosen = parser.parse_args()
    device = torch.device(chosen.device)
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")
    variants: dict[str, dict[str, bool]] = {
        "fp32": {},
        "fp32, network channels last": {"channels_last": True},
        "bf16": {"bf16": True},
        "bf16, network channels last": {"bf16": True, "channels_last": True},
        "bf16, network channels last, optimiser not fused": {
            "bf16": True,
            "channels_last": True,
            "fused": False,
        },
    }
    if chosen.compile:
        variants["bf16, network channels last, compiled"] = {
            "bf16": True,
            "channels_last": True,
            "compiled": True,
        }
    for network in chosen.networks.split(","):
        for name, settings in variants.items():
            ours, bare, ratio = compare(network, device, chosen.batches, chosen.rounds, **settings)
            print(
                f"{network}, {name}: loop {ours:,.0f} images/s, bare step {bare:,.0f}, "
                f"ratio {ratio:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
