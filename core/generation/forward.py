"""Forward passes of decoding: the prefix once, prompts in groups, then one token of every active sequence.

Any causal LM of transformers works whose layers attend to all that came before: it goes through its own `forward`.
Plain models of the Llama kind have their layers written out (`core.model.llama`) where that is faster and a trial
gives the same: for all passes in more than one slot on a CPU in float32 (`core.generation.end_to_end`), and for the
steps on a GPU in 16 bits.
Each pass leaves the model as it found it: between two passes the caller may do what it likes with it.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from core.contract.errors import ModelError
from core.generation.cache import Block, SlotCache, Tips
from core.generation.end_to_end import EndToEnd, gives_logits_of
from core.generation.packed import PackedLinears
from core.generation.recorded import RecordedSteps
from core.generation.tiles import as_mask, in_tiles, tile_of
from core.model.graphs import recorder
from core.model.heap import keep_freed_memory
from core.model.llama import LlamaModel, can_be_laid_out, can_be_written_out, is_untouched
from core.model.soft_prompt import head_at

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ATTENTION = ("sdpa", "eager")
"""Attention implementations that take a prepared [B, 1, T, length] mask; any other is replaced by the first."""


class Forward:
    """A model with a cache of `slots` sequences behind a shared prefix.

    Rows 0 to n - 1 of the cache are the active sequences. All logits are [rows, vocabulary]. Attention takes `tile`
    rows at a time, each up to the end of the longest: rows of similar lengths should be neighbours.
    """

    def __init__(self, model: PreTrainedModel, slots: int, capacity: int) -> None:
        self.model = model
        self.cache = SlotCache(slots, capacity)
        self.prefix_length = 0
        weight = model.get_input_embeddings().weight
        self.device, self.dtype = weight.device, weight.dtype
        if self.device.type == "cpu":
            keep_freed_memory()
        self.tile = tile_of(model, slots)
        self._modules = list(model.modules())
        self._linears = PackedLinears([])
        self._end_to_end: EndToEnd | None = None
        if slots > 1:  # a row alone gains nothing from weights that are laid out
            self._end_to_end = self._tried()
            if self._end_to_end is None:
                self._linears = PackedLinears(self._modules)
        self._recorder = recorder(self.device)
        faster = self._recorder is not None and self.dtype.itemsize == 2 and can_be_written_out(model)
        self._llama = LlamaModel(model) if faster else None
        self._recorded: RecordedSteps | None = None

    def _tried(self) -> EndToEnd | None:
        """Passes with the layers written out, if the model is one they are for and they give what it gives."""
        if not can_be_laid_out(self.model):
            return None
        llama = LlamaModel(self.model, laid_out=True)
        with self._undisturbed():
            right = gives_logits_of(lambda ids: self.model(input_ids=ids, use_cache=False).logits, llama,
                                    self.model.get_input_embeddings().num_embeddings)
        return EndToEnd(llama, self.cache) if right else None

    @property
    def _written_out_here(self) -> EndToEnd | None:
        """The passes with the layers written out, unless somebody did something to the model meanwhile."""
        return self._end_to_end if self._end_to_end and is_untouched(self.model, self._modules) else None

    @torch.inference_mode()
    def encode_prefix(self, prefix: torch.Tensor) -> torch.Tensor:
        """Put the keys and values of `prefix` [P, H] in front of every slot; logits [1, vocabulary] of its last row."""
        self.prefix_length = len(prefix)
        block = Block(slice(0, self.cache.slots), 0, self.prefix_length)
        prefix = prefix.detach().to(self.device, self.dtype)
        if passes := self._written_out_here:
            return passes.prefill(prefix, [block])
        self.cache.target = block
        last = torch.zeros(1, self.prefix_length, dtype=torch.bool, device=self.device)
        last[:, -1] = True
        return self._run(last, inputs_embeds=prefix[None])

    @torch.inference_mode()
    def prefill(self, first_row: int, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Encode prompts, none empty, as rows from `first_row` on; logits at the last token of each.

        Where they are padded it is on the right. Padding is seen by no real token, and decoding overwrites it.
        """
        width = max(map(len, prompts))
        start = self.prefix_length
        if passes := self._written_out_here:
            x = passes.embed(torch.tensor([token for prompt in prompts for token in prompt]))
            return passes.prefill(x, [
                Block(slice(row, row + 1), start, start + len(prompt)) for row, prompt in enumerate(prompts, first_row)
            ])
        self.cache.target = Block(slice(first_row, first_row + len(prompts)), start, start + width)
        ids = torch.tensor([[*prompt, *[0] * (width - len(prompt))] for prompt in prompts], device=self.device)
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=self.device)
        last = torch.arange(width, device=self.device) == lengths[:, None] - 1
        return self._run(last, input_ids=ids)

    @torch.inference_mode()
    def decode(self, tokens: Sequence[int], positions: Sequence[int]) -> torch.Tensor:
        """Give each active row its newest token, which stands at its position; logits of what follows.

        On a GPU these are good until the next call.
        """
        end = max(positions) + 1
        self.cache.reserve(end)
        if self._recorder is not None:
            if self._recorded is None:
                slots, unused = self.cache.slots, self.prefix_length
                self._recorded = RecordedSteps(slots, unused, self.device, self._recorder)
            faster = self._written_out if self._llama else None
            return self._recorded(self._step, tokens, positions, self.cache.capacity, faster)
        ids, places = torch.tensor([tokens, positions], device=self.device)
        if passes := self._written_out_here:
            return passes.decode(ids, places, positions, self.tile)
        return self._step(ids, places, end, positions)

    def _step(self, ids: torch.Tensor, places: torch.Tensor, end: int, positions: Sequence[int] = ()) -> torch.Tensor:
        """Logits [n, vocabulary] after the tokens `ids` [n] at `places` [n], of which `positions` is a copy."""
        mask = self._begin(places, end)
        with self._undisturbed(), in_tiles(self.model, mask, positions):
            output = self.model(
                input_ids=ids[:, None], position_ids=places[:, None], attention_mask=mask,
                past_key_values=self.cache, use_cache=True,
            )
        return output.logits[:, -1]

    def _written_out(self, ids: torch.Tensor, places: torch.Tensor, end: int) -> torch.Tensor:
        """The same, with the model's layers written out."""
        assert self._llama is not None
        mask = self._begin(places, end)

        def attend(
            layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float
        ) -> torch.Tensor:
            keys, values = self.cache.update(key[:, :, None], value[:, :, None], layer)
            rows, shared = key.shape[:2]
            grouped = query.view(rows, shared, -1, query.shape[2])  # heads that share a key-value head, as its queries
            result = scaled_dot_product_attention(grouped, keys, values, attn_mask=mask, scale=scaling)
            return result.reshape(query.shape)

        return self._llama.scores(self._llama.hidden(self._llama.embed(ids), places, attend))

    def _begin(self, places: torch.Tensor, end: int) -> torch.Tensor:
        """Make ready for one token of each row: the mask [n, 1, 1, end] of what it sees."""
        self.cache.target = Tips(places, end)
        visible = torch.arange(end, device=self.device) <= places[:, None]
        return as_mask(visible[:, None, None], self.dtype)

    @torch.inference_mode()
    def copy(self, source: int, destination: int, length: int) -> None:
        """Put the first `length` tokens of row `source` in place of another's; the prefix is there already."""
        self.cache.copy(source, destination, self.prefix_length, length)

    def _run(self, last: torch.Tensor, **inputs: torch.Tensor) -> torch.Tensor:
        """A pass over the cache's target block; logits where `last` [B, T] is true, of which there is one a row."""
        target = self.cache.target
        self.cache.reserve(target.end)
        places = torch.arange(target.start, target.end, device=self.device)
        visible = torch.arange(target.end, device=self.device) <= places[:, None]
        mask = as_mask(visible, self.dtype).expand(len(last), 1, -1, -1)
        with self._undisturbed(), head_at(self.model, last):
            output = self.model(
                **inputs, position_ids=places.expand(len(last), -1), attention_mask=mask,
                past_key_values=self.cache, use_cache=True,
            )
        return output.logits.squeeze(0)

    @contextlib.contextmanager
    def _undisturbed(self) -> Iterator[None]:
        """The model as a pass needs it: in evaluation mode, with attention that takes our masks and fast products."""
        training = [module for module in self._modules if module.training]
        attention = self.model.config._attn_implementation
        for module in training:
            module.training = False
        if attention not in ATTENTION:
            self.model.set_attn_implementation(ATTENTION[0])
        try:
            with self._linears.at_work():
                yield
        finally:
            for module in training:
                module.training = True
            if attention not in ATTENTION:
                self.model.set_attn_implementation(attention)


def check_supported(model: PreTrainedModel, longest: int) -> None:
    """Refuse models that these passes would get wrong, for sequences of at most `longest` tokens.

    Raises:
        ModelError: some layer keeps a state other than keys and values, sees a window shorter than `longest`, or the
            model does not take positions.
    """
    config: Any = model.config.get_text_config()
    name = config.model_type
    remedy = "choose a model.name whose layers all have full attention"
    if "position_ids" not in inspect.signature(model.forward).parameters or getattr(config, "alibi", False):
        raise ModelError(f"model.name: {name} models take no positions, which decoding in slots needs", remedy)
    kinds = set(getattr(config, "layer_types", None) or ())
    unknown = kinds - {"full_attention", "sliding_attention", "chunked_attention"}
    if unknown:
        raise ModelError(f"model.name: {name} has layers of type {', '.join(sorted(unknown))}", remedy)
    for kind, key in (("sliding_attention", "sliding_window"), ("chunked_attention", "attention_chunk_size")):
        window = getattr(config, key, None)
        if window is not None and (kind in kinds or not kinds) and longest > window:
            raise ModelError(
                f"model.name: {name} has layers that see {window} tokens; the longest completion takes {longest}",
                f"lower inference.max_new_tokens by {longest - window}, or {remedy}",
            )
