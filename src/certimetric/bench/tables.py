"""A table of results, as Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "–": "--", "−": "$-$", "×": r"$\times$",
    "≤": r"$\leq$", "∞": r"$\infty$", "ε": r"$\varepsilon$", "ℓ₂": r"$\ell_2$", "₂": r"$_2$", "χ²": r"$\chi^2$",
}  # fmt: skip


def best_places(texts: Sequence[str], best: str) -> list[int]:
    """Where the best of some texts stands; nowhere if all are the same, for then none is better than another.

    Examples
    --------
    >>> best_places(["1.0", "2.0", "1.0"], "1.0"), best_places(["1.0", "1.0"], "1.0")
    ([0, 2], [])
    """
    return [place for place, text in enumerate(texts) if text == best] if len(set(texts)) > 1 else []


@dataclass(frozen=True)
class Table:
    """Rows of text, for people; the raw figures are in ``results.csv``.

    ``best`` are row and column of what is to be marked; its files have its ``name``.
    """

    name: str
    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    best: Sequence[tuple[int, int]] = ()
    note: str = ""

    def to_markdown(self) -> str:
        """A heading, a table with its columns in line, and the note."""
        marked = set(self.best)
        rows = [
            [f"**{text}**" if (i, j) in marked else text for j, text in enumerate(row)]
            for i, row in enumerate(_escaped(self.rows))
        ]
        header = _escaped([self.header])[0]
        widths = [max(3, *(len(row[j]) for row in [header, *rows])) for j in range(len(header))]

        def line(cells: Sequence[str]) -> str:
            return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths)) + " |"

        rule = line(["-" * width for width in widths])
        note = f"\n{self.note}\n" if self.note else ""
        return f"### {self.title}\n\n" + "\n".join([line(header), rule, *map(line, rows)]) + f"\n{note}"

    def to_csv(self) -> str:
        """Header and rows, nothing marked."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(self.header)
        writer.writerows(self.rows)
        return out.getvalue()

    def to_latex(self) -> str:
        """A ``table`` environment that needs the package booktabs."""
        marked = set(self.best)
        lines = [
            " & ".join(rf"\textbf{{{latex(text)}}}" if (i, j) in marked else latex(text) for j, text in enumerate(row))
            + r" \\"
            for i, row in enumerate(self.rows)
        ]
        columns = "l" + "r" * (len(self.header) - 1)
        note = [rf"\par\smallskip {latex(self.note)}"] if self.note else []
        return "\n".join(
            [
                r"\begin{table}",
                r"\centering",
                rf"\caption{{{latex(self.title)}}}",
                rf"\begin{{tabular}}{{{columns}}}",
                r"\toprule",
                " & ".join(map(latex, self.header)) + r" \\",
                r"\midrule",
                *lines,
                r"\bottomrule",
                r"\end{tabular}",
                *note,
                r"\end{table}",
                "",
            ]
        )


def latex(text: str) -> str:
    """Text with what LaTeX would take for its own escaped.

    Examples
    --------
    >>> latex("breast_cancer 3.5 ± 0.1 %")
    'breast\\\\_cancer 3.5 $\\\\pm$ 0.1 \\\\%'
    """
    for sign in ("ℓ₂", "χ²"):
        if sign in text:
            return _LATEX[sign].join(latex(part) for part in text.split(sign))
    return "".join(_LATEX.get(character, character) for character in text)


def _escaped(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    return [[text.replace("|", r"\|").replace("\n", " ") for text in row] for row in rows]
