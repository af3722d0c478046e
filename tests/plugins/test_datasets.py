"""Data sets of other layouts than digits and MNIST: what is on disk comes back as images."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from openset_core.data.datasets import missing_files, request_images
from openset_core.data.folders import fitted, read_images
from openset_core.data.images import DataRequest
from openset_core.errors import DataError
from openset_core.registry import registry


def picture(path: Path, value: int, size=(8, 8), mode="RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = value if mode == "L" else (value,) * 3
    Image.new(mode, size, colour).save(path)
    return path


def load(name, split, root, *, options=None, **wanted):
    return request_images(name, DataRequest(part=split, root=root, **wanted), options=options)


# --- every set ------------------------------------------------------------------------------------


def test_a_set_that_is_not_there_says_where_it_was_looked_for(tmp_path):
    for found in registry().of_kind("dataset"):
        if not found.spec.files:
            continue
        assert missing_files(found.name, tmp_path)
        for part in found.spec.parts:
            with pytest.raises(DataError, match=r"is not in .*; set \$OPENSET_DATA"):
                load(found.name, part, tmp_path, size=8)


# --- pickled batches ------------------------------------------------------------------------------


def cifar(root: Path, folder: str, files: dict[str, int], labels: str, meta, protocol=2) -> Path:
    place = root / folder
    place.mkdir(parents=True)
    for number, (file, count) in enumerate(files.items()):
        data = np.full((count, 3072), number, np.uint8)
        data[:, :1024] = 100 + number  # the red channel comes first
        values = {"data": data, labels: [row % 2 for row in range(count)]}
        (place / file).write_bytes(pickle.dumps(values, protocol=protocol))
    (place / meta[0]).write_bytes(pickle.dumps({meta[1]: ["cat", "dog"]}))
    return place


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_cifar10_batches(tmp_path, protocol):
    files = {f"data_batch_{number}": 4 for number in range(1, 6)} | {"test_batch": 3}
    meta = ("batches.meta", "label_names")
    cifar(tmp_path, "cifar-10-batches-py", files, "labels", meta, protocol)
    train, test = (load("cifar10", part, tmp_path) for part in ("train", "test"))
    assert train.images.shape == (20, 32, 32, 3)
    assert train.images[4, 0, 0].tolist() == [101, 1, 1]  # second batch, red first
    assert test.images[0, 5, 7].tolist() == [105, 5, 5]
    assert test.labels.tolist() == [0, 1, 0]
    assert train.classes == ("cat", "dog")


def test_cifar100_needs_only_the_part_that_is_asked_for(tmp_path):
    meta = ("meta", "fine_label_names")
    cifar(tmp_path, "cifar-100-python", {"test": 5}, "fine_labels", meta)
    assert len(load("cifar100", "test", tmp_path)) == 5
    with pytest.raises(DataError, match=r"data set cifar100 \(train\) is not in"):
        load("cifar100", "train", tmp_path)


class Harm:
    def __reduce__(self):
        return os.mkdir, ("harm",)


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (pickle.dumps({"data": Harm()}), "it asks for posix.mkdir"),
        (pickle.dumps({"data": np.zeros((2, 3), np.uint8)}), "no images of 32x32 pixels"),
        (
            pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "fine_labels": [1]}),
            "2 images, but not their labels",
        ),
        (pickle.dumps([1, 2]), "no table of images and labels"),
        (b"no pickle", "is damaged or no data"),
        (b"", "is damaged or no data"),
    ],
)
def test_a_batch_runs_no_code_and_damage_is_named(tmp_path, monkeypatch, contents, message):
    monkeypatch.chdir(tmp_path)
    meta = ("meta", "fine_label_names")
    place = cifar(tmp_path, "cifar-100-python", {"test": 1}, "fine_labels", meta)
    (place / "test").write_bytes(contents)
    with pytest.raises(DataError) as caught:
        load("cifar100", "test", tmp_path)
    assert message in str(caught.value)
    assert str(place / "test") in str(caught.value)
    assert not (tmp_path / "harm").exists()


# --- torchvision's -------------------------------------------------------------------------------


def idx(array):
    """An array in the format of MNIST's files."""
    header = bytes([0, 0, 8, array.ndim])
    return header + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


@pytest.mark.parametrize(
    ("name", "folder"), [("fashion-mnist", "FashionMNIST"), ("kmnist", "KMNIST")]
)
def test_sets_in_mnists_format(tmp_path, name, folder):
    raw = tmp_path / folder / "raw"
    raw.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 28, 28), dtype=np.uint8)
    for part, count in (("train", 3), ("t10k", 2)):
        (raw / f"{part}-images-idx3-ubyte").write_bytes(idx(pixels[:count]))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(idx(np.array([9, 0, 4][:count], np.uint8)))
    train, test = (load(name, part, tmp_path) for part in ("train", "test"))
    assert (train.images[..., 0] == pixels).all()
    assert (len(test), train.labels.tolist(), len(train.classes)) == (2, [9, 0, 4], 10)
    (raw / "train-images-idx3-ubyte").write_bytes(b"short")
    with pytest.raises(DataError, match=rf"data set {name} in .* is damaged"):
        load(name, "train", tmp_path)


def test_svhn_keeps_its_axes_and_colours(tmp_path, monkeypatch):
    from scipy.io import savemat
    from torchvision.datasets import SVHN

    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 4), dtype=np.uint8)
    for part in ("train", "test"):
        savemat(tmp_path / f"{part}_32x32.mat", {"X": pixels, "y": np.array([[10], [1], [9], [2]])})
    with pytest.raises(DataError, match=r"data set svhn in .* is damaged"):  # by its hash
        load("svhn", "test", tmp_path)
    monkeypatch.setattr(SVHN, "_check_integrity", lambda _self: True)
    found = load("svhn", "test", tmp_path)
    assert (found.images == pixels.transpose(3, 0, 1, 2)).all()
    assert found.labels.tolist() == [0, 1, 9, 2]  # the files call the digit zero ten


# --- folders --------------------------------------------------------------------------------------


@pytest.mark.parametrize("refoldered", [False, True])
def test_tiny_imagenet_as_downloaded_or_sorted(tmp_path, refoldered):
    root = tmp_path / "tiny-imagenet-200"
    for number, wnid in enumerate(("n02", "n01", "n03")):
        picture(root / "train" / wnid / "images" / f"{wnid}_0.JPEG", 10 * number)
    lines = []
    for number, wnid in enumerate(("n03", "n01")):
        file = f"val_{number}.JPEG"
        place = root / "val" / (wnid if refoldered else "images")
        picture(place / file, 200 + number)
        lines.append(f"{file}\t{wnid}\t0\t0\t62\t62")
    if not refoldered:
        (root / "val" / "val_annotations.txt").write_text("\n".join(lines) + "\n")
    train, test = (load("tiny-imagenet", part, tmp_path) for part in ("train", "test"))
    assert train.classes == test.classes == ("n01", "n02", "n03")  # sorted, not as listed
    assert train.labels.tolist() == [0, 1, 2]
    assert sorted(test.labels.tolist()) == [0, 2]
    by_label = dict(zip(test.labels.tolist(), test.images[:, 0, 0, 0].tolist(), strict=True))
    assert by_label[2] == pytest.approx(200, abs=2)
    assert by_label[0] == pytest.approx(201, abs=2)


def test_tiny_imagenet_with_annotations_that_do_not_fit(tmp_path):
    root = tmp_path / "tiny-imagenet-200"
    picture(root / "train" / "n01" / "images" / "a.JPEG", 1)
    picture(root / "val" / "images" / "v.JPEG", 1)
    with pytest.raises(DataError, match=r"val_annotations.txt cannot be read"):
        load("tiny-imagenet", "test", tmp_path)
    (root / "val" / "val_annotations.txt").write_text("v.JPEG\tn77\t0\n")
    with pytest.raises(DataError, match=r"names no training class in 'v.JPEG n77 0'"):
        load("tiny-imagenet", "test", tmp_path)


def test_domainnet_by_its_lists(tmp_path):
    root = tmp_path / "domainnet"
    for name in ("cat", "dog"):
        picture(root / "real" / name / f"{name} 1.jpg", 9, (20, 10))
    (root / "real_train.txt").write_text("real/dog/dog 1.jpg 2\nreal/cat/cat 1.jpg 0\n")
    found = load("domainnet", "train", tmp_path, size=6)
    assert found.labels.tolist() == [2, 0]
    assert found.classes == ("cat", "class 1", "dog")
    assert found.images.shape == (2, 6, 6, 3)
    with pytest.raises(DataError, match=r"domainnet \(clipart\) is not in"):
        load("domainnet", "train", tmp_path, options={"domain": "clipart"})
    with pytest.raises(DataError, match=r"real_test.txt is missing, .* where real.zip is from"):
        load("domainnet", "test", tmp_path)
    (root / "real_train.txt").write_text("real/dog/dog_1.jpg two\n")
    with pytest.raises(DataError, match=r"line 1: .* is not a path and a class number"):
        load("domainnet", "train", tmp_path)


def test_ssb_has_unknown_parts_of_its_own(tmp_path):
    for part, names in {
        "train": ("a", "b"),
        "test": ("b",),
        "easy": ("x",),
        "hard": ("y", "z"),
    }.items():
        for name in names:
            picture(tmp_path / "birds" / part / name / "1.png", 3)
    options = {"folder": "birds"}
    assert not missing_files("ssb", tmp_path, options)
    test = load("ssb", "test", tmp_path, options=options)
    assert (test.classes, test.labels.tolist()) == (("a", "b"), [1])
    assert load("ssb", "hard", tmp_path, options=options).classes == ("y", "z")


def test_omniglot_from_its_unpacked_folders(tmp_path):
    place = tmp_path / "omniglot-py" / "images_evaluation"
    picture(place / "Greek" / "character02" / "1_01.png", 255, mode="L")
    picture(place / "Greek" / "character01" / "1_01.png", 0, mode="L")
    found = load("omniglot", "test", tmp_path, size=8)
    assert found.classes == ("Greek/character01", "Greek/character02")
    assert found.images[:, 0, 0, 0].tolist() == [0, 255]
    turned = load("omniglot", "test", tmp_path, size=8, options={"invert": True})
    assert turned.images[:, 0, 0, 0].tolist() == [255, 0]


def test_a_users_own_folders_anywhere(tmp_path):
    picture(tmp_path / "elsewhere" / "cat" / "deep" / "1.png", 3)
    picture(tmp_path / "elsewhere" / "dog" / "1.png", 4)
    options = {"path": str(tmp_path / "elsewhere")}
    assert not missing_files("image-folder", Path("nowhere"), options)
    assert load("image-folder", "all", Path("nowhere"), options=options).classes == ("cat", "dog")


def test_a_users_own_folders_divided_into_training_and_test(tmp_path):
    root = tmp_path / "images"
    for name in ("ant", "bee", "cat"):
        picture(root / "train" / name / "1.png", 3)
    picture(root / "val" / "cat" / "1.png", 4)
    train, test = (load("image-folder", part, tmp_path) for part in ("train", "test"))
    assert train.classes == test.classes == ("ant", "bee", "cat")
    assert (train.labels.tolist(), test.labels.tolist()) == ([0, 1, 2], [2])
    with pytest.raises(DataError, match="ask for its splits train and test"):
        load("image-folder", "all", tmp_path)
    with pytest.raises(DataError, match=r"has no folder train; ask for its split all"):
        load("image-folder", "test", root, options={"path": "train"})
    picture(root / "val" / "dog" / "1.png", 4)
    with pytest.raises(DataError, match="'dog', which is none of the set's classes"):
        load("image-folder", "test", tmp_path)


@pytest.mark.parametrize(("name", "side"), [("imagenet", "val"), ("air300", "test")])
def test_test_labels_count_in_the_training_folders_order(tmp_path, name, side):
    for place, classes in (("train", ("n1", "n2", "n3")), (side, ("n3", "n2"))):
        for label in classes:
            picture(tmp_path / name / place / label / "1.png", 3)
    assert load(name, "train", tmp_path).labels.tolist() == [0, 1, 2]
    test = load(name, "test", tmp_path)
    assert test.labels.tolist() == [1, 2]
    assert test.classes == ("n1", "n2", "n3")


def test_flat_folders_are_one_class(tmp_path):
    for number in range(3):
        picture(tmp_path / "LSUN_resize" / "LSUN_resize" / f"{number}.jpg", number, (40, 32))
    found = load("lsun-resize", "all", tmp_path)
    assert found.images.shape == (3, 32, 32, 3)
    assert set(found.labels.tolist()) == {0}


def test_crops_are_cut_to_size_and_not_resized(tmp_path):
    pixels = np.arange(36 * 36, dtype=np.uint32).reshape(36, 36, 1).repeat(3, 2) % 251
    place = tmp_path / "LSUN" / "test"
    place.mkdir(parents=True)
    Image.fromarray(pixels.astype(np.uint8)).save(place / "0.png")
    found = load("lsun-crop", "all", tmp_path)
    assert np.array_equal(found.images[0], pixels[2:34, 2:34])
    assert load("lsun-crop", "all", tmp_path, size=40).images.shape == (1, 40, 40, 3)


# --- image files ----------------------------------------------------------------------------------


def test_unreadable_images_are_named(tmp_path):
    good = picture(tmp_path / "good.png", 1)
    bad = []
    for number in range(7):
        bad.append(tmp_path / f"bad{number}.png")
        bad[-1].write_bytes(b"" if number else b"\x89PNG\r\n")
    with pytest.raises(DataError) as caught:
        read_images([good, *bad], [0] * 8, ["c"], DataRequest(part="all", root=tmp_path))
    text = str(caught.value)
    assert text.startswith("7 of 8 images cannot be used: ")
    assert all(str(path) in text for path in bad[:5])
    assert text.endswith("; and 2 more")


def test_grey_among_colour_becomes_colour_and_sizes_must_be_wanted(tmp_path):
    files = [picture(tmp_path / "a.png", 7, mode="L"), picture(tmp_path / "b.png", 9, (12, 8))]
    request = DataRequest(part="all", root=tmp_path, size=8)
    found = read_images(files, [0, 1], ["a", "b"], request)
    assert found.images.shape == (2, 8, 8, 3)
    assert found.images[:, 0, 0].tolist() == [[7] * 3, [9] * 3]
    with pytest.raises(DataError, match="differ in size"):
        read_images(files, [0, 1], ["a", "b"], DataRequest(part="all", root=tmp_path))


def test_the_middle_is_cut_out_after_resizing_the_shorter_side():
    wide = np.zeros((4, 12, 1), np.uint8)
    wide[:, 4:8] = 200
    assert fitted(wide, 4, "nearest").tolist() == np.full((4, 4, 1), 200).tolist()
    assert fitted(wide, 2, "bilinear").shape == (2, 2, 1)
    tall = np.arange(12, dtype=np.uint8)[:, None, None].repeat(4, axis=1)
    assert fitted(tall, 4, "bicubic")[:, 0, 0].tolist() == [4, 5, 6, 7]


# --- made -----------------------------------------------------------------------------------------


def test_noise_is_uniform_seeded_and_of_the_wanted_size(tmp_path):
    options = {"samples": 50, "seed": 3}
    first, again = (load("noise", "all", tmp_path, size=16, options=options) for _ in range(2))
    assert first.images.shape == (50, 16, 16, 1)
    assert (first.images == again.images).all()
    assert 120 < first.images.mean() < 135
    assert np.ptp(first.images) == 255
    other = load("noise", "all", tmp_path, size=16, options={**options, "seed": 4})
    assert (first.images != other.images).any()


# --- real data, where it is -----------------------------------------------------------------------

REAL = os.environ.get("OPENSET_TEST_DATA")


@pytest.mark.parametrize(
    ("name", "part", "count", "classes"),
    [
        ("fashion-mnist", "test", 10_000, 10),
        ("cifar10", "test", 10_000, 10),
        ("cifar100", "test", 10_000, 100),
        ("omniglot", "test", 13_180, 659),
        ("mnist-noise", "all", 10_000, 1),
    ],
)
def test_real_data(name, part, count, classes):
    if not REAL:
        pytest.skip("OPENSET_TEST_DATA names no folder of data sets")
    if missing_files(name, Path(REAL), split=part):
        pytest.skip(f"{name} is not in OPENSET_TEST_DATA")
    images = load(name, part, Path(REAL), size=28)
    assert len(images) == count
    assert len(images.classes) == classes
    if classes in (10, 100):
        assert set(np.bincount(images.labels).tolist()) == {count // classes}
