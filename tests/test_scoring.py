"""Scoring: once for a store and its options, from chunks, with state that cannot be altered."""

from __future__ import annotations

import math
import time
from typing import ClassVar

import attrs
import h5py
import numpy as np
import pytest

from openset_core import NoOptions, UnknownScorer, UnknownScorerSpec, option
from openset_core.errors import ModelError, PluginError
from openset_core.experiment.threshold import ThresholdChoice
from openset_core.features.store import READ_ROWS, FeatureStore, FeatureWriter
from openset_core.model.artefact import load_scorer
from openset_core.registry import Component, registry
from openset_core.scoring.fitting import apply_scorer, build_scorer, score_run

CLASSES = 4


@attrs.frozen(kw_only=True)
class ProbeOptions:
    factor: float = option(1.0, "factor on the scores")


class Probe(UnknownScorer):
    """Distance to the training mean; notes what it was asked for."""

    reads = ("embedding",)
    fits: ClassVar[list[int]] = []
    seen: ClassVar[list[int]] = []

    def __init__(self, config):
        self.factor = config.factor
        self.mean = None

    def fit(self, source):
        self.fits.append(source.rows)
        self.mean = sum(table["embedding"].sum(axis=0) for table in source.chunks()) / source.rows

    def score(self, table):
        self.seen.append(len(table["embedding"]))
        return self.factor * np.linalg.norm(table["embedding"] - self.mean, axis=1)

    def state(self):
        return {"mean": self.mean}


def part_of(factory, config=NoOptions, name="probe", version="2.1"):
    spec = UnknownScorerSpec(name=name, summary="", factory=factory, config=config)
    return Component(spec=spec, distribution="openset-probe", version=version)


@pytest.fixture
def probe():
    Probe.fits, Probe.seen = [], []
    return part_of(Probe, ProbeOptions)


@pytest.fixture
def run(tmp_path):
    """`run(part, options)` scores the store in `tmp_path`."""

    def call(part, options=None, acceptance=0.95):
        options = part.spec.config() if options is None else options
        with FeatureStore(tmp_path / "features.h5") as store:
            choice = ThresholdChoice(acceptance=acceptance)
            return score_run(
                store, tmp_path / "model", tmp_path / "scores.h5", part, options, choice
            )

    return call


def write_store(folder, seed=0, rows=(120, 40, 60, 50, 30), weights="w"):
    rng = np.random.default_rng(seed)
    names = ("train", "validation", "known", "unknown/near", "unknown/far")
    with FeatureWriter(folder / "features.h5", {"weights": weights, "seed": seed}, CLASSES) as new:
        for name, count in zip(names, rows, strict=True):
            label = rng.integers(0, CLASSES, size=count)
            logits = rng.normal(size=(count, CLASSES)) + 6 * np.eye(CLASSES)[label]
            batch = {
                "embedding": rng.normal(size=(count, 6)).astype(np.float32),
                "logits": logits.astype(np.float32),
                "label": label,
                "index": np.arange(count),
            }
            new.write_split(name, iter([batch]))


@pytest.fixture
def store(tmp_path):
    write_store(tmp_path)
    return tmp_path / "features.h5"


def assert_same_scores(first, second):
    assert first.keys() == second.keys()
    for name, scores in first.items():
        np.testing.assert_array_equal(scores, second[name])


# --- once, and again when something changed -----------------------------------------------------


def test_scores_are_computed_once_and_reused(store, run, probe):
    first = run(probe)
    assert not first.reused
    assert Probe.fits == [120]
    assert sum(Probe.seen) == 120 + 40 + 60 + 50 + 30
    second = run(probe)
    assert second.reused
    assert (Probe.fits, sum(Probe.seen)) == ([120], 300)
    assert second.threshold == first.threshold
    assert_same_scores(first.scores, second.scores)


def test_scores_are_right_and_of_double_precision(store, run, probe):
    scored = run(probe, ProbeOptions(factor=2.0))
    with FeatureStore(store) as opened:
        mean = opened.array("train", "embedding").mean(axis=0)
        for name in opened.splits:
            rows = opened.array(name, "embedding")
            expected = [2.0 * math.dist(row, mean) for row in rows]
            assert scored.scores[name].dtype == np.float64
            np.testing.assert_allclose(scored.scores[name], expected, rtol=1e-5)


@pytest.mark.parametrize("change", ["options", "features", "version"])
def test_scores_are_computed_again_when_something_changes(tmp_path, store, run, probe, change):
    before = run(probe)
    options, part = ProbeOptions(), probe
    if change == "options":
        options = ProbeOptions(factor=3.0)
    elif change == "features":
        write_store(tmp_path, seed=1)
    else:
        part = part_of(Probe, ProbeOptions, version="2.2")
    after = run(part, options)
    assert not after.reused
    assert len(Probe.fits) == 2
    expected_change = {"options": True, "features": True, "version": False}
    assert (after.threshold != before.threshold) is expected_change[change]
    assert run(part, options).reused


def test_scores_of_other_scorers_are_kept(store, run, probe):
    other = part_of(Probe, ProbeOptions, name="family:other")
    run(probe)
    run(other)
    run(probe, ProbeOptions(factor=2.0))
    assert run(other).reused
    assert run(probe, ProbeOptions(factor=2.0)).reused
    assert len(Probe.fits) == 3


@pytest.mark.parametrize("acceptance", [0.5, 0.9, 0.95, 1.0])
def test_threshold_is_the_quantile_of_the_validation_scores(store, run, probe, acceptance):
    scored = run(probe, acceptance=acceptance)
    ranked = sorted(scored.scores["validation"])
    assert scored.threshold == ranked[math.ceil(acceptance * 40) - 1]
    record, _state = load_scorer(store.parent / "model", "probe")
    assert (record.threshold, record.acceptance) == (scored.threshold, acceptance)


def test_another_threshold_reads_the_stored_scores_only(store, run, probe):
    before = run(probe)
    seen = list(Probe.seen)
    after = run(probe, acceptance=0.5)
    assert (Probe.fits, Probe.seen) == ([120], seen)
    assert (after.reused, after.rethresholded) == (True, True)
    assert after.threshold < before.threshold
    assert_same_scores(before.scores, after.scores)
    record, state = load_scorer(store.parent / "model", "probe")
    assert (record.threshold, record.acceptance) == (after.threshold, 0.5)
    assert state.keys() == {"mean"}
    assert not run(probe, acceptance=0.5).rethresholded


def test_threshold_may_be_a_score(tmp_path, store, probe):
    with FeatureStore(store) as opened:
        place = (opened, tmp_path / "model", tmp_path / "scores.h5")
        scored = score_run(*place, probe, ProbeOptions(), ThresholdChoice(score=1.25))
    assert scored.threshold == 1.25
    record, _state = load_scorer(tmp_path / "model", "probe")
    assert (record.threshold, record.acceptance) == (1.25, None)


def test_scorer_saved_with_other_options_does_not_stand_in(tmp_path, store, run, probe):
    run(probe)
    old = (tmp_path / "scores.h5").read_bytes()
    run(probe, ProbeOptions(factor=2.0))
    (tmp_path / "scores.h5").write_bytes(old)  # as after a kill between the two files
    assert not run(probe).reused
    assert load_scorer(tmp_path / "model", "probe")[0].scorer.options == {"factor": 1.0}


# --- chunks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["msp", "max-logit", "energy", "openmax"])
def test_chunked_scores_equal_scores_of_the_whole(tmp_path, name):
    rows = 2 * READ_ROWS + 100
    write_store(tmp_path, rows=(400, 50, rows, 50, 50))
    part = registry().find(name, ("scorer",))
    with FeatureStore(tmp_path / "features.h5") as store:
        options = part.spec.config()
        scored = score_run(
            store,
            tmp_path / "model",
            tmp_path / "scores.h5",
            part,
            options,
            ThresholdChoice(acceptance=0.95),
        )
        whole = build_scorer(part, options)
        state = load_scorer(tmp_path / "model", name)[1]
        whole.restore(state)
        table = {array: store.array("known", array) for array in whole.reads}
        np.testing.assert_array_equal(scored.scores["known"], whole.score(table))


def test_ten_thousand_rows_with_four_scorers(tmp_path, run):
    write_store(tmp_path, rows=(10_000, 10_000, 10_000, 10_000, 10_000))
    began = time.perf_counter()
    for name in ("msp", "max-logit", "energy", "openmax"):
        scored = run(registry().find(name, ("scorer",)))
        assert all(len(scores) == 10_000 for scores in scored.scores.values())
    print(f"four scorers on five parts of 10,000 rows: {time.perf_counter() - began:.2f} s")


# --- scorers that break their contract ----------------------------------------------------------


def returning(make):
    class Wrong(UnknownScorer):
        def score(self, table):
            return make(len(table["logits"]))

    return part_of(lambda _options: Wrong())


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda n: np.where(np.arange(n) == n - 1, np.nan, 1.0), "infinite or NaN scores"),
        (lambda n: np.full(n, -np.inf), "infinite or NaN scores"),
        (lambda n: np.ones(n + 1), "scores of shape [61]"),
        (lambda n: np.ones((n, 1)), "scores of shape [60, 1]"),
        (lambda n: 1.0, "scores of shape []"),
    ],
)
def test_wrong_scores_name_the_plugin(store, run, make, problem):
    with pytest.raises(PluginError) as caught:
        run(returning(make))
    message = str(caught.value)
    assert "scorer probe of openset-probe 2.1" in message
    assert f"{problem} for 60 samples of split known" in message
    assert not (store.parent / "scores.h5").exists()


def test_factory_that_builds_something_else_is_named(store, run):
    with pytest.raises(PluginError, match=r"probe of openset-probe 2\.1 built a dict"):
        run(part_of(lambda _options: {}))


# --- files ----------------------------------------------------------------------------------------


def flip_a_score(path):
    with h5py.File(path, "r") as file:
        wanted = file["probe/known/score"][7].tobytes()
    content = bytearray(path.read_bytes())
    place = content.find(wanted)
    assert place > 0
    content[place + 3] ^= 0x20
    path.write_bytes(content)


def shorten(path):
    with h5py.File(path, "r+") as file:
        del file["probe/known/score"]
        file["probe/known/score"] = np.zeros(3)


def lose_a_part(path):
    with h5py.File(path, "r+") as file:
        del file["probe/unknown/near"]


def truncate(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b"nonsense" * 900),
        lambda path: path.write_bytes(b""),
        lambda path: h5py.File(path, "w").close(),
        truncate,
        shorten,
        lose_a_part,
        flip_a_score,
    ],
    ids=["garbage", "empty", "foreign", "truncated", "shortened", "part lost", "number changed"],
)
def test_damaged_scores_file_is_rebuilt(store, run, probe, damage):
    before = run(probe)
    damage(store.parent / "scores.h5")
    after = run(probe)
    assert not after.reused
    assert_same_scores(before.scores, after.scores)
    assert run(probe).reused


def test_fitted_state_restores_in_another_scorer(store, run):
    part = registry().find("openmax", ("scorer",))
    scored = run(part)
    record, state = load_scorer(store.parent / "model", "openmax")
    assert (record.scorer.name, record.scorer.distribution) == ("openmax", "openset")
    assert record.scorer.options["tail_size"] == part.spec.config().tail_size
    restored = build_scorer(part, part.spec.config())
    restored.restore(state)
    with FeatureStore(store) as opened:
        again = apply_scorer(restored, opened, "unknown/far", part)
    np.testing.assert_array_equal(again, scored.scores["unknown/far"])


def test_tampered_state_is_refused(store, run, probe):
    run(probe)
    path = store.parent / "model" / "scorers" / "probe.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"probe\.safetensors is damaged or was changed; delete"):
        load_scorer(store.parent / "model", "probe")
    with pytest.raises(ModelError):
        run(probe)
    path.unlink()  # what the message advises
    assert load_scorer(store.parent / "model", "probe") is None
    assert not run(probe).reused


@pytest.mark.parametrize(
    "edit",
    [("threshold = ", "threshold = 1"), ("acceptance = 0.95", "acceptance = 0.5"), ("2.1", "2.2")],
)
def test_description_of_a_scorer_that_was_edited_is_refused(store, run, probe, edit):
    run(probe)
    path = store.parent / "model" / "scorers" / "probe.toml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(*edit), encoding="utf-8")
    assert path.read_text(encoding="utf-8") != text
    with pytest.raises(ModelError, match=r"probe\.toml is damaged or was changed by hand"):
        load_scorer(store.parent / "model", "probe")
    path.unlink()  # what the message advises
    assert not run(probe).reused


def test_comments_in_a_description_are_no_harm(store, run, probe):
    run(probe)
    path = store.parent / "model" / "scorers" / "probe.toml"
    path.write_text("# mine\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    assert run(probe).reused


def test_scorer_from_before_descriptions_were_sealed_is_fitted_again(store, run, probe):
    run(probe)
    path = store.parent / "model" / "scorers" / "probe.toml"
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(line for line in lines if not line.startswith("sha256")))
    assert load_scorer(store.parent / "model", "probe") is None
    assert not run(probe).reused
    assert run(probe).reused


@pytest.mark.parametrize("text", ["", "threshold =", "threshold = 'high'"])
def test_damaged_description_of_a_scorer_is_refused(store, run, probe, text):
    run(probe)
    (store.parent / "model" / "scorers" / "probe.toml").write_text(text)
    with pytest.raises(ModelError, match=r"probe\.toml"):
        load_scorer(store.parent / "model", "probe")
