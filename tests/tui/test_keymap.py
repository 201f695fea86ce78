"""Keys that the user chose: they work, hints and help show them, and what cannot be used is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tui.conftest import OpenApp, told
from tests.tui.fake_run import make_run
from tests.tui.test_train_screen import words
from tui.app import SofttuneApp
from tui.keymap import bindings_by_place, load_keymap, write_template


def keymap(tmp_path: Path, text: str) -> tuple[dict[str, str], list[str]]:
    (tmp_path / "keymap.yml").write_text(text)
    return load_keymap(tmp_path, SofttuneApp.BINDINGS)


async def test_a_changed_key_works_and_is_shown(open_app: OpenApp, runs: Path, tmp_path: Path) -> None:
    make_run(runs, count=3)
    folder = tmp_path / "config" / "softtune"
    folder.mkdir(parents=True)
    (folder / "keymap.yml").write_text("app.problems: P,f9\ntrain.log_scale: Z\ntrain.nonsense: a\n")
    app = open_app()
    async with app.run_test(size=(160, 50)) as pilot:
        await pilot.pause()
        assert any("train.nonsense" in message for message in told(app))
        await pilot.press("L")
        assert not app.screen.look.logarithmic
        await pilot.press("Z")
        assert app.screen.look.logarithmic
        await pilot.press("question_mark")
        await pilot.pause()
        assert "Z " in words(app)
        await pilot.press("escape", "f9")
        assert app.current_mode == "problems"
        await pilot.press("1", "3")
        assert app.current_mode == "train"  # 3 has no meaning any more
        await pilot.press("P")
        assert app.current_mode == "problems"


@pytest.mark.parametrize(("line", "words"), [
    ("train.strat: s", "did you mean train.start?"),
    ("train.start: [", "cannot be read"),
    ("- train.start", "are expected"),
    ("train.start: true", "quote y, n, on and off"),
    ("train.start: ''", "a key is expected"),
    ("train.start: ctrl+hyper+x", "there is no key"),
    ("train.start: bogus", "there is no key"),
    ("train.start: x", "train.start: the key x belongs to train.stop"),
    ("train.start: q", "belongs to app.quit"),
    ("app.problems: 1", "belongs to app.train"),
])
def test_what_cannot_be_used_is_named(tmp_path: Path, line: str, words: str) -> None:
    keys, faults = keymap(tmp_path, line)
    assert keys == {}
    assert len(faults) == 1
    assert words in faults[0]


@pytest.mark.parametrize(("text", "expected"), [
    ("", {}),
    ("# nothing yet", {}),
    ("train.start: S", {"train.start": "S"}),
    ("train.start: ','", {"train.start": ","}),
    ("train.start: [F, f5]", {"train.start": "F,f5"}),
    ("train.start: x\ntrain.stop: s", {"train.start": "x", "train.stop": "s"}),  # they swap
    ("train.pause: F\ntrain.resume: F", {"train.pause": "F", "train.resume": "F"}),  # only one of them works at a time
    ("train.start: 9", {"train.start": "9"}),
    ("train.start: '?'\napp.help: f1", {"train.start": "question_mark", "app.help": "f1"}),
])
def test_what_can_be_used(tmp_path: Path, text: str, expected: dict[str, str]) -> None:
    assert keymap(tmp_path, text) == (expected, [])


def test_the_template_has_every_binding_and_changes_nothing(tmp_path: Path) -> None:
    path = write_template(tmp_path, SofttuneApp.BINDINGS)
    assert load_keymap(tmp_path, SofttuneApp.BINDINGS) == ({}, [])
    text = path.read_text()
    names = {binding.id for _, bindings in bindings_by_place(SofttuneApp.BINDINGS) for binding in bindings}
    assert {"app.quit", "train.start", "problems.filter"} <= names
    uncommented = "\n".join(line[2:] if line.startswith("# ") and ": \"" in line else "" for line in text.split("\n"))
    (tmp_path / "keymap.yml").write_text(uncommented)
    keys, faults = load_keymap(tmp_path, SofttuneApp.BINDINGS)
    assert faults == []
    assert set(keys) == names
    path.write_text("# mine")
    write_template(tmp_path, SofttuneApp.BINDINGS)
    assert path.read_text() == "# mine"


def test_every_binding_with_a_meaning_has_an_id_of_its_own() -> None:
    places = bindings_by_place(SofttuneApp.BINDINGS)
    seen: dict[str, tuple[str, str]] = {}
    for place, bindings in places:
        for binding in bindings:
            assert seen.setdefault(str(binding.id), (place, binding.action)) == (place, binding.action)
