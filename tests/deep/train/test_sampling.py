"""Batches balanced by class: every batch holds what a metric loss needs, and is drawn at random."""

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")

from certimetric.deep import ClassBalancedBatches  # noqa: E402
from certimetric.deep.train import balanced_loader  # noqa: E402
from certimetric.deep.train import batches as batches_module  # noqa: E402

LABELS = torch.arange(200) % 20


@pytest.mark.parametrize(("batch_size", "per_class"), [(8, 2), (12, 4), (13, 3), (6, 1)])
def test_each_batch_has_several_images_of_each_of_its_classes(batch_size, per_class):
    for batch in ClassBalancedBatches(LABELS, batch_size, per_class):
        assert len(batch) == len(set(batch)) == batch_size // per_class * per_class
        classes, counts = LABELS[batch].unique(return_counts=True)
        assert len(classes) == batch_size // per_class
        assert (counts == per_class).all()


def test_an_epoch_is_as_long_as_the_images_last():
    sampler = ClassBalancedBatches(LABELS, 16, 2)
    assert len(sampler) == len(list(sampler)) == 200 // 16
    assert len(ClassBalancedBatches(LABELS[:30], 112, 40)) == 1


def test_every_class_and_every_image_comes_in_time():
    torch.manual_seed(0)
    sampler = ClassBalancedBatches(LABELS, 20, 2)
    drawn = {row for _ in range(20) for batch in sampler for row in batch}
    assert drawn == set(range(200))


def test_few_classes_give_more_images_each():
    labels = LABELS % 4
    batch = next(iter(ClassBalancedBatches(labels, 48, 2)))
    assert labels[batch].bincount().tolist() == [12] * 4
    assert len(set(batch)) == 48


def test_a_class_with_too_few_images_gives_some_again():
    labels = torch.tensor([0] * 10 + [1] * 3)
    batch = next(iter(ClassBalancedBatches(labels, 14, 7)))
    rows = torch.tensor([row for row in batch if labels[row] == 1])
    assert len(rows) == 7
    assert set(rows.tolist()) == {10, 11, 12}
    # Each comes as often as the others, give or take one.
    assert rows.bincount()[10:].tolist() in ([3, 2, 2], [2, 3, 2], [2, 2, 3])


def test_the_seed_of_torch_decides():
    def draw(seed):
        torch.manual_seed(seed)
        return list(ClassBalancedBatches(LABELS, 8))

    assert draw(0) == draw(0)
    assert draw(0) != draw(1)
    torch.manual_seed(0)
    sampler = ClassBalancedBatches(LABELS, 8)
    assert list(sampler) != list(sampler)


def test_labels_of_any_kind():
    labels = [7, -3] * 10
    batch = next(iter(ClassBalancedBatches(labels, 4, 2)))
    assert sorted(labels[row] for row in batch) == [-3, -3, 7, 7]


def test_processes_share_a_batch(monkeypatch):
    torch.manual_seed(0)
    whole = next(iter(ClassBalancedBatches(LABELS, 14)))
    parts = []
    for rank in range(4):
        monkeypatch.setattr(batches_module.dist, "is_initialized", lambda: True)
        monkeypatch.setattr(batches_module.dist, "get_world_size", lambda: 4)
        monkeypatch.setattr(batches_module.dist, "get_rank", lambda rank=rank: rank)
        torch.manual_seed(0)
        parts.append(next(iter(ClassBalancedBatches(LABELS, 14))))
    assert [row for part in parts for row in part] == whole
    assert [len(part) for part in parts] == [4, 4, 3, 3]


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (LABELS, {"batch_size": 3}, "batch_size must be at least two classes of per_class = 2, got 3"),
        (LABELS, {"per_class": 0}, "per_class must be at least 1, got 0"),
        (LABELS * 0, {}, "labels must be of at least two classes"),
        (LABELS[:0], {}, "labels must be of at least two classes"),
    ],
)
def test_bad_input_is_named(labels, options, message):
    with pytest.raises(ValueError, match=message):
        ClassBalancedBatches(labels, **options)


def test_a_class_is_turned_as_one():
    # Every pixel tells its place, so that a picture tells how often it was turned.
    picture = torch.arange(16.0).reshape(1, 1, 4, 4) / 16
    images, labels = picture.expand(200, 1, 4, 4), LABELS
    torch.manual_seed(0)
    seen = set()
    for batch, classes in balanced_loader(images, labels, 20, 4, turns=True):
        assert (classes.unique(return_counts=True)[1] == 4).all()
        for label in classes.unique():
            turns = {
                k for k in range(4) for own in batch[classes == label] if torch.equal(own, picture[0].rot90(k, (1, 2)))
            }
            assert len(turns) == 1
            seen |= turns
    assert seen == {0, 1, 2, 3}


def test_pictures_that_are_not_square_are_not_turned():
    with pytest.raises(ValueError, match="turns must be false for pictures of 4 × 5 pixels"):
        balanced_loader(torch.zeros(8, 1, 4, 5), torch.arange(8) % 2, 4, turns=True)
