"""Results: what is computed from scores, how it is kept, and how it is shown."""

from __future__ import annotations

import json
import math
import statistics

import attrs
import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from openset_core.errors import RunFolderError
from openset_core.experiment.experiment import resolve
from openset_core.features.store import FeatureStore, FeatureWriter
from openset_core.results.run_results import (
    PublishedFigure,
    Results,
    ScorerResults,
    TrialsResults,
    evaluate_run,
    results_table,
)
from openset_core.scoring.fitting import ScoredRun

CLASSES = 3
ROWS = {"train": 40, "validation": 20, "known": 50, "unknown/near": 30, "unknown/far": 20}


def make_results(trial=0, scorers=None, **changes):
    values = {
        "method": "softmax",
        "backbone": "tiny",
        "protocol": "tiny-digits",
        "trial": trial,
        "seed": 7,
        "epochs": 2,
        "experiment": "0123456789abcdef",
        "samples": {"known": 50, "unknown/near": 30},
        "scorers": scorers or {"msp": scorer(0.5, 0.75)},
        "shown": ("accuracy", "auroc"),
    }
    return Results(**values | changes)


def scorer(accuracy, auroc, **changes):
    metrics = {"accuracy": accuracy, "auroc": auroc, "oscr": 1 / 3}
    return ScorerResults(threshold=0.25, metrics=metrics, **changes)


PUBLISHED = {"auroc": PublishedFigure(value=0.873, deviation=0.012, source="A Paper, Table 1")}


# --- from scores to results ---------------------------------------------------------------------


@pytest.fixture
def experiment(tiny):
    return resolve("softmax,tiny,msp,energy", "tiny-digits", trial=1, seed=3)


def evaluated(folder, experiment, rows):
    """Results of invented scores, with the arrays they came from."""
    rng = np.random.default_rng(5)
    logits = {name: rng.normal(size=(count, CLASSES)) for name, count in rows.items()}
    labels = {name: rng.integers(0, CLASSES, size=count) for name, count in rows.items()}
    with FeatureWriter(folder / "features.h5", {}, CLASSES) as writer:
        for name in rows:
            writer.write_split(name, iter([{"logits": logits[name], "label": labels[name]}]))
    scored = {
        name: ScoredRun(
            {
                part: np.round(rng.normal(size=count) + part.startswith("unknown"), 1)
                for part, count in rows.items()
            },
            threshold=0.8,
            reused=False,
        )
        for name in ("msp", "energy")
    }
    with FeatureStore(folder / "features.h5") as store:
        return evaluate_run(experiment, store, scored), scored, logits, labels


def test_several_unknown_sets_pooled_and_single(tmp_path, experiment):
    results, scored, logits, labels = evaluated(tmp_path, experiment, ROWS)
    predicted = {part: values.argmax(axis=1) for part, values in logits.items()}
    assert results.samples == ROWS
    for name, found in results.scorers.items():
        scores = scored[name].scores
        sets = {"near": ["unknown/near"], "far": ["unknown/far"]}
        assert set(found.unknown) == set(sets)
        for metrics, parts in [
            (found.metrics, ["unknown/near", "unknown/far"]),
            (found.unknown["near"], sets["near"]),
            (found.unknown["far"], sets["far"]),
        ]:
            everything = ["known", *parts]
            pooled = np.concatenate([scores[part] for part in everything])
            unknown = np.concatenate([np.full(ROWS[p], p != "known") for p in everything])
            assert metrics["auroc"] == pytest.approx(roc_auc_score(unknown, pooled), abs=1e-12)
            true = np.where(unknown, CLASSES, np.concatenate([labels[part] for part in everything]))
            given = np.where(
                pooled > 0.8, CLASSES, np.concatenate([predicted[part] for part in everything])
            )
            assert metrics["macro_f1"] == pytest.approx(
                f1_score(true, given, average="macro"), abs=1e-12
            )
            assert metrics["accuracy"] == np.mean(predicted["known"] == labels["known"])
    assert results.scorers["msp"].metrics != results.scorers["energy"].metrics


def test_results_name_the_experiment(tmp_path, experiment):
    results, _scored, _logits, _labels = evaluated(tmp_path, experiment, ROWS)
    assert (results.method, results.backbone, results.protocol) == (
        "softmax",
        "tiny",
        "tiny-digits",
    )
    assert (results.trial, results.seed, results.epochs) == (1, 3, experiment.training.epochs)
    assert results.experiment == experiment.digest
    assert results.shown == ("accuracy", "auroc", "macro_f1")


def test_published_figure_stands_beside_the_methods_own_scorer_only(tmp_path, experiment):
    results, *_arrays = evaluated(tmp_path, experiment, ROWS)
    figure = PublishedFigure(value=0.873, deviation=0.012, source="An Invented Paper, Table 1")
    assert results.scorers["msp"].published == {"auroc": figure}
    assert results.scorers["energy"].published == {}


def test_arpl_evaluation_stands_beside_the_exact_one(tmp_path, experiment):
    results, *_arrays = evaluated(tmp_path, experiment, ROWS)
    for found in results.scorers.values():
        assert found.arpl.keys() == found.metrics.keys()
        assert found.arpl["accuracy"] == found.metrics["accuracy"]
        assert found.arpl["auroc"] != found.metrics["auroc"]  # scores are tied


def test_closed_set_protocol_without_unknown_parts(tmp_path, experiment):
    rows = {name: ROWS[name] for name in ("train", "validation", "known")}
    results, scored, logits, labels = evaluated(tmp_path, experiment, rows)
    for name, found in results.scorers.items():
        assert found.metrics == {
            "accuracy": np.mean(logits["known"].argmax(axis=1) == labels["known"]),
            "known_accepted": np.mean(scored[name].scores["known"] <= 0.8),
        }
        assert (found.arpl, found.unknown) == ({}, {})
    header = results.table().splitlines()[0]
    assert header.split() == ["scorer", "Accuracy"]


# --- the table ------------------------------------------------------------------------------------


def test_table_text_with_published_figures_beneath():
    results = make_results(
        scorers={"msp": scorer(0.5, 0.98765, published=PUBLISHED), "max-logit": scorer(0.5, 1.0)}
    )
    assert results.table() == (
        "scorer       Accuracy       AUROC\n"
        "-----------  --------  ----------\n"
        "msp              50.0        98.8\n"
        "  published            87.3 ± 1.2\n"
        "max-logit        50.0       100.0\n"
        "published AUROC: A Paper, Table 1"
    )


def test_evaluation_rule_of_a_published_figure_is_said():
    figure = PublishedFigure(value=0.9, source="A Paper", compat="arpl")
    table = make_results(scorers={"msp": scorer(0.5, 0.5, published={"auroc": figure})}).table()
    assert table.splitlines()[-1] == "published AUROC: A Paper, arpl evaluation"


def test_published_metric_that_is_not_shown_adds_nothing():
    figure = PublishedFigure(value=0.9, source="A Paper")
    table = make_results(scorers={"msp": scorer(0.5, 0.5, published={"oscr": figure})}).table()
    assert "A Paper" not in table
    assert "published" not in table


def test_missing_and_undefined_values_leave_their_cells_readable():
    rows = {"first": {"auroc": (math.nan, None)}, "second": {"accuracy": (0.125, 0.05)}}
    table = results_table(rows, {}, ("accuracy", "auroc", "oscr")).text()
    header, _rule, first, second = table.splitlines()
    assert header.split() == ["scorer", "Accuracy", "AUROC"]
    assert first.split() == ["first", "-"]
    assert second.split() == ["second", "12.5", "±", "5.0"]


# --- several trials -----------------------------------------------------------------------------


def test_trials_give_mean_and_sample_deviation():
    values = [0.5, 0.6, 0.9]
    trials = TrialsResults(
        tuple(
            make_results(number, {"msp": scorer(value, 0.5)}) for number, value in enumerate(values)
        )
    )
    mean, deviation = trials.summary()["msp"]["accuracy"]
    assert mean == pytest.approx(statistics.mean(values))
    assert deviation == pytest.approx(statistics.stdev(values))  # n - 1
    assert trials.summary()["msp"]["auroc"] == (0.5, 0.0)
    assert trials.table().splitlines()[2].split() == [
        "msp",
        "66.7",
        "±",
        "20.8",
        "50.0",
        "±",
        "0.0",
    ]


def test_trials_table_keeps_the_published_figures():
    both = tuple(make_results(n, {"msp": scorer(0.5, 0.5, published=PUBLISHED)}) for n in range(2))
    assert TrialsResults(both).table().splitlines()[-1].endswith("A Paper, Table 1")


def test_one_trial_has_no_deviation():
    table = TrialsResults((make_results(),)).table()
    assert table == make_results().table()


def test_trials_compare_what_all_of_them_have():
    more = make_results(0, {"energy": scorer(0.1, 0.1), "msp": scorer(0.5, 0.75)})
    less = make_results(1, {"msp": scorer(0.7, 0.75)})
    for pair in ((more, less), (less, more)):
        summary = TrialsResults(pair).summary()
        assert list(summary) == ["msp"]
        assert summary["msp"]["accuracy"][0] == pytest.approx(0.6)
        assert "energy" not in TrialsResults(pair).table()


# --- results.json ---------------------------------------------------------------------------------


def test_results_file_round_trip(tmp_path):
    results = make_results(
        scorers={
            "msp": scorer(
                0.1 + 0.2,
                2 / 3,
                arpl={"auroc": 0.6},
                unknown={"near": {"auroc": 0.7}, "far": {"auroc": 0.8}},
                published=PUBLISHED,
            ),
            "pytorch-ood:KNN": scorer(0.5, 0.5),
        }
    )
    results.save(tmp_path / "results.json")
    assert Results.load(tmp_path / "results.json") == results
    written = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert written["scorers"]["msp"]["metrics"]["accuracy"] == 0.1 + 0.2
    assert list(tmp_path.iterdir()) == [tmp_path / "results.json"]


def edited(**changes):
    def damage(path):
        values = json.loads(path.read_text())
        path.write_text(json.dumps({k: v for k, v in (values | changes).items() if v is not None}))

    return damage


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.unlink(), "does not exist; the run is not finished"),
        (lambda path: path.write_text(""), "is damaged; `openset score RUN` makes it again"),
        (lambda path: path.write_bytes(b"\xff\xfe{"), "is damaged; `openset score RUN`"),
        (lambda path: path.write_text(path.read_text()[:200]), "is damaged; `openset score RUN`"),
        (lambda path: path.write_text("[1, 2]"), "expects a table"),
        (edited(trial="first"), "trial expects int, not 'first'"),
        (edited(scorers=None), "lacks scorers"),
        (edited(scorers={"msp": {"metrics": {"auroc": "high"}}}), "lacks threshold"),
        (edited(surplus=1), "no option 'surplus'"),
        (edited(format=2), "has format 2"),
    ],
)
def test_damaged_results_file_is_one_sentence(tmp_path, damage, said):
    path = tmp_path / "results.json"
    make_results().save(path)
    damage(path)
    with pytest.raises(RunFolderError) as caught:
        Results.load(path)
    message = str(caught.value)
    assert said in message
    assert str(path) in message
    assert "\n" not in message


def test_results_cannot_be_changed_by_a_reader():
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        make_results().trial = 3


def test_a_figure_by_the_arpl_evaluation_stands_beneath_ours_by_it():
    figures = {"msp": {"auroc": PublishedFigure(value=0.9, source="a table", compat="arpl")}}
    rows = {"msp": {"accuracy": (0.8, None), "auroc": (0.5, None)}}
    arpl = {"msp": {"accuracy": (0.8, None), "auroc": (0.25, None)}}
    rules = {"arpl": arpl, "fixed": {}}
    table = results_table(rows, figures, ("accuracy", "auroc"), rules).text().splitlines()
    assert [line.split() for line in table[2:5]] == [
        ["msp", "80.0", "50.0"],
        ["arpl", "evaluation", "25.0"],
        ["published", "90.0"],
    ]
    exact = {"msp": {"auroc": PublishedFigure(value=0.9, source="a table")}}
    assert "arpl evaluation" not in results_table(rows, exact, ("auroc",), rules).text()


# --- unknown sets one by one, fixed thresholds, groups, classes added later ---------------------


def made_protocol(tmp_path, text):
    file = tmp_path / "made.toml"
    file.write_text(
        'summary = "made"\n[image]\nchannels = 1\n[known]\ndataset = "digits"\n'
        "test_fraction = 0.4\ntrials = [[0, 1, 2]]\n" + text
    )
    return resolve("softmax,lenet-plus-plus,msp,energy", str(file))


def test_a_protocol_may_ask_for_a_row_for_each_unknown_set(tmp_path):
    made = made_protocol(
        tmp_path,
        """
[unknown.near]
dataset = "digits"
[unknown.far]
dataset = "mnist"
classes = "all"
[threshold]
fixed = {msp = 0.05}
[report]
metrics = ["macro_f1", "openness"]
per_unknown = true
[[published]]
method = "softmax"
metric = "macro_f1"
value = 0.9
source = "a paper"
compat = "fixed"
unknown = "far"
""",
    )
    results, scored, logits, labels = evaluated(tmp_path, made, ROWS)
    fixed = results.scorers["msp"].by_rule("fixed", "far")
    parts = ["known", "unknown/far"]
    pooled = np.concatenate([scored["msp"].scores[part] for part in parts])
    given = np.concatenate([logits[part].argmax(axis=1) for part in parts])
    true = np.concatenate([labels["known"], np.full(ROWS["unknown/far"], CLASSES)])
    expected = f1_score(true, np.where(pooled > 0.05, CLASSES, given), average="macro")
    assert fixed["macro_f1"] == pytest.approx(expected, abs=1e-12)
    assert results.scorers["energy"].fixed == {}
    # Three known classes, three unknown labels: 1 - sqrt(2 * 3 / (3 + 6)).
    assert fixed["openness"] == pytest.approx(1 - math.sqrt(6 / 9))
    assert results.scorers["msp"].metrics["openness"] == pytest.approx(1 - math.sqrt(6 / 12))
    lines = [line.strip().split("  ")[0] for line in results.table().splitlines()[2:]]
    assert lines[:6] == [
        "msp against near",
        "fixed threshold",  # what it changes is shown with or without a published figure
        "energy against near",
        "msp against far",
        "fixed threshold",
        "published",
    ]
    results.save(tmp_path / "results.json")
    assert Results.load(tmp_path / "results.json") == results


def test_trials_of_different_groups_are_not_averaged():
    several = TrialsResults(
        tuple(
            make_results(number, {"msp": scorer(0.5, value)}, group=group)
            for number, (group, value) in enumerate(
                [("2 known classes", 0.2), ("4 known classes", 0.8)]
            )
        )
    )
    table = several.table()
    assert "2 known classes, 1 trial\n" in table
    assert "20.0" in table
    assert "80.0" in table
    assert "50.0 ±" not in table
    assert list(several.groups()) == ["2 known classes", "4 known classes"]


def test_classes_added_after_training_are_judged(tmp_path):
    made = made_protocol(tmp_path, '[incremental]\nclasses = "rest"\n')
    rows = {"train": 40, "validation": 20, "known": 50, "later/train": 60, "later/test": 30}
    rng = np.random.default_rng(1)
    labels = {
        name: rng.integers(3, 6, count) if name.startswith("later") else rng.integers(0, 3, count)
        for name, count in rows.items()
    }
    logits = {
        name: np.eye(6)[kinds][:, :3] * 9 + np.eye(6)[kinds][:, 3:]
        for name, kinds in labels.items()
    }
    with FeatureWriter(tmp_path / "f.h5", {}, CLASSES) as writer:
        for name in rows:
            writer.write_split(name, iter([{"logits": logits[name], "label": labels[name]}]))
    scored = {"msp": ScoredRun({part: np.zeros(n) for part, n in rows.items()}, 0.5, False)}
    with FeatureStore(tmp_path / "f.h5") as store:
        results = evaluate_run(made, store, scored)
    assert results.incremental.classes == (3, 4, 5, 6)
    assert results.incremental.accuracy == (1.0,) * 4  # every class lies elsewhere
    assert results.scorers["msp"].metrics["incremental_accuracy"] == 1.0
    assert "auroc" not in results.scorers["msp"].metrics


def test_notes_name_rows_only_where_a_metric_has_several_sources():
    def noted(**sources):
        rows = {name: {"auroc": (0.5, None), "oscr": (0.4, None)} for name in sources}
        published = {
            name: {
                "auroc": PublishedFigure(value=0.6, source=source),
                "oscr": PublishedFigure(value=0.5, source="Table 2"),
            }
            for name, source in sources.items()
        }
        table = results_table(rows, published, ("auroc", "oscr")).text()
        return [line for line in table.splitlines() if line.startswith("published")]

    assert noted(msp="Table 1", energy="Table 1") == [
        "published AUROC: Table 1",
        "published OSCR: Table 2",
    ]
    assert noted(msp="Table 1", energy="Table 3") == [
        "published AUROC of msp: Table 1",
        "published OSCR: Table 2",
        "published AUROC of energy: Table 3",
    ]
