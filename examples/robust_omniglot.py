"""Train on characters of Omniglot naturally and robustly, and attack both on characters that neither has seen.

The set is not bundled: with the folder that holds it in CERTIMETRIC_DATA this takes a minute on two cores; without, the
digits of scikit-learn stand in, whose classes are then the same on both sides. 40 characters train the embedding, 40
others, of other alphabets, are queries and gallery. An attacker may change each pixel by ε; robust training goes on
from the natural model for as many epochs again, and attacks the anchor of every triplet while it learns.

Run: CERTIMETRIC_DATA=… python examples/robust_omniglot.py [figure.png]
"""

import copy
import sys

import numpy as np
import torch
from matplotlib.figure import Figure
from pytorch_metric_learning.losses import TripletMarginLoss
from pytorch_metric_learning.samplers import MPerClassSampler
from torch.utils.data import DataLoader, TensorDataset

from certimetric.datasets.images.sets import load_images
from certimetric.deep import (
    PGD,
    ImageSet,
    LinfBall,
    RobustTrainer,
    TupleDefense,
    embedding_model,
    evaluate_retrieval,
)

EPS = 0.05


def side(split):
    try:
        found = load_images("omniglot", split, size=28)
    except FileNotFoundError as error:
        print(f"digits stand in for Omniglot: {error}")
        found = load_images("digits", split)
    kept = np.flatnonzero(found.labels % max(1, len(found.class_names) // 40) == 0)[:800]
    return torch.from_numpy(np.asarray(found.images[kept])), torch.from_numpy(found.labels[kept])


images, labels = side("train")
sampler = MPerClassSampler(labels, m=4, batch_size=40, length_before_new_iter=len(labels))
loader = DataLoader(TensorDataset(images, labels), batch_size=40, sampler=sampler, drop_last=True)
unseen = ImageSet(*side("test"))

figure = Figure(figsize=(8, 4), layout="constrained")
axes, shown = figure.subplots(1, 2, width_ratios=(2, 1))
attack = PGD(LinfBall(EPS), steps=3, step_size=EPS / 2)
sizes = [0.01, 0.02, 0.05, 0.1]
torch.manual_seed(0)
model = embedding_model("small-cnn", dim=64)
for name, defense in (("natural", None), ("robust", TupleDefense("anchor", attack))):
    model = copy.deepcopy(model)
    RobustTrainer(model, TripletMarginLoss(margin=0.2), defense=defense, max_epochs=8, verbose=True).fit(loader)
    attacks = [PGD(LinfBall(eps), steps=10) for eps in sizes]
    table = evaluate_retrieval(model, unseen, attacks=attacks, with_pixels=name == "robust").to_frame()
    print(table[["subject", "attack", "eps", "recall_at_1", "map_at_r"]].to_string(index=False))
    for subject, part in table.groupby("subject"):
        label = "raw pixels" if subject == "raw pixels" else f"{name} training"
        axes.plot([0.0, *part["eps"].iloc[1:]], part["recall_at_1"], marker="o", label=label)
axes.set(xlabel="ε, l∞ (pixels from 0 to 1)", ylabel="R@1 under attack", ylim=(0, 1.02))
axes.legend()
shown.imshow(
    torch.cat([torch.cat(list(unseen.tensor()[row : row + 4, 0]), dim=1) for row in range(0, 100, 20)]), "gray"
)
shown.set_axis_off()
shown.set_title("characters never seen")

path = sys.argv[1] if len(sys.argv) > 1 else "robust_omniglot.png"
figure.savefig(path, dpi=150)
