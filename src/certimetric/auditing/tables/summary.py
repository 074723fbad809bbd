"""Figures of the audit from its cells: per split, over splits with intervals, per class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t

from certimetric.auditing.tables.request import Request
from certimetric.auditing.tables.table_request import TableRequest
from certimetric.base.arrays import Array, Indices
from certimetric.report.changes.outcomes import digest_of, pack
from certimetric.runs.key import told
from certimetric.runs.splitting import RANDOM

Cell = dict[str, Any]

N_EPS = 41
LARGEST_SHARE = 0.8
_ROUND = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)


def finished(cells: Sequence[Cell]) -> list[Cell]:
    """The cells that did not fail."""
    return [cell for cell in cells if "failed" not in cell]


def true_codes(request: Request, cell: Cell) -> Indices:
    """Class codes of the test instances of a cell."""
    return request.codes[request.rows(cell["split"])[1]]


def correctness_radii(request: Request, cell: Cell) -> Array:
    """Certified radii of the right predictions of a cell; −1 where the prediction is wrong.

    Wrong is not the same as right with a radius of 0: the latter counts at ε = 0.
    """
    right = np.array(cell["predicted"]) == true_codes(request, cell)
    return np.where(right, np.array([float(radius) for radius in cell["radii"]]), -1.0)


def certified_accuracy(radii: Array, eps: float) -> float:
    """Share of instances that are right and stay so within ε."""
    return float((radii >= eps).mean())


def confusions(request: Request, cells: Sequence[Cell]) -> list[list[int]]:
    """``[class, answer, count]`` for every answer that was given to some class, as positions in the classes."""
    if not cells:
        return []
    n = len(request.classes)
    told = np.concatenate([n * true_codes(request, cell) + np.array(cell["predicted"]) for cell in cells])
    pairs, counts = np.unique(told, return_counts=True)
    return [[*divmod(pair, n), count] for pair, count in zip(pairs.tolist(), counts.tolist())]


def balanced_accuracy(codes: Indices, right: NDArray[np.bool_]) -> float:
    """Mean over the classes that are there of the share of their instances that is told right."""
    counts = np.bincount(codes)
    found = np.bincount(codes, weights=right)
    return float((found[counts > 0] / counts[counts > 0]).mean())


def is_imbalanced(request: Request) -> bool:
    """Whether more than 80 % of the instances are of one class: an error then says little about the others."""
    return bool(np.bincount(request.codes).max() > LARGEST_SHARE * len(request.codes))


def majority_baseline(request: Request) -> dict[str, Any]:
    """What always answering the most frequent class of the training part gives, in the mean over splits.

    Its answer never changes, so its accuracy is certified at every ε.
    """
    # At random, class by class, it is the same in every split.
    splits = [request.splitting.indices(i) for i in range(1 if request.splitting.kind == RANDOM else request.repeats)]
    answers = [int(np.bincount(request.codes[train]).argmax()) for train, _ in splits]
    rights = [request.codes[test] == answer for answer, (_, test) in zip(answers, splits)]
    balanced = [balanced_accuracy(request.codes[test], right) for right, (_, test) in zip(rights, splits)]
    return {
        "class": request.classes[answers[0]],
        "error": float(np.mean([(~right).mean() for right in rights])),
        "balanced_accuracy": float(np.mean(balanced)),
    }


def median_radius(radii: Array) -> float:
    """Median of the correctness radius in one split; a wrong prediction counts as 0."""
    return float(np.median(np.maximum(radii, 0.0)))


def mean_median_radius(radii: Sequence[Array]) -> float:
    """The median radius of table, figures and thresholds: the mean over splits of the median in each."""
    return float(np.mean([median_radius(some) for some in radii]))


def interval(values: Sequence[float], *, share: bool = False) -> dict[str, Any]:
    """Mean, standard deviation and 95 % t-interval over splits, cut to the values that are possible.

    Examples
    --------
    >>> {key: round(value, 3) for key, value in interval([0.1, 0.2, 0.3]).items()}
    {'mean': 0.2, 'std': 0.1, 'low': 0.0, 'high': 0.448}
    >>> interval([0.5])
    {'mean': 0.5, 'std': None, 'low': None, 'high': None}
    """
    n = len(values)
    mean = float(np.mean(values))
    if n == 1 or not math.isfinite(mean):
        return {"mean": told(mean), "std": None, "low": None, "high": None}
    std = float(np.std(values, ddof=1))
    half = float(t.ppf(0.975, n - 1)) * std / math.sqrt(n)
    high = mean + half
    return {"mean": mean, "std": std, "low": max(mean - half, 0.0), "high": min(high, 1.0) if share else high}


def choose_eps(request: TableRequest, radii: Sequence[Sequence[Array]]) -> tuple[list[float], float]:
    """Radii of the certified-accuracy curve, and the one that table and verdict quote.

    Given radii are taken as they are, and the middle one (of an even number, the upper of the two) is quoted. Without
    them the curve has 41 points from 0 to a round number beyond the largest 95 % quantile of a learner's radii, and
    the quoted radius is the largest of 1, 2, 5 × 10^k that is not above the median over learners of the median radius;
    it is added to the curve where it is not among its points.

    ``radii`` are the correctness radii for each learner and finished split.
    """
    if request.eps is not None:
        return list(request.eps), request.eps[len(request.eps) // 2]
    pooled = [np.maximum(np.concatenate(some), 0.0) for some in radii if len(some)]
    tails = [np.quantile(some[np.isfinite(some)], 0.95) for some in pooled if np.isfinite(some).any()]
    largest = max(tails, default=0.0)
    end = _round_up(largest) if largest > 0 else 1.0
    medians = [mean_median_radius(some) for some in radii if len(some)]
    middle = min(float(np.median(medians)), end) if medians else 0.0
    quoted = _round_down(middle if middle > 0 else end / 4)
    # Twelve decimals tell 0.1 + 0.2 as 0.3 without hiding small radii.
    points = {float(f"{eps:.12g}") for eps in np.linspace(0.0, end, N_EPS)}
    return sorted(points | {quoted}), quoted


def _round_up(value: float) -> float:
    exponent = math.floor(math.log10(value))
    return next(float(f"{m}e{exponent}") for m in _ROUND if float(f"{m}e{exponent}") >= value * (1 - 1e-12))


def _round_down(value: float) -> float:
    exponent = math.floor(math.log10(value))
    found = [m for m in (1, 2, 5) if float(f"{m}e{exponent}") <= value * (1 + 1e-12)]
    return float(f"{found[-1]}e{exponent}") if found else float(f"5e{exponent - 1}")


def tell_split(request: Request, cell: Cell, radii: Array | None, eps: Sequence[float]) -> dict[str, Any]:
    """One split of one learner as the document has it."""
    if radii is None:
        return {"split": cell["split"], "failed": cell["failed"]}
    return {
        **{key: cell[key] for key in ("split", "n_train", "n_test", "error", "noise_error")},
        "balanced_accuracy": balanced_accuracy(true_codes(request, cell), radii >= 0),
        "certified_accuracy": [certified_accuracy(radii, size) for size in eps],
        "balanced_certified": [balanced_accuracy(true_codes(request, cell), radii >= size) for size in eps],
        "median_radius": told(median_radius(radii)),
        "fit_seconds": cell["fit_seconds"],
        "n_iter": cell["n_iter"],
        **({"search": cell["search"]} if "search" in cell else {}),
    }


def summarise(splits: Sequence[dict[str, Any]], within: dict[str, Any] | None = None) -> dict[str, Any] | None:
    """Figures over the splits that finished; None if there are none.

    ``within`` holds the ends of the intervals of a single one, where the test instances are a sample.
    """
    done = finished(splits)
    if not done:
        return None
    shares: dict[str, Any] = {
        key: interval([split[key] for split in done], share=True) for key in ("error", "balanced_accuracy")
    }
    for key in ("noise_error", "certified_accuracy", "balanced_certified"):
        shares[key] = [interval(values, share=True) for values in zip(*(split[key] for split in done))]
    others = {key: interval([float(split[key]) for split in done]) for key in ("median_radius", "fit_seconds")}
    found = shares | others
    for key, ends in (within or {}).items():
        found[key] = [a | b for a, b in zip(found[key], ends)] if isinstance(ends, list) else found[key] | ends
    return found


def tested(request: Request) -> dict[str, Any]:
    """Which rows are tested in which split, and how many: other audits of the same rows compare with this in pairs."""
    rows = [request.rows(i)[1] for i in range(request.repeats)]
    n = len(np.unique(np.concatenate(rows)))
    return {"sha256": digest_of(*rows), "rows": n, "tests": sum(map(len, rows))}


def outcomes(request: Request, radii: Sequence[Array], eps: float) -> dict[str, str | None]:
    """How often each tested row was wrong, and certified right at ``eps``, over all splits; none where one failed."""
    if len(radii) < request.repeats:
        return {}
    rows = np.concatenate([request.rows(i)[1] for i in range(request.repeats)])
    found, pooled = np.unique(rows), np.concatenate(radii)
    hits = {"error": pooled < 0, "certified_accuracy": pooled >= eps}
    places = np.searchsorted(found, rows)
    return {name: pack(np.bincount(places[hit], minlength=len(found))) for name, hit in hits.items()}


def radius_quantiles(radii: Sequence[Array]) -> list[float | str] | None:
    """Quantiles 0, 1, …, 100 % of the correctness radius over all test instances of all splits."""
    if not len(radii):
        return None
    pooled = np.maximum(np.concatenate(radii), 0.0)
    # A quantile that is one of the values needs no mean of a finite and an infinite radius.
    quantiles: ArrayLike = np.quantile(pooled, np.linspace(0, 1, 101), method="inverted_cdf")
    return [told(value) for value in np.asarray(quantiles)]


def per_class(request: Request, cells: Sequence[Cell], radii: Sequence[Array], eps: float) -> list[dict[str, Any]]:
    """Figures of every class that was tested, over all splits, the worst first.

    ``error`` and ``recall`` are the shares of its instances that are told wrong and right, ``precision`` the share of
    the instances told to be of it that are (None where none is), ``predicted`` how many are. ``certified`` is the share
    of its instances that is told right and stays so within ``eps``.
    """
    if not cells:
        return []
    codes = [true_codes(request, cell) for cell in cells]
    predicted = np.bincount(np.concatenate([cell["predicted"] for cell in cells]), minlength=len(request.classes))
    rows = []
    for code, name in enumerate(request.classes):
        own = [some[truth == code] for some, truth in zip(radii, codes)]
        count, right = sum(map(len, own)), sum(int((some >= 0).sum()) for some in own)
        if count:
            rows.append(
                {
                    "class": name,
                    "count": count,
                    "error": (count - right) / count,
                    "recall": right / count,
                    "precision": right / int(predicted[code]) if predicted[code] else None,
                    "predicted": int(predicted[code]),
                    "certified": sum(int((some >= eps).sum()) for some in own) / count,
                    "median_radius": told(mean_median_radius(own)),
                }
            )
    return sorted(rows, key=lambda row: (-row["error"], float(row["median_radius"])))
