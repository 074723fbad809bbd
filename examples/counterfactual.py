"""What would have to change? The smallest change of a patient's record that alters a prediction, and that can be made.

"With this and that a little different, the answer would have been another": a counterfactual. Not every change is an
answer to anyone's question: sex stays, age only grows, and by whole years, and all else stays within what the table has
seen. What is left is searched exactly: `lower` proves that nothing smaller does it. A change is counted in standard
deviations, and in l1, so that few features change; each further answer leaves alone what those before it changed most.

Run: python examples/counterfactual.py [figure.png]
"""

import sys

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from certimetric import LMNN, CertifiedKNeighborsClassifier, counterfactuals
from certimetric.attacks import ThreatModel

table = load_diabetes(as_frame=True, scaled=False)
names = {"bmi": "body mass", "bp": "blood pressure", "s1": "cholesterol", "s2": "ldl", "s3": "hdl", "s6": "sugar"}
X, y = table.data.rename(columns=names), np.where(table.target > 140, "worse", "stable")
X_train, X_new, y_train, _ = train_test_split(X, y, test_size=60, random_state=0)
knn = CertifiedKNeighborsClassifier(n_neighbors=1, metric=LMNN())
model = make_pipeline(StandardScaler(), knn).fit(X_train, y_train)

can = ThreatModel(
    "l1",
    cost=(1 / X_train.std()).to_dict(),
    bounds=(X_train.min().to_numpy(), X_train.max().to_numpy()),
    immutable=["sex"],
    direction={"age": "increase"},
    integer=["age"],
)
ill = X_new[model.predict(X_new) == "worse"].clip(X_train.min(), X_train.max(), axis=1)
found = counterfactuals(model, ill[:12], wanted="stable", constraints=can, n=3)

query = found.rows[np.argsort(found.distances[::3])[6] * 3]
entries = np.flatnonzero((found.rows == query) & found.found)
for entry in entries:
    print(f"{found.labels[entry]}, {found.distances[entry]:.3f} away and nothing below {found.lower[entry]:.3f}:")
    print(f"  {found.in_words(entry)}")
changes = found.points[entries] - found.X[query]
assert not changes[:, X.columns == "sex"].any()
assert (changes[:, X.columns == "age"] >= 0).all()

figure = Figure(figsize=(8, 3.6), layout="constrained")
axes = figure.subplots()
for rank, change in enumerate(changes / X_train.std().to_numpy()):
    axes.barh(
        np.arange(X.shape[1]) + 0.27 * (rank - 1), change, 0.25, label=f"{found.distances[entries[rank]]:.2f} in all"
    )
axes.set_yticks(np.arange(X.shape[1]), X.columns)
axes.set(xlabel="change, in standard deviations", title="from worse to stable: each the least of its kind")
axes.axvline(0.0, color="0.6", linewidth=0.8)
axes.legend()
axes.invert_yaxis()

path = sys.argv[1] if len(sys.argv) > 1 else "counterfactual.png"
figure.savefig(path, dpi=110)
