"""The trained artefact: a folder of safetensors and TOML that loads without running code.

model/model.toml              components, options, classes, preprocessing, hashes, versions
model/weights.safetensors     backbone and loss, without what only training needs
model/scorers/NAME.safetensors  what each scorer learnt
model/scorers/NAME.toml       its options, its threshold, the hash of its arrays

Each TOML file ends with the hash of what it says, so that damage and careless edits are noticed. It
is no signature.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from openset_core.errors import ModelError, OpensetError, PluginError
from openset_core.experiment import config
from openset_core.experiment.environment import library_versions
from openset_core.experiment.protocol import ImageOptions
from openset_core.files import atomic_write, sha256, write_text
from openset_core.model.building import build_model
from openset_core.registry import Component, Registry, registry

if TYPE_CHECKING:
    import torch

    from openset_core.components import OpenSetModel
    from openset_core.experiment.experiment import Experiment

FORMAT = 2
TOML_NAME = "model.toml"
SEAL = "sha256"  # key of the hash that a TOML file carries of the rest of what it says
WEIGHTS_NAME = "weights.safetensors"


@attrs.frozen(kw_only=True)
class ComponentRecord:
    """A component of a saved model, with the version of its distribution when that was saved."""

    name: str
    distribution: str
    version: str
    options: dict[str, Any] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class ModelDescription:
    """What model.toml says."""

    format: int
    backbone: ComponentRecord
    loss: ComponentRecord
    classes: tuple[str, ...]  # in label order
    image: ImageOptions
    weights_sha256: str
    parameters: int
    experiment: str  # digest
    versions: dict[str, str]
    scorer: str = ""  # decides unless another is asked for


def save_model(
    folder: Path, model: OpenSetModel, experiment: Experiment, classes: tuple[str, ...]
) -> ModelDescription:
    """Write a trained model, weights first, so that model.toml marks it complete."""
    import torch
    from safetensors.torch import save_file

    model = model.for_inference()
    tensors = {
        # Copied, because safetensors refuses layers that share one tensor, as CoaT's do.
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in model.state_dict().items()
    }
    with atomic_write(folder / WEIGHTS_NAME) as temporary:
        save_file(tensors, temporary)
    scorers = [component.name for component in experiment.selection.scorers]
    description = ModelDescription(
        format=FORMAT,
        backbone=_record(experiment.selection.backbone, experiment),
        loss=_record(experiment.selection.loss, experiment),
        classes=classes,
        image=experiment.protocol.content.image,
        weights_sha256=sha256(folder / WEIGHTS_NAME),
        parameters=model.parameter_count(),
        experiment=experiment.digest,
        versions=library_versions(),
        scorer=deciding_scorer(experiment.default_scorer, scorers),
    )
    write_with_checksum(folder / TOML_NAME, config.unstructure(description))
    return description


def deciding_scorer(own: str, available: Sequence[str]) -> str:
    """The scorer that decides unless another is asked for: the method's own, else the first."""
    return own if own in available or not available else available[0]


def own_scorer(folder: Path) -> str:
    """The scorer that a saved model names; empty where the model is gone or damaged."""
    try:
        return read_description(folder).scorer
    except OpensetError:
        return ""


def checksum(values: Mapping[str, Any]) -> str:
    """Hash of what a TOML file says, its own hash aside; comments and layout do not count."""
    content = {key: value for key, value in values.items() if key != SEAL}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def write_with_checksum(path: Path, values: Mapping[str, Any]) -> None:
    """Write a TOML file that carries the hash of what it says."""
    import tomli_w

    # A plain value would be part of the last table if it came after one.
    tables = {key: value for key, value in values.items() if isinstance(value, dict)}
    plain = {key: value for key, value in values.items() if key not in tables}
    write_text(path, tomli_w.dumps({**plain, SEAL: checksum(values), **tables}))


def check_checksum(path: Path, values: Mapping[str, Any], advice: str) -> None:
    if values.get(SEAL) != checksum(values):
        raise ModelError(
            f"{path} is damaged or was changed by hand: what it says does not fit its {SEAL}; "
            f"{advice}"
        )


def _record(component: Component, experiment: Experiment) -> ComponentRecord:
    return ComponentRecord(
        name=component.name,
        distribution=component.distribution,
        version=component.version,
        options=config.unstructure(experiment.options[component.name]),
    )


def read_description(folder: Path) -> ModelDescription:
    values = config.read_toml(folder / TOML_NAME, "model", ModelError)
    if values.get("format") != FORMAT:
        raise ModelError(
            f"model {folder} has format {values.get('format')!r}, this openset reads {FORMAT}"
        )
    content = {key: value for key, value in values.items() if key != SEAL}
    where = f"model {folder / TOML_NAME}"
    description = config.structure(content, ModelDescription, where, ModelError)
    check_checksum(folder / TOML_NAME, values, "bring back the file, or train again")
    return description


def check_weights(folder: Path, description: ModelDescription) -> None:
    path = folder / WEIGHTS_NAME
    if not path.exists():
        raise ModelError(f"model {folder} lacks {WEIGHTS_NAME}; train it again")
    if sha256(path) != description.weights_sha256:
        raise ModelError(
            f"{path} is damaged or was changed: its hash is not the one in {TOML_NAME}; train again"
        )


def load_model(
    folder: Path, device: torch.device | str = "cpu", plugins: Registry | None = None
) -> tuple[OpenSetModel, ModelDescription]:
    """Rebuild a saved model for inference."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    description = read_description(folder)
    check_weights(folder, description)
    installed = plugins or registry()
    model = build_model(
        _find("backbone", description.backbone, folder, installed),
        _find("loss", description.loss, folder, installed),
        len(description.classes),
        description.image,
        initial_weights=False,
    ).for_inference()
    try:
        model.load_state_dict(load_file(folder / WEIGHTS_NAME))
    except (SafetensorError, RuntimeError) as error:
        raise ModelError(
            f"model {folder} does not fit the installed plugins: {str(error).splitlines()[0]}"
        ) from error
    return model.to(device), description


def _find(
    kind: str, record: ComponentRecord, folder: Path, plugins: Registry
) -> tuple[Component, Any]:
    try:
        component = plugins.find(f"{record.distribution}/{kind}:{record.name}", (kind,))
    except PluginError as error:
        raise ModelError(
            f"model {folder} needs {kind} {record.name}; install {record.distribution} "
            f"{record.version} ({error})"
        ) from error
    where = f"model {folder}: {record.name}"
    return component, config.structure(record.options, component.spec.config, where, ModelError)


@attrs.frozen(kw_only=True)
class ScorerRecord:
    """A fitted scorer beside a model."""

    scorer: ComponentRecord
    features: str  # key of the features it was fitted on
    threshold: float  # a score above it means unknown
    state_sha256: str
    # share of validation samples; None for a threshold given as a score
    acceptance: float | None = None


def save_scorer(
    folder: Path, file_name: str, state: Mapping[str, np.ndarray[Any, Any]], record: ScorerRecord
) -> None:
    """Write a fitted scorer; the TOML file marks it complete."""
    from safetensors.numpy import save_file

    path = folder / "scorers" / f"{file_name}.safetensors"
    with atomic_write(path) as temporary:
        save_file({name: np.ascontiguousarray(array) for name, array in state.items()}, temporary)
    save_record(folder, file_name, attrs.evolve(record, state_sha256=sha256(path)))


def save_record(folder: Path, file_name: str, record: ScorerRecord) -> None:
    write_with_checksum(folder / "scorers" / f"{file_name}.toml", config.unstructure(record))


def fitted_scorers(folder: Path) -> tuple[str, ...]:
    names = []
    for path in sorted((folder / "scorers").glob("*.toml")):
        if path.with_suffix(".safetensors").exists():
            scorer = config.read_toml(path, "scorer", ModelError).get("scorer")
            if not isinstance(scorer, dict) or not isinstance(scorer.get("name"), str):
                raise ModelError(f"scorer {path} is damaged; delete it to fit the scorer again")
            names.append(scorer["name"])
    return tuple(sorted(names))


def scorer_component(
    record: ScorerRecord, folder: Path, plugins: Registry
) -> tuple[Component, Any]:
    return _find("scorer", record.scorer, folder, plugins)


def load_scorer(folder: Path, file_name: str) -> tuple[ScorerRecord, dict[str, Any]] | None:
    """Read a fitted scorer; None when there is none, or one from before files had a hash."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    arrays = folder / "scorers" / f"{file_name}.safetensors"
    description = folder / "scorers" / f"{file_name}.toml"
    if not (arrays.exists() and description.exists()):
        return None
    values = config.read_toml(description, "scorer", ModelError)
    content = {key: value for key, value in values.items() if key != SEAL}
    record = config.structure(content, ScorerRecord, f"scorer {description}", ModelError)
    if SEAL not in values:
        return None
    check_checksum(
        description,
        values,
        "`openset score RUN --threshold` sets another threshold; delete the file to fit the "
        "scorer again",
    )
    if sha256(arrays) != record.state_sha256:
        raise ModelError(f"{arrays} is damaged or was changed; delete it to fit the scorer again")
    try:
        return record, load_file(arrays)
    except SafetensorError as error:
        raise ModelError(f"{arrays} is damaged; delete it to fit the scorer again") from error
