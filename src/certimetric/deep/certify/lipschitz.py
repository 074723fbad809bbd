"""Certified retrieval by a Lipschitz constant: the radius in the embedding space, brought back to the image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from certimetric.base.arrays import Array, Indices
from certimetric.deep.certify.base import Certified, Certifier, from_embeddings
from certimetric.deep.certify.lipschitz_constant import (
    LayerBound,
    layer_bounds,
    plain_layers,
    run_with_error,
    total_constant,
)
from certimetric.deep.certify.operator_norms import rounding
from certimetric.deep.certify.slopes import Slopes, bends_little
from certimetric.deep.models.calling import check_embeddings, device_of
from certimetric.deep.models.comparing import OnSphere, check_lengths, placed_items
from certimetric.deep.models.images import ImageSet
from certimetric.deep.retrieval.same_pictures import exclusion_keys


class LipschitzCertifier(Certifier):
    """l2: no image within ``r / C`` has another first result, r being the radius in the space before the last layer.

    If the last layer is linear, ``W h + b``, it belongs to the distance: the radius r of the features h under the
    metric ``WᵀW`` is computed, exactly, and divided by the constant of what comes before. An embedding that is linear
    as a whole therefore has the very certificate of that metric. If embeddings are scaled to length 1, which is not
    Lipschitz, the radius is that of the embedding *before* it is scaled: of gallery vectors of equal length the nearest
    is the same.

    Of one convolution without sorting, a pooling by norms with an offset and a linear layer the slope at each query is
    known, and how far the network bends: see :mod:`certimetric.deep.certify.slopes`. The larger radius counts.

    All is computed in double precision, from the weights as they are used, and rounded down.

    Parameters
    ----------
    n_neighbors : int, default=1
        Of the majority that is certified.
    exact : bool, default=True
        For one neighbour the smallest change itself; False for the bound by triplets, which is at most that and
        quicker.
    metric : {"euclidean", "dot"}, default="euclidean"
        How embeddings are compared. With "dot" an item has one more coordinate, see
        :mod:`certimetric.deep.models.comparing`, which no change of a query moves. For cosines the model is one that
        ends on the sphere.

    References
    ----------
    Tsuzuku et al. (Lipschitz-margin training), arXiv 1802.04034 [tsuzuku2018lipschitz], for the principle; the radius
    in the embedding space is that of Wang et al., arXiv 2006.07024 [wang2020provably]: at least half of what the
    nearest other is farther than the nearest own.

    Examples
    --------
    >>> from certimetric.deep import ImageSet, certify_retrieval
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> data = ImageSet(X.reshape(-1, 1, 8, 8)[:100] / 16, y[:100])
    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 8))
    >>> certifier = LipschitzCertifier()
    >>> found = certify_retrieval(model, data, method=certifier, with_pixels=False)
    >>> found.norm, found.radii.shape
    ('l2', (100,))
    """

    name, norm = "lipschitz", "l2"

    def __init__(self, n_neighbors: int = 1, exact: bool = True, metric: str = "euclidean"):
        if n_neighbors < 1:
            raise ValueError(f"n_neighbors must be at least 1, got {n_neighbors}")
        if metric not in ("euclidean", "dot"):
            raise ValueError(f"metric of LipschitzCertifier must be 'euclidean' or 'dot', got {metric!r}")
        self.n_neighbors, self.exact, self.metric = n_neighbors, exact, metric

    def certify(self, model: nn.Module, queries: ImageSet, gallery: ImageSet, batch_size: int = 256) -> Certified:
        layers = plain_layers(model)
        on_sphere = bool(layers) and isinstance(layers[-1], OnSphere)
        layers = layers[:-1] if on_sphere else layers
        bounds = layer_bounds(layers, queries.images.shape[1:])
        linear = bool(layers) and isinstance(layers[-1], nn.Linear)
        W = np.asarray(layers[-1].weight.cpu()) if linear else None
        device = device_of(model)
        points, errors = embedded_with_errors(layers, bounds, queries, batch_size, device)
        # The gallery is frozen as computed: no error.
        gallery_points, _ = embedded_with_errors(layers, bounds, gallery, batch_size, device)
        gallery_errors = 0.0
        if on_sphere:
            check_lengths(torch.from_numpy(gallery_points))
            gallery_points = gallery_points / np.linalg.norm(gallery_points, axis=1, keepdims=True)
            gallery_errors = rounding(gallery_points.shape[1])
        if self.metric == "dot":
            W = np.eye(points.shape[1]) if W is None else W
            W, points = np.vstack([W, np.zeros_like(W[:1])]), np.pad(points, ((0, 0), (0, 1)))
            gallery_points = placed_items(torch.from_numpy(gallery_points), "dot").numpy()
            # Of the last coordinate, the root of what is at least half of R².
            gallery_errors = gallery_errors + rounding(4 * points.shape[1]) * float(gallery_points[:, -1].max())
        known: dict[str, Any] = {"W": W, "errors": errors, "gallery_errors": gallery_errors}
        known |= {"n_neighbors": self.n_neighbors, "exact": self.exact}
        found = from_embeddings(gallery_points, points, queries, gallery, **known)
        before = total_constant(bounds[:-1] if linear else bounds)
        with np.errstate(divide="ignore", invalid="ignore"):
            radii = np.where(found.radii > 0, found.radii / before * (1 - 1e-15), 0.0)
        plain = self.metric == "euclidean" and not on_sphere
        if plain and self.exact and self.n_neighbors == 1 and bends_little(layers):
            slopes = Slopes(layers, bounds)
            by_slopes = _radii_by_slopes(
                slopes, queries, gallery, points, errors, found.predictions, gallery_points, batch_size, device
            )
            radii = np.maximum(radii, by_slopes)
        return Certified(found.predictions, radii, found.abstained, total_constant(bounds))


def _radii_by_slopes(
    slopes: Slopes,
    queries: ImageSet,
    gallery: ImageSet,
    points: Array,
    errors: Array,
    predictions: Indices,
    gallery_points: Array,
    batch_size: int,
    device: torch.device,
) -> Array:
    keys, gallery_keys = (np.asarray(part.cpu()) for part in exclusion_keys(queries, gallery))
    labels, radii, i = np.asarray(gallery.labels.cpu()), np.zeros(len(points)), 0
    for batch in queries.batches(batch_size):
        for image in batch.tensor().double().to(device):
            seen, own = gallery_keys != keys[i], labels == predictions[i]
            items = gallery_points[seen & own], gallery_points[seen & ~own]
            radii[i] = slopes.radius(image[None], points[i], float(errors[i]), *items)
            i += 1
    return radii


@torch.no_grad()
def embedded_with_errors(
    layers: Sequence[nn.Module], bounds: Sequence[LayerBound], items: ImageSet, batch_size: int, device: torch.device
) -> tuple[Array, Array]:
    """Embeddings in double precision, and how far each may be off."""
    parts = []
    for batch in items.batches(batch_size):
        embeddings, errors = run_with_error(layers, bounds, batch.tensor().double().to(device))
        parts.append((check_embeddings(embeddings, len(batch)), errors))
    embeddings, errors = (torch.cat(part).cpu() for part in zip(*parts))
    return np.asarray(embeddings), np.asarray(errors)
