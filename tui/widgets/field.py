"""Fields whose keys take effect in the order in which they were typed."""

from __future__ import annotations

from typing import Any

from textual import events
from textual.widgets import Input


class KeysInOrder:
    """Beside a Textual widget: obeys a key that it binds (backspace, enter, arrows) at once, as it does a letter.

    Textual looks for a binding only when a key has come all the way up to the app, while letters go in at once: of
    "backspace 2 enter", typed fast or sent over a slow line in one piece, the 2 would come first and be deleted.
    """

    async def on_key(self: Any, event: events.Key) -> None:
        """Run the first own binding of the key, if there is one and it has something to do."""
        bindings = [] if event.is_printable else self._bindings.key_to_bindings.get(event.key, [])
        if bindings and await self.app.run_action(bindings[0].action, self):
            event.stop()
            event.prevent_default()


class Field(KeysInOrder, Input):
    """A line of text."""
