"""Does anything flip inside a certificate? Random problems, attacked up to the radius itself; exit code 1 if so.

Problems are drawn over metrics (diagonal, well- and ill-conditioned up to 1e14, low rank, blind to features), norms
(l2, l∞, l1, ellipsoids, with fixed features, in units), scales from 1e-100 to 1e100, offsets, ties, duplicates, 1 to 7
neighbours of 3 instances and more, 1 to 4 classes, up to 200 features, float32 and integer input, data behind scalers,
queries on decision boundaries, and training instances that do not see themselves. The promise (docs/certificates.md)
is held against

* the predictor itself, at floating-point points whose size is at most the radius: random ones, those that pull the
  nearest opponents, the same with everything else moved as far as the norm allows, those towards witnesses;
* what the library's own attacks find, for a sample of the queries;
* rational arithmetic (`fractions`), for a sample of these points: size, distances and votes without any rounding;
* `minimal_perturbation`: lower ≤ radius, proven only where they meet, no flip below `lower`, none below a proven
  radius, witnesses where they are promised;
* decisions about pairs (`pair_radii`, `minimal_pair_changes`), at thresholds that are distances of pairs, close to
  them, or anywhere, and answers of `OpenSetKNeighborsClassifier`: the same points, and some without rounding;
* votes weighted by distance, and intervals and tolerances of means of numbers: the same points;
* votes of the parts of a gallery, under as many added and removed items as they are said to withstand;
* what cells of the training set prove, which is what a search in all of it gives, to the last digit;
* `counterfactuals`: within bounds and directions, of the wanted class, and nothing allowed below `lower` is of it.

Sizes are measured here, in 80-bit arithmetic rounded up, and not by the library.

Run: python benchmarks/soundness.py [--predictions 1e7] [--jobs 2] [--seed 0]
"""

import argparse
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction
from importlib.util import find_spec

import numpy as np
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler
from threadpoolctl import threadpool_limits

from certimetric import (
    CertifiedKNeighborsClassifier,
    CertifiedKNeighborsRegressor,
    MahalanobisMetric,
    OpenSetKNeighborsClassifier,
    certified_radius,
    in_original_units,
)
from certimetric.attacks import RegionAttack, SmoothedVoteAttack, ThreatModel
from certimetric.certify import counterfactuals, minimal_pair_changes
from certimetric.certify.pairs import PairCertifier, checked_pairs
from certimetric.certify.radius import bound_radii
from certimetric.certify.vicinity import Normed, Vicinity
from certimetric.geometry.cells import LARGEST, fits_single
from certimetric.geometry.diagonal import DiagonalMetric
from certimetric.geometry.norms import L1, L2, Ellipsoid, Linf

METRICS = ("identity", "diagonal", "well", "ill", "very ill", "worst", "low rank", "blind")
NORMS = ("l2", "linf", "l1", "ellipsoid", "restricted", "in units", "units, restricted")
DATA = ("clusters", "grid", "duplicates", "near duplicates", "constant feature")
DTYPES = ("float64", "float64", "float64", "float32", "int64")
QUERIES, POINTS = 100, 100  # of a problem, of a query
EXACT, RATIONAL = 12, 8  # queries of a problem
LEFT_OUT, ATTACKED, ADDED = 4, 3, 6  # the same
PAIRS = 40  # of a problem
WIDE = 30  # features from which programs are so large that few are solved
SCALERS = (
    StandardScaler,
    MinMaxScaler,
    MaxAbsScaler,
    RobustScaler,
    lambda: StandardScaler(with_mean=False),
    lambda: MinMaxScaler((-3.0, 1e6)),
)
SHARES = np.array([1.0, 1.0, 1.0, 1 - 1e-15, 1 - 1e-12, 1 - 1e-9, 0.999, 0.9, 0.5])
WITNESS = 1e-6  # relative distance beyond the radius that a witness may have, and a proven radius below `lower`


@dataclass(frozen=True)
class Problem:
    """A training set, queries, a metric and a norm; ``kind`` says of which category of each dimension."""

    kind: dict
    X: np.ndarray
    y: np.ndarray
    Q: np.ndarray
    L: np.ndarray
    norm: object
    mutable: np.ndarray
    units: np.ndarray
    matrix: np.ndarray | None
    order: float
    k: int

    def size(self, moved):
        """Upper bounds on the sizes of exact changes (c, d), in 80-bit arithmetic."""
        moved = moved.astype(np.longdouble)
        frozen = (moved[:, ~self.mutable] != 0).any(axis=1)
        moved = moved[:, self.mutable] / self.units[self.mutable].astype(np.longdouble)
        d = moved.shape[1] + 8
        if self.matrix is not None:
            A = self.matrix[np.ix_(self.mutable, self.mutable)].astype(np.longdouble)
            square = ((moved @ A) * moved).sum(axis=1)
            doubles = np.abs(moved).astype(float)
            slack = ((doubles @ np.abs(A).astype(float)) * doubles).sum(
                axis=1
            )  # half as much again is room for its own
            sizes = np.sqrt(np.maximum(square + 6 * d * 2.0**-64 * slack, 0))
        elif self.order == 2:
            sizes = np.sqrt((moved * moved).sum(axis=1))
        else:
            sizes = np.abs(moved).max(axis=1) if self.order == np.inf else np.abs(moved).sum(axis=1)
        sizes = sizes * (1 + np.longdouble(d) * 2.0**-62)
        return np.where(frozen, np.longdouble(np.inf), sizes)


def draw_problem(rng):
    """A random problem."""
    kind = {"metric": str(rng.choice(METRICS)), "norm": str(rng.choice(NORMS)), "data": str(rng.choice(DATA))}
    kind |= {"dtype": str(rng.choice(DTYPES)), "k": int(rng.integers(1, 8))}
    d, n, classes = int(rng.integers(1, 9)), int(rng.integers(8, 120)), int(rng.choice([1, 2, 2, 2, 3, 3, 3, 4]))
    shape = str(rng.choice(["usual", "few", "wide"], p=[0.75, 0.15, 0.1]))
    if shape == "few":
        n = int(rng.integers(3, 9))
        classes = min(classes, n)
    elif shape == "wide":
        d, n = int(rng.integers(WIDE, 201)), n // 3 + 4
    exponent = int(rng.integers(-8, 9))
    if rng.random() < 0.1 and kind["dtype"] == "float64":
        exponent = int(rng.choice([-100, 100]))
    scale = 10.0**exponent
    kind["shape"] = shape
    offset = float(rng.choice([0.0, 0.0, 1.0, 1e3, 1e6]))
    kind |= {"scale": f"1e{exponent:+d}", "offset": f"{offset:g}"}
    if kind["dtype"] == "int64":
        scale, kind["scale"] = 1.0, "1e+0"

    X = rng.standard_normal((n, d))
    y = np.append(np.arange(classes), rng.integers(0, classes, n - classes))
    X += rng.uniform(0, 2) * y[:, None] * rng.standard_normal(d)
    if kind["data"] == "grid":
        X = np.round(X)
    elif kind["data"] in ("duplicates", "near duplicates"):
        again = rng.integers(0, n, n // 3)
        X[: n // 3] = X[again]
        if kind["data"] == "near duplicates":
            X[: n // 3] += 1e-9 * rng.standard_normal((n // 3, d))
    elif kind["data"] == "constant feature" and d > 1:
        X[:, 0] = rng.standard_normal()
    if kind["dtype"] == "int64":
        X = np.round(X * 5)
    X = (X + offset * np.sign(rng.standard_normal(d))) * scale
    X = X.astype(kind["dtype"])

    a, b = X[rng.integers(0, n, QUERIES)].astype(float), X[rng.integers(0, n, QUERIES)].astype(float)
    Q = a + (0.3 * scale) * rng.standard_normal((QUERIES, d))
    for row in range(0, QUERIES, 4):  # on a boundary, or close to one
        own = y[rng.integers(0, n)]
        here, there = np.flatnonzero(y == own), np.flatnonzero(y != own)
        if len(there):
            one = X[rng.choice(here)].astype(float)
            other = X[there][np.abs(X[there].astype(float) - one).sum(axis=1).argmin()].astype(float)
            Q[row] = (one + other) / 2 + rng.choice([0.0, 1e-15, 1e-9]) * (other - one)
    Q[1::10] = b[1::10]  # training instances
    Q = Q.astype(kind["dtype"])

    L = _components(kind["metric"], d, rng)
    mutable, units, matrix = np.ones(d, dtype=bool), np.ones(d), None
    base, order = L2(), 2
    name = kind["norm"]
    if name in ("linf", "l1"):
        base, order = (Linf(), np.inf) if name == "linf" else (L1(), 1)
    elif name == "ellipsoid":
        matrix = _spd(d, 10.0 ** rng.uniform(0, 12), rng)
        base = Ellipsoid(matrix)
    elif name != "l2":
        base, order = [(L2(), 2), (Linf(), np.inf), (L1(), 1)][rng.integers(0, 3)]
    norm = base
    if "units" in name:
        units = 10.0 ** rng.uniform(-3, 3, d)
        norm = norm.in_units(units)
    if "restricted" in name:
        mutable = rng.random(d) < 0.6
        if kind["data"] == "constant feature":
            mutable[:] = False  # the only one that may change tells nothing
            mutable[0] = True
        mutable[rng.integers(0, d)] = True
        norm = norm.restrict(mutable)
    return Problem(kind, X, y, Q, L, norm, mutable, units, matrix, order, min(kind["k"], n))


def _components(name, d, rng):
    if name == "identity":
        return np.eye(d)
    if name == "diagonal":
        return np.diag(10.0 ** rng.uniform(-8, 0, d))
    U, V = (np.linalg.qr(rng.standard_normal((d, d)))[0] for _ in range(2))
    spread = {"well": 1.0, "ill": 5.0, "very ill": 10.0, "worst": 14.0}.get(name, 2.0)
    s = 10.0 ** rng.uniform(-spread, 0, d)
    s[0], s[-1] = 1.0, 10.0**-spread
    L = (U * s) @ V.T
    if name == "low rank":
        L = L[: max(1, d // 2)]
    elif name == "blind":
        L[:, rng.random(d) < 0.4] = 0.0
    return L * 10.0 ** rng.uniform(-3, 3)


def _spd(d, condition, rng):
    U = np.linalg.qr(rng.standard_normal((d, d)))[0]
    A = (U * condition ** -np.linspace(0, 1, d)) @ U.T
    return (A + A.T) / 2


def directions(problem, x, rng, count):
    """Unit changes of one query, (count, d): random ones and those that a flip would need."""
    norm, X, y, L = problem.norm, problem.X.astype(float), problem.y, problem.L
    d = X.shape[1]
    order = np.argsort((((X - x) @ L.T) ** 2).sum(axis=1), kind="stable")
    pulls = []
    near = order[: 4 + problem.k]
    for l in near[:8]:
        pulls += [X[l] - X[j] for j in near if y[j] != y[l]][:4]
    out = [norm.sample(rng, max(count // 4, 1), d)]
    if pulls:
        v = np.array(pulls) @ L.T @ L
        v = v[rng.integers(0, len(v), count - len(out[0]))]
        s = norm.dual_vector(v)
        noise = norm.sample(rng, len(s), d)
        mixed = rng.random(len(s)) < 0.5
        # What the pull leaves alone is moved as far as it goes, so that rounding is at its worst.
        weak = np.abs(v) <= 1e-3 * np.abs(v).max(axis=1, keepdims=True)
        heavy = np.where(weak, noise, s)
        size = norm.norm(heavy)[:, None]
        heavy = np.divide(heavy, size, out=s.copy(), where=(size > 0) & np.isfinite(size))
        out.append(np.where(mixed[:, None], heavy, s))
    found = np.vstack(out)
    towards = X[rng.choice(order[:6], 4)] - x
    towards[:, ~problem.mutable] = 0.0
    size = norm.norm(towards)
    towards = towards[(size > 0) & np.isfinite(size)] / size[(size > 0) & np.isfinite(size), None]
    return np.vstack([found, towards])


def points_within(problem, rows, steps, sizes):
    """Floating-point points at most ``sizes`` away: the steps (c, d) of size 1 times the sizes, drawn in if need be.

    Gives the points and which of them are within.
    """
    x = problem.Q[rows].astype(float)
    factor = np.ones(len(rows))
    for _ in range(6):
        with np.errstate(over="ignore", invalid="ignore"):
            points = x + steps * (sizes * factor)[:, None]
            size = problem.size(points.astype(np.longdouble) - x.astype(np.longdouble))
            within = (size <= sizes) & np.isfinite(points).all(axis=1)
            excess = np.where(within, 1.0, np.minimum(sizes / np.maximum(size, sizes), 1.0) * (1 - 2.0**-50))
        if within.all():
            break
        factor = factor * excess.astype(float)
    return points, within & (points != x).any(axis=1)


def metric_of(problem):
    """The metric of a problem, a diagonal one without a matrix."""
    if problem.kind["metric"] in ("identity", "diagonal"):
        return DiagonalMetric(np.diagonal(problem.L))
    return MahalanobisMetric.from_components(problem.L)


def check_problem(seed):
    """Counts, and what went wrong as texts, for one random problem."""
    rng = np.random.default_rng(seed)
    problem = draw_problem(rng)
    counts, wrong = Counter(), []
    metric = metric_of(problem)
    problem.kind["behind"] = "scalers" if rng.random() < 0.3 and problem.kind["dtype"] == "float64" else "nothing"
    if problem.kind["behind"] == "scalers":
        chosen = rng.choice(np.arange(len(SCALERS)), rng.integers(1, 3))
        last = CertifiedKNeighborsClassifier(problem.k, metric=metric)
        pipeline = make_pipeline(*(SCALERS[i]() for i in chosen), last).fit(problem.X, problem.y)
        classifier = in_original_units(pipeline, norm=problem.norm)
        problem = replace(problem, L=classifier.metric_.components)
        if (pipeline.predict(problem.Q) != classifier.predict(problem.Q)).any():
            wrong.append("labels behind scalers differ from those of the pipeline")
    else:
        classifier = CertifiedKNeighborsClassifier(problem.k, metric=metric, norm=problem.norm)
        classifier.fit(problem.X, problem.y)
        check_left_out(problem, metric, rng, counts, wrong)
    labels, radii = classifier.predict_with_radius(problem.Q)
    if np.isnan(radii).any() or (radii < 0).any() or (labels != classifier.predict(problem.Q)).any():
        wrong.append("a radius is no size, or labels differ from those of predict")
    counts["queries"] += len(radii)
    counts["certified"] += int((radii > 0).sum())
    counts["infinite"] += int(np.isinf(radii).sum())
    attacked = attack(problem, classifier, labels, radii, np.flatnonzero(radii > 0), rng, counts, wrong, "radius")
    if problem.kind["behind"] == "nothing":  # scaling rounds what stands for the training instances
        check_rationally(problem, classifier, radii, attacked, rng, counts, wrong)
    check_minimal(problem, classifier, labels, radii, rng, counts, wrong)
    apart = np.random.default_rng([seed, 1])  # so that the draws above stay what they were
    check_pairs(problem, metric_of(problem), apart, counts, wrong)
    check_open_set(problem, apart, counts, wrong)
    check_cells(problem, classifier, counts, wrong)
    check_sums(problem, np.random.default_rng([seed, 3]), counts, wrong)
    check_additions(problem, np.random.default_rng([seed, 4]), counts, wrong)
    check_counterfactuals(problem, classifier, labels, np.random.default_rng([seed, 2]), counts, wrong)
    return problem.kind, counts, wrong


def attack(problem, classifier, labels, radii, rows, rng, counts, wrong, name, count=POINTS, broken=np.not_equal):
    """Hold the predictions of points inside radii against those of the queries; gives rows and points.

    ``broken`` says of predictions and of the entries of ``labels`` for their queries which may not be.
    """
    if not len(rows):
        return np.zeros(0, dtype=int), problem.X[:0].astype(float)
    steps = [directions(problem, problem.Q[i].astype(float), rng, count) for i in rows]
    rows = np.repeat(rows, [len(s) for s in steps])
    sizes = radii[rows] * rng.choice(SHARES, len(rows))
    far = np.isinf(radii[rows])
    reach = np.abs(problem.X.astype(float)).max() + 1e-300
    sizes[far] = reach * 10.0 ** rng.uniform(-3, 9, far.sum())
    points, within = points_within(problem, rows, np.vstack(steps), sizes)
    rows, points = rows[within], points[within]
    if not len(rows):
        return rows, points
    flips = np.flatnonzero(broken(classifier.predict(points), labels[rows]))
    counts["predictions"] += len(rows)
    counts["flips"] += len(flips)
    if len(flips):
        i = rows[flips[0]]
        wrong.append(f"{len(flips)} flips within `{name}`, query {i}: {radii[i]!r}")
    return rows, points


def check_rationally(problem, classifier, radii, attacked, rng, counts, wrong):
    """Sizes and votes of some attacked points without rounding."""
    rows, points = attacked
    if not len(rows) or problem.X.shape[1] > 4 or len(problem.X) > 60:
        return
    L = _exact(problem.L)
    train = _exact(problem.X.astype(float))
    codes = np.searchsorted(classifier.classes_, problem.y)
    predicted = np.searchsorted(classifier.classes_, classifier.predict(problem.Q[rows]))
    for position in rng.choice(len(rows), min(RATIONAL, len(rows)), replace=False):
        i, point = rows[position], _exact(points[position])
        moved = point - _exact(problem.Q[i].astype(float))
        counts["rational"] += 1
        if np.isfinite(radii[i]) and not _at_most(problem, moved, Fraction(float(radii[i]))):
            wrong.append(f"soundness.py itself: a point is outside of the radius of query {i}")
        if not _holds(L, train, codes == predicted[position], point, problem.k):
            counts["flips"] += 1
            wrong.append(f"in rational arithmetic the vote hangs on a tie or is lost within the radius of query {i}")


def check_left_out(problem, metric, rng, counts, wrong):
    """Certificates of training instances that do not see themselves, held against votes without rounding."""
    X, y, k = problem.X.astype(float), problem.y, problem.k
    if X.shape[1] > 4 or len(X) > 20 or k >= len(X):
        return
    radii = certified_radius(metric, problem.X, y, n_neighbors=k, norm=problem.norm)
    problem, L, train = replace(problem, Q=X), _exact(problem.L), _exact(X)
    for i in rng.permutation(np.flatnonzero((radii > 0) & np.isfinite(radii)))[:LEFT_OUT]:
        others = np.arange(len(X)) != i
        # One class alone has the vote without a tie at the instance, or there is nothing to certify.
        won = [c for c in np.unique(y) if _holds(L, train[others], y[others] == c, train[i], k)]
        steps = directions(problem, X[i], rng, 8)
        rows = np.full(len(steps), i)
        points, within = points_within(problem, rows, steps, np.full(len(steps), radii[i]))
        for point in points[within]:
            counts["left out"] += 1
            if len(won) != 1 or not _holds(L, train[others], y[others] == won[0], _exact(point), k):
                counts["flips"] += 1
                wrong.append(f"left out, the vote is lost within the radius of training instance {i}")
                break


def _holds(L, train, own, point, k):
    """Whether the instances that are ``own`` win the vote at a point without rounding, whatever becomes of ties."""
    z = (train - point) @ L.T
    squares = (z * z).sum(axis=1)
    mine, others = np.sort(squares[own]), np.sort(squares[~own])
    enough, other = k // 2 + 1, (k + 1) // 2
    return len(others) < other or (len(mine) >= enough and mine[enough - 1] < others[other - 1])


def _exact(values):
    return np.vectorize(Fraction, otypes=[object])(values)


def _at_most(problem, moved, size):
    moved = moved[problem.mutable] / _exact(problem.units[problem.mutable])
    if problem.matrix is not None:
        return moved @ _exact(problem.matrix[np.ix_(problem.mutable, problem.mutable)]) @ moved <= size * size
    if problem.order == 2:
        return (moved * moved).sum() <= size * size
    return (max(abs(moved)) if problem.order == np.inf else sum(abs(moved))) <= size


def check_minimal(problem, classifier, labels, radii, rng, counts, wrong):
    """`minimal_perturbation` of some queries, held against its promises and against attacks."""
    wide = problem.X.shape[1] >= WIDE
    if problem.k > 3 or (problem.k > 1 and (wide or len(problem.X) > 40)):
        return
    rows = rng.choice(len(problem.Q), EXACT // 4 if wide else EXACT, replace=False)
    rows[0] = 0  # a boundary query
    found = classifier.minimal_perturbation(problem.Q[rows], time_limit=60.0, node_limit=60)
    size, lower, proven = found.radii, found.lower, found.proven
    counts["exact"] += len(rows)
    counts["proven"] += int(proven.sum())
    counts["verified"] += int(found.verified.sum())
    tiny = 1e-12 * np.abs(problem.X.astype(float)).max() / problem.units[problem.mutable].min()
    with np.errstate(invalid="ignore"):
        apart = proven & ~((lower >= size * (1 - 2 * WITNESS) - tiny) | (np.isinf(size) & np.isinf(lower)))
        for flags, text in (
            (~(lower <= size), "lower is above the radius"),
            (apart, "proven, but lower and radius do not meet"),
            (np.isinf(size) & (lower < np.inf) & proven, "an infinite radius is called proven and is not"),
            (radii[rows] > size * (1 + 1e-12), "the certified radius is above the smallest change"),
        ):
            if flags.any():
                counts["broken"] += int(flags.sum())
                wrong.append(f"minimal_perturbation: {text}: query {rows[flags.argmax()]}")
    sure = np.zeros(len(problem.Q))
    sure[rows] = lower
    attack(problem, classifier, labels, sure, rows[lower > 0], rng, counts, wrong, "lower", count=40)
    sure[rows] = np.where(proven & np.isfinite(size), size * (1 - 2 * WITNESS) - tiny, 0)
    attack(problem, classifier, labels, sure, rows[sure[rows] > 0], rng, counts, wrong, "proven radius", count=40)
    sure[rows] = np.maximum(lower, radii[rows])
    check_attacks(problem, classifier, labels, sure, rows[np.isfinite(sure[rows])][:ATTACKED], rng, counts, wrong)
    kept = np.flatnonzero(found.verified)
    if len(kept):
        witnesses, start = found.witnesses[kept], problem.Q[rows[kept]].astype(float)
        moved = problem.size(witnesses.astype(np.longdouble) - start.astype(np.longdouble))
        counts["forced"] += int((found.tolerance[kept] > 0).sum())
        beyond = moved > (size[kept] * (1 + WITNESS) + found.tolerance[kept]) * (1 + 1e-9)
        missed = classifier.predict(witnesses) == labels[rows[kept]]
        for flags, text in ((beyond, "lies beyond 1e-6 of the radius"), (missed, "does not flip")):
            if flags.any():
                counts["broken"] += int(flags.sum())
                wrong.append(f"minimal_perturbation: a verified witness {text}: query {rows[kept[flags.argmax()]]}")


def check_attacks(problem, classifier, labels, sure, rows, rng, counts, wrong):
    """Attacks of the library: what they find is farther off than every lower bound."""
    large = problem.X.shape[1] >= WIDE or np.abs(problem.X.astype(float)).max() > 1e70  # fourth powers overflow
    if large or not len(rows) or rng.random() > 0.25:
        return
    queries = problem.Q[rows].astype(float)
    for method in (RegionAttack(n_opponents=4), SmoothedVoteAttack()):
        found = method(classifier, queries, threat=problem.norm)
        counts["attacks"] += len(rows)
        size = problem.size(found.adversarial.astype(np.longdouble) - queries.astype(np.longdouble))
        inside = found.success & (size <= sure[rows])
        for i in rows[inside & (classifier.predict(found.adversarial) != labels[rows])]:
            counts["flips"] += 1
            wrong.append(f"{method} flips query {i} within its lower bound {sure[i]!r}")


def check_pairs(problem, metric, rng, counts, wrong):
    """Decisions of pairs, each held against those at points within its radius, computed in two ways and exactly."""
    if np.abs(problem.X.astype(float)).max() > 1e70:
        return
    m = PAIRS // 10 if problem.X.shape[1] >= WIDE else PAIRS
    rows = rng.integers(0, len(problem.Q), m)
    probes, enrolled = problem.Q[rows].astype(float), problem.X[rng.integers(0, len(problem.X), m)].astype(float)
    certifier = PairCertifier(metric)
    distances = certifier.distances(checked_pairs(metric, (probes, enrolled))[0])
    own = rng.permutation(distances)[0]
    factor = rng.choice([1.0, 1.0, 1 + 1e-15, 1 - 1e-9, 0.5, rng.uniform(0, 2), 1e-12, 1e6])
    t = float(rng.choice([own, np.median(distances), 0.0], p=[0.5, 0.45, 0.05]) * factor)
    accepted, radii = certifier.certify(checked_pairs(metric, (probes, enrolled))[0], t, problem.norm)
    if np.isnan(radii).any() or (radii < 0).any() or (accepted != (distances <= t)).any():
        wrong.append("a radius of a pair is no size, or decisions differ from those by distance")
    counts["pairs"] += m
    found = minimal_pair_changes(metric, (probes, enrolled), t, norm=problem.norm)
    meet = ~found.proven | (found.lower >= found.radii * (1 - 2 * WITNESS)) | np.isinf(found.lower)
    if not ((radii <= found.lower) & (found.lower <= found.radii) & meet).all():
        counts["broken"] += 1
        wrong.append("minimal_pair_changes: the certificate, lower and the radius are out of order")
    sure = found.lower
    ends, of = [], []
    for i in np.flatnonzero(sure > 0):
        slope = (probes[i] - enrolled[i]) @ problem.L.T @ problem.L
        extra = np.vstack([problem.norm.dual_vector(slope), -problem.norm.dual_vector(slope),
                           found.witnesses[i] - probes[i]])  # fmt: skip
        noise = problem.norm.sample(rng, 2 * len(extra), len(slope))
        weak = np.abs(slope) <= 1e-3 * np.abs(slope).max()
        steps = np.vstack(
            [extra, np.where(weak, noise, np.repeat(extra, 2, axis=0)), problem.norm.sample(rng, 20, len(slope))]
        )
        size = problem.norm.norm(steps)
        steps = steps[(size > 0) & np.isfinite(size)] / size[(size > 0) & np.isfinite(size), None]
        ends.append(steps)
        of.append(np.full(len(steps), i))
    if not ends:
        return
    of = np.concatenate(of)
    sizes = sure[of] * rng.choice(SHARES, len(of))
    far = np.isinf(sizes)
    sizes[far] = (np.abs(problem.X.astype(float)).max() + 1e-300) * 10.0 ** rng.uniform(-3, 9, far.sum())
    points, within = points_within(replace(problem, Q=probes), of, np.vstack(ends), sizes)
    of, points = of[within], points[within]
    within_reach = np.abs(points).max(axis=1, initial=0.0) < 1e74
    of, points = of[within_reach], points[within_reach]
    if not len(of):
        return
    now = certifier.distances(checked_pairs(metric, (points, enrolled[of]))[0]) <= t
    with np.errstate(all="ignore"):
        flips = (now != accepted[of]) | ((metric.distance(points, enrolled[of]) <= t) != accepted[of])
    counts["predictions"] += len(of)
    counts["pair points"] += len(of)
    counts["flips"] += int(flips.sum())
    if flips.any():
        i = of[flips.argmax()]
        wrong.append(f"{int(flips.sum())} decisions of pairs flip within {sure[i]!r} (t={t!r}, d={distances[i]!r})")
    if len(problem.X[0]) <= 4 and len(problem.L) <= 6:
        L = _exact(problem.L)
        for position in rng.choice(len(of), min(RATIONAL, len(of)), replace=False):
            z = L @ (_exact(points[position]) - _exact(enrolled[of[position]]))
            counts["rational"] += 1
            if ((z * z).sum() <= Fraction(t) ** 2) != accepted[of[position]]:
                counts["flips"] += 1
                wrong.append("in rational arithmetic the decision of a pair is lost within its radius")


def check_open_set(problem, rng, counts, wrong):
    """Answers of an open-set classifier, attacked as those of the others are."""
    metric = metric_of(problem)
    options = {"metric": metric, "norm": problem.norm, "unknown": -1}
    classifier = OpenSetKNeighborsClassifier(problem.k, **options).fit(problem.X, problem.y)
    nearest = classifier.kneighbors(problem.Q, 1)[0][:, 0]
    classifier.threshold_ = float(rng.permutation(nearest)[0] * rng.choice([1.0, 1.0, 0.5, 1 + 1e-12]))
    labels, radii = classifier.predict_with_radius(problem.Q)
    if np.isnan(radii).any() or (radii < 0).any() or (labels != classifier.predict(problem.Q)).any():
        wrong.append("a radius of an open-set answer is no size, or answers differ from those of predict")
    rows = np.flatnonzero(radii > 0)
    attack(problem, classifier, labels, radii, rows, rng, counts, wrong, "open set", count=30)


def check_cells(problem, classifier, counts, wrong):
    """What cells prove of the queries, held against the search in all rows: the same to the last digit."""
    reference, k = classifier.reference_, problem.k
    queries = np.ascontiguousarray(problem.Q, dtype=float)
    points, errors = reference.embed(queries)
    norm, exponent = reference.in_range(problem.norm)
    if exponent or len(problem.X) <= 2 * k or not (np.abs(points).max() < LARGEST and fits_single(reference.points)):
        return
    codes, radii = bound_radii(reference, queries, k, problem.norm)
    vicinity = Vicinity(reference.points, reference.y)
    normed = Normed.of(vicinity.cells, reference.kernel_data(norm), float(norm.dual_order))
    found, sizes = vicinity.certify(normed, points, errors, k, np.full(len(points), -1), 2**24, 1)
    known = found >= 0
    counts["by cells"] += int(known.sum())
    differ = known & ((found != codes) | (sizes != radii))
    if differ.any():
        counts["broken"] += int(differ.sum())
        wrong.append(f"cells: another label or radius than over all rows: query {differ.argmax()}")


def check_sums(problem, rng, counts, wrong):
    """Votes by distance, and means of numbers with their intervals and tolerances, attacked as the others are."""
    options = {"metric": metric_of(problem), "norm": problem.norm}
    voting = CertifiedKNeighborsClassifier(problem.k, weights="distance", **options).fit(problem.X, problem.y)
    labels, radii = voting.predict_with_radius(problem.Q)
    if np.isnan(radii).any() or (radii < 0).any() or (labels != voting.predict(problem.Q)).any():
        wrong.append("a radius of votes by distance is no size, or labels differ from those of predict")
    attack(problem, voting, labels, radii, np.flatnonzero(radii > 0), rng, counts, wrong, "by distance", count=30)
    means = CertifiedKNeighborsRegressor(problem.k, **options)
    means.fit(problem.X, problem.y + rng.integers(0, 3, len(problem.y)) * 0.1)
    predicted, tolerance = means.predict(problem.Q), float(rng.choice([0.0, 0.1, 0.4]))
    radii = means.certified_radius(problem.Q, tolerance)
    held = np.flatnonzero(radii > 0)
    counts["sums"] += len(labels) + len(held)
    attack(
        *(problem, means, predicted, radii, held, rng, counts, wrong, "mean"),
        count=15,
        broken=lambda found, before: np.abs(found - before) > tolerance,
    )
    if np.isfinite(radii[held]).any():
        eps = float(np.median(radii[held][np.isfinite(radii[held])]))
        bounds, every = np.column_stack(means.predict_interval(problem.Q, eps)), np.arange(len(radii))
        attack(
            *(problem, means, bounds, np.full(len(radii), eps), every, rng, counts, wrong, "interval"),
            count=15,
            broken=lambda found, between: (found < between[:, 0]) | (found > between[:, 1]),
        )


def check_additions(problem, rng, counts, wrong):
    """Items added anywhere in a gallery, at queries and beside them, and others removed: no certified vote changes."""
    X, Q = problem.X.astype(float), problem.Q[:ADDED].astype(float)
    if find_spec("torch") is None or np.abs(X).max() > 1e70 or rng.random() > 0.25:
        return
    from certimetric.deep import certify_additions  # torch is an extra

    told = {"n_parts": int(rng.integers(1, 20)), "metric": str(rng.choice(["euclidean", "cosine"]))}
    found = certify_additions(Q, X, problem.y, **told)
    for i in np.flatnonzero(found.certified > 0):
        for _ in range(3):
            n_removed = min(int(rng.integers(0, found.certified[i] + 1)), len(X) - 1)
            kept = np.sort(rng.choice(len(X), len(X) - n_removed, replace=False))
            places = rng.integers(0, len(kept) + 1, found.certified[i] - n_removed)
            near = Q[i] + rng.choice([0.0, 1e-9, 1e-3]) * np.abs(X).max() * rng.standard_normal(
                (len(places), len(Q[i]))
            )
            items = np.insert(X[kept], places, near, axis=0)
            labels = np.insert(problem.y[kept], places, rng.integers(0, problem.y.max() + 2, len(places)))
            counts["additions"] += 1
            if certify_additions(Q[[i]], items, labels, **told).predictions[0] != found.predictions[i]:
                counts["flips"] += 1
                wrong.append(f"{len(places)} added and {n_removed} removed items change the vote of query {i}")


def check_counterfactuals(problem, classifier, labels, rng, counts, wrong):
    """Changes within bounds and directions: made as allowed, and none that is allowed and below `lower` leads there."""
    d, scale = problem.X.shape[1], float(np.abs(problem.X.astype(float)).max())
    if d > 4 or len(problem.X) > 40 or problem.k > 3 or not 1e-8 < scale < 1e8:
        return
    rows = rng.choice(len(problem.Q), 2, replace=False)
    queries = problem.Q[rows].astype(float)
    low, high = queries.min(axis=0) - scale * rng.random(d), queries.max(axis=0) + scale * rng.random(d)
    name, sense = str(rng.choice(["l2", "linf", "l1"])), rng.choice([-1, 0, 0, 1], d)
    direction = {j: "increase" if sense[j] > 0 else "decrease" for j in np.flatnonzero(sense).tolist()}
    threat = ThreatModel(name, bounds=(low, high), direction=direction)
    wanted = rng.choice([None, *classifier.classes_.tolist()])
    limits = {"time_limit": 60.0, "node_limit": 40}
    found = counterfactuals(classifier, queries, wanted=wanted, constraints=threat, **limits)
    order = {"l2": 2, "linf": np.inf, "l1": 1}[name]
    for x, label, point, reached, lower, size in zip(
        queries, labels[rows], found.points, found.found, found.lower, found.distances
    ):
        counts["changes"] += 1
        tried = np.vstack([x + scale * rng.standard_normal((60, d)), problem.X.astype(float), point])
        steps = tried - x
        lengths = np.linalg.norm(steps, order, axis=1)
        steps = steps[lengths > 0] / lengths[lengths > 0, None]
        tried = np.clip(x + min(lower, 9.0 * scale) * rng.choice(SHARES, (len(steps), 1)) * steps, low, high)
        tried = np.where(sense > 0, np.maximum(tried, x), np.where(sense < 0, np.minimum(tried, x), tried))
        moved = np.linalg.norm(tried.astype(np.longdouble) - x, order, axis=1)
        answers = classifier.predict(np.vstack([tried, point]))
        there = answers != label if wanted is None else answers == wanted
        counts["predictions"] += len(tried)
        legal = ((low <= point) & (point <= high) & ((point - x) * sense >= 0)).all()
        if (there[:-1] & (moved < lower)).any() or not lower <= size or not legal or (reached and not there[-1]):
            counts["broken"] += 1
            wrong.append(f"counterfactuals: below lower, out of limits or of another class: lower {lower!r}")


def run(seeds):
    """Some problems in this process, one thread."""
    with threadpool_limits(1):
        return [(seed, *check_problem(seed)) for seed in seeds]


def main(arguments=None):
    """Parse the command line, run, print counts by category; give the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--predictions", type=float, default=1e7, help="attacked predictions after which to stop")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0, help="of the first problem; the next ones count on")
    chosen = parser.parse_args(arguments)
    started, total, tables, violations = time.monotonic(), Counter(), {}, []
    told = started
    with ProcessPoolExecutor(chosen.jobs) as pool:
        seed, waiting = chosen.seed, []
        while total["predictions"] < chosen.predictions:
            while len(waiting) < 2 * chosen.jobs:
                waiting.append(pool.submit(run, range(seed, seed + 4)))
                seed += 4
            for number, kind, counts, wrong in waiting.pop(0).result():
                total.update(counts, problems=1)
                violations += [(number, kind, text) for text in wrong]
                for dimension, value in kind.items():
                    table = tables.setdefault(dimension, {})
                    table.setdefault(str(value), Counter()).update(counts, problems=1, wrong=len(wrong))
            if time.monotonic() > told + 10:
                told = time.monotonic()
                done = f"{total['problems']} problems, {total['predictions']:,} predictions"
                print(f"{done}, {len(violations)} violations, {told - started:.0f} s", file=sys.stderr)
        for future in waiting:
            future.cancel()
    columns = ("problems", "queries", "certified", "infinite", "predictions", "rational", "exact", "proven", "verified")
    columns += (
        "forced",
        "left out",
        "attacks",
        "pairs",
        "pair points",
        "by cells",
        "sums",
        "additions",
        "changes",
        "wrong",
    )
    total["wrong"] = len(violations)
    for dimension, table in [*tables.items(), ("all", {"": total})]:
        print(f"\n{dimension:<18}" + "".join(f"{column:>12}" for column in columns))
        for value, counts in sorted(table.items()):
            print(f"{value:<18}" + "".join(f"{counts[column]:>12,}" for column in columns))
    seconds = time.monotonic() - started
    print(f"\n{total['predictions']:,} attacked predictions in {seconds:.0f} s, {chosen.jobs} processes.")
    for number, kind, text in violations[:40]:
        print(f"VIOLATION (seed {number}, {', '.join(f'{k} {v}' for k, v in kind.items())}): {text}")
    print(f"{len(violations)} violations.")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
