"""What settings imply, in numbers: the schedule, the trainable parameters, an estimate of memory. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass

from textual.content import Content

from core.contract.config import Config
from core.contract.estimate import UNKNOWN, MemoryEstimate, ModelShape, chosen_device, estimate_memory
from core.contract.plan import BOTTLENECK, TrainingPlan, plan_training, split_sizes, trainable_parameters
from tui.config.facts import Facts, Machine
from tui.formatting import counted, data_size, small_percent
from tui.visible import visible_line

LABEL_WIDTH = 17
PART = "  "
"""How the label of a part of a sum begins."""

SPARE = 0.9
"""Share of the memory above which an estimate is called tight: it is one, and others use the device too."""


@dataclass(frozen=True)
class Line:
    """A label with its value and what explains it; or, without a label, a sentence of its own."""

    label: str
    value: str
    note: str = ""
    style: str = "bold"


def figures(config: Config, facts: Facts, machine: Machine) -> list[Line]:
    """Everything that follows from settings, what the memory is made of last."""
    plan = _plan(config, facts)
    lines = [*(_schedule(config, plan) if plan else _no_problems(config)), *_parameters(config, facts.shape)]
    return [*lines, *_warnings(config, plan, facts.shape), *_memory(config, facts.shape, machine, plan)]


def _plan(config: Config, facts: Facts) -> TrainingPlan | None:
    if facts.problems is None:
        return None
    problems = min(facts.problems, config.dataset.max_samples or facts.problems)
    return plan_training(config, *split_sizes(problems, config.dataset.train_val_split)) if problems >= 2 else None


def _no_problems(config: Config) -> list[Line]:
    return [Line("problems", "–", f"{visible_line(str(config.dataset.path))} has none that can be counted")]


def _schedule(config: Config, plan: TrainingPlan) -> list[Line]:
    training = config.training
    warmup = f"instead of {training.warmup_steps:,}" if plan.warmup_steps != training.warmup_steps else ""
    most = " at most" if config.evaluation.early_stopping_patience else ""
    return [
        Line("problems", f"{plan.train_problems:,} train, {plan.heldout_problems:,} held out"),
        Line("effective batch", f"{plan.effective_batch:,}",
             f"{training.batch_size:,} × {training.gradient_accumulation_steps:,}"),
        Line("optimizer steps", f"{plan.total_steps:,}",
             f"{plan.steps_per_epoch:,} an epoch, {counted(training.num_epochs, 'epochs')}{most}"),
        Line("warm-up", counted(plan.warmup_steps, "steps"), warmup),
    ]


def _parameters(config: Config, shape: ModelShape | None) -> list[Line]:
    virtual = config.soft_prompts.num_virtual_tokens
    hidden = shape.hidden if shape else config.soft_prompts.embedding_dim
    residual = config.soft_prompts.reparameterisation == "residual"
    network = f" and a network {BOTTLENECK} wide, while it trains" if residual else ""
    if hidden is None:
        return [Line("trainable", "–", f"{virtual} × H{network}; H is {UNKNOWN}")]
    trainable = trainable_parameters(config.soft_prompts, hidden)
    share = f"; {small_percent(trainable / shape.parameters)} of the model" if shape else ""
    lines = [Line("trainable", f"{trainable:,}", f"{virtual} × {hidden:,}{network}{share}")]
    return [*lines, Line("frozen", f"{shape.parameters:,}")] if shape else lines


def _memory(config: Config, shape: ModelShape | None, machine: Machine, plan: TrainingPlan | None) -> list[Line]:
    if shape is None:
        return [Line("memory", "–", UNKNOWN)]
    device = chosen_device(config, machine.gpu_memory > 0)
    found = estimate_memory(config, shape, device, plan.train_problems if plan else config.training.batch_size)
    room = machine.gpu_memory if device == "cuda" else machine.memory
    of = f"of {data_size(room)} on the {'GPU' if device == 'cuda' else 'CPU'}" if room else ""
    tight = bool(room) and found.total > SPARE * room
    return [Line("memory", f"about {data_size(found.total)}", of, "bold $text-error" if tight else "bold"),
            *([Line("", "! it may not fit", "lower training.batch_size and raise gradient_accumulation_steps as much",
                    "$text-warning")] if tight else []),
            *_parts(found, shape, device)]


def _parts(found: MemoryEstimate, shape: ModelShape, device: str) -> list[Line]:
    """What the estimate is made of."""
    copies = ", and copies" if found.copied else ""
    parts = [
        ("weights", found.weights, f"{found.weight_bytes} bytes each{copies}"),
        ("activations", found.activations, f"{found.tokens:,} tokens × {shape.layers} layers"),
        ("output scores", found.scores, f"vocabulary {shape.vocabulary:,}"),
        ("soft prompt", found.soft_prompt, "with its optimizer"),
        ("libraries", found.libraries, "torch" if device == "cpu" else "CUDA"),
    ]
    return [*(Line(f"{PART}{name}", data_size(size), note, "") for name, size, note in parts),
            Line("when completing", data_size(found.completing), "keys and values", "")]


def _warnings(config: Config, plan: TrainingPlan | None, shape: ModelShape | None) -> list[Line]:
    lines = [Line("", f"! {setting}: {what}", remedy, "$text-warning")
             for setting, what, remedy in (plan.notices if plan else ())]
    width = config.soft_prompts.embedding_dim
    if shape and width not in (None, shape.hidden):
        lines.append(Line("", f"! soft_prompts.embedding_dim is {width:,}, but the model has {shape.hidden:,}",
                          "set it to null: it is found from the model", "$text-warning"))
    return lines


def figures_content(lines: list[Line], close: bool = False) -> Content:
    """The lines under each other; values in bold, their explanation after them.

    Args:
        lines: what `figures` gave.
        close: the parts of the memory in one sentence, where there are few lines.
    """
    if close:
        parts = [line for line in lines if line.label.startswith(PART)]
        summed = " + ".join(f"{line.label.strip()} {line.value}" for line in parts)
        at = lines.index(parts[0]) if parts else 0
        rest = [line for line in lines if line not in parts]
        lines = [*rest[:at], *([Line("", summed, style="$text-muted")] if parts else []), *rest[at:]]
    return Content("\n").join(_content(line) for line in lines)


def _content(line: Line) -> Content:
    if not line.label:
        return Content.assemble((line.value, line.style), (f"  → {line.note}" if line.note else "", "italic"))
    note = f"  {line.note}" if line.note else ""
    return Content.assemble((f"{line.label:<{LABEL_WIDTH}}", "$text-muted"), (line.value, line.style),
                            (note, "$text-muted"))
