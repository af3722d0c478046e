"""`openset data` and `openset protocols` as a user calls them."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from openset_core import ProtocolSpec
from openset_core.data.image_format import ImageFormat, choose_format
from openset_core.errors import ConfigError
from openset_core.experiment.protocol import load_protocol, needs
from openset_core.registry import Component, Registry, registry


@pytest.fixture
def folders(tmp_path):
    """Pictures of two classes, divided into training and test images."""
    random = np.random.default_rng(0)
    root = tmp_path / "pictures"
    for side, count in (("train", 6), ("test", 3)):
        for name in ("cat", "dog"):
            (root / side / name).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 256, (9 + number, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / side / name / f"{number}.png")
    return root


def sentence(answer):
    assert answer.code == 2
    (line,) = answer.err.splitlines()
    return line.removeprefix("error: ")


# --- openset data ---------------------------------------------------------------------------------


def test_the_list_says_of_each_part_whether_it_is_there(openset, tmp_path):
    place = tmp_path / "cifar-100-python"
    place.mkdir()
    for file in ("test", "meta"):
        (place / file).touch()
    answer = openset("data", "--data-root", tmp_path)
    assert answer.code == 0
    text = " ".join(answer.out.split())
    assert "cifar100 partly 60,000 photographs" in text
    assert f"split test is there; looked for {place}/train; --download fetches it" in text
    assert "digits built in" in text
    assert "cifar10 missing" in text
    for part in registry().of_kind("dataset"):
        assert part.name in text


def test_a_set_in_order_is_told_with_counts_sizes_and_values(openset, folders):
    answer = openset("data", "check", "image-folder", "--set", f"path={folders}", "-q")
    assert answer.code == 0
    assert "train: 12 images, 2 classes, 6 images a class" in answer.out
    assert "pixels: 9x8 to 14x8, colour, values 0 to 255" in answer.out
    assert "test: 6 images, 2 classes, 3 images a class" in answer.out
    assert answer.out.endswith("data set image-folder is in order\n")


def test_unreadable_images_and_repeats_are_named(openset, folders):
    (folders / "train" / "cat" / "torn.png").write_bytes(b"\x89PNG")
    (folders / "train" / "dog" / "empty.jpg").touch()
    shutil.copy(folders / "train" / "cat" / "0.png", folders / "train" / "dog" / "again.png")
    answer = openset(
        "data", "check", "image-folder", "--set", f"path={folders}", "--duplicates", "-q"
    )
    found = sentence(answer)
    assert found.startswith("data set image-folder is not in order: split train: unreadable: ")
    for part in ("torn.png is no image", "empty.jpg is empty", "repeats an earlier image: "):
        assert part in answer.out
    assert "again.png" in answer.out


def test_counts_classes_and_sides_are_held_against_what_the_set_should_have(openset, tmp_path):
    for number, side in enumerate((64, 60)):
        folder = tmp_path / "tiny-imagenet-200" / "train" / f"n{number}" / "images"
        folder.mkdir(parents=True)
        Image.new("RGB", (side, side), (number, 9, 9)).save(folder / "1.JPEG")
    answer = openset(
        "data", "check", "tiny-imagenet", "--part", "train", "-q", "--data-root", tmp_path
    )
    assert answer.code == 2
    for wrong in (
        "2 images, 100,000 expected",
        "2 classes, 200 expected",
        "images of 60 to 64 pixels a side, 64 expected",
    ):
        assert f"  WRONG {wrong}\n" in answer.out
    both = openset("data", "check", "tiny-imagenet", "-q", "--data-root", tmp_path)
    assert "test: cannot be used: " in both.out  # with the reason, which is not the first
    assert "val is not a folder" in both.out


def test_a_set_that_is_not_there_is_one_sentence(openset, tmp_path):
    answer = openset("data", "check", "svhn", "--data-root", tmp_path, "-q")
    assert "data set svhn is not in" in sentence(answer)


def test_a_part_of_another_layout_is_refused_only_when_asked_for(openset, folders, tmp_path):
    chosen = ("image-folder", "--set", f"path={folders}", "-q")
    assert "is divided into" in sentence(openset("data", "check", *chosen, "--part", "all"))
    whole = ("image-folder", "--set", f"path={folders / 'train'}", "-q")
    answer = openset("data", "check", *whole)
    assert answer.code == 0
    assert answer.out.startswith("all: 12 images")
    root = ("--data-root", tmp_path / "root", "--size", "6")
    assert "is divided into" in sentence(
        openset("data", "prepare", *chosen, *root, "--part", "all")
    )


def test_preparing_writes_each_part_once_and_training_takes_it(openset, folders, tmp_path):
    root = tmp_path / "root"
    call = ("data", "prepare", "image-folder", "--set", f"path={folders}", "-q")
    call += ("--size", "6", "--data-root", root)
    first = openset(*call)
    assert first.code == 0
    assert [line.split(": ")[1] for line in first.out.splitlines()] == [
        "12 images, 1.3 KiB, written",
        "6 images, 648 bytes, written",
    ]
    assert openset(*call).out.count("is there already, and current") == 2
    listed = openset("data", "--data-root", root).out
    assert "prepared for streaming: image-folder-test-6" in listed
    assert "left by an interrupted run" not in listed
    left = root / "prepared" / ".image-folder-test-7.1234.partial"
    left.mkdir()
    listed = openset("data", "--data-root", root).out
    assert f"being prepared, or left by an interrupted run: {left}\n" in listed


def test_a_set_is_prepared_as_the_protocols_read_it(tmp_path):
    assert choose_format("ssb") == ImageFormat(size=448, fit="stretch")
    assert choose_format("tiny-imagenet") == ImageFormat(size=64)
    assert choose_format("ssb", size=64) == ImageFormat(size=64)  # for a protocol of one's own
    assert choose_format("image-folder") == ImageFormat(size=224)
    specs = []
    for size in (8, 16):
        path = tmp_path / f"at-{size}.toml"
        path.write_text(
            f'summary = "s"\n[image]\nsize = {size}\n[known]\ndataset = "digits"\n'
            "test_fraction = 0.4\ntrials = [[0, 1]]\n[unknown.rest]\ndataset = 'digits'\n"
        )
        specs.append(ProtocolSpec(name=path.stem, path=path))
    plugins = Registry([])
    plugins.components = [Component(spec=spec, distribution="other", version="1") for spec in specs]
    with pytest.raises(ConfigError, match=r": 8 .* \(at-8\); 16 .*; choose with --size"):
        choose_format("digits", plugins=plugins)
    assert choose_format("digits", plugins, size=16) == ImageFormat(size=16)


@pytest.mark.parametrize("command", ["prepare", "run"])
def test_unreadable_images_are_refused_by_name(openset, folders, tmp_path, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bad = folders / "train" / "cat" / "torn.png"
    bad.write_bytes(b"\x89PNG")
    if command == "prepare":
        call = ("data", "prepare", "image-folder", "--set", f"path={folders}", "-q")
        answer = openset(*call, "--size", "6", "--data-root", tmp_path / "root")
    else:
        protocol = tmp_path / "own.toml"
        protocol.write_text(
            f'summary = "s"\n[image]\nsize = 8\n[known]\ndataset = "image-folder"\n'
            f'options = {{path = "{folders}"}}\nclasses = "all"\n[training]\nepochs = 1\n'
        )
        answer = openset("run", "-q", "-p", "softmax,classifier32", "--protocol", protocol)
    assert answer.out == ""
    assert (
        f"1 of 13 images cannot be {'read' if command == 'prepare' else 'used'}: {bad} is no"
        in (sentence(answer))
    )


def test_a_disk_without_room_is_refused_before_anything_is_written(
    openset, folders, tmp_path, monkeypatch
):
    full = shutil._ntuple_diskusage(10**9, 10**9 - 100, 100)
    monkeypatch.setattr(shutil, "disk_usage", lambda _place: full)
    root = tmp_path / "root"
    call = ("data", "prepare", "image-folder", "--set", f"path={folders}", "-q")
    found = sentence(openset(*call, "--data-root", root))
    assert "needs about" in found
    assert "100 bytes are free; free " in found
    assert not root.exists()


# --- openset protocols ----------------------------------------------------------------------------


def test_the_list_looks_at_the_parts_that_a_protocol_reads(openset, tmp_path):
    for name in ("cifar-10-batches-py", "cifar-100-python"):
        (tmp_path / name).mkdir()
    batches = [f"data_batch_{number}" for number in range(1, 6)]
    for file in (*batches, "test_batch", "batches.meta"):
        (tmp_path / "cifar-10-batches-py" / file).touch()
    for file in ("test", "meta"):
        (tmp_path / "cifar-100-python" / file).touch()
    answer = openset("protocols", "--data-root", tmp_path)
    assert answer.code == 0
    *lines, empty, note = answer.out.splitlines()
    assert empty == ""
    told = {
        line.split()[0]: below.strip() for line, below in zip(lines[::2], lines[1::2], strict=False)
    }
    assert told["cifar+10"] == "data: cifar10 (train, test), cifar100 (test)"
    assert told["closed-cifar100"] == "data: cifar100 (test); missing: cifar100 (train)"
    assert told["ood-cifar10"] == (
        "data: cifar10 (train, test), cifar100 (test); missing: svhn (test)"
    )
    assert told["digits"] == "data: digits"
    assert f"Looked for data in {tmp_path}" in note


def test_what_was_prepared_counts_as_there(openset, tmp_path):
    (tmp_path / "prepared" / "svhn-train-32").mkdir(parents=True)
    text = " ".join(openset("protocols", "show", "svhn", "--data-root", tmp_path).out.split())
    assert f"below {tmp_path}: svhn (train)" in text
    assert f"missing below {tmp_path}: svhn (test)" in text


def test_a_protocol_needs_the_parts_it_reads():
    def needed(name):
        return [(need.dataset, need.part) for need in needs(load_protocol(name).content)]

    assert needed("mnist") == [("mnist", "train"), ("mnist", "test")]
    assert needed("digits") == [("digits", "all")]
    assert needed("m2iosr-openness") == [
        ("cifar10", "train"),
        ("cifar10", "test"),
        ("cifar100", "test"),
    ]
    assert needed("m2iosr-mnist-outliers")[2:] == [
        ("omniglot", "test"),
        ("mnist-noise", "all"),
        ("noise", "all"),
    ]


@pytest.mark.parametrize("name", sorted(part.name for part in registry().of_kind("protocol")))
def test_every_protocol_can_be_shown(openset, name):
    answer = openset("protocols", "show", name)
    assert answer.code == 0
    content = load_protocol(name).content
    assert answer.out.startswith(f"{name}: {content.summary}\n")
    for unknown in content.unknown:
        assert f"unknown   {unknown}: " in answer.out
    for figure in content.published:
        assert f"{100 * figure.value:.1f}" in answer.out
    raw = openset("protocols", "show", name, "--toml").out
    assert tomllib.loads(raw)["summary"] == content.summary


def test_showing_names_classes_recipes_and_published_figures(openset):
    text = openset("protocols", "show", "cifar10").out
    assert "trial 0: airplane, frog, deer, truck, automobile, horse" in text
    assert "training  epochs=100 batch_size=64 lr=0.1" in text
    assert "rpl                 msp        82.7 ± 1.4  85.2 ± 1.4" in text
    assert "AUROC: ARPL Table 1 (classifier32), arpl evaluation" in text
    assert "with m2iosr: lr=0.01 step_epochs=50" in text
    assert "with arpl:" not in text  # its own recipe says the same
    assert "trials 0 and 1 hold the same classes" in " ".join(text.split())
    assert '\n    base = "ssb"\n' in openset("protocols", "show", "ssb").out
    ablations = openset("protocols", "show", "ood-cifar10").out
    assert "arpl+confused-gan confused-gan.auxiliary_bn=off  max-logit  cifar100" in ablations


def test_a_file_of_ones_own_is_shown_by_path(openset, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('base = "digits"\nsummary = "mine"\n[known]\nsamples = 60\n')
    answer = openset("protocols", "show", path)
    assert answer.out.startswith(f"{path}: mine\n")
    assert " samples=60 " in answer.out


def test_a_plugins_protocol_is_listed_and_shown(openset, tiny):
    assert "tiny-digits" in openset("protocols").out
    answer = openset("protocols", "show", "tiny-digits")
    assert answer.code == 0
    assert "tiny-digits.toml" in answer.out


def test_a_broken_protocol_is_listed_as_such(openset, tiny, monkeypatch):
    from openset_core import ProtocolSpec
    from openset_core.registry import Component

    spec = ProtocolSpec(name="torn", path=Path("nowhere.toml"))
    part = Component(spec=spec, distribution="d", version="1")
    monkeypatch.setattr(registry(), "components", [*registry().components, part])
    assert "torn" in (listed := openset("protocols").out)
    assert "broken: protocol nowhere.toml does not exist" in listed


BAD_PROTOCOLS = {
    "an unknown key": ("[training]", "epocs = 3\n[training]", "unknown.rest has no option 'epocs'"),
    "classes that are known and unknown": (
        "[training]",
        "trials = [[2, 7]]\n[training]",
        "unknown.rest.trials[0] names classes that are known in that trial: 2",
    ),
    "a class that does not exist": (
        "[[0, 1, 2]]",
        "[[0, 1, 12]]",
        "known.trials[0] names class 12, the data set has classes 0 to 9",
    ),
    "a class of a name that does not exist": (
        "[training]",
        'trials = [["two"]]\n[training]',
        "unknown.rest.trials[0] names class 'two', which the data set does not have",
    ),
    "an unknown set that names no class": (
        "[training]",
        "trials = [[]]\n[training]",
        "unknown.rest.trials[0] names no class",
    ),
    "an unknown set without images": (
        "[[0, 1, 2]]",
        "[[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]]",
        "trial 0: split unknown/rest is empty; leave classes for it that are not known",
    ),
    "a data set that is not installed": ('"digits"', '"digist"', "did you mean digits"),
}


@pytest.mark.parametrize("case", BAD_PROTOCOLS)
def test_a_protocol_that_cannot_be_meant_is_one_sentence(openset, tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    old, new, message = BAD_PROTOCOLS[case]
    text = """
summary = "own"
[image]
size = 8
channels = 1
[known]
dataset = "digits"
test_fraction = 0.4
trials = [[0, 1, 2]]
[unknown.rest]
dataset = "digits"
[training]
epochs = 1
"""
    assert old in text
    Path("own.toml").write_text(text.replace(old, new))
    answer = openset("run", "-q", "--protocol", "own.toml", "-p", "softmax,classifier32")
    assert answer.out == ""
    assert message in sentence(answer)


# --- own fine-grained classes, in the shape of the Semantic Shift Benchmark ----------------------


def test_easy_and_hard_unknown_classes_of_ones_own(openset, tmp_path, tiny, monkeypatch):
    random = np.random.default_rng(0)
    parts = {
        "train": ("finch", "wren"),
        "test": ("finch", "wren"),
        "easy": ("gull",),
        "hard": ("linnet", "siskin"),
    }
    for part, names in parts.items():
        for name in names:
            (tmp_path / "birds" / part / name).mkdir(parents=True)
            for number in range(12):
                pixels = random.integers(0, 256, (9, 14, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "birds" / part / name / f"{number}.png")
    folder = 'options = {folder = "birds"}\n'
    (tmp_path / "birds.toml").write_text(
        f'base = "ssb"\nsummary = "birds"\n[image]\nsize = 8\n[known]\n{folder}'
        f"[unknown.easy]\n{folder}[unknown.hard]\n{folder}"
    )
    monkeypatch.chdir(tmp_path)
    call = ("run", "-q", "--no-report", "--protocol", "birds.toml", "-p", "softmax,tiny")
    rest = ("--epochs", "1", "--recipe", "strong", "--out", "run")
    answer = openset(*call, "--data-root", tmp_path, *rest)
    assert answer.code == 0, answer.err
    assert "recipe strong, trial 0: 24 known and 36 unknown test samples" in answer.out
    assert "max-logit against easy" in answer.out
    assert "max-logit against hard" in answer.out
    shown = openset("protocols", "show", "birds.toml", "--data-root", tmp_path).out
    assert "below" in shown
    assert "ssb birds (train, test, easy, hard)" in " ".join(shown.split())
