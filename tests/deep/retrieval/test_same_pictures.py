"""Who is the same picture, and who of the same group: the user's word, and a warning where it must be guessed."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")

from torch import nn  # noqa: E402

from certimetric.deep import (  # noqa: E402
    PGD,
    ImageSet,
    Index,
    L2Ball,
    MarginGoal,
    certify_retrieval,
    empirical_robustness_score,
    evaluate_retrieval,
)
from certimetric.deep.retrieval.evaluation import with_positive  # noqa: E402
from certimetric.deep.retrieval.same_pictures import apart, same_pictures  # noqa: E402

FIGURES = ("recall_at_1", "recall_at_2", "map_at_r", "map")


@pytest.fixture(scope="module")
def data(digits):
    images, labels = digits
    return images[:120], labels[:120]


@pytest.fixture(scope="module")
def linear():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16))


def row(model, queries, gallery=None, **options):
    found = evaluate_retrieval(model, queries, gallery, with_pixels=False, with_nmi=False, **options).rows[-1]
    return {name: found[name] for name in FIGURES}


def quietly(function, *arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return function(*arguments, **options)


# Ids -----------------------------------------------------------------------------------------------------------------


def test_given_ids_hold_whatever_the_pixels_say(data, linear):
    """Noisy copies with the ids of their originals: each original is left out of the results of its copy."""
    images, labels = data
    torch.manual_seed(1)
    noisy, ids = (images + 0.01 * torch.randn_like(images)).clamp(0, 1), torch.arange(1000, 1120)
    queries, gallery = ImageSet(noisy, labels, ids), ImageSet(images, labels, ids)
    told = quietly(row, linear, queries, gallery)
    points = [linear(x).detach() for x in (noisy, images)]
    distances = torch.cdist(*points).fill_diagonal_(torch.inf)
    assert told["recall_at_1"] == pytest.approx(float((labels[distances.argmin(dim=1)] == labels).float().mean()))
    assert told["recall_at_1"] < row(linear, ImageSet(noisy, labels, ids + 500), gallery)["recall_at_1"] == 1.0
    radii = certify_retrieval(linear, queries, gallery, with_pixels=False)
    assert radii.certified_recall(0.0) == pytest.approx(told["recall_at_1"])


def test_queries_out_of_the_gallery_are_found_and_said(data, linear):
    images, labels = data
    rows = torch.arange(10, 30)
    gallery = ImageSet(images, labels)
    told = quietly(row, linear, ImageSet(images[rows], labels[rows], rows), ImageSet(images, labels, torch.arange(120)))
    counted = ImageSet(images[rows], labels[rows])
    with pytest.warns(UserWarning, match="20 of 20 queries are pictures of the gallery.* give ImageSet ids"):
        assert row(linear, counted, gallery) == told
    with pytest.warns(UserWarning, match="give ImageSet ids"):
        found = certify_retrieval(linear, counted, gallery, with_pixels=False)
    assert found.certified_recall(0.0) == told["recall_at_1"] < 1.0
    # Some of them, among others that are new.
    mixed = ImageSet(torch.cat([images[:3], 1 - images[3:9]]), labels[:9])
    with pytest.warns(UserWarning, match="3 of 9 queries"):
        row(linear, mixed, gallery)
    # A selection has the ids of the set that it was made of.
    assert quietly(row, linear, gallery.select(rows), gallery) == told


def test_numbers_that_only_one_side_was_given(data, linear):
    images, labels = data
    counted, given = ImageSet(images[:20], labels[:20]), ImageSet(images[:20], labels[:20], torch.arange(20))
    assert quietly(row, linear, counted, given) == quietly(row, linear, given, counted) == row(linear, counted)
    noisy = ImageSet(images[:20] * 0.9, labels[:20], torch.arange(20))
    with pytest.raises(ValueError, match="query 0 and gallery item 0 have the id 0 and differ: give ids to both"):
        evaluate_retrieval(linear, noisy, counted)
    # Counted queries have these numbers by chance.
    others = ImageSet(images[20:40], labels[20:40])
    assert quietly(row, linear, others, given) == row(linear, ImageSet(*data).select(torch.arange(20, 40)), given)


def test_perturbed_pictures_stay_the_same_pictures(data, linear):
    gallery = ImageSet(*data, groups=torch.arange(120) % 60)
    moved = gallery.select(torch.arange(9)).with_images(data[0][:9] * 0.9)
    assert moved.ids.tolist() == list(range(9)) and moved.groups.tolist() == list(range(9)) and moved.counted


def test_names_are_ids_too(data, linear):
    images, labels = data
    paths = [Path(f"photos/{i}.png") for i in range(120)]
    gallery = ImageSet(images, labels, paths)
    queries = ImageSet(images[10:30] * 0.9, labels[10:30], [str(path) for path in paths[10:30]])
    numbers = ImageSet(images, labels, torch.arange(120))
    assert not gallery.counted and len(set(gallery.ids.tolist())) == 120
    assert quietly(row, linear, queries, gallery) == quietly(
        row, linear, ImageSet(queries.images, queries.labels, torch.arange(10, 30)), numbers
    )


def wrong(images, labels):
    ids, plain = torch.arange(120), ImageSet(images, labels)
    given, groups = ImageSet(images, labels, ids), ImageSet(images, labels, ids, ids % 40)
    other = (labels + 1) % 10
    return {
        "query 0 and gallery item 0 have the id 0 and the labels": (ImageSet(images, other, ids), given),
        "query 0 and gallery item 5 are the same picture with the labels": (ImageSet(images[5:], other[5:]), plain),
        "query 3 and gallery item 3 have the id 3 and the groups 3 and 4": (
            groups, ImageSet(images, labels, ids, torch.where(ids == 3, 4, ids % 40)),
        ),
        "gallery item 7 and gallery item 0 have the id 0 and the labels 7 and 0": (
            given, ImageSet(images, labels, torch.where(ids == 7, 0, ids)),
        ),
        "for neither, and the gallery has none": (groups, given),
        "for neither, and the queries have none": (given, groups),
    }  # fmt: skip


def test_what_contradicts_itself_is_one_sentence(data, linear):
    for message, (queries, gallery) in wrong(*data).items():
        for ask in (evaluate_retrieval, certify_retrieval):
            with pytest.raises(ValueError, match=message) as error:
                ask(linear, queries, gallery)
            assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="groups must be one whole number for each of the 120 images"):
        ImageSet(*data, groups=torch.zeros(3))


# Groups --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def grouped(data):
    """Pictures of three videos."""
    images, labels = data
    groups = torch.randint(0, 3, (120,), generator=torch.Generator().manual_seed(3))
    return ImageSet(images, labels, torch.arange(120), groups)


def without_own(grouped, i):
    kept = (grouped.groups != grouped.groups[i]).nonzero()[:, 0]
    return ImageSet(grouped.images[kept], grouped.labels[kept], grouped.ids[kept])


def one_by_one(grouped):
    """Each query alone, without groups, against the gallery that it may see."""
    for i in range(len(grouped)):
        yield ImageSet(grouped.images[[i]], grouped.labels[[i]], grouped.ids[[i]]), without_own(grouped, i)


@pytest.mark.parametrize("attacks", [[], [PGD(L2Ball(0.5), steps=3, random_start=False)]])
def test_groups_are_out_of_every_figure(grouped, linear, attacks):
    rows = torch.arange(25)
    found = row(linear, grouped.select(rows), grouped, attacks=attacks)
    alone = [row(linear, *pair, attacks=attacks) for pair, _ in zip(one_by_one(grouped), rows)]
    for name in FIGURES:
        assert found[name] == pytest.approx(np.mean([each[name] for each in alone]), abs=1e-6)
    whole = ImageSet(grouped.images, grouped.labels)
    assert found != row(linear, whole.select(rows), whole, attacks=attacks)


def test_groups_are_out_of_the_goal(grouped, linear):
    """Neither the nearest positive nor the nearest negative is of the query's group."""
    points = linear(grouped.images).detach().double()
    value = Index(linear, grouped).goal(grouped)(points.float())
    distances = torch.cdist(points, points)
    same, own = grouped.labels[:, None] == grouped.labels, grouped.groups[:, None] == grouped.groups
    positive = distances.masked_fill(~same | own, torch.inf).amin(dim=1)
    negative = distances.masked_fill(same | own, torch.inf).amin(dim=1)
    torch.testing.assert_close(value.double(), positive - negative, atol=1e-4, rtol=0)
    # Everything of another label is of the query's group.
    with pytest.raises(ValueError, match="query 0 has no negative"):
        MarginGoal(torch.tensor([0]), torch.eye(3), torch.tensor([0, 1, 1]), torch.tensor([7]), torch.tensor([0, 7, 7]))


@pytest.mark.parametrize("method", ["lipschitz", "interval"])
def test_groups_are_out_of_every_certificate(grouped, linear, method):
    found = certify_retrieval(linear, grouped.select(torch.arange(8)), grouped, method=method)
    for i, (query, gallery) in zip(range(8), one_by_one(grouped)):
        alone = certify_retrieval(linear, query, gallery, method=method)
        for told, expected in ((found, alone), (found.pixels, alone.pixels)):
            assert told.radii[i] == pytest.approx(expected.radii[0], rel=1e-9, abs=1e-12)
            assert told.predictions[i] == expected.predictions[0]


def test_groups_have_no_vote(grouped, linear):
    """Copies of each query under another label would win every vote, but for being of its group."""
    asked = grouped.select((grouped.groups == 1).nonzero()[:15, 0])
    n = 5 * len(asked)
    copies = ImageSet(
        torch.cat([asked.images] * 5 + [grouped.images]), torch.cat([(asked.labels + 1) % 10] * 5 + [grouped.labels]),
        torch.cat([torch.arange(1000, 1000 + n), grouped.ids]), torch.cat([asked.groups] * 5 + [grouped.groups]),
    )  # fmt: skip
    options = {"method": "smoothing", "sigma": 0.05, "n_samples": 30, "n_selection": 10, "with_pixels": False}
    one, other = (certify_retrieval(linear, asked, gallery, **options) for gallery in (grouped, copies))
    np.testing.assert_array_equal(one.radii, other.radii)
    np.testing.assert_array_equal(one.predictions, other.predictions)


def test_groups_are_out_of_the_robustness_score(grouped, linear):
    from certimetric.deep import Budget

    found = empirical_robustness_score(linear, grouped, budget=Budget(0.05, 0.02, 2), n_queries=20)
    assert found.n_queries == 20 and 0 <= found.score["mean"] <= 100


def test_queries_that_their_group_leaves_alone_are_counted(data, linear):
    images, labels = data[0][:9], torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2])
    groups = torch.tensor([0, 0, 1, 2, 2, 3, 4, 5, 6])
    queries = ImageSet(images, labels, groups=groups)
    assert with_positive(queries, queries).tolist() == [True] * 3 + [False] * 2 + [True] * 4
    result = evaluate_retrieval(linear, queries, attacks=[PGD(L2Ball(0.1), steps=1)], with_pixels=False)
    assert (result.n_queries, result.n_without_positive) == (7, 2)
    # No item of another class that it may find: nothing is asked of such a query.
    lonely = ImageSet(images[:4], torch.tensor([0, 0, 1, 1]), groups=torch.tensor([0, 1, 0, 2]))
    assert with_positive(lonely, lonely).tolist() == [True, True, True, True]
    lonely = ImageSet(images[:4], torch.tensor([0, 0, 1, 1]), groups=torch.tensor([0, 1, 0, 0]))
    assert with_positive(lonely, lonely).tolist() == [False, True, False, False]


def test_parts_for_those_who_leave_out_one_row_only():
    rng = np.random.default_rng(0)
    keys, gallery_keys = rng.integers(0, 30, 40), rng.integers(0, 30, 50)
    seen = set()
    for rows, kept, exclude in apart(keys, gallery_keys):
        for row_, own in zip(rows, exclude):
            left = np.delete(kept, own) if own >= 0 else kept
            np.testing.assert_array_equal(left, np.flatnonzero(gallery_keys != keys[row_]))
            seen.add(int(row_))
    assert seen == set(range(40))


def test_ids_that_are_the_user_s_are_kept(data):
    images, labels = data
    queries, gallery = ImageSet(images[:5], labels[:5], [900, 901, 902, 903, 904]), ImageSet(images[5:], labels[5:])
    found, n_guessed = same_pictures(queries, gallery)
    assert found.ids.tolist() == [900, 901, 902, 903, 904] and n_guessed == 0


def test_one_file_in_two_folders(tmp_path):
    """A folder of queries and a folder of the gallery that hold the same picture: found by what it shows."""
    from PIL import Image

    from certimetric.datasets.images.files import ImageFiles

    rng, folders = np.random.default_rng(0), [tmp_path / "queries", tmp_path / "gallery"]
    for folder in folders:
        folder.mkdir()
    for i in range(12):
        picture = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        for folder in folders if i in (4, 9) else folders[i % 2 :][:1]:
            picture.save(folder / f"{i}.png")
    paths = [sorted(folder.glob("*.png")) for folder in folders]
    labels = [torch.tensor([int(path.stem) % 4 // 2 for path in some]) for some in paths]
    queries, gallery = (ImageSet(ImageFiles(some, 8), known) for some, known in zip(paths, labels))
    torch.manual_seed(0)
    grey = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    settled, n_guessed = same_pictures(queries, gallery)
    assert n_guessed == 2
    found = row(grey, settled, gallery)
    named = [ImageSet(ImageFiles(some, 8), known, [path.name for path in some]) for some, known in zip(paths, labels)]
    assert quietly(row, grey, *named) == found
    # By their whole paths they are different files: that is the user's word, too.
    apart_ = [ImageSet(ImageFiles(some, 8), known, some) for some, known in zip(paths, labels)]
    assert quietly(row, grey, *apart_)["map"] > found["map"]


def test_names_on_one_side_and_numbers_on_the_other_are_one_sentence(data, linear):
    numbered, named = ImageSet(*data), ImageSet(data[0], [f"digit {label}" for label in data[1].tolist()])
    for evaluate in (evaluate_retrieval, certify_retrieval, empirical_robustness_score):
        with pytest.raises(ValueError, match="labels of queries are names and those of the gallery are numbers"):
            evaluate(linear, named, numbered)
        with pytest.raises(ValueError, match="labels of the gallery are names and those of queries are numbers"):
            evaluate(linear, numbered, named)
