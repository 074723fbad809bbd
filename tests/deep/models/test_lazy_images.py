"""Images that are decoded when they are taken: the same figures as in memory, and never more than a batch of them."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")

from torch import nn  # noqa: E402

from certimetric.deep import PGD, ImageSet, Index, LinfBall, embed, evaluate_retrieval  # noqa: E402


class Lazy:
    """An array that counts how many rows are taken at once."""

    dtype = np.dtype(np.float32)

    def __init__(self, values):
        self.values, self.taken = values, []

    @property
    def shape(self):
        return self.values.shape

    def __len__(self):
        return len(self.values)

    def __getitem__(self, rows):
        found = self.values[rows]
        self.taken.append(len(found))
        return found


@pytest.fixture
def both(digits):
    images, labels = digits[0][:150], digits[1][:150]
    lazy = Lazy(images.numpy())
    return ImageSet(images, labels), ImageSet(lazy, labels), lazy


def test_embeddings_by_batches(both, network):
    whole, parts, lazy = both
    assert lazy.taken == []  # a set is made without decoding anything
    torch.testing.assert_close(embed(network, parts.images, 64), embed(network, whole.images, 64))
    assert lazy.taken == [64, 64, 22]


def test_retrieval_clean_and_attacked(both, network):
    whole, parts, lazy = both
    rows = torch.arange(0, 150, 2)
    figures = [
        evaluate_retrieval(network, data.select(rows), data, attacks=[PGD(LinfBall(0.1), steps=3)], batch_size=32).rows
        for data in (whole, parts)
    ]
    assert figures[0] == figures[1]
    assert max(lazy.taken) == 32


def test_selections_stay_lazy(both):
    whole, parts, lazy = both
    rows = torch.tensor([5, 140, 3, 77])
    chosen, expected = parts.select(rows), whole.select(rows)
    twice = chosen.select(torch.tensor([True, False, True, True]))
    assert lazy.taken == []
    assert tuple(chosen.images.shape) == (4, 1, 8, 8)
    assert chosen.ids.tolist() == rows.tolist()
    torch.testing.assert_close(chosen.tensor(), expected.images)
    torch.testing.assert_close(twice.tensor(), expected.images[[0, 2, 3]])
    assert twice.ids.tolist() == [5, 3, 77]
    assert lazy.taken == [4, 3]
    torch.testing.assert_close(expected.tensor(), expected.images)


def test_batches(both):
    whole, parts, _ = both
    for data in (whole, parts):
        batches = list(data.batches(60))
        assert [len(batch) for batch in batches] == [60, 60, 30]
        torch.testing.assert_close(torch.cat([batch.images for batch in batches]), whole.images)
        assert torch.cat([batch.ids for batch in batches]).tolist() == list(range(150))


def test_neighbours(both):
    whole, parts, _ = both
    model = nn.Flatten()
    found = [Index(model, data, 50).nearest(data.images, data.ids, 3) for data in (whole, parts)]
    assert torch.equal(*found)


def test_arrays_become_tensors(digits):
    images, labels = digits
    data = ImageSet(images.numpy(), labels)
    assert torch.is_tensor(data.images)
    torch.testing.assert_close(data.images, images)
    with pytest.raises(TypeError, match=r"floating type, from 0 to 1, or uint8, got int16"):
        ImageSet((images.numpy() * 255).astype(np.int16), labels)


@pytest.mark.parametrize("lazy", [False, True])
def test_pictures_of_other_types_are_scaled_and_become_float32(digits, lazy):
    levels = (digits[0].numpy() * 255).round().astype(np.uint8)
    plain = torch.from_numpy(levels.astype(np.float32) / 255)
    for pictures, close in (
        (levels, 0.0),
        (torch.from_numpy(levels), 0.0),
        (levels / 255, 1e-7),
        ((levels / 255).astype(np.float16), 1e-3),
        (plain.double(), 0.0),
        (plain.bfloat16(), 1e-2),
    ):
        given = Lazy(pictures) if lazy else pictures
        data = ImageSet(given, digits[1])
        for found in (data.tensor(), next(data.batches(400)).images, embed(nn.Flatten(), given).view_as(plain)):
            assert found.dtype == torch.float32
            torch.testing.assert_close(found, plain, rtol=0, atol=close)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda x: x * 2, ValueError, "values from 0 to 1, got 0 to 2"),
        (lambda x: (x * 255).astype(np.int16), TypeError, "floating type, from 0 to 1, or uint8, got torch.int16"),
    ],
)
def test_values_are_checked_as_they_are_used(digits, change, error, message):
    images, labels = digits
    data = ImageSet(Lazy(change(images.numpy())), labels)
    uses = [lambda: embed(nn.Flatten(), data.images), data.tensor, lambda: next(data.batches(9))]
    for use in uses:
        with pytest.raises(error, match=message):
            use()


def test_shapes_are_checked_at_once(digits):
    images, labels = digits
    with pytest.raises(ValueError, match=r"shape \(n, channels, height, width\), got \(400, 8, 8\)"):
        ImageSet(Lazy(images[:, 0].numpy()), labels)
    with pytest.raises(ValueError, match="labels must be one whole number for each of the 400 images"):
        ImageSet(Lazy(images.numpy()), labels[:3])
    with pytest.raises(ValueError, match="at least one image"):
        embed(nn.Flatten(), Lazy(images.numpy()[:0]))
