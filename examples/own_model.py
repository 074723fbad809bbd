"""Your own model: trained elsewhere for another purpose, attacked and certified as it is

Any `nn.Module` from pictures to vectors is audited as it stands; normalisation belongs inside, so that ε means
pixels. Here it is the body of a small classifier that a plain loop has trained: its next to last layer is the
embedding. R@1 falls under attack (above), and a Lipschitz bound proves what no attack of that size can take away
(below); the truth is between. Raw pixels are drawn beside it, because they are what any model should beat.

Run: python examples/own_model.py [figure.png]
"""

import sys

import torch
from matplotlib.figure import Figure
from torch import nn

from certimetric.datasets.images.sets import load_images
from certimetric.deep import PGD, ImageSet, L2Ball, certify_retrieval, evaluate_retrieval

train, test = load_images("digits", "train"), load_images("digits", "test")
images, labels = torch.from_numpy(train.images), torch.from_numpy(train.labels)

torch.manual_seed(0)
body = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32))
classifier = nn.Sequential(body, nn.ReLU(), nn.Linear(32, int(labels.max()) + 1))
optimizer = torch.optim.AdamW(classifier.parameters(), lr=0.01, weight_decay=0.1)
for _ in range(150):
    optimizer.zero_grad()
    nn.functional.cross_entropy(classifier(images), labels).backward()
    optimizer.step()

queries = ImageSet(torch.from_numpy(test.images[:200]), torch.from_numpy(test.labels[:200]))
sizes = [0.05, 0.1, 0.2, 0.4, 0.6, 0.8]
found = evaluate_retrieval(body, queries, attacks=[PGD(L2Ball(eps), steps=20) for eps in sizes]).to_frame()
proven = certify_retrieval(body, queries, method="lipschitz")

axes = Figure(figsize=(6, 4), layout="constrained").subplots()
for subject, part in found.groupby("subject"):
    attacked = part["recall_at_1"].tolist()[: len(sizes) + 1]
    style = "--" if subject == "raw pixels" else "-"
    axes.plot([0.0, *sizes], attacked, style, marker="o", label=f"{subject}, under attack")
    print(f"{subject}: clean R@1 {attacked[0]:.3f}, attacked within ε = {sizes[2]} {attacked[3]:.3f}")
grid = torch.linspace(0.0, sizes[-1], 81).numpy()
axes.plot(grid, proven.certified_recall(grid), color="tab:green", label="body, certified")
axes.plot(grid, proven.pixels.certified_recall(grid), "--", color="0.5", label="raw pixels, certified")
axes.set(xlabel="ε, l2 (pixels from 0 to 1)", ylabel="R@1", ylim=(0, 1.02))
axes.legend(fontsize=8)

path = sys.argv[1] if len(sys.argv) > 1 else "own_model.png"
axes.figure.savefig(path, dpi=110)
