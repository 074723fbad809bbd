"""Models of others: one output of several, preprocessing of their own, weights and programs in files."""

import json
import pickle
import zipfile

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")

from safetensors.torch import save_file  # noqa: E402
from torch import nn  # noqa: E402

from certimetric.deep import ImageSet, embed, embedding_model, evaluate_retrieval, load_model, with_output  # noqa: E402
from certimetric.deep.attacks.base import value_and_gradient  # noqa: E402
from certimetric.deep.models.functions import NoGradients  # noqa: E402
from certimetric.deep.models.preprocessing import Preprocessing, of_hugging_face, of_timm  # noqa: E402
from certimetric.deep.models.sources import load_weights, processor_config  # noqa: E402

IMAGES = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))


class Several(nn.Module):
    """Features, as a dict, a tuple or an object."""

    def __init__(self, wrap):
        super().__init__()
        self.wrap = wrap

    def forward(self, images):
        return self.wrap(images.flatten(1), images.mean(dim=(2, 3)))


class Outputs:
    def __init__(self, pooler_output, logits):
        self.pooler_output, self.logits = pooler_output[:, :, None, None], logits


@pytest.mark.parametrize(
    ("wrap", "output"),
    [
        (lambda a, b: {"features": a, "logits": b}, "features"),
        (lambda a, b: (b, a), 1),
        (lambda a, b: [a, b], -2),
        (Outputs, "pooler_output"),
        (lambda a, b: {"hidden": a[:, None]}, lambda found: found["hidden"][:, 0]),
    ],
)
def test_one_output_of_several_is_the_embedding(wrap, output):
    for model in (Several(wrap), Several(wrap).forward):
        assert torch.equal(embed(with_output(model, output), IMAGES), IMAGES.flatten(1))


def test_a_missing_output_is_told_beside_those_that_there_are():
    model = Several(lambda a, b: {"features": a, "logits": b})
    with pytest.raises(TypeError, match=r"got dict of 'features' \(5, 64\), 'logits' \(5, 1\); with_output"):
        embed(model, IMAGES)
    for output in ("feature", 0):
        with pytest.raises(ValueError, match=r"no output .*: it gives dict of 'features' \(5, 64\)"):
            embed(with_output(model, output), IMAGES)
    with pytest.raises(TypeError, match="output must be a name, a place or a function, got None"):
        with_output(model, None)


def test_arrays_among_outputs_have_no_gradients():
    model = with_output(lambda images: {"features": images.detach().numpy().reshape(len(images), -1)}, "features")
    assert embed(model, IMAGES).shape == (5, 64)
    with pytest.raises(NoGradients):
        value_and_gradient(model, IMAGES, lambda embeddings: embeddings.sum(dim=1))


def test_pictures_are_resized_cut_out_and_normalised_as_they_are_served():
    picture = torch.arange(36.0).view(1, 1, 6, 6).expand(1, 3, 6, 6) / 36
    middle = Preprocessing(crop=(2, 4), mean=[0.0, 0.5, 0.0], std=[1.0, 1.0, 0.5])(picture)
    assert torch.equal(middle[0, 0], picture[0, 0, 2:4, 1:5])
    assert torch.equal(middle[0, 1:], torch.stack([picture[0, 1] - 0.5, picture[0, 2] * 2])[:, 2:4, 1:5])
    assert Preprocessing(resize=4)(torch.rand(1, 1, 8, 10)).shape == (1, 1, 4, 5)  # of the shorter side
    assert torch.equal(Preprocessing(resize=6)(picture), picture)
    sharp = torch.zeros(1, 3, 8, 8)
    sharp[..., 4:] = 1.0  # bicubic interpolation would leave the range here
    found = Preprocessing(resize=(16, 16), interpolation="bicubic")(sharp)
    assert found.min() == 0.0 < found.max() == 1.0
    assert Preprocessing(mean=[0.5] * 3)(IMAGES).shape == (5, 3, 8, 8)  # grey is red, green and blue
    with pytest.raises(ValueError, match="pictures of 6 × 6 are smaller than the 7 × 7"):
        Preprocessing(crop=(7, 7))(picture)
    with pytest.raises(ValueError, match=r"interpolation of Preprocessing must be one of .*, got 'lanczos'"):
        Preprocessing(interpolation="lanczos")


def test_a_change_of_the_served_picture_is_what_is_measured():
    model = nn.Sequential(Preprocessing(resize=4, mean=0.5, std=0.25), nn.Flatten())
    gradient = value_and_gradient(model, IMAGES, lambda embeddings: embeddings.sum(dim=1))[1]
    assert torch.allclose(gradient.sum(dim=(1, 2, 3)), torch.tensor(16 / 0.25), rtol=1e-4)


CLIP = {
    "do_resize": True,
    "size": {"shortest_edge": 36},
    "do_center_crop": True,
    "crop_size": {"height": 32, "width": 32},
    "resample": 3,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.2, 0.2, 0.2],
    "do_convert_rgb": True,
}


def test_configurations_of_others_are_read():
    found = of_hugging_face(CLIP)
    assert (found.resize, found.crop, found.interpolation) == (36, (32, 32), "bicubic")
    assert torch.allclose(found.mean.flatten(), torch.tensor([0.5, 0.4, 0.3]))
    assert torch.allclose(found.std.flatten(), torch.tensor(0.2))
    # Pixels from −1 to 1, however that is told.
    plain = {"do_resize": False, "image_mean": [0.0], "image_std": [1.0]}
    for told in (
        {"rescale_factor": 1 / 127.5, "rescale_offset": True, "do_normalize": False},
        {"image_mean": [0.5], "image_std": [0.5]},
        {"do_rescale": False, "image_mean": [127.5], "image_std": [127.5]},
    ):
        assert torch.allclose(of_hugging_face({**plain, **told})(IMAGES), 2 * IMAGES - 1, atol=1e-6)
    convnext = of_hugging_face({"size": {"shortest_edge": 224}, "crop_pct": 0.875, "do_normalize": False})
    assert (convnext.resize, convnext.crop) == (256, (224, 224))
    config = {"input_size": (3, 64, 64), "interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.5] * 3}
    assert of_timm({**config, "crop_pct": 0.875}).resize == 73
    assert of_timm({**config, "crop_pct": 0.875, "crop_mode": "squash"}).resize == (73, 73)


@pytest.mark.parametrize(
    ("odd", "named"),
    [
        ({"do_pad": True}, "do_pad, which is not known here"),
        ({"resample": 1}, "the filter 1, which is not known here"),
        ({"size": {"longest_edge": 3}}, "size {'longest_edge': 3} is not known here"),
        ({"include_top": True}, "include_top, which is not known here"),
    ],
)
def test_steps_that_are_not_known_are_refused(odd, named):
    with pytest.raises(ValueError, match=named):
        of_hugging_face({**CLIP, **odd})


def test_the_configuration_lies_beside_the_model(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no config.json"):
        load_model(f"hf:{tmp_path}")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"has no preprocessor_config\.json"):
        load_model(f"hf:{tmp_path}")
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": CLIP}))
    assert processor_config(tmp_path) == CLIP
    (tmp_path / "preprocessor_config.json").write_text("{")
    with pytest.raises(ValueError, match=r"preprocessor_config\.json' is damaged"):
        load_model(f"hf:{tmp_path}")


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(72, 4)).eval()


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pt"])
def test_weights_come_from_files(tmp_path, name):
    trained, path = small(), str(tmp_path / name)
    held = {f"module.{key}": value + 1.0 for key, value in trained.state_dict().items()}
    held["module.head.weight"] = torch.ones(3, 4)  # of a classifier
    save_file(held, path) if path.endswith(".safetensors") else torch.save({"epoch": 3, "state_dict": held}, path)
    body = small()
    load_weights(body, path, ("head",))
    assert all(torch.equal(value, held[f"module.{key}"]) for key, value in body.state_dict().items())
    with pytest.raises(ValueError, match=r"of another model: it has no head\.weight"):
        load_weights(body, path)
    with pytest.raises(ValueError, match=r"of another model: 0\.weight is of shape \(2, 1, 3, 3\), not \(1, 1, 3, 3\)"):
        load_weights(nn.Sequential(nn.Conv2d(1, 1, 3)), path, ("head",))


def test_weights_that_run_code_are_refused(tmp_path):
    torch.save({"weight": print}, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match="no file of weights that can be read"):
        load_weights(small(), str(tmp_path / "weights.pt"))
    with pytest.raises(FileNotFoundError, match="no file of weights"):
        load_weights(small(), str(tmp_path / "nothing.pt"))


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """A network as programs for batches of any size, of three, and with two outputs."""
    folder = tmp_path_factory.mktemp("programs")

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = small()

        def forward(self, images):
            found = self.network(images)
            return {"features": found, "logits": found[:, :2]}

    network, any_size = small(), ({0: torch.export.Dim("batch")},)
    for name, model, sizes in (("any", network, any_size), ("three", network, None), ("two", Two().eval(), any_size)):
        program = torch.export.export(model, (torch.rand(3, 1, 8, 8),), dynamic_shapes=sizes)
        torch.export.save(program, folder / f"{name}.pt2")
    return folder


@pytest.mark.parametrize("name", ["any.pt2", "three.pt2", "two.pt2?output=features", "any.pt2?mean=0&std=1"])
def test_programs_embed_and_are_differentiated_as_the_network(programs, name):
    found, network = load_model(f"{programs}/{name}"), small()
    assert not found.training
    assert torch.allclose(embed(found, IMAGES), embed(network, IMAGES), atol=1e-6)
    ours, theirs = (value_and_gradient(each, IMAGES, lambda z: z[:, 0]) for each in (found, network))
    assert torch.allclose(ours[1], theirs[1], atol=1e-6)


def test_programs_are_normalised_and_named_where_they_are_evaluated(programs):
    told = f"{programs}/any.pt2"
    shifted = load_model(f"{told}?mean=0.5&std=0.25")
    assert torch.allclose(embed(shifted, IMAGES), small()((IMAGES - 0.5) / 0.25), atol=1e-5)
    items = ImageSet(IMAGES, torch.tensor([0, 0, 1, 1, 1]))
    by_name, itself = (evaluate_retrieval(each, items, with_pixels=False, with_nmi=False) for each in (told, small()))
    assert by_name.rows == itself.rows
    with pytest.raises(ValueError, match="the program takes inputs of 1 × 8 × 8, got 3 × 8 × 8"):
        embed(load_model(told), torch.rand(2, 3, 8, 8))


class Code:
    def __reduce__(self):
        return (print, ("run",))


def _pickled(name, held):
    return pickle.dumps(Code(), protocol=2) if "sample_inputs" in name else held


def _pickled_weight(name, held):
    return held.replace(b'"use_pickle": false', b'"use_pickle": true') if "weights_config" in name else held


def _other(old, new):
    return lambda name, held: held.replace(old, new) if name.endswith("model.json") else held


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (_pickled, "sample inputs are no tensors"),
        (_pickled_weight, "is pickled, which would run code"),
        (_other(b"torch.ops.aten.relu.default", b"torch.hub.load"), "it calls 'torch.hub.load'"),
        (_other(b"torch.ops.aten.relu.default", b"torch.ops.aten.from_file.default"), "it calls 'torch.ops.aten.from"),
        (_other(b'"expr_str": "', b'"expr_str": "exec(1)+'), "which is no plain expression"),
        (lambda name, held: held if "models/" not in name else None, "must hold one program"),
    ],
)
def test_programs_that_would_run_code_are_refused(programs, tmp_path, capsys, change, named):
    with zipfile.ZipFile(programs / "any.pt2") as given, zipfile.ZipFile(tmp_path / "evil.pt2", "w") as made:
        for name in given.namelist():
            if (held := change(name, given.read(name))) is not None:
                made.writestr(name, held)
    with pytest.raises(ValueError, match=f"evil.pt2' is no program that can be read: .*{named}"):
        load_model(str(tmp_path / "evil.pt2"))
    assert "run" not in capsys.readouterr().out


def test_a_changed_bit_of_a_program_is_seen(programs, tmp_path):
    with zipfile.ZipFile(programs / "any.pt2") as given:
        name = next(name for name in given.namelist() if "data/weights/weight" in name)
        weights = given.read(name)
    content = (programs / "any.pt2").read_bytes()
    changed = weights[:-1] + bytes([weights[-1] ^ 0x10])
    (tmp_path / "odd.pt2").write_bytes(content.replace(weights, changed, 1))
    with pytest.raises(ValueError, match=r"odd.pt2' is no program that can be read: its 'data/weights/.*checksum"):
        load_model(str(tmp_path / "odd.pt2"))


@pytest.mark.parametrize(
    ("told", "error", "named"),
    [
        ("resnet18", ValueError, "model must be timm:…, hf:…, .* got 'resnet18'"),
        ("nothing.pt2", FileNotFoundError, r"no file 'nothing\.pt2'"),
        ("nothing.onnx", FileNotFoundError, r"no file 'nothing\.onnx'"),
        ("a.pt2?outputs=2", ValueError, r"options of 'a\.pt2' are output, mean, std, got 'outputs' \(did you mean"),
        ("a.pt2?output", ValueError, "told as key=value, got 'output'"),
        ("mine:net?output=1", ValueError, "a factory takes no options"),
        ("hf:nothing", FileNotFoundError, r"'nothing' is no folder of a model of Hugging Face: it has no config\.json"),
    ],
)
def test_sources_that_are_wrong_are_told(told, error, named):
    with pytest.raises(error, match=named):
        load_model(told)
    if "?" not in told and error is ValueError:
        with pytest.raises(TypeError, match="must be a Module or a callable"):
            embed(told, IMAGES)


def test_numbers_of_options_are_checked(programs):
    with pytest.raises(ValueError, match=r"mean must be a number, or one for each channel .*, got 'half'"):
        load_model(f"{programs}/any.pt2?mean=half")


def test_a_source_is_a_body_that_is_trained_further(programs):
    model = embedding_model(f"{programs}/any.pt2", dim=3)
    assert model(IMAGES).shape == (5, 3)


def test_onnx_is_asked_and_has_no_gradients(tmp_path):
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    make = onnx.helper
    flat = make.make_node("Flatten", ["x"], ["z"])
    for batch in ("b", 2):
        shape = [batch, 1, 8, 8]
        value, found = (make.make_tensor_value_info(n, 1, s) for n, s in (("x", shape), ("z", [batch, 64])))
        model = make.make_model(make.make_graph([flat], "g", [value], [found]), ir_version=8)
        onnx.save(model, tmp_path / "model.onnx")
        loaded = load_model(f"{tmp_path}/model.onnx?mean=0.5&std=2")
        assert np.allclose(embed(loaded, IMAGES), (IMAGES.flatten(1) - 0.5) / 2)
        with pytest.raises(NoGradients):
            value_and_gradient(loaded, IMAGES, lambda z: z.sum(dim=1))


def test_timm_is_prepared_by_its_own_configuration(tmp_path):
    timm = pytest.importorskip("timm")
    net = timm.create_model("test_vit", num_classes=10).eval()
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    model = load_model(f"timm:test_vit?checkpoint={tmp_path}/net.safetensors")
    config = timm.data.resolve_model_data_config(net)
    assert model[0].crop == config["input_size"][1:]
    x = torch.rand(2, 3, 200, 200)
    assert torch.allclose(model(x), net.forward_head(net.forward_features(model[0](x)), pre_logits=True), atol=1e-5)
    with pytest.raises(ValueError, match="timm has no model 'resnet81'"):
        load_model("timm:resnet81")


def test_torchvision_is_prepared_as_its_published_weights_are(tmp_path):
    models = pytest.importorskip("torchvision.models")
    net = models.get_model("resnet18", weights=None).eval()
    torch.save(net.state_dict(), tmp_path / "net.pth")
    model, x = load_model(f"torchvision:resnet18?checkpoint={tmp_path}/net.pth"), torch.rand(1, 3, 260, 300)
    prepared = models.ResNet18_Weights.DEFAULT.transforms()(x)
    assert torch.allclose(model(x), nn.Sequential(*list(net.children())[:-1])(prepared).flatten(1), atol=1e-5)


def test_hugging_face_is_prepared_by_its_own_configuration(tmp_path):
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    net = transformers.ViTModel(transformers.ViTConfig(**sizes, image_size=32, patch_size=8)).eval()
    net.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(CLIP))
    model, x = load_model(f"hf:{tmp_path}"), torch.rand(2, 3, 40, 40)
    assert torch.allclose(model(x), net(of_hugging_face(CLIP)(x)).pooler_output, atol=1e-5)
    with pytest.raises(ValueError, match=r"no logits: it gives .*'last_hidden_state' \(2, 17, 16\)"):
        load_model(f"hf:{tmp_path}?output=logits")(x)
