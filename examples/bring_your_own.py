"""Bring your own: a model with several outputs, inputs with bounds of their own, fine-tuned and audited

What is in production is seldom a network from pictures in [0, 1] to one vector. Here are digits as scikit-learn serves
them, eight series of levels from 0 to 16 each, and a network that gives a dict: an embedding, and the logits that a
plain loop has trained it by. `Samples` carries the bounds, so that attackers keep to them and ε is in levels;
`with_output` says which output is the embedding. An attack of one level breaks what was trained without thinking of it;
a few epochs of adversarial fine-tuning with the first layer frozen win part of it back. The audit at the end compares
both with the raw inputs, which withstand more than either on digits as small as these, and says so in its report.

Run: python examples/bring_your_own.py [figure.png]
"""

import sys
import tempfile

import torch
from matplotlib.figure import Figure
from pytorch_metric_learning.losses import TripletMarginLoss
from sklearn.datasets import load_digits
from torch import nn

from certimetric.auditing import audit_retrieval
from certimetric.deep import PGD, BatchDefense, LinfBall, RobustTrainer, Samples, with_output
from certimetric.deep.train import balanced_loader, optimizer_of


class Reader(nn.Module):
    """Eight series of eight levels to an embedding and logits."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv1d(8, 32, 3, padding=1)
        self.body = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 32))
        self.head = nn.Linear(32, 10)

    def forward(self, levels):
        embedding = self.body(self.first(levels / 16))
        return {"embedding": embedding, "logits": self.head(embedding)}


def trained():
    """The network as it comes out of somebody's loop."""
    torch.manual_seed(0)
    network = Reader()
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(100):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(train.inputs)["logits"], train.labels).backward()
        optimizer.step()
    return network


levels, labels = load_digits(return_X_y=True)
levels = levels.reshape(-1, 8, 8)
train, test = (Samples(levels[rows], labels[rows], bounds=(0, 16)) for rows in (slice(900), slice(900, None)))

before, after = (with_output(trained(), "embedding") for _ in range(2))
trainer = RobustTrainer(
    after,
    TripletMarginLoss(0.2),
    defense=BatchDefense(PGD(LinfBall(1.5, bounds=train.bounds), steps=5)),
    optimizer=optimizer_of("adam", 3e-3),
    freeze=["model.model.first"],
    clip_norm=1.0,
    max_epochs=8,
    accelerator="cpu",
    kind=train.kind,
)
trainer.fit(balanced_loader(train.inputs, train.labels, batch_size=100, per_class=10))

sizes = [0.5, 1.0, 2.0]
result = audit_retrieval(
    {"before": before, "after": after},
    test,
    eps=sizes,
    attacks=["pgd"],
    n_queries=100,
    n_checked=8,
    class_names=[f"digit {label}" for label in range(10)],
    out=tempfile.mkdtemp(),
)
print(result.document["verdict"]["sentence"])

axes = Figure(figsize=(6, 4), layout="constrained").subplots()
for learner in result.document["learners"]:
    found = [learner["clean"], *(entry["worst"] for entry in learner["attacked"])]
    style = "--" if learner["label"] == "Raw inputs" else "-"
    axes.plot([0.0, *sizes], [each["recall_at_1"]["mean"] for each in found], style, marker="o", label=learner["label"])
axes.set(xlabel="ε, l∞ (levels from 0 to 16)", ylabel="R@1, under attack", ylim=(0, 1.02))
axes.legend(fontsize=8)

path = sys.argv[1] if len(sys.argv) > 1 else "bring_your_own.png"
axes.figure.savefig(path, dpi=110)
