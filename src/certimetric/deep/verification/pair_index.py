"""Pairs as a model sees them: embedded once, counted, and attacked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from certimetric.base.arrays import Array, Indices
from certimetric.certify.rates import VerificationCurve, claimable_far, verification_curve
from certimetric.certify.resampling import ClassCounts
from certimetric.certify.streams import StreamedDistances
from certimetric.deep.attacks.base import Attack
from certimetric.deep.goals import Dodging, Impersonation
from certimetric.deep.goals.base import Goal
from certimetric.deep.models.calling import as_module, device_of, embed
from certimetric.deep.models.images import ImageSet
from certimetric.deep.ranking.distances import EmbeddingMetric, slices
from certimetric.deep.verification.pairs import Pairs

_GROUPS = 256  # of classes that are resampled, where there are more classes
_SHOWN = 8  # worst pairs of either kind


class PairIndex:
    """Embeddings of both sides of pairs, and what a threshold on their distance accepts.

    Parameters
    ----------
    model : Module or callable
    pairs : Pairs
    metric : str
        As of :class:`certimetric.deep.ranking.EmbeddingMetric`.
    batch_size : int, default=256
    """

    def __init__(self, model: nn.Module | Callable[[Tensor], Any], pairs: Pairs, metric: str, batch_size: int = 256):
        self.model, self.metric = as_module(model), EmbeddingMetric(metric)
        self.pairs, self.batch_size = pairs, batch_size
        self.device = device_of(self.model)
        self.enrolled = self.placed(pairs.enrolled)
        self.probes = self.enrolled if pairs.alone else self.placed(pairs.probes)

    def placed(self, images: ImageSet | Tensor) -> Tensor:
        """Embeddings of pictures as they are compared."""
        taken = images if isinstance(images, Tensor) else images.images
        return self.metric.place(embed(self.model, taken, self.batch_size, self.pairs.enrolled.kind))

    def distances(self, listed: Indices, probes: Tensor | None = None) -> Array:
        """Of pairs (m, 2), by their rows, or with other embeddings (m, k) in the place of the probes'."""
        first, second = torch.from_numpy(listed).T
        moved = self.probes[first] if probes is None else probes
        return np.asarray(self.metric.paired(moved, self.enrolled[second]).cpu())

    def curve(self) -> tuple[VerificationCurve, dict[str, list[tuple[float, int, int]]]]:
        """Every operating point, and the farthest genuine and the nearest impostor pairs: distance and rows."""
        given = self.pairs.listed is not None
        stream, parts = StreamedDistances(), []
        worst: dict[str, list[tuple[float, int, int]]] = {"genuine": [], "impostor": []}
        for distances, first, second in self.pairs.distances(self.metric, self.probes, self.enrolled):
            same = self.pairs.codes[first] == self.pairs.enrolled_codes[second]
            stream.add(distances, same)
            if given:
                parts.append((distances, same))
            for kind, rows, sign in (("genuine", same, -1.0), ("impostor", ~same, 1.0)):
                places = rows.nonzero()[0]
                if len(places) > _SHOWN:
                    places = places[np.argpartition(sign * distances[places], _SHOWN)[:_SHOWN]]
                found = [(float(distances[p]), int(first[p]), int(second[p])) for p in places]
                worst[kind] = sorted(worst[kind] + found, key=lambda pair: (sign * pair[0], *pair[1:]))[:_SHOWN]
        if given:
            return verification_curve(*(np.concatenate(part) for part in zip(*parts))), worst
        return stream.curve(), worst

    def rates(self, thresholds: Array, n_resamples: int, seed: int) -> list[dict[str, float]]:
        """FAR and TAR of all pairs at each threshold, with 95 % intervals by resampling subjects.

        Of more than 256 subjects random groups are resampled, each as a whole: impostor pairs within a group, one in
        256, then have no part in the interval.
        """
        n = min(self.pairs.n_subjects, _GROUPS)
        group = np.random.default_rng(seed).permutation(self.pairs.n_subjects) % n
        counts = ClassCounts(thresholds, n)
        accepted, total = np.zeros((2, len(thresholds))), np.zeros((2, 1))
        for distances, first, second in self.pairs.distances(self.metric, self.probes, self.enrolled):
            sides = self.pairs.codes[first], self.pairs.enrolled_codes[second]
            same = sides[0] == sides[1]
            for kind, rows in enumerate((~same, same)):
                total[kind] += rows.sum()
                accepted[kind] += [(distances[rows] <= threshold).sum() for threshold in thresholds]
            groups = group[sides[0]], group[sides[1]]
            kept = same | (groups[0] != groups[1])
            counts.add(distances[kept], groups[0][kept], groups[1][kept])
        found = [{"far": float(far), "tar": float(tar)} for far, tar in (accepted / total).T]
        if n_resamples:
            told = counts.intervals(n_resamples=n_resamples, random_state=seed)
            for name, intervals in told.items():
                for rates, interval in zip(found, intervals):
                    rates |= ends(name, rates[name], interval, float(total[int(name == "tar"), 0]))
        return found

    def goal(self, listed: Indices, threshold: float, genuine: bool) -> Goal:
        """What an attacker of the probes of pairs of one kind wants."""
        references = self.enrolled[torch.from_numpy(listed[:, 1])]
        return (Dodging if genuine else Impersonation)(references, threshold, metric=self.metric.name)

    def attacked(self, listed: Indices, attack: Attack, threshold: float) -> Tensor:
        """The probes of pairs (m, 2) as an attack leaves them: dodging of genuine ones, impersonation of others."""
        same = self.pairs.same(listed)
        found: Tensor | None = None
        for kind in (True, False):
            rows = (same == kind).nonzero()[0]
            for some in slices(len(rows), self.batch_size):
                part = listed[rows[some]]
                x = self.pairs.probes.select(torch.from_numpy(part[:, 0])).tensor()
                moved = attack(self.model, x.to(self.device), self.goal(part, threshold, kind)).cpu()
                found = moved.new_empty((len(listed), *moved.shape[1:])) if found is None else found
                found[torch.from_numpy(rows[some])] = moved
        assert found is not None
        return found


def ends(name: str, value: float, interval: dict[str, float], n: float = np.inf) -> dict[str, float]:
    """The ends of an interval under the name of a figure, with the figure between them.

    Where none or all of n pairs are accepted every resample says so too: the rule of three tells the other end.
    """
    low, high = min(interval["low"], value), max(interval["high"], value)
    rest = min(1.0, claimable_far(n))
    return {
        f"{name}_low": min(low, 1.0 - rest) if value == 1 else low,
        f"{name}_high": max(high, rest) if value == 0 else high,
    }


def attack_pairs(
    model: nn.Module | Callable[[Tensor], Any],
    probes: ImageSet,
    enrolled: ImageSet | None,
    pairs: ArrayLike,
    attack: Attack,
    threshold: float,
    *,
    metric: str = "euclidean",
    batch_size: int = 256,
) -> tuple[Tensor, Array]:
    """Attacked probes of some pairs, such as those to be shown, and their distances to the enrolled pictures.

    Parameters
    ----------
    model, probes, enrolled, metric, batch_size
        As of :func:`evaluate_verification`.
    pairs : int array-like of shape (m, 2)
        Rows of probes and of enrolled. Probes of genuine pairs dodge, those of impostor pairs impersonate.
    attack : Attack
    threshold : float

    Returns
    -------
    images : tensor of shape (m, c, h, w)
    distances : array of shape (m,)
    """
    listed = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
    index = PairIndex(model, Pairs(probes, enrolled), metric, batch_size)
    moved = index.attacked(listed, attack, threshold)
    return moved, index.distances(listed, index.placed(moved))
