"""Following one run: each `poll` reads what is new and gives the scene that screens show.

It runs in a worker thread and touches no widget; a test calls it directly.
"""

from __future__ import annotations

import contextlib
import gc
import time
from dataclasses import dataclass, replace
from pathlib import Path

from core.contract.config import Config
from core.contract.errors import SofttuneError
from core.contract.runs import RunFolder
from tui.engine import Condition, RunLink
from tui.problems.files import ProblemFiles, newest_evaluation, read_problem_files
from tui.run_view import RunView, advance

CONDITION_SECONDS = 1.0
"""How often the process is looked at, and files other than the events."""

SHOW_SECONDS = 0.8
"""A log that takes longer to read is shown in between: drawing it after every part would take as long again."""


@dataclass(frozen=True)
class Scene:
    """All that a screen shows of a run; without a run, all of it is empty."""

    run_id: str = ""
    view: RunView = RunView()
    condition: Condition | None = None
    files: ProblemFiles = ProblemFiles()
    last_words: str = ""
    """The end of engine.log, where an engine died."""
    unreadable: int = 0
    fault: str = ""
    """Why the events cannot be read."""
    config: Config | None = None
    """The run's settings, where they can be read."""
    has_last: bool = False
    """Whether there is a checkpoint that training can go on from."""
    folds: int | None = None
    """Of a cross-validation."""

    @property
    def is_member(self) -> bool:
        """Whether it is part of another run, with which it is paused, stopped and gone on with."""
        return "/" in self.run_id

    @property
    def resumable(self) -> bool:
        """Whether the run has ended before its time; one without a checkpoint is begun again."""
        if self.condition is None or self.condition.active or self.is_member:
            return False
        return (self.view.outcome or self.condition.state) in ("stopped", "failed", "crashed")

    @property
    def crashed(self) -> bool:
        """Whether the engine died without having said how the run ended."""
        return self.condition is not None and self.condition.state == "crashed" and not self.view.outcome

    @property
    def active(self) -> bool:
        """Whether an engine is at work on this run."""
        return self.condition is not None and self.condition.active and not self.view.outcome


class Follower:
    """Keeps the scene of one run up to date."""

    def __init__(self, link: RunLink) -> None:
        self.link = link
        self.scene = Scene(run_id=link.run_id)
        self._view = RunView()
        self._looked_at = 0.0
        self._stamp: tuple[object, ...] = ()
        self._asked_config = False

    def poll(self) -> Scene:
        """The scene by now; the same object when nothing has changed."""
        gc.disable()  # a long log makes very many objects that all stay, and looking through them takes half the time
        try:
            return self._poll()
        finally:
            gc.enable()

    def _poll(self) -> Scene:
        now = time.monotonic()
        look = now - self._looked_at >= CONDITION_SECONDS
        # The process is judged before the events are read: an engine that ends in between has then said all it will.
        condition = self.link.condition() if look or self.scene.condition is None else self.scene.condition
        before, scene = self._view, self._with_events(self.scene)
        if condition != scene.condition:
            words = self.link.last_words() if condition.state == "crashed" else ""
            scene = replace(scene, condition=condition, last_words=words)
        if self._view is not before or condition != self.scene.condition:
            scene = replace(scene, view=_told_by(condition, self._view))
        if look:
            self._looked_at = now
            scene = self._with_settings(self._with_files(scene))
        self.scene = scene
        return scene

    def _with_events(self, scene: Scene) -> Scene:
        until = time.monotonic() + SHOW_SECONDS
        try:
            while events := self.link.read():
                self._view = advance(self._view, events)
                if not self.link.behind or time.monotonic() > until:
                    break
        except SofttuneError as error:
            return self.faulty(str(error))
        if self.link.unreadable == scene.unreadable and not scene.fault:
            return scene
        return replace(scene, unreadable=self.link.unreadable, fault="")

    def faulty(self, fault: str) -> Scene:
        """The last scene with a fault; the same object when it has that fault already."""
        if fault != self.scene.fault:
            self.scene = replace(self.scene, fault=fault)
        return self.scene

    def _with_files(self, scene: Scene) -> Scene:
        # The run's own evaluation: another checkpoint may have been scored by hand since.
        checkpoint = scene.view.score.checkpoint if scene.view.score else ""
        stamp = (checkpoint, *_stamp(self.link.folder, checkpoint, split_known=scene.files.split is not None))
        if stamp == self._stamp:
            return scene
        self._stamp = stamp
        return replace(scene, files=read_problem_files(self.link.folder, checkpoint))

    def _with_settings(self, scene: Scene) -> Scene:
        has_last = (Path(self.link.folder.checkpoints) / "last.pt").is_file()
        config, folds = scene.config, scene.folds
        if config is None and not self._asked_config:
            self._asked_config = True  # once: it does not change, and one that is broken now stays so
            with contextlib.suppress(SofttuneError):
                config = self.link.folder.read_config()
            with contextlib.suppress(OSError, ValueError):
                folds = self.link.folder.read_record().folds
        if (has_last, config, folds) == (scene.has_last, scene.config, scene.folds):
            return scene
        return replace(scene, has_last=has_last, config=config, folds=folds)


def _told_by(condition: Condition, view: RunView) -> RunView:
    """The view without what an earlier engine told of itself, where another one has the run now, or had it and died."""
    another = condition.engine not in (None, view.engine)
    if another and (condition.state == "queued" or view.outcome and (condition.active or condition.state == "crashed")):
        return replace(view, outcome="", phase="queued", paused=False, waits_for="")
    return view


def _stamp(folder: RunFolder, checkpoint: str, split_known: bool) -> tuple[float, ...]:
    """When the files that the Problems screen reads were last written; run.json changes all the time."""
    files = [Path(folder.problems_file), newest_evaluation(folder, checkpoint),
             None if split_known else Path(folder.record_file)]
    return tuple(_written(path) for path in files)


def _written(path: Path | None) -> float:
    try:
        return path.stat().st_mtime if path else 0.0
    except OSError:
        return 0.0
