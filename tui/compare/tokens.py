"""The virtual tokens of a checkpoint in words: norms, and the vocabulary tokens that each is nearest to. Pure."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence

from textual.content import Content

from core.contract.workbench import Neighbour, TokensInspected, VirtualToken
from tui.compare.settings import fitted
from tui.formatting import counted, figure
from tui.visible import visible_line

LONGEST_TOKEN = 16
"""Cells of a token in the table; the line below has more of the one under the cursor."""

LONGEST_DETAIL = 48
NEIGHBOUR = LONGEST_TOKEN + 6 + 2
_HEAD = 29


def quoted(token: str, longest: int = LONGEST_TOKEN) -> str:
    """A vocabulary token on one line, so that every space is seen: “␣return”, “␊␣␣␣␣”."""
    shown = visible_line(token.replace("\t", "␉"))
    spaced = "".join("␣" if char == " " else _space(char) for char in shown)
    return f"“{Content(spaced).truncate(longest - 2, ellipsis=True).plain}”"


def _space(char: str) -> str:
    """Spaces other than the common one look like it, or like nothing."""
    return f"‹U+{ord(char):04X}›" if unicodedata.category(char) == "Zs" else char


def summary(found: TokensInspected) -> Content:
    """How many there are, and their norms beside the vocabulary's."""
    norms = [token.norm for token in found.tokens]
    parts = [(counted(len(norms), "virtual tokens"), "bold")]
    if norms:
        parts.append((f"   norms {figure(min(norms))} to {figure(max(norms))}", ""))
    parts.append((f"   median norm of the vocabulary {figure(found.vocabulary_norm)}", "$text-muted"))
    return Content.assemble(" ", *parts)


def heading(width: int) -> Content:
    """The head of the table."""
    said = "nearest vocabulary tokens, with their cosines"
    head = f"   {'token':>5} {'norm':>8} {'× median':>8}   {said}"
    return Content.styled(head, "bold").truncate(width, ellipsis=True)


def token_line(number: int, token: VirtualToken, median: float, width: int, here: bool) -> Content:
    """Number, norm, norm as a multiple of the median, and as many neighbours as have room."""
    room = max(1, (width - _HEAD + 2) // NEIGHBOUR)
    return Content.assemble(
        (" ▸ " if here else "   ", "bold $text-accent"), f"{number + 1:>5}", f" {figure(token.norm):>8}",
        (f" {multiple(token.norm, median):>8}", "$text-muted"), "   ",
        *(_neighbour(one) for one in token.nearest[:room]),
    ).truncate(width, ellipsis=True)


def multiple(norm: float, median: float) -> str:
    """A norm in terms of the median norm: "1.22"; "–" where there is none."""
    if not math.isfinite(norm) or not math.isfinite(median) or median <= 0:
        return "–"
    return figure(norm / median, 2)


def _neighbour(one: Neighbour) -> Content:
    return Content.assemble(fitted(Content(quoted(one.token)), LONGEST_TOKEN), (f" {one.cosine:5.2f}  ", "$text-muted"))


def detail(number: int, token: VirtualToken, lines: int, width: int) -> Content:
    """All neighbours of one virtual token with their ids, in as few columns as the lines allow."""
    head = Content.assemble((f"virtual token {number + 1}", "bold"), ("  norm ", "$text-muted"), figure(token.norm))
    rows = max(1, lines - 1)
    room = max(1, width // max(1, math.ceil(len(token.nearest) / rows)))
    cells = [_full(one, room) for one in token.nearest]
    return Content("\n").join([head, *(Content.assemble(*cells[row::rows]) for row in range(min(rows, len(cells))))])


def _full(one: Neighbour, room: int) -> Content:
    """Cosine, token and id, padded to so many cells; the token is cut where they are too few."""
    cosine, token_id = f"{figure(one.cosine):>8}", f"  token {one.token_id}"
    token = quoted(one.token, max(4, min(LONGEST_DETAIL, room - len(cosine) - len(token_id) - 3)))
    return fitted(Content.assemble((cosine, "bold"), f"  {token}", (token_id, "$text-muted")), room)


def tokens_text(tokens: Sequence[VirtualToken], median: float) -> str:
    """The table as tab-separated text: number, norm, × median, then token and cosine of each neighbour."""
    rows = ["virtual token\tnorm\t× median\tnearest tokens and cosines"]
    for number, token in enumerate(tokens, 1):
        near = [text for one in token.nearest for text in (quoted(one.token, LONGEST_DETAIL), f"{one.cosine:.4f}")]
        rows.append("\t".join([str(number), f"{token.norm:.4f}", multiple(token.norm, median), *near]))
    return "\n".join(rows)
