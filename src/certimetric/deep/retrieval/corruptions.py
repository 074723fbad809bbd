"""Retrieval under natural corruptions: accuracy by kind and severity, and the mean corruption error."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from certimetric.base.arguments import chosen as one_of
from certimetric.base.results import Rows, Told
from certimetric.base.wording import PIXELS
from certimetric.deep.attacks.corruptions import CORRUPTIONS, SEVERITIES, Corruption
from certimetric.deep.models.calling import seeded
from certimetric.deep.models.images import ImageSet
from certimetric.deep.retrieval.evaluation import MODEL, comparable
from certimetric.deep.retrieval.index import Index


@dataclass(frozen=True, eq=False)
class CorruptionResult(Rows, Told):
    """Figures of a model and of raw pixels under natural corruptions.

    Parameters
    ----------
    rows : list of dict
        ``subject`` ("model", "raw pixels"), ``corruption``, ``severity``, and means over queries ``recall_at_1`` …
        ``map``; severity 0 of the corruption "none" is clean.
    errors : dict
        By corruption, the sum over severities of what R@1 lacks to 1, divided by that of raw pixels; None where these
        make no error.
    mean_error : float or None
        The mean corruption error: the mean of these. Below 1 the model withstands corruptions better than raw pixels.
    """

    rows: list[dict[str, Any]]
    errors: dict[str, float | None]
    mean_error: float | None

    def _repr_html_(self) -> str:
        wide = self.to_frame().pivot(index=["subject", "corruption"], columns="severity", values="recall_at_1")
        return wide.to_html(float_format="{:.3f}".format, na_rep="")


@seeded(0)
def evaluate_corruptions(
    model: nn.Module | Callable[[Tensor], Any],
    queries: ImageSet,
    gallery: ImageSet | None = None,
    *,
    corruptions: Collection[str] | None = None,
    seed: int = 0,
    batch_size: int = 256,
) -> CorruptionResult:
    """Rank a gallery for every query, corrupted in all ways and severities; the gallery stays clean.

    Parameters
    ----------
    model, queries, gallery, batch_size
        As of :func:`evaluate_retrieval`.
    corruptions : collection of str, optional
        Names of ``certimetric.deep.attacks.CORRUPTIONS``; by default all that change pictures of so many channels.
    seed : int, default=0
        Of noise, directions and places: those of a query are the same in every severity, and of all models.

    Raises
    ------
    TypeError, ValueError
        As of :func:`evaluate_retrieval`, or on an unknown corruption.

    References
    ----------
    Hendrycks & Dietterich, *Benchmarking neural network robustness to common corruptions and perturbations*,
    arXiv 1903.12261 [hendrycks2019benchmarking]; their errors are relative to AlexNet, these to raw pixels.

    Examples
    --------
    >>> import torch
    >>> images = ImageSet(torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 2)
    >>> evaluate_corruptions(nn.Flatten(), images, corruptions=["brightness"]).mean_error  # raw pixels themselves
    1.0
    """
    queries, items, able = comparable(queries, gallery)
    asked = queries.select(able.nonzero()[:, 0])
    kinds = suitable(asked.images.shape)
    if corruptions is not None:
        for name in corruptions:
            one_of("corruptions", name, CORRUPTIONS)
        kinds = [CORRUPTIONS[name] for name in dict.fromkeys(corruptions)]
    rows, lacking = [], {}
    for subject, network in {MODEL: model, PIXELS: nn.Flatten()}.items():
        index = Index(network, items, batch_size)
        found = {("none", 0): index.score(asked)}
        for kind in kinds:
            for severity in SEVERITIES:
                found[kind.name, severity] = index.score(corrupted(asked, kind, severity, seed))
        means = {
            key: {name: float(value.double().mean()) for name, value in told.items()} for key, told in found.items()
        }
        rows += [{"subject": subject, "corruption": key[0], "severity": key[1]} | told for key, told in means.items()]
        lacking[subject] = {
            kind.name: [means[kind.name, severity]["recall_at_1"] for severity in SEVERITIES] for kind in kinds
        }
    return CorruptionResult(rows, *corruption_errors(lacking[MODEL], lacking[PIXELS]))


def suitable(shape: Collection[int]) -> list[Corruption]:
    """The corruptions that change pictures of a shape (b, c, h, w)."""
    return [each for each in CORRUPTIONS.values() if each.suits(tuple(shape))]


def corrupted(queries: ImageSet, kind: Corruption, severity: int, seed: int) -> ImageSet:
    """The queries as a corruption leaves them: they stay the same pictures."""
    return queries.with_images(kind.of(queries.images, severity, seed))


def corruption_errors(
    recall: Mapping[str, Collection[float]], of_pixels: Mapping[str, Collection[float]]
) -> tuple[dict[str, float | None], float | None]:
    """By corruption, errors of a model as a share of those of raw pixels, from R@1 by severity; and their mean.

    Examples
    --------
    >>> corruption_errors({"jpeg": [0.9, 0.8], "crop": [1.0]}, {"jpeg": [0.8, 0.6], "crop": [1.0]})
    ({'jpeg': 0.5, 'crop': None}, 0.5)
    """
    errors: dict[str, float | None] = {}
    for name, shares in recall.items():
        own, theirs = (round(sum(1.0 - share for share in each), 12) for each in (shares, of_pixels[name]))
        errors[name] = own / theirs if theirs > 0 else None
    known = [error for error in errors.values() if error is not None]
    return errors, sum(known) / len(known) if known else None
