"""Data sets from OpenML by name, through scikit-learn's downloader and its cache."""

from __future__ import annotations

import http.client
import urllib.error
import warnings
from typing import Any

from certimetric.base.wording import first_line
from certimetric.datasets.tables.column_code import Encoding
from certimetric.datasets.tables.dataset import Dataset
from certimetric.datasets.tables.encoder import TableEncoder
from certimetric.datasets.tables.files import assemble, pick_target

PREFIX = "openml:"


def parse_openml_name(text: str) -> tuple[str, int | None]:
    """Split ``openml:NAME`` or ``openml:NAME@VERSION``, the version a whole number from 1.

    Examples
    --------
    >>> parse_openml_name("openml:credit-g")
    ('credit-g', None)
    >>> parse_openml_name("openml:credit-g@1")
    ('credit-g', 1)
    """
    name, at, version = text[len(PREFIX) :].strip().partition("@")
    if not name:
        raise ValueError(f"{text!r} names no OpenML data set: write openml:NAME or openml:NAME@VERSION")
    if not at:
        return name, None
    if not (version.isascii() and version.isdigit() and int(version) >= 1):
        raise ValueError(f"the version in {text!r} must be a whole number from 1, got {version!r}")
    return name, int(version)


def load_openml(
    text: str, *, target: str | None = None, encode: bool | Encoding = False, encoder: TableEncoder | None = None
) -> Dataset:
    """Fetch a data set from OpenML (Vanschoren et al. 2013, arXiv:1407.7722), or take it from scikit-learn's cache.

    The cache is scikit-learn's own (``SCIKIT_LEARN_DATA``, by default ``~/scikit_learn_data``): what was fetched once
    loads without a network. ``text`` is ``openml:NAME`` (the active version) or ``openml:NAME@VERSION``, other
    arguments and errors are as of :func:`~certimetric.datasets.load`; OpenML names a default target. With an
    ``encoder`` the table is encoded as an earlier one was.
    """
    name, version = parse_openml_name(text)
    # With a named target every column is asked for, so that a wrong name can be answered with the right ones.
    bunch = _fetch(text, name, version, whole=target is not None)
    where = repr(text)
    frame = bunch.frame
    if target is None:
        names = list(bunch.target_names or [])
        if len(names) != 1:
            raise ValueError(
                f"{where} has {len(names)} default target columns, expected one: name the column by target="
            )
        target = str(names[0])
    else:
        target = pick_target([str(column) for column in frame.columns], target, where=where)
    found = (bunch.get("details") or {}).get("version", version)
    return assemble(
        frame,
        name=name if found is None else f"{name}@{found}",
        source="openml",
        where=where,
        target=target,
        encode=encode,
        encoder=encoder,
    )


def _fetch(text: str, name: str, version: int | None, *, whole: bool) -> Any:
    from sklearn import datasets

    selection: dict[str, Any] = {"target_column": None} if whole else {}
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="A network error occurred")  # told once, by the error below
            return datasets.fetch_openml(
                name, version=version or "active", as_frame=True, n_retries=1, delay=0.5, **selection
            )
    except (urllib.error.URLError, TimeoutError, ConnectionError, http.client.HTTPException) as error:
        raise ConnectionError(
            f"OpenML could not be reached for {text!r} ({_reason(error)}): check the network, or load a copy "
            f"saved as a CSV file"
        ) from error
    except OSError as error:
        raise OSError(f"cannot read or write the cache for {text!r}: {first_line(error)}") from error
    except (ValueError, KeyError) as error:
        raise ValueError(f"OpenML gives no table for {text!r}: {first_line(error)}") from error


def _reason(error: BaseException) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"its server answered {error.code}"
    reason = getattr(error, "reason", error)
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror
    return first_line(reason) if isinstance(reason, BaseException) else str(reason)
