"""The one list of certificates: what it says of each is what its class says, and the documentation has them all."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")

from torch import nn  # noqa: E402

from certimetric.deep import APGD, PGD, ImageSet, Index, L2Ball, LinfBall, certify_retrieval  # noqa: E402
from certimetric.deep.certify import CERTIFIERS, Certifier, make_certifier  # noqa: E402
from certimetric.deep.certify.registry import certifier_class, certifiers_of  # noqa: E402


@pytest.mark.parametrize("name", CERTIFIERS)
def test_every_certificate_is_what_the_list_says(name):
    kind = certifier_class(name)
    assert issubclass(kind, Certifier) and (kind.name, kind.norm) == (name, CERTIFIERS[name][0])
    assert name in certifiers_of(kind.norm)
    # Told by its settings it is the same again: audits keep them.
    for made in (make_certifier(name), kind.for_audit(0.3, 7)):
        assert repr(make_certifier(name, **made.settings())) == repr(made)
        assert made.largest_radius() > 0
    page = (Path(__file__).parents[3] / "docs" / "certified-retrieval.md").read_text(encoding="utf-8")
    assert f"| `{name}` |" in page
    with pytest.raises(ValueError, match=f"settings of the method '{name}' do not fit"):
        make_certifier(name, nothing=1)


def test_noise_of_an_audit_is_that_which_it_gives():
    made = certifier_class("smoothing").for_audit(0.3, 7)
    assert (made.sigma, made.seed) == (0.3, 7)


def test_a_name_that_is_not_on_the_list_is_refused():
    with pytest.raises(ValueError, match=r"method must be one of 'lipschitz', .*, got 'nothing'"):
        make_certifier("nothing")


@pytest.mark.parametrize("name", CERTIFIERS)
def test_no_attack_beats_a_certificate_of_the_list(name, digits):
    """What a certificate promises: within the radius the prediction that it is about stays, whatever the attack."""
    gallery = ImageSet(digits[0][:100], digits[1][:100])
    queries = gallery.select(torch.arange(0, 100, 4))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16))
    certifier = certifier_class(name).for_audit(0.5, 0)
    found = certify_retrieval(model, queries, gallery, method=certifier, with_pixels=False)
    ball = {"l2": L2Ball, "linf": LinfBall}[found.norm](float(np.median(found.radii[found.radii > 0])))
    inside = found.radii > ball.eps * (1 + 1e-5)  # an attack in single precision may leave its ball by a rounding
    assert inside.sum() >= 5
    for attack in (PGD(ball, steps=15), APGD(ball, steps=15)):
        moved = queries.with_images(Index(model, gallery).attacked(queries, attack).cpu())
        again = certifier_class(name).for_audit(0.5, 1).certify(model, moved, gallery)
        assert not (inside & (again.predictions != found.predictions) & ~again.abstained).any()
    # And an attack that goes much farther does take it away, so that the promise is about something.
    far = PGD(ball, steps=15).with_eps(20 * ball.eps)
    moved = queries.with_images(Index(model, gallery).attacked(queries, far).cpu())
    assert (certifier.certify(model, moved, gallery).predictions != found.predictions).any()
