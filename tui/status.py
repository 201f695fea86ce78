"""The state of a run in a glyph, a word and a style; and the line at the top of every screen."""

from __future__ import annotations

from dataclasses import dataclass

from textual.content import Content
from textual.style import Style

from core.contract.record import State
from core.contract.runs import MEMBERS
from tui.follower import Scene
from tui.formatting import duration
from tui.visible import visible_line


@dataclass(frozen=True)
class Status:
    """How a run stands: sign and word say the same, so that colour is never needed."""

    glyph: str
    word: str
    style: str


_ENDED = {
    "finished": Status("✓", "finished", "$text-success"),
    "stopped": Status("■", "stopped", "$text-warning"),
    "failed": Status("✗", "failed", "$text-error"),
    "crashed": Status("✗", "crashed", "$text-error"),
    "damaged": Status("?", "damaged", "$text-error"),
}


def status_of_state(state: State) -> Status:
    """What to call a run that is known by its run.json alone."""
    active = {"queued": Status("○", "queued", "$text-muted"), "paused": Status("‖", "paused", "$text-warning")}
    return _ENDED.get(state) or active.get(state) or Status("●", "running", "$text-success")


def status_of(scene: Scene) -> Status:
    """What to call a run, from its events and from what the machine says of its engine."""
    view, condition = scene.view, scene.condition
    if condition is None:
        return Status("○", "no run yet", "$text-muted")
    if view.outcome:
        return _ENDED[view.outcome]
    if condition.state in _ENDED:
        return _ENDED[condition.state]
    if view.paused:
        return Status("‖", "waiting" if view.waits_for else "paused", "$text-warning")
    if view.phase == "queued":
        return Status("○", "starting", "$text-muted")
    return Status("●", view.phase, "$text-success")


Tab = tuple[str, str, bool]
"""The key that leads to a screen, the screen's name, whether it is the present one."""


def header(scene: Scene, now: float, width: int, tabs: tuple[Tab, ...] = ()) -> Content:
    """Run, state, epoch, step and times on one line; the run's id is shortened before any number is.

    Args:
        scene: the run.
        now: seconds since the epoch.
        width: cells.
        tabs: the screens, at the right; by their keys alone where there is no room for names.
    """
    shortest = _run_line(scene, now, 0).cell_length
    for named in (True, False):
        at = _tabs(tabs, named)
        room = width - at.cell_length - 2
        line = _run_line(scene, now, room)
        wanted = _run_line(scene, now, width).cell_length if named else shortest
        if tabs and room >= wanted:
            return Content.assemble(line.pad_right(max(0, room + 1 - line.cell_length)), at)
    return _run_line(scene, now, width)


def _tabs(tabs: tuple[Tab, ...], named: bool) -> Content:
    """Screens with their keys; the present one keeps its name where the others have no room for theirs."""
    return Content(" ").join(
        Content.styled(f" {key} {name} " if named or here else f" {key} ", "bold reverse" if here else "$text-muted")
        .stylize(Style.from_meta({"@click": f"app.show_screen({name.casefold()!r})"}))
        for key, name, here in tabs
    )


def _run_line(scene: Scene, now: float, width: int) -> Content:
    status = status_of(scene)
    word = Content.styled(f"{status.glyph} {status.word}", f"bold {status.style}")
    numbers = _fitting(scene, now, width - len(f" {status.glyph} {status.word}"))
    plain = "  ".join([f"{status.glyph} {status.word}", *numbers])
    tail = Content("  ").join([word, *map(Content, numbers)])
    run_id = visible_line(scene.run_id.replace(f"/{MEMBERS}/", "/"))
    brand = Content.styled("softtune", "bold $text-accent")
    for name in (Content.assemble(brand, "  ", run_id), *map(Content, (run_id, run_id[11:], run_id[18:]))):
        if name.cell_length + len(plain) + 4 <= width:
            return Content.assemble(" ", name, "  " if name.plain else "", tail)
    return Content.assemble(" ", tail)


def _fitting(scene: Scene, now: float, room: int) -> list[str]:
    """Whose curves, epoch, step and times; what does not fit is left out whole, the step last."""
    whose = visible_line(scene.view.plan.name) if scene.view.plan else ""
    epoch, step, times = _epoch(scene), _step(scene), _times(scene, now)
    for parts in ((whose, epoch, step, ", ".join(times)), (whose, epoch, step, *times[:1]), (epoch, step, *times[:1]),
                  (epoch, step), (step,)):
        numbers = [part for part in parts if part]
        if sum(len(part) + 2 for part in numbers) <= room:
            return numbers
    return []


def _epoch(scene: Scene) -> str:
    view = scene.view
    if view.plan is None:
        return ""
    epoch = view.step.epoch if view.step else 1
    return f"epoch {epoch}/{view.plan.num_epochs}"


def _step(scene: Scene) -> str:
    total = scene.view.total_steps
    return f"step {scene.view.done_steps:,}/{total:,}" if total else ""


def _times(scene: Scene, now: float) -> list[str]:
    clock = scene.view.clock
    if clock.started is None:
        return []
    until = now if scene.active else clock.at or clock.started
    left = clock.left(now) if scene.active else None
    elapsed = f"{duration(clock.elapsed(until))} elapsed"
    return [elapsed] if left is None else [elapsed, f"{duration(left)} left"]
