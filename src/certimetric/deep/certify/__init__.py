"""Certified retrieval. :mod:`~certimetric.deep.certify.registry` is the one list of certificates."""

from typing import TYPE_CHECKING

from certimetric.base.lazy_index import lazy_index

if TYPE_CHECKING:
    from certimetric.deep.certify.base import Certified as Certified
    from certimetric.deep.certify.base import Certifier as Certifier
    from certimetric.deep.certify.interval import IntervalCertifier as IntervalCertifier
    from certimetric.deep.certify.lipschitz import LipschitzCertifier as LipschitzCertifier
    from certimetric.deep.certify.registry import CERTIFIERS as CERTIFIERS
    from certimetric.deep.certify.registry import make_certifier as make_certifier
    from certimetric.deep.certify.retrieval import PixelCertifier as PixelCertifier
    from certimetric.deep.certify.retrieval import RetrievalCertificate as RetrievalCertificate
    from certimetric.deep.certify.retrieval import certify_retrieval as certify_retrieval
    from certimetric.deep.certify.smoothing import SmoothingCertifier as SmoothingCertifier

# On first use, so that the list of certificates can be read without torch.
__all__, __getattr__, __dir__ = lazy_index(
    __name__,
    {
        "base": "Certified Certifier",
        "interval": "IntervalCertifier",
        "lipschitz": "LipschitzCertifier",
        "registry": "CERTIFIERS make_certifier",
        "retrieval": "PixelCertifier RetrievalCertificate certify_retrieval",
        "smoothing": "SmoothingCertifier",
    },
)
