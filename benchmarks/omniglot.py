"""Natural and robust training on Omniglot: R@1 and mAP@R, clean and attacked, beside raw pixels.

Train: images_background_small1; test: images_background_small2 without the alphabets that both contain; 28 × 28. Small
network, evaluation by 20-step PGD on the margin; robust training in the l∞ ball of 0.1.

Run: CERTIMETRIC_DATA=… python benchmarks/omniglot.py [--epochs 15] [--loss triplet|contrastive] [--defense anchor …]
"""

import argparse
import os
import time
from pathlib import Path

import torch
from pytorch_metric_learning.losses import ContrastiveLoss, TripletMarginLoss
from pytorch_metric_learning.samplers import MPerClassSampler
from torch.utils.data import DataLoader, TensorDataset

from certimetric.datasets.images import load_images
from certimetric.deep import (
    APGD,
    PGD,
    BatchDefense,
    ImageSet,
    LinfBall,
    RobustTrainer,
    SquareAttack,
    TupleDefense,
    embedding_model,
    evaluate_retrieval,
)

EPS = 0.1
DEFENSES = {
    "natural": lambda attack: None,
    "positive": lambda attack: TupleDefense("positive", attack),
    "anchor": lambda attack: TupleDefense("anchor", attack),
    "batch": lambda attack: BatchDefense(attack),
}
LOSSES = {"triplet": lambda: TripletMarginLoss(margin=0.2), "contrastive": lambda: ContrastiveLoss(neg_margin=1.0)}

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--epochs", type=int, default=15)
parser.add_argument("--loss", choices=LOSSES, default="triplet")
parser.add_argument("--defense", nargs="*", choices=DEFENSES, default=["natural", "anchor"])
parser.add_argument("--strong", action="store_true", help="also 100-step PGD with restarts, APGD and Square")
arguments = parser.parse_args()

folder = os.environ.get("CERTIMETRIC_DATA")
if not folder or not (Path(folder) / "images" / "omniglot").is_dir():
    raise SystemExit("skipped: CERTIMETRIC_DATA names no folder that holds images/omniglot")
sides = {split: load_images("omniglot", split, Path(folder) / "images" / "omniglot") for split in ("train", "test")}
images, labels = (torch.from_numpy(part) for part in (sides["train"].images, sides["train"].labels))
queries = ImageSet(torch.from_numpy(sides["test"].images), torch.from_numpy(sides["test"].labels))
print(f"{len(images)} images of {len(sides['train'].class_names)} classes to train on, {len(queries)} of", end=" ")
print(f"{len(sides['test'].class_names)} other classes to test; {torch.get_num_threads()} threads", flush=True)

for name in arguments.defense:
    torch.manual_seed(0)
    model = embedding_model("small-cnn", dim=128)
    sampler = MPerClassSampler(labels, m=4, batch_size=112, length_before_new_iter=len(labels))
    loader = DataLoader(TensorDataset(images, labels), batch_size=112, sampler=sampler, drop_last=True)
    defense = DEFENSES[name](PGD(LinfBall(EPS), steps=5, step_size=2 * EPS / 5))
    start = time.perf_counter()
    trainer = RobustTrainer(model, LOSSES[arguments.loss](), defense=defense, max_epochs=arguments.epochs)
    trainer.fit(loader)
    seconds = time.perf_counter() - start
    attacks = [PGD(LinfBall(EPS), steps=20), PGD(LinfBall(2 * EPS), steps=20)]
    if arguments.strong:
        attacks += [PGD(LinfBall(EPS), steps=100, restarts=2), APGD(LinfBall(EPS), steps=50)]
        attacks += [SquareAttack(LinfBall(EPS), queries=300)]
    result = evaluate_retrieval(model, queries, attacks=attacks, with_pixels=name == arguments.defense[0])
    print(
        f"\n{name}, {arguments.loss} loss: {arguments.epochs} epochs in {seconds:.0f} s, loss {trainer.history[-1]:.3f}"
    )
    columns = ["subject", "attack", "eps", "recall_at_1", "map_at_r", "nmi"]
    print(result.frame()[columns].to_string(index=False, float_format="{:.3f}".format), flush=True)
