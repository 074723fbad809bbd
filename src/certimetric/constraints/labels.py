"""Labels of two samples held against each other: what differs, and what was probably meant, in one sentence."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from certimetric.base.arrays import Indices
from certimetric.base.warnings import warn
from certimetric.base.wording import counted, shortened

_LARGEST = 2**63 - 1
_WORDS = {"true": 1.0, "false": 0.0}


@dataclass(frozen=True)
class UnknownLabels:
    """Labels that another sample does not have.

    Parameters
    ----------
    sentence : str
        Which they are, and what each probably means.
    labels : tuple
        The unknown labels, each once.
    rows : int
        How many rows have one.
    none_known : bool
        Whether no row has a known label.
    """

    sentence: str
    labels: tuple[Any, ...]
    rows: int
    none_known: bool


def checked_labels(y: Any, name: str = "y") -> NDArray[Any]:
    """Labels as an array of one type that sorts.

    Raises
    ------
    ValueError
        If a label is missing (None, NaN), an integer does not fit into 64 bits (as a number it would be rounded, so
        that classes merge), or numbers and text are mixed.

    Examples
    --------
    >>> checked_labels(["a", None])
    Traceback (most recent call last):
        ...
    ValueError: y has no label in row 1 (None): label the row or leave it out
    """
    labels = np.asarray(y)
    kind = labels.dtype.kind
    if kind == "O":
        missing = [_is_missing(value) for value in labels.ravel().tolist()]
    else:
        missing = np.isnan(labels).ravel().tolist() if kind == "f" else []
    if any(missing):
        row = missing.index(True)
        raise ValueError(f"{name} has no label in row {row} ({labels.ravel()[row]}): label the row or leave it out")
    if kind == "O":
        values = labels.ravel().tolist()
        whole = [value for value in values if isinstance(value, int | np.integer)]
        if too_large := [value for value in whole if not -_LARGEST - 1 <= value <= _LARGEST]:
            raise ValueError(_too_large(name, too_large[0]))
        if any(isinstance(value, str) for value in values) and not all(isinstance(value, str) for value in values):
            odd = next(value for value in values if not isinstance(value, str))
            raise ValueError(f"{name} mixes text and other labels such as {odd!r}: make them all text or all numbers")
    elif kind in "uf" and labels.size and np.abs(labels).max() > (_LARGEST if kind == "u" else 2**53):
        raise ValueError(_too_large(name, labels.ravel()[np.abs(labels).argmax()]))
    return labels


def codes_of_classes(y: Any) -> Indices:
    """Class labels of any type, (n,), as codes 0, 1, … in their order.

    Raises
    ------
    ValueError
        If there is another number of dimensions or no label, or for what :func:`checked_labels` refuses.
    """
    labels = checked_labels(y)
    if labels.ndim != 1 or not labels.size:
        raise ValueError(f"y must hold one label for each instance, shape (n,), got shape {labels.shape}")
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)


def class_draw(codes: Indices, limit: int, rng: np.random.Generator) -> Indices:
    """At most ``limit`` rows, of each class its share (but two at least, where it has them); rising.

    Examples
    --------
    >>> class_draw(np.array([0] * 8 + [1] * 4), 6, np.random.default_rng(0)).shape
    (6,)
    """
    if len(codes) <= limit:
        return np.arange(len(codes))
    rows = []
    for code in np.unique(codes):
        own = np.flatnonzero(codes == code)
        count = min(len(own), max(2, round(limit * len(own) / len(codes))))
        rows.append(rng.permutation(own)[:count])
    return np.sort(np.concatenate(rows)).astype(np.int64)


def check_number(number: Any, name: str) -> int:
    """A whole number from 1 on, as which many constraints are asked for."""
    if isinstance(number, bool | np.bool_) or not isinstance(number, int | np.integer) or number < 1:
        raise ValueError(f"{name} must be an integer from 1 on, got {number!r}")
    return int(number)


def say_fewer(available: int, wanted: int, what: str) -> None:
    """Warn where labels have fewer constraints than are asked for."""
    if available < wanted:
        warn(f"the labels have {available} {what}, fewer than the {wanted} asked for")


def unknown_labels(
    known: Iterable[Any], y: Any, known_name: str = "the training data", name: str = "the queries"
) -> UnknownLabels | None:
    """Labels of ``y`` that are not among the known ones; None where all are.

    Equal numbers are the same label (1, 1.0 and True); a number and a text are not.

    Parameters
    ----------
    known : iterable of labels
        The classes of one sample.
    y : array-like of shape (n,)
        The labels of another.
    known_name, name : str
        What the two are called.

    Examples
    --------
    >>> print(unknown_labels(["no", "yes"], ["yes", "Yes"]).sentence)
    1 of 2 rows of the queries have a label unknown to the training data: 'Yes' (probably 'yes'); known are 'no', 'yes'
    """
    classes = list(dict.fromkeys(_plain(known)))
    labels = _plain(y)
    there = set(classes)
    rows = [label for label in labels if label not in there]
    if not rows:
        return None
    unknown = tuple(dict.fromkeys(rows))
    meant = {_form(label): label for label in reversed(classes)}
    told = [
        f"{label!r} (probably {meant[form]!r})" if (form := _form(label)) in meant else repr(label) for label in unknown
    ]
    sentence = (
        f"{len(rows)} of {counted(len(labels), 'row')} of {name} have a label unknown to {known_name}: "
        f"{shortened(told, 4)}; known are {shortened([repr(label) for label in classes], 6)}"
    )
    return UnknownLabels(sentence, unknown, len(rows), len(rows) == len(labels))


def compare_labels(known: Any, y: Any, known_name: str = "the training data") -> NDArray[Any]:
    """Labels of a second sample as an array, after they were held against the classes of the first.

    A label that the first sample lacks is legitimate, and no prediction of it can be right: a warning says so. Where no
    label is known the two cannot have been meant for each other.

    Parameters
    ----------
    known : array-like
        The classes of the first sample.
    y : array-like of shape (n,)

    Raises
    ------
    ValueError
        If no label is known, or for what :func:`checked_labels` refuses.
    """
    labels = checked_labels(y)
    found = unknown_labels(np.asarray(known), labels, known_name, "y")
    if found is None:
        return labels
    if found.none_known:
        raise ValueError(found.sentence)
    warn(f"{found.sentence}; predictions there count as wrong")
    return labels


def _plain(labels: Any) -> list[Any]:
    return list(np.asarray(labels).ravel().tolist()) if not isinstance(labels, list) else labels


def _form(label: Any) -> Any:
    """What labels that were probably meant alike have in common: the number they spell, or their folded text."""
    text = str(label).strip().casefold()
    if text in _WORDS:
        return _WORDS[text]
    try:
        return float(text)
    except ValueError:
        return text


def _is_missing(value: Any) -> bool:
    return (
        value is None or type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and value != value)
    )


def _too_large(name: str, value: Any) -> str:
    return f"{name} holds the integer {value}, which does not fit into 64 bits: use text for such labels"
