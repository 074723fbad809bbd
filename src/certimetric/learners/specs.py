"""Learners by name: ``lmnn``, ``lmnn+pl``, ``lmnn+pl:tau=2`` — one spelling for the command line and for Python."""

from __future__ import annotations

import ast
from collections.abc import Collection
from typing import Any

from certimetric.base.wording import did_you_mean
from certimetric.learners.aml import AML
from certimetric.learners.arml import ARML
from certimetric.learners.base import MahalanobisLearner
from certimetric.learners.baselines import Covariance, Euclidean
from certimetric.learners.gmlvq import GMLVQ
from certimetric.learners.gmml import GMML
from certimetric.learners.itml import ITML
from certimetric.learners.lfda import LFDA
from certimetric.learners.lmnn import LMNN
from certimetric.learners.lsml import LSML
from certimetric.learners.mlkr import MLKR
from certimetric.learners.mmc import MMC
from certimetric.learners.nca import NCA
from certimetric.learners.oasis import OASIS
from certimetric.learners.rca import RCA
from certimetric.learners.scml import SCML
from certimetric.learners.sdml import SDML
from certimetric.objectives.perturbation import PerturbationLoss

LEARNERS: dict[str, type[MahalanobisLearner]] = {
    "euclidean": Euclidean,
    "covariance": Covariance,
    "nca": NCA,
    "lmnn": LMNN,
    "scml": SCML,
    "gmml": GMML,
    "aml": AML,
    "itml": ITML,
    "arml": ARML,
    "rca": RCA,
    "lfda": LFDA,
    "mmc": MMC,
    "lsml": LSML,
    "oasis": OASIS,
    "sdml": SDML,
    "gmlvq": GMLVQ,
}
REGRESSORS: dict[str, type[MahalanobisLearner]] = {"mlkr": MLKR}
"""The learners of numbers instead of classes: what audits and benchmarks of classes ask for has no use for them."""
PERTURBATION_SUFFIX = "+pl"
AUTO_NAME = "auto"  # of a search over learners, which is none of them: :class:`certimetric.MetricSearchCV`


def make_learner(spec: str, *, random_state: int | None = None) -> MahalanobisLearner:
    """Make the learner that a specification names.

    Parameters
    ----------
    spec : str
        ``NAME[+pl][:option=value,…]``: a name of :data:`LEARNERS`; ``+pl`` adds the perturbation loss; the options are
        parameters of the learner, or ``weight``, ``tau``, ``norm`` and ``relative`` of the perturbation loss.
    random_state : int, optional
        Given to learners that draw at random.

    Raises
    ------
    ValueError
        If the name, an option or a value is not understood; the message says what is known.

    Examples
    --------
    >>> make_learner("lmnn+pl:tau=2,n_neighbors=5")
    LMNN(n_neighbors=5, perturbation=PerturbationLoss(tau=2))
    """
    head, _, options = spec.partition(":")
    name = head.strip().lower()
    with_loss = name.endswith(PERTURBATION_SUFFIX)
    base = name.removesuffix(PERTURBATION_SUFFIX)
    if base in REGRESSORS:
        raise ValueError(f"{base} learns to predict numbers, not classes: use certimetric.{REGRESSORS[base].__name__}")
    if base not in LEARNERS:
        raise ValueError(f"unknown learner {head!r}{did_you_mean(base, LEARNERS)}; known are {', '.join(LEARNERS)}")
    learner = LEARNERS[base]()
    names = learner.get_params(deep=False)
    if with_loss:
        if "perturbation" not in names:
            able = [key for key, made in LEARNERS.items() if "perturbation" in made().get_params(deep=False)]
            raise ValueError(f"{base} takes no perturbation loss; the learners that do are {', '.join(able)}")
        learner.set_params(perturbation=PerturbationLoss())
    if "random_state" in names:
        learner.set_params(random_state=random_state)
    targets = {key: key for key in names if key not in ("perturbation", "verbose", "random_state")}
    if with_loss:
        targets |= {key: f"perturbation__{key}" for key in PerturbationLoss().get_params()}
    given = options_of(options, targets, head)
    learner.set_params(**{targets[key]: value for key, value in given.items()})
    try:
        learner._validate_params()
        if with_loss:
            learner.get_params(deep=False)["perturbation"].check()
    except ValueError as error:
        raise ValueError(f"learner {spec!r}: {error}") from None
    return learner


def options_of(text: str, known: Collection[str], head: str) -> dict[str, Any]:
    """The options of a specification, what stands behind its name ``head`` and a colon.

    Raises
    ------
    ValueError
        If one is not known, or has no value.

    Examples
    --------
    >>> options_of("tau=2, init=pca", ("tau", "init"), "lmnn+pl")
    {'tau': 2, 'init': 'pca'}
    """
    found = {}
    for option in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = (part.strip() for part in option.partition("="))
        if key not in known:
            hint = (
                "; tau and weight need the perturbation loss, +pl"
                if key in ("tau", "weight", "norm", "relative")
                else ""
            )
            raise ValueError(
                f"learner {head!r} has no option {key!r}{did_you_mean(key, known)}{hint}; its options are "
                f"{', '.join(known) or 'none'}"
            )
        if not equals or not value:
            raise ValueError(f"option {key!r} of learner {head!r} needs a value: {key}=…")
        found[key] = _value(value)
    return found


def learner_variants(**settings: Any) -> list[MahalanobisLearner]:
    """Every learner, of numbers too, in every kind that it comes in: what holds of all learners is tested on these.

    Its defaults, and one more for each further ``solver`` and ``confusion``, for the perturbation loss, and for
    mini-batches.

    Parameters
    ----------
    settings
        Given to every learner that has a parameter of the name, instead of its default.

    Examples
    --------
    >>> [learner for learner in learner_variants(max_iter=5) if type(learner) is AML]
    [AML(max_iter=5), AML(max_iter=5, solver='alternating'), AML(confusion='ascent', max_iter=5)]
    """
    variants = []
    for made in (*LEARNERS.values(), *REGRESSORS.values()):
        names = made().get_params(deep=False)
        kinds: list[dict[str, Any]] = [{}]
        for name in ("solver", "confusion"):
            options = getattr(made._parameter_constraints.get(name, [None])[0], "options", ())
            kinds += [{name: option} for option in sorted(options) if option != names[name]]
        if "perturbation" in names:
            kinds.append({"perturbation": PerturbationLoss()})
        if "batch_size" in names:
            kinds.append({"batch_size": 16})
        known = {name: value for name, value in settings.items() if name in names}
        variants += [made(**{**known, **kind}) for kind in kinds]
    return variants


def describe(spec: str) -> str:
    """The name of a specification for people: ``lmnn+pl:tau=2`` is "LMNN + perturbation loss (tau=2)"."""
    head, _, options = spec.partition(":")
    name = head.strip().lower()
    base = name.removesuffix(PERTURBATION_SUFFIX)
    label = LEARNERS[base].__name__ if base in LEARNERS else head.strip()[: len(base)]
    label = "Chosen by a search" if base == AUTO_NAME else label
    if name.endswith(PERTURBATION_SUFFIX):
        label += " + perturbation loss"
    return f"{label} ({options.strip()})" if options.strip() else label


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
