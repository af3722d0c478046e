"""Runs from end to end: what is written, what is done once, and what is refused."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib

import numpy as np
import pytest

import openset_core
from openset_core import api, run_folder
from openset_core.errors import (
    ConfigError,
    DataError,
    ModelError,
    ProtocolError,
    RunFolderError,
    StoreError,
    TrainingError,
)
from openset_core.experiment import experiment
from openset_core.features.store import FeatureStore
from openset_core.files import sha256
from openset_core.model.artefact import write_with_checksum
from openset_core.observers import (
    EpochDone,
    Observer,
    RunDone,
    RunStarted,
    StageDone,
    StepsDone,
    TrainingStarted,
)
from openset_core.results.run_results import Results

SOFTMAX = {"plugins": "softmax,tiny", "protocol": "tiny-digits", "device": "cpu"}
FILES = {
    "experiment.toml",
    "features.h5",
    "metrics.jsonl",
    "model/model.toml",
    "model/scorers/msp.safetensors",
    "model/scorers/msp.toml",
    "model/weights.safetensors",
    "results.json",
    "scores.h5",
}
PAGE = {"figures.h5", "report.html"}
"""What the command line adds, beside files in figures/."""


class Recorder(Observer):
    """Keeps every event."""

    def __init__(self):
        self.events = []
        self.closed = 0

    def receive(self, event):
        self.events.append(event)

    def close(self):
        self.closed += 1

    def stages(self):
        """Stage by name: "skipped", or the detail."""
        return {
            event.stage: "skipped" if event.skipped else event.detail
            for event in self.events
            if isinstance(event, StageDone)
        }


@pytest.fixture
def recorder():
    return Recorder()


def files_in(folder):
    return {
        path.relative_to(folder).as_posix(): path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file()
    }


def arrays_of(path):
    with FeatureStore(path) as store:
        return {
            (part, name): store.array(part, name)
            for part in store.splits
            for name in ("embedding", "logits", "label", "index")
        }


# --- from end to end ----------------------------------------------------------------------------


def test_run_from_python(tiny, tmp_path, recorder):
    run = openset_core.run(
        ["softmax", "tiny", "energy", "msp"],
        "tiny-digits",
        epochs=3,
        seed=5,
        set={"training": {"lr": 0.1}},
        out=tmp_path / "run",
        device="cpu",
        observers=[recorder],
    )
    assert files_in(run.folder).keys() == FILES | {
        "model/scorers/energy.safetensors",
        "model/scorers/energy.toml",
    }
    assert isinstance(run.results, Results)
    assert list(run.results.scorers) == ["energy", "msp"]
    assert (run.results.seed, run.results.epochs, run.results.trial) == (5, 3, 0)
    assert run.results.samples.keys() == {
        "train",
        "validation",
        "known",
        "unknown/near",
        "unknown/far",
    }
    assert [line["epoch"] for line in run.history] == [1, 2, 3]
    assert [*run.history[0]["terms"]] == ["classification/cross_entropy"]
    assert run.history[2]["rate"] == 0.1
    losses = [line["terms"]["classification/cross_entropy"] for line in run.history]
    assert losses[2] < losses[0]
    assert openset_core.load_run(run.folder).results == run.results
    assert recorder.closed == 1


def test_events_come_in_order(tiny, tmp_path, recorder):
    run = api.run(**SOFTMAX, out=tmp_path, observers=[recorder])
    events = [event for event in recorder.events if not isinstance(event, StepsDone)]
    assert [type(event) for event in events] == [
        RunStarted,
        TrainingStarted,
        EpochDone,
        EpochDone,
        StageDone,
        StageDone,
        StageDone,
        RunDone,
    ]
    started, training, *epochs, train, extract, score, done = events
    assert started.folder == done.folder == tmp_path
    assert started.experiment["plugins"] == ["softmax", "tiny", "msp"]
    assert (training.first_epoch, training.epochs) == (0, 2)
    assert training.steps_per_epoch == 5
    assert (training.device, training.precision) == ("cpu", "fp32")
    assert training.parameters == training.training_parameters
    assert [event.record for event in epochs] == run.history
    assert [event.stage for event in (train, extract, score)] == ["train", "extract", "score"]
    assert not any(event.skipped for event in (train, extract, score))
    assert done.results["scorers"]["msp"]["metrics"] == run.results.scorers["msp"].metrics


def test_observer_plugin_receives_the_events(tiny, tmp_path):
    api.run("softmax,tiny,event-log", "tiny-digits", out=tmp_path, device="cpu")
    lines = (tmp_path / "events.log").read_text().splitlines()
    assert [line for line in lines if line != "StepsDone"] == [
        "RunStarted",
        "TrainingStarted",
        "EpochDone",
        "EpochDone",
        "StageDone",
        "StageDone",
        "StageDone",
        "RunDone",
        "closed",
    ]


def test_observer_plugin_can_join_a_run_that_is_there(finished):
    api.run("softmax,tiny,event-log", "tiny-digits", out=finished, device="cpu")
    assert (finished / "events.log").read_text().splitlines()[-1] == "closed"


@pytest.mark.parametrize("command", ["train", "extract", "score"])
def test_every_command_closes_the_observers(finished, openset, command):
    api.run("softmax,tiny,event-log", "tiny-digits", out=finished, device="cpu")
    (finished / "events.log").unlink()
    assert openset(command, finished, "--quiet").code == 0
    lines = (finished / "events.log").read_text().splitlines()
    assert lines[0] == "RunStarted"
    assert lines[-1] == "closed"


def test_two_runs_in_one_process_choose_their_own_precision(tiny, tmp_path, recorder):
    for number, precision in enumerate(["bf16", "fp32"]):
        api.run(
            **SOFTMAX,
            epochs=1,
            set={"training": {"precision": precision}},
            out=tmp_path / str(number),
            observers=[recorder],
        )
    started = [event for event in recorder.events if isinstance(event, TrainingStarted)]
    assert [event.precision for event in started] == ["bf16", "fp32"]


def test_run_from_the_command_line(tiny, tmp_path, openset):
    answer = openset(
        "run", "-p", "softmax,tiny", "--protocol", "tiny-digits", "--out", tmp_path / "run",
        "--epochs", "1", "--set", "training.lr=0.02", "--device", "cpu",
    )  # fmt: skip
    assert answer.code == 0
    files = files_in(tmp_path / "run").keys()
    assert {name for name in files if not name.startswith("figures/")} == FILES | PAGE
    assert any(name.endswith(".png") for name in files)
    recorded = tomllib.loads((tmp_path / "run" / "experiment.toml").read_text())
    assert (recorded["training"]["epochs"], recorded["training"]["lr"]) == (1, 0.02)
    assert "softmax on tiny, protocol tiny-digits, trial 0" in answer.out
    table = Results.load(tmp_path / "run" / "results.json").table()
    assert table in answer.out
    assert "published" in table
    assert f"written to {tmp_path / 'run'}" in answer.out
    shown = openset("show", tmp_path / "run")
    assert (shown.code, shown.out.strip(), shown.err) == (0, table, "")


def test_progress_lines_when_there_is_no_terminal(tiny, tmp_path, openset):
    answer = openset(
        "run", "-p", "turns,tiny", "--protocol", "tiny-digits", "--out", tmp_path / "run",
        "--no-report",
        "--device", "cpu",
    )  # fmt: skip
    lines = answer.err.splitlines()
    assert re.fullmatch(
        r"loss turns; backbone tiny; scorers max-logit; protocol tiny-digits, trial 0, seed 0; "
        rf"folder {re.escape(str(tmp_path / 'run'))}",
        lines[0],
    )
    assert re.fullmatch(r"train: [\d,]+ parameters, cpu, fp32", lines[1])
    for number in (1, 2):
        assert re.fullmatch(
            rf"epoch {number}/2: fit \d\.\d{{3}} centre \d\.\d{{3}} small \d\.\d{{3}} rate 0\.05 "
            r"validation accuracy \d\.\d{3}, \d+\.\d s, \d+ s left",
            lines[1 + number],
        )
    assert re.fullmatch(r"train: \d+\.\d s, 2 epochs", lines[4])
    assert re.fullmatch(r"extract: \d+\.\d s, \d+ samples; there was no feature store", lines[5])
    assert re.fullmatch(r"score: \d+\.\d s, fitted max-logit", lines[6])
    assert len(lines) == 7
    assert "\r" not in answer.err


def test_quiet_prints_results_only(tiny, tmp_path, openset):
    answer = openset(
        "run", "-p", "softmax,tiny", "--protocol", "tiny-digits", "--out", tmp_path / "run",
        "--epochs", "1", "--device", "cpu", "--quiet", "--no-report",
    )  # fmt: skip
    assert answer.code == 0
    assert answer.err == ""
    assert "AUROC" in answer.out


def test_stage_commands_one_after_the_other(tiny, tmp_path, openset):
    resolved = experiment.resolve("softmax,tiny", "tiny-digits")
    folder = tmp_path / "run"
    run_folder.initialize_folder(folder, resolved)
    early = openset("score", folder)
    assert early.code == 2
    assert early.err.startswith("error: model ")
    assert openset("train", folder, "--device", "cpu").code == 0
    assert files_in(folder).keys() == {
        "experiment.toml",
        "metrics.jsonl",
        "model/model.toml",
        "model/weights.safetensors",
    }
    assert openset("extract", folder, "--device", "cpu").code == 0
    assert not (folder / "scores.h5").exists()
    with pytest.raises(RunFolderError, match="the run is not finished"):
        api.load_run(folder)
    scored = openset("score", folder)
    assert (scored.code, files_in(folder).keys()) == (0, FILES)
    assert scored.out.strip() == api.load_run(folder).results.table()


def test_several_trials_print_mean_and_deviation(tiny, tmp_path, openset):
    answer = openset(
        "run", "-p", "softmax,tiny", "--protocol", "tiny-digits", "--out", tmp_path / "runs",
        "--trials", "0,1", "--epochs", "1", "--device", "cpu",
    )  # fmt: skip
    assert answer.code == 0
    found = [Results.load(tmp_path / "runs" / f"trial{n}" / "results.json") for n in (0, 1)]
    assert [results.trial for results in found] == [0, 1]
    assert "mean ± standard deviation over 2 trials" in answer.out
    values = [100 * results.scorers["msp"].metrics["auroc"] for results in found]
    assert f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}" in answer.out
    again = api.run_trials(**SOFTMAX, epochs=1, out=tmp_path / "runs")
    assert [run.results for run in again.runs] == found
    assert again.results.table() in answer.out


def test_a_trial_with_more_scorers_than_the_others(tiny, tmp_path, openset):
    arguments = (
        "run", "--protocol", "tiny-digits", "--out", tmp_path, "--epochs", "1", "--device", "cpu",
        "--no-report",
    )  # fmt: skip
    assert openset(*arguments, "-p", "softmax,tiny,energy", "--trials", "0").code == 0
    answer = openset(*arguments, "-p", "softmax,tiny,msp", "--trials", "0,1")
    assert answer.code == 0
    summary = answer.out.partition("mean ± standard deviation")[2]
    assert "msp" in summary
    assert "energy" not in summary


# --- done once ----------------------------------------------------------------------------------


def test_running_again_does_nothing_twice(finished, recorder):
    before = files_in(finished)
    results = Results.load(finished / "results.json")
    run = api.run(**SOFTMAX, out=finished, observers=[recorder])
    assert recorder.stages() == {"train": "skipped", "extract": "skipped", "score": "skipped"}
    after = files_in(finished)
    assert after.pop("results.json") > before.pop("results.json")
    assert after == before
    assert run.results == results


def test_adding_a_scorer_trains_and_extracts_nothing(finished, recorder):
    before = files_in(finished)
    run = api.run("softmax,tiny,energy", "tiny-digits", out=finished, observers=[recorder])
    assert recorder.stages() == {"train": "skipped", "extract": "skipped", "score": "fitted energy"}
    after = files_in(finished)
    untouched = ["features.h5", "metrics.jsonl", "model/weights.safetensors", "model/model.toml"]
    untouched += ["model/scorers/msp.toml", "model/scorers/msp.safetensors"]
    assert {name: after[name] for name in untouched} == {name: before[name] for name in untouched}
    assert list(run.results.scorers) == ["msp", "energy"]  # those of earlier calls stay


def test_adding_a_scorer_imports_no_torch(finished):
    code = (
        "import sys; from openset_core.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as ended: print(ended.code, 'torch' in sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "score", finished, "--plugins", "openmax,energy", "--quiet"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == "0 False\n"
    assert list(Results.load(finished / "results.json").scorers) == ["msp", "openmax", "energy"]
    assert done.stdout.strip() == Results.load(finished / "results.json").table()


def test_score_takes_options_of_scorers(finished, openset):
    asked = ("score", finished, "--quiet", "--plugins", "msp,energy")
    assert openset(*asked).code == 0
    plain = Results.load(finished / "results.json").scorers["energy"].threshold
    assert openset(*asked, "--set", "energy.temperature=50.0").code == 0
    hot = Results.load(finished / "results.json").scorers["energy"].threshold
    assert hot != plain
    answer = openset(*asked, "--set", "softmax.bias=false")
    assert answer.code == 2
    assert "holds another experiment (different: softmax.bias)" in answer.err


def test_a_scorer_that_cannot_be_fitted_is_left_out(finished, openset, monkeypatch):
    def refuse(self, source):
        raise ValueError("these features will not do")

    monkeypatch.setattr("openset_plugins.openmax.scorer.OpenMax.fit", refuse)
    asked = ("--set", "openmax.tail_size=5", "--threshold", "openmax:0.9")
    answer = openset("score", finished, "--plugins", "openmax,energy", *asked)
    assert answer.code == 2
    assert answer.err.endswith(
        "cannot be fitted: these features will not do; it was left out, and the results of the "
        f"others are in {finished}\n"
    )
    assert list(Results.load(finished / "results.json").scorers) == ["msp", "energy"]
    recorded = tomllib.loads((finished / "experiment.toml").read_text(encoding="utf-8"))
    assert recorded["plugins"] == ["softmax", "tiny", "msp", "energy"]
    assert "openmax" not in recorded
    assert recorded["threshold"]["scorers"] == {}
    assert list(recorded["record"]["plugins"]) == ["softmax", "tiny", "msp", "energy"]
    assert openset("score", finished).code == 0


def test_a_run_whose_plugin_is_gone_shows_its_results_and_says_what_to_install(
    finished_once, openset
):
    assert openset("show", finished_once).code == 0
    answer = openset("score", finished_once)
    assert answer.code == 2
    assert answer.err == (
        "error: tiny belongs to openset-tiny 1.0, which is not installed; install openset-tiny\n"
    )


def test_score_adds_scorers_only(finished, openset):
    answer = openset("score", finished, "--plugins", "m2iosr")
    assert answer.code == 2
    assert answer.err == "error: m2iosr is a loss; `openset score` adds scorers only\n"


def test_folder_as_argument_goes_on(finished, openset):
    (finished / "scores.h5").unlink()
    (finished / "results.json").unlink()
    answer = openset("run", finished, "--plugins", "", "--no-report")
    assert answer.code == 0
    assert "extract: skipped" in answer.err
    assert (finished / "results.json").exists()


def test_changed_scorer_options_are_recorded_and_used(finished, recorder):
    before = Results.load(finished / "results.json").scorers["msp"]
    arguments = {**SOFTMAX, "plugins": "softmax,tiny,msp"}
    run = api.run(
        **arguments, set={"msp": {"temperature": 50.0}}, out=finished, observers=[recorder]
    )
    assert recorder.stages()["score"] == "fitted msp"
    assert run.results.scorers["msp"].threshold != before.threshold
    recorded = tomllib.loads((finished / "experiment.toml").read_text())
    assert recorded["msp"]["temperature"] == 50.0


# --- refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 1}, "seed"),
        ({"trial": 1}, "trial"),
        ({"epochs": 1}, "training.epochs"),
        ({"set": {"training": {"lr": 0.3}}}, "training.lr"),
        ({"set": {"tiny": {"width": 8}}}, "tiny.width"),
        ({"plugins": "turns,tiny"}, "turns"),
        ({"protocol": "digits"}, "protocol"),
    ],
)
def test_another_experiment_in_the_folder_is_refused(finished, changes, named):
    before = files_in(finished)
    with pytest.raises(RunFolderError) as caught:
        api.run(**SOFTMAX | changes, out=finished)
    message = str(caught.value)
    assert message.startswith(f"{finished} holds another experiment (different: ")
    differences = re.search(r"different: (.*?)\)", message)[1].split(", ")
    assert named in differences
    assert len(differences) == 1 or "plugins" in changes or "protocol" in changes
    assert "choose another folder with --out" in message
    assert files_in(finished) == before


def test_folder_with_foreign_files_is_refused(tiny, tmp_path):
    (tmp_path / "thesis.tex").write_text("do not lose me")
    with pytest.raises(RunFolderError, match="is not empty and no run folder"):
        api.run(**SOFTMAX, out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_file_in_place_of_the_folder_is_refused(tiny, tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(RunFolderError, match="is a file, not a folder"):
        api.run(**SOFTMAX, out=tmp_path / "run")


@pytest.mark.parametrize("command", ["train", "extract", "score", "show", "run"])
def test_folder_that_is_no_run_is_one_sentence(tmp_path, openset, command):
    answer = openset(command, tmp_path)
    assert answer.code == 2
    assert re.fullmatch(r"error: .*\n", answer.err)
    assert str(tmp_path) in answer.err
    assert answer.out == ""


def test_damaged_experiment_file_is_one_sentence(finished, openset):
    (finished / "experiment.toml").write_text("plugins = [")
    answer = openset("run", finished)
    assert answer.code == 2
    assert re.fullmatch(r"error: experiment .*experiment\.toml is not valid TOML.*\n", answer.err)


def shifted_digits(monkeypatch):
    """From now on the data set holds other pixels."""
    from openset_plugins.datasets import digits

    original = digits.load_digits

    def load(config, request):
        import attrs

        image_set = original(config, request)
        return attrs.evolve(image_set, images=np.roll(image_set.images, 1, axis=2))

    monkeypatch.setattr(digits, "load_digits", load)


def test_changed_data_is_refused_when_training_goes_on(finished, monkeypatch):
    shutil.rmtree(finished / "model")
    shifted_digits(monkeypatch)
    with pytest.raises(DataError, match=r"the data changed since .* was begun"):
        api.run(**SOFTMAX, out=finished)


def test_changed_data_is_refused_when_extracting(finished, monkeypatch):
    (finished / "features.h5").unlink()
    shifted_digits(monkeypatch)
    with pytest.raises(DataError) as caught:
        api.run(**SOFTMAX, out=finished)
    assert "the data of split train changed since" in str(caught.value)
    assert not (finished / "features.h5").exists()


def test_trial_that_does_not_exist(tiny, tmp_path):
    with pytest.raises(ProtocolError, match="there is no trial 9"):
        api.run(**SOFTMAX, trial=9, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


# --- stale and damaged feature stores -----------------------------------------------------------


def retrained_otherwise(folder):
    """Another model of the same experiment, as a training with other libraries would leave."""
    from safetensors.numpy import load_file, save_file

    weights = folder / "model" / "weights.safetensors"
    arrays = load_file(weights)
    arrays["loss.classifier.bias"] = arrays["loss.classifier.bias"][::-1].copy()
    save_file(arrays, weights)
    values = tomllib.loads((folder / "model" / "model.toml").read_text())
    values["weights_sha256"] = sha256(weights)
    write_with_checksum(folder / "model" / "model.toml", values)


def test_store_of_other_weights_is_rebuilt_and_said_so(finished, recorder):
    before = arrays_of(finished / "features.h5")
    retrained_otherwise(finished)
    api.run(**SOFTMAX, out=finished, observers=[recorder])
    stages = recorder.stages()
    assert stages["train"] == "skipped"
    assert "the feature store was stale (weights changed)" in stages["extract"]
    assert stages["score"] == "fitted msp"
    after = arrays_of(finished / "features.h5")
    np.testing.assert_array_equal(
        after["known", "embedding"], before["known", "embedding"], strict=True
    )
    assert (after["known", "logits"] != before["known", "logits"]).any()


def test_store_of_another_version_is_rebuilt_and_said_so(finished, recorder, monkeypatch):
    from openset_core import pipeline as stages
    from openset_core.model import artefact as model

    versions = {**model.library_versions(), "torch": "99.0"}
    monkeypatch.setattr(stages, "library_versions", lambda: versions)
    before = arrays_of(finished / "features.h5")
    api.run(**SOFTMAX, out=finished, observers=[recorder])
    assert "the feature store was stale (torch changed)" in recorder.stages()["extract"]
    for key, array in arrays_of(finished / "features.h5").items():
        np.testing.assert_array_equal(array, before[key])


def test_damaged_store_is_refused_and_rebuilt_when_asked(finished, recorder, openset):
    before = arrays_of(finished / "features.h5")
    junk = b"nonsense" * 100
    (finished / "features.h5").write_bytes(junk)
    with pytest.raises(StoreError, match=r"damaged or not an HDF5 file; .* --rebuild"):
        api.run(**SOFTMAX, out=finished)
    assert (finished / "features.h5").read_bytes() == junk  # it may be somebody's file
    rebuilt = openset("extract", finished, "--rebuild", "--device", "cpu")
    assert rebuilt.code == 0
    assert rebuilt.err.rstrip().endswith("samples; rebuilt as asked")
    api.run(**SOFTMAX, out=finished, observers=[recorder])
    assert recorder.stages()["score"] == "skipped"  # the same features: the scores still stand
    for key, array in arrays_of(finished / "features.h5").items():
        np.testing.assert_array_equal(array, before[key])


def test_stale_store_is_not_scored(finished):
    from openset_core.pipeline import Stages
    from openset_core.run_folder import Runtime, open_folder

    retrained_otherwise(finished)
    folder, resolved = open_folder(finished)
    with pytest.raises(StoreError, match=r"features\.h5 is stale; run `openset extract RUN`"):
        Stages.begin(folder, resolved, Runtime()).score()


def test_altered_weights_are_refused(finished):
    weights = finished / "model" / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ModelError, match=r"its hash is not the one in model\.toml"):
        api.run(**SOFTMAX, out=finished)


# --- experiment files ---------------------------------------------------------------------------


def test_experiment_file_in_place_of_options_is_the_same_experiment(tiny, tmp_path):
    file = tmp_path / "experiment.toml"
    file.write_text(
        'plugins = ["softmax", "tiny", "energy"]\n'
        'protocol = "tiny-digits"\n'
        "trial = 1\n"
        "seed = 4\n"
        "[training]\nlr = 0.02\n"
        "[softmax]\nlatent_dim = 8\n"
        "[energy]\ntemperature = 2.0\n"
    )
    by_file = experiment.resolve(file=file)
    by_options = experiment.resolve(
        "softmax,tiny,energy",
        "tiny-digits",
        1,
        4,
        {"training": {"lr": 0.02}, "softmax": {"latent_dim": 8}, "energy": {"temperature": 2.0}},
    )
    assert by_file.digest == by_options.digest
    assert by_file.to_toml() == by_options.to_toml()
    assert by_file.default_folder_name() == by_options.default_folder_name()
    assert experiment.resolve(file=file, trial=0).digest != by_file.digest


def test_what_a_run_wrote_down_repeats_it(finished, tmp_path):
    repeated = api.run(experiment=finished / "experiment.toml", out=tmp_path / "again")
    assert repeated.experiment.digest == Results.load(finished / "results.json").experiment
    assert repeated.results == Results.load(finished / "results.json")
    weights = "model/weights.safetensors"
    assert sha256(tmp_path / "again" / weights) == sha256(finished / weights)


def test_options_of_a_part_that_is_not_chosen_are_refused(tiny, tmp_path):
    with pytest.raises(ConfigError, match="'m2iosr' are given, which is not part"):
        api.run(**SOFTMAX, set={"m2iosr": {"gamma": 0.1}}, out=tmp_path / "run")


# --- the loop -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("term", "phase", "step"),
    [("fit", "first", 2), ("centre", "second", 3), ("small", "second", 1)],
)
def test_loss_that_turns_nan_stops_the_run(tiny, tmp_path, term, phase, step):
    from openset_core.training import checkpoint

    with pytest.raises(TrainingError) as caught:
        api.run(
            "turns,tiny",
            "tiny-digits",
            epochs=3,
            set={"turns": {"nan_epoch": 2, "nan_term": term, "nan_step": step}},
            out=tmp_path,
            device="cpu",
        )
    assert f"stopped in epoch 2, step {step}: term {term} of phase {phase}" in str(caught.value)
    state = checkpoint.load(tmp_path / "checkpoints")
    assert state["epochs_done"] == 1
    assert all(tensor.isfinite().all() for tensor in state["model"].values())
    assert not (tmp_path / "model").exists()


def test_loss_that_turns_nan_is_one_sentence_on_the_command_line(tiny, tmp_path, openset):
    answer = openset(
        "run", "-p", "turns,tiny", "--protocol", "tiny-digits", "--out", tmp_path / "run",
        "--no-report",
        "--set", "turns.nan_epoch=1", "--device", "cpu", "--quiet",
    )  # fmt: skip
    assert (answer.code, answer.out) == (2, "")
    assert re.fullmatch(r"error: training stopped in epoch 1, step 2: term fit .*\n", answer.err)


@pytest.mark.parametrize(("loss", "phases"), [("softmax", 1), ("turns", 2), ("m2iosr", 2)])
def test_backbone_runs_once_a_phase(tiny, tmp_path, monkeypatch, recorder, loss, phases):
    from openset_tiny.parts import Tiny

    from openset_core.features.extraction import BATCH_SIZE

    calls = {"training": 0, "evaluation": 0}
    forward = Tiny.forward

    def counted(self, images):
        calls["training" if self.training else "evaluation"] += 1
        return forward(self, images)

    monkeypatch.setattr(Tiny, "forward", counted)
    options = {"m2iosr": {"hidden": 16, "global_channels": [8, 8]}} if loss == "m2iosr" else {}
    run = api.run(
        f"{loss},tiny",
        "tiny-digits",
        epochs=2,
        set={"training": {"batch_size": 64}, **options},
        out=tmp_path,
        device="cpu",
        observers=[recorder],
    )
    (started,) = (event for event in recorder.events if isinstance(event, TrainingStarted))
    assert calls["training"] == 2 * started.steps_per_epoch * phases
    batches = [-(-count // BATCH_SIZE["cpu"]) for count in run.results.samples.values()]
    assert calls["evaluation"] == 2 * 1 + sum(batches)  # validation, one batch, after each epoch


def test_epoch_without_an_active_phase_is_refused(tiny, tmp_path, monkeypatch):
    import attrs
    from openset_tiny.parts import Turns

    phases = Turns.phases
    monkeypatch.setattr(
        Turns,
        "phases",
        lambda self, backbone: [
            attrs.evolve(phase, active=lambda epoch, _epochs: epoch == 0)
            for phase in phases(self, backbone)
        ],
    )
    with pytest.raises(TrainingError, match="no phase is active in epoch 2"):
        api.run("turns,tiny", "tiny-digits", out=tmp_path, device="cpu")


def test_a_run_with_its_page_reads_its_data_once(tiny, tmp_path, monkeypatch):
    from openset_core.data import preparation
    from openset_core.pipeline import execute
    from openset_core.run_folder import RunFolder, Runtime

    opened, written = [], []
    read, write = preparation.open_images, RunFolder.write

    def counted(*arguments, **options):
        opened.append(arguments)
        return read(*arguments, **options)

    def noted(folder, values):
        written.append(values)
        write(folder, values)

    monkeypatch.setattr(preparation, "open_images", counted)
    monkeypatch.setattr(RunFolder, "write", noted)
    chosen = experiment.resolve(
        "softmax,tiny", "tiny-digits", overrides={"training": {"epochs": 1}}
    )
    execute(chosen, tmp_path / "run", Runtime(device="cpu"), report=True)
    assert (tmp_path / "run" / "report.html").exists()
    assert len(opened) == 1
    # The experiment; data and device; seconds of training; seconds of the rest.
    assert len(written) == 4
    assert list(written[-1]["record"]["seconds"]) == ["train", "extract", "score"]
    execute(chosen, tmp_path / "run", Runtime(device="cpu"), report=True)
    assert (len(opened), len(written)) == (1, 4)  # all is there
