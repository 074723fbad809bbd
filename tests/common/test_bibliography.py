"""The bibliography: every paper that code or a page cites by its arXiv number is in it, and its page is up to date."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CITED = re.compile(r"arXiv[:\s]+(\d{4}\.\d{4,5})|arxiv\.org/abs/(\d{4}\.\d{4,5})")


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("bibliography", ROOT / "tools" / "bibliography.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def known(tool):
    return tool.entries(tool.SOURCE.read_text(encoding="utf-8"))


def test_every_paper_that_is_cited_is_listed(known):
    listed = {entry["eprint"] for entry in known.values() if "eprint" in entry}
    pages = [*(ROOT / "src").rglob("*.py"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("*.py")]
    cited = {number: path.name for path in pages for number in numbers(path)}
    assert len(cited) > 40
    assert {number: name for number, name in cited.items() if number not in listed} == {}


def test_every_title_in_a_list_of_references_is_listed(tool, known):
    # On the site a title leads to its entry: one that is written otherwise would not.
    titles = {}
    for path in (ROOT / "src").rglob("*.py"):
        for section in tool.references(path.read_text(encoding="utf-8")):
            titles |= dict.fromkeys(re.findall(r"(?<!\*)\*([^*]{12,}?)\*", section), path.name)
    assert len(titles) > 20
    assert {title: name for title, name in titles.items() if tool.key_of(title, known) is None} == {}


def test_lists_of_references_cite_by_key(tool, known):
    keys, without = set(), []
    for path in (ROOT / "src").rglob("*.py"):
        code = path.read_text(encoding="utf-8")
        assert tool.keyed(code, known) == code, f"{path.name}: run python tools/bibliography.py"
        for section in tool.references(code):
            found = re.findall(r"\[([a-z]+\d{4}[a-z0-9]*)\]", section)
            keys |= set(found)
            without += [] if found or ":func:" in section else [f"{path.name}: {section.strip()[:60]}"]
    assert len(keys) > 60
    assert keys <= known.keys()
    assert without == []


def test_a_key_stands_behind_the_number_and_once(tool):
    listed = {"zadeh2016geometric": {"title": "Geometric mean metric learning", "eprint": "1607.05002"}}
    code = '"""X\n\nReferences\n----------\nZadeh, *Geometric mean metric learning*, ICML, arXiv 1607.05002.\n"""\n'
    keyed = tool.keyed(code, listed)
    assert keyed == code.replace("1607.05002", "1607.05002 [zadeh2016geometric]")
    assert tool.keyed(keyed, listed) == keyed


def numbers(path):
    return {first or second for first, second in CITED.findall(path.read_text(encoding="utf-8"))}


def test_keys_say_author_and_year(known):
    for key, entry in known.items():
        assert entry["author"] and entry["title"] and entry["year"] in key, key


def test_no_paper_is_listed_twice(known):
    for field in ("eprint", "title"):
        values = [entry[field].lower() for entry in known.values() if field in entry]
        assert len(values) == len(set(values))


def test_the_page_is_that_of_the_file(tool):
    assert tool.PAGE.read_text(encoding="utf-8") == tool.page(), "run python tools/bibliography.py"
