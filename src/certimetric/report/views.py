"""The one list of views, and what they make of a document: page, notebook's summary, table of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from certimetric.report.blocks import SHARED, verdict_view
from certimetric.report.comparison import as_text
from certimetric.report.document import check_document, printable
from certimetric.report.formatting import moment
from certimetric.report.page import environment, render_page, trusted
from certimetric.report.retrieval.view import RetrievalView
from certimetric.report.tables.view import TableView
from certimetric.report.verification.view import VerificationView
from certimetric.report.view import PLACES, View

VIEWS: list[type[View]] = [TableView, RetrievalView, VerificationView]


def view_of(document: Mapping[str, Any]) -> View:
    """The view of a document, by its schema.

    Raises
    ------
    TypeError
        The document is not a mapping.
    ValueError
        It has another schema or lacks a section.
    """
    known = {view.schema: view for view in VIEWS}
    return known[check_document(document, *known)](document)


def render_audit(document: Mapping[str, Any], *, title: str | None = None) -> str:
    """The whole report: one HTML page that needs no network and reads without JavaScript.

    Parameters
    ----------
    document : dict
        Document of an audit of any kind.
    title : str, optional
        Heading of the page; by default it names the data.

    Returns
    -------
    html : str
        The same for the same document. The document itself is embedded in it as JSON.

    Raises
    ------
    TypeError
        The document is not a mapping.
    ValueError
        It has another schema, lacks a section or holds NaN or an infinite float.

    Examples
    --------
    >>> render_audit({"schema": "certimetric.bench/1"})
    Traceback (most recent call last):
        ...
    ValueError: document has the schema 'certimetric.bench/1'; expected 'certimetric.audit/1' or ...
    """
    view = view_of(document)
    env, common = environment(), view.spread()
    blocks = {block.name: block for block in (*SHARED, *view.blocks)}
    told = {name: made for name, block in blocks.items() if (made := block.make(view)) is not None}
    shown = sorted((blocks[name] for name in told), key=lambda block: PLACES.index(block.place))
    page = {
        "looks": view.looks,
        "lede": [*view.lede(), moment(view.document["reproduction"].get("started"))],
        "sections": [
            (block, trusted(env.select_template(block.templates(view.folder)).render({**common, **told[block.name]})))
            for block in shown
        ],
    }
    heading = printable(title) or view.title
    return render_page("templates/audit.html.j2", document, page, heading)


def render_audit_fragment(document: Mapping[str, Any]) -> str:
    """Verdict and comparison table alone, for the ``_repr_html_`` of results in a notebook; see :func:`render_audit`.

    Returns
    -------
    html : str
        One ``<div>`` whose styles touch nothing outside it and follow the notebook's light or dark theme.
    """
    view = view_of(document)
    return environment().get_template("templates/fragment.html.j2").render({**view.spread(), **verdict_view(view)})


def summary_table(document: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The comparison as text: a header, and a row for each learner with the best of a column marked by ``*``.

    Documents are those of :func:`render_audit`.

    Returns
    -------
    header : list of str
    rows : list of list of str
        Of tables the mean ± standard deviation over splits, and a last row for always answering the most frequent
        class.
    """
    view = view_of(document)
    names = [
        f"{learner['label']} ({trouble})" if (trouble := view.trouble(learner)) else learner["label"]
        for learner in view.learners
    ]
    header, rows = as_text(view.noun.capitalize(), names, view.columns)
    if (last := view.last_row()) is not None:
        rows.append([last["label"], *last["cells"]])
    return header, rows
