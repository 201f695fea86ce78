"""Completing prompts behind a soft prompt on any device: softtune's decoder, and transformers' `generate`.

All generate the same number of tokens for each prompt: there are no stop sequences, and no token ends a text.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from core.generation.decoder import DecodingSettings, Request, complete
from core.model.loading import LoadedModel
from tests.bench.copying import copy_rate, step_bytes
from tests.bench.steps import spread, waited_for
from tests.bench.table import Row


@dataclass(frozen=True)
class Work:
    """Prompts, the soft prompt [V, H] before each of them, and how many tokens to generate."""

    loaded: LoadedModel
    prefix: torch.Tensor
    requests: Sequence[Request]
    new_tokens: int
    slots: int
    """Of our decoder, as `inference.batch_size` has them."""


@dataclass
class Peer:
    """A way to call `generate`.

    Args:
        take: how many of the prompts it gets, over all lengths: each batch takes about as long as the others.
        compiled: a static cache, with which transformers compiles the forward pass on a GPU.
    """

    name: str
    batch: int
    take: int
    compiled: bool = False
    speeds: list[float] = field(default_factory=list)
    """Tokens a second in each round."""
    error: str = ""


def never_ending(loaded: LoadedModel) -> None:
    """Leave the model and its tokenizer without a token that ends a text."""
    loaded.model.generation_config.eos_token_id = None
    loaded.tokenizer.eos_token = None


def compare(work: Work, peers: Sequence[Peer], rounds: int, judged: bool) -> list[Row]:
    """Ours and each peer in turns; a peer that fails is named, and the others go on."""
    ours(work, work.requests[:2])
    for peer in peers:
        _attempt(peer, work, warm=True)
    speeds = []
    for _ in range(rounds):
        speeds.append(ours(work, work.requests))
        for peer in peers:
            _attempt(peer, work)
    rows = [_against(peer, speeds) for peer in peers]
    alone = [peer for peer in peers if peer.batch == 1 and peer.speeds]
    others = [peer for peer in peers if peer.batch > 1 and peer.speeds]
    counts = f"{len(work.requests)} prompts, {work.new_tokens} new tokens each"
    rows.insert(0, Row("completing with softtune", f"{spread(speeds).median:.0f} tokens/s", "", None,
                       f"{counts}; {len(work.requests) * work.new_tokens / spread(speeds).median:.2f} s"))
    rows.insert(1, _share(work, spread(speeds).median))
    return rows + [
        _target("completing, against generate at batch 1", alone, speeds, 20.0, judged),
        _target("completing, against generate at its best", others, speeds, 5.0, judged),
    ]


def ours(work: Work, requests: Sequence[Request]) -> float:
    """Tokens a second of our decoder, recording of its steps included."""
    loaded = work.loaded
    settings = DecodingSettings(work.new_tokens, 0.0, 1.0, (), 0, work.slots)
    with waited_for(loaded.precision.device) as seconds:
        completions = complete(loaded.model, loaded.tokenizer, work.prefix, requests, settings)
        tokens = sum(len(completion.token_ids) for completion in completions if completion is not None)
    assert tokens == len(requests) * work.new_tokens
    return tokens / seconds()


def _share(work: Work, speed: float) -> Row:
    """Of the device's copy rate: what steps of all prompts at once have to read, which is the least there is."""
    below = sum(len(request.token_ids) + len(work.prefix) for request in work.requests)
    steps = range(1, work.new_tokens)
    read = sum(step_bytes(work.loaded.model, below + step * len(work.requests)) for step in steps)
    rate = copy_rate(work.loaded.precision.device)
    found = read * speed / (len(work.requests) * work.new_tokens)
    return Row("share of the copy rate", f"{found / rate:.1%}", "", None,
               f"{found / 1e9:.1f} of {rate / 1e9:.1f} GB/s: weights, keys and values, read once for all prompts")


def theirs(work: Work, peer: Peer, requests: Sequence[Request]) -> float:
    """Tokens a second of `generate`: padding, soft prompt, prompt; longest first, all padded alike where compiled."""
    model: Any = work.loaded.model
    ordered = sorted(requests, key=lambda request: -len(request.token_ids))
    longest = max(len(request.token_ids) for request in work.requests) if peer.compiled else 0
    more = {"cache_implementation": "static"} if peer.compiled else {}
    with waited_for(work.loaded.precision.device) as seconds, torch.inference_mode(not peer.compiled), torch.no_grad():
        tokens = 0
        for first in range(0, len(ordered), peer.batch):
            embedded, mask = _padded(work, ordered[first : first + peer.batch], longest)
            output = model.generate(
                inputs_embeds=embedded, attention_mask=mask, max_new_tokens=work.new_tokens, do_sample=False,
                pad_token_id=0, **more,
            )
            tokens += output.numel()
    assert tokens == len(requests) * work.new_tokens
    return tokens / seconds()


def evenly(requests: Sequence[Request], count: int) -> list[Request]:
    """So many of them, or all, evenly over their lengths."""
    ordered = sorted(requests, key=lambda request: (-len(request.token_ids), request.task_id))
    count = min(count, len(ordered))
    return [ordered[int((place + 0.5) * len(ordered) / count)] for place in range(count)]


def _attempt(peer: Peer, work: Work, warm: bool = False) -> None:
    """One round of a peer that has not failed yet; a warm round is one batch, and counts nowhere."""
    if peer.error:
        return
    try:
        speed = theirs(work, peer, evenly(work.requests, peer.batch if warm else peer.take))
    except Exception as error:  # whatever a peer dies of, the others stand
        traceback.print_exception(error)
        peer.error = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:120] if str(error).strip() else ''}"
        return
    if not warm:
        peer.speeds.append(speed)


def _padded(work: Work, requests: Sequence[Request], longest: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Embedded input [B, T, H] and mask [B, T], padded on the left."""
    table: Any = work.loaded.model.get_input_embeddings()
    device, width = work.loaded.precision.device, len(work.prefix)
    length = longest or max(len(request.token_ids) for request in requests)
    mask = torch.zeros(len(requests), width + length, dtype=torch.long, device=device)
    embedded = torch.zeros(*mask.shape, work.prefix.shape[1], dtype=table.weight.dtype, device=device)
    prefix = work.prefix.to(device, table.weight.dtype)
    for row, request in enumerate(requests):
        sequence = torch.cat([prefix, table(torch.tensor(request.token_ids, device=device))])
        embedded[row, -len(sequence) :] = sequence
        mask[row, -len(sequence) :] = 1
    return embedded, mask


def _against(peer: Peer, speeds: Sequence[float]) -> Row:
    what = f"generate, {peer.name}"
    if not peer.speeds:
        return Row(what, "failed", "", None, peer.error)
    ratios = spread([ours / speed for ours, speed in zip(speeds, peer.speeds, strict=False)])
    note = f"; then failed: {peer.error}" if peer.error else ""
    return Row(what, f"{spread(peer.speeds).median:.0f} tokens/s", "", None,
               f"ours {ratios.median:.2f} × as fast, rounds {ratios}; measured on {peer.take} prompts{note}")


def _target(what: str, peers: Sequence[Peer], speeds: Sequence[float], target: float, judged: bool) -> Row:
    """Against the fastest of some peers."""
    if not peers:
        return Row(what, "failed", f"≥ {target:g} ×", False if judged else None, "no peer ran")
    best = max(peers, key=lambda peer: spread(peer.speeds).median)
    ratios = spread([ours / speed for ours, speed in zip(speeds, best.speeds, strict=False)])
    return Row(what, f"{ratios.median:.2f} ×", f"≥ {target:g} ×", ratios.median >= target if judged else None,
               f"{best.name}; rounds {ratios}")
