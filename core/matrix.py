"""Every prompt style with and without a soft prompt, under every post-processing: one grid of pass@1.

Each style is completed once, without stop sequences; the columns of post-processing are made of these texts, `none` by
cutting at the first stop sequence, which is where the decoder would have ended them. What two columns have in common is
executed once.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from core.baseline import settings_of
from core.contract.config import Config
from core.contract.control import ControlInbox, StopRequested
from core.contract.errors import UsageError
from core.contract.events import (
    CompletionsSaved,
    EvaluationCompleted,
    Event,
    Notice,
    RunFinished,
    RunStopped,
    Score,
)
from core.contract.files import write_whole
from core.contract.wording import interval_text, share_text
from core.data.dataset import Dataset
from core.data.humaneval import Problem
from core.data.prompts import FILLING_IN, infilling_lacks
from core.evaluation.completions import read_completions
from core.evaluation.journal import strength
from core.evaluation.permission import refusal_to_run
from core.evaluation.scoring import score, write_results
from core.evaluation.tally import tally
from core.failure import failure
from core.generation.postprocess import LEVELS, Level
from core.generation.problems import complete_problems, processed
from core.generation.stopping import cut_at_stop
from core.jobs import load, model_loaded, problems_of, style_notice, with_model_of
from core.model.checkpoint import Checkpoint, load_checkpoint
from core.model.loading import LoadedModel
from core.storage import until_written

STYLES = ("plain", "text", "infilling")
FOLDER = Path("results/matrix")

Row = dict[str, Any]
Program = tuple[str, int, str]
"""Task id, number of the sample and completion: samples with the same text are executed each for itself."""


@dataclass(frozen=True)
class Cell:
    """One way to complete and process the problems, and its scores by kind of problem."""

    style: str
    soft_prompt: bool
    post_processing: Level
    scores: dict[str, Score]
    """Of "heldout", "train" and "all"."""
    results_path: str
    isolation: str


@dataclass(frozen=True)
class Matrix:
    """The whole grid, and what it is of."""

    model: str
    checkpoint: str
    """The soft prompt's file, "" for none."""
    max_new_tokens: int
    temperature: float
    num_samples: int
    problems: int
    cells: list[Cell]
    left_out: dict[str, str]
    """Why a style could not be had."""

    @property
    def isolation(self) -> str:
        """The weakest that a cell was executed in."""
        return min((cell.isolation for cell in self.cells), key=strength, default="")

    def lines(self) -> list[str]:
        """What it is of, and a Markdown table of pass@1 with 95 % intervals: a row a cell, held-out problems first."""
        kinds = {"heldout": "held-out", "train": "train", "all": "all"}
        counts = {kind: self.cells[0].scores[kind].total for kind in kinds}
        heads = ["style", "soft prompt", "post-processing",
                 *(f"pass@1 {name} ({counts[kind]})" for kind, name in kinds.items())]
        rows = [
            [cell.style, "yes" if cell.soft_prompt else "no", cell.post_processing,
             *(_share(cell.scores[kind]) for kind in kinds)] for cell in self.cells
        ]
        samples = f", {self.num_samples} samples each" if self.num_samples > 1 else ""
        title = (f"{self.model}, soft prompt {self.checkpoint or '–'}, at most {self.max_new_tokens} new tokens, "
                 f"temperature {self.temperature:g}, {self.problems} problems{samples}, isolation {self.isolation}")
        return [title, "", *(f"| {' | '.join(row)} |" for row in [heads, ["---"] * len(heads), *rows])]

    def as_json(self) -> dict[str, Any]:
        """The one object that a script gets."""
        cells = [
            {"style": cell.style, "soft_prompt": cell.soft_prompt, "post_processing": cell.post_processing,
             **{kind: score.model_dump(by_alias=True) for kind, score in cell.scores.items()},
             "results_path": cell.results_path} for cell in self.cells
        ]
        return {
            "model": self.model, "checkpoint": self.checkpoint, "max_new_tokens": self.max_new_tokens,
            "temperature": self.temperature, "num_samples": self.num_samples, "problems": self.problems,
            "isolation": self.isolation, "cells": cells, "left_out": self.left_out,
        }


def _share(score: Score) -> str:
    interval = interval_text(score.interval())
    return f"{share_text(score.pass_at_1)}{f' ({interval})' if interval else ''}"


def matrix(
    config: Config, checkpoint_path: Path | None, control: ControlInbox, *, styles: Sequence[str] | None = None,
    split: str = "all", overridden: list[str] | None = None, folder: Path = FOLDER,
) -> Generator[Event, None, Matrix | None]:
    """Complete and score the problems in every style, with the soft prompt and without; the value is the grid.

    Everything is kept below `folder`, by what it was made of: a grid that was cut short, or is asked for again, is
    not made again where it is done.

    Args:
        checkpoint_path: None takes `inference.checkpoint_path`; where that is not there, there is no soft prompt.
        styles: of STYLES; None for all that can be had.
        split: "all", "train" or "heldout".
        overridden: settings given on the command line, which go before the checkpoint's own.
    """
    start = time.perf_counter()
    try:
        refusal = refusal_to_run(config.evaluation)
        if refusal is not None:  # nothing is completed that could not be scored
            raise refusal
        path = checkpoint_path or Path(config.inference.checkpoint_path)
        checkpoint = None
        if checkpoint_path is None and not path.exists():
            yield Notice(setting="inference.checkpoint_path", what=f"there is no {path}: no rows with a soft prompt",
                         remedy="train one (softtune train), or name one: softtune matrix CHECKPOINT")
        else:
            checkpoint = load_checkpoint(path)
            config = with_model_of(checkpoint, config, overridden or [])
        dataset, problems = problems_of(config, checkpoint, split)
        loaded = yield from load(config, control)
        if checkpoint:
            checkpoint.check_fits(loaded.embedding_dim, loaded.name)
        yield model_loaded(loaded, checkpoint.soft_prompt if checkpoint else None)
        yield from dataset.overlap()
        wanted = dict.fromkeys(styles or STYLES)
        left_out = {style: why for style in wanted if (why := _obstacle(style, config, loaded))}
        for style, why in left_out.items():
            yield Notice(level="warning" if styles else "info", setting="inference.prompt_style",
                         what=f"the style {style} is left out: {why}", remedy=_REMEDIES[style])
        if not wanted.keys() - left_out.keys():
            raise UsageError("no style is left", "; ".join(_REMEDIES[style] for style in left_out))
        work = _Work(config, loaded, dataset, problems, checkpoint, folder)
        cells = []
        for style in (style for style in wanted if style not in left_out):
            for soft in (False, True) if checkpoint else (False,):
                cells += yield from work.row(style, soft, control)
        inference = config.inference
        yield RunFinished(seconds=time.perf_counter() - start)
        return Matrix(
            loaded.name, str(path) if checkpoint else "", inference.max_new_tokens, inference.temperature,
            inference.num_samples, len(problems), cells, left_out,
        )
    except StopRequested:
        yield RunStopped(step=0)
    except Exception as error:
        yield failure(error, "")
    return None


_REMEDIES = {"text": "set inference.text_prompt to a text", "infilling": f"set model.name to {FILLING_IN}"}


def _obstacle(style: str, config: Config, loaded: LoadedModel) -> str:
    """Why a style cannot be had; "" where it can."""
    if style == "text" and not config.inference.text_prompt:
        return "there is no inference.text_prompt"
    lacking = infilling_lacks(loaded.tokenizer) if style == "infilling" else []
    return f"the model's tokenizer has no {', '.join(lacking)}" if lacking else ""


@dataclass(frozen=True)
class _Work:
    """What all cells are made of."""

    config: Config
    """Its style and post-processing are those that each cell replaces."""
    loaded: LoadedModel
    dataset: Dataset
    problems: list[Problem]
    checkpoint: Checkpoint | None
    folder: Path

    def row(self, style: str, soft: bool, control: ControlInbox) -> Generator[Event, None, list[Cell]]:
        """The cells of a style, with or without the soft prompt: one for each post-processing."""
        text = self.config.inference.text_prompt if style == "text" else ""
        inference = self.config.inference.model_copy(update={
            "prompt_style": style, "text_prompt": text, "post_processing": "none", "stop_sequences": []})
        config = self.config.model_copy(update={"inference": inference})
        checkpoint = self.checkpoint if soft else None
        if checkpoint:
            yield from style_notice(config, checkpoint)
        made_of = self._made_of(config, checkpoint)
        content = json.dumps(made_of, indent=1, sort_keys=True) + "\n"
        name = f"{style}-{'soft' if soft else 'alone'}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"
        folder = self.folder / name
        raw = folder / "raw.jsonl"
        known = raw.exists()
        yield Notice(level="info", what=f"style {style}, {'with the' if soft else 'no'} soft prompt"
                                        f"{' (completed before)' if known else ''}: {folder}")
        if not known:
            yield from until_written(partial(write_whole, folder / "made_of.json", content), control)
            yield from self._completed(config, checkpoint, raw, control)
        by_level = {level: self._processed(read_completions(raw), level) for level in LEVELS}
        findings = yield from self._executed([row for rows in by_level.values() for row in rows], folder, control)
        cells = []
        for level, rows in by_level.items():
            verdicts = [{**findings[_program(row)], **row} for row in rows]
            results = folder / f"{level}_results.jsonl"
            yield from until_written(partial(write_results, results, verdicts), control)
            isolation = min((row["isolation"] for row in verdicts), key=strength)
            cells.append(Cell(style, soft, level, _scores(verdicts), str(results), isolation))
        return cells

    def _completed(
        self, config: Config, checkpoint: Checkpoint | None, raw: Path, control: ControlInbox
    ) -> Iterator[Event]:
        origin = {"checkpoint": str(checkpoint.path) if checkpoint else "", "model": self.loaded.name,
                  **self.dataset.origin}
        rows = checkpoint.soft_prompt if checkpoint else None
        for event in complete_problems(
            config, self.loaded, rows, self.problems, self.dataset.scored_split, raw, control, origin=origin
        ):
            if not isinstance(event, CompletionsSaved):  # it is no file to score
                yield event

    def _processed(self, raw: Sequence[Row], level: Level) -> list[Row]:
        """Raw lines of completions, processed; with none, cut where the decoder would have ended them."""
        by_id, stops = {problem.task_id: problem for problem in self.problems}, self.config.inference.stop_sequences
        rows = [processed(row, by_id[row["task_id"]], level) for row in raw]
        if level == "none":
            rows = [{**row, "completion": cut_at_stop(row["completion"], stops)} for row in rows]
        return rows

    def _executed(
        self, rows: Sequence[Row], folder: Path, control: ControlInbox
    ) -> Generator[Event, None, dict[Program, Row]]:
        """What became of each program, however many cells have it; of these very programs it may be known before."""
        distinct = {_program(row): row for row in rows}
        programs, results = folder / "programs.jsonl", folder / "programs_results.jsonl"
        content = "".join(json.dumps(row) + "\n" for row in distinct.values()).encode()
        if not (results.exists() and programs.exists() and programs.read_bytes() == content):
            results.unlink(missing_ok=True)  # of what was processed otherwise
            yield from until_written(partial(write_whole, programs, content), control)
            for event in score(
                list(distinct.values()), {problem.task_id: problem for problem in self.problems},
                self.dataset.scored_split, self.config.evaluation, results, programs, control=control,
            ):
                if not isinstance(event, EvaluationCompleted):  # all cells together are no score
                    yield event
        return dict(zip(distinct, read_completions(results), strict=True))

    def _made_of(self, config: Config, checkpoint: Checkpoint | None) -> dict[str, Any]:
        """All that the results of a style depend on."""
        digest = hashlib.sha256(checkpoint.path.read_bytes()).hexdigest() if checkpoint and checkpoint.path else None
        sides = self.dataset.scored_split
        return {
            **settings_of(config, self.loaded, self.problems), "checkpoint_sha256": digest,
            "dataset_sha256": (self.dataset.other or self.dataset.everything).sha256,
            "kinds": [sides.kind(problem.task_id) for problem in self.problems],
        }


def _program(row: Row) -> Program:
    return row["task_id"], row["sample"], row["completion"]


def _scores(rows: Sequence[Row]) -> dict[str, Score]:
    """By kind of problem, as the rows say."""
    return {
        "heldout": tally(row for row in rows if row["split"] == "heldout"),
        "train": tally(row for row in rows if row["split"] == "train"), "all": tally(rows),
    }
