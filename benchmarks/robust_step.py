"""Cost of a step of robust training beside the passes through the network that it cannot do without.

Necessary are: one forward pass to mine on; one forward pass and a backward pass to the input for every step of the
attack; one forward and one backward pass to the parameters on the batch with its perturbed copies. They are timed
between the steps of one run of the trainer, in turn with them, and the ratio is the median of the turns'. A step holds
mining, the loss, the update and all checks besides.

Then a table of all defenses: images that pass through the network forwards and backwards in a step, as multiples of the
batch, and processor time beside natural training.

Run: python benchmarks/robust_step.py [--batch 64] [--size 28] [--width 32] [--device cpu]
"""

import argparse
import itertools
import statistics
import time

import torch
from pytorch_metric_learning.losses import TripletMarginLoss

from certimetric.deep import (
    PGD,
    BatchDefense,
    LinfBall,
    RobustTrainer,
    TupleDefense,
    embedding_model,
)
from certimetric.deep.defenses import DEFENSES
from certimetric.deep.models.calling import frozen
from certimetric.training import sections

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--batch", type=int, default=64)
parser.add_argument("--size", type=int, default=28, help="of the images, in pixels")
parser.add_argument("--width", type=int, default=32, help="channels of the first layer")
parser.add_argument("--attack-steps", type=int, default=5)
parser.add_argument("--repeats", type=int, default=15)
parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
parser.add_argument("--threads", type=int, default=torch.get_num_threads())
arguments = parser.parse_args()
torch.set_num_threads(arguments.threads)


def clock():
    if arguments.device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def necessary(model, images, copies, joint):
    """Seconds of the passes: to mine on, of the attack, of the update."""
    times = [clock()]
    with torch.no_grad():
        model(images)
    times.append(clock())
    with frozen(model):
        for _ in range(arguments.attack_steps):
            x = images[:copies].detach().requires_grad_(True)
            torch.autograd.grad(model(x).sum(), x)
    times.append(clock())
    parameters = list(model.parameters())
    embeddings = model(images[:copies] if joint else torch.cat([images, images[:copies]]))
    torch.autograd.grad(embeddings.sum(), parameters)
    times.append(clock())
    return [b - a for a, b in itertools.pairwise(times)]


def run(defense):
    torch.manual_seed(0)
    model = embedding_model("small-cnn", dim=128, width=arguments.width)
    images = torch.rand(arguments.batch, 1, arguments.size, arguments.size)
    labels = torch.arange(arguments.batch) % (arguments.batch // 4)
    forwards, passes, steps = [], [], []
    on_device = images.to(arguments.device)
    joint = not defense.mines
    counter = model.register_forward_hook(lambda module, inputs, output: forwards.append(len(output)))

    def batches():
        for _ in range(arguments.repeats + 2):
            forwards.clear()
            start = clock()
            yield images, labels
            steps.append(clock() - start)
            seen = list(forwards)
            passes.append(necessary(model, on_device, seen[-1] - (0 if joint else arguments.batch), joint))
            forwards[:] = seen

    RobustTrainer(model, TripletMarginLoss(0.2), defense=defense, max_epochs=1, accelerator=arguments.device).fit(
        batches()
    )
    counter.remove()
    if joint:
        passes = [(0.0, *part[1:]) for part in passes]  # without a miner there is nothing to mine
    steps, passes = steps[2:], passes[2:]  # the first ones warm up
    mine, attack, update = (statistics.median(part) for part in zip(*passes))
    step, total = statistics.median(steps), statistics.median(map(sum, passes))
    ratio = statistics.median(a / sum(b) for a, b in zip(steps, passes))
    print(f"{defense.__class__.__name__}: forward passes of {', '.join(map(str, forwards))} images")
    print(f"  step {1e3 * step:7.1f} ms; necessary {1e3 * total:7.1f} ms = {1e3 * mine:.1f} to mine on", end="")
    print(f" + {1e3 * attack:.1f} of the attack + {1e3 * update:.1f} of the update; ratio {ratio:.3f}", flush=True)


def small_cnn():
    return embedding_model("small-cnn", dim=128, width=arguments.width).to(arguments.device)


def passes_of(defense, repeats):
    """Images forwards and backwards in one step, as multiples of the batch, and seconds of the processor."""
    torch.manual_seed(0)
    model, loss_fn = small_cnn(), TripletMarginLoss(0.2)
    images = torch.rand(arguments.batch, 1, arguments.size, arguments.size, device=arguments.device)
    labels = torch.arange(arguments.batch, device=arguments.device) % (arguments.batch // 4)
    counted = {"forward": 0, "backward": 0}

    def count(module, inputs, output):
        counted["forward"] += len(output)
        if output.requires_grad:
            output.register_hook(lambda gradient: counted.__setitem__("backward", counted["backward"] + len(gradient)))

    for network in (model, *getattr(defense, "sources", ())):
        network.register_forward_hook(count)
    used = []
    for _ in range(repeats + 2):
        start = time.process_time()
        for _ in range(defense.replays):
            model.zero_grad()
            defense.loss(model, images, labels, loss_fn).backward()
        used.append(time.process_time() - start)
    steps = (repeats + 2) * arguments.batch
    return counted["forward"] / steps, counted["backward"] / steps, statistics.median(used[2:])


print(f"small-cnn of width {arguments.width}, {arguments.batch} images of {arguments.size} pixels,", end=" ")
print(f"{arguments.attack_steps} steps of PGD, {arguments.device}, {arguments.threads} threads")
for make in (TupleDefense, BatchDefense):
    run(make(attack=PGD(LinfBall(0.01), steps=arguments.attack_steps)))

others = [small_cnn().eval()]


def made(kind, **values):
    part = sections.defense(kind)
    sources = {"sources": others} if "sources" in part.keys else {}
    return part({"steps": arguments.attack_steps, **values}, **sources)


defenses = {cls.__name__: made(kind) for kind, cls in DEFENSES.items()}
defenses |= {
    "SingleStepDefense, no guards": made("single-step", points=1, check_every=0),
    "HardnessDefense, no structure": made("hm", structure=0.0),
}
print(f"\n{'a step of':32}{'forwards':>10}{'backwards':>11}{'ms':>9}{'beside natural':>16}")
natural = None
for name, defense in defenses.items():
    forward, backward, seconds = passes_of(defense, arguments.repeats)
    natural = seconds if natural is None else natural
    print(f"{name:32}{forward:>10.1f}{backward:>11.1f}{1e3 * seconds:>9.1f}{seconds / natural:>14.1f} ×", flush=True)
