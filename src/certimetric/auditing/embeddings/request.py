"""What an audit of embeddings is asked to do, checked before any work starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from certimetric.auditing.embeddings.indexes import check_index
from certimetric.auditing.request import RankingRequest
from certimetric.auditing.retrieval.request import checked_radii
from certimetric.auditing.retrieval.threats import OF_ANY_INPUTS as THREATS
from certimetric.auditing.retrieval.threats import settled, threat_sizes

if TYPE_CHECKING:
    from certimetric.datasets.embedding_files import Embeddings

METRICS = ("euclidean", "cosine", "dot")
FIGURES = {"recall": False, "map": False, "attacked": True}
# Radii by default, in median distances to the nearest item, and the one that is quoted.
RADII, QUOTED = (0.05, 0.1, 0.25, 0.5, 1.0), 0.25


@dataclass(frozen=True, eq=False, repr=False)
class EmbeddingRequest(RankingRequest):
    """An audit of embeddings, checked; :func:`certimetric.auditing.audit_embeddings` has the same parameters.

    Parameters
    ----------
    models : mapping of str to Embeddings
        Embeddings of the same pictures by each model. No query finds an item of its id or group. Where gallery and
        queries have neither, a query that equals an item of its class in the embeddings of every model is taken for it.
    metric : {"euclidean", "cosine", "dot"}
        The comparison that embeddings are searched with; by cosine a change is one of the embedding of length 1.

        By "dot" sizes are told in the distance that stands for inner products, of which
        :mod:`certimetric.deep.models.comparing` tells.
    index : str or callable
        An approximate index whose answers are told beside the exact ones, on which everything else rests:
        faiss:FACTORY or faiss:FILE, hnswlib, usearch. None for none.

        A function takes queries (m, k) in single precision and how many results are wanted, and gives rows (m, r) of
        the gallery, −1 for none.
    eps : sequence of float
        Sizes of the change, in median distances to the nearest item. None for 0.05, 0.1, 0.25 (which is quoted), 0.5
        and 1, and those of thresholds.
    threats : sequence of {"poisoning"}
        What is done to the gallery: "poisoning" adds 10 items to it, poisoning=SIZE so many. None for nothing.

        What it makes of R@1 stands in the table of threats, see :func:`certimetric.deep.poison_gallery`; beside it what
        a vote of parts of the gallery withstands, see :func:`certimetric.deep.certify_additions`. The gallery is held
        in memory three times, in double precision.
    fail_under : str or sequence of str
        Thresholds ``FIGURE=VALUE`` or ``MODEL.FIGURE=VALUE`` with the FIGURE ``recall`` (R@1), ``map`` (mAP@R),
        ``attacked@EPS`` (R@1) or, where items are added, ``poisoning`` (R@1).

    Raises
    ------
    ValueError
        If models embed different pictures, if no query has another picture of its class, if radii or thresholds do
        not fit, or if the folder holds the report of an audit with other options.

    Examples
    --------
    >>> from certimetric.datasets.embedding_files import Embeddings
    >>> given = Embeddings.from_arrays([[0.0], [1.0], [4.0], [5.0]], [0, 0, 1, 1])
    >>> EmbeddingRequest({"model": given}, eps=[0.5, 2.0]).radii
    ((0.5, 2.0), 2.0)
    """

    options = {"metric": "--metric", "index": "--index INDEX", "eps": "--eps EPS,…", "threats": "--threat"}

    models: Mapping[str, Embeddings]
    _: KW_ONLY
    metric: str = "euclidean"
    index: Any = None
    eps: Any = None
    threats: Sequence[str] = ()
    name: str = "embeddings"
    radii: tuple[tuple[float, ...], float] | None = field(init=False)  # derived: sizes asked for, and the one quoted
    sizes: Mapping[str, float] = field(init=False)  # of the threats

    def __post_init__(self) -> None:
        super().__post_init__()
        _same_pictures(self.models)
        if self.metric not in METRICS:
            raise ValueError(f"metric must be one of {', '.join(map(repr, METRICS))}, got {self.metric!r}")
        check_index(self.index)
        if self.eps is None and self.report_eps is not None:
            raise ValueError("report_eps must be one of eps, which was not given")
        radii = None if self.eps is None else checked_radii(self.eps, self.report_eps)
        threats = threat_sizes(self.threats, THREATS)
        self._settle(radii=radii, threats=tuple(threats), sizes=settled(self, threats))
        self._judge_by(
            list(self.models), FIGURES | dict.fromkeys(threats, False), at=None if radii is None else radii[0]
        )


def _same_pictures(models: Mapping[str, Embeddings]) -> None:
    if not models:
        raise ValueError("models must hold the embeddings of at least one model")
    (name, first), *others = models.items()
    for other, given in others:
        for part in ("labels", "query_labels", "ids", "query_ids", "groups", "query_groups"):
            mine, theirs = getattr(first, part), getattr(given, part)
            if (mine is None) != (theirs is None) or (mine is not None and not np.array_equal(mine, theirs)):
                raise ValueError(f"{name!r} and {other!r} do not embed the same pictures: their {part} differ")
        if first.class_names != given.class_names:
            raise ValueError(f"{name!r} and {other!r} do not embed the same pictures: their classes differ")
