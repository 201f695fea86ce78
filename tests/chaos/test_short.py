"""The short form of `make chaos`, in a process of its own: it forks, and a test's process has threads by now."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_short_form_of_the_fault_suite_survives_everything_and_loses_nothing() -> None:
    command = [sys.executable, "-m", "tests.chaos", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    first, *rows = done.stdout.splitlines()
    assert first.startswith("seed 0; ")
    assert all(row.startswith("✓ ") and row.endswith(" 0 bytes lost") for row in rows)
    killed = [row for row in rows if "SIGKILL" in row]
    assert sum(int(row.split(" injected")[0].split()[-1]) for row in killed) == 8
    assert {"full disk" in row or "not a byte left" in row for row in rows} == {True, False}
