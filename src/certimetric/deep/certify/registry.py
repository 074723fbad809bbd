"""The ways to certify retrieval, by name: the one list of them, which needs no torch to be read.

:func:`~certimetric.deep.certify_retrieval`, audits of embedding models and the command line take their choices from it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from certimetric.deep.certify.base import Certifier

# The norm of each and its class. In this order audits try those of a norm, until enough is certified.
CERTIFIERS = {
    "lipschitz": ("l2", "certimetric.deep.certify.lipschitz:LipschitzCertifier"),
    "smoothing": ("l2", "certimetric.deep.certify.smoothing:SmoothingCertifier"),
    "interval": ("linf", "certimetric.deep.certify.interval:IntervalCertifier"),
}


def certifier_class(name: str) -> type[Certifier]:
    """The class of a way to certify; a ValueError if there is none of that name."""
    if name not in CERTIFIERS:
        raise ValueError(f"method must be one of {', '.join(map(repr, CERTIFIERS))}, got {name!r}")
    module, _, kind = CERTIFIERS[name][1].partition(":")
    return getattr(import_module(module), kind)


def make_certifier(name: str, **settings: Any) -> Certifier:
    """A certifier by its name; a ValueError if there is none, or a setting does not fit."""
    kind = certifier_class(name)
    try:
        return kind(**settings)
    except TypeError as error:
        raise ValueError(f"settings of the method {name!r} do not fit: {error}") from None


def certifiers_of(norm: str) -> list[str]:
    """Names of the ways to certify in a norm, in the order in which they are tried.

    Examples
    --------
    >>> certifiers_of("l2")
    ['lipschitz', 'smoothing']
    """
    return [name for name, (its, _) in CERTIFIERS.items() if its == norm]
