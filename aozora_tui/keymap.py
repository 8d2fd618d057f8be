"""Every key of the app, once: bindings, key bar, help and command palette are all made from this table.

Keys were chosen to arrive through tmux, screen, VS Code and a bare SSH: letters, F2 F4 F6-F10, arrows, tab, enter, esc.
While a text field has the focus letters are text, so what must work there has an F key as well.
"""

from __future__ import annotations

from dataclasses import dataclass

from textual.binding import Binding, BindingType

NAMES = {
    "question_mark": "?",
    "colon": ":",
    "escape": "esc",
    "plus": "+",
    "minus": "-",
    "slash": "/",
    "left": "left",
    "right": "right",
}


@dataclass(frozen=True)
class Key:
    """`rank` orders the key bar, most useful first; 0 keeps a key out of it. `in_palette` is off for plain movement."""

    id: str
    keys: str
    action: str
    label: str
    help: str
    rank: int = 0
    in_palette: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        """The keys as a person reads them."""
        return tuple(shown(key) for key in self.keys.split(","))


def _move(id: str, keys: str, action: str, label: str, help: str) -> Key:
    return Key(id, keys, action, label, help, in_palette=False)


SCOPES: dict[str, tuple[Key, ...]] = {
    "app": (
        Key("app.help", "question_mark,f1", "help", "help", "Show every key of this screen.", rank=97),
        Key("app.palette", "colon,f9", "command_palette", "commands", "Find any command by its name.", rank=99),
        Key("app.quit", "q,ctrl+q,ctrl+c", "leave", "quit", "Close the app. Runs go on without it.", rank=98),
        Key("app.home", "1", "home", "home", "Go to the list of profiles and runs."),
    ),
    "home": (
        Key("home.open", "enter", "open", "open", "Open the selected profile or run.", rank=1),
        Key("home.start", "s", "start", "start", "Check the selected profile and start a run with it.", rank=2),
        Key("home.edit", "e", "edit", "edit", "Edit the selected profile; a recipe is saved as a copy.", rank=4),
        Key("home.duplicate", "d", "duplicate", "copy", "Copy the selected profile into your own folder.", rank=5),
        Key("home.demo", "D", "demo", "demo", "Start the demo: a small model, trained to its end in minutes.", rank=6),
        Key("home.editor", "E", "editor", "editor", "Open the selected profile's file in $EDITOR."),
        Key("home.switch", "tab", "app.focus_next", "switch", "Switch between profiles and runs.", rank=3),
    ),
    "list": (
        _move("list.down", "down,j", "move(1)", "down", "Next line."),
        _move("list.up", "up,k", "move(-1)", "up", "Line before."),
        _move("list.page_down", "pagedown", "page(1)", "page down", "One page down."),
        _move("list.page_up", "pageup", "page(-1)", "page up", "One page up."),
        _move("list.first", "home,g", "jump(0)", "first", "First line."),
        _move("list.last", "end,G", "jump(-1)", "last", "Last line."),
    ),
    "profile": (
        Key("profile.save", "f2,w", "save", "save", "Save the profile; a recipe becomes a copy of your own.", rank=1),
        Key("profile.layers", "f4,t", "layers", "layers", "Choose the trained layers from a tree.", rank=4),
        Key("profile.start", "f6,s", "start", "start", "Check the profile and start a run with it.", rank=2),
        Key("profile.undo", "f7,u", "undo", "undo", "Take the last change back, in whichever field it was.", rank=5),
        Key("profile.default", "f8,x", "default", "default", "Put the field back to its default.", rank=7),
        Key("profile.problem", "f10,n", "problem", "problem", "Go to the next problem.", rank=6),
        Key("profile.all", "a", "all_rows", "all", "Show the settings without effect too, or no longer.", rank=8),
        _move("profile.next", "down", "next_field", "next field", "Next field."),
        _move("profile.previous", "up", "previous_field", "field before", "Field before."),
        _move("profile.into", "right,l", "enter_form", "into the form", "From the sections into the form."),
        Key("profile.back", "escape", "back", "back", "From a field to the sections, from there home.", rank=3),
    ),
    "choice": (
        _move("choice.next", "right,space,l", "change(1)", "next", "Next choice."),
        _move("choice.previous", "left,h", "change(-1)", "before", "Choice before."),
    ),
    "layers": (
        Key("layers.apply", "enter,f2", "apply", "apply", "Write the patterns into the profile and go back.", rank=1),
        Key("layers.cancel", "escape", "cancel", "cancel", "Go back without a change.", rank=3),
        Key("layers.all", "a", "all", "all", "Train everything.", rank=4),
        Key("layers.none", "n", "none", "none", "Train nothing, to choose from there.", rank=5),
        Key("layers.invert", "i", "invert", "invert", "Swap what is trained and what is frozen.", rank=6),
    ),
    "tree": (
        Key("tree.toggle", "space", "toggle_layer", "toggle", "Train or freeze the layer with all below it.", rank=2),
        _move("tree.down", "down,j", "cursor_down", "down", "Next line."),
        _move("tree.up", "up,k", "cursor_up", "up", "Line before."),
        _move("tree.open", "right,l", "open", "unfold", "Unfold the layer, or go to its first part."),
        _move("tree.close", "left,h", "close", "fold", "Fold the layer, or go to the one around it."),
        _move("tree.page_down", "pagedown", "page_down", "page down", "One page down."),
        _move("tree.page_up", "pageup", "page_up", "page up", "One page up."),
        _move("tree.first", "home,g", "scroll_home", "first", "First line."),
        _move("tree.last", "end,G", "scroll_end", "last", "Last line."),
    ),
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
        _move("run.left", "left,h", "pan(-0.5)", "earlier", "Look at earlier steps, when zoomed in."),
        _move("run.right", "right", "pan(0.5)", "later", "Look at later steps, when zoomed in."),
        Key("run.back", "escape", "back", "detach", "Leave this screen. The run goes on.", rank=7),
    ),
    "log": (
        Key("log.back", "escape,l", "back", "back", "Back to the run.", rank=1),
        _move("log.down", "down,j", "scroll(1)", "down", "One line down."),
        _move("log.up", "up,k", "scroll(-1)", "up", "One line up; the view stops following."),
        _move("log.page_down", "pagedown,space", "page(1)", "page down", "One page down."),
        _move("log.page_up", "pageup", "page(-1)", "page up", "One page up."),
        Key("log.first", "home,g", "top", "top", "To the beginning of what is kept.", rank=2),
        Key("log.follow", "end,G", "follow", "follow", "To the end, and follow it.", rank=3),
    ),
    "ask": (
        Key("ask.cancel", "escape", "cancel", "cancel", "Close without doing anything.", rank=2, in_palette=False),
        Key("ask.accept", "enter", "accept", "yes", "Do what the panel says first.", rank=1, in_palette=False),
    ),
    "help": (_move("help.close", "escape,enter,question_mark,q", "close", "close", "Close the help."),),
}


def bindings(*scopes: str) -> list[BindingType]:
    """What a screen or widget binds: for its BINDINGS."""
    return [
        Binding(key.keys, key.action, key.label, id=key.id, tooltip=key.help, show=key.rank > 0)
        for scope in scopes
        for key in SCOPES[scope]
    ]


def shown(key: str) -> str:
    """`question_mark` as `?`, `f2` as `F2`, `D` as it is."""
    if key == "equals_sign":
        return "="
    if len(key) in (2, 3) and key[0] == "f" and key[1:].isdecimal():
        return key.upper()
    return NAMES.get(key, key)
