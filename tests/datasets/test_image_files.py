"""Pictures in files as an array: rows as NumPy takes them, decoded as pillow does, damage named."""

import pickle

import numpy as np
import pytest
from PIL import Image

from certimetric.datasets.image_files import ImageFiles


@pytest.fixture
def files(tmp_path, rng):
    paths = []
    for i in range(6):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(paths[-1])
    return ImageFiles(paths, size=12)


def test_it_is_an_array(files):
    assert files.shape == (6, 3, 12, 12)
    assert (files.ndim, len(files), files.dtype) == (4, 6, np.float32)
    whole = np.stack([np.asarray(Image.open(path)).transpose(2, 0, 1) / 255 for path in files.paths])
    np.testing.assert_allclose(files[:], whole, rtol=1e-6)
    np.testing.assert_array_equal(np.asarray(files), files[:])
    np.testing.assert_array_equal(np.stack(list(files)), files[:])


@pytest.mark.parametrize(
    "key",
    [
        0,
        -1,
        np.int64(3),
        slice(1, 5, 2),
        slice(None, None, -1),
        slice(4, 99),
        [4, 0, 0],
        [],
        np.array([5, -6]),
        np.array([True, False] * 3),
        [False] * 6,
    ],
)
def test_rows_as_numpy_takes_them(files, key):
    expected = files[:][key]
    found = files[key]
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("key", [6, -7, [0, 6], [0.5], [[0, 1]], np.ones(5, dtype=bool), (0, 1), "a"])
def test_no_such_rows(files, key):
    with pytest.raises(IndexError):
        files[key]


def test_other_kinds_of_pictures_become_red_green_and_blue(tmp_path):
    grey = np.arange(144, dtype=np.uint8).reshape(12, 12)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(grey).convert("P").save(tmp_path / "palette.gif")
    Image.fromarray(grey).convert("RGBA").save(tmp_path / "alpha.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "sixteen.png")
    Image.fromarray(grey).save(tmp_path / "in truth a png.jpg", "PNG")
    found = ImageFiles(sorted(tmp_path.iterdir()), 12)[:]
    np.testing.assert_allclose(found, np.broadcast_to(grey / 255, (5, 3, 12, 12)), rtol=1e-6)


def test_centre_at_the_size(tmp_path):
    values = np.zeros((60, 20, 3), dtype=np.uint8)
    values[16:44] = 255  # the middle third, and a little beyond
    Image.fromarray(values).save(tmp_path / "tall.png")
    Image.fromarray(values.transpose(1, 0, 2)).save(tmp_path / "wide.png")
    for size in (10, 20, 30):
        pictures = ImageFiles([tmp_path / "tall.png", tmp_path / "wide.png"], size)
        assert (pictures[:] == 1).all()
    # The same as resizing the whole and cutting out the centre.
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 96, 3), dtype=np.uint8))
    noise.save(tmp_path / "noise.png")
    whole = np.asarray(noise.resize((24, 12), Image.Resampling.BILINEAR).crop((6, 0, 18, 12))).transpose(2, 0, 1) / 255
    found = ImageFiles([tmp_path / "noise.png"], 12)[0]
    np.testing.assert_allclose(found, whole, atol=1.5 / 255)


def test_nothing_is_read_before_it_is_asked_for(files):
    files.paths[2].unlink()
    files.paths[4].write_bytes(b"no picture")
    assert files[[0, 1, 3, 5]].shape == (4, 3, 12, 12)
    with pytest.raises(FileNotFoundError, match=r"there is no file '.*2\.png'"):
        files[:]
    with pytest.raises(ValueError, match=r"the image '.*4\.png' cannot be read: cannot identify"):
        files[3:]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"])
def test_pictures_cut_short_are_named(tmp_path, rng, kind):
    path = tmp_path / f"half.{kind.lower()}"
    Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path, kind)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=r"half.* cannot be read: .") as caught:
        ImageFiles([path], 12)[0]
    assert "\n" not in str(caught.value)


def test_huge_pictures_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    Image.new("RGB", (12, 12)).save(tmp_path / "bomb.png")
    with pytest.raises(ValueError, match=r"bomb\.png' cannot be read: .*decompression bomb"):
        ImageFiles([tmp_path / "bomb.png"], 12)[0]


@pytest.mark.parametrize("size", [0, -3, 2.5, "224", True, None])
def test_size_is_a_whole_number(size):
    with pytest.raises(ValueError, match="size must be a whole number of pixels from 1"):
        ImageFiles([], size)


def test_a_process_of_a_loader_may_have_it(files):
    again = pickle.loads(pickle.dumps(files))
    np.testing.assert_array_equal(again[1:3], files[1:3])
