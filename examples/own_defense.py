"""Writing a defense: what a batch becomes before its loss is taken

A defense is a class that says what it makes of a batch; a training loop, `RobustTrainer` and configurations take it
as it is. This one covers a random square of every picture, so that no small region decides alone. It helps a little
against an attacker who changes squares, and hardly against one who follows gradients over all pixels: adversarial
training stands beside it. Measure a defense against attackers that it was not made for.

Run: python examples/own_defense.py [figure.png]
"""

import sys

import torch
from matplotlib.figure import Figure
from pytorch_metric_learning.losses import TripletMarginLoss
from torch.utils.data import DataLoader, TensorDataset

from certimetric.datasets.images.sets import load_images
from certimetric.deep import (
    PGD,
    ImageSet,
    LinfBall,
    NoDefense,
    RobustTrainer,
    SquareAttack,
    TupleDefense,
    embedding_model,
    evaluate_retrieval,
)
from certimetric.deep.defenses import Batch, Defense


class Occlusion(Defense):
    """Covers a square of ``size`` pixels, of a random grey, at a random place of every picture."""

    def __init__(self, size=3):
        self.size = size

    def compute_loss(self, batch: Batch):
        covered = batch.images.clone()
        height, width = covered.shape[-2:]
        for picture in covered:
            top = int(torch.randint(height - self.size + 1, ()))
            left = int(torch.randint(width - self.size + 1, ()))
            picture[:, top : top + self.size, left : left + self.size] = torch.rand(())
        return batch.loss_of(covered)


train, test = load_images("digits", "train"), load_images("digits", "test")
data = TensorDataset(torch.from_numpy(train.images), torch.from_numpy(train.labels))
queries = ImageSet(torch.from_numpy(test.images[:200]), torch.from_numpy(test.labels[:200]))

ball = LinfBall(0.15)
attacks = {"squares": SquareAttack(ball, queries=200), "gradients": PGD(ball, steps=20)}
columns = ["no attack", *attacks]
defenses = {"none": NoDefense(), "occlusion": Occlusion(), "adversarial": TupleDefense("anchor", PGD(ball, steps=4))}
axes = Figure(figsize=(6, 4), layout="constrained").subplots()
for i, (name, defense) in enumerate(defenses.items()):
    torch.manual_seed(0)
    model = embedding_model("small-cnn", dim=32)
    loader = DataLoader(data, batch_size=112, shuffle=True, drop_last=True)
    RobustTrainer(model, TripletMarginLoss(margin=0.2), defense=defense, max_epochs=8).fit(loader)
    found = evaluate_retrieval(model, queries, attacks=[*attacks.values()], with_pixels=False).to_frame()
    reached = found["recall_at_1"].tolist()[: len(columns)]  # the last row is the worst of all attacks
    print(f"defense {name}: R@1 " + ", ".join(f"{attack} {value:.3f}" for attack, value in zip(columns, reached)))
    axes.bar([place + 0.27 * (i - 1) for place in range(len(columns))], reached, width=0.25, label=f"defense: {name}")
axes.set_xticks(range(len(columns)), columns)
axes.set(ylabel="R@1, ε = 0.15", ylim=(0, 1.05))
axes.legend(fontsize=8)

path = sys.argv[1] if len(sys.argv) > 1 else "own_defense.png"
axes.figure.savefig(path, dpi=110)
