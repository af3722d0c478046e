"""Observers that keep a run's course: a CSV file, TensorBoard, and test metrics by epoch."""

from __future__ import annotations

from attrs import frozen

from openset_core import ObserverSpec, hookimpl, option


@frozen(kw_only=True)
class TensorBoardOptions:
    samples: bool = option(
        True,
        "images of the first batch, and of the sample generator after each epoch, from the same "
        "noise each time",
    )
    histograms: bool = option(
        True, "histograms of trained parameters after each epoch, and of the test's scores"
    )


@hookimpl
def openset_observers() -> list[ObserverSpec]:
    return [
        ObserverSpec(
            name="by-epoch",
            summary="test-by-epoch.json in the run folder: test metrics after each epoch",
            factory="openset_plugins.trackers.by_epoch:ByEpoch",
        ),
        ObserverSpec(
            name="csv",
            summary="log.csv in the run folder: losses, rate and accuracy, a row an epoch",
            factory="openset_plugins.trackers.csv_log:CsvLog",
        ),
        ObserverSpec(
            name="tensorboard",
            summary="tensorboard/ in the run folder; extra openset[tensorboard]",
            factory="openset_plugins.trackers.tensorboard:build",
            config=TensorBoardOptions,
            reference="https://www.tensorflow.org/tensorboard",
        ),
    ]
