"""Image sets, splits, the parts of a trial, and loaders."""

from __future__ import annotations

import os
from itertools import chain
from pathlib import Path

import attrs
import numpy as np
import pytest
import torch
from PIL import Image

from openset_core import DatasetSpec, ImageSet
from openset_core.data import splits
from openset_core.data.augmentation import Augmentation
from openset_core.data.datasets import request_images
from openset_core.data.images import ROOT_VARIABLE, DataRequest, data_root, missing_data
from openset_core.data.loading import MemoryLoader, PixelScale
from openset_core.data.preparation import DataSplit, prepare_data
from openset_core.data.resizing import resized
from openset_core.errors import DataError, PluginError, ProtocolError
from openset_core.experiment.protocol import ImageOptions, load_protocol
from openset_core.registry import Component, Registry

CPU = torch.device("cpu")


def load_images(name, split, root, download=False, plugins=None, options=None, **wanted):
    """A split, all images read."""
    request = DataRequest(part=split, root=root, download=download, **wanted)
    return request_images(name, request, plugins, options)


def image_set(count=12, side=4, channels=1, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    return ImageSet(
        images=rng.integers(0, 256, (count, side, side, channels), dtype=np.uint8),
        labels=np.arange(count, dtype=np.int64) % classes,
        classes=tuple("abcdefghij"[:classes]),
    )


# ---- image sets


@pytest.mark.parametrize(
    ("images", "labels", "reason"),
    [
        (np.zeros((2, 4, 4, 1)), np.zeros(2, np.int64), "uint8 [N, H, W, C], not float64"),
        (np.zeros((2, 4, 4), np.uint8), np.zeros(2, np.int64), "not uint8 [2, 4, 4]"),
        (np.zeros((2, 4, 4, 2), np.uint8), np.zeros(2, np.int64), "1 or 3 channels, not 2"),
        (np.zeros((2, 4, 4, 1), np.uint8), np.zeros(2, np.int32), "int64 [N], not int32"),
        (np.zeros((2, 4, 4, 1), np.uint8), np.zeros(3, np.int64), "not int64 [3]"),
    ],
)
def test_arrays_of_another_form_are_refused(images, labels, reason):
    with pytest.raises(DataError) as raised:
        ImageSet(images=images, labels=labels, classes=("a",))
    assert reason in str(raised.value)


def test_the_fingerprint_follows_pixels_labels_and_classes():
    first = image_set()
    assert first.fingerprint() == image_set().fingerprint()
    pixels = first.images.copy()
    pixels[-1, -1, -1, -1] ^= 1
    labels = first.labels.copy()
    labels[[0, 1]] = labels[[1, 0]]
    changed = [
        attrs.evolve(first, images=pixels),
        attrs.evolve(first, images=first.images.reshape(12, 2, 8, 1)),
        attrs.evolve(first, labels=labels),
        attrs.evolve(first, classes=("a", "b", "d")),
    ]
    assert len({first.fingerprint(), *(other.fingerprint() for other in changed)}) == 5
    upside_down = attrs.evolve(first, images=first.images[:, ::-1])
    copied = attrs.evolve(first, images=np.ascontiguousarray(first.images[:, ::-1]))
    assert upside_down.fingerprint() == copied.fingerprint()


def plugins_with(factory, **rest):
    spec = DatasetSpec(name="made", summary="s", factory=factory, **rest)
    found = Registry([])
    found.components = [Component(spec=spec, distribution="d", version="1")]
    return found


def test_a_data_set_is_asked_for_one_of_its_parts(tmp_path):
    asked = []

    def factory(config, request):
        asked.append((type(config).__name__, request.part, request.root, request.download))
        return image_set()

    plugins = plugins_with(factory)
    assert len(load_images("made", "train", tmp_path, True, plugins)) == 12
    assert asked == [("NoOptions", "train", tmp_path, True)]
    with pytest.raises(DataError, match="data set made has splits train, test, not 'all'"):
        load_images("made", "all", tmp_path, plugins=plugins)
    with pytest.raises(PluginError, match="no dataset is called 'mad'; did you mean made"):
        load_images("mad", "train", tmp_path, plugins=plugins)


def test_a_data_set_that_gives_something_else_is_refused(tmp_path):
    plugins = plugins_with(lambda _config, _request: [1, 2])
    with pytest.raises(DataError, match="made must return an ImageSet, not list"):
        load_images("made", "train", tmp_path, plugins=plugins)
    empty = attrs.evolve(
        image_set(), images=np.zeros((0, 4, 4, 1), np.uint8), labels=np.zeros(0, np.int64)
    )
    plugins = plugins_with(lambda _config, _request: empty)
    with pytest.raises(DataError, match="made has no images in split 'train'"):
        load_images("made", "train", tmp_path, plugins=plugins)


def test_the_data_folder_is_the_argument_the_variable_or_data(monkeypatch, tmp_path):
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path))
    assert data_root("elsewhere") == Path("elsewhere")
    assert data_root() == tmp_path
    monkeypatch.delenv(ROOT_VARIABLE)
    assert data_root() == Path("data")
    assert data_root("~/x") == Path.home() / "x"


def test_digits_come_with_scikit_learn(tmp_path):
    digits = load_images("digits", "all", tmp_path)
    assert digits.images.shape == (1797, 8, 8, 1)
    assert digits.images.max() == 255
    assert digits.classes == tuple("0123456789")
    assert list(np.bincount(digits.labels)) == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


# ---- MNIST


def idx(array):
    """An array in the format of MNIST's files."""
    header = bytes([0, 0, 8, array.ndim])
    return header + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


@pytest.fixture
def small_mnist(tmp_path):
    """A root with MNIST's four files, 5 training and 3 test images."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for part, count in (("train", 5), ("t10k", 3)):
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(idx(np.arange(count, dtype=np.uint8)))
    return tmp_path


def test_mnist_is_read_from_torchvisions_layout(small_mnist):
    train = load_images("mnist", "train", small_mnist)
    test = load_images("mnist", "test", small_mnist)
    assert train.images.shape == (5, 28, 28, 1)
    assert test.images.shape == (3, 28, 28, 1)
    assert test.labels.tolist() == [0, 1, 2]
    raw = (small_mnist / "MNIST/raw/train-images-idx3-ubyte").read_bytes()
    assert train.images.tobytes() == raw[16:]


def test_missing_mnist_is_told_with_folder_variable_and_options(tmp_path):
    with pytest.raises(DataError) as raised:
        load_images("mnist", "train", tmp_path)
    message = str(raised.value)
    for part in (str(tmp_path / "MNIST" / "raw"), "$OPENSET_DATA", "--data-root", "--download"):
        assert part in message
    assert "\n" not in message
    assert message == str(missing_data("mnist", tmp_path / "MNIST" / "raw", True))
    assert "--download" not in str(missing_data("mnist", tmp_path, False))


def test_one_missing_file_of_mnist_is_missing_data(small_mnist):
    (small_mnist / "MNIST/raw/t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="data set mnist is not in"):
        load_images("mnist", "train", small_mnist)


def shortened(content):
    return content[: len(content) // 2]


@pytest.mark.parametrize(
    "damage",
    [
        shortened,
        lambda _content: b"",
        lambda content: content[:6],
        lambda _content: b"<html>not found</html>",
        lambda content: content + b"more",
        lambda content: content[:2] + b"\x0d" + content[3:],
        lambda content: content[:2] + b"\x0a" + content[3:],
    ],
    ids=["half", "empty", "header", "html", "longer", "float", "unknown-type"],
)
@pytest.mark.parametrize("file", ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"])
def test_damaged_mnist_is_told_as_damaged(small_mnist, damage, file):
    path = small_mnist / "MNIST" / "raw" / file
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError) as raised:
        load_images("mnist", "train", small_mnist)
    message = str(raised.value)
    assert f"data set mnist in {path.parent} is damaged (" in message
    assert "--download" in message
    assert "\n" not in message


def test_mnist_with_fewer_labels_than_images_is_refused(small_mnist):
    path = small_mnist / "MNIST" / "raw" / "train-labels-idx1-ubyte"
    path.write_bytes(idx(np.zeros(4, dtype=np.uint8)))
    with pytest.raises(DataError, match=r"labels must be int64 \[N\], not int64 \[4\]"):
        load_images("mnist", "train", small_mnist)


def test_a_failed_download_is_one_sentence(tmp_path, monkeypatch):
    from torchvision.datasets import MNIST

    def refuse(_self):
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz:\nTried a, got:\nb\n")

    monkeypatch.setattr(MNIST, "download", refuse)
    with pytest.raises(DataError) as raised:
        load_images("mnist", "train", tmp_path, download=True)
    assert str(raised.value).startswith("data set mnist cannot be downloaded to ")
    assert "\n" not in str(raised.value)


@pytest.mark.skipif(
    not os.environ.get("OPENSET_TEST_DATA"),
    reason="OPENSET_TEST_DATA names no folder with MNIST in torchvision's layout",
)
def test_the_real_mnist():
    root = Path(os.environ["OPENSET_TEST_DATA"])
    train, test = (load_images("mnist", part, root) for part in ("train", "test"))
    assert (len(train), len(test)) == (60000, 10000)
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(train.labels).tolist() == counts
    data = prepare_data(load_protocol("mnist"), 0, root)
    rows = {name: len(part) for name, part in data.splits.items()}
    known = [2, 4, 5, 9, 8, 3]
    assert rows["train"] + rows["validation"] == sum(counts[digit] for digit in known)
    assert rows["known"] + rows["unknown/rest"] == 10000
    assert data.class_names == tuple(map(str, known))


# ---- stratified splits


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.4, 0.5, 0.9])
def test_a_stratified_split_takes_its_fraction_of_every_class(fraction):
    labels = np.random.default_rng(1).choice([3, 7, 8], size=400, p=[0.7, 0.25, 0.05])
    first, second = splits.stratified(labels, fraction, seed=0)
    assert sorted([*first, *second]) == list(range(400))
    assert not set(first) & set(second)
    assert (np.diff(first) > 0).all()
    assert (np.diff(second) > 0).all()
    for label in (3, 7, 8):
        total = int((labels == label).sum())
        assert int((labels[second] == label).sum()) == min(round(fraction * total), total - 1)


def test_a_stratified_split_depends_on_the_seed_alone():
    labels = np.arange(300) % 3
    splits_by_seed = [splits.stratified(labels, 0.3, seed)[1].tolist() for seed in (0, 0, 1)]
    assert splits_by_seed[0] == splits_by_seed[1] != splits_by_seed[2]


def test_every_class_keeps_one_sample():
    labels = np.array([0, 1, 1, 2, 2, 2])
    first, second = splits.stratified(labels, 0.99, seed=0)
    assert sorted(labels[first].tolist()) == [0, 1, 2]
    assert sorted(labels[second].tolist()) == [1, 2, 2]


def test_nothing_to_split_gives_nothing():
    first, second = splits.stratified(np.zeros(0, np.int64), 0.5, seed=0)
    assert len(first) == len(second) == 0


def test_rows_of_known_classes_are_labelled_by_position():
    labels = np.array([4, 2, 9, 2, 0, 4])
    known = splits.known_rows(labels, (9, 4, 2))
    assert known.index.tolist() == [0, 1, 2, 3, 5]
    assert known.label.tolist() == [1, 2, 0, 2, 1]
    others = splits.class_rows(labels, (0, 9))
    assert others.index.tolist() == [2, 4]
    assert others.label.tolist() == [9, 0]
    taken = splits.take(known, np.array([1, 4]))
    assert taken.index.tolist() == [1, 5]
    assert taken.label.tolist() == [2, 1]


def test_a_splits_fingerprint_follows_rows_and_labels():
    split = splits.known_rows(np.array([4, 2, 9, 2]), (9, 4, 2))
    others = [
        attrs.evolve(split, index=split.index + 1),
        attrs.evolve(split, label=split.label[::-1].copy()),
        splits.take(split, np.array([0, 1, 2])),
    ]
    assert len({split.fingerprint(), *(other.fingerprint() for other in others)}) == 4


# ---- the parts of a trial


@pytest.fixture(scope="module")
def digits():
    """The digits, and the data of each trial of their protocol."""
    protocol = load_protocol("digits")
    trials = [prepare_data(protocol, trial, Path("none")) for trial in range(protocol.trials)]
    return load_images("digits", "all", Path("none")), protocol, trials


def test_parts_are_disjoint_and_named(digits):
    _images, _protocol, trials = digits
    for data in trials:
        assert list(data.splits) == ["train", "validation", "known", "unknown/rest"]
        rows = [set(part.split.index.tolist()) for part in data.splits.values()]
        assert all(rows)
        assert sum(map(len, rows)) == len(set().union(*rows))


def test_labels_are_positions_in_the_list_of_known_classes(digits):
    images, protocol, trials = digits
    for known, data in zip(protocol.content.known.trials, trials, strict=True):
        assert data.class_names == tuple(str(number) for number in known)
        for name in ("train", "validation", "known"):
            split = data.splits[name].split
            assert [known[label] for label in split.label] == images.labels[split.index].tolist()
            assert set(split.label.tolist()) == set(range(len(known)))


def test_unknown_classes_appear_in_the_unknown_part_only(digits):
    images, protocol, trials = digits
    for known, data in zip(protocol.content.known.trials, trials, strict=True):
        unknown = data.splits["unknown/rest"].split
        assert set(unknown.label.tolist()) == set(range(10)) - set(known)
        assert unknown.label.tolist() == images.labels[unknown.index].tolist()
        for name in ("train", "validation", "known"):
            assert set(images.labels[data.splits[name].split.index]) == set(known)


def test_the_test_rows_are_the_same_in_every_trial_and_train_nobody(digits):
    images, protocol, trials = digits
    _train, test = splits.stratified(
        images.labels, protocol.content.known.test_fraction, protocol.content.known.split_seed
    )
    for data in trials:
        judged = {*data.splits["known"].split.index, *data.splits["unknown/rest"].split.index}
        assert judged == set(test.tolist())
        for name in ("train", "validation"):
            assert not set(data.splits[name].split.index) & set(test.tolist())


def test_validation_is_its_fraction_of_the_known_training_samples(digits):
    _images, protocol, trials = digits
    fraction = protocol.content.validation.fraction
    for data in trials:
        train, validation = (data.splits[name].split.label for name in ("train", "validation"))
        for label in range(len(data.class_names)):
            held_out, kept = (validation == label).sum(), (train == label).sum()
            assert held_out == round(fraction * (held_out + kept))


def test_validation_differs_between_trials_of_the_same_classes(tmp_path):
    file = tmp_path / "p.toml"
    file.write_text(
        'summary = "s"\n[known]\ndataset = "digits"\ntest_fraction = 0.4\n'
        'trials = [[0, 1], [0, 1]]\n[unknown.rest]\ndataset = "digits"\n'
    )
    protocol = load_protocol(str(file))
    first, second = (prepare_data(protocol, trial, tmp_path).splits for trial in (0, 1))
    assert first["known"].split.fingerprint() == second["known"].split.fingerprint()
    assert first["validation"].split.fingerprint() != second["validation"].split.fingerprint()


def test_records_are_stable_and_tell_trials_apart(digits):
    _images, protocol, trials = digits
    again = prepare_data(protocol, 0, Path("none")).record()
    records = [data.record() for data in trials]
    assert again == records[0]
    for name in records[0]:
        assert len({record[name]["split"] for record in records}) == len(trials)
        assert {record[name]["data"] for record in records} == {records[0][name]["data"]}
        assert records[0][name]["samples"] == len(trials[0].splits[name])


def test_a_set_with_a_test_part_is_not_split(tmp_path):
    train, test = image_set(30), image_set(9, seed=1)
    plugins = plugins_with(lambda _c, request: train if request.part == "train" else test)
    file = tmp_path / "p.toml"
    file.write_text(
        'summary = "s"\n[known]\ndataset = "made"\ntrials = [[2, 0]]\n'
        '[unknown.rest]\ndataset = "made"\n[validation]\nfraction = 0.2\n'
    )
    data = prepare_data(load_protocol(str(file), plugins), 0, tmp_path, plugins=plugins)
    assert data.class_names == ("c", "a")
    sizes = {name: len(part) for name, part in data.splits.items()}
    assert sizes == {"train": 16, "validation": 4, "known": 6, "unknown/rest": 3}
    for name, images in (("train", train), ("validation", train), ("known", test)):
        assert data.splits[name].images is images
    assert data.splits["unknown/rest"].split.label.tolist() == [1, 1, 1]


# ---- batches


def numbered(count, side=4):
    """A part whose image i has the value i everywhere and the label i."""
    images = np.zeros((count, side, side, 1), np.uint8)
    images += np.arange(count, dtype=np.uint8)[:, None, None, None]
    rows = np.arange(count, dtype=np.int64)
    whole = ImageSet(images=images, labels=rows, classes=tuple(map(str, range(count))))
    return DataSplit(images=whole, split=splits.Split(index=rows, label=rows))


def loader(count, batch_size, **rest):
    return MemoryLoader(numbered(count), ImageOptions(size=4, channels=1), CPU, batch_size, **rest)


def epoch(source, seed=0, augmentation=None):
    """Labels of the batches of one epoch; checks that each image kept its label."""
    generator = seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)
    batches = []
    for images, labels in source.shuffled(generator, augmentation or Augmentation()):
        assert images.dtype == torch.float32
        centre = (images[:, 0, 1:3, 1:3] * 255).round().amax(dim=(1, 2)).long()
        assert centre.tolist() == labels.tolist()
        batches.append(labels.tolist())
    return batches


@pytest.mark.parametrize(
    ("count", "batch_size", "sizes"),
    [
        (10, 4, [4, 3, 3]),
        (12, 4, [4, 4, 4]),
        (9, 8, [5, 4]),
        (3, 8, [3]),
        (65, 64, [33, 32]),
        (1, 1, [1]),
    ],
)
def test_every_image_comes_once_an_epoch_in_batches_of_nearly_one_size(count, batch_size, sizes):
    source = loader(count, batch_size)
    batches = epoch(source)
    assert [len(batch) for batch in batches] == sizes
    assert len(source) == len(sizes)
    assert source.samples == count
    assert sorted(chain.from_iterable(batches)) == list(range(count))


def test_the_order_follows_the_seed_and_changes_from_epoch_to_epoch():
    source = loader(40, 7)
    assert epoch(source, 5) == epoch(source, 5) != epoch(source, 6)
    generator = torch.Generator().manual_seed(5)
    first, second = epoch(source, generator), epoch(source, generator)
    assert first == epoch(source, 5)
    assert first != second


@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize("augmentation", [Augmentation(), Augmentation(crop_padding=1, flip=True)])
def test_processes_share_every_batch_of_every_epoch(world_size, augmentation):
    """With seeds alike, in the second epoch too, when shares of unequal size were augmented."""
    whole, alone = loader(23, 8), torch.Generator().manual_seed(3)
    ranks = [loader(23, 8, rank=rank, world_size=world_size) for rank in range(world_size)]
    together = [torch.Generator().manual_seed(3) for _ in ranks]
    for _ in range(3):
        expected = epoch(whole, alone, augmentation)
        shares = [
            epoch(source, generator, augmentation)
            for source, generator in zip(ranks, together, strict=True)
        ]
        for batch, parts in zip(expected, zip(*shares, strict=True), strict=True):
            assert list(chain.from_iterable(parts)) == batch
            assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_augmentation_does_not_depend_on_the_number_of_processes():
    augmentation = Augmentation(crop_padding=2, flip=True)
    part = DataSplit(
        images=image_set(21, side=6),
        split=splits.Split(index=np.arange(21), label=np.arange(21)),
    )

    def pixels(rank, world_size):
        source = MemoryLoader(
            part, ImageOptions(size=6, channels=1), CPU, 8, rank=rank, world_size=world_size
        )
        generator = torch.Generator().manual_seed(0)
        found = {}
        for images, labels in source.shuffled(generator, augmentation):
            found.update(zip(labels.tolist(), images, strict=True))
        return found

    alone, shared = pixels(0, 1), pixels(0, 2) | pixels(1, 2)
    assert alone.keys() == shared.keys()
    assert all(torch.equal(alone[label], shared[label]) for label in alone)


def test_in_order_gives_every_row_once_and_as_it_was():
    part = DataSplit(
        images=numbered(20).images,
        split=splits.Split(index=np.array([3, 5, 11, 19]), label=np.array([1, 0, 1, 2])),
    )
    source = MemoryLoader(part, ImageOptions(size=4, channels=1), CPU, batch_size=3)
    batches = list(source.in_order())
    assert [len(labels) for _images, labels, _index in batches] == [2, 2]
    assert torch.cat([index for *_rest, index in batches]).tolist() == [3, 5, 11, 19]
    assert torch.cat([labels for _images, labels, _index in batches]).tolist() == [1, 0, 1, 2]
    pixels = torch.cat([images for images, *_rest in batches])[:, 0, 0, 0] * 255
    assert pixels.round().tolist() == [3, 5, 11, 19]


# ---- augmentation


def variants(image, padding, flip):
    """Every image that a random crop and mirror can make of one [C, H, W] image, slowly."""
    channels, height, width = image.shape
    canvas = np.zeros((channels, height + 2 * padding, width + 2 * padding), np.uint8)
    canvas[:, padding : padding + height, padding : padding + width] = image
    found = {}
    for top in range(2 * padding + 1):
        for left in range(2 * padding + 1):
            crop = canvas[:, top : top + height, left : left + width]
            found[crop.tobytes()] = (top, left, False)
            if flip:
                mirrored = np.stack([[row[::-1] for row in plane] for plane in crop])
                found[mirrored.tobytes()] = (top, left, True)
    return found


@pytest.mark.parametrize(("padding", "flip"), [(2, True), (2, False), (0, True), (1, True)])
def test_augmentation_is_a_crop_and_a_mirror_drawn_for_each_sample(padding, flip):
    images = torch.randint(
        0, 256, (600, 3, 5, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    changed = Augmentation(crop_padding=padding, flip=flip)(
        images, torch.Generator().manual_seed(2)
    )
    assert changed.shape == images.shape
    assert changed.dtype == torch.uint8
    draws = [
        variants(before.numpy(), padding, flip)[after.numpy().tobytes()]
        for before, after in zip(images, changed, strict=True)
    ]
    choices = (2 * padding + 1) ** 2 * (1 + flip)
    counts = np.unique(draws, axis=0, return_counts=True)[1]
    assert len(counts) == choices  # every choice occurs among 600 draws
    expected = 600 / choices
    assert np.square(counts - expected).sum() / expected < choices + 6 * np.sqrt(2 * choices)


def test_no_augmentation_changes_nothing_and_draws_nothing():
    images = torch.arange(48, dtype=torch.uint8).reshape(3, 1, 4, 4)
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    assert torch.equal(Augmentation()(images, generator), images)
    assert torch.equal(generator.get_state(), before)


def test_augmentation_repeats_with_its_seed():
    images = torch.randint(0, 256, (20, 1, 6, 6), dtype=torch.uint8)
    augmentation = Augmentation(crop_padding=2, flip=True)
    first, again, other = (
        augmentation(images, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


# ---- pixels


@pytest.mark.parametrize(
    ("mean", "std"), [((0.0,), (1.0,)), ((0.5,), (0.25,)), ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))]
)
def test_pixels_are_scaled_then_standardised(mean, std):
    images = torch.randint(0, 256, (4, 3, 5, 5), dtype=torch.uint8)
    scaled = PixelScale(ImageOptions(channels=3, mean=mean, std=std), CPU)(images)
    plain = images.numpy().astype(np.float64) / 255
    expected = np.empty_like(plain)
    for channel in range(3):
        expected[:, channel] = (plain[:, channel] - mean[channel % len(mean)]) / std[
            channel % len(std)
        ]
    assert scaled.dtype == torch.float32
    np.testing.assert_allclose(scaled.numpy(), expected, rtol=1e-5, atol=1e-6)
    assert scaled.is_contiguous(memory_format=torch.channels_last)


def test_small_images_are_enlarged_as_pillow_does():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 8, 8), dtype=np.uint8)
    for name, filter_ in (("bilinear", Image.BILINEAR), ("bicubic", Image.BICUBIC)):
        options = ImageOptions(size=32, channels=1, interpolation=name)
        ours = resized(torch.from_numpy(images)[:, None], options)
        assert ours.shape == (6, 1, 32, 32)
        assert ours.dtype == torch.uint8
        for image, result in zip(images, ours, strict=True):
            theirs = np.asarray(Image.fromarray(image).resize((32, 32), filter_), dtype=int)
            assert np.abs(result[0].numpy().astype(int) - theirs).max() <= 1


def test_nearest_enlargement_repeats_pixels():
    images = torch.arange(64, dtype=torch.uint8).reshape(1, 1, 8, 8)
    options = ImageOptions(size=32, channels=1, interpolation="nearest")
    expected = images.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
    assert torch.equal(resized(images, options), expected)


def test_reduction_is_smooth():
    """A fine chequerboard becomes grey, where picking pixels would keep black or white."""
    board = (torch.arange(32)[:, None] + torch.arange(32)) % 2 * 255
    small = resized(board.to(torch.uint8)[None, None], ImageOptions(size=8, channels=1))
    assert small[:, :, 1:-1, 1:-1].float().sub(127.5).abs().max() <= 1


def test_an_image_of_the_right_size_stays_as_it_is():
    images = torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8)
    assert torch.equal(resized(images, ImageOptions(size=8, channels=3)), images)


def test_grey_becomes_three_equal_channels():
    images = torch.randint(0, 256, (3, 1, 8, 8), dtype=torch.uint8)
    for size in (8, 16):
        colour = resized(images, ImageOptions(size=size, channels=3))
        grey = resized(images, ImageOptions(size=size, channels=1))
        assert colour.shape == (3, 3, size, size)
        assert all(torch.equal(colour[:, channel], grey[:, 0]) for channel in range(3))


def test_colour_becomes_grey_as_pillow_does():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    ours = resized(torch.from_numpy(images).permute(0, 3, 1, 2), ImageOptions(size=16, channels=1))
    assert ours.shape == (4, 1, 16, 16)
    for image, result in zip(images, ours, strict=True):
        theirs = np.asarray(Image.fromarray(image).convert("L"), dtype=int)
        assert np.abs(result[0].numpy().astype(int) - theirs).max() <= 1


def test_the_loader_resizes_once_and_scales_each_batch(digits):
    images, _protocol, trials = digits
    part = trials[0].splits["validation"]
    options = ImageOptions(size=32, channels=3, mean=(0.5,), std=(0.5,))
    (batch,) = MemoryLoader(part, options, CPU, batch_size=10_000).in_order()
    assert batch[0].shape == (len(part), 3, 32, 32)
    assert batch[1].tolist() == part.split.label.tolist()
    rows = torch.from_numpy(images.images[part.split.index]).permute(0, 3, 1, 2)
    expected = resized(rows, options).float() / 255 * 2 - 1
    torch.testing.assert_close(batch[0], expected, rtol=1e-5, atol=1e-5)


# ---- what a protocol may ask of its parts


def ten_each(request):
    """Thirty classes of ten images; the test part has other pixels."""
    labels = np.repeat(np.arange(30), 10)
    rng = np.random.default_rng(0 if request.part == "train" else 1)
    images = rng.integers(0, 256, (300, 4, 4, 1), dtype=np.uint8)
    return ImageSet(
        images=images, labels=labels, classes=tuple(f"kind{number}" for number in range(30))
    )


def prepared(tmp_path, text, trial=0):
    plugins = plugins_with(lambda _c, request: ten_each(request))
    file = tmp_path / "p.toml"
    file.write_text(f'summary = "s"\n[validation]\nfraction = 0.2\n{text}')
    protocol = load_protocol(str(file), plugins)
    return protocol, prepare_data(protocol, trial, tmp_path, plugins=plugins)


def test_classes_may_be_named_and_given_by_range(tmp_path):
    _protocol, data = prepared(
        tmp_path,
        '[known]\ndataset = "made"\ntrials = [["kind7", 2]]\n'
        '[unknown.some]\ndataset = "made"\nclasses = "3-5,29"\n',
    )
    assert data.class_names == ("kind7", "kind2")
    assert set(data.splits["unknown/some"].split.label.tolist()) == {3, 4, 5, 29}


def test_all_classes_known_makes_a_closed_set_protocol(tmp_path):
    protocol, data = prepared(tmp_path, '[known]\ndataset = "made"\nclasses = "all"\n')
    assert protocol.trials == 1
    assert len(data.class_names) == 30
    assert list(data.splits) == ["train", "validation", "known"]


def test_drawn_classes_are_the_same_everywhere_and_differ_by_trial(tmp_path):
    text = (
        '[known]\ndataset = "made"\ndraw = {counts = [4, 6], trials = 2, seed = 3}\n'
        '[unknown.some]\ndataset = "made"\ndraw = {count = 5, classes = "rest"}\n'
    )
    known, unknown = [], []
    for trial in range(4):
        protocol, data = prepared(tmp_path, text, trial)
        known.append(data.class_names)
        unknown.append(set(data.splits["unknown/some"].split.label.tolist()))
        numbers = {int(name.removeprefix("kind")) for name in data.class_names}
        assert not numbers & unknown[-1]
        assert len(unknown[-1]) == 5
    assert protocol.trials == 4
    assert [len(names) for names in known] == [4, 4, 6, 6]
    assert len(set(known)) == 4
    assert [protocol.content.known.group(t) for t in (0, 3)] == [
        "4 known classes",
        "6 known classes",
    ]
    # Written down once: a change of the drawing would change published splits.
    assert known[0] == ("kind14", "kind4", "kind19", "kind20")


def test_samples_of_an_unknown_set_are_drawn_to_the_known_ones_number(tmp_path):
    text = (
        '[known]\ndataset = "made"\ntrials = [[0, 1], [1, 0]]\n'
        '[unknown.even]\ndataset = "made"\nsamples = "known"\n'
        '[unknown.few]\ndataset = "made"\nsamples = 7\n'
        '[unknown.more]\ndataset = "made"\nsamples = 5000\n'
    )
    _protocol, data = prepared(tmp_path, text)
    sizes = [len(data.splits[f"unknown/{name}"]) for name in ("even", "few", "more")]
    assert sizes == [20, 7, 280]
    rows = data.splits["unknown/even"].split.index
    assert (np.diff(rows) > 0).all()
    again = prepared(tmp_path, text)[1].splits["unknown/even"].split.index
    assert rows.tolist() == again.tolist()
    other = prepared(tmp_path, text, trial=1)[1].splits["unknown/even"].split.index
    assert rows.tolist() != other.tolist()


def test_fewer_training_images_keep_the_classes_shares(tmp_path):
    _protocol, data = prepared(
        tmp_path, '[known]\ndataset = "made"\ntrials = [[0, 1, 2, 3]]\nsamples = 20\n'
    )
    labels = np.concatenate([data.splits[name].split.label for name in ("train", "validation")])
    assert np.bincount(labels).tolist() == [5, 5, 5, 5]
    assert len(data.splits["known"]) == 40


def test_classes_added_later_come_as_two_more_parts(tmp_path):
    _protocol, data = prepared(
        tmp_path, '[known]\ndataset = "made"\ntrials = [[5, 1]]\n[incremental]\nclasses = "0-6"\n'
    )
    for side in ("train", "test"):
        part = data.splits[f"later/{side}"]
        labels, counts = np.unique(part.split.label, return_counts=True)
        assert labels.tolist() == [2, 3, 4, 5, 6]
        assert counts.tolist() == [10] * 5
        originals = part.images.labels[part.split.index]
        assert sorted(set(originals.tolist())) == [0, 2, 3, 4, 6]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '[known]\ndataset = "made"\ntrials = [["kind70"]]\n',
            "p.toml.known.trials[0] names class 'kind70', which the data set does not have",
        ),
        (
            '[known]\ndataset = "made"\ntrials = [[1, "kind1"]]\n',
            "p.toml.known.trials[0] names a class twice",
        ),
        (
            '[known]\ndataset = "made"\ntrials = [["kind1"]]\n'
            '[unknown.some]\ndataset = "made"\ntrials = [[2, 1]]\n',
            "p.toml.unknown.some.trials[0] names classes that are known in trial 0: kind1",
        ),
        (
            '[known]\ndataset = "made"\ntrials = [[1]]\n'
            '[unknown.some]\ndataset = "made"\nclasses = "0-3"\n',
            "p.toml.unknown.some.classes names classes that are known in trial 0: kind1",
        ),
        (
            '[known]\ndataset = "made"\ndraw = {counts = [31]}\n',
            "p.toml.known.draw draws 31 classes, there are 30 to draw from",
        ),
        (
            '[known]\ndataset = "made"\nclasses = "0-40"\n',
            "p.toml.known.classes names class 30, the data set has classes 0 to 29",
        ),
        (
            '[known]\ndataset = "made"\nclasses = "all"\n[unknown.none]\ndataset = "made"\n',
            "trial 0: split unknown/none is empty",
        ),
    ],
)
def test_classes_that_cannot_be_are_refused(tmp_path, text, message):
    with pytest.raises(ProtocolError) as caught:
        prepared(tmp_path, text)
    assert message in str(caught.value)


def test_a_protocol_may_be_based_on_another(tmp_path):
    (tmp_path / "base.toml").write_text(
        'summary = "below"\n[known]\ndataset = "made"\ntrials = [[0]]\n[training]\nlr = 0.5\n'
        'epochs = 7\n[unknown.some]\ndataset = "made"\n'
    )
    (tmp_path / "own.toml").write_text(
        'summary = "above"\nbase = "base.toml"\n[known]\nsamples = 20\n[training]\nlr = 0.1\n'
    )
    content = load_protocol(str(tmp_path / "own.toml")).content
    assert (content.summary, content.known.samples, content.known.trials) == ("above", 20, ((0,),))
    assert content.training == {"lr": 0.1, "epochs": 7}
    (tmp_path / "base.toml").write_text('base = "own.toml"\n')
    with pytest.raises(ProtocolError, match=r"base leads back to own\.toml"):
        load_protocol(str(tmp_path / "own.toml"))
    (tmp_path / "own.toml").write_text('base = "digts"\n')
    with pytest.raises(ProtocolError, match="not installed; did you mean digits"):
        load_protocol(str(tmp_path / "own.toml"))
