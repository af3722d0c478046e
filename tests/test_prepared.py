"""Prepared data sets: the same pixels as from the files, whole or not at all, streamed."""

from __future__ import annotations

import errno
import shutil
import threading
from collections import namedtuple

import attrs
import numpy as np
import pytest
import torch
from PIL import Image

from openset_core import DatasetSpec, ImageSet, option
from openset_core.data import cache, conversion, splits
from openset_core.data import prefetch as prefetching
from openset_core.data.augmentation import Augmentation
from openset_core.data.cache import PreparedImages, SplitSource, open_images, open_prepared
from openset_core.data.conversion import prepare
from openset_core.data.datasets import request_images
from openset_core.data.folders import read_images
from openset_core.data.image_format import ImageFormat
from openset_core.data.images import DataRequest
from openset_core.data.loading import MemoryLoader, StreamLoader, make_loader
from openset_core.data.preparation import DataSplit, prepare_data
from openset_core.errors import DataError
from openset_core.experiment.protocol import ImageOptions, load_protocol
from openset_core.registry import Component, Registry

CPU = torch.device("cpu")
COUNT = 14


@attrs.frozen(kw_only=True)
class Options:
    """Options of the set of files."""

    domain: str = option("real", "a folder")


def files_of(config, request):
    """Every image below `<root>/<domain>`, two classes in turn."""
    files = sorted((request.root / config.domain).glob("*"))
    return read_images(files, [row % 2 for row in range(len(files))], ("even", "odd"), request)


def small(_config, request):
    """Grey images in memory."""
    rng = np.random.default_rng(0 if request.part == "train" else 1)
    images = rng.integers(0, 256, (COUNT, 6, 6, 1), dtype=np.uint8)
    return ImageSet(images=images, labels=np.arange(COUNT) % 3, classes=("a", "b", "c"))


@pytest.fixture
def plugins():
    found = Registry([])
    found.components = [
        Component(spec=spec, distribution="d", version="1")
        for spec in (
            DatasetSpec(name="files", summary="s", factory=files_of, config=Options),
            DatasetSpec(name="small", summary="s", factory=small),
        )
    ]
    return found


@pytest.fixture
def root(tmp_path):
    """A folder of images of several sizes and colours."""
    rng = np.random.default_rng(0)
    (tmp_path / "real").mkdir()
    for number in range(COUNT):
        shape = (8 + number % 3, 9 + number % 4, 3)
        pixels = rng.integers(0, 256, shape, dtype=np.uint8)
        image = Image.fromarray(pixels)
        (image.convert("L") if number == 5 else image).save(tmp_path / f"real/{number:02}.png")
    return tmp_path


def load_images(name, split, root, download=False, plugins=None, options=None, **wanted):
    """A split, all images read."""
    request = DataRequest(part=split, root=root, download=download, **wanted)
    return request_images(name, request, plugins, options)


def source(root, plugins, name="files", size=8, interpolation="bilinear", options=None):
    return SplitSource(
        dataset=name,
        split="train",
        root=root,
        format=ImageFormat(size=size, interpolation=interpolation),
        options=options or {},
        plugins=plugins,
    )


def convert(root, plugins, *, skip_unreadable=False, rebuild=False, **rest):
    chosen = source(root, plugins, **rest)
    return prepare(chosen, skip_unreadable=skip_unreadable, rebuild=rebuild)


# ---- what is written is what was read


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest", "bicubic"])
def test_prepared_files_hold_the_pixels_of_direct_loading(root, plugins, interpolation):
    direct = load_images(
        "files", "train", root, plugins=plugins, size=8, interpolation=interpolation
    )
    found, written = convert(root, plugins, interpolation=interpolation)
    assert written
    assert (found.gather(np.arange(COUNT)) == direct.images).all()
    assert found.gather(np.array([9, 2, 2])).tobytes() == direct.images[[9, 2, 2]].tobytes()
    assert found.labels.tolist() == direct.labels.tolist()
    assert found.classes == direct.classes
    assert len(found) == COUNT
    assert found.fingerprint() == direct.fingerprint()
    opened = open_images(source(root, plugins, interpolation=interpolation))
    assert isinstance(opened, PreparedImages)


def test_images_in_memory_are_resized_as_a_loader_does(root, plugins):
    image = ImageOptions(size=16, channels=1)
    found, _written = convert(root, plugins, name="small", size=16)
    assert found.meta.channels == 1
    direct = load_images("small", "train", root, plugins=plugins)
    rows = np.arange(COUNT)
    part = DataSplit(images=direct, split=splits.Split(index=rows, label=direct.labels))
    expected = MemoryLoader(part, image, CPU, 4).images.permute(0, 2, 3, 1).numpy()
    assert (found.gather(rows) == expected).all()


def test_preparing_again_does_something_only_when_the_source_changed(root, plugins):
    first, written = convert(root, plugins)
    assert written
    stamp = (first.folder / "meta.toml").stat().st_mtime_ns
    assert not convert(root, plugins)[1]
    assert (first.folder / "meta.toml").stat().st_mtime_ns == stamp
    assert convert(root, plugins, rebuild=True)[1]
    shutil.copy(root / "real/00.png", root / "real/99.png")
    more, written = convert(root, plugins)
    assert written
    assert len(more) == COUNT + 1
    assert [path.name for path in (root / "prepared").iterdir()] == ["files-train-8"]


def test_options_and_interpolation_have_folders_of_their_own(tmp_path, plugins):
    names = {
        source(tmp_path, plugins, options=options, interpolation=interpolation).folder.name
        for options in (None, {"domain": "clipart"}, {"domain": "a/b"}, {"domain": "a b"})
        for interpolation in ("bilinear", "bicubic")
    }
    assert len(names) == 8
    assert "files-train-8-domain=clipart" in names
    assert all("/" not in name and " " not in name for name in names)


def test_naming_a_default_option_says_nothing(root, plugins):
    default = {"domain": Options().domain}
    convert(root, plugins)
    _images, written = convert(root, plugins, options=default)
    assert not written
    opened = open_images(source(root, plugins, options=default))
    assert isinstance(opened, PreparedImages)


def test_a_set_too_large_for_memory_is_told_to_be_prepared(root, plugins, monkeypatch):
    monkeypatch.setattr(cache, "MEMORY_LIMIT", COUNT * 8 * 8 * 3)
    assert isinstance(open_images(source(root, plugins)), ImageSet)
    options = {"domain": "real"}
    with pytest.raises(DataError) as raised:
        open_images(source(root, plugins, size=9, options=options))
    message = str(raised.value)
    assert "14 images, 3.3 KiB at 9x9, too much to hold in memory" in message
    assert f"`openset data prepare files --size 9 --set domain=real --data-root {root}`" in message
    monkeypatch.setenv("OPENSET_DATA", str(root))
    with pytest.raises(DataError, match=r"`openset data prepare files --size 9`$"):
        open_images(source(root, plugins, size=9))
    convert(root, plugins, size=9, options=options)
    assert len(open_images(source(root, plugins, size=9, options=options))) == COUNT


# ---- what goes wrong


def damage(root, numbers):
    for number in numbers:
        path = root / f"real/{number:02}.png"
        path.write_bytes(path.read_bytes()[:60])


def leftovers(root):
    return [path.name for path in (root / "prepared").glob("*")] + [
        path.name for path in (root / "prepared").glob(".*")
    ]


def test_unreadable_images_are_refused_by_name_and_nothing_is_left(root, plugins):
    damage(root, [1, 3, 4, 6, 7, 8])
    (root / "real/08.png").write_bytes(b"")
    with pytest.raises(DataError) as raised:
        convert(root, plugins)
    message = str(raised.value)
    assert message.startswith("6 of 14 images cannot be read: ")
    for number in (1, 3, 4, 6, 7):
        assert str(root / f"real/{number:02}.png") in message
    assert "08.png" not in message
    assert "and 1 more" in message
    assert "--skip-unreadable" in message
    assert "\n" not in message
    assert leftovers(root) == []


def test_unreadable_images_are_left_out_on_request(root, plugins):
    damage(root, [1, 4])
    found, _written = convert(root, plugins, skip_unreadable=True)
    kept = [number for number in range(COUNT) if number not in (1, 4)]
    assert np.load(found.folder / "index.npy").tolist() == kept
    assert found.labels.tolist() == [number % 2 for number in kept]
    assert ["01.png" in found.meta.skipped[0], "04.png" in found.meta.skipped[1]] == [True, True]
    request = DataRequest(part="train", root=root, size=8)
    files = [root / f"real/{number:02}.png" for number in kept]
    direct = read_images(files, [0] * len(files), ("x",), request)
    assert (found.gather(np.arange(len(kept))) == direct.images).all()


def test_no_readable_image_at_all(root, plugins):
    damage(root, range(COUNT))
    with pytest.raises(DataError, match=r"none of 14 images can be read; the first: .*00.png"):
        convert(root, plugins, skip_unreadable=True)
    assert leftovers(root) == []


Usage = namedtuple("Usage", "total used free")


def test_too_little_room_is_refused_before_anything_is_written(root, plugins, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _place: Usage(10**9, 10**9 - 2000, 2000))
    with pytest.raises(DataError) as raised:
        convert(root, plugins)
    message = str(raised.value)
    assert message.startswith(f"{root / 'prepared/files-train-8'} needs about 3.0 KiB, 2.0 KiB are")
    assert "free 1.0 KiB, or choose another --data-root" in message
    assert not (root / "prepared").exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("old", [False, True])
def test_a_disk_that_fills_up_leaves_nothing_half(root, plugins, monkeypatch, number, old):
    if old:
        convert(root, plugins)

    def full(_descriptor):
        raise OSError(number, "No space left on device")

    monkeypatch.setattr(conversion.os, "fsync", full)
    with pytest.raises(DataError) as raised:
        convert(root, plugins, rebuild=True)
    message = str(raised.value)
    assert message.startswith(f"{root / 'prepared/files-train-8'} cannot be written: the disk")
    assert "; 3.0 KiB are needed, free some space or choose another --data-root" in message
    assert leftovers(root) == (["files-train-8"] if old else [])
    if old:
        assert len(open_images(source(root, plugins))) == COUNT


def cut(name):
    def change(folder):
        path = folder / name
        path.write_bytes(path.read_bytes()[:-1])

    return change


def edited(old, new):
    def change(folder):
        path = folder / "meta.toml"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (cut("images.raw"), "images.raw has not the length it should have"),
        (cut("labels.npy"), "is damaged ("),
        (lambda folder: (folder / "labels.npy").unlink(), "damaged (labels.npy is missing)"),
        (lambda folder: (folder / "meta.toml").unlink(), "damaged (meta.toml is missing)"),
        (lambda folder: (folder / "meta.toml").write_text("x"), "is damaged (Expected '='"),
        (edited("format = 1", "format = 9"), "has format 9, this openset reads 1"),
        (edited("images = 14", "images = 13"), "is damaged ("),
        (edited('encoding = "raw"', 'encoding = "exe"'), "encoding"),
        (edited("size = 8", 'size = "8"'), "size expects int"),
    ],
)
def test_damage_of_a_prepared_folder_is_one_sentence(root, plugins, change, reason):
    found, _written = convert(root, plugins)
    change(found.folder)
    with pytest.raises(DataError) as raised:
        open_images(source(root, plugins))
    assert reason in str(raised.value)
    assert str(found.folder) in str(raised.value)
    assert "\n" not in str(raised.value)
    command = f"openset data prepare files --size 8 --part train --data-root {root}"
    assert str(raised.value).endswith(f"; prepare it again with `{command}`")
    again, written = convert(root, plugins)
    assert written
    assert len(again) == COUNT


def test_a_prepared_folder_holds_no_pickles(root, plugins):
    found, _written = convert(root, plugins)
    np.save(found.folder / "labels.npy", np.array([{}] * COUNT), allow_pickle=True)
    with pytest.raises(DataError, match="is damaged"):
        open_prepared(found.folder)


def test_the_packed_form_of_older_versions_is_refused_and_made_again(root, plugins):
    done, _written = convert(root, plugins)
    edited('encoding = "raw"', 'encoding = "jpeg"')(done.folder)
    (done.folder / "images.raw").rename(done.folder / "images.packed")
    with pytest.raises(DataError, match=r"the encoding 'jpeg'.*prepare it again with `openset"):
        open_images(source(root, plugins))
    assert convert(root, plugins)[1]
    assert sorted(path.name for path in done.folder.iterdir()) == [
        *("images.raw", "index.npy", "labels.npy", "meta.toml"),
    ]


# ---- loaders


def parts_of(root, plugins):
    """The same rows, in memory and prepared."""
    streamed, _written = convert(root, plugins)
    held = load_images("files", "train", root, plugins=plugins, size=8)
    rows = np.array([0, 2, 3, 5, 7, 8, 9, 12, 13])
    split = splits.Split(index=rows, label=held.labels[rows])
    return [DataSplit(images=images, split=split) for images in (held, streamed)]


@pytest.mark.parametrize("size", [8, 12])
@pytest.mark.parametrize("channels", [1, 3])
def test_streamed_batches_are_those_from_memory_bit_for_bit(root, plugins, size, channels):
    image = ImageOptions(size=size, channels=channels, mean=(0.4,), std=(0.3,))
    augmentation = Augmentation(crop_padding=2, flip=True)
    found = []
    for part in parts_of(root, plugins):
        for rank, world_size in ((0, 1), (1, 2)):
            loader = make_loader(part, image, CPU, 4, rank, world_size)
            generator = torch.Generator().manual_seed(3)
            batches = [
                batch for _ in range(2) for batch in loader.shuffled(generator, augmentation)
            ]
            found.append((loader, batches, list(loader.in_order()), generator.get_state()))
    assert [type(item[0]) for item in found] == [MemoryLoader] * 2 + [StreamLoader] * 2
    for held, streamed in zip(found[:2], found[2:], strict=True):
        assert len(held[0]) == len(streamed[0]) == 3
        assert held[0].samples == streamed[0].samples == 9
        for kind in (1, 2):
            for ours, theirs in zip(held[kind], streamed[kind], strict=True):
                assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
                assert theirs[0].dtype == torch.float32
        assert torch.equal(held[3], streamed[3])


def test_reading_ahead_is_bounded_in_order_and_ends_with_its_reader(monkeypatch):
    monkeypatch.setattr(prefetching, "workers", lambda: 3)
    started, lock = [], threading.Lock()

    def work(number):
        with lock:
            started.append(number)
        if number == 40:
            raise DataError("image 40 is damaged")
        return number * 2

    reading = prefetching.prefetch(work, range(1000), 8)
    assert [next(reading) for _ in range(5)] == [0, 2, 4, 6, 8]
    assert max(started) < 13
    reading.close()
    assert not [thread for thread in threading.enumerate() if "ThreadPool" in thread.name]
    assert max(started) < 13
    with pytest.raises(DataError, match="image 40"):
        list(prefetching.prefetch(work, range(1000), 8))


def test_a_trial_streams_what_was_prepared_and_holds_the_rest(root, plugins):
    file = root / "p.toml"
    file.write_text(
        'summary = "s"\n[image]\nsize = 8\n[known]\ndataset = "files"\ntrials = [[1]]\n'
        '[unknown.rest]\ndataset = "files"\n[unknown.far]\ndataset = "small"\nclasses = "all"\n'
        "[validation]\nfraction = 0.3\n"
    )
    protocol = load_protocol(str(file), plugins)
    held = prepare_data(protocol, 0, root, plugins=plugins)
    convert(root, plugins)
    streamed = prepare_data(protocol, 0, root, plugins=plugins)
    assert isinstance(streamed.splits["train"].images, PreparedImages)
    assert isinstance(streamed.splits["known"].images, ImageSet)
    assert isinstance(streamed.splits["unknown/far"].images, ImageSet)
    assert streamed.record() == held.record()  # so that a run may go on with either


def test_training_from_a_prepared_set_gives_the_same_run(tiny, tmp_path):
    from openset_core import api

    root = tmp_path / "data"
    rng = np.random.default_rng(0)
    for label, name in enumerate(("bright", "dark", "mixed")):
        for number in range(24):
            pixels = rng.integers(80 * label, 80 * label + 90, (8, 8, 3), dtype=np.uint8)
            path = root / f"images/{name}/{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    protocol = tmp_path / "own.toml"
    protocol.write_text(
        'summary = "s"\n[image]\nsize = 8\n[known]\ndataset = "image-folder"\n'
        'trials = [["bright", "dark"]]\ntest_fraction = 0.25\n'
        '[unknown.rest]\ndataset = "image-folder"\npart = "all"\n'
        "[training]\nepochs = 1\nbatch_size = 8\ncrop_padding = 1\nflip = true\n"
    )
    for form in ("held", "streamed"):
        if form == "streamed":
            chosen = source(root, None, "image-folder")
            prepare(attrs.evolve(chosen, split="all"))
        out = tmp_path / form
        api.run("softmax,tiny,msp", str(protocol), out=out, data_root=root, device="cpu")
    held, streamed = (
        (tmp_path / form / "results.json").read_text() for form in ("held", "streamed")
    )
    assert held == streamed
