"""Weights as safetensors files have them: tensors made of pieces of such files and of new rows, streamed into new ones.

No tensor is loaded, so that memory does not grow with the model, and a type that torch does not know is no obstacle.
Format (https://huggingface.co/docs/safetensors): 8 bytes with the header's length, the header in JSON, the data.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import torch

from core.contract.errors import ModelError

SHARD_BYTES = 2_000_000_000
PIECE_BYTES = 16_000_000
"""Copied at once."""
LONGEST_HEADER = 100_000_000
"""As safetensors itself has it."""
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""Types that embeddings may have."""


@dataclass(frozen=True)
class Span:
    """A place in a file."""

    file: Path
    start: int
    length: int


@dataclass(frozen=True)
class Stored:
    """A tensor by its bytes, row after row; `dtype` is safetensors' name of its type."""

    dtype: str
    shape: tuple[int, ...]
    parts: tuple[Span | bytes, ...]

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(part.length if isinstance(part, Span) else len(part) for part in self.parts)

    def row(self, index: int) -> Span:
        """One row of a tensor that lies in one file."""
        (whole,) = self.parts
        assert isinstance(whole, Span)
        width = whole.length // self.shape[0]
        return Span(whole.file, whole.start + index * width, width)

    def with_rows(self, rows: Mapping[int, Span | bytes]) -> Stored:
        """The same with other rows at some places; those behind its end follow it without a gap."""
        (whole,) = self.parts
        assert isinstance(whole, Span)
        count, width = self.shape[0], whole.length // self.shape[0]
        parts: list[Span | bytes] = []
        done = 0
        for place, row in sorted(rows.items()):
            upto = min(place, count)
            if upto > done:
                parts.append(Span(whole.file, whole.start + done * width, (upto - done) * width))
            parts.append(row)
            done = min(place + 1, count)
        if done < count:
            parts.append(Span(whole.file, whole.start + done * width, (count - done) * width))
        return replace(self, shape=(max(count, max(rows) + 1), *self.shape[1:]), parts=tuple(parts))


def row_bytes(row: torch.Tensor, dtype: str) -> bytes:
    """A row of a matrix of that type."""
    return row.to(DTYPES[dtype]).contiguous().view(torch.uint8).numpy().tobytes()


def read_rows(tensor: Stored, places: Sequence[int]) -> torch.Tensor:
    """Rows of a matrix [R, H] of one of DTYPES, as float32 [n, H]."""
    found = []
    for place in places:
        span = tensor.row(place)
        with open(span.file, "rb") as file:
            file.seek(span.start)
            found.append(torch.frombuffer(bytearray(file.read(span.length)), dtype=DTYPES[tensor.dtype]).float())
    return torch.stack(found)


def read_tensors(files: Sequence[Path]) -> dict[str, Stored]:
    """The tensors of safetensors files, by name.

    Raises:
        ModelError: a file is damaged.
    """
    return {name: tensor for file in files for name, tensor in _tensors(file)}


def _tensors(file: Path) -> Iterator[tuple[str, Stored]]:
    try:
        size = file.stat().st_size
        with open(file, "rb") as content:
            length = int.from_bytes(content.read(8), "little")
            if not 0 < length <= min(size - 8, LONGEST_HEADER):
                raise ValueError("its header does not fit in it")
            header = json.loads(content.read(length))
        found = []
        for name, known in header.items():
            if name != "__metadata__":
                begin, end = known["data_offsets"]
                if not 0 <= begin <= end <= size - 8 - length:
                    raise ValueError(f"{name} does not fit in it")
                whole = Span(file, 8 + length + begin, end - begin)
                found.append((name, Stored(known["dtype"], tuple(known["shape"]), (whole,))))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{file} is damaged or no safetensors file: {error}", "download the model again") from None
    yield from found


def write_tensors(tensors: Mapping[str, Stored], folder: Path) -> Iterator[int]:
    """Write model.safetensors, or shards and their index; gives the bytes written as they grow."""
    from huggingface_hub import split_torch_state_dict_into_shards

    sizes = {name: torch.empty(tensor.size, dtype=torch.uint8, device="meta") for name, tensor in tensors.items()}
    plan = split_torch_state_dict_into_shards(sizes, max_shard_size=SHARD_BYTES)
    written = 0
    for name, members in plan.filename_to_tensors.items():
        for count in _write_file(folder / name, {member: tensors[member] for member in members}):
            written += count
            yield written
    if plan.is_sharded:
        index = {"metadata": {"total_size": written}, "weight_map": plan.tensor_to_filename}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")


def _write_file(path: Path, tensors: Mapping[str, Stored]) -> Iterator[int]:
    """Write one file; gives the bytes of each piece. Wide types come first, so that all numbers are aligned."""
    order = sorted(tensors, key=lambda name: (-tensors[name].size / max(1, math.prod(tensors[name].shape)), name))
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in order:
        tensor = tensors[name]
        header[name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [end, end + tensor.size]}
        end += tensor.size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            for part in tensors[name].parts:
                yield from _copy(part, file)
        file.flush()
        os.fsync(file.fileno())


def _copy(part: Span | bytes, target: BinaryIO) -> Iterator[int]:
    if isinstance(part, bytes):
        target.write(part)
        yield len(part)
        return
    with open(part.file, "rb") as source:
        source.seek(part.start)
        left = part.length
        while left:
            piece = source.read(min(left, PIECE_BYTES))
            if not piece:
                raise ModelError(f"{part.file} has become shorter", "export again")
            target.write(piece)
            left -= len(piece)
            yield len(piece)
