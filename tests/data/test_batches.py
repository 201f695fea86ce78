"""Token sequences and micro-batches."""

from typing import Any

from core.contract.config import Config
from core.contract.config_file import parse_config
from core.data.batches import (
    IGNORED,
    collate,
    effective_batches,
    encode_problems,
    epoch_order,
    micro_batches,
    pad_token,
)
from core.data.humaneval import load_problems

PROBLEMS = load_problems().problems[:20]


def test_a_sequence_is_prompt_then_solution_then_end(tiny_tokenizer: Any) -> None:
    example = encode_problems(tiny_tokenizer, PROBLEMS, Config())[0]
    assert tiny_tokenizer.decode(example.context) == PROBLEMS[0].prompt
    assert tiny_tokenizer.decode(example.target[:-1]) == PROBLEMS[0].canonical_solution
    assert example.target[-1] == tiny_tokenizer.eos_token_id and not example.before and not example.cut


def test_the_text_prompt_stands_on_the_side_that_was_asked_for(tiny_tokenizer: Any) -> None:
    text = "inference: {text_prompt: '# Python', text_prompt_position: %s}"
    after = encode_problems(tiny_tokenizer, PROBLEMS, parse_config(text % "after_soft"))[0]
    before = encode_problems(tiny_tokenizer, PROBLEMS, parse_config(text % "before_soft"))[0]
    assert tiny_tokenizer.decode(after.context) == "# Python" + PROBLEMS[0].prompt and after.before == ()
    assert tiny_tokenizer.decode(before.before) == "# Python"
    assert tiny_tokenizer.decode(before.context) == PROBLEMS[0].prompt


def test_a_long_sequence_loses_the_end_of_its_solution(tiny_tokenizer: Any) -> None:
    whole = encode_problems(tiny_tokenizer, PROBLEMS, Config())[0]
    limit = 20 + len(whole.context) + 5
    cut = encode_problems(tiny_tokenizer, PROBLEMS, parse_config(f"dataset: {{max_length: {limit}}}"))[0]
    assert cut.target == whole.target[:5] and cut.cut == len(whole.target) - 5
    gone = encode_problems(tiny_tokenizer, PROBLEMS, parse_config("dataset: {max_length: 30}"))[0]
    assert gone.target == () and gone.context == whole.context


def test_labels_are_the_next_tokens_of_the_solution_alone(tiny_tokenizer: Any) -> None:
    examples = encode_problems(tiny_tokenizer, PROBLEMS, Config())[:3]
    batch = collate(examples, pad_token(tiny_tokenizer))
    assert batch.supervised == int((batch.labels != IGNORED).sum()) == sum(len(e.target) for e in examples)
    for row, labels, example in zip(batch.after, batch.labels, examples, strict=True):
        assert tuple(labels[labels != IGNORED].tolist()) == example.target
        positions = (labels != IGNORED).nonzero().flatten()
        assert positions[0] == len(example.context) - 1
        assert (row[positions[:-1] + 1] == labels[positions[:-1]]).all()


def test_an_epoch_holds_every_problem_once_in_an_order_of_seed_and_epoch(tiny_tokenizer: Any) -> None:
    examples = encode_problems(tiny_tokenizer, PROBLEMS, Config())
    first = epoch_order(examples, 1, 42)
    assert first == epoch_order(examples, 1, 42) != epoch_order(examples, 2, 42)
    steps = list(effective_batches(first, 8))
    assert [len(step) for step in steps] == [8, 8, 4]
    rows = [row for step in steps for batch in micro_batches(step, 3, 0) for row in batch.after]
    assert len(rows) == len(PROBLEMS)
    assert sum(len(b.after) for b in micro_batches(steps[0], 3, 0)) == 8
