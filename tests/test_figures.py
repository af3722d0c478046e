"""Figures of runs: what they need, which run is which, and that they show what runs recorded.

Most runs here were never trained: their features are drawn at random and everything after them is
computed by the ordinary code.
"""

from __future__ import annotations

import csv
import io
import re
import shlex
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from attrs import evolve, frozen
from PIL import Image

from openset_core import FigureConfig, FigureSpec, RequiredRun
from openset_core.errors import FigureError, PluginError, RunFolderError
from openset_core.experiment import config
from openset_core.experiment.experiment import resolve
from openset_core.features.store import FeatureStore, FeatureWriter, StoredLandmarks
from openset_core.metrics import open_set_curve
from openset_core.registry import registry
from openset_core.report.charts.confusion import count_decisions
from openset_core.report.data import open_run
from openset_core.report.figure_cache import keep, kept, split_images
from openset_core.report.figures import (
    Confusion,
    Curves,
    EmbeddingMap,
    FeatureSpace,
    Sweep,
)
from openset_core.report.figures.drawing import FigureResult, ResolvedRun, chosen_scorer
from openset_core.report.figures.feature_space import largest_logits
from openset_core.report.figures.making import FORMATS, draw, save, shape_with
from openset_core.report.figures.runs import collected, fits, is_made, required_runs
from openset_core.results import tables
from openset_core.results.run_results import evaluate_run
from openset_core.run_folder import RunFolder, _record, append_metrics
from openset_core.scoring.fitting import score_run
from openset_plugins.paper_figures import Retrieval
from openset_plugins.paper_figures.generated import class_pairs
from openset_plugins.paper_figures.retrieval import class_centre, nearest_on_way

SETS = ("unknown/near", "unknown/far")
ROWS = {"train": 60, "validation": 30, "known": 45, "unknown/near": 40, "unknown/far": 20}


def make_run(
    folder,
    plugins="arpl,tiny,msp,max-logit",
    protocol="tiny-digits",
    *,
    trial=0,
    options=(),
    width=2,
    classes=3,
    spread=1.0,
    landmarks=True,
    learned_scalars=None,
):
    """A run folder whose features lie around corners of a polygon, unknown ones in the middle."""
    overrides = config.parse_assignments(options)
    experiment = resolve(plugins, protocol, trial, overrides=overrides)
    place = RunFolder(folder)
    names = [f"class-{number}" for number in range(classes)]
    facts = {part: {"samples": rows, "split": "s", "data": "d"} for part, rows in ROWS.items()}
    record = {**_record(experiment), "classes": names, "data": facts}
    place.write({**experiment.to_toml(), "record": record})
    angles = 2 * np.pi * np.arange(classes) / classes
    corners = np.zeros((classes, width))
    corners[:, :2] = 4.0 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    rng = np.random.default_rng(trial)

    def part(name):
        rows = ROWS[name]
        known = name not in SETS
        label = np.arange(rows) % classes if known else np.full(rows, 7)
        centre = corners[label] if known else np.zeros((rows, width))
        embedding = (centre + spread * rng.normal(size=(rows, width))).astype(np.float32)
        logits = (embedding @ corners.T).astype(np.float32)
        return {
            "embedding": embedding,
            "logits": logits,
            "label": label.astype(np.int64),
            "index": np.arange(rows),
        }

    points = StoredLandmarks(-corners.astype(np.float32), np.arange(classes), "reciprocal point")
    ingredients = {"weights": str(folder)}
    with FeatureWriter(place.features, ingredients, classes) as writer:
        for name in ROWS:
            writer.write_split(name, iter([part(name)]))
        writer.write_loss(learned_scalars or {}, points if landmarks else None)
    with FeatureStore(place.features) as store:
        scored = {
            item.name: score_run(
                store,
                place.model,
                place.scores,
                item,
                experiment.options[item.name],
                experiment.threshold_for(item.name),
            )
            for item in experiment.selection.scorers
        }
        evaluate_run(experiment, store, scored).save(place.results)
    line = {"epoch": 1, "terms": {"fit/loss": 0.5}, "rate": 0.1, "validation_accuracy": 0.9}
    append_metrics(place, {**line, "seconds": 1.0, "images_per_second": 123.0})
    return folder


def figure(shape, *, runs=(), **more):
    return FigureSpec(name="some", summary="some figure", shape=shape, runs=runs, **more)


def drawn(shape, folders, **more):
    """The result of a shape, closed runs and all."""
    spec = figure(shape, **more)
    with collected(spec, folders) as found:
        return draw(spec, shape, found)


@pytest.fixture
def run(tiny, tmp_path):
    return make_run(tmp_path / "run")


def spec_of(name):
    return registry().find(name, ("figure",)).spec


# ---- what there is, and what it needs


def first_party():
    return [part.spec for part in registry().of_kind("figure") if part.distribution == "openset"]


def needs():
    return [(spec, need) for spec in first_party() for need in spec.runs]


@pytest.mark.parametrize(("spec", "need"), needs(), ids=lambda item: getattr(item, "name", None))
def test_the_command_of_every_run_that_a_figure_needs_resolves(spec, need):
    wanted = ResolvedRun(required=need, protocol=need.protocol)
    words = shlex.split(wanted.command)
    assert words[:2] == ["openset", "run"]
    given = dict(zip(words[2::2], words[3::2], strict=True))
    assert set(given) <= {"--plugins", "--protocol", "--set", "--trials"}
    assignments = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    resolved = resolve(
        given["--plugins"], given["--protocol"], overrides=config.parse_assignments(assignments)
    )
    assert resolved.digest == wanted.experiment().digest
    assert spec.reference
    assert len(wanted.trials()) == (resolved.protocol.trials if need.trials == "all" else 1)


def test_the_figures_of_both_papers_are_there():
    names = {spec.name for spec in first_party()}
    arpl = {f"arpl-{number}" for number in ("1", "4", "6a", "6b", "7", "8", "9", "10", "11", "12")}
    m2iosr = {f"m2iosr-{number}" for number in ("1", "2", "3", "4", "table7")}
    assert names >= arpl | m2iosr


def test_a_figure_of_a_plugin_needs_options_with_defaults():
    @frozen(kw_only=True)
    class Bare(FigureConfig):
        factory = "nowhere:draw"
        size: int

    from openset_core.registry import _check_contents

    with pytest.raises(PluginError, match="options of some without a default: size"):
        _check_contents(figure(Bare(size=1)))


def test_listing_says_what_is_there_and_what_is_missing(tiny, openset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = openset("figure")
    assert answer.code == 0
    assert "arpl-7: Learned feature space with reciprocal points" in answer.out
    assert "  missing  openset run --plugins arpl --protocol mnist-unknowns\n" in answer.out
    assert answer.out.index("arpl-9:") < answer.out.index("arpl-10:")
    wanted = required_runs(spec_of("m2iosr-4"), "tiny-digits")[0]
    (folder,) = wanted.folders(Path("runs"))
    make_run(folder, "m2iosr,vgg13")
    assert is_made(wanted)
    there = f"  there    {wanted.command}\n"
    assert there in openset("figure", "--protocol", "tiny-digits").out


def test_runs_in_their_usual_folders_are_found_and_missing_ones_named(
    tiny, openset, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    answer = openset("figure", "arpl-9", "--protocol", "tiny-digits")
    assert answer.code == 2
    commands = openset("figure", "arpl-9", "--protocol", "tiny-digits", "--commands").out
    assert commands.splitlines()[2] == "openset run --plugins arpl --protocol tiny-digits"
    assert [line.strip() for line in answer.err.splitlines()[1:]] == commands.splitlines()
    wanted = required_runs(spec_of("arpl-9"), "tiny-digits")[2]
    make_run(wanted.folders(Path("runs"))[0], "arpl")
    answer = openset("figure", "arpl-9", "--protocol", "tiny-digits", "--format", "png,csv")
    assert answer.code == 0
    assert answer.out.split() == ["figures/arpl-9.png", "figures/arpl-9.csv"]
    assert answer.err.count("not shown: ") == 3
    assert "not shown: GCPL; openset run --plugins gcpl --protocol tiny-digits" in answer.err


def test_further_settings_of_the_runs_are_part_of_the_commands(tiny, openset):
    commands = openset("figure", "arpl-1", "--runs-set", "training.epochs=2", "--commands").out
    assert all(line.endswith(" --set training.epochs=2") for line in commands.splitlines())


# ---- which run is which


def test_runs_are_matched_by_loss_generator_and_their_options_alone(tiny, tmp_path):
    plain = make_run(tmp_path / "plain")
    flat = make_run(tmp_path / "flat", options=["arpl.weight=0.0"])
    needed = ResolvedRun(
        required=RequiredRun(label="λ = 0", plugins=("arpl", "vgg13"), protocol="mnist"),
        protocol="mnist",
    )
    zero = evolve(needed, required=evolve(needed.required, options=("arpl.weight=0.0",)))
    with open_run(plain) as first, open_run(flat) as second:
        assert (fits(needed, first), fits(needed, second)) == (True, False)
        assert (fits(zero, first), fits(zero, second)) == (False, True)
        other = evolve(needed, required=evolve(needed.required, plugins=("softmax",)))
        assert not fits(other, first)
        gone = evolve(needed, required=evolve(needed.required, plugins=("not-installed",)))
        assert not fits(gone, first)


def test_groups_come_in_the_figures_order_and_others_are_named_by_what_they_are(tiny, tmp_path):
    paths = [
        make_run(tmp_path / "c", options=["arpl.weight=0.3"]),
        make_run(tmp_path / "b"),
        make_run(tmp_path / "a1", "softmax,tiny", trial=1),
        make_run(tmp_path / "a0", "softmax,tiny", trial=0),
    ]
    spec = spec_of("arpl-1")  # softmax, gcpl, arpl
    with collected(spec, paths) as found:
        assert found.labels() == ["Softmax", "ARPL", "arpl, weight=0.3"]
        assert [len(group.runs) for group in found.groups] == [2, 1, 1]
        assert [label for label, _run in found.runs][:2] == ["Softmax, trial 0", "Softmax, trial 1"]
        assert [wanted.required.label for wanted in found.missing] == ["GCPL"]


def test_groups_of_one_name_are_told_apart_by_what_differs(tiny, tmp_path):
    paths = [
        make_run(tmp_path / "a", "softmax,tiny"),
        make_run(tmp_path / "b", "softmax,tiny", options=["tiny.width=3"]),
    ]
    with collected(spec_of("arpl-1"), paths) as found:
        assert found.labels() == ["Softmax, tiny.width=6", "Softmax, tiny.width=3"]


def test_a_folder_of_runs_stands_for_its_runs_in_order(tiny, tmp_path):
    for trial in (1, 0):
        make_run(tmp_path / "many" / f"trial{trial}", trial=trial)
    with collected(spec_of("arpl-1"), [tmp_path / "many"]) as found:
        assert [run.results.trial for _label, run in found.runs] == [0, 1]
    with (
        pytest.raises(RunFolderError, match="holds no run folder; name run folders"),
        collected(spec_of("arpl-1"), [tmp_path / "many" / "trial0" / "model"]),
    ):
        pass


def test_of_a_folder_of_runs_those_are_taken_that_the_figure_asks_for(
    tiny, tmp_path, openset, monkeypatch
):
    many = tmp_path / "many"
    plain = make_run(many / "plain")
    make_run(many / "odd", options=["arpl.weight=0.7"])
    with collected(spec_of("arpl-1"), [many]) as found:
        assert [run.folder.path for _label, run in found.runs] == [plain]
        assert found.left_out == 1
    with collected(spec_of("arpl-1"), [many, many / "odd", plain]) as found:
        assert found.labels() == ["ARPL", "arpl, weight=0.7"]
    protocol = tmp_path / "own.toml"
    protocol.write_text('base = "tiny-digits"\nsummary = "x"\n')
    own = make_run(many / "own", protocol=str(protocol))
    monkeypatch.chdir(tmp_path)  # the run recorded the whole path
    with collected(spec_of("arpl-1"), [many], protocol="own.toml") as found:
        assert [run.folder.path for _label, run in found.runs] == [own]
    with collected(spec_of("m2iosr-3"), [many]) as found:
        assert (len(found.runs), found.left_out) == (3, 0)
    (make_run(many / "begun") / "results.json").unlink()
    answer = openset("figure", "arpl-9", many, "-o", tmp_path / "x.csv")
    assert answer.code == 0
    assert "note: 1 other runs there are left out" in answer.err
    assert f"note: not finished and left out: {many / 'begun'}\n" in answer.err


def test_an_unfinished_run_is_refused_with_its_command(run, openset):
    (run / "results.json").unlink()
    answer = openset("figure", "arpl-9", run)
    assert answer.code == 2
    assert "is not finished" in answer.err
    assert f"`openset run {run}`" in answer.err


def test_the_deciding_scorer_is_the_methods_own(run):
    with open_run(run) as opened:
        assert chosen_scorer(opened, "own") == "msp"  # without a model the first of the run
    assert drawn(Curves(scorer="max-logit"), [run]).caption.count("max-logit for all") == 1
    with pytest.raises(FigureError, match=r"no scores of energy, it has msp, max-logit; .* adds"):
        drawn(Curves(scorer="energy"), [run])
    (run / "scores.h5").unlink()
    with pytest.raises(FigureError, match="holds no scores of its samples"):
        drawn(Curves(), [run])


# ---- files


def test_a_figure_becomes_every_kind_of_file(run, tmp_path):
    spec = evolve(spec_of("arpl-7"), deviation="Only an example.")
    with collected(spec, [run]) as found:
        result = draw(spec, spec.shape, found)
        paths = save(result, spec, tmp_path / "out" / "a.b", FORMATS)
    assert [path.name for path in paths] == [f"a.b.{kind}" for kind in FORMATS]
    with Image.open(paths[0]) as image:
        assert np.asarray(image.convert("L")).std() > 5
    assert paths[1].read_text("utf-8").count("<path") > 20
    assert paths[2].read_bytes().startswith(b"%PDF")
    rows = list(csv.reader(io.StringIO(paths[3].read_text("utf-8"))))
    assert tuple(rows[0]) == result.columns
    assert len(rows) == len(result.rows) + 1
    page = paths[-1].read_text("utf-8")
    for said in (
        spec.summary,
        "Only an example.",
        "Fig. 7",
        str(run),
        'class="chart"',
        spec.runs[1].label,
    ):
        assert said in page
    assert not re.search(r"""(src|href)=["'](https?:)?//""", page.partition("<script>")[0])


def test_numbers_become_tables_of_every_kind():
    rows = [("a|b & c", 12_000, 0.000091234567), ("d", 3, None)]
    result = FigureResult(chart=None, caption="", columns=("run", "n", "x_1"), rows=rows)
    assert tables.csv_text(result.columns, rows) == (
        "run,n,x_1\na|b & c,12000,9.1234567e-05\nd,3,\n"
    )
    assert [column.left for column in result.table.columns] == [True, False, False]
    markdown = tables.markdown([result.table])
    assert r"| a\|b & c | 12,000 |" in markdown
    assert r"a|b \& c & 12,000 &" in tables.latex([result.table])


def test_an_output_with_a_suffix_is_that_file_alone(run, openset, tmp_path):
    answer = openset("figure", "arpl-9", run, "--output", tmp_path / "x.svg")
    assert answer.out.split() == [str(tmp_path / "x.svg")]
    (tmp_path / "there").mkdir()
    answer = openset("figure", "arpl-9", run, "-o", tmp_path / "there", "--format", "csv")
    assert answer.out.split() == [str(tmp_path / "there" / "arpl-9.csv")]
    answer = openset("figure", "arpl-9", run, "--format", "png,jpg")
    assert answer.code == 2
    assert "cannot be written as 'jpg'" in answer.err


def test_figures_are_drawn_from_python_too(run, tmp_path, charts):
    import openset_core

    result = openset_core.figure("arpl-9", run, set={"rows": ["roc"]})
    assert len(charts.titles(result.chart)) == 2  # two unknown sets
    assert result.files == ()
    assert [wanted.required.label for wanted in result.missing] == ["Softmax", "GCPL", "ARPL+CS"]
    assert "text/html" in result._repr_mimebundle_()
    result = openset_core.figure("arpl-9", [run], output=tmp_path / "x", formats=["png"])
    assert result.files == (tmp_path / "x.png",)
    with pytest.raises(FigureError, match="cannot be written as 'jpg'"):
        openset_core.figure("arpl-9", [run], output=tmp_path / "x", formats=["jpg"])
    with pytest.raises(FigureError, match="no run is there"):
        openset_core.figure("arpl-9", root=tmp_path / "none")


def test_options_are_set_and_mistakes_refused(run, openset, tmp_path):
    assert shape_with(spec_of("arpl-7"), {"samples": 7}) == evolve(
        spec_of("arpl-7").shape, samples=7
    )
    for text, said in (
        ("sample=3", "figure arpl-7 has no option 'sample'; did you mean samples?"),
        ("samples=0", "samples"),
        ("colour=rainbow", "colour"),
    ):
        answer = openset("figure", "arpl-7", run, "--set", text)
        assert answer.code == 2
        assert said in answer.err
    shown = openset("plugins", "show", "figure:arpl-7").out
    assert "histogram (true or false; default true)" in shown
    answer = openset("figure", "arpl-70", run)
    assert answer.code == 2
    assert "did you mean arpl-7" in answer.err


def test_recorded_figures_need_no_torch(run, tmp_path):
    code = (
        "import sys\n"
        "from openset_core.cli import cli\n"
        "for name in ('arpl-9', 'arpl-7', 'm2iosr-4', 'arpl-11'):\n"
        "    arguments = ['figure', name, sys.argv[1], '-o', f'{sys.argv[2]}/{name}.csv']\n"
        "    cli.main(arguments, standalone_mode=False)\n"
        "print('heavy:', [name for name in ('torch', 'torchvision') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(run), str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.endswith("m2iosr-4.csv\n" + f"{tmp_path}/arpl-11.csv\nheavy: []\n")


# ---- the plane of the embedding


def places(rows):
    return np.array([(row["x"], row["y"]) for row in rows])


def test_the_plane_shows_every_sample_and_landmark(run, charts):
    result = drawn(FeatureSpace(samples=10_000), [run])
    points, landmarks = charts.marks(result.chart, "point")
    assert len(points) == sum(ROWS[name] for name in ("known", *SETS))
    with open_run(run) as opened:
        np.testing.assert_allclose(
            places(landmarks), opened.store.landmarks.points, rtol=1e-4, atol=1e-3
        )
        for split in (opened.known, *opened.unknown):
            for place, label in zip(opened.embedding(split), split.label, strict=True):
                known = split is opened.known
                group = f"class-{label}" if known else f"unknown: {split.name}"
                there = places([row for row in points if row["group"] == group])
                assert np.isclose(there, place, atol=1e-3).all(axis=1).any()
    assert charts.axis_titles(result.chart, "x") == ["dimension 1"]
    assert charts.axis_titles(result.chart, "y") == ["dimension 2"]
    assert charts.legend(result.chart) == [
        "class-0",
        "class-1",
        "class-2",
        "unknown: near",
        "unknown: far",
    ]
    assert {row["kind"] for row in landmarks} == {"reciprocal point"}
    assert "45 known and 40 of near, 20 of far test samples" in result.caption
    assert "Triangles are the reciprocal points." in result.caption


def test_the_plane_is_subsampled_by_a_seed(run, charts):
    def points(seed):
        return charts.marks(drawn(FeatureSpace(samples=12, seed=seed), [run]).chart, "point")[0]

    assert len(points(0)) == 36
    assert points(0) == points(0)
    assert points(0) != points(1)


def test_histograms_show_the_largest_logits(run, charts):
    result = drawn(FeatureSpace(histogram=True, histogram_label="distance", colour="set"), [run])
    assert charts.axis_titles(result.chart, "x") == ["dimension 1", "distance"]
    with open_run(run) as opened:
        values = largest_logits(opened, opened.known)
        np.testing.assert_array_equal(
            values, opened.store.array("known", "logits").max(axis=1).astype(np.float64)
        )
    rows = [row for row in result.rows if row[1] == "known"]
    edges = np.array([row[2] for row in rows] + [rows[-1][3]])
    expected, _ = np.histogram(values, edges, density=True)
    np.testing.assert_allclose([row[4] for row in rows], expected)
    assert sum(row[4] * (row[3] - row[2]) for row in rows) == pytest.approx(1.0)
    (area,) = charts.marks(result.chart, "area")
    shown = [row["density"] for row in area if row["group"] == "known"]
    np.testing.assert_allclose(shown[:-1], expected, rtol=1e-4, atol=1e-9)
    assert charts.legend(result.chart) == ["known", "unknown: near", "unknown: far"]
    assert charts.titles(result.chart) == ["arpl"]


def test_panels_are_lettered_and_named_by_classes_if_asked(tiny, tmp_path, charts):
    paths = [make_run(tmp_path / str(k), classes=k, trial=k % 2) for k in (3, 5)]
    result = drawn(FeatureSpace(title="classes"), paths)
    assert charts.titles(result.chart) == ["(a) K = 3", "(b) K = 5"]


def test_a_wide_embedding_is_refused_in_a_sentence(tiny, tmp_path):
    wide = make_run(tmp_path / "wide", width=5)
    with pytest.raises(FigureError, match=r"wide has an embedding of 5 numbers, .* plane of two"):
        drawn(FeatureSpace(), [wide])


def test_a_store_that_does_not_tell_of_landmarks_is_said_so(run):
    with h5py.File(run / "features.h5", "r+") as file:
        del file["landmarks"], file.attrs["learnt"]
    (note,) = drawn(FeatureSpace(), [run]).notes
    assert "older than landmarks" in note
    assert f"openset extract {run} --rebuild" in note


def test_constant_logits_and_no_features_are_no_accident(run):
    with h5py.File(run / "features.h5", "r+") as file:
        for name in ("known", *SETS):
            file["parts"][name]["logits"][:] = 1.0
    drawn(FeatureSpace(histogram=True), [run])
    (run / "features.h5").unlink()
    for shape in (FeatureSpace(), EmbeddingMap(), Retrieval()):
        with pytest.raises(FigureError, match=r"features\.h5 does not exist"):
            drawn(shape, [run])


# ---- curves


def test_curves_are_those_of_the_scores(run, charts):
    result = drawn(Curves(scale="linear"), [run])
    with open_run(run) as opened:
        known, (near, _far) = opened.known, opened.unknown
        curve = open_set_curve(known.scores["msp"], near.scores["msp"], known.correct)
        metrics = opened.scorers["msp"].unknown["near"]
    lines = [rows for rows in charts.marks(result.chart, "line") if len(rows) > 2]
    for rows, points, y in zip(
        lines, (curve.roc_points(), curve.oscr_points()), ("tpr", "ccr"), strict=False
    ):
        shown = np.array([(row["fpr"], row[y]) for row in rows])
        for place in shown:  # thinned, but nothing is made up
            assert np.isclose(np.transpose(points), place, atol=1e-4).all(axis=1).any()
    areas = {(row[0], row[1]): row[4] for row in result.rows}
    assert areas["AUROC", "near"] == round(100 * metrics["auroc"], 2)
    assert areas["OSCR", "near"] == round(100 * metrics["oscr"], 2)
    assert charts.legend(result.chart) == [f"arpl {100 * metrics['auroc']:.1f}"]


def test_trials_become_a_mean_with_their_deviation(tiny, tmp_path, charts):
    paths = [make_run(tmp_path / f"trial{n}", trial=n, spread=2.5) for n in (0, 1)]
    result = drawn(Curves(rows=("roc",)), paths)
    areas = []
    for path in paths:
        with open_run(path) as opened:
            areas.append(opened.scorers["msp"].unknown["near"]["auroc"])
    (row,) = (row for row in result.rows if row[1] == "near")
    assert row[3:] == (2, round(100 * np.mean(areas), 2), round(100 * np.std(areas, ddof=1), 2))
    assert f"{100 * np.mean(areas):.1f} ± " in charts.legend(result.chart)[0]
    lines = [rows for rows in charts.marks(result.chart, "line") if len(rows) > 2]
    rates = [row["fpr"] for row in lines[0]]
    means = [row["tpr"] for row in lines[0]]
    deviations = [row["deviation"] for row in lines[0]]
    curves = []
    for path in paths:
        with open_run(path) as opened:
            known, near = opened.known, opened.unknown[0]
            curve = open_set_curve(known.scores["msp"], near.scores["msp"], known.correct)
            curves.append(np.interp(rates, *curve.roc_points()))
    np.testing.assert_allclose(means, np.mean(curves, axis=0), atol=1e-4)
    np.testing.assert_allclose(deviations, np.std(curves, axis=0, ddof=1), atol=1e-4)


def test_runs_without_a_common_unknown_set_have_no_curves(tiny, tmp_path):
    first = make_run(tmp_path / "first")
    second = make_run(tmp_path / "second", "softmax,tiny")
    with h5py.File(second / "features.h5", "r+") as file:
        file["parts/unknown"].move("near", "a")
        file["parts/unknown"].move("far", "b")
    with pytest.raises(FigureError, match=r"no unknown set in common .*; name runs of one"):
        drawn(Curves(), [first, second])


# ---- sweeps


def test_a_sweep_over_an_option_has_a_curve_a_method(tiny, tmp_path, charts):
    values = (0.01, 0.1, 1.0)
    paths = [
        make_run(
            tmp_path / f"{loss}{value}",
            f"{loss},tiny",
            options=[f"{loss}.weight={value}"],
            spread=1 + value,
            learned_scalars={"margin": 2 * value},
        )
        for loss in ("arpl", "rpl")
        for value in values
    ]
    shape = Sweep(x="loss.weight", x_label="λ", x_scale="log", metrics=("learnt.margin", "auroc"))
    result = drawn(shape, paths)
    assert charts.axis_titles(result.chart, "x") == ["λ"]
    assert charts.axis_titles(result.chart, "y") == ["margin", "AUROC (%)"]
    margin, _auroc = charts.marks(result.chart, "line")
    for loss in ("arpl", "rpl"):
        points = [(row["x"], row["mean"]) for row in margin if row["method"] == loss]
        np.testing.assert_allclose(points, [(value, 2 * value) for value in values])
    with open_run(paths[0]) as opened:
        expected = opened.scorers[chosen_scorer(opened, "own")].metrics["auroc"]
    (row,) = [row for row in result.rows if row[:3] == ("AUROC (%)", "arpl", 0.01)]
    assert row[3:] == (1, round(100 * expected, 2), None)
    assert charts.legend(result.chart) == ["arpl", "rpl"]


def test_a_sweep_over_classes_averages_trials(tiny, tmp_path):
    paths = [
        make_run(tmp_path / f"{k}-{n}", classes=k, trial=n, spread=2.0)
        for k in (2, 4)
        for n in (0, 1)
    ]
    result = drawn(Sweep(), paths)
    assert [row[2:4] for row in result.rows] == [(2.0, 2), (4.0, 2)]
    assert all(row[5] is not None for row in result.rows)
    assert "Bars are one standard deviation." in result.caption


def test_a_sweep_over_openness_has_a_point_an_unknown_set(run):
    result = drawn(Sweep(x="openness", metrics=("macro_f1",), rule="fixed"), [run])
    with open_run(run) as opened:
        alone = opened.scorers["msp"].unknown
    expected = sorted(
        (100 * found["openness"], round(100 * found["macro_f1"], 2)) for found in alone.values()
    )
    xs = {row[2] for row in result.rows}
    assert xs == {x for x, _ in expected}
    assert "has no results by the fixed threshold, so the exact ones are shown" in result.notes[0]


def test_what_runs_do_not_have_cannot_be_swept(run):
    with pytest.raises(FigureError, match=r"none of these runs has both generator\.beta and auroc"):
        drawn(Sweep(x="generator.beta"), [run])
    with pytest.raises(FigureError, match=r"no metric is called 'aroc'; did you mean auroc"):
        drawn(Sweep(metrics=("aroc",)), [run])
    with pytest.raises(FigureError, match=r"has no unknown set 'neat'; did you mean near"):
        drawn(Sweep(unknown="neat"), [run])


# ---- confusion


def test_confusion_counts_decisions(run):
    with open_run(run) as opened:
        threshold = opened.scorers["msp"].threshold
        confusion = count_decisions(opened, "msp", threshold)
        matrix = confusion.shares
        known = opened.known
        rejected = known.scores["msp"] > threshold
        for i in range(3):
            own = known.label == i
            for j in range(3):
                decided = own & ~rejected & (known.predicted == j)
                assert matrix[i, j] == pytest.approx(decided.sum() / own.sum())
            assert matrix[i, 3] == pytest.approx((own & rejected).sum() / own.sum())
        near = opened.unknown[0]
        assert matrix[3, 3] == pytest.approx((near.scores["msp"] > threshold).mean())
    assert confusion.rows == ("class-0", "class-1", "class-2", "near", "far")
    assert confusion.columns == ("class-0", "class-1", "class-2", "unknown")
    np.testing.assert_allclose(matrix.sum(axis=1), 1.0)
    result = drawn(Confusion(), [run])
    assert [row[3] for row in result.rows] == [round(100 * share, 2) for share in matrix.ravel()]


def test_a_fixed_threshold_is_used_where_the_protocol_names_one(tiny, tmp_path):
    protocol = tmp_path / "fixed.toml"
    protocol.write_text('base = "tiny-digits"\nsummary = "x"\n[threshold]\nfixed = {msp = 0.05}\n')
    result = drawn(Confusion(rule="fixed"), [make_run(tmp_path / "a", protocol=str(protocol))])
    assert "msp above 0.05" in result.caption
    assert result.notes == ()
    result = drawn(Confusion(rule="fixed"), [make_run(tmp_path / "b")])
    assert "fixes no threshold for msp; its own used" in result.notes[0]


# ---- maps


def test_a_map_has_a_place_for_every_sample_drawn(run):
    shape = EmbeddingMap(perplexity=5.0, unknown=True, samples=50)
    result = drawn(shape, [run])
    again = drawn(shape, [run])
    assert result.rows == again.rows
    classes = {row[1] for row in result.rows}
    assert classes == {"class-0", "class-1", "class-2", "unknown"}
    assert 45 <= len(result.rows) <= 50
    known = drawn(EmbeddingMap(), [run])
    assert len(known.rows) == ROWS["known"]
    with h5py.File(run / "figures.h5") as file:
        assert len([name for name in file if name.startswith("tsne-")]) == 2


# ---- retrieval


def test_images_on_a_way_come_in_its_order():
    rng = np.random.default_rng(0)
    candidates = rng.normal(size=(200, 6))
    start, end = np.full(6, -1.0), np.full(6, 1.0)
    pieces = [candidates[:70], candidates[70:73], candidates[73:]]
    rows, distances = nearest_on_way(pieces, start, end, 9)
    taken = []
    for share in np.arange(9) / 8:
        stop = start + share * (end - start)
        order = sorted(range(200), key=lambda i: np.sum((candidates[i] - stop) ** 2))
        best = next(i for i in order if i not in taken)
        taken.append(best)
        distance = np.sqrt(np.sum((candidates[best] - stop) ** 2))
        assert distances[len(taken) - 1] == pytest.approx(distance)
    assert rows.tolist() == taken
    assert nearest_on_way([candidates], start, end, 9)[0].tolist() == taken
    assert len(nearest_on_way([candidates[:3]], start, end, 9)[0]) == 3


def test_a_stop_gives_way_where_its_nearest_was_met_before():
    candidates = np.array([[0.0], [0.1], [0.2], [9.0]])
    rows, distances = nearest_on_way([candidates], np.zeros(1), np.zeros(1), 4)
    assert rows.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(distances, [0.0, 0.1, 0.2, 9.0])


def test_pairs_of_classes_are_all_met_before_one_comes_again():
    pairs = class_pairs(4, 9, seed=0)
    assert len(set(pairs[:6])) == 6
    assert all(first < second < 4 for first, second in pairs)
    assert pairs == class_pairs(4, 9, seed=0) != class_pairs(4, 9, seed=1)


def test_retrieval_leads_from_centre_to_landmark_and_keeps_its_images(run, charts):
    with open_run(run) as opened:
        for name in ("known", *SETS):
            rows = np.arange(ROWS[name])
            images = np.broadcast_to(
                rows.astype(np.uint8)[:, None, None, None], (len(rows), 8, 8, 1)
            )
            keep(opened, f"images-{name.replace('/', '-')}", {"rows": rows, "images": images})
        train = opened.store.array("train", "embedding").astype(np.float64)
        label = opened.store.array("train", "label")
        centre = class_centre(opened, 1)
        np.testing.assert_allclose(centre, train[label == 1].mean(axis=0))
        end = opened.store.landmarks.points[1]
        near = opened.embedding(opened.unknown[0])
        expected = nearest_on_way([near], centre, end, 4)[0]
    result = drawn(Retrieval(classes=(1,), steps=4), [run])
    assert [row[4] for row in result.rows] == expected.tolist()
    assert {row[2] for row in result.rows} == {"near"}
    (images,) = charts.marks(result.chart, "image")
    assert [int(charts.pixels(row["url"])[0, 0]) for row in images] == expected.tolist()
    both = drawn(Retrieval(classes=(0,), steps=6, split="unknown"), [run])
    assert {row[2] for row in both.rows} <= {"near", "far"}
    with pytest.raises(FigureError, match=r"has no split 'fär'; did you mean far"):
        drawn(Retrieval(split="fär"), [run])
    with pytest.raises(FigureError, match=r"names 3, .* known classes 0 to 2"):
        drawn(Retrieval(classes=(3,)), [run])


def test_retrieval_needs_landmarks(tiny, tmp_path):
    run = make_run(tmp_path / "run", "softmax,tiny", landmarks=False)
    with pytest.raises(FigureError, match="keeps no point of a class in the embedding"):
        drawn(Retrieval(), [run])


# ---- what a run keeps for figures


def test_what_is_kept_belongs_to_its_features(run):
    with open_run(run) as opened:
        assert kept(opened, "a") is None
        assert keep(opened, "a", {"x": np.arange(3)})
        assert keep(opened, "b", {"y": np.ones((2, 2))})
        np.testing.assert_array_equal(kept(opened, "a")["x"], np.arange(3))
        np.testing.assert_array_equal(kept(opened, "b")["y"], np.ones((2, 2)))
        opened.store.key = "another"
        assert kept(opened, "a") is None
    (run / "figures.h5").write_bytes(b"damaged")
    with open_run(run) as opened:
        assert kept(opened, "a") is None
        assert keep(opened, "a", {"x": np.arange(3)})


def test_images_come_from_the_data_set_once(finished, tmp_path):
    from sklearn.datasets import load_digits

    rows = np.array([5, 0, 5])
    with open_run(finished) as opened:
        images = split_images(opened, "unknown/near", rows, tmp_path)
        originals = load_digits().images[opened.unknown[0].index[rows]]
    assert images.dtype == np.uint8
    for image, original in zip(images[..., 0], originals, strict=True):
        assert np.corrcoef(image.ravel(), original.ravel())[0, 1] > 0.999
    with open_run(finished) as opened:
        opened.recorded["protocol"] = "gone.toml"  # no data set can be asked any more
        again = split_images(opened, "unknown/near", rows[:2], tmp_path)
    np.testing.assert_array_equal(again, images[:2])


def test_changed_data_gives_no_images(finished, tmp_path):
    with open_run(finished) as opened:
        opened.recorded["record"]["data"]["known"]["data"] = "other"
        with pytest.raises(FigureError, match="the data of split known changed since"):
            split_images(opened, "known", np.array([0]), tmp_path)
