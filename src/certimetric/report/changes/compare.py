"""From the documents of two audits to that of their comparison: figures, thresholds, checks, what does not compare."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from certimetric.base.version import __version__
from certimetric.base.wording import counted
from certimetric.report.changes.outcomes import unpack
from certimetric.report.changes.significance import Change, by_intervals, holm, in_pairs
from certimetric.report.changes.wording import change_text, figure_name
from certimetric.report.comparison import Cell, Column
from certimetric.report.document import COMPARISON_SCHEMA
from certimetric.report.view import View
from certimetric.report.views import view_of

ALPHA = 0.05
Names = Mapping[str, str]  # of learners: those of the second audit by those of the first


def compare_documents(
    before: Mapping[str, Any], after: Mapping[str, Any], *, tolerance: float = 0.01, command: str = ""
) -> dict[str, Any]:
    """The comparison of two audits of one kind as a document.

    Raises
    ------
    ValueError
        They are of different kinds, or no learner is in both.
    """
    if before.get("schema") != after.get("schema"):
        kinds = " and ".join(str(each.get("schema")) for each in (before, after))
        raise ValueError(f"the audits are of different kinds ({kinds}): expected two of one kind")
    views = view_of(before), view_of(after)
    names, remarks = _matched(*views)
    # Why nothing compares; "" where the audits saw the same data.
    seen = [view.document["data"].get("sha256") for view in views]
    other = "" if seen[0] == seen[1] else "the audits saw other data, or drew others of them"
    figures = [figure for one, two in names.items() for figure in _figures(*views, one, two, other)]
    _judge(figures, tolerance)
    rules = [*_thresholds(*views, names), *_checks(*views, names)]
    return {
        "schema": COMPARISON_SCHEMA,
        "version": __version__,
        "title": f"{views[1].title}, beside an earlier one",
        "command": command,
        "tolerance": tolerance,
        "before": _told(views[0]),
        "after": _told(views[1]),
        "learners": [{"spec": two, "before": one} for one, two in names.items()],
        "figures": figures,
        "rules": rules,
        "about_checks": after.get("about_checks") or {},
        "remarks": [*remarks, *_remarks(*views, figures, other)],
        "verdict": _verdict(figures, rules, tolerance),
    }


def _told(view: View) -> dict[str, Any]:
    document = view.document
    told = document["reproduction"]
    return {
        "title": view.title,
        "status": document["verdict"]["status"],
        "sentence": document["verdict"]["sentence"],
        "sha256": document["data"].get("sha256"),
        **{key: told.get(key) for key in ("started", "command", "versions")},
    }


def _matched(before: View, after: View) -> tuple[dict[str, str], list[str]]:
    """Learners by their names; where each audit has one of its own they are taken for one another."""
    first, second = ([each["spec"] for each in view.learners] for view in (before, after))
    names, remarks = {spec: spec for spec in first if spec in second}, []
    alone = [spec for spec in first if spec not in second], [spec for spec in second if spec not in first]
    if len(alone[0]) == len(alone[1]) == 1:
        ((one,), (two,)) = alone
        names[one] = two
        remarks.append(f"{two} is compared with {one} of the first audit: each is the only one of its name.")
    else:
        for place, specs in zip(("first", "second"), alone):
            if specs:
                remarks.append(f"Only in the {place} audit, and not compared: {', '.join(specs)}.")
    if not names:
        raise ValueError(
            f"the audits have no {before.noun} in common: {', '.join(first)} in the first, {', '.join(second)} in the "
            "second"
        )
    return names, remarks


def _same_rows(before: View, after: View) -> Mapping[str, Any] | None:
    """Which rows both audits tested, and how many; None where they are not the same."""
    one, two = (view.document["data"].get("tested") for view in (before, after))
    return one if one == two else None


def _figures(before: View, after: View, one: str, two: str, other: str) -> Iterator[dict[str, Any]]:
    """Every figure that either audit has of a learner."""
    sides = [{column.key: column for column in view.columns} for view in (before, after)]
    places = [[each["spec"] for each in view.learners].index(spec) for view, spec in ((before, one), (after, two))]
    learners = [view.learners[place] for view, place in zip((before, after), places)]
    for key in dict.fromkeys([*sides[0], *sides[1]]):
        columns = [side.get(key) for side in sides]
        column = columns[1] or columns[0]
        assert column is not None
        cells = [None if each is None else each.cells[place] for each, place in zip(columns, places)]
        figure: dict[str, Any] = {
            "learner": two,
            **{name: getattr(column, name) for name in ("key", "name", "qualifier", "unit", "better")},
            "before": _estimate(cells[0]),
            "after": _estimate(cells[1]),
            **dict.fromkeys(("change", "p", "rows")),
            **dict.fromkeys(("how", "outcome", "reason"), ""),
        }
        reason = other or _incomparable(before, after, columns, cells, learners)
        if reason:
            yield figure | {"outcome": "not comparable", "reason": reason}
        elif not column.better or key in after.unsteady:
            yield figure | {"outcome": "not judged"}
        else:
            yield figure | _change(cells, [(each.get("outcomes") or {}).get(key) for each in learners], before, after)


def _estimate(cell: Cell | None) -> dict[str, Any] | None:
    if cell is None:
        return None
    return {"mean": _json(cell.value), "low": _json(cell.low), "high": _json(cell.high)}


def _json(value: float | None) -> float | str | None:
    return value if value is None or math.isfinite(value) else "inf" if value > 0 else "-inf"


def _incomparable(
    before: View,
    after: View,
    columns: Sequence[Column | None],
    cells: Sequence[Cell | None],
    learners: Sequence[Mapping[str, Any]],
) -> str:
    """Why a figure does not compare; "" where it does."""
    one, two = columns
    for place, cell in zip(("first", "second"), cells):
        if cell is None or cell.value is None:
            return f"the {place} audit has no such figure"
    assert one is not None and two is not None
    if one.qualifier != two.qualifier:
        return f"at {one.qualifier or 'no size'} in the first audit, at {two.qualifier or 'no size'} in the second"
    rests = before.rests_on(one), after.rests_on(two)
    for name in dict.fromkeys([*rests[0], *rests[1]]):
        if rests[0].get(name) != rests[1].get(name):
            return f"with other {name}: {_short(rests[0].get(name))} in the first, {_short(rests[1].get(name))} then"
    if "certified" in one.key:
        methods = [(each.get("certificate") or {}).get("method") for each in learners]
        if methods[0] != methods[1]:
            return f"certified by {methods[0] or 'nothing'} in the first audit, by {methods[1] or 'nothing'} then"
    return ""


def _short(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return "none" if value in (None, [], ()) else text if len(text) <= 80 else f"{text[:77]}…"


def _change(cells: Sequence[Cell | None], packed: Sequence[str | None], before: View, after: View) -> dict[str, Any]:
    """The change of a figure with its interval and p-value, and how that is known."""
    (a, b), rows = cells, None
    assert a is not None and b is not None and a.value is not None and b.value is not None
    found, how = by_intervals((a.value, a.low, a.high), (b.value, b.low, b.high)), "two intervals"
    if packed[0] and packed[1] and (tested := _same_rows(before, after)) is not None:
        counts = unpack(packed[0]), unpack(packed[1])
        found, how = in_pairs(*counts, tested["tests"] / tested["rows"]), "the same rows in pairs"
        rows = {
            "tested": len(counts[0]),
            "gained": int((counts[1] > counts[0]).sum()),
            "lost": int((counts[1] < counts[0]).sum()),
        }
    elif found.p is None:
        found, how = Change(None, None, None), "no interval: by the tolerance alone"
    difference = 0.0 if a.value == b.value else b.value - a.value
    change = {"mean": _json(difference), "low": _json(found.low), "high": _json(found.high)}
    return {"change": change, "p": found.p, "rows": rows, "how": how}


def _judge(figures: list[dict[str, Any]], tolerance: float) -> None:
    """Say of every figure that compares what became of it; p-values are those with regard to all of them."""
    open_ = [figure for figure in figures if not figure["outcome"]]
    known = [figure for figure in open_ if figure["p"] is not None]
    for figure, p in zip(known, holm([figure["p"] for figure in known])):
        figure["p"] = p
    for figure in open_:
        change = float(figure["change"]["mean"])
        harm = change if figure["better"] == "lower" else -change
        # Shares in points; of whatever has a unit, a share of what it was.
        scale = 1.0 if figure["unit"] in ("%", "") else abs(float(figure["before"]["mean"]))
        beyond = harm > tolerance * scale + 1e-12 if math.isfinite(scale) else harm > 0
        moved = figure["rows"] is not None and (figure["rows"]["gained"] or figure["rows"]["lost"])
        if change == 0 and not moved:
            figure["outcome"] = "same"
        elif figure["p"] is not None and figure["p"] > ALPHA:
            figure["outcome"] = "no evidence"
        elif harm > 0:
            figure["outcome"] = "regression" if beyond else "tolerated"
        else:
            figure["outcome"] = "improved" if harm < 0 else "no evidence"


def _thresholds(before: View, after: View, names: Names) -> Iterator[dict[str, Any]]:
    """Thresholds that are missed in either audit; one that only an audit knows is not judged."""

    def judged(view: View, renamed: Names) -> dict[str, bool]:
        told = {}
        for entry in view.document["thresholds"]:
            expression = str(entry["expression"])
            for one, two in renamed.items():
                if expression.startswith(f"{one}."):
                    expression = two + expression[len(one) :]
                    break
            told[expression] = entry["passed"] is True
        return told

    first, second = judged(before, names), judged(after, {})
    for expression in sorted(first.keys() - second.keys()):
        message = "the second audit has no such threshold"
        yield {"code": None, "title": expression, "learner": None, "outcome": "unknown", "message": message}
    for expression, held in second.items():
        if held and first.get(expression, True):
            continue
        outcome = "mended" if held else "unknown" if expression not in first else "regression"
        outcome = "still" if not held and first.get(expression) is False else outcome
        message = "it holds" if held else "it does not hold"
        yield {"code": None, "title": expression, "learner": None, "outcome": outcome, "message": message}


def _checks(before: View, after: View, names: Names) -> Iterator[dict[str, Any]]:
    """Checks that found an issue in either audit. An issue is new where the check looked and found none before."""
    old = {(each["code"], names.get(each["learner"], each["learner"])): each for each in _issues(before)}
    new = {(each["code"], each["learner"]): each for each in _issues(after)}
    looked = [
        {each["code"] for each in view.document["checks"] if each["severity"] not in ("skipped", "not applicable")}
        for view in (before, after)
    ]
    matched = {None, *names.values()}
    for key in dict.fromkeys([*new, *old]):
        code, learner = key
        if learner not in matched:
            continue
        entry = new.get(key) or old[key]
        if key in new:
            outcome = "still" if key in old else "regression" if code in looked[0] else "unknown"
        else:
            outcome = "mended" if code in looked[1] else "unknown"
        message = entry["message"] if outcome != "unknown" or key in new else "The second audit did not look at it."
        told = {"code": code, "title": entry["title"], "learner": learner}
        yield told | {"outcome": outcome, "message": message}


def _issues(view: View) -> list[Mapping[str, Any]]:
    return [each for each in view.document["checks"] if each["severity"] == "issue"]


def _remarks(before: View, after: View, figures: Sequence[Mapping[str, Any]], other: str) -> Iterator[str]:
    """What is to be known of how the audits compare."""
    if other:
        yield f"Nothing compares: {other}."
    elif _same_rows(before, after) is not None:
        yield "Both audits tested the same rows, which are compared in pairs where their outcomes are kept."
    elif any(figure["how"] == "two intervals" for figure in figures):
        yield "The audits tested other rows or splits, or do not tell which: their figures are compared by intervals."
    reasons: dict[str, list[str]] = {}
    for figure in figures:
        if figure["outcome"] == "not comparable" and not other:
            reasons.setdefault(figure["reason"], []).append(figure_name(figure))
    for reason, whose in reasons.items():
        yield f"Not comparable, {reason}: {', '.join(dict.fromkeys(whose))}."
    versions = [view.document["reproduction"].get("versions") or {} for view in (before, after)]
    if differ := [
        f"{name} {versions[0].get(name)} → {versions[1].get(name)}"
        for name in dict.fromkeys([*versions[0], *versions[1]])
        if versions[0].get(name) != versions[1].get(name)
    ]:
        yield f"Other versions: {', '.join(differ)}."


def _verdict(
    figures: Sequence[Mapping[str, Any]], rules: Sequence[Mapping[str, Any]], tolerance: float
) -> dict[str, Any]:
    judged = [each for each in figures if each["outcome"] not in ("not comparable", "not judged")]
    worse = [each for each in judged if each["outcome"] == "regression"]
    broken = [each for each in rules if each["outcome"] == "regression"]
    parts = []
    if worse:
        told = [f"{figure_name(each)} of {each['learner']} by {change_text(each)}" for each in worse[:3]]
        more = f" and {len(worse) - 3} more" if len(worse) > 3 else ""
        parts.append(f"{counted(len(worse), 'figure')} became worse: {', '.join(told)}{more}")
    if broken:
        titles = dict.fromkeys(f"{each['code'] or 'the threshold'} {each['title']}" for each in broken)
        parts.append(f"what held before and does not any more: {', '.join(titles)}")
    status = "REGRESSION" if worse or broken else "NO REGRESSION" if judged else "NOT COMPARABLE"
    if not judged:
        return {"status": status, "judged": 0, "sentence": _joined([*parts, "no figure of these audits compares"])}
    if not worse:
        within = f"the tolerance of {100 * tolerance:g} %"
        parts.append(f"none of {counted(len(judged), 'figure')} became worse by more than chance and {within}")
    if better := sum(each["outcome"] == "improved" for each in judged):
        parts.append(f"{counted(better, 'figure')} became better")
    return {"status": status, "judged": len(judged), "sentence": _joined(parts)}


def _joined(parts: Sequence[str]) -> str:
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}."
