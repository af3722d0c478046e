"""Charts: what their data says, how large they get, and their files."""

from __future__ import annotations

from itertools import pairwise

import altair as alt
import numpy as np
import pytest
from PIL import Image

from openset_core.errors import RunFolderError
from openset_core.metrics import open_set_curve
from openset_core.report.charts.confusion import Confusion, confusion_chart, matrix_pixels
from openset_core.report.charts.curves import (
    NamedCurve,
    distances,
    oscr_chart,
    roc_chart,
    simplify_polyline,
)
from openset_core.report.charts.feature_space import MOST_POINTS, Looks, class_looks, few, plane
from openset_core.report.charts.histograms import histogram, histogram_chart
from openset_core.report.charts.output import save_chart, specification
from openset_core.report.charts.panels import image_table
from openset_core.report.charts.theme import HOVER, records, with_hover
from openset_core.report.charts.training import Measured, training_chart, training_panel
from openset_core.report.colours import PALETTE, UNKNOWN


@pytest.fixture
def rows(html_page):
    """Rows of a chart's data."""
    return lambda chart, number=0: html_page.chart_rows_of(specification(chart), number)


def normal_curve(count=1000, seed=0, name="s", threshold=1.0):
    random = np.random.default_rng(seed)
    known, unknown = random.normal(size=count), random.normal(1, 1, size=count)
    curve = open_set_curve(known, unknown, random.random(count) < 0.9)
    return NamedCurve(name=name, curve=curve, threshold=threshold)


def test_data_stands_in_a_chart_as_text_with_few_digits(rows):
    chart = alt.Chart(
        records(
            name=["a,b", 'c"d'],
            number=[1 / 3, float("nan")],
            count=[1234567, 0],
            flag=[True, False],
            other=["1", None],
        )
    )
    assert rows(chart) == [
        {"name": "a,b", "number": 0.33333, "count": 1234567, "flag": True, "other": "1"},
        {"name": 'c"d', "number": None, "count": 0, "flag": False, "other": None},
    ]


def test_a_polyline_loses_no_more_than_the_tolerance():
    random = np.random.default_rng(0)
    x = np.sort(random.random(5000))
    y = np.sort(random.random(5000)) ** 2
    for most, tolerance in ((500, 4e-4), (40, 1e-4), (10_000, 1e-3)):
        chosen = simplify_polyline(x, y, most=most, tolerance=tolerance)
        assert len(chosen) <= most
        assert (chosen[0], chosen[-1]) == (0, 4999)
        assert (np.diff(chosen) > 0).all()
        farthest = max(
            distances(x, y, first, last).max(initial=0.0) for first, last in pairwise(chosen)
        )
        assert farthest <= tolerance or most == 40
        assert farthest < 0.02
    line = np.linspace(0, 1, 1000)
    assert simplify_polyline(line, 2 * line).tolist() == [0, 999]
    for short in (line[:2], line[:1], np.zeros(9)):
        assert simplify_polyline(short, short).tolist() == sorted({0, len(short) - 1})


@pytest.mark.parametrize("chart", [roc_chart, oscr_chart])
def test_a_drawn_curve_is_the_exact_one(rows, chart):
    named = normal_curve(20_000)
    drawn = rows(chart([named]))
    assert len(drawn) < 450
    fpr = np.array([row["fpr"] for row in drawn])
    height = np.array([row["tpr" if chart is roc_chart else "ccr"] for row in drawn])
    exact = named.curve.tpr if chart is roc_chart else named.curve.ccr
    # At every threshold, seen across: a drawn curve may be steep.
    across = np.interp(
        named.curve.fpr + named.curve.tpr, fpr + np.array([row["tpr"] for row in drawn]), height
    )
    assert np.abs(across - exact).max() < 2e-3
    (used,) = (row for row in drawn if row["used"])
    at = np.searchsorted(named.curve.thresholds, 1.0, side="right") - 1
    assert used["fpr"] == pytest.approx(named.curve.fpr[at], abs=1e-4)
    assert used["tpr"] == pytest.approx(named.curve.tpr[at], abs=1e-4)


def test_many_curves_of_many_samples_stay_small():
    curves = [normal_curve(200_000, seed, f"scorer-{seed}") for seed in range(3)] * 10
    text = str(specification(roc_chart(curves)))
    assert len(text) < 400_000
    assert "AUROC: scorer-0" in text


def test_histograms_count_every_sample(rows):
    random = np.random.default_rng(0)
    known, unknown = random.normal(size=1000), {"rest": random.normal(3, 1, size=500)}
    binned = histogram("s", 1.5, known, unknown)
    assert binned.known.sum() == pytest.approx(1)
    assert binned.unknown["rest"].sum() == pytest.approx(1)
    assert binned.note == ""
    counts, _ = np.histogram(known, binned.edges)
    np.testing.assert_allclose(binned.known, counts / 1000)
    drawn = rows(histogram_chart(binned))
    np.testing.assert_allclose([row["known"] for row in drawn], binned.known, rtol=1e-4)
    np.testing.assert_allclose([row["unknown"] for row in drawn], binned.unknown["rest"], rtol=1e-4)
    known[0] = 1e6
    far = histogram("s", 1.5, known, unknown)
    assert far.edges[-1] < 10
    assert (far.below, far.above) == (False, True)
    assert far.note == "The last bar holds all scores beyond, too."
    assert far.known.sum() == pytest.approx(1)
    assert rows(histogram_chart(far))[-1]["scores"].endswith("any above")
    beyond = histogram("s", 50.0, known[1:], {})
    assert beyond.edges[-1] == 50
    same = histogram("s", 2.0, np.full(5, 2.0), {})
    assert same.known.max() == 1


def test_a_histogram_has_a_panel_for_each_unknown_set():
    sets = {name: np.arange(9.0) for name in ("near", "far", "further")}
    chart = histogram_chart(histogram("s", 1.5, np.arange(10.0), sets), titled=True)
    panels = specification(chart)["vconcat"]
    assert [panel["title"] for panel in panels] == list(sets)
    assert "near, far, further; threshold 1.50" in specification(chart)["description"]


def test_the_largest_confusions_come_first():
    counts = np.array([[5, 2, 1], [0, 7, 0], [3, 0, 9]])
    matrix = Confusion(
        counts=counts, rows=("a", "b", "new"), columns=("a", "b", "unknown"), known=2
    )
    assert matrix.largest() == [(2, 0), (0, 1), (0, 2)]
    assert (
        "new taken for a 3 times, a taken for b 2 times"
        in specification(confusion_chart(matrix))["description"]
    )
    pixels, edge = matrix_pixels(matrix)
    assert pixels.shape[2] == 4
    assert pixels[0, 0, 3] == round(255 * np.sqrt(5 / 8))
    assert pixels[-1, 0, 3] == round(255 * np.sqrt(3 / 12))
    assert pixels[edge, 0, 3] == pixels[-1, 0, 3]


def test_classes_of_equal_names_stay_apart(rows):
    matrix = Confusion(
        counts=np.diag([3, 4, 5]), rows=("cat", "cat", "cat"), columns=("cat", "cat", "no"), known=2
    )
    cells = rows(confusion_chart(matrix))
    assert [(cell["x"], cell["y"]) for cell in cells if cell["said"] == "100"] == [
        (0, 0), (1, 1), (2, 2)
    ]  # fmt: skip


@pytest.mark.parametrize("count", [1, 10, 11, 1000])
def test_a_plane_colours_classes_and_greys_the_unknown(rows, count):
    random = np.random.default_rng(0)
    names = [f"c{number}" for number in range(count)]
    looks = class_looks(names) | {"unknown": (UNKNOWN.light, "cross")}
    points = random.normal(size=(count + 2, 2)).astype(np.float32)
    groups = ["unknown", "unknown", *names]
    chart = plane(points, groups, Looks(groups=looks, legend=[*few(names), "unknown"]), side=200)
    assert [row["group"] for row in rows(chart)] == groups
    (layer,) = specification(chart)["layer"]
    colour = layer["encoding"]["color"]
    assert len(set(colour["scale"]["range"][:-1])) == min(count, len(PALETTE))
    assert colour["scale"]["range"][-1] == UNKNOWN.light
    assert colour["legend"]["values"] == ["unknown"] if count > 20 else groups[1:]
    assert len(set(class_looks(names[:20]).values())) == min(count, 20)


def test_a_plane_of_many_points_draws_some_of_them_evenly(rows):
    points = np.arange(4.0 * MOST_POINTS + 2).reshape(-1, 2)
    chart = plane(points, ["a"] * len(points), Looks(groups=class_looks(["a"])), side=200)
    drawn = [row["x"] for row in rows(chart)]
    assert len(drawn) <= MOST_POINTS
    assert set(np.diff(drawn)) == {6.0}


def test_training_shows_gaps_and_single_epochs(rows):
    values = np.array([2.0, np.nan, 1.0, np.inf, 0.5])
    shown = Measured(title="loss", epochs=np.arange(1.0, 6.0), values=values)
    panel = training_panel(shown)
    assert [row["value"] for row in rows(panel)] == [2.0, None, 1.0, None, 0.5]
    assert "from 2.000 to 0.5000; least 0.5000, most 2.000" in specification(panel)["description"]
    one = Measured(title="rate", epochs=np.array([1.0]), values=np.array([np.nan]))
    assert "over 1 epoch" in specification(training_panel(one))["description"]
    long = Measured(
        title="accuracy",
        epochs=np.arange(1.0, 5001.0),
        values=np.linspace(0, 1, 5000),
        fraction=True,
    )
    assert len(rows(training_panel(long))) == 2
    assert len(specification(training_chart([shown, one, long]))["concat"]) == 3


def test_a_chart_is_saved_as_png_svg_and_pdf(tmp_path):
    images = [np.full((8, 8, 1), 255 * (n % 2), np.uint8) for n in range(5)]
    chart = image_table(
        [(*divmod(at, 3), image) for at, image in enumerate(images)],
        "images",
        rows=["", ""],
        columns=["", "", ""],
        captions=[("a long name → b", "0.1")] * 5,
    )
    png, svg, pdf = save_chart(chart, tmp_path / "figures" / "some.images")
    assert (png.name, svg.name, pdf.name) == tuple(
        f"some.images.{e}" for e in ("png", "svg", "pdf")
    )
    assert sorted(path.name for path in png.parent.iterdir()) == sorted(
        [png.name, svg.name, pdf.name]
    )
    with Image.open(png) as image:
        pixels = np.asarray(image.convert("L"))
    assert pixels[2, 2] == 255  # white paper
    assert pixels.std() > 30
    assert svg.read_text("utf-8").count("<image") == 5
    assert pdf.read_bytes().startswith(b"%PDF")


def test_the_same_chart_gives_the_same_files_without_what_only_a_pointer_sees(tmp_path):
    def written(name):
        data = alt.Chart(records(x=[0.0, 1.0], y=[0.0, 1.0])).encode(x="x:Q", y="y:Q")
        drawn = alt.LayerChart(layer=[data.mark_line(), with_hover(data, {"X": "x|.1f"})])
        assert str(specification(drawn)).count(HOVER) > 1
        return [
            path.read_bytes()
            for path in save_chart(drawn.properties(description="a line"), tmp_path / name)[:2]
        ]

    first = written("a")
    assert first == written("b")
    assert HOVER.encode() not in first[1]


def test_a_chart_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    chart = roc_chart([normal_curve(20)])
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunFolderError, match="cannot be written"):
        save_chart(chart, tmp_path / "file" / "figure")
    monkeypatch.setattr("vl_convert.svg_to_png", lambda *_, **__: 5)
    with pytest.raises(TypeError):
        save_chart(chart, tmp_path / "figure")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
