"""Run every script of examples/ and write the gallery: a page for each with its figure, output and code, its notebook,
and an index.

    python tools/gallery.py [FOLDER]

Writes docs/gallery/ by default, which `make docs` does before it builds the site. An example that fails, or makes no
figure, ends it with exit code 1; so does a page that is larger than 2 MB with its figures. Examples run one after the
other, with one thread each, in a folder that is thrown away.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
LIMIT = 2_000_000  # bytes of a page with its figures
SECTIONS = {
    "Certificates and attacks": (
        "certified_regions",
        "sandwich_curve",
        "closest_adversarial_points",
        "counterfactual",
        "certified_pipeline",
        "own_attack",
    ),
    "Learning a metric": (
        "adversarial_margin",
        "perturbation_loss",
        "adversarial_pairs",
        "metric_in_clustering",
        "from_metric_learn",
        "own_learner",
        "rows_by_dask",
    ),
    "Verification and embedding models": (
        "verification_det",
        "robust_embeddings",
        "robust_omniglot",
        "robustness_score",
        "own_model",
        "bring_your_own",
        "own_defense",
    ),
}


@dataclass(frozen=True)
class Example:
    """A script, what its docstring says, and what it printed."""

    name: str
    title: str
    text: str
    code: str
    output: str
    seconds: float


def told(script: Path) -> tuple[str, str, str]:
    """Title and text of the docstring, and the code below it."""
    source = script.read_text(encoding="utf-8")
    tree = ast.parse(source)
    title, _, text = (ast.get_docstring(tree) or "").partition("\n")
    if not text.strip():
        raise SystemExit(f"{script.name}: a docstring with a title and an explanation is missing")
    paragraphs = [part for part in text.strip().split("\n\n") if not part.lstrip().startswith(("Run:", "python "))]
    code = "\n".join(source.splitlines()[tree.body[0].end_lineno :]).strip()
    return title.rstrip("."), "\n\n".join(paragraphs), code


def run(script: Path, folder: Path) -> Example:
    """Run an example, with its figure written into a folder."""
    figure = folder / f"{script.stem}.png"
    environment = {"MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"} | os.environ
    start = os.times()
    with tempfile.TemporaryDirectory() as desk:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", str(script), str(figure.resolve())],
            capture_output=True, text=True, env=environment, cwd=desk,
        )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{script.name} failed:\n{done.stderr}")
    if not figure.exists() or not figure.read_bytes().startswith(b"\x89PNG"):
        raise SystemExit(f"{script.name} made no figure")
    output = "\n".join(line for line in done.stdout.splitlines() if str(figure) not in line)
    used = os.times().children_user - start.children_user  # on a busy machine the clock says little
    return Example(script.stem, *told(script), output, used)


def page(example: Example) -> str:
    """The page of one example."""
    # Roles and double backticks of docstrings are those of reStructuredText: the site's are simpler.
    text = example.text.replace("``", "`").replace(":func:", "").replace(":class:", "")
    printed = f"```text\n{example.output}\n```\n\n" if example.output.strip() else ""
    return (
        f"# {example.title}\n\n{text}\n\n![Figure of {example.name}.py]({example.name}.png)\n\n{printed}"
        f"`examples/{example.name}.py`, {example.seconds:.0f} s of one core when this page was made:\n\n"
        f"```python\n{example.code}\n```\n\n[As a notebook]({example.name}.ipynb)\n"
    )


def notebook(example: Example) -> str:
    """The example as a notebook: a cell for each paragraph of its code, and the figure shown instead of written."""
    written = re.compile(r"^(import sys|path = sys\.argv.*|(axes\.)?figure\.savefig.*)\n?", flags=re.MULTILINE)
    paragraphs = re.split(r"\n{2,}(?=\S)", written.sub("", example.code).strip())
    text = {"cell_type": "markdown", "id": "text", "metadata": {}, "source": f"# {example.title}\n\n{example.text}"}
    cells = [
        {"cell_type": "code", "id": f"cell-{i}", "metadata": {}, "execution_count": None, "outputs": [], "source": part}
        for i, part in enumerate([*paragraphs, "axes.figure" if "axes.figure" in example.code else "figure"])
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return json.dumps({"cells": [text, *cells], "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}, indent=1)


def index(examples: dict[str, Example]) -> str:
    """The page with all figures."""
    parts = ["# Gallery\n\nEvery figure was made by the script below it when this site was built.\n"]
    for section, names in SECTIONS.items():
        parts.append(f"\n## {section}\n")
        for name in names:
            title = examples[name].title
            parts.append(f"\n### [{title}]({name}.md)\n\n[![{title}]({name}.png)]({name}.md)\n")
    return "".join(parts)


def main(folder: Path) -> None:
    """Make the gallery in a folder."""
    scripts = {script.stem: script for script in sorted(EXAMPLES.glob("*.py"))}
    listed = [name for names in SECTIONS.values() for name in names]
    if sorted(listed) != sorted(scripts):
        raise SystemExit(f"SECTIONS and examples/ differ: {sorted(set(listed) ^ set(scripts))}")
    folder.mkdir(parents=True, exist_ok=True)
    examples = {}
    for name, script in scripts.items():
        examples[name] = run(script, folder)
        (folder / f"{name}.md").write_text(page(examples[name]), encoding="utf-8")
        (folder / f"{name}.ipynb").write_text(notebook(examples[name]), encoding="utf-8")
        print(f"{name}: {examples[name].seconds:.1f} s", flush=True)
    (folder / "index.md").write_text(index(examples), encoding="utf-8")
    sizes = {name: (folder / f"{name}.png").stat().st_size for name in examples}
    for name, size in [*sizes.items(), ("index", sum(sizes.values()))]:
        size += (folder / f"{name}.md").stat().st_size
        if size > LIMIT:
            raise SystemExit(f"the page of {name} has {size:,} bytes with its figures, more than {LIMIT:,}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "gallery")
