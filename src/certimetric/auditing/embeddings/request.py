"""What an audit of embeddings is asked to do, checked before any work starts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from certimetric.auditing.retrieval.request import checked_radii
from certimetric.auditing.thresholds import Threshold, parse_threshold

if TYPE_CHECKING:
    from certimetric.datasets.embedding_files import Embeddings

FIGURES = {"recall": False, "map": False, "attacked": True}
# Radii by default, in median distances to the nearest item, and the one that is quoted.
RADII, QUOTED = (0.05, 0.1, 0.25, 0.5, 1.0), 0.25


@dataclass(frozen=True, eq=False)
class EmbeddingRequest:
    """A validated audit of embeddings; ``radii`` are those that were asked for, with the one that is quoted."""

    models: Mapping[str, Embeddings]
    radii: tuple[tuple[float, ...], float] | None
    n_queries: int
    seed: int
    name: str
    thresholds: tuple[Threshold, ...]


def make_request(
    models: Mapping[str, Embeddings],
    *,
    eps: Sequence[float] | None,
    report_eps: float | None,
    n_queries: int,
    seed: int,
    name: str = "embeddings",
    fail_under: str | Iterable[str] = (),
) -> EmbeddingRequest:
    """Validate; the parameters are those of :func:`certimetric.auditing.audit_embeddings`."""
    _same_pictures(models)
    if eps is None and report_eps is not None:
        raise ValueError("report_eps must be one of eps, which was not given")
    radii = None if eps is None else checked_radii(eps, report_eps)
    at = None if radii is None else radii[0]
    texts = [fail_under] if isinstance(fail_under, str) else list(fail_under)
    asked = tuple(parse_threshold(text, list(models), figures=FIGURES, at=at) for text in texts)
    if n_queries < 1:
        raise ValueError(f"n_queries must be at least 1, got {n_queries}")
    return EmbeddingRequest(models, radii, n_queries, seed, name, asked)


def _same_pictures(models: Mapping[str, Embeddings]) -> None:
    if not models:
        raise ValueError("models must hold the embeddings of at least one model")
    (name, first), *others = models.items()
    for other, given in others:
        for part in ("labels", "query_labels", "ids", "query_ids", "groups", "query_groups"):
            mine, theirs = getattr(first, part), getattr(given, part)
            if (mine is None) != (theirs is None) or (mine is not None and not np.array_equal(mine, theirs)):
                raise ValueError(f"{name!r} and {other!r} do not embed the same pictures: their {part} differ")
        if first.class_names != given.class_names:
            raise ValueError(f"{name!r} and {other!r} do not embed the same pictures: their classes differ")
