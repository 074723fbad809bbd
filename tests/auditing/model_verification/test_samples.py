"""Audits of verification of what is no picture: bounds of each channel, sizes in units of the inputs, lines."""

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")

from certimetric.auditing import audit_model_verification  # noqa: E402
from certimetric.auditing.model_verification.request import ModelVerificationRequest  # noqa: E402
from certimetric.auditing.model_verification.run import ModelVerificationEvidence  # noqa: E402
from certimetric.deep import Samples  # noqa: E402
from certimetric.report.views import view_of  # noqa: E402

BOUNDS = ((-1.0, -10.0), (1.0, 10.0))


@pytest.fixture(scope="module")
def waves():
    """Series of two channels, the second ten times the first: four rates, and random phases."""
    phase = torch.rand(24, 1, generator=torch.Generator().manual_seed(0))
    rate = 1.0 + torch.arange(24)[:, None] % 4
    series = torch.sin(2 * torch.pi * (rate * torch.linspace(0, 1, 32) + 0.2 * phase))
    return Samples(torch.stack([series, 10 * series], dim=1), rate[:, 0].long(), bounds=BOUNDS)


@pytest.mark.usefixtures("undrawn")
def test_series_are_verified_in_their_units(waves):
    models = {"flat": torch.nn.Flatten()}
    result = audit_model_verification(models, waves, far=0.1, eps=[0.5], attacks=["fgsm"], n_attacked=4)
    assert result.document["protocol"]["units"] == "inputs"
    assert [learner["label"] for learner in result.document["learners"]] == ["flat", "Raw inputs"]
    assert "pixel" not in result.document["verdict"]["sentence"]
    assert view_of(result.document).lede() == ["24 inputs of 4 subjects", "1 model beside raw inputs"]
    (shown,) = {len(image) for image in result.document["learners"][0]["worst"][0]["pictures"].values()}
    assert shown == 64  # rows of pixels of a line


@pytest.mark.slow
def test_the_page_draws_lines(waves):
    models = {"flat": torch.nn.Flatten()}
    page = audit_model_verification(models, waves, far=0.1, eps=[0.5], attacks=["fgsm"], n_attacked=4).to_html()
    assert "Inputs are drawn as lines" in page and "pixels from 0 to 1" not in page


def test_the_attacker_stays_within_the_bounds_of_each_channel(waves):
    request = ModelVerificationRequest({"flat": torch.nn.Flatten()}, waves, eps=[0.5], far=0.1)
    assert request.make_attacks(0.5)[0].ball.bounds == BOUNDS
    assert ModelVerificationEvidence(request).options()["bounds"] == BOUNDS  # others are another audit


def test_sizes_must_be_given(waves):
    with pytest.raises(ValueError, match="eps must be given for inputs that are no pictures"):
        ModelVerificationRequest({"flat": torch.nn.Flatten()}, waves, far=0.1)
