"""The workbench as the app meets it: a process that is asked and answers, whatever its libraries print.

One process serves the tests that need a model; those about its end have one of their own, without a model where that
does.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from torch.nn.functional import cosine_similarity

from core.contract import workbench as wb
from core.contract.config import Config, EvaluationSettings
from core.contract.config_file import load_config
from core.contract.control import ControlInbox, heed
from core.contract.errors import CheckpointError
from core.contract.events import CompletionGenerated, EvaluationCompleted, ProblemEvaluated, Progress
from core.contract.record import Split
from core.contract.runs import create_run
from core.data.dataset import prepare_dataset
from core.generation.decoder import DecodingSettings, Request, complete
from core.model.checkpoint import Checkpoint, save_checkpoint
from core.workbench import Replies, inspection
from core.workbench.conversation import Conversation
from core.workbench.models import settings_of

SPARE_ROW = 505
"""A row of the tiny model's embedding beyond its tokenizer's 500."""

NOISE = """
import os, sys

class Noise:
    def find_spec(self, name, path=None, target=None):
        if name in ("torch", "transformers", "core.generation.decoder"):
            print("noise of", name, flush=True)
            os.write(1, b'{"request": 1, "type": "Ended"')

sys.meta_path.insert(0, Noise())
"""

PROBLEM = wb.ProblemText(
    task_id="Test/42", prompt="def answer():\n", entry_point="answer",
    test="def check(candidate):\n    assert candidate() == 42\n",
)

Make = Callable[[int], wb.AnyRequest]


class Talk:
    """A workbench process and this side of the conversation; every line that it writes must be a reply."""

    def __init__(self, folder: Path, command: Sequence[str] = ("-P", "-m", "core.workbench"), **more: str) -> None:
        self.log = open(folder / "workbench.log", "wb")  # noqa: SIM115 - closed with the process
        self.process = subprocess.Popen(
            [sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, cwd=folder,
            env={**os.environ, "OMP_NUM_THREADS": "1", **more}, start_new_session=True,
        )
        self.requests: list[wb.AnyRequest] = []
        self.heard: list[wb.AnyReply] = []
        self._arrived: queue.Queue[wb.AnyReply | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with contextlib.suppress(ValueError):  # a line that is no reply ends the reading, and so fails the test
            for line in self.process.stdout:
                self._arrived.put(wb.parse_reply(line))
        self._arrived.put(None)

    def write(self, data: bytes) -> None:
        """Something on its stdin."""
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def send(self, make: Make) -> int:
        """A request; its id."""
        self.requests.append(make(len(self.requests) + 1))
        self.write(wb.message_line(self.requests[-1]))
        return self.requests[-1].id

    def hear(self) -> wb.AnyReply:
        """The next reply."""
        reply = self._arrived.get(timeout=60)
        assert reply is not None, "the workbench ended, or wrote a line that is no reply"
        self.heard.append(reply)
        return reply

    def until_last(self, *numbers: int) -> list[wb.AnyReply]:
        """All that comes until each of these requests has had its last reply."""
        waiting, replies = set(numbers), []
        while waiting:
            replies.append(reply := self.hear())
            if isinstance(reply, wb.LAST):
                waiting.discard(reply.request)
        return replies

    def ask(self, *makes: Make) -> list[wb.AnyReply]:
        """Several requests at once, and all that comes of them."""
        return self.until_last(*[self.send(make) for make in makes])

    def refused(self, make: Make) -> wb.Refused:
        """The refusal that a request gets."""
        *_, reply = self.ask(make)
        assert isinstance(reply, wb.Refused), reply
        return reply

    def end(self, seconds: float = 5.0) -> int:
        """Close its stdin; the exit status."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.wait(seconds)

    def wait(self, seconds: float = 5.0) -> int:
        """The exit status, which has to come in time."""
        try:
            return self.process.wait(seconds)
        finally:
            self.process.kill()
            self._reader.join(5)
            assert self.process.stdin is not None and self.process.stdout is not None
            for stream in (self.process.stdin, self.process.stdout, self.log):
                with contextlib.suppress(OSError):
                    stream.close()


class Payload:
    """Would make a folder if it were unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.marker),))


@pytest.fixture(scope="module")
def config(tiny_model_folder: Path) -> Config:
    return load_config(overrides=[
        f"model.name={tiny_model_folder}", "hardware.device=cpu", "dataset.max_samples=6", "dataset.max_length=2048",
        "inference.max_new_tokens=24",
    ])


@pytest.fixture(scope="module")
def rows(tiny_model: Any) -> torch.Tensor:
    """A soft prompt: two tokens of the vocabulary, larger than they are, a spare row, and two of nowhere."""
    words = tiny_model.get_input_embeddings().weight[[300, 77, SPARE_ROW]].float()
    elsewhere = torch.randn(2, 64, generator=torch.Generator().manual_seed(1)) * 0.2
    return torch.cat([words * torch.tensor([[2.0], [3.0], [1.0]]), elsewhere]).clone()


@pytest.fixture(scope="module")
def folder(config: Config, rows: torch.Tensor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with checkpoints, sound and otherwise, and a run."""
    folder = tmp_path_factory.mktemp("workbench")

    def save(path: str, soft_prompt: torch.Tensor, config: Config = config, **more: Any) -> None:
        metrics = {"train_loss": None, "heldout_loss": None, "heldout_perplexity": None}
        save_checkpoint(Checkpoint(soft_prompt, config.model.name, 1, 1, metrics, {**config.model_dump(), **more},
                                   Split(train=["a"], heldout=["b"]), "r"), folder / path)

    save("soft.pt", rows)
    save("narrow.pt", torch.ones(3, 32))
    save("strange.pt", rows, model=3)
    text = config.inference.model_copy(update={"text_prompt": "# Python\n", "text_prompt_position": "before_soft"})
    save("text.pt", rows, config.model_copy(update={"inference": text}))
    torch.save({"soft_prompt": rows, "format_version": 1, "x": Payload(folder / "executed")}, folder / "bomb.pt")
    larger = config.dataset.model_copy(update={"max_samples": None})
    long = lasting(config).model_copy(update={"dataset": larger})
    for name, settings in (("scored", config), ("changed", config), ("long", long)):
        run = create_run(settings, name, folder / "runs")
        prepare_dataset(settings, run)
        save(str(run.checkpoints.relative_to(folder) / "epoch_0001.pt"), rows)
        record = run.read_record().model_copy(update={"state": "finished"})
        run.write_record(record.model_copy(update={"dataset_sha256": "0" * 64}) if name == "changed" else record)
    return folder


@pytest.fixture(scope="module")
def talk(folder: Path) -> Iterator[Talk]:
    """A workbench whose libraries print on stdout, in Python and below it, when they are imported."""
    (folder / "noisy").mkdir()
    (folder / "noisy" / "sitecustomize.py").write_text(NOISE)
    talk = Talk(folder, PYTHONPATH=str(folder / "noisy"))
    yield talk
    assert talk.end() == 0
    assert b"noise of torch" in (folder / "workbench.log").read_bytes()


def completing(config: Config, checkpoint: str = "", prompt: str = "def f(xs):\n", **more: Any) -> Make:
    return lambda number: wb.Complete(id=number, config=config, checkpoint=checkpoint, prompt=prompt, **more)


def lasting(config: Config) -> Config:
    """Completions that no stop sequence ends soon."""
    long = config.inference.model_copy(update={"max_new_tokens": 1800, "stop_sequences": []})
    return config.model_copy(update={"inference": long})


def programming(completion: str, seconds: float = 3.0) -> Make:
    return lambda number: wb.RunProgram(
        id=number, problem=PROBLEM, completion=completion, evaluation=EvaluationSettings(timeout_seconds=seconds))


def until(true: Callable[[], bool]) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


def loads(talk: Talk) -> int:
    """How often the model that requests share was loaded."""
    exports = {request.id for request in talk.requests if isinstance(request, wb.ExportCheckpoint | wb.ImportAdapter)}
    return sum(isinstance(reply, wb.Working) and reply.request not in exports for reply in talk.heard)


def expected(
    model: Any, tokenizer: Any, config: Config, prefix: torch.Tensor | None, prompt: str = "def f(xs):\n"
) -> tuple[str, int]:
    """Text and tokens by `complete`."""
    settings = config.inference
    asked = DecodingSettings(settings.max_new_tokens, 0.0, 1.0, tuple(settings.stop_sequences), 42, 1)
    requests = [Request("x", tuple(tokenizer(prompt)["input_ids"]))]
    (found,) = [found for found in complete(model, tokenizer, prefix, requests, asked) if found]
    return found.text, len(found.token_ids)


def of(replies: list[wb.AnyReply], number: int, kind: type) -> list[Any]:
    return [reply for reply in replies if reply.request == number and isinstance(reply, kind)]


def test_two_completions_take_turns_on_one_model(
    talk: Talk, config: Config, rows: torch.Tensor, tiny_model: Any, tiny_tokenizer: Any
) -> None:
    replies = talk.ask(completing(config), completing(config, "soft.pt"))
    base, soft = [request.id for request in talk.requests[-2:]]
    for number, prefix in ((base, None), (soft, rows)):
        (whole,) = of(replies, number, wb.PromptCompleted)
        pieces = [reply.text for reply in of(replies, number, wb.TextAdded)]
        assert (whole.text, whole.tokens) == expected(tiny_model, tiny_tokenizer, config, prefix)
        assert "".join(pieces) == whole.text and all(pieces) and len(pieces) > 3
        assert whole.seconds > 0 and isinstance([r for r in replies if r.request == number][-1], wb.Ended)
    order = [reply.request for reply in replies if isinstance(reply, wb.TextAdded)]
    assert sum(one != other for one, other in zip(order, order[1:], strict=False)) > 4
    assert loads(talk) == 1 and len(of(replies, base, wb.PromptCompleted)) == 1


def test_the_soft_prompt_can_be_left_out_and_the_text_prompt_is_the_checkpoints(
    talk: Talk, config: Config, rows: torch.Tensor, tiny_model: Any, tiny_tokenizer: Any
) -> None:
    replies = talk.ask(completing(config, "text.pt"), completing(config, "soft.pt", soft_prompt=False))
    text, bare = [of(replies, request.id, wb.PromptCompleted)[0] for request in talk.requests[-2:]]
    before = tiny_model.get_input_embeddings()(torch.tensor(tiny_tokenizer("# Python\n")["input_ids"]))
    prefix = torch.cat([before, rows])
    assert (text.text, text.tokens) == expected(tiny_model, tiny_tokenizer, config, prefix)
    assert (bare.text, bare.tokens) == expected(tiny_model, tiny_tokenizer, config, None)
    assert len({text.text, bare.text, expected(tiny_model, tiny_tokenizer, config, rows)[0]}) == 3


def test_a_checkpoint_brings_the_style_that_it_was_trained_with(config: Config, rows: torch.Tensor) -> None:
    mine = config.inference.model_copy(
        update={"prompt_style": "text", "text_prompt": "# mine", "post_processing": "post_v2"})
    trained = config.inference.model_copy(update={"prompt_style": "infilling"})
    checkpoint = Checkpoint(rows, config.model.name, 1, 1, {}, {"inference": trained.model_dump()},
                            Split(train=[], heldout=[]), "r")
    used = settings_of(checkpoint, config.model_copy(update={"inference": mine})).inference
    assert (used.style, used.text_prompt, used.post_processing) == ("infilling", "", "post_v2")


def test_a_completion_is_cancelled_and_the_others_go_on(talk: Talk, config: Config) -> None:
    long = talk.send(completing(lasting(config), "soft.pt"))
    while not isinstance(talk.hear(), wb.TextAdded):
        pass
    short = talk.send(completing(config))
    talk.write(wb.message_line(wb.Cancel(id=long)))
    replies = talk.until_last(long, short)
    assert isinstance([reply for reply in replies if reply.request == long][-1], wb.Cancelled)
    assert of(replies, short, wb.Ended) and not of(replies, long, wb.PromptCompleted)
    talk.write(wb.message_line(wb.Cancel(id=long)))  # a second time: nothing to cancel, and nothing is said
    assert {reply.request for reply in talk.ask(completing(config))} == {talk.requests[-1].id}


def test_the_nearest_tokens_are_real_ones(
    talk: Talk, rows: torch.Tensor, tiny_model: Any, tiny_tokenizer: Any
) -> None:
    replies = talk.ask(lambda number: wb.InspectTokens(id=number, checkpoint="soft.pt", neighbours=4))
    (found,) = [reply for reply in replies if isinstance(reply, wb.TokensInspected)]
    words = tiny_model.get_input_embeddings().weight[: len(tiny_tokenizer)]
    cosines = cosine_similarity(rows[:, None], words[None], dim=2)
    for row, token in enumerate(found.tokens):
        best = cosines[row].topk(4)
        assert [near.token_id for near in token.nearest] == best.indices.tolist()
        assert [near.cosine for near in token.nearest] == pytest.approx(best.values.tolist(), abs=1e-5)
        assert token.norm == pytest.approx(rows[row].norm().item(), rel=1e-5)
    assert (found.tokens[0].nearest[0].token_id, found.tokens[1].nearest[0].token_id) == (300, 77)
    assert found.tokens[0].nearest[0].token == tiny_tokenizer.decode([300])
    assert found.vocabulary_norm == pytest.approx(words.norm(dim=1).median().item(), rel=1e-5)
    assert loads(talk) <= 1


def test_two_prompts_are_compared_row_by_row(talk: Talk, rows: torch.Tensor) -> None:
    replies = talk.ask(lambda number: wb.MapCosines(id=number, a="soft.pt", b="text.pt"))
    (found,) = [reply for reply in replies if isinstance(reply, wb.CosinesMapped)]
    assert torch.allclose(torch.tensor(found.cosines), cosine_similarity(rows[:, None], rows[None], dim=2), atol=1e-5)
    refused = talk.refused(lambda number: wb.MapCosines(id=number, a="soft.pt", b="narrow.pt"))
    assert "soft.pt is 64 wide" in refused.what and "narrow.pt is 32" in refused.what and refused.remedy


def test_a_checkpoint_is_scored_into_its_run(talk: Talk, folder: Path) -> None:
    (run,) = (folder / "runs").glob("*-scored")
    record = (run / "run.json").read_bytes(), (run / "run.json").stat().st_mtime_ns
    replies = talk.ask(lambda number: wb.ScoreCheckpoint(id=number, run=str(run), checkpoint="epoch_0001"))
    events = [reply.event for reply in replies if isinstance(reply, wb.Told)]
    assert sum(isinstance(event, CompletionGenerated) for event in events) == 6
    assert sum(isinstance(event, ProblemEvaluated) for event in events) == 6
    (evaluation,) = [event for event in events if isinstance(event, EvaluationCompleted)]
    target = run / "evaluations" / "epoch_0001"
    assert replies[-1] == wb.Ended(request=talk.requests[-1].id, path=str(target))
    assert (evaluation.checkpoint, evaluation.overall.total) == ("epoch_0001", 6)
    written = [[json.loads(line)["task_id"] for line in (target / name).read_text().splitlines()]
               for name in ("completions.jsonl", "results.jsonl")]
    assert written[0] == written[1] and len(written[0]) == 6
    assert json.loads((target / "summary.json").read_text())["all"]["total"] == 6
    assert evaluation.completions_path == str(target / "completions.jsonl")
    assert ((run / "run.json").read_bytes(), (run / "run.json").stat().st_mtime_ns) == record
    assert not (folder / "results").exists() and not (folder / "soft_prompts").exists()


def test_scoring_is_cancelled_while_problems_are_completed(talk: Talk, config: Config, folder: Path) -> None:
    (run,) = (folder / "runs").glob("*-long")
    scoring = talk.send(lambda number: wb.ScoreCheckpoint(id=number, run=str(run), checkpoint="epoch_0001"))
    while not isinstance(talk.hear(), wb.Told):
        pass
    talk.write(wb.message_line(wb.Cancel(id=scoring)))
    assert isinstance(talk.until_last(scoring)[-1], wb.Cancelled)
    assert not (run / "evaluations").exists()


def test_a_checkpoint_is_exported(talk: Talk, folder: Path) -> None:
    def exporting(target: str) -> Make:
        return lambda number: wb.ExportCheckpoint(id=number, checkpoint="soft.pt", format="peft", folder=target)

    *_, ended = talk.ask(exporting("adapter"))
    assert ended == wb.Ended(request=talk.requests[-1].id, path="adapter")
    assert json.loads((folder / "adapter" / "adapter_config.json").read_text())["num_virtual_tokens"] == 5
    assert "adapter is not an empty folder" in talk.refused(exporting("adapter")).what


def test_an_export_tells_how_far_it_is_and_is_cancelled_without_a_trace(talk: Talk, folder: Path) -> None:
    before = set(folder.iterdir())
    number = talk.send(lambda number: wb.ExportCheckpoint(
        id=number, checkpoint="soft.pt", format="merged", folder="merged", auto_prepend=False))
    stages = set()
    while "verifying" not in stages:
        reply = talk.hear()
        if isinstance(reply, wb.Told) and isinstance(reply.event, Progress):
            stages.add(reply.event.stage)
    talk.write(wb.message_line(wb.Cancel(id=number)))
    assert isinstance(talk.until_last(number)[-1], wb.Cancelled)
    assert stages == {"loading", "completing", "writing", "verifying"} and set(folder.iterdir()) == before


def test_an_imported_adapter_is_a_run_whose_checkpoint_is_scored(talk: Talk, folder: Path) -> None:
    talk.ask(lambda number: wb.ExportCheckpoint(id=number, checkpoint="soft.pt", format="peft", folder="theirs"))
    *_, ended = talk.ask(lambda number: wb.ImportAdapter(id=number, folder="theirs", name="taken"))
    assert isinstance(ended, wb.Ended)
    (run,) = (folder / "runs").glob("*-taken")
    assert ended.path == str((run / "checkpoints" / "best.pt").relative_to(folder))
    *told, ended = talk.ask(lambda number: wb.ScoreCheckpoint(id=number, run=str(run), checkpoint="best"))
    (found,) = [reply.event for reply in told
                if isinstance(reply, wb.Told) and isinstance(reply.event, EvaluationCompleted)]
    assert isinstance(ended, wb.Ended) and found.overall.total == 6 and not found.train.total + found.heldout.total
    refused = talk.refused(lambda number: wb.ImportAdapter(id=number, folder="runs"))
    assert "runs is not a prompt-tuning adapter" in refused.what


@pytest.mark.parametrize(("file", "what", "remedy"), [
    ("missing.pt", "there is no checkpoint missing.pt", "train one first"),
    ("bomb.pt", "bomb.pt holds more than tensors", "nothing of it was executed"),
    ("narrow.pt", "narrow.pt is 32 wide, but", "use the model that it was trained on"),
    ("strange.pt", "strange.pt: its settings cannot be read", "use a checkpoint"),
])
def test_what_is_no_good_checkpoint_is_refused(
    file: str, what: str, remedy: str, talk: Talk, config: Config, folder: Path
) -> None:
    makes = [completing(config, file), lambda number: wb.InspectTokens(id=number, checkpoint=file)]
    for refused in [talk.refused(make) for make in makes]:
        assert what in refused.what and remedy in refused.remedy
    assert not (folder / "executed").exists()


def test_other_refusals_name_what_is_wrong(talk: Talk, config: Config, folder: Path) -> None:
    nowhere = config.model_copy(update={"model": config.model.model_copy(update={"name": "/no/such/model"})})
    assert "there is no folder /no/such/model" in talk.refused(completing(nowhere)).what
    assert "nothing to start from" in talk.refused(completing(config, prompt="")).what
    assert "2048 positions" in talk.refused(completing(config, prompt="x = 1\n" * 900)).what
    (changed,) = (folder / "runs").glob("*-changed")
    for run, name, what in ((str(changed), "epoch_0001", "the problems have changed"),
                            (str(changed), "epoch_0009", "there is no checkpoint"),
                            (str(changed), "../../../soft", "is no checkpoint's name"),
                            ("runs/none", "best", "runs/none is no run that can be read")):
        refused = talk.refused(lambda number, run=run, name=name: wb.ScoreCheckpoint(  # type: ignore[misc]
            id=number, run=run, checkpoint=name))
        assert what in refused.what and refused.remedy


def test_a_line_that_is_no_request_is_refused_where_it_says_who_asks(talk: Talk, folder: Path) -> None:
    talk.write(b'no JSON\n\n{"type": "Dance"}\n{"id": true}\n[1]\n{"id": 7777, "type": "Dance"}\n')
    refused = talk.hear()
    assert isinstance(refused, wb.Refused) and refused.request == 7777 and "Dance" in refused.what
    talk.write(b'{"id": 7778, "type": "MapCosines", "a": "soft.pt"}\n')
    refused = talk.hear()
    assert isinstance(refused, wb.Refused) and "MapCosines.b" in refused.what and refused.remedy
    assert (folder / "workbench.log").read_text().count("this is no request") == 4


@pytest.fixture
def plain(tmp_path: Path) -> Talk:
    """A workbench of one test; the test ends it."""
    return Talk(tmp_path)


def test_a_program_runs_without_torch_and_the_end_of_stdin_ends_it(plain: Talk) -> None:
    ran, ended = plain.ask(programming("    return 42\n"))
    assert isinstance(ran, wb.ProgramRan) and ran.passed and ran.verdict == "passed" and isinstance(ended, wb.Ended)
    failed, _ = plain.ask(programming("    print('said')\n    return 41\n"))
    assert isinstance(failed, wb.ProgramRan) and not failed.passed
    assert failed.stdout == "said\n" and "line 6" in failed.detail and "check" in failed.traceback
    assert "torch" not in Path(f"/proc/{plain.process.pid}/maps").read_text()
    assert plain.end() == 0


@pytest.mark.parametrize("how", ["signal", "end of stdin", "cancel"])
def test_a_program_does_not_outlive_what_asked_for_it(how: str, plain: Talk) -> None:
    number = plain.send(programming("    while True:\n        pass\n", 60))
    workbench = psutil.Process(plain.process.pid)
    until(lambda: bool(workbench.children()))
    servers = workbench.children(recursive=True)
    if how == "cancel":
        plain.write(wb.message_line(wb.Cancel(id=number)))
        assert isinstance(plain.hear(), wb.Cancelled)
    elif how == "signal":
        plain.process.send_signal(signal.SIGTERM)
    assert (plain.wait() if how == "signal" else plain.end()) == 0
    assert not psutil.wait_procs(servers, 5)[1]


ENGROSSED = """
import sys, tempfile, time
from core.workbench import __main__ as process

def answer(self, request, control):
    with tempfile.TemporaryDirectory(dir=".", prefix="unfinished."):
        yield None
        open("engrossed", "w").close()
        while True:
            try:
                time.sleep(60)
            except BaseException:
                if "stubborn" not in sys.argv:
                    raise

process.Answers.__call__ = answer
process.main()
"""


@pytest.mark.parametrize("stubborn", [False, True])
def test_work_that_does_not_look_up_is_interrupted(stubborn: bool, tmp_path: Path) -> None:
    talk = Talk(tmp_path, ("-P", "-c", ENGROSSED, *["stubborn"] * stubborn))
    talk.send(programming(""))
    until((tmp_path / "engrossed").exists)
    assert any(tmp_path.glob("unfinished.*"))
    started = time.monotonic()
    assert talk.end() == 0
    assert time.monotonic() - started < 4  # 2 s and what a busy machine adds; the app waits 3 s, then kills
    assert any(tmp_path.glob("unfinished.*")) == stubborn


def conversing(
    answer: Callable[[wb.AnyRequest, ControlInbox], Replies], *lines: bytes, pipe: tuple[int, int] | None = None
) -> list[wb.AnyReply]:
    """What comes of these lines, each a request, until each has its last reply."""
    said: list[wb.AnyReply] = []
    read, write = pipe or os.pipe()
    with os.fdopen(read, "rb") as source, os.fdopen(write, "wb", buffering=0) as target:

        def say(reply: wb.AnyReply) -> None:
            said.append(reply)
            if sum(isinstance(reply, wb.LAST) for reply in said) == len(lines):
                target.close()

        conversation = Conversation(answer, say)
        for line in lines:
            target.write(line)
        listener = threading.Thread(target=conversation.listen, args=(source.fileno(),))
        listener.start()
        conversation.run()
        listener.join()
    return said


def mapping(number: int) -> bytes:
    return wb.message_line(wb.MapCosines(id=number, a="a", b="b"))


@pytest.mark.parametrize(("error", "what", "remedy"), [
    (ZeroDivisionError("what?"), "unexpected ZeroDivisionError: what? (test_workbench.py:", "try again"),
    (MemoryError("no room"), "out of memory: no room", "max_new_tokens"),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "out of memory", "max_new_tokens"),
    (CheckpointError("damaged", "take another"), "damaged", "take another"),
    (PermissionError(13, "Permission denied", "x.pt"), "x.pt cannot be used: Permission denied", "permissions"),
    (ImportError("no torch"), "a part of the engine is missing: no torch", "install softtune again"),
])
def test_whatever_goes_wrong_in_a_request_the_others_go_on(error: Exception, what: str, remedy: str) -> None:
    def answer(request: wb.AnyRequest, control: ControlInbox) -> Replies:
        yield wb.Working(request=request.id, what="thinking")
        yield None
        if request.id == 1:
            raise error
        return "there"

    said = conversing(answer, mapping(1), mapping(2))  # the second may come before the first has failed, or after it
    refused, ended = (reply for reply in said if isinstance(reply, wb.LAST))
    assert isinstance(refused, wb.Refused) and what in refused.what and remedy in refused.remedy
    assert ended == wb.Ended(request=2, path="there")


def test_a_long_step_is_told_to_stop_while_it_runs() -> None:
    pipe = os.pipe()

    def answer(request: wb.AnyRequest, control: ControlInbox) -> Replies:
        yield None
        os.write(pipe[1], wb.message_line(wb.Cancel(id=1)))
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:  # one turn, as a job's batch of problems is
            list(heed(control))
        return "went on"

    assert conversing(answer, mapping(1), pipe=pipe) == [wb.Cancelled(request=1)]


def test_the_vocabulary_is_looked_through_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(3)
    embedding = torch.nn.Embedding.from_pretrained(torch.randn(50, 8, generator=generator).bfloat16())
    rows, ids = torch.randn(4, 8, generator=generator), torch.tensor([*range(5, 30), *range(33, 47)])
    whole = inspection.nearest_tokens(rows, embedding, ids, 6)
    monkeypatch.setattr(inspection, "ROWS_AT_ONCE", 5)
    parts = inspection.nearest_tokens(rows, embedding, ids, 6)
    assert torch.equal(whole[1], parts[1]) and torch.allclose(whole[0], parts[0]) and torch.equal(whole[2], parts[2])
    assert inspection.nearest_tokens(rows, embedding, ids, 50)[1].shape == (4, 39)


def test_tokens_are_told_as_they_read(tiny_tokenizer: Any) -> None:
    (spaced,) = tiny_tokenizer(" the")["input_ids"]
    assert inspection.token_text(tiny_tokenizer, spaced) == " the"
    assert inspection.token_text(tiny_tokenizer, tiny_tokenizer.eos_token_id) == "<|endoftext|>"
    half = tiny_tokenizer("🙂")["input_ids"][0]
    assert inspection.token_text(tiny_tokenizer, half) == tiny_tokenizer.convert_ids_to_tokens(half)


def test_at_last_the_end_of_stdin_ends_a_completion(talk: Talk, config: Config) -> None:
    """Stands last: the process that the tests share is the one that ends."""
    number = talk.send(completing(lasting(config)))
    while not isinstance(talk.hear(), wb.TextAdded):
        pass
    started = time.monotonic()
    assert talk.end() == 0
    assert time.monotonic() - started < 4
    assert not of(talk.heard, number, wb.PromptCompleted)
