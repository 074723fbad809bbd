"""The evidence of an audit of embedding models: figures under attack, certificates, examples, maps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from certimetric.auditing.retrieval.cells import Cells, Scores, model_hash, probe_distances, score_protocol
from certimetric.auditing.retrieval.certificates import certifiers, certify_subject, futile_certificates, tell
from certimetric.auditing.retrieval.checks import Observed
from certimetric.auditing.retrieval.hubs import FIRST, hubness
from certimetric.auditing.retrieval.ranking import RankedEvidence, describe, per_class
from certimetric.auditing.retrieval.request import RetrievalRequest, Subject
from certimetric.auditing.retrieval.threat_evidence import threat_outcomes, try_threats, with_corruption_errors
from certimetric.auditing.retrieval.threats import OF_ANY_INPUTS, THREATS, as_asked, tell_threats
from certimetric.auditing.run import Gathered
from certimetric.base.arrays import Array
from certimetric.base.threads import threads_for_pictures
from certimetric.base.wording import PIXELS
from certimetric.report.changes.outcomes import pack
from certimetric.runs.progress import progress_bar
from certimetric.runs.store import Store

if TYPE_CHECKING:
    from certimetric.deep import Index


class RetrievalEvidence(RankedEvidence):
    """The evidence of an audit of embedding models."""

    asked = RetrievalRequest
    scope = "retrieval"

    def options(self) -> dict[str, Any]:
        request = self.request
        return {
            "data": request.data_sha256,
            "class_names": list(request.class_names),
            "models": [
                [subject.name, model_hash(subject), probe_distances(subject, request)] for subject in request.with_model
            ],
            "norm": request.norm,
            "eps": list(request.eps),
            "report_eps": request.report_eps,
            "attacks": list(request.attacks),
            "n_queries": len(request.queries),
            "n_checked": request.n_checked,
            "seed": request.seed,
            "ers": request.ers,
            "metric": request.metric,
            "certify": str(request.certify).lower(),
            "certifiers": [list(map(repr, certifiers(request, subject))) for subject in request.with_model],
            # Only where they are asked for, so that reports of before are known again.
            **({"threats": as_asked(request)} if request.threats else {}),
            **({"smallest": True} if request.smallest else {}),
            **({} if request.queries.kind.pictures else {"bounds": request.queries.kind.bounds}),
        }

    def remarks(self) -> list[str]:
        return futile_certificates(self.request, lambda subject: certifiers(self.request, subject)[0])

    def command(self) -> str:
        request = self.request
        models = ", ".join(f"{subject.name!r}: …" for subject in request.with_model)
        also = ", ers=True" if request.ers else ""
        also += f", metric={request.metric!r}" if request.metric != "euclidean" else ""
        also += f", certify={request.certify!r}" if request.certify else ""
        also += f", threats={as_asked(request)}" if request.threats else ""
        also += ", smallest=True" if request.smallest else ""
        return (
            f"certimetric.auditing.audit_retrieval({{{models}}}, queries, gallery, norm={request.norm!r}, "
            f"eps={list(request.eps)}, report_eps={request.report_eps}, attacks={list(request.attacks)}, "
            f"n_queries={len(request.queries)}, n_checked={request.n_checked}, seed={request.seed}{also})"
        )

    @contextmanager
    def working(self, progress: bool) -> Iterator[Callable[[bool], None]]:
        """Threads that suit the pictures, random numbers of the seed, and a progress bar."""
        from certimetric.deep.models.calling import seeded
        from certimetric.deep.retrieval.ranking_evaluation import GOALS

        request = self.request
        each = 2 + len(request.eps) * len(request.attacks) + len(GOALS) * request.ers
        each += len(request.threats) + request.smallest
        threads = threads_for_pictures(request.queries.images.shape[1:])
        with threads, seeded(request.seed), progress_bar(progress, len(request.subjects) * each) as advance:
            yield advance

    def gather(self, store: Store, counting: Callable[[bool], None]) -> Gathered:
        """Attack and certify every model, then draw examples and maps."""
        from certimetric.auditing.retrieval.evidence import embedding_map, examples
        from certimetric.deep.models.calling import device_of

        request = self.request
        training = {subject.name: subject.model.training for subject in request.subjects}
        cells = Cells(request, store)
        quoted = request.eps.index(request.report_eps)
        learners: list[dict[str, Any]] = []
        worst, white, indices, certificates, found = {}, {}, {}, {}, {}
        smallest: dict[str, Array] = {}
        for subject in request.subjects:
            index = indices[subject.name] = _index(request, subject)
            clean, attacked = _scores(request, subject, index, cells, counting)
            told: dict[str, Any] = {}
            if request.smallest:
                told["smallest"] = _smallest(request, subject, index, attacked, cells, smallest)
                counting(False)
            worst[subject.name] = attacked[quoted][0]["recall_at_1"]
            white[subject.name] = _white(request, clean, attacked[: quoted + 1])
            certificates[subject.name], found[subject.name] = certify_subject(request, subject, cells), attacked
            told["certificate"] = tell(request, certificates[subject.name])
            if request.ers:
                told["robustness_score"] = cells.robustness_score(subject, index, clean, counting)
            told["hubness"] = {"clean": _hubness(request, index), "attacked": None}
            told["threats"] = []
            for tried in try_threats(request, subject, index, clean, cells):
                told["threats"].append(tried)
                counting(False)
            told["outcomes"] = _outcomes(request, clean, attacked[quoted][0], certificates[subject.name])
            told["outcomes"] |= threat_outcomes(told["threats"])
            learners.append(_learner(request, subject, index, clean, attacked) | told)
        with_corruption_errors(learners, PIXELS)
        attack = request.make_attack(request.attacks[0], request.report_eps)
        for subject, learner in zip(request.subjects, learners):
            learner["examples"] = examples(request, indices[subject.name], attack)
            learner["map"] = embedding_map(request, indices[subject.name], attack)
            counting(False)
        queries, gallery, pictures = request.queries, request.gallery, request.queries.kind.pictures
        score = {"robustness_score": score_protocol(request)} if request.ers else {}
        return Gathered(
            data={
                "name": request.name,
                "source": request.source,
                "n_queries": len(queries),
                "n_without_positive": request.n_without_positive,
                "n_gallery": len(gallery),
                "n_groups": None if gallery.groups is None else len(set(gallery.groups.tolist())),
                "n_classes": len(set(gallery.labels.tolist())),
                "image_shape": list(gallery.images.shape[1:]),
                "sha256": cells.data,
                "tested": {"sha256": cells.data, "rows": len(queries), "tests": len(queries)},
            },
            protocol={
                "norm": request.norm,
                "units": "pixels" if pictures else "inputs",
                "eps": list(request.eps),
                "report_eps": request.report_eps,
                "attacks": [request.told_attack(name) for name in request.attacks],
                "objective": "margin",
                "n_checked": request.n_checked,
                "certify": request.certify,
                "metric": request.metric,
                **tell_threats(request, request.sizes, THREATS if pictures else OF_ANY_INPUTS),
                "seed": request.seed,
                **score,
            },
            learners=learners,
            observed=Observed(request, learners, indices, worst, white, training, certificates, found, smallest),
            cells=cells.counts,
            traces={"model_sha256": cells.models},
            machine={"device": str(device_of(request.subjects[0].model))},
        )


def _scores(
    request: RetrievalRequest, subject: Subject, index: Index, cells: Cells, advance: Callable[[bool], None]
) -> tuple[Scores, list[list[Scores]]]:
    """Scores of clean queries; and for every ε those of the worst case, and then those of each attack."""
    clean = cells.score(subject, index, None)
    advance(False)
    attacked: list[list[Scores]] = []
    for eps in request.eps:
        each = []
        for name in request.attacks:
            each.append(cells.score(subject, index, request.make_attack(name, eps)))
            advance(False)
        # Whoever withstands a larger ball withstands the smaller one; an attack may have missed that.
        known = [clean, *each, *(part[0] for part in attacked)]
        attacked.append([{name: np.min([part[name] for part in known], axis=0) for name in clean}, *each])
    return clean, attacked


def _smallest(
    request: RetrievalRequest,
    subject: Subject,
    index: Index,
    attacked: list[list[Scores]],
    cells: Cells,
    found: dict[str, Array],
) -> dict[str, Any]:
    """The smallest changes of a model as the document tells them; they count in the worst case of ``attacked``."""
    from certimetric.deep.models.calling import NoGradients

    try:
        radii = found[subject.name] = cells.smallest(subject, index)
    except NoGradients:
        return {"curve": None, "reason": "the model is a function without gradients"}
    for eps, each in zip(request.eps, attacked):
        left = (radii > eps).astype(float)
        each[0] = each[0] | {"recall_at_1": np.minimum(each[0]["recall_at_1"], left)}
    sizes = np.linspace(0.0, request.eps[-1], 81)
    median = float(np.median(radii))
    return {
        "curve": {"eps": sizes.tolist(), "recall": (radii > sizes[:, None]).mean(axis=1).tolist()},
        "median": median if math.isfinite(median) else None,
        "reason": "",
    }


def _outcomes(
    request: RetrievalRequest, clean: Scores, worst: Scores, certificate: Mapping[str, Any] | None
) -> dict[str, str | None]:
    """R@1 of each query, clean, attacked and certified at the quoted ε."""
    told = {"recall_at_1": pack(clean["recall_at_1"]), "recall_at_1_attacked": pack(worst["recall_at_1"])}
    if certificate is not None and certificate["method"] is not None:
        told["certified"] = pack(np.asarray(certificate["radii"], dtype=float) >= request.report_eps)
    return told


def _hubness(request: RetrievalRequest, index: Index) -> dict[str, Any]:
    queries = request.queries
    first = index.nearest(queries.images, index.keys_of(queries), FIRST)
    return hubness(*(np.asarray(each.cpu()) for each in (first, queries.labels, request.gallery.labels)))


def _index(request: RetrievalRequest, subject: Subject) -> Index:
    from certimetric.deep import Index

    try:
        return Index(subject.model, request.gallery, metric=subject.metric)
    except (TypeError, ValueError) as error:
        raise type(error)(f"model {subject.name!r} on the gallery: {error}") from None


def _white(request: RetrievalRequest, clean: Scores, attacked: Sequence[Sequence[Scores]]) -> Array | None:
    """R@1 of each query in the worst case over the attacks that use gradients; None where there is none."""
    from certimetric.deep.attacks import ATTACKS

    found = [
        scores["recall_at_1"]
        for _, *each in attacked
        for name, scores in zip(request.attacks, each)
        if ATTACKS[name].uses_gradients
    ]
    return np.min([clean["recall_at_1"], *found], axis=0) if found else None


def _learner(
    request: RetrievalRequest, subject: Subject, index: Index, clean: Scores, attacked: list[list[Scores]]
) -> dict[str, Any]:
    sizes = [(eps, each[0], dict(zip(request.attacks, each[1:]))) for eps, each in zip(request.eps, attacked)]
    n_parameters = sum(parameter.numel() for parameter in subject.model.parameters())
    worst = attacked[request.eps.index(request.report_eps)][0]
    label = {} if index.gallery.kind.pictures or subject.name != PIXELS else {"label": "Raw inputs"}
    # Items that are compared by inner product have a coordinate of the search beside their own.
    embeddings = index.embeddings[:, :-1] if subject.metric == "dot" else index.embeddings
    described = describe(subject.name, subject.source, embeddings, index.labels, clean, sizes, n_parameters)
    return (
        described
        | label
        | {
            "training": _training(subject.run),
            "per_class": per_class(np.asarray(request.queries.labels.cpu()), request.class_names, clean, worst),
        }
    )


def _training(run: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if run is None:
        return None
    return {
        "config": run["config"],
        "epochs": len(run["history"]),
        "seconds": run["seconds"],
        "history": [loss if math.isfinite(loss) else None for loss in run["history"]],
        "finished": bool(run["finished"]),
    }
