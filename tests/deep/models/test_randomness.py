"""Global random numbers are left as they were found, and what draws from them is seeded all the same."""

# ruff: noqa: NPY002  (the global generator of NumPy is what this is about)
import random

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")
pytest.importorskip("lightning", reason="the extra 'deep' has lightning")

from pytorch_metric_learning import losses  # noqa: E402
from sklearn.datasets import load_iris  # noqa: E402
from torch import nn  # noqa: E402

from certimetric.auditing import audit, audit_retrieval  # noqa: E402
from certimetric.datasets.images.sets import load_images  # noqa: E402
from certimetric.deep import (  # noqa: E402
    APGD,
    FGSM,
    PGD,
    AwayFromPositive,
    CarliniWagner,
    ClassBalancedBatches,
    ImageSet,
    L2Ball,
    LinfBall,
    NESAttack,
    RobustTrainer,
    SquareAttack,
    certify_retrieval,
    embedding_model,
    empirical_robustness_score,
    evaluate_retrieval,
)
from certimetric.deep.models.calling import seeded  # noqa: E402
from certimetric.training import TrainingConfig, train  # noqa: E402

BALL = LinfBall(0.1)
ATTACKS = [
    FGSM(BALL),
    PGD(BALL, steps=2, restarts=2),
    APGD(BALL, steps=3),
    SquareAttack(BALL, queries=3),
    NESAttack(BALL, steps=2, population=2),
    CarliniWagner(L2Ball(0.5), steps=3, searches=1),
]


class Noisy(nn.Module):
    """A model that draws from all three global generators whenever it is asked."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.linear = nn.Linear(64, 4)

    def forward(self, x):
        drawn = random.random() + np.random.random()
        return self.linear(nn.functional.dropout(x.flatten(1), 0.2)) + 0.1 * drawn * torch.randn(4)


@pytest.fixture(autouse=True)
def states():
    """What the global generators stand at before each test is what they stand at after it."""
    with torch.random.fork_rng():
        before = torch.get_rng_state(), np.random.get_state(), random.getstate()
        yield
        assert torch.equal(before[0], torch.get_rng_state())
        assert before[1][0] == np.random.get_state()[0] and (before[1][1] == np.random.get_state()[1]).all()
        assert before[1][2:] == np.random.get_state()[2:]
        assert before[2] == random.getstate()


@pytest.fixture
def items(digits):
    return ImageSet(digits[0][:40], digits[1][:40])


def test_training(digits):
    data = torch.utils.data.TensorDataset(digits[0][:80], digits[1][:80])
    batches = torch.utils.data.DataLoader(data, batch_sampler=ClassBalancedBatches(digits[1][:80], 40, 4))

    def augment(images):  # by NumPy, as some libraries of augmentations do
        return (images * np.random.uniform(0.5, 1)).float()

    def histories(seed):
        options = {"max_epochs": 2, "augment": augment, "seed": seed, "accelerator": "cpu"}
        return RobustTrainer(Noisy(), losses.TripletMarginLoss(), **options).fit(batches).history

    assert histories(0) == histories(0) != histories(1)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: type(attack).__name__)
def test_attacks(items, attack):
    goal = AwayFromPositive(torch.zeros(len(items), 4))
    one, other = (attack(Noisy(), items.images, goal) for _ in range(2))
    assert torch.equal(one, other)


@pytest.mark.filterwarnings("ignore:figures under attack change")  # they do, and it is told
def test_evaluation(items):
    one, other = (evaluate_retrieval(Noisy(), items, attacks=[PGD(BALL, steps=2)]) for _ in range(2))
    assert one.rows == other.rows


def test_certificates(items):
    settings = {"method": "smoothing", "n_samples": 20, "n_selection": 5, "with_pixels": False}
    one, other = (certify_retrieval(Noisy(), items, **settings) for _ in range(2))
    assert (one.radii == other.radii).all()


def test_robustness_score(items):
    one, other = (empirical_robustness_score(Noisy(), items, n_queries=4, attack=PGD(BALL, steps=2)) for _ in range(2))
    assert one.score == other.score


def test_models_by_seed():
    one, other, third = (embedding_model("small-cnn", 8, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert not all(torch.equal(one[key], third[key]) for key in one)
    # The weights are those that torch's own seed gives.
    with torch.random.fork_rng():
        torch.manual_seed(1)
        plain = embedding_model("small-cnn", 8).state_dict()
    assert all(torch.equal(one[key], plain[key]) for key in one)


@pytest.mark.slow
def test_audits_and_data_sets(items):
    load_images("digits")
    X, y = load_iris(return_X_y=True)
    audit(X[::5], y[::5], learners=["euclidean", "scml"], repeats=1)
    audit_retrieval({"noisy": Noisy()}, items, n_queries=8, n_checked=4, eps=[0.1], report_eps=0.1, attacks=["pgd"])


def test_runs(tmp_path):
    told = {
        "data": {"name": "digits"},
        "defense": {"kind": "tuple", "steps": 1},
        "training": {"epochs": 1, "batch_size": 400, "augment": ["flip"], "accelerator": "cpu"},
        "evaluation": {"eps": 0.1, "steps": 1, "queries": 20},
    }
    train(TrainingConfig.from_mapping(told), tmp_path / "run")


def test_states_are_restored_after_an_error():
    with pytest.raises(ZeroDivisionError), seeded(3):
        random.random(), np.random.random(), torch.rand(1)
        raise ZeroDivisionError
