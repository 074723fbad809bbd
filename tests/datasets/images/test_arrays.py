"""Image sets in .npz files: what they may hold, how they are split, and every mistake named."""

import io

import numpy as np
import pytest
from PIL import Image

from certimetric.datasets.images.sets import load_images

LABELS = np.array([7, 3, 5, 9, 3, 7, 5, 9])


def saved(tmp_path, **arrays):
    path = tmp_path / "some.npz"
    np.savez(path, **arrays)
    return path


def jpegs(rng, n, size=12):
    """Bytes and offsets of coloured pictures."""
    pieces = []
    for shape in np.broadcast_to(np.reshape(size, (-1, 1)), (n, 2)):
        out = io.BytesIO()
        Image.fromarray(np.tile(rng.integers(0, 256, 3, dtype=np.uint8), (*shape, 1))).save(out, "JPEG", quality=95)
        pieces.append(out.getvalue())
    offsets = np.cumsum([0, *map(len, pieces)])
    return np.frombuffer(b"".join(pieces), dtype=np.uint8), offsets


def test_half_of_the_classes_is_for_training(tmp_path, rng):
    images = rng.integers(0, 256, (8, 5, 6), dtype=np.uint8)
    path = saved(tmp_path, images=images, labels=LABELS)
    train, test = load_images(path, "train"), load_images(str(path), "test")
    assert train.name == "some"
    assert train.class_names == ("3", "5")
    assert test.class_names == ("7", "9")
    assert train.labels.tolist() == [0, 1, 0, 1]
    assert train.images.dtype == np.float32
    np.testing.assert_allclose(test.images, images[[0, 3, 5, 7], None] / 255, rtol=1e-6)


def test_a_mask_and_names_of_classes_count(tmp_path):
    labels = np.array([2, 0, 3, 1, 0])
    arrays = {
        "images": np.zeros((5, 4, 4)),
        "labels": labels,
        "class_names": np.array(["ant", "bee", "cat", "dog", "eel"]),
    }
    path = saved(tmp_path, **arrays, zero_shot_test=np.isin(labels, [0, 3]))
    train, test = load_images(path, "train"), load_images(path, "test")
    assert train.class_names == ("bee", "cat")
    assert train.labels.tolist() == [1, 0]
    assert test.class_names == ("ant", "dog")
    assert test.labels.tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("shape", "axes"), [((5, 6), None), ((5, 6, 3), (2, 0, 1)), ((5, 6, 1), (2, 0, 1)), ((3, 5, 6), (0, 1, 2))]
)
@pytest.mark.parametrize("kind", [np.uint8, np.float64])
def test_shapes_and_types(tmp_path, rng, shape, axes, kind):
    images = rng.random((8, *shape))
    images = (255 * images).astype(kind) if kind == np.uint8 else images
    found = load_images(saved(tmp_path, images=images, labels=LABELS), "train").images
    expected = images[[1, 2, 4, 6]] / (255 if kind == np.uint8 else 1)
    expected = expected[:, None] if axes is None else expected.transpose(0, *(axis + 1 for axis in axes))
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_labels_may_be_names(tmp_path):
    labels = np.array(["dog", "ant", "cat", "bee"])
    path = saved(tmp_path, images=np.zeros((4, 2, 2)), labels=labels)
    assert load_images(path, "train").class_names == ("ant", "bee")


def test_pictures_as_bytes(tmp_path, rng):
    jpeg, offsets = jpegs(rng, 8)
    path = saved(tmp_path, jpeg=jpeg, offsets=offsets, labels=LABELS)
    found = load_images(path, "train").images
    assert found.shape == (4, 3, 12, 12)
    with Image.open(io.BytesIO(jpeg[offsets[1] : offsets[2]].tobytes())) as image:
        np.testing.assert_allclose(found[0], np.asarray(image).transpose(2, 0, 1) / 255, rtol=1e-6)
    assert load_images(path, "train", size=5).images.shape == (4, 3, 5, 5)


def test_size_takes_the_centre(tmp_path):
    # Twice as wide as high: white in the middle half and a little beyond, black outside of it.
    images = np.zeros((4, 8, 16), dtype=np.uint8)
    images[:, :, 2:14] = 255
    path = saved(tmp_path, images=images, labels=np.arange(4))
    assert (load_images(path, size=4).images == 1).all()
    assert load_images(path, size=16).images.shape == (2, 1, 16, 16)
    assert (load_images(path, size=8).images == 1).all()


def test_smaller_is_antialiased(tmp_path):
    board = np.indices((16, 16)).sum(axis=0) % 2 * 255
    path = saved(tmp_path, images=np.tile(board.astype(np.uint8), (4, 1, 1)), labels=np.arange(4))
    np.testing.assert_allclose(load_images(path, size=4).images, 0.5, atol=0.02)


def test_root_is_the_folder_of_the_file(tmp_path):
    saved(tmp_path, images=np.zeros((4, 2, 2)), labels=np.arange(4))
    assert len(load_images("some.npz", "test", tmp_path)) == 2


def test_files_in_the_folder_of_data_sets(tmp_path, monkeypatch):
    (tmp_path / "images" / "npz").mkdir(parents=True)
    saved(tmp_path / "images" / "npz", images=np.zeros((4, 2, 2)), labels=np.arange(4))
    monkeypatch.setenv("CERTIMETRIC_DATA", str(tmp_path))
    assert len(load_images("some.npz", "test")) == 2
    with pytest.raises(FileNotFoundError, match=r"there is no file 'other\.npz'"):
        load_images("other.npz")


def test_sixteen_bits_and_opacity(tmp_path, rng):
    values = rng.integers(0, 65536, (8, 5, 6), dtype=np.uint16)
    found = load_images(saved(tmp_path, images=values, labels=LABELS), "test")
    np.testing.assert_allclose(found.images, values[[0, 3, 5, 7], None] / 65535, rtol=1e-6)
    values = rng.integers(0, 256, (8, 5, 6, 4), dtype=np.uint8)
    found = load_images(saved(tmp_path, images=values, labels=LABELS), "test")
    opacity = values[[0, 3, 5, 7], ..., 3:] / 255
    expected = values[[0, 3, 5, 7], ..., :3] / 255 * opacity + 1 - opacity
    np.testing.assert_allclose(found.images, expected.transpose(0, 3, 1, 2), atol=1e-6)


def test_damaged_pictures_are_skipped_and_counted(tmp_path, rng):
    jpeg, offsets = jpegs(rng, 8)
    jpeg = jpeg.copy()
    jpeg[offsets[4] : offsets[5]] = 0  # of class 3, on the training side
    path = saved(tmp_path, jpeg=jpeg, offsets=offsets, labels=LABELS)
    with pytest.raises(ValueError, match=r"some.npz, image 4' cannot be read"):
        load_images(path, "train")
    with pytest.warns(UserWarning, match=r"1 of 4 pictures of '.*some.npz' skipped, .*image 4' cannot be read"):
        side = load_images(path, "train", skip_corrupt=True)
    assert side.labels.tolist() == [0, 1, 1] and side.images.shape == (3, 3, 12, 12)
    assert load_images(path, "test", skip_corrupt=True).remarks == ()


def test_ids_and_groups_are_those_of_the_rows(tmp_path, rng):
    jpeg, offsets = jpegs(rng, 8)
    jpeg = jpeg.copy()
    jpeg[offsets[4] : offsets[5]] = 0
    paths = np.array([f"{row}.png" for row in range(8)])
    path = saved(tmp_path, jpeg=jpeg, offsets=offsets, labels=LABELS, ids=paths, groups=np.arange(8) % 3)
    test = load_images(path, "test")
    assert (test.ids.tolist(), test.groups.tolist()) == (["0.png", "3.png", "5.png", "7.png"], [0, 0, 2, 1])
    with pytest.warns(UserWarning, match="skipped"):
        train = load_images(path, "train", skip_corrupt=True)
    assert (train.ids.tolist(), train.groups.tolist()) == (["1.png", "2.png", "6.png"], [1, 2, 0])
    plain = load_images(saved(tmp_path, images=np.zeros((8, 2, 2)), labels=LABELS))
    assert plain.ids is None and plain.groups is None
    for name, wrong in (("ids", np.arange(7)), ("groups", np.arange(8.0))):
        with pytest.raises(
            ValueError, match=f"{name} of .*some.npz' must be one whole number or name for each of the 8"
        ):
            load_images(saved(tmp_path, images=np.zeros((8, 2, 2)), labels=LABELS, **{name: wrong}))


FINE = {"images": np.zeros((8, 4, 4)), "labels": LABELS}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": None}, r"has no array 'images', nor 'jpeg' with 'offsets': it has 'labels'"),
        ({"labels": None}, "has no array 'labels': it has 'images'"),
        ({"images": None, "labels": None}, "has no array 'images'.*it has nothing"),
        ({"labels": LABELS[:5]}, "has 8 images but 5 labels"),
        ({"labels": LABELS / 2}, "labels of .* must be one whole number or name for each input"),
        ({"labels": LABELS[:, None]}, r"labels of .* got shape \(8, 1\)"),
        ({"labels": LABELS * 0}, "the train side of .* has 1 class, and needs at least two"),
        ({"labels": LABELS % 3}, None),
        ({"images": np.zeros((8, 4))}, r"images of .* must have shape .* got \(8, 4\)"),
        ({"images": np.full((8, 4, 4), 2.0)}, "values from 0 to 1, got 2 to 2"),
        ({"images": np.full((8, 4, 4), np.nan)}, "values from 0 to 1, got nan"),
        ({"images": np.zeros((8, 4, 4), dtype=np.int64)}, "uint8, uint16, or floating from 0 to 1, got int64"),
        ({"zero_shot_test": LABELS}, "zero_shot_test of .* must be true or false for each of the 8"),
        ({"zero_shot_test": np.arange(8) < 4}, "zero_shot_test of .* puts 4 of 4 classes on both sides"),
        ({"zero_shot_test": np.zeros(8, dtype=bool)}, None),
        ({"class_names": np.array(["a", "b"])}, "positions in its 2 class_names, got 3 to 9"),
        ({"class_names": np.zeros((2, 2))}, "class_names of .* must be a list of names"),
        ({"labels": np.array([{"a": 1}] * 8, dtype=object)}, "not an .npz file of plain arrays.*array of objects"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, change, message):
    path = saved(tmp_path, **{name: value for name, value in {**FINE, **change}.items() if value is not None})
    if message is None:
        message, side = "the test side of .* has . class", "test"
    else:
        side = "train"
    with pytest.raises(ValueError, match=message):
        load_images(path, side)


def test_damaged_files_are_named(tmp_path, rng):
    path = saved(tmp_path, images=rng.integers(0, 256, (8, 40, 40), dtype=np.uint8), labels=LABELS)
    whole = path.read_bytes()
    for content in (b"", b"no file of arrays", whole[: len(whole) // 2], b"\x93NUMPY" + whole):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"some\.npz' is not an \.npz file of plain arrays"):
            load_images(path)
    with pytest.raises(FileNotFoundError, match=r"there is no file '.*none\.npz'"):
        load_images(tmp_path / "none.npz")


def test_damaged_pictures_are_named(tmp_path, rng):
    jpeg, offsets = jpegs(rng, 8)
    broken = jpeg.copy()
    broken[offsets[4] : offsets[5]] = 0
    with pytest.raises(ValueError, match=r"image '.*some\.npz, image 4' cannot be read"):
        load_images(saved(tmp_path, jpeg=broken, offsets=offsets, labels=LABELS))
    for bad in (offsets[::-1], offsets + 1, offsets / 1.0, offsets - 1):
        with pytest.raises(ValueError, match=r"offsets of .* must be whole numbers that rise"):
            load_images(saved(tmp_path, jpeg=jpeg, offsets=bad, labels=LABELS))
    with pytest.raises(ValueError, match="has 7 images but 8 labels"):
        load_images(saved(tmp_path, jpeg=jpeg, offsets=offsets[:-1], labels=LABELS))
    with pytest.raises(ValueError, match=r"jpeg of .* must be bytes"):
        load_images(saved(tmp_path, jpeg=jpeg.astype(int), offsets=offsets, labels=LABELS))
    jpeg, offsets = jpegs(rng, 8, size=[9, 10, 11, 12, 13, 14, 15, 16])
    path = saved(tmp_path, jpeg=jpeg, offsets=offsets, labels=LABELS)
    with pytest.raises(ValueError, match=r"pictures of .* have 4 different shapes: give a size"):
        load_images(path)
    assert load_images(path, size=12).images.shape == (4, 3, 12, 12)


@pytest.mark.parametrize(
    ("file", "shape", "n_train", "n_test"),
    [
        ("mnist_train20k", (1, 28, 28), 10225, 9775),
        ("usps_16", (1, 16, 16), 5427, 3871),
        ("coil20_32", (1, 32, 32), 720, 720),
        pytest.param("cars196_64_jpeg", (3, 64, 64), 4052, 4092, marks=pytest.mark.slow),
    ],
)
def test_real_files(real_data, file, shape, n_train, n_test):
    path = real_data / "images" / "npz" / f"{file}.npz"
    if not path.is_file():
        pytest.skip(f"CERTIMETRIC_DATA holds no images/npz/{file}.npz")
    train, test = load_images(path, "train"), load_images(path, "test")
    assert (len(train), len(test)) == (n_train, n_test)
    assert not set(train.class_names) & set(test.class_names)
    for side in (train, test):
        assert side.images.shape == (len(side.labels), *shape)
        assert side.images.dtype == np.float32
        assert 0 <= side.images.min() < side.images.max() <= 1
        assert np.unique(side.labels).tolist() == list(range(len(side.class_names)))
