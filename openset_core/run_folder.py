"""One run is one folder: its files, and to which experiment it belongs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import attrs

from openset_core.errors import RunFolderError
from openset_core.experiment import config
from openset_core.experiment.environment import git_commit, hardware, library_versions
from openset_core.experiment.experiment import Experiment, resolve
from openset_core.experiment.threshold import Thresholds
from openset_core.files import os_errors_as, write_text
from openset_core.observers import Observer
from openset_core.registry import Component, Registry

DEFAULT_RUNS = Path("runs")


@attrs.frozen(kw_only=True)
class Runtime:
    """Where and how a run is carried out; none of it changes what is computed."""

    data_root: Path | None = None  # None: $OPENSET_DATA or `./data`
    download: bool = False
    # `"cpu"` leaves a GPU alone
    device: str = attrs.field(default="auto", validator=attrs.validators.in_(("auto", "cpu")))
    # processes, one a device; more than one trains data-parallel
    devices: int = attrs.field(default=1, validator=attrs.validators.ge(1))
    observers: tuple[Observer, ...] = ()  # beside those named as plugins
    plugins: Registry | None = None  # None: the installed ones; others work with one device only
    should_stop: Callable[[], None] = lambda: None  # asked between steps; raises to stop


class _Inside:
    """The path of something inside a run folder."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, folder: RunFolder, _owner: type) -> Path:
        return folder.path / self.name


@attrs.frozen
class RunFolder:
    """Paths of a run folder, and what it records."""

    path: Path

    experiment = _Inside("experiment.toml")  # resolved, and what was recorded about it
    metrics = _Inside("metrics.jsonl")  # one line an epoch
    checkpoints = _Inside("checkpoints")  # to resume from
    model = _Inside("model")
    features = _Inside("features.h5")
    scores = _Inside("scores.h5")
    samples = _Inside("samples.h5")  # generated samples, where there was a generator
    kept = _Inside("figures.h5")  # to make page and figures again without data and network
    results = _Inside("results.json")
    sample_history = _Inside("looks.h5")  # what the generator made as training went on
    report = _Inside("report.html")
    figures = _Inside("figures")  # for papers, as PNG and SVG

    def read(self) -> dict[str, Any]:
        if not self.experiment.exists():
            raise RunFolderError(f"{self.path} is not a run folder: it has no experiment.toml")
        return config.read_toml(self.experiment, "experiment", RunFolderError)

    def write(self, values: dict[str, Any]) -> None:
        import tomli_w

        write_text(self.experiment, tomli_w.dumps(values))


def open_folder(path: Path) -> tuple[RunFolder, Experiment]:
    folder = RunFolder(path)
    folder.read()
    return folder, resolve(file=folder.experiment)


def initialize_folder(
    path: Path, experiment: Experiment, plugins: Registry | None = None
) -> tuple[RunFolder, Experiment]:
    """A folder for an experiment, and the experiment with the scorers of earlier calls, too."""
    folder = RunFolder(path)
    with os_errors_as(path):
        exists = folder.experiment.exists()
    if exists:
        recorded = folder.read()
        record = recorded.get("record", {})
        if record.get("digest") == experiment.digest:
            if _join(folder, recorded, experiment):
                return folder, experiment
            return folder, resolve(file=folder.experiment, registry_=plugins)
        produced = (folder.metrics, folder.checkpoints, folder.model)
        if "data" in record or any(item.exists() for item in produced):
            _refuse_other(experiment, recorded, path)
        # A start that failed before training began gives way to a corrected one.
    else:
        refuse_foreign(path, own=experiment.protocol.path)
    folder.write({**_plain(experiment, folder), "record": _record(experiment)})
    return folder, experiment


def refuse_foreign(path: Path, own: Path | None = None) -> None:
    """Refuse a place for a run folder that holds something else than a folder around `own`."""
    with os_errors_as(path):
        if path.exists() and not path.is_dir():
            raise RunFolderError(f"{path} is a file, not a folder; choose another with --out")
        # A first write cut off may have left its partial file; anything else is foreign.
        foreign = path.is_dir() and any(
            not item.name.endswith(".partial") and (own is None or item not in own.parents)
            for item in path.iterdir()
        )
    if foreign:
        raise RunFolderError(
            f"{path} is not empty and no run folder; choose another folder with --out"
        )


def _plain(experiment: Experiment, folder: RunFolder) -> dict[str, Any]:
    """What experiment.toml says; a protocol in the run folder moves with it."""
    values = experiment.to_toml()
    path = experiment.protocol.path
    if experiment.protocol.own and path.is_relative_to(folder.path):
        values["protocol"] = path.relative_to(folder.path).as_posix()
    return values


def _refuse_other(experiment: Experiment, recorded: dict[str, Any], path: Path) -> None:
    differing = experiment.differences(recorded, _plain(experiment, RunFolder(path)))
    chosen = {item.reference for item in experiment.selection.components if item.kind != "scorer"}
    missing = sorted(chosen - set(recorded.get("plugins", [])))
    differing += [f"component {name}" for name in missing if name not in differing]
    what = ", ".join(differing) or "the protocol's file"
    raise RunFolderError(
        f"{path} holds another experiment (different: {what}); choose another folder with --out"
    )


def _join(folder: RunFolder, recorded: dict[str, Any], experiment: Experiment) -> bool:
    """Note this call's scorers, observers and thresholds; whether the folder is now just this."""
    names = list(recorded["plugins"])
    updated = dict(recorded)
    for component in (*experiment.selection.scorers, *experiment.selection.observers):
        if component.reference not in names:
            names.append(component.reference)
        updated[component.name] = config.unstructure(experiment.options[component.name])
    updated["plugins"] = names
    origins = {**_origins(experiment), **recorded.get("record", {}).get("plugins", {})}
    updated["record"] = {**recorded.get("record", {}), "plugins": origins}
    # Without a choice in this call the one of an earlier call stays.
    if experiment.thresholds:
        chosen = config.structure(recorded.get("threshold", {}), Thresholds, "threshold")
        updated["threshold"] = config.unstructure(chosen.joined(experiment.thresholds))
    if updated != recorded:
        updated["record"] = updated.pop("record")  # stays last in the file
        folder.write(updated)
    ours = _plain(experiment, folder)
    return all(updated.get(key) == ours.get(key) for key in ("plugins", "threshold"))


def remove_components(folder: RunFolder, components: Iterable[Component]) -> None:
    """Remove components, their options and thresholds from what experiment.toml says."""
    recorded = folder.read()
    for component in components:
        recorded["plugins"] = [name for name in recorded["plugins"] if name != component.reference]
        recorded.pop(component.name, None)
        recorded.get("threshold", {}).get("scorers", {}).pop(component.name, None)
        recorded.get("record", {}).get("plugins", {}).pop(component.name, None)
    folder.write(recorded)


def _record(experiment: Experiment) -> dict[str, Any]:
    return {
        "digest": experiment.digest,
        "protocol_digest": experiment.protocol.plain_digest or experiment.protocol.digest,
        "versions": library_versions(),
        "plugins": _origins(experiment),
        "hardware": hardware(),
        **git_commit(),
    }


def _origins(experiment: Experiment) -> dict[str, str]:
    return {
        component.name: f"{component.distribution} {component.version}"
        for component in experiment.selection.components
    }


def append_metrics(folder: RunFolder, record: dict[str, Any]) -> None:
    """Add an epoch's line; a line of the same epoch from before an interruption goes."""
    kept = [line for line in read_metrics(folder) if line["epoch"] < record["epoch"]]
    write_text(folder.metrics, "".join(json.dumps(line) + "\n" for line in [*kept, record]))


def read_metrics(folder: RunFolder) -> list[dict[str, Any]]:
    if not folder.metrics.exists():
        return []
    try:
        return [json.loads(line) for line in folder.metrics.read_text("utf-8").splitlines()]
    except ValueError as error:
        raise RunFolderError(f"{folder.metrics} is damaged; delete it") from error
