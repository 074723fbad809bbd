"""Loggers of a training run: what they are told is on disk, however the run ends."""

import csv

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")
pytest.importorskip("lightning", reason="the extra 'deep' has lightning")

from certimetric.training import TrainingConfig, train  # noqa: E402
from certimetric.training.run import read_run  # noqa: E402


def config(loggers, epochs=2):
    training = {"epochs": epochs, "accelerator": "cpu", "loggers": loggers}
    model = {"name": "small-cnn", "dim": 8, "width": 8}
    return TrainingConfig.from_mapping({"data": {"name": "digits"}, "model": model, "training": training})


def test_losses_go_to_a_table(tmp_path):
    def stop(line):
        if line.startswith("epoch 2"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config(loggers=["csv"], epochs=3), tmp_path, tell=stop)
    (table,) = (tmp_path / "logs").rglob("metrics.csv")
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [1, 2]  # those of an interrupted run, too
    assert [float(row["loss"]) for row in rows] == pytest.approx(read_run(tmp_path)["history"])


def test_losses_go_to_tensorboard(tmp_path):
    writer = pytest.importorskip("tensorboardX", reason="the extra 'logging' has tensorboardX")
    run = train(config(loggers=["tensorboard"]), tmp_path)
    (events,) = (tmp_path / "logs").rglob("events.out.tfevents.*")
    from tensorboardX.proto import event_pb2

    assert writer
    found, data = [], events.read_bytes()
    while data:  # records: length, its checksum, event, its checksum
        length = int.from_bytes(data[:8], "little")
        event = event_pb2.Event.FromString(data[12 : 12 + length])
        found += [(event.step, value.simple_value) for value in event.summary.value if value.tag == "loss"]
        data = data[16 + length :]
    assert [step for step, _ in found] == [1, 2]
    assert [value for _, value in found] == pytest.approx(run["history"], rel=1e-5)


def test_a_missing_tensorboard_is_named(tmp_path, monkeypatch):
    from lightning.fabric.loggers import tensorboard

    monkeypatch.setattr(tensorboard, "_TENSORBOARD_AVAILABLE", False)
    monkeypatch.setattr(tensorboard, "_TENSORBOARDX_AVAILABLE", False)
    with pytest.raises(ImportError, match=r"the logger 'tensorboard' needs .*certimetric\[logging\]"):
        train(config(loggers=["tensorboard"]), tmp_path)
