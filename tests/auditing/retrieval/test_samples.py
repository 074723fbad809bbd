"""Audits of what is no picture: bounds of the inputs, radii in their units, lines in the place of pictures."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")

from torch import nn  # noqa: E402

from certimetric.auditing import audit_retrieval  # noqa: E402
from certimetric.auditing.retrieval.drawing import line_picture  # noqa: E402
from certimetric.auditing.retrieval.request import RetrievalRequest  # noqa: E402
from certimetric.deep import Samples  # noqa: E402


@pytest.fixture(scope="module")
def waves():
    """24 series of three frequencies and random phases, from −1 to 1."""
    phase = torch.rand(24, 1, generator=torch.Generator().manual_seed(0))
    rate = 1.0 + torch.arange(24)[:, None] % 3
    series = 0.8 * torch.sin(2 * torch.pi * (rate * torch.linspace(0, 1, 32) + phase))
    return Samples(series[:, None], [f"{int(each)} Hz" for each in rate], bounds=(-1, 1))


def spectrum():
    class Spectrum(nn.Module):
        def forward(self, inputs):
            return torch.fft.rfft(inputs.flatten(1)).abs()

    return Spectrum()


@pytest.mark.usefixtures("undrawn")
def test_series_are_audited_in_their_units(waves):
    document = audit_retrieval({"spectrum": spectrum()}, waves, eps=[0.05], attacks=["fgsm"], n_checked=0).document
    assert [learner["label"] for learner in document["learners"]] == ["spectrum", "Raw inputs"]
    assert document["protocol"]["units"] == "inputs"
    assert document["learners"][0]["examples"][0]["original"].startswith("data:image/png")
    assert "pixel" not in document["verdict"]["sentence"]


@pytest.mark.slow
def test_series_are_audited_within_their_bounds(waves):
    options = {"eps": [0.05, 2.0], "attacks": ["pgd"], "n_checked": 4}
    result = audit_retrieval({"spectrum": spectrum()}, waves, **options)
    found = result.to_frame()
    worst = found[(found.model == "spectrum") & found.attack.isin(["clean", "worst case"])]
    assert dict(zip(worst.eps, worst.recall_at_1)) == {0.0: 1.0, 0.05: 1.0, 2.0: 0.0}
    codes = {entry["code"]: entry["severity"] for entry in result.document["checks"] if entry["learner"] == "spectrum"}
    assert codes["CR101"] == codes["CR103"] == codes["CR105"] == "passed"
    page = result.to_html()
    assert "beside raw inputs" in page and "drawn as lines" in page and "units of the input" in page


def test_the_attacker_stays_within_the_bounds(waves):
    request = RetrievalRequest({"spectrum": spectrum()}, waves, eps=[0.5])
    assert request.ball(0.5).bounds == (-1.0, 1.0)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({}, "eps must be given for inputs that are no pictures: sizes in their units, got None"),
        ({"eps": [0.1], "ers": True}, "ers must be False for inputs that are no pictures"),
    ],
)
def test_what_is_for_pictures_is_refused(waves, options, named):
    with pytest.raises(ValueError, match=named):
        RetrievalRequest({"spectrum": spectrum()}, waves, **options)


def test_lines_are_drawn_from_left_to_right_without_gaps():
    pixels = line_picture(torch.tensor([[0.0, 1.0]]), (0.0, 1.0))
    dark = pixels < 255
    assert dark.any(axis=0).all()
    assert dark[-1, 0] and dark[0, -1] and not dark[0, 0]
    flat = line_picture(torch.zeros(1, 1000), (-1.0, 1.0)) < 255
    assert set(np.flatnonzero(flat.any(axis=1))) == {flat.shape[0] // 2}
