"""Closest adversarial points of a nearest-neighbour classifier: exact, checked, and proven.

For one neighbour the smallest change that alters a prediction is a small convex program for each opponent, and few of
them have to be solved. The result holds the change itself (the *witness*, at which ``predict`` does say something
else) and a proven lower bound. The picture shows queries, the way to their witnesses, and the regions of the
classifier: every way ends just behind a boundary, and none could have been shorter.

Three norms give three answers to "the smallest": in l2 the way is straight to the boundary, in l∞ both features move
by the same amount, in l1 one feature moves alone where it can.

Run: python examples/closest_adversarial_points.py [figure.png]
"""

import sys

from matplotlib.figure import Figure
from sklearn.datasets import make_moons

from certimetric import NCA, CertifiedKNeighborsClassifier
from certimetric.plots import DecisionRegionDisplay

X, y = make_moons(160, noise=0.2, random_state=0)
queries = X[120::2]

figure = Figure(figsize=(11, 3.4), layout="constrained")
for axes, norm in zip(figure.subplots(1, 3, sharex=True, sharey=True), ("l2", "linf", "l1")):
    knn = CertifiedKNeighborsClassifier(n_neighbors=1, metric=NCA(random_state=0), norm=norm).fit(X[:120], y[:120])
    found = knn.minimal_perturbation(queries)
    DecisionRegionDisplay.from_estimator(knn, queries, ax=axes)
    for query, witness in zip(queries, found.witnesses):
        axes.plot(*zip(query, witness), color="tab:red", lw=1.5)
    axes.set_title(f"{norm}: {found.proven.mean():.0%} proven, {found.verified.mean():.0%} verified", fontsize=9)
    certified = knn.predict_with_radius(queries)[1]
    print(f"{norm}: the certificate reaches {(certified / found.radii).mean():.0%} of the exact radius on average")

path = sys.argv[1] if len(sys.argv) > 1 else "closest_adversarial_points.png"
figure.savefig(path, dpi=110)
