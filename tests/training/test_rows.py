"""Passes of a few rows on each core: for which models they are chosen, and in what order they compute."""

from __future__ import annotations

import dataclasses
import gc
import itertools
import operator
import random
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    MistralConfig,
    OlmoConfig,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
)
from transformers.models.gpt2 import GPT2Config

from core.contract.errors import OutOfMemory
from core.data.batches import Example, Row, rows_of
from core.model import onednn
from core.model.llama import can_be_written_out, has_known_parts
from core.model.loading import LoadedModel, Precision
from core.training.fit import row_passes
from core.training.passes import result_of
from core.training.rows.layers import Layer
from core.training.rows.model import Exchange
from core.training.rows.passes import RowPasses, grouped, side_by_side
from core.training.rows.products import ByBlas, ByOneDnn, frozen_linear
from core.training.rows.workspace import Workspace
from core.training.setup import choose_passes
from tests.training.conftest import MakeTrainer

SIZES = {
    "vocab_size": 512, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "initializer_range": 0.2,
}


def with_model(loaded: LoadedModel, config: PretrainedConfig) -> LoadedModel:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).float().eval().requires_grad_(False)
    return dataclasses.replace(loaded, model=model)


FITTING = {
    "llama": LlamaConfig(**SIZES),
    "llama with biases": LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True),
    "another head width": LlamaConfig(**SIZES, head_dim=32),
    "qwen2": Qwen2Config(**SIZES),
    "a scaled rotation": LlamaConfig(**SIZES, rope_parameters={
        "rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4, "original_max_position_embeddings": 128}),
}


@pytest.mark.parametrize("way", [ByOneDnn, ByBlas])
@pytest.mark.parametrize("name", FITTING)
def test_models_of_the_llama_kind_are_written_out(
    name: str, way: type[ByOneDnn | ByBlas], loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.training.rows.products.avx2_at_most", lambda: way is ByBlas)
    assert isinstance(frozen_linear(nn.Linear(8, 8), laid_out=True), way)
    assert isinstance(choose_passes(with_model(loaded, FITTING[name]), 4), RowPasses)


@pytest.mark.parametrize("make", [ByOneDnn, ByBlas])
@pytest.mark.parametrize("laid_out", [True, False])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("sizes", [(24,), (24, 8, 8)])
def test_products_and_their_gradient(
    make: type[ByOneDnn | ByBlas], laid_out: bool, threads: int, sizes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    torch.manual_seed(0)
    layers = [nn.Linear(8, size, bias=number % 2 == 0).requires_grad_(False) for number, size in enumerate(sizes)]
    x, of_results = torch.randn(5, 8, requires_grad=True), torch.randn(5, sum(sizes))
    results = [layer(x) for layer in layers]
    torch.cat(results, dim=1).backward(of_results)
    with torch.inference_mode():
        products = make(*layers, laid_out=laid_out)
        for found, expected in zip(products(x.detach()), results, strict=True):
            torch.testing.assert_close(found, expected.detach())
        torch.testing.assert_close(products.gradient(of_results), x.grad)


OTHERS = {
    "normalized queries": Qwen3Config(**SIZES),
    "a window": MistralConfig(**SIZES, sliding_window=128),
    "windows in some layers": Qwen2Config(**SIZES, use_sliding_window=True, sliding_window=128, max_window_layers=1),
    "another activation": LlamaConfig(**SIZES, hidden_act="gelu"),
    "a rotation that depends on the length": LlamaConfig(**SIZES, rope_parameters={
        "rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4}),
    "another design": GPT2Config(vocab_size=512, n_embd=64, n_layer=2, n_head=4),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_models_are_left_to_autograd(name: str, loaded: LoadedModel) -> None:
    other = with_model(loaded, OTHERS[name])
    assert not has_known_parts(other.model) and row_passes(other, 4) is None


def test_a_model_that_looks_alike_but_computes_otherwise_fails_its_trial(loaded: LoadedModel) -> None:
    other = with_model(loaded, LlamaConfig(**SIZES))
    embedding: Any = other.model.get_input_embeddings()
    hook = other.model.model.layers[0].mlp.register_forward_hook(lambda _module, _inputs, output: output * 1.01)
    assert has_known_parts(other.model) and row_passes(other, 4) is None
    hook.remove()
    embedding.register_forward_hook(lambda _module, _inputs, output: output * 2)  # an embedding is called, not read
    assert row_passes(other, 4) is not None


@pytest.mark.parametrize("precision", [
    Precision(torch.device("cpu"), torch.bfloat16, None), Precision(torch.device("cpu"), torch.float32, torch.bfloat16),
])
def test_16_bits_are_left_to_autograd(precision: Precision, loaded: LoadedModel) -> None:
    assert row_passes(dataclasses.replace(loaded, precision=precision), 4) is None


def test_without_onednn_autograd_does_it(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onednn, "available", lambda: False)
    assert row_passes(loaded, 4) is None


def test_where_memory_is_short_no_second_copy_of_the_weights_is_made(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onednn, "lay_out", lambda *_: pytest.fail("a copy was made"))
    monkeypatch.setattr("core.training.rows.model.free_bytes", lambda _device: 0)
    trainer = make_trainer("training.num_epochs=1")
    assert isinstance(trainer.passes, RowPasses) and list(trainer.fit())


def made(tokens: Sequence[int]) -> list[Row]:
    """Rows of so many tokens."""
    return rows_of([Example(str(number), (), (1,) * (length - 3), (1, 2, 3)) for number, length in enumerate(tokens)])


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("together", [1, 150, 400, 4000])
def test_rows_are_grouped_evenly(workers: int, together: int) -> None:
    draw = random.Random(workers)
    rows = made([draw.randint(40, 500) for _ in range(48)])
    groups = grouped(rows, workers, together)
    sizes = [sum(row.example.tokens for row in group) for group in groups]
    assert sorted(row.example.task_id for group in groups for row in group) == sorted(map(str, range(48)))
    assert sizes == sorted(sizes, reverse=True)
    assert all(size <= together or len(group) == 1 for size, group in zip(sizes, groups, strict=True))
    assert len(groups) % workers == 0
    if together >= 1000:
        assert max(sizes) < 1.1 * min(sizes), "none waits long for another"
    if together == 1:
        assert all(len(group) == 1 for group in groups)


def test_many_rows_are_grouped_at_once_and_one_is_alone() -> None:
    groups = grouped(made([100 + number % 300 for number in range(20_000)]), 2, 768)
    assert len(groups) < 1.2 * 20_000 * 249.5 / 768
    assert [len(group) for group in grouped(made([900]), 2, 768)] == [1]


@pytest.mark.parametrize("together", [1, 60, 4000])
def test_a_row_is_the_same_alone_and_among_others(together: int, loaded: LoadedModel) -> None:
    rows = made([40, 9, 17, 30, 12])
    rows = [dataclasses.replace(row, prompt=number % 2, weight=0.1 * number) for number, row in enumerate(rows)]
    torch.manual_seed(0)
    prompts = [nn.Parameter(torch.randn(3, 64)) for _ in range(2)]
    passes = RowPasses(loaded, 2)
    found = []
    for passes._together in (1, together):
        losses = result_of(passes.gradient(prompts, rows))
        torch.testing.assert_close(result_of(passes.loss(prompts, rows)), losses)
        found.append((losses, *(prompt.grad for prompt in prompts)))
    for alone, among in zip(*found, strict=True):
        torch.testing.assert_close(among, alone, rtol=1e-5, atol=1e-6)


def test_where_memory_runs_out_cores_are_given_up_first_and_then_rows_at_a_time(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    passes, most = RowPasses(loaded, 2), 1
    gradients = passes._model.gradients

    def short_of_memory(rows: Any, *more: Any) -> Any:
        if len(rows) > most:
            raise MemoryError
        return gradients(rows, *more)

    monkeypatch.setattr(passes._model, "gradients", short_of_memory)
    prompt, rows = nn.Parameter(torch.randn(3, 64)), made([40] * 16)
    told = [each.what for each in passes.gradient([prompt], rows) if not isinstance(each, int)]
    assert told == [f"out of memory with {before} rows at a time: {after} from now on"
                    for before, after in ((16, 8), (8, 4), (4, 2), (2, 1))]
    most = 0
    with pytest.raises(OutOfMemory, match="a single row of 43 tokens"):
        list(passes.gradient([prompt], rows))


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("in_prefixes", [True, False])
def test_where_memory_runs_out_nothing_of_the_attempt_is_held_by_the_next(
    in_prefixes: bool, workers: int, loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    passes, forward, traces = RowPasses(loaded, workers), Layer.forward, []

    def fails(self: Layer, x: torch.Tensor, *more: Any) -> Any:
        result, trace = forward(self, x, *more)
        traces.append(weakref.ref(trace))
        if (len(x) == 3) == in_prefixes and self is passes._model._layers[-1]:
            raise MemoryError
        return result, trace

    monkeypatch.setattr(Layer, "forward", fails)
    gc.disable()
    try:
        pieces = passes.gradient([nn.Parameter(torch.randn(3, 64))], made([40] * 16))
        next(piece for piece in pieces if not isinstance(piece, int))
        assert traces and not any(trace() for trace in traces)
        pieces.close()
    finally:
        gc.enable()


def test_where_memory_runs_out_what_is_kept_from_pass_to_pass_is_given_up_first(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes, prompt, rows = RowPasses(loaded, 1), nn.Parameter(torch.randn(3, 64)), made([40])
    result_of(passes.gradient([prompt], rows))
    kept, losses = weakref.ref(passes._free[0]), passes._model.losses

    def short_of_memory(*arguments: Any) -> list[float]:
        if kept():
            raise MemoryError
        return losses(*arguments)

    monkeypatch.setattr(passes._model, "losses", short_of_memory)
    assert all(isinstance(piece, int) for piece in passes.loss([prompt], rows)), "nobody need know"


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("part", ["gradients", "losses", "prefixes"])
def test_an_error_of_a_part_is_that_of_the_pass(
    part: str, workers: int, loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    passes, layers = RowPasses(loaded, workers), []
    forward = Layer.forward

    def fails(self: Layer, x: torch.Tensor, *more: Any) -> Any:
        of_prefixes = len(x) == 6
        layers.append(self)
        if of_prefixes == (part == "prefixes") and self is passes._model._layers[-1]:
            raise ZeroDivisionError
        return forward(self, x, *more)

    monkeypatch.setattr(Layer, "forward", fails)
    prompts = [nn.Parameter(torch.randn(3, 64)) for _ in range(2)]
    rows = [dataclasses.replace(row, prompt=number % 2) for number, row in enumerate(made([40] * 8))]
    with pytest.raises(ZeroDivisionError):
        result_of((passes.loss if part == "losses" else passes.gradient)(prompts, rows))
    assert all(prompt.grad is None for prompt in prompts)


def test_an_error_does_not_wait_for_what_is_under_way(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    passes, forward, end = RowPasses(loaded, 2), Layer.forward, Exchange.end
    first, ended, late = threading.Lock(), threading.Event(), []

    def slow(self: Layer, x: torch.Tensor, *more: Any) -> Any:
        if len(x) > 3:
            if first.acquire(blocking=False):
                raise ZeroDivisionError
            late.append(ended.wait(60))
        return forward(self, x, *more)

    def told(self: Exchange) -> None:
        end(self)
        ended.set()

    monkeypatch.setattr(Layer, "forward", slow)
    monkeypatch.setattr(Exchange, "end", told)
    with pytest.raises(ZeroDivisionError):
        result_of(passes.gradient([nn.Parameter(torch.randn(3, 64))], made([40] * 2)))
    assert late in ([], [True]), "the other row ended at its next layer"


def test_a_process_may_end_within_a_pass(tiny_model_folder: Path) -> None:
    program = f"""
        import torch
        from torch import nn
        from core.contract.config_file import load_config
        from core.data.batches import Example, rows_of
        from core.model.loading import load_model
        from core.training.rows.passes import RowPasses
        config = load_config(overrides=["model.name={tiny_model_folder}", "model.gguf_file=null"], demo=True)
        pieces = RowPasses(load_model(config), 2).gradient(
            [nn.Parameter(torch.randn(3, 64))], rows_of([Example("1", (), (1, 2), (3, 4))] * 3)
        )
        print(next(pieces))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout


@pytest.mark.parametrize("workers", [1, 2])
def test_sums_do_not_depend_on_who_was_first(
    workers: int, loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    gradient, draw = Layer.gradient, random.Random(0)
    passes, prompt = RowPasses(loaded, workers), nn.Parameter(torch.randn(3, 64))
    passes._together = 60

    def late(self: Layer, *arguments: Any, **settings: Any) -> torch.Tensor | None:
        time.sleep(draw.random() / 100)
        return gradient(self, *arguments, **settings)

    monkeypatch.setattr(Layer, "gradient", late)
    found = []
    for _ in range(5):
        losses = result_of(passes.gradient([prompt], made([40, 9, 17, 30, 12, 25, 50])))
        found.append((losses, prompt.grad))
    assert all(torch.equal(one, first) for each in found for one, first in zip(each, found[0], strict=True))


def test_a_workspace_gives_no_memory_twice_and_after_a_reset_the_same_again() -> None:
    workspace, draw = Workspace(), random.Random(0)
    sizes = [1, 7, 300, 3 << 20, 20 << 20, *(draw.randint(1, 2 << 20) for _ in range(30))]
    found = []
    for _ in range(3):
        taken = [workspace.take(1, size) for size in sizes]
        places = sorted((part.data_ptr(), part.data_ptr() + part.nbytes) for part in taken)
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(places))
        assert all(start % 64 == 0 for start, _ in places)
        found.append([part.data_ptr() for part in taken])
        workspace.reset()
    assert found[0] == found[1] == found[2]


def test_a_step_computes_in_the_memory_of_the_one_before(loaded: LoadedModel) -> None:
    passes, prompt = RowPasses(loaded, 1), nn.Parameter(torch.randn(3, 64))
    held = []
    for _ in range(3):
        result_of(passes.gradient([prompt], made([40, 9, 17, 30, 12, 25, 50])))
        held.append([block for each in (*passes._free, passes._of_prefixes) for block in each._blocks])
    assert len(held[0]) == 2
    assert all(len(each) == 2 and all(map(operator.is_, each, held[0])) for each in held)


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_work_is_shared_out_and_so_are_the_cores(workers: int) -> None:
    gate = threading.Event()
    cores = torch.get_num_threads()

    def work(item: int) -> tuple[int, int]:
        if item == 10 and min(workers, cores) > 1:
            gate.wait(10)  # until another one is done
        else:
            gate.set()
        return item * item, torch.get_num_threads()

    found = dict(side_by_side(work, range(10, 17), workers))
    assert {index: square for index, (square, _) in found.items()} == {n: (10 + n) ** 2 for n in range(7)}
    assert {threads for _, threads in found.values()} == {cores // min(workers, cores)}
    assert torch.get_num_threads() == cores


def test_who_leaves_early_pays_for_few_more() -> None:
    started: list[int] = []
    pieces = side_by_side(started.append, range(100), 2)
    assert len(list(itertools.islice(pieces, 3))) == 3
    pieces.close()  # type: ignore[attr-defined]
    assert len(started) < 12


def test_an_error_in_a_thread_is_the_callers() -> None:
    with pytest.raises(ZeroDivisionError):
        list(side_by_side(lambda item: 1 // item, [1, 1, 0, 1, 1], 2))


@pytest.mark.skipif(torch.get_num_threads() < 2, reason="one core takes one item at a time")
def test_large_items_do_not_meet() -> None:
    sizes = [700, 600, 500, 60, 50, 40, 30, 20]
    under_way: list[int] = []
    together: list[int] = []
    lock = threading.Lock()

    def work(size: int) -> None:
        with lock:
            under_way.append(size)
            together.append(sum(under_way))
        time.sleep(0.002)
        with lock:
            under_way.remove(size)

    found = dict(side_by_side(work, sizes, 2, size=lambda size: size, together=384))
    assert len(found) == len(sizes)
    assert max(together) <= 2 * 384


def test_who_leaves_a_pass_does_not_wait_for_the_rows_under_way(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.training.rows.passes.LOOK_SECONDS", 0.01)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    passes = RowPasses(loaded, 2)
    layers, reached, ended = passes._model._layers, threading.Event(), threading.Event()
    forward, end, taken = Layer.forward, Exchange.end, []

    def slow(self: Any, *arguments: Any, **more: Any) -> Any:
        taken.append(self)
        if arguments[0].shape[0] > 5:  # a row's, not the prefix's
            reached.set()
            deadline = time.monotonic() + 60
            while not ended.is_set() and time.monotonic() < deadline:
                time.sleep(0.001)
        return forward(self, *arguments, **more)

    def told(self: Exchange) -> None:
        end(self)
        ended.set()

    monkeypatch.setattr(Layer, "forward", slow)
    monkeypatch.setattr(Exchange, "end", told)
    prompts = [nn.Parameter(torch.randn(3, 64))]
    pieces = passes.gradient(prompts, rows_of([Example(str(n), (), tuple(range(9, 40)), (5, 6)) for n in range(8)]))
    assert next(pieces) == 0, "nothing is done yet, and the caller may look after other things"
    assert reached.wait(60)
    pieces.close()
    assert len(taken) <= len(layers) + 2, "each of the two rows under way ended at its next layer"
    monkeypatch.setattr(Layer, "forward", forward)
    assert torch.isfinite(result_of(passes.gradient(prompts, rows_of([Example("x", (), (1, 2), (3,))])))).all()


def test_a_model_whose_norms_have_no_weight_is_not_known(loaded: LoadedModel) -> None:
    other = with_model(loaded, OlmoConfig(**SIZES))
    assert not has_known_parts(other.model) and row_passes(other, 4) is None


def test_in_sixteen_bits_the_kind_of_a_model_decides(loaded: LoadedModel) -> None:
    """A trial in them cannot tell layers without rotary embedding, as SmolLM3 has, from rounding."""
    assert can_be_written_out(loaded.model)
    alike = with_model(loaded, LlamaConfig(**SIZES)).model
    alike.config.model_type = "smollm3"
    assert has_known_parts(alike) and not can_be_written_out(alike)
