"""Adversarial metric learning in two dimensions: the metrics of GMML and AML, and the pairs that the adversary makes.

AML learns a metric against an adversary who moves the two sides of each pair a little so that the pair is told wrong:
dissimilar pairs are drawn together, at a price for every step. The metric is then learned on the pairs as they are and
as they were made, which evens out what the sample of pairs had too little of (Chen et al., arXiv 1802.03170).

Run: python examples/adversarial_pairs.py [figure.png]
"""

import sys

import numpy as np
from matplotlib.figure import Figure

from certimetric import AML, GMML

rng = np.random.default_rng(0)
# Two elongated classes, one above the other: the vertical direction separates them.
X = np.concatenate([rng.normal([0, 0], [2.0, 0.4], (60, 2)), rng.normal([0, 1.6], [2.0, 0.4], (60, 2))])
y = np.repeat([0, 1], 60)

gmml, aml = GMML().fit(X, y), AML(alpha=1.0, beta=6.0, confusion="ascent").fit(X, y)
rows = rng.permutation(60)[:16]
dissimilar = np.stack([X[rows], X[60 + rows]], axis=1)
adversarial = aml.confuse_pairs(dissimilar, -np.ones(len(rows)))

figure = Figure(figsize=(9, 4), layout="constrained")
left, right = figure.subplots(1, 2, sharex=True, sharey=True)
angle = np.linspace(0, 2 * np.pi, 200)
circle = np.stack([np.cos(angle), np.sin(angle)])
for axes, learner, title in ((left, gmml, "GMML"), (right, aml, f"AML, β = {aml.beta_:.3g}")):
    axes.scatter(*X[:60].T, s=12, marker="o", label="class 0")
    axes.scatter(*X[60:].T, s=12, marker="^", label="class 1")
    ball = np.linalg.solve(learner.components_, circle)
    axes.plot(ball[0] * 2, ball[1] * 2 + 0.8, "k-", lw=1.2, label="ball of the metric")
    axes.set_title(title)
for before, after in zip(dissimilar, adversarial):
    right.plot(*before.T, color="0.7", lw=1)
    right.plot(*after.T, color="tab:red", lw=1, ls="--")
right.plot([], [], color="0.7", lw=1, label="dissimilar pair")
right.plot([], [], color="tab:red", lw=1, ls="--", label="adversarial pair")
right.legend(loc="lower right", fontsize=8)

path = sys.argv[1] if len(sys.argv) > 1 else "adversarial_pairs.png"
figure.savefig(path, dpi=150)
print(f"objective {aml.objective_path_[0]:.2f} -> {aml.objective_:.2f} in {aml.n_iter_} iterations")
