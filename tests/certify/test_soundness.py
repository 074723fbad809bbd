"""The standing guard of benchmarks/soundness.py, in a short version: nothing flips inside a certificate."""

import importlib.util
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from certimetric import CertifiedKNeighborsClassifier, MahalanobisMetric

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "soundness.py"


@pytest.fixture(scope="module")
def soundness():
    spec = importlib.util.spec_from_file_location("soundness", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.mark.parametrize(("first", "n"), [(0, 8), pytest.param(8, 152, marks=pytest.mark.slow)])
def test_nothing_flips_inside_a_certificate(soundness, first, n):
    total, violations = Counter(), []
    for seed, kind, counts, wrong in soundness.run(range(first, first + n)):
        total += counts
        violations += [f"seed {seed}, {kind}: {text}" for text in wrong]
    assert not violations, "\n".join(violations)
    assert total["predictions"] > 3500 * n and total["rational"] > n and total["proven"] > n
    assert total["pair points"] > 600 * n


def test_an_attack_whose_steps_overshoot_ends_like_any_other(soundness):
    # A metric that sees one feature of two: steps of SmoothedVoteAttack went where predictors take no values.
    _, counts, wrong = soundness.check_problem(1409)
    assert not wrong and counts["predictions"] > 100


@pytest.mark.parametrize("factor", [1.05, 2.0])
def test_guard_sees_radii_that_are_too_large(soundness, factor):
    problems = [problem for problem in map(_problem(soundness), range(40)) if problem.k == 1]
    counts, wrong = Counter(), []
    for problem in problems:
        metric = MahalanobisMetric.from_components(problem.L)
        classifier = CertifiedKNeighborsClassifier(1, metric=metric, norm=problem.norm).fit(problem.X, problem.y)
        labels, radii = classifier.predict_with_radius(problem.Q)
        rows = np.flatnonzero((radii > 0) & np.isfinite(radii))
        rng = np.random.default_rng(0)
        soundness.attack(problem, classifier, labels, radii * factor, rows, rng, counts, wrong, "radius")
    assert counts["flips"] > 100


def _problem(soundness):
    return lambda seed: soundness.draw_problem(np.random.default_rng(seed))
