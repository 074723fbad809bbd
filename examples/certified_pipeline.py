"""Certified predictions inside a scikit-learn pipeline, with radii in standardised and in original units.

The classifier fits its metric inside, so that a pipeline and a grid search treat it as any other estimator. Behind a
scaler its radii are in standard deviations; ``in_original_units`` folds the scaler into the metric, for the same
predictions with radii in the units of the table.

Run: python examples/certified_pipeline.py [figure.png]
"""

import sys

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_wine
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from certimetric import LMNN, CertifiedKNeighborsClassifier, PerturbationLoss, in_original_units

X, y = load_wine(return_X_y=True, as_frame=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.3, stratify=y, random_state=0)

knn = CertifiedKNeighborsClassifier(metric=LMNN(perturbation=PerturbationLoss()))
search = GridSearchCV(
    make_pipeline(StandardScaler(), knn),
    {"certifiedkneighborsclassifier__metric__perturbation__weight": [0.3, 1.0, 3.0]},
    cv=3,
).fit(X_train, y_train)
pipeline = search.best_estimator_
print(f"test accuracy {pipeline.score(X_test, y_test):.3f}")

eps = np.linspace(0, 3, 61)
Z_test = pipeline[:-1].transform(X_test)
learned = pipeline[-1].certified_accuracy(Z_test, y_test, eps)
euclidean = CertifiedKNeighborsClassifier().fit(pipeline[:-1].transform(X_train), y_train)
baseline = euclidean.certified_accuracy(Z_test, y_test, eps)

labels, original = in_original_units(pipeline, norm="linf").predict_with_radius(X_test)
print(f"median certified change of every feature, in its own units: {np.median(original):.3g}")

figure = Figure(figsize=(6, 4), layout="constrained")
axes = figure.subplots()
axes.plot(eps, learned, label="LMNN + perturbation loss")
axes.plot(eps, baseline, "k--", lw=1, label="Euclidean")
axes.set(xlabel="size of the perturbation (l2, standard deviations)", ylabel="certified accuracy", ylim=(0, 1.02))
axes.legend()
path = sys.argv[1] if len(sys.argv) > 1 else "certified_pipeline.png"
figure.savefig(path, dpi=150)
