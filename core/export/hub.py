"""An exported folder on the Hugging Face Hub, on request alone."""

from __future__ import annotations

import shlex
from collections.abc import Generator
from pathlib import Path

from core.contract.errors import SofttuneError, UsageError
from core.contract.events import Event, Progress


def check_repo(repo: str) -> None:
    """Raise UsageError where a name cannot be one on the Hub."""
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise UsageError(f"--push {repo}: {str(error).splitlines()[0]}", "give it as OWNER/NAME") from None


def push(folder: Path, repo: str, *, private: bool = False) -> Generator[Event, None, str]:
    """Upload a whole folder, its model card too; the repository is made if there is none. The value is its address.

    Raises:
        SofttuneError: the Hub did not take it; the folder stays as it is.
    """
    from huggingface_hub import HfApi

    yield Progress(stage="uploading", done=0, total=1, unit="folders", detail=repo)
    try:
        api = HfApi()
        address = api.create_repo(repo, private=private, exist_ok=True)
        api.upload_folder(repo_id=address.repo_id, folder_path=folder, commit_message="Upload by softtune")
    except Exception as error:  # the client and the network raise many kinds, and each leaves the folder whole
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
        again = shlex.join(["hf", "upload", repo, str(folder)])
        raise SofttuneError(f"--push {repo} failed: {reason}",
                            f"{folder} is whole; log in (hf auth login) or mend it, then: {again}") from error
    yield Progress(stage="uploading", done=1, total=1, unit="folders", detail=repo)
    return str(address)
