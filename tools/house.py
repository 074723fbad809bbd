"""Draw the rooms of the source and the imports between them, as they are, as an SVG.

    python tools/house.py > house.svg

Rooms stand in the order of CONTRIBUTING.md; an arc leads from a room to each that it imports, as wide as many files do,
and upwards only, since imports go that way. The site builds the picture anew each time.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "certimetric"
HEIGHT, LEFT, BOX, WIDTH = 40, 60, 330, 860
ROW = re.compile(r"^\| `(\w+)` \| (.+?) \|$", flags=re.MULTILINE)


def rooms() -> dict[str, str]:
    """Each room and what CONTRIBUTING.md says that it holds, in their order."""
    return dict(ROW.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")))


def arrows(names: dict[str, str]) -> Counter[tuple[str, str]]:
    """Of how many files of a room another one is imported."""
    found: Counter[tuple[str, str]] = Counter()
    for name in names:
        for path in (SOURCE / name).rglob("*.py"):
            nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            modules = (node.module or "" for node in nodes if isinstance(node, ast.ImportFrom))
            inside = {module.split(".")[1] for module in modules if module.startswith("certimetric.")}
            found.update((name, other) for other in inside & set(names) if other != name)
    return found


def drawing() -> str:
    """The picture, in the colours of the page around it."""
    names = rooms()
    place = {name: (i + 0.5) * HEIGHT + 10 for i, name in enumerate(names)}
    files = {name: len(list((SOURCE / name).rglob("*.py"))) for name in names}
    boxes = (
        f'<g><rect x="{LEFT}" y="{y - 15}" width="{BOX}" height="30" rx="5"/>'
        f'<text x="{LEFT + 12}" y="{y + 5}">{name}</text>'
        f'<text x="{LEFT + BOX - 12}" y="{y + 5}" class="files" text-anchor="end">{files[name]} files</text></g>'
        for name, y in place.items()
    )
    found = arrows(names)
    arcs = (
        f'<path d="M{LEFT + BOX} {place[a]} C{LEFT + BOX + reach} {place[a]} {LEFT + BOX + reach} {place[b]} '
        f'{LEFT + BOX} {place[b]}" stroke-width="{min(0.6 + n / 6, 5):.1f}">'
        f"<title>{a} imports {b}: {n} files</title></path>"
        for (a, b), n in sorted(found.items())
        for reach in [40 + 0.7 * abs(place[a] - place[b])]
    )
    style = (
        "text{font:14px sans-serif;fill:#263238}.files{font-size:12px;fill:#607d8b}rect{fill:#eceff1;stroke:#90a4ae}"
        "path{fill:none;stroke:#3949ab;stroke-opacity:.35}path:hover{stroke:#d84315;stroke-opacity:1}"
    )
    height = HEIGHT * len(names) + 20
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">'
    title = f"<title>{len(names)} rooms and the imports between them</title>"
    ground = f'<path d="M0 0H{WIDTH}V{height}H0Z" style="fill:#fff;stroke:none"/>'
    return "\n".join(chain([head, f"<style>{style}</style>", title, ground], arcs, boxes, ["</svg>"]))


if __name__ == "__main__":
    print(drawing())
