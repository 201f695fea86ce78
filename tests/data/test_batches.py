"""Token sequences and micro-batches."""

from typing import Any

from core.contract.config import Config
from core.contract.config_file import parse_config
from core.data.batches import (
    Row,
    by_length,
    collate,
    effective_batches,
    encode_problems,
    epoch_order,
    pad_token,
    rows_of,
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


def test_supervised_are_the_tokens_of_the_solution_alone_each_by_the_one_before_it(tiny_tokenizer: Any) -> None:
    examples = encode_problems(tiny_tokenizer, PROBLEMS, Config())[:3]
    batch = collate([Row(example, number, 0.5 + number) for number, example in enumerate(examples)],
                    pad_token(tiny_tokenizer))
    assert batch.prompts.tolist() == [0, 1, 2]
    for number, example in enumerate(examples):
        mine = batch.rows == number
        assert tuple(batch.targets[mine].tolist()) == example.target
        assert set(batch.weights[mine].tolist()) == {0.5 + number}
        places = batch.places[mine]
        assert places[0] == len(example.context) - 1 and (places.diff() == 1).all()
        assert (batch.after[number, places[:-1] + 1] == batch.targets[mine][:-1]).all()
        assert tuple(batch.after[number, : example.tokens].tolist()) == (*example.context, *example.target)


def test_weights_make_a_mean_over_all_supervised_tokens(tiny_tokenizer: Any) -> None:
    examples = encode_problems(tiny_tokenizer, PROBLEMS, Config())[:5]
    rows = rows_of(examples, 2, scale=8.0)
    assert {row.prompt for row in rows} == {2}
    assert abs(sum(row.weight * len(row.example.target) for row in rows) - 8.0) < 1e-9
    lengths = [row.example.tokens for row in by_length(rows)]
    assert lengths == sorted(lengths)


def test_an_epoch_holds_every_problem_once_in_an_order_of_seed_and_epoch(tiny_tokenizer: Any) -> None:
    examples = encode_problems(tiny_tokenizer, PROBLEMS, Config())
    first = epoch_order(examples, 1, 42)
    assert first == epoch_order(examples, 1, 42) != epoch_order(examples, 2, 42)
    steps = list(effective_batches(first, 8))
    assert [len(step) for step in steps] == [8, 8, 4]
    assert sorted(e.task_id for step in steps for e in step) == sorted(e.task_id for e in examples)
