"""Whether a merged model says what softtune says: greedy tokens on a few problems, by plain transformers."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from core.contract.config import Config
from core.contract.errors import CheckpointError, ModelError
from core.contract.events import Event, Progress
from core.data.prompts import INFILLING_ENDS, encode_context
from core.export.tokens import MergedTokenizer, check_ids
from core.generation.decoder import Completion, DecodingSettings, Request, complete
from core.model.loading import load_model, quiet_transformers

if TYPE_CHECKING:
    from core.model.loading import LoadedModel

VERIFIED_TOKENS = 24
NO_VERIFY = "--no-verify writes the model without loading it"


@dataclass(frozen=True)
class Own:
    """What softtune itself says: greedy tokens for each prompt, and a token that it was never near to saying."""

    tokens: list[list[int]]
    rarest: int | None


def own_tokens(
    config: Config, rows: torch.Tensor, prompts: Sequence[str], *, grows: bool
) -> Generator[Event, None, Own]:
    """Complete by softtune, with the base model in float32 on the CPU; it is freed before this ends.

    Args:
        rows: the soft prompt [V, H], rounded as it is in the exported model.
        grows: whether the vocabulary has to, so that it is of use to know which token is never said.

    Raises:
        ModelError: as `load_model`; the remedy names --no-verify too.
    """
    try:
        loaded = load_model(config)
    except ModelError as error:
        raise ModelError(error.what, f"{error.remedy}; {NO_VERIFY}") from None
    contexts = [encode_context(loaded.tokenizer, prompt, config.inference) for prompt in prompts]
    embedding = loaded.model.get_input_embeddings()
    before = torch.tensor(contexts[0][0], dtype=torch.long)
    with torch.inference_mode():
        prefix = torch.cat([embedding(before), rows]).clone()
    requests = [Request(str(index), tuple(context)) for index, (_, context) in enumerate(contexts)]
    ends = INFILLING_ENDS if config.inference.style == "infilling" else ()
    settings = DecodingSettings(VERIFIED_TOKENS, 0.0, 1.0, (), 0, len(requests), ends)
    found: dict[int, list[int]] = {}
    yield Progress(stage="completing", done=0, total=len(requests), unit="problems")
    for step in complete(loaded.model, loaded.tokenizer, prefix, requests, settings):
        if isinstance(step, Completion):
            found[int(step.request.task_id)] = list(step.token_ids)
            yield Progress(stage="completing", done=len(found), total=len(requests), unit="problems")
    tokens = [found[index] for index in range(len(requests))]
    return Own(tokens, _rarest(loaded, prefix, requests, tokens) if grows else None)


@torch.inference_mode()
def _rarest(
    loaded: LoadedModel, prefix: torch.Tensor, requests: Sequence[Request], said: Sequence[list[int]]
) -> int:
    """The token that stays furthest below the one that is said, wherever it comes nearest to it."""
    nearest: torch.Tensor | None = None
    for request, tokens in zip(requests, said, strict=True):
        ids = torch.tensor([*request.token_ids, *tokens])
        embedded = torch.cat([prefix, loaded.model.get_input_embeddings()(ids)])[None]
        kept = len(tokens) + 1
        logits = loaded.model(inputs_embeds=embedded, logits_to_keep=kept).logits[0, -kept:]
        gaps = (logits - logits.max(dim=-1, keepdim=True).values).max(dim=0).values
        nearest = gaps if nearest is None else torch.maximum(nearest, gaps)
    assert nearest is not None
    return int(nearest.argmin())


def verify(
    folder: Path, made: MergedTokenizer, prompts: Sequence[str], own: Own, auto_prepend: bool
) -> Generator[Event, None, int]:
    """Load the folder with plain transformers and compare; the value is the number of problems compared.

    Raises:
        CheckpointError: it says something else; names the problem and the token.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with quiet_transformers():
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    check_ids(made, tokenizer, prompts, auto_prepend)
    found_ids = tokenizer.convert_tokens_to_ids(made.names)
    if found_ids != made.ids:
        raise CheckpointError("the exported tokenizer, loaded again, gives the soft tokens other ids",
                              "nothing was written; use --format peft")
    ends = model.generation_config.eos_token_id
    ends = {tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])}
    suppressed = set(model.generation_config.suppress_tokens)
    yield Progress(stage="verifying", done=0, total=len(prompts), unit="problems")
    for number, (prompt, given, wanted) in enumerate(zip(prompts, made.expected, own.tokens, strict=True), start=1):
        ids = torch.tensor([given])
        with torch.inference_mode(), quiet_transformers():
            said = model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=VERIFIED_TOKENS,
                pad_token_id=tokenizer.pad_token_id or tokenizer.eos_token_id,
            )[0, ids.shape[1] :].tolist()
        _compare(prompt, said, wanted, ends, suppressed)
        yield Progress(stage="verifying", done=number, total=len(prompts), unit="problems")
    return len(prompts)


def _compare(prompt: str, said: list[int], wanted: list[int], ends: set[int], suppressed: set[int]) -> None:
    """Raise CheckpointError where the exported model's tokens are not softtune's, or are suppressed ones."""
    # A base model may, in theory, say a token of its unused rows; the merged one never does, by design.
    sure = list(takewhile(lambda token: token not in suppressed, wanted))
    found = [token for token in said if token not in ends][: len(sure) if len(sure) < len(wanted) else None]
    if found != sure or suppressed & set(said):
        at = next((i for i, pair in enumerate(zip(found, sure, strict=False)) if pair[0] != pair[1]),
                  min(len(found), len(sure)))
        raise CheckpointError(f"the merged model differs from softtune at token {at} of {prompt[:40]!r}",
                              "nothing was written; use --format peft")
