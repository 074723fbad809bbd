"""The configuration of a training run: every mistake is named beside what is right, before any work."""

import dataclasses
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")
pytest.importorskip("pytorch_metric_learning", reason="the extra 'deep' has pytorch-metric-learning")

from certimetric.deep import CertifiedMarginLoss, NoDefense  # noqa: E402
from certimetric.training.config import TrainingConfig  # noqa: E402
from certimetric.training.run import make_component, make_trainer  # noqa: E402
from certimetric.training.sections import component_class, component_parameters  # noqa: E402

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.toml"))


def read(**sections):
    return TrainingConfig.from_mapping({"data": {"name": "digits"}, **sections})


def refusal(**sections):
    with pytest.raises(ValueError) as error:
        read(**sections)
    message = str(error.value)
    faults = error.value.faults
    if len(faults) == 1:
        assert message == f"the configuration is wrong: {faults[0]}"
    else:
        first, *others = message.splitlines()
        assert first == f"the configuration is wrong in {len(faults)} places:"
        assert others == [f"  {fault}" for fault in faults]
    return message


FULL = {
    "data": {"name": "folder", "root": "pictures", "size": 32},
    "model": {"name": "small-cnn", "dim": 16, "width": 8},
    "loss": {"name": "contrastive", "neg_margin": 0.7},
    "miner": {"name": "TripletMarginMiner", "margin": 0.3},
    "defense": {"kind": "tuple", "role": "negative", "norm": "l2", "eps": 0.5, "steps": 3, "step_size": 0.2},
    "training": {"epochs": 3, "ema": 0.9, "augment": ["flip", "shift"], "loggers": ["csv"], "optimizer": "sgd"},
    "evaluation": {"every": 2, "eps": 0.1},
}


def test_what_is_said_is_read():
    config = TrainingConfig.from_mapping(FULL)
    assert (config.data.root, config.data.size) == ("pictures", 32)
    assert config.model == {"name": "small-cnn", "dim": 16, "width": 8}
    assert config.loss == {"name": "contrastive", "neg_margin": 0.7}
    assert config.miner == {"name": "TripletMarginMiner", "margin": 0.3}
    ball = {"norm": "l2", "eps": 0.5, "steps": 3, "step_size": 0.2, "restarts": 1}
    assert config.defense == {"kind": "tuple", "role": "negative", "attack_rate": 1.0, "per_anchor": 1, **ball}
    assert config.training.augment == ("flip", "shift")
    assert (config.evaluation.every, config.evaluation.eps, config.evaluation.queries) == (2, 0.1, 500)


ATTACKED = {"norm": "linf", "eps": 0.01, "steps": 5, "step_size": None, "restarts": 1}


@pytest.mark.parametrize(
    ("given", "read_so"),
    [
        ({}, {"kind": "none"}),
        ({"kind": "tuple"}, {"kind": "tuple", "role": "positive", "attack_rate": 1.0, "per_anchor": 1, **ATTACKED}),
        ({"kind": "batch", "steps": 2}, {"kind": "batch", **ATTACKED, "steps": 2}),
        (
            {"kind": "perturbation", "radius": 0.2},
            {"kind": "perturbation", "radius": 0.2, "weight": 1.0, "norm": "linf", "per_anchor": 1},
        ),
        ({"kind": "noise", "sigma": 0.5}, {"kind": "noise", "sigma": 0.5}),
        ({"kind": "free"}, {"kind": "free", "norm": "linf", "eps": 0.01, "replays": 4}),
    ],
)
def test_kinds_of_defense(given, read_so):
    section = read(defense=given).defense
    assert section == read_so
    assert all(getattr(section, key) == value for key, value in read_so.items())


def test_the_certified_loss_is_made_as_it_is_said():
    config = read(loss={"name": "certified", "margin": 0.5})
    made = make_component(config, "loss", 10)
    assert (type(made), made.margin, made.temperature) == (CertifiedMarginLoss, 0.5, 0.25)
    assert "has no key 'margn'" in refusal(loss={"name": "certified", "margn": 0.5})


@pytest.mark.parametrize("values", [FULL, {"data": {"name": "digits"}}])
def test_mappings_go_round(values):
    config = TrainingConfig.from_mapping(values)
    told = config.to_mapping()
    assert TrainingConfig.from_mapping(told) == config
    for section, keys in values.items():
        assert {key: told[section][key] for key in keys} == keys


def test_whole_numbers_are_numbers():
    training = read(training={"learning_rate": 1}).training
    assert training.learning_rate == 1.0
    assert type(training.learning_rate) is float


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_the_configurations_that_come_along_are_valid(path):
    config = TrainingConfig.from_file(path)
    assert TrainingConfig.from_mapping(config.to_mapping()) == config


def test_there_are_configurations():
    assert {"digits-natural.toml", "digits-robust.toml"} <= {path.name for path in CONFIGS}


WRONG_KEYS = {
    "section": ({"trainig": {}}, "there is no section [trainig] (did you mean 'training'?)"),
    "data": ({"data": {"name": "digits", "rot": "x"}}, "[data] has no key 'rot' (did you mean 'root'?)"),
    "model": ({"model": {"widht": 8}}, "[model] has no key 'widht' (did you mean 'width'?) for 'small-cnn'"),
    "length": ({"model": {"dims": 8}}, "[model] has no key 'dims' (did you mean 'dim'?)"),
    "loss": ({"loss": {"name": "triplet", "margn": 1}}, "[loss] has no key 'margn' (did you mean 'margin'?)"),
    "miner": (
        {"miner": {"name": "BatchEasyHardMiner", "pos_strtegy": 1}},
        "[miner] has no key 'pos_strtegy' (did you mean 'pos_strategy'?) for 'BatchEasyHardMiner'",
    ),
    "an object": ({"loss": {"name": "triplet", "mat_based_loss": True}}, "[loss] has no key 'mat_based_loss'"),
    "told": (
        {"loss": {"name": "ProxyAnchorLoss", "num_classes": 3}},
        "[loss] has no key 'num_classes'",
    ),
    "defense": ({"defense": {"kind": "tuple", "esp": 1}}, "[defense] has no key 'esp' (did you mean 'eps'?)"),
    "another defense": (
        {"defense": {"kind": "batch", "per_anchor": 2}},
        "[defense] has no key 'per_anchor'",
    ),
    "training": ({"training": {"epoch": 3}}, "[training] has no key 'epoch' (did you mean 'epochs'?)"),
    "evaluation": ({"evaluation": {"evry": 3}}, "[evaluation] has no key 'evry' (did you mean 'every'?)"),
}


@pytest.mark.parametrize("what", WRONG_KEYS)
def test_wrong_keys_are_named_with_the_nearest_right_one(what):
    sections, message = WRONG_KEYS[what]
    assert message in refusal(**sections)


def test_all_faults_are_told_at_once():
    # Wrong keys do not hide wrong values, nor one section another; and what is wrong already is not judged again.
    wrong = {
        "data": {"name": "digits", "rot": "x", "size": 0},
        "model": {"dmi": 3, "dim": 0},
        "loss": {"name": "triplet", "margn": 1, "margin": "wide", "swap": 3},
        "miner": {"name": "TripletMarginMiner", "margin": True},
        "defense": {"kind": "batch", "eps": "large", "steps": 0, "stepsize": 1},
        "training": {"epoch": 3, "seed": "one", "ema": 2, "batch_size": 1, "per_class": "two", "augment": ["a", "b"]},
        "evaluation": {"eps": -1, "evry": 2, "queries": 0},
        "colour": {},
    }
    with pytest.raises(ValueError) as error:
        TrainingConfig.from_mapping(wrong)
    found = sorted(fault.split(" must ")[0].split(" (did")[0] for fault in error.value.faults)
    assert found == sorted(
        [
            "[data] has no key 'rot'", "size in [data]",
            "[model] has no key 'dmi'", "dim in [model]",
            "[loss] has no key 'margn'", "margin in [loss]", "swap in [loss]",
            "margin in [miner]",
            "eps in [defense]", "steps in [defense]", "[defense] has no key 'stepsize'",
            "[training] has no key 'epoch'", "seed in [training]", "ema in [training]", "per_class in [training]",
            "augment in [training]", "augment in [training]",
            "eps in [evaluation]", "[evaluation] has no key 'evry'", "queries in [evaluation]",
            "there is no section [colour]",
        ]
    )  # fmt: skip


def test_what_is_not_here_is_told_with_the_rest(tmp_path):
    defense = 'kind = "ensemble"\nsources = ["no", "where"]\nsteps = 0'
    (tmp_path / "run.toml").write_text(f'[data]\nname = "digts"\n[defense]\n{defense}\n[training]\nepoch = 1\n')
    with pytest.raises(ValueError) as error:
        TrainingConfig.from_file(tmp_path / "run.toml")
    told = "\n".join(error.value.faults)
    for part in ("(did you mean 'digits'?)", "runs, got 'no'", "runs, got 'where'", "steps in", "no key 'epoch'"):
        assert part in told
    assert len(error.value.faults) == 5


WRONG_TYPES = {
    "text as a number": ({"training": {"epochs": "many"}}, "epochs in [training] must be a whole number, got 'many'"),
    "a fraction": ({"training": {"epochs": 2.5}}, "epochs in [training] must be a whole number, got 2.5"),
    "truth as a number": ({"training": {"seed": True}}, "seed in [training] must be a whole number, got True"),
    "a number as text": ({"data": {"name": 3}}, "name in [data] must be text, got 3"),
    "text as a list": ({"training": {"augment": "flip"}}, "augment in [training] must be a list, got 'flip'"),
    "a number in a list": ({"training": {"augment": [1]}}, "augment in [training] must be text, got [1]"),
    "text as a rate": (
        {"training": {"learning_rate": "fast"}},
        "learning_rate in [training] must be a number, got 'fast'",
    ),
    "one of several": (
        {"training": {"optimizer": "adm"}},
        "optimizer in [training] must be one of 'adam', 'adamw', 'sgd', got 'adm'",
    ),
    "list of one of several": (
        {"training": {"loggers": ["wandb"]}},
        "loggers in [training] must be one of 'csv', 'tensorboard', got ['wandb']",
    ),
    "a list as one of several": ({"defense": {"kind": "tuple", "norm": ["l2"]}}, "norm in [defense] must be one of"),
    "optional": ({"evaluation": {"eps": "large"}}, "eps in [evaluation] must be a number, got 'large'"),
    "option of a loss": (
        {"loss": {"name": "triplet", "margin": "wide"}},
        "margin in [loss] must be a number, got 'wide'",
    ),
    "option of a miner": (
        {"miner": {"name": "TripletMarginMiner", "margin": True}},
        "margin in [miner] must be a number, got True",
    ),
    "not a section": ({"training": 3}, "training must be a section, [training], got 3"),
    "no name of data": ({"data": {}}, "[data] needs the key 'name'"),
    "no name of a loss": ({"loss": {"margin": 0.1}}, "[loss] needs the key 'name'"),
    "no name of a miner": ({"miner": {}}, "[miner] needs the key 'name'"),
    "a list as a kind": ({"defense": {"kind": ["tuple"]}}, "kind in [defense] must be one of"),
}


@pytest.mark.parametrize("what", WRONG_TYPES)
def test_wrong_types(what):
    sections, message = WRONG_TYPES[what]
    assert message in refusal(**sections)


WRONG_VALUES = {
    "no epochs": ({"training": {"epochs": 0}}, "epochs in [training] must be at least 1, got 0"),
    "none of a class": ({"training": {"per_class": 0}}, "per_class in [training] must be at least 1, got 0"),
    "one class a batch": (
        {"training": {"batch_size": 5, "per_class": 3}},
        "batch_size in [training] must be at least two classes of per_class = 3, got 5",
    ),
    "no learning": ({"training": {"learning_rate": 0}}, "learning_rate in [training] must be positive, got 0"),
    "infinite learning": ({"training": {"learning_rate": float("inf")}}, "learning_rate in [training] must be a fin"),
    "undefined decay": ({"training": {"weight_decay": float("nan")}}, "weight_decay in [training] must be a finite"),
    "negative decay": ({"training": {"weight_decay": -1}}, "weight_decay in [training] must not be negative, got -1"),
    "ema": ({"training": {"ema": 1}}, "ema in [training] must lie between 0 and 1, got 1.0"),
    "devices": ({"training": {"devices": 0}}, "devices in [training] must be at least 1, got 0"),
    "workers": ({"training": {"workers": -1}}, "workers in [training] must be at least 0, got -1"),
    "augment": (
        {"training": {"augment": ["flip", "spin"]}},
        "augment in [training] must name flip, shift, affine, colour, got 'spin'",
    ),
    "dim": ({"model": {"dim": 0}}, "dim in [model] must be at least 1, got 0"),
    "queries": ({"evaluation": {"queries": 0}}, "queries in [evaluation] must be at least 1, got 0"),
    "eps of the evaluation": ({"evaluation": {"eps": -0.1}}, "eps in [evaluation] must not be negative, got -0.1"),
    "evaluation of nothing": ({"evaluation": {"every": 2}}, "every in [evaluation] needs eps"),
    "eps": ({"defense": {"kind": "batch", "eps": -1}}, "eps in [defense] must not be negative, got -1"),
    "infinite eps": ({"defense": {"kind": "batch", "eps": float("inf")}}, "eps in [defense] must be a finite"),
    "steps": ({"defense": {"kind": "tuple", "steps": 0}}, "steps in [defense] must be at least 1, got 0"),
    "restarts": ({"defense": {"kind": "batch", "restarts": 0}}, "restarts in [defense] must be at least 1, got 0"),
    "step size": ({"defense": {"kind": "batch", "step_size": 0}}, "step_size in [defense] must be positive"),
    "rate": ({"defense": {"kind": "tuple", "attack_rate": 1.5}}, "attack_rate in [defense] must lie between 0 and 1"),
    "tuples": ({"defense": {"kind": "tuple", "per_anchor": 0}}, "per_anchor in [defense] must be at least 1, got 0"),
    "radius": ({"defense": {"kind": "perturbation", "radius": 0}}, "radius in [defense] must be positive"),
    "weight": ({"defense": {"kind": "perturbation", "weight": -1}}, "weight in [defense] must not be negative, got -1"),
    "sigma": ({"defense": {"kind": "noise", "sigma": 0}}, "sigma in [defense] must be positive, got 0"),
    "mined": ({"loss": {"name": "certified"}, "defense": {"kind": "tuple"}}, "'certified' takes all triplets"),
    "slopes": (
        {"loss": {"name": "certified", "slopes": True}, "defense": {"kind": "batch"}},
        "the defense 'batch' takes losses of embeddings, and has no place for one that reads the network",
    ),
    "size": ({"data": {"name": "digits", "size": 0}}, "size in [data] must be a whole number of pixels from 1, got 0"),
    "skipping": (
        {"data": {"name": "digits", "skip_corrupt": 1}},
        "skip_corrupt in [data] must be true or false, got 1",
    ),
    "seed": ({"training": {"seed": -1}}, "seed in [training] must be at least 0, got -1"),
    "accelerator": ({"training": {"accelerator": "gpuu"}}, "accelerator in [training] must be one of 'auto', 'cpu'"),
    "strategy": ({"training": {"strategy": "fsdp"}}, "strategy in [training] must be one of 'auto', 'ddp', got"),
    "width": ({"model": {"width": 9}}, "[model]: width of 'small-cnn' must be a multiple of 8, got 9"),
    "text as a width": ({"model": {"width": "wide"}}, "width in [model] must be a whole number, got 'wide'"),
    "kernel": ({"model": {"name": "lipschitz-cnn", "kernel": 2}}, "[model]: depth and size of 'lipschitz-cnn' must be"),
    "swap": ({"loss": {"name": "triplet", "swap": "yes"}}, "swap in [loss] must be true or false, got 'yes'"),
    "kind of triplets": (
        {"miner": {"name": "BatchEasyHardMiner", "pos_strategy": "medium"}},
        "[miner] 'BatchEasyHardMiner' cannot be made: ",
    ),
    "margins": ({"defense": {"kind": "perturbation", "per_anchor": 0}}, "per_anchor in [defense] must be at least 1"),
}


@pytest.mark.parametrize("what", WRONG_VALUES)
def test_wrong_values(what):
    sections, message = WRONG_VALUES[what]
    assert message in refusal(**sections)


UNKNOWN = {
    "loss": ({"loss": {"name": "tripet"}}, "name in [loss] is no class of", "(did you mean 'triplet'?)"),
    "class of a loss": ({"loss": {"name": "ProxyAncorLoss"}}, "name in [loss]", "(did you mean 'ProxyAnchorLoss'?)"),
    "miner": ({"miner": {"name": "TripletMargnMiner"}}, "name in [miner]", "(did you mean 'TripletMarginMiner'?)"),
    "a loss as a miner": ({"miner": {"name": "triplet"}}, "name in [miner] is no class of", "metric_learning.miners"),
    "defense": ({"defense": {"kind": "tupel"}}, "kind in [defense] must be one of 'none', 'tuple'", "got 'tupel'"),
    "model": (
        {"model": {"name": "resnet51"}},
        "name in [model]: model must be 'small-cnn', 'lipschitz-cnn', 'resnet50', 'timm:NAME' and the like or",
        "resnet51",
    ),
    "factory": ({"model": {"name": "math:net"}}, "there is no model factory 'math:net'", "net"),
    "module": ({"model": {"name": "no_such:net"}}, "there is no model factory 'no_such:net'", "no_such"),
}


@pytest.mark.parametrize("what", UNKNOWN)
def test_unknown_names(what):
    sections, message, hint = UNKNOWN[what]
    told = refusal(**sections)
    assert message in told
    assert hint in told


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[data\nname = 'digits'", "is not a TOML file"),
        (b"\xff\xfe\x00", "is not a TOML file"),
        (b"", r"bad.toml' is wrong: \[data\] needs the key 'name'"),
        (b"[data]\nname = 'digts'", r"bad.toml' is wrong: name in \[data\] must be an image set, .*'digits'\?\);"),
    ],
)
def test_bad_files(tmp_path, content, message):
    (tmp_path / "bad.toml").write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        TrainingConfig.from_file(tmp_path / "bad.toml")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["missing.toml", "."])
def test_missing_files(tmp_path, name):
    with pytest.raises(FileNotFoundError, match="there is no configuration file"):
        TrainingConfig.from_file(tmp_path / name)


def test_parameters_of_bases_are_known_and_short_names_are_classes():
    made = component_class("loss", "triplet")
    assert made.__name__ == "TripletMarginLoss"
    assert {"margin", "distance", "reducer"} <= set(component_parameters(made))


def test_components_have_components():
    said = {
        "name": "CrossBatchMemory",
        "memory_size": 64,
        "loss": {"name": "ContrastiveLoss", "neg_margin": 0.5, "distance": {"name": "CosineSimilarity"}},
    }
    config = TrainingConfig.from_mapping({"data": {"name": "digits"}, "loss": said, "model": {"dim": 7}})
    made = make_component(config, "loss", 10)
    assert (made.memory_size, made.embedding_memory.shape) == (64, (64, 7))
    assert type(made.loss.distance).__name__ == "CosineSimilarity" and made.loss.neg_margin == 0.5
    assert TrainingConfig.from_mapping(config.to_mapping()) == config


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ({"distance": "CosineSimilarity"}, "distance in [loss] must be a table, got 'CosineSimilarity'"),
        ({"distance": {"power": 2}}, "distance in [loss] needs the key 'name'"),
        ({"distance": {"name": "CosineSimilarty"}}, "did you mean 'CosineSimilarity'?"),
        ({"reducer": {"name": "MeanReducer", "size": 3}}, "[reducer] 'MeanReducer' cannot be made"),
    ],
)
def test_wrong_components_are_named(said, named):
    with pytest.raises(ValueError) as error:
        TrainingConfig.from_mapping({"data": {"name": "digits"}, "loss": {"name": "TripletMarginLoss", **said}})
    assert named in str(error.value)


def test_fine_tuning_is_said():
    said = {"freeze": ["model.0"], "learning_rates": {"loss": 1}, "warmup": 2, "accumulate": 2, "clip_norm": 1.0}
    config = TrainingConfig.from_mapping({"data": {"name": "digits"}, "training": said})
    assert config.training.learning_rates == {"loss": 1.0} and config.training.freeze == ("model.0",)
    trainer = make_trainer(config, torch.nn.Flatten(), None, NoDefense())
    assert (trainer.freeze, trainer.accumulate, trainer.clip_norm) == (("model.0",), 2, 1.0)
    for wrong, named in (
        ({"learning_rates": {"loss": "fast"}}, "learning_rates in [training] must be a number, got {'loss': 'fast'}"),
        ({"learning_rates": {"loss": -1.0}}, "learning_rates in [training] must be positive"),
        ({"warmup": 30}, "warmup in [training] must be at least 0 and less than the epochs, got 30"),
    ):
        with pytest.raises(ValueError) as error:
            TrainingConfig.from_mapping({"data": {"name": "digits"}, "training": wrong})
        assert named in str(error.value)


def test_configurations_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        read().training = None


def test_a_radius_rises_only_where_there_is_one():
    said = {"training": {"epochs": 4, "eps_warmup": 2}}
    assert read(defense={"kind": "single-step"}, **said).training.eps_warmup == 2
    assert "eps_warmup in [training] must be 0 under the defense 'noise'" in refusal(defense={"kind": "noise"}, **said)
    late = refusal(defense={"kind": "batch"}, training={"epochs": 2, "eps_warmup": 2})
    assert "eps_warmup in [training] must be at least 0 and less than the epochs, got 2" in late
