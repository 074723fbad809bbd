"""The one list of certificates: what it says of each is what its class says, and the documentation has them all."""

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")

from certimetric.deep.certify import CERTIFIERS, Certifier, make_certifier
from certimetric.deep.certify.registry import certifier_class, certifiers_of


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
