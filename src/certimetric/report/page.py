"""The frame that all reports share: one HTML page with its style, its script and its document."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment


def render_page(template: str, document: Mapping[str, Any], view: Mapping[str, Any], title: str) -> str:
    """A template of this package as a whole page, with the document embedded as JSON.

    Raises
    ------
    ValueError
        If the document holds NaN or an infinite float.
    """
    script, page = source("templates/page.js"), environment().get_template(template)
    return page.render(
        {
            **view,
            "title": title,
            "style": trusted(source("templates/style.css")),
            "script": trusted(script),
            "script_digest": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            "embedded": trusted(_embedded(document)),
        }
    )


@cache
def environment() -> Environment:
    """The templates of this package; one for all pages, so that a template is compiled once."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader(__name__.rpartition(".")[0], ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["m"] = made.get_template("templates/macros.html.j2").module
    return made


def source(name: str) -> str:
    """The text of a file of this package."""
    env = environment()
    assert env.loader is not None
    return env.loader.get_source(env, name)[0]


def trusted(text: str) -> Any:
    """Text that this package made itself and that must not be escaped again."""
    from markupsafe import Markup

    return Markup(text)


def _embedded(document: Mapping[str, Any]) -> str:
    """The document as JSON that no name in it can end early: ``</script>`` has no ``<`` of its own."""
    try:
        text = json.dumps(document, allow_nan=False, separators=(",", ":"))
    except ValueError as error:
        raise ValueError(
            'document holds NaN or an infinite float; expected numbers, null or the string "inf"'
        ) from error
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def figure_view(figure: Any) -> dict[str, Any] | None:
    """A figure with its picture as part of the page."""
    return None if figure is None else {**vars(figure), "svg": trusted(figure.svg)}
