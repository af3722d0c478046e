"""What all pages share: palette, page shell, numbers, images, reading a run."""

from __future__ import annotations

import shutil
from itertools import combinations

import altair as alt
import numpy as np
import pytest

from openset_core.errors import RunFolderError
from openset_core.features.store import FeatureStore
from openset_core.report.charts.theme import dashes, records
from openset_core.report.colours import DASHES, KNOWN, PALETTE, UNKNOWN, colour
from openset_core.report.data import open_run, rows_of
from openset_core.report.formatting import number, percent, seconds
from openset_core.report.images import data_uri, montage, thumbnail
from openset_core.report.render import environment, inputs_in, vega_script

# ---- palette

# Machado, Oliveira and Fernandes 2009, severity 1.0, on linear RGB.
SIGHT = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritanopia": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}


def linear(text):
    values = np.array([int(text[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def oklab(rgb):
    """Ottosson 2020: distances in it are about as large as differences look."""
    cones = np.cbrt(
        np.array(
            [
                [0.4122214708, 0.5363325363, 0.0514459929],
                [0.2119034982, 0.6806995451, 0.1073969566],
                [0.0883024619, 0.2817188376, 0.6299787005],
            ]
        )
        @ np.clip(rgb, 0, 1)
    )
    return (
        np.array(
            [
                [0.2104542553, 0.7936177850, -0.0040720468],
                [1.9779984951, -2.4285922050, 0.4505937099],
                [0.0259040371, 0.7827717662, -0.8086757660],
            ]
        )
        @ cones
    )


def contrast(one, other):
    weights = np.array([0.2126, 0.7152, 0.0722])
    low, high = sorted((weights @ linear(one), weights @ linear(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("form", ["light", "dark"])
@pytest.mark.parametrize(
    ("sight", "least"), [("normal", 0.13), *((s, 0.055) for s in list(SIGHT)[1:])]
)
def test_colours_are_told_apart(form, sight, least):
    seen = [oklab(SIGHT[sight] @ linear(getattr(c, form))) for c in (*PALETTE, UNKNOWN)]
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) >= least


def test_colours_stand_out_from_the_page():
    for each in (*PALETTE, UNKNOWN):
        assert contrast(each.light, "#ffffff") >= 2.6
        assert contrast(each.dark, "#14161a") >= 3
    assert contrast(KNOWN.light, "#ffffff") >= 4.5


def test_colours_and_dashes_begin_again():
    assert colour(0) == colour(len(PALETTE)) == KNOWN
    assert dashes("abcdefghijk").range[10] == dashes("a").range[0] == [1, 0]
    assert len(set(DASHES)) == len(DASHES) == len(PALETTE)


# ---- pages

CONTENT = """{% extends "base.html" %}{% import "macros.html" as m with context %}
{% block lead %}{{ m.tiles([{"title": "AUROC", "value": "97.1", "beside": ["published 95"]}]) }}
{{ m.warnings(["beware"]) }}{% endblock %}
{% block content %}
{% call m.section("one", "One </title>", "why", "First") %}{{ m.chart(drawing, "A chart") }}
{% call m.folded("more") %}{{ m.code("a < b") }}{% endcall %}{% endcall %}
{% call m.section("two", "Two") %}{{ m.table("what it shows", ["scorer", "AUROC"],
    [{"header": "<msp>", "cells": ["97.1"], "best": [0]},
     {"header": "b", "cells": [{"text": "1", "link": "#one", "small": "x"}]}]) }}
{{ m.image(pixels | picture, "an image") }}{% endcall %}{% endblock %}"""


@pytest.fixture
def page_text():
    bars = alt.Chart(
        records(name=["</script><b>", "b"], value=[1.0, 2.0]), description="two bars of a test <i>"
    )
    return (
        environment()
        .from_string(CONTENT)
        .render(
            sections=[],
            title="<script>alert(1)</script>",
            kind="run",
            subtitle="a & b",
            inputs="0123/x",
            footer="the end",
            drawing=bars.mark_bar().encode(x="value:Q", y="name:N"),
            pixels=np.zeros((2, 2, 1), np.uint8),
        )
    )


def test_a_page_is_whole_and_loads_nothing(page_text, html_page):
    page = html_page(page_text)
    assert [(a["href"], text) for a, text in page.all("a")][1:3] == [
        ("#one", "First"),
        ("#two", "Two"),
    ]
    assert page.rows("what it shows") == [["scorer", "AUROC"], ["<msp>", "97.1"], ["b", "1 x"]]
    assert [a["class"] for a, _ in page.all("td")] == ["number best", "number"]
    assert "published 95" in page.all("div", class_="tile")[0][1]
    assert page.all("aside", class_="warnings")[0][1].strip() == "beware."
    assert page.all("details")[0][1].split() == ["more", "a", "<", "b"]
    assert page.chart_rows("two bars")[0] == {"name": "</script><b>", "value": 1.0}


def test_a_page_escapes_what_it_is_given(page_text, html_page):
    page = html_page(page_text)
    assert [text for _, text in page.all("h1")] == ["<script>alert(1)</script>"]
    assert page.all("b") == page.all("i") == []
    assert page.all("p", class_="subtitle")[0][1] == "a & b"
    assert [text for _, text in page.all("h2")] == ["One </title>", "Two"]


def test_a_page_of_one_section_needs_no_navigation(html_page):
    content = CONTENT.partition('{% call m.section("two"')[0] + "{% endblock %}"
    content = content.replace('{{ m.chart(drawing, "A chart") }}', "")
    page = html_page(environment().from_string(content).render(sections=[], title="t"))
    assert page.all("nav") == []
    assert len(page.source) < 30_000  # no charts, no Vega


def test_charts_have_dark_twins_of_their_colours(page_text):
    for colour_ in (*PALETTE, UNKNOWN):
        assert f'[fill="{colour_.light}"] {{ fill: {colour_.dark}; }}' in page_text
        assert f'[stroke="{colour_.light}"] {{ stroke: {colour_.dark}; }}' in page_text
    assert "{{" not in page_text.partition("<script>")[0]


def test_a_page_says_what_it_was_made_from(page_text, tmp_path):
    path = tmp_path / "page.html"
    assert inputs_in(path) == ""
    path.write_text(page_text, "utf-8")
    assert inputs_in(path) == "0123/x"


def test_the_script_of_charts_is_kept_between_processes(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("vl_convert.javascript_bundle", lambda text: f"/* bundle */ {text}")
    first = vega_script.__wrapped__()
    (kept,) = (tmp_path / "openset").iterdir()
    monkeypatch.setattr("vl_convert.javascript_bundle", None)
    assert vega_script.__wrapped__() == first == kept.read_text("utf-8")
    monkeypatch.setattr("vl_convert.javascript_bundle", lambda text: "again")
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert vega_script.__wrapped__() == "again"


def test_numbers_are_short_and_true():
    assert [number(v) for v in (0.279476, 0.75, -12345.6, 2e-5, 0.0, float("nan"), 0.99999)] == [
        *("0.279", "0.750", "−12,346", "2.00e−05", "0", "–", "1.000")
    ]
    assert percent(0.97125) == "97.1"
    assert percent(float("nan")) == "–"
    assert [seconds(v) for v in (0.034, 38.67, 754, 9000, 99.97)] == [
        *("0.03 s", "38.7 s", "12 min 34 s", "2 h 30 min", "1 min 40 s")
    ]


def test_images_become_small_and_part_of_the_page():
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8, 1)
    assert thumbnail(grey) is grey
    wide = np.zeros((100, 400, 3), np.uint8)
    assert thumbnail(wide).shape == (24, 96, 3)
    assert thumbnail(np.zeros((200, 200, 1), np.uint8)).shape == (96, 96, 1)
    assert data_uri(grey).startswith("data:image/png;base64,")
    whole = montage(np.zeros((5, 4, 4, 3), np.uint8), columns=3)
    assert whole.shape == (9, 14, 3)
    assert whole[4, 0, 0] == 128


# ---- a run's data


def test_a_run_is_read_as_arrays(finished):
    with open_run(finished) as run, FeatureStore(finished / "features.h5") as store:
        assert run.gaps == []
        assert run.title == "softmax on tiny"
        assert run.class_names == tuple(map(str, run.record["classes"]))
        assert run.num_classes == store.num_classes
        assert [part.name for part in run.unknown] == ["near", "far"]
        assert run.scored == ("msp",)
        assert len(run.history) == 2
        known, (rest, far) = run.known, run.unknown
        logits = store.array("known", "logits").astype(np.float64)
        np.testing.assert_array_equal(known.predicted, logits.argmax(axis=1))
        probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(known.confidence, probability.max(axis=1))
        accuracy = run.scorers["msp"].metrics["accuracy"]
        assert known.correct.mean() == pytest.approx(accuracy)
        assert known.class_name(known.label[0]) == run.class_names[known.label[0]]
        both = np.concatenate([rest.scores["msp"], far.scores["msp"]])
        np.testing.assert_array_equal(run.pooled("msp"), both)
        assert len(rest) == run.results.samples["unknown/near"]
        rows = np.array([7, 2, len(rest) - 1])
        np.testing.assert_array_equal(
            run.embedding(rest, rows), store.array("unknown/near", "embedding")[np.sort(rows)]
        )
        np.testing.assert_array_equal(
            rows_of(store, "known", "label"), store.array("known", "label")
        )


def test_a_run_without_features_or_scores_says_so(finished):
    (finished / "scores.h5").unlink()
    with open_run(finished) as run:
        assert run.scored == ()
        assert len(run.gaps) == 1
        assert "scores.h5 does not hold the scores of msp; `openset score" in run.gaps[0]
    (finished / "features.h5").unlink()
    with open_run(finished) as run:
        assert (run.known, run.unknown, run.scored) == (None, (), ())
        assert "`openset extract RUN` builds it" in run.gaps[0]
        assert run.class_names == tuple(map(str, run.record["classes"]))


def test_an_unfinished_run_names_the_command_that_goes_on(finished, tmp_path):
    (finished / "results.json").unlink()
    for gone, said in (
        ("scores.h5", "the features are there"),
        ("features.h5", "the network is trained"),
        ("model", r"2 of 2 epochs are trained.*`openset run .*` goes on with it"),
    ):
        path = finished / gone
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        with pytest.raises(RunFolderError, match=said), open_run(finished):
            pass
    with pytest.raises(RunFolderError, match="not a run folder"), open_run(tmp_path / "nothing"):
        pass


def test_results_of_another_format_are_refused(finished):
    text = (finished / "results.json").read_text().replace('"format": 1', '"format": 99')
    (finished / "results.json").write_text(text)
    with pytest.raises(RunFolderError, match="format 99"), open_run(finished):
        pass
