"""What the screens say where problems have several samples: pass@k from samples, and what "passed" means then."""

from __future__ import annotations

from pathlib import Path

from core.contract import events as ev
from core.contract.events import Score
from core.contract.runs import RunFolder
from core.contract.workbench import Told
from tui.checkpoints.catalogue import CheckpointRow
from tui.checkpoints.columns import BY_ID
from tui.checkpoints.detail import Detail, detail_content
from tui.checkpoints.jobs import ScoreJob, outcome_words
from tui.compare.comparison import Side, compared
from tui.compare.metrics import metrics, metrics_content
from tui.compare.verdicts import Tries, Verdicts
from tui.compare.words import sentences
from tui.log_lines import log_line
from tui.problems.files import Problem, ProblemFiles
from tui.problems.heading import heading_content
from tui.problems.listing import SAMPLES_LISTED, Show, Status, paired_rows, rows_of
from tui.run_view import ProblemState, RunView, advance
from tui.train.results import score_table

TEN = Score.of([(1, 10), (2, 10), (0, 10), (10, 10)])
"""pass@1 0.325, pass@10 and the problems passed 0.750."""
EVALUATION = ev.EvaluationCompleted(checkpoint="best", overall=TEN, train=TEN, heldout=TEN, isolation="namespaces",
                                    completions_path="c.jsonl", results_path="r.jsonl")


def row(score: Score | None = TEN) -> CheckpointRow:
    return CheckpointRow(RunFolder(Path("2026-11-20-101500-first")), "finished", "best", overall=score, train=score,
                         heldout=score)


def test_checkpoints_show_pass_at_1_and_not_the_share_of_problems() -> None:
    assert BY_ID["pass_heldout"].text(row()) == "0.325" and BY_ID["pass_train"].value(row()) == TEN.pass_at_1
    shown = detail_content(row(), Detail()).plain
    assert "pass@1  pass@10\n" in shown and "held-out             4       3       1    0.325    0.750\n" in shown
    assert "passed: at least one of 10 samples" in shown and "interval" not in shown
    assert "95 % interval" in detail_content(row(Score.of([(1, 1), (0, 1)])), Detail()).plain
    job = ScoreJob("run", "best").after(Told(request=1, event=EVALUATION))
    assert outcome_words(job) == "best: pass@1 held-out 0.325, train 0.325"


def test_the_train_screen_has_pass_at_10_in_place_of_the_range() -> None:
    view = advance(RunView(), [EVALUATION])
    for width in (45, 62, 100):
        lines = [line.plain for line in score_table(view, width)]
        assert lines[0].split() == ["total", "passed", "failed", "pass@1", "pass@10"]
        assert lines[3].split() == ["held-out", "4", "3", "1", "0.325", "0.750"]
        assert lines[4] == "passed: at least one of 10 samples" and max(map(len, lines)) <= width
    assert score_table(view, 38)[0].plain.split() == ["total", "passed", "failed", "pass@1"]
    said = log_line(EVALUATION)
    assert said is not None and "3 of 4 problems pass with at least one of 10 samples" in said.text


def test_a_comparison_has_pass_at_10_and_says_what_it_is_of() -> None:
    a = Side(row(None), Verdicts({f"x/{n}": Tries(n, 10, "passed" if n else "failed", "train") for n in range(3)}))
    b = Side(row(None), Verdicts({f"x/{n}": Tries(1, 1, "passed", "train") for n in range(3)}))
    by_name = {metric.name: metric for metric in metrics(compared(a, b))}
    assert by_name["pass@1 training"].a == "0.100" and by_name["pass@1 training"].ranges[0] == ""
    assert by_name["pass@10 all"].a.startswith("0.66") and by_name["pass@10 all"].b == "–"
    lines = metrics_content(list(by_name.values()), 80).plain.split("\n")
    assert any(line.startswith("pass@10 held-out ") for line in lines) and max(map(len, lines)) <= 80
    assert not any("pass@10" in metric.name for metric in metrics(compared(b, b)))
    said = {name: " ".join(line.plain for line in sentences(compared(*sides)))
            for name, sides in {"apart": (a, b), "alike": (a, a), "single": (b, b)}.items()}
    assert "A has 30 samples of these problems and B 3:" in said["apart"]
    assert "at least one of its samples" in said["alike"] and "sample" not in said["single"]


def test_the_list_of_problems_stays_short_and_says_so() -> None:
    problems = tuple(Problem(f"x/{n}") for n in range(3))
    states = {(one.task_id, n): ProblemState(completion=str(n)) for one in problems for n in range(SAMPLES_LISTED + 5)}
    files = ProblemFiles(problems, states=states)
    rows = rows_of(RunView(), files)
    assert [found.key[1] for found in rows] == [*range(SAMPLES_LISTED)] * 3 and {one.unlisted for one in rows} == {5}
    assert "30 samples, the first 10 of each problem" in heading_content((), rows, Show.ALL, "", 100).plain
    assert paired_rows(files, files)[0].unlisted == 5
    few = rows_of(RunView(), ProblemFiles(problems, states={key: states[key] for key in list(states)[:2]}))
    assert "4 samples " in heading_content((), few, Show.ALL, "", 100).plain + " "
    assert "3 problems" in heading_content((), rows_of(RunView(), ProblemFiles(problems)), Show.ALL, "", 100).plain


def test_lines_of_a_run_at_work_come_for_all_problems_at_once() -> None:
    files = ProblemFiles(tuple(Problem(f"x/{n}") for n in range(2)))
    told = ev.CompletionGenerated(task_id="x/1", sample=2, completion="y", tokens=1, finish_reason="eos", done=1,
                                  total=6)
    view = advance(RunView(), [told])
    rows = rows_of(view, files)
    assert [one.key for one in rows] == [("x/0", 0), ("x/0", 1), ("x/0", 2), ("x/1", 0), ("x/1", 1), ("x/1", 2)]
    assert [one.a.status for one in rows].count(Status.PENDING) == 5
    assert [one.key for one in rows_of(view, files, over=True)] == [("x/0", 0), ("x/1", 2)]
