"""Completing behind an endpoint: what is asked, retried, kept and written, against a server that does what it likes."""

from __future__ import annotations

import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from core.cli import main
from core.contract.config import Config
from core.contract.config_file import load_config
from core.contract.control import Command, ControlInbox
from core.contract.errors import UsageError
from core.contract.events import (
    CompletionGenerated,
    CompletionsSaved,
    Event,
    Notice,
    Progress,
    RunFailed,
    RunFinished,
    RunPaused,
    RunResumed,
    RunStopped,
)
from core.contract.exports import ExportedFile, Manifest
from core.contract.record import Split
from core.data.humaneval import load_problems, select_problems
from core.endpoint import infer
from core.evaluation.completions import read_completions
from core.evaluation.job import evaluate
from core.generation import endpoint as asked_of
from core.generation.endpoint import Endpoint, base_url
from core.generation.postprocess import post_process
from core.model.checkpoint import Checkpoint, save_checkpoint
from tests.headless import CORE, wait_until
from tests.stand_in_endpoint import StandIn, failed, given, serving

PROBLEMS = load_problems().problems
BY_PROMPT = {problem.prompt: problem for problem in PROBLEMS}


def settings(*overrides: str) -> Config:
    return load_config(overrides=["dataset.max_samples=12", *overrides])


SOME = select_problems(load_problems(), settings().dataset)


def solution(body: dict[str, Any]) -> tuple[int, Any, dict[str, str]]:
    return given(BY_PROMPT[body["prompt"]].canonical_solution)


def run(
    stand_in: StandIn, output: Path, *overrides: str, concurrency: int = 4, retries: int = 3,
    control: ControlInbox | None = None, source: Path | None = None, split: str = "all",
) -> list[Event]:
    endpoint = Endpoint(base_url(stand_in.url), "tuned", concurrency, retries)
    return list(infer(settings(*overrides), endpoint, source, control or ControlInbox(), split=split, output=output))


def rows_of(output: Path) -> dict[str, dict[str, Any]]:
    return {row["task_id"]: row for row in read_completions(output)}


def test_the_rows_are_those_of_infer_and_evaluate_reads_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    output = tmp_path / "c.jsonl"
    with serving(solution) as stand_in:
        events = run(stand_in, output, "dataset.max_samples=null", split="heldout")
    rows = read_completions(output)
    assert {row["split"] for row in rows} == {"heldout"} and len(rows) == 33
    for row in rows:
        assert row["completion"] == PROBLEMS[int(row["task_id"].split("/")[1])].canonical_solution
    assert list(rows[0]) == ["task_id", "completion", "sample", "split", "tokens", "finish_reason",
                             "checkpoint", "model"]
    assert (rows[0]["checkpoint"], rows[0]["model"]) == (f"endpoint {stand_in.url}/v1", "tuned")
    assert isinstance(events[-1], RunFinished) and isinstance(events[-2], CompletionsSaved)
    told = [event for event in events if isinstance(event, CompletionGenerated)]
    assert [(event.done, event.total) for event in told] == [(done, 33) for done in range(1, 34)]
    assert [event.total for event in events if isinstance(event, Progress)] == [33]
    assert stand_in.keys == {"Bearer secret"} and list(tmp_path.iterdir()) == [output]
    asked = stand_in.asked[0]
    assert asked == {"model": "tuned", "prompt": asked["prompt"], "max_tokens": 512, "temperature": 0.0,
                     "stop": ["\nclass", "\ndef", "\n#", "\nif", "\nprint"]}
    finished = list(evaluate(settings("evaluation.allow_weak_sandbox=true"), output, ControlInbox()))[-1]
    assert isinstance(finished, RunFinished) and finished.evaluation and finished.evaluation.heldout.passed == 33


def test_requests_run_side_by_side_and_no_more_than_were_allowed(tmp_path: Path) -> None:
    meeting = threading.Barrier(4, timeout=30)

    def together(body: dict[str, Any]) -> tuple[int, Any, dict[str, str]]:
        meeting.wait()  # none is answered before four have come
        return solution(body)

    with serving(together) as stand_in:
        events = run(stand_in, tmp_path / "c.jsonl", concurrency=4)
    assert isinstance(events[-1], RunFinished) and stand_in.most_at_once == 4


def test_failures_that_pass_are_asked_again(tmp_path: Path) -> None:
    tries: Counter[str] = Counter()
    troubles = [failed(500, "no"), failed(429, "busy"), failed(503, "loading")]

    def unsteady(body: dict[str, Any]) -> tuple[int, Any, dict[str, str]]:
        tries[body["prompt"]] += 1
        count = tries[body["prompt"]]
        return troubles[count - 1] if count <= 3 else solution(body)

    with serving(unsteady) as stand_in:
        events = run(stand_in, tmp_path / "c.jsonl", retries=3)
    assert isinstance(events[-1], RunFinished) and set(tries.values()) == {4}
    assert [row["task_id"] for row in read_completions(tmp_path / "c.jsonl")] == [p.task_id for p in SOME]


def test_what_was_answered_is_not_asked_again_unless_it_depends_on_something_else(tmp_path: Path) -> None:
    output = tmp_path / "c.jsonl"
    alive = 5

    def dying(body: dict[str, Any]) -> tuple[int, Any, dict[str, str]]:
        return solution(body) if len(stand_in.asked) <= alive else (0, None, {})

    with serving(dying) as stand_in:
        failure = run(stand_in, output, concurrency=1, retries=0)[-1]
        assert isinstance(failure, RunFailed) and "cannot be reached" in failure.what
        assert "the same command goes on: 5 of 12 are answered" in failure.remedy and not output.exists()
        first = stand_in.prompts[:5]
        for asked, override in ((12, "inference.max_new_tokens=9"), (7, "inference.batch_size=3")):
            alive = 99
            kept = output.with_name("c.jsonl.journal").read_bytes()
            stand_in.asked.clear()
            assert isinstance(run(stand_in, output, override, concurrency=1)[-1], RunFinished)
            assert len(stand_in.asked) == asked
            output.unlink()
            output.with_name("c.jsonl.journal").write_bytes(kept)
        assert not set(first) & set(stand_in.prompts)


def test_a_stopped_run_goes_on_with_the_rest(tmp_path: Path) -> None:
    output, control = tmp_path / "c.jsonl", ControlInbox()

    def slowly(body: dict[str, Any]) -> tuple[int, Any, dict[str, str]]:
        if len(stand_in.asked) > 6:
            control.request(Command.STOP)
            time.sleep(0.2)
        return solution(body)

    with serving(slowly) as stand_in:
        events = run(stand_in, output, concurrency=2, control=control)
        assert isinstance(events[-1], RunStopped) and not output.exists()
        done = {event.task_id for event in events if isinstance(event, CompletionGenerated)}
        assert 5 <= len(done) < 12
        stand_in.asked.clear()
        stand_in.answer = solution
        events = run(stand_in, output, concurrency=2)
        assert any(isinstance(event, Notice) and f"going on: {len(done)} of 12" in event.what for event in events)
        assert {BY_PROMPT[prompt].task_id for prompt in stand_in.prompts} == {p.task_id for p in SOME} - done
    rows = rows_of(output)
    assert {task: row["completion"] for task, row in rows.items()} == {p.task_id: p.canonical_solution for p in SOME}
    assert list(tmp_path.iterdir()) == [output]


def test_a_pause_lets_in_what_is_under_way_and_asks_nothing_more(tmp_path: Path) -> None:
    control = ControlInbox()

    def pausing(body: dict[str, Any]) -> tuple[int, Any, dict[str, str]]:
        if len(stand_in.asked) == 4:
            control.request(Command.PAUSE)
            threading.Timer(0.5, control.request, [Command.RESUME]).start()
        return solution(body)

    asked = []
    with serving(pausing) as stand_in:
        endpoint = Endpoint(base_url(stand_in.url), "tuned", 1, 0)
        events = []
        for event in infer(settings(), endpoint, None, control, output=tmp_path / "c.jsonl"):
            events.append(event)
            if isinstance(event, RunPaused | RunResumed):
                asked.append(len(stand_in.asked))
    assert asked == [4, 4] and isinstance(events[-1], RunFinished)


@pytest.mark.parametrize(("answer", "words"), [
    (failed(401, "no such key"), ["refuses the key: no such key", "OPENAI_API_KEY"]),
    (failed(404, "The model `tuned` does not exist"), ["--model tuned", "it serves tuned, other"]),
    ((400, {"detail": "Server is pinned to 'x'"}, {}), ["refuses the request (400", "to 'x'", "it serves tuned"]),
    (failed(429, "slow down"), ["takes no more requests (429), after 1 retries: slow down", "--concurrency"]),
    (failed(500, "CUDA\n\x1b[2J\ud800error"), ["fails (500), after 1 retries: CUDA [2J error", "the server's log"]),
    ((200, b"<html>welcome</html>", {}), ["no completion", "OpenAI-compatible"]),
    ((200, {"choices": []}, {}), ["no completion"]),
    ((200, {"choices": [{"text": None}]}, {}), ["no completion"]),
    ((200, ["text"], {}), ["no completion"]),
    ((200, {"choices": "x"}, {}), ["no completion"]),
])
def test_what_cannot_be_had_is_told_with_the_option_that_mends_it(
    answer: tuple[int, Any, dict[str, str]], words: list[str], tmp_path: Path
) -> None:
    with serving(lambda _: answer) as stand_in:
        stand_in.models = (200, {"object": "list", "data": [{"id": "tuned"}, {"id": "other"}]})
        event = run(stand_in, tmp_path / "c.jsonl", retries=1)[-1]
    assert isinstance(event, RunFailed)
    told = f"{event.what}\n{event.remedy}"
    assert all(word in told for word in [f"--endpoint {stand_in.url}", *words]), told
    assert list(tmp_path.iterdir()) == []


NESTED: tuple[int, Any, dict[str, str]] = (200, b"[" * 200_000, {"Content-Type": "application/json"})


def test_an_answer_that_nests_without_end_is_no_completion(tmp_path: Path) -> None:
    with serving(lambda _: NESTED) as stand_in:
        stand_in.models, stand_in.headers = NESTED[:2], NESTED[2]
        event = run(stand_in, tmp_path / "c.jsonl")[-1]
    assert isinstance(event, RunFailed) and "gives something that is no completion" in event.what


def test_an_answer_far_longer_than_was_asked_for_is_refused_and_not_read_to_its_end(tmp_path: Path) -> None:
    sent = 0

    def flood() -> Iterator[bytes]:
        nonlocal sent
        while True:
            sent += 1 << 16
            yield b"x" * (1 << 16)

    with serving(lambda _: given("x" * 16_385)) as stand_in:
        stand_in.models = (200, flood())  # the list of models is left at some length, and does without
        event = run(stand_in, tmp_path / "c.jsonl", "inference.max_new_tokens=9")[-1]
        assert isinstance(event, RunFailed) and "gives 16,385 characters, far more than" in event.what
        assert "does not heed max_tokens" in event.remedy
        stand_in.answer = lambda _: given("x" * 16_384)
        assert isinstance(run(stand_in, tmp_path / "c.jsonl", "inference.max_new_tokens=9")[-1], RunFinished)
        packed = gzip.compress(b" " * 40_000_000)
        for body, headers in ((flood(), {}), (iter([packed]), {"Content-Encoding": "gzip"})):
            stand_in.answer = lambda _: (200, body, headers)  # noqa: B023 - called here
            event = run(stand_in, tmp_path / "d.jsonl", concurrency=1)[-1]
            assert isinstance(event, RunFailed) and "bytes, far more than inference.max_new_tokens" in event.what
    assert 1 << 20 < sent < 1 << 26


def test_a_server_that_drips_is_not_waited_for_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asked_of, "TIMEOUT_SECONDS", 0.3)
    monkeypatch.setattr(asked_of, "CONNECT_SECONDS", 0.3)

    def drips() -> Iterator[bytes]:
        while True:
            time.sleep(0.02)
            yield b" "

    with serving(lambda _: (200, drips(), {})) as stand_in:
        stand_in.models = (200, drips())
        event = run(stand_in, tmp_path / "c.jsonl")[-1]
        assert isinstance(event, RunFailed) and "gave no answer within" in event.what and stand_in.asked


def test_a_server_that_redirects_without_end_is_told_as_such(tmp_path: Path) -> None:
    with serving(solution) as stand_in:
        stand_in.models, stand_in.headers = (307, {}), {"Location": f"{stand_in.url}/v1/models"}
        event = run(stand_in, tmp_path / "c.jsonl")[-1]
    assert isinstance(event, RunFailed) and "redirects without end" in event.what and "start" not in event.remedy


def test_a_line_of_the_journal_that_is_not_as_it_was_written_is_asked_for_again(tmp_path: Path) -> None:
    output, journal = tmp_path / "c.jsonl", tmp_path / "c.jsonl.journal"
    with serving(lambda body: solution(body) if len(stand_in.asked) <= 8 else (0, None, {})) as stand_in:
        run(stand_in, output, concurrency=1, retries=0)
        rows = [json.loads(line) for line in journal.read_text().splitlines()]
        first, *answers = [row for row in rows if "key" in row]
        damage: list[dict[str, Any]] = [{"text": 5}, {"more": 1}, {"tokens": "x"}, {"finish_reason": []},
                                        {"text": "\ud800"}, {"key": []}]
        damaged = [first, *(answer | change for answer, change in zip(answers, damage, strict=False)), answers[-1]]
        journal.write_text("".join(json.dumps(row) + "\n" for row in damaged))
        stand_in.asked.clear()
        stand_in.answer = solution
        assert isinstance(run(stand_in, output)[-1], RunFinished) and len(stand_in.asked) == 10
    assert {task: row["completion"] for task, row in rows_of(output).items()} == {
        problem.task_id: problem.canonical_solution for problem in SOME
    }


def test_a_server_that_takes_its_time_is_not_waited_for_by_a_stop(tmp_path: Path) -> None:
    control = ControlInbox()
    over = threading.Event()

    def never(_: dict[str, Any]) -> tuple[int, Any, dict[str, str]]:
        control.request(Command.STOP)
        over.wait(60)
        return 0, None, {}

    with serving(never) as stand_in:
        begun = time.monotonic()
        assert isinstance(run(stand_in, tmp_path / "c.jsonl", control=control)[-1], RunStopped)
        assert time.monotonic() - begun < 30
        over.set()
    assert list(tmp_path.iterdir()) == []


def test_nobody_there_and_a_key_that_is_refused_are_told_at_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    endpoint = Endpoint(f"http://127.0.0.1:{port}/v1", "tuned")
    begun = time.monotonic()
    event = list(infer(settings(), endpoint, None, ControlInbox(), output=tmp_path / "c.jsonl"))[-1]
    assert isinstance(event, RunFailed) and "cannot be reached: " in event.what and "softtune deploy" in event.remedy
    with serving(solution) as stand_in:
        stand_in.models = (401, {"error": {"message": "who are you"}})
        event = run(stand_in, tmp_path / "c.jsonl", retries=9)[-1]
        assert isinstance(event, RunFailed) and "refuses the key: who are you" in event.what and not stand_in.asked
    assert time.monotonic() - begun < 10  # nine retries would take a minute


def test_a_stop_sequence_is_cut_at_whether_a_server_leaves_it_in_or_out(tmp_path: Path) -> None:
    answers = {
        SOME[0].prompt: given("    x\ndef f"), SOME[1].prompt: given("    x", stop_reason="\ndef"),
        SOME[2].prompt: given("    x", stop_reason=None), SOME[3].prompt: given("    x", "length"),
        SOME[4].prompt: given("    x\nclass", "length"), SOME[5].prompt: given("    \ud800x"),
        SOME[6].prompt: (200, {"choices": [{"text": "    x"}]}, {}),
    }
    with serving(lambda body: answers.get(body["prompt"]) or solution(body)) as stand_in:
        run(stand_in, tmp_path / "c.jsonl")
    rows = rows_of(tmp_path / "c.jsonl")
    assert {rows[problem.task_id]["completion"] for problem in SOME[:5]} == {"    x"}
    assert rows[SOME[5].task_id]["completion"] == "    \ufffdx" and rows[SOME[6].task_id]["tokens"] is None
    reasons = [rows[problem.task_id]["finish_reason"] for problem in SOME[:5]]
    assert reasons == ["stop", "stop", "eos", "length", "stop"]


def test_a_server_that_takes_four_stop_sequences_gets_four_and_the_text_is_the_same(tmp_path: Path) -> None:
    def four(body: dict[str, Any]) -> tuple[int, Any, dict[str, str]]:
        if len(body["stop"]) > 4:
            return 400, {"detail": "at most 4 stop sequences"}, {}
        return given("    x\nprint(1)")

    with serving(four) as stand_in:
        events = run(stand_in, tmp_path / "c.jsonl", concurrency=1)
    assert isinstance(events[-1], RunFinished) and len(stand_in.asked) == 13  # it learns that once
    assert {row["completion"] for row in read_completions(tmp_path / "c.jsonl")} == {"    x"}


def test_a_server_that_sees_a_stop_sequence_across_the_end_of_the_prompt_is_asked_without_them(tmp_path: Path) -> None:
    def across(body: dict[str, Any]) -> tuple[int, Any, dict[str, str]]:
        assert body["prompt"].endswith("\n")
        return given("define" if "stop" in body else "define(x)\n\ndef g(): pass")

    with serving(across) as stand_in:
        run(stand_in, tmp_path / "c.jsonl")
        assert len(stand_in.asked) == 24
        assert {row["completion"] for row in read_completions(tmp_path / "c.jsonl")} == {"define(x)\n"}
        stand_in.answer = lambda _: given("    def g(): pass")
        stand_in.asked.clear()
        run(stand_in, tmp_path / "d.jsonl")
        assert len(stand_in.asked) == 12


def test_samples_have_seeds_of_their_own_and_copies_are_told(tmp_path: Path) -> None:
    sampled = ("inference.temperature=0.8", "inference.num_samples=3", "inference.top_p=0.9")
    with serving(lambda body: given(f"    return {body['seed']}")) as stand_in:
        events = run(stand_in, tmp_path / "a.jsonl", *sampled)
        seeds = [body["seed"] for body in stand_in.asked]
        assert len(set(seeds)) == 36 and {body["top_p"] for body in stand_in.asked} == {0.9}
        assert not [event for event in events if isinstance(event, Notice)]
        run(stand_in, tmp_path / "b.jsonl", *sampled)
        assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
        stand_in.answer = solution
        events = run(stand_in, tmp_path / "c.jsonl", *sampled)
    assert ["all the same" in event.what for event in events if isinstance(event, Notice)] == [True]
    rows = read_completions(tmp_path / "a.jsonl")
    assert [(row["task_id"], row["sample"]) for row in rows] == [(p.task_id, n) for p in SOME for n in range(3)]


def test_post_processing_has_all_that_the_endpoint_wrote(tmp_path: Path) -> None:
    text = "```python\n    return 1\n```\nHere is why\ndef g(): pass"
    with serving(lambda _: given(text)) as stand_in:
        run(stand_in, tmp_path / "c.jsonl", "inference.post_processing=post_v3")
        assert "stop" not in stand_in.asked[0]
    row = read_completions(tmp_path / "c.jsonl")[0]
    assert (row["raw_completion"], row["post_processing"]) == (text, "post_v3")
    assert row["completion"] == post_process(text, SOME[0], "post_v3")


# What is served: its split, and what stands around a problem there


def exported(folder: Path, **changes: Any) -> Path:
    folder.mkdir()
    config = settings("inference.text_prompt=Write Python.")
    manifest = Manifest(
        format="merged", base_model="b", run_id="r", epoch=1, step=2, metrics={}, config=config.model_dump(),
        split=Split(train=[p.task_id for p in SOME[:2]], heldout=[p.task_id for p in SOME[2:]]), num_virtual_tokens=2,
        embedding_dim=4, **changes,
        files={name: ExportedFile(size=0, sha256="")
               for name in ("config.json", "tokenizer.json", "model.safetensors")},
    )
    (folder / "softtune.json").write_text(manifest.model_dump_json())
    return folder


def test_a_folder_of_ours_says_what_was_held_out_and_how_it_is_asked(tmp_path: Path) -> None:
    by_itself = exported(tmp_path / "a")
    literal = exported(tmp_path / "b", auto_prepend=False, literal_prefix="<|soft_0|>Write", literal_suffix="!")
    with serving(lambda _: given("    pass")) as stand_in:
        for folder, prefix, suffix in ((by_itself, "", ""), (literal, "<|soft_0|>Write", "!")):
            stand_in.asked.clear()
            events = run(stand_in, tmp_path / "c.jsonl", source=folder, split="heldout")
            rows = read_completions(tmp_path / "c.jsonl")
            assert [row["task_id"] for row in rows] == [p.task_id for p in SOME[2:]]
            assert rows[0]["source"] == str(folder)
            assert {body["prompt"] for body in stand_in.asked} == {f"{prefix}{p.prompt}{suffix}" for p in SOME[2:]}
            (notice,) = (event for event in events if isinstance(event, Notice))  # the settings have no text
            assert "trained with: text with the text 'Write Python.'" in notice.what


def test_a_checkpoint_says_it_too_and_an_unknown_model_is_asked_in_the_style_of_the_settings(tmp_path: Path) -> None:
    config = settings()
    split = Split(train=[p.task_id for p in SOME[1:]], heldout=[SOME[0].task_id])
    save_checkpoint(Checkpoint(torch.zeros(2, 4), "b", 1, 2, {}, config.model_dump(), split, "r"), tmp_path / "x.pt")
    with serving(lambda _: given("    pass")) as stand_in:
        run(stand_in, tmp_path / "c.jsonl", source=tmp_path / "x.pt", split="heldout")
        assert stand_in.prompts == [SOME[0].prompt]
        stand_in.asked.clear()
        events = run(stand_in, tmp_path / "d.jsonl", "inference.text_prompt=Write.")
        assert {body["prompt"] for body in stand_in.asked} == {f"Write.{p.prompt}" for p in SOME}
        assert ["together" in event.what for event in events if isinstance(event, Notice)] == [True]
        event = run(stand_in, tmp_path / "e.jsonl", "inference.prompt_style=infilling")[-1]
    assert isinstance(event, RunFailed) and "inference.prompt_style is infilling" in event.what


@pytest.mark.parametrize(("text", "url"), [
    ("http://a:8000", "http://a:8000/v1"), ("http://a:8000/", "http://a:8000/v1"),
    ("https://a/v1/", "https://a/v1"), ("http://a/openai/v1", "http://a/openai/v1"),
    ("http://[::1]:9", "http://[::1]:9/v1"),
    ("a:8000", None), ("ftp://a", None), ("http://", None), ("http://a:x", None), ("http://me:key@a", None),
    ("http://a?key=1", None), ("", None), ("http://xn--ü--.-", None), ("http://exa mple", None), ("http://a..b", None),
    ("ftp://me:key@a", None), ("http://me:key@a:x", None), ("me:key@a?key=1", None), ("http://me:k ey@a", None),
])
def test_an_address_is_taken_as_people_write_it(text: str, url: str | None) -> None:
    if url is None:
        with pytest.raises(UsageError, match="--endpoint") as raised:
            base_url(text)
        assert not any(secret in str(raised.value) for secret in ("me:", "key@", "key=", "k ey"))
    else:
        assert base_url(text) == url


# The command


@pytest.mark.parametrize(("options", "words"), [
    (["--model", "x"], "--model belongs to --endpoint"), (["--concurrency", "2"], "--concurrency belongs to"),
    (["--endpoint", "http://a"], "needs the name of the model"), (["--endpoint", "a", "--model", "x"], "no address"),
    (["--endpoint", "http://a", "--model", "x", "--concurrency", "0"], "--concurrency: found 0"),
    (["--endpoint", "http://a", "--model", "x", "--no-soft-prompt"], "--no-soft-prompt"),
    (["--endpoint", "http://a", "--model", "x", "--set", "inference.prompt_style=infilling"], "infilling"),
])
def test_a_wrong_command_is_told_before_anything_is_asked(
    options: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["infer", *options]) == 2
    assert words in capfd.readouterr().err and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", ["sk-ü", "sk-SEC\nRET", "sk-\x1b"])
def test_a_key_that_can_be_none_is_named_and_not_repeated(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", key)
    assert main(["infer", "--endpoint", "http://127.0.0.1:9", "--model", "x", "--json"]) == 2
    told = "".join(capfd.readouterr())
    assert "OPENAI_API_KEY has characters" in told and "sk-" not in told


def test_a_key_with_a_line_break_behind_it_is_taken_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-SECRET\n")
    with serving(solution) as stand_in:
        assert isinstance(run(stand_in, tmp_path / "c.jsonl")[-1], RunFinished)
    assert stand_in.keys == {"Bearer sk-SECRET"}


def test_an_exported_folder_without_an_endpoint_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    exported(tmp_path / "tuned")
    assert main(["infer", "tuned"]) == 2
    told = capfd.readouterr().err
    assert "tuned is an exported folder" in told and "softtune import tuned" in told and "--endpoint URL" in told


@pytest.mark.slow
def test_the_command_needs_no_torch_and_goes_on_after_a_kill_and_a_ctrl_c(tmp_path: Path) -> None:
    def slowly(body: dict[str, Any]) -> tuple[int, Any, dict[str, str]]:
        if len(stand_in.asked) > 4:
            time.sleep(0.3)
        return solution(body)

    output = tmp_path / "c.jsonl"
    journal = tmp_path / "c.jsonl.journal"
    with serving(slowly) as stand_in:
        options = ["infer", "--endpoint", stand_in.url, "--model", "tuned", "--set", "dataset.max_samples=12",
                   "--concurrency", "1", "--output", str(output)]
        for number, status in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)):
            known = len(stand_in.asked)
            with subprocess.Popen([*CORE, *options], cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
                wait_until(lambda: len(stand_in.asked) > known + 2, process.poll)  # noqa: B023 - called here
                process.send_signal(number)
                err = process.communicate(timeout=30)[1]
            assert process.returncode == status and journal.exists() and not output.exists()
        assert "the same command goes on with the rest" in err
        stand_in.asked.clear()
        answered = sum('"key"' in line for line in journal.read_text().splitlines())
        program = ("import sys\nfrom core.cli import main\nstatus = main(sys.argv[1:])\n"
                   "sys.exit(9 if {'torch', 'transformers'} & set(sys.modules) else status)")
        last = subprocess.run([sys.executable, "-P", "-c", program, *options, "--json"], cwd=tmp_path,
                              env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}, capture_output=True,
                              text=True, timeout=60)
        assert last.returncode == 0, last.stderr
        assert answered >= 4 and len(stand_in.asked) == 12 - answered
    assert rows_of(output).keys() == {p.task_id for p in SOME} and not journal.exists()
    assert json.loads(last.stdout.splitlines()[-1])["type"] == "RunFinished"
