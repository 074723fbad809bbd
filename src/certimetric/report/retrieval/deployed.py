"""The index as it is deployed, beside the exact search on which all evidence rests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from certimetric.report.document import bounds, number, quoted_eps
from certimetric.report.formatting import percent
from certimetric.report.plots import with_interval
from certimetric.report.series import with_looks


def deployed_view(document: Mapping[str, Any]) -> dict[str, Any] | None:
    """R@1 of exact search and of the index, clean and attacked, and how often they agree; None without an index."""
    index, rows = quoted_eps(document), []
    for look, learner in with_looks(document, "deployed"):
        told, exact = learner["deployed"], [learner["clean"]["recall_at_1"]]
        exact += [] if index is None else [learner["attacked"][index]["worst"]["recall_at_1"]]
        shares = [*exact, told["clean"], told["attacked"]]
        rows.append((look, [*(with_interval(bounds(each)) for each in shares), percent(number(told["agreement"]))]))
    return {"index": document["protocol"].get("index"), "rows": rows} if rows else None
