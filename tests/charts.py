"""What an Altair chart shows, read from its specification."""

from __future__ import annotations

import base64
import csv
import io

import numpy as np
from PIL import Image

from openset_core.report.charts.output import specification


def _layers(chart):
    """Every chart within a chart that has a mark, with its rows."""
    whole = specification(chart)
    return list(_within(whole, None, whole.get("datasets", {})))


def _within(node, data, datasets):
    data = node.get("data", data)
    if "mark" in node:
        yield node, _rows(data, datasets)
    for inner in (node.get(key, ()) for key in ("layer", "concat", "hconcat", "vconcat")):
        for child in inner:
            yield from _within(child, data, datasets)


def _rows(data, datasets):
    if data is None:
        return []
    values = datasets[data["name"]] if "name" in data else data["values"]
    if not isinstance(values, str):
        return values
    kinds = data["format"]["parse"]
    convert = {"number": lambda text: float(text) if text else None, "boolean": "true".__eq__}
    return [
        {name: convert.get(kinds[name], str)(value) for name, value in row.items()}
        for row in csv.DictReader(io.StringIO(values))
    ]


def marks(chart, kind):
    """The rows of each layer that is drawn with a mark, a list a layer, in drawing order."""
    return [
        rows
        for node, rows in _layers(chart)
        if kind == (node["mark"] if isinstance(node["mark"], str) else node["mark"]["type"])
    ]


def titles(chart):
    """Titles of the panels, each as one string."""
    nodes = specification(chart)["concat"]
    return [" ".join(np.atleast_1d(node.get("title", ""))) for node in nodes]


def axis_titles(chart, name):
    """Titles of the axes `x` or `y`, each once, in drawing order."""
    axes = (node["encoding"].get(name, {}) for node, _rows in _layers(chart))
    texts = (" ".join(np.atleast_1d(axis["title"])) for axis in axes if axis.get("title"))
    return list(dict.fromkeys(texts))


def legend(chart):
    """What the first legend of colours explains."""
    for node, _rows in _layers(chart):
        colour = node["encoding"].get("color", {})
        if colour.get("legend"):
            return colour["legend"].get("values") or colour["scale"]["domain"]
    return []


def pixels(address):
    """The image in a data address, uint8 [H, W] or [H, W, 3]."""
    content = base64.b64decode(address.partition(",")[2])
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image)
