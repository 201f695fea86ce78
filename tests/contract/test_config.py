"""Settings: one source for names, defaults and comments; every fault told at once."""

from pathlib import Path

import pytest

from core.contract.config import Config
from core.contract.config_file import load_config, parse_config, render_config
from core.contract.errors import ConfigError, UsageError
from core.contract.plan import plan_training, split_sizes

ROOT = Path(__file__).parents[2]


def test_the_committed_file_is_what_the_models_say() -> None:
    assert (ROOT / "prompt_tuning.yml").read_text() == render_config(Config())


def test_the_documented_names_and_defaults() -> None:
    config = Config().model_dump()
    documented = {
        "model": {"name": "Qwen/Qwen2.5-Coder-0.5B"},
        "soft_prompts": {"num_virtual_tokens": 20, "init_from_vocab": True, "embedding_dim": None},
        "training": {
            "batch_size": 4, "gradient_accumulation_steps": 4, "num_epochs": 10, "learning_rate": 0.01,
            "warmup_steps": 100, "max_grad_norm": 1.0, "weight_decay": 0.01,
        },
        "dataset": {"train_val_split": 0.8, "max_samples": None, "max_length": 1024, "seed": 42},
        "evaluation": {"eval_every_n_epochs": 1, "save_best_only": False, "early_stopping_patience": 3},
        "hardware": {"device": "auto", "mixed_precision": True, "num_workers": 0},
        "inference": {
            "checkpoint_path": "soft_prompts/best_soft_prompts.pt", "max_new_tokens": 512, "temperature": 0.0,
            "top_p": 1.0, "output_path": "results/completions_soft_prompts.jsonl",
        },
    }
    for section, values in documented.items():
        assert values.items() <= config[section].items()


@pytest.mark.parametrize("demo", [False, True])
def test_rendering_and_reading_give_the_same_settings(
    demo: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_config(demo=demo, overrides=['inference.text_prompt="a: b\\n# c"', "dataset.max_samples=7"])
    assert config.inference.text_prompt == "a: b\n# c"
    assert parse_config(render_config(config)) == config


def test_every_setting_has_help() -> None:
    for name, section in Config.model_fields.items():
        for key, field in section.annotation.model_fields.items():  # type: ignore[union-attr]
            assert field.description, f"{name}.{key}"


def test_all_faults_are_listed_with_line_key_found_and_allowed(tmp_path: Path) -> None:
    file = tmp_path / "bad.yml"
    file.write_text("training:\n  batchsize: 4\n  learning_rate: -1\n  num_epochs: 2\n  num_epochs: 3\n"
                    "hardware:\n  device: gpu\ndatset: {}\nmodel: 3\n")
    with pytest.raises(ConfigError) as caught:
        load_config(file, ["inference.top_p=2", "inference.num_epochs=1"])
    faults = {(fault.line, fault.key): str(fault) for fault in caught.value.faults}
    assert len(faults) == 8
    assert "did you mean training.batch_size?" in faults[(2, "training.batchsize")]
    assert f"{file}:3: training.learning_rate: found -1; allowed: a number, above 0, at most 10" in faults.values()
    assert "found a second value (the first is in line 4)" in faults[(5, "training.num_epochs")]
    assert "found 'gpu'; allowed: one of auto, cuda, cpu" in faults[(7, "hardware.device")]
    assert "did you mean dataset?" in faults[(8, "datset")]
    assert "found 3" in faults[(9, "model")]
    assert "did you mean training.num_epochs?" in faults[(None, "inference.num_epochs")]
    assert caught.value.exit_status == 2


@pytest.mark.parametrize("text", [
    "a: [", "- 1", "just text", "training:\n\tx: 1", "dataset:\n  seed: 2024-13-45", "dataset:\n  seed: !!int abc",
    f"dataset: {{seed: {'9' * 5000}}}", "training: &x {a: *x}", "[" * 3000, "hardware:\n  on: 1", "training: {1: 2}",
    "'a[b': 1", "training: {'a[b': 1}", "training: {num_epochs: true}", "inference: {stop_sequences: [[1]]}",
    "training: true", "training: {batch_size: {a: 1}}", "evaluation: {workers: null}",
])
def test_what_is_not_our_yaml_is_a_fault_not_a_traceback(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_config(text)


def test_a_value_that_is_no_number_is_named_by_its_key() -> None:
    for text, words in (("training: {num_epochs: true}", "training.num_epochs: found true"),
                        ("training: {'a[b': 1}", "training.a[b: found an unknown key"),
                        ("hardware: {on: 1}", "hardware.True: found an unknown key"),
                        ("evaluation: {workers: null}", "evaluation.workers: found null; allowed: a whole number")):
        with pytest.raises(ConfigError) as caught:
            parse_config(text)
        assert words in str(caught.value)


def test_several_greedy_samples_are_a_fault_wherever_they_come_from(tmp_path: Path) -> None:
    file = tmp_path / "c.yml"
    file.write_text("inference:\n  temperature: 0.8\n  num_samples: 10\n")
    assert load_config(file).inference.num_samples == 10
    for path, overrides, place in (
        (file, ["inference.temperature=0"], f"{file}:3"), (None, ["inference.num_samples=10"], "--set"),
        (file, ["inference.temperature=0.0", "inference.num_samples=2"], "--set"),
    ):
        with pytest.raises(ConfigError) as caught:
            load_config(path, overrides)
        (fault,) = caught.value.faults
        assert str(fault).startswith(f"{place}: inference.num_samples: found ")
        assert "with inference.temperature 0; greedy samples" in str(fault) and "set inference.temp" in str(fault)
    with pytest.raises(ConfigError, match="temperature: found -1") as caught:
        load_config(file, ["inference.temperature=-1"])  # what is wrong alone comes first
    assert len(caught.value.faults) == 1
    assert load_config(file, ["inference.temperature=0", "inference.num_samples=1"]).inference.temperature == 0


@pytest.mark.parametrize("text", [
    "plain", "a: b # c", " x ", "\x7f", "\x85", "é漢", "'\"", "# h", "\ud800", "null", "1e3",
])
def test_any_text_survives_being_written_and_read(text: str) -> None:
    config = Config()
    changed = config.model_copy(update={"inference": config.inference.model_copy(update={"text_prompt": text})})
    assert parse_config(render_config(changed)) == changed


@pytest.mark.parametrize("text", ["", "training:\n", "# nothing\n"])
def test_what_is_left_out_has_its_default(text: str) -> None:
    assert parse_config(text) == Config()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no configuration file"):
        load_config(tmp_path / "none.yml")


def test_overrides_win_over_the_file_and_the_file_over_the_demo(tmp_path: Path) -> None:
    file = tmp_path / "c.yml"
    file.write_text("training:\n  num_epochs: 7\n  learning_rate: 1e-3\n")
    config = load_config(file, ["training.num_epochs=8"], demo=True)
    assert (config.training.num_epochs, config.training.learning_rate, config.training.warmup_steps) == (8, 1e-3, 3)


def test_the_default_warmup_would_outlast_the_run_and_is_replaced() -> None:
    plan = plan_training(Config(), *split_sizes(164, 0.8))
    assert (plan.train_problems, plan.heldout_problems) == (131, 33)
    assert (plan.effective_batch, plan.steps_per_epoch, plan.total_steps, plan.warmup_steps) == (16, 9, 90, 9)
    assert [setting for setting, *_ in plan.notices] == ["training.warmup_steps"]


def test_a_warmup_that_fits_is_kept() -> None:
    plan = plan_training(load_config(ROOT / "prompt_tuning.yml", ["training.warmup_steps=20"]), 131, 33)
    assert (plan.warmup_steps, plan.notices) == (20, ())
