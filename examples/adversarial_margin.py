"""The adversarial margin of a triplet, drawn in the plane.

A triplet is an instance, a *target neighbour* of its class and an *impostor* of another. Under a metric M the points
that are equally far from both lie on a line (a hyperplane in more features), and the *adversarial margin* is the
distance from the instance to that line, measured as the attacker's changes are: here by the plain Euclidean length. The
nearest point of the line is the closest adversarial point.

The line depends on M, and so does the margin: a metric that stretches the axis along which target neighbour and
impostor differ turns the line until it is farther away. That is what the perturbation loss learns (Yang et al.,
arXiv 2006.05945).

Run: python examples/adversarial_margin.py [figure.png]
"""

import sys

import numpy as np
from matplotlib.figure import Figure

from certimetric import MahalanobisMetric, PerturbationLoss

X = np.array([[0.0, 0.0], [1.6, 1.0], [1.2, -2.2]])  # instance, target neighbour, impostor
metrics = {"Euclidean": np.eye(2), "the vertical axis stretched": np.diag([1.0, 6.0])}

figure = Figure(figsize=(9, 4.2), layout="constrained")
for axes, (name, matrix) in zip(figure.subplots(1, 2, sharex=True, sharey=True), metrics.items()):
    metric = MahalanobisMetric.from_matrix(matrix)
    margin = PerturbationLoss().adversarial_margin(metric, X, [[0, 1, 2]])[0]
    normal = matrix @ (X[2] - X[1])  # of the line of points that are equally far from both
    adversarial = X[0] + margin * normal / np.linalg.norm(normal)
    along = np.array([-normal[1], normal[0]]) / np.linalg.norm(normal)
    axes.plot(*(adversarial + np.array([[-6], [6]]) * along).T, "k--", lw=1, label="equally far from both")
    circle = np.linspace(0, 2 * np.pi, 200)
    axes.plot(margin * np.cos(circle), margin * np.sin(circle), color="tab:blue", label=f"margin {margin:.2f}")
    for row, (marker, label) in enumerate((("o", "instance"), ("s", "target neighbour"), ("^", "impostor"))):
        axes.plot(*X[row], marker, ms=9, label=label)
    axes.plot(*adversarial, "x", color="tab:red", ms=9, mew=2, label="closest adversarial point")
    near, far = metric.distance(adversarial, X[1]), metric.distance(adversarial, X[2])
    print(f"{name}: margin {margin:.3f}; there the distances are {near:.4f} and {far:.4f}")
    axes.set(title=name, aspect="equal", xlim=(-2, 3), ylim=(-3, 2))
    axes.legend(fontsize=7, loc="lower left")

path = sys.argv[1] if len(sys.argv) > 1 else "adversarial_margin.png"
figure.savefig(path, dpi=110)
