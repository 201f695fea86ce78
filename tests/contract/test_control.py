"""Commands to an engine through a file that may be missing, unreadable, or another one by now."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from core.contract import control as module
from core.contract.control import Command, ControlInbox, send


def test_commands_arrive_in_order_and_a_stop_is_never_taken_back(tmp_path: Path) -> None:
    file = tmp_path / "control.jsonl"
    inbox = ControlInbox(file)
    assert inbox.state == Command.RESUME
    send(file, Command.PAUSE)
    assert inbox.state == Command.PAUSE
    send(file, Command.STOP)
    send(file, Command.RESUME)
    assert inbox.state == Command.STOP


@pytest.mark.parametrize("number", [errno.EACCES, errno.ESTALE, errno.EIO, errno.ENOTDIR])
def test_a_file_that_cannot_be_read_for_the_moment_asks_for_nothing(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "control.jsonl"
    inbox = ControlInbox(file)
    send(file, Command.PAUSE)

    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(module, "open", refuse, raising=False)
        assert inbox.state == Command.RESUME
    assert inbox.state == Command.PAUSE


def test_a_file_that_was_made_anew_is_read_from_its_beginning(tmp_path: Path) -> None:
    file = tmp_path / "control.jsonl"
    for _ in range(5):
        send(file, Command.PAUSE)
    inbox = ControlInbox(file)
    file.unlink()
    send(file, Command.STOP)
    assert inbox.state == Command.STOP


@pytest.mark.parametrize("noise", [b"[" * 100_000 + b"\n", b"\0\xff\n", b'{"command": 3}\n', b"null\n"])
def test_noise_is_passed_over(noise: bytes, tmp_path: Path) -> None:
    file = tmp_path / "control.jsonl"
    inbox = ControlInbox(file)
    file.write_bytes(noise)
    send(file, Command.STOP)
    assert inbox.state == Command.STOP
