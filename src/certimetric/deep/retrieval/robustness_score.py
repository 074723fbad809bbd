"""The empirical robustness score (ERS): ten attacks on a ranking, each scaled to 0 to 100, and their mean."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from certimetric.base.arrays import Array
from certimetric.base.results import Framed, estimate
from certimetric.deep.attacks.balls import LinfBall
from certimetric.deep.attacks.base import Attack
from certimetric.deep.attacks.gradient import PGD
from certimetric.deep.models.calling import seeded
from certimetric.deep.models.images import ImageSet
from certimetric.deep.retrieval.evaluation import comparable
from certimetric.deep.retrieval.index import Index
from certimetric.deep.retrieval.ranking_evaluation import GOALS, RankingEvaluation

_SMALL = 64  # pixels: pictures up to this height get the budget of the published small ones


@dataclass(frozen=True)
class Budget:
    """What an attacker of the score may do: a size in l∞, in units of pixels from 0 to 1, and steps within it.

    Parameters
    ----------
    eps : float
        Radius of the ball.
    step_size : float
    steps : int

    Examples
    --------
    >>> Budget(8 / 255, 2 / 255, steps=4).attack().steps
    4
    """

    eps: float
    step_size: float
    steps: int

    def attack(self, seed: int = 0) -> Attack:
        """PGD from the picture itself, as the score is defined."""
        return PGD(LinfBall(self.eps), self.steps, self.step_size, random_start=False, seed=seed)


BUDGETS = {"28": Budget(77 / 255, 3 / 255, 32), "224": Budget(8 / 255, 3 / 255, 32)}


@dataclass(frozen=True)
class Component:
    """One of the ten: the range of its raw values, and the scaled ones as ``offset + slope · raw``, more is better."""

    name: str
    meaning: str
    low: float
    high: float
    offset: float
    slope: float

    def scaled(self, raw: float) -> float:
        """Between 0 and 100."""
        return min(max(self.offset + self.slope * raw, 0.0), 100.0)


COMPONENTS = (
    Component("CA+", "rank of a random candidate that is raised, %", 0.0, 100.0, 0.0, 2.0),
    Component("CA-", "rank of a top candidate that is lowered, %", 0.0, 100.0, 100.0, -1.0),
    Component("QA+", "rank of a random item that the query raises, %", 0.0, 100.0, 0.0, 2.0),
    Component("QA-", "rank of a top item that the query lowers, %", 0.0, 100.0, 100.0, -1.0),
    Component("TMA", "cosine with the embedding of another picture", -1.0, 1.0, 100.0, -100.0),
    Component("ES:D", "shift of the embedding", 0.0, 2.0, 100.0, -50.0),
    Component("ES:R", "R@1 after the shift, %", 0.0, 100.0, 0.0, 1.0),
    Component("LTM", "R@1 after learning to misrank, %", 0.0, 100.0, 0.0, 1.0),
    Component("GTM", "R@1 after greedy misranking, %", 0.0, 100.0, 0.0, 1.0),
    Component("GTT", "first items that stay among the first 4, %", 0.0, 100.0, 0.0, 1.0),
)


@dataclass(frozen=True, eq=False)
class ERSResult(Framed):
    """The empirical robustness score of a model, with its components and the clean R@1 that it means nothing without.

    Parameters
    ----------
    components : tuple of dict
        ``name``, ``meaning``; ``raw`` and ``scaled`` with the 95 % intervals over queries ``raw_low``, ``raw_high``,
        ``low`` and ``high``. Scaled values run from 0 to 100, more is more robust.
    score : dict
        ERS, the mean of the scaled components: ``mean``, ``low``, ``high``.
    recall_at_1 : dict
        Clean R@1 from 0 to 1: ``mean``, ``low``, ``high``.
    values : array of shape (m, 10)
        Raw values of each query.
    n_queries, n_gallery : int
    metric, attack : str
        How embeddings are compared, and what perturbed the pictures.
    transferred : bool
        Whether attacks were computed on a surrogate.
    """

    components: tuple[dict[str, Any], ...]
    score: dict[str, float]
    recall_at_1: dict[str, float]
    values: Array
    n_queries: int
    n_gallery: int
    metric: str
    attack: str
    transferred: bool = False

    def to_frame(self) -> pd.DataFrame:
        """A row for each component, then the score and the clean R@1, in %."""
        told = [{key: value for key, value in row.items() if key != "meaning"} for row in self.components]
        for name, row, factor in (("ERS", self.score, 1.0), ("R@1, clean", self.recall_at_1, 100.0)):
            means = {"scaled": factor * row["mean"], "low": factor * row["low"], "high": factor * row["high"]}
            told.append({"name": name} | means)
        return pd.DataFrame(told).set_index("name")

    def summary(self) -> dict[str, Any]:
        """All but the values of single queries, as JSON can hold it."""
        told = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "values"}
        return {**told, "components": [dict(row) for row in self.components]}

    def to_json(self) -> str:
        """The summary as JSON."""
        return json.dumps(self.summary(), allow_nan=False)

    def _repr_html_(self) -> str:
        return self.to_frame().to_html(float_format="{:.3g}".format, na_rep="")


@seeded(0)
def empirical_robustness_score(
    model: nn.Module | Callable[[Tensor], Any],
    queries: ImageSet,
    gallery: ImageSet | None = None,
    *,
    budget: str | Budget | None = None,
    metric: str = "euclidean",
    n_queries: int | None = 1000,
    seed: int = 0,
    attack: Attack | None = None,
    surrogate: nn.Module | Callable[[Tensor], Any] | None = None,
    batch_size: int = 256,
) -> ERSResult:
    """Measure the empirical robustness score of an embedding model.

    Nine attacks perturb pictures to raise or lower ranks, to imitate, to shift or to misplace embeddings; ten figures
    say what they reached, each scaled to 0 to 100, more being more robust. The score is their mean. It leaves clean
    accuracy out and rewards models that map everything to one point, so that clean R@1 always stands beside it.

    Parameters
    ----------
    model, gallery, surrogate, batch_size
        As of :func:`evaluate_retrieval`.
    queries : ImageSet
        Each is perturbed as a query and as a candidate. Queries without a positive in the gallery are left out.
    budget : {"28", "224"} or Budget, optional
        ``"28"``: l∞ 77/255; ``"224"``: 8/255; both 32 steps of 3/255 of PGD without a random start. By default
        ``"28"`` for pictures up to 64 pixels high, else ``"224"``.
    metric : {"euclidean", "cosine", "normalized-euclidean"}, default="euclidean"
        How the model's embeddings are compared. The last two put them on the unit sphere.
    n_queries : int or None, default=1000
        So many of the queries, drawn at random; None for all.
    seed : int, default=0
        Of the draw, of what attacks aim at, and of the attack by default.
    attack : Attack, optional
        Another attack than the budget's PGD, such as a ``SquareAttack``; its own ball counts.

    Returns
    -------
    result : ERSResult

    Raises
    ------
    TypeError, ValueError
        As of :func:`evaluate_retrieval`, or on settings that do not fit.

    Notes
    -----
    The shift ES:D is scaled as if it were at most 2, as it is on the unit sphere. Where embeddings are compared as they
    are (``metric="euclidean"``), it is told in units of their root mean square length, so that embeddings on the sphere
    keep their values and a model that multiplies all embeddings gains nothing. Ties count for the attacker. Intervals
    are over queries: Wilson's for shares, the normal one for other means and for the score, whose ten values of a query
    are taken together.

    References
    ----------
    Zhou et al., *Adversarial attack and defense in deep ranking*, arXiv 2106.03614 [zhou2021adversarial].

    Examples
    --------
    >>> images = ImageSet(torch.rand(40, 1, 4, 4, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 2)
    >>> result = empirical_robustness_score(nn.Flatten(), images, budget=Budget(0.0, 0.01, 1))
    >>> [row["name"] for row in result.components if round(row["scaled"], 6) == 100]  # nothing moves
    ['QA-', 'ES:D', 'GTT']
    """
    if n_queries is not None and n_queries < 1:
        raise ValueError(f"n_queries must be at least 1, got {n_queries}")
    attack = make_attack(tuple(queries.images.shape), budget, attack, seed)
    queries, items, chosen = comparable(queries, gallery)
    able = chosen.nonzero()[:, 0]
    order = torch.randperm(len(able), generator=torch.Generator().manual_seed(seed))
    asked = queries.select(able[order[:n_queries].sort().values])
    index = Index(model, items, batch_size, surrogate=surrogate)
    evaluation = RankingEvaluation(index, asked, metric=metric, seed=seed)
    found: dict[str, Array] = {}
    for goal in GOALS:
        found |= {figure: values.cpu().numpy() for figure, values in evaluation.measure(goal, attack).items()}
    hits = evaluation.recall().double().cpu().numpy()
    return summarise(found, hits, len(items), metric, attack, surrogate is not None)


def make_attack(
    shape: tuple[int, ...], budget: str | Budget | None = None, attack: Attack | None = None, seed: int = 0
) -> Attack:
    """The attack of a score: the one that is given, or that of the budget, which may depend on the size of pictures."""
    if attack is not None:
        if budget is not None:
            raise ValueError("budget and attack exclude each other: an attack brings its own")
        return attack
    if budget is None:
        budget = "28" if shape[2] <= _SMALL else "224"
    if isinstance(budget, str):
        budget = BUDGETS.get(budget, budget)
    if not isinstance(budget, Budget):
        raise ValueError(f"budget must be {', '.join(map(repr, BUDGETS))} or a Budget, got {budget!r}")
    return budget.attack(seed)


def summarise(
    found: Mapping[str, Array],
    hits: Array,
    n_gallery: int,
    metric: str,
    attack: Attack,
    transferred: bool = False,
) -> ERSResult:
    """The score from the raw values of each query by figure, and its clean R@1, 0 or 1."""
    rows, total = [], np.zeros(len(hits))
    for component in COMPONENTS:
        values = found[component.name]
        # Beyond 2 only shifts can lie, of embeddings that are compared as they are: told whole, scaled to 0.
        width = max(component.high, float(values.max())) - component.low
        share = estimate(np.clip((values - component.low) / width, 0.0, 1.0))
        raw, low, high = (component.low + width * share[key] for key in ("mean", "low", "high"))
        ends = sorted(component.scaled(end) for end in (low, high))
        told = {"raw": raw, "raw_low": low, "raw_high": high}
        told |= {"scaled": component.scaled(raw), "low": ends[0], "high": ends[1]}
        rows.append({"name": component.name, "meaning": component.meaning, **told})
        total += component.offset + component.slope * values
    mean = float(np.mean([row["scaled"] for row in rows]))
    spread = estimate(np.clip(total / 1000.0, 0.0, 1.0))
    low, high = (mean + 100 * (spread[end] - spread["mean"]) for end in ("low", "high"))
    score = {"mean": mean, "low": max(low, 0.0), "high": min(high, 100.0)}
    values = np.stack([found[component.name] for component in COMPONENTS], axis=1)
    sizes = len(hits), n_gallery
    return ERSResult(tuple(rows), score, estimate(hits), values, *sizes, metric, repr(attack), transferred)
