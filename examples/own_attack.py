"""Writing an attack: propose points, the base class does the rest.

An attack is a class with one method. It is given a search, which knows the queries that are still open, the threat
model and the predictor, and it offers points; the base class repairs them to the threat model (bounds, immutable,
whole and one-hot features), asks the predictor, and keeps the nearest that succeeds. Here: draw at random, then walk
back towards the query. The certificate holds against this attack too, as against any.

Run: python examples/own_attack.py [figure.png]
"""

import sys

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_wine
from sklearn.preprocessing import StandardScaler

from certimetric import LMNN, CertifiedKNeighborsClassifier
from certimetric.attacks import Attack, RegionAttack
from certimetric.plots import SandwichDisplay


class RandomWalkBack(Attack):
    def __init__(self, size=4.0, draws=50):
        self.size, self.draws = size, draws

    def propose(self, search):
        rng = np.random.default_rng(0)
        rows = np.arange(len(search.X))
        for _ in range(self.draws):
            delta = self.size * search.threat.norm.sample(rng, len(rows), search.X.shape[1])
            for share in (1.0, 0.7, 0.5, 0.35, 0.25, 0.18, 0.12):
                search.offer(rows, search.X[rows] + share * delta)


X, y = load_wine(return_X_y=True)
X = StandardScaler().fit_transform(X)
knn = CertifiedKNeighborsClassifier(metric=LMNN()).fit(X[::2], y[::2])

figure = Figure(figsize=(9, 3.8), layout="constrained")
for axes, attack in zip(figure.subplots(1, 2, sharex=True, sharey=True), (RandomWalkBack(), RegionAttack())):
    found = SandwichDisplay.from_estimator(knn, X[1::2], y[1::2], attack=attack, eps=np.linspace(0, 4, 81), ax=axes)
    axes.set_title(type(attack).__name__)
    print(f"{type(attack).__name__}: mean width of the bracket {(found.attacked - found.certified).mean():.3f}")

path = sys.argv[1] if len(sys.argv) > 1 else "own_attack.png"
figure.savefig(path, dpi=110)
