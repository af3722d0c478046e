"""The traced program, which both file formats start from, and what is written down beside it."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import torch

import openset_core
from openset_core.errors import ModelError
from openset_core.experiment import config
from openset_core.inference.export.checking import check_form
from openset_core.inference.export.export_module import ToExport


def traced(exported: ToExport) -> Any:
    """The module as a `torch.export.ExportedProgram` for any number and size of images.

    Raises:
        ModelError: torch cannot trace it, or the scorer's torch form is wrong.
    """
    check_form(exported)
    image = exported.model.description.image
    # No two extents the same, lest the exporter takes them for one.
    height, width = 2 * image.size + 5, 2 * image.size + 3
    images = torch.zeros((2, image.channels, height, width), dtype=torch.uint8)
    threshold = torch.tensor(exported.threshold, dtype=torch.float64)
    free = {0: torch.export.Dim("N", min=1)}
    free |= {2: torch.export.Dim("H", min=1), 3: torch.export.Dim("W", min=1)}
    shapes = {"images": free, "threshold": None}
    with blamed_on_torch(exported, "torch.export"), quiet(), torch.no_grad():
        return torch.export.export(exported.module, (images, threshold), dynamic_shapes=shapes)


@contextlib.contextmanager
def blamed_on_torch(exported: ToExport, target: str) -> Iterator[None]:
    """Turn an exporter's failure, of whatever kind, into one sentence."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__ is not None:  # the exporters' own texts are advice to developers
            cause = cause.__cause__
        said = [line.strip() for line in str(cause).splitlines() if line.strip()]
        parts = exported.model.description
        raise ModelError(
            f"{parts.loss.name} on {parts.backbone.name} with {exported.fitted.part.name} cannot "
            f"be exported to {target} by torch {torch.__version__}: {type(cause).__name__}"
            f"{': ' + said[0] if said else ''}"
        ) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep an exporter's notes to itself; what goes wrong it raises."""
    muted = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(muted)


def description(exported: ToExport) -> dict[str, str]:
    """What is written into a file's metadata; `classes` and `image` are JSON."""
    parts = exported.model.description
    record = exported.fitted.record
    image = parts.image
    values = {
        "classes": json.dumps(list(parts.classes)),
        "scorer": record.scorer.name,
        "threshold": repr(record.threshold),
        "image": json.dumps(config.unstructure(image)),
        "loss": parts.loss.name,
        "backbone": parts.backbone.name,
        "weights_sha256": parts.weights_sha256,
        "openset": openset_core.__version__,
    }
    if record.acceptance is not None:
        values["acceptance"] = repr(record.acceptance)
    return {f"openset.{name}": text for name, text in values.items()}
