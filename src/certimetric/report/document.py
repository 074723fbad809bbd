"""Reading documents: is it one, and what do its numbers and names say."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from certimetric.base.wording import counted

AUDIT_SCHEMA = "certimetric.audit/1"
RETRIEVAL_SCHEMA = "certimetric.retrieval-audit/1"
VERIFICATION_SCHEMA = "certimetric.verification-audit/1"
BENCH_SCHEMA = "certimetric.bench/1"
COMPARISON_SCHEMA = "certimetric.comparison/1"
BASELINE = "euclidean"
SECTIONS = ("data", "protocol", "learners", "checks", "thresholds", "verdict", "reproduction")
# What neither HTML nor XML may hold: control characters, lone surrogates and the two non-characters.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True)
class Finding:
    """One case of a document, for the tools of CI."""

    place: str  # among "thresholds", "checks" or "figures"
    rule: str  # the code of a check, else "threshold" or "figure"
    title: str
    learner: str | None
    outcome: str  # as checks say: "issue", "tip", "passed", "skipped" or "not applicable"
    message: str


def check_document(document: object, *schemas: str, sections: Sequence[str] = SECTIONS) -> str:
    """Refuse what is not a document of one of these schemas, and give its schema.

    Raises
    ------
    TypeError
        Not a mapping.
    ValueError
        Another schema, or a section is missing.

    Examples
    --------
    >>> check_document({"schema": "something/2"}, AUDIT_SCHEMA)
    Traceback (most recent call last):
        ...
    ValueError: document has the schema 'something/2'; expected 'certimetric.audit/1'
    """
    if not isinstance(document, Mapping):
        raise TypeError(f"document is a {type(document).__name__}; expected the mapping of an audit document")
    schema = document.get("schema")
    if schema not in schemas:
        raise ValueError(f"document has the schema {schema!r}; expected {' or '.join(map(repr, schemas))}")
    if missing := [section for section in sections if section not in document]:
        raise ValueError(f"document lacks {', '.join(missing)}; expected the sections {', '.join(sections)}")
    return str(schema)


def number(value: Any) -> float | None:
    """A figure of the document as a float; null is None, and so is NaN.

    Examples
    --------
    >>> number("inf"), number(2), number(None)
    (inf, 2.0, None)
    """
    if value is None:
        return None
    value = float(value)
    return None if math.isnan(value) else value


def bounds(estimate: Mapping[str, Any]) -> tuple[float | None, float | None, float | None]:
    """Mean, and the two ends of its interval."""
    return number(estimate.get("mean")), number(estimate.get("low")), number(estimate.get("high"))


def printable(value: Any) -> Any:
    """The same value with every character that a page or an XML file may not hold replaced, at any depth.

    Examples
    --------
    >>> printable({"name": ["bell\\x07", 3]})
    {'name': ['bell\ufffd', 3]}
    """
    if isinstance(value, str):
        return _UNPRINTABLE.sub("\ufffd", value)
    if isinstance(value, Mapping):
        return {printable(key): printable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [printable(item) for item in value]
    return value


def of_models(document: Mapping[str, Any]) -> bool:
    """Whether pictures or other inputs of models were changed, and no features or embeddings."""
    return str(document["protocol"]["units"]) in ("pixels", "inputs")


def items_of(document: Mapping[str, Any]) -> str:
    """What was audited: "pictures" or "inputs" of models, else "embeddings"."""
    return {"pixels": "pictures", "inputs": "inputs"}.get(str(document["protocol"]["units"]), "embeddings")


def models_told(document: Mapping[str, Any]) -> str:
    """How many models were audited, beside pictures or inputs themselves where these are known."""
    told = counted(len(document["learners"]) - of_models(document), "model")
    return f"{told} beside raw {items_of(document).replace('pictures', 'pixels')}" if of_models(document) else told


def splits_done(learner: Mapping[str, Any]) -> tuple[int, int]:
    """How many splits gave a result, of how many."""
    splits = learner.get("splits") or []
    return sum("failed" not in split for split in splits), len(splits)


def quoted_eps(document: Mapping[str, Any]) -> int | None:
    """Position of the radius that the table quotes: ``report_eps``, or the next larger one on the curve.

    Certified accuracy never rises with eps, so the next larger radius understates it; a smaller one would flatter.
    """
    wanted = float(document["protocol"]["report_eps"])
    radii = document["protocol"].get("eps") or []
    reached = [i for i, eps in enumerate(radii) if eps >= wanted - 1e-9]
    return min(reached, key=radii.__getitem__) if reached else None
