"""Lipschitz constants: never below what a network does, and what a singular value decomposition says."""

import numpy as np
import pytest
import torch
from torch import nn

from certimetric.deep import ImageSet, certify_retrieval, embedding_model, lipschitz_constant
from certimetric.deep.certify.lipschitz_constant import layer_bounds, plain_layers, run_with_error
from certimetric.deep.certify.operator_norms import convolution_norm, spectral_norm
from certimetric.deep.models import EmbeddingNetwork, GroupSort, NormPool2d, UnitBall
from certimetric.deep.models.orthogonal import (
    ResidualConv2d,
    bjorck,
    orthogonal_convolution,
    orthogonal_linear,
    residual_convolution,
)


def as_matrix(layer, shape):
    """A linear layer without its bias as the matrix that it is, by what it does to every unit picture."""
    units = torch.eye(int(np.prod(shape)), dtype=torch.double).view(-1, *shape)
    with torch.no_grad():
        return (layer(units) - layer(torch.zeros_like(units))).flatten(1).numpy().T


@pytest.mark.parametrize("shape", [(5, 7), (40, 3), (1, 1), (64, 64), (3, 20, 20)])
def test_spectral_norm_is_above_the_singular_values_and_hardly(shape):
    A = np.random.default_rng(0).normal(size=shape)
    truth = np.linalg.norm(A, 2, axis=(-2, -1)).max()
    assert truth <= spectral_norm(A) <= truth * (1 + 1e-8)


def test_spectral_norm_of_odd_matrices():
    assert 0 <= spectral_norm(np.zeros((3, 2))) < 1e-70
    assert 1 <= spectral_norm(np.ones((1, 1))) < 1 + 1e-8
    clustered = np.linalg.qr(np.random.default_rng(1).normal(size=(50, 50)))[0]
    assert 1 - 1e-14 <= spectral_norm(clustered) < 1 + 1e-8
    assert spectral_norm(1e100 * np.eye(2)) >= 1e100
    assert spectral_norm(np.eye(2), errors=0.5) >= 1.5
    with pytest.raises(ValueError, match="finite"):
        spectral_norm(np.array([[np.nan]]))


@pytest.mark.parametrize(
    "n, k, stride, padding",
    [(8, 3, 1, 1), (7, 3, 2, 1), (9, 5, 3, 2), (6, 2, 2, 0), (8, 4, 1, 3), (5, 1, 2, 0), (4, 3, 1, 2)],
)
def test_norm_of_a_convolution_bounds_its_matrix(n, k, stride, padding):
    torch.manual_seed(n + k)
    layer = nn.Conv2d(2, 3, k, stride=stride, padding=padding, dtype=torch.double)
    truth = np.linalg.norm(as_matrix(layer, (2, n, n + 1)), 2)
    kernel = layer.weight.detach().numpy()
    bound = convolution_norm(kernel, (n, n + 1), (stride, stride), (padding, padding))
    assert truth <= bound <= 1.3 * truth
    if k == stride:  # nothing overlaps and nothing is padded: the bound is the norm
        assert bound <= truth * (1 + 1e-8)


def test_orthogonal_layers_keep_lengths():
    torch.manual_seed(0)
    for matrix in (torch.randn(5, 9), torch.randn(9, 5), torch.randn(3, 6, 6)):
        W = bjorck(matrix.double(), 40)
        small = W @ W.mT if W.shape[-2] <= W.shape[-1] else W.mT @ W
        torch.testing.assert_close(small, torch.eye(small.shape[-1], dtype=torch.double).expand(small.shape))
    for c_in, c_out in ((1, 6), (4, 4), (3, 8)):
        layer = orthogonal_convolution(c_in, c_out, 5)
        inner = nn.functional.pad(torch.randn(4, c_in, 5, 5), (4, 4, 4, 4))
        out = layer(inner) - layer.bias[:, None, None]
        torch.testing.assert_close(out.flatten(1).norm(dim=1), inner.flatten(1).norm(dim=1), rtol=1e-4, atol=0)
    rows = orthogonal_linear(30, 7).weight
    torch.testing.assert_close(rows @ rows.T, torch.eye(7), atol=1e-5, rtol=0)
    pooled = NormPool2d(2)(x := torch.randn(2, 3, 5, 7))
    assert pooled.shape == (2, 3, 3, 4)
    torch.testing.assert_close(pooled.flatten(1).norm(dim=1), x.flatten(1).norm(dim=1))


def networks():
    torch.manual_seed(0)
    mixed = nn.Sequential(
        nn.Conv2d(2, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6), nn.LeakyReLU(0.2), nn.MaxPool2d(3, stride=2),
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(24, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 4), UnitBall(3.0),
    )  # fmt: skip
    with torch.no_grad():  # statistics of other pictures than those that follow
        mixed.train()(torch.rand(32, 2, 17, 17))
    smooth = {"pool": 3, "offset": 0.2, "sort": False}
    return {
        "lipschitz-cnn": embedding_model("lipschitz-cnn", 8, in_channels=2, size=17, width=4, kernel=3),
        "residual": embedding_model("lipschitz-cnn", 8, in_channels=2, size=17, width=4, depth=1, blocks=2),
        "smooth": embedding_model("lipschitz-cnn", 8, in_channels=2, size=17, width=4, depth=1, **smooth),
        "in the ball": embedding_model("lipschitz-cnn", 8, in_channels=2, size=17, width=4, depth=1, scale=2.0),
        "mixed": EmbeddingNetwork(mixed, [0.4, 0.6], [0.3, 0.5], normalise=False),
        "pooled": nn.Sequential(nn.PixelUnshuffle(1), nn.AdaptiveAvgPool2d(5), nn.Flatten(), nn.Linear(50, 3)),
    }


@pytest.mark.parametrize("name", ["lipschitz-cnn", "residual", "smooth", "in the ball", "mixed", "pooled"])
def test_no_pair_of_images_is_stretched_by_more_than_the_constant(name):
    model = networks()[name].eval().double()
    constant = lipschitz_constant(model, (2, 17, 17))
    x = torch.rand(200, 2, 17, 17, dtype=torch.double)
    step = torch.randn_like(x)
    # Along the singular vector of the Jacobian, too, where a step stretches most.
    point = x[0].clone().requires_grad_(True)
    jacobian = torch.autograd.functional.jacobian(lambda image: model(image[None])[0], point).flatten(1)
    step[0] = torch.linalg.svd(jacobian, full_matrices=False)[2][0].view_as(point)
    with torch.no_grad():
        for size in (1e-4, 0.1, 3.0):
            moved = step * (size / step.flatten(1).norm(dim=1))[:, None, None, None]
            ratio = (model(x + moved) - model(x)).norm(dim=1) / size
            assert float(ratio.max()) <= constant
    assert float(torch.linalg.svdvals(jacobian)[0]) <= constant
    if name in ("lipschitz-cnn", "residual"):
        assert constant < 1.001


def stretch(layer, shape, steps=60):
    """Largest singular value of the Jacobian of a layer at a point, by power iteration: a lower bound."""
    torch.manual_seed(2)
    point = torch.randn(1, *shape, dtype=torch.double)
    v = torch.randn_like(point)
    for _ in range(steps):
        v = v / v.norm()
        _, forward = torch.autograd.functional.jvp(layer, point, v)
        _, v = torch.autograd.functional.vjp(layer, point, forward)
    return float(forward.norm())


@pytest.mark.parametrize("size, hidden, moved", [(3, 8, 0.0), (3, 3, 2.0), (1, 5, 1.0), (5, 2, 3.0)])
def test_residual_layers_stretch_nothing(size, hidden, moved):
    # Whatever the trained tensors are: the kernel that is used has at most norm 1.
    torch.manual_seed(size)
    layer = residual_convolution(4, hidden, size)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(moved * torch.randn_like(parameter))
    constant = lipschitz_constant(nn.Sequential(layer), (4, 9, 8))
    assert 1.0 <= constant < 1 + 1e-5
    layer = layer.double()
    assert 0.5 < stretch(layer, (4, 9, 8)) <= constant
    kernel = layer.weight.detach()
    matrix = as_matrix(lambda x: nn.functional.conv2d(x, kernel, padding=size // 2), (4, 9, 8))
    assert np.linalg.norm(matrix, 2) <= 1 + 1e-6


def test_constant_of_a_residual_layer_is_of_its_weights():
    # Never assumed of the kind of the layer: with a kernel of norm 3 a difference may grow by 2 · 9 − 1.
    layer = ResidualConv2d(1, 1, 1)
    with torch.no_grad():
        layer.weight.fill_(3.0)
        layer.bias.fill_(100.0)
    assert 17 <= lipschitz_constant(nn.Sequential(layer), (1, 4, 4)) < 17 + 1e-5
    assert stretch(layer.double(), (1, 4, 4)) == pytest.approx(17)
    changed = residual_convolution(2, 2)
    changed.padding = (0, 0)
    with pytest.raises(ValueError, match="zeros of half its odd size"):
        lipschitz_constant(nn.Sequential(changed), (2, 8, 8))
    with pytest.raises(ValueError, match="interval"):
        certify_retrieval(
            nn.Sequential(layer, nn.Flatten()), ImageSet(torch.rand(6, 1, 2, 2), [0, 1] * 3), method="interval"
        )


def test_constant_of_a_linear_map_is_its_singular_value():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(20, 6), nn.Linear(6, 3))
    truth = np.prod([np.linalg.norm(layer.weight.detach().double().numpy(), 2) for layer in model[1:]])
    assert truth <= lipschitz_constant(model, (1, 4, 5)) <= truth * (1 + 1e-7)


def test_constant_is_of_the_weights_in_use():
    model = embedding_model("lipschitz-cnn", 4, size=8, width=4)
    before = lipschitz_constant(model, (1, 8, 8))
    plain = nn.Sequential(*plain_layers(model))
    x = torch.rand(3, 1, 8, 8)
    torch.testing.assert_close(plain(x.double()).float(), model(x), atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        model.body[-1].bias.add_(1.0)
    assert lipschitz_constant(model, (1, 8, 8)) == before  # a bias moves everything alike
    scaled = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    one = lipschitz_constant(scaled, (1, 8, 8))
    with torch.no_grad():
        scaled[1].weight.mul_(7.0)
    assert lipschitz_constant(scaled, (1, 8, 8)) == pytest.approx(7 * one)


@pytest.mark.parametrize("name", ["lipschitz-cnn", "residual", "smooth", "mixed"])
def test_rounding_is_within_its_bound(name):
    layers = plain_layers(networks()[name])
    bounds = layer_bounds(layers, (2, 17, 17))
    x = torch.rand(5, 2, 17, 17, dtype=torch.double)
    out, error = run_with_error(layers, bounds, x)
    assert (error > 0).all() and float(error.max()) < 1e-8
    # Adding channels in another order rounds differently: both are within the bound of the truth.
    first = next(i for i, layer in enumerate(layers) if isinstance(layer, nn.Conv2d))
    layers[first].weight.data = layers[first].weight.flip(1).contiguous()
    start = layers[:first]
    y = nn.Sequential(*start)(x).flip(1).contiguous()
    other = nn.Sequential(*layers[first:])(y)
    assert ((other - out).norm(dim=1) <= 2 * error).all()


@pytest.mark.parametrize(
    "model, message",
    [
        (embedding_model("small-cnn", 4, width=8), "GroupNorm"),
        (nn.Sequential(nn.Flatten(), nn.LayerNorm(64)), "no Lipschitz bound for the layer LayerNorm"),
        (EmbeddingNetwork(nn.Flatten()), "OnSphere"),
        (nn.Sequential(nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular"), nn.Flatten()), "zeros around"),
        (nn.Sequential(nn.MaxPool2d(2, dilation=2), nn.Flatten()), "dilation"),
        (nn.Sequential(nn.AvgPool2d(2, padding=1), nn.Flatten()), "without padding"),
        (nn.Sequential(nn.AdaptiveAvgPool2d(9), nn.Flatten()), "enlarges"),
        (nn.Sequential(nn.BatchNorm2d(1, track_running_stats=False), nn.Flatten()), "running statistics"),
    ],
)
def test_layers_without_a_bound_are_named(model, message):
    with pytest.raises(ValueError, match=message):
        lipschitz_constant(model, (1, 8, 8))


class Tenfold(nn.Module):
    """A parametrisation of one's own."""

    def forward(self, weight):
        return 10 * weight


class Loud(nn.Linear):
    """A layer of a known kind, but for what it does."""

    def forward(self, x):
        return 100 * super().forward(x)


def replace(layer, name="forward"):
    before = getattr(layer, name)
    setattr(layer, name, lambda *given: 100 * before(*given))


# Each makes the network give something else than its layers do, or may. The layer, or the network around it, is named.
FOREIGN = {
    "hook": (lambda net, layer: layer.register_forward_hook(lambda module, x, out: 100 * out), "hooks .*: Linear"),
    "pre-hook": (lambda net, layer: layer.register_forward_pre_hook(lambda module, x: 100 * x[0]), "hooks .*: Linear"),
    "hook of the network": (
        lambda net, layer: net.register_forward_hook(lambda module, x, out: 100 * out),
        "network with hooks .*: EmbeddingNetwork",
    ),
    "hook of old normalisation": (lambda net, layer: torch.nn.utils.spectral_norm(layer), "hooks .*: Linear"),
    "forward of a layer": (lambda net, layer: replace(layer), "forward of its own .*: Linear"),
    "forward of a sequence": (lambda net, layer: replace(net.body), "forward of its own .*: Sequential"),
    "forward of the network": (lambda net, layer: replace(net), "forward of its own .*: EmbeddingNetwork"),
    "what a forward calls": (lambda net, layer: replace(net.body[0], "_conv_forward"), "forward of its own .*: Conv2d"),
    "subclass": (lambda net, layer: net.body.append(Loud(4, 4)), "no .* bound.* for the layer Loud"),
    "parametrised subclass": (
        lambda net, layer: net.body.append(nn.utils.parametrizations.orthogonal(Loud(4, 4))),
        "parametrisations that are not known .*: Loud",
    ),
    "parametrisation of one's own": (
        lambda net, layer: nn.utils.parametrize.register_parametrization(layer, "weight", Tenfold()),
        "parametrisations that are not known .*: Linear",
    ),
    "parametrisation of a bias": (
        lambda net, layer: nn.utils.parametrize.register_parametrization(layer, "bias", Tenfold()),
        "parametrisations that are not known .*: Linear",
    ),
    "parametrisation of the pixels": (
        lambda net, layer: nn.utils.parametrize.register_parametrization(net, "std", Tenfold()),
        "parametrisations that are not known .*: EmbeddingNetwork",
    ),
    "forward of a parametrisation": (
        lambda net, layer: replace(nn.utils.parametrizations.orthogonal(layer).parametrizations.weight[0]),
        "forward of its own .*: Linear",
    ),
    "buffer of a layer": (lambda net, layer: layer.register_buffer("gain", torch.ones(1)), "part 'gain' .*: Linear"),
    "buffer of a sequence": (
        lambda net, layer: net.body.register_buffer("gain", torch.ones(1)),
        "part 'gain' .*: Sequential",
    ),
    "parameter of the network": (
        lambda net, layer: net.register_parameter("gain", nn.Parameter(torch.ones(1))),
        "part 'gain' .*: EmbeddingNetwork",
    ),
    "layer in a layer": (lambda net, layer: layer.add_module("more", nn.Linear(2, 2)), "part 'more' .*: Linear"),
}


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("method", ["lipschitz", "interval"])
def test_other_code_than_that_of_the_layers_is_refused(kind, method):
    torch.manual_seed(0)
    model = EmbeddingNetwork(
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 4)), normalise=False
    ).eval()
    items = ImageSet(torch.rand(6, 1, 8, 8), torch.arange(6) % 2)

    def certify():
        return certify_retrieval(model, items, method=method, with_pixels=False)

    certify()
    change, message = FOREIGN[kind]
    change(model, model.body[-1])
    with pytest.raises(ValueError, match=message) as error:
        certify()
    assert "\n" not in str(error.value)
    if method == "lipschitz":
        with pytest.raises(ValueError, match=message):
            lipschitz_constant(model, (1, 8, 8))


def test_hooks_on_all_modules_are_refused():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    handle = nn.modules.module.register_module_forward_hook(lambda module, x, out: 100 * out)
    try:
        with pytest.raises(ValueError, match="hooks on all modules"):
            lipschitz_constant(model, (1, 8, 8))
    finally:
        handle.remove()
    lipschitz_constant(model, (1, 8, 8))


def test_a_class_whose_forward_was_replaced_is_refused(monkeypatch):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    monkeypatch.setattr(nn.Linear, "forward", lambda self, x: 100 * x)
    with pytest.raises(ValueError, match=r"forward of its own .*: Linear"):
        lipschitz_constant(model, (1, 8, 8))


@pytest.mark.parametrize("name", ["spectral_norm", "weight_norm", "orthogonal"])
def test_parametrisations_of_torch_are_of_the_weights_in_use(name):
    # Also of a model in training mode, whose power iteration would move with every look at the weights.
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), getattr(nn.utils.parametrizations, name)(nn.Linear(64, 4))).train()
    before = [value.clone() for value in model.state_dict().values()]
    constant = lipschitz_constant(model, (1, 8, 8))
    assert model.training and all(torch.equal(one, two) for one, two in zip(before, model.state_dict().values()))
    weight = model.eval()[1].weight.detach().double().numpy()
    assert np.linalg.norm(weight, 2) <= constant <= np.linalg.norm(weight, 2) * (1 + 1e-6)


def test_what_has_no_layers_is_refused():
    with pytest.raises(ValueError, match=r"layers can be read of a torch.nn.Module only, got function"):
        lipschitz_constant(lambda x: x.flatten(1), (1, 8, 8))


def test_group_sort_needs_pairs():
    with pytest.raises(ValueError, match="even"):
        GroupSort()(torch.rand(2, 3))
