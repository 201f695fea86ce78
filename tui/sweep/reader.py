"""Finding sweeps in the folder of runs, and following one. It runs in a worker thread and touches no widget."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from core.contract.config import Config
from core.contract.errors import SofttuneError
from core.contract.runs import RunFolder
from core.contract.sweep_plan import SweepPlan, read_sweep
from tui.engine import Condition, RunLink
from tui.sweep.view import SweepView, advance


@dataclass(frozen=True)
class ShownSweep:
    """A sweep by now, and which others there are; without any, all of it is empty."""

    run_id: str = ""
    view: SweepView = SweepView()
    condition: Condition | None = None
    plan: SweepPlan | None = None
    """Ranges and variants, where the sweep's own file can be read."""
    config: Config | None = None
    """The settings that it varies."""
    sweeps: tuple[str, ...] = ()
    """Run ids, newest first."""
    fault: str = ""
    """Why there is nothing to see, or not all of it."""

    @property
    def active(self) -> bool:
        """Whether an engine is at work on it."""
        return self.condition is not None and self.condition.active


class SweepReader:
    """Reads the newest sweep, or the one that is wanted, again and again."""

    def __init__(self, runs: Path) -> None:
        self._runs = runs
        self._kinds: dict[str, bool] = {}
        """Whether a run is a sweep, of those that could be read: that does not change."""
        self._link: RunLink | None = None
        self.last = ShownSweep()

    def read(self, wanted: str, else_one_of: tuple[str, ...] = ()) -> ShownSweep:
        """The sweep by now, the same object where nothing has changed; never raises.

        Args:
            wanted: the run id of a sweep; where there is none of that id, the newest one is shown.
            else_one_of: run ids that come before the newest one.
        """
        try:
            shown = self._read(wanted, else_one_of)
        except (OSError, SofttuneError) as error:
            shown = ShownSweep(fault=str(error))
        if shown != self.last:
            self.last = shown
        return self.last

    def _read(self, wanted: str, else_one_of: tuple[str, ...]) -> ShownSweep:
        sweeps = self._sweeps()
        run_id = next((one for one in (wanted, *else_one_of, *sweeps) if one in sweeps), "")
        if not run_id:
            return ShownSweep()
        if self._link is None or self._link.run_id != run_id:
            self._link, self.last = RunLink(RunFolder(self._runs / run_id)), ShownSweep()
        link, view, fault = self._link, self.last.view, ""
        condition = link.condition()  # before its last events: an engine that ends in between has then said all
        try:
            while events := link.read():
                view = advance(view, events)
                if not link.behind:
                    break
        except SofttuneError as error:
            fault = str(error)
        plan, config = self.last.plan, self.last.config
        if plan is None and Path(link.folder.sweep_file).is_file():
            with contextlib.suppress(SofttuneError):
                config = link.folder.read_config()
                plan = read_sweep(link.folder.sweep_file, config)
        return ShownSweep(run_id, view, condition, plan, config, sweeps, fault)

    def _sweeps(self) -> tuple[str, ...]:
        try:
            with os.scandir(self._runs) as entries:
                names = sorted((entry.name for entry in entries if not entry.name.startswith(".")), reverse=True)
        except FileNotFoundError:
            return ()
        for name in names:
            if name not in self._kinds:
                with contextlib.suppress(OSError, ValidationError):
                    self._kinds[name] = RunFolder(self._runs / name).read_record().kind == "sweep"
        return tuple(name for name in names if self._kinds.get(name))
