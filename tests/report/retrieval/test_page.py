"""The page on embedding models is a pure function of its document, complete, self-contained and safe with any name."""

import copy
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from certimetric.auditing import AuditResult
from certimetric.base.wording import PIXELS
from certimetric.report import junit_xml, render_audit, render_audit_fragment, summary_table
from certimetric.report.formatting import percent, size_name
from certimetric.report.retrieval.figures import attack_curves, loss_figure, map_figures, training_rows

VOID = ("meta", "link", "img", "br", "input", "hr", "col")


class Page(HTMLParser):
    """Text, identifiers, and everything that a browser would load or run."""

    def __init__(self, html):
        super().__init__()
        self.ids, self.loads, self.handlers, self.scripts, self.words, self._in = [], [], [], 0, [], []
        self.feed(html)
        self.text = " ".join("".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        if tag not in VOID:
            self._in.append(tag)
        self.scripts += tag == "script"
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            if name in ("src", "href", "srcset", "data", "action", "xlink:href"):
                self.loads.append(value)
            if name.startswith("on"):
                self.handlers.append((tag, name))

    def handle_endtag(self, tag):
        if self._in and self._in[-1] == tag:
            self._in.pop()

    def handle_data(self, data):
        if not self._in or self._in[-1] not in ("script", "style"):
            self.words.append(data)


@pytest.fixture(scope="module")
def rendered():
    """The page of a document, which most tests look at as it is; each is rendered once."""
    pages = {}

    def page(document):
        key = json.dumps(document)
        if key not in pages:
            pages[key] = render_audit(document)
        return pages[key]

    return page


def test_same_document_same_bytes(retrieval, rendered):
    before = copy.deepcopy(retrieval)
    assert rendered(retrieval) == render_audit(retrieval)
    assert retrieval == before  # and the document is left as it was


def test_page_loads_nothing(retrieval, rendered):
    html = rendered(retrieval)
    for load in Page(html).loads:
        assert load.startswith(("#", "data:image/png;base64,")) or load == "data:,", load
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)


def test_identifiers_are_unique_and_links_lead_somewhere(retrieval, rendered):
    page = Page(rendered(retrieval))
    assert len(page.ids) == len(set(page.ids))
    for link in page.loads:
        if link.startswith("#"):
            assert link[1:] in page.ids, link


def test_every_model_section_and_check_is_there(retrieval, rendered):
    page = Page(rendered(retrieval))
    for section in ("verdict", "threat", "comparison", "robustness", "maps", "classes", "checks", "reproduction"):
        assert section in page.ids
    pictures = retrieval["protocol"]["units"] == "pixels"
    assert ("galleries" in page.ids) == ("training" in page.ids) == pictures
    for learner in retrieval["learners"]:
        assert "".join(learner["label"].replace("\x00", "\ufffd").split()) in "".join(page.text.split())
    for check in retrieval["checks"]:
        assert check["code"] in page.text
    assert retrieval["verdict"]["status"] in page.text


def test_hostile_names_stay_text(make_document, rendered):
    page = Page(rendered(make_document("hostile retrieval")))
    clean = Page(rendered(make_document("two models")))
    assert page.handlers == clean.handlers == []
    assert page.scripts == clean.scripts
    assert "alert(1)" in page.text  # shown, not run
    assert "{{ 7 * 7 }}" in page.text
    fragment = Page(render_audit_fragment(make_document("hostile retrieval")))
    assert fragment.scripts == 0
    assert fragment.loads == fragment.handlers == []


def test_document_is_embedded(retrieval, rendered):
    (embedded,) = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', rendered(retrieval), re.S)
    assert json.loads(embedded) == retrieval


def cells(html, table):
    """Rows of text of the table after this identifier."""
    part = html[html.index(f'id="{table}"') :]
    rows = re.findall(r"<tr>(.*?)</tr>", part[: part.index("</table>")], re.S)
    return [
        [" ".join(re.sub(r"<[^>]*>", "", cell).split()) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.S)]
        for row in rows
    ]


def test_curves_hold_the_numbers_of_the_document(make_document, rendered):
    document = make_document("two models")
    html = rendered(document)
    for name, figure in (("recall", "recall_at_1"), ("map", "map_at_r")):
        header, *rows = cells(html, f"figure-{name}")
        assert header == ["ε", *(learner["label"] for learner in document["learners"])]
        assert [row[0] for row in rows] == ["0", "0.025", "8/255", "0.05"]
        for i, learner in enumerate(document["learners"], 1):
            told = [learner["clean"][figure], *(entry["worst"][figure] for entry in learner["attacked"])]
            assert [row[i] for row in rows] == [
                f"{percent(t['mean'])} [{100 * t['low']:.1f}, {100 * t['high']:.1f}]" for t in told
            ]
    _, *rows = cells(html, "figure-balance")
    quoted = [entry["eps"] for entry in document["learners"][0]["attacked"]].index(document["protocol"]["report_eps"])
    assert rows == [
        [
            learner["label"],
            percent(learner["clean"]["recall_at_1"]["mean"]),
            percent(learner["attacked"][quoted]["worst"]["recall_at_1"]["mean"]),
        ]
        for learner in document["learners"]
    ]


def test_maps_count_what_is_drawn(make_document):
    document = make_document("two models")
    figure = map_figures(document)[0]
    drawn = document["learners"][0]["map"]
    for i, (_, count, moved, wrong) in enumerate(figure.rows):
        assert int(count) == sum(point[2] == i for point in drawn["points"])
        assert int(moved) == sum(move[4] == i for move in drawn["moves"])
        assert int(wrong) == sum(move[5] for move in drawn["moves"] if move[4] == i)
    assert "of 3, 1" in figure.reading


def test_training_holds_the_numbers_of_the_runs(make_document):
    document = make_document("two models")
    document["learners"][1]["training"]["seconds"] = 37.5
    document["learners"][1]["training"]["history"][1] = None  # a loss that was not finite
    first, second = training_rows(document)
    assert (first["ratio"], second["ratio"]) == ("1 ×", "3 ×")
    assert first["defense"] == "tuple (norm linf, eps 0.1, steps 5)"
    assert [row[1:] for row in loss_figure(document).rows] == [
        ("0.3", "0.3"),
        ("0.2", "–"),
        ("0.15", "0.15"),
        ("0.1", "0.1"),
    ]


def test_an_attack_that_changed_nothing_is_not_magnified(make_document, rendered):
    text = Page(rendered(make_document("one model"))).text
    assert "difference × 12.5" in text
    assert "difference: none" in text


def test_words_are_those_of_what_was_audited(make_document, rendered):
    one, two = (Page(rendered(make_document(name))).text for name in ("one model", "two models"))
    assert "1 model beside raw pixels" in one
    assert "2 models beside raw pixels" in two
    assert "the truth lies on the line or below it" in two
    single, several = (Page(rendered(make_document(name))).text for name in ("embeddings of one model", "embeddings"))
    for text, counted in ((single, "· 1 model ·"), (several, "· 2 models ·")):
        assert counted in text
        assert "raw pixels" not in text.lower()
        assert "arrow" not in text
        assert "the truth lies on the line or below it" not in text
        assert "exact" in text


def test_terms_keep_their_capitals(make_document, rendered):
    text = Page(rendered(make_document("two models"))).text
    assert "Best: R@1" in text
    assert "Best: mAP@R" in text


@pytest.mark.parametrize(
    ("eps", "told"), [(8 / 255, "8/255"), (0.2, "0.2"), (1.0, "1"), (2.0, "2"), (0.25, "0.25"), (1 / 255, "1/255")]
)
def test_sizes_are_fractions_of_255_only_where_they_were_meant_so(eps, told):
    assert size_name(eps) == told


def test_text_table(retrieval):
    header, rows = summary_table(retrieval)
    assert all(len(row) == len(header) for row in rows)
    shares = [learner["clean"]["recall_at_1"]["mean"] for learner in retrieval["learners"]]
    column = header.index("R@1 [%]")
    assert [row[column].removesuffix(" *") for row in rows] == [f"{100 * share:.1f}" for share in shares]
    if len(rows) > 1:
        assert rows[shares.index(max(shares))][column].endswith(" *")
    assert any("mAP@R under the R@1 attack" in name for name in header) == (retrieval["protocol"]["units"] == "pixels")


def test_fragment_is_short(retrieval, rendered):
    fragment = render_audit_fragment(retrieval)
    assert len(fragment) < len(rendered(retrieval)) / 3
    assert retrieval["verdict"]["status"] in fragment


def test_many_classes_are_folded(make_document, rendered):
    document = make_document("twelve models")
    html = rendered(document)
    assert "185 more classes" in html
    first = cells(html, "classes")[1]
    mean = {
        name: sum(
            row["attacked"] for learner in document["learners"] for row in learner["per_class"] if row["class"] == name
        )
        for name in (row["class"] for row in document["learners"][0]["per_class"])
    }
    assert first[0] == min(mean, key=mean.get)  # the worst of them comes first


@pytest.mark.parametrize("name", ["two models", "embeddings", "hostile retrieval"])
def test_round_trip(tmp_path, make_document, name):
    retrieval = make_document(name)
    result = AuditResult(retrieval)
    results, report = result.save(tmp_path, title="A title")
    for read in (AuditResult.load(tmp_path), AuditResult.load(results)):
        assert read.to_dict() == retrieval
    assert read.to_html(title="A title") == report.read_text(encoding="utf-8")
    assert "<h1>A title</h1>" in report.read_text(encoding="utf-8")
    assert repr(result).startswith("AuditResult of ")
    assert result._repr_html_() == render_audit_fragment(retrieval)
    frame = result.to_frame()
    specs = [learner["spec"] for learner in retrieval["learners"]]
    assert list(dict.fromkeys(frame["model"])) == specs
    assert (PIXELS in specs) == (retrieval["protocol"]["units"] == "pixels")


def test_results_of_the_two_kinds_are_told_apart(tmp_path, make_document):
    for name, column, folder in (("wine", "learner", tmp_path / "table"), ("two models", "model", tmp_path / "models")):
        AuditResult(make_document(name)).save(folder)
        read = AuditResult.load(folder)
        for frame in (read.to_frame(), read.summary(), read.per_class()):
            specs = [learner["spec"] for learner in read.document["learners"]]
            assert list(dict.fromkeys(frame[column])) == specs
    with pytest.raises(ValueError, match="does not tell which class is told as which"):
        read.confusion_matrix()


@pytest.mark.parametrize("content", ["", "[]", "3", "{}", '{"schema": "certimetric.retrieval-audit/1"}', "\x00"])
def test_foreign_files_are_refused(tmp_path, content):
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(ValueError, match=r"results\.json"):
        AuditResult.load(tmp_path)


def test_a_document_that_is_not_finite_is_refused(make_document):
    document = make_document("two models")
    document["learners"][0]["clean"]["nmi"] = float("nan")
    with pytest.raises(ValueError, match="NaN"):
        render_audit(document)


def test_junit(retrieval):
    suite = ElementTree.fromstring(junit_xml(retrieval)).find("testsuite")
    cases = {case.get("name"): case for case in suite.iter("testcase")}
    assert len(cases) == len(retrieval["thresholds"]) + len(retrieval["checks"])
    assert suite.get("failures") == "2"
    assert suite.get("skipped") == "1"
    assert any("Gradients [" in name and case.find("failure") is not None for name, case in cases.items())


def test_reading_results_needs_no_torch(tmp_path, make_document):
    """A colleague who only reads results has no need of the models' packages."""
    AuditResult(make_document("two models")).save(tmp_path)
    code = (
        "import sys; from certimetric.auditing import AuditResult; "
        f"print(AuditResult.load({str(tmp_path)!r}).status); AuditResult.load({str(tmp_path)!r}).to_html(); "
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "FAIL\n"), done.stderr


def test_curves_need_no_second_model(make_document):
    names = [figure.name for figure in attack_curves(make_document("embeddings of one model"))]
    assert names == ["recall"]


def test_what_the_attack_is_on_stands_beside_the_figure(make_document, rendered):
    """mAP@R under an attack on R@1 is not the worst that mAP@R can be brought to."""
    html = rendered(make_document("two models"))
    assert "mAP@R attacked" not in html
    text = " ".join(Page(html).text.split())
    assert "mAP@R under the R@1 attack at ε = 8/255" in text
    assert "mAP@R under the R@1 attack, against ε" in text


def test_sizes_in_distances_of_neighbours_say_so(make_document, rendered):
    document = make_document("embeddings of one model")
    text = " ".join(Page(rendered(document)).text.split())
    assert "ε = 0.4, in medians of the distance from a query to its nearest item" in text
    assert "<dt>Median distance to the nearest</dt><dd>model-1 0.8125</dd>" in rendered(document)
    assert "median nearest-neighbour distances" in rendered(document)
    # Documents of earlier versions have sizes in the units of the embedding.
    document["protocol"]["units"] = "embedding"
    assert "units of the embedding itself" in rendered(document)


def test_clusters_are_told_where_they_were_made(make_document):
    document = make_document("two models")
    learners = document["learners"]
    learners[0]["clean"]["nmi"] = None
    header, rows = summary_table(document)
    assert header[-1].startswith("NMI") and rows[0][-1] == "–"
    for learner in learners:
        learner["clean"]["nmi"] = None
    assert not any(name.startswith("NMI") for name in summary_table(document)[0])


def test_a_report_is_no_pass_and_alerts_name_the_model(make_document, rendered):
    document = make_document("two models")
    document["verdict"]["status"] = "REPORT"
    html = rendered(document)
    assert '<span class="badge">i</span>REPORT' in html
    assert "Gradients (model-1): 90 of 100 queries have a gradient of zero." in " ".join(Page(html).text.split())
