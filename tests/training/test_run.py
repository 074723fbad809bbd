"""A run in a folder: what it writes, that it goes on where it was stopped, and that damage is named."""

import json
import sys
import types

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")
pytest.importorskip("lightning", reason="the extra 'deep' has lightning")

from safetensors.torch import load_file  # noqa: E402
from torch import nn  # noqa: E402

import certimetric.training.run  # noqa: E402
from certimetric import deep  # noqa: E402
from certimetric.datasets.images.sets import load_images  # noqa: E402
from certimetric.deep import (  # noqa: E402
    PGD,
    BatchDefense,
    L2Ball,
    NoDefense,
    PerturbationDefense,
    TupleDefense,
    embed,
)
from certimetric.training import TrainingConfig, load_run, train  # noqa: E402
from certimetric.training.run import make_defense, read_run  # noqa: E402


def config(**sections):
    values = {
        "data": {"name": "digits"},
        "model": {"name": "small-cnn", "dim": 8, "width": 8},
        "training": {"epochs": 2, "per_class": 5, "accelerator": "cpu"},
    }
    for name, section in sections.items():
        values[name] = {**values.get(name, {}), **section}
    return TrainingConfig.from_mapping(values)


ROBUST = {"kind": "tuple", "role": "anchor", "eps": 0.1, "steps": 1}


def weights(folder):
    return load_file(folder / "model.safetensors")


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


class Stop:
    """A listener that interrupts a run after some epochs."""

    def __init__(self, epoch):
        self.epoch, self.lines = epoch, []

    def __call__(self, line):
        self.lines.append(line)
        if len(self.lines) == self.epoch:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "finished"
    lines = []
    return folder, train(config(), folder, tell=lines.append), lines


@pytest.fixture
def images():
    return torch.from_numpy(load_images("digits", "test").images[:50])


def test_a_run_writes_what_it_did(finished):
    folder, run, lines = finished
    assert run == json.loads((folder / "run.json").read_text(encoding="utf-8")) == read_run(folder)
    assert run["finished"]
    assert len(run["history"]) == 2
    assert run["history"][1] < run["history"][0]
    assert run["evaluations"] == []
    assert run["data"] == {"name": "digits", "n_images": 901, "n_classes": 10, "image_shape": [1, 8, 8]}
    assert run["seconds"] > 0
    assert TrainingConfig.from_mapping(run["config"]) == config()
    assert [line.split(":")[0] for line in lines] == ["epoch 1 of 2", "epoch 2 of 2"]
    assert run["n_parameters"] == sum(value.numel() for name, value in weights(folder).items() if "body" in name)
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoint", "model.safetensors", "run.json"]


def test_a_loaded_run_embeds_as_the_trained_model(finished, images, monkeypatch):
    folder, run, _ = finished
    kept = {}
    from certimetric.training import run as training_run

    monkeypatch.setattr(training_run, "_save_model", lambda model, path: kept.update(model=model))
    train(config(), folder.parent / "again")
    model, told = load_run(folder)
    assert told == run
    assert not model.training
    assert torch.equal(embed(model, images), embed(kept["model"], images))


def test_seeds_decide(finished, tmp_path):
    folder, run, _ = finished
    assert train(config(), tmp_path / "same")["history"] == run["history"]
    assert_same(weights(tmp_path / "same"), weights(folder))
    assert train(config(training={"seed": 1}), tmp_path / "other")["history"] != run["history"]


FULL = {
    "defense": ROBUST,
    "loss": {"name": "ProxyAnchorLoss"},
    "training": {"epochs": 3, "ema": 0.9, "schedule": "cosine", "augment": ["shift"], "optimizer": "adamw"},
    "evaluation": {"every": 2, "eps": 0.05, "queries": 20, "steps": 2},
}


@pytest.mark.parametrize("sections", [{}, pytest.param(FULL, marks=pytest.mark.slow)], ids=["plain", "with everything"])
def test_a_run_that_was_interrupted_ends_like_one_that_was_not(tmp_path, sections):
    sections = {**sections, "training": {**sections.get("training", {}), "epochs": 3}}
    whole = train(config(**sections), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(config(**sections), tmp_path / "run", tell=Stop(1))
    assert not read_run(tmp_path / "run")["finished"]
    assert not (tmp_path / "run" / "model.safetensors").exists()
    lines = []
    run = train(config(**sections), tmp_path / "run", resume=True, tell=lines.append)
    assert len(lines) == 2
    assert_same(weights(tmp_path / "run"), weights(tmp_path / "whole"))
    assert (run["history"], run["evaluations"]) == (whole["history"], whole["evaluations"])


def test_an_unfinished_run_gives_the_model_of_its_last_epoch(finished, tmp_path, images):
    with pytest.raises(KeyboardInterrupt):
        train(config(training={"epochs": 5}), tmp_path, tell=Stop(2))
    model, run = load_run(tmp_path)
    assert not run["finished"]
    assert torch.equal(embed(model, images), embed(load_run(finished[0])[0], images))


def test_a_finished_run_that_goes_on_gives_the_model_of_its_last_epoch(tmp_path):
    train(config(training={"epochs": 1}), tmp_path)
    first = weights(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        train(config(training={"epochs": 3}), tmp_path, resume=True, tell=Stop(1))
    second = load_run(tmp_path)[0].state_dict()
    assert not torch.equal(second["body.0.weight"], first["body.0.weight"])


def test_more_epochs_are_those_of_one_long_run(finished, tmp_path):
    train(config(training={"epochs": 1}), tmp_path)
    run = train(config(), tmp_path, resume=True)
    assert run["history"] == finished[1]["history"]
    assert_same(weights(tmp_path), weights(finished[0]))
    again = train(config(), tmp_path, resume=True)
    assert again["history"] == run["history"]


def test_resuming_nothing_begins(tmp_path):
    assert train(config(training={"epochs": 1}), tmp_path / "new", resume=True)["finished"]


def test_an_interrupted_evaluation_is_made_up_for(tmp_path, monkeypatch):
    told = {"evaluation": {"every": 1, "eps": 0.05, "queries": 20, "steps": 1}}
    whole = train(config(**told), tmp_path / "whole")
    import certimetric.deep

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(certimetric.deep, "evaluate_retrieval", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(config(training={"epochs": 1}, **told), tmp_path / "run")
    with pytest.raises(FileExistsError):  # the epoch itself is done
        train(config(**told), tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(certimetric.deep, "evaluate_retrieval", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(config(training={"epochs": 1}, **told), tmp_path / "run", resume=True)
    run = train(config(training={"epochs": 1}, **told), tmp_path / "run", resume=True)
    assert run["finished"]
    assert run["history"] == whole["history"][:1]
    assert run["evaluations"] == whole["evaluations"][:1]


@pytest.mark.parametrize("lost", ["evaluation", "run"])
def test_an_evaluation_of_an_earlier_epoch_is_made_up_for(tmp_path, monkeypatch, lost):
    told = {"evaluation": {"every": 1, "eps": 0.05, "queries": 20, "steps": 1}, "training": {"epochs": 3}}
    whole = train(config(**told), tmp_path / "whole")
    watch, write = certimetric.training.run._Watch, certimetric.training.run._write

    def stopped(run, folder):
        if len(run["history"]) == 2:  # the checkpoint of the second epoch is there
            raise KeyboardInterrupt
        write(run, folder)

    def judged(self, trainer):
        if len(self.run["history"]) == 2:
            raise KeyboardInterrupt
        return judge(self, trainer)

    judge = watch.judge
    with monkeypatch.context() as patch:
        if lost == "run":
            patch.setattr(certimetric.training.run, "_write", stopped)
        else:
            patch.setattr(watch, "judge", judged)
        with pytest.raises(KeyboardInterrupt):
            train(config(**told), tmp_path / "run")
    run = train(config(**told), tmp_path / "run", resume=True)
    assert run["history"] == whole["history"]
    assert run["evaluations"] == whole["evaluations"]
    assert_same(weights(tmp_path / "run"), weights(tmp_path / "whole"))


def test_a_checkpoint_without_a_run_is_not_trusted(finished, tmp_path):
    # It may be of another configuration: nothing says of which.
    train(config(training={"seed": 7, "epochs": 1}), tmp_path)
    (tmp_path / "run.json").unlink()
    run = train(config(), tmp_path, resume=True)
    assert run["history"] == finished[1]["history"]


def test_a_folder_that_holds_a_run_is_not_overwritten(finished):
    before = (finished[0] / "run.json").read_bytes()
    with pytest.raises(FileExistsError, match="holds a run already: resume it, or choose another folder"):
        train(config(), finished[0])
    assert (finished[0] / "run.json").read_bytes() == before


CHANGES = {
    "model": ({"model": {"dim": 9}}, r"dim in \[model\] was 8 and is 9"),
    "option of the model": ({"model": {"width": 16}}, r"width in \[model\] was 8 and is 16"),
    "loss": ({"loss": {"name": "contrastive"}}, r"name in \[loss\] was 'triplet' and is 'contrastive'"),
    "option of the loss": ({"loss": {"name": "triplet", "margin": 0.3}}, r"margin in \[loss\] was None and is 0.3"),
    "miner": ({"miner": {"name": "BatchHardMiner"}}, r"name in \[miner\] was None and is 'BatchHardMiner'"),
    "defense": ({"defense": ROBUST}, r"\[defense\] was None and is"),
    "learning rate": ({"training": {"learning_rate": 0.1}}, r"learning_rate in \[training\] was 0.001 and is 0.1"),
    "augmentation": ({"training": {"augment": ["flip"]}}, r"augment in \[training\] was \[\] and is \['flip'\]"),
    "seed": ({"training": {"seed": 3}}, r"seed in \[training\] was 0 and is 3"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_another_configuration_is_refused(finished, what):
    sections, message = CHANGES[what]
    before = (finished[0] / "run.json").read_bytes()
    with pytest.raises(ValueError, match=f"begun with another configuration: .*{message}"):
        train(config(**sections), finished[0], resume=True)
    assert (finished[0] / "run.json").read_bytes() == before


def test_the_length_of_a_cosine_schedule_stays(tmp_path):
    # With more epochs the first ones would have had other learning rates.
    train(config(training={"epochs": 1, "schedule": "cosine"}), tmp_path)
    with pytest.raises(ValueError, match=r"epochs in \[training\] was 1 and is 2"):
        train(config(training={"epochs": 2, "schedule": "cosine"}), tmp_path, resume=True)


def test_what_does_not_change_the_result_may_change(tmp_path):
    train(config(training={"epochs": 1}), tmp_path)
    allowed = config(training={"epochs": 2, "workers": 1, "loggers": ["csv"]}, evaluation={"eps": 0.1, "queries": 9})
    run = train(allowed, tmp_path, resume=True)
    assert TrainingConfig.from_mapping(run["config"]) == allowed


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of a run, to be damaged."""
    import shutil

    return shutil.copytree(finished[0], tmp_path / "copied")


BAD_RUNS = {
    "truncated": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "foreign": lambda text: json.dumps({"schema": "other/1"}),
    "a list": lambda text: "[]",
    "nested": lambda text: "[" * 100_000,
    "without a configuration": lambda text: json.dumps({"schema": "certimetric.run/1"}),
    "without a shape": lambda text: json.dumps({**json.loads(text), "data": {"name": "digits"}}),
}


@pytest.mark.parametrize("what", BAD_RUNS)
def test_a_damaged_run_is_named(copied, what):
    text = (copied / "run.json").read_text(encoding="utf-8")
    (copied / "run.json").write_text(BAD_RUNS[what](text), encoding="utf-8")
    for read in (load_run, lambda folder: train(config(), folder, resume=True)):
        with pytest.raises(ValueError, match=r"run.json' is not the file of a run: ") as error:
            read(copied)
        assert "\n" not in str(error.value)


def test_a_run_of_another_configuration_is_named(copied):
    run = json.loads((copied / "run.json").read_text(encoding="utf-8"))
    run["config"]["model"]["dim"] = 9
    (copied / "run.json").write_text(json.dumps(run), encoding="utf-8")
    with pytest.raises(ValueError, match=r"are not of the model it names: .*size mismatch") as error:
        load_run(copied)
    assert "\n" not in str(error.value)
    run["config"]["model"]["dmi"] = 9
    (copied / "run.json").write_text(json.dumps(run), encoding="utf-8")
    with pytest.raises(ValueError, match=r"the configuration in .*run.json' is wrong: \[model\] has no key 'dmi'"):
        load_run(copied)


@pytest.mark.parametrize("content", [b"", b"weights", None])
def test_a_damaged_model_is_named(copied, content):
    path = copied / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-9] if content is None else content)
    with pytest.raises(ValueError, match=r"model.safetensors' cannot be read: ") as error:
        load_run(copied)
    assert "\n" not in str(error.value)


def test_a_changed_bit_of_a_model_is_seen(copied):
    path = copied / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1  # in a weight: safetensors itself reads it
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"model.safetensors' cannot be read: it is not the file that the run wrote"):
        load_run(copied)


def test_damaged_checkpoints_are_named(copied):
    (copied / "model.safetensors").unlink()
    assert load_run(copied)[1]["finished"]  # the checkpoint has the same weights
    (copied / "checkpoint" / "epoch-0002.safetensors").write_bytes(b"weights")
    for read in (load_run, lambda folder: train(config(training={"epochs": 3}), folder, resume=True)):
        with pytest.raises(ValueError, match=r"the checkpoint in .* cannot be read: ") as error:
            read(copied)
        assert "\n" not in str(error.value)
    (copied / "checkpoint" / "checkpoint.json").unlink()
    with pytest.raises(FileNotFoundError, match="has no finished epoch yet"):
        load_run(copied)


def test_folders_without_a_run_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no training run in .*: it has no run.json"):
        load_run(tmp_path)


def test_evaluation_every_few_epochs_and_at_the_end(tmp_path):
    lines = []
    told = {"every": 2, "eps": 0.1, "queries": 30, "steps": 2}
    run = train(config(training={"epochs": 3}, evaluation=told), tmp_path, tell=lines.append)
    assert [found["epoch"] for found in run["evaluations"]] == [2, 3]
    for found in run["evaluations"]:
        assert 0 <= found["attacked"] < found["recall_at_1"] <= 1
    assert ["at ε = 0.1" in line for line in lines] == [False, True, True]
    # Looking does not change what is learned.
    train(config(training={"epochs": 3}), tmp_path / "blind")
    assert_same(weights(tmp_path), weights(tmp_path / "blind"))


def test_the_average_is_kept_and_loaded(tmp_path, finished, images):
    run = train(config(training={"ema": 0.5}), tmp_path)
    assert run["history"] == finished[1]["history"]  # the average follows, and leads nothing
    averaged, last = weights(tmp_path), weights(finished[0])
    assert not torch.equal(averaged["body.0.weight"], last["body.0.weight"])
    from_model = load_run(tmp_path)[0]
    (tmp_path / "model.safetensors").unlink()
    assert torch.equal(embed(load_run(tmp_path)[0], images), embed(from_model, images))


def tied(dim):
    """A network in which two layers share their weights."""
    first, second = nn.Linear(64, 64), nn.Linear(64, 64)
    second.weight = first.weight
    return nn.Sequential(nn.Flatten(), first, nn.ReLU(), second, nn.Linear(64, dim))


def test_own_models_are_trained_and_loaded(tmp_path, monkeypatch, images):
    module = types.ModuleType("own_networks")
    module.tied = tied
    monkeypatch.setitem(sys.modules, "own_networks", module)
    told = {
        "data": {"name": "digits"},
        "model": {"name": "own_networks:tied", "dim": 4},
        "training": {"epochs": 1, "accelerator": "cpu"},
    }
    train(TrainingConfig.from_mapping(told), tmp_path)
    assert embed(load_run(tmp_path)[0], images).shape == (50, 4)


ATTACKED = {"norm": "l2", "eps": 0.3, "steps": 4}


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({}, NoDefense),
        ({"kind": "tuple", "role": "negative", "eps": 0.3, "norm": "l2", "steps": 4}, TupleDefense),
        ({"kind": "batch", "norm": "l2", "eps": 0.3, "steps": 4, "step_size": 0.15}, BatchDefense),
        ({"kind": "perturbation", "radius": 0.2, "weight": 3, "norm": "l2", "per_anchor": 2}, PerturbationDefense),
        ({"kind": "est", **ATTACKED}, deep.EmbeddingShiftDefense),
        ({"kind": "ses", "weight": 2, **ATTACKED}, deep.ShiftPenaltyDefense),
        ({"kind": "trades", "temperature": 0.5, **ATTACKED}, deep.TradesDefense),
        ({"kind": "act", "per_anchor": 3, **ATTACKED}, deep.AntiCollapseDefense),
        ({"kind": "hm", "destination": "constant", "level": -0.1, **ATTACKED}, deep.HardnessDefense),
        ({"kind": "decoupled", "sharpness": 5.0, **ATTACKED}, deep.DecoupledDefense),
        ({"kind": "single-step", "points": 3, "norm": "l2", "eps": 0.3}, deep.SingleStepDefense),
        ({"kind": "free", "replays": 2, "norm": "l2", "eps": 0.3}, deep.FreeDefense),
    ],
)
def test_defenses_are_those_of_the_configuration(section, expected):
    defense = make_defense(config(defense=section))
    assert type(defense) is expected
    if expected not in (NoDefense, PerturbationDefense):
        assert getattr(defense, "attack", defense).ball == L2Ball(0.3)
    if hasattr(defense, "attack"):
        assert isinstance(defense.attack, PGD)
        assert defense.attack.ball == L2Ball(0.3)
        assert (defense.attack.steps, defense.attack.step_size) == (4, pytest.approx(0.15))
    if expected is PerturbationDefense:
        told = (defense.radius, defense.weight, defense.norm, defense.per_anchor)
        assert told == (0.2, 3.0, "l2", 2)
    own = {key: value for key, value in section.items() if key not in ("kind", "norm", "eps", "steps", "step_size")}
    assert {key: getattr(defense, key) for key in own} == own


def test_ensembles_are_of_finished_runs(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"\[defense\] needs the key 'sources'"):
        config(defense={"kind": "ensemble"})
    with pytest.raises(ValueError, match=r"sources in \[defense\] must hold at least one other model, got \(\)"):
        config(defense={"kind": "ensemble", "sources": []})
    train(config(), tmp_path / "first")
    asked = []
    from certimetric.training import run as training_run

    monkeypatch.setattr(training_run, "make_defense", lambda *given: asked.append(make_defense(*given)) or asked[-1])
    told = {"kind": "ensemble", "sources": [str(tmp_path / "first")], **ATTACKED}
    assert train(config(defense=told, training={"epochs": 1}), tmp_path / "second")["finished"]
    ((source,),) = (defense.sources for defense in asked)
    expected = load_run(tmp_path / "first")[0].state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in source.state_dict().items())
    with pytest.raises(FileNotFoundError, match="nowhere"):
        train(config(defense={"kind": "ensemble", "sources": ["nowhere"]}), tmp_path / "third")


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"data": {"name": "digts"}}, "digts"),
        ({"loss": {"name": "SelfSupervisedLoss"}}, r"\[loss\] 'SelfSupervisedLoss' cannot be made"),
    ],
)
def test_what_only_the_work_can_tell_is_named_too(tmp_path, sections, message):
    with pytest.raises(ValueError, match=message) as error:
        train(config(**sections), tmp_path / "run")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run" / "run.json").exists()
