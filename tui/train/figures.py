"""What the Train screen says in numbers: the "now" panel and the stage bar. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence

from textual.content import Content

from core.contract.events import Memory
from tui.follower import Scene
from tui.formatting import clock_time, counted, data_size, duration, figure, rate, small_percent
from tui.run_view import RunView
from tui.train.hardware import Reading
from tui.train.overlays import OtherRun
from tui.train.results import results
from tui.visible import visible_line

LABEL_WIDTH = 16
COLUMN_WIDTH = 37
"""Cells that a label with its value takes."""

_MOST_COLUMNS = 4
LEAST = 3
"""Lines of figures that stay above the results."""

Pair = tuple[str, str]
"""Label and value; a label that begins with a WARNING sign is shown as one."""

WARNING = "! "
STARTING = "the engine loads its libraries, which takes some seconds"


def now_panel(
    scene: Scene, width: int, height: int, *, now: float | None = None, reading: Reading | None = None,
    cursor: float | None = None, others: Sequence[OtherRun] = (),
) -> Content:
    """The figures of this moment, most important first; what has no room at the end is left out.

    Args:
        scene: the run.
        width: cells.
        height: lines.
        now: seconds since the epoch, for the time that is left.
        reading: what the machine says.
        cursor: a step whose values come first.
        others: runs that are laid over this one.
    """
    view = scene.view
    measured = reading is not None and reading.process_memory is not None
    pairs = [*_troubles(view), *_followed(scene), *_at_cursor(view, cursor), *_losses(view), *_others(others),
             *_pace(scene, now), *_machine(reading), *_memory(view, measured), *_setup(view)]
    table = results(view, width, height - LEAST)
    if table and height < len(table) + 2 and cursor is not None:
        table = []  # what is being read comes first where there is no room for both
    room = height - (len(table) + 1 if table else 0)
    lines = _columns(pairs, width, max(1, room))
    if table:
        lines += [Content(""), *table] if len(lines) < room + 1 else table
    return Content("\n").join(lines[:height])


def _columns(pairs: list[Pair], width: int, height: int) -> list[Content]:
    """Pairs one below the other, in as many columns as have room."""
    across = max(1, min(width // COLUMN_WIDTH, _MOST_COLUMNS))
    rows = min(height, -(-len(pairs) // across))
    cells = width // across
    lines = [[_pair(pair, cells - (across > 1)) for pair in pairs[row: rows * across: rows]] for row in range(rows)]
    return [Content("").join([*(cell.pad_right(max(0, cells - cell.cell_length)) for cell in line[:-1]), line[-1]])
            for line in lines]


def _pair(pair: Pair, width: int) -> Content:
    label, value = pair
    name, figures = ("$text-warning", "bold $text-warning") if label.startswith(WARNING) else ("$text-muted", "bold")
    return Content.assemble((f"{label:<{LABEL_WIDTH}}", name), (value, figures)).truncate(width, ellipsis=True)


def _troubles(view: RunView) -> list[Pair]:
    """What makes the other figures stand still, or count for less."""
    why = visible_line(view.waits_for.rpartition(": ")[2])  # the whole of it is among the diagnoses
    pairs = [(f"{WARNING}waiting", why)] if why else []
    if view.step and view.step.skipped:
        pairs.append((f"{WARNING}not finite", f"{counted(view.step.skipped, 'steps')} skipped"))
    return pairs


def _followed(scene: Scene) -> list[Pair]:
    """Whose curves these are, where the run has several."""
    view = scene.view
    if view.plan is None or not view.plan.name:
        return []
    trials = view.sweep.trials if view.sweep else None
    of = f" of {trials:,} trials" if trials else f" of {scene.folds} folds" if scene.folds else ""
    return [("curves of", f"{visible_line(view.plan.name)}{of}")]


def _at_cursor(view: RunView, cursor: float | None) -> list[Pair]:
    """The step that is read, and its losses."""
    if cursor is None:
        return []
    an_epoch = view.plan.steps_per_epoch if view.plan else 0
    epoch = f", epoch {math.ceil(cursor / an_epoch)}" if an_epoch > 0 and cursor > 0 else ""
    pairs = [("at the cursor", f"step {cursor:,.0f}{epoch}")]
    curves = (("  train", view.train_loss), ("  smoothed", view.smooth_loss), ("  held-out", view.heldout_loss))
    for name, curve in curves:
        point = curve.at(cursor)
        if point is not None:
            elsewhere = f"  (step {point[0]:,.0f})" if point[0] != cursor else ""
            pairs.append((name, figure(point[1]) + elsewhere))
    return pairs


def _others(others: Sequence[OtherRun]) -> list[Pair]:
    """The legend of what is laid over the plots, with the value to compare."""
    return [(f"{other.letter} held-out", f"{figure(other.best)}  {visible_line(other.name)}") for other in others]


def _machine(reading: Reading | None) -> list[Pair]:
    if reading is None:
        return []
    pairs = [("GPU", reading.gpu_words)] if reading.gpu_words else []
    engine = [data_size(reading.process_memory)] if reading.process_memory is not None else []
    engine += [f"CPU {reading.process_cpu:.0f} %"] if reading.process_cpu is not None else []
    return [*pairs, ("engine", ", ".join(engine))] if engine else pairs


def _losses(view: RunView) -> list[Pair]:
    step, pairs = view.step, []
    if step:
        pairs.append(("loss", figure(step.loss)))
    if view.smooth_loss.last is not None:
        pairs.append(("smoothed", figure(view.smooth_loss.last)))
    if view.best:
        pairs.append(("best held-out", f"{figure(view.best.loss)}  (epoch {view.best.epoch})"))
    elif view.validation:
        word = "  (untrained)" if view.validation.epoch == 0 else ""
        pairs.append(("held-out loss", figure(view.validation.loss) + word))
    if view.validation:
        pairs.append(("perplexity", f"{figure(view.validation.perplexity, 2)}  (held-out)"))
    return pairs


def _pace(scene: Scene, now: float | None) -> list[Pair]:
    step = scene.view.step
    if step is None:
        return []
    left = scene.view.clock.left(now) if now is not None and scene.active and not scene.view.paused else None
    ends = [("time left", f"{duration(left)}, until {clock_time(now + left)}")] if now and left is not None else []
    return [
        *ends,
        ("learning rate", rate(step.learning_rate)),
        ("gradient norm", figure(step.grad_norm, 2)),
        ("speed", f"{step.tokens_per_second:,.0f} tokens/s"),
    ]


def _memory(view: RunView, measured: bool) -> list[Pair]:
    """Memory as the engine told it; its process is left out where that is measured here and now."""
    if view.step is None:
        return []
    memory = view.step.memory
    name = "GPU memory" if memory.device == "cuda" else "engine memory"
    pairs = [(name, memory_values(memory)), ("peak", data_size(memory.peak))]
    if memory.device == "cuda":
        pairs.append(("reserved", data_size(memory.reserved)))
        if not measured:
            pairs.append(("process", data_size(memory.process)))
    return pairs


def _setup(view: RunView) -> list[Pair]:
    pairs: list[Pair] = []
    if view.plan:
        plan = view.plan
        pairs += [("effective batch", f"{plan.effective_batch}"), ("steps an epoch", f"{plan.steps_per_epoch}")]
    if view.loaded:
        loaded = view.loaded
        share = loaded.trainable_parameters / loaded.frozen_parameters if loaded.frozen_parameters else 0.0
        pairs += [
            ("trainable", f"{loaded.trainable_parameters:,}  ({small_percent(share)})"),
            ("frozen", f"{loaded.frozen_parameters:,}"),
            ("soft prompt", f"{loaded.num_virtual_tokens} × {loaded.embedding_dim}"),
            ("device", visible_line(f"{loaded.device_name} ({loaded.device}, {loaded.dtype})")),
        ]
    if view.model:
        pairs.append(("model", visible_line(view.model)))
    return pairs


def stage_bar(scene: Scene, now: float, width: int) -> Content:
    """The present stage: its name, a bar, how much is done, and how long it still takes."""
    stage = scene.view.stage
    if scene.active and scene.view.phase == "queued" and not scene.is_member:
        return Content.styled(f" starting   {STARTING}"[:width], "$text-muted")
    if stage is None or not scene.active:
        return Content("")
    share = min(1.0, stage.done / stage.total) if stage.total > 0 else 0.0
    numbers = f"{stage.done:,}/{stage.total:,} {visible_line(stage.unit)}  {100 * share:3.0f} %"
    left = scene.view.clock.left(now)
    if left is not None and stage.stage in ("completing", "scoring"):
        numbers += f"  {duration(left)} left"
    detail = visible_line(stage.detail)
    name = f" {stage.stage:<10} "
    room = width - len(name) - len(numbers) - 3
    if detail and room - len(detail) > 24:
        numbers += f"  {detail}"
        room -= len(detail) + 2
    bar = bar_content(share, min(room, 60))
    return Content.assemble((name, "bold"), bar, "  ", numbers)


def bar_content(share: float, width: int) -> Content:
    """A bar of line characters, filled to a half cell."""
    if width < 4:
        return Content("")
    halves = round(share * width * 2)
    full, half = divmod(halves, 2)
    done = "━" * full + ("╸" if half else "")
    return Content.assemble((done, "$primary"), ("─" * (width - len(done)), "$text-muted"))


def memory_values(memory: Memory) -> str:
    """The lower edge of the memory plot."""
    total = f" of {data_size(memory.total)}" if memory.total > 0 else ""
    return data_size(memory.allocated) + total
