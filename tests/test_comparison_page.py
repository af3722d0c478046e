"""The page of a comparison and of a bench, and its figures: what a reader finds there."""

from __future__ import annotations

import itertools
import json
import re
from html.parser import HTMLParser
from urllib.parse import unquote

import attrs
import numpy as np
import pytest
import tomli_w
from PIL import Image
from scipy import stats

from openset_core.report.comparison_page.critical import diagram, is_telling
from openset_core.report.comparison_page.forest import Extra, Line, broken, forest, value_axis
from openset_core.report.comparison_page.making import comparison_figures, comparison_page
from openset_core.report.comparison_page.ranks import ticks
from openset_core.report.comparison_page.view import Failure, Origin
from openset_core.results.comparison import compare
from openset_core.results.comparison.statistics import rank_methods
from openset_core.results.run_results import PublishedFigure, Results, ScorerResults

VOID = {"meta", "link", "br", "input", "wbr"}
METHODS = ("arpl", "gcpl", "rpl", "softmax")


class Page(HTMLParser):
    """Elements of a page with their texts; raises where they are not nested properly."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.source = text
        self.elements = []  # tag, attributes, text inside
        self._open = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append([tag, dict(attributes), ""])
        if tag not in VOID:
            self._open.append(self.elements[-1])

    def handle_startendtag(self, tag, attributes):
        self.elements.append([tag, dict(attributes), ""])

    def handle_endtag(self, tag):
        assert self._open.pop()[0] == tag

    def handle_data(self, data):
        for element in self._open:
            element[2] += data

    def all(self, tag, **wanted):
        return [
            (attributes, text)
            for name, attributes, text in self.elements
            if name == tag and wanted.items() <= attributes.items()
        ]

    def section(self, name):
        """Source of a section."""
        return re.search(rf'<section id="{name}".*?</section>', self.source, re.S)[0]

    @property
    def sections(self):
        return [attributes["id"] for attributes, _ in self.all("section")]

    def table(self, caption):
        """Texts of the cells of the table with this caption, a name that spans rows in each."""
        inside = next(
            body
            for title, body in re.findall(
                r"<table[^>]*><caption>(.*?)</caption>(.*?)</table>", self.source, re.S
            )
            if re.sub("<.*?>", "", title) == caption
        )
        rows, spanning = [], {}
        for row in re.findall(r"<tr.*?>(.*?)</tr>", inside, re.S):
            cells, column = [], 0
            found = re.findall(r"<t[hd](.*?)>(.*?)</t[hd]>", row, re.S)
            while found or column in spanning:
                if spanning.get(column, (0, ""))[0]:
                    left, text = spanning[column]
                    spanning[column] = (left - 1, text)
                    cells.append(text)
                else:
                    if not found:
                        break
                    attributes, inner = found.pop(0)
                    text = re.sub("<.*?>", "", inner)
                    span = re.search(r'rowspan="(\d+)"', attributes)
                    if span:
                        spanning[column] = (int(span[1]) - 1, text)
                    cells.append(text)
                column += 1
            rows.append(cells)
        return rows


def page_of(comparison, **origin):
    page = Page(comparison_page(comparison, Origin(**origin)))
    ids = [attributes["id"] for _, attributes, _ in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes, _ in page.elements:
        for name in ("href", "src"):
            address = attributes.get(name, "#")
            assert not re.match(r"[a-z]+:|//", address) or address == "data:,"
            assert not address.startswith("#") or address == "#" or address[1:] in ids
    for attributes, _ in page.all("svg"):
        assert attributes.get("aria-hidden") or attributes["aria-label"]
    assert not re.search(r"https?://(?!www\.w3\.org/)|url\(|@import|\bNone\b|\bnan\b", page.source)
    for _, text in page.all("script", type="application/json"):
        json.loads(text)
    assert len(page.source) < 5_000_000
    return page


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


# --- the whole ------------------------------------------------------------------------------------


def test_a_page_has_everything_in_its_place(runs):
    found = compare(runs, reference="softmax,net msp")
    page = page_of(found, command="openset compare runs")
    assert page.sections == ["results", "compared", "means", "differences", "ranks", "runs"]
    assert page.all("h1")[0][1] == "4 methods on p"
    assert page.all("p", **{"class": "subtitle"})[0][1] == "6 trials; 1 seed; 24 runs"
    header, *rows = page.table("p: percent")
    assert header == ["method", "scorer", "Accuracy", "AUROC"]
    assert [row[:2] for row in rows[:3]] == [
        ["arpl,net", "msp"], ["arpl,net", "energy"], ["gcpl,net", "msp"]
    ]  # fmt: skip
    (setting,) = found.settings
    first = found.estimate(setting, found.methods[0], "auroc")
    assert rows[0][3] == f"{100 * first.mean:.1f} ± {100 * first.deviation:.1f}"
    assert page.table("Methods")[1] == ["arpl,net", "msp, energy", "6", "10", "2.5 s"]
    assert "openset compare runs" in page.section("compared")
    assert "<summary>Every run</summary>" in page.section("runs")
    single = page.table("Percent, exact evaluation")
    assert len(single) == 1 + 24 * 2
    assert single[1][:4] == ["arpl,net", "0", "0", "msp"]
    assert single[2][:4] == ["arpl,net", "0", "0", "energy"]


def test_the_best_and_those_not_clearly_worse_are_marked(made, tmp_path):
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
    source = page_of(found).section("results")
    kinds = {
        value: kind
        for kind, value in re.findall(r'<td class="number ?(best|close|)">([0-9.]+)<', source)
    }
    assert kinds == {"95.0": "", "85.0": "best", "84.6": "close", "75.2": ""}
    assert "Bold: the best mean. Lightly shaded" in source


def test_names_are_escaped_everywhere(made, tmp_path):
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
    assert len(page.all("script")) == 1 + len(page.all("script", type="application/json"))
    assert not page.all("i")
    assert not page.all("u")
    assert not page.all("q")
    for name in hostile:
        assert any(text == name for _, text in page.all("th"))
        assert any(text.replace(" ", "") == name.replace(" ", "")
                   for _, text in page.all("tspan")) or len(name) > 50  # fmt: skip
    assert "49" not in page.all("h2")[3][1]


def test_pages_of_little(made, tmp_path):
    made("softmax", 0.9, top=tmp_path / "one")
    page = page_of(compare(tmp_path / "one"))
    assert page.sections == ["results", "compared", "runs"]
    assert page.all("h1")[0][1] == "softmax,net on p"
    assert "Bold" not in page.section("results")
    made("arpl", 0.8, top=tmp_path / "one")
    page = page_of(compare(tmp_path / "one"))
    assert page.sections == ["results", "compared", "means", "differences", "runs"]
    assert "There is one pair of runs each" in page.section("differences")
    assert '<h2 id="means-title">Values</h2>' in page.section("means")
    assert "A dot is a single run." in page.section("means")
    made("softmax", 0.9, seed=1, top=tmp_path / "one")
    made("arpl", 0.85, seed=1, top=tmp_path / "one")
    page = page_of(compare(tmp_path / "one"))
    assert "over the same seeds" in page.section("differences")
    assert "Two methods have no diagram" in page.section("ranks")


def test_several_protocols(made, tmp_path):
    for protocol, trial, method in itertools.product("pqr", range(3), METHODS):
        value = 0.9 - 0.02 * METHODS.index(method) - 0.1 * "pqr".index(protocol) + 0.01 * trial
        made(method, value, protocol=protocol, trial=trial)
    found = compare(tmp_path)
    page = page_of(found)
    assert page.sections[:2] == ["results", "protocols"]
    assert [page.table(f"{name}: percent")[1][0] for name in "pqr"] == ["arpl,net"] * 3
    header, first, *_ = page.table("AUROC, percent (rank)")
    assert header == ["method", "scorer", "p", "q", "r", "average rank"]
    assert first == ["arpl,net", "msp", "91.0 ± 1.0 (1)", "81.0 ± 1.0 (1)", "71.0 ± 1.0 (1)", "1"]
    assert [text for _, text in page.all("h3") if text in "pqr"] == [*"pqr"] * 2
    assert "rank 1" in page.all("dl", **{"class": "tiles"})[0][1]


def test_groups_and_unknown_sets(made, tmp_path):
    for trial, method in itertools.product(range(8), METHODS[:2]):
        made(method, 0.8 + 0.01 * trial, trial=trial, group=f"{2 + trial // 2} known classes")
    page = page_of(compare(tmp_path))
    header, *rows = page.table("p: percent")
    assert header[0] == "setting"
    assert [row[0] for row in rows] == [f"{n} known classes" for n in (2, 3, 4, 5) for _ in "ab"]
    means = page.section("means")
    # Charts of some settings stand open, the others are a click away.
    assert "<h3>4 known classes</h3>" in means
    assert "<summary>5 known classes</summary>" in means
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
    assert "<summary>Every run: q, against near</summary>" in page.section("runs")
    rows = page.table("q: percent")
    assert ["against near", "arpl,net", "msp", "30.0 ± 10.0"] in rows


def test_failures_notes_and_links(made, tmp_path):
    bench = tmp_path / "a bench"
    with_page = made("softmax", trial=0, top=bench / "runs", folder="x #1")
    made("arpl", trial=0, top=bench / "runs", folder="y", training={"epochs": 3})
    (with_page / "report.html").write_text("a page")
    failures = tuple(Failure(title=f"rpl on p, trial {n}", reason="it broke") for n in range(5))
    found = compare(bench)
    page = page_of(found, kind="Bench", folder=bench, failures=failures, files=(
        ("results.csv", "numbers"),
    ))  # fmt: skip
    links = [attributes["href"] for attributes, _ in page.all("a")]
    assert "results.csv" in links
    (link,) = [link for link in links if link.endswith("report.html")]
    assert bench / unquote(link) == with_page / "report.html"
    ((_, notes),) = page.all("ul", **{"class": "warnings"})
    assert notes.startswith("Failed: rpl on p, trial 0: it broke.")
    assert "2 more further below" in notes
    assert page.section("runs").count("it broke.") == 5
    assert "Epochs on p differ" in page.section("compared")
    # What stands at the head in full is not said again.
    fewer = page_of(found, kind="Bench", folder=bench)
    ((_, notes),) = fewer.all("ul", **{"class": "warnings"})
    assert "Epochs on p differ" in notes
    assert "Epochs on p differ" not in fewer.section("compared")
    assert "5 failed" in page.all("p", **{"class": "subtitle"})[0][1]
    # From another folder the way is another one; where the page goes nowhere there is none.
    elsewhere = page_of(found, folder=tmp_path / "c")
    assert [a["href"] for a, _ in elsewhere.all("a") if "report" in a["href"]] == [
        "../a%20bench/runs/x%20%231/report.html"
    ]
    assert not [a for a, _ in page_of(found).all("a") if "report" in a["href"]]


def test_published_figures_stand_beside_ours_by_their_own_rule(made, tmp_path):
    arpl = PublishedFigure(value=0.87, deviation=0.01, source="Paper & Table 1", compat="arpl")
    exact = PublishedFigure(value=0.96, source="Table 2")
    for trial in range(2):
        made("softmax", 0.9 - 0.1 * trial, trial=trial, published={"auroc": arpl,
             "accuracy": exact})  # fmt: skip
    page = page_of(compare(tmp_path))
    caption = "p: ours beside published figures, percent; ours by the same arpl evaluation"
    assert page.table(caption)[1] == ["softmax,net", "msp", "80.0 ± 7.1", "87.0 ± 1.0"]
    assert "Published AUROC: Paper &amp; Table 1." in page.section("results")
    accuracy, auroc = (json.loads(text) for _, text in page.all("script", type="application/json"))
    said = auroc["series"][0]["values"][1]
    assert "published 87.0 ± 1.0 %, arpl evaluation\nPaper & Table 1" in said
    assert "ours by the arpl evaluation: 80.0 %" in said
    assert "published 96.0 %\nTable 2" in accuracy["series"][0]["values"][1]
    assert page.section("means").count('class="published"') == 2


def test_methods_that_only_papers_have_stand_in_the_charts(made, tmp_path):
    for trial in range(2):
        made("softmax", 0.9, protocol="mnist", trial=trial)
    page = page_of(compare(tmp_path))
    assert "osrci" in [text for _, text in page.all("tspan")]


def test_very_many_runs_make_a_page_that_can_be_opened(made, tmp_path):
    for number, trial in itertools.product(range(20), range(10)):
        made("softmax", 0.5 + 0.001 * number + 0.01 * trial, trial=trial,
             options={"softmax": {"weight": number}},
             scorers=[f"scorer-{n}" for n in range(8)])  # fmt: skip
    found = compare(tmp_path)
    assert len(found.methods) == 160
    page = page_of(found)
    assert "1,600 rows are too many for a page" in page.section("runs")


# --- charts ---------------------------------------------------------------------------------------


def lines(*values, reach=0.01, **more):
    return [
        Line(name=f"m{n}", label="s", value=v, low=v - reach, high=v + reach, said=f"{v}", **more)
        for n, v in enumerate(values)
    ]


def test_an_axis_is_for_most_lines_and_says_which_are_far_off():
    found = lines(0.91, 0.92, 0.93, 0.94, 0.07)
    axis, far = value_axis(found)
    assert far == (found[-1],)
    assert 0.89 < axis.low < 0.9 < 0.95 < axis.high < 0.96
    drawn = forest(found, "label")
    assert drawn.count("<circle") == 4
    assert ">7.0</text>" in drawn
    # Nothing is gained by leaving out what is not much farther away than the others reach.
    assert value_axis(lines(0.5, 0.6, 0.7, 0.9))[1] == ()
    assert value_axis(lines(0.9))[1] == ()


def test_an_interval_of_two_trials_does_not_flatten_the_others():
    found = lines(0.91, 0.92, 0.93)
    found.append(attrs.evolve(found[0], name="few", low=0.2, high=1.0))
    axis, far = value_axis(found)
    assert far == ()
    assert axis.low > 0.85
    # The line goes to the edge of the axis and has a tip there, at both ends.
    (path,) = [p for p in re.findall(r'<path d="([^"]*)" class="curve"', forest(found, "label"))
               if p.count("M") > 1]  # fmt: skip
    assert path.count("M") == 3


def test_an_axis_has_no_lone_tick():
    lines = [Line(name=f"m{n}", label="", value=0.86 + 0.012 * n) for n in range(10)]
    axis, _ = value_axis(lines, ticks=3)
    assert len(axis.ticks) > 1


def test_an_axis_shows_neither_more_than_everything_nor_less_than_a_percent():
    axis, _ = value_axis(lines(0.995, 0.999))
    assert axis.high <= 1.01
    assert max(axis.ticks) <= 1.0
    axis, _ = value_axis(lines(0.5, 0.5, reach=0.0))
    assert 0.01 <= axis.high - axis.low < 0.02
    axis, _ = value_axis(lines(0.02, 0.03), zero=True)
    assert axis.low < 0 < 0.04 <= axis.high
    axis, _ = value_axis(lines(0.0, 0.0, reach=0.0), zero=True)
    assert axis.low < 0 < axis.high


def test_marks_stand_where_their_values_are():
    found = [Line(name="m", label="a", value=0.5, low=0.4, high=0.6, dots=((0.45, "t0"),),
                  extras=(Extra(value=0.55, said="published", kind="published"),)),
             Line(name="m", label="b", value=0.6)]  # fmt: skip
    axis, _ = value_axis(found)
    drawn = forest(found, "label")
    left, right = map(float, re.search(r"M([\d.]+) [\d.]+H([\d.]+)\" class=\"axis", drawn).groups())

    def value(x):
        return axis.low + (float(x) - left) / (right - left) * (axis.high - axis.low)

    circles = re.findall(r'<circle cx="([\d.]+)"', drawn)
    assert [value(x) for x in circles] == pytest.approx([0.5, 0.6], abs=1e-3)
    start, end = re.search(r'd="M([\d.]+) [\d.]+H([\d.]+)" class="curve"', drawn).groups()
    assert (value(start), value(end)) == pytest.approx((0.4, 0.6), abs=1e-3)
    diamond = re.search(r'd="M([\d.]+) [^"]*" class="published"', drawn)[1]
    assert value(diamond) == pytest.approx(0.55, abs=1e-3)
    dot = re.search(r'd="M([\d.]+) [^"]*" class="dots faint"', drawn)[1]
    assert value(dot) == pytest.approx(0.45, abs=1e-3)


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
    for level in range(made.bar_levels):
        on_it = sorted((bar.low, bar.high) for bar in made.bars if bar.level == level)
        assert all(a[1] < b[0] for a, b in itertools.pairwise(on_it))
    for side in ("left", "right"):
        levels = [leader.level for leader in made.leaders if leader.side == side]
        assert sorted(levels) == list(range(len(levels)))


def test_the_drawn_diagram_says_what_was_computed(runs):
    page = page_of(compare(runs, metrics=["auroc"]))
    (svg,) = re.findall(r'<svg class="chart diagram".*?</svg>', page.source)
    found = compare(runs).ranking("auroc")[1]
    axis = re.search(r'd="M([\d.]+) [\d.]+H([\d.]+)" class="axis', svg)
    start, end = float(axis[1]), float(axis[2])
    methods = len(found.average_ranks)

    def rank(x):
        return 1 + (float(x) - start) / (end - start) * (methods - 1)

    leaders = re.findall(r'd="M([\d.]+) [\d.]+V[\d.]+H[\d.]+" class="leader"', svg)
    assert sorted(map(rank, leaders)) == pytest.approx(sorted(found.average_ranks), abs=0.05)
    ruler = re.search(r'd="M([\d.]+) 18v8m0 -4H([\d.]+)', svg)
    assert rank(ruler[2]) - rank(ruler[1]) == pytest.approx(found.critical_difference, abs=0.05)
    bars = re.findall(r'd="M([\d.]+) [\d.]+H([\d.]+)" class="joins"', svg)
    drawn = sorted((rank(float(a) + 3), rank(float(b) - 3)) for a, b in bars)
    expected = expected_bars(found.average_ranks, found.critical_difference)
    assert np.array(drawn) == pytest.approx(np.array(expected), abs=0.05)


def test_a_diagram_needs_methods_trials_and_ranks_that_differ():
    random = np.random.default_rng(0)
    values = random.normal(size=(20, 4)) + np.arange(4)
    assert is_telling(rank_methods(values))
    assert not is_telling(rank_methods(values[:, :2]))
    assert not is_telling(rank_methods(values[:2, :3]))
    assert not is_telling(rank_methods(np.ones((20, 4))))


def test_too_few_trials_for_a_diagram_are_said_so(made, tmp_path):
    for trial, method in itertools.product(range(2), METHODS):
        made(method, 0.9 - 0.1 * METHODS.index(method), trial=trial)
    ranks = page_of(compare(tmp_path)).section("ranks")
    assert "<svg" not in ranks
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
    files = comparison_figures(
        compare(tmp_path, metrics=["accuracy", "auroc"]), tmp_path / "figures"
    )
    stems = [
        "critical-difference-auroc",
        "differences-p",
        "differences-q-r",
        "means-p",
        "means-q-r",
    ]
    assert sorted({path.stem for path in files}) == stems
    assert len(files) == 2 * len(stems)
    for path in files:
        if path.suffix == ".png":
            with Image.open(path) as image:
                assert np.ptp(np.asarray(image.convert("L"))) > 200
                assert image.width == 2100
        else:
            assert path.read_text().rstrip().endswith("</svg>")


def test_command(openset, runs, tmp_path):
    out = tmp_path / "page.html"
    answer = openset("compare", runs, "--reference", "softmax,net", "-o", out)
    assert (answer.code, answer.out) == (0, f"written to {out}\n")
    page = Page(out.read_text())
    command = f"openset compare {runs} --reference softmax,net --output {out}"
    assert command in page.section("compared")
    assert "Differences to softmax,net msp" in page.section("differences")
    answer = openset(
        "compare", runs, "--format", "html", "--metrics", "auroc", "--figures", tmp_path / "f"
    )
    assert answer.out.startswith("<!DOCTYPE html>")
    assert answer.err == f"written to {tmp_path / 'f'}: 6 files of figures\n"
