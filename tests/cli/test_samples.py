"""Commands on a file of inputs that are no pictures."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")

from certimetric.auditing import AuditResult


@pytest.fixture
def words(tmp_path, monkeypatch):
    """Series of two channels of different ranges, and a model of the current folder."""
    rng = np.random.default_rng(0)
    rate = np.arange(24) % 4 + 1
    series = np.sin(2 * np.pi * (rate[:, None] * np.linspace(0, 1, 16) + 0.1 * rng.random((24, 1))))
    names = np.array(["a", "b", "c", "d"])[rate - 1]
    bounds = [(-1, -10), (1, 10)]
    np.savez(tmp_path / "waves.npz", inputs=np.stack([series, 10 * series], axis=1), labels=names, bounds=bounds)
    (tmp_path / "own.py").write_text("import torch\n\ndef net():\n    return torch.nn.Flatten()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return ["-m", "net=own:net", "--samples", "waves.npz", "--eps", "0.5", "--attack", "fgsm"]


@pytest.mark.usefixtures("undrawn")
def test_series_are_audited_and_verified(run, words, tmp_path):
    outcome = run("audit-model", *words, "--check-queries", "0")
    assert outcome.code == 0, outcome.err
    document = AuditResult.load(tmp_path / "certimetric-audit" / "waves").document
    assert document["protocol"]["units"] == "inputs" and document["data"]["n_queries"] == 24
    outcome = run("verify-model", *words, "--far", "0.1", "--attacked", "4")
    assert outcome.code == 0, outcome.err
    document = AuditResult.load(tmp_path / "certimetric-audit" / "waves-verification").document
    assert document["protocol"]["units"] == "inputs"


def test_what_is_wrong_is_told_in_one_sentence(run, words, tmp_path):
    def told(*more):
        outcome = run("audit-model", *words, *more)
        assert outcome.code == 2 and outcome.err.count("\n") == 1
        return outcome.err

    assert "--size is for pictures, and 'waves.npz' holds other inputs" in told("--size", "8")
    np.savez(tmp_path / "waves.npz", inputs=np.zeros((3, 4)), labels=[0, 1])
    assert "inputs of 'waves.npz' must be (n, …) with 2 labels, got (3, 4)" in told()
    np.savez(tmp_path / "waves.npz", inputs=np.ones((4, 2, 3)), labels=[0, 0, 1, 1], bounds=[(0, 0), (2, 0.5)])
    assert "inputs must have values from 0 to 0.5 in channel 1, got 1 to 1" in told()
