"""Natural against robust training of embedding models: the table of the paper, R@1 and mAP@R, clean and attacked.

For each loss the configurations NAME-natural.toml and NAME-robust.toml of configs/ are trained, evaluated by 20-step
PGD on the margin beside raw pixels, and set against each other. Runs are kept in --out: an interrupted one goes on.
Cars196 has a third, NAME-anchors.toml; each begins with the weights of the one before, with the loss that it names.

Run: CERTIMETRIC_DATA=… python benchmarks/embedding_models.py {digits,omniglot,cars196} [--loss triplet contrastive]
"""

import argparse
import os
from pathlib import Path

import torch
from torch import nn

from certimetric.datasets.images.sets import load_images
from certimetric.deep import PGD, ImageSet, Index, LinfBall
from certimetric.deep.retrieval.evaluation import with_positive
from certimetric.training import TrainingConfig, load_run, train
from certimetric.training.run import MODEL_FILE
from certimetric.training.sections import LOSSES

PAPER, CONFIGURED = ["triplet", "contrastive"], "configured"
TRAININGS = ["natural", "robust"]
SETS = {
    "digits": ("", (0.05, 0.1, 0.2), PAPER, TRAININGS),
    "omniglot": ("images/omniglot", (0.05, 0.1, 0.2), PAPER, TRAININGS),
    "cars196": ("images/npz", (2 / 255, 4 / 255, 8 / 255), [CONFIGURED], [*TRAININGS, "anchors"]),
}
CONFIGS = Path(__file__).parents[1] / "configs"

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("set", choices=SETS)
parser.add_argument("--loss", nargs="*", choices=[*PAPER, CONFIGURED], help="configured: that of the configurations")
parser.add_argument("--training", nargs="*", choices=[*TRAININGS, "anchors"], help="by default all of the set")
parser.add_argument("--epochs", type=int, help="in place of those of the configurations")
parser.add_argument("--queries", type=int, default=1000, help="of the test images, drawn at random")
parser.add_argument("--out", type=Path, default=Path("runs"))
arguments = parser.parse_args()

folder, radii, usual, trainings = SETS[arguments.set]
root = None
if folder:
    data = os.environ.get("CERTIMETRIC_DATA")
    if not data or not (Path(data) / folder).is_dir():
        raise SystemExit(f"skipped: CERTIMETRIC_DATA names no folder that holds {folder}")
    root = Path(data) / folder


def place(training, loss):
    """The folder of a run."""
    return arguments.out / "-".join([arguments.set, *([] if loss == CONFIGURED else [loss]), training])


def configuration(training, loss):
    told = TrainingConfig.from_file(CONFIGS / f"{arguments.set}-{training}.toml").to_mapping()
    if loss != CONFIGURED:
        told["loss"] = {"name": loss, **LOSSES[loss][1]}
    if "checkpoint" in told["model"]:  # of the run before
        before = Path(told["model"]["checkpoint"]).parent.name.removeprefix(f"{arguments.set}-")
        told["model"]["checkpoint"] = str(place(before, loss) / MODEL_FILE)
    if arguments.epochs is not None:
        told["training"]["epochs"] = arguments.epochs
    return TrainingConfig.from_mapping(told)


def test_side(config):
    """The gallery, and the queries drawn from it."""
    side = load_images(config.data.name, "test", root, config.data.size)
    gallery = ImageSet(side.images, torch.from_numpy(side.labels))
    able = with_positive(gallery, gallery).nonzero()[:, 0]
    rows = able[torch.randperm(len(able), generator=torch.Generator().manual_seed(0))[: arguments.queries]]
    return gallery, gallery.select(rows.sort().values)


def tell(name, model, gallery, queries, seconds=""):
    """A row of the table; gives R@1 clean and at every ε."""
    index = Index(model, gallery)
    scores = [index.score(queries, attack) for attack in (None, *attacks)]
    figures = [[float(score[key].double().mean()) for key in ("recall_at_1", "map_at_r")] for score in scores]
    print(f"{name:24}{seconds:>10}" + "".join(f"{recall:>9.3f} /{map_:.3f}" for recall, map_ in figures), flush=True)
    return [recall for recall, _ in figures]


attacks = [PGD(LinfBall(eps), steps=20) for eps in radii]
print(f"{arguments.set}; {torch.get_num_threads()} threads; R@1 / mAP@R", flush=True)
print(f"{'':24}{'training':>10}{'clean':>15}" + "".join(f"{f'ε = {eps:.4g}':>15}" for eps in radii), flush=True)
gallery = queries = None
for loss in arguments.loss or usual:
    found = {}
    for training in arguments.training or trainings:
        config = configuration(training, loss)
        out = place(training, loss)
        train(config, out, resume=True, root=root)
        model, run = load_run(out)
        if gallery is None:
            gallery, queries = test_side(config)
            tell("raw pixels", nn.Flatten(), gallery, queries)
        found[training] = tell(f"{loss}, {training}", model, gallery, queries, f"{run['seconds']:.0f} s")
    natural = found.pop("natural", None)
    if natural and found:
        last, robust = found.popitem()
        ratios = [
            f"{after / before:.1f} ×" if before else ("∞" if after else "–") for before, after in zip(natural, robust)
        ]
        print(f"{f'R@1, {last} over natural':34}" + "".join(f"{ratio:>15}" for ratio in ratios), flush=True)
