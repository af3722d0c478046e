"""The page of a run: what it shows, of every sort of run, and what it is made from."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise

import attrs
import h5py
import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import confusion_matrix as reference_confusion

from openset_core import api
from openset_core.errors import ConfigError, RunFolderError
from openset_core.metrics.incremental import IncrementalResults
from openset_core.observers import SamplesDrawn
from openset_core.report import embedding as embeddings
from openset_core.report.axes import (
    fraction_axis,
    number,
    number_axis,
    percent,
    round_ticks,
    seconds,
    whole_number_axis,
)
from openset_core.report.data import open_run
from openset_core.report.embedding import drawn_rows, map_of, tsne
from openset_core.report.figure_cache import kept_images
from openset_core.report.images import data_uri, montage, thumbnail
from openset_core.report.run_page import confusion, curves, gallery, histograms, provenance, scatter
from openset_core.report.run_page.making import is_current, make_report
from openset_core.report.run_page.view import View, deciding_scorer
from openset_core.report.thinning import distances, thinned
from openset_core.results.run_results import PublishedFigure, Results
from openset_core.training.sample_history import (
    MOST_LOOKS,
    SampleHistoryRecorder,
    kept_epochs,
    read_sample_history,
)

FIVE_MEGABYTES = 5_000_000
VOID = {"meta", "link", "br", "img", "input"}
FIGURES = {
    "roc",
    "oscr",
    "scores",
    "confusion",
    "embedding",
    "training",
}


class Page(HTMLParser):
    """A page's elements with their texts; raises where elements are not nested properly."""

    def __init__(self, path):
        super().__init__(convert_charrefs=True)
        self.source = path.read_text("utf-8")
        self.elements = []  # tag, attributes, text inside
        self._open = []
        self.feed(self.source)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append([tag, dict(attributes), ""])
        if tag not in VOID:
            self._open.append(self.elements[-1])

    def handle_startendtag(self, tag, attributes):
        self.elements.append([tag, dict(attributes), ""])

    def handle_endtag(self, tag):
        assert self._open, f"</{tag}> without a start"
        assert self._open.pop()[0] == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        for element in self._open:
            element[2] += data

    def all(self, tag, **wanted):
        wanted = {key.rstrip("_").replace("_", "-"): value for key, value in wanted.items()}
        return [
            (attributes, text)
            for name, attributes, text in self.elements
            if name == tag and wanted.items() <= attributes.items()
        ]

    def section(self, name):
        ((_, text),) = self.all("section", id=name)
        return text

    @property
    def sections(self):
        return [attributes["id"] for attributes, _ in self.all("section")]

    def rows(self, caption):
        """Cells of the table with this caption."""
        inside = re.search(
            rf"<table><caption>{re.escape(caption)}</caption>(.*?)</table>", self.source, re.S
        )
        assert inside, caption
        rows = re.findall(r"<tr.*?>(.*?)</tr>", inside[1], re.S)
        cells = [re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row, re.S) for row in rows]
        return [[re.sub(r"<.*?>", "", cell) for cell in row] for row in cells]


def page_of(folder, **options):
    return Page(make_report(folder, figures=False, **options).page)


def check_form(page):
    """What holds for every page."""
    ids = [attributes["id"] for _, attributes, _ in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for attributes, _ in page.all("a"):
        assert attributes["href"][1:] in ids
    levels = [int(tag[1]) for tag, _, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in pairwise(levels))
    for attributes, _ in page.all("img"):
        assert attributes["alt"]
        assert attributes["src"].startswith("data:image/png;base64,")
    for attributes, _ in page.all("svg"):
        if attributes.get("class") == "chart":
            assert (attributes["role"], len(attributes["aria-label"]) > 20) == ("img", True)
        else:
            assert attributes["aria-hidden"] == "true"
    assert len(page.all("table")) == len(page.all("caption"))
    assert all(attributes["scope"] in ("row", "col") for attributes, _ in page.all("th"))
    for attributes, _ in page.all("div", class_="scroll"):
        assert attributes["tabindex"] == "0"
    for _, attributes, _ in page.elements:
        for key in ("src", "href", "action", "poster", "srcset", "data"):
            assert attributes.get(key, "#").startswith(("#", "data:"))
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", page.source)
    assert not re.search(r"@import|url\(|\bfetch\(|XMLHttp|\bimport\s*\(", page.source)
    assert "NaN" not in re.sub(r"<script>.*?</script>", "", page.source, flags=re.S)
    assert len(page.source.encode()) < FIVE_MEGABYTES
    for _, text in page.all("script", type="application/json"):
        data = json.loads(text)
        for series in data["series"]:
            assert len(series["x"]) == len(series["y"])
            assert {len(column) for column in series["values"]} == {len(series["x"])}
            assert len(series["values"]) <= len(data["columns"])


# ---- the whole


def test_the_page_of_a_run(finished):
    made = make_report(finished)
    assert made.page == finished / "report.html"
    assert made.remarks == ()
    page = Page(made.page)
    check_form(page)
    assert page.sections == [
        *("results", "run", "curves", "scores", "confusion", "embedding", "galleries"),
        *("training", "record"),
    ]
    assert [text for _, text in page.all("h1")] == ["softmax on tiny"]
    head = page.all("header")[0][1]
    results = Results.load(finished / "results.json")
    found = results.scorers["msp"].metrics
    for metric in results.shown:
        assert f"{100 * found[metric]:.1f}" in head
    assert "Protocol tiny-digits, trial 0, seed 0" in head
    run = page.section("run")
    for said in ("openset 0.1.0", "softmax", "tiny", "msp", "0, 1, 2", "train", "extract", "score"):
        assert said in run
    assert "openset run --plugins softmax,tiny,msp --protocol tiny-digits --trial 0" in run
    record = page.section("record")
    with open_run(finished) as data:
        for facts in data.record["data"].values():
            assert facts["split"] in record
            assert facts["data"] in record
        assert data.record["versions"]["torch"] in record
    names = {path.stem for path in made.figures}
    assert FIGURES <= names <= FIGURES | {"known-rejected", "unknown-accepted"}
    assert len(made.figures) == 2 * len(names)
    for path in made.figures:
        if path.suffix == ".png":
            with Image.open(path) as image:
                assert np.asarray(image.convert("L")).std() > 3, path
        else:
            assert path.read_text("utf-8").count("<path") > 5


def test_a_page_made_again_has_the_same_bytes(finished):
    def contents(figures=True):
        made = make_report(finished, figures=figures)
        return {path.name: path.read_bytes() for path in (made.page, *made.figures)}

    first = contents()
    assert contents(figures=False)["report.html"] == first["report.html"]  # from what was kept
    (finished / "figures.h5").unlink()
    assert contents() == first


def test_images_are_kept_so_that_a_page_needs_no_data(finished, monkeypatch):
    first = page_of(finished)
    assert first.all("img")
    with h5py.File(finished / "figures.h5") as file:
        assert set(file) <= {"images-known", "images-unknown-near", "images-unknown-far", "map"}
    monkeypatch.setattr("openset_core.data.preparation.prepare_data", None)
    monkeypatch.setattr(embeddings, "tsne", None)
    assert page_of(finished).source == first.source


def test_without_data_the_page_says_so(finished, monkeypatch):
    from openset_core.errors import DataError

    def gone(*_):
        raise DataError("data set digits is not there; set $OPENSET_DATA")

    monkeypatch.setattr("openset_core.data.preparation.prepare_data", gone)
    made = make_report(finished)
    assert made.remarks == (
        f"Images are missing in the galleries: {finished} does not keep these images yet, and its "
        "data is not there: data set digits is not there; set $OPENSET_DATA.",
    )
    page = Page(made.page)
    assert page.all("img") == []
    assert made.remarks[0] in page.all("aside", class_="warnings")[0][1]
    assert "score" in page.section("galleries")


def test_a_damaged_file_of_kept_images_is_made_again(finished):
    first = page_of(finished).source
    (finished / "figures.h5").write_bytes(b"nonsense")
    assert page_of(finished).source == first
    with open_run(finished) as run:
        assert kept_images(run, "known") or kept_images(run, "unknown/near")


def test_torch_is_not_needed(finished):
    code = (
        "import sys; from pathlib import Path\n"
        "from openset_core.report.run_page.making import make_report\n"
        f"made = make_report(Path({str(finished)!r}))\n"
        "assert made.remarks == (), made.remarks\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# ---- the command line


def test_openset_run_makes_the_page(tiny, tmp_path, openset):
    run = ("run", "-p", "softmax,tiny", "--protocol", "tiny-digits", "--out", tmp_path / "run")
    options = ("--epochs", "1", "--device", "cpu")
    without = openset(*run, *options, "--no-report")
    assert without.code == 0
    assert not (tmp_path / "run" / "report.html").exists()
    assert "report" not in without.out + without.err
    answer = openset(*run, *options)
    assert re.search(r"^report: \d+\.\d s, report.html and \d+ files of figures$", answer.err, re.M)
    assert "report.html" in answer.out
    assert "figures/" in answer.out
    assert is_current(tmp_path / "run")
    before = (tmp_path / "run" / "report.html").read_bytes()
    assert "report: skipped, the page is current" in openset(*run, *options).err
    scored = openset("score", tmp_path / "run", "-p", "energy")
    assert "report.html shows earlier results; `openset report " in scored.out
    assert not is_current(tmp_path / "run")
    assert "report: skipped" not in openset("run", tmp_path / "run", *options[2:]).err
    assert (tmp_path / "run" / "report.html").read_bytes() != before
    assert "energy" in Page(tmp_path / "run" / "report.html").section("results")


def test_a_page_that_cannot_be_made_fails_no_run(finished, monkeypatch, openset):
    def refuse(*_args, **_options):
        raise RunFolderError("the disk is full; free some space")

    monkeypatch.setattr("openset_core.report.run_page.making.make_report", refuse)
    answer = openset("run", finished, "--device", "cpu")
    assert answer.code == 0
    assert re.search(r"^report: .* not made: the disk is full; free some space$", answer.err, re.M)
    assert "AUROC" in answer.out


def test_openset_report(finished, openset, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    answer = openset("report", finished, "--no-figures", "--open")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.strip() == str(finished / "report.html")
    assert opened == [(finished / "report.html").resolve().as_uri()]
    assert not (finished / "figures").exists()
    assert openset("report", finished).out.startswith(f"{finished / 'report.html'} and ")
    assert "earlier results" not in openset("score", finished).out
    assert (finished / "figures" / "roc.svg").exists()


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        (("results.json",), "the features are there, but it has no results.json; `openset run "),
        (("results.json", "features.h5"), "the network is trained, but it has no results.json"),
        (("results.json", "model"), "2 of 2 epochs are trained and it has no results.json"),
        (("experiment.toml",), "is not a run folder"),
    ],
)
def test_an_unfinished_run_is_told_what_is_missing(finished, openset, gone, said):
    for name in gone:
        path = finished / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    answer = openset("report", finished)
    assert (answer.code, answer.out) == (2, "")
    assert said in answer.err
    assert len(answer.err.splitlines()) == 1
    assert not (finished / "report.html").exists()


def test_a_scorer_that_the_run_does_not_have(finished, openset):
    answer = openset("report", finished, "--scorer", "msq")
    assert answer.code == 2
    assert "has no scorer 'msq'; did you mean msp?" in answer.err


def test_the_page_from_python(finished):
    run = api.load_run(finished)
    assert run.report(figures=False) == finished / "report.html"
    with pytest.raises(ConfigError, match="no scorer 'energy'"):
        run.report("energy")


# ---- runs of every sort


def test_names_are_escaped_wherever_they_stand(made_up_run, tmp_path):
    names = [
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(2)>',
        "</script><b>bold</b>",
    ]
    sets = {"</title><i>rest": (30, 2), "'>&amp;": (20, 2)}
    figure = PublishedFigure(value=0.9, source="<em>A Paper")
    folder = made_up_run(
        tmp_path / "run",
        names=names,
        width=2,
        sets=sets,
        method="<h1>",
        protocol="<u>",
        terms=("<s>/</p>",),
        published={"auroc": figure},
    )
    page = page_of(folder)
    check_form(page)
    plain = page_of(
        made_up_run(
            tmp_path / "plain",
            width=2,
            sets=dict(zip("ab", sets.values(), strict=True)),
            published={"auroc": figure},
        )
    )
    for tag in ("script", "img", "i", "u", "em", "s", "h1", "title", "section", "svg"):
        assert len(page.all(tag)) == len(plain.all(tag)), tag
    confused = page.section("confusion")
    for name in names:
        assert name in confused
    assert "<em>A Paper" in page.section("results")
    assert [text for _, text in page.all("h1")] == ["<h1> on classifier32"]


def test_without_unknown_samples(made_up_run, tmp_path):
    folder = made_up_run(tmp_path / "run", sets={}, width=2)
    made = make_report(folder)
    page = Page(made.page)
    check_form(page)
    assert "curves" not in page.sections
    assert "Scores of known samples" in page.section("scores")
    assert "no unknown ones" in page.all("header")[0][1]
    assert page.rows("Rows are true classes, columns predictions; percent of the row.")[0][-2:] == [
        "unknown",
        "samples",
    ]
    assert {path.stem for path in made.figures} == FIGURES - {"roc", "oscr"}


def test_one_class_constant_scores_and_nothing_right(made_up_run, tmp_path):
    one = page_of(made_up_run(tmp_path / "one", classes=1, width=2))
    check_form(one)
    constant = made_up_run(tmp_path / "constant", constant=True, width=2)
    made = make_report(constant)
    page = Page(made.page)
    check_form(page)
    warned = page.all("aside", class_="warnings")[0][1]
    assert "Scorer msp gives every test sample the same score, 0; it tells nothing apart." in warned
    wrong = page_of(made_up_run(tmp_path / "wrong", all_wrong=True, width=2))
    check_form(wrong)
    assert "Accuracy is 0.0 %, about chance for 3 classes" in wrong.all("aside")[0][1]


def test_a_hundred_and_many_classes(made_up_run, tmp_path, monkeypatch):
    monkeypatch.setattr(embeddings, "MOST_POINTS", 60)
    for count in (100, 400):
        folder = made_up_run(
            tmp_path / str(count), classes=count, known=4 * count, sets={"rest": (200, 50)}
        )
        page = Page(make_report(folder).page)
        check_form(page)
        section = page.section("confusion")
        assert f"{count} known classes" in section
        assert "Largest confusions" in section
        assert f"and {count - 40} more" in page.section("run")
        assert f"known ({count} classes; colours repeat)" in page.section("embedding")


def test_very_many_samples(made_up_run, tmp_path, monkeypatch):
    monkeypatch.setattr(embeddings, "MOST_POINTS", 60)
    folder = made_up_run(
        tmp_path / "run", known=30_000, sets={"rest": (30_000, 4)}, scorers=("msp", "energy")
    )
    page = page_of(folder)
    check_form(page)
    assert len(page.source) < 400_000
    with open_run(folder) as run:
        curve = curves.curves_of(run, run.unknown)[0]
        exact = run.scorers["msp"].metrics
        assert len(curve.fpr) > 50_000
        assert curve.curve.auroc() == exact["auroc"]
        assert f"AUROC: msp {100 * exact['auroc']:.1f} %" in page.section("curves")


def test_several_sets_and_a_row_for_each(made_up_run, tmp_path):
    sets = {"near": (40, 2), "far": (30, 12), "further": (30, 12)}
    published = {
        "auroc": PublishedFigure(value=0.945, deviation=0.01, source="A Paper", compat="arpl"),
        "accuracy": PublishedFigure(value=0.93, source="Another Paper"),
    }
    whole = made_up_run(
        tmp_path / "a", sets=sets, width=2, scorers=("msp", "energy"), published=published
    )
    page = page_of(whole)
    check_form(page)
    rows = page.rows("Percent, on the test samples")
    found = Results.load(whole / "results.json").scorers["msp"]
    assert rows[0] == ["scorer", "Accuracy", "AUROC", "OSCR", "Macro-F1"]
    assert [row[0] for row in rows[1:]] == ["msp", "arpl evaluation", "published", "energy"]
    assert rows[2][1:] == ["", f"{100 * found.arpl['auroc']:.1f}", "", ""]
    assert rows[3][1:3] == ["93.0", "94.5 ± 1.0"]
    text = page.section("results")
    assert "Published AUROC: A Paper, arpl evaluation." in text
    assert "Published Accuracy: Another Paper." in text
    head = page.all("header")[0][1]
    ours = f"{100 * found.arpl['auroc']:.1f}"
    assert f"published 94.5 ± 1.0, arpl evaluation; ours by it {ours}" in head
    # Too many unknown classes for a row each.
    assert [row[0] for row in page.rows(confusion.CAPTION)[-3:]] == ["near", "far", "further"]
    each = page_of(made_up_run(tmp_path / "b", sets=sets, width=2, per_unknown=True))
    assert [row[0] for row in each.rows("Percent, on the test samples")[1:]] == [
        *("against near", "msp", "against far", "msp", "against further", "msp")
    ]
    assert "ROC against each set" in each.section("curves")


def test_features_or_scores_that_are_gone(finished):
    (finished / "scores.h5").unlink()
    page = page_of(finished)
    check_form(page)
    assert page.sections == ["results", "run", "embedding", "training", "record"]
    assert "`openset score " in page.all("aside", class_="warnings")[0][1]
    (finished / "features.h5").unlink()
    (finished / "metrics.jsonl").unlink()
    made = make_report(finished)
    page = Page(made.page)
    check_form(page)
    assert page.sections == ["results", "run", "record"]
    assert made.figures == ()


def test_numbers_that_are_not_finite(made_up_run, tmp_path):
    folder = made_up_run(tmp_path / "run", width=2, epochs=4)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    lines[1]["terms"]["classification/cross_entropy"] = float("nan")
    lines[2]["validation_accuracy"] = float("inf")
    del lines[3]["validation_accuracy"]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    made = make_report(folder)
    page = Page(made.page)
    check_form(page)
    assert "In epoch 2 something measured is not a finite number" in page.all("aside")[0][1]


def test_a_run_of_plugins_that_are_gone(made_up_run, tmp_path):
    folder = made_up_run(tmp_path / "run", width=2, plugins=("gone-loss", "gone-backbone"))
    page = page_of(folder)
    check_form(page)
    assert "gone-loss" in page.section("run")
    assert "--set training.epochs=3" in page.section("run")


def test_classes_added_after_training(made_up_run, tmp_path):
    folder = made_up_run(tmp_path / "run", width=2)
    results = Results.load(folder / "results.json")
    added = IncrementalResults(classes=(3, 4), accuracy=(0.9, 0.8))
    attrs.evolve(results, incremental=added).save(folder / "results.json")
    page = page_of(folder)
    assert page.rows("Accuracy over all classes so far, percent")[1:] == [
        ["3", "90.0"],
        ["4", "80.0"],
    ]


# ---- what is computed


def view_of(run, scorer=""):
    deciding = scorer or deciding_scorer(run)
    return View(run=run, scorer=deciding, map=map_of(run))


def test_the_confusion_matrix_is_that_of_scikit_learn(made_up_run, tmp_path):
    folder = made_up_run(
        tmp_path / "run", classes=4, known=200, width=2, apart=1.5, sets={"a": (50, 2), "b": (9, 1)}
    )
    with open_run(folder) as run:
        view = view_of(run)
        found = confusion.confusion(view)
        threshold = run.scorers["msp"].threshold
        true, given = [], []
        for part in (run.known, *run.unknown):
            rejected = part.scores["msp"] > threshold
            given += np.where(rejected, 4, part.predicted).tolist()
            true += [
                int(label) if part is run.known else f"{part.name}: {part.name}-{label - 100}"
                for label in part.label
            ]
    rows = [0, 1, 2, 3, "a: a-0", "a: a-1", "b: b-0"]
    numbers = {row: number for number, row in enumerate(rows)}
    expected = reference_confusion(
        [numbers[label] for label in true], given, labels=range(len(rows))
    )
    np.testing.assert_array_equal(found.counts, expected[:, :5])
    assert found.rows == (*(f"class-{n}" for n in range(4)), *rows[4:])
    assert found.columns == (*(f"class-{n}" for n in range(4)), "unknown")
    assert found.counts.sum() == 259
    np.testing.assert_allclose(found.shares.sum(axis=1), 1)


def test_the_page_shows_the_confusion_matrix(made_up_run, tmp_path):
    folder = made_up_run(tmp_path / "run", known=200, width=2, apart=1.0)
    with open_run(folder) as run:
        found = confusion.confusion(view_of(run))
    page = page_of(folder)
    header, *rows = page.rows(confusion.CAPTION)
    assert header[1:] == [*found.columns, "samples"]
    for row, name, counts in zip(rows, found.rows, found.counts, strict=True):
        assert (row[0], row[-1]) == (name, str(counts.sum()))
        for cell, count in zip(row[1:-1], counts, strict=True):
            share = 100 * count / counts.sum()
            assert cell == ("·" if not count else "&lt;1" if share < 0.5 else f"{share:.0f}")
    divided = re.findall(r'<tr class="divide-top"><th scope="row">(.*?)</th>', page.source)
    assert divided == ["rest-0"]


def test_the_largest_confusions_come_first(made_up_run, tmp_path):
    counts = np.array([[5, 2, 1], [0, 7, 0], [3, 0, 9]])
    found = confusion.Confusion(
        counts=counts, rows=("a", "b", "new"), columns=("a", "b", "unknown"), known=2
    )
    assert confusion.largest_confusions(found) == [
        (2, 0, 3, "25.0"),
        (0, 1, 2, "25.0"),
        (0, 2, 1, "12.5"),
    ]
    pixels = confusion.matrix_pixels(found)
    assert pixels.shape[2] == 4
    assert pixels[0, 0, 3] == round(255 * np.sqrt(5 / 8))
    assert pixels[-1, 0, 3] == round(255 * np.sqrt(3 / 12))


def test_galleries_show_the_worst_mistakes_first(made_up_run, tmp_path):
    folder = made_up_run(
        tmp_path / "run", known=300, width=2, apart=0.5, sets={"a": (100, 2), "b": (80, 2)},
        acceptance=0.8,
    )  # fmt: skip
    with open_run(folder) as run:
        rejected, accepted = gallery.picks(run, "msp")
        threshold = run.scorers["msp"].threshold
        known = run.known.scores["msp"]
        assert (rejected.of, rejected.among) == (np.count_nonzero(known > threshold), 300)
        shown = [part.scores["msp"][row] for part, row in rejected.samples]
        assert shown == sorted(known[known > threshold], reverse=True)[: gallery.MOST_SAMPLES]
        pooled = run.pooled("msp")
        assert (accepted.of, accepted.among) == (np.count_nonzero(pooled <= threshold), 180)
        shown = [part.scores["msp"][row] for part, row in accepted.samples]
        assert shown == sorted(pooled[pooled <= threshold])[: gallery.MOST_SAMPLES]
        assert {part.name for part, _ in accepted.samples} == {"a", "b"}
        assert gallery.picks(run, "other") == ()


def test_a_gallery_without_mistakes(made_up_run, tmp_path):
    folder = made_up_run(tmp_path / "run", width=2, apart=200.0, acceptance=1.0)
    page = page_of(folder)
    assert "None of" in page.section("galleries")


def test_thinning_moves_no_curve(made_up_run, tmp_path):
    random = np.random.default_rng(0)
    x = np.sort(random.random(5000))
    y = np.sort(random.random(5000)) ** 2
    for most, tolerance in ((500, 4e-4), (40, 0.0), (10_000, 1e-3)):
        chosen = thinned(x, y, most=most, tolerance=tolerance)
        assert len(chosen) <= most
        assert (chosen[0], chosen[-1]) == (0, 4999)
        assert (np.diff(chosen) > 0).all()
        farthest = max(
            distances(x, y, first, last).max(initial=0.0) for first, last in pairwise(chosen)
        )
        assert farthest <= tolerance or len(chosen) == most
    fine = thinned(x, y, most=10_000, tolerance=1e-4)
    assert len(fine) > len(thinned(x, y, most=10_000, tolerance=1e-3))
    line = np.linspace(0, 1, 1000)
    assert thinned(line, 2 * line).tolist() == [0, 999]
    assert thinned(line[:2], line[:2]).tolist() == [0, 1]
    assert thinned(line[:1], line[:1]).tolist() == [0]
    assert thinned(np.zeros(9), np.zeros(9)).tolist() == [0, 8]


def test_curves_pass_through_the_threshold_and_both_ends(made_up_run, tmp_path):
    folder = made_up_run(tmp_path / "run", known=500, sets={"rest": (400, 2)}, apart=0.7, width=2)
    page = page_of(folder)
    roc, oscr = (json.loads(text) for _, text in page.all("script", type="application/json")[:2])
    with open_run(folder) as run:
        known, rest = run.known, run.unknown[0]
        result = run.scorers["msp"]
    titles = [title for title, _ in roc["columns"]]
    assert titles == ["threshold", "FPR", "TPR", "CCR"]
    for data in (roc, oscr):
        (series,) = data["series"]
        threshold, fpr, tpr, ccr = (np.array(column, float) for column in series["values"])
        assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
        assert ccr[-1] == pytest.approx(result.metrics["accuracy"], abs=1e-5)
        for at in range(1, len(threshold)):
            assert fpr[at] == pytest.approx(
                np.mean(rest.scores["msp"] <= threshold[at] + 1e-6), abs=6e-3
            )
        accepted = np.mean(rest.scores["msp"] <= result.threshold)
        assert np.abs(fpr - accepted).min() < 1e-5
        assert len(known) == 500


def test_histograms_count_every_sample(made_up_run, tmp_path):
    random = np.random.default_rng(0)
    known, unknown = random.normal(size=1000), {"rest": random.normal(3, 1, size=500)}
    found = histograms.histogram("s", 1.5, known, unknown)
    assert found.known.sum() == pytest.approx(1)
    assert found.unknown["rest"].sum() == pytest.approx(1)
    assert (found.below, found.above) == (False, False)
    counts, _ = np.histogram(known, found.edges)
    np.testing.assert_allclose(found.known, counts / 1000)
    known[0] = 1e6
    far = histograms.histogram("s", 1.5, known, unknown)
    assert far.edges[-1] < 10
    assert (far.below, far.above) == (False, True)
    assert far.known.sum() == pytest.approx(1)
    beyond = histograms.histogram("s", 50.0, known[1:], {})
    assert beyond.edges[-1] == 50
    same = histograms.histogram("s", 2.0, np.full(5, 2.0), {})
    assert same.known.max() == 1


def test_some_samples_are_drawn_for_the_map(made_up_run, tmp_path):
    assert [len(rows) for rows in drawn_rows([30, 20], 100, 0)] == [30, 20]
    for sizes, expected in (
        ([1000, 1000], [50, 50]),
        ([1000, 30], [70, 30]),
        ([20, 1000], [20, 80]),
        ([1000], [100]),
        ([1000, 600, 300], [50, 33, 16]),
    ):
        rows = drawn_rows(sizes, 100, 0)
        assert [len(each) for each in rows] == expected
        assert all(len(set(each.tolist())) == len(each) for each in rows)
    again = drawn_rows([1000, 1000], 100, 0)
    np.testing.assert_array_equal(again[1], drawn_rows([1000, 1000], 100, 0)[1])


def test_the_map_of_a_wide_embedding_is_the_same_each_time(made_up_run, tmp_path):
    random = np.random.default_rng(0)
    vectors = random.normal(size=(80, 60)).astype(np.float32)
    first = tsne(vectors, 0)
    assert first.shape == (80, 2)
    np.testing.assert_array_equal(first, tsne(vectors, 0))


def test_a_flat_embedding_is_its_own_map(made_up_run, tmp_path):
    folder = made_up_run(tmp_path / "run", width=2, landmarks="reciprocal point")
    with open_run(folder) as run:
        found = map_of(run)
        assert found.exact
        assert not (folder / "figures.h5").exists()
        np.testing.assert_array_equal(found.known.points, run.embedding(run.known))
        np.testing.assert_array_equal(found.landmarks, run.store.landmarks.points)
        names = [group.name for group in scatter.groups(found, run.class_names)]
        assert names == ["unknown", "class-0", "class-1", "class-2"]
    page = page_of(folder)
    assert "reciprocal point of the class of its colour" in page.section("embedding")
    assert len(re.findall(r'class="mark c\d"', page.source)) == 3
    one = made_up_run(tmp_path / "one", width=1)
    with open_run(one) as run:
        found = map_of(run)
        assert (found.known.points[:, 1] == 0).all()
    check_form(page_of(one))


def test_embeddings_that_tell_nothing_apart_have_no_map(made_up_run, tmp_path):
    folder = made_up_run(tmp_path / "run")
    with h5py.File(folder / "features.h5", "r+") as file:
        for part in ("known", "unknown/rest"):
            file["parts"][part]["embedding"][:] = 1.0
    assert "embedding" not in page_of(folder).sections


def test_the_command_repeats_the_run(made_up_run, tmp_path):
    folder = made_up_run(tmp_path / "run", width=2)
    recorded = attrs_of(folder)
    recorded["threshold"] = {"acceptance": 0.9, "scorers": {"msp": {"score": 0.5}}}
    recorded["softmax"] = {"latent_dim": 32}
    import tomli_w

    (folder / "experiment.toml").write_text(tomli_w.dumps(recorded))
    with open_run(folder) as run:
        origin = provenance.provenance(run)
    assert origin.command == (
        "openset run --plugins softmax,classifier32,msp --protocol digits --trial 0 --seed 0 "
        "--set training.epochs=3 --set softmax.latent_dim=32 --threshold 0.9 "
        "--threshold msp:score=0.5"
    )
    assert origin.changes == (
        "training.epochs = 3 (otherwise 10)",
        "softmax.latent_dim = 32 (otherwise nothing)",
    )
    assert [(part.kind, part.name) for part in origin.parts] == [
        ("loss", "softmax"),
        ("backbone", "classifier32"),
        ("scorer", "msp"),
    ]


def attrs_of(folder):
    import tomllib

    return tomllib.loads((folder / "experiment.toml").read_text())


# ---- generated samples


def look(epoch, value=0, size=8):
    return SamplesDrawn(epoch=epoch, images=np.full((64, size, size, 1), value, np.uint8))


def test_looks_at_a_generator_are_kept(tmp_path):
    path = tmp_path / "looks.h5"
    recorder = SampleHistoryRecorder(path)
    for epoch in range(40):
        recorder.receive(look(epoch, epoch))
    found = read_sample_history(path)
    assert found.epochs.tolist() == [*range(1, 41, 4), 40]
    assert found.images[:, 0, 0, 0, 0].tolist() == [epoch - 1 for epoch in found.epochs]
    assert len(found.epochs) <= MOST_LOOKS
    # Begun again after a crash: what came later goes.
    recorder.receive(look(20, 99))
    found = read_sample_history(path)
    assert found.epochs.tolist() == [1, 5, 9, 13, 17, 21]
    assert found.images[-1, 0, 0, 0, 0] == 99


@pytest.mark.parametrize("last", [1, 2, 3, 16, 17, 100, 1000])
def test_kept_looks_are_spread_over_the_epochs(last):
    epochs = np.arange(1, last + 1)
    for most in (2, 5, 16):
        stay = epochs[kept_epochs(epochs, most)]
        assert len(stay) <= most
        assert (stay[0], stay[-1]) == (1, last)
        assert len(set(np.diff(stay)[:-1].tolist())) <= 1


def test_a_file_of_looks_that_cannot_be_read(tmp_path):
    path = tmp_path / "looks.h5"
    assert read_sample_history(path) is None
    path.write_bytes(b"nonsense")
    assert read_sample_history(path) is None
    SampleHistoryRecorder(path).receive(look(0))
    assert read_sample_history(path).epochs.tolist() == [1]


def test_generated_samples_stand_on_the_page(made_up_run, tmp_path):
    folder = made_up_run(tmp_path / "run", width=2)
    recorder = SampleHistoryRecorder(folder / "looks.h5")
    for epoch in range(7):
        recorder.receive(look(epoch, 30 * epoch))
    page = Page(make_report(folder).page)
    check_form(page)
    section = page.section("generated")
    assert re.findall(r"Epoch \d", section) == ["Epoch 1", "Epoch 3", "Epoch 5", "Epoch 7"]
    assert (folder / "figures" / "generated.png").exists()


# ---- numbers and images


def test_numbers_are_short_and_true():
    assert [number(v) for v in (0.279476, 0.75, -12345.6, 2e-5, 0.0, float("nan"), 0.99999)] == [
        *("0.279", "0.750", "−12,346", "2.00e−05", "0", "–", "1.000")
    ]
    assert percent(0.97125) == "97.1"
    assert percent(float("nan")) == "–"
    assert [seconds(v) for v in (0.034, 38.67, 754, 9000, 99.97)] == [
        *("0.03 s", "38.7 s", "12 min 34 s", "2 h 30 min", "1 min 40 s")
    ]


def test_axes_have_round_ticks():
    assert round_ticks(0, 1, 5) == (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    assert round_ticks(-2.6, -0.4, 5) == (-2.5, -2.0, -1.5, -1.0, -0.5)
    assert number_axis("", [0.1, 0.35]).labels == ("0.10", "0.15", "0.20", "0.25", "0.30", "0.35")
    assert number_axis("", [-1.0, 1.0], count=2).labels == ("−1", "0", "1")
    assert fraction_axis("").labels == ("0", "20", "40", "60", "80", "100")
    log = number_axis("", [0.003, 20], log=True)
    assert (log.low, log.high) == (0.001, 100.0)
    assert log.labels == ("0.001", "0.01", "0.1", "1", "10", "100")
    np.testing.assert_allclose(log.place([0.001, 100, 0.1]), [0, 1, 0.4])
    assert whole_number_axis("", 1, 3).labels == ("1", "2", "3")
    assert whole_number_axis("", 1, 90).labels == ("20", "40", "60", "80")
    assert whole_number_axis("", 4, 4).place([4])[0] == 0.5


@pytest.mark.parametrize(
    "values", [[], [float("nan")], [5.0, 5.0], [0.0], [-3.0], [1e-300, 0], [1e12, 1e12 + 1]]
)
def test_an_axis_of_anything_places_it_inside(values):
    axis = number_axis("", values)
    assert axis.low < axis.high
    assert len(axis.ticks) == len(axis.labels)
    finite = [value for value in values if np.isfinite(value)]
    assert all(0 <= place <= 1 for place in axis.place(finite))


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
