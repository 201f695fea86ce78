"""What a run will write, and a disk that has no room for it."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from core.contract.config_file import load_config
from core.contract.errors import UsageError
from core.contract.runs import check_outputs
from core.contract.space import bytes_written, check_space


def written(*overrides: str) -> int:
    return bytes_written(load_config(overrides=list(overrides), demo=True))


@pytest.mark.parametrize("more", [
    "training.num_epochs=100", "soft_prompts.num_virtual_tokens=500", "inference.max_new_tokens=2048",
    "inference.max_new_tokens=30000", "soft_prompts.reparameterisation=residual",
])
def test_what_takes_more(more: str) -> None:
    assert written(more) > 1.2 * written()


@pytest.mark.parametrize("less", ["evaluation.save_best_only=true", "evaluation.score_after_training=false",
                                  "dataset.max_samples=10"])
def test_what_takes_less(less: str) -> None:
    assert written(less) < written()


def test_another_dataset_counts_by_its_size(tmp_path: Path) -> None:
    (tmp_path / "big.jsonl").write_bytes(b"x" * 10**7)
    assert written(f"dataset.path={tmp_path}/big.jsonl") > 10**7 + written()
    assert written(f"dataset.evaluation_path={tmp_path}/big.jsonl") > 10**7 + written()
    assert written(f"dataset.path={tmp_path}/none.jsonl") > 0


def test_too_little_room_is_an_error_that_says_how_much_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_config(demo=True)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=bytes_written(config)))
    check_space(config, {"runs/": Path("runs")})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=bytes_written(config) - 1))
    with pytest.raises(UsageError, match=r"inference.output_path: .* free, and this run may write .*MB") as caught:
        check_outputs(config)
    assert "df -h" in caught.value.remedy and not list(tmp_path.iterdir())
