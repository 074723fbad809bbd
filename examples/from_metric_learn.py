"""Coming from metric-learn: one changed import, and a certificate on top.

``from certimetric import metric_learn`` has the names and signatures of metric-learn 0.7. Code for it goes on as it is;
what it learns is a metric of certimetric as well (``learner_.metric_``), to be saved, attacked, certified and drawn.

Run: python examples/from_metric_learn.py [figure.png]
"""

import sys

from matplotlib.figure import Figure
from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier

from certimetric import CertifiedKNeighborsClassifier, metric_learn  # was: import metric_learn
from certimetric.plots import CertifiedAccuracyDisplay

X, y = load_iris(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.4, stratify=y, random_state=0)

figure = Figure(figsize=(6, 4), layout="constrained")
axes = figure.subplots()
learners = {
    "LMNN": metric_learn.LMNN(n_neighbors=3),
    "NCA": metric_learn.NCA(random_state=0),
    "LFDA": metric_learn.LFDA(),
}
for name, learner in learners.items():
    learner.fit(X_train, y_train)
    knn = KNeighborsClassifier(3, metric=learner.get_metric()).fit(X_train, y_train)  # as before
    certified = CertifiedKNeighborsClassifier(3, metric=learner.learner_.metric_).fit(X_train, y_train)  # new
    CertifiedAccuracyDisplay.from_estimator(certified, X_test, y_test, label=name, ax=axes)
    same = (knn.predict(X_test) == certified.predict(X_test)).mean()
    print(f"{name}: accuracy {knn.score(X_test, y_test):.3f}; {same:.0%} of the predictions are the same")
axes.set_xlabel("size of the change, cm (l2)")

path = sys.argv[1] if len(sys.argv) > 1 else "from_metric_learn.png"
figure.savefig(path, dpi=110)
