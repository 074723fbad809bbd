"""All losses of pytorch-metric-learning: each is trained, or is one of those that are named and refused."""

import inspect
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")
pytest.importorskip("lightning", reason="the extra 'deep' has lightning")

from pytorch_metric_learning import losses, miners  # noqa: E402
from torch import nn  # noqa: E402

from certimetric.deep import (  # noqa: E402
    PGD,
    AntiCollapseDefense,
    BatchDefense,
    LinfBall,
    NoDefense,
    PerturbationDefense,
    RobustTrainer,
    TupleDefense,
)
from certimetric.deep.defenses.loss_support import UNUSABLE, WITHOUT_TUPLES  # noqa: E402
from certimetric.training import TrainingConfig  # noqa: E402
from certimetric.training.sections import component_parameters  # noqa: E402

ALL = sorted(name for name in dir(losses) if inspect.isclass(getattr(losses, name)))
ATTACK = PGD(LinfBall(0.1), steps=1)
WHOLE = {"none": lambda: NoDefense(), "batch": lambda: BatchDefense(ATTACK)}
TUPLES = {
    "tuple": lambda: TupleDefense("anchor", ATTACK),
    "perturbation": lambda: PerturbationDefense(0.05),
}
# What the constructors ask for beside the length of embeddings and the number of classes.
OPTIONS = {
    "CrossBatchMemory": lambda: {"loss": losses.ContrastiveLoss(), "memory_size": 100},
    "GenericPairLoss": lambda: {"mat_based_loss": True},
    "HistogramLoss": lambda: {"n_bins": 20},
    "ManifoldLoss": lambda: {"l": 8},
    "MultipleLosses": lambda: {"losses": [losses.ContrastiveLoss(), losses.NTXentLoss()]},
    "P2SGradLoss": lambda: {"descriptors_dim": 8},
    "RankedListLoss": lambda: {"margin": 1.0, "Tn": 1.0},
    "SelfSupervisedLoss": lambda: {"loss": losses.NTXentLoss()},
}


def made(name):
    kind = getattr(losses, name)
    asked = inspect.signature(kind).parameters.keys() | component_parameters(kind).keys()
    told = {"num_classes": 10, "embedding_size": 8}
    return kind(**{key: value for key, value in told.items() if key in asked}, **OPTIONS.get(name, dict)())


def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 8))


@pytest.fixture(scope="module")
def batches(digits):
    """Two batches of eight images of five classes, class by class."""
    rows = [torch.cat([(digits[1] == c).nonzero()[8 * i : 8 * i + 8, 0] for c in range(5)]) for i in range(2)]
    return [(digits[0][part], digits[1][part]) for part in rows]


def train(loss, batches, defense=None, miner=None):
    trainer = RobustTrainer(model(), loss, defense=defense, miner=miner, max_epochs=1, accelerator="cpu")
    return trainer.fit(batches)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")
def test_every_loss_is_trained_or_named(batches, name):
    if name in UNUSABLE:
        if name.endswith("Mixin") or name.startswith("Base"):
            return  # there is no such loss to be made
        with pytest.raises(TypeError, match=f"{name} cannot be trained here: "):
            train(made(name), batches)
        return
    for defense in WHOLE.values():
        trained = train(made(name), batches, defense())
        assert all(not torch.equal(one, other) for one, other in zip(trained.model.parameters(), model().parameters()))
    for defense in TUPLES.values():
        if name in WITHOUT_TUPLES:
            with pytest.raises(TypeError, match=f"{name} cannot be trained on tuples, of a miner or a defense: "):
                train(made(name), batches, defense())
        else:
            trained = train(made(name), batches, defense())
            assert not torch.equal(trained.model[1].weight, model()[1].weight)


@pytest.mark.parametrize("name", sorted(WITHOUT_TUPLES))
def test_losses_without_tuples_are_refused_before_the_work(batches, name):
    for defense in (None, BatchDefense(ATTACK)):
        with pytest.raises(TypeError, match=f"{name} cannot be trained on tuples"):
            train(made(name), batches, defense, miners.TripletMarginMiner())
    with pytest.raises(TypeError, match=f"{name} c"):
        train(made(name), batches, AntiCollapseDefense(ATTACK))


def test_the_order_that_smooth_ap_counts_on(batches):
    ((images, labels), _) = batches
    order = torch.arange(40).view(5, 8).T.flatten()
    with pytest.raises(
        ValueError, match="SmoothAPLoss needs batches with as many images of each class, class by class"
    ):
        train(losses.SmoothAPLoss(), [(images[order], labels[order])])
    with pytest.raises(ValueError, match="SmoothAPLoss needs batches"):
        train(losses.SmoothAPLoss(), [(images[1:], labels[1:])], BatchDefense(ATTACK))


def test_what_several_losses_hold_is_looked_at(batches):
    inside = losses.MultipleLosses([losses.CrossBatchMemory(losses.ContrastiveLoss(), 8, 100), losses.NTXentLoss()])
    with pytest.raises(TypeError, match="a CrossBatchMemory inside MultipleLosses would take in what attacks try"):
        train(inside, batches)
    mixed = losses.MultipleLosses({"one": losses.NTXentLoss(), "two": losses.PNPLoss()})
    with pytest.raises(TypeError, match="PNPLoss cannot be trained on tuples"):
        train(mixed, batches, TupleDefense(attack=ATTACK))
    own = losses.MultipleLosses([losses.ContrastiveLoss()], miners=[miners.TripletMarginMiner()])
    train(own, batches, BatchDefense(ATTACK))
    with pytest.raises(TypeError, match="MultipleLosses with miners of its own cannot be trained on tuples"):
        train(own, batches, TupleDefense(attack=ATTACK))


def test_configurations_know_it_too():
    def fault(loss, **more):
        with pytest.raises(ValueError) as error:
            TrainingConfig.from_mapping({"data": {"name": "digits"}, "loss": {"name": loss}, **more})
        (told,) = error.value.faults
        return told

    assert fault("VICRegLoss") == "VICRegLoss cannot be trained here: " + UNUSABLE["VICRegLoss"]
    assert "InstanceLoss cannot be trained on tuples" in fault("InstanceLoss", defense={"kind": "tuple"})
    assert "PNPLoss cannot be trained on tuples" in fault("PNPLoss", miner={"name": "TripletMarginMiner"})
    assert "'act' perturbs samples against each other" in fault("ProxyAnchorLoss", defense={"kind": "act"})
    TrainingConfig.from_mapping({"data": {"name": "digits"}, "loss": {"name": "PNPLoss"}, "defense": {"kind": "batch"}})


def test_the_page_names_those_that_are_refused():
    page = (Path(__file__).parents[3] / "docs" / "deep.md").read_text(encoding="utf-8")
    for name in {*UNUSABLE, *WITHOUT_TUPLES}:
        if not name.endswith("Mixin") and not name.startswith("Base"):
            assert f"`{name}`" in page
    assert {*UNUSABLE, *WITHOUT_TUPLES} <= set(ALL)
