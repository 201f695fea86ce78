"""One checkpoint in full: its metrics, scores, schedule, settings and files. Pure functions but for `read_detail`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textual.content import Content

from core.contract.checkpoint_files import published_copies
from core.contract.config import Config
from core.contract.errors import SofttuneError
from core.contract.events import Score
from core.contract.statistics import wilson_interval
from core.contract.wording import measured_ks, samples_each, schedule_text, share_text
from tui.checkpoints.catalogue import CheckpointRow
from tui.checkpoints.columns import UNKNOWN, share, short_figure, when
from tui.formatting import counted, data_size, rate
from tui.status import status_of_state
from tui.visible import visible, visible_line

LABEL_WIDTH = 16


@dataclass(frozen=True)
class Detail:
    """What the row leaves out, because it takes longer to read."""

    settings: tuple[tuple[str, str, str], ...] = ()
    """(setting, value, default) of those that are not at their default."""
    published: tuple[Path, ...] = ()


def read_detail(row: CheckpointRow) -> Detail:
    """Read the run's settings and find the published copies; for a worker thread."""
    if row.damage:
        return Detail()
    try:
        settings = differing_settings(row.run.read_config())
    except SofttuneError:
        settings = ()  # the row's faults tell it
    return Detail(settings, tuple(published_copies(row.path)))


def differing_settings(config: Config) -> tuple[tuple[str, str, str], ...]:
    """(setting, value, default) of every setting that is not at its default."""
    mine, defaults = config.model_dump(), Config().model_dump()
    return tuple(
        (f"{section}.{key}", _shown(value), _shown(defaults[section][key]))
        for section, values in mine.items() for key, value in values.items() if value != defaults[section][key]
    )


def detail_content(row: CheckpointRow, detail: Detail) -> Content:
    """All that is known, most important first."""
    if row.damage:
        return Content("\n").join([
            Content.styled(f"✗ {visible(row.damage)}", "$text-error"), Content(""), _pair("folder", str(row.run.root)),
            Content.styled("What it holds is left alone. Mend or remove the folder by hand.", "$text-muted"),
        ])
    lines = [Content.styled(f"! {visible_line(fault)}", "$text-warning") for fault in row.faults]
    lines += [*_metrics(row), Content(""), *_scores(row), Content(""), *_schedule(row)]
    if detail.settings:
        lines += [Content(""), _heading("settings that differ from the defaults"), *_settings(detail)]
    lines += [Content(""), _heading("files"), _pair("checkpoint", f"{row.path}  ({data_size(row.size)})")]
    lines += [_pair("written", when(row.written))]
    lines += [_pair("published as", str(path)) for path in detail.published] or [_pair("published as", UNKNOWN)]
    return Content("\n").join(lines)


def detail_title(row: CheckpointRow) -> Content:
    """The checkpoint, its run, and how that stands."""
    status = status_of_state(row.state)
    return Content.assemble(
        (visible_line(row.name) or "damaged run", "bold"), "  ", (visible_line(row.run.run_id), "bold $text-accent"),
        "  ", (f"{status.glyph} {status.word}", status.style),
    )


def _metrics(row: CheckpointRow) -> list[Content]:
    epochs = f" of {row.plan.num_epochs:,}" if row.plan else ""
    steps = f" of {row.plan.total_steps:,}" if row.plan else ""
    reached = UNKNOWN if row.epoch is None else f"epoch {row.epoch:,}{epochs}, step {row.step:,}{steps}"
    tokens = UNKNOWN if row.virtual_tokens is None else counted(row.virtual_tokens, "virtual tokens")
    return [
        _pair("held-out loss", short_figure(row.heldout_loss, 4)),
        _pair("perplexity", UNKNOWN if row.perplexity is None else f"{short_figure(row.perplexity)}  (held-out)"),
        _pair("training loss", UNKNOWN if row.train_loss is None
              else f"{short_figure(row.train_loss, 4)}  (mean of its epoch)"),
        _pair("reached", reached), _pair("soft prompt", tokens), _pair("model", row.model or UNKNOWN),
    ]


def _scores(row: CheckpointRow) -> list[Content]:
    if not row.scored:
        return [_heading("scores"), Content.assemble("not scored yet: ", ("E", "bold $accent"), " scores it")]
    kinds = {"all": row.overall, "training": row.train, "held-out": row.heldout}
    scores = {name: score for name, score in kinds.items() if score}
    ks, each = measured_ks(scores.values()), samples_each(scores.values())
    head = f"{'scores':<{LABEL_WIDTH}}{'total':>6}{'passed':>8}{'failed':>8}" + "".join(f"{f'pass@{k}':>9}" for k in ks)
    return [
        Content.styled(head + ("" if each else "   95 % interval"), "bold $text-accent"),
        *(_score(name, score, ks) for name, score in scores.items()),
        *([Content.styled(f"passed: at least one of {each} samples", "$text-muted")] if each else []),
    ]


def _score(name: str, score: Score, ks: Sequence[int]) -> Content:
    if share(score) is None:
        return Content.assemble((f"{name:<{LABEL_WIDTH}}", "$text-muted"), f"{score.total:>6}{'–':>8}{'–':>8}{'–':>9}")
    return Content.assemble(
        (f"{name:<{LABEL_WIDTH}}", "$text-muted"), f"{score.total:>6}{score.passed:>8}{score.failed:>8}",
        ("".join(f"{share_text(score.pass_at(k)):>9}" for k in ks), "bold"),
        ("" if score.several else f"   {interval(score)}", "$text-muted"),
    )


def interval(score: Score) -> str:
    """Wilson's 95 % interval of pass@1 of one sample a problem; "–" for a score that cannot be."""
    try:
        low, high = wilson_interval(score.passed, score.total)
    except (ValueError, OverflowError):
        return UNKNOWN
    return f"{low:.3f} – {high:.3f}"


def _schedule(row: CheckpointRow) -> list[Content]:
    plan = row.plan
    if plan is None:
        why = "it was imported" if row.foreign else "the events do not tell it"
        return [_heading("schedule"), Content(f"not known: {why}")]
    return [
        _heading("schedule"),
        _pair("steps", f"{plan.total_steps:,}  ({plan.num_epochs:,} epochs of {plan.steps_per_epoch:,})"),
        _pair("problems", f"{plan.train_problems:,} to train, {plan.heldout_problems:,} held out"),
        _pair("effective batch", f"{plan.effective_batch:,}"),
        _pair("learning rate", f"{rate(plan.learning_rate)} after {counted(plan.warmup_steps, 'steps')} of warm-up, "
              f"then {visible_line(schedule_text(plan.schedule))}"),
    ]


def _settings(detail: Detail) -> list[Content]:
    width = max(len(name) for name, _, _ in detail.settings)
    return [
        Content.assemble((f"{name:<{width}}", "$text-muted"), f"  {value}", (f"  (default {default})", "$text-muted"))
        for name, value, default in detail.settings
    ]


def _shown(value: Any) -> str:
    words = {None: "null", True: "true", False: "false"}
    if value is None or isinstance(value, bool):
        return words[value]
    return visible_line(value if isinstance(value, str) and value else repr(value))


def _heading(name: str) -> Content:
    return Content.styled(name, "bold $text-accent")


def _pair(label: str, value: str) -> Content:
    return Content.assemble((f"{label:<{LABEL_WIDTH}}", "$text-muted"), visible_line(value))
