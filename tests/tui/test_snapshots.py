"""Every screen at three sizes and in four looks, against committed frames; and the README's pictures.

The README's size is in `make test`; the smallest and the largest are slow tests.

`SOFTTUNE_RENEW_SNAPSHOTS=1` writes them anew: look at the difference before you commit it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from textual.pilot import Pilot

from tests.tui import gallery
from tests.tui.conftest import OpenApp, until
from tests.tui.frames import Frame, frame_of
from tui.app import SofttuneApp
from tui.config.facts import Machine
from tui.plan_words import Plan
from tui.themes import DARK, LIGHT, SIXTEEN

SNAPSHOTS = Path(__file__).parent / "snapshots"
PICTURES = Path(__file__).parents[1] / "pictures"
RENEW = bool(os.environ.get("SOFTTUNE_RENEW_SNAPSHOTS"))
SIZES = ((120, 40), *(pytest.param(size, marks=pytest.mark.slow) for size in ((80, 24), (200, 60))))
PICTURED = (120, 40)
IN_THE_README = ("train", "checkpoints", "compare", "problems", "config", "playground", "sweep")

Visit = Callable[[SofttuneApp, "Pilot[object]"], Awaitable[None]]


async def train(app: SofttuneApp, pilot: Pilot[object]) -> None:
    await pilot.press("1")
    await until(pilot, lambda: app.scene.view.outcome == "finished")


async def checkpoints(app: SofttuneApp, pilot: Pilot[object]) -> None:
    await pilot.press("2")
    await until(pilot, lambda: "epoch_0001" in frame_of(app).text and "-torn" in frame_of(app).text)


async def compare(app: SofttuneApp, pilot: Pilot[object]) -> None:
    await pilot.press("down", "down", "down", "space", "up", "space", "c")  # best of the first run, best of the second
    await until(pilot, lambda: "gained" in frame_of(app).text)


async def tokens(app: SofttuneApp, pilot: Pilot[object]) -> None:
    await pilot.press("escape", "t")
    await until(pilot, lambda: "word3.1" in frame_of(app).text)


async def problems(app: SofttuneApp, pilot: Pilot[object]) -> None:
    await pilot.press("escape", "3", "n")
    await until(pilot, lambda: "▸✗" in frame_of(app).text and "prompt and completion" in frame_of(app).text)


async def scratch(app: SofttuneApp, pilot: Pilot[object]) -> None:
    await pilot.press("e")
    await until(pilot, lambda: "a scratch copy" in frame_of(app).text and "what came of it" in frame_of(app).text)


async def config(app: SofttuneApp, pilot: Pilot[object]) -> None:
    await pilot.press("escape", "4")
    await until(pilot, lambda: "num_virtual_tokens" in frame_of(app).text)
    await pilot.press("slash", *"learning", "enter", "enter", "0", "full_stop", "0", "2", "enter")
    await until(pilot, lambda: "not saved" in frame_of(app).text and "▸ ● learning_rate" in frame_of(app).text)
    await pilot.press("escape")
    await until(pilot, lambda: "“learning”" not in frame_of(app).text and "num_epochs" in frame_of(app).text)
    await pilot.press("home")
    await until(pilot, lambda: "▸   name" in frame_of(app).text)


async def playground(app: SofttuneApp, pilot: Pilot[object]) -> None:
    await pilot.press("5", "p")
    await until(pilot, lambda: "HumanEval/1" in frame_of(app).text)
    await pilot.press("enter", "g")
    await until(pilot, lambda: frame_of(app).text.count("tokens/s") == 2)


async def sweep(app: SofttuneApp, pilot: Pilot[object]) -> None:
    await pilot.press("6")
    await until(pilot, lambda: "▸      1" in frame_of(app).text)
    await pilot.press("j", "j", "j")
    await until(pilot, lambda: "trial 12: 0.08461" in frame_of(app).text)


async def keys(app: SofttuneApp, pilot: Pilot[object]) -> None:
    await pilot.press("1", "question_mark")
    await until(pilot, lambda: "Train: keys" in frame_of(app).text)


TOUR: tuple[Visit, ...] = (train, checkpoints, compare, tokens, problems, scratch, config, playground, sweep, keys)


@pytest.fixture
def hung(runs: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The gallery, in a time zone and on a machine that never change."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.setattr("tui.config.editing.probe_machine", lambda: Machine(16 * 10**9, "NVIDIA RTX 4060", 8 * 10**9))
    gallery.hang(runs)
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
async def test_every_screen_looks_as_committed(
    hung: None, open_app: OpenApp, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    found: dict[str, dict[str, Frame]] = {visit.__name__: {} for visit in TOUR}
    pictures: dict[str, str] = {}
    faint: list[str] = []
    app = open_app()
    app.plan = Plan()
    async with app.run_test(size=size) as pilot:
        for visit in TOUR:
            await visit(app, pilot)
            for theme in (LIGHT, SIXTEEN, DARK):
                app.theme = theme
                await pilot.pause()
                found[visit.__name__][theme] = frame_of(app)
                faint += _faint(app, f"{visit.__name__} in {theme}")
            if visit.__name__ in IN_THE_README:
                pictures[visit.__name__] = app.export_screenshot(title="softtune")
    monkeypatch.setenv("NO_COLOR", "1")
    app = open_app()
    app.plan = Plan()
    async with app.run_test(size=size) as pilot:
        for visit in TOUR:
            await visit(app, pilot)
            await pilot.pause()
            found[visit.__name__]["NO_COLOR"] = frame_of(app)
            faint += _faint(app, f"{visit.__name__} without colours")
    differences = [
        difference for name, looks in found.items()
        if (difference := _compared(SNAPSHOTS / f"{name}-{size[0]}x{size[1]}.txt", written(looks)))
    ]
    if size == PICTURED:
        differences += [difference for name, svg in pictures.items()
                        if (difference := _compared(PICTURES / f"{name}.svg", svg))]
    assert not differences, "\n\n".join(differences)
    assert not faint, "\n".join(faint)


def _faint(app: SofttuneApp, where: str) -> list[str]:
    """What can hardly be read; of a dialog's screen, only the dialog itself is to be read."""
    dialogs = app.screen.query(".dialog")
    frame = frame_of(app).cropped(dialogs.first().region) if dialogs else frame_of(app)
    return [f"{where}: {words}" for words in frame.faint()]


def written(looks: dict[str, Frame]) -> str:
    """A snapshot file: the text, which is the same in every look, then the styles of each."""
    first = next(iter(looks.values()))
    parts = [first.text]
    for look, frame in looks.items():
        assert frame.text == first.text, f"{look} shows other words"
        parts.append("\n".join([f"═══ {look}", *frame.styles()]))
    return "\n".join(parts) + "\n"


def _compared(path: Path, now: str) -> str:
    """What differs from a committed file; writes it when snapshots are renewed."""
    if RENEW:
        path.parent.mkdir(exist_ok=True)
        path.write_text(now, encoding="utf-8")
    committed = path.read_text(encoding="utf-8") if path.exists() else ""
    if committed == now:
        return ""
    old, new = committed.split("\n"), now.split("\n")
    at = next((row for row, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    return "\n".join([f"{path.name} differs from row {at + 1} on:", f"- {'|'.join(old[at:at + 1])[:300]}",
                      f"+ {'|'.join(new[at:at + 1])[:300]}"])
