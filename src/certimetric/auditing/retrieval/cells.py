"""Scores of a model at one size of attack, computed once and kept: a stopped audit goes on from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from certimetric.auditing.retrieval.request import RetrievalRequest, Subject, embedded
from certimetric.base.arrays import Array
from certimetric.runs.key import Cell, digest
from certimetric.runs.scheduling import InTurn
from certimetric.runs.store import Store

if TYPE_CHECKING:
    import torch

    from certimetric.deep import Attack, Index
    from certimetric.deep.certify import Certifier

PROTOCOL = "retrieval-cell/2"
METRIC = "euclidean"  # of the empirical robustness score, as everywhere in an audit
_PROBED = 8  # queries by whose embeddings a model is known too: code and settings are not in its weights

Scores = dict[str, Array]


class Cells(InTurn):
    """Scores of queries by model and attack, from the store of the audit where they are there already."""

    def __init__(self, request: RetrievalRequest, store: Store):
        super().__init__(store)
        self.request = request
        self.data = request.data_sha256
        self.models = {subject.name: model_hash(subject) for subject in request.subjects}
        self._probes = {subject.name: probe_hash(subject, request) for subject in request.subjects}

    def score(self, subject: Subject, index: Index, attack: Attack | None) -> Scores:
        """R@k, mAP@R and mAP of each query."""
        return self.scores(subject, repr(attack), lambda: index.score(self.request.queries, attack))

    def scores(self, subject: Subject, what: str, compute: Callable[[], Mapping[str, torch.Tensor]]) -> Scores:
        """Figures of each query by name."""
        return self.kept(
            subject,
            what,
            lambda: {name: np.asarray(value.double().cpu()) for name, value in compute().items()},
        )

    def certificate(self, subject: Subject, certifier: Certifier) -> dict[str, Any]:
        """What a certifier finds of the queries: its settings, and the radius within which each stays right, or −1."""
        return self.kept(subject, repr(certifier), lambda: self._certify(subject, certifier))

    def smallest(self, subject: Subject, index: Index) -> Array:
        """Sizes of the smallest changes that break each query, as far as the largest ε of the audit."""
        from certimetric.deep.retrieval.smallest_changes import LEVELS, radii_of

        ball, seed = self.request.ball(self.request.eps[-1]), self.request.seed
        what = f"smallest changes in {ball!r}, {LEVELS} levels, seed {seed}"
        compute = lambda: {"radii": radii_of(index, self.request.queries, ball, seed=seed)}  # noqa: E731
        return np.asarray(self.kept(subject, what, compute)["radii"], dtype=float)

    def robustness_score(
        self, subject: Subject, index: Index, clean: Scores, advance: Callable[[bool], None]
    ) -> dict[str, Any]:
        """The summary of the empirical robustness score, measured goal by goal; R@1 of ``clean`` is told beside it."""
        from certimetric.deep.retrieval import RankingEvaluation
        from certimetric.deep.retrieval.ranking_evaluation import GOALS
        from certimetric.deep.retrieval.robustness_score import summarise

        attack, seed, queries = score_attack(self.request), self.request.seed, self.request.queries
        evaluation = cache(lambda: RankingEvaluation(index, queries, metric=METRIC, seed=seed))
        found: Scores = {}
        for goal in GOALS:
            what = f"ERS {goal}, {METRIC}, seed {seed}, {attack!r}"
            found |= self.scores(subject, what, lambda goal=goal: evaluation().measure(goal, attack))  # type: ignore[misc]
            advance(False)
        return summarise(found, clean["recall_at_1"], len(self.request.gallery), METRIC, attack).summary()

    def _certify(self, subject: Subject, certifier: Certifier) -> dict[str, Any]:
        from certimetric.deep import certify_retrieval

        queries, gallery = self.request.queries, self.request.gallery
        made = certify_retrieval(subject.model, queries, gallery, method=certifier, with_pixels=False)
        return {
            **{key: getattr(made, key) for key in ("method", "settings", "constant", "confidence")},
            "abstained": float(made.abstained.mean()),
            "radii": np.asarray(made.correct_radii, dtype=float),
        }

    def kept(self, subject: Subject, what: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What is computed of a model, read where that was done before, under all that it depends on."""
        # A model is known by what it is and does, whatever it is called; seeds are among the settings of attacks.
        known = {"model": self.models[subject.name], "probe": self._probes[subject.name], "what": what}
        known |= {} if subject.metric == "euclidean" else {"metric": subject.metric}
        name, source = self.request.name, self.request.source
        cell = Cell("retrieval audit", name, self.data, source, known["model"], 0, 0, PROTOCOL, known)
        return self.result(cell, compute)


def score_attack(request: RetrievalRequest) -> Attack:
    """The attack of the published budget of the robustness score that suits the size of the pictures."""
    from certimetric.deep.retrieval.robustness_score import make_attack

    return make_attack(tuple(request.queries.images.shape), seed=request.seed)


def score_protocol(request: RetrievalRequest) -> dict[str, Any]:
    """What the document tells of how the robustness score was measured."""
    attack = score_attack(request)
    told = {"norm": attack.ball.name, "eps": attack.ball.eps, "metric": METRIC}
    return told | {key: getattr(attack, key) for key in ("steps", "step_size")}


def model_hash(subject: Subject) -> str:
    """Digest of the weights and the structure of a model."""
    weights = sorted(subject.model.state_dict().items())
    return digest([repr(subject.model), *(part for named in weights for part in named)])


def probe_hash(subject: Subject, request: RetrievalRequest) -> str:
    """Digest of what a model makes of some queries, up to rounding."""
    embeddings = _probed(subject, request)
    scale = float(embeddings.abs().max()) or 1.0
    return digest([(1e3 * embeddings / scale).round() + 0.0])


def probe_distances(subject: Subject, request: RetrievalRequest) -> list[str]:
    """What a model makes of some queries: distances of the first to the others, in two digits, lest rounding count."""
    embeddings = _probed(subject, request)
    return [f"{float(distance):.2g}" for distance in (embeddings[1:] - embeddings[0]).norm(dim=1)]


def _probed(subject: Subject, request: RetrievalRequest) -> torch.Tensor:
    return embedded(subject, next(request.queries.batches(_PROBED)).tensor(), request.queries.kind).double().cpu()
