"""The empirical robustness score beside a plain loop over queries, and a whole score with its time and memory.

First the ten figures of some queries, twice with equal settings on the same model: query by query with the loop of
``tests/deep/retrieval/reference_ers.py``, in the style of published research code, and together. Ratios are of the time
that passes and of CPU time for each query, and largest differences are told. Then a whole score of the number of
queries and the gallery that were asked for. Peak memory (Linux) is that of the process in all.

Pictures are MNIST's test part, by its folder in CERTIMETRIC_DATA; without it the digits of scikit-learn at 28 × 28,
repeated with noise. Weights are random: time does not depend on them.

Run: python benchmarks/ers.py [--queries 1000] [--gallery 5000] [--loop 20] [--width 32] [--threads 2] [--device cpu]
"""

import argparse
import importlib.util
import os
import time
from pathlib import Path

import torch

from certimetric import keep_freed_memory
from certimetric.datasets.images.sets import load_images
from certimetric.deep import ImageSet, Index, embedding_model, empirical_robustness_score
from certimetric.deep.retrieval import RankingEvaluation
from certimetric.deep.retrieval.ranking_evaluation import GOALS
from certimetric.deep.retrieval.robustness_score import BUDGETS

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--queries", type=int, default=1000)
parser.add_argument("--gallery", type=int, default=5000)
parser.add_argument("--loop", type=int, default=20, help="queries of the plain loop")
parser.add_argument("--together", type=int, default=256, help="queries that are attacked together beside it")
parser.add_argument("--width", type=int, default=32, help="channels of the first layer")
parser.add_argument("--dim", type=int, default=128)
parser.add_argument("--metric", default="normalized-euclidean")
parser.add_argument("--threads", type=int, default=torch.get_num_threads())
parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
parser.add_argument("--skip-whole", action="store_true", help="the ratio alone")
arguments = parser.parse_args()
torch.set_num_threads(arguments.threads)
keep_freed_memory()  # as the commands do

file = Path(__file__).parents[1] / "tests" / "deep" / "retrieval" / "reference_ers.py"
spec = importlib.util.spec_from_file_location("reference_ers", file)
reference_ers = importlib.util.module_from_spec(spec)
spec.loader.exec_module(reference_ers)


def pictures():
    """As many as the gallery holds, with their labels, and where they are from."""
    folder = Path(os.environ.get("CERTIMETRIC_DATA", "")) / "images" / "mnist"
    if folder.is_dir():
        data = load_images("mnist", "test", folder)
        images, labels, name = torch.tensor(data.images), torch.tensor(data.labels), "MNIST"
    else:
        data = load_images("digits", "test", size=28)
        images, labels, name = torch.tensor(data.images), torch.tensor(data.labels), "digits"
    generator = torch.Generator().manual_seed(0)
    rows = torch.arange(arguments.gallery) % len(images)
    noise = 0.05 * torch.rand(len(rows), *images.shape[1:], generator=generator)
    noise[: len(images)] = 0
    return ImageSet((images[rows] + noise).clamp(0, 1), labels[rows]), name


def clocks():
    """The time that passes, and CPU time of this process."""
    if arguments.device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter(), time.process_time()


def since(start, queries):
    """Milliseconds a query, by both clocks."""
    return [1000 * (now - then) / queries for now, then in zip(clocks(), start, strict=True)]


def peak():
    """MiB that this process has held at most."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


def to_device(data):
    return ImageSet(data.images.to(arguments.device), data.labels.to(arguments.device), data.ids.to(arguments.device))


gallery, name = pictures()
torch.manual_seed(0)
model = embedding_model("small-cnn", arguments.dim, width=arguments.width, downsample="max", norm="none")
model.to(arguments.device).eval()
budget = BUDGETS["28"]
order = torch.randperm(len(gallery))
print(f"{name}, gallery {len(gallery):,}, width {arguments.width}, {arguments.threads} threads, {arguments.device}")

queries = gallery.select(order[: arguments.together])
index = Index(model, gallery)
evaluation = RankingEvaluation(index, queries, metric=arguments.metric)
evaluation.measure("GTT", budget.attack())  # imports, kernels
start, found = clocks(), {}
for goal in GOALS:
    found |= evaluation.measure(goal, budget.attack())
together = since(start, len(queries))
few = gallery.select(order[: arguments.loop])
rows = {goal: chosen[: arguments.loop] for goal, chosen in evaluation.rows.items()}
start = clocks()
expected = reference_ers.reference_values(
    model, to_device(few), to_device(gallery), rows, evaluation.nudged, budget, arguments.metric, evaluation.unit
)
for clock, alone, all_ in zip(("time that passes", "CPU time"), since(start, arguments.loop), together, strict=True):
    print(f"{clock:16s}   loop {alone:7.1f} ms a query   together {all_:7.1f} ms   ratio {alone / all_:5.1f}")
for figure, values in expected.items():
    own = found[figure][: arguments.loop].cpu()
    print(f"  {figure:5s} {own.mean():9.3f} {values.mean():9.3f}   largest difference {(own - values).abs().max():.2g}")
if arguments.skip_whole:
    raise SystemExit

Path("/proc/self/clear_refs").write_text("5")
held, start = peak(), clocks()
result = empirical_robustness_score(
    model, gallery.select(order[: arguments.queries]), gallery, n_queries=None, metric=arguments.metric
)
passed, worked = (spent / 1000 for spent in since(start, 1))
print(f"whole score of {result.n_queries:,} queries: {passed:.0f} s ({worked:.0f} s of CPU time), ", end="")
print(f"at most {peak():.0f} MiB ({held:.0f} before), ERS {result.score['mean']:.1f}")
