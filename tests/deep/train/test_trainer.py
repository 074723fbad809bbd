"""Robust training: it works, goes on after an interruption as if there had been none, and is one over processes."""

import json
import multiprocessing
import os
import socket

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")
pytest.importorskip("lightning", reason="the extra 'deep' has lightning")

from lightning.fabric.loggers import Logger  # noqa: E402
from pytorch_metric_learning import losses, miners  # noqa: E402
from torch import nn  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

from certimetric.deep import (  # noqa: E402
    PGD,
    BatchDefense,
    ImageSet,
    LinfBall,
    NoDefense,
    PerturbationDefense,
    RobustTrainer,
    TupleDefense,
    augmentation,
    embedding_model,
    evaluate_retrieval,
)
from certimetric.deep.train.checkpoints import load_checkpoint  # noqa: E402

ATTACK = PGD(LinfBall(0.1), steps=3)


def loader(digits, n=160, batch=40, shuffle=True):
    return DataLoader(TensorDataset(digits[0][:n], digits[1][:n]), batch_size=batch, shuffle=shuffle)


def trainer(folder=None, max_epochs=4, **options):
    torch.manual_seed(0)
    options = {"defense": TupleDefense("anchor", ATTACK), "accelerator": "cpu"} | options
    model = embedding_model("small-cnn", dim=16)
    loss = losses.ProxyAnchorLoss(num_classes=10, embedding_size=16)
    return RobustTrainer(model, loss, max_epochs=max_epochs, checkpoint_dir=folder, **options)


@pytest.mark.slow
def test_robust_training_makes_attacks_weaker(digits):
    images, labels = digits
    test = ImageSet(images[300:], labels[300:])
    recall = {}
    for name, defense in (("natural", None), ("robust", TupleDefense("anchor", ATTACK))):
        torch.manual_seed(0)
        model = embedding_model("small-cnn", dim=16)
        fitted = RobustTrainer(model, losses.TripletMarginLoss(0.2), defense=defense, max_epochs=12, accelerator="cpu")
        fitted.fit(loader(digits, 300))
        assert fitted.history[-1] < fitted.history[0]
        rows = evaluate_retrieval(model, test, attacks=[PGD(LinfBall(0.1), steps=10)], with_pixels=False).rows
        recall[name] = [row["recall_at_1"] for row in rows]
    assert recall["robust"][1] > recall["natural"][1] + 0.1
    assert recall["robust"][0] > recall["natural"][0] - 0.05


def test_resumed_run_is_the_uninterrupted_one(digits, tmp_path):
    options = {"ema": 0.9, "scheduler": lambda optimizer: torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)}
    whole = trainer(**options).fit(loader(digits))
    first = trainer(tmp_path, max_epochs=2, **options).fit(loader(digits))
    second = trainer(tmp_path, **options).fit(loader(digits), resume=True)
    assert second.history == pytest.approx(whole.history, rel=1e-6)
    assert len(first.history) == 2
    for one, other in ((whole.model, second.model), (whole.loss, second.loss), (whole.ema_model, second.ema_model)):
        for a, b in zip(one.state_dict().values(), other.state_dict().values()):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)
    # Once it is done there is nothing left to do.
    again = trainer(tmp_path, **options).fit(loader(digits), resume=True)
    assert again.history == second.history


def test_a_run_that_dies_leaves_the_last_whole_epoch(digits, tmp_path):
    def die(trainer, epoch, loss):
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path, callbacks=[die]).fit(loader(digits))
    epoch, tensors, state = load_checkpoint(tmp_path)
    assert epoch == 2
    assert len(state["history"]) == 2
    assert any(name.startswith("loss.") for name in tensors)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint.json",
        "epoch-0002.safetensors",
        "epoch-0002.state",
    ]
    finished = trainer(tmp_path).fit(loader(digits), resume=True)
    assert finished.history == pytest.approx(trainer().fit(loader(digits)).history, rel=1e-6)


@pytest.mark.parametrize("part", ["checkpoint.json", "epoch-0001.safetensors", "epoch-0001.state"])
def test_damaged_checkpoints_are_named(digits, tmp_path, part):
    trainer(tmp_path, max_epochs=1).fit(loader(digits, 40))
    content = (tmp_path / part).read_bytes()
    (tmp_path / part).write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="cannot be read") as error:
        trainer(tmp_path).fit(loader(digits), resume=True)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("part", ["epoch-0001.safetensors", "epoch-0001.state"])
def test_a_changed_bit_of_a_checkpoint_is_seen(digits, tmp_path, part):
    trainer(tmp_path, max_epochs=1).fit(loader(digits, 40))
    content = bytearray((tmp_path / part).read_bytes())
    content[-40 if part.endswith("tensors") else len(content) // 2] ^= 1
    (tmp_path / part).write_bytes(content)
    with pytest.raises(ValueError, match=f"{part} does not match its checksum") as error:
        load_checkpoint(tmp_path)
    assert "\n" not in str(error.value)


def test_a_checkpoint_leads_nowhere_else(digits, tmp_path):
    folder = tmp_path / "run"
    trainer(folder, max_epochs=1).fit(loader(digits, 40))
    pointer = json.loads((folder / "checkpoint.json").read_text())
    (folder / pointer["state"]).rename(tmp_path / pointer["state"])
    (folder / "checkpoint.json").write_text(json.dumps(pointer | {"state": f"../{pointer['state']}"}))
    with pytest.raises(ValueError, match="names files outside of its folder"):
        trainer(folder).fit(loader(digits), resume=True)


def test_bad_input_is_named(digits, tmp_path):
    with pytest.raises(ValueError, match="max_epochs must be at least 1"):
        trainer(max_epochs=0)
    with pytest.raises(ValueError, match="resume needs a checkpoint_dir"):
        trainer().fit(loader(digits), resume=True)
    with pytest.raises(ValueError, match="no batches"):
        trainer().fit([])
    with pytest.raises(ValueError, match="values from 0 to 1"):
        trainer().fit([(digits[0][:4] * 3, digits[1][:4])])
    trainer(tmp_path, max_epochs=1).fit(loader(digits, 40))
    other = RobustTrainer(nn.Flatten(), losses.TripletMarginLoss(), checkpoint_dir=tmp_path, accelerator="cpu")
    other.optimizer = lambda parameters: torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    with pytest.raises(ValueError, match="of another model"):
        other.fit(loader(digits), resume=True)


def test_batches_are_augmented_before_they_are_used(digits):
    seen = []

    class Watching(NoDefense):
        def loss(self, model, images, labels, loss_fn, miner=None):
            seen.append(images)
            return super().loss(model, images, labels, loss_fn, miner)

    batches = [(digits[0][:40], digits[1][:40])]
    trainer(max_epochs=1, defense=Watching(), augment=lambda images: images.flip(-1)).fit(batches)
    assert torch.equal(seen[0], batches[0][0].flip(-1))


def test_augmentation_is_drawn_from_the_seed_of_the_epoch(digits, tmp_path):
    # Each epoch draws anew, and an interrupted run draws what the whole one did.
    whole, plain = (
        trainer(augment=augment, max_epochs=3, defense=None).fit(loader(digits)).history
        for augment in (augmentation(["flip", "shift"]), None)
    )
    assert whole != plain
    options = {"augment": augmentation(["flip", "shift"]), "defense": None}
    trainer(tmp_path, max_epochs=1, **options).fit(loader(digits))
    resumed = trainer(tmp_path, max_epochs=3, **options).fit(loader(digits), resume=True)
    assert resumed.history == pytest.approx(whole, rel=1e-6)


def test_augmented_images_must_stay_images(digits):
    # A transform that normalises belongs into the model: ε would no longer mean pixels.
    with pytest.raises(ValueError, match="images must have values from 0 to 1, got -1 to 1"):
        trainer(augment=lambda images: images * 2 - 1).fit(loader(digits))


class Memory(Logger):
    """A logger that keeps what it is told, and how often it was asked to save it."""

    name, version = "memory", 0

    def __init__(self):
        self.told, self.saved = [], 0

    def log_metrics(self, metrics, step=None):
        self.told.append((step, metrics))

    def log_hyperparams(self, params):
        raise NotImplementedError

    def save(self):
        self.saved += 1


def test_losses_of_epochs_go_to_the_loggers(digits):
    one, two = Memory(), Memory()
    fitted = trainer(max_epochs=2, defense=None, loggers=[one, two]).fit(loader(digits))
    assert one.told == two.told == [(1, {"loss": fitted.history[0]}), (2, {"loss": fitted.history[1]})]
    assert one.saved == 2


def linear(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.Tanh(), nn.Linear(12, 6)).double()


def one_step(model, data, defense, strategy="auto", devices=1):
    loss = losses.TripletMarginLoss(margin=0.5)
    # A miner that draws nothing at random, so that the two runs differ in nothing but the number of processes.
    return RobustTrainer(
        model,
        loss,
        miner=miners.TripletMarginMiner(margin=0.5),
        defense=defense,
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1),
        max_epochs=1,
        accelerator="cpu",
        strategy=strategy,
        devices=devices,
    ).fit(data)


DEFENSES = {
    "none": lambda: None,
    "tuple": lambda: TupleDefense("positive", ATTACK),
    "batch": lambda: BatchDefense(ATTACK),
    "perturbation": lambda: PerturbationDefense(0.1),
}


def work(rank, port, images, labels, name, out):
    os.environ.update(
        {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "RANK": str(rank),
         "LOCAL_RANK": str(rank), "NODE_RANK": "0", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0",
         "TORCHELASTIC_RUN_ID": "test"}
    )  # fmt: skip
    torch.set_num_threads(1)
    model = linear()
    rows = slice(0, 17) if rank == 0 else slice(17, 30)  # parts of different length
    one_step(model, [(images[rows], labels[rows])], DEFENSES[name](), "ddp", 2)
    torch.save(model.state_dict(), f"{out}/{rank}.pt")
    torch.distributed.barrier()  # neither leaves while the other is still talking to it
    torch.distributed.destroy_process_group()


@pytest.mark.slow  # starts processes
@pytest.mark.parametrize("name", list(DEFENSES))
def test_two_processes_make_the_update_of_one(digits, tmp_path, name):
    images, labels = digits[0][:30].double(), digits[1][:30]
    single = linear()
    one_step(single, [(images, labels)], DEFENSES[name]())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=work, args=(rank, port, images, labels, name, str(tmp_path))) for rank in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    start = linear().state_dict()
    for rank in range(2):
        state = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for key, value in single.state_dict().items():
            torch.testing.assert_close(state[key], value, rtol=1e-6, atol=1e-8)
            assert not torch.equal(value, start[key])


@pytest.mark.parametrize("defense", [NoDefense(), BatchDefense(ATTACK)])
def test_mixed_precision_is_of_the_network_alone(digits, defense):
    # Differences of distances have few digits in bfloat16: losses, and attacks on them, get single precision.
    inside, outside = set(), set()

    def loss(embeddings, labels, tuples=None):
        outside.add((embeddings.dtype, torch.is_autocast_enabled("cpu")))
        return losses.TripletMarginLoss(0.2)(embeddings, labels, tuples)

    model = embedding_model("small-cnn", dim=16)
    model.body[-1].register_forward_hook(lambda module, inputs, output: inside.add(output.dtype))
    RobustTrainer(model, loss, defense=defense, precision="bf16-mixed", max_epochs=1, accelerator="cpu").fit(
        loader(digits, 40)
    )
    assert inside == {torch.bfloat16}
    assert outside == {(torch.float32, False)}
