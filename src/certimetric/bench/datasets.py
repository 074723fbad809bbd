"""The data sets of the suites, named once: where each comes from, and the shape and classes that it must have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from certimetric.base.wording import first_line
from certimetric.datasets import Dataset, load
from certimetric.datasets.data_root import table_file
from certimetric.datasets.tables.bundled import bundled_names
from certimetric.runs.key import Cell


class Named(Protocol):
    """What a suite asks for: a table (:class:`NamedSet`) or pictures (``NamedImages``), known by its name."""

    @property
    def name(self) -> str: ...

    @property
    def numbers(self) -> int: ...

    def find(self, root: Path | None, *, network: bool) -> Found:
        """Locate it, see that it is what its name says, and hash its content.

        A FileNotFoundError, ImportError or ConnectionError says why it is not at hand, and is told; a ValueError that
        something else goes by its name.
        """


@dataclass(frozen=True)
class NamedSet:
    """A table as the experiments mean it: what it must hold, and what is done to it."""

    name: str  # of its file, too, without its endings
    openml: str  # NAME@VERSION at OpenML; empty where it is not known to be there in this form
    rows: int  # these of the table as it comes
    features: int
    classes: tuple[int, ...]  # their sizes, rising: the same data may come with its labels in other words
    drop: int = 0  # leading columns that are no features
    pca: int = 0  # principal components of the training part that stand for the features; 0 for none
    # Rows with gaps are left out (filled, they would tell of the test part), and not counted in rows and classes.
    gaps: bool = False

    @property
    def numbers(self) -> int:
        """How many the table holds: small ones come first."""
        return self.rows * self.features

    def find(self, root: Path | None, *, network: bool) -> Found:
        """Bundled, else from ``NAME.csv`` and the like in the folder or its ``tabular/``, else from OpenML."""
        bundled = self.name in bundled_names()
        source = self.name if bundled else None if root is None else table_file(self.name, root)
        if source is None and network and self.openml:
            source = f"openml:{self.openml}"
        if source is None:
            raise FileNotFoundError(ABSENT)
        return Found(self, source, load_checked(self, source).sha256())


ABSENT = "neither bundled nor in the folder"

_LETTERS = (734, 734, 736, 739, 747, 748, 752, 753, 755, 758, 761, 764, 766)
_LETTERS += (768, 773, 775, 783, 783, 786, 787, 789, 792, 796, 803, 805, 813)
_OPTDIGITS = (554, 554, 557, 558, 558, 562, 566, 568, 571, 572)
_PENDIGITS = (1055, 1055, 1055, 1055, 1056, 1142, 1143, 1143, 1144, 1144)
_USPS = (708, 716, 792, 821, 824, 834, 852, 929, 1269, 1553)
_DIGITS = (174, 177, 178, 179, 180, 181, 181, 182, 182, 183)

IRIS = NamedSet("iris", "iris@1", 150, 4, (50, 50, 50))
WINE = NamedSet("wine", "wine@1", 178, 13, (48, 59, 71))
BREAST_CANCER = NamedSet("breast_cancer", "wdbc@1", 569, 30, (212, 357))
DIGITS = NamedSet("digits", "optdigits@1", 1797, 64, _DIGITS)

# The sixteen sets of the perturbation suite.
SIXTEEN = (
    NamedSet("australian", "Australian@4", 690, 14, (307, 383)),
    BREAST_CANCER,
    NamedSet("breast_w", "breast-w@1", 683, 9, (239, 444), gaps=True),
    NamedSet("fourclass", "", 862, 2, (307, 555)),
    NamedSet("haberman", "haberman@1", 306, 3, (81, 225)),
    NamedSet("ionosphere", "ionosphere@1", 351, 34, (126, 225)),
    IRIS,
    NamedSet("letter", "letter@1", 20000, 16, _LETTERS),
    NamedSet("pendigits", "pendigits@1", 10992, 16, _PENDIGITS),
    NamedSet("pima", "diabetes@1", 768, 8, (268, 500)),
    NamedSet("segment", "segment@1", 2310, 19, (330,) * 7),
    NamedSet("sonar", "sonar@1", 208, 60, (97, 111)),
    NamedSet("spambase", "spambase@1", 4601, 57, (1813, 2788)),
    NamedSet("usps", "USPS@1", 9298, 256, _USPS, pca=50),
    NamedSet("vehicle", "vehicle@1", 846, 18, (199, 212, 217, 218)),
    WINE,
)

# Further sets of this literature: used where they are at hand, never missed.
FURTHER = (
    NamedSet("balance", "balance-scale@1", 625, 4, (49, 288, 288)),
    NamedSet("banana", "banana@1", 5300, 2, (2376, 2924)),
    NamedSet("dermatology", "", 366, 34, (20, 49, 52, 61, 72, 112)),
    replace(DIGITS, openml="", pca=40),
    NamedSet("dna", "", 3186, 180, (765, 767, 1654), pca=50),
    NamedSet("ecoli", "ecoli@1", 336, 7, (2, 2, 5, 20, 35, 52, 77, 143)),
    NamedSet("german_numeric", "", 1000, 24, (300, 700)),
    NamedSet("glass", "glass@1", 214, 9, (9, 13, 17, 29, 70, 76)),
    NamedSet("heart_statlog", "heart-statlog@1", 270, 13, (120, 150)),
    NamedSet("newthyroid", "", 215, 5, (30, 35, 150)),
    NamedSet("optdigits", "optdigits@1", 5620, 64, _OPTDIGITS, pca=40),
    NamedSet("parkinsons", "parkinsons@1", 195, 22, (48, 147)),
    NamedSet("satimage", "", 6435, 36, (626, 703, 707, 1358, 1508, 1533)),
    NamedSet("vowel", "", 990, 13, (90,) * 11, drop=3),
    NamedSet("yeast", "", 1484, 8, (5, 20, 30, 35, 44, 51, 163, 244, 429, 463)),
)


BY_NAME = {named.name: named for named in (*SIXTEEN, *FURTHER)}


@dataclass(frozen=True)
class Found:
    """A data set that is at hand: where a worker loads it from, and the hash of its content."""

    named: Any
    source: str
    digest: str

    def cell(
        self, suite: str, learner: str, split: int, seed: int, protocol: str, parameters: Mapping[str, Any]
    ) -> Cell:
        """The cell of a learner on a split of it."""
        return Cell(suite, self.named.name, self.digest, self.source, learner, split, seed, protocol, parameters)


def find_datasets(
    wanted: Sequence[Named], root: Path | None, *, network: bool = True
) -> tuple[list[Found], dict[str, str]]:
    """Load and check the data sets: bundled, else from files in the data root, else, with a network, from OpenML.

    Gives those that are found, and the reason for each that is not at hand, by name. It raises a FileNotFoundError if
    there is no such folder, a ValueError if a set has not the shape or the classes that it should have.
    """
    if root is not None and not root.is_dir():
        raise FileNotFoundError(f"--data-root: there is no folder {str(root)!r}")
    found, missing, offline = [], {}, ""
    for named in wanted:
        try:
            found.append(named.find(root, network=network))
        except ConnectionError:
            network, offline = False, ", and OpenML cannot be reached"  # one attempt says enough
            missing[named.name] = ABSENT + offline
        except (FileNotFoundError, ImportError) as error:
            reason = first_line(error)
            missing[named.name] = reason + offline if reason == ABSENT else reason
    return found, missing


@lru_cache(maxsize=4)
def load_checked(named: NamedSet, source: str) -> Dataset:
    """Load a set, see that it is what its name says (else a ValueError), and leave out what are no features."""
    data = load(source, encode=named.gaps)
    if named.gaps:
        data = _without_gaps(data)
    classes = tuple(sorted(np.unique(data.y, return_counts=True)[1].tolist()))
    for what, got, expected in (
        ("rows", data.n_samples, named.rows),
        ("features", data.n_features, named.features),
        ("class sizes", classes, named.classes),
    ):
        if got != expected:
            raise ValueError(
                f"{source!r} is not the data set {named.name!r}: its {what} are {got}, expected {expected}"
            )
    if not named.drop:
        return data
    return replace(data, X=data.X[:, named.drop :], feature_names=data.feature_names[named.drop :])


def _without_gaps(data: Dataset) -> Dataset:
    """Leave out the rows that had a gap, and the columns that say so."""
    marks = np.array([name.endswith(" is missing") for name in data.feature_names])
    rows = ~(data.X[:, marks] > 0).any(axis=1)
    names = tuple(name for name, mark in zip(data.feature_names, marks) if not mark)
    return replace(data, X=data.X[rows][:, ~marks], y=data.y[rows], feature_names=names, imputed=None)
