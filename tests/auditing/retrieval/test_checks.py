"""Each reliability check of embedding models fires where it should, and says so where it has nothing to look at."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")

from torch import nn  # noqa: E402

from certimetric.auditing import audit_retrieval  # noqa: E402
from certimetric.auditing.checks import checks_of  # noqa: E402
from certimetric.auditing.retrieval.checks import few_queries, find_equal  # noqa: E402
from certimetric.auditing.retrieval.request import RetrievalRequest, Subject  # noqa: E402
from certimetric.auditing.retrieval.run import RetrievalEvidence  # noqa: E402
from certimetric.auditing.run import run  # noqa: E402
from certimetric.deep import ImageSet, Index  # noqa: E402
from certimetric.deep.retrieval.same_pictures import digests  # noqa: E402

WITH_ATTACKS = {"CR101", "CR102", "CR103"}
ABOUT_DATA = {"CR109", "CR110"}


class Model(nn.Module):
    """A projection of pictures that were changed before, or of which the embedding is changed afterwards."""

    def __init__(self, before=lambda x: x, after=lambda z: z):
        super().__init__()
        torch.manual_seed(0)
        self.before, self.after, self.linear = before, after, nn.Linear(64, 16)

    def forward(self, images):
        return self.after(self.linear(self.before(images).flatten(1)))


def quantised(images):
    return (2 * images).round() / 2


@pytest.fixture(scope="module")
def data(digits):
    return digits(3, slice(60))


def document_of(model, data, **options):
    given = {"eps": [0.2], "attacks": ["pgd"], "n_checked": 10, **options}
    return audit_retrieval({"model": model.eval()}, data, **given).document


def audited(model, data, **options):
    return document_of(model, data, **options)["checks"]


def told(checks, code):
    (entry,) = [entry for entry in checks if entry["code"] == code]
    return entry["severity"], entry["message"]


@pytest.fixture(scope="module")
def good_document(data):
    return document_of(Model(), data)


@pytest.fixture(scope="module")
def good(good_document):
    return good_document["checks"]


@pytest.fixture(scope="module")
def masked(data):
    """Gradients of a quantised picture are zero, and the attacks of the audit follow gradients."""
    return audited(Model(quantised), data)


def test_every_check_reports_on_every_model(data, good):
    codes = [*(f"CR1{i:02}" for i in range(1, 13)), "CR121"]
    assert [entry["code"] for entry in good] == codes
    assert [check.code for check in checks_of("retrieval")] == codes
    for entry in good:
        assert entry["learner"] == (None if entry["code"] in {*ABOUT_DATA, "CR112"} else "model")


def test_nothing_to_complain_about(good, good_document):
    severities = {entry["code"]: entry["severity"] for entry in good}
    assert severities.pop("CR107") == "not applicable"  # it is not known what the model was trained on
    assert severities.pop("CR110") == "tip"  # 60 queries
    # A random projection finds less than the pixels that it is of; clean or attacked makes no difference here.
    model, pixels = (
        [part["recall_at_1"]["mean"] for part in (learner["clean"], learner["attacked"][0]["worst"])]
        for learner in good_document["learners"]
    )
    assert severities.pop("CR111") == ("passed" if model >= pixels else "issue")
    assert severities.pop("CR112") == "not applicable"  # no certificates were asked for
    assert set(severities.values()) == {"passed"}


def test_masked_gradients(masked):
    severity, message = told(masked, "CR104")
    assert severity == "issue"
    assert message.startswith("10 of 10")
    assert told(masked, "CR101")[0] == "issue"
    severity, message = told(masked, "CR103")
    assert severity == "issue"
    broken, left = (int(word) for word in message.split() if word.isdigit())
    assert 0 < broken <= left <= 10


@pytest.mark.slow
def test_a_black_box_attack_in_the_audit_does_not_hide_masked_gradients(data):
    assert told(audited(Model(quantised), data, attacks=["pgd", "square"]), "CR103")[0] == "issue"


@pytest.mark.usefixtures("light_search")
def test_without_attacks_by_gradients_there_is_nothing_to_compare(data):
    few = ImageSet(data.images[::3], data.labels[::3])
    assert told(audited(Model(), few, attacks=["square"], n_checked=2), "CR103")[0] == "not applicable"


def test_more_steps_break_more(data):
    """One step is not enough where the surface bends."""
    bent = Model(lambda x: torch.sin(12 * x))
    severity, message = told(audited(bent, data, attacks=["fgsm"], eps=[0.1]), "CR102")
    assert severity == "issue"
    before, after = (float(word) for word in message.split() if word[:2] in ("0.", "1."))
    assert after < before


def test_checks_with_attacks_say_that_they_were_skipped(data):
    checks = audited(Model(), data, n_checked=0)
    assert {entry["code"] for entry in checks if entry["severity"] == "skipped"} == WITH_ATTACKS
    assert told(checks, "CR104")[0] == "passed"


def noise(z):
    return z + 0.1 * torch.randn_like(z)


def of_the_batch(z):
    return z - 0.5 * z.mean(dim=0)


@pytest.mark.parametrize(("after", "word"), [(noise, "randomised"), (of_the_batch, "batch")])
def test_the_embedding_of_a_picture_is_one(data, after, word):
    severity, message = told(audited(Model(after=after), data, n_checked=0), "CR105")
    assert severity == "issue"
    assert word in message


def test_dropout_that_stays_on(data):
    def always(z):
        return nn.functional.dropout(z, 0.5, training=True)

    assert told(audited(Model(after=always), data, n_checked=0), "CR105")[0] == "issue"


def test_training_mode(data):
    model = nn.Sequential(Model(), nn.Dropout(0.5)).train()
    checks = audit_retrieval({"model": model}, data, eps=[0.1], attacks=["fgsm"], n_checked=0).document["checks"]
    assert told(checks, "CR106")[0] == "tip"
    assert told(checks, "CR105")[0] == "passed"  # it is audited in evaluation mode
    assert model.training  # and left as it came


@pytest.mark.parametrize(("n_known", "severity"), [(0, "passed"), (1, "tip"), (3, "issue")])
def test_training_pictures_among_the_queries(n_known, severity):
    torch.manual_seed(0)
    images = ImageSet(torch.rand(120, 1, 8, 8), torch.arange(120) % 3)
    known = frozenset(digests(images)[:n_known]) | {"of a picture that is not here"}
    request = RetrievalRequest(
        {"model": Subject("model", Model().eval(), trained_on=known)},
        images,
        eps=[0.1],
        attacks=["fgsm"],
        n_checked=0,
    )
    found, message = told(run(RetrievalEvidence(request)).document["checks"], "CR107")
    assert found == severity
    assert not n_known or message.startswith(f"{n_known} of 120 queries")


def test_collapsed_embeddings(data):
    checks = audited(Model(after=lambda z: 1 + 1e-6 * z), data, n_checked=0)
    assert told(checks, "CR108")[0] == "issue"


def test_a_constant_model_is_audited_to_the_end(data):
    checks = audited(Model(after=lambda z: torch.ones(len(z), 4)), data, n_checked=3)
    assert told(checks, "CR108")[0] == "issue"
    assert told(checks, "CR104")[0] == "issue"


def equal(queries, gallery=None):
    request = RetrievalRequest({"model": Model()}, queries, gallery, eps=[0.1])
    return find_equal(request, Index(nn.Flatten(), request.gallery))


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0]])
@pytest.mark.parametrize("change", [0.0, 1 / 255])
def test_equal_pictures(order, change):
    """Both of two equal pictures count, whichever comes last, and so do those that one level of 8 bits tells apart."""
    torch.manual_seed(0)
    images = (255 * torch.rand(4, 1, 8, 8)).round() / 255
    images[3] = (images[0] + change * (2 * torch.randint(0, 2, (1, 8, 8)) - 1)).clamp(0, 1)
    both = ImageSet(images, torch.tensor([0, 1, 1, 0])).select(torch.tensor(order))
    severity, message = equal(both)
    assert severity == "issue"
    assert message.startswith("2 of 4 queries have the same picture, to within 1/255, under another id in the gallery")
    alone = ImageSet(torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 1, 0]))
    assert equal(alone)[0] == "passed"
    images[3] = images[0] + 3 * change + 2 / 255
    assert equal(ImageSet(images.clamp(0, 1), both.labels))[0] == "passed"
    # Pictures of one group are no results of each other.
    grouped = ImageSet(both.images, torch.tensor([0, 1, 1, 0]), groups=torch.tensor([5, 6, 7, 5]))
    with pytest.raises(ValueError, match="no query has another"):
        equal(grouped.select(torch.tensor([0, 3])), grouped)
    assert equal(grouped.select(torch.tensor([1, 2])), grouped)[0] == "passed"


def test_pictures_of_the_gallery_without_ids_are_told(data):
    severity, message = equal(data.select(torch.arange(20)), ImageSet(data.images, data.labels))
    assert severity == "passed"  # a selection has the ids of what it was made of
    queries = ImageSet(data.images[5:25], data.labels[5:25])
    severity, message = equal(queries, ImageSet(data.images, data.labels))
    assert severity == "issue"
    assert (
        message.startswith("20 queries equal a picture of the gallery to the bit; no ids say so")
        and "give ids" in message
    )


@pytest.mark.parametrize(("n", "severity", "told"), [(99, "tip", "± 10 points"), (400, "passed", "± 4.9 points")])
def test_number_of_queries(n, severity, told):
    found, message = few_queries.run(SimpleNamespace(n_queries=n))
    assert found == severity
    assert told in message


def test_raw_pixels_beside_the_model(data):
    worse = Model(after=lambda z: 0 * z[:, :1] + torch.randperm(len(z))[:, None])
    severity, message = told(audited(worse, data, n_checked=0), "CR111")
    assert severity == "issue"
    assert "than model, clean (" in message
    # The same figures are no victory, and none is claimed.
    severity, message = told(audited(nn.Flatten(), data, n_checked=0), "CR111")
    assert severity == "passed"
    assert "no higher" in message


def test_an_issue_is_a_warning_in_the_verdict(data):
    result = audit_retrieval({"model": Model(after=noise).eval()}, data, eps=[0.1], attacks=["fgsm"], n_checked=0)
    assert result.status == "WARN"
    told = result.document["verdict"]["sentence"]
    assert "2 reliability checks found an issue (same picture, same embedding, raw pixels)" in told


def test_names_of_classes_are_shown_again(data):
    # Labels as names, in two sets that do not hold the same classes: positions in one list of names.
    names = [f"digit {label}" for label in data.labels.tolist()]
    gallery = ImageSet(data.images, names, torch.arange(60))
    kept = (data.labels != 1).nonzero()[:, 0]
    queries = ImageSet(data.images[kept], [names[row] for row in kept.tolist()], kept)
    request = RetrievalRequest({"model": Model().eval()}, queries, gallery, eps=[0.1], norm="linf", attacks=["pgd"])
    assert request.class_names == ("digit 0", "digit 1", "digit 2")
    assert torch.equal(request.gallery.labels, data.labels)
    assert torch.equal(request.queries.labels, data.labels[kept])
    with pytest.raises(ValueError, match="labels of queries are names and those of the gallery are numbers"):
        RetrievalRequest({"model": Model().eval()}, queries, data, eps=[0.1], norm="linf", attacks=["pgd"])
