"""Forward passes on a CPU with the layers written out, the tokens of several sequences end to end without padding."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.nn.functional import scaled_dot_product_attention

from core.generation.cache import Block, SlotCache, Tips
from core.generation.recorded import agree
from core.generation.tiles import as_mask, attend_in_tiles, ends_of
from core.model.llama import LlamaModel

TRIAL = 16
"""Tokens of the trial, from all over the vocabulary."""


class EndToEnd:
    """Passes of a model of the Llama kind over prompts, and over one token of each sequence."""

    def __init__(self, llama: LlamaModel, cache: SlotCache) -> None:
        self.embed = llama.embed
        self._llama = llama
        self._cache = cache

    def prefill(self, x: torch.Tensor, blocks: Sequence[Block]) -> torch.Tensor:
        """Logits [n, vocabulary] at the last token of each sequence; what it begins with is in the cache already.

        Args:
            x: embedded tokens [T, H], the sequences end to end.
            blocks: where the cache takes the keys and values of each: in one row, or the same in several.
        """
        self._cache.reserve(max(block.end for block in blocks))
        lengths = [block.end - block.start for block in blocks]
        positions = torch.cat([torch.arange(block.start, block.end) for block in blocks])
        masks = [as_mask(torch.arange(block.end) <= torch.arange(block.start, block.end)[:, None], torch.float32)
                 for block in blocks]
        wanted = torch.tensor(lengths).cumsum(0) - 1

        def attend(
            layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float
        ) -> torch.Tensor:
            result = torch.empty_like(query)
            parts = (tensor.split(lengths) for tensor in (query, key, value, result))
            for block, mask, one, new_keys, new_values, into in zip(blocks, masks, *parts, strict=True):
                self._cache.target = block
                new = new_keys.transpose(0, 1)[None], new_values.transpose(0, 1)[None]
                keys, values = self._cache.update(*new, layer)
                shared, width = keys.shape[1], keys.shape[3]
                grouped = one.view(len(one), shared, -1, width).permute(1, 2, 0, 3)  # [shared, group, tokens, width]
                several = (shared, grouped.shape[1], block.end, width)  # each key-value head for its group, no copy
                attended = scaled_dot_product_attention(
                    grouped, keys[0, :, None].expand(several), values[0, :, None].expand(several), attn_mask=mask,
                    scale=scaling,
                )
                into.view(len(one), shared, -1, width).copy_(attended.permute(2, 0, 1, 3))
            return result

        return self._llama.scores(self._llama.hidden(x, positions, attend, wanted))

    def decode(self, ids: torch.Tensor, places: torch.Tensor, positions: Sequence[int], tile: int) -> torch.Tensor:
        """Logits [n, vocabulary] after the tokens `ids` [n] at `places` [n], of which `positions` is a copy.

        Args:
            tile: rows to attend at a time.
        """
        end = max(positions) + 1
        self._cache.reserve(end)
        self._cache.target = Tips(places, end)
        mask = as_mask((torch.arange(end) <= places[:, None])[:, None, None], torch.float32)
        ends = ends_of(positions, tile)

        def attend(
            layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float
        ) -> torch.Tensor:
            keys, values = self._cache.update(key[:, :, None], value[:, :, None], layer)
            grouped = query.view(len(query), keys.shape[1], -1, query.shape[2])
            return attend_in_tiles(grouped, keys, values, mask, tile, ends, scaling).view(query.shape)

        return self._llama.scores(self._llama.hidden(self._llama.embed(ids), places, attend))


@torch.inference_mode()
def gives_logits_of(model: Callable[[torch.Tensor], torch.Tensor], llama: LlamaModel, vocabulary: int) -> bool:
    """Whether a trial of both passes gives what the model itself gives.

    Args:
        model: from ids [1, T] to logits [1, T, vocabulary].
        vocabulary: its number of tokens, at least 1.
    """
    ids = torch.arange(1, TRIAL + 1) * vocabulary // (TRIAL + 2)
    last = len(ids) - 1
    passes = EndToEnd(llama, SlotCache(1, len(ids)))
    after_prompt = passes.prefill(llama.embed(ids[:last]), [Block(slice(0, 1), 0, last)])
    after_last = passes.decode(ids[last:], torch.tensor([last]), [last], 1)
    return agree(torch.cat([after_prompt, after_last]), model(ids[None])[0, -2:])
