"""Keys of what shows a run."""

from aozora_tui.keys.key import Key, move

SCOPES: dict[str, tuple[Key, ...]] = {
    "run": (
        Key("run.stop", "s", "stop", "stop", "Stop the training after saving a checkpoint (asks first).", rank=1),
        Key("run.pause", "p", "pause", "pause", "Pause after the present step, or go on.", rank=2),
        Key("run.resume", "r", "resume", "resume", "Start a stopped or crashed run again from its checkpoint.", rank=3),
        Key("run.save", "w", "save_now", "save", "Save a checkpoint after the present step.", rank=4),
        Key("run.sample", "m", "sample_now", "sample", "Draw the previews after the present step.", rank=5),
        Key("run.rate", "f", "rate", "rate", "Scale the learning rate from the next step on (asks how much).", rank=8),
        Key("run.log", "l", "log", "log", "Show the engine's whole log.", rank=6),
        Key("run.y_log", "y", "y_log", "y axis", "Switch the charts between linear and logarithmic."),
        Key("run.smooth", "z", "smooth", "smoothing", "Cycle the smoothing of the loss: off, 0.9, 0.97, 0.99."),
        Key("run.zoom_in", "plus,equals_sign", "zoom(0.5)", "zoom in", "Look at half as many steps."),
        Key("run.zoom_out", "minus", "zoom(2)", "zoom out", "Look at twice as many steps."),
        Key("run.zoom_all", "0", "zoom(1e9)", "whole run", "Look at the whole run again."),
        move("run.left", "left,h", "pan(-0.5)", "earlier", "Look at earlier steps, when zoomed in."),
        move("run.right", "right", "pan(0.5)", "later", "Look at later steps, when zoomed in."),
        Key("run.back", "escape", "back", "detach", "Leave this screen. The run goes on.", rank=7),
    ),
    "log": (
        Key(
            "log.find",
            "slash",
            "find",
            "find",
            "Find a regular expression; capitals count once you type one.",
            rank=1,
        ),
        Key("log.next", "n", "next(1)", "next", "The next line that has it.", rank=2),
        Key("log.before", "N", "next(-1)", "before", "The line before that has it."),
        Key("log.loud", "v", "loud", "warnings", "Show all lines, warnings and errors, or errors alone.", rank=3),
        Key("log.times", "t", "times", "times", "Show when lines were written, or no longer.", rank=5),
        Key("log.back", "escape,l", "back", "back", "From the search to the lines, from there to the run.", rank=6),
        move("log.down", "down,j", "scroll(1)", "down", "One line down."),
        move("log.up", "up,k", "scroll(-1)", "up", "One line up; the view stops following."),
        move("log.page_down", "pagedown,space", "page(1)", "page down", "One page down."),
        move("log.page_up", "pageup", "page(-1)", "page up", "One page up."),
        move("log.right", "right", "shift(20)", "right", "See what is right of the lines' visible part."),
        move("log.left", "left,h", "shift(-20)", "left", "Back to the beginning of the lines."),
        Key("log.first", "home,g", "top", "top", "To the beginning.", rank=7),
        Key("log.follow", "end,G,f", "follow", "follow", "To the end, and follow it.", rank=4),
    ),
}
