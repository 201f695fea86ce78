"""What `softtune doctor` says of the sandbox: the level, what it covers, and what to do for a stronger one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core import doctor
from core.cli import main
from core.contract.errors import WeakSandboxError
from core.evaluation.sandbox import LevelReport
from tests.evaluation.machines import refuse

REFUSED = LevelReport("namespaces", False, "unshare: Operation not permitted")
NO_LANDLOCK = LevelReport("landlock", False, "this kernel has no Landlock, or it is off")


def told(monkeypatch: pytest.MonkeyPatch, *reports: LevelReport) -> list[str]:
    """The lines about the sandbox on a machine that grants these levels."""
    monkeypatch.setattr(doctor, "levels", lambda: list(reports))
    lines = doctor.finding_lines(doctor.examine())
    first = next(at for at, line in enumerate(lines) if line.startswith("sandbox"))
    last = next(at for at, line in enumerate(lines) if line.startswith("disk"))
    return [" ".join(line.split()) for line in lines[first:last]]


def test_a_machine_that_grants_everything_needs_no_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = told(monkeypatch, *(LevelReport(level, True) for level in ("namespaces", "landlock", "process")))
    assert line.startswith("sandbox namespaces: programs reach no network, no other process, and no file but")


@pytest.mark.parametrize(("switch", "value", "advice"), [
    ("kernel/unprivileged_userns_clone", "0", "sudo sysctl kernel.unprivileged_userns_clone=1"),
    ("user/max_user_namespaces", "0", "sudo sysctl user.max_user_namespaces=10000"),
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0"),
    ("kernel/unprivileged_userns_clone", "1", "--security-opt seccomp=unconfined"),
])
def test_what_refuses_namespaces_is_found(
    switch: str, value: str, advice: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "mark").touch()
    monkeypatch.setattr(doctor, "_KERNEL", tmp_path)
    monkeypatch.setattr(doctor, "_CONTAINER_MARKS", (tmp_path / "mark",))
    (tmp_path / switch).parent.mkdir()
    (tmp_path / switch).write_text(f"{value}\n")
    level, reason, remedy = told(monkeypatch, REFUSED, LevelReport("landlock", True), LevelReport("process", True))
    assert level.startswith("sandbox landlock: ") and reason == f"not namespaces: {REFUSED.reason}"
    assert remedy.startswith("→ ") and advice in remedy


def test_where_nothing_is_known_to_refuse_every_switch_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(doctor, "_KERNEL", tmp_path)
    monkeypatch.setattr(doctor, "_CONTAINER_MARKS", ())
    _, _, remedy, reason, other = told(monkeypatch, REFUSED, NO_LANDLOCK, LevelReport("process", True))
    assert all(name in remedy for name in ("unprivileged_userns_clone", "max_user_namespaces", "apparmor_restrict"))
    assert reason == f"not landlock: {NO_LANDLOCK.reason}" and "Linux 5.13" in other


def test_the_weak_sandbox_of_a_real_refusal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refuse(monkeypatch, "namespaces", "landlock")
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["sandbox"] == "process"
    assert [(level["level"], level["granted"]) for level in found["sandbox_levels"]] == [
        ("namespaces", False), ("landlock", False), ("process", True)]
    assert all(bool(level["reason"]) != level["granted"] for level in found["sandbox_levels"])
    lines = doctor.finding_lines(found)
    assert f"none is run without {WeakSandboxError.setting}: true" in "\n".join(lines) and "torch" in lines[-3]


def test_a_machine_on_which_nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = told(monkeypatch, REFUSED, NO_LANDLOCK, LevelReport("process", False, "its process ended with status 2"))
    assert lines[0] == "sandbox none" and lines[-1] == "not process: its process ended with status 2"
