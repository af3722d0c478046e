"""The page of a run: what it shows, of every sort of run, and what it is made from."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

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
from openset_core.report.charts.confusion import MOST_NAMED
from openset_core.report.data import open_run
from openset_core.report.embedding import drawn_rows, map_of, tsne
from openset_core.report.figure_cache import kept_images
from openset_core.report.run_page import charts, galleries, provenance
from openset_core.report.run_page.making import is_current, make_report
from openset_core.report.run_page.view import View, shown_scorer
from openset_core.results.run_results import PublishedFigure, Results
from openset_core.training.sample_history import (
    MOST_LOOKS,
    SampleHistoryRecorder,
    kept_epochs,
    read_sample_history,
)

FIGURES = {"roc", "oscr", "scores", "confusion", "embedding", "training"}


@pytest.fixture
def page_of(html_page):
    """Makes a run's page, without files of figures, and reads it."""
    return lambda folder, **options: html_page(make_report(folder, figures=False, **options).page)


# ---- the whole


def test_the_page_of_a_run(finished, html_page):
    made = make_report(finished)
    assert made.page == finished / "report.html"
    assert made.remarks == ()
    page = html_page(made.page)
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
            assert path.read_text("utf-8").startswith("<svg")


def test_a_page_made_again_has_the_same_bytes(finished):
    def contents(figures=True):
        made = make_report(finished, figures=figures)
        return {path.name: path.read_bytes() for path in (made.page, *made.figures)}

    first = contents()
    assert contents(figures=False)["report.html"] == first["report.html"]  # from what was kept
    (finished / "figures.h5").unlink()
    assert contents() == first


def test_images_are_kept_so_that_a_page_needs_no_data(finished, monkeypatch, page_of):
    first = page_of(finished)
    assert first.all("img")
    with h5py.File(finished / "figures.h5") as file:
        assert set(file) <= {"images-known", "images-unknown-near", "images-unknown-far", "map"}
    monkeypatch.setattr("openset_core.data.preparation.prepare_data", None)
    monkeypatch.setattr(embeddings, "tsne", None)
    assert page_of(finished).source == first.source


def test_without_data_the_page_says_so(finished, monkeypatch, html_page):
    from openset_core.errors import DataError

    def gone(*_):
        raise DataError("data set digits is not there; set $OPENSET_DATA")

    monkeypatch.setattr("openset_core.data.preparation.prepare_data", gone)
    made = make_report(finished)
    assert made.remarks == (
        f"Images are missing in the galleries: {finished} does not keep these images yet, and its "
        "data is not there: data set digits is not there; set $OPENSET_DATA.",
    )
    page = html_page(made.page)
    assert page.all("img") == []
    assert made.remarks[0] in page.all("aside", class_="warnings")[0][1]
    assert "score" in page.section("galleries")


def test_a_damaged_file_of_kept_images_is_made_again(finished, page_of):
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


def test_openset_run_makes_the_page(tiny, tmp_path, openset, html_page):
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
    assert "energy" in html_page(tmp_path / "run" / "report.html").section("results")


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


def test_names_are_escaped_wherever_they_stand(made_up_run, tmp_path, page_of):
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
    for tag in ("i", "u", "em", "s", "img"):
        assert page.all(tag) == [], tag
    assert "bold" not in [text for _, text in page.all("b")]
    confused = page.chart_rows("Confusion matrix")
    assert {row["true"] for row in confused} >= set(names)
    assert "<em>A Paper" in page.section("results")
    assert [text for _, text in page.all("h1")] == ["<h1> on classifier32"]


def test_without_unknown_samples(made_up_run, tmp_path, html_page):
    folder = made_up_run(tmp_path / "run", sets={}, width=2)
    made = make_report(folder)
    page = html_page(made.page)
    assert "curves" not in page.sections
    assert "Scores of known samples" in page.section("scores")
    assert "no unknown ones" in page.all("header")[0][1]
    assert page.chart_rows("Confusion matrix")[-1]["predicted"] == "unknown"
    assert {path.stem for path in made.figures} == FIGURES - {"roc", "oscr"}


def test_one_class_constant_scores_and_nothing_right(made_up_run, tmp_path, page_of, html_page):
    page_of(made_up_run(tmp_path / "one", classes=1, width=2))
    constant = made_up_run(tmp_path / "constant", constant=True, width=2)
    made = make_report(constant)
    page = html_page(made.page)
    warned = page.all("aside", class_="warnings")[0][1]
    assert "Scorer msp gives every test sample the same score, 0; it tells nothing apart." in warned
    wrong = page_of(made_up_run(tmp_path / "wrong", all_wrong=True, width=2))
    assert "Accuracy is 0.0 %, about chance for 3 classes" in wrong.all("aside")[0][1]


@pytest.mark.parametrize("count", [100, 1000])
def test_many_classes(made_up_run, tmp_path, monkeypatch, count, html_page):
    monkeypatch.setattr(embeddings, "MOST_POINTS", 60)
    folder = made_up_run(
        tmp_path / "run", classes=count, known=4 * count, sets={"rest": (200, 50)}, epochs=1
    )
    made = make_report(folder)
    page = html_page(made.page)
    section = page.section("confusion")
    assert f"{count:,} known classes" in section
    assert "Largest confusions" in section
    assert f"and {count - 40} more" in page.section("run")
    assert f"{count:,} known classes; colours repeat" in page.section("embedding")
    assert len(page.source) < 1_300_000
    assert {path.stem for path in made.figures} == FIGURES


def test_very_many_samples_and_scorers(made_up_run, tmp_path, monkeypatch, page_of):
    monkeypatch.setattr(embeddings, "MOST_POINTS", 60)
    scorers = [f"scorer-{number}" for number in range(30)]
    folder = made_up_run(
        tmp_path / "run", known=30_000, sets={"rest": (30_000, 4)}, scorers=scorers, epochs=1
    )
    page = page_of(folder)
    assert len(page.source) < 1_600_000
    area = Results.load(folder / "results.json").scorers["scorer-0"].metrics["auroc"]
    assert f"AUROC: scorer-0 {100 * area:.1f} %" in page.chart("ROC")["description"]


def test_several_sets_and_a_row_for_each(made_up_run, tmp_path, page_of):
    sets = {"near": (40, 2), "far": (30, 12), "further": (30, 12)}
    published = {
        "auroc": PublishedFigure(value=0.945, deviation=0.01, source="A Paper", compat="arpl"),
        "accuracy": PublishedFigure(value=0.93, source="Another Paper"),
    }
    whole = made_up_run(
        tmp_path / "a", sets=sets, width=2, scorers=("msp", "energy"), published=published
    )
    page = page_of(whole)
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
    confused = page.chart_rows("Confusion matrix")
    assert list(dict.fromkeys(row["true"] for row in confused))[-3:] == ["near", "far", "further"]
    each = page_of(made_up_run(tmp_path / "b", sets=sets, width=2, per_unknown=True))
    assert [row[0] for row in each.rows("Percent, on the test samples")[1:]] == [
        *("against near", "msp", "against far", "msp", "against further", "msp")
    ]
    assert "ROC against each set" in each.section("curves")


def test_features_or_scores_that_are_gone(finished, page_of, html_page):
    (finished / "scores.h5").unlink()
    page = page_of(finished)
    assert page.sections == ["results", "run", "embedding", "training", "record"]
    assert "`openset score " in page.all("aside", class_="warnings")[0][1]
    (finished / "features.h5").unlink()
    (finished / "metrics.jsonl").unlink()
    made = make_report(finished)
    page = html_page(made.page)
    assert page.sections == ["results", "run", "record"]
    assert made.figures == ()


def test_numbers_that_are_not_finite(made_up_run, tmp_path, html_page):
    folder = made_up_run(tmp_path / "run", width=2, epochs=4)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    lines[1]["terms"]["classification/cross_entropy"] = float("nan")
    lines[2]["validation_accuracy"] = float("inf")
    del lines[3]["validation_accuracy"]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    made = make_report(folder)
    page = html_page(made.page)
    assert "In epoch 2 something measured is not a finite number" in page.all("aside")[0][1]


def test_a_run_of_plugins_that_are_gone(made_up_run, tmp_path, page_of):
    folder = made_up_run(tmp_path / "run", width=2, plugins=("gone-loss", "gone-backbone"))
    page = page_of(folder)
    assert "gone-loss" in page.section("run")
    assert "--set training.epochs=3" in page.section("run")


def test_classes_added_after_training(made_up_run, tmp_path, page_of):
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
    return View(run=run, scorer=scorer or shown_scorer(run), map=map_of(run))


def test_the_confusion_matrix_is_that_of_scikit_learn(made_up_run, tmp_path, page_of):
    folder = made_up_run(
        tmp_path / "run", classes=4, known=200, width=2, apart=1.5, sets={"a": (50, 2), "b": (9, 1)}
    )
    with open_run(folder) as run:
        counted = charts.confusion_of(view_of(run))
        threshold = run.scorers["msp"].threshold
        true, given = [], []
        for split in (run.known, *run.unknown):
            rejected = split.scores["msp"] > threshold
            given += np.where(rejected, 4, split.predicted).tolist()
            true += [
                int(label) if split is run.known else f"{split.name}: {split.name}-{label - 100}"
                for label in split.label
            ]
    rows = [0, 1, 2, 3, "a: a-0", "a: a-1", "b: b-0"]
    numbers = {row: number for number, row in enumerate(rows)}
    expected = reference_confusion(
        [numbers[label] for label in true], given, labels=range(len(rows))
    )
    np.testing.assert_array_equal(counted.counts, expected[:, :5])
    assert counted.known <= MOST_NAMED
    assert counted.rows == (*(f"class-{n}" for n in range(4)), *rows[4:])
    assert counted.columns == (*(f"class-{n}" for n in range(4)), "unknown")
    assert counted.counts.sum() == 259
    np.testing.assert_allclose(counted.shares.sum(axis=1), 1)
    # The page shows these numbers.
    cells = page_of(folder).chart_rows("Confusion matrix")
    assert len(cells) == counted.counts.size
    for cell in cells:
        at = counted.rows.index(cell["true"]), counted.columns.index(cell["predicted"])
        share, count = counted.shares[at], counted.counts[at]
        assert cell["samples"] == f"{count:,} of {counted.counts[at[0]].sum():,}"
        assert cell["said"] == (
            "·" if not count else "<1" if share < 0.005 else f"{100 * share:.0f}"
        )


def test_galleries_show_the_worst_mistakes_first(made_up_run, tmp_path):
    folder = made_up_run(
        tmp_path / "run", known=300, width=2, apart=0.5, sets={"a": (100, 2), "b": (80, 2)},
        acceptance=0.8,
    )  # fmt: skip
    with open_run(folder) as run:
        rejected, accepted = galleries.mistakes(run, "msp")
        threshold = run.scorers["msp"].threshold
        known = run.known.scores["msp"]
        assert (rejected.of, rejected.among) == (np.count_nonzero(known > threshold), 300)
        shown = [part.scores["msp"][row] for part, row in rejected.samples]
        assert shown == sorted(known[known > threshold], reverse=True)[: galleries.MOST_SAMPLES]
        pooled = run.pooled("msp")
        assert (accepted.of, accepted.among) == (np.count_nonzero(pooled <= threshold), 180)
        shown = [part.scores["msp"][row] for part, row in accepted.samples]
        assert shown == sorted(pooled[pooled <= threshold])[: galleries.MOST_SAMPLES]
        assert {part.name for part, _ in accepted.samples} == {"a", "b"}
        assert galleries.mistakes(run, "other") == ()


def test_a_gallery_without_mistakes(made_up_run, tmp_path, page_of):
    folder = made_up_run(tmp_path / "run", width=2, apart=200.0, acceptance=1.0)
    page = page_of(folder)
    assert "None of" in page.section("galleries")


def test_curves_pass_through_the_threshold_and_both_ends(made_up_run, tmp_path, page_of):
    folder = made_up_run(tmp_path / "run", known=500, sets={"rest": (400, 2)}, apart=0.7, width=2)
    page = page_of(folder)
    with open_run(folder) as run:
        known, rest = run.known.scores["msp"], run.unknown[0].scores["msp"]
        correct, result = run.known.correct, run.scorers["msp"]
    for title in ("ROC", "OSCR"):
        rows = page.chart_rows(title)
        fpr, tpr, ccr = (np.array([row[key] for row in rows]) for key in ("fpr", "tpr", "ccr"))
        assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
        assert ccr[-1] == pytest.approx(result.metrics["accuracy"], abs=1e-5)
        (used,) = (row for row in rows if row["used"])
        accepted = known <= result.threshold
        assert used["fpr"] == pytest.approx(np.mean(rest <= result.threshold), abs=1e-4)
        assert used["tpr"] == pytest.approx(np.mean(accepted), abs=1e-4)
        assert used["ccr"] == pytest.approx(np.mean(accepted & correct), abs=1e-4)
        assert {row["scorer"] for row in rows} == {
            f"msp {100 * result.metrics['auroc' if title == 'ROC' else 'oscr']:.1f}"
        }
    text = page.all("p", class_="note")[0][1]
    assert f"accepts {100 * np.mean(accepted):.1f} % of the known test samples" in text
    assert f"rejects {100 * np.mean(rest > result.threshold):.1f} % of the unknown" in text


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


def test_a_flat_embedding_is_its_own_map(made_up_run, tmp_path, page_of):
    folder = made_up_run(tmp_path / "run", width=2, landmarks="reciprocal point")
    with open_run(folder) as run:
        found = map_of(run)
        assert found.exact
        assert not (folder / "figures.h5").exists()
        np.testing.assert_array_equal(found.known.points, run.embedding(run.known))
        np.testing.assert_array_equal(found.landmarks, run.store.landmarks.points)
        points = found.known.points
    page = page_of(folder)
    assert "reciprocal point of the class of its colour" in page.section("embedding")
    drawn = page.chart_rows("The embedding itself")
    assert {row["group"] for row in drawn} == {"unknown", "class-0", "class-1", "class-2"}
    assert [row["group"] for row in drawn[:40]] == ["unknown"] * 40  # beneath the known ones
    shown = [[row["x"], row["y"]] for row in drawn[40:]]
    np.testing.assert_allclose(shown, points, rtol=1e-4)
    landmarks = page.chart_rows("The embedding itself", 1)
    assert [(row["kind"], row["group"]) for row in landmarks] == [
        ("reciprocal point", f"class-{n}") for n in range(3)
    ]
    one = made_up_run(tmp_path / "one", width=1)
    with open_run(one) as run:
        found = map_of(run)
        assert (found.known.points[:, 1] == 0).all()
    page_of(one)


def test_embeddings_that_tell_nothing_apart_have_no_map(made_up_run, tmp_path, page_of):
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
    assert origin["command"] == (
        "openset run --plugins softmax,classifier32,msp --protocol digits --trial 0 --seed 0 "
        "--set training.epochs=3 --set softmax.latent_dim=32 --threshold 0.9 "
        "--threshold msp:score=0.5"
    )
    assert origin["changes"] == [
        "training.epochs = 3 (otherwise 10)",
        "softmax.latent_dim = 32 (otherwise nothing)",
    ]
    assert [(each["kind"], each["name"]) for each in origin["components"]] == [
        ("loss", "softmax"),
        ("backbone", "classifier32"),
        ("scorer", "msp"),
    ]


def attrs_of(folder):
    import tomllib

    return tomllib.loads((folder / "experiment.toml").read_text())


# ---- generated samples


def drawn_samples(epoch, value=0, size=8):
    return SamplesDrawn(epoch=epoch, images=np.full((64, size, size, 1), value, np.uint8))


def test_the_sample_history_is_kept(tmp_path):
    path = tmp_path / "looks.h5"
    recorder = SampleHistoryRecorder(path)
    for epoch in range(40):
        recorder.receive(drawn_samples(epoch, epoch))
    found = read_sample_history(path)
    assert found.epochs.tolist() == [*range(1, 41, 4), 40]
    assert found.images[:, 0, 0, 0, 0].tolist() == [epoch - 1 for epoch in found.epochs]
    assert len(found.epochs) <= MOST_LOOKS
    # Begun again after a crash: what came later goes.
    recorder.receive(drawn_samples(20, 99))
    found = read_sample_history(path)
    assert found.epochs.tolist() == [1, 5, 9, 13, 17, 21]
    assert found.images[-1, 0, 0, 0, 0] == 99


@pytest.mark.parametrize("last", [1, 2, 3, 16, 17, 100, 1000])
def test_kept_epochs_are_spread_over_the_epochs(last):
    epochs = np.arange(1, last + 1)
    for most in (2, 5, 16):
        stay = epochs[kept_epochs(epochs, most)]
        assert len(stay) <= most
        assert (stay[0], stay[-1]) == (1, last)
        assert len(set(np.diff(stay)[:-1].tolist())) <= 1


def test_a_sample_history_that_cannot_be_read(tmp_path):
    path = tmp_path / "looks.h5"
    assert read_sample_history(path) is None
    path.write_bytes(b"nonsense")
    assert read_sample_history(path) is None
    SampleHistoryRecorder(path).receive(drawn_samples(0))
    assert read_sample_history(path).epochs.tolist() == [1]


def test_generated_samples_stand_on_the_page(made_up_run, tmp_path, html_page):
    folder = made_up_run(tmp_path / "run", width=2)
    recorder = SampleHistoryRecorder(folder / "looks.h5")
    for epoch in range(7):
        recorder.receive(drawn_samples(epoch, 30 * epoch))
    page = html_page(make_report(folder).page)
    section = page.section("generated")
    assert re.findall(r"Epoch \d", section) == ["Epoch 1", "Epoch 3", "Epoch 5", "Epoch 7"]
    assert (folder / "figures" / "generated.png").exists()
