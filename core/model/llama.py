"""A frozen model of the Llama kind (SmolLM2, Qwen2.5, Llama) with its layers written out.

What takes time on short problems, beside the matrix products, is passes over memory between them, and the asking for
thousands of short kernels. Here a layer is as few of them as torch has for it. The sums are those of the model's own
forward pass, in another order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.functional import linear, rms_norm

from core.model import onednn
from core.model.kernels import Gated, Turned
from core.model.memory import free_bytes

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PARTS = {
    "model": {"embed_tokens", "layers", "norm", "rotary_emb"},
    "layer": {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"},
    "attention": {"q_proj", "k_proj", "v_proj", "o_proj"},
    "mlp": {"gate_proj", "up_proj", "down_proj", "act_fn"},
}
"""Submodules of a decoder of the Llama kind, no more and no fewer."""
KINDS = ("llama", "qwen2", "mistral")
"""Models that are computed so while completing, and in 16 bits: there no trial tells wrong sums from rounding."""
COPY_SHARE = 4
"""The projections of attention are copied where that takes no more than one in so many of the free bytes."""
ACTIVATIONS = ("SiLUActivation", "SiLU")
ROTATIONS = ("default", "linear", "llama3", "yarn")
"""Kinds of rotary embedding that depend on the position alone, not on how long the sequence is."""

Attend = Callable[[int, torch.Tensor, torch.Tensor, torch.Tensor, float], torch.Tensor]
"""Attention of a layer: its number, queries [T, heads, width], keys and values [T, shared, width], and what scores are
multiplied by; the result [T, heads, width]."""


def has_known_parts(model: PreTrainedModel) -> bool:
    """Whether its modules are those of the Llama kind and none besides, and all attention is full."""
    config: Any = model.config
    inner: Any = model.base_model
    if _parts(inner) != PARTS["model"] or not len(inner.layers) or type(model.get_output_embeddings()) is not nn.Linear:
        return False
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    windowed = getattr(config, "sliding_window", None) is not None and getattr(config, "use_sliding_window", True)
    if kinds != {"full_attention"} or (windowed and not getattr(config, "layer_types", None)):
        return False
    if getattr(inner.rotary_emb, "rope_type", "default") not in ROTATIONS:
        return False
    return all(
        _parts(layer) == PARTS["layer"] and _parts(layer.self_attn) == PARTS["attention"]
        and _parts(layer.mlp) == PARTS["mlp"] and type(layer.mlp.act_fn).__name__ in ACTIVATIONS
        and all(type(part) is nn.Linear for part in _linears(layer))
        and hasattr(layer.self_attn, "head_dim") and hasattr(layer.self_attn, "scaling")
        for layer in inner.layers
    ) and all(
        hasattr(norm, "variance_epsilon") and {name for name, _ in norm.named_parameters()} == {"weight"}
        for norm in (inner.norm, *(norm for layer in inner.layers
                                   for norm in (layer.input_layernorm, layer.post_attention_layernorm)))
    )


def _parts(module: nn.Module) -> set[str]:
    return {name for name, _ in module.named_children()}


def _linears(layer: Any) -> list[nn.Module]:
    attention, mlp = layer.self_attn, layer.mlp
    return [attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj,
            mlp.gate_proj, mlp.up_proj, mlp.down_proj]


def can_be_written_out(model: PreTrainedModel) -> bool:
    """Whether it is of a kind that is right in 16 bits, and memory has room for what `LlamaModel` copies."""
    if model.config.model_type not in KINDS or not has_known_parts(model):
        return False
    attention = [module.self_attn for module in model.base_model.layers]  # type: ignore[union-attr]
    copied = sum(part.weight.nbytes for each in attention for part in (each.q_proj, each.k_proj, each.v_proj))
    return copied <= free_bytes(model.device) // COPY_SHARE


def can_be_laid_out(model: PreTrainedModel) -> bool:
    """Whether it is of the `KINDS`, in float32 on a CPU and untouched, and half of what is free has room for a copy."""
    parameters = list(model.parameters())
    if not (onednn.available() and all(part.device.type == "cpu" and part.dtype == torch.float32 for part in parameters)
            and model.config.model_type in KINDS and has_known_parts(model) and is_untouched(model, model.modules())):
        return False
    copied = sum(module.weight.nbytes for module in model.modules() if type(module) is nn.Linear)
    return copied <= free_bytes(model.device) // 2


def is_untouched(model: PreTrainedModel, modules: Iterable[nn.Module]) -> bool:
    """Whether nobody put hooks or another `forward` on its modules, or chose the attention that shows its weights.

    With its layers written out, what these are for would not happen.
    """
    return model.config._attn_implementation != "eager" and not any(
        "forward" in vars(module) or module._forward_hooks or module._forward_pre_hooks for module in modules
    )


class LlamaModel:
    """Passes over tokens side by side, whichever sequences they are of; autograd has nothing of the frozen weights."""

    def __init__(self, model: PreTrainedModel, *, laid_out: bool = False) -> None:
        """Read a model whose parts are known; the projections of attention are copied, side by side.

        Args:
            laid_out: copy all weights that are multiplied by, for oneDNN: on a CPU in float32, without gradients.
        """
        inner: Any = model.base_model
        self.embed: Callable[[torch.Tensor], torch.Tensor] = model.get_input_embeddings()
        self._rotary: Callable[..., tuple[torch.Tensor, torch.Tensor]] = inner.rotary_emb
        products = _ByOneDnn if laid_out else _ByTorch
        self._layers = [_Layer(number, layer, products(layer)) for number, layer in enumerate(inner.layers)]
        self._norm = _Norm(inner.norm)
        head: Any = model.get_output_embeddings()
        self._head = onednn.LaidOut.of(head) if laid_out else head

    def hidden(
        self, x: torch.Tensor, positions: torch.Tensor, attend: Attend, wanted: torch.Tensor | None = None
    ) -> torch.Tensor:
        """What the output head takes: the normed states of all tokens, [T, H], or of those that are wanted, [N, H].

        Args:
            x: embedded tokens [T, H].
            positions: [T], in their sequences.
            wanted: [N].
        """
        cosines, sines = self._rotary(x[None], position_ids=positions[None])
        half = cosines.shape[-1] // 2  # the second half repeats the first
        rotation = cosines[0, :, None, :half].contiguous(), sines[0, :, None, :half].contiguous()
        for layer in self._layers:
            x = layer(x, *rotation, attend, wanted if layer is self._layers[-1] else None)
        return self._norm(x)

    def scores(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits [N, vocabulary], in the weights' type."""
        logits: torch.Tensor = self._head(hidden)
        return logits


class _Norm:
    """Root mean square normalization with a frozen weight."""

    def __init__(self, module: Any) -> None:
        self._weight: torch.Tensor = module.weight.detach()
        self._epsilon: float = module.variance_epsilon

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """x / rms(x) · w, of x [T, H]."""
        return rms_norm(x, self._weight.shape, self._weight, self._epsilon)


class _ByTorch:
    """The matrix products of a layer, by torch."""

    def __init__(self, layer: Any) -> None:
        self._joined = _joined(layer.self_attn)
        self._output, self._down = layer.self_attn.o_proj, layer.mlp.down_proj
        self._gate, self._up = layer.mlp.gate_proj, layer.mlp.up_proj

    def joined(self, x: torch.Tensor) -> torch.Tensor:
        """Queries, keys and values side by side."""
        return linear(x, *self._joined)

    def with_attended(self, x: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        """x + output(attended)."""
        return _added(x, attended, self._output)

    def gated(self, x: torch.Tensor) -> torch.Tensor:
        """silu(gate(x)) · up(x)."""
        product: torch.Tensor = Gated.apply(self._gate(x), self._up(x))  # type: ignore[no-untyped-call]
        return product

    def with_mlp(self, x: torch.Tensor, gated: torch.Tensor) -> torch.Tensor:
        """x + down(gated)."""
        return _added(x, gated, self._down)


class _ByOneDnn:
    """The same by oneDNN, which takes what follows a product into it."""

    def __init__(self, layer: Any) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.joined = onednn.LaidOut(*_joined(attention))
        self._gate, self._up = onednn.LaidOut.of(mlp.gate_proj), onednn.LaidOut.of(mlp.up_proj)
        self._output, self._down = onednn.LaidOut.of(attention.o_proj), onednn.LaidOut.of(mlp.down_proj)

    def with_attended(self, x: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        return self._output.added(attended, x)

    def gated(self, x: torch.Tensor) -> torch.Tensor:
        return self._up.multiplied(x, self._gate.silu(x))

    def with_mlp(self, x: torch.Tensor, gated: torch.Tensor) -> torch.Tensor:
        return self._down.added(gated, x)


def _joined(attention: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Weight and bias of the projections of attention, side by side."""
    projections = (attention.q_proj, attention.k_proj, attention.v_proj)
    biases = [projection.bias for projection in projections]
    with torch.no_grad():
        weight = torch.cat([projection.weight for projection in projections])
        return weight, torch.cat(biases) if all(bias is not None for bias in biases) else None


def _added(x: torch.Tensor, inputs: torch.Tensor, layer: nn.Linear) -> torch.Tensor:
    """x + layer(inputs), the sum within the product."""
    if layer.bias is not None:
        x = x + layer.bias
    return torch.addmm(x, inputs, layer.weight.t())


class _Layer:
    """One decoder layer: x + attention(norm(x)), then that + mlp(norm(that))."""

    def __init__(self, number: int, module: Any, products: _ByTorch | _ByOneDnn) -> None:
        attention = module.self_attn
        self._number = number
        self._width: int = attention.head_dim
        self._heads = attention.q_proj.out_features // self._width
        self._shared = attention.k_proj.out_features // self._width
        self._scaling: float = attention.scaling
        self._before_attention, self._before_mlp = _Norm(module.input_layernorm), _Norm(module.post_attention_layernorm)
        self._products = products

    def __call__(
        self, x: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor, attend: Attend, wanted: torch.Tensor | None
    ) -> torch.Tensor:
        joined = self._products.joined(self._before_attention(x))
        query, key, value = Turned.apply(  # type: ignore[no-untyped-call]
            joined.view(len(x), -1, self._width), cosines, sines, self._heads, self._shared
        )
        attended = attend(self._number, query, key, value, self._scaling).flatten(1)
        if wanted is not None:
            attended, x = attended.index_select(0, wanted), x.index_select(0, wanted)
        x = self._products.with_attended(x, attended)
        return self._products.with_mlp(x, self._products.gated(self._before_mlp(x)))
