"""The rejection threshold: its rules, and that a run keeps the user's choice."""

from __future__ import annotations

import json
import tomllib

import numpy as np
import pytest

from openset_core import api
from openset_core.errors import ConfigError
from openset_core.experiment.experiment import resolve
from openset_core.experiment.threshold import ThresholdChoice, Thresholds, parse_rule, rules_for
from openset_core.model.artefact import load_scorer
from openset_core.scoring.fitting import stored_scores


@pytest.mark.parametrize(
    ("text", "scorer", "choice"),
    [
        ("0.99", "", {"acceptance": 0.99}),
        ("1", "", {"acceptance": 1.0}),
        ("acceptance=0.5", "", {"acceptance": 0.5}),
        ("score=-1.5e3", "", {"score": -1500.0}),
        ("msp:0.9", "msp", {"acceptance": 0.9}),
        ("pytorch-ood:KNN:score=2", "pytorch-ood:KNN", {"score": 2.0}),
    ],
)
def test_rules_are_read(text, scorer, choice):
    assert parse_rule(text) == (scorer, ThresholdChoice(**choice))


MALFORMED = (
    *("", "high", "0", "1.01", "-0.5", "nan", "95%", "acceptance=2", "acceptance="),
    *("score=inf", "score=", "rate=0.9", "msp:", "msp:score=x"),
)


@pytest.mark.parametrize("text", MALFORMED)
def test_malformed_rules_are_refused_in_one_sentence(text):
    with pytest.raises(ConfigError, match=r"acceptance=0\.95, or 0\.95 for short") as caught:
        parse_rule(text)
    assert repr(text) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_rules_name_scorers_of_the_run():
    with pytest.raises(ConfigError, match="'mps', which is no scorer of this run; did you mean"):
        rules_for(["mps:0.9"], ["msp", "energy"])
    with pytest.raises(ConfigError, match="for example --threshold msp:score=1"):
        rules_for(["score=1"], ["msp", "energy"])
    assert rules_for(["score=1"], ["msp"]) == [("msp", ThresholdChoice(score=1.0))]


def test_later_rules_win_and_a_general_one_replaces_all():
    def chosen(*texts):
        return Thresholds().changed(rules_for(texts, ["msp", "energy"]))

    assert not Thresholds()
    assert chosen().choice("msp", 0.95) == ThresholdChoice(acceptance=0.95)
    both = chosen("0.9", "msp:score=2")
    assert both.choice("msp", 0.95) == ThresholdChoice(score=2.0)
    assert both.choice("energy", 0.95) == ThresholdChoice(acceptance=0.9)
    assert both.joined(chosen("0.8")).choice("msp", 0.95) == ThresholdChoice(acceptance=0.8)
    kept = both.joined(chosen("energy:0.7"))
    assert kept.choice("msp", 0.95) == ThresholdChoice(score=2.0)
    assert kept.choice("energy", 0.95) == ThresholdChoice(acceptance=0.7)
    with pytest.raises(ValueError, match="one of the two"):
        ThresholdChoice()


# --- in a run -------------------------------------------------------------------------------------


def recorded(folder):
    return tomllib.loads((folder / "experiment.toml").read_text(encoding="utf-8"))


def accepted(folder, scorer="msp"):
    """Share of validation images that the saved threshold accepts."""
    record, _state = load_scorer(folder / "model", scorer)
    return (stored_scores(folder / "scores.h5", scorer, "validation") <= record.threshold).mean()


def test_score_sets_a_threshold_and_keeps_it(openset, finished):
    before = json.loads((finished / "results.json").read_text())
    weights = (finished / "model" / "weights.safetensors").stat().st_mtime_ns
    features = (finished / "features.h5").stat().st_mtime_ns
    scores = (finished / "scores.h5").read_bytes()
    answer = openset("score", finished, "--threshold", "acceptance=0.5")
    assert answer.code == 0
    assert "set the threshold of msp" in answer.err
    assert 0.5 <= accepted(finished) < 0.6
    assert recorded(finished)["threshold"] == {"acceptance": 0.5, "scorers": {}}
    after = json.loads((finished / "results.json").read_text())
    assert after["scorers"]["msp"]["threshold"] < before["scorers"]["msp"]["threshold"]
    assert after["scorers"]["msp"]["metrics"] != before["scorers"]["msp"]["metrics"]
    assert (
        after["scorers"]["msp"]["metrics"]["auroc"]
        == (before["scorers"]["msp"]["metrics"]["auroc"])
    )
    assert (finished / "scores.h5").read_bytes() == scores
    assert (finished / "features.h5").stat().st_mtime_ns == features
    assert (finished / "model" / "weights.safetensors").stat().st_mtime_ns == weights
    # Neither scoring again nor running again takes the choice back.
    assert "all scores were there" in openset("score", finished).err
    assert openset("run", finished, "--no-report").code == 0
    assert 0.5 <= accepted(finished) < 0.6
    # A scorer that joins later is held to it too.
    openset("score", finished, "--plugins", "energy")
    assert 0.5 <= accepted(finished, "energy") < 0.6


def test_absolute_score_for_one_scorer(openset, finished):
    openset("score", finished, "--plugins", "energy")
    refused = openset("score", finished, "--threshold", "score=0.25")
    assert refused.code == 2
    assert "whose scales differ" in refused.err
    assert openset("score", finished, "--threshold", "msp:score=0.25").code == 0
    assert load_scorer(finished / "model", "msp")[0].threshold == 0.25
    assert load_scorer(finished / "model", "energy")[0].acceptance == 0.95
    assert api.load_run(finished).results.scorers["msp"].threshold == 0.25
    openset("score", finished, "--threshold", "0.95")
    assert load_scorer(finished / "model", "msp")[0].acceptance == 0.95


@pytest.mark.parametrize("text", ["2", "score=nan", "knn:0.9"])
def test_mistakes_change_nothing(openset, finished, text):
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    answer = openset("score", finished, "--threshold", text)
    assert answer.code == 2
    assert answer.err.count("\n") == 1
    assert before == {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}


def test_run_takes_a_threshold(tiny, openset, tmp_path):
    arguments = ("run", "-p", "softmax,tiny", "--protocol", "tiny-digits", "--device", "cpu")
    run = (*arguments, "--epochs", "1", "--out", tmp_path / "run", "--no-report")
    assert openset(*run, "--threshold", "0.6").code == 0
    assert 0.6 <= accepted(tmp_path / "run") < 0.7
    assert openset(*run).code == 0  # the same experiment, its threshold kept
    assert 0.6 <= accepted(tmp_path / "run") < 0.7
    assert openset(*run, "--threshold", "0.8").code == 0
    assert 0.8 <= accepted(tmp_path / "run") < 0.9


def test_a_threshold_does_not_make_another_experiment(tiny):
    plain = resolve("softmax,tiny", "tiny-digits")
    other = resolve("softmax,tiny", "tiny-digits", threshold=["0.5"])
    assert (plain.digest, plain.default_folder_name()) == (
        other.digest,
        other.default_folder_name(),
    )
    assert not plain.differences(other.to_toml())


def test_experiment_file_may_set_thresholds(tiny, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        'plugins = ["softmax", "tiny"]\nprotocol = "tiny-digits"\n[threshold]\nacceptance = 0.9\n'
        "[threshold.scorers.msp]\nscore = 0.4\n"
    )
    assert resolve(file=path).threshold_for("msp") == ThresholdChoice(score=0.4)
    path.write_text(path.read_text().replace("scorers.msp", "scorers.knn"))
    with pytest.raises(ConfigError, match=r"threshold\.scorers names 'knn'"):
        resolve(file=path)
    path.write_text('plugins = ["softmax", "tiny"]\n[threshold]\nacceptance = 1.5\n')
    with pytest.raises(ConfigError, match="acceptance"):
        resolve(file=path)


def test_stored_scores_are_none_where_there_are_none(tmp_path, finished):
    assert stored_scores(tmp_path / "none.h5", "msp", "validation") is None
    assert stored_scores(finished / "scores.h5", "knn", "validation") is None
    assert np.isfinite(stored_scores(finished / "scores.h5", "msp", "validation")).all()
