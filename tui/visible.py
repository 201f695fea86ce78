"""Text that a model or a program wrote, made safe to show: nothing in it can move the cursor or hide.

Markup is not handled here: such text is only ever shown as plain `Content`, which interprets none.
"""

from __future__ import annotations

import unicodedata

TAB_SIZE = 4
_CONTROL_PICTURES = 0x2400
_INVISIBLE = frozenset({"Cf", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories without a glyph: format (bidi overrides, zero width), private, unassigned, separators."""


def visible(text: str) -> str:
    """The text with every character that a terminal would act on, or not show, replaced by a sign for it.

    Newlines stay and tabs become spaces; ESC becomes "␛", a right-to-left override "‹U+202E›".
    """
    if text.isascii() and text.replace("\n", "").isprintable():
        return text
    return "".join(_sign(char) for char in text.expandtabs(TAB_SIZE))


def visible_line(text: str) -> str:
    """The same on one line: line ends become "␊"."""
    return visible(text).replace("\n", "␊")


def _sign(char: str) -> str:
    code = ord(char)
    if char == "\n" or 0x20 <= code < 0x7F:
        return char
    if code < 0x20:
        return chr(_CONTROL_PICTURES + code)
    if code == 0x7F:
        return "␡"
    if 0xD800 <= code <= 0xDFFF:  # half of a pair: it has no UTF-8 form, so a terminal could not be sent it
        return f"‹U+{code:04X}›"
    category = unicodedata.category(char)
    return f"‹U+{code:04X}›" if category == "Cc" or category in _INVISIBLE else char
