"""`openset predict`: files, folders and lists; tables and lines for programs; bad files."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image

import openset_core
from openset_core.inference.predict import UnreadableFile, find_files, predict_files
from openset_core.inference.trained_model import UNKNOWN


@pytest.fixture
def photos(tmp_path):
    """Six pictures in two folders, of which one is broken, beside a text."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.jpg", "c.png", "more/d.png", "more/e.webp"):
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(folder / name)
    (folder / "broken.png").write_bytes((folder / "a.png").read_bytes()[:300])
    (folder / "notes.txt").write_text("no picture")
    return folder


GOOD = ["a.png", "b.jpg", "c.png", "more/d.png", "more/e.webp"]


def rows_of(answer):
    return list(csv.DictReader(io.StringIO(answer.out)))


def test_folder_gives_a_row_a_picture_and_lists_the_bad(openset, finished, photos):
    answer = openset("predict", finished, photos, "--format", "csv")
    assert answer.code == 1
    rows = rows_of(answer)
    assert [row["file"] for row in rows] == [str(photos / name) for name in GOOD]
    model = openset_core.load(finished)
    found = model.predictions([photos / name for name in GOOD])
    assert [row["label"] for row in rows] == found.labels
    np.testing.assert_allclose([float(row["score"]) for row in rows], found.scores, atol=1e-6)
    assert [row["unknown"] for row in rows] == [str(value).lower() for value in found.unknown]
    for number, row in enumerate(rows):
        top = found.top(number, 3)
        assert [row[f"class_{n}"] for n in (1, 2, 3)] == [name for name, _ in top]
    assert answer.err.splitlines()[-2] == "1 could not be read:"
    assert str(photos / "broken.png") in answer.err.splitlines()[-1]
    assert "damaged" in answer.err


def test_json_lines(openset, finished, photos):
    answer = openset("predict", finished, photos / "a.png", "--format", "jsonl", "--top", "2")
    assert answer.code == 0
    (row,) = map(json.loads, answer.out.splitlines())
    assert row.keys() == {"file", "label", "unknown", "score", "top"}
    assert len(row["top"]) == 2
    assert (row["label"] == UNKNOWN) is row["unknown"]


def test_table_lines_up(openset, finished, photos):
    answer = openset("predict", finished, photos / "more", photos / "a.png")
    header, *lines = answer.out.splitlines()
    assert header.split() == ["file", "label", "score", "likeliest", "known", "classes"]
    place = header.index("label")
    assert [line[:place].rstrip() for line in lines] == [
        str(photos / "more/d.png"),
        str(photos / "more/e.webp"),
        str(photos / "a.png"),
    ]
    plain = openset("predict", finished, photos / "a.png", "--top", "0")
    assert "%" not in plain.out


def test_list_on_standard_input(openset, finished, photos, monkeypatch):
    listed = f"{photos / 'c.png'}\n\n{photos / 'a.png'}\r\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(listed))
    answer = openset("predict", finished, "-", photos / "b.jpg", "--format", "csv")
    assert answer.code == 0
    names = [row["file"] for row in rows_of(answer)]
    assert names == [str(photos / name) for name in ("c.png", "a.png", "b.jpg")]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    answer = openset("predict", finished, "-")
    assert (answer.code, answer.err) == (2, "error: no image was named on standard input\n")


def test_output_file_appears_whole(openset, finished, photos, tmp_path):
    target = tmp_path / "new" / "labels.csv"
    answer = openset("predict", finished, photos, "--format", "csv", "--output", target)
    assert (answer.code, answer.out) == (1, "")
    assert len(target.read_text(encoding="utf-8").splitlines()) == 6
    assert [path.name for path in target.parent.iterdir()] == ["labels.csv"]


def test_output_file_of_an_interrupted_call_is_not_there(
    openset, finished, photos, tmp_path, monkeypatch
):
    target = tmp_path / "labels.csv"
    target.write_text("old")

    def stop(*_arguments, **_options):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr("openset_core.inference.predict.predict_files", stop)
    assert openset("predict", finished, photos, "--output", target).code == 2
    assert target.read_text() == "old"
    assert not list(tmp_path.glob(".*partial"))


def test_threshold_counts_for_the_call_alone(openset, finished, photos):
    def labels(*more):
        answer = openset("predict", finished, photos / "more", "--format", "csv", *more)
        assert answer.code == 0, answer.err
        return [row["label"] for row in rows_of(answer)]

    stored = labels()
    assert labels("--threshold", "score=-1") == [UNKNOWN] * 2
    assert UNKNOWN not in labels("--threshold", "msp:score=2")
    assert "threshold 2" in openset("predict", finished, photos, "--threshold", "score=2").err
    assert labels() == stored
    model = openset_core.load(finished)
    everything = openset("predict", finished, photos / "a.png", "--threshold", "1.0").err
    assert f"threshold {model.threshold:.6g}" not in everything


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--threshold", "7"], "not of the form"),
        (["--threshold", "knn:0.9"], "'knn', which is no scorer of this run; it has msp"),
        (["--scorer", "knn"], "no fitted scorer 'knn'"),
        (["--top", "-1"], "--top"),
        (["--batch-size", "0"], "--batch-size"),
        (["--format", "xml"], "xml"),
    ],
)
def test_mistakes_of_the_user(openset, finished, photos, arguments, said):
    answer = openset("predict", finished, photos, *arguments)
    assert answer.code == 2
    assert said in answer.err
    assert answer.out == ""


def test_mistaken_places(openset, finished, photos, tmp_path):
    answer = openset("predict", tmp_path / "none", photos)
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert openset("predict", finished).code == 2
    (tmp_path / "empty").mkdir()
    answer = openset("predict", finished, tmp_path / "empty", tmp_path / "none.png")
    assert answer.code == 1
    assert answer.err.splitlines()[-2:] == [
        f"  {tmp_path / 'empty'} is a folder without image files",
        f"  {tmp_path / 'none.png'} does not exist",
    ]


def test_share_to_accept_needs_the_run_s_scores(openset, finished, photos):
    (finished / "scores.h5").unlink()
    answer = openset("predict", finished, photos, "--threshold", "0.9")
    assert answer.code == 2
    assert "give the threshold as score=VALUE" in answer.err


def test_strange_names_do_not_reach_the_terminal(openset, finished, photos, tmp_path):
    strange = tmp_path / "evil\x1b[31m\nname.png"
    strange.write_bytes((photos / "a.png").read_bytes())
    bad = tmp_path / "bad\x1b.png"
    bad.touch()
    answer = openset("predict", finished, strange, bad)
    assert "\x1b" not in answer.out + answer.err
    assert "evil\\x1b[31m\\nname.png" in answer.out
    (row,) = rows_of(openset("predict", finished, strange, "--format", "csv"))
    assert row["file"] == str(strange)


def test_batches_keep_the_order_and_the_bad_do_not_stop_them(finished, photos):
    model = openset_core.load(finished)
    names = [str(photos / name) for name in (*GOOD, "broken.png", *GOOD)]
    for size in (1, 2, 5, 100):
        found = list(predict_files(model, names, batch_size=size))
        good = [item.path for item in found if not isinstance(item, UnreadableFile)]
        assert good == [str(photos / name) for name in (*GOOD, *GOOD)]
        assert len(found) == 11


def test_files_are_found_by_name_and_in_folders(photos):
    found = list(find_files([str(photos / "notes.txt"), str(photos)]))
    assert found[0] == str(photos / "notes.txt")  # named outright: tried, whatever it is called
    assert [path[len(str(photos)) + 1 :] for path in found[1:]] == [
        "a.png",
        "b.jpg",
        "broken.png",
        "c.png",
        "more/d.png",
        "more/e.webp",
    ]
