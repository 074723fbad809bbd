"""The loss by slopes: the radius of the page, in a loop; its gradient; what has no place beside it."""

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")
pytest.importorskip("lightning", reason="lightning is not installed: the extra 'deep' has it")

from pytorch_metric_learning.losses import TripletMarginLoss  # noqa: E402
from torch import nn  # noqa: E402

from certimetric.deep import (  # noqa: E402
    BatchDefense,
    CertifiedMarginLoss,
    ImageSet,
    NoiseDefense,
    RobustTrainer,
    certify_retrieval,
    embedding_model,
)


@pytest.fixture
def model():
    model = embedding_model(
        "lipschitz-cnn", 6, seed=0, size=8, width=4, depth=1, kernel=3, pool=3, offset=0.3, sort=False
    )
    nn.init.normal_(model.body[0].bias, std=0.1)
    return model.double()


def radius(model, images, a, l, j):
    """As the page has it, of one pair: the slope by autograd, the bend by its sum, the best of the μ."""
    x = images[a : a + 1].clone().requires_grad_(True)
    points = model(images).detach()
    apart = points[j] - points[l]
    length = apart.norm()
    s = 0.5 * ((model(x)[0] - points[l]).square().sum() - (model(x)[0] - points[j]).square().sum()) / length
    slope = torch.autograd.grad(s, x)[0].norm()
    h, w = model.body[1](model.body[0](x)).flatten().detach(), (apart / length) @ model.body[3].weight.detach()
    by_constant = float(s.detach())
    if by_constant <= 0:
        return by_constant
    mu = torch.logspace(-2, 1, 32, dtype=torch.double)
    rest = s.detach() - (w**2 / mu[:, None] + 2 * w * h)[:, w < 0].clamp_min(0).sum(dim=1)
    return max(by_constant, float((2 * rest / (slope + (slope**2 + 4 * mu * rest.clamp_min(0)).sqrt())).max()))


def test_the_loss_by_slopes_is_that_of_a_loop(digits, model):
    # Of three pictures two have a partner, and one opponent each: nothing is soft about that.
    images, labels = digits[0].double(), digits[1]
    loss, seen = CertifiedMarginLoss(1.0, 0.2, slopes=True), []
    for i in range(0, 100, 25):
        own = (labels == labels[i]).nonzero()[:, 0]
        rows = torch.stack([torch.tensor(i), own[own > i][0], (labels != labels[i]).nonzero()[i, 0]])
        some = images[rows]
        if i == 0:
            some[2] = 0.9 * some[0]  # nearer than the partner
        radii = torch.tensor([radius(model, some, 0, 2, 1), radius(model, some, 1, 2, 0)], dtype=torch.double)
        expected = (0.2 * nn.functional.softplus((1.0 - radii) / 0.2)).mean()
        assert loss.of_images(model, some, labels[rows]).item() == pytest.approx(expected.item(), rel=1e-5)
        proven = certify_retrieval(model, ImageSet(some, labels[rows]), with_pixels=False)
        right = proven.predictions == proven.labels
        assert (proven.radii[right] > 0.95 * radii.numpy()[: len(right)][right]).all()  # and so many are certified
        seen += radii.tolist()
    plain = CertifiedMarginLoss(1.0, 0.2)
    assert min(seen) < 0 < max(seen)
    assert loss.of_images(model, images[:40], labels[:40]) < plain(model(images[:40]), labels[:40])


def test_its_gradient_is_that_of_differences(digits, model):
    images, labels = digits[0][:30].double(), digits[1][:30]
    loss, weight = CertifiedMarginLoss(0.5, 0.2, slopes=True), next(model.body[0].parametrizations.parameters())
    loss.of_images(model, images, labels).backward()
    direction, step = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)).double(), 1e-6
    ends = []
    for sign in (1, -1):
        with torch.no_grad():
            weight += sign * step * direction
            ends.append(float(loss.of_images(model, images, labels)))
            weight -= sign * step * direction
    assert float((weight.grad * direction).sum()) == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-3)


def test_pictures_that_are_one_or_empty_have_gradients(model):
    images, labels = torch.zeros(6, 1, 8, 8), torch.tensor([0, 0, 1, 1, 2, 3])
    images[3:] = torch.rand(3, 1, 8, 8)
    model, loss = model.float(), CertifiedMarginLoss(slopes=True)
    loss.of_images(model, images, labels).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    assert loss.of_images(model, images, torch.arange(6)).item() == 0.0  # nothing has a partner


def test_it_trains_where_the_network_is_read(digits, model):
    batches = [(digits[0][:30], digits[1][:30])]
    loss = CertifiedMarginLoss(0.5, 0.1, slopes=True)
    options = {"optimizer": lambda parameters: torch.optim.Adam(parameters, lr=0.03), "accelerator": "cpu"}
    trainer = RobustTrainer(model.float(), loss, defense=NoiseDefense(0.05), max_epochs=5, **options).fit(batches)
    assert trainer.history[-1] < 0.9 * trainer.history[0]


def test_what_has_no_place_beside_it(digits, model):
    images, labels = digits[0][:8], digits[1][:8]
    loss = CertifiedMarginLoss(slopes=True)
    with pytest.raises(TypeError, match="call of_images"):
        loss(torch.rand(4, 2), torch.tensor([0, 0, 1, 1]))
    with pytest.raises(TypeError, match="BatchDefense takes losses of embeddings, and has no place for one"):
        BatchDefense().loss(model.float(), images, labels, loss)
    for other in (nn.Sequential(nn.Flatten(), nn.Linear(64, 4)), embedding_model("lipschitz-cnn", 4, size=8, depth=1)):
        with pytest.raises(ValueError, match="by slopes trains networks of one convolution without sorting"):
            loss.of_images(other, images, labels)
    assert not CertifiedMarginLoss().reads_images and not hasattr(TripletMarginLoss(), "of_images")
