"""What a scene says of a run, from what its events and its process tell."""

from __future__ import annotations

import pytest

from tui.engine import Condition
from tui.follower import Scene
from tui.run_view import RunView


@pytest.mark.parametrize(("outcome", "state", "resumable"), [
    ("finished", "finished", False), ("finished", "crashed", False),  # killed after its last word
    ("", "finished", False), ("", "damaged", False), ("", "running", False), ("", "crashed", True),
    ("stopped", "stopped", True), ("failed", "failed", True), ("stopped", "running", False),
])
def test_what_has_come_to_its_end_is_not_offered_to_be_gone_on_with(outcome: str, state: str, resumable: bool) -> None:
    scene = Scene("run", view=RunView(outcome=outcome), condition=Condition(state))  # type: ignore[arg-type]
    assert scene.resumable is resumable
    assert not Scene("run/members/a", view=scene.view, condition=scene.condition).resumable
