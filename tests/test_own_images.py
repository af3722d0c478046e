"""A person's own folder of images: what is found in it, how it is split, and a run on it."""

from __future__ import annotations

import csv
import io
import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import openset_core
from openset_core import api
from openset_core.data.image_folders.duplicates import (
    Duplicates,
    connected,
    find_duplicates,
    image_hash,
    members,
)
from openset_core.data.image_folders.scan import (
    ImageFolderConfig,
    ScannedFile,
    ScannedFolder,
    scan_folder,
)
from openset_core.data.image_folders.splitting import assign_splits
from openset_core.data.image_list import read_list, sides
from openset_core.data.inference_input import inference_input
from openset_core.data.preparation import prepare_data
from openset_core.errors import ConfigError, DataError, RunFolderError
from openset_core.experiment.protocol import ImageOptions, load_protocol

COLOURS = {"cat": (200, 60, 40), "dog": (40, 180, 60), "horse": (50, 70, 220)}


def picture(seed, colour=(120, 120, 120), size=(24, 20)):
    """Noise of one colour: no two seeds look alike."""
    noise = np.random.default_rng(seed).integers(-60, 60, (size[1], size[0], 3))
    return np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)


def fill(folder, name, count, first=0, ending="png"):
    """Put pictures of a class into its folder."""
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    colour = COLOURS.get(place.name, (120, 120, 120))
    for number in range(count):
        seed = first + number + 1000 * sum(map(ord, name))
        Image.fromarray(picture(seed, colour)).save(place / f"{number:03d}.{ending}")
    return place


@pytest.fixture
def photos(tmp_path):
    """Twelve pictures of each of three classes and of two others."""
    folder = tmp_path / "photos"
    for name in (*COLOURS, "frog", "unknown"):
        fill(folder, name, 12)
    return folder


pytestmark = pytest.mark.filterwarnings("ignore:the threshold rests on")


def run_on(photos, out, **options):
    return api.run("softmax,tiny", data=photos, out=out, device="cpu", epochs=1, **options)


def listed(run):
    text = (run / "images" / "images.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(io.StringIO(text, newline="")))


# ---- what a folder holds


def test_classes_are_folders_and_the_unnamed_are_unknown(photos):
    scan = scan_folder(photos, ["horse", "cat"])
    assert scan.known == ("horse", "cat")
    assert scan.unknown == ("dog", "frog", "unknown")
    assert len(scan.files) == 60
    assert not scan.divided
    assert scan.ignored == ()


def test_without_names_all_but_unknown_are_known(photos):
    scan = scan_folder(photos)
    assert scan.known == ("cat", "dog", "frog", "horse")
    assert scan.unknown == ("unknown",)


def test_what_is_no_image_of_a_class_is_left_out_and_named(photos):
    (photos / "cat" / "notes.txt").write_text("no picture")
    (photos / "cat" / ".hidden.png").touch()
    (photos / ".cache").mkdir()
    (photos / "nothing").mkdir()
    shutil.copy(photos / "cat/000.png", photos / "loose.png")
    nested = fill(photos, "cat/summer 2024/über", 2, first=50)
    (nested / "000.png").rename(nested / "LOUD.PNG")
    (photos / "cat" / "loop").symlink_to(photos, target_is_directory=True)
    (photos / "loop").symlink_to(photos, target_is_directory=True)
    scan = scan_folder(photos, ["cat", "dog"])
    assert sum(file.label == "cat" for file in scan.files) == 14
    assert {"LOUD.PNG", "001.png"} <= {file.path.name for file in scan.files}
    text = "\n".join(scan.ignored)
    assert "no images by their endings, and left out: 1 .txt" in text
    assert "no class: nothing" in text
    assert "loose.png" in text
    assert f"{photos / 'loop'} is a link to a folder that holds it" in text


def test_a_folder_divided_already(tmp_path):
    folder = tmp_path / "divided"
    for side, count in (("train", 8), ("test", 3), ("val", 2)):
        for name in ("cat", "dog"):
            fill(folder / side, name, count, first=100 * count)
    fill(folder / "test", "frog", 2)
    fill(folder, "unknown", 2)
    fill(folder, "spare", 1)
    scan = scan_folder(folder)
    assert scan.divided
    assert (scan.known, scan.unknown) == (("cat", "dog"), ("frog", "unknown"))
    counts = {side: sum(f.split == side for f in scan.files) for side in ("train", "test")}
    assert counts == {"train": 16, "test": 10}
    assert sum(file.split == "validation" for file in scan.files) == 4
    assert "spare" in scan.ignored[0]
    shutil.rmtree(folder / "test")  # then val is what there is to test with
    assert {file.split for file in scan_folder(folder).files} == {"train", "test"}


@pytest.mark.parametrize(
    ("known", "said"),
    [
        (["cat", "dgo"], "no class folder 'dgo'; did you mean dog"),
        (["cat", "cat/"], "'cat' twice"),
        (["cat", "Unknown"], "'Unknown' cannot be a known class"),
        (["cat", ""], "empty name"),
        (["cat"], "only 'cat' is known"),
        (["cat", "nothing"], "'nothing' has no images"),
    ],
)
def test_known_classes_that_cannot_be(photos, known, said):
    (photos / "nothing").mkdir()
    with pytest.raises(DataError, match=said):
        scan_folder(photos, known)


def test_folders_that_hold_no_classes(tmp_path):
    with pytest.raises(DataError, match="does not exist; name a folder"):
        scan_folder(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no images in class folders"):
        scan_folder(tmp_path / "empty")
    flat = fill(tmp_path, "flat", 2)
    with pytest.raises(DataError, match="images but no class folders; put the images of each"):
        scan_folder(flat)
    with pytest.raises(DataError, match="is a file, not a folder"):
        scan_folder(flat / "000.png")
    fill(tmp_path / "deep" / "animals", "cat", 1)
    fill(tmp_path / "deep" / "animals", "dog", 1)
    with pytest.raises(DataError, match=r"name .*deep.animals"):
        scan_folder(tmp_path / "deep")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read(photos):
    (photos / "cat").chmod(0)
    try:
        with pytest.raises(DataError, match="cannot be read: Permission denied"):
            scan_folder(photos)
    finally:
        (photos / "cat").chmod(0o755)


# ---- copies


def saved(pixels, ending, size=None, **how):
    """Pixels after a way through a file."""
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.resize(size, Image.Resampling.BICUBIC) if size else image).save(buffer, ending, **how)
    return np.asarray(Image.open(buffer).convert("RGB"))


def scene(seed):
    """A picture with large and small shapes, as photographs have."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    return np.asarray(coarse.resize((160, 120), Image.Resampling.BICUBIC))


def groups_of(numbers):
    """Rows that belong together, where there are several."""
    return [rows.tolist() for rows in members(numbers) if len(rows) > 1]


def test_copies_are_found_however_they_were_saved():
    pictures = [scene(seed) for seed in range(30)]
    pictures += [
        pictures[3],
        saved(pictures[4], "jpeg", quality=60),
        saved(pictures[5], "jpeg", quality=90, size=(80, 60)),
        np.ascontiguousarray(pictures[6][:, ::-1]),
        pictures[7][20:100],
    ]
    duplicates = find_duplicates([image_hash(pixels) for pixels in pictures])
    assert groups_of(duplicates.exact) == [[3, 30]]
    assert groups_of(duplicates.resaved) == [[3, 30], [4, 31], [5, 32]]
    assert not len(duplicates.look_alikes)


def test_a_grey_picture_saved_in_colour_is_the_same():
    grey = scene(0)[..., :1]
    assert image_hash(grey) == image_hash(np.repeat(grey, 3, axis=2))
    assert image_hash(grey) != image_hash(grey[:, ::-1])


def test_pictures_of_little_contrast_are_no_copies():
    rng = np.random.default_rng(0)
    flat = [128 + rng.integers(-3, 4, (32, 32, 1)) for _ in range(20)]
    duplicates = find_duplicates([image_hash(pixels.astype(np.uint8)) for pixels in flat])
    assert groups_of(duplicates.resaved) == []


def test_many_alike_are_no_copies():
    base = scene(0).astype(int)
    alike = [np.clip(base + (n % 2), 0, 255).astype(np.uint8) for n in range(240)]
    for number, pixels in enumerate(alike):
        pixels[0, 0] = number
    others = [scene(1), scene(1), saved(scene(1), "jpeg", quality=80)]
    duplicates = find_duplicates([image_hash(pixels) for pixels in (*alike, *others)])
    assert groups_of(duplicates.resaved) == [[240, 241, 242]]
    assert duplicates.look_alikes.tolist() == list(range(240))


def test_groups_follow_chains():
    numbers = connected(6, np.array([[0, 2], [2, 5]]))
    assert [rows.tolist() for rows in members(numbers)] == [[0, 2, 5], [1], [3], [4]]


# ---- the split


def files_of(sizes, split=""):
    return [
        ScannedFile(path=Path(f"/photos/{name}/{number}.png"), label=name, split=split)
        for name, count in sizes.items()
        for number in range(count)
    ]


def split(files, known, exact=(), resaved=(), look_alikes=(), divided=False, **options):
    def groups(*pairs):
        return connected(len(files), np.array([*pairs], np.int64).reshape(-1, 2))

    scan = ScannedFolder(
        folder=Path("/photos"),
        known=tuple(known),
        unknown=(),
        files=tuple(files),
        divided=divided,
        ignored=(),
    )
    duplicates = Duplicates(
        groups(*exact), groups(*exact, *resaved), np.array(look_alikes, np.int64)
    )
    return assign_splits(scan, files, duplicates, ImageFolderConfig(folder="/photos", **options))


def test_every_class_gives_its_share_and_the_seed_decides():
    files = files_of({"cat": 100, "dog": 40, "frog": 7})
    assignment = split(files, ["dog", "cat"])
    parts = np.array(assignment.splits)
    cat, dog, frog = parts[:100], parts[100:140], parts[140:]
    assert [(cat == part).sum() for part in ("train", "validation", "test")] == [65, 15, 20]
    assert [(dog == part).sum() for part in ("train", "validation", "test")] == [26, 6, 8]
    assert set(frog) == {"test"}
    assert split(files, ["dog", "cat"]).splits == assignment.splits
    assert split(files, ["cat", "dog", "frog"]).splits[:140] == assignment.splits[:140]
    assert split(files, ["dog", "cat"], split_seed=1).splits != assignment.splits


def test_copies_stay_on_one_side_and_are_named():
    files = files_of({"cat": 40, "dog": 40})
    exact = [[number, number + 20] for number in range(20)]
    resaved = [[40 + number, 60 + number] for number in range(10)]
    for seed in range(5):
        assignment = split(files, ["cat", "dog"], exact, resaved, split_seed=seed)
        for one, other in exact + resaved:
            assert assignment.splits[one] == assignment.splits[other]
        assert {"train", "validation", "test"} == set(assignment.splits[:40])
    assert assignment.notes[20] == "a copy of /photos/cat/0.png"
    text = "\n".join(assignment.findings)
    assert "30 files are copies of another of the class" in text
    assert "cat/0.png = cat/20.png" in text
    assert "and 25 more" in text


def test_a_picture_in_two_classes_is_left_out():
    files = files_of({"cat": 20, "dog": 20, "frog": 20})
    assignment = split(files, ["cat", "dog"], exact=[[0, 20], [1, 40], [41, 42]], resaved=[[2, 50]])
    parts = assignment.splits
    assert parts[0] == parts[20] == "left out"  # cat or dog?
    assert (parts[1] != "left out", parts[40]) == (True, "left out")  # a cat, so not unknown
    assert parts[41] == parts[42] == "test"
    assert parts[50] == "test"  # alike, yet perhaps another thing
    text = "\n".join(assignment.findings)
    assert "2 pictures lie in more than one class" in text


def test_test_images_of_a_divided_folder_keep_their_place():
    files = files_of({"cat": 30, "dog": 30}, "train") + files_of({"cat": 10, "dog": 9}, "test")
    files += files_of({"frog": 4}, "train") + files_of({"frog": 5}, "test")
    assignment = split(files, ["cat", "dog"], exact=[[0, 60]], resaved=[[1, 2]], divided=True)
    parts = assignment.splits
    assert parts[0] == "left out"  # its copy is for testing
    assert set(parts[60:79]) == {"test"}
    assert parts[1] == parts[2]
    assert set(parts[1:60]) == {"train", "validation"}
    assert set(parts[79:83]) == {"left out"}
    assert set(parts[83:]) == {"test"}
    assert any("classes that are not known were left out (frog)" in s for s in assignment.findings)


def test_look_alikes_are_split_and_named():
    files = files_of({"cat": 40, "dog": 40})
    assignment = split(files, ["cat", "dog"], exact=[[0, 1]], look_alikes=range(40))
    assert assignment.splits[:40].count("test") == 8
    assert assignment.splits[0] == assignment.splits[1]
    assert any("many images of cat look alike" in text for text in assignment.findings)


def test_small_classes():
    files = files_of({"cat": 30, "dog": 3, "cow": 2, "ant": 1})
    assignment = split(files, ["cat", "dog", "cow", "ant"])
    assert sorted(assignment.splits[30:33]) == ["test", "train", "validation"]
    assert sorted(assignment.splits[33:35]) == ["test", "train"]
    assert assignment.splits[35] == "train"
    assert any("few images" in text and "ant 1" in text for text in assignment.findings)
    assert any("rests on" in text for text in assignment.findings)
    with pytest.raises(DataError, match="no image of a known class is left for the threshold"):
        split(files_of({"cat": 2, "dog": 2}), ["cat", "dog"])
    with pytest.raises(DataError, match="'cat' has no image left to train on"):
        split(files_of({"cat": 1, "dog": 9}), ["cat", "dog"], exact=[[0, 1]])


# ---- lists


def test_lists_say_what_is_wrong_with_them(tmp_path):
    path = tmp_path / "images.csv"

    def refused(text, said):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match=said):
            read_list(path)

    with pytest.raises(DataError, match="cannot be read"):
        read_list(path)
    refused("path,label\n", "lacks the column class and file")
    refused("file,class\n", "lists no images")
    refused("file,class,part\na.png,cat,trian\n", "line 2: part is 'trian'; did you mean train")
    refused("file,class\na.png,\n", "line 2: the file or its class is missing")
    path.write_text("file,class,part\na.png,cat,test\nb.png,dog,unreadable\nc.png,dog,\n")
    assert [image.file for image in read_list(path)] == [tmp_path / "a.png", tmp_path / "c.png"]
    assert sides(path, 2) == {"train": [], "validation": [], "test": [0]}
    with pytest.raises(DataError, match="has 2 images, its data set 3"):
        sides(path, 3)


# ---- a run


def test_a_run_on_own_images_repeats_without_them(tiny, openset, photos, tmp_path):
    run = tmp_path / "run"
    command = ["run", "--data", photos, "--known", "horse,cat", "--plugins", "softmax,tiny"]
    command += ["--epochs", "1", "--device", "cpu", "--out", run]
    answer = openset(*command)
    assert answer.code == 0, answer.err
    assert "16 for training, 4 held out for the threshold, 4 known and 36 unknown" in answer.err
    assert "known: horse, cat; unknown: dog, frog, unknown" in answer.err
    assert "protocol photos" in answer.err
    assert "AUROC" in answer.out
    model = openset_core.load(run)
    assert model.classes == ("horse", "cat")
    assert model.description.image.fit == "crop"
    rows = listed(run)
    assert {Path(row["file"]).parent.name for row in rows if row["part"] == "test"} == {
        *(*COLOURS, "frog", "unknown"),
    }
    before = (run / "results.json").read_bytes()
    again = openset(*command)
    assert again.code == 0
    assert "the model is already trained" in again.err
    # The run folder holds all it needs, wherever it is moved to.
    photos.rename(tmp_path / "elsewhere")
    moved = run.rename(tmp_path / "moved")
    (moved / "features.h5").unlink()
    assert openset("run", moved, "--device", "cpu").code == 0
    assert (moved / "results.json").read_bytes() == before
    prediction = openset("predict", moved, tmp_path / "elsewhere" / "cat", "--format", "jsonl")
    assert prediction.code == 0
    assert len(prediction.out.splitlines()) == 12


def test_the_images_of_a_run_stay_as_they_were(tiny, photos, tmp_path):
    run = run_on(photos, tmp_path / "run")
    with pytest.raises(RunFolderError, match=r"on other images \(different: known\)"):
        run_on(photos, run.folder, known=["cat", "dog"])
    fill(photos, "cat", 1, first=99)
    (photos / "cat" / "000.png").rename(photos / "cat" / "new.png")
    with pytest.raises(RunFolderError, match=r"changed since .* was begun; continue with the ones"):
        run_on(photos, run.folder)
    assert api.load_run(run.folder).results == run.results


def test_own_settings_get_their_own_folder(tiny, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = run_on(photos, None)
    second = run_on(ImageFolderConfig(folder=photos, known=("cat", "dog"), image_size=16), None)
    assert first.folder != second.folder
    assert first.folder.name.startswith("photos-softmax-tiny-trial0-seed0")
    assert openset_core.load(second.folder).description.image.size == 16


def test_without_unknown_images_closed_set_figures_come_out(tiny, openset, photos, tmp_path):
    shutil.rmtree(photos / "unknown")
    shutil.rmtree(photos / "frog")
    run = tmp_path / "run"
    answer = openset(
        *("run", "--data", photos, "--plugins", "softmax,tiny", "--epochs", "1", "--out", run),
        *("--device", "cpu", "--threshold", "0.9"),
    )
    assert answer.code == 0, answer.err
    assert "no unknown images, so only closed-set figures" in answer.err
    assert answer.out.splitlines()[2].split() == ["scorer", "Accuracy", "Known", "accepted"]
    assert openset_core.load(run).fitted().record.acceptance == 0.9


def test_every_kind_of_file_is_read_or_named(tiny, photos, tmp_path):
    cat = photos / "cat"
    image = Image.fromarray(picture(7, COLOURS["cat"], (40, 30)))
    image.convert("CMYK").save(cat / "cmyk.jpg")
    image.quantize(16).save(cat / "palette.png")
    Image.fromarray(np.full((30, 40), 40000, np.uint16)).save(cat / "deep.png")
    image.convert("RGBA").save(cat / "transparent.webp", lossless=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(cat / "turned.JPG", exif=exif)
    frames = [Image.fromarray(picture(seed, size=(40, 30))) for seed in (8, 9)]
    frames[0].save(cat / "moving.gif", save_all=True, append_images=frames[1:])
    image.save(cat / "with space, comma\nand line.png")
    (cat / "zero.png").touch()
    (cat / "cut.jpg").write_bytes((cat / "cmyk.jpg").read_bytes()[:400])
    (cat / "text.jpg").write_text("not an image")
    if hasattr(os, "mkfifo"):
        os.mkfifo(cat / "pipe.jpg")
    else:
        (cat / "pipe.jpg").touch()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        run = run_on(photos, tmp_path / "run", known="cat,dog")
    text = "\n".join(str(item.message) for item in said)
    assert "4 files cannot be read" in text
    assert "cat/zero.png is empty" in text
    parts = {Path(row["file"]).name: row for row in listed(run.folder)}
    assert {name for name, row in parts.items() if row["part"] == "unreadable"} == {
        *("zero.png", "cut.jpg", "text.jpg", "pipe.jpg"),
    }
    assert "is damaged" in parts["cut.jpg"]["note"]
    assert parts["with space, comma\nand line.png"]["part"] in ("train", "validation", "test")
    assert sum(run.results.samples.values()) == 60 + 7
    assert not [name for name in os.listdir(tmp_path / "run") if name.endswith(".partial")]


def test_images_of_nobody_readable(tiny, photos, tmp_path):
    for path in (photos / "cat").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match="no image of known class 'cat' can be read; the first: "):
        run_on(photos, tmp_path / "run", known="cat,dog")
    assert not (tmp_path / "run").exists()


def test_training_and_prediction_see_the_same_pixels(tiny, photos, tmp_path):
    wide = picture(3, COLOURS["cat"], (90, 40))
    Image.fromarray(wide).save(photos / "cat" / "wide.png")
    run = run_on(ImageFolderConfig(folder=photos, image_size=32, fit="stretch"), tmp_path / "run")
    protocol = load_protocol(str(run.folder / "images" / "protocol.toml"))
    data = prepare_data(protocol, 0, Path("nowhere"))
    (row,) = [n for n, r in enumerate(listed(run.folder)) if r["file"].endswith("wide.png")]
    trained = data.splits["train"].images.gather(np.array([row]))[0]
    image = openset_core.load(run.folder).description.image
    for form in (photos / "cat" / "wide.png", wide, Image.fromarray(wide)):
        seen = inference_input(form, image)[0].permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(seen, trained)
    cropped = inference_input(wide, ImageOptions(size=40, fit="crop"))[0].permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(cropped, wide[:, 25:65])


def test_mistakes_are_said_before_images_are_read(tiny, openset, photos, tmp_path, monkeypatch):
    def no_reading(*_arguments, **_options):
        raise AssertionError("an image was read")

    monkeypatch.setattr("openset_core.data.image_folders.setup.write_prepared", no_reading)
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "letter.txt").touch()
    for arguments, said in (
        (["--plugins", "softmacks"], "'softmacks'"),
        (["--protocol", "digits"], "exclude each other"),
        (["--trials", "all"], "one trial"),
        (["--test", "0.9", "--validation", "0.3"], "leave nothing to train on"),
        (["--image-size", "3"], "image_size"),
        (["--out", taken], "not empty and no run folder"),
        (["--set", "softmax.nonsense=1"], "nonsense"),
    ):
        answer = openset("run", "--data", photos, *arguments)
        assert (answer.code, answer.err.count("\n")) == (2, 1), answer.err
        assert said in answer.err
    answer = openset("run", "--known", "cat,dog")
    assert (answer.code, "name their folder" in answer.err) == (2, True)
    with pytest.raises(ConfigError, match="described twice"):
        api.run(data=ImageFolderConfig(folder=photos), known="cat,dog")


def test_interrupted_reading_leaves_nothing(tiny, photos, tmp_path, monkeypatch):
    from openset_core.data.image_folders import setup

    def broken(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(setup, "find_duplicates", broken)
    with pytest.raises(KeyboardInterrupt):
        run_on(photos, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_finished_run_gets_scorers_and_observers_by_run(openset, finished):
    answer = openset("run", finished, "--plugins", "energy,csv", "--device", "cpu")
    assert answer.code == 0, answer.err
    assert {line.split()[0] for line in answer.out.splitlines() if line} >= {"msp", "energy"}
    assert (finished / "log.csv").exists()
    other = openset("run", finished, "--plugins", "gcpl", "--device", "cpu")
    assert (other.code, "softmax and gcpl are 2 components of kind loss" in other.err) == (2, True)
