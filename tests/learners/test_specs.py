"""Learners by name."""

import pytest

from certimetric import LMNN, make_learner
from certimetric.learners.specs import LEARNERS, describe


@pytest.mark.parametrize("name", LEARNERS)
def test_every_name_makes_its_learner(name):
    assert type(make_learner(name)) is LEARNERS[name]
    assert type(make_learner(f" {name.upper()} ")) is LEARNERS[name]


def test_options_reach_the_learner_and_the_loss():
    learner = make_learner("lmnn+pl:tau=2,weight=0.5,norm=linf,n_neighbors=5,n_components=3")
    assert isinstance(learner, LMNN)
    assert learner.n_neighbors == 5
    assert learner.n_components == 3
    assert (learner.perturbation.tau, learner.perturbation.weight, learner.perturbation.norm) == (2, 0.5, "linf")
    assert make_learner("lmnn").perturbation is None
    assert make_learner("scml", random_state=7).random_state == 7


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("lmmn", "did you mean 'lmnn'"),
        ("", "unknown learner"),
        ("mlkr", "mlkr learns to predict numbers, not classes: use certimetric.MLKR"),
        ("gmml+pl", "takes no perturbation loss; the learners that do are nca, lmnn, scml"),
        ("lmnn:tau=2", r"no option 'tau'.*\+pl"),
        ("lmnn:n_neighbours=2", "did you mean 'n_neighbors'"),
        ("lmnn:n_neighbors", "needs a value"),
        ("lmnn:n_neighbors=", "needs a value"),
        ("lmnn:n_neighbors=many", "n_neighbors"),
        ("aml:beta=0", "beta"),
        ("aml:confusion=ascent,beta=1", "beta of AML must be above 2"),
        ("lmnn+pl:tau=-1", "tau of PerturbationLoss"),
        ("lmnn+pl:weight=much", "weight of PerturbationLoss"),
        ("nca+pl:norm=l7", "l7"),
        ("lmnn:perturbation=1", "no option 'perturbation'"),
    ],
)
def test_mistakes_are_named_in_one_line(spec, message):
    with pytest.raises(ValueError, match=message) as error:
        make_learner(spec)
    assert "\n" not in str(error.value)


def test_descriptions():
    assert describe("lmnn+pl:tau=2") == "LMNN + perturbation loss (tau=2)"
    assert describe("gmml") == "GMML"
    assert describe("Another, ACT") == "Another, ACT"  # no learner of ours keeps its own spelling
