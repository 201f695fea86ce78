"""Pushing, to a stand-in for the Hub: a folder here."""

import inspect
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest

from core.contract.errors import SofttuneError, UsageError
from core.export.hub import check_repo, push

from .conftest import outcome


class Address(str):
    """As the client gives it: a text that knows its parts."""

    @property
    def repo_id(self) -> str:
        return self.removeprefix("https://hub.test/")


class StandIn:
    """Takes what the real client takes, and copies."""

    place: Path
    fault: Exception | None = None
    calls: list[tuple[str, dict[str, Any]]]

    def create_repo(self, repo_id: str, **known: Any) -> Any:
        inspect.signature(huggingface_hub.HfApi.create_repo).bind(self, repo_id, **known)
        self.calls.append((repo_id, known))
        return Address(f"https://hub.test/{repo_id}")

    def upload_folder(self, **known: Any) -> Any:
        inspect.signature(huggingface_hub.HfApi.upload_folder).bind(self, **known)
        if self.fault:
            raise self.fault
        shutil.copytree(known["folder_path"], self.place / known["repo_id"])
        return SimpleNamespace()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[StandIn]:
    stand_in = type("Hub", (StandIn,), {"place": tmp_path / "hub", "calls": []})
    monkeypatch.setattr(huggingface_hub, "HfApi", stand_in)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "README.md").write_text("# card")
    return stand_in


def test_the_whole_folder_goes_with_its_card(hub: type[StandIn], tmp_path: Path) -> None:
    address, told = outcome(push(tmp_path / "out", "me/soft", private=True))
    assert address == "https://hub.test/me/soft" and [event.done for event in told] == [0, 1]
    assert hub.calls == [("me/soft", {"private": True, "exist_ok": True})]
    assert (hub.place / "me" / "soft" / "README.md").read_text() == "# card"


@pytest.mark.parametrize("fault", [OSError("no route to host"), ValueError("403 Forbidden\nmore"), TimeoutError()])
def test_a_failed_push_leaves_the_folder_and_says_how_to_go_on(
    fault: Exception, hub: type[StandIn], tmp_path: Path
) -> None:
    hub.fault = fault
    with pytest.raises(SofttuneError) as failed:
        outcome(push(tmp_path / "out", "me/soft"))
    assert f"hf upload me/soft {tmp_path / 'out'}" in failed.value.remedy and "\n" not in failed.value.what
    assert (tmp_path / "out" / "README.md").exists()


def test_a_name_that_no_repository_has_is_refused_before_anything_is_written() -> None:
    check_repo("me/soft")
    with pytest.raises(UsageError, match="--push"):
        check_repo("me/soft/er")
