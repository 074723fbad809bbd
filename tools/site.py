"""What the site is made of beside docs/: mkdocs calls these hooks while it builds.

Docstrings are reStructuredText in their roles (:class:`…`), which Markdown does not know: the roles are taken off. The
changelog stands beside the code, and the picture of the house is drawn of the imports: both are pages of the site.
"""

from __future__ import annotations

import re
import runpy
from functools import cache
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.utils import get_relative_url

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 2_000_000  # bytes
ROLE = re.compile(r":(?:class|func|meth|mod|attr|obj|exc|data):(?=<code|`)")


CITED = re.compile(
    r"<(a|code|pre)\b.*?</\1>|\[(?P<key>[a-z]+\d{4}[a-z0-9]+)\]"
    r"|arXiv (?P<number>\d{4}\.\d{4,5})|<em>(?P<title>[^<]{12,})</em>",
    flags=re.S,
)


def on_config(config: Any) -> Any:
    """List the pages of the gallery in its part of the navigation."""
    sections = runpy.run_path(str(ROOT / "tools" / "gallery.py"))["SECTIONS"]
    pages = [{section: [f"gallery/{name}.md" for name in names]} for section, names in sections.items()]
    entry = next(part for part in config["nav"] if "Gallery" in part)
    entry["Gallery"] = [{"All of it": entry["Gallery"]}, *pages]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the changelog, and the picture of the house."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    drawn = runpy.run_path(str(ROOT / "tools" / "house.py"))["drawing"]()
    files.append(File.generated(config, "changelog.md", content=changelog))
    files.append(File.generated(config, "images/house.svg", content=drawn))
    return files


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:
    """Take the roles off what docstrings became, and lead from papers to their entries in the bibliography."""
    if page.file.src_uri == "bibliography.md":
        return html
    there = get_relative_url("bibliography/", page.url)

    def led(match: re.Match[str]) -> str:
        cited = match["key"] or match["number"] or match["title"]
        key = cited and key_of(cited)
        return f'<a href="{there}#{key}">{match[0]}</a>' if key else match[0]

    return CITED.sub(led, ROLE.sub("", html))


@cache
def key_of(cited: str) -> str | None:
    """The key of a paper in the bibliography."""
    made = runpy.run_path(str(ROOT / "tools" / "bibliography.py"))
    found: str | None = made["key_of"](cited, made["entries"](made["SOURCE"].read_text(encoding="utf-8")))
    return found


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Refuse a page that is too large to be read on the way."""
    if len(output.encode()) > LIMIT:
        raise PluginError(f"{page.file.src_uri} has more than {LIMIT:,} bytes")
    return output
