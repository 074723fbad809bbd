"""Write the page of the bibliography from docs/references.bib.

    python tools/bibliography.py

Writes docs/bibliography.md, which is part of the repository; a test compares the two.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE, PAGE = ROOT / "docs" / "references.bib", ROOT / "docs" / "bibliography.md"
_ENTRY = re.compile(r"^@(\w+)\{([\w-]+),\n(.*?)\}\n", flags=re.S | re.M)
_FIELD = re.compile(r"(\w+) = \{([^{}]*)\}")
_HEAD = """# Bibliography

What the methods of this library come from. The same entries, to be cited, are [one BibTeX file](references.bib), with
the keys that stand here. Docstrings and pages name a paper by its number or its title, and what of it they follow; on
the site both lead to its entry.

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
    """The key of what is cited by its arXiv number, its title, or the beginning of its title; None for what is none."""
    wanted = plain(cited)
    for key, entry in known.items():
        if cited == entry.get("eprint") or f"{plain(entry['title'])} ".startswith(f"{wanted} "):
            return key
    return None


def page() -> str:
    """The page, by first author and year."""
    found = entries(SOURCE.read_text(encoding="utf-8"))
    return _HEAD + "".join(line(key, found[key]) for key in sorted(found, key=lambda key: (found[key]["author"], key)))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
