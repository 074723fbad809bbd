"""Audit documents to render: realistic ones, and every odd one that an audit can produce."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_wine

from certimetric.base.wording import PIXELS
from certimetric.report.pictures import png

HOSTILE = "<script>alert(1)</script>"

# spec, label, clean error, median certified radius, steepness of the spectrum
LEARNERS = [
    ("euclidean", "Euclidean", 0.022, 0.95, 0.0),
    ("lmnn", "LMNN", 0.037, 0.62, 2.5),
    ("lmnn+pl", "LMNN + perturbation loss", 0.0185, 1.42, 0.9),
    ("scml+pl", "SCML + perturbation loss", 0.024, 1.12, 1.4),
    ("gmml", "GMML", 0.031, 0.44, 4.0),
    ("aml", "AML", 0.029, 0.51, 3.2),
    ("arml", "ARML", 0.021, 1.05, 0.4),
    ("nca", "NCA", 0.033, 0.58, 2.8),
    ("itml", "ITML", 0.041, 0.71, 1.9),
    ("scml", "SCML", 0.035, 0.49, 2.2),
    ("gmml+pl", "GMML + perturbation loss", 0.027, 0.88, 1.1),
    ("covariance", "Covariance (Mahalanobis)", 0.062, 0.21, 5.0),
]


def audit_document(
    *,
    image: bool = True,
    n_learners: int = 4,
    repeats: int = 5,
    noise: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6),
    seed: int = 0,
) -> dict[str, Any]:
    """A document as an audit of digits (pictures) or wine (a table) would write it; figures are simulated."""
    rng = np.random.default_rng(seed)
    data = load_digits() if image else load_wine()
    X, y = data.data, data.target
    names = [f"pixel_{i // 8}_{i % 8}" for i in range(64)] if image else list(data.feature_names)
    classes = [str(c) for c in np.unique(y)] if image else [str(c) for c in data.target_names]
    scale = X.std(axis=0) + (X.std(axis=0) == 0)
    eps = np.round(np.linspace(0, 2.0, 21), 3)
    learners = [
        _learner(*LEARNERS[i], X=X, y=y, names=names, classes=classes, scale=scale, eps=eps, noise=noise)(
            rng, repeats, image
        )
        for i in range(n_learners)
    ]
    document = {
        "schema": "certimetric.audit/1",
        "data": {
            "name": "digits" if image else "wine",
            "source": "bundled",
            "n_samples": len(X),
            "n_features": X.shape[1],
            "classes": classes,
            "class_counts": np.bincount(y).tolist(),
            "feature_names": names,
            "image_shape": [8, 8] if image else None,
            "features": [
                {
                    "name": name,
                    "kind": "number",
                    "std": float(s),
                    "low": float(column.min()),
                    "high": float(column.max()),
                }
                for name, s, column in zip(names, scale, X.T)
            ],
            "sha256": "9f2c" + "0123456789abcdef" * 3 + "d41d8cd98f00",
        },
        "protocol": {
            "n_neighbors": 3,
            "norm": "l2",
            "test_size": 0.3,
            "repeats": repeats,
            "seed": 0,
            "units": "standardised",
            "noise": list(noise),
            "eps": eps.tolist(),
            "report_eps": 0.5,
        },
        "baseline": {"class": classes[0], "error": 0.6, "balanced_accuracy": 1 / len(classes)},
        "learners": learners,
        "checks": _checks(learners),
        "thresholds": [
            {"expression": "lmnn+pl.certified@0.5>=0.6", "observed": 0.71, "passed": True},
            {"expression": "lmnn.error<=0.03", "observed": 0.037, "passed": False},
        ],
        "verdict": {
            "status": "WARN",
            "sentence": "LMNN + perturbation loss is wrong on 1.9 % of test instances (95 % interval 1.5 to 2.2) and "
            "certified correct on 93.1 % (91.8 to 94.4) within ε = 0.5, against 2.2 % and 84.0 % for Euclidean; "
            "one threshold and one reliability check need attention.",
        },
        "reproduction": {
            "command": "certimetric audit digits --learner euclidean --learner lmnn --learner lmnn+pl "
            "--seed 0 --repeats 5 --eps 0.5 --fail-under 'lmnn+pl.certified@0.5>=0.6' --output report.html",
            "started": "2026-11-20T10:00:00+00:00",
            "wall_seconds": 31.2,
            "versions": {"certimetric": "0.1.0", "numpy": "2.4.1", "scipy": "1.17.0", "scikit-learn": "1.9.1"},
            "machine": {"system": "Linux", "python": "3.11.7", "cpu_count": 2},
            "metric_files": [
                {"learner": "lmnn", "split": 0, "file": "metrics/lmnn.safetensors", "sha256": "ab12" * 16}
            ],
        },
    }
    return json.loads(json.dumps(document, allow_nan=False))


def _learner(spec, label, error, radius, steepness, *, X, y, names, classes, scale, eps, noise):
    d = X.shape[1]

    def build(rng: np.random.Generator, repeats: int, image: bool) -> dict[str, Any]:
        pooled, splits = [], []
        for split in range(repeats):
            radii = rng.gamma(3.0, radius / 2.67, size=max(60, int(0.3 * len(X))))
            radii[rng.random(len(radii)) < error] = 0.0
            pooled.append(radii)
            clean = float((radii == 0).mean())
            harm = 0.25 / (0.4 + radius)
            splits.append(
                {
                    "split": split,
                    "n_train": int(0.7 * len(X)),
                    "n_test": len(radii),
                    "error": clean,
                    "balanced_accuracy": 1 - 1.2 * clean,
                    "noise_error": [clean + harm * s**2 * (1 + 0.1 * rng.standard_normal()) for s in noise],
                    "certified_accuracy": [float(((radii >= e) & (radii > 0)).mean()) for e in eps],
                    "median_radius": float(np.median(radii)),
                    "fit_seconds": float(0.01 + 0.8 * steepness * rng.random()),
                    "n_iter": None if spec == "euclidean" else 40,
                }
            )
        radii = np.concatenate(pooled)
        spectrum = np.exp(-steepness * 3 * np.linspace(0, 1, d) ** 0.7)
        if steepness > 3.9:
            spectrum[-4:] = 0.0
        rank = int((spectrum > 1e-12).sum())
        weights = np.sort(rng.dirichlet(np.full(d, 3.0 if steepness == 0 else 1 / (0.2 + steepness))))[::-1]
        if spec == "euclidean":
            weights = np.full(d, 1 / d)
        order = rng.permutation(d)
        return {
            "spec": spec,
            "label": label,
            "parameters": {} if spec == "euclidean" else {"n_neighbors": 3, "tol": 1e-5, "init": "identity"},
            "splits": splits,
            "summary": _summary(splits),
            "radius_quantiles": np.quantile(radii, np.linspace(0, 1, 101)).tolist(),
            "per_class": sorted(
                (
                    {
                        "class": c,
                        "count": int((y == i).sum() * 0.3 * repeats),
                        "error": float(error * rng.gamma(2.0, 0.5)),
                        "precision": 1 - error if i else None,
                        "median_radius": float(radius * rng.uniform(0.7, 1.3)),
                    }
                    for i, c in enumerate(classes)
                ),
                key=lambda row: -row["error"],
            ),
            "confusions": [[i, i, 40] for i in range(len(classes))] + [[0, 1, 3], [1, 0, 1]],
            "metric": {
                "n_components": d,
                "spectrum": spectrum.tolist(),
                "condition_number": float(1 / spectrum[-1]) if rank == d else None,
                "rank": rank,
                "features": [{"name": names[j], "weight": float(weights[i])} for i, j in enumerate(order[:10])],
            },
            "fragile": [_fragile(rng, i, X, y, names, classes, scale, 0.02 * (i + 1), image) for i in range(6)],
            "robustness": _robustness(spec == "euclidean"),
        }

    return build


def _summary(splits: list[dict[str, Any]]) -> dict[str, Any] | None:
    done = [split for split in splits if "failed" not in split]
    if not done:
        return None

    def estimate(values):
        mean, std = float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None
        half = None if std is None else 2.776 * std / np.sqrt(len(values))
        low, high = (None, None) if half is None else (mean - half, mean + half)
        return {"mean": mean, "std": std, "low": low, "high": high}

    return {
        key: [estimate(column) for column in zip(*[split[key] for split in done], strict=True)]
        if isinstance(done[0][key], list)
        else estimate([split[key] for split in done])
        for key in ("error", "balanced_accuracy", "noise_error", "certified_accuracy", "median_radius", "fit_seconds")
    }


def _robustness(one_neighbour) -> dict[str, Any]:
    eps = np.linspace(0, 2, 31)
    certified = 0.95 * np.exp(-1.2 * eps)
    curves = {
        "instances": 100,
        "eps": eps.tolist(),
        "clean": 0.95,
        "noise": (0.95 - 0.02 * eps).tolist(),
        "adversarial": (0.95 * np.exp(-eps)).tolist(),
        "exact": (0.95 * np.exp(-1.1 * eps)).tolist() if one_neighbour else None,
        "certified": certified.tolist(),
    }
    if one_neighbour:
        return curves | {"certified_over_exact": 0.97, "exact_over_attack": 0.99}
    return curves | {"certified_over_attack": 0.9}


def _fragile(rng, i, X, y, names, classes, scale, radius, image) -> dict[str, Any]:
    row = int(rng.integers(len(X)))
    others = np.flatnonzero(y != y[row])
    rival = others[np.argmin((((X[others] - X[row]) / scale) ** 2).sum(axis=1))]
    after = X[row] + 0.35 * (X[rival] - X[row])
    change = (after - X[row]) / scale
    moved = np.argsort(-np.abs(change))[:8]
    own, other = classes[y[row]], classes[y[rival]]
    found = i != 4  # one of them keeps its prediction: the attack found nothing
    return {
        "split": 0,
        "index": row,
        "label": own,
        "predicted": own,
        "radius": radius,
        "attack_distance": radius * 1.12 if found else None,
        "exact_radius": radius * 1.1 if found and i % 2 else None,
        "adversarial_prediction": other if found else None,
        "changes": [
            {
                "name": names[j],
                "before": float(X[row, j]),
                "after": float(after[j]),
                "unit": "original",
                "standardised": float(change[j]),
            }
            for j in moved
        ],
        "change_size": radius * 1.3,
        "kinds_kept": None if image or not i else i % 2 == 0,
        "image": {"original": X[row].reshape(8, 8).tolist(), "adversarial": after.reshape(8, 8).tolist()}
        if image and found
        else None,
        "neighbours_before": [own, own, other],
        "neighbours_after": [other, own, other] if found else None,
    }


def _checks(learners: list[dict[str, Any]]) -> list[dict[str, Any]]:
    spec = learners[-1]["spec"]
    told = [
        ("CM001", "Certificate against attack", "passed", "No attack flipped a prediction inside its radius."),
        ("CM002", "Attack is strong enough", "passed", "At 50 times the median radius the attack flips all."),
        ("CM003", "Leakage between train and test", "issue", "3 rows of the test set are in the training set."),
        ("CM004", "Few instances of a class", "tip", "Class 8 has 9 test instances; its figures are coarse."),
        ("CM005", "Randomised prediction", "not applicable", "No learner here predicts at random."),
        ("CM006", "Exact attack", "skipped", "The exact attack was not run: no time was given to it."),
    ]
    return [
        {"code": code, "title": title, "severity": severity, "learner": spec if i % 2 else None, "message": text}
        for i, (code, title, severity, text) in enumerate(told)
    ]


def hostile_document() -> dict[str, Any]:
    """Names that try to break out of HTML, SVG, CSS, JSON, XML and mathtext, wherever a name can stand."""
    document = audit_document(image=False, n_learners=3)
    document["data"]["name"] = f'{HOSTILE}</script><!--"\u2028'
    document["data"]["source"] = "https://example.org/data.csv?a=1&b=<2>"
    document["learners"][1]["label"] = f"{HOSTILE} $x_2$ &amp; \x00 #0100ff 距離"
    document["learners"][2]["label"] = "a label that goes on and on " * 6
    document["learners"][1]["parameters"] = {"path": "C:\\<b>bold</b>", "nested": {"a": [1, None]}}
    names = ["<img src=x onerror=alert(1)>", "{{ 7 * 7 }}", "a_very_long_feature_name_without_any_space_" * 3]
    for entry, name in zip(document["data"]["features"], names):
        entry["name"] = name
    for learner in document["learners"]:
        for entry, name in zip(learner["metric"]["features"], names):
            entry["name"] = name
        for instance in learner["fragile"]:
            instance["label"] = instance["predicted"] = f"{HOSTILE}'\""
            for entry, name in zip(instance["changes"], names):
                entry["name"] = name
        for row in learner["per_class"]:
            row["class"] += HOSTILE
    document["data"]["classes"] = [name + HOSTILE for name in document["data"]["classes"]]
    document["baseline"]["class"] += HOSTILE
    document["checks"][2]["message"] = HOSTILE + "\x1b[31m"
    document["verdict"]["sentence"] = f"Unsafe: {HOSTILE} & more."
    document["thresholds"][0]["expression"] = f"lmnn.error<={HOSTILE}"
    document["reproduction"]["command"] = f"certimetric audit '{HOSTILE}'"
    return document


def sparse_document() -> dict[str, Any]:
    """One learner, one split, no noise, no thresholds, no checks, infinite radii, nulls wherever allowed."""
    document = audit_document(image=False, n_learners=1, repeats=1, noise=())
    learner = document["learners"][0]
    learner["spec"], learner["label"] = "lmnn", "LMNN"
    learner["radius_quantiles"] = [0.0] * 5 + [1.0] * 20 + ["inf"] * 76
    learner["summary"]["median_radius"] = {"mean": "inf", "std": None, "low": None, "high": None}
    learner["splits"][0].update(median_radius="inf", n_iter=None)
    for row in learner["per_class"]:
        row["median_radius"] = "inf"
    learner["metric"].update(condition_number=None, features=[])
    learner["fragile"] = [
        {**learner["fragile"][0], "radius": "inf", "attack_distance": None, "neighbours_after": None},
        {**learner["fragile"][1], "predicted": "other", "radius": 0.0, "attack_distance": 0.0, "changes": []},
    ]
    document.update(checks=[], thresholds=[])
    document["protocol"].update(report_eps=9.0, norm="linf")
    document["verdict"] = {"status": "REPORT", "sentence": "LMNN was audited on one split."}
    document["reproduction"].update(metric_files=[], versions={})
    return document


def failing_document() -> dict[str, Any]:
    """One learner lost a split, another lost them all, and a certificate lies above an attack."""
    document = audit_document(n_learners=4)
    document["learners"][1]["splits"][3] = {"split": 3, "failed": "ValueError: the metric became singular."}
    lost = document["learners"][2]
    lost["splits"] = [{"split": i, "failed": "MemoryError: 12 GB asked."} for i in range(5)]
    lost.update(summary=None, radius_quantiles=None, per_class=[], metric=None, fragile=[])
    document["learners"][3]["fragile"][0].update(radius=0.4, attack_distance=0.3)
    document["verdict"] = {"status": "FAIL", "sentence": "A certificate lies above an attack."}
    document["thresholds"].append({"expression": "lmnn+pl.error<=0.1", "observed": None, "passed": False})
    return document


def retrieval_document(n_models: int = 2, pixels: bool = True, size: int = 8, n_classes: int = 4, seed: int = 0):
    """A document as an audit of embedding models would write it, of pictures or of embeddings; simulated."""
    rng = np.random.default_rng(seed)
    eps = [0.025, 0.05, 8 / 255] if pixels else [0.2, 0.4, 0.8]
    eps = sorted(eps)
    names = [f"class {i}" for i in range(n_classes)]
    specs = [f"model-{i}" for i in range(1, n_models + 1)] + [PIXELS] * pixels
    learners = [_retrieval_learner(rng, spec, eps, names, pixels, size) for spec in specs]
    attacks = ["PGD, 20 steps", "APGD, 50 steps"] if pixels else ["exact smallest change"]
    checks = [
        ("CR101", "A huge attack breaks everything", "passed", specs[0], "0.0 % of 100 queries are still right."),
        ("CR104", "Gradients", "issue", specs[0], "90 of 100 queries have a gradient of zero."),
        ("CR107", "Training pictures among the queries", "not applicable", specs[0], "It is not known."),
        ("CR110", "Number of queries", "tip", None, "With 60 queries a figure of 50 % is known to ± 13 points only."),
    ]
    document = {
        "schema": "certimetric.retrieval-audit/1",
        "data": {
            "name": "digits",
            "source": "digits, test side",
            "n_queries": 60,
            "n_without_positive": 1,
            "n_gallery": 120,
            "n_classes": n_classes,
            "image_shape": [1, size, size] if pixels else [16],
            "sha256": "0123456789abcdef" * 4,
        },
        "protocol": {
            "norm": "linf" if pixels else "l2",
            "units": "pixels" if pixels else "neighbour distance",
            "eps": eps,
            "report_eps": eps[1],
            "attacks": attacks,
            "objective": "margin",
            "n_checked": 100,
            "seed": 0,
        },
        "learners": learners,
        "checks": [dict(zip(("code", "title", "severity", "learner", "message"), check)) for check in checks],
        "thresholds": [
            {"expression": f"{specs[0]}.attacked@{eps[1]:g}>=0.3", "observed": 0.42, "passed": True},
            {"expression": f"{specs[0]}.recall>=0.99", "observed": 0.9, "passed": False},
        ],
        "verdict": {"status": "FAIL", "sentence": "model-1 finds a picture of the right class first."},
        "reproduction": {
            "command": "certimetric audit --model runs/model-1 --images digits",
            "started": "2026-11-20T10:00:00+00:00",
            "wall_seconds": 31.2,
            "versions": {"certimetric": "0.1.0", "torch": "2.9.0"},
            "machine": {"system": "Linux", "device": "cpu"},
            "cells": {"computed": 21, "reused": 0, "failed": 0},
            "model_sha256": dict.fromkeys(specs, "ab12" * 16),
        },
    }
    return json.loads(json.dumps(document, allow_nan=False))


def _retrieval_learner(rng, spec, eps, names, pixels, size) -> dict[str, Any]:
    figures = ("recall_at_1", "recall_at_2", "recall_at_4", "recall_at_8", "map_at_r", "map")
    attacked = figures if pixels else figures[:1]

    def told(share, keys=figures):
        noisy = {key: float(np.clip(share + 0.02 * i + 0.01 * rng.random(), 0, 1)) for i, key in enumerate(keys)}
        return {key: {"mean": v, "low": max(v - 0.1, 0.0), "high": min(v + 0.1, 1.0)} for key, v in noisy.items()}

    trained = pixels and spec != PIXELS
    config = {
        "data": {"name": "digits"},
        "loss": {"name": "triplet", "margin": 0.2},
        "miner": None,
        "defense": {"kind": "tuple", "norm": "linf", "eps": 0.1, "steps": 5},
    }
    run = {"config": config, "epochs": 4, "seconds": 12.5, "history": [0.3, 0.2, 0.15, 0.1], "finished": True}
    return {
        "spec": spec,
        "label": spec[:1].upper() + spec[1:] if spec == PIXELS else spec,
        "source": f"runs/{spec}",
        "dim": 16,
        "n_parameters": 12345,
        "training": run if trained else None,
        **({} if pixels else {"neighbour_distance": 0.8125}),
        "clean": told(0.8) | {"nmi": 0.5},
        "attacked": [
            {
                "eps": e,
                "worst": told(0.7 - 0.2 * i, attacked),
                "attacks": {
                    name: told(0.75 - 0.2 * i, attacked) for name in (("pgd", "apgd") if pixels else ("exact",))
                },
            }
            for i, e in enumerate(eps)
        ],
        "per_class": [{"class": name, "count": 15, "recall": 0.9, "attacked": float(rng.random())} for name in names],
        "examples": [_example(rng, i, names, size) for i in range(2)] if pixels else [],
        "map": {
            "points": [[float(rng.normal()), float(rng.normal()), i % min(len(names), 10)] for i in range(40)],
            "moves": [[0.1 * i, 0.0, 0.2, 0.3 * i, i % 2, i == 1] for i in range(3)] if pixels else [],
            "classes": names[:10],
            "explained": 0.4,
        },
    }


def _example(rng, i, names, size) -> dict[str, Any]:
    def picture():
        return png(rng.integers(0, 256, (size, size), dtype=np.uint8))

    def results(right):
        return [{"picture": picture(), "label": names[j % 2], "right": (j > 0) | right} for j in range(5)]

    return {
        "query": i,
        "label": names[0],
        "broken": i == 0,
        "original": picture(),
        "adversarial": picture(),
        "difference": picture(),
        "magnified": 12.5 if i == 0 else None,
        "clean": results(True),
        "attacked": results(i > 0),
    }


def hostile_retrieval_document() -> dict[str, Any]:
    """Names that try to break out, wherever a name can stand in an audit of embedding models."""
    document = retrieval_document(n_models=2)
    document["data"].update(name=f'{HOSTILE}</script><!--"\u2028', source="https://example.org/?a=1&b=<2>")
    names = [f"{HOSTILE}'\"", "{{ 7 * 7 }} $x_2$ &amp; \x00 #0100ff 距離", "goes_on_without_any_space_" * 9]
    for i, learner in enumerate(document["learners"][:2]):
        learner["label"], learner["source"] = names[i] + str(i), f"https://example.org/{HOSTILE}"
        learner["training"]["config"]["defense"]["kind"] = HOSTILE
        learner["map"]["classes"] = [*names, "d"]
        for row, name in zip(learner["per_class"], names):
            row["class"] = name
        for card in learner["examples"]:
            card["label"] = names[0]
            for entry in (*card["clean"], *card["attacked"]):
                entry["label"] = names[2]
    document["checks"][1]["message"] = HOSTILE + "\x1b[31m"
    document["verdict"]["sentence"] = f"Unsafe: {HOSTILE} & more."
    document["thresholds"][0]["expression"] = f"model.recall>={HOSTILE}"
    document["protocol"]["attacks"][0] = HOSTILE
    document["reproduction"].update(command=f"certimetric audit '{HOSTILE}'", versions={HOSTILE: HOSTILE})
    return document


def with_score(document: dict[str, Any]) -> dict[str, Any]:
    """The document with a score for every model."""
    for i, learner in enumerate(document["learners"]):
        rows = []
        for j, name in enumerate(("CA+", "CA-", "QA+", "QA-", "TMA", "ES:D", "ES:R", "LTM", "GTM", "GTT")):
            scaled = (7 * i + 9 * j) % 100
            rows.append(
                {"name": name, "meaning": f"what {name} is", "raw": scaled / 2, "raw_low": scaled / 2, "raw_high": 60.0}
                | {"scaled": float(scaled), "low": max(scaled - 5.0, 0.0), "high": min(scaled + 5.0, 100.0)}
            )
        learner["robustness_score"] = {
            "components": rows,
            "score": {"mean": sum(row["scaled"] for row in rows) / 10, "low": 10.0, "high": 90.0},
            "recall_at_1": {"mean": 0.75, "low": 0.7, "high": 0.8},
            "n_queries": 60,
            "n_gallery": 120,
            "metric": "euclidean",
            "attack": "PGD()",
            "transferred": False,
        }
    document["protocol"]["robustness_score"] = {
        "norm": "linf", "eps": 77 / 255, "metric": "euclidean", "steps": 32, "step_size": 3 / 255
    }  # fmt: skip
    return document


RETRIEVAL = {
    "two models": retrieval_document,
    "one model": lambda: retrieval_document(n_models=1),
    "twelve models": lambda: retrieval_document(n_models=12, n_classes=200),
    "embeddings": lambda: retrieval_document(pixels=False),
    "embeddings of one model": lambda: retrieval_document(n_models=1, pixels=False),
    "hostile retrieval": hostile_retrieval_document,
    "scored": lambda: with_score(retrieval_document(n_models=2)),
    "hostile score": lambda: with_score(hostile_retrieval_document()),
}


DOCUMENTS = {
    "digits": lambda: audit_document(n_learners=4),
    "wine": lambda: audit_document(image=False, n_learners=2),
    "twelve": lambda: audit_document(n_learners=12, seed=3),
    "hostile": hostile_document,
    "sparse": sparse_document,
    "failing": failing_document,
}
_built: dict[str, dict[str, Any]] = {}


def build(name: str) -> dict[str, Any]:
    """A fresh copy of the named document."""
    if name not in _built:
        _built[name] = (DOCUMENTS | RETRIEVAL)[name]()
    return copy.deepcopy(_built[name])


@pytest.fixture(params=sorted(DOCUMENTS))
def document(request) -> dict[str, Any]:
    """Each of the documents in turn."""
    return build(request.param)


@pytest.fixture(params=["two models", "embeddings", "embeddings of one model", "hostile retrieval", "hostile score"])
def retrieval(request) -> dict[str, Any]:
    """Documents about embedding models in turn; the others are asked for by name."""
    return build(request.param)


@pytest.fixture
def make_document():
    """The named document: ``make_document("digits")``."""
    return build
