"""What all pages and figures share: palette, figure files, page shell, markup, reading a run."""

from __future__ import annotations

import html
import re
import shutil
from html.parser import HTMLParser
from itertools import combinations

import numpy as np
import pytest
from markupsafe import Markup
from PIL import Image

from openset_core.errors import RunFolderError
from openset_core.features.store import FeatureStore
from openset_core.report.colours import DASHES, KNOWN, PALETTE, UNKNOWN, colour, dash
from openset_core.report.data import open_run, rows_of
from openset_core.report.markup import Row, element, folded, table
from openset_core.report.page import Page, Section, render_page, write_page
from openset_core.report.style import SINGLE_COLUMN, line, new_figure, paper_style, save_figure

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
    assert (dash(0), dash(len(DASHES) + 1)) == ("", DASHES[1])
    assert len(set(DASHES)) == len(DASHES) == len(PALETTE)


# ---- figure files


def drawn(label="a"):
    with paper_style():
        figure = new_figure(SINGLE_COLUMN, 2.0)
        axes = figure.subplots()
        for number in range(3):
            axes.plot([0, 1], [number, 1], label=label, **line(number))
        axes.legend()
    return figure


def test_a_figure_is_saved_as_png_and_svg(tmp_path):
    png, svg = save_figure(drawn(), tmp_path / "figures" / "some.curves")
    assert (png.name, svg.name) == ("some.curves.png", "some.curves.svg")
    assert sorted(path.name for path in png.parent.iterdir()) == [png.name, svg.name]
    with Image.open(png) as image:
        assert image.width == round(SINGLE_COLUMN * 300)
        assert np.asarray(image.convert("L")).std() > 5
    assert svg.read_text("utf-8").count("<path") > 10


def test_the_same_figure_has_the_same_bytes_whatever_the_user_configured(tmp_path):
    import matplotlib

    first = [path.read_bytes() for path in save_figure(drawn(), tmp_path / "a")]
    with matplotlib.rc_context({"font.size": 20, "svg.hashsalt": None, "savefig.dpi": 50}):
        second = [path.read_bytes() for path in save_figure(drawn(), tmp_path / "b")]
        assert matplotlib.rcParams["font.size"] == 20
    assert first == second


def test_a_figure_appears_whole_or_not_at_all(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunFolderError, match="cannot be written"):
        save_figure(drawn(), tmp_path / "file" / "figure")
    figure = drawn()
    figure.savefig = lambda *_args, **_kwargs: (_ for _ in ()).throw(ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        save_figure(figure, tmp_path / "figure")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


# ---- markup and pages

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Outline(HTMLParser):
    """What a page is made of; raises where elements are not nested properly."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.elements, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> without a start"
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def text(self, *tags):
        return [data for tag, data in self.texts if tag in tags and data.strip()]


def test_text_is_escaped_and_markup_is_not():
    bold = element("b", "<1>")
    assert bold == "<b>&lt;1&gt;</b>"
    assert element("p", bold, [" & ", 2, None, 0.5]) == "<p><b>&lt;1&gt;</b> &amp; 20.5</p>"
    assert element("p", class_='a"b', data_x=1, hidden=True, id=None, lang=False) == (
        '<p class="a&#34;b" data-x="1" hidden></p>'
    )
    assert element("img", alt="") == '<img alt="">'
    assert element("path", d="M0 0") == '<path d="M0 0"/>'


def test_a_table_has_headers_and_a_caption():
    made = table(
        "what it shows",
        ["scorer", "AUROC"],
        [Row(header="<msp>", cells=["97.1"], best=frozenset({0})), Row(header="b", cells=["1"])],
    )
    outline = Outline(made)
    assert [each["scope"] for each in outline.all("th")] == ["col", "col", "row", "row"]
    assert outline.text("caption") == ["what it shows"]
    assert outline.text("td", "th") == ["scorer", "AUROC", "<msp>", "97.1", "b", "1"]
    assert [each["class"] for each in outline.all("td")] == ["number best", "number"]
    assert outline.all("div") == [
        {
            "class": "scroll",
            "tabindex": "0",
            "role": "region",
            "aria-label": "what it shows",
        }
    ]


@pytest.fixture
def page():
    body = element("p", "text") + folded("more", element("p", "inside"))
    return Page(
        kind="run",
        title="<script>alert(1)</script>",
        subtitle="a & b",
        sections=(Section("one", "One </title>", body, "why"), Section("two", "Two", Markup(""))),
        footer="the end",
    )


def test_a_page_is_whole_and_loads_nothing(page):
    text = render_page(page)
    outline = Outline(text)
    assert text.startswith("<!DOCTYPE html>")
    assert outline.all("html") == [{"lang": "en"}]
    for tag in ("html", "head", "title", "body", "main", "nav", "h1", "header", "footer"):
        assert len(outline.all(tag)) == 1, tag
    ids = [attributes["id"] for _, attributes in outline.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    for attributes in outline.all("a"):
        assert attributes["href"].removeprefix("#") in ids
    for attributes in outline.all("section"):
        assert attributes["aria-labelledby"] in ids
    assert not re.search(r"""(src|href)=(?!["'](#|data:))""", text)
    assert not re.search(r"@import|url\(|fetch\(|XMLHttp|import\s*\(", text)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text)


def test_a_page_escapes_what_it_is_given(page):
    outline = Outline(render_page(page))
    assert outline.text("h1") == ["<script>alert(1)</script>"]
    assert len(outline.all("script")) == 1
    assert outline.text("subtitle", "p")[:2] == ["run", "a & b"]


def test_a_page_of_one_section_needs_no_list_of_sections(page):
    single = render_page(Page(title="t", sections=page.sections[:1]))
    assert Outline(single).all("nav") == []


def test_a_page_knows_the_palette_in_both_modes(page):
    text = render_page(page)
    light, dark = text.split("@media screen and (prefers-color-scheme: dark)")
    assert f"--c0: {PALETTE[0].light};" in light
    assert f"--c0: {PALETTE[0].dark};" in dark
    assert f"--unknown: {UNKNOWN.dark};" in dark
    assert "{{" not in text
    assert ".c9 { --c: var(--c9); }" in text


def test_a_page_is_written_whole(page, tmp_path):
    path = write_page(page, tmp_path / "page.html")
    assert path.read_text("utf-8") == render_page(page)
    assert [each.name for each in tmp_path.iterdir()] == ["page.html"]
    assert html.escape(page.title) in path.read_text("utf-8")


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
