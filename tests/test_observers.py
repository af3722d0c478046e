"""Events: who wants which, looks at generated samples, and events of another process."""

from __future__ import annotations

import multiprocessing

import numpy as np
import pytest
import torch
from torch import nn

from openset_core import SampleGenerator, api
from openset_core.components import OpenSetModel
from openset_core.data.loading import PixelScale
from openset_core.errors import RunFolderError
from openset_core.experiment.protocol import ImageOptions
from openset_core.model.artefact import load_model
from openset_core.observers import (
    EpochDone,
    ImagesSeen,
    Observer,
    Observers,
    ParametersRead,
    RunEvent,
    SamplesDrawn,
    StageDone,
)
from openset_core.training.event_relay import relayed
from openset_core.training.sample_history import SampleHistoryRecorder, read_sample_history
from openset_core.training.samples import SAMPLES, draw_samples, parameter_values


class Notes(Observer):
    """Keeps what it is told."""

    def __init__(self, wants=()):
        self.wants = wants
        self.events = []

    def receive(self, event):
        self.events.append(event)


class Scribble(SampleGenerator):
    """Draws from every random generator and has batch statistics."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3 * 4 * 4)

    def sample(self, count):
        noise = torch.randn(count, 48) + float(np.random.rand())
        return self.norm(noise).reshape(count, 3, 4, 4)


def test_only_what_some_observer_wants_is_wanted():
    assert not Observers([Notes()]).want(SamplesDrawn)
    assert Observers([Notes(), Notes(wants=(SamplesDrawn,))]).want(SamplesDrawn)


def test_a_look_at_samples_leaves_no_trace():
    generator = Scribble().train()
    model = OpenSetModel(nn.Identity(), nn.Identity(), generator)
    image = ImageOptions(size=4, channels=3, mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2))
    scale = PixelScale(image, torch.device("cpu"))
    torch.manual_seed(3)
    np.random.seed(3)
    before = {key: value.clone() for key, value in generator.state_dict().items()}
    expected = torch.rand(3), np.random.rand()
    torch.manual_seed(3)
    np.random.seed(3)
    first = draw_samples(model, scale, torch.autocast("cpu", enabled=False))
    assert torch.equal(torch.rand(3), expected[0])
    assert np.random.rand() == expected[1]
    assert all(torch.equal(before[key], value) for key, value in generator.state_dict().items())
    assert generator.training
    assert generator.norm.training
    assert (first.dtype, first.shape) == (np.uint8, (SAMPLES, 4, 4, 3))
    again = draw_samples(model, scale, torch.autocast("cpu", enabled=False))
    np.testing.assert_array_equal(first, again)


def test_looks_show_pixels_as_they_were_before_preprocessing():
    class Copy(SampleGenerator):
        def sample(self, count):
            pixels = torch.arange(48, dtype=torch.uint8).reshape(1, 3, 4, 4)
            return scale(pixels.expand(count, -1, -1, -1))

    image = ImageOptions(size=4, channels=3, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
    scale = PixelScale(image, torch.device("cpu"))
    model = OpenSetModel(nn.Identity(), nn.Identity(), Copy())
    images = draw_samples(model, scale, torch.autocast("cpu", enabled=False))
    expected = np.arange(48).reshape(3, 4, 4).transpose(1, 2, 0)
    np.testing.assert_array_equal(images[7], expected)


def weights(folder):
    model, _description = load_model(folder / "model")
    return torch.cat([value.flatten().double() for value in model.state_dict().values()])


def test_training_is_the_same_to_the_last_bit_whoever_looks(tiny, tmp_path, monkeypatch):
    looker = Notes(wants=(SamplesDrawn, ImagesSeen, ParametersRead))
    blind = Notes()
    made = {}
    for name, observer in (("looked", looker), ("blind", blind)):
        made[name] = tmp_path / name
        if observer is blind:  # the run folder's own record of samples looks, too
            monkeypatch.setattr(SampleHistoryRecorder, "wants", ())
        api.run(
            "softmax,tiny,confused-gan", "digits", epochs=2, out=made[name], device="cpu",
            set={"confused-gan": {"width": 4}, "training": {"batch_size": 256}},
            observers=[observer],
        )  # fmt: skip
    assert torch.equal(weights(made["looked"]), weights(made["blind"]))
    looks = [event for event in looker.events if isinstance(event, SamplesDrawn)]
    assert [look.epoch for look in looks] == [0, 1]
    assert looks[0].images.shape == (SAMPLES, 32, 32, 1)
    assert (looks[0].images != looks[1].images).any()
    (seen,) = (event for event in looker.events if isinstance(event, ImagesSeen))
    assert (seen.epoch, seen.images.shape) == (0, (SAMPLES, 32, 32, 1))
    assert np.ptp(seen.images) > 200  # digits, not their normalised values
    read = [event for event in looker.events if isinstance(event, ParametersRead)]
    assert [event.epoch for event in read] == [0, 1]
    state = load_model(made["looked"] / "model")[0].state_dict()
    name = "loss.classifier.weight"
    np.testing.assert_array_equal(read[1].values[name], state[name].flatten())
    assert (read[0].values[name] != read[1].values[name]).any()
    costly = (SamplesDrawn, ImagesSeen, ParametersRead)
    assert not any(isinstance(event, costly) for event in blind.events)
    kept = read_sample_history(made["looked"] / "looks.h5")
    assert kept.epochs.tolist() == [1, 2]
    assert (kept.images[1] == looks[1].images).all()
    assert read_sample_history(made["blind"] / "looks.h5") is None


def test_without_a_generator_nothing_is_drawn(tiny, tmp_path):
    looker = Notes(wants=(SamplesDrawn,))
    api.run("softmax,tiny", "tiny-digits", out=tmp_path / "run", device="cpu", observers=[looker])
    assert not any(isinstance(event, SamplesDrawn) for event in looker.events)


def test_of_a_large_parameter_some_numbers_are_read():
    module = nn.Linear(50, 41)
    module.bias.requires_grad_(False)
    (values,) = parameter_values(module, most=100).values()
    np.testing.assert_array_equal(values, module.weight.detach().flatten()[::21])
    assert 50 < len(values) <= 100


# ---- events of another process


def tell(relay, count):
    observer = relay
    for number in range(count):
        observer.receive(EpochDone(epoch=number, record={"epoch": number + 1}))
    images = np.full((5, 200, 200, 3), 7, dtype=np.uint8)  # more than a pipe holds
    observer.receive(SamplesDrawn(epoch=count, images=images))
    relay.connection.close()


def test_events_of_another_process_arrive_once_and_in_order():
    notes = Notes(wants=(SamplesDrawn,))
    with relayed(Observers([notes, Notes()])) as relay:
        assert relay.wants == (SamplesDrawn,)
        process = multiprocessing.get_context("spawn").Process(target=tell, args=(relay, 20))
        process.start()
        process.join(120)
    assert process.exitcode == 0
    assert [event.epoch for event in notes.events] == list(range(21))
    assert notes.events[-1].images.sum() == 7 * 5 * 200 * 200 * 3


def test_what_an_observer_raises_comes_back_when_training_has_ended():
    class Full(Notes):
        def receive(self, event):
            super().receive(event)
            raise RunFolderError("the disk is full")

    full = Full()
    event = StageDone(stage="train", seconds=1.0, detail="")

    def train():
        with relayed(Observers([full])) as relay:
            relay.receive(event)
            relay.receive(event)

    with pytest.raises(RunFolderError, match="the disk is full"):
        train()
    assert full.events == [event]


def test_an_error_while_training_is_not_hidden_and_the_listener_ends():
    notes = Notes()
    ends = []

    def train():
        with relayed(Observers([notes])) as relay:
            ends.append(relay)
            relay.receive(RunEvent())
            raise KeyError("x")

    with pytest.raises(KeyError):
        train()
    ends[0].receive(RunEvent())  # nobody listens: no harm
    assert len(notes.events) == 1
