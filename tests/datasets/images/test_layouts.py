"""Sets as folders of pictures, in the layouts they were published in: sides, classes, and every mistake named."""

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from certimetric.datasets.images.files import ImageFiles
from certimetric.datasets.images.sets import IMAGE_SETS, load_images


def picture(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 12), (value, value, value)).save(path)


def cub(root):
    """Classes 1, 2, 101 and 102 with two pictures each."""
    keys, number = (1, 2, 101, 102), 0
    images, labels, classes = [], [], []
    for key in keys:
        classes.append(f"{key} {key:03d}.Bird_{key}")
        for i in range(2):
            number += 1
            images.append(f"{number} {key:03d}.Bird_{key}/Bird_{key}_{i:04d}_1.jpg")
            labels.append(f"{number} {key}")
            picture(root / "images" / images[-1].split()[1], key)
    (root / "images.txt").write_text("\n".join(images) + "\n")
    (root / "image_class_labels.txt").write_text("\n".join(labels) + "\n")
    (root / "classes.txt").write_text("\n".join(classes) + "\n")
    return root


def cars196(root):
    """Classes 98, 2, 99 and 196 with two pictures each, as the published file of annotations tells them."""
    kinds = [("relative_im_path", "O"), *((f"bbox_{c}", "O") for c in ("x1", "y1", "x2", "y2")), ("class", "O")]
    rows = np.empty((1, 8), dtype=[*kinds, ("test", "O")])
    for i, key in enumerate([98, 2, 99, 196] * 2):
        path = f"car_ims/{i + 1:06d}.jpg"
        rows[0, i] = (path, 1, 1, 9, 9, key, i % 2)
        picture(root / path, key)
    names = np.array([f"Car {i + 1} 2012" for i in range(196)], dtype=object)[None]
    savemat(root / "cars_annos.mat", {"annotations": rows, "class_names": names})
    return root


def sop(root):
    number = 0
    for side, keys in (("train", (1, 2)), ("test", (11319, 11320))):
        lines = ["image_id class_id super_class_id path"]
        for key in keys:
            for i in range(2):
                number += 1
                lines.append(f"{number} {key} 1 bicycle_final/{key}00_{i}.JPG")
                picture(root / "bicycle_final" / f"{key}00_{i}.JPG", key % 250)
        (root / f"Ebay_{side}.txt").write_text("\n".join(lines) + "\n")
    return root


def visualphish(root):
    """Five brands, three of which are imitated; the lists of the archive lie among the folders."""
    for i, brand in enumerate(("adobe", "apple", "dhl", "ebay", "paypal")):
        for j in range(2):
            picture(root / "trusted_list" / brand / f"T{j}_0.png", 10 * i + j)
        if brand in ("adobe", "dhl", "paypal"):
            picture(root / "phishing" / brand / f"{i}.png", 10 * i + 5)
    (root / "trusted_list" / "targets.txt").write_text("adobe\n")
    (root / "phishing" / "targets2.txt").write_text("adobe\n")
    (root / "phishing" / "ebay").mkdir()
    picture(root / "benign_test" / "other" / "1.png")
    return root


def together(root):
    for i, name in enumerate("dbcae"):
        for j in range(2):
            picture(root / name / f"{j}.png", 10 * i)
    picture(root / ".cache" / "0.png")
    (root / "notes.txt").write_text("nothing")
    (root / "a" / "Thumbs.db").write_text("nothing")
    return root


def apart(root):
    for side, names in (("train", "xyz"), ("test", "pq")):
        for name in names:
            picture(root / side / name / "0.jpeg")
    return root


@pytest.mark.parametrize(
    ("name", "make", "train", "test"),
    [
        ("cub", cub, ("001.Bird_1", "002.Bird_2"), ("101.Bird_101", "102.Bird_102")),
        ("cars196", cars196, ("Car 2 2012", "Car 98 2012"), ("Car 99 2012", "Car 196 2012")),
        ("sop", sop, ("1", "2"), ("11319", "11320")),
        ("visualphish", visualphish, ("adobe", "apple", "dhl"), ("ebay", "paypal")),
        ("folder", together, ("a", "b", "c"), ("d", "e")),
        ("folder", apart, ("x", "y", "z"), ("p", "q")),
    ],
)
def test_sides(tmp_path, name, make, train, test):
    root = make(tmp_path)
    for split, names in (("train", train), ("test", test)):
        side = load_images(name, split, root, size=6)
        assert side.name == name
        assert side.class_names == names
        assert isinstance(side.images, ImageFiles)
        assert side.images.shape == (len(side), 3, 6, 6)
        assert side.labels.dtype == np.int64
        assert np.unique(side.labels).tolist() == list(range(len(names)))
        assert side.images[:].shape == side.images.shape
    assert load_images(name, "train", root).images.shape[1:] == (3, 224, 224)


@pytest.mark.parametrize(("name", "make"), [("cub", cub), ("cars196", cars196), ("sop", sop)])
def test_pictures_go_with_their_classes(tmp_path, name, make):
    make(tmp_path)
    for split in ("train", "test"):
        side = load_images(name, split, tmp_path, size=12)
        shades = {"cub": lambda c: int(c[:3]), "cars196": lambda c: int(c.split()[1]), "sop": lambda c: int(c) % 250}
        told = [shades[name](side.class_names[label]) for label in side.labels]
        np.testing.assert_allclose(side.images[:].mean(axis=(1, 2, 3)) * 255, told, atol=2)


def test_visualphish_tells_the_two_kinds_apart(tmp_path):
    side = load_images("visualphish", "train", visualphish(tmp_path), size=12)
    found = [(path.parts[-3], side.class_names[label]) for path, label in zip(side.images.paths, side.labels)]
    adobe = [("trusted_list", "adobe")] * 2 + [("phishing", "adobe")]
    dhl = [("trusted_list", "dhl")] * 2 + [("phishing", "dhl")]
    assert found == [*adobe, *[("trusted_list", "apple")] * 2, *dhl]


@pytest.mark.parametrize(
    ("name", "make", "folder"),
    [
        ("cub", cub, "CUB_200_2011"),
        ("sop", sop, "Stanford_Online_Products"),
        ("visualphish", visualphish, "VisualPhish"),
    ],
)
def test_root_may_be_where_the_archive_was_unpacked(tmp_path, name, make, folder):
    make(tmp_path / folder)
    assert len(load_images(name, "test", tmp_path).class_names) == 2


def without(path):
    return lambda root: (root / path).unlink()


def text(path, old, new):
    def change(root):
        content = (root / path).read_text()
        assert old in content
        (root / path).write_text(content.replace(old, new))

    return change


def moved(path, to):
    def change(root):
        (root / to).parent.mkdir(parents=True, exist_ok=True)
        (root / path).rename(root / to)

    return change


@pytest.mark.parametrize(
    ("name", "make", "change", "error", "message"),
    [
        ("cub", cub, without("images.txt"), FileNotFoundError, "there is no file '.*images.txt'"),
        ("cub", cub, without("image_class_labels.txt"), FileNotFoundError, "no file '.*image_class_labels.txt'"),
        ("cub", cub, without("classes.txt"), FileNotFoundError, "there is no file '.*classes.txt'"),
        (
            "cub",
            cub,
            without("images/002.Bird_2/Bird_2_0001_1.jpg"),
            FileNotFoundError,
            r"no file '.*Bird_2_0001_1\.jpg': 1 of 4 pictures are missing",
        ),
        ("cub", cub, text("image_class_labels.txt", "8 102\n", ""), ValueError, "8 images .* 7 labels .* image '8'"),
        ("cub", cub, text("image_class_labels.txt", "3 2", "3 two"), ValueError, "must number its classes, got 'two'"),
        ("cub", cub, text("image_class_labels.txt", " 2\n", " 1\n"), ValueError, "the train side .* has 1 class"),
        ("cub", cub, text("images.txt", "3 002", "002"), ValueError, r"images\.txt' must have 2 entries in each line"),
        ("cars196", cars196, without("cars_annos.mat"), FileNotFoundError, "there is no file '.*cars_annos.mat'"),
        ("cars196", cars196, without("car_ims/000001.jpg"), FileNotFoundError, r"no file '.*000001\.jpg': 1 of 4"),
        (
            "cars196",
            cars196,
            lambda root: (root / "cars_annos.mat").write_bytes(b"no mat file" * 20),
            ValueError,
            "is not the file of annotations of Cars196",
        ),
        (
            "cars196",
            cars196,
            lambda root: savemat(root / "cars_annos.mat", {"other": 1}),
            ValueError,
            "is not the file of annotations of Cars196",
        ),
        ("sop", sop, without("Ebay_train.txt"), FileNotFoundError, "there is no file '.*Ebay_train.txt'"),
        ("sop", sop, without("Ebay_test.txt"), FileNotFoundError, "there is no file '.*Ebay_test.txt'"),
        ("sop", sop, text("Ebay_train.txt", "image_id class", "image class"), ValueError, "must begin with 'image_id"),
        ("sop", sop, text("Ebay_test.txt", " 11320 ", " 2 "), ValueError, "train and test of .* share 1 class: '2'"),
        ("sop", sop, lambda root: (root / "Ebay_test.txt").write_text(""), ValueError, r"Ebay_test\.txt' is empty"),
        ("sop", sop, lambda root: (root / "Ebay_test.txt").write_bytes(b"\xff\xfe\x00"), ValueError, "list in UTF-8"),
        ("visualphish", visualphish, moved("phishing", "phish"), FileNotFoundError, "there is no folder '.*phishing'"),
        ("visualphish", visualphish, moved("trusted_list", "t"), FileNotFoundError, "no folder '.*trusted_list'"),
        ("folder", apart, moved("test/p", "test/x"), ValueError, "train and test of .* share 1 class: 'x'"),
        (
            "folder",
            apart,
            moved("test", "valid"),
            ValueError,
            "has a folder 'train' with classes in it, but none 'test'",
        ),
        ("folder", apart, moved("train", "learn"), ValueError, "a folder 'test' with classes in it, but none 'train'"),
        ("folder", together, lambda root: (root / "f").mkdir(), ValueError, "folder '.*f' of a class holds no picture"),
        ("folder", lambda root: root, lambda root: None, ValueError, "holds no folders, one for each class"),
        ("folder", lambda root: root, lambda root: picture(root / "a" / "0.png"), ValueError, "has 1 class"),
        ("folder", lambda root: root / "none", lambda root: None, FileNotFoundError, "there is no folder '.*none'"),
        ("folder", lambda root: root / "0.png", picture, FileNotFoundError, "there is no folder '.*0.png'"),
    ],
)
def test_mistakes_are_named(tmp_path, name, make, change, error, message):
    root = make(tmp_path)
    change(root)
    with pytest.raises(error, match=message) as caught:
        load_images(name, "train", root)
    assert "\n" not in str(caught.value)


def test_a_damaged_picture_is_named_when_it_is_decoded(tmp_path):
    (together(tmp_path) / "b" / "1.png").write_bytes(b"no picture")
    with pytest.warns(UserWarning, match="left out"):
        side = load_images("folder", "train", tmp_path, size=12)
    with pytest.raises(ValueError, match=r"the image '.*1\.png' cannot be read"):
        side.images[:]


def test_damaged_pictures_are_skipped_and_counted(tmp_path):
    apart(tmp_path)
    for name in "xyz":
        picture(tmp_path / "train" / name / "1.png")
    for place in ("x/1.png", "y/0.jpeg", "y/1.png"):
        (tmp_path / "train" / place).write_bytes(b"no picture")
    with pytest.warns(UserWarning, match=r"3 of 6 pictures of '.*' skipped, .*: the image '.*1\.png' cannot be read: "):
        side = load_images("folder", "train", tmp_path, size=12, skip_corrupt=True)
    assert side.class_names == ("x", "z")  # of a class without a sound picture nothing is left
    assert side.labels.tolist() == [0, 1, 1]
    assert [path.name for path in side.images.paths] == ["0.jpeg", "0.jpeg", "1.png"]
    assert side.images[:].shape == (3, 3, 12, 12)
    assert len(side.remarks) == 1
    (tmp_path / "train" / "z" / "0.jpeg").write_bytes(b"no picture")
    (tmp_path / "train" / "z" / "1.png").write_bytes(b"no picture")
    with pytest.raises(
        ValueError, match=r"^5 of 6 .* skipped, .*1\.png' cannot .* the train side of .* has 1 class, and"
    ):
        load_images("folder", "train", tmp_path, size=12, skip_corrupt=True)
    assert load_images("folder", "test", tmp_path, size=12, skip_corrupt=True).remarks == ()


def test_what_is_left_out_of_folders_is_counted(tmp_path):
    apart(tmp_path)
    picture(tmp_path / "train" / "x" / "more" / "deep" / "1.png")
    picture(tmp_path / "train" / "x" / ".thumbnails" / "1.png")
    picture(tmp_path / "loose.png")
    picture(tmp_path / "val" / "x" / "0.png")
    (tmp_path / "train" / "x" / "0.heic").write_bytes(b"")
    (tmp_path / "train" / "notes.txt").write_text("nothing")
    with pytest.warns(UserWarning) as warned:
        side = load_images("folder", "train", tmp_path, size=12)
    assert len(side) == 4 and side.labels.tolist() == [0, 0, 1, 2]
    out, deeper = side.remarks
    assert [str(warning.message) for warning in warned] == [out, deeper]
    assert out.startswith(f"4 files in {str(tmp_path)!r} left out, 2 pictures outside of the folders of classes among")
    assert "'loose.png'" in out and "0.png" in out
    assert deeper.startswith(f"1 picture in {str(tmp_path)!r} in folders inside those of classes, taken for the outer")


def test_folders_of_data_sets(tmp_path, monkeypatch):
    # The variable, and a root that holds the set under its name, lead where the folder of the set itself does.
    cub(tmp_path / "data" / "images" / "cub")
    sop(tmp_path / "data" / "Stanford_Online_Products")
    straight = load_images("cub", "train", tmp_path / "data" / "images" / "cub", size=12).images.paths
    assert load_images("cub", "train", tmp_path / "data", size=12).images.paths == straight
    monkeypatch.setenv("CERTIMETRIC_DATA", str(tmp_path / "data"))
    assert load_images("cub", "train", size=12).images.paths == straight
    assert len(load_images("sop", "test", size=12)) == 4
    with pytest.raises(ValueError, match=r"cars196 needs root .* and CERTIMETRIC_DATA leads to none"):
        load_images("cars196")
    monkeypatch.setenv("CERTIMETRIC_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"CERTIMETRIC_DATA names the folder '.*nowhere', and there is none"):
        load_images("cub")


@pytest.mark.parametrize("name", [name for name, named in IMAGE_SETS.items() if not named.bundled])
def test_root_is_needed(name, monkeypatch):
    monkeypatch.delenv("CERTIMETRIC_DATA", raising=False)
    with pytest.raises(ValueError, match=f"{name} needs root .*, the folder with its files: nothing is downloaded"):
        load_images(name)
