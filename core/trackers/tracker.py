"""What a tracker is: one of its runs, opened, told, and closed. The modules named after the packages make them."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, cast

from core.contract.config import Config
from core.contract.runs import RunFolder

Figure = float | int | str
Outcome = Literal["finished", "stopped", "failed"]

CLOSING_SECONDS: dict[Outcome, float] = {"finished": 20.0, "failed": 20.0, "stopped": 2.0}
"""What a tracker has at the end of a run to send off what it still has; who stops a run wants it stopped."""


@dataclass(frozen=True)
class TrackedRun:
    """A run, or a member of one, as a tracker shows it."""

    folder: str
    grouped: bool
    """Whether it is a cross-validation or a sweep, or a member of one: they are shown together."""
    first_step: int
    """The first optimizer step that is told from now on."""
    resumed: bool
    """Whether an engine before this one has told of it."""

    @property
    def parts(self) -> list[str]:
        """The run's id, and the name of the member where it is one."""
        folder = RunFolder(Path(self.folder))
        return [folder.root.parents[1].name, folder.root.name] if folder.is_member else [folder.run_id]

    @property
    def id(self) -> str:
        """Its name among all runs of a project."""
        return "-".join(self.parts)

    @property
    def group(self) -> str | None:
        """What it is shown together with."""
        return self.parts[0] if self.grouped else None

    def config(self) -> Config:
        """Its settings."""
        return RunFolder(Path(self.folder)).read_config()


class Tracker(Protocol):
    """One run in a tracker. Any of these may raise what its package raises, and take as long as that does."""

    def scalars(self, step: int, figures: Mapping[str, float]) -> None:
        """Points of curves, at an optimizer step."""

    def summary(self, figures: Mapping[str, Figure]) -> None:
        """What the run came to; later figures of a name replace earlier ones."""

    def close(self, outcome: Outcome) -> None:
        """The run is over: everything is written, or sent, when this returns."""


class Package(Protocol):
    """A module of `core.trackers` that is named after the package it talks to."""

    REMEDY: str
    """What to do where it fails."""
    FORGETS: bool
    """Whether it forgets steps that a resumed run tells again; else they are kept from it."""

    def open_run(self, run: TrackedRun) -> Tracker:
        """Begin, or go on with, a run in the tracker."""


def package(name: str) -> Package:
    """The module for a tracker; the package itself is imported when a run is opened."""
    return cast(Package, importlib.import_module(f"core.trackers.{name}"))
