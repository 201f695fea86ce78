"""Checkpoint files: what they hold, and what is refused."""

import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from core.contract.errors import CheckpointError
from core.contract.record import Split
from core.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

CHECKPOINT = Checkpoint(
    torch.arange(12.0).view(3, 4), "some/model", 2, 18,
    {"train_loss": 1.0, "heldout_loss": 0.9, "heldout_perplexity": 2.46}, {"training": {"num_epochs": 2}},
    Split(train=["a"], heldout=["b"]), "run",
)


def test_a_checkpoint_is_a_plain_dict_with_the_documented_keys(tmp_path: Path) -> None:
    file = tmp_path / "x.pt"
    save_checkpoint(CHECKPOINT, file)
    content = torch.load(file, weights_only=True)
    assert set(content) == {
        "format_version", "soft_prompt", "base_model", "embedding_dim", "num_virtual_tokens", "epoch", "step",
        "metrics", "config", "split", "run_id",
    }
    assert content["soft_prompt"].dtype == torch.float32 and content["soft_prompt"].shape == (3, 4)
    assert content["split"] == {"train": ["a"], "heldout": ["b"]}
    again = load_checkpoint(file)
    assert torch.equal(again.soft_prompt, CHECKPOINT.soft_prompt) and again.metrics == CHECKPOINT.metrics


class Payload:
    """Would make a file if it were unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.marker),))


def test_a_pickle_payload_is_refused_and_not_executed(tmp_path: Path) -> None:
    file, marker = tmp_path / "x.pt", tmp_path / "executed"
    torch.save({"soft_prompt": torch.zeros(1, 1), "format_version": 1, "x": Payload(marker)}, file)
    with pytest.raises(CheckpointError, match="nothing of it was executed"):
        load_checkpoint(file)
    assert not marker.exists()


@pytest.mark.parametrize(("change", "message"), [
    ({"format_version": 99}, "format version 99"),
    ({"format_version": None}, "format version None"),
    ({"soft_prompt": "text"}, "not a softtune checkpoint"),
    ({"soft_prompt": torch.full((2, 2), float("nan"))}, "not a finite matrix"),
    ({"soft_prompt": torch.zeros(2)}, "not a finite matrix"),
    ({"soft_prompt": torch.zeros(0, 4)}, "not a finite matrix"),
    ({"soft_prompt": torch.ones(2, 2, dtype=torch.int64)}, "not a finite matrix"),
    ({"soft_prompt": torch.eye(3).to_sparse()}, "not a finite matrix"),
    ({"soft_prompt": torch.zeros(1).expand(2**21, 2**21)}, "not a finite matrix"),
    ({"soft_prompt": torch.zeros(2, 2).to(torch.float8_e4m3fn)}, "not a finite matrix"),
    ({"format_version": -3}, "format version -3"),
    ({"split": None}, "no usable split"),
    ({"split": {"train": 1, "heldout": []}}, "incomplete"),
    ({"run_id": 3, "config": []}, "no usable config, run_id"),
])
def test_what_is_not_a_sound_checkpoint_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    file = tmp_path / "x.pt"
    save_checkpoint(CHECKPOINT, file)
    torch.save(torch.load(file, weights_only=True) | change, file)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(file)


def test_a_damaged_or_missing_file_is_told(tmp_path: Path) -> None:
    file = tmp_path / "x.pt"
    save_checkpoint(CHECKPOINT, file)
    file.write_bytes(file.read_bytes()[:700])
    for path, message in ((file, "damaged|more than tensors"), (tmp_path / "none.pt", "there is no checkpoint")):
        with pytest.raises(CheckpointError, match=message):
            load_checkpoint(path)


def test_a_folder_is_told_with_the_file_to_name(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"is a folder") as caught:
        load_checkpoint(tmp_path)
    assert caught.value.remedy == "name the file: runs/RUN/checkpoints/best.pt"
    best = tmp_path / "checkpoints" / "best.pt"
    best.parent.mkdir()
    best.write_bytes(b"")
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path)
    assert caught.value.remedy == f"name the file: {best}"


def test_every_flipped_byte_is_noticed_or_changes_nothing(tmp_path: Path) -> None:
    file, noticed = tmp_path / "x.pt", 0
    save_checkpoint(CHECKPOINT, file)
    whole = file.read_bytes()
    for place in range(0, len(whole), 7):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1:])
        try:
            again = load_checkpoint(file)
        except CheckpointError as error:
            assert str(file) in error.what
            noticed += 1
        else:
            assert torch.equal(again.soft_prompt, CHECKPOINT.soft_prompt)
            assert (again.metrics, again.config, again.split) == (
                CHECKPOINT.metrics, CHECKPOINT.config, CHECKPOINT.split), place
    assert noticed > 20


def test_every_truncated_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.pt"
    save_checkpoint(CHECKPOINT, file)
    whole = file.read_bytes()
    for length in range(0, len(whole), 13):
        file.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="damaged"):
            load_checkpoint(file)


def test_a_compressed_file_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    file = tmp_path / "x.pt"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", bytes(10**7))
    with pytest.raises(CheckpointError, match="compressed"):
        load_checkpoint(file)


def test_a_prompt_of_another_width_names_the_model_it_was_trained_on() -> None:
    CHECKPOINT.check_fits(4, "some/model")
    with pytest.raises(CheckpointError, match="4 wide, but other needs 8") as caught:
        CHECKPOINT.check_fits(8, "other")
    assert "some/model" in caught.value.remedy
