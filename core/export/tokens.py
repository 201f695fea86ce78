"""The tokenizer of a merged model: it has soft tokens, and puts them and whatever else stands around a problem there.

    auto-prepend      tokenizer(problem) gives the very ids of `encode_context`, with the soft tokens for P
    literal tokens    tokenizer(prefix + problem + suffix) gives them, where the text stays the same ids at its joints

Chat endpoints render a template and add no special tokens, so the template gives the literal form, for the last message
of the user as it is: the soft prompt was trained on plain text, not on a chat's markup.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.contract.config import InferenceSettings
from core.contract.errors import CheckpointError
from core.data.prompts import encode_context, encode_more, token_id

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TOKENIZER_CONFIG = "tokenizer_config.json"
CLASS_ONLY = ("add_bos_token", "add_eos_token", "is_local", "local_files_only")
"""What a tokenizer's class would make a post-processor of its own from, and what is true of one machine."""


@dataclass(frozen=True)
class MergedTokenizer:
    """A tokenizer with soft tokens.

    `prefix` and `suffix` are the text to put around a problem; None where no text gives the right ids.
    """

    tokenizer: PreTrainedTokenizerBase
    names: list[str]
    ids: list[int]
    expected: list[list[int]]
    """The ids of each of the problems that it was tried on."""
    prefix: str | None
    suffix: str | None

    def save(self, folder: Path) -> None:
        """Write it so that every version of transformers takes it as it is, by the class of no particular model."""
        self.tokenizer.save_pretrained(folder)
        file = folder / TOKENIZER_CONFIG
        known = {key: value for key, value in json.loads(file.read_text(encoding="utf-8")).items()
                 if key not in CLASS_ONLY}
        known["tokenizer_class"] = "PreTrainedTokenizerFast"
        if "extra_special_tokens" in known:  # a list under its newer name stops versions before 5
            known["additional_special_tokens"] = known.pop("extra_special_tokens")
        file.write_text(json.dumps(known, indent=2, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")


def merged_tokenizer(
    base: PreTrainedTokenizerBase, count: int, settings: InferenceSettings, prompts: Sequence[str],
    auto_prepend: bool,
) -> MergedTokenizer:
    """A tokenizer with `count` soft tokens.

    Args:
        settings: the prompt style and the text prompt that the soft prompt was trained with.
        prompts: of problems to try it on, at least one.

    Raises:
        CheckpointError: the tokenizer cannot do it.
        ModelError: as `encode_context`.
    """
    from tokenizers import AddedToken, processors

    merged: Any = copy.deepcopy(base)
    backend = getattr(merged, "backend_tokenizer", None)
    if backend is None:
        raise CheckpointError("this tokenizer is not a fast one and cannot prepend tokens", "export with --format peft")
    names = _free_names(base, count)
    new = [AddedToken(name, special=True, normalized=False) for name in names]
    merged.add_special_tokens({"additional_special_tokens": new}, replace_extra_special_tokens=False)
    ids = [int(token) for token in merged.convert_tokens_to_ids(names)]
    if taken := set(ids) & set(base.get_vocab().values()):
        raise CheckpointError(f"the tokenizer's ids have gaps: a new token gets {min(taken)}, which is another's id",
                              "export with --format peft")
    contexts = [encode_context(base, prompt, settings) for prompt in prompts]
    expected = [[*before, *ids, *context] for before, context in contexts]
    left, right = _around(encode_more(base, prompts[0]), contexts[0][1])
    front, behind = [*contexts[0][0], *ids, *left], right
    prefix, suffix = (base_text(merged, part) for part in (front, behind))
    literal = all(encode_more(merged, f"{prefix}{prompt}{suffix}") == wanted
                  for prompt, wanted in zip(prompts, expected, strict=True))
    if literal:
        text = f"{json.dumps(prefix, ensure_ascii=False)} + asked[-1]['content']"
        text += f" + {json.dumps(suffix, ensure_ascii=False)}" if suffix else ""
        merged.chat_template = ("{%- set asked = messages | selectattr('role', 'equalto', 'user') | list -%}"
                                f"{{{{- {text} -}}}}")
    else:
        merged.chat_template = None
    around = {"soft_prompt": front, "soft_suffix": behind} if auto_prepend else {}
    begin, end = ([name] if around.get(name) else [] for name in ("soft_prompt", "soft_suffix"))
    backend.post_processor = processors.TemplateProcessing(
        single=[*begin, "$A", *end], pair=[*begin, "$A", *end, "$B:1"],
        special_tokens=[{"id": name, "ids": part, "tokens": merged.convert_ids_to_tokens(part)}
                        for name, part in around.items() if part],
    )
    made = MergedTokenizer(merged, names, ids, expected, *((prefix, suffix) if literal else (None, None)))
    if not auto_prepend and not literal:
        raise CheckpointError("no text in front of a problem gives the tokens that the soft prompt was trained with "
                              "(inference.text_prompt)", "export without --no-auto-prepend")
    check_ids(made, merged, prompts, auto_prepend)
    return made


def check_ids(
    made: MergedTokenizer, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], auto_prepend: bool
) -> None:
    """Raise CheckpointError unless a tokenizer, as made or as loaded again, gives each problem's ids."""
    for prompt, wanted in zip(prompts, made.expected, strict=True):
        found = list(tokenizer(prompt if auto_prepend else f"{made.prefix}{prompt}{made.suffix}")["input_ids"])
        if found != wanted:
            place = next((at for at, pair in enumerate(zip(found, wanted, strict=False)) if pair[0] != pair[1]),
                         min(len(found), len(wanted)))
            raise CheckpointError(
                f"the exported tokenizer differs from softtune at token {place} of {prompt[:40]!r}: "
                f"{found[place:place + 3]} for {wanted[place:place + 3]}", "nothing was written; use --format peft")


def base_text(tokenizer: Any, ids: Sequence[int]) -> str:
    """The text of some tokens, special ones by their names."""
    return str(tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))


def _free_names(tokenizer: PreTrainedTokenizerBase, count: int) -> list[str]:
    """Names that no token has yet: a soft prompt may have been trained on a merged model."""
    number, names = 1, [f"<|soft_{index}|>" for index in range(count)]
    while any(token_id(tokenizer, name) is not None for name in names):
        number += 1
        names = [f"<|soft{number}_{index}|>" for index in range(count)]
    return names


def _around(problem: list[int], context: list[int]) -> tuple[list[int], list[int]]:
    """What stands before a problem's own tokens, and behind them."""
    for place in range(len(context) - len(problem) + 1):
        if context[place : place + len(problem)] == problem:
            return context[:place], context[place + len(problem) :]
    raise CheckpointError("the tokenizer tokenizes a problem otherwise where something stands around it",
                          "export with --format peft")
