"""Write the page of the bibliography from docs/references.bib, and the keys of its entries into docstrings.

    python tools/bibliography.py

Writes docs/bibliography.md, and in the lists of references of docstrings the key behind each paper that has none:
``arXiv 1607.05002 [zadeh2016geometric]``. Both are part of the repository; tests compare them.
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE, PAGE = ROOT / "docs" / "references.bib", ROOT / "docs" / "bibliography.md"
_ENTRY = re.compile(r"^@(\w+)\{([\w-]+),\n(.*?)\}\n", flags=re.S | re.M)
_FIELD = re.compile(r"(\w+) = \{([^{}]*)\}")
_REFERENCES = re.compile(
    r"(?<=\n)(?P<indent> *)References\n(?P=indent)-{10}\n(?P<body>.*?)(?=\n\s*\n|\s*\"{3})", flags=re.S
)
_PAPER = re.compile(r"arXiv[:\s]+(\d{4}\.\d{4,5})|(?<!\*)\*([^*]{12,}?)\*")
_WIDTH = 120  # of a line of code
_HEAD = """# Bibliography

What the methods of this library come from. The same entries, to be cited, are [one BibTeX file](references.bib), with
the keys that stand here: docstrings cite by them. Pages name a paper by its number or its title; on the site all three
lead to its entry.

"""


def entries(text: str) -> dict[str, dict[str, str]]:
    """Fields of each entry, by its key."""
    found = {key: dict(_FIELD.findall(fields)) for _, key, fields in _ENTRY.findall(text)}
    if len(found) != len(re.findall(r"^@", text, flags=re.M)):
        raise SystemExit("references.bib has an entry twice, or one that is not read")
    return found


def line(key: str, entry: dict[str, str]) -> str:
    """An entry as an item of the list."""
    names = entry["author"].split(" and ")
    people = ", ".join(name.partition(",")[0] for name in names if name != "others")
    people += " et al." if "others" in names else ""
    place = " ".join(entry[field] for field in ("booktitle", "journal", "volume") if field in entry)
    paper = entry.get("eprint")
    link = f" [arXiv {paper}](https://arxiv.org/abs/{paper})." if paper else ""
    told = f"{people} ({entry['year']}). *{entry['title']}*.{f' {place}.' if place else ''}{link} `{key}`"
    return f'- <span id="{key}"></span>{told}\n'


def plain(title: str) -> str:
    """A title as it is looked up: without case, marks and white space."""
    return re.sub(r"\W+", " ", title.lower()).strip()


def key_of(cited: str, known: dict[str, dict[str, str]]) -> str | None:
    """The key of what is cited by it, an arXiv number, a title or the beginning of one; None for what is none."""
    if cited in known:
        return cited
    wanted = plain(cited)
    for key, entry in known.items():
        if cited == entry.get("eprint") or f"{plain(entry['title'])} ".startswith(f"{wanted} "):
            return key
    return None


def references(code: str) -> list[str]:
    """The lists of references in the docstrings of a module."""
    return [found["body"] for found in _REFERENCES.finditer(code)]


def keyed(code: str, known: dict[str, dict[str, str]]) -> str:
    """The code of a module with a key behind each paper in its lists of references, behind its number if it has one."""

    def written(found: re.Match[str]) -> str:
        body, last = found["body"], {}
        for paper in _PAPER.finditer(body):
            key = key_of(paper[1] or re.sub(r"\s+", " ", paper[2]), known)
            if key is not None and f"[{key}]" not in body:
                last[key] = paper.end()
        for key, end in sorted(last.items(), key=lambda item: -item[1]):
            body = f"{body[:end]} [{key}]{body[end:]}"
        if max(map(len, body.splitlines())) > _WIDTH:
            hang = found["indent"] + ("   " if body.lstrip().startswith(".. [") else "")
            body = textwrap.fill(
                " ".join(body.split()),
                _WIDTH,
                initial_indent=found["indent"],
                subsequent_indent=hang,
                break_long_words=False,
                break_on_hyphens=False,
            )
        return found[0][: found.start("body") - found.start()] + body

    return _REFERENCES.sub(written, code)


def page() -> str:
    """The page, by first author and year."""
    found = entries(SOURCE.read_text(encoding="utf-8"))
    return _HEAD + "".join(line(key, found[key]) for key in sorted(found, key=lambda key: (found[key]["author"], key)))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    listed = entries(SOURCE.read_text(encoding="utf-8"))
    for module in sorted((ROOT / "src").rglob("*.py")):
        code = module.read_text(encoding="utf-8")
        if (new := keyed(code, listed)) != code:
            module.write_text(new, encoding="utf-8")
