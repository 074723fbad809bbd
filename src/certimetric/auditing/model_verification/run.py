"""The evidence of an audit of verification by embedding models: calibrated on some subjects, attacked on others."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from certimetric.auditing.model_verification.checks import SCOPE, Observed
from certimetric.auditing.model_verification.groups import rates_by_group
from certimetric.auditing.model_verification.request import ModelVerificationRequest
from certimetric.auditing.retrieval.cells import model_hash
from certimetric.auditing.retrieval.certificates import futile_certificates
from certimetric.auditing.retrieval.ranking import UNITS
from certimetric.auditing.retrieval.request import Subject
from certimetric.auditing.run import Evidence, Gathered
from certimetric.auditing.thresholds import Threshold
from certimetric.auditing.verdict import front_runner, with_interval
from certimetric.auditing.verification.summary import N_BINS, det
from certimetric.base.results import finite
from certimetric.base.threads import threads_for_pictures
from certimetric.base.wording import PIXELS
from certimetric.certify.rates import VerificationCurve, claimable_far, verification_curve
from certimetric.report.document import VERIFICATION_SCHEMA
from certimetric.report.formatting import size_name
from certimetric.runs.key import Cell
from certimetric.runs.progress import progress_bar
from certimetric.runs.scheduling import InTurn
from certimetric.runs.store import Store

PROTOCOL = "model-verification-cell/3"
N_POINTS = 60  # of curves in the document
_LABELS = {True: "Raw pixels", False: "Raw inputs"}


class ModelVerificationEvidence(Evidence):
    """The evidence of an audit of verification by embedding models."""

    asked = ModelVerificationRequest
    scope = SCOPE
    schema = VERIFICATION_SCHEMA
    with_titles = True

    def options(self) -> dict[str, Any]:
        request = self.request
        return {
            "data": request.data_sha256,
            "class_names": list(request.class_names),
            "models": [[subject.name, model_hash(subject)] for subject in request.subjects],
            **{
                key: getattr(request, key)
                for key in ("metric", "far", "norm", "report_eps", "n_attacked", "certify", "draws", "seed")
            },
            "surrogate": None if request.surrogate is None else model_hash(request.surrogate),
            "groups": None if request.groups is None else [list(request.group_names), request.groups.tolist()],
            "eps": list(request.eps),
            "attacks": list(request.attacks),
            "rates": list(request.rates),
            **({} if request.images.kind.pictures else {"bounds": request.images.kind.bounds}),
        }

    def command(self) -> str:
        request = self.request
        models = ", ".join(f"{subject.name!r}: …" for subject in request.subjects if subject.name != PIXELS)
        given = [key for key in ("groups", "surrogate") if getattr(request, key) is not None]
        also = "".join(f"{key}=…, " for key in given)
        return (
            f"certimetric.auditing.audit_model_verification({{{models}}}, images, metric={request.metric!r}, "
            f"far={request.far:g}, norm={request.norm!r}, eps={list(request.eps)}, report_eps={request.report_eps}, "
            f"attacks={list(request.attacks)}, n_attacked={request.n_attacked}, certify={request.certify!r}, "
            f"draws={request.draws}, {also}seed={request.seed})"
        )

    def remarks(self) -> list[str]:
        return futile_certificates(self.request, self.request.certifier)

    @contextmanager
    def working(self, progress: bool) -> Iterator[Callable[[bool], None]]:
        from certimetric.deep.models.calling import seeded

        threads = threads_for_pictures(self.request.images.images.shape[1:])
        parts = sum(_parts(self.request, subject) for subject in self.request.subjects)
        with threads, seeded(self.request.seed), progress_bar(progress, parts) as advance:
            yield advance

    def gather(self, store: Store, counting: Callable[[bool], None]) -> Gathered:
        """Calibrate, test and attack every model."""
        request, cells, learners = self.request, InTurn(store), []
        for subject in request.subjects:
            known = {key: value for key, value in self.options().items() if key not in ("models", "class_names")}
            known |= {"model": model_hash(subject), "spec": subject.name}
            cell = Cell(SCOPE, request.name, request.data_sha256, "", subject.name, 0, request.seed, PROTOCOL, known)
            left = iter(range(_parts(request, subject)))

            def advance(left: Iterator[int] = left) -> None:
                if next(left, None) is not None:
                    counting(False)

            learners.append(cells.result(cell, partial(_measured, request, subject, advance)))
            for _ in left:  # what was there already, and what nothing could be certified of
                counting(False)
        calibration, test, apart = request.parts
        labels = np.asarray(request.images.labels.cpu())
        parts = {"calibration": calibration, "test": test}
        return Gathered(
            data={
                "name": request.name,
                "source": request.source,
                "n_samples": len(labels),
                "n_features": math.prod(request.images.images.shape[1:]),
                "classes": [str(label) for label in np.unique(labels)],
                "image_shape": list(request.images.images.shape[1:]),
                "groups": list(request.group_names),
                "parts": [
                    {"part": name, "subjects": len(np.unique(labels[rows])), "instances": len(rows)}
                    for name, rows in parts.items()
                ],
                "pairs": [
                    {"part": name, "genuine": learners[0]["pairs"][name][0], "impostor": learners[0]["pairs"][name][1]}
                    for name in parts
                ],
                "sha256": request.data_sha256,
            },
            protocol={
                "far": request.far,
                "rates": list(request.rates),
                "n_pairs": None,
                "norm": request.norm,
                "units": "pixels" if request.images.kind.pictures else "inputs",
                "metric": request.metric,
                "test_size": 0.5,
                "repeats": 1,
                "seed": request.seed,
                "apart": apart,
                "attacks": [type(attack).__name__ for attack in request.make_attacks(request.report_eps)],
                "surrogate": None if request.surrogate is None else request.surrogate.source,
                "eps": [0.0, *request.eps],
                "report_eps": request.report_eps,
            },
            learners=learners,
            observed=Observed(request, learners),
            cells=cells.counts,
            traces={"model_sha256": {subject.name: model_hash(subject) for subject in request.subjects}},
        )

    def recommend(self, found: Gathered) -> int | None:
        """The model with the largest attacked TAR less FAR, of those that tell clean pairs apart well enough."""
        able = {i: each["summary"]["auc"] for i, each in enumerate(found.learners) if each["spec"] != PIXELS}

        def robustness(i: int) -> tuple[float, ...]:
            tar, far = _at(found.learners[i], found.protocol["report_eps"])
            return tar - far, able[i]["mean"]

        return front_runner(able, robustness)

    def observe(self, found: Gathered, threshold: Threshold, position: int) -> float | str | None:
        learner, at = found.learners[position], threshold.at or 0.0
        if threshold.figure == "auc":
            return float(learner["summary"]["auc"]["mean"])
        if threshold.figure == "tar":
            points = learner["summary"]["operating_points"]
            mean = next(each for each in points if math.isclose(each["target"], at))["tar"]["mean"]
            return None if mean is None else float(mean)
        tar, far = _at(learner, at)
        return tar if threshold.figure == "attacked" else 1.0 - far

    def say(self, found: Gathered, recommended: int | None) -> list[str]:
        if recommended is None:
            return ["No model has figures"]
        chosen, protocol = found.learners[recommended], found.protocol
        tar, far = _at(chosen, protocol["report_eps"])
        several = " is recommended: it" if sum(each["spec"] != PIXELS for each in found.learners) > 1 else ""
        parts = [
            f"{chosen['label']}{several} accepts {with_interval(chosen['summary']['tar'])} of genuine pairs and "
            f"{100 * chosen['summary']['far']['mean']:.2g} % of impostors at the threshold for a false accept rate of "
            f"{100 * protocol['far']:g} %",
            f"where attackers change each probe by up to ε = {size_name(protocol['report_eps'])} ({protocol['norm']}, "
            f"{UNITS[protocol['units']]}), it accepts {100 * tar:.1f} % of genuine pairs and {100 * far:.1f} % of "
            "impostors",
        ]
        if certified := chosen["summary"]["certified"]:
            at = certified[protocol["eps"].index(protocol["report_eps"])]
            smoothed = chosen["certificate"]["method"] == "smoothing"
            parts.append(
                f"{'of its decisions smoothed by noise ' if smoothed else ''}no such change gets it below "
                f"{100 * at['tar']['mean']:.1f} % or above {100 * at['far']['mean']:.1f} %"
                f"{', each with its confidence' if smoothed else ''}"
            )
        return parts


def _at(learner: Mapping[str, Any], eps: float) -> tuple[float, float]:
    told = learner["brackets"]
    place = min(range(len(told["eps"])), key=lambda i: abs(told["eps"][i] - eps))
    return float(told["attacked"]["tar"][place]), float(told["attacked"]["far"][place])


def _parts(request: ModelVerificationRequest, subject: Subject) -> int:
    """Of the work on a model, which progress counts: attacks, smoothing by tenths of its draws, and all the rest."""
    from certimetric.deep.verification.smoothed import STEPS

    return 1 + len(request.eps) * len(request.attacks) + STEPS * (request.certifier(subject) != "lipschitz")


def _measured(request: ModelVerificationRequest, subject: Subject, advance: Callable[[], None]) -> dict[str, Any]:
    """A model as the document has it."""
    import torch

    from certimetric.auditing.model_verification.galleries import attacked_pairs, extreme_pairs
    from certimetric.deep.retrieval.evaluation import MODEL, WORST
    from certimetric.deep.verification import evaluate_verification

    calibration, test, _ = request.parts
    sides = [request.images.select(torch.from_numpy(rows)) for rows in (calibration, test)]
    common: dict[str, Any] = {"metric": request.metric, "far": request.rates, "with_pixels": False}
    common["seed"] = request.seed
    tuned = evaluate_verification(subject.model, sides[0], n_resamples=0, **common)
    attacks = [attack for eps in request.eps for attack in request.make_attacks(eps)]
    found = evaluate_verification(
        subject.model,
        sides[1],
        calibration=tuned,
        attacks=attacks,
        n_attacked=request.n_attacked,
        surrogate=None if request.surrogate is None else request.surrogate.model,
        advance=advance,
        **common,
    )
    curve, chosen_on = found.curves[MODEL], tuned.curves[MODEL]
    threshold = chosen_on.threshold_at(request.far)
    after = {}
    for (_, attack, _, eps), pairs in found.attacked.items():
        if attack == WORST or len(request.attacks) == 1:
            after[eps] = pairs
    # What withstands a larger change withstands a smaller one; an attack may have missed that.
    sizes = sorted(after)
    genuine = after[sizes[0]].genuine
    worst = [after[sizes[0]].clean]
    for size in sizes:
        before, now = worst[-1], after[size].distances
        worst.append(np.where(genuine, np.maximum(before, now), np.minimum(before, now)))
    rates = [_rates(distances, genuine, threshold) for distances in worst]
    quoted_size = min(sizes, key=lambda size: abs(size - request.report_eps))
    quoted = worst[1 + sizes.index(quoted_size)]
    certificate = _certificate(request, subject, sides[1], threshold, after, advance)
    proven = certificate.pop("told", {})
    # Attacks are on the model as it is: what is certified of another decision, a smoothed one, is no bound for them.
    bounding = {} if certificate.get("method") == "smoothing" else proven
    points = [row for row in found.rows if row["attack"] == "clean" and row["target_far"] is not None]
    operating = [_point(row, chosen_on, curve) for row in points]
    at = next(each for each in operating if math.isclose(each["target"], request.far))
    summary = found.summary[0]
    return {
        "spec": subject.name,
        "label": _LABELS[request.images.kind.pictures] if subject.name == PIXELS else subject.name,
        "parameters": {},
        "pairs": {
            "calibration": [chosen_on.n_genuine, chosen_on.n_impostor],
            "test": [curve.n_genuine, curve.n_impostor],
        },
        "splits": [{"split": 0, "threshold": finite(threshold)}],
        "summary": {
            "tar": at["tar"],
            "far": at["far"],
            "tar_matched": {"mean": curve.tar_at(request.far), "low": None, "high": None},
            **{key: _estimate(summary, key) for key in ("auc", "eer")},
            "attacked": dict(zip(("tar", "far"), ({"mean": rate} for rate in _rates(quoted, genuine, threshold)))),
            "operating_points": operating,
            "certified": proven.get("points", []),
        },
        "certificate": certificate,
        "groups": []
        if request.groups is None
        else rates_by_group(request, subject.model, sides[1], request.groups[test], threshold),
        "det": det([curve]),
        "histogram": _histogram(worst[0], genuine, threshold),
        "under_attack": {
            "eps": request.report_eps,
            "pairs": len(genuine),
            "clean": _curve(worst[0], genuine),
            "attacked": _curve(quoted, genuine),
            **({"certified": bounding["curve"]} if bounding else {}),
        },
        "brackets": {
            "pairs": len(genuine),
            "eps": [0.0, *sizes],
            "attacked": {"tar": [tar for tar, _ in rates], "far": [far for _, far in rates]},
            **({"certified": bounding["rates"]} if bounding else {}),
        },
        "worst": [*extreme_pairs(request, sides[1], found.worst, threshold)],
        "gallery": [*attacked_pairs(request, subject.model, sides[1], after[quoted_size], curve, threshold)],
    }


def _certificate(
    request: ModelVerificationRequest,
    subject: Subject,
    images: Any,
    threshold: float,
    after: Mapping[float, Any],
    advance: Callable[[], None],
) -> dict[str, Any]:
    """What is certified of the attacked pairs; ``failed`` says why nothing is, ``broken`` counts decisions that attacks
    turned all the same, and ``trial`` tells what became of smoothed ones under attack."""
    from certimetric.deep.verification import attack_smoothed, certify_verification

    if request.certify is None:
        return {"failed": "no certificate was asked for"}
    if not math.isfinite(threshold):
        return {"failed": "nothing is accepted"}
    try:
        made = certify_verification(
            subject.model,
            images,
            threshold=threshold,
            metric=request.metric,
            method=request.certifier(subject),
            n_pairs=request.n_attacked,
            seed=request.seed,
            advance=advance,
        )
    except ValueError as error:
        return {"failed": " ".join(str(error).split())}
    sizes = [0.0, *request.eps]
    rates, curve = made.certified_rates(sizes), made.curve(request.report_eps)
    told = {key: getattr(rates, key).tolist() for key in ("tar", "far")}
    points = [
        {"eps": eps, "tar": {"mean": tar}, "far": {"mean": far}}
        for eps, tar, far in zip(sizes, told["tar"], told["far"])
    ]
    thinned = None if curve is None else curve.thinned(N_POINTS)
    trial = None
    if made.method == "smoothing":
        attack = request.make_attacks(request.eps[0])[0]
        found = attack_smoothed(made, subject.model, images, attack=attack)
        trial = {"eps": found.eps, "checked": len(found.rows), "allowed": found.allowed, "broken": found.broken}
        trial["turned"] = int(found.turned.sum())
    return {
        **{key: getattr(made, key) for key in ("method", "settings", "constant", "confidence")},
        "pairs": len(made.pairs),
        "abstained": int(made.abstained.sum()),
        "broken": int(sum(len(made.broken_by(pairs, eps)) for eps, pairs in after.items())),
        "trial": trial,
        "told": {
            "rates": told,
            "points": points,
            "curve": thinned and {"far": thinned.far.tolist(), "tar": thinned.tar.tolist()},
        },
    }


def _rates(distances: Any, genuine: Any, threshold: float) -> tuple[float, float]:
    accepted = distances <= threshold
    return float(accepted[genuine].mean()), float(accepted[~genuine].mean())


def _point(row: Mapping[str, Any], chosen_on: VerificationCurve, curve: VerificationCurve) -> dict[str, Any]:
    """A false accept rate; where the pairs are too few for it, what they say all the same, and that they are."""
    threshold = chosen_on.threshold_at(row["target_far"])
    least = claimable_far(min(chosen_on.n_impostor, curve.n_impostor))
    known = row["tar"] is not None
    rates = {key: _estimate(row, key) for key in ("tar", "far")}
    if not known:
        for key, rate in zip(("far", "tar"), curve.at(threshold)):
            rates[key]["mean"] = rate
    return {
        "target": row["target_far"],
        "thresholds": [finite(threshold)],
        "claimable": known and row["target_far"] >= least,
        **rates,
    }


def _estimate(row: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {"mean": row[key], "low": row.get(f"{key}_low"), "high": row.get(f"{key}_high")}


def _curve(distances: Any, genuine: Any) -> dict[str, Any]:
    told = verification_curve(distances, genuine).thinned(N_POINTS)
    return {"far": told.far.tolist(), "tar": told.tar.tolist()}


def _histogram(distances: Any, genuine: Any, threshold: float) -> dict[str, Any]:
    edges = np.linspace(min(0.0, float(distances.min())), float(distances.max()) or 1.0, N_BINS + 1)
    shares = {
        name: (np.histogram(distances[kind], edges)[0] / kind.sum()).tolist()
        for name, kind in (("genuine", genuine), ("impostor", ~genuine))
    }
    return {"edges": edges.tolist(), "threshold": finite(threshold), **shares}
