"""Retrieval of an embedding model, clean and under attack: R@k, mAP@R, mAP and NMI, with raw pixels beside it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from certimetric.base.results import Framed, Rows
from certimetric.base.wording import PIXELS
from certimetric.deep.attacks.base import Attack
from certimetric.deep.models.calling import seeded
from certimetric.deep.models.comparing import check_search
from certimetric.deep.models.images import ImageSet
from certimetric.deep.retrieval.index import GoalFactory, Index
from certimetric.deep.retrieval.reliability import Attackable, warn_of_attacks
from certimetric.deep.retrieval.same_pictures import exclusion_keys, with_own_ids

MODEL = "model"  # the row that is compared with raw pixels
CLEAN, WORST = "clean", "worst case"
CLUSTERED = 10_000  # items of a gallery that are clustered without being asked for: k-means is dear

Value = TypeVar("Value")
Scores = dict[tuple[str, str | None, float | None], dict[str, Tensor]]


@dataclass(frozen=True, eq=False)
class RetrievalResult(Rows, Framed):
    """Figures of a model and of raw pixels, clean, under each attack, and in the worst case over the attacks.

    Parameters
    ----------
    rows : list of dict
        ``subject`` ("model", "raw pixels"), ``attack`` ("clean", a name, "worst case"), ``norm``, ``eps``, the
        ``goal`` that was attacked (None for clean), and means over queries ``recall_at_1`` … ``recall_at_1000``,
        ``map_at_r``, ``map``, ``mrr``, ``ndcg``, ``precision_at_10``; ``nmi`` of clean galleries, None where it was not
        computed. Figures of an attack are of the queries as it leaves them: unless a goal of its own was given,
        ``map_at_r`` is the mAP@R under the attack on R@1, not the worst that mAP@R can be brought to.
    recall_at_1 : dict
        (subject, attack, norm, eps) to bool array of shape (m,): which queries succeed.
    n_queries, n_without_positive : int
        Queries that were ranked, and queries that have no positive in the gallery, which are left out.
    """

    rows: list[dict[str, Any]]
    recall_at_1: dict[tuple[Any, ...], NDArray[np.bool_]]
    n_queries: int
    n_without_positive: int

    def to_json(self) -> str:
        """The rows and numbers of queries as JSON."""
        document = {"rows": self.rows, "n_queries": self.n_queries, "n_without_positive": self.n_without_positive}
        return json.dumps(document, allow_nan=False)

    def _repr_html_(self) -> str:
        return self.to_frame().to_html(float_format="{:.3f}".format, na_rep="")


@seeded(0)
def evaluate_retrieval(
    model: nn.Module | Callable[[Tensor], Any],
    queries: ImageSet,
    gallery: ImageSet | None = None,
    *,
    attacks: Iterable[Attack] = (),
    goal: GoalFactory | None = None,
    surrogate: nn.Module | Callable[[Tensor], Any] | None = None,
    batch_size: int = 256,
    with_pixels: bool = True,
    with_nmi: bool | None = None,
    metric: str = "euclidean",
) -> RetrievalResult:
    """Rank a gallery for every query, clean and attacked.

    An attacker perturbs each query, the gallery stays clean. By default the attack maximises the margin, which is
    positive exactly when the first result is wrong. The worst case takes, for each query, the worst over all attacks.

    Parameters
    ----------
    model : Module or callable
        Images (b, c, h, w) from 0 to 1 to embeddings (b, k), compared by ``metric``. Attacks by gradients need torch
        code from end to end, others any function.
    queries : ImageSet
    gallery : ImageSet, optional
        By default the queries themselves. A query is never its own result: equal ids are the same picture. Without
        ids, queries that equal an item of the gallery to the bit are taken for it, with a warning. Where both sets have
        groups, no item of the query's group is a result.
    attacks : iterable of Attack
        Each at its own ε.
    goal : callable, optional
        ``(labels, gallery_embeddings, gallery_labels, ids, gallery_ids) -> Goal`` for a batch of queries, with
        groups in the place of ids where there are any. By default that of R@1: other figures are then those under an
        attack on R@1. For mAP@R in the worst case give :class:`AveragePrecisionGoal`.
    surrogate : Module or callable, optional
        Attacks are computed on this model and scored on the other: how well they transfer.
    batch_size : int, default=256
    with_pixels : bool, default=True
        Evaluate the pixels themselves as an embedding too: a model is worth something only where it beats them.
    with_nmi : bool, default=None
        Cluster the gallery for its NMI; None for galleries of up to 10,000 items.
    metric : {"euclidean", "cosine", "dot"}, default="euclidean"
        How embeddings are compared; pixels are always compared by Euclidean distance.

    Returns
    -------
    result : RetrievalResult

    Raises
    ------
    TypeError, ValueError
        On images outside of 0 to 1, a model that gives no finite embeddings (b, k), a single class, or if no query has
        a positive.

    Warns
    -----
    UserWarning
        If the model came in training mode; under attacks, if it is randomised, if the embedding of a picture depends on
        its batch, or if more than a tenth of a sample of queries have no gradient, or any one that is not finite.

    References
    ----------
    The attack on queries as in Panum et al., arXiv 2102.07265 [panum2021exploring]; mAP@R of Musgrave et al., arXiv
    2003.08505 [musgrave2020metric].

    Examples
    --------
    >>> from certimetric.deep import PGD, LinfBall
    >>> images = torch.tensor([0.1, 0.2, 0.6, 0.7]).view(4, 1, 1, 1)
    >>> queries = ImageSet(images, torch.tensor([0, 0, 1, 1]))
    >>> found = evaluate_retrieval(nn.Flatten(), queries, attacks=[PGD(LinfBall(0.25))], with_pixels=False)
    >>> found.to_frame()["recall_at_1"].tolist()
    [1.0, 0.5]
    """
    queries, items, chosen = comparable(queries, gallery)
    attacks = list(attacks)
    check_search(metric)
    rows: list[dict[str, Any]] = []
    hits: dict[tuple[Any, ...], NDArray[np.bool_]] = {}
    names = attack_names(attacks)
    asked, all_ask = queries.select(chosen.nonzero()[:, 0]), queries.images is items.images
    clustered = len(items) <= CLUSTERED if with_nmi is None else with_nmi
    subjects = {MODEL: model} | ({PIXELS: nn.Flatten()} if with_pixels else {})
    for subject, network in subjects.items():
        index = Index(network, items, batch_size, goal, surrogate, metric if subject == MODEL else "euclidean")
        if subject == MODEL:
            warn_of_attacks(Attackable.of(index), asked, attacks)
        clean = index.score(queries if all_ask else asked)
        if all_ask:  # those without a positive, too, for whom nothing more has to be embedded or multiplied
            clean = {name: values[chosen.to(values.device)] for name, values in clean.items()}
        scores: Scores = {(CLEAN, None, None): clean}
        for name, attack in zip(names, attacks):
            scores[name, attack.ball.name, attack.ball.eps] = index.score(asked, attack)
        scores |= {(WORST, *ball): worst_of(some) for ball, some in by_ball(scores).items()}
        for (attack_name, norm, eps), values in scores.items():
            row: dict[str, Any] = {"subject": subject, "attack": attack_name, "norm": norm, "eps": eps}
            row["goal"] = None if attack_name == CLEAN else index.goal_name  # what attacks were after
            row |= {name: float(value.double().mean()) for name, value in values.items()}
            row["nmi"] = nmi(index.embeddings, items.labels) if clustered and attack_name == CLEAN else None
            rows.append(row)
            hits[(subject, attack_name, norm, eps)] = values["recall_at_1"].bool().cpu().numpy()
    return RetrievalResult(rows, hits, int(chosen.sum()), int((~chosen).sum()))


def comparable(queries: ImageSet, gallery: ImageSet | None) -> tuple[ImageSet, ImageSet, Tensor]:
    """Queries with ids that mean pictures of the gallery, the gallery, and which queries have a positive, bool (m,)."""
    items = queries if gallery is None else gallery
    if len(torch.unique(items.labels)) < 2:
        raise ValueError("the gallery must hold at least two classes")
    queries = with_own_ids(queries, items)
    return queries, items, with_positive(queries, items)


def attack_names(attacks: Sequence[Attack]) -> list[str]:
    """What attacks are called in tables: their kind, with the settings in which attacks of one kind differ.

    Examples
    --------
    >>> from certimetric.deep import APGD, PGD, LinfBall
    >>> attack_names([PGD(LinfBall(0.1)), PGD(LinfBall(0.1), steps=100), APGD(LinfBall(0.1))])
    ['PGD(steps=20)', 'PGD(steps=100)', 'APGD']
    """
    names = []
    for attack in attacks:
        kin = [vars(other) for other in attacks if type(other) is type(attack)]
        differ = [key for key in vars(attack) if key != "ball" and any(k[key] != kin[0][key] for k in kin)]
        told = ", ".join(f"{key}={vars(attack)[key]!r}" for key in differ)
        names.append(type(attack).__name__ + (f"({told})" if told else ""))
    return names


def by_ball(found: Mapping[tuple[Any, ...], Value]) -> dict[tuple[Any, Any], list[Value]]:
    """What attacks (…, name, norm, ε) did, for every ball that several of them were given: by norm and ε."""
    balls = dict.fromkeys(key[-2:] for key in found if key[-3] != CLEAN)
    several = {ball: [value for key, value in found.items() if key[-2:] == ball] for ball in balls}
    return {ball: values for ball, values in several.items() if len(values) > 1}


def worst_of(scores: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The worst of each query, figure by figure, over several attacks."""
    return {name: torch.stack([values[name] for values in scores]).amin(dim=0) for name in scores[0]}


def with_positive(queries: ImageSet, items: ImageSet) -> Tensor:
    """Which queries have another picture of their label in the gallery, bool (m,).

    Where there are groups: one of another group, and one of another label and group, so that they can be asked at all.
    """
    keys, item_keys = exclusion_keys(queries, items)
    # Where ids were counted they are not where the labels are: the answer is for tensors anywhere.
    positive, negative = others(*(part.cpu() for part in (queries.labels, keys, items.labels, item_keys)))
    chosen = positive > 0
    if queries.groups is not None:
        chosen &= negative > 0
    if not chosen.any():
        raise ValueError("no query has another picture of its label in the gallery")
    return chosen


def others(labels: Tensor, keys: Tensor, item_labels: Tensor, item_keys: Tensor) -> tuple[Tensor, Tensor]:
    """How many items of its label, and of others, each query may find, int (m,): those of its key it may not.

    Examples
    --------
    >>> labels, keys = torch.tensor([0, 0, 1, 1]), torch.tensor([5, 6, 6, 7])
    >>> others(labels, keys, labels, keys)
    (tensor([1, 1, 1, 1]), tensor([2, 1, 1, 2]))
    """
    n = len(item_labels)
    known = [
        torch.unique(torch.cat(pair), return_inverse=True)[1] for pair in ((item_labels, labels), (item_keys, keys))
    ]
    known.append(torch.unique(known[0] * (int(known[1].max()) + 1) + known[1], return_inverse=True)[1])
    label, key, both = (torch.bincount(code[:n], minlength=int(code.max()) + 1)[code[n:]] for code in known)
    return label - both, n - label - key + both


def nmi(embeddings: Tensor, labels: Tensor) -> float:
    """Normalised mutual information of labels and k-means clusters, as many as there are labels."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.metrics import normalized_mutual_info_score

    n_clusters = len(torch.unique(labels))
    points = embeddings.cpu().numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a collapsed model has fewer points than labels
        clusters = KMeans(n_clusters, n_init=1, random_state=0).fit_predict(points)
    return float(normalized_mutual_info_score(labels.cpu().numpy(), clusters))
