"""Seconds and memory of ``evaluate_retrieval`` on a gallery of many items and classes: every item is a query.

Peak memory (Linux) is that of the process, less what it held when the embeddings were there.

Run: python benchmarks/retrieval_scale.py [--items 200000] [--dim 128] [--classes 20000]
"""

import argparse
import resource
import time

import torch
from torch import nn

from certimetric.deep import ImageSet, evaluate_retrieval

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--items", type=int, default=200_000)
parser.add_argument("--dim", type=int, default=128)
parser.add_argument("--classes", type=int, default=20_000)
parser.add_argument("--noise", type=float, default=1.5, help="of a coordinate, beside 1 of class centres")
parser.add_argument("--threads", type=int, default=torch.get_num_threads())
arguments = parser.parse_args()
torch.set_num_threads(arguments.threads)


def embeddings(n):
    """Unit vectors around class centres, moved and scaled into the range of pixels."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % arguments.classes
    centres = torch.randn(arguments.classes, arguments.dim, generator=generator)
    points = centres[labels] + arguments.noise * torch.randn(n, arguments.dim, generator=generator)
    return nn.functional.normalize(points, dim=1).div_(2).add_(0.5), labels


points, labels = embeddings(min(2 * arguments.classes, arguments.items))  # kernels are compiled
small = ImageSet(points[:2000, None, None], labels[:2000] % 200)
evaluate_retrieval(nn.Flatten(), small, with_pixels=False, with_nmi=False)
points, labels = embeddings(arguments.items)
items = ImageSet(points[:, None, None], labels)
held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
wall, processor = time.perf_counter(), time.process_time()
result = evaluate_retrieval(nn.Flatten(), items, with_pixels=False)
wall, processor = time.perf_counter() - wall, time.process_time() - processor
peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held) / 1024
print(f"{arguments.items:,} × {arguments.dim}, {arguments.classes:,} classes, {arguments.threads} threads")
print(f"{wall:.1f} s ({processor:.1f} s of processor), {peak:.0f} MiB more at the peak")
print(result.to_frame()[["recall_at_1", "recall_at_8", "map_at_r", "map"]].round(4).to_string(index=False))
