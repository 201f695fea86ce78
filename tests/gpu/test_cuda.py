"""AMP in both 16-bit types, memory figures, and agreement with the CPU. Needs torch, transformers, pydantic, pytest."""

import copy
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from core.contract.config import Config
from core.contract.config_file import load_config, parse_config
from core.contract.control import ControlInbox
from core.contract.estimate import estimate_memory, gigabytes, model_shape
from core.contract.events import Event, StepCompleted, ValidationCompleted
from core.contract.plan import plan_training
from core.contract.record import Split
from core.contract.runs import create_run
from core.data.batches import Example, rows_of
from core.model.loading import LoadedModel, Precision, choose_precision, load_model
from core.model.memory import measure_memory
from core.model.soft_prompt import SoftPrompt
from core.training.checkpoints import CheckpointWriter
from core.training.loop import Trainer
from core.training.member import Member
from core.training.packed.passes import PackedPasses
from core.training.passes import MicroBatchPasses, result_of
from core.training.setup import choose_passes
from tests.bench.stand_in import VOCABULARY, draw_problems, make_model, make_small_model

pytestmark = pytest.mark.gpu

SETTINGS = """
training: {batch_size: 4, gradient_accumulation_steps: 2, num_epochs: 2, learning_rate: 0.05, warmup_steps: 2}
soft_prompts: {num_virtual_tokens: 8}
"""


def examples(count: int) -> list[Example]:
    """Sequences in which the next token can be learned: ascending runs."""
    draw = random.Random(0)
    rows = []
    for number in range(count):
        start, length = draw.randrange(10, 300), draw.randrange(20, 60)
        ids = tuple(range(start, start + length))
        rows.append(Example(f"x/{number}", (), ids[: length // 2], ids[length // 2 :]))
    return rows


def train(model: Any, tokenizer: Any, precision: Precision, folder: Path) -> tuple[Member, list[Event]]:
    config = parse_config(SETTINGS)
    model = copy.deepcopy(model).to(precision.device, precision.weights)
    loaded = LoadedModel(model, tokenizer, precision, "tiny", 0.0)
    rows = torch.randn(8, 64, generator=torch.Generator().manual_seed(0)) * 0.2
    data = examples(40)
    writer = CheckpointWriter(create_run(config, "gpu", folder), config, Split(train=[], heldout=[]))
    member = Member(
        SoftPrompt(rows).to(precision.device), data[:32], data[32:], config, plan_training(config, 32, 8), writer,
        precision,
    )
    trainer = Trainer([member], choose_passes(loaded, config.training.batch_size), precision.device, ControlInbox())
    return member, list(trainer.fit())


def curve(events: list[Event]) -> list[float]:
    return [event.loss for event in events if isinstance(event, StepCompleted | ValidationCompleted)]


@pytest.fixture
def cpu_curve(tiny_model: Any, tiny_tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Losses of the same run in float32 on the CPU."""
    monkeypatch.chdir(tmp_path)
    _, events = train(tiny_model, tiny_tokenizer, Precision(torch.device("cpu"), torch.float32, None), tmp_path)
    return curve(events)


@pytest.mark.parametrize(("weights", "autocast", "tolerance"), [
    (torch.float32, None, 2e-3),
    (torch.bfloat16, torch.bfloat16, 0.05),
    (torch.float16, torch.float16, 0.03),
    (torch.float32, torch.bfloat16, 0.05),
    (torch.float32, torch.float16, 0.03),
])
def test_training_agrees_with_the_cpu(
    weights: torch.dtype, autocast: torch.dtype | None, tolerance: float, device: torch.device, cpu_curve: list[float],
    tiny_model: Any, tiny_tokenizer: Any, tmp_path: Path,
) -> None:
    member, events = train(tiny_model, tiny_tokenizer, Precision(device, weights, autocast), tmp_path)
    losses = curve(events)
    worst = max(abs(a - b) / b for a, b in zip(losses, cpu_curve, strict=True))
    print(f"{weights} weights, autocast {autocast}: largest relative difference of a loss from the CPU {worst:.2e}")
    assert worst < tolerance
    assert losses[-1] < losses[0]
    assert member.soft_prompt.weight.dtype == torch.float32
    assert member.optimizer.state[member.soft_prompt.weight]["exp_avg"].dtype == torch.float32
    assert member.scaler.is_enabled() == (autocast == torch.float16)


@pytest.mark.parametrize("weights", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("prompts", [1, 3])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_rows_end_to_end_have_the_gradient_of_float32(
    weights: torch.dtype, prompts: int, label_smoothing: float, device: torch.device, tiny_model: Any,
    tiny_tokenizer: Any,
) -> None:
    """Of 16 rows behind each prompt: as near to autograd in float32 as autograd in the same 16 bits is, or 2 %."""
    rows = [row for number in range(prompts) for row in rows_of(examples(16), number, 1024.0)]
    found = {}
    for name, kind, dtype in (
        ("float32", MicroBatchPasses, torch.float32), ("autograd", MicroBatchPasses, weights),
        ("packed", PackedPasses, weights),
    ):
        model = copy.deepcopy(tiny_model).to(device, dtype)
        loaded = LoadedModel(model, tiny_tokenizer, Precision(device, dtype, None), "tiny", 0.0)
        initial = torch.randn(prompts, 8, 64, generator=torch.Generator().manual_seed(0)) * 0.2
        stacked = [torch.nn.Parameter(each.to(device)) for each in initial]
        passes = kind(loaded, 4, label_smoothing)
        for _ in range(3 if kind is PackedPasses else 1):  # computed, recorded, replayed
            losses = result_of(passes.gradient(stacked, rows))
        gradients = torch.stack([each.grad for each in stacked if each.grad is not None])
        assert gradients.dtype == torch.float32 and len(gradients) == prompts
        found[name] = losses.float(), gradients
    for number, what in enumerate(("losses", "gradient")):
        exact = found["float32"][number]
        apart = {name: ((found[name][number] - exact).norm() / exact.norm()).item() for name in ("autograd", "packed")}
        print(f"{what}: apart from float32 {apart}")
        assert apart["packed"] < max(2 * apart["autograd"], 0.02)


def test_the_passes_of_sixteen_bits_are_chosen_on_a_gpu(
    device: torch.device, tiny_model: Any, tiny_tokenizer: Any
) -> None:
    model = copy.deepcopy(tiny_model).to(device, torch.bfloat16)
    loaded = LoadedModel(model, tiny_tokenizer, Precision(device, torch.bfloat16, torch.bfloat16), "tiny", 0.0)
    expected = PackedPasses if device.type == "cuda" else MicroBatchPasses
    assert type(choose_passes(loaded, 4)) is expected


def test_the_memory_figures_are_those_of_the_device(device: torch.device) -> None:
    before = measure_memory(device)
    block = torch.zeros(64, 2**20, device=device)
    after = measure_memory(device)
    print(f"allocated {before.allocated:,} then {after.allocated:,} of {after.total:,} bytes")
    assert after.device == device.type and after.total > after.peak >= after.allocated > 0
    if device.type == "cuda":
        assert after.allocated - before.allocated == block.numel() * 4
        assert after.reserved >= after.allocated


def test_the_estimate_of_memory_beside_the_measured_peak(device: torch.device, tmp_path: Path) -> None:
    """Of one optimizer step of Qwen2.5-Coder-0.5B's shape, random weights: printed, and roughly right on a GPU."""
    settings = ["training.gradient_accumulation_steps=1", f"model.name={tmp_path}", f"hardware.device={device.type}"]
    config = load_config(overrides=settings)
    on_gpu = device.type == "cuda"
    make_model(tmp_path, device) if on_gpu else make_small_model(tmp_path)
    loaded, shape = load_model(config), model_shape(config.model)
    assert shape is not None
    passes = MicroBatchPasses(loaded, config.training.batch_size)
    passes._room = 0  # as many rows as were asked for, which is what is estimated
    rows = rows_of(draw_problems(config.training.batch_size, VOCABULARY if on_gpu else 500, seed=0))
    prompt = torch.nn.Parameter(torch.randn(20, loaded.embedding_dim, device=device))
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    result_of(passes.gradient([prompt], rows))
    estimate = estimate_memory(config, shape, "cuda" if on_gpu else "cpu", 131)
    estimated = estimate.total - estimate.libraries
    print(f"estimated {gigabytes(estimated)} without libraries, measured {gigabytes(measure_memory(device).peak)}")
    if on_gpu:
        assert 0.5 < torch.cuda.max_memory_allocated(device) / estimated < 1.5


def test_the_defaults_choose_sixteen_bits_on_a_gpu(device: torch.device) -> None:
    precision = choose_precision(Config())
    assert precision.device.type == device.type or device.type == "cpu"
    if precision.device.type == "cuda":
        bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
        assert precision.weights == precision.autocast == (torch.bfloat16 if bfloat16 else torch.float16)
        assert not choose_precision(parse_config("hardware: {mixed_precision: false}")).autocast
        assert choose_precision(parse_config("model: {torch_dtype: float16}")).scaled
