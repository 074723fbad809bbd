"""What would have to change? The smallest change of a patient's record that alters a prediction, in its own units.

The exact minimal perturbation of a query is a counterfactual: "with this and that a little different, the answer
would have been another". Distances are counted in standard deviations, so that features with large numbers do not win
by their unit, and told in the units of the table. Some features cannot change, or not as an answer to anyone's
question: the norm is restricted to the others (``norm.restrict``), and the change keeps the rest digit for digit.

Run: python examples/counterfactual.py [figure.png]
"""

import sys

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from certimetric import NCA, CertifiedKNeighborsClassifier
from certimetric.geometry import resolve_norm

table = load_breast_cancer(as_frame=True)
X, y = table.data.filter(like="mean"), table.target_names[table.target]
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=20, stratify=y, random_state=1)
scaler = StandardScaler().fit(X_train)
fixed = ["mean smoothness", "mean symmetry", "mean fractal dimension"]
norm = resolve_norm("l1").restrict(~X.columns.isin(fixed))  # l1: few features change, which is short to tell

knn = CertifiedKNeighborsClassifier(n_neighbors=1, metric=NCA(random_state=0), norm=norm)
knn.fit(scaler.transform(X_train), y_train)
Z = scaler.transform(X_test)
found = knn.minimal_perturbation(Z)
changed = scaler.inverse_transform(found.witnesses)

query = int(np.argsort(found.radii)[len(found.radii) // 2])
before, after = knn.predict([Z[query], found.witnesses[query]])
size, lower = found.radii[query], found.lower[query]
print(f"{before} becomes {after} by {size:.3f} standard deviations in all; nothing below {lower:.3f} does it:")
difference = found.witnesses[query] - Z[query]
for j in np.flatnonzero(np.abs(difference) > 1e-9):
    print(f"  {X.columns[j]}: {X_test.iloc[query, j]:.4g} -> {changed[query, j]:.4g}")
assert not difference[X.columns.isin(fixed)].any()

figure = Figure(figsize=(8, 3.6), layout="constrained")
axes = figure.subplots()
axes.barh(X.columns, difference, color=["0.8" if name in fixed else "tab:blue" for name in X.columns])
axes.set(xlabel="change, in standard deviations", title=f"from {before} to {after}; the size is proven to be least")
axes.invert_yaxis()

path = sys.argv[1] if len(sys.argv) > 1 else "counterfactual.png"
figure.savefig(path, dpi=110)
