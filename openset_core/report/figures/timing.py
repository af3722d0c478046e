"""Milliseconds an image and numbers of parameters, a row a run."""

from __future__ import annotations

import contextlib
import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from attrs import asdict, frozen

from openset_core.errors import FigureError, RunFolderError
from openset_core.files import write_text
from openset_core.model.artefact import read_description
from openset_core.report.charts.panels import panels
from openset_core.report.charts.timing import bars
from openset_core.report.data import RunData
from openset_core.report.figures import Timing
from openset_core.report.figures.drawing import FigureResult, FigureRuns, chosen_scorer

FILE_NAME = "timing.json"
WARM_UP = 2
"""Batches before the measurement."""


@frozen(kw_only=True)
class Measurement:
    """How long a run's network and a scorer take, in milliseconds an image."""

    device: str
    threads: int  # of the processor; 0 for an accelerator
    batch_size: int
    repeats: int
    scorer: str
    network_ms: float  # from preprocessed images to embedding and logits; the median batch
    scorer_ms: float  # of the scorer, on arrays
    parameters: int  # of the network at test time
    weights: str  # their hash
    torch: str

    @property
    def hardware(self) -> str:
        """Device, and threads of a processor."""
        many = "s" if self.threads > 1 else ""
        return f"{self.device}, {self.threads} thread{many}" if self.threads else self.device


def draw(shape: Timing, runs: FigureRuns) -> FigureResult:
    """Draw bars for each run; a run that was not measured yet is measured."""
    rows: list[tuple[Any, ...]] = []
    used = set()
    for group, label in zip(runs.groups, runs.labels(), strict=True):
        run = group.first  # the other trials have the same network
        scorers = run.scored if shape.scorer == "all" else (chosen_scorer(run, shape.scorer),)
        used |= set(scorers)
        for item in measurements_of(run, scorers, shape):
            name = f"{label}, {item.scorer}" if len(scorers) > 1 else label
            times = item.network_ms + item.scorer_ms, item.scorer_ms
            rows.append((name, *times, item.parameters, item.hardware))
    rows += [
        (f"{label} (published)", ms, None, 1000 * thousands, shape.published_hardware)
        for label, ms, thousands in shape.published
    ]
    names, totals, _scorers, sizes, hardware = zip(*rows, strict=True)
    times_chart = bars(names, totals, hardware, title="milliseconds an image")
    sizes_chart = bars(names, sizes, hardware, title="parameters", labels=False)
    return FigureResult(
        chart=panels(
            [("", times_chart), ("", sizes_chart)],
            "Bars of times and parameters; their numbers stand in the table.",
            columns=2,
        ),
        caption=(
            f"Time from a preprocessed image to its score ({', '.join(sorted(used))}), the median "
            f"of {shape.repeats} batches of {shape.batch_size} random images, and parameters at "
            "test time. Times on different hardware do not compare."
        ),
        columns=("method", "ms an image", "of it the scorer", "parameters", "hardware"),
        rows=rows,
    )


def measurements_of(run: RunData, scorers: Sequence[str], shape: Timing) -> list[Measurement]:
    """The measurements that a run keeps for these options, one a scorer; what is missing is
    measured and kept."""
    path = run.folder.path / FILE_NAME
    weights = read_description(run.folder.model).weights_sha256
    asked = (weights, shape.batch_size, shape.repeats)
    there = {
        item.scorer: item
        for item in _read(path)
        if (item.weights, item.batch_size, item.repeats) == asked and not shape.again
    }
    missing = [name for name in scorers if name not in there]
    if missing:
        made = measure(run.folder.path, missing, shape.batch_size, shape.repeats)
        there |= {item.scorer: item for item in made}
        content = {"measurements": [asdict(item) for item in there.values()]}
        with contextlib.suppress(RunFolderError):  # a read-only folder can be measured, too
            write_text(path, json.dumps(content, indent=1) + "\n")
    return [there[name] for name in scorers]


def _read(path: Path) -> list[Measurement]:
    if not path.exists():
        return []
    try:
        return [Measurement(**item) for item in json.loads(path.read_text("utf-8"))["measurements"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FigureError(f"{path} is damaged; delete it to measure anew") from error


def measure(
    folder: Path, scorers: Sequence[str], batch_size: int, repeats: int
) -> list[Measurement]:
    """Time a run's network, and some of its scorers, on random images."""
    import torch

    from openset_core.features.store import as_float
    from openset_core.inference.trained_model import load

    trained = load(folder)
    image = trained.description.image
    generator = torch.Generator().manual_seed(0)
    size = (batch_size, image.channels, image.size, image.size)
    pixels = torch.randint(0, 256, size, dtype=torch.uint8, generator=generator)
    batch = trained.pixel_scale(pixels.to(trained.device))
    on_processor = trained.device.type == "cpu"

    def forward() -> Any:
        with torch.inference_mode():
            outputs = trained.network(batch)
        if not on_processor:
            torch.accelerator.synchronize()
        return outputs

    def median_ms(function: Callable[[], Any]) -> float:
        for _ in range(WARM_UP):
            function()
        times = []
        for _ in range(repeats):
            begun = time.perf_counter()
            function()
            times.append(1000.0 * (time.perf_counter() - begun))
        return statistics.median(times) / batch_size

    embedding, logits = forward()
    table = {"embedding": as_float(embedding), "logits": as_float(logits)}
    network_ms = median_ms(forward)
    return [
        Measurement(
            device=device_name(trained.device.type),
            threads=torch.get_num_threads() if on_processor else 0,
            batch_size=batch_size,
            repeats=repeats,
            scorer=name,
            network_ms=network_ms,
            scorer_ms=median_ms(partial(trained.fitted(name).scorer.score, table)),
            parameters=trained.network.parameter_count(),
            weights=trained.description.weights_sha256,
            torch=torch.__version__,
        )
        for name in scorers
    ]


def device_name(kind: str) -> str:
    """Name of the accelerator, or of the processor."""
    import torch

    if kind == "cuda":
        return torch.cuda.get_device_name()
    if kind != "cpu":
        return kind
    lines: list[str] = []
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
