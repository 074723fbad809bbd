"""Scores of a model at one size of attack, computed once and kept on disk: a stopped audit goes on from them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from certimetric.auditing.retrieval.request import RetrievalRequest, Subject, embedded
from certimetric.auditing.tables.cells import told as as_json
from certimetric.base.files import write_atomically
from certimetric.base.version import __version__

if TYPE_CHECKING:
    import torch

    from certimetric.deep import Attack, Index
    from certimetric.deep.certify import Certifier

CELL_SCHEMA = "certimetric.retrieval-cell/1"
CERTIFICATE_SCHEMA = "certimetric.retrieval-certificate/2"
SCORES = ("recall_at_1", "recall_at_2", "recall_at_4", "recall_at_8", "map_at_r", "map")
_PROBED = 8  # queries by whose embeddings a model is known too: code and settings are not in its weights

Scores = dict[str, NDArray[np.float64]]


class Cells:
    """Scores of queries by model and attack, from the folder where they are there already.

    Parameters
    ----------
    request : RetrievalRequest
    folder : Path or None
        Of the audit; None keeps nothing.

    Attributes
    ----------
    computed, reused : int
    """

    def __init__(self, request: RetrievalRequest, folder: Path | None):
        self.request = request
        self.folder = None if folder is None else folder / "cells"
        self.computed = self.reused = 0
        self.data = request.data_sha256
        self.models = {subject.name: model_hash(subject) for subject in request.subjects}
        self._probes = {subject.name: probe_hash(subject, request) for subject in request.subjects}

    def score(self, subject: Subject, index: Index, attack: Attack | None) -> Scores:
        """R@k, mAP@R and mAP of each query."""
        return self.kept(subject, repr(attack), SCORES, lambda: index.score(self.request.queries, attack))

    def kept(
        self, subject: Subject, what: str, names: Sequence[str], compute: Callable[[], dict[str, torch.Tensor]]
    ) -> Scores:
        """Figures of each query by name: read where they were computed before, under what they depend on."""
        file = None if self.folder is None else self.folder / f"{self._key(subject, what)}.json"
        if file is not None and (found := _read(file, names, len(self.request.queries))) is not None:
            self.reused += 1
            return found
        scores = compute()
        told = {name: np.asarray(value.double().cpu()) for name, value in scores.items()}
        self.computed += 1
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            content = {"schema": CELL_SCHEMA, "scores": {name: value.tolist() for name, value in told.items()}}
            write_atomically(file, json.dumps(content))
        return told

    def certificate(self, subject: Subject, certifier: Certifier) -> dict[str, Any]:
        """What a certifier finds of the queries: its settings, and the radius within which each stays right, or −1.

        A radius without end is "inf", as JSON can hold it.
        """
        from certimetric.deep import certify_retrieval

        file = None if self.folder is None else self.folder / f"{self._key(subject, repr(certifier))}.json"
        if file is not None and (found := _read_certificate(file, len(self.request.queries))) is not None:
            self.reused += 1
            return found
        queries, gallery = self.request.queries, self.request.gallery
        made = certify_retrieval(subject.model, queries, gallery, method=certifier, with_pixels=False)
        told = {
            "method": made.method,
            "settings": made.settings,
            "constant": made.constant,
            "confidence": made.confidence,
            "abstained": float(made.abstained.mean()),
            "radii": [as_json(radius) for radius in made.correct_radii.tolist()],
        }
        self.computed += 1
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(file, json.dumps({"schema": CERTIFICATE_SCHEMA, **told}))
        return told

    def _key(self, subject: Subject, what: str) -> str:
        known = self.models[subject.name], self._probes[subject.name]
        content = [CELL_SCHEMA, __version__, self.data, *known, what]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _read(file: Path, names: Sequence[str], n: int) -> Scores | None:
    """Scores by name of n queries from a cell, None where there is none or a damaged one."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["schema"] != CELL_SCHEMA:
            return None
        scores = {name: np.asarray(content["scores"][name], dtype=float) for name in names}
        whole = all(values.shape == (n,) and np.isfinite(values).all() for values in scores.values())
        return scores if whole else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _read_certificate(file: Path, n: int) -> dict[str, Any] | None:
    """A certificate of n queries from a cell, None where there is none or a damaged one."""
    try:
        content = dict(json.loads(file.read_text(encoding="utf-8")))
        whole = content.pop("schema") == CERTIFICATE_SCHEMA and len(content["radii"]) == n
        return content if whole and not np.isnan(np.asarray(content["radii"], dtype=float)).any() else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def model_hash(subject: Subject) -> str:
    """Digest of the weights and the structure of a model."""
    digest = hashlib.sha256(repr(subject.model).encode())
    for name, value in sorted(subject.model.state_dict().items()):
        digest.update(name.encode())
        digest.update(_bytes(value) if hasattr(value, "detach") else repr(value).encode())
    return digest.hexdigest()


def probe_hash(subject: Subject, request: RetrievalRequest) -> str:
    """Digest of what a model makes of some queries, up to rounding."""
    embeddings = embedded(subject, next(request.queries.batches(_PROBED)).tensor()).double().cpu()
    scale = float(embeddings.abs().max()) or 1.0
    return hashlib.sha256(_bytes((1e3 * embeddings / scale).round() + 0.0)).hexdigest()


def probe_distances(subject: Subject, request: RetrievalRequest) -> list[str]:
    """What a model makes of some queries: distances of the first to the others, in two digits, lest rounding count."""
    embeddings = embedded(subject, next(request.queries.batches(_PROBED)).tensor()).double().cpu()
    return [f"{float(distance):.2g}" for distance in (embeddings[1:] - embeddings[0]).norm(dim=1)]


def data_hash(request: RetrievalRequest) -> str:
    """Digest of queries and gallery: pictures, labels, ids and groups."""
    digest = hashlib.sha256()
    for part in (request.queries, request.gallery):
        for batch in part.batches(256):
            digest.update(_bytes(batch.tensor()))
        digest.update(_bytes(part.labels))
        digest.update(_bytes(part.ids))
        if part.groups is not None:
            digest.update(_bytes(part.groups))
    return digest.hexdigest()


def _bytes(tensor: torch.Tensor) -> bytes:
    import torch

    # As bytes, for NumPy does not know every type that a tensor may have.
    raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return f"{tensor.dtype} {tuple(tensor.shape)} ".encode() + raw.numpy().tobytes()
