"""``certimetric fit``: a metric is learned on standardised data, and kept for data in their own units."""

from __future__ import annotations

import shlex
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from certimetric.cli.inputs import writable
from certimetric.cli.options import NEIGHBORS, Data, Encode, Neighbors, Target

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from certimetric.datasets import Dataset
    from certimetric.geometry import MahalanobisMetric

EPILOG = "Example: `certimetric fit wine.csv --learner lmnn+pl -o wine.safetensors`"


def fit(
    data: Data,
    learner: Annotated[
        str, typer.Option("--learner", "-l", metavar="SPEC", help="Such as lmnn+pl:tau=2; auto searches for the best.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="Metric file to write.")] = Path(
        "metric.safetensors"
    ),
    target: Target = None,
    neighbors: Neighbors = NEIGHBORS,
    seed: Annotated[int, typer.Option("--seed", help="For learners that draw at random.")] = 0,
    encode: Encode = False,
) -> None:
    """Learn a metric on standardised data and save it, for data in their original units."""
    from certimetric import datasets

    writable("--out", out)
    loaded = datasets.load(data, target=target, encode=encode)
    with _convergence_told():
        metric, told = _fitted(loaded, learner, neighbors, seed)
    metric.save(out)
    if loaded.told_gaps:
        typer.echo(f"{data}: {loaded.told_gaps}")
    for line in told:
        typer.echo(line)
    typer.echo(f"Metric: {out}")
    options = ([] if target is None else ["--target", target]) + ["-k", str(neighbors), "-o", "radii.csv"]
    typer.echo(f"Next:   {shlex.join(['certimetric', 'certify', str(out), data, data, *options])}")
    typer.echo(f"        (each row without itself; a file of new rows goes in the place of the second {data})")


def _fitted(data: Dataset, spec: str, n_neighbors: int, seed: int) -> tuple[MahalanobisMetric, list[str]]:
    """Standardise, fit, and fold the scale into the metric, whose training summary holds the standardisation.

    It is told how many training instances their neighbours, without themselves, predict wrongly, and what that is
    worth.
    """
    from sklearn.preprocessing import StandardScaler

    from certimetric.base.wording import counted
    from certimetric.certify import MetricSearchCV
    from certimetric.certify.search import learner_of
    from certimetric.cli.queries import base_rate
    from certimetric.geometry import MahalanobisMetric

    if len(data.classes) < 2:
        raise ValueError(f"{data.name!r} must have at least two classes, got 1")
    if not 1 <= n_neighbors < data.n_samples:
        raise ValueError(f"--neighbors must be between 1 and {data.n_samples - 1}, got {n_neighbors}")
    learner = learner_of(spec, random_state=seed, n_neighbors=n_neighbors)
    scaler = StandardScaler().fit(data.X)
    learned = learner.fit(scaler.transform(data.X), data.y).metric_
    search = learner.search_told() if isinstance(learner, MetricSearchCV) else None
    training = {
        **learned.training,
        "spec": spec,
        "data": data.name,
        "seed": seed,
        "n_samples": data.n_samples,
        "classes": [str(label) for label in data.classes],
        "mean": scaler.mean_.tolist(),
        "scale": scaler.scale_.tolist(),
    }
    if search is not None:
        training["search"] = search
    if data.encoder is not None:
        training["encoding"] = data.encoder.to_dict()
    metric = MahalanobisMetric.from_components(
        learned.components / scaler.scale_, feature_names=data.feature_names, training=training
    )
    predicted = _leave_one_out(metric, data, n_neighbors)
    return metric, [
        *([] if search is None else _tell_search(search)),
        f"{spec}: {100 * (predicted != data.y).mean():.1f} % of the training instances are wrong by their "
        f"{counted(n_neighbors, 'neighbour')}",
        base_rate(predicted, data.y, data.y),
    ]


def _tell_search(search: dict[str, Any]) -> list[str]:
    """What a search tried last, the one that was chosen first."""
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


def _leave_one_out(metric: MahalanobisMetric, data: Dataset, n_neighbors: int) -> NDArray[Any]:
    import numpy as np

    from certimetric.geometry.neighbors import nearest_neighbors

    classes, codes = np.unique(data.y, return_inverse=True)
    points = metric.transform(data.X - data.X.mean(axis=0))
    nearest, _ = nearest_neighbors(points, points, n_neighbors, exclude=np.arange(len(points)))
    ballots = np.stack([(codes[nearest] == code).sum(axis=1) for code in range(codes.max() + 1)], axis=1)
    return np.asarray(classes[ballots.argmax(axis=1)])
