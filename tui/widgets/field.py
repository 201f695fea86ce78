"""Fields whose keys take effect in the order in which they were typed."""

from __future__ import annotations

from typing import Any

from textual import events
from textual.widgets import Input


class KeysInOrder:
    """Beside a Textual widget: obeys a key that is bound (backspace, enter, arrows) at once, as it does a letter.

    Textual looks for a binding only when a key has come all the way up to the app, while letters go in at once: of
    "backspace 2 enter", typed fast or sent over a slow line in one piece, the 2 would come first and be deleted. So
    would the keys that a form around it binds: of "down enter", the enter.
    """

    async def on_key(self: Any, event: events.Key) -> None:
        """Run what the key is bound to, here or further out, as the app would in a moment.

        A key that came in one piece with another, which has moved the focus meanwhile, goes where the focus is.
        """
        elsewhere = self.app.focused is not self
        if elsewhere:
            self.app.post_message(events.Key(event.key, event.character))
        if elsewhere or not event.is_printable and await self.app._check_bindings(event.key):
            event.stop()
            event.prevent_default()


class Field(KeysInOrder, Input):
    """A line of text."""
