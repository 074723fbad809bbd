"""What the perturbation loss does to a metric: it spreads the weight, and radii grow.

LMNN alone cares for the order of distances and may lean on few directions; small changes along those then decide. The
perturbation loss asks in addition that every triplet has an adversarial margin of some size. Left: the spectrum of M,
of which the flatter one hangs on no single direction. Middle: the features that weigh most. Right: certified
accuracy.

Run: python examples/perturbation_loss.py [figure.png]
"""

import sys

from matplotlib.figure import Figure
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from certimetric import LMNN, CertifiedKNeighborsClassifier, PerturbationLoss
from certimetric.plots import CertifiedAccuracyDisplay, MetricDisplay

X, y = load_wine(return_X_y=True, as_frame=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.4, stratify=y, random_state=0)
scaler = StandardScaler().set_output(transform="pandas").fit(X_train)
X_train, X_test = scaler.transform(X_train), scaler.transform(X_test)

figure = Figure(figsize=(12, 3.6), layout="constrained")
spectrum, features, accuracy = figure.subplots(1, 3)
learners = {"LMNN": LMNN(), "LMNN with perturbation loss": LMNN(perturbation=PerturbationLoss())}
for name, learner in learners.items():
    knn = CertifiedKNeighborsClassifier(metric=learner).fit(X_train, y_train)
    found = MetricDisplay.from_estimator(knn.metric_, label=name, ax=spectrum)
    CertifiedAccuracyDisplay.from_estimator(knn, X_test, y_test, label=name, ax=accuracy)
    half = (found.spectrum.cumsum() < found.spectrum.sum() / 2).sum() + 1
    print(f"{name}: {half} directions hold half of the trace; accuracy {knn.score(X_test, y_test):.3f}")
found.plot(features, kind="features", n_features=8)
features.set_title(name, fontsize=9)

path = sys.argv[1] if len(sys.argv) > 1 else "perturbation_loss.png"
figure.savefig(path, dpi=110)
