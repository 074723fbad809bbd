"""What holds for every defense of the list: it says what it is, is made by its keys, and trains what it should."""

import inspect

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")
pytest.importorskip(
    "pytorch_metric_learning", reason="pytorch-metric-learning is not installed: the extra 'deep' has it"
)

from pytorch_metric_learning import losses, miners  # noqa: E402
from torch import nn  # noqa: E402

from certimetric.base.arguments import ArgumentError, require  # noqa: E402
from certimetric.bench.image_sets import DIGITS  # noqa: E402
from certimetric.bench.suites.defenses import RADII  # noqa: E402
from certimetric.bench.suites.defenses import SUITE as suite  # noqa: E402
from certimetric.deep import Attack, LinfBall, RobustTrainer, defenses  # noqa: E402
from certimetric.deep.defenses import DEFENSES  # noqa: E402
from certimetric.training import TrainingConfig, sections  # noqa: E402
from certimetric.training.keys import NEEDED  # noqa: E402
from certimetric.training.run import make_defense  # noqa: E402

TRIPLET = losses.TripletMarginLoss(margin=0.2)
SMALL = {"eps": 0.05, "steps": 2, "replays": 1}


def linear(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 8))


def made(kind, **values):
    """A defense by keys of a configuration, with a small attack where it has one."""
    part = sections.defense(kind)
    return part({**SMALL, **values}, **others(part))


def others(part, sources=()):
    """The models that some defenses ask for."""
    return {"sources": [*sources] or [linear(5)]} if "sources" in part.keys else {}


def test_the_list_has_every_defense_that_is_public():
    public = {name: getattr(defenses, name) for name in defenses.__all__}
    classes = {value for value in public.values() if inspect.isclass(value) and issubclass(value, defenses.Defense)}
    assert classes - {defenses.Defense} == set(DEFENSES.values())


@pytest.mark.parametrize("kind", DEFENSES)
def test_keys_make_what_the_constructor_makes(kind):
    defense = made(kind)
    assert type(defense) is DEFENSES[kind]
    if (ball := getattr(getattr(defense, "attack", defense), "ball", None)) is not None:
        assert ball == LinfBall(0.05)
    told = {key: value for key, value in sections.defense(kind).keys.items() if value.default is not NEEDED}
    plain = made(kind, **{key: entry.default for key, entry in told.items()})
    bare = DEFENSES[kind](**others(sections.defense(kind)))
    assert repr(plain) == repr(bare)  # defaults of the keys are those of Python


@pytest.mark.parametrize("kind", DEFENSES)
def test_limits_of_numbers_name_their_argument(kind):
    # A negative number is beyond every limit there is; in Python and in a configuration the same check says so.
    for key, entry in sections.defense(kind).keys.items():
        if not isinstance(entry.default, (int, float)) or key == "level":
            continue
        with pytest.raises(ArgumentError, match=f"^{key}( of {DEFENSES[kind].__name__})? must .*, got -1"):
            made(kind, **{key: -1})
        section = {"kind": kind, key: -1, **others(sections.defense(kind), ["run"])}
        with pytest.raises(ValueError, match=rf"is wrong: {key} in \[defense\] must .*, got -1"):
            TrainingConfig.from_mapping({"data": {"name": "digits"}, "defense": section})


@pytest.mark.parametrize("kind", DEFENSES)
@pytest.mark.parametrize("mined", [False, True])
def test_the_loss_trains_the_model_and_its_own_parameters(digits, kind, mined):
    images, labels = digits[0][:40], digits[1][:40]
    proxies = losses.ProxyAnchorLoss(num_classes=10, embedding_size=8)
    miner = miners.TripletMarginMiner(margin=10.0) if mined else None
    for loss_fn in (TRIPLET, proxies):
        torch.manual_seed(0)
        model, defense = linear(), made(kind)
        trained = [*model.parameters(), *loss_fn.parameters()]
        if loss_fn is proxies and defense.compares_samples:
            with pytest.raises(TypeError, match="ProxyAnchorLoss compares them with parameters of its own"):
                defense.loss(model, images, labels, loss_fn, miner)
            continue
        before = images.clone()
        value = defense.loss(model, images, labels, loss_fn, miner)
        value.backward()
        assert value.ndim == 0 and torch.isfinite(value) and value > 0
        assert all(parameter.requires_grad and (parameter.grad != 0).any() for parameter in trained)
        assert torch.equal(images, before) and not images.requires_grad and model.training


@pytest.mark.parametrize("kind", DEFENSES)
def test_what_a_defense_remembers_goes_into_a_checkpoint(digits, tmp_path, kind):
    # An interrupted training is the uninterrupted one, whatever a defense keeps of the batches before.
    batches = [(digits[0][i : i + 40], digits[1][i : i + 40]) for i in (0, 40)]

    def train(epochs, folder=None, resume=False):
        trainer = RobustTrainer(
            linear(), TRIPLET, defense=made(kind), max_epochs=epochs, checkpoint_dir=folder, accelerator="cpu"
        )
        return trainer.fit(batches, resume=resume)

    whole = train(2)
    train(1, tmp_path)
    parts = train(2, tmp_path, resume=True)
    assert parts.history == whole.history
    assert torch.equal(parts.model[1].weight, whole.model[1].weight)


@pytest.mark.parametrize("kind", DEFENSES)
def test_what_has_a_radius_perturbs_within_a_share_of_it(digits, kind):
    images, labels = digits[0][:30], digits[1][:30]
    assert DEFENSES[kind].has_radius == ("eps" in sections.defense(kind).keys)
    if not DEFENSES[kind].has_radius:
        return
    torch.manual_seed(0)
    alone = {"share": 0.0} if kind == "corruptions" else {}  # what it does to pictures beside has no radius
    model, defense, sizes = linear(), made(kind, **alone), {}
    for share in (0.25, 1.0):
        seen = []
        handle = model.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0].detach()))
        defense.shrink(share)
        for _ in range(2):  # free perturbations are of the batch before
            defense.loss(model, images, labels, TRIPLET).backward()
        handle.remove()
        changes = torch.cat(seen).flatten(1)[:, None] - images.flatten(1)
        sizes[share] = float(changes.abs().amax(dim=2).amin(dim=1).max())  # each from the picture that it was
    assert 0.0 < sizes[0.25] <= 0.25 * 0.05 + 1e-6 < sizes[1.0] <= 0.05 + 1e-6


class DimmedDefense(defenses.Defense):
    """Train on images that are darker: a defense as a newcomer would write it."""

    def __init__(self, share: float = 0.5, attack: Attack | None = None):
        require(0 < share <= 1, "share", "must lie between 0 and 1", share, self)
        self.share, self.attack = share, attack

    def compute_loss(self, batch):
        return batch.loss_of(self.share * batch.images)


def test_a_defense_costs_itself_and_its_place_in_the_list(monkeypatch, digits):
    monkeypatch.setitem(DEFENSES, "dimmed", DimmedDefense)
    given = {"data": {"name": "digits"}, "defense": {"kind": "dimmed", "eps": 0.2}}
    config = TrainingConfig.from_mapping(given)
    attacked = {"norm": "linf", "eps": 0.2, "steps": 5, "step_size": None, "restarts": 1}
    assert config.defense == {"kind": "dimmed", "share": 0.5, **attacked}
    defense = make_defense(config)
    assert type(defense) is DimmedDefense and defense.attack.ball == LinfBall(0.2)
    defense.loss(linear(), digits[0][:40], digits[1][:40], TRIPLET).backward()
    given["defense"] |= {"share": 2, "eps": -1, "shar": 1}
    with pytest.raises(ValueError) as error:
        TrainingConfig.from_mapping(given)
    assert sorted(error.value.faults) == [
        "[defense] has no key 'shar' (did you mean 'share'?)",
        "eps in [defense] must not be negative, got -1.0",
        "share in [defense] must lie between 0 and 1, got 2.0",
    ]
    (found,) = [
        cell for cell in suite.cells([DIGITS.find(None, network=False)], seed=0, splits=1) if cell.learner == "dimmed"
    ]
    assert found.parameters["config"]["defense"]["eps"] == RADII["linf"]["digits"]


@pytest.mark.parametrize("kind", [kind for kind, cls in DEFENSES.items() if cls.mines])
def test_defenses_that_mine_count_batches_without_a_tuple(digits, kind):
    defense, model = made(kind), linear()
    value = defense.loss(model, digits[0][:6], torch.zeros(6, dtype=torch.long), TRIPLET)
    value.backward()
    assert value.detach() == 0 and defense.skipped == 1
    with pytest.raises(TypeError, match="PNPLoss cannot be trained on tuples"):
        defense.loss(model, digits[0][:6], digits[1][:6], losses.PNPLoss())
