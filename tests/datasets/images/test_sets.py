"""Image sets: splits as they are evaluated on, files as they are published, damage that is named."""

import gzip
import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from certimetric.datasets.images.sets import IMAGE_SETS, load_images


@pytest.mark.parametrize("name", IMAGE_SETS)
def test_every_set_is_described(name):
    assert f"``{name}``" in load_images.__doc__


def test_digits_by_instance():
    sides = [load_images("digits", split) for split in ("train", "test")]
    assert sum(map(len, sides)) == 1797
    for side in sides:
        assert side.images.dtype == np.float32
        assert side.images.shape[1:] == (1, 8, 8)
        assert side.images.min() == 0
        assert side.images.max() == 1
        assert set(side.labels) == set(range(10))
    counts = [np.bincount(side.labels) for side in sides]
    assert (np.abs(counts[0] - counts[1]) <= 1).all()
    rows = {side.images[i].tobytes() for side in sides for i in range(len(side))}
    assert len(rows) > 1790  # the two sides share no picture but for a few equal ones


def png(value, size=105):
    out = io.BytesIO()
    Image.fromarray(np.full((size, size), value, dtype=np.uint8)).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def omniglot(tmp_path):
    """Two archives in the published layout: alphabets Greek (in both) and one of their own."""
    for file, alphabets in (("small1", ("Greek", "Braille")), ("small2", ("Greek", "Tifinagh"))):
        with zipfile.ZipFile(tmp_path / f"images_background_{file}.zip", "w") as archive:
            for alphabet in alphabets:
                for character in ("character01", "character02"):
                    for drawer in range(3):
                        path = f"images_background_{file}/{alphabet}/{character}/0001_{drawer:02d}.png"
                        archive.writestr(path, png(255 if drawer else 0))
            archive.writestr(f"__MACOSX/images_background_{file}/Greek/character01/._0001_01.png", b"no picture")
    return tmp_path


def test_omniglot_leaves_out_alphabets_of_both_sides(omniglot):
    train, test = load_images("omniglot", "train", omniglot), load_images("omniglot", "test", omniglot)
    assert train.class_names == tuple(f"{a}/character0{c}" for a in ("Braille", "Greek") for c in (1, 2))
    assert test.class_names == ("Tifinagh/character01", "Tifinagh/character02")
    assert train.images.shape == (12, 1, 28, 28)
    # Strokes, black on paper, are bright: 1 for black.
    assert train.images[0].min() == 1
    assert train.images[1].max() == 0


def idx(array):
    head = np.array([2048 + array.ndim, *array.shape], dtype=">i4").tobytes()
    return head + array.astype(np.uint8).tobytes()


@pytest.mark.parametrize("packed", [False, True])
def test_mnist_by_class(tmp_path, packed):
    images, labels = np.arange(20 * 4).reshape(20, 2, 2), np.arange(20) % 10
    for name, content in (("t10k-images-idx3-ubyte", idx(images)), ("t10k-labels-idx1-ubyte", idx(labels))):
        path = tmp_path / (name + ".gz" * packed)
        path.write_bytes(gzip.compress(content) if packed else content)
    train, test = load_images("mnist", "train", tmp_path), load_images("mnist", "test", tmp_path)
    assert train.labels.tolist() == test.labels.tolist() == [0, 1, 2, 3, 4] * 2
    assert train.class_names == tuple("01234")
    assert test.class_names == tuple("56789")
    np.testing.assert_allclose(test.images[0].ravel(), images[5].ravel() / 255, rtol=1e-6)


def test_fashion_mnist_has_names(tmp_path):
    images, labels = np.arange(20 * 4).reshape(20, 2, 2), np.arange(20) % 10
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(images))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(labels))
    train, test = load_images("fashion-mnist", "train", tmp_path), load_images("fashion-mnist", "test", tmp_path)
    assert train.name == "fashion-mnist"
    assert train.class_names == ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat")
    assert test.class_names == ("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
    assert test.labels.tolist() == [0, 1, 2, 3, 4] * 2
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(labels[:-1]))
    with pytest.raises(ValueError, match="20 images but 19 labels in train"):
        load_images("fashion-mnist", "train", tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match=r"there is no file '.*train-labels-idx1-ubyte"):
        load_images("fashion-mnist", "train", tmp_path)


def test_size(omniglot, tmp_path):
    assert load_images("omniglot", "train", omniglot, size=14).images.shape == (12, 1, 14, 14)
    whole, small = load_images("digits"), load_images("digits", size=4)
    assert small.images.shape == (901, 1, 4, 4)
    np.testing.assert_allclose(small.images.mean(), whole.images.mean(), atol=0.01)
    np.testing.assert_array_equal(load_images("digits", size=8).images, whole.images)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            ("omniglott",),
            ValueError,
            r"unknown image set 'omniglott' \(did you mean 'omniglot'\?\); known are digits, ",
        ),
        (("zebra",), ValueError, r"known are .* folder, and paths of folders and of \.npz files"),
        (("digits", "train", None, 0), ValueError, "size must be a whole number of pixels from 1, got 0"),
        (("digits", "both"), ValueError, "split must be 'train' or 'test'"),
        (("omniglot",), ValueError, "omniglot needs root"),
        (("omniglot", "train", "nowhere"), FileNotFoundError, "there is no file"),
        (("mnist", "train", "nowhere"), FileNotFoundError, "holds neither"),
    ],
)
def test_bad_arguments_are_named(arguments, error, message, monkeypatch):
    monkeypatch.delenv("CERTIMETRIC_DATA", raising=False)
    with pytest.raises(error, match=message):
        load_images(*arguments)


def test_damaged_files_are_named(omniglot, tmp_path):
    path = omniglot / "images_background_small1.zip"
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("images_background_small1/Braille/character01/0001_99.png", b"no picture")
    with pytest.raises(ValueError, match=r"0001_99\.png.*cannot be read"):
        load_images("omniglot", "train", omniglot)
    whole = load_images("omniglot", "test", omniglot)
    with pytest.warns(UserWarning, match=r"1 of \d+ pictures of .* skipped, which cannot be decoded: .*0001_99\.png"):
        side = load_images("omniglot", "train", omniglot, skip_corrupt=True)
    assert len(side.images) == len(side.labels) > 0 and whole.remarks == ()
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="not a zip file"):
        load_images("omniglot", "train", omniglot)
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx(np.zeros((3, 2, 2)))[:-1])
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(np.zeros(3)))
    with pytest.raises(ValueError, match="not an idx file"):
        load_images("mnist", "train", tmp_path)


def test_the_published_archives(real_data):
    root = real_data / "images" / "omniglot"
    if not root.is_dir():
        pytest.skip("CERTIMETRIC_DATA holds no images/omniglot")
    train, test = load_images("omniglot", "train", root), load_images("omniglot", "test", root)
    assert (len(train.class_names), len(train)) == (136, 2720)
    assert (len(test.class_names), len(test)) == (106, 2120)
