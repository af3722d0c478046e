"""Interrupted runs go on where they stopped, and end bit for bit as if nothing had happened."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import signal
import time
from functools import cache
from pathlib import Path

import h5py
import numpy as np
import pytest

from openset_core import api, pipeline
from openset_core.cli.common import interruptible
from openset_core.errors import Interrupted, ModelError, TrainingError
from openset_core.features.store import FeatureStore
from openset_core.files import sha256
from openset_core.observers import Observer, TrainingStarted
from openset_core.run_folder import Runtime
from openset_core.training.checkpoint import FORMAT

EPOCHS = 3
PATIENCE = 300.0
"""Seconds that a child process is waited for, on a machine that has other work too."""

OPTIONS = {
    "softmax": {"training": {"crop_padding": 2, "flip": True, "precision": "fp32"}},
    "m2iosr": {
        "training": {"crop_padding": 2, "precision": "fp32"},
        "m2iosr": {"hidden": 16, "global_channels": [8, 8]},
    },
}
SAMPLES_OF = ("train", "validation", "known", "unknown/near", "unknown/far")


def assignments(loss):
    return [
        argument
        for section, values in OPTIONS[loss].items()
        for key, value in values.items()
        for argument in ("--set", f"{section}.{key}={json.dumps(value)}")
    ]


def run(loss, out, **arguments):
    return api.run(
        f"{loss},tiny",
        "tiny-digits",
        epochs=EPOCHS,
        set=OPTIONS[loss],
        out=out,
        device="cpu",
        **arguments,
    )


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """`uninterrupted(loss)`: folder of a run that nothing disturbed; call it within `tiny`."""

    @cache
    def make(loss):
        return run(loss, tmp_path_factory.mktemp(loss)).folder

    return make


class FirstEpoch(Observer):
    """Notes after how many finished epochs training began."""

    epoch = None

    def receive(self, event):
        if isinstance(event, TrainingStarted):
            self.epoch = event.first_epoch


def wait_for(processes, happened):
    deadline = time.monotonic() + PATIENCE
    while not happened():
        for process in processes:
            assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def same_run(first, second):
    """Whether two folders hold the same model, features, scores and history."""
    weights = "model/weights.safetensors"
    assert sha256(first / weights) == sha256(second / weights)  # a diff of bytes takes for ever
    with FeatureStore(first / "features.h5") as one, FeatureStore(second / "features.h5") as other:
        assert (one.key, sorted(one.splits)) == (other.key, sorted(SAMPLES_OF))
        for part in one.splits:
            for name in ("embedding", "logits", "label", "index"):
                np.testing.assert_array_equal(one.array(part, name), other.array(part, name))
    histories = [
        [
            {key: value for key, value in line.items() if "second" not in key}
            for line in api.load_run(folder).history
        ]
        for folder in (first, second)
    ]
    assert histories[0] == histories[1]
    assert len(histories[0]) == EPOCHS
    assert api.load_run(first).results == api.load_run(second).results
    return True


# --- killed ---------------------------------------------------------------------------------------


def test_killed_training_goes_on_bit_for_bit(tiny, tmp_path, start, uninterrupted):
    expected = {loss: uninterrupted(loss) for loss in OPTIONS}
    folders = {loss: tmp_path / loss for loss in OPTIONS}
    processes = {
        loss: start(
            "run", "-p", f"{loss},tiny", "--protocol", "tiny-digits", "--out", folder,
            "--epochs", EPOCHS, "--no-report", "--device", "cpu", *assignments(loss),
            OPENSET_TINY_SLEEP="0.15",
        )
        for loss, folder in folders.items()
    }  # fmt: skip
    # Both at once, since importing torch is most of what they do.
    checkpoints = {loss: folder / "checkpoints" / "last.pt" for loss, folder in folders.items()}
    while processes:
        wait_for(processes.values(), lambda: any(checkpoints[loss].exists() for loss in processes))
        time.sleep(0.25)  # into the next epoch, which is then lost
        for loss in [loss for loss in processes if checkpoints[loss].exists()]:
            process = processes.pop(loss)
            process.kill()
            assert process.wait() == -signal.SIGKILL
    for loss, folder in folders.items():
        assert not (folder / "model").exists()
        first_epoch = FirstEpoch()
        run(loss, folder, observers=[first_epoch])
        assert 1 <= first_epoch.epoch < EPOCHS
        assert same_run(folder, expected[loss])
        assert not (folder / "checkpoints").exists()
        assert not list(folder.rglob("*.partial"))


def test_killed_extraction_goes_on(finished, tmp_path, start, monkeypatch):
    from openset_tiny.parts import Tiny

    expected = shutil.copytree(finished, tmp_path / "expected")
    (finished / "features.h5").unlink()
    partial = finished / ".features.h5.partial"
    process = start("extract", finished, "--device", "cpu", OPENSET_TINY_SLEEP="0.3")

    def first_part_is_there():
        unreadable = contextlib.suppress(OSError, KeyError, RuntimeError)
        with unreadable, h5py.File(partial, "r", locking=False) as file:
            return bool(file["parts/train"].attrs.get("complete"))
        return False

    wait_for([process], first_part_is_there)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (finished / "features.h5").exists()

    passes = []
    forward = Tiny.forward
    monkeypatch.setattr(
        Tiny, "forward", lambda self, images: passes.append(len(images)) or forward(self, images)
    )
    api.run("softmax,tiny", "tiny-digits", out=finished, device="cpu")
    with (
        FeatureStore(finished / "features.h5") as new,
        FeatureStore(expected / "features.h5") as old,
    ):
        assert (new.key, new.splits) == (old.key, old.splits)
        for part in new.splits:
            for name in ("embedding", "logits", "label", "index"):
                np.testing.assert_array_equal(new.array(part, name), old.array(part, name))
        done_again = sum(passes)
        assert 0 < done_again <= sum(new.rows(part) for part in new.splits if part != "train")
    assert not partial.exists()


# --- stopped --------------------------------------------------------------------------------------


def test_ctrl_c_says_how_to_go_on_and_that_works(tiny, tmp_path, start, openset, uninterrupted):
    folder = tmp_path / "run"
    process = start(
        "run", "-p", "softmax,tiny", "--protocol", "tiny-digits", "--out", folder,
        "--epochs", EPOCHS, "--no-report", "--device", "cpu", "--quiet", *assignments("softmax"),
        OPENSET_TINY_SLEEP="0.1",
    )  # fmt: skip
    wait_for([process], (folder / "checkpoints" / "last.pt").exists)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (2, "")
    notice, sentence = err.strip().splitlines()
    assert notice == "stopping after this step (Ctrl-C again stops at once)"
    advised = re.fullmatch(
        r"error: interrupted; what was finished is kept, go on with: openset (.*)", sentence
    )
    assert advised[1] == f"run {folder}"
    assert openset(*advised[1].split()).code == 0
    assert same_run(folder, uninterrupted("softmax"))


STEPS = 5  # of an epoch


@pytest.mark.parametrize(
    ("calls", "epochs_kept"),
    [
        (2, 0),  # within the first epoch
        (STEPS, 0),  # after its last step, before its checkpoint
        (STEPS + 1, 1),  # after its checkpoint
        (STEPS + 4, 1),  # within the second epoch
        (3 * STEPS + 2 + 3, 3),  # while features are extracted
    ],
)
def test_stopped_anywhere_the_end_is_the_same(tiny, tmp_path, uninterrupted, calls, epochs_kept):
    expected = uninterrupted("softmax")
    resolved = api.load_run(expected).experiment
    asked = 0

    def stop_at_last():
        nonlocal asked
        asked += 1
        if asked == calls:
            raise Interrupted("interrupted")

    runtime = Runtime(device="cpu", should_stop=stop_at_last)
    with pytest.raises(Interrupted):
        pipeline.execute(resolved, tmp_path, runtime)
    trained = (tmp_path / "model" / "model.toml").exists()
    assert trained is (epochs_kept == EPOCHS)
    assert (tmp_path / "checkpoints" / "last.pt").exists() is (0 < epochs_kept < EPOCHS)
    first_epoch = FirstEpoch()
    run("softmax", tmp_path, observers=[first_epoch])
    assert first_epoch.epoch == (None if trained else epochs_kept)
    assert same_run(tmp_path, expected)


def test_first_ctrl_c_waits_for_the_step_and_the_second_does_not(capsys):
    before = signal.getsignal(signal.SIGINT)
    with interruptible(lambda: Path("runs/mine")) as should_stop:
        should_stop()
        signal.raise_signal(signal.SIGINT)
        assert "stopping after this step" in capsys.readouterr().err
        with pytest.raises(Interrupted, match="go on with: openset run runs/mine"):
            should_stop()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


# --- damaged checkpoints ------------------------------------------------------------------------


@pytest.fixture
def halted(tiny, tmp_path, uninterrupted):
    """A run folder that was stopped after its first epoch, and its checkpoint."""
    resolved = api.load_run(uninterrupted("softmax")).experiment
    folder = tmp_path / "halted"

    def stop_after_first_epoch():
        if (folder / "checkpoints" / "last.pt").exists():
            raise Interrupted("interrupted")

    with pytest.raises(Interrupted):
        pipeline.execute(
            resolved, folder, Runtime(device="cpu", should_stop=stop_after_first_epoch)
        )
    return folder, folder / "checkpoints" / "last.pt"


class Harmful:
    """Pickles as a call that leaves a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def flip_a_weight(path):
    import torch

    state = torch.load(path, weights_only=True)
    wanted = state["model"]["loss.classifier.weight"].numpy().tobytes()
    content = bytearray(path.read_bytes())
    place = content.find(wanted)
    assert place > 0
    content[place + 2] ^= 0x10
    path.write_bytes(content)


def save_other(path):
    import torch

    torch.save({"weights": torch.zeros(3)}, path)


def save_harmful(path):
    import torch

    torch.save({"format": FORMAT, "model": Harmful(path.with_name("harm"))}, path)


DAMAGE = {
    "empty": lambda path: path.write_bytes(b""),
    "garbage": lambda path: path.write_bytes(b"nonsense" * 300),
    "zeros": lambda path: path.write_bytes(bytes(3000)),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "cut at the end": lambda path: path.write_bytes(path.read_bytes()[:-40]),
    "weight changed": flip_a_weight,
    "another file of torch": save_other,
    "harmful": save_harmful,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_damaged_checkpoint_is_one_sentence(halted, openset, damage):
    folder, checkpoint = halted
    damage(checkpoint)
    answer = openset("run", folder, "--device", "cpu", "--quiet", "--no-report")
    assert answer.code == 2
    assert re.fullmatch(r"error: checkpoint .*; delete it to train from the start\n", answer.err)
    assert str(checkpoint) in answer.err
    assert [path.name for path in checkpoint.parent.iterdir()] == ["last.pt"]


def test_deleting_a_damaged_checkpoint_trains_from_the_start(halted, uninterrupted):
    folder, checkpoint = halted
    checkpoint.write_bytes(b"nonsense")
    with pytest.raises(ModelError):
        run("softmax", folder)
    checkpoint.unlink()
    first_epoch = FirstEpoch()
    run("softmax", folder, observers=[first_epoch])
    assert first_epoch.epoch == 0
    assert same_run(folder, uninterrupted("softmax"))


@pytest.mark.parametrize("lost", ["model", "optimizers", "order", "random", "epochs_done"])
def test_checkpoint_of_something_else_is_refused(halted, lost):
    import torch

    folder, checkpoint = halted
    state = torch.load(checkpoint, weights_only=True)
    del state[lost]
    torch.save(state, checkpoint)
    with pytest.raises(TrainingError, match="does not fit this experiment"):
        run("softmax", folder)
