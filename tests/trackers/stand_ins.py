"""As much of W&B and Trackio as is used, with the parameters that the real ones have; they note what they are told."""

from __future__ import annotations

from typing import Any

USED = {
    "wandb": {
        "init": {"project", "dir", "id", "name", "group", "config", "resume", "reinit", "save_code", "settings"},
        "Run.log": {"data", "step"}, "Run.finish": {"exit_code"},
    },
    "trackio": {
        "init": {"project", "name", "group", "config", "resume", "embed", "auto_log_gpu", "auto_log_cpu"},
        "Run.log": {"metrics", "step"}, "Run.finish": set(),
    },
}
"""Parameters that are used of each, by package."""


class WandbRun:
    """A run; its step is that of its newest row."""

    def __init__(self, step: int) -> None:
        self.step = step
        self.summary: dict[str, Any] = {}
        self.rows: list[tuple[int | None, dict[str, Any]]] = []
        self.exit_code: int | None = None

    def log(self, data: dict[str, Any], step: int | None = None) -> None:
        """A row; one before the newest is left out, as the real one does."""
        if step is not None and step >= self.step:
            self.step = step
            self.rows.append((step, data))

    def finish(self, exit_code: int | None = None) -> None:
        """The end."""
        self.exit_code = exit_code


class Wandb:
    """The module."""

    Settings = dict

    def __init__(self, step: int = 0) -> None:
        self.run = WandbRun(step)
        self.settings: dict[str, Any] = {}

    def init(self, **settings: Any) -> WandbRun:
        """A new run, or one that is gone on with."""
        assert settings.keys() <= USED["wandb"]["init"]
        self.settings = settings
        return self.run


class TrackioRun:
    """A run."""

    def __init__(self) -> None:
        self.rows: list[tuple[int | None, dict[str, Any]]] = []
        self.finished = False

    def log(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """Points."""
        self.rows.append((step, metrics))

    def finish(self) -> None:
        """The end."""
        self.finished = True


class Trackio:
    """The module; as the real one does, it ends the run that its context has as another begins."""

    def __init__(self) -> None:
        from contextvars import ContextVar

        self.present: ContextVar[TrackioRun | None] = ContextVar("present", default=None)
        self.settings: list[dict[str, Any]] = []

    def init(self, **settings: Any) -> TrackioRun:
        """A new run, or one that is gone on with."""
        assert settings.keys() <= USED["trackio"]["init"]
        before = self.present.get()
        if before:
            before.finish()
        run = TrackioRun()
        self.present.set(run)
        self.settings.append(settings)
        return run
