"""Certified verification: how far a probe may be moved before the threshold decides otherwise about its pair."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from certimetric.base.arguments import ArgumentError, chosen, require
from certimetric.base.arrays import Array, Indices
from certimetric.base.results import Framed, finite
from certimetric.base.warnings import warn
from certimetric.certify.rates import VerificationCurve, verification_curve
from certimetric.certify.verifier import CertifiedRates, checked_sizes
from certimetric.deep.certify.base import Certifier
from certimetric.deep.certify.lipschitz import LipschitzCertifier, embedded_with_errors
from certimetric.deep.certify.lipschitz_constant import layer_bounds, plain_layers, total_constant
from certimetric.deep.certify.operator_norms import rounding
from certimetric.deep.certify.registry import make_certifier
from certimetric.deep.certify.smoothing import SmoothingCertifier
from certimetric.deep.models.calling import as_module, device_of, seeded
from certimetric.deep.models.comparing import OnSphere
from certimetric.deep.models.images import ImageSet
from certimetric.deep.ranking.distances import EmbeddingMetric, unit
from certimetric.deep.verification.evaluation import AttackedPairs
from certimetric.deep.verification.pair_index import PairIndex
from certimetric.deep.verification.pairs import Pairs
from certimetric.deep.verification.smoothed import smoothed_decisions

METHODS = ("lipschitz", "smoothing")
_SINGLE = 1e-4  # share by which an attack in single precision may miss a radius


@dataclass(frozen=True, eq=False)
class Reach:
    """How far the distance of a pair can be moved at all through a Lipschitz embedding.

    Parameters
    ----------
    places : array of shape (m,)
        Distances of embeddings; where ``lengths`` are given, angles between them.
    lengths : array of shape (m,) or None
        Of embeddings before they are scaled to the sphere.
    errors : array of shape (m,)
        By how much the computed embedding before scaling may be off.
    constant : float
        Of Lipschitz, before scaling.
    metric : EmbeddingMetric
    """

    places: Array
    lengths: Array | None
    errors: Array
    constant: float
    metric: EmbeddingMetric

    def decisions(self, threshold: float) -> tuple[NDArray[np.bool_], Array]:
        """Which pairs are accepted, and radii in the image; 0 where rounding may decide."""
        if threshold < 0:  # no distance is
            return np.zeros(len(self.places), dtype=bool), np.full(len(self.places), np.inf)
        limit = threshold if self.lengths is None else float(self._angles(np.array([threshold]))[0])
        gap = np.abs(self.places - limit)
        if self.lengths is None:
            room = gap - self.errors
        else:  # to the surface of the cone around the enrolled embedding; its tip is always as near as the length
            room = self.lengths * np.where(gap < np.pi / 2, np.sin(gap), 1.0) - self.errors
        with np.errstate(divide="ignore", invalid="ignore"):
            radii = np.where(room > 0, room / self.constant * (1 - 1e-14), 0.0)
        return self.places <= limit, radii

    def worst(self, eps: float, genuine: NDArray[np.bool_]) -> Array:
        """Distances that no change of this size passes: from above of genuine pairs, from below of others."""
        way = (self.constant * eps + self.errors) * (1 + 1e-14)
        if self.lengths is not None:
            share = np.where(way < self.lengths, way / np.where(self.lengths > 0, self.lengths, 1.0), 1.0)
            way = np.where(share < 1, np.arcsin(share), np.pi)
        moved = np.maximum(self.places + np.where(genuine, way, -way), 0.0)
        return moved if self.lengths is None else self._distances(np.minimum(moved, np.pi))

    def _angles(self, distances: Array) -> Array:
        """Between embeddings on the sphere at these distances."""
        half = np.minimum(np.sqrt(2 * distances) if self.metric.name == "cosine" else distances, 2.0) / 2
        return 2 * np.arctan2(half, np.sqrt((1 - half) * (1 + half)))

    def _distances(self, angles: Array) -> Array:
        chords = 2 * np.sin(angles / 2)
        return chords**2 / 2 if self.metric.name == "cosine" else chords


@dataclass(frozen=True, eq=False)
class VerificationCertificate(Framed):
    """Certified decisions about pairs.

    Parameters
    ----------
    pairs : int array of shape (m, 2)
        Rows of probes and of enrolled.
    genuine, accepted : bool array of shape (m,)
    radii : array of shape (m,)
        No change of the probe of this size or smaller changes the decision; 0 where nothing is certified.
    abstained : bool array of shape (m,)
        Where a randomised method does not know the decision with its confidence.
    threshold : float
    metric, method, norm : str
    settings : dict
        Of the method.
    constant : float or None
        Lipschitz constant that the radii rest on.
    confidence : float or None
        With which the radius of each pair holds; None where it is proven.
    reach : Reach or None
        From which a Lipschitz certificate tells certified rates at every threshold.
    """

    pairs: Indices
    genuine: NDArray[np.bool_]
    accepted: NDArray[np.bool_]
    radii: Array
    abstained: NDArray[np.bool_]
    threshold: float
    metric: str
    method: str
    norm: str
    settings: dict[str, Any]
    constant: float | None = None
    confidence: float | None = None
    reach: Reach | None = None

    def certified_rates(self, eps: ArrayLike) -> CertifiedRates:
        """A lower bound on TAR under dodging and an upper bound on FAR under impersonation, by changes of each size.

        Pairs about which the method abstains count for the attacker. They are shares of these pairs.
        """
        sizes = np.atleast_1d(checked_sizes(eps))
        safe = (self.radii >= sizes[:, None]) & ~self.abstained
        accepted, rejected = safe & self.accepted, safe & ~self.accepted
        return CertifiedRates(
            sizes, accepted[:, self.genuine].mean(axis=1), 1.0 - rejected[:, ~self.genuine].mean(axis=1)
        )

    def curve(self, eps: float) -> VerificationCurve | None:
        """Certified operating points at every threshold, by changes of one size; None where the method has none."""
        if self.reach is None:
            return None
        return verification_curve(self.reach.worst(float(checked_sizes(eps)), self.genuine), self.genuine)

    def broken_by(self, attacked: AttackedPairs, eps: float) -> Indices:
        """Rows of these pairs whose decision an attack of size ε changed within the radius: an error in the library.

        None where decisions are smoothed: they are not the ones that were attacked here. What can be held against them
        is told by :func:`attack_smoothed`.

        Raises
        ------
        ArgumentError
            If other pairs were attacked.
        """
        if self.reach is None:
            return np.empty(0, dtype=np.int64)
        if not np.array_equal(attacked.pairs, self.pairs):
            raise ArgumentError("attacked", "must be the pairs of the certificate", f"{len(attacked.pairs)} others")
        flipped = (attacked.distances <= self.threshold) != self.accepted
        return np.flatnonzero(flipped & (self.radii * (1 - _SINGLE) > eps))

    def to_frame(self) -> pd.DataFrame:
        """One row a pair: probe, enrolled, genuine, accepted, abstained, radius."""
        told = {"probe": self.pairs[:, 0], "enrolled": self.pairs[:, 1], "genuine": self.genuine}
        return pd.DataFrame(told | {"accepted": self.accepted, "abstained": self.abstained, "radius": self.radii})

    def to_json(self) -> str:
        """Settings, decisions and radii as JSON; an infinite number is null."""
        names = ("metric", "method", "norm", "settings", "constant", "confidence", "threshold")
        document: dict[str, Any] = {name: finite(getattr(self, name)) for name in names}
        for name in ("pairs", "genuine", "accepted", "abstained"):
            document[name] = getattr(self, name).tolist()
        document["radii"] = [finite(radius) for radius in self.radii.tolist()]
        return json.dumps(document, allow_nan=False)


@seeded(0)
def certify_verification(
    model: nn.Module | Callable[[Tensor], Any],
    probes: ImageSet,
    enrolled: ImageSet | None = None,
    *,
    threshold: float,
    pairs: ArrayLike | None = None,
    metric: str = "euclidean",
    method: str | Certifier = "lipschitz",
    n_pairs: int | None = 500,
    batch_size: int = 256,
    seed: int = 0,
    advance: Callable[[], None] | None = None,
    **settings: Any,
) -> VerificationCertificate:
    """Certify how far the probe of each pair may be moved before the threshold decides otherwise.

    Parameters
    ----------
    model, probes, enrolled, metric, batch_size
        As of :func:`evaluate_verification`.
    threshold : float
        A pair is accepted where its distance is at most this.
    pairs : int array-like of shape (m, 2), optional
        Rows of probes and of enrolled; by default ``n_pairs`` of each kind, the same as are attacked by
        :func:`evaluate_verification` with this number and seed.
    method : {"lipschitz", "smoothing"} or Certifier, default="lipschitz"
        "lipschitz" (l2) divides what is left of the distance by the computed Lipschitz constant C of the model:
        ``|d − t| / C``. Where embeddings are compared on the unit sphere, the way to the threshold is that to the
        surface of a cone, in the space before scaling. "smoothing" (l2) certifies what the majority of the model's
        decisions under Gaussian noise says, of any model, with a confidence: for each probe, whatever the number of
        its pairs, the model sees 1,100 noisy copies, or ``n_selection + n_samples``.
    n_pairs : int or None, default=500
    seed : int, default=0
    advance : callable, optional
        Is called, without arguments, at each tenth of the draws of smoothing, to show progress.
    **settings
        Of the method: those of its class.

    Returns
    -------
    certificate : VerificationCertificate

    Raises
    ------
    ArgumentError, ValueError
        If the threshold is NaN, the method is unknown, a setting does not fit, or the model has layers that the method
        has no bound for.

    References
    ----------
    Tsuzuku et al., arXiv 1802.04034 [tsuzuku2018lipschitz] (Lipschitz constants); Cohen, Rosenfeld & Kolter, arXiv
    1902.02918 [cohen2019certified] (smoothing).

    Examples
    --------
    >>> images = ImageSet(torch.tensor([0.0, 0.1, 0.7, 1.0]).reshape(4, 1, 1, 1), torch.tensor([0, 0, 1, 1]))
    >>> certificate = certify_verification(nn.Flatten(), images, threshold=0.4, pairs=[[0, 1], [0, 2]])
    >>> certificate.accepted, certificate.radii.round(3)
    (array([ True, False]), array([0.3, 0.3]))
    """
    require(not np.isnan(threshold), "threshold", "must be a distance", threshold)
    certifier = method
    if isinstance(certifier, str):
        chosen("method", certifier, METHODS)
        certifier = make_certifier(certifier, **settings)
    elif settings:
        raise ValueError(f"{min(settings)} is a setting of the certifier, which was given as it is")
    if reason := certifier.futile():
        warn(reason)
    compared = Pairs(probes, enrolled, pairs)
    listed = compared.drawn(n_pairs, seed) if compared.listed is None else compared.listed
    told: dict[str, Any] = {"pairs": listed, "genuine": compared.same(listed), "threshold": float(threshold)}
    told |= {"metric": EmbeddingMetric(metric).name, "method": certifier.name, "norm": certifier.norm}
    told["settings"] = certifier.settings()
    if isinstance(certifier, LipschitzCertifier):
        told["settings"] = {}  # of retrieval alone
        if not isinstance(model, nn.Module):  # layers are read of the Module itself, in the precision that it has
            model = as_module(model)
        reach = _reach(model, compared, listed, metric, batch_size)
        accepted, radii = reach.decisions(float(threshold))
        told |= {"accepted": accepted, "radii": radii, "abstained": np.zeros(len(listed), dtype=bool)}
        return VerificationCertificate(**told, constant=reach.constant, reach=reach)
    if not isinstance(certifier, SmoothingCertifier) or certifier.statistic != "vote":
        raise ArgumentError("method", "must be 'lipschitz' or 'smoothing' by vote", certifier)
    index = PairIndex(model, compared, metric, batch_size)
    decided = smoothed_decisions(certifier, index, compared.probes, listed, float(threshold), advance)
    return VerificationCertificate(**told, **decided, confidence=1.0 - certifier.alpha)


def _reach(model: nn.Module, compared: Pairs, listed: Indices, metric: str, batch_size: int) -> Reach:
    layers = plain_layers(model)
    on_sphere = metric != "euclidean"
    if layers and isinstance(layers[-1], OnSphere):
        layers, on_sphere = layers[:-1], True
    bounds = layer_bounds(layers, compared.probes.images.shape[1:])
    device = device_of(model)
    points, errors = embedded_with_errors(layers, bounds, compared.probes, batch_size, device)
    enrolled = points
    if not compared.alone:
        enrolled, _ = embedded_with_errors(layers, bounds, compared.enrolled, batch_size, device)
    a, b, off = points[listed[:, 0]], enrolled[listed[:, 1]], errors[listed[:, 0]]
    lengths = None
    if on_sphere:
        lengths = np.linalg.norm(a, axis=1)
        if not (lengths.all() and np.linalg.norm(b, axis=1).all()):
            raise ValueError("an embedding has length 0, which cannot be scaled to length 1")
        a, b = (np.asarray(unit(torch.from_numpy(part))) for part in (a, b))
        places = 2 * np.arctan2(np.linalg.norm(a - b, axis=1), np.linalg.norm(a + b, axis=1))
        off = off + 16 * rounding(a.shape[1]) * lengths
    else:
        places = np.linalg.norm(a - b, axis=1)
        # Of distances and thresholds up to the sizes of embeddings.
        off = off + 8 * rounding(a.shape[1]) * (np.linalg.norm(a, axis=1) + np.linalg.norm(b, axis=1))
    return Reach(places, lengths, off, total_constant(bounds), EmbeddingMetric(metric))
