"""The feature store: written whole or not at all, read in any portions, never trusted blindly."""

from __future__ import annotations

import contextlib
import json

import h5py
import numpy as np
import pytest

from openset_core.errors import RunFolderError, StoreError
from openset_core.features.store import (
    FORMAT,
    FeatureStore,
    FeatureWriter,
    StoredLandmarks,
    StoredSplit,
    as_float,
    changed,
    key_of,
)

INGREDIENTS = {"weights": "abc", "image": {"size": 16}, "torch": "2.11"}


def make_part(rows, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "embedding": rng.normal(size=(rows, 5)).astype(np.float32),
        "logits": rng.normal(size=(rows, 3)).astype(np.float32),
        "label": rng.integers(0, 3, size=rows),
        "index": np.arange(rows),
    }


def batches(part, size):
    rows = len(part["label"])
    for start in range(0, rows, size):
        yield {name: array[start : start + size] for name, array in part.items()}


def broken_after(part, size, count):
    """`count` batches, then an error such as a stopped run gives."""
    for number, batch in enumerate(batches(part, size)):
        if number == count:
            break
        yield batch
    raise InterruptedError("stopped")


def leave_partial(path, ingredients, parts=None, finished_batches=1):
    """Write all parts but the last, of that some batches, and stop; the file that is left."""
    parts = parts or {"train": make_part(250, seed=9), "known": make_part(250, seed=8)}
    *whole, last = parts
    stopped = broken_after(parts[last], 100, finished_batches)
    with contextlib.suppress(InterruptedError), FeatureWriter(path, ingredients, 3) as writer:
        for name in whole:
            writer.write_split(name, batches(parts[name], 100))
        writer.write_split(last, stopped)
    assert writer.partial.exists()
    return writer.partial


def write(path, parts, size=100, ingredients=INGREDIENTS):
    with FeatureWriter(path, ingredients, num_classes=3) as writer:
        for name, part in parts.items():
            writer.write_split(name, batches(part, size))


def assert_holds(path, parts):
    with FeatureStore(path) as store:
        assert sorted(store.splits) == sorted(parts)
        for name, part in parts.items():
            assert store.rows(name) == len(part["label"])
            for array, values in part.items():
                found = store.array(name, array)
                assert found.dtype == values.dtype
                np.testing.assert_array_equal(found, values)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "features.h5"


# --- writing and reading --------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "size"), [(60, 1), (2500, 300), (2500, 1024), (2500, 2500)])
def test_appending_batches_equals_one_write(path, rows, size):
    parts = {"train": make_part(rows), "known": make_part(9, seed=1)}
    write(path, parts, size)
    assert_holds(path, parts)


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_chunks_equal_the_whole(path, size):
    part = make_part(150)
    write(path, {"train": part})
    with FeatureStore(path) as store:
        chunks = list(store.chunks("train", "logits", "label", size=size))
    assert [len(chunk["label"]) for chunk in chunks[:-1]] == [size] * (len(chunks) - 1)
    for name in ("logits", "label"):
        np.testing.assert_array_equal(np.concatenate([c[name] for c in chunks]), part[name])
    assert all(set(chunk) == {"logits", "label"} for chunk in chunks)


def test_part_names_may_hold_a_slash(path):
    parts = {
        "train": make_part(4),
        "unknown/near": make_part(5, seed=1),
        "unknown/far": make_part(6, seed=2),
    }
    write(path, parts)
    assert_holds(path, parts)


def test_part_of_store_is_what_a_scorer_sees(path):
    part = make_part(20)
    write(path, {"train": part})
    with FeatureStore(path) as store:
        source = StoredSplit(store, "train", ("embedding", "label"))
        assert (source.num_classes, source.rows) == (3, 20)
        (own,) = source.chunks()
        assert set(own) == {"embedding", "label"}
        for _again in range(2):  # a scorer may read the part twice
            (named,) = source.chunks("index")
            np.testing.assert_array_equal(named["index"], part["index"])


def test_missing_array_is_named(path):
    write(path, {"train": make_part(4)})
    with FeatureStore(path) as store, pytest.raises(StoreError) as caught:
        store.array("train", "gradients")
    assert "no array 'gradients' for split train" in str(caught.value)
    assert "embedding, index, label, logits" in str(caught.value)


def test_key_depends_on_values_not_on_order():
    shuffled = dict(reversed(INGREDIENTS.items()))
    assert key_of(shuffled) == key_of(INGREDIENTS)
    assert key_of({**INGREDIENTS, "weights": "abd"}) != key_of(INGREDIENTS)
    assert changed(INGREDIENTS, {**shuffled, "weights": "x", "new": 1}) == ["new", "weights"]
    assert changed(INGREDIENTS, shuffled) == []


def test_low_precision_tensors_become_float32():
    import torch

    values = torch.tensor([[1.0, -2.5]], dtype=torch.bfloat16, requires_grad=True)
    array = as_float(values)
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, [[1.0, -2.5]])


# --- whole or not at all ------------------------------------------------------------------------


def test_file_appears_only_on_success(path):
    part = make_part(300)
    with FeatureWriter(path, INGREDIENTS, 3) as writer:
        writer.write_split("train", batches(part, 100))
        assert not path.exists()
    assert path.exists()
    assert list(path.parent.iterdir()) == [path]


def test_old_store_stays_until_the_new_one_is_whole(path):
    old, new = make_part(10), make_part(30, seed=1)
    write(path, {"train": old})
    other = {**INGREDIENTS, "weights": "new"}
    with pytest.raises(InterruptedError), FeatureWriter(path, other, 3) as writer:
        writer.write_split("train", broken_after(new, 10, 2))
    assert_holds(path, {"train": old})
    write(path, {"train": new}, ingredients=other)
    assert_holds(path, {"train": new})


@pytest.mark.parametrize("finished_batches", [0, 1, 2])
@pytest.mark.parametrize("name", ["known", "unknown/near"])
def test_interrupted_writer_goes_on_after_the_complete_parts(path, name, finished_batches):
    first, second = make_part(250), make_part(220, seed=1)
    leave_partial(path, INGREDIENTS, {"train": first, name: second}, finished_batches)
    assert not path.exists()
    with FeatureWriter(path, INGREDIENTS, 3) as writer:
        assert writer.has("train")
        assert not writer.has(name)
        writer.write_split(name, batches(second, 100))
        assert writer.has(name)
    assert_holds(path, {"train": first, name: second})


def test_a_part_redone_by_the_same_writer_replaces_the_torn_one(path):
    part = make_part(220)
    with FeatureWriter(path, INGREDIENTS, 3) as writer:
        with pytest.raises(InterruptedError):
            writer.write_split("train", broken_after(part, 100, 1))
        assert not writer.has("train")
        writer.write_split("train", batches(part, 100))
    assert_holds(path, {"train": part})


def test_partial_file_with_another_key_is_replaced(path):
    leave_partial(path, {**INGREDIENTS, "weights": "old"})
    parts = {"train": make_part(30), "known": make_part(20, seed=1)}
    with FeatureWriter(path, INGREDIENTS, 3) as writer:
        assert not writer.has("train")
        for name, part in parts.items():
            writer.write_split(name, batches(part, 10))
    assert_holds(path, parts)
    with FeatureStore(path) as store:
        assert store.ingredients == INGREDIENTS


@pytest.mark.parametrize("damage", ["garbage", "truncated", "empty", "foreign"])
def test_damaged_partial_file_is_replaced(path, damage):
    partial = leave_partial(path, INGREDIENTS)
    content = partial.read_bytes()
    if damage == "foreign":
        with h5py.File(partial, "w") as file:
            file["numbers"] = np.arange(3)
    else:
        partial.write_bytes(
            {"garbage": b"nonsense" * 500, "truncated": content[: len(content) // 2], "empty": b""}[
                damage
            ]
        )
    parts = {"train": make_part(30)}
    write(path, parts)
    assert_holds(path, parts)


def test_unwritable_place_is_said_in_one_sentence(tmp_path):
    (tmp_path / "run").write_text("a file where a folder should be")
    with (
        pytest.raises(RunFolderError, match="cannot be written"),
        FeatureWriter(tmp_path / "run" / "features.h5", INGREDIENTS, 3),
    ):
        pass


# --- damaged and foreign files ------------------------------------------------------------------


def change_attribute(path, name, value):
    with h5py.File(path, "r+") as file:
        if value is None:
            del file.attrs[name]
        else:
            file.attrs[name] = value


def truncate(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])


def forget_completeness(path):
    with h5py.File(path, "r+") as file:
        del file["parts/train"].attrs["complete"]


def lose_parts(path):
    with h5py.File(path, "r+") as file:
        del file["parts"]


def lose_labels(path):
    with h5py.File(path, "r+") as file:
        del file["parts/train/label"]


def lose_rows(path):
    with h5py.File(path, "r+") as file:
        file["parts/train/logits"].resize(10, axis=0)


def other_ingredients(path):
    change_attribute(path, "ingredients", json.dumps({**INGREDIENTS, "weights": "other"}))


DAMAGE = {
    "missing": lambda path: path.unlink(),
    "folder": lambda path: (path.unlink(), path.mkdir()),
    "empty": lambda path: path.write_bytes(b""),
    "not HDF5": lambda path: path.write_text("accuracy,0.9\n" * 400),
    "truncated": truncate,
    "foreign HDF5": lambda path: h5py.File(path, "w").close(),
    "other format": lambda path: change_attribute(path, "format", FORMAT + "0"),
    "changed key": lambda path: change_attribute(path, "key", key_of({"weights": "other"})),
    "no key": lambda path: change_attribute(path, "key", None),
    "changed ingredients": other_ingredients,
    "unreadable ingredients": lambda path: change_attribute(path, "ingredients", "{"),
    "ingredients no text": lambda path: change_attribute(path, "ingredients", 3),
    "incomplete part": forget_completeness,
    "no parts": lose_parts,
    "no labels": lose_labels,
    "lost rows": lose_rows,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_damaged_or_foreign_store_is_refused_in_one_sentence(path, damage):
    write(path, {"train": make_part(3000)})
    damage(path)
    with pytest.raises(StoreError) as caught:
        FeatureStore(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "openset extract RUN" in message
    assert "\n" not in message


def test_changed_numbers_are_noticed(path):
    part = make_part(3000)
    write(path, {"train": part})
    content = bytearray(path.read_bytes())
    place = content.find(part["logits"][1500].tobytes())
    assert place > 0
    content[place] ^= 0x40
    path.write_bytes(content)
    with FeatureStore(path) as store:
        np.testing.assert_array_equal(store.array("train", "embedding"), part["embedding"])
        with pytest.raises(StoreError, match="damaged in split train"):
            store.array("train", "logits")


# ---- what the loss learnt


def test_what_the_loss_learnt_is_kept_beside_the_features(tmp_path):
    path = tmp_path / "features.h5"
    points = StoredLandmarks(np.eye(2, 5, dtype=np.float32), np.array([1, 0]), "corner")
    with FeatureWriter(path, INGREDIENTS, 3) as writer:
        writer.write_split("train", batches(make_part(20), 10))
        writer.write_loss({"radius": 1.0}, points)
        writer.write_loss({"radius": 2.5}, points)  # an interrupted writer said it before
    with FeatureStore(path) as store:
        assert store.splits == ["train"]
        assert store.describes_loss
        assert store.learned_scalars == {"radius": 2.5}
        np.testing.assert_array_equal(store.landmarks.points, points.points)
        np.testing.assert_array_equal(store.landmarks.labels, points.labels)
        assert store.landmarks.name == "corner"


def test_a_loss_without_landmarks_is_told_from_a_store_that_does_not_say(tmp_path):
    silent, none = tmp_path / "silent.h5", tmp_path / "none.h5"
    for path in (silent, none):
        with FeatureWriter(path, INGREDIENTS, 3) as writer:
            writer.write_split("train", batches(make_part(20), 10))
            if path == none:
                writer.write_loss({}, None)
    with FeatureStore(silent) as before, FeatureStore(none) as after:
        assert (before.describes_loss, after.describes_loss) == (False, True)
        assert before.landmarks is None
        assert after.landmarks is None
        assert before.learned_scalars == after.learned_scalars == {}
