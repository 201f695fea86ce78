"""softtune.json: what an exported folder is and came from, so that it can be checked, served and taken back."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from core.contract.errors import CheckpointError
from core.contract.files import FORMAT_VERSION, read_regular
from core.contract.record import Split

MANIFEST = "softtune.json"
ExportFormat = Literal["peft", "merged"]


def _on_one_line(text: str) -> str:
    if not text.isprintable():
        raise ValueError("it holds characters that cannot be shown")
    return text


def _file_name(name: str) -> str:
    if name in ("", ".", "..") or name != Path(name).name:
        raise ValueError(f"{_on_one_line(name)!r} is no file of this folder")
    return _on_one_line(name)


Words = Annotated[str, AfterValidator(_on_one_line)]
FileName = Annotated[str, AfterValidator(_file_name)]
Count = Annotated[int, Field(ge=0, le=2**53)]


class ExportedFile(BaseModel):
    """A file of the folder as it was written."""

    model_config = ConfigDict(frozen=True)
    size: Count
    """Bytes."""
    sha256: str


class Manifest(BaseModel):
    """What softtune.json says."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False, protected_namespaces=())
    format_version: int = FORMAT_VERSION
    format: ExportFormat
    base_model: Words
    run_id: Words
    epoch: Count
    step: Count
    metrics: dict[Words, float | None]
    split: Split
    config: dict[str, Any]
    """The settings that the soft prompt was trained with."""
    num_virtual_tokens: Count
    embedding_dim: Count
    dtype: Literal["", "float32", "float16", "bfloat16"] = ""
    """Of a merged model's weights, as "bfloat16"."""
    soft_tokens: list[Words] = []
    """The names of a merged model's soft tokens, in their order."""
    soft_token_ids: list[Count] = []
    auto_prepend: bool = True
    """Whether a merged model's tokenizer puts them in front by itself."""
    literal_prefix: str | None = None
    """What to put in front of a problem where nothing puts it there: the soft tokens by their names, and any text."""
    literal_suffix: str | None = None
    """What to put behind it; both are None where no text gives the right tokens."""
    verified_problems: Count = 0
    """Problems on which a merged model, reloaded, gave softtune's own greedy tokens; 0: it was not verified."""
    files: dict[FileName, ExportedFile]
    """Every other file of the folder, by its name."""

    @property
    def total_bytes(self) -> int:
        """What those files take."""
        return sum(file.size for file in self.files.values())


def read_manifest(folder: Path) -> Manifest:
    """What an exported folder says of itself.

    Raises:
        CheckpointError: it is no folder that softtune exported, or it is of a newer format.
    """
    remedy = "softtune export CHECKPOINT --format merged DIR makes one"
    try:
        manifest = Manifest.model_validate_json(read_regular(folder / MANIFEST))
    except FileNotFoundError:
        missing = "there is no folder" if not folder.is_dir() else f"no {MANIFEST} in"
        raise CheckpointError(f"{missing} {folder}", remedy) from None
    except OSError as error:
        raise CheckpointError(f"{folder / MANIFEST} cannot be read: {error.strerror}",
                              "check its permissions") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = "".join(sign if sign.isprintable() else "�" for sign in ".".join(map(str, first["loc"])))
        raise CheckpointError(f"{folder / MANIFEST} is damaged: {place}: {first['msg']}", remedy) from None
    if manifest.format_version > FORMAT_VERSION:
        raise CheckpointError(f"{folder} was exported by a newer softtune", "update softtune")
    needed = {"config.json", "tokenizer.json"} if manifest.format == "merged" else {"adapter_config.json"}
    absent = sorted(needed - set(manifest.files))
    if absent or not any(name.endswith(".safetensors") for name in manifest.files):
        raise CheckpointError(f"{folder / MANIFEST} does not tell of {absent[0] if absent else 'any weights'}",
                              remedy)
    return manifest


def check_files(folder: Path, manifest: Manifest) -> None:
    """Raise CheckpointError, naming the file, where the folder does not hold what was exported."""
    for name, known in manifest.files.items():
        check_file(folder, name, known)


def check_file(folder: Path, name: str, known: ExportedFile) -> None:
    """Raise CheckpointError where a file of an exported folder is not what was exported."""
    fault = _fault(folder, name, known)
    if fault:
        raise CheckpointError(f"{folder / name} {fault}", "export again; nothing was changed")


def _fault(folder: Path, name: str, known: ExportedFile) -> str:
    try:
        found = (folder / name).stat()
        if not stat.S_ISREG(found.st_mode):
            return "is no file"
        if found.st_size != known.size:
            return "has another size than what was exported"
        return "" if sha256_of(folder / name) == known.sha256 else "is not what was exported (its checksum differs)"
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def exported_files(folder: Path) -> dict[str, ExportedFile]:
    """What to say of the files that a folder has so far."""
    return {path.name: ExportedFile(size=path.stat().st_size, sha256=sha256_of(path))
            for path in sorted(folder.iterdir()) if path.is_file() and path.name != MANIFEST}


def sha256_of(path: Path) -> str:
    """The checksum of a file of any size."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
