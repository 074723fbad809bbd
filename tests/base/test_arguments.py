"""Errors about arguments: one sentence, whose parts survive the way from another process."""

import pickle

import pytest

from certimetric.base.arguments import ArgumentError, chosen, require


class Owner:
    pass


def test_the_sentence_and_its_parts():
    with pytest.raises(ValueError, match=r"^steps of Owner must be at least 1, got 0$") as error:
        require(0 >= 1, "steps", "must be at least 1", 0, Owner())
    for told in (error.value, pickle.loads(pickle.dumps(error.value))):
        assert (told.argument, told.value, told.owner) == ("steps", 0, "Owner")
        assert told.sentence("n", " in [x]") == "n in [x] must be at least 1, got 0"
    require(1 >= 1, "steps", "must be at least 1", 1)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("adm", r"^kind must be one of 'adam', 'sgd', got 'adm' \(did you mean 'adam'\?\)$"),
        (3, "^kind must be one of 'adam', 'sgd', got 3$"),
    ],
)
def test_choices_suggest_the_nearest(value, message):
    with pytest.raises(ArgumentError, match=message):
        chosen("kind", value, ["adam", "sgd"])
    chosen("kind", "sgd", ["adam", "sgd"])
