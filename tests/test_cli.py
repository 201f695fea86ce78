"""The commands as users and scripts call them: streams, exit statuses, signals."""

import importlib.metadata
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import pytest

from core.cli import build_parser
from core.commands.runs import check_unfinished
from core.contract.config import Config
from core.contract.errors import UsageError, WeakSandboxError
from core.contract.events import EVENT_TYPES, parse_event
from core.contract.runs import create_run
from core.data.humaneval import load_problems
from tests.headless import CORE, done_forked, forked, settings

SECTIONS = ["data", "forward", "head", "backward", "optimizer", "validation", "writing", "tracing"]


@pytest.fixture
def tiny_options(tiny_model_folder: Path) -> list[str]:
    return settings(tiny_model_folder)


@pytest.fixture(scope="module")
def trained(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A folder in which `softtune` without a terminal has trained, and what it said on stdout and stderr."""
    folder = tmp_path_factory.mktemp("trained")
    done = softtune(*settings(tiny_model_folder), cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout, done.stderr


def softtune(*arguments: str, cwd: Path, **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        [*CORE, *arguments], cwd=cwd, capture_output=True, text=True, timeout=120, **more
    )


def test_json_gives_event_lines_and_nothing_else(tiny_options: list[str], tmp_path: Path) -> None:
    done = done_forked("train", "--json", "--name", "j", *tiny_options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    events = [parse_event(line) for line in done.stdout.splitlines()]
    assert all(event is not None and event.type in EVENT_TYPES for event in events)
    (folder,) = (tmp_path / "runs").iterdir()
    assert done.stdout == (folder / "events.jsonl").read_text() and folder.name.endswith("-j")
    runs = json.loads(softtune("runs", "--json", cwd=tmp_path).stdout)
    assert [(run["run_id"], run["state"]) for run in runs] == [(folder.name, "finished")]
    assert runs[0]["heldout_loss"] > 0


def test_a_profiled_run_shows_where_the_time_went(tiny_options: list[str], tmp_path: Path) -> None:
    unscored = ["--set", "evaluation.score_after_training=false"]
    done = done_forked("train", "--profile", *tiny_options, *unscored, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    (start,) = (number for number, line in enumerate(lines) if line.startswith("where "))
    table = {line.split()[0]: line.split()[-2 if "█" in line else -1] for line in lines[start + 1 : start + 10]}
    assert list(table) == [*SECTIONS, "other"]
    assert sum(float(share.rstrip("%")) for share in table.values()) == pytest.approx(100, abs=0.5)
    trace = re.sub("^trace of the first steps: ", "", lines[start + 10])
    assert (tmp_path / trace).read_bytes()[:2] == b"\x1f\x8b"


def test_without_a_terminal_it_trains_and_ends_with_the_table(trained: tuple[Path, str, str]) -> None:
    _, out, err = trained
    table = [line.split() for line in out.splitlines()[-8:]]
    assert table[0] == ["problems", "Total", "Passed", "Failed", "pass@1", "95", "%", "interval"]
    assert [row[:2] for row in table[1:7:2]] == [["all", "10"], ["train", "8"], ["held-out", "2"]]
    assert [row[:3] for row in table[2:7:2]] == [["model", "alone", count] for count in ("10", "8", "2")]
    assert table[7][:2] == ["2", "held-out:"]  # the verdict
    assert "✓ New best checkpoint saved to soft_prompts/best_soft_prompts.pt" in out
    assert "an effective batch of 16 is larger" in err  # notices are no data


def test_a_bad_configuration_starts_nothing(tmp_path: Path) -> None:
    (tmp_path / "prompt_tuning.yml").write_text("training:\n  learning_rat: 1\n")
    done = softtune("train", "--set", "training.num_epochs=0", cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    assert "prompt_tuning.yml:2: training.learning_rat: found an unknown key; did you mean" in done.stderr
    assert "training.num_epochs: found 0; allowed: a whole number, at least 1" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["prompt_tuning.yml"]


@pytest.mark.parametrize("arguments", [
    ["train", "none.yml"], ["train", "--nonsense"], ["train", "--resume", "nobody"], ["train", "--name", "a/b"],
    ["infer", "--split", "some"], ["evaluate", "--timeout", "-1"], ["evaluate", "--output", "."],
    ["evaluate", "--input", "c.jsonl", "--output", "./c.jsonl"],
])
def test_a_wrong_command_is_status_2_and_writes_nothing(arguments: list[str], tmp_path: Path) -> None:
    done = softtune(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "") and done.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_failed_is_status_1_on_stderr(tmp_path: Path) -> None:
    for arguments in (["infer", "none.pt"], ["evaluate", "--input", "none.jsonl"],
                      ["evaluate", "--input", "none.jsonl", "--json"]):
        done = done_forked(*arguments, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (1, ""), arguments
        assert "there is no" in done.stderr


def test_evaluate_prints_one_json_object(tmp_path: Path) -> None:
    rows = [{"task_id": p.task_id, "completion": p.canonical_solution, "split": side}
            for p, side in zip(load_problems().problems[:4], ("train", "train", "heldout", ""), strict=True)]
    rows[1]["completion"] = "    pass\n"
    file = tmp_path / "c.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = softtune("evaluate", "--input", "c.jsonl", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["all"] == {"total": 4, "passed": 3, "failed": 1, "pass@1": 0.75}
    assert report["train"] == {"total": 2, "passed": 1, "failed": 1, "pass@1": 0.5}
    assert report["heldout"] == {"total": 1, "passed": 1, "failed": 0, "pass@1": 1.0}
    assert report["isolation"] and report["verdicts"]["passed"] == 3 and sum(report["verdicts"].values()) == 4
    assert report["results_path"] == "c_results.jsonl" and (tmp_path / "c_results.jsonl").exists()


def test_what_the_scores_are_of_stands_below_the_table(tmp_path: Path) -> None:
    rows = [json.dumps({"task_id": problem.task_id, "completion": problem.canonical_solution})
            for problem in load_problems().problems[:3]]
    (tmp_path / "c.jsonl").write_text("\n".join([*rows, "{torn", rows[0]]))
    done = softtune("evaluate", "--input", "c.jsonl", "--skip-bad-lines", "--output", "r/own.jsonl", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    *_, verdicts, skipped, partial = done.stdout.splitlines()
    assert verdicts == "verdicts of 4 samples: passed 4"
    assert skipped.startswith("c.jsonl: 1 malformed line was skipped: 4")
    assert partial == "c.jsonl has completions for 3 of 164 problems; the scores are of those alone"
    assert len((tmp_path / "r" / "own.jsonl").read_text().splitlines()) == 4


def test_a_wrong_timeout_is_told_as_the_option_that_it_is(tmp_path: Path) -> None:
    done = softtune("evaluate", "--timeout", "3s", "--workers", "-1", "--set", "evaluation.memory_limit_mb=1",
                    cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--timeout: evaluation.timeout_seconds: found '3s'; allowed: a number, above 0" in done.stderr
    assert "--workers: evaluation.workers: found -1; allowed: a whole number" in done.stderr
    assert "--set: evaluation.memory_limit_mb: found 1" in done.stderr


def test_an_evaluation_that_is_killed_and_then_interrupted_goes_on(tmp_path: Path) -> None:
    tasks = load_problems().problems[:12]
    rows = [{"task_id": p.task_id, "completion": p.canonical_solution + "\nimport time\ntime.sleep(1)\n" * (n >= 4)}
            for n, p in enumerate(tasks)]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    journal, results = tmp_path / "c_results.jsonl.journal", tmp_path / "c_results.jsonl"

    def executed() -> int:
        return journal.read_text().count('"key"') if journal.exists() else 0

    def cut_short(number: int, after: int) -> tuple[int, str]:
        process = subprocess.Popen([*CORE, "evaluate", "--input", "c.jsonl", "--workers", "2"], cwd=tmp_path,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        while process.poll() is None and executed() < after:
            time.sleep(0.02)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
        assert executed() >= after and not results.exists()
        return process.returncode, errors

    assert cut_short(signal.SIGKILL, 3)[0] == -signal.SIGKILL
    before = executed()
    status, errors = cut_short(signal.SIGINT, before + 1)
    assert status == 130 and f"going on: {before} of 12 were executed before" in errors
    before = executed()
    assert f"stopped with {before} of 12 executed\n  the same command goes on" in errors
    done = softtune("evaluate", "--input", "c.jsonl", "--workers", "6", "--json", cwd=tmp_path)
    assert done.returncode == 0 and f"going on: {before} of 12 were executed before" in done.stderr
    assert json.loads(done.stdout)["all"]["passed"] == 12 and not journal.exists()
    written = [json.loads(line)["task_id"] for line in results.read_text().splitlines()]
    assert written == [problem.task_id for problem in tasks]


def test_the_published_evaluator_reads_our_completions_and_agrees(tmp_path: Path) -> None:
    problems = load_problems().problems
    rows = [{"task_id": p.task_id, "completion": "    pass\n" if i % 3 else p.canonical_solution, "split": "train"}
            for i, p in enumerate(problems)]
    file = tmp_path / "completions.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert softtune("evaluate", "--input", str(file), cwd=tmp_path).returncode == 0
    published = Path(sys.executable).with_name("evaluate_functional_correctness")
    subprocess.run([published, str(file)], check=True, capture_output=True, timeout=120)
    verdicts = []
    for results in ("completions_results.jsonl", "completions.jsonl_results.jsonl"):
        lines = (tmp_path / results).read_text().splitlines()
        verdicts.append({row["task_id"]: row["passed"] for row in map(json.loads, lines)})
    assert verdicts[0] == verdicts[1] and sum(verdicts[0].values()) == 55


def test_help_and_version_are_quick_about_it(tmp_path: Path) -> None:
    for flag in ("--help", "--version"):
        done = softtune(flag, cwd=tmp_path, env={**os.environ, "PYTHONPROFILEIMPORTTIME": "1"})
        assert done.returncode == 0 and "softtune" in done.stdout
        assert not re.search(r"\|\s+torch$", done.stderr, re.M) and "core.cli" in done.stderr


def test_a_checkout_that_is_not_installed_has_its_commands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def nowhere(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", nowhere)
    with pytest.raises(SystemExit, match="0"):
        build_parser().parse_args(["--version"])
    assert capsys.readouterr().out == "softtune (a checkout that is not installed)\n"


def test_a_folder_named_core_is_not_imported_in_our_stead(tmp_path: Path) -> None:
    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "__init__.py").write_text("raise SystemExit('the wrong core')")
    assert softtune("--version", cwd=tmp_path).returncode == 0


def test_a_mistyped_command_is_not_taken_for_a_file(tmp_path: Path) -> None:
    done = softtune("trian", cwd=tmp_path)
    assert done.returncode == 2 and "did you mean train?" in done.stderr


def test_a_reader_that_goes_away_stops_the_run_with_a_checkpoint(tiny_options: list[str], tmp_path: Path) -> None:
    long = [*tiny_options, "--set", "training.num_epochs=100000", "--set", "evaluation.early_stopping_patience=null"]
    os.mkfifo(tmp_path / "stdout")
    process = forked(["train", "--json", *long], tmp_path)
    with open(tmp_path / "stdout") as reading:
        assert reading.readline()
    process.join(60)
    assert process.exitcode == 1
    (folder,) = (tmp_path / "runs").iterdir()
    assert json.loads((folder / "run.json").read_text())["state"] == "stopped"


def test_an_output_that_cannot_be_written_is_told_before_anything_runs(tiny_options: list[str], tmp_path: Path) -> None:
    for name, setting in (("results", "inference.output_path"), ("soft_prompts", "soft_prompts/"), ("logs", "logs/")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_text("a file where a folder belongs")
        done = softtune("train", *tiny_options, cwd=folder)
        assert done.returncode == 2 and setting in done.stderr and f"{name} is no folder" in done.stderr
        assert [path.name for path in folder.iterdir()] == [name]
    done = softtune("train", *tiny_options, "--set", "inference.output_path=.", cwd=tmp_path)
    assert done.returncode == 2 and "is a folder" in done.stderr


def test_nohup_is_respected_and_closed_streams_do_no_harm(tiny_options: list[str], tmp_path: Path) -> None:
    command = " ".join(["exec", *CORE, "train", *tiny_options, "--set", "training.num_epochs=40"])
    process = subprocess.Popen(["sh", "-c", f"trap '' HUP; {command} >&- 2>&-"], cwd=tmp_path)
    runs = tmp_path / "runs"
    while process.poll() is None and not any(b"StepCompleted" in f.read_bytes() for f in runs.glob("*/events.jsonl")):
        time.sleep(0.1)
    process.send_signal(signal.SIGHUP)
    assert process.wait(60) == 0


def test_a_run_that_is_finished_is_not_gone_on_with(trained: tuple[Path, str, str]) -> None:
    place, *_ = trained
    (folder,) = (place / "runs").iterdir()
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    done = done_forked("train", "--resume", "last", cwd=place)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{folder.name} is finished" in done.stderr
    assert f"softtune infer runs/{folder.name}/checkpoints/best.pt" in done.stderr
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(("state", "wanted", "scored", "refused", "finished"), [
    ("finished", True, True, False, True), ("finished", True, False, False, False),
    ("finished", True, False, True, True), ("finished", False, False, False, True),
    ("stopped", True, True, False, False), ("failed", False, False, False, False),
])
def test_a_run_is_finished_when_it_has_the_scores_that_it_can_have(
    state: str, wanted: bool, scored: bool, refused: bool, finished: bool, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refusal = WeakSandboxError() if refused else None
    monkeypatch.setattr("core.evaluation.permission.refusal_to_run", lambda settings: refusal)
    config = Config.model_validate({"evaluation": {"score_after_training": wanted}})
    folder = create_run(config, "x", tmp_path)
    told = {"state": state, "pass_at_1": {"all": 0.5} if scored else {}}
    with pytest.raises(UsageError, match="x is finished") if finished else nullcontext():
        check_unfinished(folder, config, folder.read_record().model_copy(update=told))


def test_a_damaged_record_is_put_right_where_a_run_goes_on(trained: tuple[Path, str, str], tmp_path: Path) -> None:
    place, *_ = trained
    shutil.copytree(place / "runs", tmp_path / "runs")
    (folder,) = (tmp_path / "runs").iterdir()
    whole = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text('{"run_id": ')
    listed = done_forked("runs", cwd=tmp_path).stdout
    assert "damaged" in listed and f"softtune train --resume {folder.name} puts it right" in listed
    done = done_forked("train", "--resume", "last", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "run.json was damaged or missing" in done.stderr and "run.json.previous, is taken instead" in done.stderr
    now = json.loads((folder / "run.json").read_text())
    assert {key for key in whole if now[key] != whole[key]} <= {"pid", "pid_started", "ended", "oom_kills"}
    assert '"type":"Notice"' in (folder / "events.jsonl").read_text()


def result_rows(passed: str, sides: str = "tth") -> str:
    names = {"t": "train", "h": "heldout"}
    rows = [{"task_id": f"x/{i}", "completion": "", "passed": p == "1", "split": names[side]}
            for i, (p, side) in enumerate(zip(passed, sides, strict=True))]
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_compare_tells_which_problems_flipped(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(result_rows("100"))
    (tmp_path / "b.jsonl").write_text(result_rows("011"))
    done = softtune("compare", "a.jsonl", "b.jsonl", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["gained"], report["lost"], report["only_in_one"]) == (["x/1", "x/2"], ["x/0"], [])
    assert report["a"]["all"] == {"total": 3, "passed": 1, "failed": 2, "pass@1": pytest.approx(1 / 3)}
    assert report["b"]["heldout"] == {"total": 1, "passed": 1, "failed": 0, "pass@1": 1.0}
    assert "gained      2  x/1, x/2" in softtune("compare", "a.jsonl", "b.jsonl", cwd=tmp_path).stdout


def test_compare_warns_of_a_checkpoint_that_may_have_trained_on_the_held_out_problems(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(result_rows("100"))
    for checkpoint, unsplit in (("x.pt", ["B"]), ("", [])):  # the base model has none, and trained on nothing
        rows = [{**json.loads(line), "split": "", "checkpoint": checkpoint} for line in result_rows("011").splitlines()]
        (tmp_path / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        report = json.loads(done_forked("compare", "a.jsonl", "b.jsonl", "--json", cwd=tmp_path).stdout)
        assert report["unsplit"] == unsplit
        words = done_forked("compare", "a.jsonl", "b.jsonl", cwd=tmp_path).stdout
        assert ("! what B trained on is not known" in words) == bool(unsplit)


def test_compare_says_what_it_cannot_compare(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(result_rows("100"))
    (tmp_path / "c.jsonl").write_text('{"task_id": "x/0", "completion": ""}\n')
    (tmp_path / "o.jsonl").write_text('{"task_id": "y/0", "completion": "", "passed": true}\n')
    for other, words in (("c.jsonl", "no results"), ("o.jsonl", "no problem in common"), ("n.jsonl", "there is no"),
                         ("n.pt", "there is no checkpoint")):
        done = done_forked("compare", "a.jsonl", other, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (1, "") and words in done.stderr


def test_checkpoints_are_compared_by_their_runs_results(trained: tuple[Path, str, str]) -> None:
    place, *_ = trained
    (folder,) = (place / "runs").iterdir()
    best = "soft_prompts/best_soft_prompts.pt"
    results = str(folder / "evaluations" / "best" / "results.jsonl")
    done = done_forked("compare", best, results, "--json", cwd=place)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["gained"] == report["lost"] == [] and report["a"]["all"] == report["b"]["all"]
    epoch = done_forked("compare", "soft_prompts/soft_prompts_epoch_1.pt", best, cwd=place)
    assert epoch.returncode == 1 and "has not been scored" in epoch.stderr
