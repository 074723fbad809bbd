"""Time and memory of exact ranking, beside differences, faiss and pytorch-metric-learning.

Every way runs in a process of its own, on the same embeddings, with the same threads. Peak memory (Linux) is that of
the process, less what it held when the embeddings were there. faiss gives the first k alone, which is set against our
own first k; mAP@R needs the ranks of all relevant items, which is set against differences of all pairs and a peer.

Run: python benchmarks/ranking.py [--queries 500] [--gallery 50000] [--classes 2500]
Large: python benchmarks/ranking.py --gallery 1000000 --classes 50000 --only ranks "accuracy calculator" nearest faiss
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import torch

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--queries", type=int, default=500)
parser.add_argument("--gallery", type=int, default=50_000)
parser.add_argument("--dim", type=int, default=128)
parser.add_argument("--classes", type=int, default=2500)
parser.add_argument("--first", type=int, default=10, help="how many of the nearest")
parser.add_argument("--threads", type=int, default=torch.get_num_threads())
parser.add_argument("--device", default="cpu")
parser.add_argument("--noise", type=float, default=0.15, help="of a coordinate, beside classes at distance 1")
parser.add_argument("--duplicates", type=float, default=0.0, help="share of the gallery that are copies of others")
parser.add_argument(
    "--only", nargs="*", help="ranks, differences, accuracy calculator, nearest, first differences, faiss"
)
parser.add_argument("--way", help=argparse.SUPPRESS)
arguments = parser.parse_args()


def embeddings():
    """Unit vectors around class centres."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, arguments.classes, (arguments.gallery,), generator=generator)
    centres = torch.nn.functional.normalize(torch.randn(arguments.classes, arguments.dim, generator=generator), dim=1)
    gallery = torch.randn(arguments.gallery, arguments.dim, generator=generator).mul_(arguments.noise)
    for rows in torch.arange(arguments.gallery).split(50_000):
        gallery[rows] = torch.nn.functional.normalize(gallery[rows] + centres[labels[rows]], dim=1)
    copies = int(arguments.duplicates * arguments.gallery)
    if copies:
        gallery[-copies:] = gallery[:copies]
    return gallery.to(arguments.device), labels.to(arguments.device)


def ours_ranks(gallery, labels, ids, m):
    from certimetric.deep.ranking import relevant_ranks
    from certimetric.deep.retrieval.index import figures

    return figures(relevant_ranks(gallery[:m], labels[:m], ids[:m], gallery, labels, ids))["map_at_r"]


def ours_nearest(gallery, labels, ids, m):
    from certimetric.deep.ranking.ranks import nearest

    return nearest(gallery[:m], ids[:m], gallery, ids, arguments.first)


def distances_by_differences(gallery, ids, m):
    for rows in ids[:m].split(max(1, 2**24 // len(gallery))):
        found = torch.cdist(gallery[rows], gallery, compute_mode="donot_use_mm_for_euclid_dist")
        yield rows, found.masked_fill(ids[rows, None] == ids, torch.inf)


def differences(gallery, labels, ids, m):
    """All distances by differences, in single precision, and all of them sorted."""
    from certimetric.deep.retrieval.index import figures

    out = []
    for rows, found in distances_by_differences(gallery, ids, m):
        relevant = labels[rows, None] == labels
        order = found.sort(dim=1, stable=True).indices
        sorted_relevant = relevant.gather(1, order)
        sorted_relevant[:, -1] = False  # itself
        width = max(1, int(sorted_relevant.sum(dim=1).max()))
        place = torch.arange(1, len(ids) + 1, device=gallery.device)
        ranks = torch.where(sorted_relevant, place, len(ids) + 1).topk(width, dim=1, largest=False, sorted=True).values
        out.append(figures(ranks.masked_fill(ranks > len(ids), 0))["map_at_r"])
    return torch.cat(out)


def first_differences(gallery, labels, ids, m):
    k = arguments.first
    return torch.cat([f.topk(k, dim=1, largest=False).indices for _, f in distances_by_differences(gallery, ids, m)])


def accuracy_calculator(gallery, labels, ids, m):
    """The peer: k nearest by faiss if it is there, else by products, for k the size of the largest class."""
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

    try:
        import faiss  # noqa: F401

        options = {}
    except ImportError:
        from pytorch_metric_learning.distances import LpDistance
        from pytorch_metric_learning.utils.inference import CustomKNN

        options = {"knn_func": CustomKNN(LpDistance(normalize_embeddings=False), batch_size=64)}
    kind = AccuracyCalculator(
        include=("mean_average_precision_at_r",), k="max_bin_count", device=gallery.device, **options
    )
    found = kind.get_accuracy(gallery[:m], labels[:m], gallery, labels, ref_includes_query=True)
    return torch.tensor([found["mean_average_precision_at_r"]])


def faiss_first(gallery, labels, ids, m):
    import faiss

    faiss.omp_set_num_threads(arguments.threads)
    index = faiss.IndexFlatL2(arguments.dim)
    index.add(gallery.cpu().numpy())
    return torch.from_numpy(index.search(gallery[:m].cpu().numpy(), arguments.first + 1)[1])[:, 1:]


RANKS = {"ranks": ours_ranks, "differences": differences, "accuracy calculator": accuracy_calculator}
FIRST = {"nearest": ours_nearest, "first differences": first_differences, "faiss": faiss_first}
WAYS = RANKS | FIRST


def resident(line):
    """MiB that this process holds (VmRSS), or has held at most since the last call of :func:`forget_peak` (VmHWM)."""
    told = Path("/proc/self/status").read_text().split(line + ":")[1]
    return int(told.split()[0]) / 1024


def forget_peak():
    Path("/proc/self/clear_refs").write_text("5")


def measure(way):
    torch.set_num_threads(arguments.threads)
    gallery, labels = embeddings()
    ids = torch.arange(len(gallery), device=gallery.device)
    WAYS[way](gallery[:2000], labels[:2000], ids[:2000], 10)  # imports, kernels
    forget_peak()
    before, start = resident("VmRSS"), time.perf_counter()
    found = WAYS[way](gallery, labels, ids, arguments.queries)
    found = found.cpu()
    seconds = time.perf_counter() - start
    told = {"seconds": seconds, "before": before, "more": resident("VmHWM") - before}
    if way in RANKS:
        told["map_at_r"] = float(found.mean())
    else:
        told["first"] = found.tolist()
    print(json.dumps(told))


if arguments.way:
    measure(arguments.way)
    raise SystemExit

print(
    f"{arguments.queries:,} queries, {arguments.gallery:,} × {arguments.dim}, {arguments.classes:,} classes, ", end=""
)
print(f"{arguments.threads} threads, {arguments.device}", flush=True)
results = {}
for way in arguments.only or WAYS:
    done = subprocess.run([sys.executable, *sys.argv, "--way", way], capture_output=True, text=True)
    if done.returncode:
        print(f"{way:20s} skipped: {done.stderr.strip().splitlines()[-1]}", flush=True)
        continue
    told = results[way] = json.loads(done.stdout.splitlines()[-1])
    ours = results.get("ranks" if way in RANKS else "nearest")
    line = f"{way:20s} {told['seconds']:8.2f} s  {told['more']:7.0f} MiB more than {told['before']:.0f}"
    if ours is not None and ours is not told:
        line += f"   {told['seconds'] / ours['seconds']:6.2f} × ours"
    if "map_at_r" in told:
        line += f"   mAP@R {told['map_at_r']:.9f}"
    elif ours is not None and ours is not told:
        differ = sum(a != b for a, b in zip(told["first"], ours["first"]))
        line += f"   {differ} queries with another answer"
    print(line, flush=True)
