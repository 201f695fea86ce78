"""`make bench-training`: training on a CPU, against peft's prompt tuning on the same problems.

An optimizer step of ours and one of peft's follow each other, on the same effective batch, from the same soft prompt;
who comes first changes from pair to pair, and the ratio is taken pair by pair, so that a machine that gets slower in
between slows both. Before the first pair either takes the first of the steps once, which counts in nothing: it is then
that it takes the memory it keeps. peft has a process of its own for each kind of pairs, with its own copy of the frozen
weights, and times its steps there; one side waits while the other works. The same loss and gradient are part of each
target: a row with other numbers is missed, whatever its time. Peak memory and whole trainings are those of processes
of their own.

The problems are those that train by `dataset.seed`, in the order of epoch 1.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as core.cli does, and as it must be before torch is imported
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the same

from core.contract.config_file import load_config  # noqa: E402 - a script: root and environment come first
from core.data.batches import Example, supervised_tokens  # noqa: E402
from core.model.loading import LoadedModel, load_model  # noqa: E402
from tests.bench.operations import Operations  # noqa: E402
from tests.bench.peft_process import PeftProcess  # noqa: E402
from tests.bench.processes import epoch_steps, in_processes  # noqa: E402
from tests.bench.products import Products  # noqa: E402
from tests.bench.runs import split_examples, starting_rows  # noqa: E402
from tests.bench.steps import Ours, Pair, in_turns, spread  # noqa: E402
from tests.bench.surroundings import surroundings  # noqa: E402
from tests.bench.table import Row, print_table  # noqa: E402
from tests.tiny import make_tiny_model  # noqa: E402

SAME = 1e-3
"""Largest relative difference of loss, norm and gradient, of that as a share of its largest number. Rounding to float32
alone moves the gradient of four rows by 1e-4 from float64's, with autograd, and by 2e-5 with our passes."""
PADDED = 1024
MANY = 100
"""Virtual tokens of the row that has more than the usual 20."""


class Bench:
    """The model and the settings that all rows share, and whether figures are judged."""

    def __init__(self, settings: Sequence[str], judged: bool) -> None:
        self.settings, self.judged = settings, judged
        self.config = load_config(overrides=[*settings], demo=True)
        self.loaded: LoadedModel = load_model(self.config)
        self.train, _ = split_examples(self.loaded, self.config)
        self.steps = epoch_steps(self.config, self.train)
        self.operations = Operations(self.loaded.model)
        self._products: Products | None = None

    def pairs(self, batches: Sequence[Sequence[Example]], *settings: str, pad_to: int | None = None) -> Iterator[Pair]:
        """Steps of both in turns; `settings` differ from the bench's."""
        config = load_config(overrides=[*self.settings, *settings], demo=True)
        rows = starting_rows(self.loaded, config)
        ours = Ours(self.loaded, config, self.train, [rows])
        with PeftProcess(config, len(self.train), rows, pad_to) as peer:
            for side in (peer, ours):  # peft first: it loads its model meanwhile
                side.step(batches[0])
            yield from in_turns(ours, peer, batches)

    def rate(self, examples: Sequence[Example]) -> float:
        """Operations a second of the linear layers alone, for as many tokens at once as a step has."""
        if self._products is None:
            self._products = Products(self.loaded.model, self.loaded.model.get_output_embeddings())
        rows, heads = sum(example.tokens for example in examples), supervised_tokens(examples)
        return self.operations.forward(rows, heads) / self._products.seconds(rows, heads, pairs=0)

    def verdict(self, met: bool, same: bool) -> bool | None:
        """What a row's `met` is: other numbers are never right, and a short bench judges nothing else."""
        return False if not same else met if self.judged else None


def speed(bench: Bench, what: str, target: float, pairs: Sequence[Pair]) -> Row:
    """How many times as fast as peft."""
    ratios = spread([pair.ratio for pair in pairs])
    difference = max(pair.difference for pair in pairs)
    tokens = sum(pair.tokens for pair in pairs)
    ours, theirs = (tokens / sum(seconds) for seconds in (
        [pair.ours.seconds for pair in pairs], [pair.theirs.seconds for pair in pairs]
    ))
    same = difference <= SAME
    return Row(
        what, f"{ratios.median:.2f} ×", f"≥ {target:g} ×", bench.verdict(ratios.median >= target, same),
        f"{ours:.0f} tokens/s, peft {theirs:.0f}; {len(pairs)} pairs {ratios}; {told(difference, same)}",
    )


def told(difference: float, same: bool) -> str:
    """The difference of two sides' numbers in words."""
    return f"{'same loss and gradient' if same else 'OTHER LOSS OR GRADIENT'}, within {difference:.0e}"


def share(bench: Bench, pairs: Sequence[Pair], rates: Sequence[float]) -> Row:
    """Which part of the machine's matrix rate our steps reach with the operations that training needs."""
    virtual_tokens = bench.config.soft_prompts.num_virtual_tokens
    needed = [bench.operations.step(pair.examples, virtual_tokens) for pair in pairs]
    found = [count / pair.ours.seconds / rate for count, pair, rate in zip(needed, pairs, rates, strict=True)]
    ratios = spread(found)
    total = sum(needed) / sum(pair.ours.seconds for pair in pairs)
    return Row(
        "share of the matrix rate", f"{ratios.median:.0%}", "", None,
        f"{total / 1e9:.0f} of {spread(rates).median / 1e9:.0f} GFLOP/s in float32; "
        f"pairs {ratios.least:.0%}–{ratios.most:.0%}",
    )


def memory(bench: Bench, target: float, steps: int) -> Row:
    """Peak resident memory of a process that trains, against peft's."""
    commands = [["memory", side, "--steps", str(steps)] for side in ("ours", "peft")]
    (_, ours), (_, theirs) = in_processes(bench.settings, commands, None if bench.judged else 0)
    difference = max(abs(a - b) / abs(b) for a, b in zip(ours["losses"], theirs["losses"], strict=True))
    ratio, same = ours["peak"] / theirs["peak"], difference <= SAME
    whose = "of whole processes" if bench.judged else "both of this process"
    return Row(
        "peak memory, against peft, padded to the longest", f"{ratio:.2f} ×", f"≤ {target:g} ×",
        bench.verdict(ratio <= target, same),
        f"{ours['peak'] / 1e9:.2f} GB, peft {theirs['peak'] / 1e9:.2f} GB, {whose}; {steps} steps with the "
        f"longest problem; {'same losses' if same else 'OTHER LOSSES'}, within {difference:.0e}",
    )


def population(bench: Bench, target: float, prompts: int, settings: Sequence[str]) -> list[Row]:
    """Several soft prompts in one pass, against one run of each after the other, all with the same data and settings.

    The run of all is in the middle of the others.
    """
    settings = [*bench.settings, *settings]
    commands = [["train", str(number)] for number in range(prompts)]
    commands.insert(prompts // 2, ["train", *map(str, range(prompts))])
    done = in_processes(settings, commands, None if bench.judged else 1)
    ours, together = done.pop(prompts // 2)
    theirs, alone = sum(seconds for seconds, _ in done), [run for _, run in done]
    curves = [(number, loss) for run in alone for number, curve in run["curves"].items() for loss in enumerate(curve)]
    difference = max(abs(together["curves"][number][place] - loss) / loss for number, (place, loss) in curves)
    same = difference <= SAME
    timed = "from process start to end" if bench.judged else "the first of these with its process"
    our_steps, their_steps = together["steps"], sum(run["steps"] for run in alone)
    config = load_config(overrides=settings, demo=True)
    train, heldout = split_examples(bench.loaded, config)
    size = f"{len(train)} problems and {len(heldout)} held out, epochs: {config.training.num_epochs}"
    return [
        Row(f"{prompts} soft prompts in one pass, against {prompts} runs", f"{theirs / ours:.2f} ×", f"≥ {target:g} ×",
            bench.verdict(theirs / ours >= target, same),
            f"{ours:.1f} s, one after another {theirs:.1f} s, {timed}; {size}; "
            f"{'same curves' if same else 'OTHER CURVES'}, within {difference:.0e}"),
        Row("of these the optimizer steps alone", f"{their_steps / our_steps:.2f} ×", "", None,
            f"{our_steps:.1f} s, one after another {their_steps:.1f} s; the longer a training, the nearer to this"),
    ]


def measure(bench: Bench, options: argparse.Namespace) -> list[Row]:
    """All rows."""
    steps = bench.steps[: options.rounds]
    dynamic, rates = [], []
    for pair in bench.pairs(steps):
        dynamic.append(pair)
        rates.append(bench.rate(pair.examples))
    rows = [
        speed(bench, "tokens/s, against peft, padded to the longest", 2.5, dynamic),
        share(bench, dynamic, rates),
    ]
    quarters = [step[:4] for step in steps]
    padded = list(bench.pairs(quarters, "training.gradient_accumulation_steps=1", pad_to=PADDED))
    rows.append(speed(bench, f"the same, padded to {PADDED}", 8.0, padded))
    many = list(bench.pairs(steps, f"soft_prompts.num_virtual_tokens={MANY}"))
    rows.append(speed(bench, f"{MANY} virtual tokens, padded to the longest", 3.0, many))
    rows.append(memory(bench, 0.55, min(2, len(bench.steps))))
    return rows + population(bench, 1.05, options.prompts, [f"dataset.max_samples={options.problems}"])


def main() -> int:
    """Measure and print the table; the status is 1 when a target was missed or numbers differ."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="pairs of steps of each kind")
    parser.add_argument("--seed", type=int, default=42, metavar="N", help="dataset.seed, which chooses the problems")
    parser.add_argument("--problems", type=int, default=40, metavar="N", help="of the trainings of several prompts")
    parser.add_argument("--prompts", type=int, default=5, metavar="K", help="soft prompts in one pass")
    parser.add_argument("--quick", action="store_true", help="a tiny model; only numbers are judged, no figure")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")  # of what peft asks it
    settings = [
        f"dataset.seed={options.seed}", "soft_prompts.num_virtual_tokens=20", "training.batch_size=4",
        "training.gradient_accumulation_steps=4", "training.num_epochs=1",
    ]
    with tempfile.TemporaryDirectory() as folder:
        if options.quick:
            options.rounds, options.problems, options.prompts = 1, 20, 2
            make_tiny_model(Path(folder))
            settings += [f"model.name={folder}", "model.gguf_file=null", "dataset.max_samples=24",
                         "dataset.max_length=2048"]
        bench = Bench(settings, judged=not options.quick)
        rows = measure(bench, options)
    print(surroundings(bench.loaded.precision.device, "transformers", "peft"), f"seed {options.seed}",
          "effective batch 4 × 4", "20 virtual tokens unless it says otherwise", sep=", ")
    return 0 if print_table(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
