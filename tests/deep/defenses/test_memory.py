"""Cross-batch memories: under every defense the queue holds the batches and nothing else, and is part of a run."""

import copy

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")
pytest.importorskip("lightning", reason="the extra 'deep' has lightning")

from pytorch_metric_learning import losses, miners  # noqa: E402
from torch import nn  # noqa: E402

from certimetric.deep import (  # noqa: E402
    PGD,
    AntiCollapseDefense,
    BatchDefense,
    ClassBalancedBatches,
    DecoupledDefense,
    EmbeddingShiftDefense,
    EnsembleDefense,
    FreeDefense,
    HardnessDefense,
    LinfBall,
    NoDefense,
    NoiseDefense,
    PerturbationDefense,
    RobustTrainer,
    ShiftPenaltyDefense,
    SingleStepDefense,
    TradesDefense,
    TupleDefense,
)
from certimetric.deep.defenses.loss_support import batch_loss, memory_places, set_memory_places  # noqa: E402

BALL = LinfBall(0.1)
ATTACK = PGD(BALL, steps=2)
DEFENSES = {
    "none": lambda: NoDefense(),
    "noise": lambda: NoiseDefense(0.05),
    "tuple": lambda: TupleDefense("anchor", ATTACK),
    "tuple-clean": lambda: TupleDefense("anchor", ATTACK, attack_rate=0.0),
    "batch": lambda: BatchDefense(ATTACK),
    "perturbation": lambda: PerturbationDefense(0.05),
    "est": lambda: EmbeddingShiftDefense(ATTACK),
    "ses": lambda: ShiftPenaltyDefense(ATTACK),
    "trades": lambda: TradesDefense(ATTACK),
    "act": lambda: AntiCollapseDefense(ATTACK),
    "hm": lambda: HardnessDefense(ATTACK),
    "hm-plain": lambda: HardnessDefense(ATTACK, structure=0.0),
    "decoupled": lambda: DecoupledDefense(ATTACK),
    "ensemble": lambda: EnsembleDefense([linear(3)], ATTACK),
    "single-step": lambda: SingleStepDefense(BALL, check_every=2),
    "free": lambda: FreeDefense(BALL, replays=1),
}
PERTURBED = ("batch", "est", "ensemble", "single-step", "free")


def linear(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 8))


def memory(size=70, loss=None):
    return losses.CrossBatchMemory(losses.ContrastiveLoss() if loss is None else loss, 8, memory_size=size)


def batches(digits, n=160):
    data = torch.utils.data.TensorDataset(digits[0][:n], digits[1][:n])
    return torch.utils.data.DataLoader(data, batch_sampler=ClassBalancedBatches(digits[1][:n], 40, 4))


@pytest.mark.parametrize("name", DEFENSES)
@pytest.mark.parametrize("mined", [False, True])
def test_the_queue_holds_the_batches_and_no_copies(digits, name, mined):
    # 70 places are more than a batch of 40, and fewer than a batch with a copy for each of its images.
    torch.manual_seed(0)
    model, loss, defense = linear(), memory(), DEFENSES[name]()
    miner = miners.TripletMarginMiner(margin=10.0) if mined else None
    for step, place in enumerate([40, 10]):
        rows = slice(40 * step, 40 * step + 40)
        value = defense.loss(model, digits[0][rows], digits[1][rows], loss, miner)
        value.backward()
        assert torch.isfinite(value) and value > 0
        assert (loss.queue_idx, loss.has_been_filled) == (place, step == 1)
        taken = torch.arange(40 * step, 40 * step + 40) % 70
        assert torch.equal(loss.label_memory[taken], digits[1][rows])
        # Of a batch that is perturbed itself the memory has what is trained on; beside copies, the batch as it is.
        moved = (model(digits[0][rows]).detach() - loss.embedding_memory[taken]).abs()
        reach = 0.1 * model[1].weight.detach().abs().sum(dim=1) if name in PERTURBED else torch.zeros(8)
        assert name == "noise" or (moved <= reach + 1e-5).all()


def test_tuples_are_of_the_batch_and_the_memory_is_compared_beside_them(digits):
    # The class itself takes positions of tuples for places in its memory, which hold other images in the second batch.
    model, plain = linear(), losses.ContrastiveLoss()
    loss = memory(400, plain)
    tuples = None
    for step in range(2):
        rows = slice(40 * step, 40 * step + 40)
        with torch.no_grad():
            embeddings, labels = model(digits[0][rows]), digits[1][rows]
        tuples = miners.TripletMarginMiner(margin=0.1)(embeddings, labels)
        against = copy.deepcopy(loss)(embeddings, labels)
        found = batch_loss(loss, embeddings, labels, tuples)
        torch.testing.assert_close(found, against + plain(embeddings, labels, tuples))
    # Copies stand in their tuples alone.
    twice, labels = torch.cat([embeddings, embeddings + 0.1]), labels.repeat(2)
    moved = tuple(part + 40 for part in tuples)
    against = copy.deepcopy(loss)(embeddings, labels[:40])
    torch.testing.assert_close(batch_loss(loss, twice, labels, moved, 40), against + plain(twice, labels, moved))
    assert loss.queue_idx == 120


def test_a_memory_that_does_not_fit_is_named(digits):
    images, labels = digits[0][:40], digits[1][:40]
    with pytest.raises(ValueError, match="memory_size of CrossBatchMemory must be at least a batch, got 30 for 40"):
        NoDefense().loss(linear(), images, labels, memory(30))
    other = losses.CrossBatchMemory(losses.ContrastiveLoss(), 9, memory_size=70)
    with pytest.raises(ValueError, match="embedding_size of CrossBatchMemory must be that of the model, 8, got 9"):
        NoDefense().loss(linear(), images, labels, other)


@pytest.mark.parametrize("name", ["none", "act", "single-step"])
@pytest.mark.parametrize("size", [70, 400])  # full in the first epoch, and not before the last
def test_a_resumed_queue_is_the_uninterrupted_one(digits, tmp_path, name, size):
    def train(epochs, folder=None, resume=False):
        trainer = RobustTrainer(
            linear(), memory(size), defense=DEFENSES[name](), max_epochs=epochs, checkpoint_dir=folder,
            accelerator="cpu",
        )  # fmt: skip
        return trainer.fit(batches(digits), resume=resume)

    whole = train(3)
    train(2, tmp_path)
    parts = train(3, tmp_path, resume=True)
    assert parts.history == whole.history
    assert memory_places(parts.loss) == memory_places(whole.loss)
    for one, other in zip(whole.loss.state_dict().values(), parts.loss.state_dict().values()):
        assert torch.equal(one, other)
    # A checkpoint without a queue is of another loss.
    plain = RobustTrainer(linear(), losses.ContrastiveLoss(), checkpoint_dir=tmp_path, accelerator="cpu")
    with pytest.raises(ValueError, match="of another model"):
        plain.fit(batches(digits), resume=True)


def test_places_of_queues_are_those_of_the_same_loss():
    two = losses.MultipleLosses([memory(), memory()])
    two.losses[1].queue_idx = 5
    places = memory_places(two)
    assert places == {"losses.0": (0, False), "losses.1": (5, False)}
    with pytest.raises(ValueError, match="it knows of 2 cross-batch memories, and the loss has 1"):
        set_memory_places(memory(), places)
    assert memory_places(losses.ContrastiveLoss()) == memory_places(lambda *_: None) == {}
