"""What the cosine map says in words: the pair under the cursor, and which virtual tokens are alike. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence

from textual.content import Content

from tui.formatting import figure
from tui.widgets.heatmap import Matrix, legend

NEAREST = 4


def transposed(matrix: Matrix) -> Matrix:
    """B against A."""
    return tuple(zip(*matrix, strict=True))


def is_map(matrix: Matrix) -> bool:
    """Whether every row has as many values."""
    return len({len(row) for row in matrix}) <= 1


def cursor_words(matrix: Matrix, cursor: tuple[int, int]) -> Content:
    """The pair under the cursor: "A 3 · B 7   cosine 0.831"."""
    row, column = cursor
    return Content.assemble(("A ", "bold"), f"{row + 1}", (" · B ", "bold"), f"{column + 1}",
                            ("   cosine ", "$text-muted"), (figure(matrix[row][column]), "bold"))


def cosine_words(matrix: Matrix, cursor: tuple[int, int], lines: int) -> Content:
    """The pair under the cursor, the tokens nearest to it on either side, and the map as a whole, in so many lines."""
    row, column = cursor
    down = [values[column] for values in matrix]
    parts = [
        cursor_words(matrix, cursor), legend(), Content(""),
        Content.styled(f"nearest in B to A {row + 1}", "$text-muted"), _nearest("B", matrix[row]),
        Content.styled(f"nearest in A to B {column + 1}", "$text-muted"), _nearest("A", down), Content(""),
        *_whole(matrix),
    ]
    return Content("\n").join(parts[:lines])


def _nearest(letter: str, values: Sequence[float]) -> Content:
    ranked = sorted(((value, number) for number, value in enumerate(values) if not math.isnan(value)),
                    key=lambda pair: -pair[0])
    return Content("   ").join(
        Content.assemble((f"{letter} {number + 1}", "bold"), f" {value:.2f}") for value, number in ranked[:NEAREST])


def _whole(matrix: Matrix) -> list[Content]:
    """The mean over tokens of the same number (where there are as many), and the pair that is most alike."""
    lines = []
    own = [matrix[i][i] for i in range(min(len(matrix), len(matrix[0])))]
    if len(matrix) == len(matrix[0]) and not any(map(math.isnan, own)):
        mean = sum(own) / len(own)
        lines.append(Content.assemble(("tokens of the same number, mean ", "$text-muted"), f"{mean:.3f}"))
    pairs = [(value, i, j) for i, row in enumerate(matrix) for j, value in enumerate(row) if not math.isnan(value)]
    if pairs:
        value, i, j = max(pairs)
        lines.append(Content.assemble(("most alike ", "$text-muted"), f"A {i + 1} and B {j + 1}, {value:.3f}"))
    return lines


def cosines_text(matrix: Matrix) -> str:
    """The map as tab-separated text, with numbered rows and columns."""
    head = "\t".join(["A \\ B", *(str(number + 1) for number in range(len(matrix[0]) if matrix else 0))])
    return "\n".join([head, *("\t".join([str(number + 1), *(f"{value:.4f}" for value in row)])
                              for number, row in enumerate(matrix))])
