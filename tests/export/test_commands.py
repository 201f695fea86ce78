"""`softtune export` and `softtune import`: what is printed where, and how they end."""

import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.cli import main
from core.commands.files import _interruptible
from core.contract.control import ControlInbox, StopRequested
from core.contract.errors import EXIT_DONE, EXIT_FAILED, EXIT_STOPPED, EXIT_USAGE
from core.contract.events import Event, Progress
from core.contract.exports import read_manifest
from core.export.formats import export

CODE = Path(__file__).parents[2]


def test_exporting_and_importing_print_one_line_each(
    checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(checkpoint), "--format", "merged", "out", "--json"]) == EXIT_DONE
    out, err = capfd.readouterr()
    size = sum(file.size for file in read_manifest(tmp_path / "out").files.values())
    assert json.loads(out) == {"path": "out", "format": "merged", "bytes": size, "verified_problems": 3,
                               "pushed": None}
    assert "writing" in err and "verifying 3/3" in err
    assert main(["import", "out", "--name", "again"]) == EXIT_DONE
    out, err = capfd.readouterr()
    (run,) = (tmp_path / "runs").iterdir()
    assert out == f"soft prompt: runs/{run.name}/checkpoints/best.pt\n" and run.name.endswith("-again")
    assert main(["export", str(checkpoint), "--format", "peft", "adapter"]) == EXIT_DONE
    assert capfd.readouterr().out == "exported to adapter\n"
    (tmp_path / "adapter" / "softtune.json").unlink()
    assert main(["import", "adapter", "--json"]) == EXIT_DONE
    out, err = capfd.readouterr()
    assert json.loads(out)["path"].endswith("-adapter/checkpoints/best.pt")
    assert "no problem counts as held out" in err
    assert main(["export", str(checkpoint), "--format", "peft", "adapter"]) == EXIT_FAILED
    assert "not an empty folder" in capfd.readouterr().err
    assert main(["train", "--resume", "last"]) == EXIT_USAGE
    assert "was imported" in capfd.readouterr().err


@pytest.mark.parametrize(("more", "words"), [
    (["peft", "out", "--no-verify"], "are of --format merged"), (["merged", "out", "--private"], "--private is of"),
    (["merged", "out", "--push", "a/b/c"], "--push a/b/c"),
])
def test_wrong_commands_write_nothing(
    more: list[str], words: str, checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(checkpoint), "--format", *more]) == EXIT_USAGE
    assert words in capfd.readouterr().err and not (tmp_path / "out").exists()


def test_a_push_is_told_with_its_address_and_its_failure_leaves_the_folder(
    checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def pushing(folder: Path, repo: str, *, private: bool) -> Any:
        yield from ()
        return f"https://hub.test/{repo}"

    monkeypatch.setattr("core.export.hub.push", pushing)
    assert main(["export", str(checkpoint), "--format", "peft", "out", "--push", "me/soft"]) == EXIT_DONE
    assert capfd.readouterr().out == "exported to out\npushed to https://hub.test/me/soft\n"
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)

    def refusing(*_: Any, **__: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", refusing)
    assert main(["export", str(checkpoint), "--format", "peft", "other", "--push", "me/soft"]) == EXIT_FAILED
    out, err = capfd.readouterr()
    assert "no route to host" in err and "hf upload me/soft other" in err and not out
    assert (tmp_path / "other" / "README.md").exists()


def test_a_signal_unwinds_a_job(checkpoint: Path, tmp_path: Path) -> None:
    control, before = ControlInbox(), set(tmp_path.iterdir())

    def job() -> Iterator[Event]:
        for event in export(checkpoint, "merged", tmp_path / "out"):
            yield event
            if isinstance(event, Progress) and event.stage == "writing":
                assert set(tmp_path.iterdir()) != before
                control.interrupt()  # as the handler does, wherever the job is

    with pytest.raises(StopRequested):
        list(_interruptible(job(), control))
    gc.collect()
    assert set(tmp_path.iterdir()) == before


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_an_export_and_leaves_nothing(number: int, checkpoint: Path, tmp_path: Path) -> None:
    before = set(tmp_path.iterdir())
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "core", "export", checkpoint, "--format", "merged", "out"], cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(CODE)}, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    while not set(tmp_path.iterdir()) - before and time.monotonic() < end and process.poll() is None:
        time.sleep(0.01)
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == EXIT_STOPPED and "nothing was written" in err and not out
    assert set(tmp_path.iterdir()) == before
