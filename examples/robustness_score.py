"""Ten attacks on a ranking, around a circle: a model before and after robust training

R@1 under attack asks whether the first result is still right. The empirical robustness score asks ten questions: can an
item be raised or sunk (CA, QA), an embedding be moved (ES), one picture be taken for another (TMA, GTT)? Each spoke is
an answer, from 0, given up, to 100, out of reach. The larger shape is the more robust model; clean R@1 is in the
legend, since the score leaves it out.

Run: python examples/robustness_score.py [figure.png]
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
    RobustTrainer,
    TupleDefense,
    embedding_model,
    empirical_robustness_score,
)
from certimetric.plots import RobustnessScoreDisplay

train, test = load_images("digits", "train"), load_images("digits", "test")
data = TensorDataset(torch.from_numpy(train.images), torch.from_numpy(train.labels))
images, labels = torch.from_numpy(test.images), torch.from_numpy(test.labels)
queries, gallery = ImageSet(images[:60], labels[:60]), ImageSet(images[60:], labels[60:])

axes = Figure(figsize=(6, 5), layout="constrained").subplots()
attack = PGD(LinfBall(0.15), steps=10)
for name, defense in (("natural", None), ("robust", TupleDefense("anchor", PGD(LinfBall(0.15), steps=4)))):
    torch.manual_seed(0)
    model = embedding_model("small-cnn", dim=32)
    loader = DataLoader(data, batch_size=112, shuffle=True, drop_last=True)
    RobustTrainer(model, TripletMarginLoss(margin=0.2), defense=defense, max_epochs=10).fit(loader)
    result = empirical_robustness_score(model, queries, gallery, attack=attack)
    said = f"{name}: ERS {result.score['mean']:.0f}, clean R@1 {result.recall_at_1['mean']:.2f}"
    print(said)
    figure = RobustnessScoreDisplay.from_result(result, label=said, ax=axes).figure_

path = sys.argv[1] if len(sys.argv) > 1 else "robustness_score.png"
figure.savefig(path, dpi=110)
