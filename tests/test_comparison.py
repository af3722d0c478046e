"""Runs found, sorted and compared: what a reader of `openset compare` sees."""

from __future__ import annotations

import csv
import io
import itertools
import json
import shutil

import attrs
import pytest
import tomli_w

import openset_core
from openset_core.errors import ConfigError, RunFolderError
from openset_core.results.comparison import compare
from openset_core.results.comparison.runs import find_runs
from openset_core.results.run_results import PublishedFigure, Results, ScorerResults
from openset_core.results.tables import Column, Interval, Number, Table, latex, markdown, text


@pytest.fixture
def made(made_up_results):
    """Writes the two files of a finished run that a comparison reads, below `runs`."""
    return made_up_results


@pytest.fixture
def runs(made, tmp_path):
    """Two methods, three trials of two seeds; the second is better by 0.04, 0.05 and 0.06."""
    for trial, (first, second) in enumerate([(0.80, 0.84), (0.70, 0.75), (0.90, 0.96)]):
        for seed in range(2):
            made("softmax", first + 0.02 * seed, trial=trial, seed=seed)
            made("arpl+confused-gan", second + 0.02 * seed, trial=trial, seed=seed)
    return tmp_path / "runs"


def titles(found):
    return [method.title for method in found.methods]


# --- finding --------------------------------------------------------------------------------------


def test_runs_are_found_at_any_depth_and_once(made, tmp_path):
    deep = made(top=tmp_path / "runs" / "a" / "b")
    flat = made(trial=1, top=tmp_path / "runs")
    (tmp_path / "runs" / ".hidden").mkdir()
    shutil.copytree(flat, tmp_path / "runs" / ".hidden" / "copy")
    found = find_runs([tmp_path / "runs", deep, flat, tmp_path / "runs" / "a"])
    assert {run.folder for run in found.runs} == {deep, flat}
    assert len(found.runs) == 2


def test_unfinished_and_damaged_runs_are_named_not_used(made, runs, tmp_path):
    unfinished = made("softmax", trial=3)
    (unfinished / "results.json").unlink()
    damaged = made("softmax", trial=4)
    (damaged / "results.json").write_text("{")
    found = compare(runs)
    assert len(found.runs) == 12
    left_out = [note for note in found.notes if note.startswith("left out")]
    assert f"left out: {unfinished} is not finished" in left_out
    assert any(str(damaged) in note and "is damaged" in note for note in left_out)


def test_nothing_to_compare_is_one_sentence(tmp_path, made):
    with pytest.raises(RunFolderError, match=r"nowhere does not exist; name folders of runs"):
        compare(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunFolderError, match=r"there is no finished run in .*empty$"):
        compare(tmp_path / "empty")
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(RunFolderError, match=r"file is a file"):
        compare(file)
    run = made(top=tmp_path / "only")
    (run / "results.json").unlink()
    with pytest.raises(RunFolderError, match=r"no finished run in .*; .* is not finished"):
        compare(tmp_path / "only")


def test_a_bench_names_its_methods_and_their_order(made, tmp_path):
    bench = tmp_path / "bench"
    made("softmax", folder="x", top=bench / "runs")
    made("softmax", folder="a", top=bench / "runs", training={"lr": 0.5})
    names = {"runs/x": "baseline", "runs/a": "high rate"}
    (bench / "bench.toml").write_text(tomli_w.dumps({"record": {"runs": names}}))
    assert titles(compare(bench)) == ["baseline msp", "high rate msp"]
    assert titles(compare(tmp_path)) == ["baseline msp", "high rate msp"]


# --- sorting --------------------------------------------------------------------------------------


def test_variants_of_a_method_are_told_apart_by_what_differs(made, tmp_path):
    made("softmax", trial=0)
    made("softmax", trial=1)
    made("softmax", trial=0, training={"lr": 0.5})
    made("softmax", trial=0, training={"lr": 0.5}, options={"softmax": {"bias": False}})
    assert titles(compare(tmp_path)) == [
        "softmax,net (lr=0.1, softmax.bias=none) msp",
        "softmax,net (lr=0.5, softmax.bias=none) msp",
        "softmax,net (lr=0.5, softmax.bias=false) msp",
    ]


def test_many_differing_options_make_a_number(made, tmp_path):
    made("softmax")
    made("softmax", training={name: 1 for name in "abcd"})
    found = compare(tmp_path)
    assert titles(found) == ["softmax,net #1 msp", "softmax,net #2 msp"]
    assert "training options on p differ between methods: a, b, c, d" in found.notes


def test_a_scorer_with_other_options_is_another_row(made, tmp_path):
    made("softmax", options={"msp": {"temperature": 1}})
    made("softmax", trial=1, options={"msp": {"temperature": 1000}})
    assert titles(compare(tmp_path)) == [
        "softmax,net msp (msp.temperature=1)",
        "softmax,net msp (msp.temperature=1000)",
    ]


def test_recipes_of_protocols_do_not_make_another_method(made, tmp_path):
    made("softmax", protocol="p", training={"epochs": 100})
    made("softmax", protocol="q", training={"epochs": 5})
    found = compare(tmp_path)
    assert titles(found) == ["softmax,net msp"]
    assert [setting.title for setting in found.settings] == ["p", "q"]
    assert found.notes == ()


def test_a_protocol_that_changed_is_another_protocol(made, tmp_path):
    made("softmax", record={"protocol_digest": "0123456789"})
    made("arpl", record={"protocol_digest": "9876543210"})
    found = compare(tmp_path)
    assert [setting.title for setting in found.settings] == ["p (987654)", "p (012345)"]
    assert any("protocol p says different things about data" in note for note in found.notes)
    assert not any(found.differences(setting, "auroc") for setting in found.settings)


def test_the_same_run_twice_counts_once(made, tmp_path):
    made("softmax", 0.5, folder="a")
    made("softmax", 0.7, folder="b")
    found = compare(tmp_path)
    assert found.estimate(found.settings[0], found.methods[0], "auroc").runs == 1
    (note,) = found.notes
    assert note.endswith("runs/a, with the same method, trial and seed")


def test_groups_and_unknown_sets_are_settings_of_their_own(made, tmp_path):
    for trial, group in enumerate(["2 known classes", "2 known classes", "4 known classes"]):
        made("softmax", 0.5 + 0.1 * trial, trial=trial, group=group)
    found = compare(tmp_path)
    assert [setting.condition for setting in found.settings] == [
        "2 known classes",
        "4 known classes",
    ]
    means = [found.estimate(s, found.methods[0], "auroc").mean for s in found.settings]
    assert means == pytest.approx([0.55, 0.7])
    assert "setting" in found.table()


def test_a_row_for_each_unknown_set_where_the_protocol_asks(made, tmp_path):
    scorer = ScorerResults(
        threshold=0.5,
        metrics={"auroc": 0.5},
        unknown={"near": {"auroc": 0.2}, "far": {"auroc": 0.8}},
        unknown_published={"far": {"auroc": PublishedFigure(value=0.9, source="A paper")}},
    )
    path = made("softmax", per_unknown=True)
    results = Results.load(path / "results.json")
    attrs.evolve(results, scorers={"msp": scorer}).save(path / "results.json")
    found = compare(path)
    assert [setting.unknown for setting in found.settings] == ["near", "far"]
    assert [found.estimate(s, found.methods[0], "auroc").mean for s in found.settings] == [0.2, 0.8]
    assert [entry.setting.unknown for entry in found.published] == ["far"]
    # Both sets share one network, so that a trial is one block, not two.
    assert found._block_values("auroc")[found.methods[0]] == {("p", "", 0): 0.5}


# --- what is said ---------------------------------------------------------------------------------


def test_runs_that_are_not_alike_are_pointed_out(made, tmp_path):
    data = {"data": {"known": {"samples": 5}}}
    made("softmax", trial=0, record={**data, "versions": {"torch": "2.11"}})
    made("softmax", trial=1, record=data)
    made(
        "arpl",
        training={"epochs": 5, "lr": 0.2},
        options={"threshold": {"acceptance": 0.9}},
        record={"data": {"known": {"samples": 6}}, "versions": {"torch": "2.12"}},
    )
    found = compare(tmp_path).notes
    expected = [
        r"are trial 0 of p on different data (known); they cannot be compared",
        "arpl,net msp lacks trial 1 of p; its mean is over the others",
        "epochs on p differ: 5 for arpl,net; 10 for softmax,net",
        "training options on p differ between methods: lr",
        "rejection thresholds on p are set by different rules; metrics at a threshold do not",
        "runs were made with different versions of torch: 2.12, 2.11",
    ]
    for note, part in zip(found, expected, strict=True):
        assert part in note


def test_missing_seeds_are_named_and_long_lists_are_counted(made, tmp_path):
    for trial in range(3):
        for seed in range(2):
            made("softmax", trial=trial, seed=seed)
    made("arpl", trial=0, seed=0)
    made("rpl", trial=0, seed=0)
    made("rpl", trial=1, seed=1)
    found = compare(tmp_path).notes
    assert "arpl,net msp lacks trial 0 seed 1, trial 1, trial 2 of p; its mean is over" in found[0]
    assert "rpl,net msp lacks trial 0 seed 1, trial 1 seed 0, trial 2 of p" in found[1]


def test_the_reference_is_the_first_method_or_the_named_one(runs):
    assert compare(runs).reference.title == "arpl,confused-gan,net msp"
    for name in (
        "softmax,net",
        "softmax,net msp",
        "softmax,net,msp",
        "net,softmax",
        "msp, softmax,net",
    ):
        assert compare(runs, reference=name).reference.title == "softmax,net msp"
    with pytest.raises(
        ConfigError, match=r"no method is called 'sofmax,net'; did you mean softmax"
    ):
        compare(runs, reference="sofmax,net")


def test_differences_are_paired_over_trials(runs):
    found = compare(runs, reference="softmax,net")
    (setting,) = found.settings
    ((method, difference),) = found.differences(setting, "auroc").items()
    assert method.name == "arpl,confused-gan,net"
    assert (difference.mean, difference.pairs) == (pytest.approx(0.05), 3)
    assert difference.p_adjusted == difference.p < 0.05
    assert found.differences(setting, "accuracy")[method].identical
    assert found.ranks(setting, "auroc") == {found.methods[0]: 1.0, found.methods[1]: 2.0}


def test_holm_counts_the_methods_of_one_metric(runs, made):
    for trial, value in enumerate([0.5, 0.9, 0.6]):
        for seed in range(2):
            made("rpl", value, trial=trial, seed=seed)
    found = compare(runs, reference="softmax,net")
    values = found.differences(found.settings[0], "auroc")
    better, unclear = (values[m] for m in found.methods if m != found.reference)
    assert better.p_adjusted == pytest.approx(2 * better.p)
    assert unclear.p_adjusted == unclear.p
    assert "unclear" in found.table()


def test_a_network_counts_once_where_its_scorers_say_the_same(made, tmp_path):
    for trial in range(3):
        made("softmax", 0.7 + 0.1 * trial, trial=trial, scorers=("msp", "energy"))
        accuracy = {"accuracy": 0.9 + 0.02 * trial, "auroc": 0.6 + 0.05 * trial}
        path = made("arpl", trial=trial)
        results = Results.load(path / "results.json")
        both = {name: ScorerResults(threshold=0.5, metrics=accuracy) for name in ("msp", "energy")}
        attrs.evolve(results, scorers=both).save(path / "results.json")
    found = compare(tmp_path, reference="softmax,net energy")
    (setting,) = found.settings
    (arpl, difference), *others = found.differences(setting, "accuracy").items()
    assert (arpl.title, others) == ("arpl,net msp", [])
    assert difference.p_adjusted == difference.p
    assert [method.title for method in found.differences(setting, "auroc")] == [
        "arpl,net msp",
        "softmax,net msp",
    ]
    assert set(found.ranks(setting, "accuracy").values()) == {1.0, 2.0}
    assert len(found.ranks(setting, "accuracy")) == 4
    assert [len(found.ranking(metric)[0]) for metric in ("accuracy", "auroc")] == [2, 3]
    assert "left out" not in found.table()


def test_published_figures_stand_beside_ours_by_their_own_rule(made, tmp_path):
    arpl = PublishedFigure(value=0.87, deviation=0.01, source="Table 1", compat="arpl")
    made("softmax", 0.9, published={"auroc": arpl})
    made("softmax", 0.8, trial=1, published={"auroc": arpl})
    assert (
        "p: ours beside published figures, percent; ours by the same arpl evaluation\n"
        "method       scorer       AUROC   published\n"
        "-----------  ------  ----------  ----------\n"
        "softmax,net  msp     80.0 ± 7.1  87.0 ± 1.0\n"
        "published AUROC: Table 1"
    ) in compare(tmp_path).table()


def test_methods_of_the_papers_that_were_not_run_stand_in_the_table(made, tmp_path):
    made("softmax", 0.9, protocol="mnist", scorers=("msp",))
    text_ = compare(tmp_path).table()
    assert "osrci" in text_
    row = next(line for line in text_.splitlines() if line.startswith("osrci"))
    assert row.split() == ["osrci", "-", "98.8", "±", "0.1"]
    assert "ARPL Table 1 (classifier32)" in text_


def test_ranks_over_protocols(made, tmp_path):
    for protocol in ("p", "q"):
        for trial in range(3):
            for method, value in (("rpl", 0.5), ("arpl", 0.6), ("softmax", 0.7)):
                made(method, value + 0.01 * trial, protocol=protocol, trial=trial)
    made("gcpl", 0.99, protocol="p")
    found = compare(tmp_path)
    names = {method.name.partition(",")[0]: method for method in found.methods}
    assert found.average_ranks("auroc") == {
        names["rpl"]: 3.5, names["arpl"]: 2.5, names["softmax"]: 1.5
    }  # fmt: skip
    made("softmax", 0.1, protocol="q", trial=3, group="other")
    made("arpl", 0.2, protocol="q", trial=3, group="other")
    made("rpl", 0.3, protocol="q", trial=3, group="other")
    # Within q the ranks are now 3 and 1 for rpl; q counts by their mean.
    assert compare(tmp_path).average_ranks("auroc")[names["rpl"]] == pytest.approx((4 + 2) / 2)
    methods, ranking = found.ranking("auroc")
    assert names["gcpl"] not in methods
    ranks = dict(zip(methods, ranking.average_ranks, strict=True))
    assert ranks == {names["rpl"]: 3.0, names["arpl"]: 2.0, names["softmax"]: 1.0}
    assert ranking.blocks == 6
    table = found.table()
    assert "Average ranks over 6 trials of 2 protocols" in table
    assert "left out, with too few trials in common: gcpl,net msp" in table


def test_ranks_say_which_protocols_they_are_over(made, tmp_path):
    for trial, (number, method) in itertools.product(
        range(3), enumerate(("rpl", "arpl", "softmax"))
    ):
        made(method, 0.5 + 0.1 * number, protocol="p", trial=trial)
        if method != "rpl":
            made(method, 0.5 + 0.1 * number, protocol="q", trial=trial)
    found = compare(tmp_path)
    # rpl lacks q, so only the trials of p are ranked.
    assert found.ranking("auroc")[1].blocks == 3
    assert found.ranked_over("auroc") == "3 trials of p"
    assert "Average ranks over 3 trials of p\n" in found.table()


def test_a_single_trial_is_ranked_over_its_seeds(made, tmp_path):
    for seed in range(4):
        made("softmax", 0.5 + 0.1 * seed, seed=seed)
        made("arpl", 0.6 + 0.1 * seed, seed=seed)
    found = compare(tmp_path)
    assert found.ranking("auroc")[1].blocks == 4
    assert "over 4 seeds of a single trial" in found.table()
    assert "Average ranks over 4 seeds" in found.table()


def test_one_run_a_method_says_that_nothing_can_be_said(made, tmp_path):
    made("softmax", 0.8)
    made("arpl", 0.9)
    table = compare(tmp_path).table()
    assert "one run a method, hence no deviation" in table
    assert "one pair each: nothing can be said about chance; run more" in table
    assert "Average ranks" not in table


def test_metrics_can_be_chosen_and_unknown_ones_are_refused(runs):
    found = compare(runs, metrics=["auroc"])
    assert found.metrics == ("auroc",)
    assert "Accuracy" not in found.table()
    with pytest.raises(ConfigError, match=r"there is no metric 'aurok'; did you mean auroc"):
        compare(runs, metrics=["aurok"])
    with pytest.raises(ConfigError, match="confidence level must lie between 0 and 1"):
        compare(runs, confidence=95)


# --- formats --------------------------------------------------------------------------------------

TABLE = Table(
    title="cifar+10: 50 % & more",
    columns=(
        Column("method", left=True),
        Column("A_B"),
        Column("interval"),
        Column("p"),
    ),
    rows=(
        ("softmax,net", Number(value=0.9, deviation=0.0123), None, "1"),
        (
            "a*b|c",
            Number(value=0.9561, deviation=0.01, mark="*", best=True),
            Interval(low=-0.00001, high=0.0213, signed=True),
            "< 0.001",
        ),
        ("x", Number(value=-0.05, signed=True), Interval(low=0.5, high=1.0), None),
        ("y", Number(value=1.0, rank=2.5), None, None),
    ),
    notes=("* differs by 5 % (p < 0.05)",),
)


def test_what_is_shown_goes_from_the_whole_to_its_parts(runs, made):
    for trial in range(2):
        made("rpl", 0.8 + 0.02 * trial, trial=trial)
    found = compare(runs, reference="softmax,net")
    table = found.table()
    titles_ = [part.splitlines()[0] for part in table.split("\n\n")]
    assert titles_[:4] == [
        "p: percent",
        "p: 95 % intervals of the means (rank), percent",
        "p: difference to softmax,net msp over the same trials, percentage points",
        "Average ranks over 2 trials",
    ]
    (setting,) = found.settings
    first = found.methods[0]
    estimate = found.estimate(setting, first, "auroc")
    interval = f"[{100 * estimate.low:.1f}, {100 * estimate.high:.1f}] (1)"
    rows = [line for line in table.splitlines() if interval in line]
    assert [row.split()[0] for row in rows] == [first.name]
    # A column counts trials where methods have different numbers of them.
    header = next(line for line in table.splitlines() if line.endswith("trials") and "A" in line)
    assert header.split() == ["method", "scorer", "Accuracy", "AUROC", "trials"]
    assert "t intervals of the mean over trials; rank 1 is the best mean" in table


def test_scorers_of_a_method_stand_together(made, tmp_path):
    made("arpl", trial=0, scorers=("msp",))
    made("softmax", trial=0, scorers=("msp",))
    made("arpl", trial=1, scorers=("energy", "msp"))
    assert titles(compare(tmp_path)) == ["arpl,net msp", "arpl,net energy", "softmax,net msp"]


def test_text():
    assert text([TABLE], ["look out"]) == (
        "cifar+10: 50 % & more\n"
        "method                 A_B       interval        p\n"
        "-----------  -------------  -------------  -------\n"
        "softmax,net   90.0 ± 1.2                -        1\n"
        "a*b|c         95.6 ± 1.0 *    [0.0, +2.1]  < 0.001\n"
        "x                   -5.0    [50.0, 100.0]        -\n"
        "y            100.0 (2.5)                -        -\n"
        "* differs by 5 % (p < 0.05)\n"
        "\n"
        "note: look out"
    )


def test_a_wide_table_is_cut_to_the_terminal():
    assert text([TABLE], width=40).splitlines()[:9] == [
        "cifar+10: 50 % & more",
        "method                 A_B",
        "-----------  -------------",
        "softmax,net   90.0 ± 1.2",
        "a*b|c         95.6 ± 1.0 *",
        "x                   -5.0",
        "y            100.0 (2.5)",
        "",
        "method            interval        p",
    ]
    assert text([TABLE], width=51) == text([TABLE])
    assert text([TABLE], width=10).count("method ") == 3  # a column is never cut


def test_markdown():
    assert markdown([TABLE], ["look_out"]) == (
        "### cifar+10: 50 % & more\n"
        "\n"
        "| method | A\\_B | interval | p |\n"
        "| --- | ---: | ---: | ---: |\n"
        "| softmax,net | 90.0 ± 1.2 | - | 1 |\n"
        "| a\\*b\\|c | **95.6 ± 1.0 \\*** | [0.0, +2.1] | \\< 0.001 |\n"
        "| x | -5.0 | [50.0, 100.0] | - |\n"
        "| y | 100.0 (2.5) | - | - |\n"
        "\n"
        "- \\* differs by 5 % (p \\< 0.05)\n"
        "\n"
        "### Notes\n"
        "\n"
        "- look\\_out\n"
    )


def test_latex():
    assert latex([TABLE], ["look out"]) == (
        "% needs \\usepackage{booktabs}\n"
        "\n"
        "\\begin{table}\n"
        "\\centering\n"
        "\\caption{cifar+10: 50 \\% \\& more. * differs by 5 \\% (p $<$ 0.05).}\n"
        "\\begin{tabular}{lrrr}\n"
        "\\toprule\n"
        "method & A\\_B & interval & p \\\\\n"
        "\\midrule\n"
        "softmax,net & $90.0 \\pm 1.2$ & -- & 1 \\\\\n"
        "a*b|c & $\\mathbf{95.6} \\pm 1.0^{*}$ & $[0.0, +2.1]$ & $<$ 0.001 \\\\\n"
        "x & $-5.0$ & $[50.0, 100.0]$ & -- \\\\\n"
        "y & $100.0$ (2.5) & -- & -- \\\\\n"
        "\\bottomrule\n"
        "\\end{tabular}\n"
        "\\end{table}\n"
        "\n"
        "% note: look out\n"
    )


def test_a_latex_table_longer_than_a_page_goes_on_in_the_next():
    rows = [(f"m{n}", Interval(low=0.5, high=0.6, rank=1)) for n in range(60)]
    long = Table(title="t", columns=(Column("method", left=True), Column("AUROC")), rows=rows)
    written = latex([TABLE, long])
    assert written.startswith("% needs \\usepackage{booktabs} and \\usepackage{longtable}\n")
    assert written.count("\\begin{table}") == 1
    body = written.partition("\\begin{longtable}{lr}\n")[2]
    assert body.startswith("\\caption{t.} \\\\\n\\toprule\nmethod & AUROC \\\\\n\\midrule\n")
    assert body.count("method & AUROC") == 2  # on the first page and on those after it
    assert body.count("$[50.0, 60.0]$ (1) \\\\") == 60


def test_notes_that_several_tables_share_are_said_once_in_text():
    shown = text([TABLE, TABLE])
    assert shown.count("* differs by") == 1
    assert shown.endswith("* differs by 5 % (p < 0.05)")
    assert markdown([TABLE, TABLE]).count("differs by") == 2


def test_csv_and_json_hold_everything_in_full_precision(runs):
    found = compare(runs, reference="softmax,net")
    (record,) = [
        row
        for row in csv.DictReader(io.StringIO(found.csv()))
        if (row["method"], row["metric"], row["rule"]) == ("softmax,net", "auroc", "exact")
    ]
    assert (
        float(record["mean"]) == found.estimate(found.settings[0], found.methods[1], "auroc").mean
    )
    assert (record["units"], record["runs"], record["unit"], record["rank"]) == (
        "3",
        "6",
        "trial",
        "2.0",
    )
    values = json.loads(found.json())
    assert len(values["runs"]) == 12 * 2  # exact and arpl
    assert values["runs"][0]["auroc"] == 0.84
    assert values["runs"][0]["seconds"] == 2.5
    (auroc,) = [item for item in values["differences"] if item["metric"] == "auroc"]
    assert auroc["significant"] is True


# --- the command ----------------------------------------------------------------------------------


def test_command(openset, runs, tmp_path):
    answer = openset("compare", runs)
    assert answer.code == 0
    assert answer.err == ""
    assert answer.out == compare(runs).table() + "\n"
    for name, start in (
        ("t.md", "### p"),
        ("t.tex", "% needs"),
        ("t.csv", "protocol,"),
        ("t.json", "{"),
        ("t.txt", "p: percent"),
    ):
        answer = openset("compare", runs, "--output", tmp_path / name)
        assert (answer.code, answer.out) == (0, f"written to {tmp_path / name}\n")
        assert (tmp_path / name).read_text().startswith(start)
    assert openset("compare", runs, "--format", "csv").out.startswith("protocol,group")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "name folders of runs or benches to compare"),
        (["nowhere"], "nowhere does not exist"),
        ([None, "--output", "table.doc"], "does not tell the format; name one with --format"),
        ([None, "--reference", "x"], "no method is called 'x'"),
        ([None, "--metrics", "auroc,nonsense"], "there is no metric 'nonsense'"),
    ],
)
def test_mistakes_on_the_command_line(openset, runs, arguments, said):
    answer = openset("compare", *(runs if item is None else item for item in arguments))
    assert (answer.code, answer.out) == (2, "")
    (line,) = answer.err.splitlines()
    assert said in line


def test_a_real_run(finished):
    found = openset_core.compare(finished)
    assert titles(found) == ["softmax,tiny msp"]
    assert found.runs[0].run.record["protocol_digest"]
    lines = [line.split() for line in found.table().splitlines()]
    assert "published" in found.table()
    assert any(line[:2] == ["softmax,tiny", "msp"] for line in lines)
