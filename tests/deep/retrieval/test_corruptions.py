"""Retrieval under natural corruptions: figures are those of corrupted queries, errors are beside raw pixels."""

import json

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")

from torch import nn  # noqa: E402

from certimetric.deep import ImageSet, Index, evaluate_corruptions  # noqa: E402
from certimetric.deep.attacks import CORRUPTIONS  # noqa: E402


def test_figures_are_those_of_corrupted_queries(digits, network):
    items = ImageSet(digits[0][:60], digits[1][:60])
    found = evaluate_corruptions(network, items, corruptions=["contrast", "gaussian noise"], seed=3, batch_size=7)
    frame = found.to_frame().set_index(["subject", "corruption", "severity"])
    index = Index(network, items)
    for name, severity in (("contrast", 5), ("gaussian noise", 2)):
        changed = items.with_images(CORRUPTIONS[name](items.images, severity, seed=3))
        told = frame.loc[("model", name, severity), "recall_at_1"]
        assert told == pytest.approx(float(index.score(changed)["recall_at_1"].mean()))
    assert len(frame) == 2 * (1 + 2 * 5)
    lacking = {
        subject: sum(1 - frame.loc[(subject, "contrast", severity), "recall_at_1"] for severity in range(1, 6))
        for subject in ("model", "raw pixels")
    }
    assert found.errors["contrast"] == pytest.approx(lacking["model"] / lacking["raw pixels"])
    assert json.loads(found.to_json())["mean_error"] == found.mean_error


def test_all_that_suit_the_picture_and_no_unknown_one(digits):
    items = ImageSet(digits[0][:12], digits[1][:12] % 2)
    found = evaluate_corruptions(nn.Flatten(), items)
    assert set(found.errors) == set(CORRUPTIONS) - {"saturation"}
    assert all(error in (None, 1.0) for error in found.errors.values())
    with pytest.raises(ValueError, match="did you mean 'jpeg'"):
        evaluate_corruptions(nn.Flatten(), items, corruptions=["jpg"])
