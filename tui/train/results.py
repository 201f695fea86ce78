"""What a run came to, in the "now" panel: the score table or that of the folds, and the verdict. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content

from core.contract.events import EvaluationCompleted, Score
from core.contract.statistics import wilson_interval
from core.contract.wording import measured_ks, samples_each, share_text
from tui.formatting import figure
from tui.run_view import RunView
from tui.visible import visible_line

_WIDE_TABLE = 62
_RANGED = 52
"""Cells from which an interval stands beside pass@1."""
_NAME = 8


def results(view: RunView, width: int, height: int) -> list[Content]:
    """The table and the verdict below it; of the folds only their sum where there is no room for each."""
    verdict = Content.styled(visible_line(view.verdict), "italic").wrap(max(20, width)) if view.verdict else []
    if view.crossvalidated is None:
        return [*score_table(view, width), *verdict]
    table = fold_table(view, width)
    if len(table) + len(verdict) > height:
        table = [line for at, line in enumerate(table) if not 0 < at <= len(view.crossvalidated.folds)]
    return [*table, *verdict]


def fold_table(view: RunView, width: int) -> list[Content]:
    """Epoch, held-out loss and pass@1 of each fold of a cross-validation, of all of them, and of the model alone."""
    found = view.crossvalidated
    if found is None:
        return []
    scored = found.score is not None
    ranged = scored and width >= _RANGED
    head = f"{'':<{_NAME}}{'epoch':>5}{'loss':>8}"
    head += f"{'passed':>8}{'pass@1':>7}{'     95 % range' if ranged else ''}" if scored else ""
    alone = view.baseline.heldout if view.baseline and scored else None
    return [
        Content.styled(head, "$text-muted"),
        *(_fold_row(f"fold {one.fold}", str(one.epoch), one.heldout_loss, one.score, ranged) for one in found.folds),
        _fold_row("pooled", "", found.heldout_loss, found.score, ranged),
        *([_fold_row(" alone", "", None, alone, ranged)] if alone else []),
    ]


def _fold_row(name: str, epoch: str, loss: float | None, score: Score | None, ranged: bool) -> Content:
    figures = f"{epoch:>5}{figure(loss) if loss is not None else '':>8}"
    parts = [Content.styled(f"{name:<{_NAME}}", "$text-muted"), Content(figures)]
    if score is not None:
        parts += [Content.styled(f"{f'{score.passed}/{score.total}':>8}", "$text-success"),
                  Content.styled(f"{share_text(score.pass_at_1):>7}", "bold"),
                  Content.styled(_range(score) if ranged else "", "$text-muted")]
    return Content.assemble(*parts)


def _range(score: Score) -> str:
    if not score.total:
        return ""
    low, high = score.interval() or wilson_interval(score.passed, score.total)
    return f"  {low:.3f} – {high:.3f}"


def score_table(view: RunView, width: int) -> list[Content]:
    """Total, passed, failed and pass@k of the newest evaluation; all, training and held-out problems apart.

    Below each kind stands the model alone, where it was scored. One sample a problem has a range, several have pass@10
    and pass@100 where there is room, and what "passed" means.
    """
    if view.score is None or view.sweep is not None:  # a sweep scores trial after trial: the Sweep screen has them
        return []
    rows = _by_kind(view.score)
    alone = _by_kind(view.baseline) if view.baseline else {}
    gap = "  " if width >= _WIDE_TABLE else ""
    ks, each = measured_ks(rows.values()), samples_each(rows.values())
    ranged = width >= _RANGED and not each
    while len(ks) > 1 and 27 + 3 * len(gap) + len(ks) * (9 + len(gap)) > width:
        ks.pop()
    head = f"{'':<8}{gap}{'total':>6}{gap}{'passed':>7}{gap}{'failed':>7}"
    head += "".join(f"{gap}{f'pass@{k}':>{8 if k == 1 else 9}}" for k in ks)
    return [
        Content.styled(head + (f"{gap}     95 % range" if ranged else ""), "$text-muted"),
        *(line for name, part in rows.items() for line in (
            _score_row(name, part, gap, ks, ranged=ranged),
            *([_score_row(" alone", alone[name], gap, ks, ranged=ranged)] if name in alone else []),
        )),
        *([Content.styled(f"passed: at least one of {each} samples", "$text-muted")] if each else []),
    ]


def _by_kind(event: EvaluationCompleted) -> dict[str, Score]:
    if not event.train.total and event.heldout.total == event.overall.total > 0:  # a cross-validation
        return {"held-out": event.heldout}
    return {"all": event.overall, "training": event.train, "held-out": event.heldout}


def _score_row(name: str, score: Score, gap: str, ks: Sequence[int], *, ranged: bool) -> Content:
    shares = "".join(f"{gap}{share_text(score.pass_at(k)):>{8 if k == 1 else 9}}" for k in ks)
    return Content.assemble(
        (f"{name:<8}", "$text-muted"), f"{gap}{score.total:>6}", (f"{gap}{score.passed:>7}", "$text-success"),
        (f"{gap}{score.failed:>7}", "$text-error"), (shares, "bold"),
        (f"{gap}{_range(score)}" if ranged else "", "$text-muted"),
    )
