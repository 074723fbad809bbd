"""Verification: are these two of one kind? A calibrated threshold, its DET curve, and what an attacker can do to it.

A verifier accepts a pair whose distance is at most a threshold. The threshold is calibrated on pairs of their own,
for a rate of false accepts, and holds on others only as well as the two sets are alike. The DET curve shows both
errors at every threshold, on axes on which it is nearly straight. Right: bounds that no attacker of the probe can
break, true accepts from below and false accepts from above.

Run: python examples/verification_det.py [figure.png]
"""

import sys

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

from certimetric import GMML, PairVerifier
from certimetric.plots import VerificationDisplay

X, y = load_digits(return_X_y=True)
X = X / 16


def pairs_of(rows, seed, m=4000):
    first, second = rows[np.random.default_rng(seed).integers(0, len(rows), (2, m))]
    return (X[first], X[second]), np.where(y[first] == y[second], 1, -1)


learn, tune, test = np.split(np.arange(len(X)), [600, 1200])
tuning, test_pairs = pairs_of(tune, 0), pairs_of(test, 1)

figure = Figure(figsize=(10, 4.2), layout="constrained")
det, certified = figure.subplots(1, 2)
verifiers = {"pixels": PairVerifier(), "GMML": PairVerifier(GMML())}
for name, verifier in verifiers.items():
    verifier.fit(X[learn], y[learn]).calibrate(*tuning, criterion="far", value=0.02)
    curve = VerificationDisplay.from_estimator(verifier, *test_pairs, label=name, ax=det).curve
    far, tar = curve.at(verifier.threshold_)
    print(f"{name}: equal error rate {curve.eer:.3f}; at the threshold FAR {far:.3f} (asked for 0.02), TAR {tar:.3f}")
    rates = verifier.certified_rates(*test_pairs, eps=np.linspace(0, 0.6, 31))
    (line,) = certified.plot(rates.eps, rates.tar, label=f"{name}: true accepts, at least")
    certified.plot(rates.eps, rates.far, "--", color=line.get_color(), label=f"{name}: false accepts, at most")
certified.set(xlabel="size of the change of the probe (l2)", ylabel="rate", ylim=(0, 1.02))
certified.legend(fontsize=8)

path = sys.argv[1] if len(sys.argv) > 1 else "verification_det.png"
figure.savefig(path, dpi=110)
