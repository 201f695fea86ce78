"""`make bench`: completing problems greedily behind a soft prompt, against transformers' `generate` at batch 1, 8, 16.

All work with SmolLM2-135M in float32, in turns: the next piece of work (ours is a forward pass, theirs a batch, in a
process of its own) is of whoever has the fewest of the problems done. So what else the machine does slows all alike.
The same tokens are part of each target.

Theirs first try on a part of the problems which batch is their best; that one then competes on all.

The floor is the time of the operations alone, at the rate of matrix products: after some of our passes those are
computed once more for the same rows, the fastest way that torch has, all weights read from memory.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as core.cli does, and as it must be before torch is imported

import torch  # noqa: E402 - a script: the project's root and the environment come first

from core.contract.config import DEMO, Config  # noqa: E402
from core.data.batches import encode_problems  # noqa: E402
from core.data.humaneval import load_problems  # noqa: E402
from core.generation import slots  # noqa: E402
from core.generation.decoder import DecodingSettings, Request, complete  # noqa: E402
from core.generation.forward import Forward  # noqa: E402
from core.generation.problems import decoding_settings  # noqa: E402
from core.model.checkpoint import load_checkpoint  # noqa: E402
from core.model.loading import LoadedModel  # noqa: E402
from core.model.soft_prompt import initial_rows  # noqa: E402
from tests.bench.copying import copy_rate, step_bytes  # noqa: E402
from tests.bench.generate_peer import GenerateProcess, Piece, Tokens, load  # noqa: E402
from tests.bench.products import Products  # noqa: E402
from tests.bench.surroundings import surroundings  # noqa: E402
from tests.bench.table import Row, print_table  # noqa: E402

BATCHES = (1, 8, 16)
TRIED = 16
"""Problems on which they find out their best; one batch of the largest kind."""
OURS = "softtune"
TRAINED = Path(__file__).with_name("soft_prompt.pt")
"""What `softtune --demo` trains, in 16 bits. With an untrained one most completions end at their second token."""
SAMPLED = 4
"""One in this many of our passes over new tokens is followed by its floor; of those over prompts, each."""

@dataclass(frozen=True)
class Work:
    """What is to be completed, longest prompt first, and how."""

    loaded: LoadedModel
    prefix: torch.Tensor
    requests: Sequence[Request]
    settings: DecodingSettings


@dataclass
class Contestant:
    """One way to do the work, and how far it is."""

    pieces: Iterator[Piece]
    seconds: float = 0.0
    found: dict[str, Tokens] = field(default_factory=dict)


Found = dict[str, Contestant]


@dataclass
class Kind:
    """Our passes over prompts, or over new tokens: seconds of all, of those with a floor after them, of the floors.

    And of all the bytes that they have to read.
    """

    all: float = 0.0
    compared: float = 0.0
    floor: float = 0.0
    read: int = 0

    @property
    def share(self) -> float:
        """Floor / ours."""
        return self.floor / self.compared


def ours(work: Work, products: Products, kinds: dict[str, Kind]) -> Iterator[Piece]:
    """Our decoder, a piece a forward pass."""
    passes: list[tuple[str, int, int, int]] = []
    width = len(work.prefix)

    class Watched(Forward):
        """Notes of each pass its kind, its rows, how many of them go through the head, and pairs in attention."""

        def prefill(self, first_row: int, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
            lengths = [len(prompt) for prompt in prompts]
            passes.append(("prompts", sum(lengths), len(lengths), sum(map(below, lengths)) + width * sum(lengths)))
            return super().prefill(first_row, prompts)

        def decode(self, tokens: Sequence[int], positions: Sequence[int]) -> torch.Tensor:
            passes.append(("new tokens", len(tokens), len(tokens), sum(positions) + len(positions)))
            return super().decode(tokens, positions)

    slots.Forward = Watched  # type: ignore[misc]
    loaded = work.loaded
    completing = complete(loaded.model, loaded.tokenizer, work.prefix, work.requests, work.settings)
    ready: dict[str, Tokens] = {}
    begun = time.perf_counter()
    for completion in completing:
        if completion is not None:
            ready[completion.request.task_id] = completion.token_ids
            continue
        seconds = time.perf_counter() - begun
        name, *work_done = passes[-1] if passes else ("prompts", width, 1, below(width))
        kind = kinds[name]
        kind.all += seconds
        kind.read += step_bytes(loaded.model, work_done[-1])
        if name == "prompts" or not len(passes) % SAMPLED:
            kind.compared += seconds
            kind.floor += products.seconds(*work_done)
        yield seconds, ready
        ready = {}
        begun = time.perf_counter()


def below(length: int) -> int:
    """Pairs of a token and itself or one before it."""
    return length * (length + 1) // 2


def compete(contestants: Found) -> Found:
    """Let all do the work in turns."""
    running = list(contestants.values())
    while running:
        contestant = min(running, key=lambda one: len(one.found))
        piece = next(contestant.pieces, None)
        if piece is None:
            running.remove(contestant)
        else:
            contestant.seconds += piece[0]
            contestant.found |= piece[1]
    return contestants


def stratified(requests: Sequence[Request], count: int) -> list[Request]:
    """So many requests, evenly over the lengths, longest first."""
    ordered = sorted(requests, key=lambda request: (-len(request.token_ids), request.task_id))
    return [ordered[int((place + 0.5) * len(ordered) / count)] for place in range(count)]


def soft_prompt(loaded: LoadedModel, options: argparse.Namespace) -> tuple[torch.Tensor, str]:
    """Rows [V, H] and what they are."""
    if options.untrained:
        rows = initial_rows(loaded.model, loaded.tokenizer, 20, from_vocab=True, seed=0)
        return rows, "an untrained soft prompt of 20 tokens"
    path = options.checkpoint
    found = load_checkpoint(path / "soft_prompts" / "best_soft_prompts.pt" if path.is_dir() else path)
    return found.soft_prompt, f"a soft prompt of {found.num_virtual_tokens} tokens, step {found.step}"


def rows_of(
    heat: Found, best: str, rounds: Sequence[Found], kinds: dict[str, Kind], copied: Sequence[float], judged: bool
) -> list[Row]:
    """The lines of the table; `copied` are bytes a second, measured in each round."""
    expected = rounds[0][OURS].found
    same = all(one.found.items() <= expected.items() for found in (heat, *rounds) for one in found.values())
    rows = [line(name, one, expected, "tried on") for name, one in heat.items()]
    rows += [line(name, one, expected, "first round,") for name, one in rounds[0].items()]
    ratios = sorted(one[best].seconds / one[OURS].seconds for one in rounds)
    ratio = statistics.median(ratios)
    rows.append(Row(f"completing, against generate at its best ({best})", f"{ratio:.2f} ×", "≥ 3.5 ×",
                    False if not same else ratio >= 3.5 if judged else None,
                    f"rounds {ratios[0]:.2f}–{ratios[-1]:.2f} ×; {'same tokens' if same else 'OTHER TOKENS'}"))
    total = sum(kind.all for kind in kinds.values())
    share = sum(kind.all * kind.share for kind in kinds.values()) / total
    told = [f"{name}: {kind.all / len(rounds):.1f} s, share {kind.share:.0%}" for name, kind in kinds.items()]
    rows.append(Row("share of the floor, operations alone", f"{share:.0%}", "≥ 60 %",
                    share >= 0.6 if judged else None, "; ".join(told)))
    step, rate = kinds["new tokens"], statistics.median(copied)
    rows.append(Row("share of the copy rate, new tokens", f"{step.read / step.all / rate:.0%}", "", None,
                    f"{step.read / step.all / 1e9:.1f} of {rate / 1e9:.1f} GB/s: weights, keys and values, read once"))
    return rows


def tell(when: str, found: Found) -> None:
    """Show how far the bench has come: a round takes minutes."""
    seconds = ", ".join(f"{name} {one.seconds:.0f} s" for name, one in found.items())
    print(f"{when}: {seconds}", file=sys.stderr, flush=True)


def line(name: str, one: Contestant, expected: dict[str, Tokens], when: str) -> Row:
    """How fast one was."""
    tokens = sum(map(len, one.found.values()))
    equal = sum(expected[task_id] == found for task_id, found in one.found.items())
    return Row(name if name == OURS else f"generate, {name}", f"{tokens / one.seconds:.1f} tokens/s", "", None,
               f"{when} {len(one.found)} problems: {one.seconds:.1f} s, {tokens} useful tokens, {equal} same as ours")


def main() -> int:
    """Measure and print the table; the status is 1 when a target was missed or tokens differ."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=2, metavar="N", help="of ours and their best")
    parser.add_argument("--problems", type=int, default=48, metavar="N", help="so many, of all lengths")
    parser.add_argument("--all", action="store_const", const=164, dest="problems", help="all 164 problems")
    parser.add_argument("--tokens", type=int, default=256, metavar="N", help="a completion has at most")
    parser.add_argument("--checkpoint", type=Path, default=TRAINED, metavar="PATH", help="a file, or a demo's folder")
    parser.add_argument("--untrained", action="store_true", help="a soft prompt of rows of the vocabulary")
    parser.add_argument("--quick", action="store_true", help="a tiny model, 16 tokens, one round, only tokens judged")
    options = parser.parse_args()
    if options.quick:
        options.tokens, options.rounds, options.untrained = 16, 1, True
    config = Config.model_validate({**DEMO, "inference": {"max_new_tokens": options.tokens}})
    loaded = load(config, options.quick)
    prefix, what = soft_prompt(loaded, options)
    examples = encode_problems(loaded.tokenizer, load_problems().problems, config)
    requests = stratified([Request(example.task_id, example.context) for example in examples], options.problems)
    work = Work(loaded, prefix, requests, decoding_settings(config))
    products = Products(loaded.model, loaded.model.get_output_embeddings())
    kinds = {"prompts": Kind(), "new tokens": Kind()}
    part = stratified(requests, min(TRIED, len(requests)))
    rounds, copied = [], []
    with GenerateProcess(config, options.quick, prefix, work.settings) as peer:
        heat = compete({f"batch {batch}": Contestant(peer.pieces(part, batch)) for batch in BATCHES})
        tell(f"tried on {len(part)} problems", heat)
        best = min(BATCHES, key=lambda batch: heat[f"batch {batch}"].seconds)
        for number in range(options.rounds):
            sides = {OURS: ours(work, products, kinds), f"batch {best}": peer.pieces(requests, best)}
            rounds.append(compete({name: Contestant(side) for name, side in sides.items()}))
            copied.append(copy_rate(loaded.precision.device))
            tell(f"round {number + 1} of {options.rounds}", rounds[-1])
    print(f"{surroundings(loaded.precision.device, 'transformers')}; {'a tiny model, ' * options.quick}"
          f"{len(requests)} problems, ≤ {options.tokens} tokens, {what}")
    met = print_table(rows_of(heat, f"batch {best}", rounds, kinds, copied, judged=not options.quick))
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
