"""The names of attacks: what commands say of them is the list, and audits take every one of them."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")

from torch import nn  # noqa: E402

from certimetric.auditing.retrieval.request import RetrievalRequest  # noqa: E402
from certimetric.deep import ImageSet  # noqa: E402
from certimetric.deep.attacks import ATTACKS  # noqa: E402
from certimetric.deep.attacks.balls import L1Ball  # noqa: E402

DOCS = Path(__file__).parents[3] / "docs"


def test_documents_name_every_attack():
    told = (DOCS / "embedding-audit.md").read_text(encoding="utf-8")
    (row,) = (line for line in told.splitlines() if line.startswith("| `--attack"))
    assert [word.strip("` ").removeprefix("--attack ") for word in row.split("|")[1].split(",")] == list(ATTACKS)
    page = (DOCS / "deep.md").read_text(encoding="utf-8")
    assert all(f"| `{kind.__name__}(" in page for kind in ATTACKS.values())


@pytest.mark.parametrize("name", ATTACKS)
def test_an_audit_makes_every_attack(name):
    items = ImageSet(torch.rand(8, 1, 4, 4, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 2)
    request = RetrievalRequest({"flat": nn.Flatten()}, items, attacks=[name], norm="l2", seed=3)
    made = request.make_attack(name, 0.5)
    assert type(made) is ATTACKS[name]
    assert (made.ball, made.seed) == (request.ball(0.5), 3)
    assert request.told_attack(name).startswith(type(made).__name__)
    with pytest.raises(ValueError, match=f"attacks must be of .*{name}.* got 'none-such'"):
        RetrievalRequest({"flat": nn.Flatten()}, items, attacks=["none-such"])


@pytest.mark.parametrize("name", ATTACKS)
def test_lengths_keep_their_share_of_the_radius(name):
    made = ATTACKS[name](L1Ball(1.0))
    other = made.with_eps(3.0)
    assert other.ball == L1Ball(3.0)
    assert made.ball == L1Ball(1.0)
    assert {key: value for key, value in vars(other).items() if key != "ball"} == {
        key: value for key, value in vars(made).items() if key != "ball"
    }
