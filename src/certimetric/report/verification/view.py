"""The view of an audit of verification: verdict, DET curves, distances, operating points, groups, worst pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from certimetric.base.wording import PIXELS, counted
from certimetric.report.blocks import threat_view
from certimetric.report.comparison import Column, make_column
from certimetric.report.document import (
    BASELINE,
    VERIFICATION_SCHEMA,
    bounds,
    items_of,
    models_told,
    number,
    of_models,
    quoted_eps,
)
from certimetric.report.formatting import MISSING, percent, plain, unit_name
from certimetric.report.pictures import images
from certimetric.report.plots import with_interval
from certimetric.report.verification.figures import certified_figures, det_figures, distance_figures, shown
from certimetric.report.verification.threats import threats, untried
from certimetric.report.view import Block, View, figures_block

if TYPE_CHECKING:
    import pandas as pd

_KINDS = {
    ("genuine", "extreme"): ("Genuine pairs that are farthest apart", "of one subject"),
    ("impostor", "extreme"): ("Impostor pairs that are nearest", "of two subjects"),
    ("genuine", "fragile"): ("Accepted pairs that are dodged most easily", "of one subject"),
    ("impostor", "fragile"): ("Rejected pairs that are impersonated most easily", "of two subjects"),
}


def _threat(view: VerificationView) -> dict[str, Any] | None:
    told = threat_view(view)
    smoothed = [
        (learner["label"], plain(certificate["settings"]["sigma"]), percent(certificate["confidence"]))
        for learner in view.learners
        if (certificate := learner.get("certificate") or {}).get("method") == "smoothing"
    ]
    return told and told | {
        "unit": unit_name(view.document),
        "smoothed": smoothed,
        "surrogate": view.document["protocol"].get("surrogate"),
    }


def _comparison(view: VerificationView) -> dict[str, Any]:
    """Of each learner a row for each false accept rate: thresholds, and what they accept of the test pairs."""
    rows = []
    for look, learner in zip(view.looks, view.learners):
        for point in (learner["summary"] or {}).get("operating_points", []):
            thresholds = [number(value) for value in point["thresholds"]]
            known = [value for value in thresholds if value is not None]
            span = (
                MISSING
                if not known
                else plain(known[0], 4)
                if len({plain(value, 4) for value in known}) == 1
                else f"{plain(min(known), 4)} to {plain(max(known), 4)}"
            )
            rows.append(
                (
                    look,
                    percent(share := point["target"], max(1, len(f"{100 * share:.10g}".partition(".")[2]))),
                    [span, with_interval(bounds(point["tar"])), _rate(bounds(point["far"]))],
                    "" if point["claimable"] else "too few pairs to show it",
                )
            )
    return {"points": rows}


def _rate(point: Sequence[float | None]) -> str:
    """A small rate in per cent with its interval, to three digits."""
    middle, low, high = (None if value is None else f"{plain(100 * value)}" for value in point)
    if middle is None:
        return MISSING
    return f"{middle} %" if low is None or high is None else f"{middle} % [{low}, {high}]"


def _groups(view: VerificationView) -> dict[str, Any] | None:
    rows = []
    for look, learner in zip(view.looks, view.learners):
        for row in learner["groups"]:
            figures = [str(row["n_tar"]), with_interval(bounds(row["tar"])), str(row["n_far"])]
            figures += [_rate(bounds(row["far"])), _rate(bounds(row["far_within"]))]
            rows.append((look, row["group"], figures))
    return {"rows": rows} if rows else None


def _pairs(view: VerificationView) -> dict[str, Any] | None:
    """Cards of the worst pairs, for each learner by their kind; those of the learner that is drawn are open."""
    first, groups = shown(view.document), []
    for look, learner in zip(view.looks, view.learners):
        if learner["worst"]:
            kinds = []
            for (kind, why), (title, of) in _KINDS.items():
                entries = [each for each in learner["worst"] if (each["kind"], each["why"]) == (kind, why)]
                if entries:
                    kinds.append({"title": title, "of": of, "cards": [_card(each) for each in entries]})
            opened = first is not None and learner["spec"] == first["spec"]
            groups.append({"look": look, "kinds": kinds, "open": opened})
    return {"groups": groups} if groups else None


def _galleries(view: VerificationView) -> dict[str, Any] | None:
    """What attacks made of probes that were decided rightly, for each model by what they attempt."""
    first, groups = shown(view.document), []
    for look, learner in zip(view.looks, view.learners):
        if gallery := learner.get("gallery"):
            kinds = [
                {"title": title, "cards": [_attacked_card(each) for each in gallery if each["kind"] == kind]}
                for kind, title in (("genuine", "Dodging"), ("impostor", "Impersonation"))
            ]
            opened = first is not None and learner["spec"] == first["spec"]
            groups.append({"look": look, "kinds": [kind for kind in kinds if kind["cards"]], "open": opened})
    eps = plain(number(view.document["protocol"]["report_eps"]))
    return {"groups": groups, "eps": eps, "lines": items_of(view.document) == "inputs"} if groups else None


def _attacked_card(entry: Mapping[str, Any]) -> dict[str, Any]:
    before, after = ("accepted", "rejected") if entry["kind"] == "genuine" else ("rejected", "accepted")
    told = {key: plain(number(entry[key]), 4) for key in ("distance", "attacked_distance", "threshold")}
    # A difference of nothing is magnified by no number.
    return {**entry, **told, "before": before, "after": after, "magnified": plain(number(entry["magnified"]))}


def _card(entry: Mapping[str, Any]) -> dict[str, Any]:
    found = number(entry["attack_distance"])
    right = entry["accepted"] == (entry["kind"] == "genuine")
    return {
        "subjects": entry["subjects"],
        "rows": entry["pair"],
        "right": right,
        "decision": "accepted" if entry["accepted"] else "rejected",
        "distance": plain(number(entry["distance"])),
        "radius": None if entry["radius"] is None else plain(number(entry["radius"])),
        "attack": None if found is None else plain(found),
        "pictures": images(entry["pictures"]) if entry["pictures"] else {},
        "features": [
            {
                "name": each["name"],
                "values": [plain(number(each[key]), 4) for key in ("probe", "enrolled", "changed")],
                "move": ("+" if each["standardised"] > 0 else "") + plain(each["standardised"], 2),
            }
            for each in entry["features"]
        ],
    }


class VerificationView(View):
    """Verdict, DET curves, certificates, distances, operating points, groups, worst and attacked pairs."""

    schema, folder = VERIFICATION_SCHEMA, "verification"
    corner = "Metric"
    baseline = BASELINE
    untold = ("eer",)
    threats_of, untried_of = staticmethod(threats), staticmethod(untried)
    blocks = (
        Block("threat", "threat", "Threat model", _threat),
        figures_block("curves", "det", "False accepts and false rejects", det_figures, empty="No figures to draw."),
        figures_block("curves", "certified", "Dodging and impersonation", certified_figures),
        figures_block("curves", "distances", "Distances and threshold", distance_figures),
        Block("comparison", "comparison", "Comparison", _comparison),
        Block("classes", "groups", "Groups", _groups, heading="Groups, the least accepted first"),
        Block("instances", "pairs", "Worst pairs", _pairs),
        Block("instances", "galleries", "Attacked pairs", _galleries),
    )

    def __init__(self, document: Mapping[str, Any]) -> None:
        super().__init__(document)
        if self.of_models:
            self.noun, self.corner, self.baseline = "model", "Model", PIXELS  # type: ignore[misc]

    @property
    def title(self) -> str:
        return f"Verification on {self.document['data']['name']}"

    @property
    def of_models(self) -> bool:
        """Whether models on pictures or other inputs were audited, and not metrics on a table."""
        return of_models(self.document)

    @cached_property
    def columns(self) -> list[Column]:
        protocol, learners = self.document["protocol"], self.learners
        summaries = [learner["summary"] or {} for learner in learners]
        at = f"FAR {plain(100 * float(protocol['far']))} %"
        # At thresholds of its own pairs a metric may accept more of both kinds: only equal rates compare.

        def column(key: str, name: str, unit: str, better: str, qualifier: str = "") -> Column:
            return make_column([each.get(key) or {} for each in summaries], key, name, qualifier, unit, better)

        columns = [
            column("tar_matched", "TAR", "%", "higher", f"exactly {at}"),
            column("tar", "TAR calibrated", "%", "", at),
            column("far", "FAR calibrated", "%", "", at),
            column("eer", "Equal error rate", "%", "lower"),
            column("auc", "Area under the curve", "", "higher"),
        ]
        if (index := quoted_eps(self.document)) is not None:
            eps = f"ε = {plain(number(protocol['eps'][index]))}"
            for key, name, better in (("tar", "TAR certified", "higher"), ("far", "FAR certified", "lower")):
                attacked = [(each.get("attacked") or {}).get(key) or {} for each in summaries]
                if any(attacked):
                    told = name.replace("certified", "attacked")
                    columns.append(make_column(attacked, f"attacked_{key}", told, eps, "%", better))
                found = [each["certified"][index][key] if each.get("certified") else {} for each in summaries]
                if any(found) or not self.of_models:
                    columns.append(make_column(found, f"certified_{key}", name, eps, "%", better))
        return columns if self.of_models else [*columns, column("fit_seconds", "Fit", "s", "")]

    def lede(self) -> list[str]:
        """Size of the data, number of metrics and splits."""
        data, repeats = self.document["data"], self.document["protocol"]["repeats"]
        if self.of_models:
            size = f"{data['n_samples']} {items_of(self.document)} of {len(data['classes'])} subjects"
            return [size, models_told(self.document)]
        return [
            f"{data['n_samples']} instances × {data['n_features']} features of {len(data['classes'])} subjects",
            counted(len(self.learners), "metric"),
            f"{repeats} random {'split' if repeats == 1 else 'splits'}",
        ]

    def facts(self) -> list[tuple[str, str]]:
        """Parts, pairs and protocol."""
        data, protocol = self.document["data"], self.document["protocol"]
        given = protocol.get("given", False)
        shared = "no row in two of them, but some subjects" if given else "with the same subjects in all of them"
        apart = "no subject in two of them" if protocol["apart"] else shared
        drawn = f", at most {protocol['n_pairs']} of a kind, drawn" if protocol["n_pairs"] else ", all there are"
        return [
            (
                "Parts of the first split",
                ", ".join(
                    f"{each['part']} {each['instances']} of {each['subjects']} subjects" for each in data["parts"]
                )
                + f": {apart}",
            ),
            (
                "Pairs",
                "; ".join(
                    f"{each['part']}: {each['genuine']} genuine, {each['impostor']} impostor" for each in data["pairs"]
                )
                + drawn
                + ("; those that are tested were given" if given else ""),
            ),
            ("Calibrated to", f"a false accept rate of {100 * float(protocol['far']):g} %"),
            (
                "Splits",
                f"{protocol['repeats']} at random, {percent(protocol['test_size'], 0)} of the subjects "
                + ("that are left calibrated on" if given else "tested"),
            ),
            ("Seed", str(protocol["seed"])),
        ]

    def to_frame(self) -> pd.DataFrame:
        """A row for each learner and false accept rate that thresholds were calibrated to: TAR, FAR, intervals."""
        import pandas as pd

        rows = []
        for learner in self.learners:
            for point in (learner["summary"] or {}).get("operating_points", []):
                row = {"learner": learner["spec"], "target": point["target"], "claimable": point["claimable"]}
                for key in ("tar", "far"):
                    row |= dict(zip((key, f"{key}_low", f"{key}_high"), bounds(point[key])))
                rows.append(row)
        return pd.DataFrame(rows)

    def per_class(self) -> pd.DataFrame:
        """A row for each learner and group: TAR, FAR, and FAR against its own group."""
        import pandas as pd

        rows = [
            {
                "learner": learner["spec"],
                "group": row["group"],
                **{key: row[key]["mean"] for key in ("tar", "far", "far_within")},
            }
            for learner in self.learners
            for row in learner["groups"]
        ]
        return pd.DataFrame(rows)
