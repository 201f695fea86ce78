"""Two solutions line by line: what only one of them has, told by signs, with white space made visible."""

from __future__ import annotations

from difflib import SequenceMatcher

from textual.content import Content

from tui.problems.code import Code, code_of
from tui.problems.page import Block, Blocks, CodeLine, Listing, Prose, note
from tui.problems.program import more_lines, shortened

ONLY_BEFORE, ONLY_AFTER = "−", "+"


def diff_blocks(before: str, after: str, names: tuple[str, str], first: int = 1) -> Blocks:
    """`after` against `before`, whole, with the lines of `after` numbered from `first`.

    Args:
        names: what the two are called: ("the canonical solution", "the completion").
    """
    old, more_old = shortened(before.rstrip("\n"))
    new, more_new = shortened(after.rstrip("\n"))
    if old == new and not more_old:
        return (note(f"{names[1]} and {names[0]} are the same, line by line"),)
    old_lines, new_lines = old.split("\n"), new.split("\n")
    old_code, new_code = code_of(_with_tabs(old)), code_of(_with_tabs(new))
    lines: list[CodeLine] = []
    for kind, i, i_end, j, j_end in SequenceMatcher(None, old_lines, new_lines, autojunk=False).get_opcodes():
        if kind == "equal":
            lines += [CodeLine(new_code, at, str(first + at)) for at in range(j, j_end)]
        else:
            lines += [_changed(old_code, at, "", ONLY_BEFORE, "bold $text-error") for at in range(i, i_end)]
            lines += [_changed(new_code, at, str(first + at), ONLY_AFTER, "bold $text-success")
                      for at in range(j, j_end)]
    said: list[Block] = [_legend(names)]
    if [line.split() for line in old_lines] == [line.split() for line in new_lines]:
        said.append(note("they differ in white space alone: · is a space, → a tab", "$text-warning italic"))
    return (*said, Listing(tuple(lines)), *more_lines(max(more_old, more_new)))


def _legend(names: tuple[str, str]) -> Prose:
    return Prose((Content.assemble(
        (ONLY_BEFORE, "bold $text-error"), (f" only in {names[0]}   ", "$text-muted"),
        (ONLY_AFTER, "bold $text-success"), (f" only in {names[1]}", "$text-muted"),
    ),))


def _changed(code: Code, at: int, number: str, sign: str, style: str) -> CodeLine:
    return CodeLine(code, at, number, sign, style, blanks=True)


def _with_tabs(text: str) -> str:
    """Tabs as arrows: a tab against four spaces is a difference that has to show. One character a line end, so that
    lines keep their numbers."""
    return text.replace("\r", "␍").replace("\t", "→   ")
