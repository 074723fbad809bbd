"""What a metric is chosen by: criteria over rows that candidates were not fitted on, each row judged once by each."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from certimetric.base.arrays import Array, Indices
from certimetric.base.wording import did_you_mean
from certimetric.certify.classifier import CertifiedKNeighborsClassifier

EPS_SHARE = 0.5  # of the Euclidean median radius: the ε that "balanced" quotes
CAUTION = 0.5  # standard deviations by which "balanced" lets a candidate's wrong rows exceed the Euclidean ones
KINDS = {"error": False, "noise": True, "certified": True, "balanced": False}
"""Kinds of criteria, and whether each is taken at a size."""


@dataclass(frozen=True)
class Fold:
    """Rows to fit on and rows to judge by, with class codes."""

    X: Array
    codes: Indices
    X_test: Array
    codes_test: Indices


@dataclass(frozen=True)
class Judged:
    """What k-NN under a candidate does with the judging rows of a fold.

    ``right`` tells which are predicted right, ``noisy`` which under noise, ``radii`` are certified radii of the
    predictions; the latter two are None where nobody asked.
    """

    right: NDArray[np.bool_]
    noisy: NDArray[np.bool_] | None = None
    radii: Array | None = None

    @classmethod
    def joined(cls, parts: Sequence[Judged]) -> Judged:
        """The rows of several folds together."""

        def join(name: str) -> Any:
            values = [getattr(part, name) for part in parts]
            return None if values[0] is None else np.concatenate(values)

        return cls(join("right"), join("noisy"), join("radii"))

    def certified(self, eps: float) -> float:
        """Share of rows that are right and stay so within ε."""
        assert self.radii is not None
        return float((self.right & (self.radii >= eps)).mean())

    def median_radius(self) -> float:
        """Median certified radius, a wrong row counting as 0; of the right rows alone, where half are wrong."""
        assert self.radii is not None
        median = float(np.median(np.where(self.right, self.radii, 0.0)))
        return median or (float(np.median(self.radii[self.right])) if self.right.any() else 0.0)


def judge(
    learner: Any,
    fold: Fold,
    n_neighbors: int,
    *,
    norm: Any = "l2",
    with_radii: bool = False,
    noise: Array | None = None,
) -> Judged | None:
    """Fit a learner on a fold and judge it; None where it cannot be fitted there.

    Parameters
    ----------
    learner : learner
        Unfitted; it is cloned.
    fold : Fold
    n_neighbors : int
        k, or all rows of the fold where they are fewer.
    norm : str or Norm
        Of the radii.
    with_radii : bool
    noise : array of the shape of ``fold.X_test``, optional
        What is added for ``noisy``.
    """
    classifier = CertifiedKNeighborsClassifier(min(n_neighbors, len(fold.X)), metric=learner, norm=norm)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the fit on all rows will say what is wrong
        try:
            classifier.fit(fold.X, fold.codes)
        except (ValueError, np.linalg.LinAlgError):
            return None
        noisy = None if noise is None else classifier.predict(fold.X_test + noise) == fold.codes_test
        if not with_radii:
            return Judged(classifier.predict(fold.X_test) == fold.codes_test, noisy)
        predicted, radii = classifier.predict_with_radius(fold.X_test)
        return Judged(predicted == fold.codes_test, noisy, radii)


@dataclass(frozen=True)
class Criterion:
    """What a metric is chosen by: a kind of :data:`KINDS` and its size.

    Examples
    --------
    >>> Criterion.parse("certified@0.5")
    Criterion(kind='certified', at=0.5)
    """

    kind: str
    at: float | None = None

    @classmethod
    def parse(cls, text: Any) -> Criterion:
        """Read "error", "noise@SIGMA", "certified@EPS" or "balanced".

        Raises
        ------
        ValueError
            If it is none of these, or the size is no finite number of at least 0.
        """
        kind, found, size = str(text).partition("@")
        if kind not in KINDS:
            raise ValueError(
                f"criterion must be error, noise@SIGMA, certified@EPS or balanced, got {text!r}"
                f"{did_you_mean(kind, KINDS)}"
            )
        if not KINDS[kind]:
            if found:
                raise ValueError(f"criterion {kind!r} is taken at no size, got {text!r}")
            return cls(kind)
        try:
            at = float(size)
        except ValueError:
            at = -1.0
        if not np.isfinite(at) or at < 0:
            raise ValueError(f"criterion {kind!r} needs a size of at least 0, such as {kind}@0.5, got {text!r}")
        return cls(kind, at)

    @property
    def sigma(self) -> float | None:
        """Standard deviation of the noise to judge under, if any."""
        return self.at if self.kind == "noise" else None

    @property
    def with_radii(self) -> bool:
        """Whether it looks at certified radii."""
        return self.kind in ("certified", "balanced")

    def eps(self, reference: Judged | None) -> float | None:
        """The ε at which candidates are certified; ``reference`` is how the Euclidean distance does."""
        if self.kind != "balanced":
            return self.at
        assert reference is not None
        return EPS_SHARE * reference.median_radius()

    def score(self, judged: Judged, eps: float | None) -> float:
        """The share of rows that counts: the more, the better."""
        if self.with_radii:
            assert eps is not None
            return judged.certified(eps)
        rows = judged.right if self.kind == "error" else judged.noisy
        assert rows is not None
        return float(rows.mean())

    def admits(self, judged: Judged, reference: Judged | None) -> bool:
        """Whether a candidate may be chosen: by "balanced" only where it does not err more than the Euclidean distance.

        Rows that both tell right or wrong say nothing (McNemar). Of the others, as many are as likely to be wrong by
        either if they err alike; the candidate is out where its own exceed the others by more than :data:`CAUTION`
        standard deviations. That is far stricter than significance: it is to hold on rows that nobody has seen.
        """
        if self.kind != "balanced":
            return True
        assert reference is not None
        worse = int((reference.right & ~judged.right).sum())
        better = int((judged.right & ~reference.right).sum())
        return bool(worse - better <= CAUTION * np.sqrt(worse + better))


def order(scores: Iterable[float], admitted: Iterable[bool]) -> list[int]:
    """Positions from the best: those that may be chosen first, then by score, then as listed; NaN is last.

    Examples
    --------
    >>> order([0.5, 0.9, 0.7, float("nan"), 0.7], [True, False, True, True, True])
    [2, 4, 0, 1, 3]
    """
    scores, admitted = list(scores), list(admitted)
    return sorted(range(len(scores)), key=lambda i: (np.isnan(scores[i]), not admitted[i], -scores[i], i))
