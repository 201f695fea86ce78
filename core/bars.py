"""rich's bars for a terminal that may not keep up, or close."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.progress import Progress, ProgressColumn


class PatientBars(Progress):
    """Bars that vanish at the end, and are not drawn anew before the terminal has taken what it got already.

    Args:
        waiting: how much it has not taken yet.
    """

    def __init__(self, *columns: ProgressColumn, console: Console, waiting: Callable[[], int]) -> None:
        super().__init__(*columns, console=console, transient=True)
        self.live = _PatientLive(
            waiting, console=console, refresh_per_second=10, transient=True, get_renderable=self.get_renderable
        )


class _PatientLive(Live):
    def __init__(self, waiting: Callable[[], int], **options: Any) -> None:
        super().__init__(**options)
        self._waiting = waiting

    def refresh(self) -> None:
        """Also called by a thread of rich's, where an error would reach nobody; the next event's show finds it."""
        if not (self.is_started and self._waiting()):
            with contextlib.suppress(OSError):
                super().refresh()
