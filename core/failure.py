"""The event that tells of an error, whatever it was. No torch: the jobs that need none start without it."""

from __future__ import annotations

import traceback
from pathlib import Path

from core.contract.errors import SofttuneError
from core.contract.events import RunFailed
from core.contract.runs import RunFolder

OUT_OF_MEMORY_ADVICE = (
    "in this order: halve training.batch_size and double training.gradient_accumulation_steps; set model.torch_dtype "
    "to float16; lower soft_prompts.num_virtual_tokens; lower dataset.max_length"
)

_NO_MEMORY = (
    "can't allocate memory", "Cannot allocate memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED", "std::bad_alloc", "std::bad_array_new_length",
)


def failure(error: Exception, advice: str) -> RunFailed:
    """The event for an error; one that nobody foresaw says where it was raised."""
    if isinstance(error, SofttuneError):
        return RunFailed(what=error.what, remedy=error.remedy)
    if is_out_of_memory(error):
        return RunFailed(what="out of memory", why=str(error).split("\n")[0], remedy=OUT_OF_MEMORY_ADVICE)
    if isinstance(error, OSError):
        return RunFailed(what=f"{error.filename or 'a file'} cannot be used: {error.strerror or error}",
                         remedy="check its permissions and the free space (df -h)")
    last = traceback.extract_tb(error.__traceback__)[-1:]
    place = "".join(f" ({Path(frame.filename).name}:{frame.lineno})" for frame in last)
    return RunFailed(what=f"unexpected {type(error).__name__}", why=f"{error}{place}", remedy=advice)


def failure_of_run(error: Exception, folder: RunFolder, command: str) -> RunFailed:
    """The event for an error of a run that `softtune <command> --resume` goes on with; prints the traceback."""
    traceback.print_exception(error)  # into the engine's log
    failed = failure(error, f"the traceback is in {folder.engine_log}")
    again = f"softtune {command} --resume {folder.run_id} goes on"
    return failed.model_copy(update={"remedy": "; ".join(filter(None, [failed.remedy, again]))})


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the device or the machine had no memory left; on a CPU torch raises a RuntimeError then."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)
