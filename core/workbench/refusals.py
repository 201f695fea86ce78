"""From what went wrong in a request to what is wrong and what to do about it."""

from __future__ import annotations

import traceback

from core.contract.errors import SofttuneError
from core.contract.workbench import Refused

MEMORY_ADVICE = (
    "lower inference.max_new_tokens, wait until the training run has ended, or set hardware.device to cpu"
)


def refusal(number: int, error: Exception) -> Refused:
    """The last reply to request `number`, which raised an error; one that nobody foresaw also goes to stderr."""
    if isinstance(error, SofttuneError):
        return Refused(request=number, what=error.what, remedy=error.remedy, setting=error.setting)
    traceback.print_exception(error)
    if isinstance(error, ImportError):  # perhaps of torch, without which the rest here does not go
        return Refused(request=number, what=f"a part of the engine is missing: {error}",
                       remedy="install softtune again; `softtune doctor` tells what is there")
    from core.failure import failure, is_out_of_memory

    failed = failure(error, "try again; the other requests go on")
    what = f"{failed.what}: {failed.why}" if failed.why else failed.what
    return Refused(request=number, what=what, remedy=MEMORY_ADVICE if is_out_of_memory(error) else failed.remedy)
