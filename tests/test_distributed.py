"""Data-parallel training: two processes on one CPU end with the same weights."""

from __future__ import annotations

import hashlib
import logging
import re
import signal

import pytest
import torch

from openset_core import api, run_folder
from openset_core.cli import main
from openset_core.data.images import data_root
from openset_core.data.loading import MemoryLoader
from openset_core.data.preparation import prepare_data
from openset_core.model.artefact import load_model

PATIENCE = 240.0
"""Seconds for three processes that each load torch, on a machine that has other work too."""


def test_two_processes_train_one_model(tiny, tmp_path, start):
    folder, traces = tmp_path / "run", tmp_path / "traces"
    traces.mkdir()
    process = start(
        "run", "-p", "m2iosr,tiny,event-log", "--protocol", "tiny-digits",
        "--out", folder, "--epochs", "2",
        "--set", "m2iosr.hidden=16", "--set", "m2iosr.global_channels=[8,8]",
        "--set", "training.batch_size=64", "--precision", "fp32",
        "--devices", "2", "--device", "cpu",
        OPENSET_TINY_TRACE=str(traces),
    )  # fmt: skip
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert "m2iosr on tiny" in out
    assert "Warning" not in err
    for number in (1, 2):  # one process speaks
        assert len(re.findall(rf"^epoch {number}/2: ", err, flags=re.MULTILINE)) == 1
    finished = api.load_run(folder)
    assert [line["epoch"] for line in finished.history] == [1, 2]
    told = [line for line in (folder / "events.log").read_text().split() if line != "StepsDone"]
    assert told == [
        *("RunStarted", "TrainingStarted", "EpochDone", "EpochDone"),
        *("StageDone", "StageDone", "StageDone", "StageDone", "RunDone", "closed"),
    ]

    model, description = load_model(folder / "model")
    digest = hashlib.sha256()
    for parameter in model.backbone.parameters():
        digest.update(parameter.detach().numpy().tobytes())
    assert (traces / "0").read_text() == (traces / "1").read_text() == digest.hexdigest()

    protocol = finished.experiment.protocol
    data = prepare_data(protocol, 0, data_root())
    loader = MemoryLoader(data.splits["known"], description.image, torch.device("cpu"), 64)
    with torch.inference_mode():
        right = sum(
            int((model(images)[1].argmax(dim=1) == labels).sum())
            for images, labels, _index in loader.in_order()
        )
    accuracy = right / loader.samples
    assert accuracy == finished.results.scorers["msp"].metrics["accuracy"]
    assert accuracy > 0.4  # of three classes: both shares of each batch were learnt from


def test_what_stops_a_worker_comes_back_as_one_sentence(finished, tmp_path, capfd, monkeypatch):
    folder = tmp_path / "run"
    resolved = api.load_run(finished).experiment
    claimed, _ = run_folder.initialize_folder(folder, resolved)
    recorded = claimed.read()
    recorded["record"]["data"] = {"train": {"samples": 7}}
    claimed.write(recorded)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setenv("TORCH_CPP_LOG_LEVEL", "ERROR")  # else the launcher would leave it set
    with pytest.raises(SystemExit) as ended:
        main(["run", str(folder), "--devices", "2", "--device", "cpu", "--quiet"])
    assert ended.value.code == 2
    out, err = capfd.readouterr()
    assert (out, err) == (
        "",
        f"error: the data changed since {folder} was begun; bring back the old data, or choose "
        "another folder with --out\n",
    )
    assert [path.name for path in folder.iterdir()] == ["experiment.toml"]
    assert handlers == {number: signal.getsignal(number) for number in handlers}
    assert logging.root.manager.disable == logging.NOTSET


@pytest.mark.slow
def test_loss_that_turns_nan_in_a_worker_is_one_sentence(tiny, tmp_path, start):
    folder = tmp_path / "run"
    process = start(
        "run", "-p", "turns,tiny", "--protocol", "tiny-digits", "--out", folder,
        "--set", "turns.nan_epoch=2", "--set", "turns.nan_term=small", "--quiet",
        "--devices", "2", "--device", "cpu",
    )  # fmt: skip
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (2, "")
    assert re.fullmatch(
        r"error: training stopped in epoch 2, step 2: term small of phase second .*\n", err
    )
    assert sorted(path.name for path in folder.iterdir()) == [
        "checkpoints",
        "experiment.toml",
        "metrics.jsonl",
    ]


def test_batches_too_small_for_the_processes_are_refused(tiny, tmp_path):
    from openset_core.errors import CompositionError
    from openset_core.experiment.training_options import TrainingOptions
    from openset_core.training.train import _check_batches

    options = TrainingOptions(batch_size=6)
    _check_batches(100, options, 3)
    with pytest.raises(CompositionError, match="gives 4 devices less than two images each"):
        _check_batches(100, options, 4)
    with pytest.raises(CompositionError, match="5 training images are too few for 3 devices"):
        _check_batches(5, options, 3)
