"""A tracker that is named and not installed is told before anything is written."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from core.cli import main
from core.contract.config_file import load_config
from core.contract.errors import UsageError
from core.contract.tracking import check_tracker


@pytest.fixture
def nothing_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But what lies in the test's folder."""
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    for name in ("wandb", "trackio", "tensorboard"):
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.mark.usefixtures("nothing_installed")
@pytest.mark.parametrize("name", ["tensorboard", "trackio", "wandb"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(name: str) -> None:
    config = load_config(overrides=[f"logging.tracker={name}"])
    with pytest.raises(UsageError, match=rf"logging.tracker: {name} is not(.|\n)*pip install 'softtune\[{name}\]'"):
        check_tracker(config)


@pytest.mark.usefixtures("nothing_installed")
def test_a_folder_that_wandb_left_behind_is_no_package_and_a_package_is_not_imported(tmp_path: Path) -> None:
    config = load_config(overrides=["logging.tracker=wandb"])
    (tmp_path / "wandb" / "run-1").mkdir(parents=True)
    with pytest.raises(UsageError):
        check_tracker(config)
    (tmp_path / "wandb" / "__init__.py").write_text("raise SystemExit('imported')\n")
    check_tracker(config)
    check_tracker(load_config())


@pytest.mark.parametrize("command", ["train", "crossvalidate"])
def test_nothing_is_written(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main([command, "--set", "logging.tracker=wandb"]) == 2
    assert "logging.tracker: wandb is not installed" in capfd.readouterr().err and list(tmp_path.iterdir()) == []
