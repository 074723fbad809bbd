"""Decision regions of certified k-NN, and the balls in which nothing can change a prediction.

Every query (diamond) has a ball around it: whatever change of that size or smaller is made, the label stays. The
balls have the shape of the norm in which changes are measured, and touch the boundary where the certificate is tight.
With more neighbours boundaries become smoother and balls larger, and the bound a little looser. A query whose radius
is 0 has no ball.

Run: python examples/certified_regions.py [figure.png]
"""

import sys

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_iris

from certimetric import LMNN, CertifiedKNeighborsClassifier
from certimetric.plots import DecisionRegionDisplay

X, y = load_iris(return_X_y=True)
X = X[:, 2:] + 0.02 * np.random.default_rng(0).standard_normal((150, 2))  # petals, measured to a tenth of a millimetre
train = np.arange(150) % 8 != 0

figure = Figure(figsize=(11, 4), layout="constrained")
for axes, k, norm in zip(figure.subplots(1, 3, sharex=True, sharey=True), (1, 5, 5), ("l2", "l2", "linf")):
    knn = CertifiedKNeighborsClassifier(n_neighbors=k, metric=LMNN(), norm=norm).fit(X[train], y[train])
    DecisionRegionDisplay.from_estimator(knn, X[~train], ax=axes)
    axes.set_title(f"k = {k}, {norm}")
    axes.set_xlabel("length of the petal, cm")
    radii = knn.predict_with_radius(X[~train])[1]
    print(f"k = {k}, {norm}: median certified radius {np.median(radii):.3f} cm")

path = sys.argv[1] if len(sys.argv) > 1 else "certified_regions.png"
figure.savefig(path, dpi=110)
