"""How a run came about: parts, settings, the command that repeats it, and what to be wary of."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

import numpy as np
from attrs import frozen

from openset_core.errors import OpensetError
from openset_core.experiment.experiment import Experiment, resolve
from openset_core.report.axes import number, percent
from openset_core.report.data import RunData
from openset_core.run_folder import open_folder

FEW_SAMPLES = 30
"""Below so many validation samples a share of them is a coarse measure."""


@frozen(kw_only=True)
class ComponentInUse:
    """A part of the experiment.

    Attributes:
        kind: loss, backbone, scorer, generator or observer.
        name: its name.
        distribution: who offers it, with the version.
        summary: one line; empty where the plugin is no longer installed.
        reference: the paper; may be empty.
    """

    kind: str
    name: str
    distribution: str
    summary: str = ""
    reference: str = ""


@frozen(kw_only=True)
class Provenance:
    """How a run came about.

    Attributes:
        parts: the parts.
        protocol: one line about the protocol, and where it is from; empty where it is gone.
        changes: settings that are not the protocol's and the parts' own, with what those are.
        command: repeats the run.
        warnings: what to be wary of, one sentence each.
    """

    parts: tuple[ComponentInUse, ...]
    protocol: str
    changes: tuple[str, ...]
    command: str
    warnings: tuple[str, ...]


def provenance(run: RunData) -> Provenance:
    """Read it from what the run recorded, and from the installed plugins where they are there."""
    recorded = run.recorded
    own = _without_changes(run)
    changed = _changes(recorded, own)
    return Provenance(
        parts=_parts(run, own),
        protocol=_protocol(own),
        changes=tuple(
            f"{section}.{key} = {_written(value)}" + (f" (otherwise {_written(usual)})")
            for section, key, value, usual in changed
        ),
        command=_command(run, changed if own else _all_settings(recorded)),
        warnings=tuple(_warnings(run)),
    )


def _without_changes(run: RunData) -> Experiment | None:
    """The same parts and protocol with nothing set by the user; None where a plugin is gone."""
    try:
        _, experiment = open_folder(run.folder.path)
        return resolve(
            experiment.selection.names,
            experiment.protocol.reference,
            experiment.trial,
            experiment.seed,
        )
    except OpensetError:
        return None


Change = tuple[str, str, Any, Any]


def _changes(recorded: Mapping[str, Any], own: Experiment | None) -> list[Change]:
    """Section, key, recorded value and the value it would have had, of what the user set."""
    if own is None:
        return []
    usual = own.to_toml()
    found = []
    for section, values in recorded.items():
        if section in ("record", "threshold") or not isinstance(values, Mapping):
            continue
        otherwise = usual.get(section, {})
        # An option that a run does not record came into being after it.
        found += [
            (section, key, value, otherwise.get(key))
            for key, value in values.items()
            if value != otherwise.get(key)
        ]
    return found


def _all_settings(recorded: Mapping[str, Any]) -> list[Change]:
    return [
        (section, key, value, None)
        for section, values in recorded.items()
        if section not in ("record", "threshold") and isinstance(values, Mapping)
        for key, value in values.items()
    ]


def _command(run: RunData, changed: list[Change]) -> str:
    recorded = run.recorded
    name = run.folder.path.resolve().name
    if (run.folder.path / str(recorded.get("protocol", ""))).is_file():
        # The protocol lies in the run folder, as that of images of a person's own does.
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
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, list | dict):
        import json

        return json.dumps(value)
    return str(value)


def _parts(run: RunData, own: Experiment | None) -> tuple[ComponentInUse, ...]:
    versions = run.record.get("plugins", {})
    if own is None:
        names = [str(name) for name in run.recorded.get("plugins", [])]
        return tuple(
            ComponentInUse(kind="part", name=name, distribution=str(versions.get(name, "")))
            for name in names
        )
    return tuple(
        ComponentInUse(
            kind=part.kind,
            name=part.name,
            distribution=str(versions.get(part.name, f"{part.distribution} {part.version}")),
            summary=part.spec.summary,
            reference=getattr(part.spec, "reference", "") or "",
        )
        for part in own.selection.components
    )


def _protocol(own: Experiment | None) -> str:
    if own is None:
        return ""
    content = own.protocol.content
    return f"{content.summary} ({content.source})" if content.source else content.summary


def _warnings(run: RunData) -> list[str]:
    """What makes the numbers less than they seem."""
    found = []
    record, results = run.record, run.results
    if "dirty" in str(record.get("git_commit", "")):
        found.append(
            "The source was changed beyond its commit, so the commit alone repeats nothing."
        )
    validation = results.samples.get("validation", 0)
    if 0 < validation < FEW_SAMPLES:
        found.append(
            f"Only {validation} validation samples set the thresholds; another draw of them would "
            "move these by much."
        )
    if run.num_classes > 1 and results.scorers:
        accuracy = next(iter(results.scorers.values())).metrics.get("accuracy", 1.0)
        if accuracy <= 1.5 / run.num_classes:
            found.append(
                f"Accuracy is {percent(accuracy)} %, about chance for {run.num_classes} classes: "
                "the network has learnt nothing to tell them apart."
            )
    for scorer in run.scored:
        found += _about_scorer(run, scorer)
    for line in run.history:
        values = [*line.get("terms", {}).values(), line.get("validation_accuracy", 0.0)]
        if not np.isfinite([value for value in values if isinstance(value, int | float)]).all():
            found.append(f"In epoch {line['epoch']} something measured is not a finite number.")
            break
    return found


def _about_scorer(run: RunData, scorer: str) -> list[str]:
    assert run.known is not None
    scores = np.concatenate([run.known.scores[scorer], *(p.scores[scorer] for p in run.unknown)])
    threshold = run.scorers[scorer].threshold
    if len(scores) and np.ptp(scores) == 0:
        return [
            f"Scorer {scorer} gives every test sample the same score, "
            f"{number(float(scores[0]))}; it tells nothing apart."
        ]
    if (scores > threshold).all():
        return [f"The threshold of {scorer} rejects every test sample."]
    if run.unknown and (scores <= threshold).all():
        return [f"The threshold of {scorer} accepts every test sample."]
    return []
