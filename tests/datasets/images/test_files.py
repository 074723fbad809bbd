"""Pictures in files as an array: rows as NumPy takes them, decoded as pillow does, damage named."""

import pickle
import warnings

import numpy as np
import pytest
from PIL import Image

from certimetric.datasets.images.files import ImageFiles


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


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpg", "png", "tiff", "webp"])
def test_pictures_are_upright(tmp_path, orientation, kind):
    # Corners of four shades tell the eight ways apart; stored as a camera that was held so would have stored them.
    upright = np.kron(np.array([[0, 80], [160, 240]], dtype=np.uint8), np.ones((16, 16), dtype=np.uint8))
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"turned.{kind}"
    options = {"lossless": True} if kind == "webp" else {"quality": 100} if kind == "jpg" else {}
    Image.fromarray(np.ascontiguousarray(stored)).convert("RGB").save(path, exif=exif, **options)
    found = ImageFiles([path], 32)[0]
    np.testing.assert_allclose(found, np.broadcast_to(upright / 255, (3, 32, 32)), atol=0.03)


def test_a_damaged_note_of_orientation_leaves_the_picture_as_it_is(tmp_path):
    values = np.arange(144, dtype=np.uint8).reshape(12, 12)
    Image.fromarray(values).save(tmp_path / "note.png", exif=b"Exif\x00\x00MM\x00*\x00\x00\xff\xff" + b"\xff" * 9)
    np.testing.assert_allclose(ImageFiles([tmp_path / "note.png"], 12)[0][0], values / 255, rtol=1e-6)


@pytest.mark.parametrize("kind", ["RGBA", "LA", "palette", "colour key", "grey key", "webp"])
def test_transparent_pictures_lie_on_white(tmp_path, kind):
    # The left half is opaque and dark, the right half fully transparent and, underneath, black.
    grey = np.full((12, 12), 60, dtype=np.uint8)
    grey[:, 6:] = 0
    opacity = np.where(np.arange(12) < 6, 255, 0).astype(np.uint8)[None].repeat(12, axis=0)
    alpha = Image.fromarray(np.dstack([grey, grey, grey, opacity]))
    path = tmp_path / "some.png"
    if kind == "webp":
        path = tmp_path / "some.webp"
        alpha.save(path, lossless=True, exact=True)
    elif kind == "palette":
        Image.fromarray((opacity == 0).astype(np.uint8), "P").save(path)
        picture = Image.fromarray((opacity == 0).astype(np.uint8)).convert("P")
        picture.putpalette([60, 60, 60, 0, 0, 0])
        picture.save(path, transparency=1)
    elif kind in ("colour key", "grey key"):
        picture = Image.fromarray(grey).convert("RGB" if kind == "colour key" else "L")
        picture.save(path, transparency=(0, 0, 0) if kind == "colour key" else 0)
    else:
        alpha.convert(kind).save(path)
    found = ImageFiles([path], 12)[0]
    np.testing.assert_allclose(found[:, :, :6], 60 / 255, rtol=1e-6)
    np.testing.assert_allclose(found[:, :, 6:], 1.0, rtol=1e-6)


def test_half_transparent_is_halfway_to_white(tmp_path):
    Image.new("RGBA", (4, 4), (255, 0, 0, 128)).save(tmp_path / "red.png")
    found = ImageFiles([tmp_path / "red.png"], 4)[0]
    np.testing.assert_allclose(found[:, 0, 0], [1.0, 127 / 255, 127 / 255], atol=1 / 255)


@pytest.mark.parametrize("kind", ["png", "tiff", "pgm"])
def test_sixteen_bits_are_kept(tmp_path, kind):
    # Shades that eight bits cannot tell apart.
    values = np.arange(30000, 30000 + 64, dtype=np.uint16).reshape(8, 8)
    path = tmp_path / f"deep.{kind}"
    if kind == "pgm":
        path.write_bytes(b"P5 8 8 65535\n" + values.astype(">u2").tobytes())
    else:
        Image.fromarray(values).save(path)
    found = ImageFiles([path], 8)[0]
    np.testing.assert_allclose(found, np.broadcast_to(values / 65535, (3, 8, 8)), rtol=1e-5)


def test_values_of_no_known_range_are_named(tmp_path):
    Image.fromarray(np.full((4, 4), 70000, dtype=np.int32)).save(tmp_path / "wide.tiff")
    Image.fromarray(np.full((4, 4), 0.5, dtype=np.float32)).save(tmp_path / "float.tiff")
    with pytest.raises(ValueError, match=r"wide.tiff' cannot be read: its values are from 70000 to 70000, beyond 16"):
        ImageFiles([tmp_path / "wide.tiff"], 4)[0]
    with pytest.raises(ValueError, match=r"float.tiff' cannot be read: its values are floating numbers"):
        ImageFiles([tmp_path / "float.tiff"], 4)[0]


def test_cmyk_palettes_one_bit_and_several_frames(tmp_path):
    paper = Image.new("CMYK", (8, 8), (0, 0, 0, 0))
    paper.paste((0, 0, 0, 255), (0, 0, 4, 8))
    paper.save(tmp_path / "0.jpg", quality=100)
    paper.save(tmp_path / "1.tiff")
    plain = paper.convert("RGB")
    plain.convert("P").save(tmp_path / "2.gif")
    plain.convert("1").save(tmp_path / "3.png")
    plain.save(tmp_path / "4.gif", save_all=True, append_images=[Image.new("RGB", (8, 8), "red")])
    for picture in ImageFiles(sorted(tmp_path.iterdir()), 8):
        np.testing.assert_allclose(picture[:, :, :3], 0, atol=0.02)
        np.testing.assert_allclose(picture[:, :, 5:], 1, atol=0.02)


def test_threads_leave_the_filters_of_warnings_as_they_were(files):
    for _ in range(20):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            before = list(warnings.filters)
            files[:]
            assert warnings.filters == before
            warnings.warn("told", stacklevel=1)
        assert [str(one.message) for one in caught] == ["told"]


def test_damaged_pictures_are_found_before_they_are_needed(files):
    assert files.damaged() == {}
    files.paths[4].write_bytes(b"no picture")
    content = files.paths[1].read_bytes()
    files.paths[1].write_bytes(content[: len(content) // 2])
    found = files.damaged()
    assert sorted(found) == [1, 4]
    assert f"the image {str(files.paths[4])!r} cannot be read: " in found[4]
    files.paths[2].unlink()
    with pytest.raises(FileNotFoundError):
        files.damaged()


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
