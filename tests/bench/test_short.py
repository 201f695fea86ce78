"""The benches in short: they run and print their tables. Times are for `make bench-ui`, on a quiet machine."""

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
