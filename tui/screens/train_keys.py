"""The keys of the Train screen."""

from __future__ import annotations

from textual.binding import Binding, BindingType

_ZOOM = Binding.Group("zoom", compact=True)

NEEDS_A_RUN = frozenset({
    "zoom", "reset_zoom", "toggle_log", "toggle_smooth", "next_plot", "move", "scroll_log", "follow_log", "read",
    "overlay",
})
"""Actions that need a run to look at."""

NEEDS_THE_CURSOR = frozenset({"stride", "go_to_end"})
"""Actions that move the cursor."""

KEYS: list[BindingType] = [
    Binding("s", "app.start_run", "start", id="train.start",
            tooltip="start training with the configuration as it is now"),
    Binding("space", "app.pause_run", "pause", id="train.pause", key_display="space",
            tooltip="pause between two micro-batches"),
    Binding("space", "app.resume_run", "resume", id="train.resume", key_display="space",
            tooltip="go on after a pause"),
    Binding("space", "app.tell_wait", "why it waits", id="train.why_it_waits", key_display="space",
            tooltip="say what the run waits for, to go on by itself"),
    Binding("x", "app.stop_run", "stop", id="train.stop",
            tooltip="stop training; asks first, and a checkpoint is saved"),
    Binding("R", "app.resume_training", "go on", id="train.go_on", key_display="R",
            tooltip="go on with a stopped or crashed run, from its last checkpoint"),
    Binding("R", "app.begin_again", "begin again", id="train.begin_again", key_display="R",
            tooltip="begin a run again that ended before it had a checkpoint"),
    Binding("r", "read", "read", id="train.read",
            tooltip="a cursor that reads values; once more puts it away"),
    Binding("v", "next_plot", "view", id="train.view", tooltip="one plot at a time, over the whole width, then all"),
    Binding("o", "overlay", "overlay", id="train.overlay", tooltip="lay the losses of other runs over this one's"),
    Binding("plus,equals_sign", "zoom(0.5)", "zoom in", id="train.zoom_in", key_display="+", group=_ZOOM,
            tooltip="show half as many steps: the newest, or at the cursor"),
    Binding("minus", "zoom(2.0)", "zoom out", id="train.zoom_out", key_display="−", group=_ZOOM,
            tooltip="show twice as many steps"),
    Binding("0", "reset_zoom", "show all steps", id="train.show_all_steps", tooltip="undo the zoom"),
    Binding("L", "toggle_log", "log scale", id="train.log_scale", key_display="L",
            tooltip="logarithmic y axis for loss, perplexity, gradient norm"),
    Binding("m", "toggle_smooth", "smooth", id="train.smooth",
            tooltip="smoothed loss over the single steps, or the steps alone"),
    Binding("left,h", "move(-1)", "earlier", id="train.earlier", key_display="←", show=False,
            tooltip="earlier steps: move the cursor, or a zoomed window"),
    Binding("right,l", "move(1)", "later", id="train.later", key_display="→", show=False,
            tooltip="later steps: move the cursor, or a zoomed window"),
    Binding("left_square_bracket", "stride(-1)", "far back", id="train.stride_back", key_display="[", show=False,
            tooltip="move the cursor back by a tenth of what is shown"),
    Binding("right_square_bracket", "stride(1)", "far on", id="train.stride_on", key_display="]", show=False,
            tooltip="move the cursor on by a tenth of what is shown"),
    Binding("circumflex_accent,home", "go_to_end(-1)", "first step", id="train.first_step", key_display="^", show=False,
            tooltip="move the cursor to the first step"),
    Binding("dollar_sign", "go_to_end(1)", "newest step", id="train.newest_step", key_display="$", show=False,
            tooltip="move the cursor to the newest step"),
    Binding("escape", "leave", "back", id="train.back", key_display="esc", show=False,
            tooltip="put the cursor away; then show all plots"),
    Binding("pageup", "scroll_log(-1)", "log up", id="train.log_up", key_display="PgUp", show=False,
            tooltip="scroll the log up"),
    Binding("pagedown", "scroll_log(1)", "log down", id="train.log_down", key_display="PgDn", show=False,
            tooltip="scroll the log down; at its end it follows the run"),
    Binding("f,end", "follow_log", "follow log", id="train.follow_log", key_display="f", show=False,
            tooltip="go to the end of the log, and follow the run again"),
]
