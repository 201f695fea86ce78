"""What the Train screen says in numbers: the "now" panel, the stage bar and the score table. Pure functions."""

from __future__ import annotations

from textual.content import Content

from core.contract.events import Memory, Score
from core.contract.statistics import wilson_interval
from tui.follower import Scene
from tui.formatting import data_size, duration, figure, rate, small_percent
from tui.run_view import RunView
from tui.visible import visible_line

LABEL_WIDTH = 16
_TWO_COLUMNS = 74
_WIDE_TABLE = 62

Pair = tuple[str, str]


def now_panel(scene: Scene, width: int, height: int) -> Content:
    """The figures of this moment, most important first; what has no room at the end is left out."""
    view = scene.view
    pairs = [*_losses(view), *_pace(view), *_memory(view), *_setup(view)]
    table = score_table(view, width)
    room = height - (len(table) + 1 if table else 0)
    lines = _columns(pairs, width, max(1, room))
    if table:
        lines += [Content(""), *table] if len(lines) < room + 1 else table
    return Content("\n").join(lines[:height])


def _columns(pairs: list[Pair], width: int, height: int) -> list[Content]:
    if width < _TWO_COLUMNS:
        return [_pair(pair, width) for pair in pairs[:height]]
    rows = min(height, (len(pairs) + 1) // 2)
    half = width // 2
    left, right = pairs[:rows], pairs[rows: 2 * rows]
    right += [("", "")] * (len(left) - len(right))
    return [Content.assemble(_pair(a, half).pad_right(max(0, half - _pair(a, half).cell_length)), _pair(b, half))
            for a, b in zip(left, right, strict=True)]


def _pair(pair: Pair, width: int) -> Content:
    label, value = pair
    return Content.assemble((f"{label:<{LABEL_WIDTH}}", "$text-muted"), (value, "bold")).truncate(width, ellipsis=True)


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


def _pace(view: RunView) -> list[Pair]:
    step = view.step
    if step is None:
        return []
    return [
        ("learning rate", rate(step.learning_rate)),
        ("gradient norm", figure(step.grad_norm, 2)),
        ("speed", f"{step.tokens_per_second:,.0f} tokens/s"),
    ]


def _memory(view: RunView) -> list[Pair]:
    if view.step is None:
        return []
    memory = view.step.memory
    name = "GPU memory" if memory.device == "cuda" else "engine memory"
    pairs = [(name, f"{data_size(memory.allocated)} of {data_size(memory.total)}"), ("peak", data_size(memory.peak))]
    if memory.device == "cuda":
        pairs += [("reserved", data_size(memory.reserved)), ("process", data_size(memory.process))]
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


def score_table(view: RunView, width: int) -> list[Content]:
    """Total, passed, failed and pass@1 of the newest evaluation; all, training and held-out problems apart."""
    score = view.score
    if score is None:
        return []
    wide = width >= _WIDE_TABLE
    gap = "  " if wide else ""
    head = f"{'':<8}{gap}{'total':>6}{gap}{'passed':>7}{gap}{'failed':>7}{gap}{'pass@1':>8}"
    rows = [("all", score.overall), ("training", score.train), ("held-out", score.heldout)]
    return [
        Content.styled(head + ("      95 % range" if wide else ""), "$text-muted"),
        *(_score_row(name, part, gap) for name, part in rows),
    ]


def _score_row(name: str, score: Score, gap: str) -> Content:
    low, high = wilson_interval(score.passed, score.total)
    around = f"   {low:.3f} – {high:.3f}" if gap and score.total else ""
    share = "–" if score.pass_at_1 is None else f"{score.pass_at_1:.3f}"
    return Content.assemble(
        (f"{name:<8}", "$text-muted"), f"{gap}{score.total:>6}", (f"{gap}{score.passed:>7}", "$text-success"),
        (f"{gap}{score.failed:>7}", "$text-error"), (f"{gap}{share:>8}", "bold"),
        (around, "$text-muted"),
    )


def stage_bar(scene: Scene, now: float, width: int) -> Content:
    """The present stage: its name, a bar, how much is done, and how long it still takes."""
    stage = scene.view.stage
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
    return f"{data_size(memory.allocated)} of {data_size(memory.total)}"
