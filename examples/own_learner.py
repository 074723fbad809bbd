"""Writing a learner: a scikit-learn transformer with ``components_`` is a metric here.

Certificates, attacks and plots ask of a learner only what it maps instances to. So a class of a few lines, which keeps
scikit-learn's conventions, goes wherever the learners of the package go: into the certified classifier, a pipeline, a
grid search. This one divides by the scatter inside of classes, shrunk towards the identity by a parameter that the grid
search chooses.

Run: python examples/own_learner.py [figure.png]
"""

import sys

import numpy as np
from matplotlib.figure import Figure
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.datasets import load_wine
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.preprocessing import StandardScaler

from certimetric import CertifiedKNeighborsClassifier
from certimetric.plots import CertifiedAccuracyDisplay


class ShrunkScatter(TransformerMixin, BaseEstimator):
    """``M = ((1 − s) S + s I)⁻¹`` with S the covariance inside of classes."""

    def __init__(self, shrinkage=0.1):
        self.shrinkage = shrinkage

    def fit(self, X, y):
        X, y = np.asarray(X), np.asarray(y)
        inside = np.concatenate([X[y == label] - X[y == label].mean(axis=0) for label in np.unique(y)])
        scatter = (1 - self.shrinkage) * np.cov(inside.T) + self.shrinkage * np.eye(X.shape[1])
        self.components_ = np.linalg.cholesky(np.linalg.inv(scatter)).T  # L with M = LᵀL
        return self

    def transform(self, X):
        return np.asarray(X) @ self.components_.T


X, y = load_wine(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.4, stratify=y, random_state=0)
scaler = StandardScaler().fit(X_train)
X_train, X_test = scaler.transform(X_train), scaler.transform(X_test)

knn = CertifiedKNeighborsClassifier(metric=ShrunkScatter())
search = GridSearchCV(knn, {"metric__shrinkage": [0.01, 0.1, 0.3, 0.9]}, cv=3).fit(X_train, y_train)
print(f"chosen: {search.best_params_}, accuracy {search.score(X_test, y_test):.3f}")

figure = Figure(figsize=(6, 4), layout="constrained")
axes = figure.subplots()
for shrinkage in (0.01, 0.3, 0.9):
    shrunk = CertifiedKNeighborsClassifier(metric=ShrunkScatter(shrinkage)).fit(X_train, y_train)
    CertifiedAccuracyDisplay.from_estimator(shrunk, X_test, y_test, label=f"shrinkage {shrinkage}", ax=axes)

path = sys.argv[1] if len(sys.argv) > 1 else "own_learner.png"
figure.savefig(path, dpi=110)
