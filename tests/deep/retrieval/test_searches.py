"""Cosine and inner product: ranks by definition, attacks that reach them, and certificates against what is smallest."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")

from torch import nn  # noqa: E402

from certimetric.deep import PGD, ImageSet, Index, LinfBall, certify_retrieval, evaluate_retrieval  # noqa: E402

METRICS = ["cosine", "dot"]


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(2, 3))


def pictures(n=24, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 3
    places = torch.tensor([[0.1, 0.1], [0.6, 0.1], [0.1, 0.6]])[labels, None, None]
    return ImageSet(0.3 * torch.rand(n, 1, 1, 2, generator=generator) + places, labels)


def scores(points, items, metric):
    if metric == "cosine":
        points, items = (part / part.norm(dim=-1, keepdim=True) for part in (points, items))
    return points @ items.T


@pytest.mark.parametrize("metric", METRICS)
def test_ranks_are_those_of_the_definition(metric):
    model, items = network(), pictures()
    told = scores(*2 * [model(items.images).detach().double()], metric).fill_diagonal_(-torch.inf)
    right = items.labels[told.argmax(dim=1)] == items.labels
    result = evaluate_retrieval(model, items, metric=metric, with_nmi=False)
    row = result.to_frame().query("subject == 'model'").iloc[0]
    assert row["recall_at_1"] == pytest.approx(float(right.double().mean()))
    pixels = evaluate_retrieval(model, items, with_nmi=False).to_frame().query("subject == 'raw pixels'").iloc[0]
    assert pixels["recall_at_1"] == result.to_frame().query("subject == 'raw pixels'").iloc[0]["recall_at_1"]


@pytest.mark.parametrize("metric", METRICS)
def test_attacks_reach_the_search_that_is_asked(metric):
    model, items = network(), pictures()
    index = Index(model, items, metric=metric)
    attacked = index.attacked(items, PGD(LinfBall(0.2), steps=10))
    sides = (model(part).detach().double() for part in (attacked, items.images))
    told = scores(*sides, metric).fill_diagonal_(-torch.inf)
    right = items.labels[told.argmax(dim=1)] == items.labels
    assert torch.equal(right, index.score(items, PGD(LinfBall(0.2), steps=10))["recall_at_1"].bool())
    assert right.double().mean() < index.score(items)["recall_at_1"].double().mean()


@pytest.mark.parametrize("metric", METRICS)
def test_certificates_are_the_smallest_change_of_a_linear_model(metric):
    # In the plane of two pixels, along rays: pixels beyond 0 to 1 count, as for certificates.
    model, items = network(), pictures()
    found = certify_retrieval(model, items, metric=metric, with_pixels=False)
    assert (found.radii > 0).mean() > 0.5
    embedded = model(items.images).detach().double()
    weight, bias = (part.detach().double() for part in (model[1].weight, model[1].bias))
    angles = torch.linspace(0, 2 * np.pi, 361, dtype=torch.double)
    rays = torch.stack([angles.cos(), angles.sin()], dim=1)
    steps = torch.linspace(0, 1.2, 241, dtype=torch.double)
    for i in np.flatnonzero(found.radii > 0)[:4]:
        radius = found.radii[i]
        moved = items.images[i].double().flatten() + radius * steps[:, None, None] * rays
        told = scores((moved @ weight.T + bias).flatten(0, 1), embedded, metric)
        told[:, i] = -torch.inf
        same = (items.labels[told.argmax(dim=1)] == int(found.predictions[i])).reshape(len(steps), -1).all(dim=1)
        first = float(steps[int((~same).int().argmax())]) if not bool(same.all()) else np.inf
        assert first > 1.0 - 1e-9  # none within the radius
        assert first <= 1.02  # and one just beyond it


@pytest.mark.parametrize(
    ("options", "message"),
    [({"metric": "l3"}, "metric must be"), ({"metric": "dot", "method": "smoothing"}, "inner products are certified")],
)
def test_what_is_wrong_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        certify_retrieval(network(), pictures(), **options)
    with pytest.raises(ValueError, match="metric must be"):
        evaluate_retrieval(network(), pictures(), metric="l3")
