"""``certimetric fit``: a metric is learned on standardised data, and kept for data in their own units."""

from __future__ import annotations

import shlex
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from certimetric.auditing.request import whole
from certimetric.auditing.verification.request import VerificationRequest
from certimetric.cli.inputs import number, writable
from certimetric.cli.options import NEIGHBORS, Data, Neighbors, option_of
from certimetric.cli.tables import TableOptions, with_table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from certimetric.base.arrays import Indices
    from certimetric.datasets import Dataset
    from certimetric.geometry import MahalanobisMetric

EPILOG = """Examples:

`certimetric fit wine.csv --learner lmnn+pl -o wine.safetensors`

`certimetric fit people.csv --target person --learner gmml --verify --far 1e-3 -o people.safetensors`"""
_JUDGED = 2000  # training instances, at most, whose neighbours are looked for to tell what was learned
_PAIRS = 100_000  # of each kind, at most, that a threshold is calibrated on


@with_table
def fit(
    data: Data,
    table: TableOptions,
    learner: Annotated[
        str, typer.Option("--learner", "-l", metavar="SPEC", help="Such as lmnn+pl:tau=2; auto searches for the best.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="Metric file to write.")] = Path(
        "metric.safetensors"
    ),
    neighbors: Neighbors = NEIGHBORS,
    seed: Annotated[int, option_of(VerificationRequest, "seed")] = VerificationRequest.seed,
    verify: Annotated[
        bool, typer.Option("--verify", help="Calibrate a threshold too, on a third of the classes, kept apart.")
    ] = False,
    far: Annotated[str, option_of(VerificationRequest, "far")] = str(VerificationRequest.far),
) -> None:
    """Learn a metric on standardised data and save it, for data in their original units.

    With --verify also a threshold: two instances are the same where they are no farther from each other.
    """
    from sklearn.utils import get_tags

    from certimetric.certify.rates import check_far
    from certimetric.certify.search import learner_of
    from certimetric.runs.progress import progress_bar

    rate = check_far(number("--far", far))
    if not verify and far != str(VerificationRequest.far):
        raise ValueError("--far is the rate of a threshold: it needs --verify")
    whole("seed", seed, 0)
    writable("--out", out, data)
    loaded = table.load(data)
    if len(loaded.classes) < 2:
        raise ValueError(f"{loaded.name!r} must have at least two classes, got 1")
    if len(loaded.classes) == loaded.n_samples and get_tags(learner_of(learner)).target_tags.required:
        raise ValueError(
            f"each of the {loaded.n_samples} rows of {loaded.name!r} has a label of its own, as an identifier or a "
            "number has: a metric is learned from rows that share one"
        )
    with _convergence_told(), progress_bar(True, None, name=f"fit {learner}"):
        metric, told = _calibrated(loaded, learner, seed, rate) if verify else _judged(loaded, learner, neighbors, seed)
    if told_reading := table.reading().to_dict():
        metric = replace(metric, training={**metric.training, "reading": told_reading})
    metric.save(out)
    if loaded.told_gaps:
        typer.echo(f"{data}: {loaded.told_gaps}")
    for line in told:
        typer.echo(line)
    typer.echo(f"Metric: {out}")
    named = [] if table.target is None else ["--target", table.target]
    if verify:
        words = ["match", str(out), data, data, *named, "-o", "matches.csv"]
    else:
        words = ["certify", str(out), data, data, *named, "-k", str(neighbors), "-o", "radii.csv"]
    typer.echo(f"Next:   {shlex.join(['certimetric', *words])}")
    typer.echo(f"        (each row without itself; a file of new rows goes in the place of the second {data})")


def _judged(data: Dataset, spec: str, n_neighbors: int, seed: int) -> tuple[MahalanobisMetric, list[str]]:
    """A metric learned from all instances; and how many of them their neighbours, without themselves, predict wrongly.

    Of many instances that is told of some, drawn: it is no part of learning, and must not take longer.
    """
    import numpy as np

    from certimetric.base.wording import counted
    from certimetric.cli.queries import base_rate
    from certimetric.constraints.labels import class_draw

    if not 1 <= n_neighbors < data.n_samples:
        raise ValueError(f"--neighbors must be between 1 and {data.n_samples - 1}, got {n_neighbors}")
    metric = _fitted(data, spec, seed, np.arange(data.n_samples), n_neighbors)
    codes = np.unique(data.y, return_inverse=True)[1]
    rows = class_draw(codes, _JUDGED, np.random.default_rng(seed))
    predicted = _leave_one_out(metric, data, n_neighbors, rows)
    of = "the" if len(rows) == data.n_samples else f"{len(rows)} (drawn) of the {data.n_samples}"
    return metric, [
        *_tell_search(metric),
        f"{spec}: {100 * (predicted != data.y[rows]).mean():.1f} % of {of} training instances are wrong by their "
        f"{counted(n_neighbors, 'neighbour')}",
        base_rate(predicted, data.y[rows], data.y),
    ]


def _calibrated(data: Dataset, spec: str, seed: int, far: float) -> tuple[MahalanobisMetric, list[str]]:
    """A metric learned from some of the classes, with a threshold that is calibrated on pairs of the others."""
    import numpy as np

    from certimetric.certify import PairVerifier, claimable_far, verification_curve
    from certimetric.constraints.pairs import all_pairs
    from certimetric.constraints.tuples import Tuples
    from certimetric.geometry import MahalanobisMetric
    from certimetric.runs.splits import subject_parts

    codes = np.unique(data.y, return_inverse=True)[1]
    (learned, kept), apart = subject_parts(codes, [1 / 3], seed, 0)
    metric = _fitted(data, spec, seed, learned)
    pairs, genuine = all_pairs(codes[kept], _PAIRS, np.random.default_rng(seed))
    distances = PairVerifier(metric, 0.0).fit().pair_distance(Tuples(data.X[kept], pairs))
    curve = verification_curve(distances, genuine)
    threshold = curve.threshold_at(far)
    if not np.isfinite(threshold):
        raise ValueError(
            f"no threshold has a false accept rate of {far:g} on {curve.n_impostor} impostor pairs: give a larger --far"
        )
    got, tar = curve.at(threshold)
    told = {"threshold": threshold, "far": far, "tar": tar, "apart": apart}
    told |= {"n_genuine": curve.n_genuine, "n_impostor": curve.n_impostor}
    metric = MahalanobisMetric(metric.components, metric.feature_names, {**metric.training, "verification": told})
    who = f"{len(np.unique(codes[kept]))} subjects that were not learned from"
    lines = [
        f"{spec}: threshold {threshold:.6g} accepts {100 * tar:.1f} % of {curve.n_genuine} genuine and {100 * got:.2g} "
        f"% of {curve.n_impostor} impostor pairs of {who if apart else 'instances that were not learned from'}"
    ]
    if not apart:
        lines.append("The classes are too few to keep some apart: for subjects that are not among them it may be worse")
    if far < claimable_far(curve.n_impostor):
        least = claimable_far(curve.n_impostor)
        lines.append(f"So few impostor pairs show false accept rates down to {least:.2g} only (rule of three)")
    return metric, [*_tell_search(metric), *lines]


def _fitted(data: Dataset, spec: str, seed: int, rows: Indices, n_neighbors: int = 3) -> MahalanobisMetric:
    """Standardise, fit, and fold the scale into the metric, whose training summary holds the standardisation."""
    from sklearn.preprocessing import StandardScaler

    from certimetric.certify import MetricSearchCV
    from certimetric.certify.search import learner_of
    from certimetric.geometry import MahalanobisMetric

    learner = learner_of(spec, random_state=seed, n_neighbors=n_neighbors)
    scaler = StandardScaler().fit(data.X[rows])
    learned = learner.fit(scaler.transform(data.X[rows]), data.y[rows]).metric_
    search = learner.search_told() if isinstance(learner, MetricSearchCV) else None
    training = {
        **learned.training,
        "spec": spec,
        "data": data.name,
        "seed": seed,
        "n_samples": len(rows),
        "classes": [str(label) for label in data.classes],
        "mean": scaler.mean_.tolist(),
        "scale": scaler.scale_.tolist(),
    }
    if search is not None:
        training["search"] = search
    if data.encoder is not None:
        training["encoding"] = data.encoder.to_dict()
    return MahalanobisMetric.from_components(
        learned.components / scaler.scale_, feature_names=data.feature_names, training=training
    )


def _tell_search(metric: MahalanobisMetric) -> list[str]:
    """What a search for a metric tried last, the one that was chosen first; nothing of one that was not searched."""
    if (search := metric.training.get("search")) is None:
        return []
    eps = "" if search["eps"] is None else f", ε = {search['eps']:.3g}"
    lines = [f"Chosen of {len(search['tried'])} candidates by {search['criterion']!r}{eps}: {search['chosen']}"]
    last = search["tried"][0]["stage"]
    for each in search["tried"]:
        if each["stage"] == last and each["score"] is not None:
            figures = f"score {100 * each['score']:.1f} %, error {100 * each['error']:.1f} %"
            why = "" if each["admitted"] else " (errs more than the Euclidean distance)"
            lines.append(f"  {each['learner']}: {figures}{why}")
    return lines


@contextmanager
def _convergence_told() -> Iterator[None]:
    """Say on stderr, in one line each, why learners did not converge; the command silences all other warnings."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        yield
    for told in dict.fromkeys(str(w.message) for w in caught if issubclass(w.category, ConvergenceWarning)):
        print(f"certimetric: warning: {' '.join(told.split())}", file=sys.stderr)


def _leave_one_out(metric: MahalanobisMetric, data: Dataset, n_neighbors: int, rows: Indices) -> NDArray[Any]:
    """What the neighbours of some rows among all, themselves left out, vote for."""
    import numpy as np

    from certimetric.geometry.neighbors import nearest_neighbors

    classes, codes = np.unique(data.y, return_inverse=True)
    points = metric.transform(data.X - data.X.mean(axis=0))
    nearest, _ = nearest_neighbors(points[rows], points, n_neighbors, exclude=rows)
    ballots = np.stack([(codes[nearest] == code).sum(axis=1) for code in range(codes.max() + 1)], axis=1)
    return np.asarray(classes[ballots.argmax(axis=1)])
