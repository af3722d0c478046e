"""Observers in the box: log.csv and TensorBoard's event files."""

from __future__ import annotations

import csv
import importlib.util
import json
import re
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import openset_core
from openset_core import NoOptions, api
from openset_core.errors import PluginError, RunFolderError
from openset_core.observers import (
    EpochDone,
    ImagesSeen,
    ParametersRead,
    RunDone,
    RunStarted,
    SamplesDrawn,
    StageDone,
    TrainingStarted,
)
from openset_core.registry import registry
from openset_core.report.data import open_run
from openset_plugins.trackers import TensorBoardOptions
from openset_plugins.trackers.csv_log import CsvLog
from openset_plugins.trackers.tensorboard import TensorBoard, plain_values

needs_tensorboard = pytest.mark.skipif(
    importlib.util.find_spec("tensorboard") is None,
    reason="tensorboard is not installed: pip install 'openset[tensorboard]'",
)


def record(epoch, **terms):
    return {
        "epoch": epoch,
        "terms": {f"fit/{name}": value for name, value in terms.items()},
        "rate": 0.1,
        "validation_accuracy": 0.5 + epoch / 10,
        "seconds": 1.5,
        "images_per_second": 200.0,
    }


def read_csv(folder):
    with (folder / "log.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def begin(first=0, epochs=5):
    return TrainingStarted(
        first_epoch=first, epochs=epochs, steps_per_epoch=3, parameters=1, training_parameters=1,
        device="cpu", precision="fp32",
    )  # fmt: skip


# ---- csv


def test_a_row_an_epoch_from_a_real_run(tiny, tmp_path):
    run = api.run("m2iosr,tiny,csv", "tiny-digits", out=tmp_path / "run", device="cpu",
                  set={"m2iosr": {"hidden": 16, "global_channels": (8, 8)}})  # fmt: skip
    rows = read_csv(run.folder)
    assert [int(row["epoch"]) for row in rows] == [1, 2]
    for row, line in zip(rows, run.history, strict=True):
        assert {name for name in row if "/" in name} == set(line["terms"])
        for name, value in line["terms"].items():
            assert float(row[name]) == value
        for name in ("rate", "validation_accuracy", "seconds", "images_per_second"):
            assert float(row[name]) == line[name]
    assert next(iter(rows[0])) == "epoch"


def test_epochs_done_again_after_an_interruption_stand_once(tmp_path):
    def epoch(number, **terms):
        line = record(number, **terms)
        lines = [json.loads(text) for text in recorded() if json.loads(text)["epoch"] < number]
        (tmp_path / "metrics.jsonl").write_text(
            "".join(json.dumps(item) + "\n" for item in [*lines, line])
        )
        log.receive(EpochDone(epoch=number - 1, record=line))

    def recorded():
        path = tmp_path / "metrics.jsonl"
        return path.read_text().splitlines() if path.exists() else []

    log = CsvLog(NoOptions(), tmp_path)
    for number in (1, 2, 3):
        epoch(number, loss=1.0 / number)
    log.close()
    log = CsvLog(NoOptions(), tmp_path)  # epoch 3 was cut off before its checkpoint
    epoch(3, loss=0.25, late=2.0)
    epoch(4, loss=0.2, late=1.0)
    rows = read_csv(tmp_path)
    assert [(row["epoch"], row["fit/loss"], row["fit/late"]) for row in rows] == [
        ("1", "1.0", ""),
        ("2", "0.5", ""),
        ("3", "0.25", "2.0"),
        ("4", "0.2", "1.0"),
    ]
    assert list(rows[0])[:4] == ["epoch", "fit/loss", "fit/late", "rate"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.csv", "metrics.jsonl"]


def test_a_run_that_was_trained_before_gets_its_log(tiny, finished, openset):
    assert not (finished / "log.csv").exists()
    code, _out, err = openset("run", finished, "-p", "softmax,tiny,csv", "--device", "cpu")
    assert code == 0, err
    assert [row["epoch"] for row in read_csv(finished)] == ["1", "2"]


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "log.csv").mkdir()
    with pytest.raises(RunFolderError, match=r"log\.csv"):
        CsvLog(NoOptions(), tmp_path).receive(EpochDone(epoch=0, record=record(1, loss=1.0)))


# ---- tensorboard


def events_of(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(
        str(folder / "tensorboard"), size_guidance={"images": 0, "histograms": 0}
    )
    found.Reload()
    return found


def series(found, tag):
    return [(event.step, pytest.approx(event.value)) for event in found.Scalars(tag)]


@needs_tensorboard
def test_a_real_run_is_read_back(tiny, tmp_path, openset):
    code, _out, err = openset(
        "run", "-p", "softmax,tiny,confused-gan,tensorboard", "--protocol", "digits",
        "--epochs", "2", "--out", tmp_path / "run", "--device", "cpu",
        "--set", "confused-gan.width=4", "--set", "training.batch_size=256",
    )  # fmt: skip
    assert code == 0, err
    run = api.load_run(tmp_path / "run")
    found = events_of(run.folder)
    tags = found.Tags()
    first = run.history[0]
    for name in first["terms"]:
        assert [(1, first["terms"][name]), (2, run.history[1]["terms"][name])] == series(
            found, f"loss/{name}"
        )
    for name in ("rate", "validation_accuracy", "images_per_second"):
        assert [(line["epoch"], line[name]) for line in run.history] == series(found, name)
    histograms = {tag for tag in tags["histograms"] if tag.startswith("parameters/")}
    assert "parameters/loss.classifier.weight" in histograms
    assert len({tag.split(".")[0] for tag in histograms}) == 3  # backbone, loss and generator
    for tag in histograms:
        first, second = found.Histograms(tag)
        assert (first.step, second.step) == (1, 2)
        assert 0 < first.histogram_value.num <= 10_000
    weights = found.Histograms("parameters/loss.classifier.weight")
    assert weights[0].histogram_value.sum != weights[1].histogram_value.sum
    with open_run(run.folder) as opened:
        for part in (opened.known, *opened.unknown):
            (event,) = found.Histograms(f"scores/msp/{part.name}")
            assert (event.step, event.histogram_value.num) == (2, len(part))
            assert event.histogram_value.sum == pytest.approx(part.scores["msp"].sum())
    assert [event.step for event in found.Images("images")] == [1]
    assert [event.step for event in found.Images("samples")] == [1, 2]
    assert found.Images("samples")[0].width == 8 * 32  # 64 images of 32 pixels in a grid
    metrics = run.results.scorers["msp"].metrics
    assert series(found, "test/msp/auroc") == [(2, metrics["auroc"])]
    assert "seconds/train" in tags["scalars"]
    hyperparameters = found.SummaryMetadata("_hparams_/session_start_info")
    assert hyperparameters.plugin_data.plugin_name == "hparams"


@needs_tensorboard
def test_going_on_takes_back_what_was_written_after_the_last_checkpoint(tmp_path):
    def training(first, epochs):
        board = registry().find("tensorboard").load()(TensorBoardOptions(), tmp_path)
        board.receive(begin(first))
        for number, loss in epochs:
            board.receive(EpochDone(epoch=number - 1, record=record(number, loss=loss)))
        board.close()

    training(0, [(1, 1.0), (2, 0.9), (3, 0.8)])
    training(2, [(3, 0.5), (4, 0.4)])
    assert series(events_of(tmp_path), "loss/fit/loss") == [
        (1, 1.0), (2, 0.9), (3, 0.5), (4, 0.4),
    ]  # fmt: skip


@needs_tensorboard
def test_the_flag_names_the_observer_beside_what_was_chosen(tiny, finished, tmp_path, openset):
    run = ("--protocol", "tiny-digits", "--epochs", "1", "--device", "cpu")
    code, out, err = openset(
        "run", "-p", "gcpl,tiny", *run, "--out", tmp_path / "new", "--tensorboard"
    )
    assert code == 0, err
    assert "tensorboard/ " in out
    assert "loss/classification/cross_entropy" in events_of(tmp_path / "new").Tags()["scalars"]
    code, _out, err = openset("run", finished, "--device", "cpu", "--tensorboard")
    assert code == 0, err  # a finished run keeps its parts and gets its metrics
    assert "test/msp/auroc" in events_of(finished).Tags()["scalars"]
    code, _out, err = openset("run", finished, "--device", "cpu", "--tensorboard")
    assert code == 0, err


class Recorder:
    """Stands for SummaryWriter."""

    def __init__(self, folder, purge_step=None):
        self.calls = [("made", folder, purge_step)]

    def __getattr__(self, name):
        return lambda *values, **named: self.calls.append((name, *values, named))


def board_of(tmp_path, **options):
    made = []

    def make(*values, **named):
        made.append(Recorder(*values, **named))
        return made[-1]

    return TensorBoard(TensorBoardOptions(**options), tmp_path, make), made


def test_every_event_goes_where_it_belongs(tmp_path):
    board, made = board_of(tmp_path)
    images = np.zeros((4, 8, 8, 1), dtype=np.uint8)
    board.receive(RunStarted(folder=tmp_path, experiment={"seed": 3, "plugins": ["a", "b"]}))
    assert made == []
    board.receive(begin())
    board.receive(SamplesDrawn(epoch=0, images=images))
    board.receive(EpochDone(epoch=0, record=record(1, loss=2.0)))
    board.receive(StageDone(stage="train", seconds=4.0, detail=""))
    board.receive(StageDone(stage="extract", seconds=4.0, detail="", skipped=True))
    scorers = {"msp": {"metrics": {"auroc": 0.9, "by_part": {"x": 1.0}}}}
    board.receive(RunDone(folder=tmp_path, results={"epochs": 1, "scorers": scorers}))
    board.close()
    (writer,) = made
    assert ("made", str(tmp_path / "tensorboard"), None) in writer.calls
    assert ("add_images", "samples", images, 1, {"dataformats": "NHWC"}) in writer.calls
    assert ("add_scalar", "loss/fit/loss", 2.0, 1, {}) in writer.calls
    assert ("add_scalar", "seconds/train", 4.0, 1, {}) in writer.calls
    assert not any(call[1] == "seconds/extract" for call in writer.calls)
    assert (
        "add_hparams",
        {"seed": 3, "plugins": "a,b"},
        {"test/msp/auroc": 0.9},
        {"run_name": ".", "global_step": 1},
    ) in writer.calls
    assert writer.calls[-1] == ("close", {})


def test_images_and_histograms_can_be_left_out(tmp_path):
    assert board_of(tmp_path)[0].wants == (ImagesSeen, SamplesDrawn, ParametersRead)
    assert board_of(tmp_path, samples=False)[0].wants == (ParametersRead,)
    assert board_of(tmp_path, samples=False, histograms=False)[0].wants == ()


def test_numbers_that_are_not_finite_stay_out_of_histograms(tmp_path):
    board, made = board_of(tmp_path)
    values = {"a": np.array([1.0, np.inf, 2.0, np.nan]), "b": np.array([np.nan])}
    board.receive(ParametersRead(epoch=2, values=values))
    ((name, tag, kept, step, _named),) = made[0].calls[1:]
    assert (name, tag, kept.tolist(), step) == ("add_histogram", "parameters/a", [1.0, 2.0], 3)


def test_options_are_plain_values():
    assert plain_values({"a": {"b": {"c": True}}, "d": [1, 2], "e": None}) == {
        "a.b.c": True,
        "d": "1,2",
    }


def test_without_tensorboard_one_sentence_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(PluginError, match=r"not installed: pip install 'openset\[tensorboard\]'"):
        registry().find("tensorboard").load()(TensorBoardOptions(), tmp_path)


def test_listing_the_observers_imports_neither_torch_nor_tensorboard():
    code = (
        "import sys; from openset_core.registry import registry; "
        "print([part.name for part in registry().of_kind('observer')], "
        "{'torch', 'tensorboard'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout == "['by-epoch', 'csv', 'tensorboard'] set()\n", done.stderr


# ---- the guide's sketch


def test_the_sketch_of_another_tracker_works(tiny, tmp_path, monkeypatch):
    """MLflow's own functions are stood for by notes of what they are called with."""
    guide = Path(openset_core.__file__).parent.parent / "openset_core" / "README.md"
    (code,) = re.findall(r"```python\n(import mlflow\n.*?)```", guide.read_text("utf-8"), re.DOTALL)
    calls = []

    def noted(name):
        return lambda *values, **named: calls.append((name, values, named))

    names = ("start_run", "log_params", "log_metrics", "log_metric", "end_run")
    stub = types.SimpleNamespace(**{name: noted(name) for name in names})
    monkeypatch.setitem(sys.modules, "mlflow", stub)
    space = {}
    exec(compile(code, "README.md", "exec"), space)
    tracker = space["MLflow"](None, tmp_path / "run")
    run = api.run(
        "softmax,tiny", "tiny-digits", out=tmp_path / "run", device="cpu", observers=[tracker]
    )
    assert [name for name, _values, _named in calls] == [
        "start_run", "log_params", "log_metrics", "log_metrics", "log_metric", "end_run",
    ]  # fmt: skip
    assert calls[0][2] == {"run_name": "run"}
    assert calls[3][2] == {"step": 2}
    auroc = run.results.scorers["msp"].metrics["auroc"]
    assert calls[4][1] == ("auroc/msp", auroc)
