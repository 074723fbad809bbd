"""From a matplotlib figure to SVG that lives inside the page: its colours, its font, its width, no clash of names."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from certimetric.report.series import N_COLOURS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Colours that matplotlib writes into the file and that stand for the page's own; black would not be written at all.
INK, MUTED, GRID, SURFACE = "#020001", "#020002", "#020003", "#020004"
_PAGE = {INK: "currentColor", MUTED: "var(--muted)", GRID: "var(--grid)", SURFACE: "var(--surface)"}
_SERIES = {f"series-{i}": f"#0300{i:02x}" for i in range(1, N_COLOURS + 1)} | {"series-baseline": "#0300ff"}
_COLOURS = _PAGE | {hexadecimal: f"var(--{name})" for name, hexadecimal in _SERIES.items()}
_COLOUR = re.compile("|".join(_COLOURS))
_FONT = re.compile(r"font: (?:[a-z]+ )*([0-9.]+)px [^;]*")
_REFERENCE = re.compile(r"url\(#([^)]*)\)")
_LONG_FRACTION = re.compile(r"(\.\d\d)\d+")

_SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "certimetric",
    "font.size": 12,
    "axes.labelsize": 12,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
}


def colour_of(name: str) -> str:
    """The stand-in of a series colour (``series-1`` …, ``series-baseline``)."""
    return _SERIES[name]


@contextmanager
def drawing() -> Iterator[None]:
    """Draw with matplotlib's defaults and the settings of the page, whatever the user has set."""
    import matplotlib.style

    with warnings.catch_warnings(), matplotlib.style.context(["default", _SETTINGS]):
        # The browser draws the text with its own fonts; what is missing in matplotlib's does not matter.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def to_svg(figure: Figure, prefix: str, title: str, description: str) -> str:
    """The figure as an ``<svg>`` element to stand in the page.

    It is drawn inside `drawing`, with the stand-in colours of this module; a group with the gid ``series-3`` gets the
    class ``s3``. The prefix begins every id, so that clip paths of two figures in one page cannot be confused; title
    and description are for who cannot see the figure.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    root = ElementTree.fromstring(buffer.getvalue())
    parents = {child: parent for parent in root.iter() for child in parent}
    for element in list(root.iter()):
        element.tag = element.tag.rpartition("}")[2]
        if element.tag in ("style", "metadata"):  # matplotlib's style sheet would apply to the whole page
            parents[element].remove(element)
        if element.tag not in ("text", "tspan"):
            element.text = None
        element.tail = None
        _rewrite(element)
    _rename(root, prefix)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.attrib.update({"role": "img", "aria-labelledby": f"{prefix}-title {prefix}-desc"})
    for tag, text in (("desc", description), ("title", title)):
        element = ElementTree.Element(tag, id=f"{prefix}-{tag}")
        element.text = text
        root.insert(0, element)
    return ElementTree.tostring(root, encoding="unicode")


def _rewrite(element: ElementTree.Element) -> None:
    for name, value in list(element.attrib.items()):
        if "}" in name:  # xlink:href is plain href today
            del element.attrib[name]
            name = name.rpartition("}")[2]
            element.set(name, value)
        if name == "style":
            value = _COLOUR.sub(lambda found: _COLOURS[found[0]], value)
            element.set(name, _FONT.sub(r"font-size: \1px", value))
        elif name in ("d", "points"):
            element.set(name, _LONG_FRACTION.sub(r"\1", " ".join(value.split())))
    if (gid := element.get("id", "")).startswith("series-"):
        element.set("class", f"s{gid.removeprefix('series-')}")


def _rename(root: ElementTree.Element, prefix: str) -> None:
    """Drop ids that nothing refers to, number the others behind the prefix."""
    used: set[str] = set()
    for element in root.iter():
        for name, value in element.attrib.items():
            used.update([value[1:]] if name == "href" else _REFERENCE.findall(value))
    renamed: dict[str, str] = {}
    for element in root.iter():
        if (old := element.attrib.pop("id", None)) in used and old is not None:
            renamed[old] = f"{prefix}-{len(renamed) + 1}"
            element.set("id", renamed[old])
    for element in root.iter():
        for name, value in element.attrib.items():
            if name == "href":
                element.set(name, "#" + renamed[value[1:]])
            elif "url(#" in value:
                element.set(name, _REFERENCE.sub(lambda m: f"url(#{renamed[m[1]]})", value))
