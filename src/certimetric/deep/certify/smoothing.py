"""Randomised smoothing of embedding models: certified retrieval with a confidence, for any model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from certimetric.base.arguments import require
from certimetric.base.arrays import Array, Indices
from certimetric.deep.certify.base import Certified, Certifier, from_embeddings
from certimetric.deep.models.calling import check_embeddings, frozen
from certimetric.deep.models.images import ImageSet
from certimetric.deep.ranking.ranks import nearest
from certimetric.deep.retrieval.index import Index

_PIECE = 16  # copies that noise is drawn for together
ALPHA = 0.001  # share of wrong certificates that chance is allowed, unless another is asked for


class Embedder(Protocol):
    """A model, where it is, and how many pictures it is given at once: an index of a gallery, say."""

    model: nn.Module
    device: torch.device
    batch_size: int


class SmoothingCertifier(Certifier):
    """l2: what a model finds under Gaussian noise, which an attacker can move by so much only.

    "vote": the label that the majority of the k nearest has for most draws of ``f(x + σz)``. It is guessed on
    ``n_selection`` draws and counted on ``n_samples`` others; with p the Clopper–Pearson lower bound of its share, the
    radius is ``σ Φ⁻¹(p)``, and the method abstains where p ≤ 1/2.

    "embedding": the nearest item to ``g(x) = E f(x + σz)``, f shortened to at most F, the length of the longest item of
    the gallery. g is Lipschitz with ``F √(2/π) / σ``. Its mean over n draws is off by less than t with confidence
    1 − α, ``t = F (1 + √(2 ln 1/α)) / √n``, and the radius is that of the mean in the embedding space, less t, over the
    constant.

    What is certified is the smoothed retrieval, not that of the model without noise. Every query holds with confidence
    1 − α on its own. The noise depends on the seed and the place of a query among the others, not on the batches.

    Parameters
    ----------
    statistic : {"vote", "embedding"}, default="vote"
    sigma : float, default=0.25
        Standard deviation of the noise, in pixels.
    n_samples : int, default=1000
        With fewer than :func:`least_samples` at this α nothing can be certified: every query is abstained from.
    n_selection : int, default=100
        For "vote".
    alpha : float, default=0.001
    n_neighbors : int, default=1
        For "vote".
    seed : int, default=0

    References
    ----------
    Cohen, Rosenfeld & Kolter, arXiv 1902.02918 [cohen2019certified]: theorem 1 and the sampling of section 3.2. The
    constant of a smoothed bounded function is that of Salman et al., arXiv 1906.04584 [salman2019provably], appendix A;
    the deviation of a mean of bounded vectors is McDiarmid's inequality.

    Examples
    --------
    >>> from certimetric.deep import ImageSet, certify_retrieval
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> data = ImageSet(X.reshape(-1, 1, 8, 8)[:100] / 16, y[:100])
    >>> model = torch.nn.Flatten()
    >>> certifier = SmoothingCertifier(n_samples=200, n_selection=20, alpha=0.01)
    >>> found = certify_retrieval(model, data, method=certifier, with_pixels=False)
    >>> found.norm, found.radii.shape
    ('l2', (100,))
    """

    name, norm = "smoothing", "l2"
    alpha: float

    def __init__(
        self,
        statistic: str = "vote",
        sigma: float = 0.25,
        n_samples: int = 1000,
        n_selection: int = 100,
        alpha: float = ALPHA,
        n_neighbors: int = 1,
        seed: int = 0,
    ):
        require(statistic in ("vote", "embedding"), "statistic", "must be 'vote' or 'embedding'", statistic)
        require(0 < sigma < math.inf, "sigma", "must be a positive deviation, in pixels", sigma)
        require(0 < alpha < 1, "alpha", "must lie between 0 and 1", alpha)
        if n_samples < 1 or n_selection < 1 or n_neighbors < 1:
            raise ValueError("n_samples, n_selection and n_neighbors must be at least 1")
        if statistic == "embedding" and n_neighbors != 1:
            raise ValueError("n_neighbors is for the statistic 'vote'")
        self.statistic, self.sigma, self.alpha = statistic, float(sigma), float(alpha)
        self.n_samples, self.n_selection, self.n_neighbors, self.seed = n_samples, n_selection, n_neighbors, seed

    @classmethod
    def for_audit(cls, sigma: float, seed: int) -> SmoothingCertifier:
        return cls(sigma=sigma, seed=seed)

    def certify(self, model: nn.Module, queries: ImageSet, gallery: ImageSet, batch_size: int = 256) -> Certified:
        index = Index(model, gallery, batch_size)
        generator = torch.Generator(device=index.device).manual_seed(self.seed)
        with torch.no_grad(), frozen(model):
            if self.statistic == "vote":
                return self._by_vote(index, queries, generator)
            return self._by_embedding(index, queries, generator)

    def _by_vote(self, index: Index, queries: ImageSet, generator: torch.Generator) -> Certified:
        classes, codes = torch.unique(index.labels, return_inverse=True)
        rows = np.arange(len(queries))
        guess = self._counts(index, queries, codes, self.n_selection, generator).argmax(axis=1)
        hits = self._counts(index, queries, codes, self.n_samples, generator)[rows, guess]
        radii = vote_radii(hits, self.n_samples, self.sigma, self.alpha)
        return Certified(np.asarray(classes.cpu())[guess], radii, radii <= 0)

    def _counts(self, index: Index, queries: ImageSet, codes: Tensor, n: int, generator: torch.Generator) -> Indices:
        """How often each class has the majority in n draws for each query, (m, n_classes)."""
        n_classes = int(codes.max()) + 1
        counts = torch.zeros((len(queries), n_classes), dtype=torch.long, device=index.device)
        keys = index.keys_of(queries)
        for which, embedded in self.draws(index, queries, n, generator):
            found = codes[nearest(embedded, keys[which], index.embeddings, index.ids, self.n_neighbors)]
            votes = torch.zeros((len(which), n_classes), dtype=torch.long, device=index.device)
            winners = votes.scatter_add_(1, found, torch.ones_like(found)).argmax(dim=1)
            counts.index_put_((which, winners), torch.ones_like(winners), accumulate=True)
        return np.asarray(counts.cpu())

    def _by_embedding(self, index: Index, queries: ImageSet, generator: torch.Generator) -> Certified:
        gallery = index.embeddings.double()
        longest = float(gallery.norm(dim=1).max())
        total = torch.zeros((len(queries), gallery.shape[1]), dtype=torch.double, device=index.device)
        for which, embedded in self.draws(index, queries, self.n_samples, generator):
            wide = embedded.double()
            total.index_add_(0, which, wide * (longest / wide.norm(dim=1, keepdim=True).clamp_min(longest)))
        mean = np.asarray((total / self.n_samples).cpu())
        found = from_embeddings(np.asarray(gallery.cpu()), mean, queries, index.gallery)
        off = longest * _deviation(self.n_samples, self.alpha)
        constant = longest * math.sqrt(2 / math.pi) / self.sigma
        radii = np.maximum(found.radii - off * (1 + 1e-9), 0.0) / (constant * (1 + 1e-9))
        return Certified(found.predictions, radii, radii <= 0, constant)

    def draws(
        self, index: Embedder, queries: ImageSet, n: int, generator: torch.Generator
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Embeddings of n noisy copies of every query, in batches, with the rows of the queries they are of."""
        # Noise comes in pieces of one size, and batches of whole pieces: what is drawn for a copy is the same in all.
        size = _PIECE * max(1, index.batch_size // _PIECE)
        for start in range(0, n * len(queries), size):
            which = torch.arange(start, min(start + size, n * len(queries))) // n
            rows, place = which.unique(return_inverse=True)
            copies = queries.select(rows).tensor().to(index.device)[place.to(index.device)]
            told: dict[str, Any] = {"generator": generator, "device": index.device, "dtype": copies.dtype}
            pieces = [torch.randn(piece.shape, **told) for piece in copies.split(_PIECE)]
            # Not clipped to 0 to 1: the certificate is about this very noise.
            noisy = copies + self.sigma * torch.cat(pieces)
            yield which.to(index.device), check_embeddings(index.model(noisy), len(which)).float()

    def largest_radius(self) -> float:
        """The radius where every draw agrees, which none exceeds, in pixels; of embeddings, that at the distance 2F."""
        if self.statistic == "vote":
            return float(vote_radii(self.n_samples, self.n_samples, self.sigma, self.alpha))
        return max(0.0, 2.0 - _deviation(self.n_samples, self.alpha)) * self.sigma / math.sqrt(2 / math.pi)

    def futile(self) -> str | None:
        if self.n_samples >= (least := least_samples(self.alpha, self.statistic)):
            return None
        told = f"n_samples of {self.n_samples} can certify nothing at alpha = {self.alpha:g}"
        return f"{told}, even if every draw agrees: at least {least} are needed"

    def settings(self) -> dict[str, Any]:
        """The arguments of its constructor that have a part."""
        without = ("n_selection", "n_neighbors") if self.statistic == "embedding" else ()
        return {key: value for key, value in super().settings().items() if key not in without}


def _deviation(n: int, alpha: float) -> float:
    """By how much the mean of n draws may be off, with confidence 1 − α, in units of F."""
    return (1 + math.sqrt(2 * math.log(1 / alpha))) / math.sqrt(n)


def least_samples(alpha: float, statistic: str = "vote") -> int:
    """The fewest draws with which anything can be certified with confidence 1 − α.

    "vote": the bound on a share that was seen n times in n draws, ``α^(1/n)``, must exceed 1/2, so that n must exceed
    ``log α / log ½``. "embedding": the deviation t of the mean must be below 2F, which no radius in the embedding space
    exceeds.

    Examples
    --------
    >>> least_samples(0.001), least_samples(0.001, "embedding")
    (10, 6)
    """
    if statistic == "embedding":
        return math.floor((_deviation(1, alpha) / 2) ** 2) + 1
    n = max(1, math.floor(math.log(alpha) / math.log(0.5)) - 1)
    while not vote_radii(n, n, 1.0, alpha) > 0:  # as it is computed: a bound of 1/2 may be rounded either way
        n += 1
    return n


def proportion_bound(hits: ArrayLike, n: int, alpha: float) -> Array:
    """Clopper–Pearson lower bound on a probability of that many hits in n draws, with confidence 1 − α, one-sided.

    Examples
    --------
    >>> float(proportion_bound(1000, 1000, 0.001)) == 0.001 ** (1 / 1000)
    True
    """
    from scipy.stats import beta

    hits = np.asarray(hits)
    found = np.where(hits == 0, 0.0, beta.ppf(alpha, np.maximum(hits, 1), n - hits + 1))
    return np.asarray(np.where(hits == n, alpha ** (1.0 / n), found))


def vote_radii(hits: ArrayLike, n: int, sigma: float, alpha: float) -> Array:
    """Certified radius of a majority that was seen ``hits`` times in n draws; 0 where it may be no majority.

    Examples
    --------
    >>> vote_radii([50, 990], 1000, 0.25, 0.001).round(3)
    array([0.   , 0.495])
    """
    from scipy.stats import norm

    share = proportion_bound(hits, n, alpha) * (1 - 1e-12)
    return np.asarray(np.where(share > 0.5, sigma * norm.ppf(np.maximum(share, 0.5)), 0.0))
