"""Image files of every kind, sound and damaged."""

from __future__ import annotations

import contextlib
import os
import warnings

import numpy as np
import pytest
from PIL import Image

from openset_core.data import reading
from openset_core.data.reading import image_files, pixels_of, read_image
from openset_core.errors import DataError

RAMP = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10


@pytest.fixture
def saved(tmp_path):
    def save(image, name="picture.png", **options):
        path = tmp_path / name
        image.save(path, **options)
        return path

    return save


def test_grey_and_colour_come_back_bit_for_bit(saved):
    np.testing.assert_array_equal(read_image(saved(Image.fromarray(RAMP)))[..., 0], RAMP)
    colour = np.stack([RAMP, RAMP + 3, 255 - RAMP], axis=2)
    found = read_image(str(saved(Image.fromarray(colour), "colour.png")))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, colour)


def test_the_ending_of_the_name_does_not_matter(saved):
    path = saved(Image.fromarray(RAMP))
    np.testing.assert_array_equal(read_image(path.rename(path.with_suffix(".txt")))[..., 0], RAMP)


@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_orientation_is_applied(saved, turn):
    exif = Image.Exif()
    exif[0x0112] = turn
    upright = np.zeros((16, 32), dtype=np.uint8)
    upright[:8, :8] = 255  # a mark in the upper left corner
    as_stored = {  # the transposition that the orientation undoes
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }[turn]
    path = saved(Image.fromarray(np.ascontiguousarray(as_stored)), "t.jpg", exif=exif, quality=95)
    found = read_image(path)
    assert found.shape == (16, 32, 1)
    assert np.abs(found[..., 0].astype(int) - upright).max() < 30


def test_sixteen_bits_keep_their_high_byte(saved):
    wide = (RAMP.astype(np.uint16) << 8) + 77
    path = saved(Image.fromarray(wide))
    assert Image.open(path).mode.startswith("I")
    np.testing.assert_array_equal(read_image(path)[..., 0], RAMP)


def test_palette_becomes_rgb(saved):
    image = Image.fromarray(RAMP).convert("P")
    image.putpalette([value for index in range(256) for value in (index, 0, 255 - index)])
    found = read_image(saved(image))
    np.testing.assert_array_equal(found[..., 0], RAMP)
    np.testing.assert_array_equal(found[..., 2], 255 - RAMP)


def test_black_and_white_becomes_grey(saved):
    found = read_image(saved(Image.fromarray(RAMP > 100)))
    np.testing.assert_array_equal(found[..., 0], np.where(RAMP > 100, 255, 0))


def test_cmyk_becomes_rgb(saved):
    ink = Image.new("CMYK", (8, 8), (255, 0, 0, 0))
    found = read_image(saved(ink, "ink.jpg", quality=95))
    assert found.shape == (8, 8, 3)
    red, green, blue = found.reshape(-1, 3).mean(axis=0)
    assert red < 60
    assert green > 100 < blue


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pixels_are_white(saved, mode):
    image = Image.new(mode, (2, 1), (0,) * len(mode))
    image.putpixel((1, 0), (10,) * (len(mode) - 1) + (255,))
    found = read_image(saved(image))
    assert found.shape == (1, 2, len(mode) - 1)
    assert (found[0, 0] == 255).all()
    assert (found[0, 1] == 10).all()


def test_half_transparent_is_mixed_with_white(saved):
    found = read_image(saved(Image.new("RGBA", (1, 1), (0, 0, 0, 128))))
    assert abs(int(found[0, 0, 0]) - 127) <= 1


def test_transparent_colour_of_a_palette_is_white(saved):
    image = Image.new("P", (2, 1), 0)
    image.putpalette([0, 0, 0, 9, 9, 9])
    image.putpixel((1, 0), 1)
    found = read_image(saved(image, "one.gif", transparency=0))
    assert found[0, :, 0].tolist() == [255, 9]


def test_first_image_of_an_animation_counts(saved):
    first, second = (Image.new("L", (3, 3), value) for value in (40, 200))
    path = saved(first, "moving.gif", save_all=True, append_images=[second, second])
    assert Image.open(path).n_frames > 1
    assert np.unique(read_image(path)).tolist() == [40]


def test_a_pil_image_follows_the_same_rules_and_stays_as_it_is():
    image = Image.new("RGBA", (2, 2), (0, 0, 0, 0))
    assert (pixels_of(image) == 255).all()
    assert image.mode == "RGBA"


# --- what cannot be read --------------------------------------------------------------------------


def refused(path):
    with pytest.raises(DataError) as caught:
        read_image(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def test_missing_empty_and_foreign_files(tmp_path):
    assert "does not exist" in refused(tmp_path / "none.png")
    assert "is a folder" in refused(tmp_path)
    (tmp_path / "link.png").symlink_to(tmp_path / "none.png")
    assert "link.png is a link to a file that does not exist" in refused(tmp_path / "link.png")
    empty, text = tmp_path / "empty.png", tmp_path / "text.png"
    empty.touch()
    text.write_text("no picture")
    assert "is empty" in refused(empty)
    assert "is no image" in refused(text)
    if os.geteuid():
        text.chmod(0)
        assert "permission denied" in refused(text)


@pytest.mark.parametrize("ending", ["png", "jpg", "gif", "tif", "bmp", "webp"])
def test_truncated_files_are_damaged(saved, ending):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    path = saved(Image.fromarray(noise), f"cut.{ending}")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert "damaged" in refused(path) or "no image" in refused(path)


def test_flipped_bytes_never_escape_as_another_error(saved):
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    path = saved(Image.fromarray(noise))
    sound = path.read_bytes()
    rng = np.random.default_rng(1)
    for _attempt in range(200):
        content = bytearray(sound)
        for place in rng.integers(0, len(content), 3):
            content[place] ^= int(rng.integers(1, 256))
        path.write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with contextlib.suppress(DataError):
                assert read_image(path).dtype == np.uint8


def test_giant_images_are_refused_before_they_are_unpacked(saved, monkeypatch):
    monkeypatch.setattr(reading, "MAX_PIXELS", 100)
    said = refused(saved(Image.new("L", (11, 10))))
    assert "too large (11 x 10 pixels, more than 100); make it smaller" in said


def test_bomb_is_refused(saved, monkeypatch):
    path = saved(Image.new("1", (3000, 3000)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert "too large" in refused(path)


def test_floating_point_pixels_are_refused(saved):
    path = saved(Image.fromarray(RAMP.astype(np.float32)), "float.tif")
    assert "floating-point" in refused(path)


# --- folders --------------------------------------------------------------------------------------


def test_folders_are_searched_in_order(tmp_path):
    for name in (
        "b/2.PNG",
        "b/1.jpg",
        "a/x/3.webp",
        "0.png",
        "notes.txt",
        ".hidden.png",
        ".h/4.png",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "loop").symlink_to(tmp_path)
    found = [str(path.relative_to(tmp_path)) for path in image_files(tmp_path)]
    assert found == ["0.png", "a/x/3.webp", "b/1.jpg", "b/2.PNG"]
