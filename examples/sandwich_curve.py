"""The sandwich: accuracy under attack above, certified accuracy below, and the exact curve between them.

An attack shows that predictions *can* be changed by a change of some size, a certificate that they *cannot*. Neither
alone says how robust a classifier is: the attack may have been weak, the certificate may be loose. Drawn together they
enclose the truth, and the width of the bracket tells how much is unknown. For one neighbour the exact curve can be
computed as well (:func:`certimetric.minimal_perturbation`).

On the digits the bracket is narrow nearly everywhere: what the region attack finds lies on the exact curve or close to
it, and the certificate a few queries below.

Run: python examples/sandwich_curve.py [figure.png]
"""

import sys

from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from certimetric import GMML, CertifiedKNeighborsClassifier
from certimetric.plots import SandwichDisplay

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X / 16, y, test_size=60, stratify=y, random_state=0)

figure = Figure(figsize=(9, 3.8), layout="constrained")
for axes, name, metric in zip(figure.subplots(1, 2, sharex=True, sharey=True), ("Euclidean", "GMML"), (None, GMML())):
    knn = CertifiedKNeighborsClassifier(n_neighbors=1, metric=metric).fit(X_train, y_train)
    found = SandwichDisplay.from_estimator(knn, X_test, y_test, exact=True, ax=axes)
    axes.set_title(f"{name}, 1-NN on digits")
    print(f"{name}: the widest bracket is {(found.attacked - found.certified).max():.3f} of the accuracy")

path = sys.argv[1] if len(sys.argv) > 1 else "sandwich_curve.png"
figure.savefig(path, dpi=110)
