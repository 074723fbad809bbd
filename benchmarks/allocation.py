"""What a step through a network on a CPU takes while the allocator returns freed memory, and while it keeps it.

Each is measured in a process of its own, one after the other: user and system time of a forward pass and of the
gradient in the pictures, for several sizes of the batch. The commands of certimetric keep the memory.

Run: python benchmarks/allocation.py [--width 32] [--threads 1]
"""

import argparse
import resource
import subprocess
import sys

import torch

from certimetric import keep_freed_memory
from certimetric.deep import EmbeddingShift, embedding_model
from certimetric.deep.attacks.base import value_and_gradient

BATCHES = (32, 56, 112, 224, 336)
ROUNDS, STEPS = 5, 4

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--width", type=int, default=32, help="channels of the first layer")
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--measure", choices=["returned", "kept"], help=argparse.SUPPRESS)
arguments = parser.parse_args()


def seconds():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return torch.tensor([used.ru_utime, used.ru_stime])


def measure():
    """A line for each batch size: ms of user and of system time a picture, the median of the rounds."""
    torch.set_num_threads(arguments.threads)
    if arguments.measure == "kept" and not keep_freed_memory():
        raise SystemExit("this C library, or the environment, leaves no choice")
    torch.manual_seed(0)
    model = embedding_model("small-cnn", width=arguments.width, downsample="max", norm="none").eval()
    model.requires_grad_(False)
    for batch in BATCHES:
        images = torch.rand(batch, 1, 28, 28)
        goal = EmbeddingShift(model(torch.rand(batch, 1, 28, 28)))
        rounds = []
        for _ in range(ROUNDS + 1):
            before = seconds()
            for _ in range(STEPS):
                value_and_gradient(model, images, goal)
            rounds.append(1000 * (seconds() - before) / STEPS / batch)
        user, system = torch.stack(rounds[1:]).median(dim=0).values.tolist()
        print(user, system)


if arguments.measure:
    measure()
    raise SystemExit
found = {}
for how in ("returned", "kept"):
    options = ["--width", str(arguments.width), "--threads", str(arguments.threads), "--measure", how]
    told = subprocess.run([sys.executable, __file__, *options], stdout=subprocess.PIPE, text=True, check=True).stdout
    found[how] = [tuple(map(float, line.split())) for line in told.splitlines()]
print("ms of processor time a picture, user + system")
for batch, returned, kept in zip(BATCHES, found["returned"], found["kept"], strict=True):
    texts = [f"{user:.3f} + {system:.3f}" for user, system in (returned, kept)]
    print(f"batch {batch:4d}   returned {texts[0]}   kept {texts[1]}   ratio {sum(returned) / sum(kept):.2f}")
