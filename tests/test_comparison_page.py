"""The page of a comparison and of a bench, its charts and figures: what a reader finds there."""

from __future__ import annotations

import itertools
import re
from urllib.parse import unquote

import attrs
import numpy as np
import pytest
import tomli_w
from PIL import Image
from scipy import stats

from openset_core.report.charts.intervals import (
    IntervalRow,
    axis_range,
    broken,
    interval_chart,
    layout,
)
from openset_core.report.charts.output import specification
from openset_core.report.charts.ranks import diagram, is_informative, rank_chart, ticks
from openset_core.report.comparison_page import (
    Failure,
    Origin,
    comparison_html,
    write_comparison_figures,
    write_comparison_page,
)
from openset_core.results.comparison import compare
from openset_core.results.comparison.statistics import rank_methods
from openset_core.results.run_results import PublishedFigure, Results, ScorerResults

METHODS = ("arpl", "gcpl", "rpl", "softmax")


@pytest.fixture
def page_of(html_page):
    """The page of a comparison, read and checked."""

    def read(comparison, **origin):
        page = html_page(comparison_html(comparison, Origin(**origin)))
        assert not re.search(r"\bNone\b|\bnan\b|\[object", page.section("results"))
        return page

    return read


@pytest.fixture
def made(made_up_results):
    """Writes what a comparison reads of a run, below `runs`."""
    return made_up_results


@pytest.fixture
def runs(made, tmp_path):
    """Four methods over six trials, one better than the next by 0.02, with little noise."""
    random = np.random.default_rng(0)
    for trial in range(6):
        level = 0.7 + 0.02 * trial
        for number, method in enumerate(METHODS):
            noise = 0.003 * random.standard_normal()
            made(method, level - 0.02 * number + noise, trial=trial, scorers=("msp", "energy"))
    return tmp_path / "runs"


@pytest.fixture
def rows_with(chart_rows):
    """Rows of a chart's data that have all of some columns."""

    def find(chart, *columns):
        found = []
        for number in itertools.count():
            try:
                rows = chart_rows(chart, number)
            except IndexError:
                return found
            found += [row for row in rows if set(columns) <= row.keys()]

    return find


# --- the whole ------------------------------------------------------------------------------------


def test_a_page_has_everything_in_its_place(runs, page_of):
    found = compare(runs, reference="softmax,net msp")
    page = page_of(found, command="openset compare runs")
    assert page.sections == ["results", "compared", "means", "differences", "ranks", "runs"]
    assert page.all("h1")[0][1] == "4 methods on p"
    assert page.all("p", class_="subtitle")[0][1] == "6 trials; 1 seed; 24 runs"
    header, *rows = page.rows("p: percent")
    assert header == ["method", "scorer", "Accuracy", "AUROC"]
    assert [row[: len(row) - 2] for row in rows[:3]] == [
        ["arpl,net", "msp"], ["energy"], ["gcpl,net", "msp"]
    ]  # fmt: skip
    (setting,) = found.settings
    first = found.estimate(setting, found.methods[0], "auroc")
    assert rows[0][3] == f"{100 * first.mean:.1f} ± {100 * first.deviation:.1f}"
    assert page.rows("Methods")[1] == ["arpl,net", "msp, energy", "6", "10", "2.5 s"]
    assert "openset compare runs" in page.section("compared")
    single = page.rows("Percent, exact evaluation")
    assert len(single) == 1 + 24 * 2
    assert single[1][:3] == ["arpl,net", "trial 0, seed 0", "msp"]
    assert single[2][0] == "energy"


def test_the_best_and_those_not_significantly_worse_are_marked(made, tmp_path, page_of):
    values = {
        "arpl": [0.90, 0.80, 0.85, 0.95, 0.75],
        "gcpl": [0.89, 0.81, 0.86, 0.93, 0.74],
        "rpl": [0.80, 0.71, 0.74, 0.86, 0.65],
    }
    for trial in range(5):
        for method, series in values.items():
            made(method, series[trial], trial=trial)
    made("softmax", 0.899, trial=0)  # a single pair, of which nothing can be said
    found = compare(tmp_path)
    (setting,) = found.settings
    by_name = {method.name.partition(",")[0]: method for method in found.methods}
    # Independently: paired t tests against the best mean, Holm's correction over the two tests.
    best = by_name["softmax"]
    assert found.best(setting, "auroc") == (best,)
    assert found.not_significantly_worse(setting, "auroc") == ()
    found = compare(*(path for path in (tmp_path / "runs").iterdir() if "softmax" not in path.name))
    p = sorted(
        (stats.ttest_rel(values["arpl"], values[name]).pvalue, name) for name in ("gcpl", "rpl")
    )
    assert (p[0][1], 2 * p[0][0] < 0.05, p[1][0] > 0.05) == ("rpl", True, True)
    assert found.best(setting, "auroc") == (by_name["arpl"],)
    assert found.not_significantly_worse(setting, "auroc") == (by_name["gcpl"],)
    page = page_of(found)
    kinds = {
        text.split()[0]: attributes["class"].partition(" ")[2]
        for attributes, text in page.all("td")
        if "±" in text and attributes["class"].startswith("number")
    }
    assert kinds == {"95.0": "", "85.0": "best", "84.6": "close", "75.2": ""}
    assert "Bold: the best mean. Lightly shaded" in page.section("results")
    assert "1 other not significantly worse" in page.all("dl", class_="tiles")[0][1]


def test_names_are_escaped_everywhere(made, tmp_path, page_of):
    bench = tmp_path / "bench"
    names = {}
    hostile = ("<script>alert(1)</script>", "\"a\" & 'b'", "{{ 7 * 7 }}", "x" * 120)
    for trial, (number, name) in itertools.product(range(4), enumerate(hostile)):
        folder = f"{trial}-{number}"
        names[f"runs/{folder}"] = name
        made("softmax", 0.7 + 0.02 * number + 0.01 * trial, trial=trial, folder=folder,
             top=bench / "runs", protocol="<i>p</i>.toml")  # fmt: skip
    (bench / "bench.toml").write_text(tomli_w.dumps({"record": {"runs": names}}))
    found = compare(bench)
    failure = Failure(title="<b>m</b> on p", reason="a <u>reason</u>")
    page = page_of(found, failures=(failure,), asked='plugins = "<s>"', command="openset <q>")
    assert len(page.all("script")) == 2 + len(page.all("script", type="application/json"))
    for tag in "iuqs":
        assert not page.all(tag)
    for name in hostile:
        assert any(text == name for _, text in page.all("th"))


def test_pages_of_little(made, tmp_path, page_of):
    made("softmax", 0.9, top=tmp_path / "one")
    page = page_of(compare(tmp_path / "one"))
    assert page.sections == ["results", "compared", "runs"]
    assert page.all("h1")[0][1] == "softmax,net on p"
    assert "Bold" not in page.section("results")
    made("arpl", 0.8, top=tmp_path / "one")
    page = page_of(compare(tmp_path / "one"))
    assert page.sections == ["results", "compared", "means", "differences", "runs"]
    assert "There is one pair of runs each" in page.section("differences")
    assert "A dot is a single run." in page.section("means")
    made("softmax", 0.9, seed=1, top=tmp_path / "one")
    made("arpl", 0.85, seed=1, top=tmp_path / "one")
    page = page_of(compare(tmp_path / "one"))
    assert "over the same seeds" in page.section("differences")
    assert "Two methods have no diagram" in page.section("ranks")


def test_several_protocols(made, tmp_path, page_of):
    for protocol, trial, method in itertools.product("pqr", range(3), METHODS):
        value = 0.9 - 0.02 * METHODS.index(method) - 0.1 * "pqr".index(protocol) + 0.01 * trial
        made(method, value, protocol=protocol, trial=trial)
    page = page_of(compare(tmp_path))
    assert page.sections[:2] == ["results", "protocols"]
    assert [page.rows(f"{name}: percent")[1][0] for name in "pqr"] == ["arpl,net"] * 3
    header, first, *_ = page.rows("AUROC, percent (rank)")
    assert header == ["method", "scorer", "p", "q", "r", "average rank"]
    assert first == ["arpl,net", "msp", "91.0 ± 1.0 (1)", "81.0 ± 1.0 (1)", "71.0 ± 1.0 (1)", "1"]
    assert [text for _, text in page.all("h3") if text in "pqr"] == [*"pqr"] * 2
    assert "rank 1" in page.all("dl", class_="tiles")[0][1]


def test_groups_and_unknown_sets(made, tmp_path, page_of):
    for trial, method in itertools.product(range(8), METHODS[:2]):
        made(method, 0.8 + 0.01 * trial, trial=trial, group=f"{2 + trial // 2} known classes")
    page = page_of(compare(tmp_path))
    header, *rows = page.rows("p: percent")
    assert header[0] == "setting"
    assert [row[0] for row in rows[::2]] == [f"{n} known classes" for n in (2, 3, 4, 5)]
    # Charts of some settings stand open, the others are a click away.
    assert "4 known classes" in [text for _, text in page.all("h3")]
    assert "5 known classes" in [text for _, text in page.all("summary")]
    for trial, method in itertools.product(range(3), METHODS[:2]):
        path = made(method, trial=trial, per_unknown=True, protocol="q")
        scorer = ScorerResults(
            threshold=0.5,
            metrics={"auroc": 0.5},
            unknown={"near": {"auroc": 0.2 + 0.1 * trial}, "far": {"auroc": 0.8}},
        )
        attrs.evolve(Results.load(path / "results.json"), scorers={"msp": scorer}).save(
            path / "results.json"
        )
    page = page_of(compare(tmp_path))
    assert "Every run: q, against near" in [text for _, text in page.all("summary")]
    assert ["against near", "arpl,net", "msp", "30.0 ± 10.0"] in page.rows("q: percent")


def test_failures_notes_and_links(made, tmp_path, page_of, html_page):
    bench = tmp_path / "a bench"
    with_page = made("softmax", trial=0, top=bench / "runs", folder="x #1")
    made("arpl", trial=0, top=bench / "runs", folder="y", training={"epochs": 3})
    (with_page / "report.html").write_text("a page")
    failures = tuple(Failure(title=f"rpl on p, trial {n}", reason="it broke") for n in range(5))
    found = compare(bench)
    files = (("results.csv", "numbers"),)
    page = page_of(found, kind="Bench", folder=bench, failures=failures, files=files)
    links = [attributes["href"] for attributes, _ in page.all("a")]
    assert "results.csv" in links
    (link,) = [link for link in links if link.endswith("report.html")]
    assert bench / unquote(link) == with_page / "report.html"
    ((_, notes),) = page.all("aside")
    assert notes.split("\n")[1] == "Failed: rpl on p, trial 0: it broke."
    assert "2 more further below" in notes
    assert page.section("runs").count("it broke.") == 5
    assert "Epochs on p differ" in page.section("compared")
    # What stands at the head in full is not said again.
    fewer = page_of(found, kind="Bench", folder=bench)
    assert "Epochs on p differ" in fewer.all("aside")[0][1]
    assert "Epochs on p differ" not in fewer.section("compared")
    assert "5 failed" in page.all("p", class_="subtitle")[0][1]
    # From another folder the way is another one; where the page goes nowhere there is none.
    page = html_page(write_comparison_page(found, tmp_path / "c" / "page.html"))
    assert [a["href"] for a, _ in page.all("a") if "report" in a["href"]] == [
        "../a%20bench/runs/x%20%231/report.html"
    ]
    assert not [a for a, _ in page_of(found).all("a") if "report" in a["href"]]


def test_published_figures_stand_beside_ours_by_their_own_rule(made, tmp_path, page_of, rows_with):
    arpl = PublishedFigure(value=0.87, deviation=0.01, source="Paper & Table 1", compat="arpl")
    exact = PublishedFigure(value=0.96, source="Table 2")
    for trial in range(2):
        made("softmax", 0.9 - 0.1 * trial, trial=trial, published={"auroc": arpl,
             "accuracy": exact})  # fmt: skip
    page = page_of(compare(tmp_path))
    caption = "p: ours beside published figures, percent; ours by the same arpl evaluation"
    assert page.rows(caption)[1] == ["softmax,net", "msp", "80.0 ± 7.1", "87.0 ± 1.0"]
    assert "Published AUROC: Paper & Table 1." in page.section("results")
    marks = rows_with(page.chart("Mean AUROC"), "source")
    assert {(row["value"], row["source"]) for row in marks} == {
        ("87.0 %", "published, arpl evaluation, Paper & Table 1"),
        ("80.0 %", "ours by the arpl evaluation"),
    }
    (mark,) = rows_with(page.chart("Mean Accuracy"), "source")
    assert (mark["x"], mark["source"]) == (96.0, "published, Table 2")


def test_methods_that_only_papers_have_stand_in_the_charts(made, tmp_path, page_of, rows_with):
    for trial in range(2):
        made("softmax", 0.9, protocol="mnist", trial=trial)
    page = page_of(compare(tmp_path))
    assert "osrci" in [row["text"] for row in rows_with(page.chart("Mean AUROC"), "text")]


def test_very_many_runs_make_a_page_that_can_be_opened(made, tmp_path, page_of):
    for number, trial in itertools.product(range(20), range(10)):
        made("softmax", 0.5 + 0.001 * number + 0.01 * trial, trial=trial,
             options={"softmax": {"weight": number}},
             scorers=[f"scorer-{n}" for n in range(8)])  # fmt: skip
    found = compare(tmp_path)
    assert len(found.methods) == 160
    assert "1,600 rows are too many for a page" in page_of(found).section("runs")


# --- charts of intervals --------------------------------------------------------------------------


def some_rows(*values, reach=0.01):
    return [
        IntervalRow(method=f"m{n}", scorer="s", value=v, low=v - reach, high=v + reach)
        for n, v in enumerate(values)
    ]


def test_an_axis_is_for_most_rows_and_says_which_are_far_off(rows_with):
    found = some_rows(0.91, 0.92, 0.93, 0.94, 0.07)
    low, high, far = axis_range(found)
    assert far == (found[-1],)
    assert 0.89 < low < 0.9 < 0.95 < high < 0.96
    drawn = specification(interval_chart(found, "label"))
    assert len(rows_with(drawn, "x", "end")) == 4
    assert "7.0" in [row["text"] for row in rows_with(drawn, "text")]
    # Nothing is gained by leaving out what is not much farther away than the others reach.
    assert axis_range(some_rows(0.5, 0.6, 0.7, 0.9))[2] == ()
    assert axis_range(some_rows(0.9))[2] == ()


def test_an_interval_of_two_trials_does_not_flatten_the_others():
    found = some_rows(0.91, 0.92, 0.93)
    found.append(attrs.evolve(found[0], method="few", low=0.2, high=1.0))
    low, _, far = axis_range(found)
    assert far == ()
    assert low > 0.85
    # Its line goes to both edges of the axis and has a tip there.
    drawn = specification(interval_chart(found, "label"))
    shapes = [layer["mark"].get("shape") for layer in drawn["layer"]]
    assert {"triangle-left", "triangle-right"} <= set(shapes)


def test_an_axis_shows_neither_more_than_everything_nor_less_than_a_percent():
    assert axis_range(some_rows(0.995, 0.999))[1] <= 1.01
    low, high, _ = axis_range(some_rows(0.5, 0.5, reach=0.0))
    assert 0.01 <= high - low < 0.02
    low, high, _ = axis_range(some_rows(0.02, 0.03), zero=True)
    assert low < 0 < 0.04 <= high
    low, high, _ = axis_range(some_rows(0.0, 0.0, reach=0.0), zero=True)
    assert low < 0 < high


def test_marks_stand_where_their_values_are(rows_with):
    found = [
        IntervalRow(method="m", scorer="a", value=0.5, low=0.4, high=0.6,
                    facts={"mean": "50 %"}, singles={"trial 0": 0.45},
                    published=((0.55, "a paper"),)),
        IntervalRow(method="m", scorer="b", value=0.6, facts={"mean": "60 %"}),
    ]  # fmt: skip
    drawn = specification(interval_chart(found, "label"))
    place = layout(found).place
    means = [(row["x"], row["y"]) for row in rows_with(drawn, "mean")]
    assert means == [(50.0, place(found[0])), (60.0, place(found[1]))]
    assert [(row["x"], row["end"]) for row in rows_with(drawn, "end")] == [(40.0, 60.0)]
    assert [(row["x"], row["source"]) for row in rows_with(drawn, "source")] == [(55.0, "a paper")]
    (single,) = rows_with(drawn, "run")
    assert (single["x"], single["run"]) == (45.0, "trial 0")
    assert single["y"] > place(found[0])


def test_a_click_in_the_legend_takes_a_scorer_out(rows_with):
    several = [IntervalRow(method="m", scorer=name, value=0.5, low=0.4, high=0.6) for name in "ab"]
    several.append(IntervalRow(method="n", value=0.51))
    drawn = specification(interval_chart(several, "label", legend=True))
    (shown,) = drawn["params"]
    assert shown["bind"] == "legend"
    assert [each["scorer"] for each in shown["value"]] == ["a", "b", "all scorers"]
    filtered = [layer["transform"] for layer in drawn["layer"] if "transform" in layer]
    assert filtered == [[{"filter": {"param": shown["name"]}}]] * 2
    assert {row["scorer"] for row in rows_with(drawn, "x")} == {"a", "b", "all scorers"}
    assert "params" not in specification(interval_chart(several[:1], "label", legend=True))


def test_a_row_without_scorer_stands_in_the_middle_of_its_method():
    several = [IntervalRow(method="m", scorer=scorer, value=0.5) for scorer in "ab"]
    places = layout([*several, IntervalRow(method="n", value=0.5)])
    middle = places.place(IntervalRow(method="m", value=0.5))
    assert places.place(several[0]) < middle < places.place(several[1])
    assert len(places.rows) == 3


def test_names_are_broken_after_commas():
    assert broken("arpl,confused-gan,classifier32", 20) == ("arpl,confused-gan,", "classifier32")
    assert broken("softmax", 20) == ("softmax",)


# --- critical differences -------------------------------------------------------------------------

# Demšar, JMLR 7, 2006, Table 2: accuracies of four classifiers on 14 data sets.
DEMSAR = np.array(
    [
        [0.763, 0.768, 0.771, 0.798],
        [0.599, 0.591, 0.590, 0.569],
        [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657],
        [0.882, 0.888, 0.886, 0.898],
        [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685],
        [0.583, 0.583, 0.563, 0.625],
        [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000],
        [0.940, 0.962, 0.965, 0.962],
        [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.9751, 0.975],  # equal as printed, yet ranked 2 and 3
        [0.957, 0.978, 0.946, 0.970],
    ]
)
Q_005 = {3: 2.343, 4: 2.569, 5: 2.728, 6: 2.850, 7: 2.949, 8: 3.031, 9: 3.102, 10: 3.164}
"""Demšar's Table 5a."""


def expected_bars(ranks, difference):
    """Spans of the largest sets of methods no two of which lie the critical difference apart."""
    ranks = sorted(ranks)
    sets = [
        set(members)
        for size in range(2, len(ranks) + 1)
        for members in itertools.combinations(range(len(ranks)), size)
        if ranks[members[-1]] - ranks[members[0]] < difference
    ]
    largest = [s for s in sets if not any(s < other for other in sets)]
    return sorted((ranks[min(s)], ranks[max(s)]) for s in largest)


def test_the_diagram_of_the_paper():
    made = diagram(rank_methods(DEMSAR))
    assert [round(leader.rank, 3) for leader in made.leaders] == [1.964, 2.0, 2.893, 3.143]
    assert [leader.method for leader in made.leaders] == [3, 1, 2, 0]
    assert [leader.side for leader in made.leaders] == ["left", "left", "right", "right"]
    assert [leader.level for leader in made.leaders] == [0, 1, 1, 0]
    assert made.critical_difference == pytest.approx(1.25, abs=0.005)
    # At 0.05 Nemenyi's test is not powerful enough to tell any two apart.
    assert [(round(bar.low, 3), round(bar.high, 3)) for bar in made.bars] == [(1.964, 3.143)]


@pytest.mark.parametrize("seed", range(8))
def test_bars_against_all_sets_of_methods(seed):
    random = np.random.default_rng(seed)
    methods, blocks = int(random.integers(3, 9)), int(random.integers(8, 30))
    values = np.round(random.normal(size=(blocks, methods)) + np.linspace(0, 3, methods), 1)
    average = stats.rankdata(-values, axis=1).mean(axis=0)
    difference = Q_005[methods] * np.sqrt(methods * (methods + 1) / (6 * blocks))
    ranking = rank_methods(values)
    assert ranking.average_ranks == pytest.approx(average)
    made = diagram(ranking)
    assert made.critical_difference == pytest.approx(difference, rel=1e-3)
    bars = sorted((bar.low, bar.high) for bar in made.bars)
    expected = expected_bars(average, difference)
    assert np.array(bars).reshape(-1, 2) == pytest.approx(np.array(expected).reshape(-1, 2))
    for level in {bar.level for bar in made.bars}:
        on_it = sorted((bar.low, bar.high) for bar in made.bars if bar.level == level)
        assert all(a[1] < b[0] for a, b in itertools.pairwise(on_it))
    for side in ("left", "right"):
        levels = [leader.level for leader in made.leaders if leader.side == side]
        assert sorted(levels) == list(range(len(levels)))


def test_the_drawn_diagram_says_what_was_computed(rows_with):
    random = np.random.default_rng(1)
    ranking = rank_methods(random.normal(size=(12, 5)) + np.arange(5))
    drawn = specification(rank_chart(ranking, [f"m{n}" for n in range(5)], "label"))
    rules = rows_with(drawn, "x2")
    leaders = {row["x"] for row in rules if row["x"] == row["x2"] and row["y2"] > 0}
    assert sorted(leaders) == pytest.approx(sorted(set(ranking.average_ranks)), abs=1e-4)
    (ruler,) = [row for row in rules if row["y"] == row["y2"] < 0]
    assert ruler["x2"] - ruler["x"] == pytest.approx(ranking.critical_difference, abs=1e-3)
    names = " ".join(row["text"] for row in rows_with(drawn, "text"))
    for number, rank in enumerate(ranking.average_ranks):
        assert f"m{number} {rank:.2f}" in names


def test_a_diagram_needs_methods_trials_and_ranks_that_differ():
    random = np.random.default_rng(0)
    values = random.normal(size=(20, 4)) + np.arange(4)
    assert is_informative(rank_methods(values))
    assert not is_informative(rank_methods(values[:, :2]))
    assert not is_informative(rank_methods(values[:2, :3]))
    assert not is_informative(rank_methods(np.ones((20, 4))))


def test_too_few_trials_for_a_diagram_are_said_so(made, tmp_path, page_of):
    for trial, method in itertools.product(range(2), METHODS):
        made(method, 0.9 - 0.1 * METHODS.index(method), trial=trial)
    ranks = page_of(compare(tmp_path)).section("ranks")
    assert "would have to lie 3.32 apart to be told apart, and can lie 3 apart at most" in ranks


def test_ticks_of_ranks():
    assert list(ticks(3)) == [1, 2, 3]
    assert list(ticks(9)) == list(range(1, 10))
    for methods in (10, 14, 22, 25, 100):
        found = list(ticks(methods))
        assert (found[0], found[-1]) == (1, methods)
        assert len(found) <= 9
        assert min(b - a for a, b in itertools.pairwise(found)) >= 1


# --- figures and the command ----------------------------------------------------------------------


def test_figures_for_papers(made, tmp_path):
    for protocol, trial, method in itertools.product(("p", "q r"), range(3), METHODS):
        made(method, 0.9 - 0.1 * METHODS.index(method) + 0.02 * trial, trial=trial,
             protocol=protocol, scorers=("msp", "energy"))  # fmt: skip
    found = compare(tmp_path, metrics=["accuracy", "auroc"])
    files = write_comparison_figures(found, tmp_path / "figures")
    stems = [
        "critical-difference-auroc",
        "differences-p",
        "differences-q-r",
        "means-p",
        "means-q-r",
    ]
    assert sorted({path.stem for path in files}) == stems
    assert len(files) == 3 * len(stems)
    for path in files:
        if path.suffix == ".png":
            with Image.open(path) as image:
                assert np.ptp(np.asarray(image.convert("L"))) > 200
        else:
            assert path.read_bytes().startswith(b"%PDF" if path.suffix == ".pdf" else b"<svg")


def test_command(openset, runs, tmp_path, html_page):
    out = tmp_path / "page.html"
    answer = openset("compare", runs, "--reference", "softmax,net", "-o", out)
    assert (answer.code, answer.out) == (0, f"written to {out}\n")
    page = html_page(out)
    command = f"openset compare {runs} --reference softmax,net --output {out}"
    assert command in page.section("compared")
    assert "Differences to softmax,net msp" in page.section("differences")
    answer = openset(
        "compare", runs, "--format", "html", "--metrics", "auroc", "--figures", tmp_path / "f"
    )
    assert answer.out.startswith("<!DOCTYPE html>")
    assert answer.err == f"written to {tmp_path / 'f'}: 9 files of figures\n"
