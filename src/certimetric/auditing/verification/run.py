"""The evidence of an audit of verification: cells, attacks on decisions, figures over splits, and the verdict."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from certimetric.attacks.pairs import PairAttack
from certimetric.auditing.run import Evidence, Gathered
from certimetric.auditing.tables.cells import compute_all, data_told, examine_first, metric_files, options_told
from certimetric.auditing.tables.summary import choose_eps, finished
from certimetric.auditing.thresholds import Threshold
from certimetric.auditing.verdict import front_runner, with_interval
from certimetric.auditing.verification.cells import compute_cell, told_pairs, verification_cell
from certimetric.auditing.verification.checks import Observed
from certimetric.auditing.verification.evidence import compute_evidence, evidence_cell, rates_of, told_threat
from certimetric.auditing.verification.request import VerificationRequest, VerificationSplit
from certimetric.auditing.verification.summary import (
    Decided,
    Estimate,
    Rates,
    certified,
    det,
    groups,
    histogram,
    summarise,
    tell_split,
)
from certimetric.report.document import VERIFICATION_SCHEMA
from certimetric.runs.key import canonical
from certimetric.runs.scheduling import Execute, in_workers
from certimetric.runs.store import Store


class VerificationEvidence(Evidence):
    """The evidence of an audit of verification on a table."""

    asked = VerificationRequest
    scope = "verification"
    schema = VERIFICATION_SCHEMA
    with_titles = True

    def options(self) -> dict[str, Any]:
        request = self.request
        norm = request.norm if request.bound is None else request.bound.norm
        return {
            **options_told(request, request.data.sha256(), norm),
            "groups": canonical(request.groups),
            "far": request.far,
            "n_pairs": request.limit,
            "given": told_pairs(request),
            "threat": told_threat(request),
        }

    def command(self) -> str:
        request = self.request
        learners = ", ".join(repr(subject.spec) for subject in request.subjects)
        eps = "" if request.eps is None else f", eps={list(request.eps)}"
        grouped = "" if request.groups is None else ", groups=…"
        threat = "" if request.threat is None else f", threat={request.threat!r}"
        given = request.given
        pairs = repr(request.limit or "all") if given is None else "…" if given.source is None else repr(given.source)
        pairs += "" if request.ids is None else ", ids=…"
        return (
            f"certimetric.auditing.audit_verification(X, y, learners=[{learners}], far={request.far:g}, "
            f"pairs={pairs}, norm={request.norm_name!r}{eps}{threat}, repeats={request.repeats}, "
            f"test_size={request.test_size:g}{grouped}, seed={request.seed})"
        )

    def gather(self, store: Store, counting: Any) -> Gathered:
        """Fit, calibrate and certify every learner on every split, and attack the decisions of one."""
        request: VerificationRequest = self.request
        digest, n = request.data.sha256(), len(request.subjects)
        # Split by split, so that every learner has figures early.
        cells = [
            verification_cell(request, digest, subject, i)
            for i in range(request.repeats)
            for subject in request.subjects
        ]
        execute = in_workers(partial(compute_cell, request, store.folder), request.n_jobs)
        outcome, told = compute_all(request, store, cells, execute, counting)
        parts = [request.part(split) for split in range(request.repeats)]
        decided = [[Decided(parts[cell["split"]], cell) for cell in finished(cells)] for cells in told]
        # Most pairs are impostors that are far off: sizes that suit them would leave no genuine pair certified.
        eps, quoted = choose_eps(request, [[each.dodged for each in some if len(each.dodged)] for some in decided])

        def examine(fitted: dict[str, Any]) -> Execute:
            known = {spec: (each["components"], each["threshold"]) for spec, each in fitted.items()}
            return in_workers(partial(compute_evidence, request, known, quoted), request.n_jobs)

        evidence = partial(evidence_cell, request, eps=quoted)
        findings = examine_first(request, store, outcome.records, evidence, examine, counting)
        rates = Rates(request.codes, parts, request.seed)
        places = [[cell["split"] for cell in finished(cells)] for cells in told]
        learners = [
            self._learner(i, told[i], decided[i], partial(rates.estimate, places[i]), eps, findings[i])
            for i in range(n)
        ]
        return Gathered(
            data=self._data(parts),
            protocol={
                "far": request.far,
                "rates": list(request.rates),
                "n_pairs": request.limit,
                "given": request.given is not None,
                "norm": request.norm_name,
                "units": "standardised",
                "test_size": request.test_size,
                "repeats": request.repeats,
                "seed": request.seed,
                "apart": parts[0].apart,
                "attacks": [repr(PairAttack())],
                "limits": request.limits,
                "eps": eps,
                "report_eps": quoted,
            },
            learners=learners,
            observed=Observed(request, learners, decided, findings, rates),
            cells=outcome.counts,
            traces={"metric_files": metric_files(request.subjects, told)},
        )

    def _data(self, parts: list[VerificationSplit]) -> dict[str, Any]:
        request, first = self.request, parts[0]
        rows = {"training": first.train, "calibration": first.calibration, "test": first.test}
        return {
            **data_told(request),
            "groups": list(request.group_names),
            "parts": [
                {"part": name, "subjects": len(np.unique(request.codes[some])), "instances": len(some)}
                for name, some in rows.items()
            ],
            "pairs": [
                {"part": name, "genuine": int(genuine.sum()), "impostor": int((~genuine).sum())}
                for name, genuine in (("calibration", first.calibration_genuine), ("test", first.genuine))
            ],
            "sha256": request.data.sha256(),
        }

    def _learner(
        self,
        i: int,
        cells: list[dict[str, Any]],
        decided: list[Decided],
        estimate: Estimate,
        eps: list[float],
        found: dict[str, Any] | None,
    ) -> dict[str, Any]:
        request, subject = self.request, self.request.subjects[i]
        left = iter(decided)
        examined = found is not None and "failed" not in found
        return {
            "spec": subject.spec,
            "label": subject.label,
            "parameters": subject.parameters,
            "splits": [tell_split(cell, None if "failed" in cell else next(left)) for cell in cells],
            "summary": summarise(request, estimate, decided, eps),
            "groups": groups(request, estimate, decided),
            "det": det([each.curve for each in decided]),
            "histogram": histogram(decided[0]) if decided else None,
            "under_attack": found["det"] if examined and found else None,
            "brackets": _brackets(found, eps) if examined and found else None,
            "worst": found["worst"] if examined and found else [],
        }

    def recommend(self, found: Gathered) -> int | None:
        """The learner whose decisions are certified best, among those that tell pairs apart well enough.

        Best certified is the largest TAR less FAR at the quoted ε. Well enough is a TAR that is not significantly below
        the best, with thresholds for the same false accept rate on test pairs.
        """
        quoted = found.protocol["eps"].index(found.protocol["report_eps"])
        able = {i: _ends(each["summary"]["tar_matched"]) for i, each in enumerate(found.learners) if each["summary"]}

        def robustness(i: int) -> tuple[float, ...]:
            at = found.learners[i]["summary"]["certified"][quoted]
            return at["tar"]["mean"] - at["far"]["mean"], able[i]["mean"]

        return front_runner(able, robustness)

    def observe(self, found: Gathered, threshold: Threshold, position: int) -> float | str | None:
        summary, decided = found.learners[position]["summary"], found.observed.decided[position]
        if not summary:
            return None
        if threshold.figure == "auc":
            return float(summary["auc"]["mean"])
        at = threshold.at or 0.0
        if threshold.figure == "tar":
            of = next(each for each in summary["operating_points"] if math.isclose(each["target"], at))
            return float(of["tar"]["mean"])
        estimate = partial(found.observed.rates.estimate, [each.cell["split"] for each in decided])
        rates = certified(estimate, decided, at)
        return rates["tar"]["mean"] if threshold.figure == "certified" else 1.0 - rates["far"]["mean"]

    def say(self, found: Gathered, recommended: int | None) -> list[str]:
        if recommended is None:
            return ["No learner could be fitted, so there is nothing to recommend"]
        protocol, chosen = found.protocol, found.learners[recommended]
        summary, eps = chosen["summary"], protocol["report_eps"]
        at = summary["certified"][protocol["eps"].index(eps)]
        limits = "".join(f"; {limit}" for limit in protocol["limits"])
        norm = "the ellipsoid norm" if self.request.norm_name == "ellipsoid" else f"{self.request.norm_name} norm"
        several = " is recommended: it" if len(found.learners) > 1 else ""
        sentence = (
            f"{chosen['label']}{several} accepts {with_interval(summary['tar'])} of genuine pairs and "
            f"{100 * summary['far']['mean']:.2g} % of impostors at the threshold for a false accept rate of "
            f"{100 * protocol['far']:g} %"
        )
        specs = [learner["spec"] for learner in found.learners]
        baseline = found.learners[specs.index("euclidean")]["summary"] if "euclidean" in specs else None
        if baseline and specs[recommended] != "euclidean":
            sentence += f", against {100 * baseline['tar']['mean']:.1f} % of genuine pairs for Euclidean"
        return [
            sentence,
            f"within ε = {eps:g} standard deviations ({norm}{limits}) no dodging gets it below "
            f"{100 * at['tar']['mean']:.1f} % of genuine pairs, and no impersonation above "
            f"{100 * at['far']['mean']:.2g} % of impostors",
        ]


def _ends(rate: dict[str, Any]) -> dict[str, float]:
    mean = float(rate["mean"])
    low, high = (mean if rate[key] is None else float(rate[key]) for key in ("low", "high"))
    return {"mean": mean, "low": low, "high": high}


def _brackets(found: dict[str, Any], eps: list[float]) -> dict[str, Any]:
    """TAR and FAR of the attacked pairs at the calibrated threshold, against the size of the change."""
    genuine, accepted = found["genuine"], found["accepted"]
    eps = eps if not eps[0] else [0.0, *eps]
    told: dict[str, Any] = {"pairs": len(genuine), "eps": eps}
    for name, turned in (
        ("attacked", [found["attacks"] <= size for size in eps]),
        ("certified", [found["radii"] < size for size in eps]),
    ):
        tar, far = zip(*(rates_of(genuine, accepted, each) for each in turned))
        told[name] = {"tar": list(tar), "far": list(far)}
    return told
