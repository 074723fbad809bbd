"""What moved code matches on: the kind of an error or warning, how its text begins, and what of the call it names."""

import string

import numpy as np
import pytest
from sklearn.datasets import load_iris

from certimetric import metric_learn
from certimetric.metric_learn import wording
from certimetric.metric_learn._util import check_collapsed_pairs, check_input, components_from_metric
from certimetric.metric_learn.exceptions import NonPSDError

X, y = load_iris(return_X_y=True)
PAIRS, KINDS = X[[[0, 1], [2, 3], [0, 60], [70, 140]]], [1, 1, -1, -1]


def fails(index):
    raise KeyError(index[0])


WRONG = {
    "a preprocessor of another type": (
        lambda: metric_learn.LMNN(preprocessor=7).fit(X, y),
        "Invalid type for the preprocessor",
        "<class 'int'>",
    ),
    "a preprocessor that fails": (
        lambda: metric_learn.LMNN(preprocessor=fails).fit(["a", "b"], [0, 1]),
        "An error occurred when trying to use the preprocessor",
        "KeyError",
    ),
    "points as tuples": (
        lambda: metric_learn.ITML().fit(X[:4], KINDS),
        "3D array of formed tuples expected by ITML",
        "2D",
    ),
    "tuples as points": (
        lambda: metric_learn.NCA().fit(PAIRS, KINDS),
        "2D array of formed points expected by NCA",
        "3D",
    ),
    "triplets as pairs": (
        lambda: metric_learn.ITML().fit(np.ones((4, 3, 2)), KINDS),
        "Tuples of 2 element(s) expected by ITML. Got tuples of 3",
        "(4, 3, 2)",
    ),
    "labels of classes for pairs": (
        lambda: metric_learn.MMC().fit(PAIRS, [1, 1, 0, 0]),
        "When training on pairs",
        "[-1, 1]",
    ),
    "more components than features": (
        lambda: metric_learn.LFDA(n_components=9).fit(X, y),
        "Invalid n_components",
        "[1, 4]",
    ),
    "a start of another width": (
        lambda: metric_learn.LMNN(init=np.eye(3)).fit(X, y),
        "The input dimensionality (3)",
        "(4)",
    ),
    "a start of no known name": (lambda: metric_learn.MLKR(init="lda").fit(X, y), "`init` must be", "'random' or"),
    "a singular prior": (
        lambda: metric_learn.ITML(prior=np.diag([1.0, 1, 1, 0])).fit(PAIRS, KINDS),
        "You should provide a strictly positive definite matrix as `prior`",
        "Try another prior",
    ),
    "the wrong number of bounds": (
        lambda: metric_learn.ITML().fit(PAIRS, KINDS, bounds=[1.0, 2.0, 3.0]),
        "`bounds` should be an array-like of two elements",
        "two",
    ),
    "a basis of another width": (
        lambda: metric_learn.SCML(basis=np.ones((3, 5))).fit(X[[[0, 1, 60]]]),
        "The dimensionality (5) of the provided bases",
        "(4)",
    ),
    "a fraction of a basis": (
        lambda: metric_learn.SCML_Supervised(n_basis=4.5).fit(X, y),
        "n_basis should be an integer",
        "float",
    ),
    "too many chunks": (
        lambda: metric_learn.RCA_Supervised(n_chunks=99).fit(X, y),
        "Not enough possible chunks of 2",
        "99",
    ),
    "no number as a threshold": (
        lambda: metric_learn.ITML().fit(PAIRS, KINDS).set_threshold("x"),
        "Parameter threshold must be a real number",
        "<class 'str'>",
    ),
    "no known strategy": (
        lambda: metric_learn.ITML().fit(PAIRS, KINDS, calibration_params={"strategy": "best"}),
        "Strategy can either be",
        '"best"',
    ),
    "equal instances": (lambda: check_collapsed_pairs(PAIRS[:, [0, 0]]), "4 collapsed pairs found", "out of 4"),
    "an unknown type of inputs": (
        lambda: check_input(X, type_of_inputs="x"),
        "Unknown value x for type_of_inputs",
        "'tuples'",
    ),
    "a matrix that is not symmetric": (
        lambda: components_from_metric(np.arange(4.0).reshape(2, 2)),
        "The input metric should be symmetric",
        "metric",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_errors_begin_as_those_of_metric_learn_and_name_what_came(case):
    call, begins, names = WRONG[case]
    with pytest.raises((ValueError, np.linalg.LinAlgError)) as raised:
        call()
    told = str(raised.value)
    assert told.startswith(begins)
    assert names in told


def test_errors_of_other_kinds():
    with pytest.raises(NonPSDError, match="positive semidefinite"):
        components_from_metric(-np.eye(2))
    unset = metric_learn.ITML().fit(PAIRS, KINDS)
    del unset.threshold_
    with pytest.raises(AttributeError, match="A threshold for this estimator has not been set"):
        unset.predict(PAIRS)


def test_every_template_is_filled_in_by_name():
    """A brace that no call fills would reach the user, and one without a name could be filled by anything."""
    templates = [text for name, text in vars(wording).items() if name.isupper() and isinstance(text, str)]
    fields = [field for text in templates for _, field, _, _ in string.Formatter().parse(text) if field is not None]
    assert len(templates) > 30
    assert all(field.isidentifier() for field in fields)
