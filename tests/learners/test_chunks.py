"""GMML and AML from chunks and from Dask arrays: the metric of the whole sample, however it is cut."""

import subprocess
import sys
import weakref

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone

from certimetric import AML, GMML, CertifiedKNeighborsClassifier
from certimetric.constraints import ClassScatter, PairScatter
from certimetric.learners.specs import learner_variants

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")

LEARNERS = (GMML(0.3, reg=0.1), *(learner for learner in learner_variants() if hasattr(learner, "fit_chunks")))
each_learner = pytest.mark.parametrize("learner", LEARNERS, ids=repr)


def sample(seed=0, n=600, d=5, classes=4):
    """Correlated features at different scales, away from 0; classes of very different sizes."""
    rng = np.random.default_rng(seed)
    y = rng.choice(classes, n, p=0.5 ** np.arange(1, classes + 1) / (1 - 0.5**classes))
    X = rng.standard_normal((n, d)) @ (np.eye(d) + 0.3 * rng.standard_normal((d, d))) + 0.7 * y[:, None]
    return X * 10.0 ** np.linspace(-0.5, 0.5, d) + 30, y


def cut(X, y, at):
    return [(X[rows], y[rows]) for rows in np.split(np.arange(len(X)), at)]


def assert_same(one, other):
    """Same metric to 1e-10 of its largest entry, and everything else that a fit leaves."""
    M, N = one.get_mahalanobis_matrix(), other.get_mahalanobis_matrix()
    np.testing.assert_allclose(M, N, rtol=0, atol=1e-10 * np.abs(N).max())
    np.testing.assert_array_equal(one.classes_, other.classes_)
    assert one.classes_.dtype.kind == other.classes_.dtype.kind
    assert (one.n_samples_fit_, one.n_features_in_) == (other.n_samples_fit_, other.n_features_in_)
    for kind in ("similar", "dissimilar"):
        assert getattr(one.scatter_, f"n_{kind}") == getattr(other.scatter_, f"n_{kind}")
        S = getattr(other.scatter_, kind)
        np.testing.assert_allclose(getattr(one.scatter_, kind), S, rtol=0, atol=1e-12 * np.abs(S).max())
    if isinstance(other, AML):
        assert one.beta_ == pytest.approx(other.beta_, rel=1e-10)
        assert one.objective_ == pytest.approx(other.objective_, rel=1e-10)


@each_learner
@pytest.mark.parametrize("at", [[], [300], [1, 2, 3], list(range(7, 600, 7)), [0, 0, 450, 600]], ids=len)
def test_chunks_give_the_metric_of_the_whole(learner, at):
    X, y = sample()
    whole = clone(learner).fit(X, y)
    assert_same(clone(learner).fit_chunks(iter(cut(X, y, at))), whole)


@each_learner
@pytest.mark.parametrize("blocks", [((600,), (5,)), ((1, 599), (2, 3)), ((100,) * 6, (1,) * 5), (13, 5)], ids=repr)
@pytest.mark.parametrize("y_blocks", [600, 41])
def test_dask_blocks_give_the_metric_of_the_whole(learner, blocks, y_blocks):
    X, y = sample()
    whole = clone(learner).fit(X, y)
    assert_same(clone(learner).fit(da.from_array(X, chunks=blocks), da.from_array(y, chunks=y_blocks)), whole)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), cuts=st.integers(0, 30), learner=st.sampled_from(LEARNERS))
def test_any_cut_in_any_order(seed, cuts, learner):
    # A sum over all pairs knows no order of rows: chunks may come permuted, sorted by class, or single.
    rng = np.random.default_rng(seed)
    X, y = sample(seed, n=200, d=int(rng.integers(1, 7)), classes=int(rng.integers(2, 6)))
    whole = clone(learner).fit(X, y)
    order = np.argsort(y, kind="stable") if seed % 2 else rng.permutation(len(y))
    parts = cut(X[order], y[order], np.sort(rng.integers(0, 201, cuts)))
    assert_same(clone(learner).fit_chunks(parts), whole)


def test_confused_pairs_do_not_depend_on_the_blocks():
    X, y = sample()
    pairs, kinds = X[:40].reshape(20, 2, 5), np.where(y[:40:2] == y[1:40:2], 1, -1)
    whole = AML().fit(X, y).confuse_pairs(pairs, kinds)
    for rows in (1, 50, 333):
        cut_up = AML().fit(da.from_array(X, chunks=(rows, -1)), y)
        np.testing.assert_allclose(cut_up.confuse_pairs(pairs, kinds), whole, rtol=1e-10)


@pytest.mark.slow  # starts processes
def test_a_cluster_gives_the_metric_of_the_whole(cluster):
    X, y = sample()
    names = np.array(["ash", "birch", "elm", "fir"])[y]
    for learner in (GMML(), AML()):
        whole = clone(learner).fit(X, names)
        assert_same(clone(learner).fit(da.from_array(X, chunks=(90, 2)), da.from_array(names, chunks=64)), whole)


def test_a_source_of_both_rows_and_labels_is_read_once():
    X, y = sample()
    read = []

    @dask.delayed(nout=2)
    def part(number):
        read.append(number)
        rows = slice(100 * number, 100 * number + 100)
        return X[rows], y[rows]

    parts = [part(number) for number in range(6)]
    rows = da.concatenate([da.from_delayed(some[0], (100, 5), dtype=float) for some in parts])
    labels = da.concatenate([da.from_delayed(some[1], (100,), dtype=int) for some in parts])
    assert_same(GMML().fit(rows * 2.0, labels), GMML().fit(X * 2.0, y))
    assert sorted(read) == list(range(6))


def test_sums_of_samples_against_explicit_pairs(rng):
    X, y = rng.standard_normal((30, 3)) + 50, np.array(list("abcd"))[rng.integers(0, 4, 30)]
    i, j = np.triu_indices(30, 1)
    slow = PairScatter.from_pairs(np.stack([X[i], X[j]], axis=1), np.where(y[i] == y[j], 1, -1))
    total = ClassScatter.from_labels(X[:8], y[:8])
    for rows in (slice(8, 9), slice(9, 30)):
        total = total + ClassScatter.from_labels(X[rows], y[rows])
    fast = total.pairs()
    assert (fast.n_similar, fast.n_dissimilar) == (slow.n_similar, slow.n_dissimilar)
    np.testing.assert_allclose(fast.similar_sum, slow.similar_sum, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(fast.dissimilar_sum, slow.dissimilar_sum, rtol=1e-9, atol=1e-9)
    for c, label in enumerate(total.labels):
        own = X[y == label]
        assert total.counts[c] == len(own)
        np.testing.assert_allclose(total.means[c], own.mean(axis=0))
        np.testing.assert_allclose(total.scatters[c], (own - own.mean(axis=0)).T @ (own - own.mean(axis=0)), atol=1e-12)


def test_a_class_of_one_among_very_many_loses_no_digits():
    # Its dissimilar pairs are a part in n of all pairs: taken as a difference, they would lose log10(n) digits.
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((300_000, 2)), np.zeros(300_000, dtype=int)
    y[7] = 1
    exact = (X[7] - np.delete(X, 7, axis=0)).astype(np.longdouble)
    exact = np.einsum("ni,nj->ij", exact, exact).astype(float)
    np.testing.assert_allclose(PairScatter.from_labels(X, y).dissimilar_sum, exact, rtol=1e-12)
    parts = [ClassScatter.from_labels(*part) for part in cut(X, y, np.arange(10_000, 300_000, 10_000))]
    np.testing.assert_allclose(sum(parts[1:], start=parts[0]).pairs().dissimilar_sum, exact, rtol=1e-12)


@pytest.mark.parametrize("learner", [GMML(), AML()], ids=repr)
def test_features_far_from_zero(learner):
    # Means that round in the sum of many rows would show here: the offset is 10⁵ times the spread.
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 50_000)
    X = rng.standard_normal((50_000, 4)) + 0.5 * y[:, None] + 1e5
    whole = clone(learner).fit(X, y)
    assert_same(clone(learner).fit_chunks(cut(X, y, np.arange(1000, 50_000, 1000))), whole)
    near = clone(learner).fit(X - 1e5, y)
    np.testing.assert_allclose(whole.get_mahalanobis_matrix(), near.get_mahalanobis_matrix(), rtol=1e-9, atol=1e-10)


def test_one_chunk_is_held_at_a_time():
    X, y = sample()
    seen = []

    def chunks():
        for X_part, y_part in cut(X, y, [100, 200, 300, 400, 500]):
            assert all(reference() is None for reference in seen)  # none is held while the next is read
            rows = X_part.copy()
            seen.append(weakref.ref(rows))
            yield rows, y_part
            del rows

    GMML().fit_chunks(chunks())
    assert len(seen) == 6


def test_whatever_comes_as_numbers_and_labels():
    X, y = sample()
    X, names = np.round(X), np.array(["ash", "birch", "elm", "fir"])[y]
    whole = GMML().fit(X, names)
    assert_same(GMML().fit_chunks([(X[:9].tolist(), names[:9].tolist()), (X[9:].astype(np.float32), names[9:])]), whole)
    assert_same(GMML().fit(da.from_array(X.astype(int), chunks=50), names), whole)  # labels in memory beside Dask rows
    objects = GMML().fit_chunks([(X[:9], names[:9].astype(object)), (X[9:], names[9:])])
    assert objects.classes_.tolist() == whole.classes_.tolist()
    frame = pd.DataFrame(X, columns=list("vwxyz"))
    named = GMML().fit_chunks([(frame[:100], names[:100]), (frame[100:], names[100:])])
    assert_same(named, whole)
    assert named.metric_.feature_names == tuple("vwxyz")
    assert not hasattr(named.fit(da.from_array(X), names), "feature_names_in_")  # of the sample before
    with pytest.raises(ValueError, match="chunk 1: The feature names"):
        GMML().fit_chunks([(frame[:100], names[:100]), (frame[100:].rename(columns={"v": "u"}), names[100:])])


def test_inside_the_classifier_and_labels_alone_in_blocks():
    X, y = sample()
    assert_same(GMML().fit(X, da.from_array(y, chunks=77)), GMML().fit(X, y))
    lazy = CertifiedKNeighborsClassifier(metric=GMML()).fit(da.from_array(X, chunks=77), y)
    assert_same(lazy.learner_, GMML().fit(X, y))


X, Y = sample(n=40)
BAD = np.where(np.arange(40)[:, None] == 25, np.nan, X)


@pytest.mark.parametrize(
    ("chunks", "message"),
    [
        ([], "at least 2 rows are needed, got 0"),
        ([(X[:0], Y[:0])], "at least 2 rows are needed, got 0"),
        ([(X[:1], Y[:1])], "at least 2 rows are needed, got 1"),
        ([(X, np.zeros(40))], r"y has only 1 class \(0.0\)"),
        ([(X[:2], Y[:2] * 0), (X[2:], Y[2:] * 0)], r"y has only 1 class \(0\)"),
        ([(X[:1], ["a"]), (X[1:2], ["b"])], "one similar and one dissimilar pair, got 0 and 1"),
        ([(X[:20], Y[:20]), (BAD[20:], Y[20:])], "chunk 1: Input X contains NaN"),
        ([(X[:20], Y[:20]), (X[20:, :3], Y[20:])], "chunk 1: X has 3 features, but GMML is expecting 5 features"),
        ([(X, Y[:30])], "chunk 0: Found input variables with inconsistent numbers of samples"),
        ([(X, Y + 0.5)], "chunk 0: y must hold classes, got continuous"),
        ([(X, None)], "chunk 0: .*requires y to be passed"),
        ([(X[:20], Y[:20]), (X[20:], Y[20:].astype(str))], "labels must be all numbers or all strings, got 0 and '0'"),
        ([(X, Y), (None, Y)], "chunk 1: Expected 2D array, got scalar array instead"),
        ([X], r"chunk 0: expected a tuple \(X, y\), got ndarray"),
    ],
)
def test_bad_chunks_are_named(chunks, message):
    with pytest.raises(ValueError, match=message):
        GMML().fit_chunks(chunks)


def lazy(array, chunks=15):
    return da.from_array(array, chunks=chunks)


@pytest.mark.parametrize(
    ("rows", "labels", "message"),
    [
        (lazy(X), None, "GMML requires y to be passed, but the target y is None"),
        (lazy(X)[lazy(X)[:, 0] > 0], lazy(Y), r"X has blocks of unknown length: call X.compute_chunk_sizes\(\) first"),
        (lazy(X), lazy(Y)[lazy(Y) > 0], r"y has blocks of unknown length: call y.compute_chunk_sizes\(\) first"),
        (lazy(X), lazy(Y[:30]), "one label for each of the 40 rows of X, got 30"),
        (lazy(X), lazy(Y)[:, None], r"y must have shape \(n,\), got 2 dimensions"),
        (lazy(Y), lazy(Y), r"X must have shape \(n, d\), got a Dask array of 1 dimension"),
        (lazy(X[:1]), lazy(Y[:1]), "at least 2 rows are needed, got 1"),
        (lazy(X[:0]), lazy(Y[:0]), "at least 2 rows are needed, got 0"),
        (lazy(X), lazy(Y * 0), r"y has only 1 class \(0\)"),
        (lazy(BAD), lazy(Y), "rows 15 to 29: Input X contains NaN"),
        (lazy(X), lazy(Y + 0.5), "rows .* to .*: y must hold classes, got continuous"),
    ],
)
def test_bad_dask_arrays_are_named(rows, labels, message):
    with pytest.raises(ValueError, match=message):
        GMML().fit(rows, labels)


def test_other_things_of_dask_are_named():
    with pytest.raises(TypeError, match="X must be an array, got a Dask Delayed"):
        GMML().fit(dask.delayed(X), Y)


@pytest.mark.slow
def test_nothing_else_needs_dask():
    code = (
        "import sys; sys.modules['dask'] = sys.modules['distributed'] = None\n"
        "import numpy as np; from certimetric import GMML, CertifiedKNeighborsClassifier, certified_radius\n"
        "X = np.random.default_rng(0).standard_normal((20, 2)); y = np.arange(20) % 2\n"
        "GMML().fit_chunks([(X[:9], y[:9]), (X[9:], y[9:])])\n"
        "knn = CertifiedKNeighborsClassifier(metric=GMML()).fit(X, y); knn.predict_with_radius(X); knn.kneighbors(X)\n"
        "certified_radius(knn.metric_, X, y)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
