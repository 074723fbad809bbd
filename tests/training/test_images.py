"""Training on pictures that are decoded batch by batch, and on those of an .npz file."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")

from PIL import Image  # noqa: E402

from certimetric.training import TrainingConfig, load_run, train  # noqa: E402


def config(data, workers=0):
    return TrainingConfig.from_mapping(
        {
            "data": data,
            "model": {"name": "small-cnn", "dim": 8},
            "training": {"epochs": 2, "batch_size": 8, "per_class": 2, "workers": workers, "accelerator": "cpu"},
            "evaluation": {"eps": 0.05, "queries": 5, "steps": 2},
        }
    )


@pytest.mark.parametrize("workers", [0, 1])
def test_folders_of_pictures(tmp_path, rng, workers):
    for i in range(6):
        (tmp_path / "data" / f"class{i}").mkdir(parents=True)
        for j in range(4):
            values = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8) // (i + 1)
            Image.fromarray(values).save(tmp_path / "data" / f"class{i}" / f"{j}.png")
    run = train(config({"name": "folder", "root": str(tmp_path / "data"), "size": 16}, workers), tmp_path / "run")
    assert run["finished"]
    assert run["data"] == {"name": "folder", "n_images": 12, "n_classes": 3, "image_shape": [3, 16, 16]}
    assert 0 <= run["evaluations"][-1]["attacked"] <= run["evaluations"][-1]["recall_at_1"] <= 1
    model, _ = load_run(tmp_path / "run")
    assert model(torch.rand(2, 3, 16, 16)).shape == (2, 8)


def test_a_file_of_arrays(tmp_path, rng):
    images = rng.random((24, 16, 16)).astype(np.float32)
    np.savez(tmp_path / "noise.npz", images=images, labels=np.arange(24) % 6)
    run = train(config({"name": str(tmp_path / "noise.npz")}), tmp_path / "run")
    assert run["data"] == {"name": "noise", "n_images": 12, "n_classes": 3, "image_shape": [1, 16, 16]}
