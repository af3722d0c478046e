"""One run is one folder: its files, and the stages that fill it.

Each stage reads what the one before wrote and writes its own result whole; a stage whose
result is there and current is skipped.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs

from openset_core import config
from openset_core.data.images import data_root
from openset_core.errors import CompositionError, DataError, RunFolderError, StoreError
from openset_core.experiment import Experiment, resolve
from openset_core.files import explained, write_text
from openset_core.model import (
    check_weights,
    library_versions,
    load_model,
    read_description,
)
from openset_core.observers import Observer, Observers, RunDone, RunStarted, StageDone
from openset_core.results import Results, evaluate_run


@attrs.frozen(kw_only=True)
class Runtime:
    """Where and how a run is carried out; none of it changes what is computed.

    Attributes:
        data_root: folder of data sets; $OPENSET_DATA or `./data` when None.
        download: whether missing data may be fetched.
        device: `"auto"`, or `"cpu"` to leave a GPU alone.
        devices: number of processes, one a device; more than one trains data-parallel.
        observers: told of what happens, beside those named as plugins.
        should_stop: asked between steps; raises to stop.
    """

    data_root: Path | None = None
    download: bool = False
    device: str = attrs.field(default="auto", validator=attrs.validators.in_(("auto", "cpu")))
    devices: int = attrs.field(default=1, validator=attrs.validators.ge(1))
    observers: tuple[Observer, ...] = ()
    should_stop: Callable[[], None] = lambda: None


@attrs.frozen
class RunFolder:
    """Paths of a run folder."""

    path: Path

    @property
    def experiment(self) -> Path:
        """The resolved experiment, and what was recorded about it."""
        return self.path / "experiment.toml"

    @property
    def metrics(self) -> Path:
        """One line an epoch."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Resume state."""
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        """The trained artefact."""
        return self.path / "model"

    @property
    def features(self) -> Path:
        """The feature store."""
        return self.path / "features.h5"

    @property
    def scores(self) -> Path:
        """Scores of every scorer."""
        return self.path / "scores.h5"

    @property
    def results(self) -> Path:
        """Every metric of every scorer."""
        return self.path / "results.json"

    def read(self) -> dict[str, Any]:
        """The recorded experiment.

        Raises:
            RunFolderError: not a run folder, or damaged.
        """
        if not self.experiment.exists():
            raise RunFolderError(f"{self.path} is not a run folder: it has no experiment.toml")
        return config.read_toml(self.experiment, "experiment", RunFolderError)

    def write(self, values: dict[str, Any]) -> None:
        """Write experiment.toml."""
        import tomli_w

        write_text(self.experiment, tomli_w.dumps(values))


def open_folder(path: Path) -> tuple[RunFolder, Experiment]:
    """An existing run folder and its experiment.

    Raises:
        RunFolderError: not a run folder.
    """
    folder = RunFolder(path)
    folder.read()
    return folder, resolve(file=folder.experiment)


def claim_folder(path: Path, experiment: Experiment) -> RunFolder:
    """A folder for an experiment: a new one, or the one it already has.

    Raises:
        RunFolderError: the folder holds another experiment or foreign files, or cannot be
            written.
    """
    folder = RunFolder(path)
    with explained(path):
        is_file = path.exists() and not path.is_dir()
        claimed = folder.experiment.exists()
    if is_file:
        raise RunFolderError(f"{path} is a file, not a folder; choose another with --out")
    if claimed:
        recorded = folder.read()
        same = recorded.get("record", {}).get("digest") == experiment.digest
        if same:
            _add_parts(folder, recorded, experiment)
            return folder
        if any(item.exists() for item in (folder.metrics, folder.checkpoints, folder.model)):
            _refuse_other(experiment, recorded, path)
        # A start that failed before it produced anything gives way to a corrected one.
        folder.write({**experiment.to_toml(), "record": _record(experiment)})
        return folder
    with explained(path):
        # A first write cut off may have left its partial file; anything else is foreign.
        foreign = path.is_dir() and any(
            not item.name.endswith(".partial") for item in path.iterdir()
        )
    if foreign:
        raise RunFolderError(
            f"{path} is not empty and no run folder; choose another folder with --out"
        )
    folder.write({**experiment.to_toml(), "record": _record(experiment)})
    return folder


def _refuse_other(experiment: Experiment, recorded: dict[str, Any], path: Path) -> None:
    differing = experiment.differences(recorded)
    parts = sorted(
        {part.reference for part in experiment.selection.parts if part.kind != "scorer"}
        - set(recorded.get("plugins", []))
    )
    differing += [f"part {name}" for name in parts if name not in differing]
    what = ", ".join(differing) or "the protocol's file"
    raise RunFolderError(
        f"{path} holds another experiment (different: {what}); choose another folder with --out"
    )


def _add_parts(folder: RunFolder, recorded: dict[str, Any], experiment: Experiment) -> None:
    """Note the scorers and observers of this call beside those that were there."""
    names = list(recorded["plugins"])
    updated = dict(recorded)
    for part in (*experiment.selection.scorers, *experiment.selection.observers):
        if part.reference not in names:
            names.append(part.reference)
        updated[part.name] = config.unstructure(experiment.options[part.name])
    updated["plugins"] = names
    if updated != recorded:
        updated["record"] = updated.pop("record")  # stays last in the file
        folder.write(updated)


def _record(experiment: Experiment) -> dict[str, Any]:
    return {
        "digest": experiment.digest,
        "versions": library_versions(),
        "plugins": {
            part.name: f"{part.distribution} {part.version}" for part in experiment.selection.parts
        },
        "hardware": _hardware(),
        **_git_commit(),
    }


def _hardware() -> dict[str, Any]:
    import platform

    return {
        "machine": platform.machine(),
        "system": platform.system(),
        "processors": os.cpu_count() or 0,
    }


def _git_commit() -> dict[str, str]:
    """The commit of the working copy that runs, where there is one."""
    import subprocess

    here = Path(__file__).resolve().parent
    if not (here.parent / ".git").exists():
        return {}
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    return {"git_commit": done.stdout.strip()}


# --- stages -----------------------------------------------------------------------------------


@attrs.define
class Stages:
    """Carries out the stages of one run.

    Attributes:
        folder: the run folder.
        experiment: what is run.
        runtime: where and how.
        observers: everybody who is told.
    """

    folder: RunFolder
    experiment: Experiment
    runtime: Runtime
    observers: Observers

    @classmethod
    def begin(cls, folder: RunFolder, experiment: Experiment, runtime: Runtime) -> Stages:
        """Prepare the stages and tell the observers that a run begins."""
        members = [*runtime.observers]
        for part in experiment.selection.observers:
            members.append(part.load()(experiment.options[part.name], folder.path))
        observers = Observers(members)
        observers.send(RunStarted(folder=folder.path, experiment=experiment.to_toml()))
        return cls(folder, experiment, runtime, observers)

    def everything(self) -> Results:
        """Do whatever is missing."""
        self.train()
        self.extract()
        return self.score()

    def _done(self, stage: str, begun: float, detail: str, skipped: bool = False) -> None:
        seconds = time.perf_counter() - begun
        if not skipped:
            self._note({"seconds": {stage: round(seconds, 2)}})
        self.observers.send(StageDone(stage=stage, seconds=seconds, detail=detail, skipped=skipped))

    def _note(self, values: dict[str, dict[str, Any]]) -> None:
        """Add to the record in experiment.toml."""
        recorded = self.folder.read()
        record = recorded.setdefault("record", {})
        for key, entries in values.items():
            record.setdefault(key, {}).update(entries)
        self.folder.write(recorded)

    # train

    def train(self) -> None:
        """Train the network, unless a finished model is there."""
        begun = time.perf_counter()
        model = self.folder.model
        if (model / "model.toml").exists():
            check_weights(model, read_description(model))
            self._done("train", begun, "the model is already trained", skipped=True)
            return
        from openset_core.training.launch import train_in_processes
        from openset_core.training.stage import train_here

        if self.runtime.devices > 1:
            train_in_processes(self.folder.path, self.runtime)
        else:
            train_here(self.folder, self.experiment, self.runtime, self.observers)
        self._done("train", begun, f"{self.experiment.training.epochs} epochs")

    # extract

    def ingredients(self) -> dict[str, Any]:
        """What the feature store must have been made from to be current."""
        description = read_description(self.folder.model)
        versions = library_versions()
        return {
            "weights": description.weights_sha256,
            "image": config.unstructure(description.image),
            "data": self.folder.read().get("record", {}).get("data", {}),
            "openset": versions["openset"],
            "torch": versions["torch"],
        }

    def extract(self, rebuild: bool = False) -> None:
        """Build the feature store, unless a current one is there; a stale one is replaced.

        Args:
            rebuild: replace whatever is there.

        Raises:
            StoreError: a damaged or foreign file is in the way; it is left alone.
        """
        from openset_core.features import FeatureStore, changed

        begun = time.perf_counter()
        expected = self.ingredients()
        reason = "there was no feature store"
        if rebuild:
            reason = "rebuilt as asked"
        elif self.folder.features.exists():
            with FeatureStore(self.folder.features) as store:
                stale = changed(expected, store.ingredients)
            if not stale:
                self._done("extract", begun, "the features are current", skipped=True)
                return
            reason = f"the feature store was stale ({', '.join(stale)} changed)"
        rows = self._extract(expected)
        self._done("extract", begun, f"{rows} samples; {reason}")

    def _extract(self, ingredients: dict[str, Any]) -> int:
        import torch

        from openset_core.data.loading import MemoryLoader
        from openset_core.data.preparation import prepare_data
        from openset_core.features import FeatureWriter, as_float

        root = data_root(self.runtime.data_root)
        data = prepare_data(
            self.experiment.protocol, self.experiment.trial, root, self.runtime.download
        )
        self._check_data(data.record(), ingredients["data"])
        device = torch.device(pick_device(self.runtime.device))
        model, description = load_model(self.folder.model, device)
        model = model.to(memory_format=torch.channels_last)

        @torch.inference_mode()
        def batches(loader: MemoryLoader) -> Iterator[dict[str, Any]]:
            for images, labels, index in loader.in_order():
                embedding, logits = model(images)
                yield {
                    "embedding": as_float(embedding),
                    "logits": as_float(logits),
                    "label": labels.cpu().numpy(),
                    "index": index.numpy(),
                }
                self.runtime.should_stop()

        rows = 0
        with FeatureWriter(self.folder.features, ingredients, len(description.classes)) as writer:
            for name, part in data.parts.items():
                rows += len(part)
                if not writer.has(name):
                    loader = MemoryLoader(part, description.image, device, batch_size=256)
                    writer.write_part(name, batches(loader))
        return rows

    def _check_data(self, found: dict[str, Any], recorded: dict[str, Any]) -> None:
        """Refuse to extract from other data than the model was trained with."""
        for part, facts in recorded.items():
            if found.get(part) != facts:
                raise DataError(
                    f"the data of part {part} changed since {self.folder.path} was trained; bring "
                    "back the old data, or train again in another folder"
                )

    # score

    def score(self) -> Results:
        """Fit and apply every scorer, evaluate, and write results.json."""
        from openset_core.features import FeatureStore
        from openset_core.scoring import score_run

        begun = time.perf_counter()
        expected = self.ingredients()
        with FeatureStore(self.folder.features) as store:
            if store.ingredients != expected:
                raise StoreError(f"{self.folder.features} is stale; run `openset extract RUN`")
            check_reads(self.experiment, store)
            scored = {
                part.name: score_run(
                    store,
                    self.folder.model,
                    self.folder.scores,
                    part,
                    self.experiment.options[part.name],
                    self.experiment.protocol.content.threshold.acceptance,
                )
                for part in self.experiment.selection.scorers
            }
            results = evaluate_run(self.experiment, store, scored)
        results.save(self.folder.results)
        fresh = [name for name, run in scored.items() if not run.reused]
        detail = f"fitted {', '.join(fresh)}" if fresh else "all scores were there"
        self._done("score", begun, detail, skipped=not fresh)
        self.observers.send(RunDone(folder=self.folder.path, results=config.unstructure(results)))
        return results


def check_reads(experiment: Experiment, store: Any) -> None:
    """Every scorer must find the arrays it reads."""
    have = set(store._file["parts"]["train"])
    for part in experiment.selection.scorers:
        reads = getattr(part.load(), "reads", ())
        missing = [name for name in reads if name not in have]
        if missing:
            raise CompositionError(
                f"scorer {part.name} reads {', '.join(missing)}, which the feature store does not "
                f"hold; it has {', '.join(sorted(have))}"
            )


def pick_device(wish: str) -> str:
    """`"cpu"`, or what this machine trains fastest on."""
    import torch

    if wish == "cpu":
        return "cpu"
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return accelerator.type if accelerator else "cpu"


def append_metrics(folder: RunFolder, record: dict[str, Any]) -> None:
    """Add an epoch's line; a line of the same epoch from before an interruption goes."""
    kept = [line for line in read_metrics(folder) if line["epoch"] < record["epoch"]]
    text = "".join(json.dumps(line) + "\n" for line in [*kept, record])
    write_text(folder.metrics, text)


def read_metrics(folder: RunFolder) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl."""
    if not folder.metrics.exists():
        return []
    try:
        return [json.loads(line) for line in folder.metrics.read_text("utf-8").splitlines()]
    except ValueError as error:
        raise RunFolderError(f"{folder.metrics} is damaged; delete it") from error
