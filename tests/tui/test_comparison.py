"""Pure parts of comparing two checkpoints: verdicts paired, metrics, settings, curves, cosines, and their words."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from core.contract import events as ev
from core.contract.config import Config
from core.contract.config_file import render_config
from core.contract.event_log import EventLog
from core.contract.runs import RunFolder
from core.contract.wording import flips_verdict
from core.contract.workbench import Neighbour, Refused, TokensInspected, VirtualToken
from tests.tui.fake_run import training
from tui.checkpoints.catalogue import CheckpointRow
from tui.compare.comparison import Comparison, Side, compared, read_side
from tui.compare.cosines import cosine_words, cosines_text, is_map, transposed
from tui.compare.curves import PART, CurveSide, CurvesReader, RunCurves, curves_picture
from tui.compare.inquiry import Inquiry
from tui.compare.metrics import metrics, metrics_content
from tui.compare.sections import Section, parts_of
from tui.compare.settings import Difference, differences, settings_content
from tui.compare.tokens import detail, multiple, quoted, summary, token_line, tokens_text
from tui.compare.verdicts import Counts, Tries, Verdicts, pair, read_verdicts
from tui.compare.words import comparison_text, flip_line, sentences, settings_words, side_line
from tui.train.curves import Curve
from tui.widgets.heatmap import draw_map, lay_out, shade, shared, strongest
from tui.widgets.plot_canvas import draw


def tries(letters: str, splits: str = "") -> Verdicts:
    """Verdicts by letter ("p" passed, "f" failed, "-" not there) and split ("t", "h"), task ids in order."""
    names = {"t": "train", "h": "heldout", "": ""}
    return Verdicts({
        f"HumanEval/{n}": Tries(int(letter == "p"), 1, "passed" if letter == "p" else "failed",
                                names[splits[n] if n < len(splits) else ""])
        for n, letter in enumerate(letters) if letter != "-"})


def row(name: str = "best", run: str = "2026-11-20-101500-first", **kind: object) -> CheckpointRow:
    return CheckpointRow(RunFolder(Path(run)), "finished", name, **kind)  # type: ignore[arg-type]


def said(a: Verdicts, b: Verdicts, **kind: object) -> list[str]:
    comparison = compared(Side(row(), a), Side(row(run="2026-11-21-101500-second"), b), **kind)  # type: ignore[arg-type]
    return [line.plain for line in sentences(comparison)]


def test_flips_are_paired_by_problem_and_side() -> None:
    pairing = pair(tries("fpfpp", "hhttt"), tries("pfpfp", "hhttt"))
    assert [(flip.task_id, flip.kind, flip.gained) for flip in pairing.flips] == [
        ("HumanEval/0", "heldout", True), ("HumanEval/1", "heldout", False),
        ("HumanEval/2", "train", True), ("HumanEval/3", "train", False)]
    assert pairing.of("heldout") == Counts(2, 1, 1) and pairing.of("all") == Counts(5, 2, 2)


def test_a_problem_held_out_in_one_run_only_is_neither() -> None:
    pairing = pair(tries("ff", "ht"), tries("pp", "tt"))
    assert pairing.of("heldout").total == 0 and pairing.of("mixed") == Counts(1, 1, 0)
    assert any("split the problems differently" in line for line in said(tries("fff", "hth"), tries("pff", "tth")))


def test_one_that_may_have_trained_on_the_others_held_out_problems_is_told() -> None:
    assert any(line.startswith("! what B trained on is not known") for line in said(tries("ff", "ht"), tries("pp")))
    assert any(line.startswith("! what A trained on is not known") for line in said(tries("ff"), tries("pp", "ht")))
    for a, b in ((tries("ff", "ht"), tries("pp", "ht")), (tries("ff"), tries("pp"))):
        assert not any("not known" in line for line in said(a, b))


def test_order_is_natural_and_what_only_one_has_is_named() -> None:
    pairing = pair(tries("f" * 12), tries("p" * 11))
    assert [flip.task_id for flip in pairing.flips][-2:] == ["HumanEval/9", "HumanEval/10"]
    assert pairing.only_a == ("HumanEval/11",) and pairing.only_b == ()
    words = said(tries("f" * 12), tries("p" * 3))
    assert any("only A has 9 problems" in line and "HumanEval/3, HumanEval/4" in line and "and 5 more" in line
               for line in words)


@pytest.mark.parametrize(("counts", "words"), [
    (Counts(33, 3, 2), "no evidence that B is better: 3 gained, 2 lost, p = 1.00 (exact McNemar)"),
    (Counts(33, 2, 3), "no evidence that B is worse: 2 gained, 3 lost, p = 1.00 (exact McNemar)"),
    (Counts(33, 2, 2), "no evidence that either is better: 2 gained, 2 lost, p = 1.00 (exact McNemar)"),
    (Counts(33, 9, 1), "B is better: 9 gained, 1 lost, p = 0.021 (exact McNemar)"),
    (Counts(33, 1, 9), "B is worse: 1 gained, 9 lost, p = 0.021 (exact McNemar)"),
    (Counts(164, 20, 0), "B is better: 20 gained, 0 lost, p < 0.001 (exact McNemar)"),
    (Counts(33), "the same problems pass: 0 gained, 0 lost"),
])
def test_a_verdict_claims_no_more_than_the_test_does(counts: Counts, words: str) -> None:
    assert flips_verdict(counts.gained, counts.lost) == words


def test_sentences_tell_heldout_from_training() -> None:
    words = said(tries("f" * 9 + "ff", "t" * 9 + "hh"), tries("p" * 9 + "pf", "t" * 9 + "hh"))
    assert words[0] == "≈ 2 held-out: no evidence that B is better: 1 gained, 0 lost, p = 1.00 (exact McNemar)"
    assert words[1].startswith("▲ all 11 (9 of them training data): B is better: 10 gained, 0 lost")
    assert "nothing here is a fair test" in said(tries("ff", "tt"), tries("pf", "tt"))[0]


def test_nothing_in_common_and_nothing_scored() -> None:
    assert "no problem in common" in said(tries("f--"), tries("--p"))[0]
    assert "B was not scored" in said(tries("f"), Verdicts())[0] and "E scores" in said(tries("f"), Verdicts())[0]
    assert "A and B were not scored" in said(Verdicts(), Verdicts())[0]
    assert said(tries("f"), tries("p"), complete=False) == ["reading the results …"]
    assert any("✗ B: no line" in line for line in said(tries("f"), Verdicts(fault="no line of results.jsonl")))


def test_a_checkpoint_that_is_written_anew_is_named() -> None:
    at_work = [replace(row(name), state="running") for name in ("last", "epoch_0001")]
    for a, b, letters in ((at_work[0], row(), "A"), (row(), at_work[0], "B"), (row("last"), at_work[1], "")):
        lines = [line.plain for line in sentences(compared(Side(a, tries("pf")), Side(b, tries("pp"))))]
        assert [line[2] for line in lines if "writes it anew" in line] == list(letters)


def results(folder: RunFolder, rows: list[object], name: str = "best", torn: str = "") -> None:
    place = folder.evaluation(name)
    place.mkdir(parents=True, exist_ok=True)
    (place / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + torn)


def test_samples_torn_lines_and_rows_of_other_versions(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    results(folder, [
        {"task_id": "HumanEval/0", "passed": False, "result": "failed: x", "split": "heldout"},
        {"task_id": "HumanEval/0", "passed": True, "result": "passed", "split": "heldout"},
        {"task_id": "HumanEval/1", "passed": False, "verdict": "timed out", "split": "train"},
        {"task_id": "HumanEval/2", "completion": "x"}, [1], {"task_id": 3, "passed": 1},
    ], torn='{"task_id": "HumanEval/4", "pas')
    verdicts = read_verdicts(folder, "best")
    assert dict(verdicts.problems) == {"HumanEval/0": Tries(1, 2, "passed", "heldout"),
                                       "HumanEval/1": Tries(0, 1, "timed out", "train")}
    assert verdicts.left_out == 4 and verdicts.score().pass_at_1 == 0.25 and verdicts.score().passed == 1
    assert verdicts.score("heldout").total == 1
    assert any("4 lines of results.jsonl torn" in line for line in said(verdicts, verdicts))


def test_results_that_say_nothing(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert read_verdicts(folder, "best") == Verdicts()
    results(folder, [{"task_id": "HumanEval/0", "completion": "x"}])
    assert "no line" in read_verdicts(folder, "best").fault
    results(folder, [], "deep", torn="[" * 200_000 + "\n")
    assert read_verdicts(folder, "deep").fault
    (folder.evaluation("odd") / "results.jsonl").mkdir(parents=True)
    assert "cannot be read" in read_verdicts(folder, "odd").fault


def test_settings_that_differ_are_listed_with_both_values(tmp_path: Path) -> None:
    base = Config()
    other = base.model_copy(update={
        "training": base.training.model_copy(update={"learning_rate": 0.05}),
        "inference": base.inference.model_copy(
            update={"text_prompt": "# a \x1b[31m prompt ", "stop_sequences": ["\n"]}),
    })
    assert differences(base, base) == ()
    found = differences(base, other)
    assert [one.setting for one in found] == [
        "training.learning_rate", "inference.stop_sequences", "inference.text_prompt"]
    assert found[0] == Difference("training.learning_rate", "0.01", "0.05") and "\x1b" not in found[2].b
    wide, narrow = settings_content(found, 100).plain, settings_content(found, 40).plain
    assert "training.learning_rate    0.01" in wide and "  B 0.05" in narrow
    assert all(len(line) <= 40 for line in narrow.split("\n")) and all(len(line) <= 100 for line in wide.split("\n"))
    folder = RunFolder(tmp_path)
    side = read_side(CheckpointRow(folder, "finished", "best"))
    assert "config.yml" in side.config_fault
    Path(folder.config_file).write_text("training:\n  num_epochz: 3\n")
    assert "num_epochs" in read_side(side.row).config_fault
    Path(folder.config_file).write_text(render_config(other))
    assert read_side(side.row).config == other


def test_words_about_settings() -> None:
    first, second = Side(row(), config=Config()), Side(row(run="2026-11-21-101500-other"), config=Config())
    assert [line.plain for line in settings_words(compared(first, second))] == ["the same settings"]
    assert "of one run" in settings_words(compared(first, Side(row("last"), config=Config())))[0].plain
    broken = Side(row(run="2026-11-22-101500-odd"), config_fault="config.yml cannot be read")
    assert [line.plain for line in settings_words(compared(first, broken))] == ["✗ B: config.yml cannot be read"]


def test_metrics_say_which_is_better() -> None:
    a = Side(row(heldout_loss=0.9, perplexity=2.5, train_loss=math.nan, epoch=3), tries("ppff", "tthh"))
    b = Side(row("last", heldout_loss=0.8, perplexity=2.2, train_loss=0.7, epoch=9), tries("pfff", "tthh"))
    by_name = {metric.name: metric for metric in metrics(compared(a, b))}
    assert (by_name["held-out loss"].difference, by_name["held-out loss"].better) == ("−0.100", True)
    assert (by_name["pass@1 training"].difference, by_name["pass@1 training"].better) == ("−0.500", False)
    assert by_name["pass@1 held-out"].difference == "= the same" and by_name["training loss"].difference == ""
    assert by_name["epoch"].better is None and by_name["pass@1 all"].ranges == ("0.15–0.85", "0.05–0.70")
    wide, narrow = metrics_content(list(by_name.values()), 80).plain, metrics_content(list(by_name.values()), 50).plain
    assert "0.500 (0.15–0.85)" in wide and "▲ better" in wide and "▼ worse" in wide and "not a number" in wide
    assert "95 % range" in narrow and all(len(line.rstrip()) <= 52 for line in narrow.split("\n"))
    assert metrics(compared(Side(row()), b))[6].a == "not scored"


def test_several_samples_have_no_range() -> None:
    side = Side(row(), Verdicts({"x": Tries(1, 2, "passed", "train")}))
    assert metrics(compared(side, side))[5].ranges == ("", "") and metrics(compared(side, side))[5].a == "0.500"


def test_the_head_line_keeps_who_it_is() -> None:
    side = Side(row(epoch=3, heldout_loss=0.9), tries("pf"))
    assert side_line("A", side, 90).plain.endswith("best   epoch 3  held-out loss 0.900  pass@1 0.500")
    assert side_line("A", side, 45).plain.endswith("best   epoch 3")
    assert side_line("B", Side(row()), 90).plain.endswith("not scored")


def test_swapping_turns_everything_round() -> None:
    comparison = compared(Side(row(), tries("fp")), Side(row("last"), tries("pp")))
    assert [flip.gained for flip in comparison.pairing.flips] == [True]
    assert [flip.gained for flip in comparison.swapped.pairing.flips] == [False]
    assert comparison.swapped.swapped == comparison and comparison.one_run and not comparison.same


def test_text_to_copy_and_hostile_words() -> None:
    hostile = Verdicts({"Human\x1b[31mEval": Tries(0, 1, "\x1b]0;t\x07", "heldout")})
    other = Verdicts({"Human\x1b[31mEval": Tries(1, 1, "passed", "heldout")})
    comparison = compared(Side(row("b\x1b"), hostile), Side(row("last"), other))
    text = comparison_text(comparison)
    line = flip_line(comparison.pairing.flips[0], 70, True)
    for shown in (text, line.plain, side_line("A", comparison.a, 80).plain):
        assert "\x1b" not in shown and "\x07" not in shown
    assert "A: 2026-11-20-101500-first/b␛" in text and "gained\tHuman␛[31mEval\theld-out" in text
    assert line.cell_length <= 70 and line.plain.startswith("▸▲ gained")


def test_sections_show_what_there_is_room_for() -> None:
    assert parts_of(Section.OVERVIEW, narrow=False, short=False) == {"metrics", "problems", "curves", "settings"}
    assert parts_of(Section.OVERVIEW, narrow=True, short=False) == {"metrics", "problems"}
    assert parts_of(Section.OVERVIEW, narrow=False, short=True) == {"metrics", "curves"}
    assert parts_of(Section.OVERVIEW, narrow=True, short=True) == {"metrics"}
    assert parts_of(Section.COSINES, narrow=False, short=False) == {"cosines"}
    assert Section.COSINES.stepped(1) is Section.OVERVIEW and Section.OVERVIEW.stepped(-1) is Section.COSINES


def curves_of(folder: RunFolder) -> tuple[RunCurves, int]:
    reader, parts = CurvesReader(folder), 0
    while not reader.done:
        curves, parts = reader.read(), parts + 1
    return curves, parts


def test_a_long_log_is_read_in_parts(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    step = next(event for event in training("x") if isinstance(event, ev.StepCompleted))
    lines = [ev_line.replace('"step":1,', f'"step":{number},') for number in range(1, 8_001)
             for ev_line in (step.model_dump_json(),)]
    text = "\n".join(lines) + "\n"
    Path(folder.events_file).write_text(text)
    curves, parts = curves_of(folder)
    assert len(text) > PART and parts == 2 and len(curves.train) == 8_000 and not curves.fault


def test_a_run_without_events(tmp_path: Path) -> None:
    assert curves_of(RunFolder(tmp_path)) == (RunCurves(), 1)
    (tmp_path / "events.jsonl").mkdir()
    curves, _ = curves_of(RunFolder(tmp_path))
    assert "cannot be read" in curves.fault
    picture, values = curves_picture(CurveSide(), CurveSide(curves), one_run=False, logarithmic=False, reading=False)
    assert "neither run has events" in draw(picture, 60, 9).plain and "B: events.jsonl cannot be read" in values


def test_both_runs_lie_over_each_other(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    log = EventLog(Path(folder.events_file))
    for event in training("x", steps=18):
        log.append(event)
    log.close()
    curves, _ = curves_of(folder)
    a, b = CurveSide(curves, 9, 1.0), CurveSide(RunCurves(curves.train, Curve((0.0, 18.0), (1.3, 1.2))), 18, 1.2)
    picture, values = curves_picture(a, b, one_run=False, logarithmic=True, reading=False)
    drawn = draw(picture, 80, 20).plain
    assert [trace.name for trace in picture.traces] == ["A", "A held-out", "B", "B held-out", "", ""]
    assert {trace.sign for trace in picture.traces} == {"━", "●", "⠢", "○", "A", "B"}
    assert "A" in drawn and "B" in drawn and "○" in drawn and "●" in drawn
    assert values.startswith("last held-out: A ") and "B 1.200" in values and picture.logarithmic
    alone, _ = curves_picture(a, b, one_run=True, logarithmic=False, reading=False)
    assert [trace.name for trace in alone.traces] == ["train", "held-out", "", ""]


def matrix(rows: int, columns: int) -> list[list[float]]:
    return [[1.0 if i == j else math.cos(i * j + i) / 3 for j in range(columns)] for i in range(rows)]


@pytest.mark.parametrize("size", [(76, 13), (40, 6), (12, 3), (150, 44)])
@pytest.mark.parametrize("shape", [(20, 20), (1, 1), (300, 7), (5, 1024), (100, 100)])
def test_a_map_fits_its_pane(size: tuple[int, int], shape: tuple[int, int]) -> None:
    lines = draw_map(matrix(*shape), *size, (shape[0] - 1, shape[1] - 1)).plain.split("\n")
    assert len(lines) <= size[1] and max(map(len, lines)) <= size[0]
    assert "[" in "".join(lines) or "◆" in "".join(lines)


def test_a_map_reads_without_colour() -> None:
    drawn = draw_map([[1.0, 0.6], [0.3, -0.5], [0.15, math.nan]], 60, 4, (0, 0)).plain.split("\n")
    assert "B" in drawn[0] and drawn[1].startswith("A") and drawn[1].endswith("▓▓")
    assert "▒▒−−" in drawn[2] and "░░??" in drawn[3] and "[]" in drawn[1]
    assert [shade(value) for value in (0.0, -0.09, -2.0, 5.0)] == ["·", "·", "−", "█"]


def test_tokens_that_share_a_cell_show_the_strongest() -> None:
    plan = lay_out(100, 100, 60, 26)
    assert (plan.down, plan.across) == (4, 2) and "4 × 2 tokens" in shared(plan)
    assert shared(lay_out(20, 20, 60, 26)) == ""
    assert strongest([[0.1, -0.9], [math.nan, 0.2]], range(2), range(2)) == -0.9
    assert math.isnan(strongest([[math.nan]], range(1), range(1)))
    assert plan.cell_at(plan.margin + 1, 2) == (4, 2) and plan.cell_at(0, 5) is None


def test_the_map_in_words() -> None:
    cosines = [[0.9, 0.1], [0.2, 0.8], [0.3, math.nan]]
    words = cosine_words(cosines, (1, 0), 20).plain
    assert "A 2 · B 1   cosine 0.200" in words and "nearest in B to A 2\nB 2 0.80   B 1 0.20" in words
    assert "nearest in A to B 1\nA 1 0.90   A 3 0.30   A 2 0.20" in words and "most alike A 1 and B 1" in words
    assert "same number" not in words and "mean 0.850" in cosine_words(cosines[:2], (0, 0), 20).plain
    assert [list(row) for row in transposed(cosines)][0] == [0.9, 0.2, 0.3]
    assert is_map(cosines) and is_map([]) and not is_map([[1.0], [1.0, 2.0]])
    assert cosines_text(cosines[:1]).split("\n") == ["A \\ B\t1\t2", "1\t0.9000\t0.1000"]


@pytest.mark.parametrize(("token", "shown"), [
    ("    return", "“␣␣␣␣return”"), ("\n", "“␊”"), ("\t", "“␉”"), ("\x1b[31m", "“␛[31m”"), ("", "“”"),
    ("日本", "“日本”"),
    ("\xa0", "“‹U+00A0›”"), ("\u202e", "“‹U+202E›”"), ("-" * 64, "“-------------…”"), ("[red]x", "“[red]x”"),
])
def test_tokens_are_quoted_so_that_spaces_are_seen(token: str, shown: str) -> None:
    assert quoted(token) == shown


def test_token_lines() -> None:
    token = VirtualToken(norm=2.5, nearest=[Neighbour(token="日" * 40, token_id=7, cosine=0.91),
                                            Neighbour(token=" x", token_id=8, cosine=-0.5)])
    line = token_line(0, token, 2.0, 77, True)
    assert "2.500     1.25" in line.plain and "“␣x”" in line.plain and "-0.50" in line.plain and line.cell_length <= 77
    assert "␣x" not in token_line(0, token, 2.0, 55, False).plain
    assert multiple(math.nan, 2.0) == multiple(1.0, 0.0) == "–"
    assert "0 virtual tokens" in summary(TokensInspected(request=1, tokens=[], vocabulary_norm=1.0)).plain
    assert tokens_text([token], 2.0).split("\n")[1].startswith("1\t2.5000\t1.25\t“")


@pytest.mark.parametrize("size", [(5, 76), (9, 116), (2, 76), (1, 3)])
def test_all_neighbours_of_a_token_have_room(size: tuple[int, int]) -> None:
    lines, width = size
    nearest = [Neighbour(token=f"word{i}" * 4, token_id=151_640 + i, cosine=0.9 - i / 10) for i in range(8)]
    shown = detail(3, VirtualToken(norm=2.5, nearest=nearest), lines, width).plain.splitlines()
    assert shown[0].startswith("virtual token 4") and len(shown) <= max(2, lines)
    if lines > 2:
        assert all(len(line) <= width for line in shown)
        assert all(f"token {one.token_id}" in "\n".join(shown) for one in nearest)


def test_an_inquiry_that_ends_without_an_answer_is_refused() -> None:
    from core.contract.workbench import Ended, Working

    asked = Inquiry().after(Working(request=1, what="loading \x1b"))
    assert "loading ␛ …" in asked.words().plain and not asked.refused
    assert asked.after(Ended(request=1)).refused
    refused = asked.after(Refused(request=1, what="it is\x1b damaged", remedy="use another"))
    assert refused.words().plain == "✗ it is␛ damaged\n→ use another\n\nr tries again"


def test_the_same_checkpoint_twice() -> None:
    side = Side(row(), tries("pf", "th"))
    comparison: Comparison = compared(side, side)
    assert comparison.same and not comparison.pairing.flips
    unscored = compared(Side(row()), Side(row()))
    assert sentences(unscored)[0].plain.startswith("! A was not scored")
