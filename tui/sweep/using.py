"""Writing the settings of a trial into the file that runs start from, and taking that back. For worker threads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from core.contract.config_file import render_config
from core.contract.errors import SofttuneError
from core.contract.sweep_plan import changed
from tui.config.disk import read_file, write_file
from tui.config.fields import same, shown
from tui.config.form import Values, open_form
from tui.sweep.reader import ShownSweep
from tui.sweep.view import Trial
from tui.visible import visible_line

OF_THE_MACHINE = frozenset({"model", "hardware"})
"""Sections that stay as the file has them, unless the sweep has varied them."""
LISTED = 10
"""Changes that are told one by one."""


@dataclass(frozen=True)
class Use:
    """What writing a trial's settings does to the file; `before` is None where there is none yet."""

    path: Path
    before: str | None
    after: str
    changes: tuple[tuple[str, str, str], ...]
    """(setting, value in the file or its default, the trial's)."""
    left: tuple[str, ...] = ()
    """Settings in which the sweep differs from the file, and which stay as they are there."""

    @property
    def words(self) -> str:
        """What will change, in full."""
        lines = [f"{name}  {old} → {new}" for name, old, new in self.changes[:LISTED]]
        if len(self.changes) > LISTED:
            lines.append(f"… {len(self.changes) - LISTED} more")
        kept = "Its comments and its order stay." if self.before is not None else \
            "There is no such file yet: it gets every setting, with its help; these are not at their defaults."
        parts = ["\n".join(lines), f"{kept} z takes it back."]
        if self.left:
            parts.append(f"The sweep ran with another {', '.join(self.left)}, which it did not vary: the file keeps "
                         "its own.")
        return "\n\n".join(part for part in parts if part)


def prepare_use(sweep: ShownSweep, trial: Trial, path: Path) -> Use:
    """What writing would do; nothing is written.

    Raises:
        SofttuneError: the sweep's settings or the file cannot be read, or the file has faults.
    """
    if sweep.plan is None or sweep.config is None:
        raise SofttuneError(f"the settings of {sweep.run_id} cannot be read", "see its config.yml and sweep.yml")
    config = changed(sweep.config, sweep.plan.settings(trial.parameters))
    wanted = {f"{section}.{key}": value for section, values in config.model_dump().items()
              for key, value in values.items()}
    found = read_file(path)
    if found.fault:
        raise SofttuneError(found.fault, "mend it by hand first")
    form = open_form(found.text, str(path))
    if found.text is None:
        new = {name: value for name, value in wanted.items() if not same(value, form.stored[name])}
        return Use(path, None, render_config(config), _told(form.stored, new))
    faults = [*form.file_faults, *form.faults.values()]
    if faults:
        raise SofttuneError(str(faults[0]), "mend it on the Config screen (4)")
    varied = {*sweep.plan.parameters, *(name for changes in sweep.plan.variants.values() for name in changes)}
    of_machine = {name for name in wanted if name.partition(".")[0] in OF_THE_MACHINE} - varied
    edited = form.changed({name: value for name, value in wanted.items() if name not in of_machine})
    left = tuple(sorted(name for name in of_machine if not same(wanted[name], form.stored[name])))
    written = edited.written
    if edited.faults:
        raise SofttuneError(str(next(iter(edited.faults.values()))), "mend it on the Config screen (4)")
    if isinstance(written, SofttuneError) or written is None:
        raise written or SofttuneError(f"{path} cannot be written", "mend it by hand first")
    return Use(path, found.text, written, _told(form.stored, edited.changes), left)


def _told(old: Values, new: Values) -> tuple[tuple[str, str, str], ...]:
    return tuple((name, visible_line(shown(old[name])), visible_line(shown(value))) for name, value in new.items())


def write(use: Use) -> None:
    """Write the file.

    Raises:
        SofttuneError: it cannot be written, or another program wrote it since it was read.
    """
    _replace(use.path, use.before, use.after)


def take_back(use: Use) -> None:
    """Bring back what the file was before.

    Raises:
        SofttuneError: it cannot be written, or another program wrote it since.
    """
    _replace(use.path, use.after, use.before)


def _replace(path: Path, expected: str | None, text: str | None) -> None:
    found = read_file(path)
    if found.fault or found.text != expected:
        raise SofttuneError(found.fault or f"{path} was changed by another program meanwhile",
                            "nothing was written; see it on the Config screen (4)")
    if text is not None:
        write_file(path, text)
        return
    try:
        path.unlink()
    except OSError as error:
        raise SofttuneError(f"{path} cannot be removed: {error.strerror}", "remove it by hand") from None
