"""`make bench-gpu`: training and completing on a GPU, against peft and transformers.

The model has the exact shape of Qwen2.5-Coder-0.5B and random weights, and the problems have lengths drawn like
HumanEval's and random tokens (`tests.bench.stand_in`), so that nothing has to be fetched: any python3 with torch,
transformers, peft, pydantic and pyyaml runs it. Times are taken when the GPU has done all that was asked of it. A peer
that fails is named in the table, and the others stand.

Both sides of a pair take the same optimizer step in turns. That they compute the same is judged before, on one
effective batch of four: in float32, and of our way in 16 bits, where each rounds in its own order, by how far it is
from float32.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import functools
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as core.cli does, and as it must be before torch is imported
os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")

import torch  # noqa: E402 - a script: the project's root and the environment come first
from torch import nn  # noqa: E402

from core.contract.config import Config  # noqa: E402
from core.data.batches import Example, effective_batches, rows_of, supervised_tokens  # noqa: E402
from core.generation.decoder import Request  # noqa: E402
from core.model.loading import LoadedModel, Precision, load_model  # noqa: E402
from core.training.passes import MicroBatchPasses, Passes, result_of  # noqa: E402
from core.training.setup import choose_passes  # noqa: E402
from tests.bench.completing import Peer, Work, compare, never_ending  # noqa: E402
from tests.bench.operations import Operations  # noqa: E402
from tests.bench.runs import starting_rows, train_whole  # noqa: E402
from tests.bench.stand_in import VOCABULARY, draw_problems, make_model, make_small_model  # noqa: E402
from tests.bench.steps import Ours, in_turns, spread, waited_for  # noqa: E402
from tests.bench.surroundings import surroundings  # noqa: E402
from tests.bench.table import Row, print_table  # noqa: E402

SAME = 1e-3
"""Largest relative difference of loss, norm and gradient in float32."""
REPEATS = 5
WARM = 2
"""Pairs of steps before those that count."""
RECORDED = 2
"""Epochs of our steps before those: what comes a second time is recorded. `whole` counts that, too."""


@dataclasses.dataclass(frozen=True)
class Size:
    """How much is measured."""

    train: int
    heldout: int
    epochs: int
    prompts: int
    """To complete."""
    new_tokens: int
    square: int
    """Rows of the largest matrix whose product is timed."""


PARTS = ("training", "share", "population", "whole", "completing")
WHOLE, TINY = Size(131, 33, 10, 164, 128, 8192), Size(17, 4, 2, 8, 8, 256)
PEERS = ((1, 2, False), (8, 16, False), (16, 32, False), (16, 48, True))
"""Of `generate`: the batch, how many of the prompts, and whether with a static cache, for which it is compiled."""


class Bench:
    """The model, the problems and the settings that all rows share."""

    def __init__(self, folder: Path, device: torch.device, size: Size, tiny: bool) -> None:
        self.size, self.judged = size, not tiny
        self.config = settings(folder, device, size)
        self.loaded: LoadedModel = load_model(self.config)
        self.device = self.loaded.precision.device
        vocabulary = 500 if tiny else VOCABULARY
        self.train = draw_problems(size.train, vocabulary, seed=0)
        whole = effective_batches(self.train, 16)
        self.batches = [batch for batch in whole if len(batch) == 16]
        self.requests = [
            Request(example.task_id, example.context) for example in draw_problems(size.prompts, vocabulary, seed=1)
        ]
        self.operations = Operations(self.loaded.model)

    def rows(self, number: int = 0) -> torch.Tensor:
        """Initial rows [V, H] of a soft prompt."""
        return starting_rows(self.loaded, self.config, number)

    def ours(self, prompts: int = 1) -> Ours:
        """Our steps of so many soft prompts together."""
        forget(self.device)
        rows = [self.rows(number) for number in range(prompts)]
        ours = Ours(self.loaded, self.config, self.train, rows)
        for _ in range(RECORDED if self.judged else 0):
            for batch in self.batches:
                ours.step(batch)
        return ours

    def steps(self, count: int) -> Iterator[Sequence[Example]]:
        """So many effective batches, over and over."""
        for number in range(count):
            yield self.batches[number % len(self.batches)]


def settings(folder: Path, device: torch.device, size: Size) -> Config:
    """20 virtual tokens, 4 × 4, and no early end."""
    return Config.model_validate({
        "model": {"name": str(folder)},
        "hardware": {"device": device.type},
        "training": {"batch_size": 4, "gradient_accumulation_steps": 4, "num_epochs": size.epochs},
        "evaluation": {"early_stopping_patience": None},
    })


def training(bench: Bench, rounds: int) -> list[Row]:
    """An optimizer step against peft's, and our steps' share of the matrix rate."""
    same, told = same_numbers(bench)
    from tests.bench.peft_peer import PeftPeer

    ours, peer = bench.ours(), PeftPeer(bench.loaded, bench.config, len(bench.train), bench.rows())
    pairs = list(in_turns(ours, peer, list(bench.steps(WARM + rounds))))[WARM:]
    ratios = spread([pair.ratio for pair in pairs])
    tokens = sum(pair.tokens for pair in pairs)
    speeds = [tokens / sum(step.seconds for step in side)
              for side in ([pair.ours for pair in pairs], [pair.theirs for pair in pairs])]
    apart = max(abs(pair.ours.loss - pair.theirs.loss) / abs(pair.theirs.loss) for pair in pairs)
    dtype = str(bench.loaded.precision.weights).removeprefix("torch.")
    return [Row(
        "training, against peft, padded to the longest", f"{ratios.median:.2f} ×", "≥ 5 ×",
        False if not same else ratios.median >= 5 if bench.judged else None,
        f"{speeds[0]:.0f} tokens/s, peft {speeds[1]:.0f}; {len(pairs)} pairs {ratios}; {told}, losses in {dtype} "
        f"within {apart:.0e}",
    )]


def same_numbers(bench: Bench) -> tuple[bool, str]:
    """Whether loss and gradient are peft's in float32, and in 16 bits as near to it as autograd; and that in words."""
    from tests.bench.peft_peer import PeftPeer

    precision = Precision(bench.device, torch.float32, None)
    loaded = dataclasses.replace(bench.loaded, model=copy.deepcopy(bench.loaded.model).float(), precision=precision)
    rows, few = bench.rows(), bench.batches[0][:4]
    peer = PeftPeer(loaded, bench.config, len(few), rows)
    (pair,) = in_turns(Ours(loaded, bench.config, few, [rows]), peer, [few])
    ways: list[Passes] = [
        MicroBatchPasses(loaded, 4), choose_passes(bench.loaded, 4), MicroBatchPasses(bench.loaded, 4)
    ]
    exact, ours, autograd = (gradient_of(way, rows.to(bench.device), few) for way in ways)
    apart, usual = ((found - exact).norm().item() / exact.norm().item() for found in (ours, autograd))
    same = pair.difference <= SAME and apart <= max(2 * usual, SAME)
    words = "same loss and gradient" if same else "OTHER LOSS OR GRADIENT"
    dtype = str(bench.loaded.precision.weights).removeprefix("torch.")
    return same, (f"{words} in float32, within {pair.difference:.0e}; from it ours is {apart:.1%} apart in {dtype}, "
                  f"autograd {usual:.1%}")


def gradient_of(passes: Passes, rows: torch.Tensor, examples: Sequence[Example]) -> torch.Tensor:
    """The gradient [V, H] of an effective batch, computed three times: what is recorded is replayed by then."""
    prompt = nn.Parameter(rows.clone())
    for _ in range(3):
        result_of(passes.gradient([prompt], rows_of(examples)))
    assert prompt.grad is not None
    return prompt.grad


def share(bench: Bench, rounds: int) -> list[Row]:
    """Which part of the device's matrix rate our steps reach with the operations that training needs."""
    ours = bench.ours()
    virtual_tokens = bench.config.soft_prompts.num_virtual_tokens
    found: list[float] = []
    rates: list[float] = []
    for number, examples in enumerate(bench.steps(WARM + rounds)):
        step, rate = ours.step(examples), matrix_rate(bench, examples)
        if number >= WARM:
            found.append(bench.operations.step(examples, virtual_tokens) / step.seconds)
            rates.append(rate)
    shares = spread([speed / rate for speed, rate in zip(found, rates, strict=True)])
    square = square_rate(bench)
    return [Row(
        "share of the matrix rate, effective batch 16", f"{shares.median:.1%}", "≥ 35 %",
        shares.median >= 0.35 if bench.judged else None,
        f"{spread(found).median / 1e12:.2f} of {spread(rates).median / 1e12:.2f} TFLOP/s at the layers' shapes; "
        f"steps {shares.least:.1%}–{shares.most:.1%}; a product of {bench.size.square} squares "
        f"{square / 1e12:.2f} TFLOP/s",
    )]


@torch.inference_mode()
def matrix_rate(bench: Bench, examples: Sequence[Example]) -> float:
    """Operations a second of the model's products alone, for as many tokens at once as a step has: the fastest way."""
    model = bench.loaded.model
    head = model.get_output_embeddings()
    rows, heads = sum(example.tokens for example in examples), supervised_tokens(examples)
    layers = [module.weight for module in model.modules() if isinstance(module, nn.Linear) and module is not head]
    work = [(weight, rows) for weight in layers] + [(head.weight, heads)]
    inputs = {(weight.shape[1], count): torch.randn(count, weight.shape[1], dtype=weight.dtype, device=bench.device)
              for weight, count in work}

    def products(way: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
        for weight, count in work:
            way(inputs[weight.shape[1], count], weight)

    ways = [nn.functional.linear, lambda x, weight: torch.mm(weight, x.t())]
    seconds = fastest(bench.device, [functools.partial(products, way) for way in ways])
    return bench.operations.forward(rows, heads) / seconds


@torch.inference_mode()
def square_rate(bench: Bench) -> float:
    """Operations a second of one large product in the weights' type."""
    size, dtype = bench.size.square, bench.loaded.precision.weights
    a, b = (torch.randn(size, size, dtype=dtype, device=bench.device) for _ in range(2))
    return 2 * size**3 / fastest(bench.device, [lambda: torch.mm(a, b)])


def fastest(device: torch.device, ways: Sequence[Callable[[], object]]) -> float:
    """Seconds of the fastest of some ways, in several tries each."""
    found = []
    for way in ways:
        for _ in range(REPEATS):
            with waited_for(device) as seconds:
                way()
            found.append(seconds())
    return min(found)


def population(bench: Bench, rounds: int, prompts: int = 5) -> list[Row]:
    """An optimizer step of several soft prompts together, against one of each after the other."""
    together, alone = bench.ours(prompts), bench.ours()
    found: list[float] = []
    seconds: list[tuple[float, float]] = []
    for number, examples in enumerate(bench.steps(WARM + rounds)):
        turn = [(together, 1), (alone, prompts)][:: -1 if number % 2 else 1]
        taken = {side: sum(side.step(examples).seconds for _ in range(times)) for side, times in turn}
        ours, theirs = taken[together], taken[alone]
        if number >= WARM:
            found.append(theirs / ours)
            seconds.append((ours, theirs))
    ratios = spread(found)
    ours, theirs = (spread(times).median for times in zip(*seconds, strict=True))
    return [Row(
        f"an optimizer step of {prompts} soft prompts in one pass", f"{ratios.median:.2f} ×", "", None,
        f"of 4 × 4 each: {1000 * ours:.0f} ms, one after another {1000 * theirs:.0f} ms; {len(found)} rounds {ratios}",
    )]


def whole(bench: Bench, folder: Path, arguments: Sequence[str], prompts: int = 5) -> list[Row]:
    """Whole trainings in processes of their own, whose files have just been read: one, several, and all in one pass."""
    size = bench.size
    forget(bench.device)
    alone = [in_process(folder, arguments, [number]) for number in range(prompts)]
    ours, together = in_process(folder, arguments, list(range(prompts)))
    theirs, fits = sum(seconds for seconds, _ in alone), [run["fit"] for _, run in alone]
    fit, seconds = (spread(figures).median for figures in (fits, [seconds for seconds, _ in alone]))
    steps = spread([run["steps"] for _, run in alone]).median
    what = f"{size.epochs} epochs of {size.train} problems, {size.heldout} held out"
    return [
        Row(what, f"{fit:.1f} s", "≤ 20 s", fit <= 20 if bench.judged else None,
            f"with validation and checkpoints; optimizer steps alone {steps:.1f} s; {prompts} runs of "
            f"{min(fits):.1f}–{max(fits):.1f} s"),
        Row("the same from process start to end, files warm", f"{seconds:.1f} s", "≤ 60 s",
            seconds <= 60 if bench.judged else None),
        Row(f"{prompts} soft prompts in one pass, against {prompts} runs", f"{theirs / ours:.2f} ×", "≥ 2.5 ×",
            theirs / ours >= 2.5 if bench.judged else None,
            f"{ours:.1f} s, one after another {theirs:.1f} s, from process start to end; training alone "
            f"{together['fit']:.1f} s and {sum(fits):.1f} s"),
    ]


def in_process(folder: Path, arguments: Sequence[str], numbers: Sequence[int]) -> tuple[float, dict[str, Any]]:
    """Train the soft prompts with these numbers in a process of its own: its seconds, and what it says of the run."""
    command = [sys.executable, __file__, *arguments, "--whole", str(folder), "--numbers", *map(str, numbers)]
    with tempfile.TemporaryDirectory() as place:
        begun = time.perf_counter()
        done = subprocess.run(command, cwd=place, capture_output=True, text=True)
        seconds = time.perf_counter() - begun
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return seconds, json.loads(done.stdout.splitlines()[-1])


def run_whole(folder: Path, device: torch.device, size: Size, tiny: bool, numbers: Sequence[int]) -> None:
    """What the process of `whole` does: load, train, print the seconds."""
    config = settings(folder, device, size)
    loaded = load_model(config)
    problems = draw_problems(size.train + size.heldout, 500 if tiny else VOCABULARY, seed=0)
    run = train_whole(loaded, config, problems[: size.train], problems[size.train :], numbers)
    print(json.dumps(dataclasses.asdict(run)))


def completing(bench: Bench, rounds: int) -> list[Row]:
    """Our decoder against `generate`."""
    forget(bench.device)
    never_ending(bench.loaded)
    size = bench.size
    work = Work(bench.loaded, bench.rows().to(bench.device), bench.requests, size.new_tokens,
                bench.config.inference.batch_size)
    static = "static cache, compiled" if bench.device.type == "cuda" else "static cache"
    peers = [
        Peer(f"batch {batch}, {static}" if compiled else f"batch {batch}", batch, min(take, size.prompts), compiled)
        for batch, take, compiled in PEERS
    ]
    return compare(work, peers, rounds, bench.judged)


def forget(device: torch.device) -> None:
    """Give back what torch keeps of the GPU's memory: our passes look at how much of it is free."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def guarded(what: str, work: Callable[[], list[Row]]) -> list[Row]:
    """The rows of a part, or one that says what it died of."""
    try:
        rows = work()
        print(f"{what}: {'; '.join(f'{row.what}: {row.figure}' for row in rows)}", file=sys.stderr, flush=True)
        return rows
    except Exception as error:  # whatever one part dies of, the others are measured
        traceback.print_exception(error)
        reason = str(error).strip().splitlines()[-1:] or [""]
        return [Row(what, "failed", "", False, f"{type(error).__name__}: {reason[0][:160]}")]


def main() -> int:
    """Measure and print the table; the status is 1 when a target was missed, 2 where there is no CUDA device."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=8, metavar="N", help="pairs of steps; a quarter for completing")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a tiny model and little work; no figure is judged")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what is measured; all")
    parser.add_argument("--whole", type=Path, metavar="FOLDER", help=argparse.SUPPRESS)
    parser.add_argument("--numbers", type=int, nargs="+", default=[0], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        print("bench-gpu: torch finds no CUDA device here; check nvidia-smi and that torch is a CUDA build, or try "
              "the script itself with --tiny --device cpu", file=sys.stderr)
        return 2
    device, size = torch.device(options.device), TINY if options.tiny else WHOLE
    rounds = 1 if options.tiny else options.rounds
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")  # of what peft asks it
    if options.whole:
        run_whole(options.whole, device, size, options.tiny, options.numbers)
        return 0
    arguments = ["--device", options.device, *(["--tiny"] if options.tiny else [])]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if options.tiny:
            make_small_model(folder)
        else:
            make_model(folder, device)
        forget(device)
        bench = Bench(folder, device, size, options.tiny)
        parts: dict[str, Callable[[], list[Row]]] = {
            "training": lambda: training(bench, rounds),
            "share": lambda: share(bench, rounds),
            "population": lambda: population(bench, rounds),
            "whole": lambda: whole(bench, folder, arguments),
            "completing": lambda: completing(bench, max(1, rounds // 4)),
        }
        rows = [row for part in options.parts for row in guarded(part, parts[part])]
    dtype = str(bench.loaded.precision.weights).removeprefix("torch.")
    print(surroundings(bench.device, "transformers", "peft"), f"weights in {dtype}",
          f"{bench.loaded.frozen_parameters:,} parameters", "20 virtual tokens", "effective batch 4 × 4", sep=", ")
    return 0 if print_table(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
