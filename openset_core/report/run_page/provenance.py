"""How a run came about: components, settings, the command that repeats it, and warnings."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from openset_core.errors import OpensetError
from openset_core.experiment import config
from openset_core.experiment.experiment import Experiment, resolve
from openset_core.model.artefact import read_description
from openset_core.report.data import RunData
from openset_core.report.formatting import number, percent
from openset_core.run_folder import open_folder
from openset_core.scoring.fitting import file_name

FEW_SAMPLES = 30
"""Below so many validation samples a share of them is a coarse measure."""

Change = tuple[str, str, Any, Any]
"""Section, key, recorded value, and the value without the change."""


def provenance(run: RunData) -> dict[str, Any]:
    """Set-up from what the run recorded, and from the installed plugins where they are there."""
    recorded = run.recorded
    unchanged = _unchanged(run)
    settings: list[Change] = [
        (section, key, value, None)
        for section, values in recorded.items()
        if section not in ("record", "threshold") and isinstance(values, Mapping)
        for key, value in values.items()
    ]
    changes: list[Change] = []
    protocol = run.results.protocol
    if unchanged is not None:
        usual = unchanged.to_toml()
        pairs = [(*setting[:3], usual.get(setting[0], {}).get(setting[1])) for setting in settings]
        changes = [change for change in pairs if change[2] != change[3]]
        content = unchanged.protocol.content
        if content.summary:
            protocol += f": {content.summary}" + (f" ({content.source})" if content.source else "")
    try:
        parameters = read_description(run.folder.model).parameters
    except OpensetError:
        parameters = 0
    return {
        "components": _components(run, unchanged),
        "protocol": protocol,
        "changes": [
            f"{section}.{key} = {_written(value)} (otherwise {_written(usual)})"
            for section, key, value, usual in changes
        ],
        "command": _command(run, settings if unchanged is None else changes),
        "parameters": parameters,
        "thresholds": [
            f"{scorer}: {number(results.threshold, 4)}{_how_set(run, scorer)}"
            for scorer, results in run.scorers.items()
        ],
    }


def _unchanged(run: RunData) -> Experiment | None:
    """The experiment with no setting changed; None where a plugin is gone."""
    try:
        _, experiment = open_folder(run.folder.path)
        names, reference = experiment.selection.names, experiment.protocol.reference
        return resolve(names, reference, experiment.trial, experiment.seed)
    except OpensetError:
        return None


def _command(run: RunData, changed: list[Change]) -> str:
    recorded = run.recorded
    name = run.folder.path.resolve().name
    if (run.folder.path / str(recorded.get("protocol", ""))).is_file():
        # The protocol of a user's own images lies in the run folder.
        return shlex.join(["openset", "run", f"{name}/experiment.toml", "--out", f"{name}-again"])
    words = ["openset", "run", "--plugins", ",".join(recorded.get("plugins", []))]
    words += ["--protocol", str(recorded.get("protocol", ""))]
    words += ["--trial", str(recorded.get("trial", 0)), "--seed", str(recorded.get("seed", 0))]
    for section, key, value, _ in changed:
        words += ["--set", f"{section}.{key}={_written(value)}"]
    threshold = recorded.get("threshold", {})
    if "acceptance" in threshold:
        words += ["--threshold", _written(threshold["acceptance"])]
    for scorer, choice in threshold.get("scorers", {}).items():
        for rule, value in choice.items():
            words += ["--threshold", f"{scorer}:{rule}={_written(value)}"]
    return shlex.join(words)


def _written(value: Any) -> str:
    """A value as `--set` takes it."""
    if value is None:
        return "nothing"
    if isinstance(value, bool | list | dict):
        return json.dumps(value)
    return str(value)


def _components(run: RunData, experiment: Experiment | None) -> list[dict[str, str]]:
    """Kind, name and version, with summary and reference where the plugin is installed."""
    versions = run.record.get("plugins", {})
    if experiment is None:
        return [
            {"kind": "component", "name": str(name), "distribution": str(versions.get(name, ""))}
            for name in run.recorded.get("plugins", [])
        ]
    return [
        {
            "kind": component.kind,
            "name": component.name,
            "distribution": str(
                versions.get(component.name, f"{component.distribution} {component.version}")
            ),
            "summary": component.spec.summary,
            "reference": getattr(component.spec, "reference", "") or "",
        }
        for component in experiment.selection.components
    ]


def _how_set(run: RunData, scorer: str) -> str:
    path = run.folder.model / "scorers" / f"{file_name(scorer)}.toml"
    try:
        acceptance = config.read_toml(path, "scorer").get("acceptance")
    except OpensetError:
        return ""
    if acceptance is None:
        return ", given as a score"
    return f", accepts {100 * acceptance:.4g} % of the validation samples"


def warnings(run: RunData) -> Iterator[str]:
    """What limits what the numbers mean."""
    record, results = run.record, run.results
    if "dirty" in str(record.get("git_commit", "")):
        yield "The source had uncommitted changes, so its commit alone does not repeat the run."
    validation = results.samples.get("validation", 0)
    if 0 < validation < FEW_SAMPLES:
        yield (
            f"Only {validation} validation samples set the thresholds; another draw would "
            "move them."
        )
    if run.num_classes > 1 and results.scorers:
        accuracy = next(iter(results.scorers.values())).metrics.get("accuracy", 1.0)
        if accuracy <= 1.5 / run.num_classes:
            yield (
                f"Accuracy is {percent(accuracy)} %, about chance for {run.num_classes} classes: "
                "the network has not learned to tell them apart."
            )
    for scorer in run.scored:
        yield from _about_scorer(run, scorer)
    for line in run.history:
        values = [*line.get("terms", {}).values(), line.get("validation_accuracy", 0.0)]
        if not np.isfinite([value for value in values if isinstance(value, int | float)]).all():
            yield f"In epoch {line['epoch']} something measured is not a finite number."
            break


def _about_scorer(run: RunData, scorer: str) -> Iterator[str]:
    assert run.known is not None
    scores = np.concatenate([run.known.scores[scorer], *(u.scores[scorer] for u in run.unknown)])
    threshold = run.scorers[scorer].threshold
    if len(scores) and np.ptp(scores) == 0:
        yield (
            f"Scorer {scorer} gives every test sample the same score, "
            f"{number(float(scores[0]))}; it tells nothing apart."
        )
    elif (scores > threshold).all():
        yield f"The threshold of {scorer} rejects every test sample."
    elif run.unknown and (scores <= threshold).all():
        yield f"The threshold of {scorer} accepts every test sample."
