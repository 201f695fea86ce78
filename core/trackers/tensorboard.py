"""TensorBoard: a folder of event files a run, those of a run's members inside its own."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.contract.config_file import render_config
from core.trackers.tracker import Figure, Outcome, TrackedRun

REMEDY = "check logging.directory: is it on a disk with room, that can be written to?"
FORGETS = True
FLUSH_SECONDS = 10
"""Points are on disk after this long."""


def open_run(run: TrackedRun) -> TensorBoardRun:
    """Begin a run in TensorBoard, or go on with it: what it showed from `first_step` on is told again."""
    return TensorBoardRun(run)


class TensorBoardRun:
    """A run in TensorBoard, by the package's own writer; torch's around it would bring torch into this process."""

    def __init__(self, run: TrackedRun) -> None:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        config = run.config()
        self._writer = EventFileWriter(str(Path(config.logging.directory, *run.parts)), flush_secs=FLUSH_SECONDS)
        if run.resumed:
            self._forget(run.first_step)
        self._text("config", f"```yaml\n{render_config(config)}\n```", run.first_step)
        self._figures: dict[str, Figure] = {}
        self._step = 0

    def scalars(self, step: int, figures: Mapping[str, float]) -> None:
        """Points; a loss that is no number is shown as such."""
        self._step = step
        self._write(step, [{"tag": name, "simple_value": value} for name, value in figures.items()])

    def summary(self, figures: Mapping[str, Figure]) -> None:
        """Kept for the end: TensorBoard has no place for what changes."""
        self._figures.update(figures)

    def close(self, outcome: Outcome) -> None:
        """Write the summary as a text, and everything to disk."""
        text = json.dumps({"outcome": outcome, **self._figures}, indent=1, ensure_ascii=False)
        self._text("summary", f"```json\n{text}\n```", self._step)
        self._writer.close()

    def _write(self, step: int, values: list[dict[str, Any]]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        summary = Summary(value=[Summary.Value(**value) for value in values])
        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=summary))

    def _text(self, tag: str, markdown: str, step: int) -> None:
        from tensorboard.plugins.text.metadata import create_summary_metadata
        from tensorboard.util.tensor_util import make_tensor_proto

        metadata = create_summary_metadata(display_name=tag, description="")
        self._write(step, [{"tag": tag, "metadata": metadata, "tensor": make_tensor_proto([markdown.encode()])}])

    def _forget(self, step: int) -> None:
        """Have readers leave out what is there from this step on, as a restarted writer of TensorBoard's does."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        restart = SessionLog(status=SessionLog.START)
        self._writer.add_event(Event(wall_time=time.time(), step=step, session_log=restart))
