"""Models by name: normalisation inside, frozen batch norm, ResNet-50 of a library or a file, factories of one's own."""

import sys
import types

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")

from safetensors.torch import load_file, save_file  # noqa: E402
from torch import nn  # noqa: E402

from certimetric.deep import embedding_model  # noqa: E402
from certimetric.deep.models import EmbeddingNetwork  # noqa: E402
from certimetric.deep.models.network import find_factory, model_options  # noqa: E402

FEATURES, CLASSES = 6, 10


def tiny_resnet():
    """A stand-in for ResNet-50: a classifier `fc`, and batch normalisation before it."""
    body = nn.Module()
    body.conv, body.bn, body.fc = nn.Conv2d(3, FEATURES, 3), nn.BatchNorm2d(FEATURES), nn.Linear(FEATURES, CLASSES)
    body.forward = lambda x: body.fc(body.bn(body.conv(x)).mean(dim=(2, 3)))
    return body


@pytest.fixture
def asked(monkeypatch):
    """A `timm` that keeps what it was asked for."""
    calls = []

    def create_model(name, pretrained=False):
        calls.append((name, pretrained))
        return tiny_resnet()

    monkeypatch.setitem(sys.modules, "timm", types.SimpleNamespace(create_model=create_model))
    return calls


def own_factory(monkeypatch, **members):
    module = types.ModuleType("own_models")
    for name, value in members.items():
        setattr(module, name, value)
    monkeypatch.setitem(sys.modules, "own_models", module)


@pytest.mark.parametrize("size", [8, 28, 33])
def test_small_networks_take_small_pictures(size):
    model = embedding_model("small-cnn", dim=5, in_channels=3, width=8)
    found = model(torch.rand(4, 3, size, size))
    assert found.shape == (4, 5)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(4))


@pytest.mark.parametrize("options", [{}, {"depth": 1, "kernel": 3, "width": 4}, {"scale": 4.0}])
def test_lipschitz_networks_are_kept_as_data(options, tmp_path):
    torch.manual_seed(0)
    model = embedding_model("lipschitz-cnn", dim=6, in_channels=3, size=9, **options)
    x = torch.rand(4, 3, 9, 9)
    found = model(x)
    assert found.shape == (4, 6)
    if "scale" in options:
        torch.testing.assert_close(found.norm(dim=1), torch.ones(4))  # longer than 1 before they were shortened
    save_file({name: value.clone() for name, value in model.state_dict().items()}, tmp_path / "model.safetensors")
    torch.manual_seed(1)
    other = embedding_model("lipschitz-cnn", dim=6, in_channels=3, size=9, **options)
    assert not torch.equal(other(x), found)
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert torch.equal(other(x), found)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"width": 3}, "width of 'lipschitz-cnn' must be even"),
        ({"kernel": 4}, "kernel odd"),
        ({"depth": 0}, "at least 1"),
        ({"scale": -1.0}, "scale of UnitBall must be positive"),
        ({"widht": 4}, "do not fit"),
    ],
)
def test_wrong_options_of_lipschitz_networks(options, message):
    with pytest.raises(ValueError, match=message):
        embedding_model("lipschitz-cnn", **options)


def test_normalisation_is_inside():
    x = torch.rand(4, 3, 2, 2)
    mean, std = [0.1, 0.2, 0.3], [0.5, 1.0, 2.0]
    model = EmbeddingNetwork(nn.Flatten(), mean, std, normalise=False)
    expected = torch.stack([(x[:, c] - mean[c]) / std[c] for c in range(3)], dim=1).flatten(1)
    torch.testing.assert_close(model(x), expected)
    assert {"mean", "std"} <= set(model.state_dict())


def test_frozen_batch_norm_keeps_its_statistics_in_training():
    body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten())
    frozen, moving = (EmbeddingNetwork(body, freeze_batch_norm=freeze) for freeze in (True, False))
    frozen.train()
    assert frozen.training and body[2].training
    assert not body[1].training
    before = body[1].running_mean.clone()
    frozen(torch.rand(8, 1, 6, 6))
    assert torch.equal(body[1].running_mean, before)
    moving.train()
    moving(torch.rand(8, 1, 6, 6))
    assert not torch.equal(body[1].running_mean, before)
    assert not frozen.eval().training


@pytest.mark.parametrize(("weights", "pretrained"), [(None, False), ("imagenet", True)])
def test_resnet50_through_timm(asked, weights, pretrained):
    model = embedding_model("resnet50", dim=4, in_channels=3, weights=weights)
    assert asked == [("resnet50", pretrained)]
    assert model(torch.rand(2, 3, 16, 16)).shape == (2, 4)
    assert not model.train().body.bn.training
    torch.testing.assert_close(model.mean.flatten(), torch.tensor([0.485, 0.456, 0.406]))
    torch.testing.assert_close(model.std.flatten(), torch.tensor([0.229, 0.224, 0.225]))


@pytest.mark.parametrize(("weights", "wanted"), [(None, None), ("imagenet", "IMAGENET1K_V2")])
def test_resnet50_through_torchvision(monkeypatch, weights, wanted):
    calls = []

    def resnet50(weights):
        calls.append(weights)
        return tiny_resnet()

    monkeypatch.setitem(sys.modules, "timm", None)
    monkeypatch.setitem(sys.modules, "torchvision", types.ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.models", types.SimpleNamespace(resnet50=resnet50))
    assert embedding_model("resnet50", dim=4, in_channels=3, weights=weights)(torch.rand(1, 3, 9, 9)).shape == (1, 4)
    assert calls == [wanted]


def test_resnet50_without_either_library(monkeypatch):
    for name in ("timm", "torchvision", "torchvision.models"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match="resnet50 needs timm or torchvision"):
        embedding_model("resnet50", in_channels=3)


@pytest.mark.parametrize("left_out", ["nothing", "fc.", "bn.num_batches_tracked"])
def test_weights_of_a_file(asked, tmp_path, left_out):
    # Published files hold the classifier of ImageNet, which has another length than embeddings.
    tensors = {name: value for name, value in tiny_resnet().state_dict().items() if not name.startswith(left_out)}
    save_file(tensors, tmp_path / "weights.safetensors")
    model = embedding_model("resnet50", dim=4, in_channels=3, weights=str(tmp_path / "weights.safetensors"))
    assert asked == [("resnet50", False)]
    for name, value in tensors.items():
        if not name.startswith("fc."):
            assert torch.equal(model.body.state_dict()[name], value)
    assert model.body.fc.out_features == 4


def without(name):
    return {key: value for key, value in tiny_resnet().state_dict().items() if key != name}


WRONG_WEIGHTS = {
    "a part is missing": (lambda path: save_file(without("bn.weight"), path), "bn.weight"),
    "another shape": (
        lambda path: save_file(without("conv.weight") | {"conv.weight": torch.rand(2, 2)}, path),
        "conv.weight",
    ),
    "not a file of tensors": (lambda path: path.write_bytes(b"weights"), "weights.safetensors"),
    "no file": (lambda path: None, "weights.safetensors"),
}


@pytest.mark.parametrize("what", WRONG_WEIGHTS)
def test_wrong_weights_are_named(asked, tmp_path, what):
    make, culprit = WRONG_WEIGHTS[what]
    make(tmp_path / "weights.safetensors")
    expected = FileNotFoundError if what == "no file" else ValueError
    with pytest.raises(expected, match=culprit) as error:
        embedding_model("resnet50", dim=4, in_channels=3, weights=str(tmp_path / "weights.safetensors"))
    assert "\n" not in str(error.value)


def test_resnet50_takes_colour_only(asked):
    with pytest.raises(ValueError, match="3 channels, got 1"):
        embedding_model("resnet50", in_channels=1)
    assert not asked


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "small-cn",
            {},
            "model must be 'small-cnn', .* 'timm:NAME' and the like or 'package.module:factory', got 'small-cn'",
        ),
        ("small-cnn", {"depht": 3}, "options of the model 'small-cnn' do not fit: .*depht"),
        ("small-cnn", {"depth": 0}, "depth and stem of 'small-cnn' must be at least 1, and 1 or 2, got 0 and 1"),
        ("small-cnn", {"norm": "layer"}, "norm of 'small-cnn' must be 'group' or 'batch' or 'none', got 'layer'"),
        ("small-cnn", {"downsample": "avg"}, "downsample of 'small-cnn' must be 'stride' or 'max', got 'avg'"),
        ("small-cnn", {"width": 7}, "width of 'small-cnn' must be a multiple of 8, got 7"),
        ("no_such_package.models:net", {}, "no model factory 'no_such_package.models:net'"),
        ("math:net", {}, "no model factory 'math:net'"),
        (":net", {}, "no model factory ':net'"),
        ("..math:net", {}, "no model factory '..math:net'"),
        ("math:pi", {}, "no model factory 'math:pi'"),
        ("own_models:factory", {"depht": 3}, "options of the model 'own_models:factory' do not fit: .*depht"),
        ("own_models:nothing", {}, "must give a torch.nn.Module, got int"),
    ],
)
def test_wrong_models_are_named(monkeypatch, name, options, message):
    own_factory(monkeypatch, factory=lambda dim, depth=1: nn.Flatten(), nothing=lambda dim: dim)
    with pytest.raises(ValueError, match=message):
        embedding_model(name, dim=4, **options)


@pytest.mark.parametrize("size", [8, 28, 64])
@pytest.mark.parametrize(
    "options",
    [{"downsample": "max", "norm": "none"}, {"depth": 4, "stem": 2, "norm": "batch", "centre": True}, {"mean": 0.0}],
)
def test_the_small_network_takes_pictures_from_8_to_64_pixels(size, options):
    model = embedding_model("small-cnn", dim=5, width=8, **options)
    embeddings = model(torch.rand(6, 1, size, size))
    assert embeddings.shape == (6, 5)
    assert torch.allclose(embeddings.norm(dim=1), torch.ones(6))
    assert sum(isinstance(layer, nn.Conv2d) for layer in model.modules()) == options.get("depth", 3)


def test_a_centre_spreads_embeddings():
    torch.manual_seed(0)
    images = torch.rand(20, 1, 28, 28)
    about, as_is = (embedding_model("small-cnn", dim=8, width=8, centre=centre)(images) for centre in (True, False))
    assert about.mean(dim=0).norm() < 0.2 < 0.8 < as_is.mean(dim=0).norm()


def test_a_module_that_does_not_parse_is_named(tmp_path, monkeypatch):
    (tmp_path / "unparsable_models.py").write_text("def net(:\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="no model factory 'unparsable_models:net'"):
        find_factory("unparsable_models:net")


def test_own_factories_are_called_with_the_length_and_the_options(monkeypatch):
    def factory(dim, depth=1):
        return nn.Sequential(nn.Flatten(), *[nn.LazyLinear(dim) for _ in range(depth)])

    own_factory(monkeypatch, factory=factory)
    assert find_factory("own_models:factory") is factory
    model = embedding_model("own_models:factory", dim=3, in_channels=1, depth=2)
    assert len(model) == 3
    assert model(torch.rand(2, 1, 4, 4)).shape == (2, 3)


def test_a_mistake_inside_of_a_factory_is_not_taken_for_one_of_options(monkeypatch):
    own_factory(monkeypatch, factory=lambda dim: dim + "wrong")
    with pytest.raises(TypeError, match="unsupported operand"):
        embedding_model("own_models:factory", dim=3)


def test_options_of_models(monkeypatch):
    own_factory(monkeypatch, some=lambda dim, depth=1: None, any_=lambda dim, **options: None)
    small = ["width", "depth", "stem", "downsample", "norm", "centre", "mean", "std"]
    assert model_options("small-cnn") == small
    assert model_options("resnet50") == ["weights"]
    assert model_options("own_models:some") == ["depth"]
    assert model_options("own_models:any_") is None
    with pytest.raises(ValueError, match="model must be"):
        model_options("nothing")
