"""A learned metric where others expect Euclidean distances: k-means, DBSCAN and t-SNE.

A Mahalanobis metric is the Euclidean distance after a linear map, and a learner's ``transform`` is that map. So
whatever takes vectors takes a learned metric: cluster, index or draw ``learner.transform(X)``. Here the metric is
learned from the labels of a third of the irises, and the rest is clustered without any; the adjusted Rand index
says how well the clusters agree with the species. Colours are clusters, and species in the maps of t-SNE on the right.

Run: python examples/metric_in_clustering.py [figure.png]
"""

import sys

import numpy as np
from matplotlib.figure import Figure
from sklearn.cluster import DBSCAN, KMeans
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from certimetric import LFDA

X, y = load_iris(return_X_y=True)
X_labelled, X, y_labelled, y = train_test_split(X, y, train_size=1 / 3, stratify=y, random_state=0)
scaler = StandardScaler().fit(X_labelled)
learned = LFDA(n_components=2).fit(scaler.transform(X_labelled), y_labelled)
spaces = {"as it is": scaler.transform(X), "by the learned metric": learned.transform(scaler.transform(X))}

figure = Figure(figsize=(11, 7), layout="constrained")
for row, (name, Z) in zip(figure.subplots(2, 3), spaces.items()):
    nearest = np.sort(np.linalg.norm(Z[:, None] - Z, axis=2), axis=1)[:, 5]
    methods = {"k-means": KMeans(3, n_init=10, random_state=0), "DBSCAN": DBSCAN(np.quantile(nearest, 0.8))}
    plane = Z if Z.shape[1] == 2 else PCA(2).fit_transform(Z)
    for axes, (method, clustering) in zip(row[:2], methods.items()):
        clusters = clustering.fit_predict(Z)
        score = adjusted_rand_score(y, clusters)
        for kind, marker in enumerate("os^"):
            axes.scatter(*plane[y == kind].T, c=clusters[y == kind], cmap="tab10", vmin=-1, vmax=8, marker=marker, s=18)
        axes.set_title(f"{method}, {name}: {score:.2f}", fontsize=10)
        print(f"{method:8} {name:22} adjusted Rand index {score:.3f}")
    row[2].scatter(*TSNE(perplexity=20, random_state=0).fit_transform(Z).T, c=y, cmap="tab10", vmin=-1, vmax=8, s=18)
    row[2].set_title(f"t-SNE, {name}", fontsize=10)

path = sys.argv[1] if len(sys.argv) > 1 else "metric_in_clustering.png"
figure.savefig(path, dpi=110)
