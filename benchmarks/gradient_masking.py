"""Does the attack of training and evaluation hide anything? R@1 under stronger and under gradient-free attacks.

20 steps of PGD are set beside 100 steps with 5 restarts, beside APGD, whose step adapts, and beside Square, which needs
no gradient. Where a stronger attack takes many more points, 20 steps are too few to report; where Square breaks queries
that APGD does not, gradients are masked. Without a run, the bundled digits are trained on, naturally and robustly.

Run: python benchmarks/gradient_masking.py [RUN …] [--eps 0.1] [--queries 200] [--data-root FOLDER]
"""

import argparse
import time

import torch
from pytorch_metric_learning.losses import TripletMarginLoss
from torch.utils.data import DataLoader, TensorDataset

from certimetric.datasets.images.sets import load_images
from certimetric.deep import (
    APGD,
    PGD,
    ClassBalancedBatches,
    ImageSet,
    RobustTrainer,
    SquareAttack,
    TupleDefense,
    embedding_model,
    evaluate_retrieval,
)
from certimetric.deep.attacks import ball as make_ball
from certimetric.training import load_run

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("runs", nargs="*", metavar="RUN", help="folders that `certimetric train` made")
parser.add_argument("--data-root", help="folder of the image set of the runs, if not bundled")
parser.add_argument("--norm", choices=["linf", "l2"], default="linf")
parser.add_argument("--eps", type=float, default=0.1)
parser.add_argument("--queries", type=int, default=200, help="of the test images")
parser.add_argument("--square-queries", type=int, default=1000)
parser.add_argument("--epochs", type=int, default=15, help="of the digits")
parser.add_argument("--seed", type=int, default=0)
arguments = parser.parse_args()

ball = make_ball(arguments.norm, arguments.eps)
ATTACKS = {
    "PGD, 20 steps": PGD(ball, steps=20),
    "PGD, 100 steps, 5 restarts": PGD(ball, steps=100, restarts=5),
    "APGD, 100 steps": APGD(ball, steps=100),
    f"Square, {arguments.square_queries} queries": SquareAttack(ball, queries=arguments.square_queries),
}


def digits_model(defense):
    """A small network, trained on half of the digits."""
    side = load_images("digits", "train")
    images, labels = torch.from_numpy(side.images), torch.from_numpy(side.labels)
    torch.manual_seed(arguments.seed)
    model = embedding_model("small-cnn", dim=64)
    sampler = ClassBalancedBatches(labels, 112, 11)
    loader = DataLoader(TensorDataset(images, labels), batch_sampler=sampler)
    trainer = RobustTrainer(
        model, TripletMarginLoss(0.2), defense=defense, max_epochs=arguments.epochs, seed=arguments.seed
    )
    trainer.fit(loader)
    return model.eval()


def subjects():
    """Names, models, image sets and sizes of the images."""
    for folder in arguments.runs:
        model, run = load_run(folder)
        data = run["config"]["data"]
        yield folder, model, data["name"], data.get("size")
    if not arguments.runs:
        yield "digits, natural", digits_model(None), "digits", None
        attack = PGD(ball, steps=5, step_size=2 * arguments.eps / 5)
        yield "digits, robust", digits_model(TupleDefense("anchor", attack)), "digits", None


def report(name, model, data, size):
    side = load_images(data, "test", arguments.data_root, size)
    gallery = ImageSet(torch.from_numpy(side.images), torch.from_numpy(side.labels))
    generator = torch.Generator().manual_seed(arguments.seed)
    rows = torch.randperm(len(gallery), generator=generator)[: arguments.queries].sort().values
    queries, hits, seconds = gallery.select(rows), {}, {}
    for told, attack in ATTACKS.items():
        start = time.perf_counter()
        result = evaluate_retrieval(model, queries, gallery, attacks=[attack], with_pixels=False, with_nmi=False)
        seconds[told] = time.perf_counter() - start
        clean, hits[told] = result.recall_at_1.values()
    pgd, strong, apgd, square = hits.values()
    print(f"\n{name}: {len(pgd)} queries, {len(gallery)} items, {ball.name} ball of {ball.eps:g}")
    print(f"  {'attack':28s}   R@1  below PGD-20   time")
    print(f"  {'none':28s} {clean.mean():.3f}")
    for told, hit in hits.items():
        print(f"  {told:28s} {hit.mean():.3f} {100 * (pgd.mean() - hit.mean()):+8.1f} points {seconds[told]:5.1f} s")
    worst = pgd & strong & apgd & square
    print(f"  {'worst case of all':28s} {worst.mean():.3f} {100 * (pgd.mean() - worst.mean()):+8.1f} points")
    alone, together = int((apgd & ~square).sum()), int((apgd & pgd & strong & ~square).sum())
    stronger = "stronger" if square.mean() < apgd.mean() else "not stronger"
    print(f"  Square is {stronger} than APGD; it breaks {alone} queries that APGD does not,", end=" ")
    print(f"{together} that no attack by gradients does", flush=True)


for subject in subjects():
    report(*subject)
