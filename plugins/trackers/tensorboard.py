"""Scalars, histograms, sample images and final metrics for TensorBoard."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from openset_core import Observer, RunEvent
from openset_core.errors import PluginError, RunFolderError
from openset_core.observers import (
    EpochDone,
    ImagesSeen,
    ParametersRead,
    RunDone,
    RunStarted,
    SamplesDrawn,
    StageDone,
    TrainingStarted,
)
from openset_core.report.data import open_run
from openset_plugins.trackers import TensorBoardOptions

FOLDER_NAME = "tensorboard"


class TensorBoard(Observer):
    """Writes event files below tensorboard/ in the run folder; the step is the epoch, from 1.

    loss/PHASE/TERM, rate, validation_accuracy, images_per_second, seconds: after each epoch;
    parameters/NAME: histograms of what is trained; images: some of the first batch, augmented;
    samples: the generator's images; in the end scores/SCORER/SPLIT, histograms of the scores, and
    test/SCORER/METRIC, with the run's options as hyperparameters. A run that goes on takes back
    what was written after its last checkpoint.

    """

    def __init__(self, config: TensorBoardOptions, folder: Path, make: Any) -> None:
        images = (ImagesSeen, SamplesDrawn) if config.samples else ()
        self.wants = (*images, ParametersRead) if config.histograms else images
        self._histograms = config.histograms
        self.folder = folder / FOLDER_NAME
        self.epochs = 0
        self._make, self._made = make, None
        self._experiment: Mapping[str, Any] = {}

    def receive(self, event: RunEvent) -> None:
        if isinstance(event, RunStarted):
            self._experiment = event.experiment
        elif isinstance(event, TrainingStarted):
            self.epochs = event.first_epoch
            purge = event.first_epoch + 1 if event.first_epoch else None
            self._made = self._make(str(self.folder), purge_step=purge)
        elif isinstance(event, SamplesDrawn | ImagesSeen):
            name = "samples" if isinstance(event, SamplesDrawn) else "images"
            self._writer.add_images(name, event.images, event.epoch + 1, dataformats="NHWC")
        elif isinstance(event, ParametersRead):
            for name, values in event.values.items():
                self._histogram(f"parameters/{name}", values, event.epoch + 1)
        elif isinstance(event, EpochDone):
            self._epoch(event)
        elif isinstance(event, StageDone) and not event.skipped:
            self._writer.add_scalar(f"seconds/{event.stage}", event.seconds, self.epochs)
        elif isinstance(event, RunDone):
            if self._histograms:
                self._scores(event.folder, event.results["epochs"])
            self._finish(event.results)

    def close(self) -> None:
        if self._made is not None:
            self._made.close()
            self._made = None

    @property
    def _writer(self) -> Any:
        """The writer; a run that is only scored has none yet."""
        if self._made is None:
            self._made = self._make(str(self.folder))
        return self._made

    def _epoch(self, event: EpochDone) -> None:
        self.epochs = event.epoch + 1
        for name, value in event.record.items():
            if name == "terms":
                for term, mean in value.items():
                    self._writer.add_scalar(f"loss/{term}", mean, self.epochs)
            elif name != "epoch" and isinstance(value, int | float):
                self._writer.add_scalar(name, value, self.epochs)
        self._writer.flush()  # so that TensorBoard shows each epoch as it comes

    def _histogram(self, tag: str, values: Any, step: int) -> None:
        finite = np.asarray(values)[np.isfinite(values)]
        if finite.size:
            self._writer.add_histogram(tag, finite, step)

    def _scores(self, folder: Path, step: int) -> None:
        try:
            with open_run(folder) as run:
                for split in (*([run.known] if run.known else []), *run.unknown):
                    for scorer, scores in split.scores.items():
                        self._histogram(f"scores/{scorer}/{split.name}", scores, step)
        except RunFolderError:  # nothing there to read, as when scores were removed
            return

    def _finish(self, results: Mapping[str, Any]) -> None:
        metrics = {
            f"test/{scorer}/{metric}": float(value)
            for scorer, result in results["scorers"].items()
            for metric, value in result["metrics"].items()
            if isinstance(value, int | float)
        }
        options = plain_values(self._experiment)
        self._writer.add_hparams(options, metrics, run_name=".", global_step=results["epochs"])
        self._writer.flush()


def plain_values(experiment: Mapping[str, Any]) -> dict[str, Any]:
    """Options as TensorBoard takes them, by `component.option`; lists as text.

    >>> plain_values({"seed": 1, "plugins": ["a", "b"], "training": {"lr": 0.1}})
    {'seed': 1, 'plugins': 'a,b', 'training.lr': 0.1}
    """
    values: dict[str, Any] = {}
    for name, value in experiment.items():
        if isinstance(value, Mapping):
            inner = plain_values(value)
            values.update({f"{name}.{key}": item for key, item in inner.items()})
        elif isinstance(value, list | tuple):
            values[name] = ",".join(map(str, value))
        elif isinstance(value, bool | int | float | str):
            values[name] = value
    return values


def build(config: TensorBoardOptions, folder: Path) -> TensorBoard:
    try:
        importlib.import_module("tensorboard")
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError as error:
        raise PluginError(
            "the observer tensorboard needs the package tensorboard, which is not installed: "
            "pip install 'openset[tensorboard]'"
        ) from error
    return TensorBoard(config, folder, SummaryWriter)
