"""Counterfactuals of DiCE and of alibi for a nearest-neighbour classifier, each in an environment of its own."""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from sklearn.neighbors import KNeighborsClassifier


class Linear:
    """1-NN of instances under the metric ``‖L(x − x')‖``."""

    def __init__(self, L: np.ndarray, X: np.ndarray, y: np.ndarray):
        self.L, self.knn = L, KNeighborsClassifier(1, algorithm="brute").fit(X @ L.T, y)
        self.classes_ = self.knn.classes_

    def predict(self, X: Any) -> np.ndarray:
        return self.knn.predict(np.asarray(X, dtype=float) @ self.L.T)

    def predict_proba(self, X: Any) -> np.ndarray:
        return self.knn.predict_proba(np.asarray(X, dtype=float) @ self.L.T)


def of_dice(method: str, problem: Mapping[str, np.ndarray], model: Linear) -> Iterator[list[np.ndarray]]:
    """What DiCE finds for each query: up to four for each other class."""
    import dice_ml
    import pandas as pd

    names = [f"x{j}" for j in range(problem["X"].shape[1])]
    table = pd.DataFrame(problem["X"], columns=names)
    table["class"] = problem["y"]
    data = dice_ml.Data(
        dataframe=table,
        continuous_features=names,
        outcome_name="class",
        continuous_features_precision=dict.fromkeys(names, 3),
    )
    dice = dice_ml.Dice(data, dice_ml.Model(model=model, backend="sklearn"), method=method)
    ranges = {n: [float(a), float(b)] for n, a, b in zip(names, problem["low"], problem["high"])}
    options: dict[str, Any] = {
        "features_to_vary": names[1:],
        "permitted_range": ranges,
        "posthoc_sparsity_algorithm": "binary",
    }
    if method == "genetic":
        options["feature_weights"] = dict(zip(names, (1.0 / problem["scale"]).tolist()))
    elif method == "random":
        options["random_seed"] = 0
    for row in problem["queries"]:
        query = pd.DataFrame(row[None], columns=names)
        now = int(model.predict(query)[0])
        classes: list[Any] = ["opposite"] if len(model.classes_) == 2 else [int(c) for c in model.classes_ if c != now]
        found = []
        for aim in classes:
            try:
                told = dice.generate_counterfactuals(query, total_CFs=4, desired_class=aim, verbose=False, **options)
                frame = told.cf_examples_list[0].final_cfs_df
            except Exception:  # none found is told by an exception of its own in some versions
                continue
            found += [] if frame is None else list(frame[names].to_numpy(dtype=float))
        yield found


def of_alibi(problem: Mapping[str, np.ndarray], model: Linear) -> Iterator[list[np.ndarray]]:
    """What alibi's search guided by prototypes finds for each query, all along its path, as its page on tables sets it.

    In units of standard deviations, in which its elastic net counts; of the features, the first has no range.
    """
    import tensorflow

    tensorflow.compat.v1.disable_v2_behavior()
    tensorflow.get_logger().setLevel("ERROR")
    from alibi.explainers import CounterfactualProto

    scale = problem["scale"]
    low, high, X = problem["low"] / scale, problem["high"] / scale, problem["X"] / scale
    for row in problem["queries"] / scale:
        ranges = low[None].copy(), high[None].copy()
        for bound in ranges:
            bound[0, 0] = row[0]
        tensorflow.compat.v1.keras.backend.clear_session()
        search = CounterfactualProto(
            lambda rows: model.predict_proba(rows * scale),
            shape=(1, len(row)),
            use_kdtree=True,
            theta=10.0,
            max_iterations=1000,
            feature_range=ranges,
            c_init=1.0,
            c_steps=10,
        ).fit(X)
        told = search.explain(row[None])
        path = [] if told.cf is None else [told.cf["X"], *(each for step in told.all.values() for each in step)]
        # It computes in single precision: the bounds are kept to a rounding error.
        yield [np.clip(np.ravel(each) * scale, ranges[0][0] * scale, ranges[1][0] * scale) for each in path]


def main(method: str, file: str) -> None:
    warnings.simplefilter("ignore")
    problem = np.load(file)
    model = Linear(problem["L"], problem["X"], problem["y"])
    points, start = [], time.process_time()
    found_by_query = of_alibi(problem, model) if method == "alibi" else of_dice(method, problem, model)
    for row, found in zip(problem["queries"], found_by_query):
        for point in found:
            point[0] = row[0]
        now = model.predict(row[None])[0]
        found = [point for point in found if model.predict(point[None])[0] != now]
        sizes = [np.abs((point - row) / problem["scale"]).sum() for point in found]
        points.append(found[int(np.argmin(sizes))].tolist() if found else [None] * len(row))
    seconds = (time.process_time() - start) / len(points)
    print("REPORT " + json.dumps({"points": points, "seconds": seconds}))


if __name__ == "__main__":
    main(*sys.argv[1:])
