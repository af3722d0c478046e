"""Export to a .pt2 file by torch.export, checked by loading it again."""

from __future__ import annotations

import io
import json
from pathlib import Path

import torch

from openset_core.files import atomic_write
from openset_core.inference.export.checking import Array, check_file
from openset_core.inference.export.export_module import PreparedExport
from openset_core.inference.export.program import description, quiet, torch_errors_explained, traced

DESCRIPTION = "openset.json"


def write(exported: PreparedExport, path: Path) -> float:
    """Write a .pt2 file, whole or not at all.

    `torch.export.load(path).module()(images, threshold)`; see `ExportModule.forward`. The stored
    threshold, class names and preprocessing are in its extra file `openset.json`.
    """
    program = traced(exported)
    content = io.BytesIO()
    with torch_errors_explained(exported, "torch.export"), quiet():
        torch.export.save(
            program, content, extra_files={DESCRIPTION: json.dumps(description(exported))}
        )
        content.seek(0)
        loaded = torch.export.load(content).module()

    def run(images: Array, threshold: float) -> list[Array]:
        with torch.inference_mode():
            outputs = loaded(torch.from_numpy(images), torch.tensor(threshold, dtype=torch.float64))
        return [tensor.numpy() for tensor in outputs]

    greatest = check_file(exported, run, "the .pt2 file")
    with atomic_write(path) as temporary:
        temporary.write_bytes(content.getvalue())
    return greatest
