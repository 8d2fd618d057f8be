"""Every key of the app, once: bindings, key bar, help and command palette are all made from this table.

Keys were chosen to arrive through tmux, screen, VS Code and a bare SSH: letters, F2 F4 F6-F10, arrows, tab, enter, esc.
While a text field has the focus letters are text, so what must work there has an F key as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aozora_tui.key_names import shown

if TYPE_CHECKING:
    from textual.binding import BindingType


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
        Key("app.settings", "9", "settings", "settings", "See what is set, and where it comes from."),
        Key("app.redraw", "ctrl+l", "redraw", "redraw", "Draw the whole screen again, where something wrote over it."),
        Key("app.home", "1", "home", "home", "Go to the list of profiles and runs."),
    ),
    "home": (
        Key("home.open", "enter", "open", "open", "Open the selected profile or run.", rank=1),
        Key("home.start", "s", "start", "start", "Show what a run of the profile will take, then start it.", rank=2),
        Key("home.switch", "tab", "switch", "lists", "Switch between profiles and runs.", rank=3),
        Key("home.edit", "e", "edit", "edit", "Edit the selected profile; a recipe is saved as a copy.", rank=4),
        Key("home.new", "n", "new", "new", "Make a profile of your own from a recipe.", rank=5),
        Key("home.filter", "slash", "filter", "find", "Show only what has the words you type.", rank=6),
        Key("home.duplicate", "d", "duplicate", "copy", "Copy the selected profile into your own folder.", rank=7),
        Key("home.rename", "r", "rename", "rename", "Give the selected profile another name.", rank=8),
        Key(
            "home.delete", "X,delete", "delete", "delete", "Move the profile or run to the trash (asks first).", rank=9
        ),
        Key("home.put_back", "u", "put_back", "put back", "Get back what was deleted last.", rank=10),
        Key("home.demo", "D", "demo", "demo", "Start the demo: a small model, trained to its end in minutes.", rank=11),
        Key("home.editor", "E", "editor", "editor", "Open the selected profile's file in $EDITOR."),
        Key("home.clear", "escape", "clear", "show all", "Show all profiles and runs again.", rank=12),
    ),
    "start": (
        Key("start.go", "enter,s", "go", "start", "Start the run.", rank=1),
        Key("start.mend", "e,f4", "mend", "edit", "Edit the profile, at its first problem.", rank=2),
        Key("start.back", "escape", "back", "back", "Go back without starting anything.", rank=3),
        _move("start.down", "down,j", "scroll(1)", "down", "One line down."),
        _move("start.up", "up,k", "scroll(-1)", "up", "One line up."),
        Key("start.page_down", "pagedown,space", "page(1)", "more", "One page down.", rank=4, in_palette=False),
        _move("start.page_up", "pageup", "page(-1)", "page up", "One page up."),
        _move("start.first", "home,g", "jump(0)", "first", "To the beginning."),
        _move("start.last", "end,G", "jump(-1)", "last", "To the end."),
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
        Key("profile.redo", "U,ctrl+y", "redo", "redo", "Make the change again that was taken back last.", rank=15),
        Key("profile.default", "f8,x", "default", "default", "Put the field back to its default.", rank=7),
        Key("profile.problem", "f10,n", "problem", "problem", "Go to the next problem.", rank=6),
        Key("profile.all", "a", "all_rows", "all", "Show the settings without effect too, or no longer.", rank=8),
        Key("profile.tool", "ctrl+g", "tool", "tool", "Open what the field is best set with.", rank=9),
        Key("profile.search", "slash", "search", "search", "Find a setting by its name or its help.", rank=10),
        Key("profile.differ", "v", "differ", "compare", "Compare with defaults, the file, a run.", rank=11),
        Key("profile.changed", "o", "only_changed", "changed", "Show only what differs from the defaults.", rank=12),
        Key("profile.curves", "c", "curves", "curves", "Draw the curve of the field, or the learning rate's.", rank=13),
        Key("profile.data", "d", "data", "data", "Look at the pictures and captions of the profile.", rank=14),
        Key("profile.editor", "E", "editor", "editor", "Edit the text in $EDITOR; it comes back as one change."),
        Key("profile.more", "plus,ctrl+up", "step(1)", "more", "A number one step up."),
        Key("profile.less", "minus,ctrl+down", "step(-1)", "less", "A number one step down."),
        _move("profile.complete", "tab", "complete", "complete", "Complete a path; else the next field."),
        _move("profile.next", "down,j", "next_field", "next field", "Next field."),
        _move("profile.previous", "up,k", "previous_field", "field before", "Field before."),
        _move("profile.into", "right,l", "enter_form", "into the form", "From the sections into the form."),
        Key("profile.back", "escape", "back", "back", "From a field to the sections, from there home.", rank=3),
    ),
    "choice": (
        _move("choice.next", "right,space,l", "change(1)", "next", "Next choice."),
        _move("choice.previous", "left,h", "change(-1)", "before", "Choice before."),
    ),
    "picker": (
        Key("picker.choose", "enter", "choose", "choose", "Take the entry, or go into the folder.", rank=1),
        Key("picker.take", "space,f2", "take", "take", "Take the entry even if it is a folder.", rank=4),
        Key("picker.filter", "slash", "filter", "filter", "Type a part of the name; only what has it stays.", rank=3),
        Key("picker.out", "left,h,backspace", "out", "folder above", "Go to the folder above.", rank=5),
        _move("picker.into", "right,l", "into", "into", "Go into the folder."),
        _move("picker.down", "down", "move(1)", "down", "Next entry, while the filter is typed too."),
        _move("picker.up", "up", "move(-1)", "up", "Entry before, while the filter is typed too."),
        Key("picker.back", "escape", "back", "back", "From the filter to the list, from there back.", rank=2),
    ),
    "differ": (
        Key("differ.go", "enter", "go", "go there", "Go to the field in the form.", rank=1),
        Key("differ.take", "x", "take", "take theirs", "Put the other side's value into the profile.", rank=2),
        Key("differ.undo", "u,f7", "undo", "undo", "Take the last change of the profile back.", rank=6),
        Key("differ.against", "tab", "against(1)", "other side", "Compare with something else.", rank=3),
        _move("differ.before", "shift+tab", "against(-1)", "other side", "Compare with what was before that."),
        Key("differ.choose", "p", "choose", "profile", "Choose another profile to compare with.", rank=5),
        Key("differ.back", "escape,v", "back", "back", "Back to the form.", rank=4),
    ),
    "layers": (
        Key("layers.apply", "enter,f2", "apply", "apply", "Write the choice into the profile and go back.", rank=1),
        Key("layers.cancel", "escape", "cancel", "cancel", "Go back; asks if something was changed.", rank=3),
        Key("layers.kinds", "t", "kinds", "kinds", "Train or freeze every layer of a kind, all over the UNet.", rank=4),
        Key("layers.presets", "p", "presets", "presets", "Take a selection that others trained with.", rank=5),
        Key("layers.match", "m", "match", "match", "Train or freeze what a pattern matches: -attn2, depth:0.", rank=6),
        Key("layers.factor", "f", "factor", "rate", "Type a factor on the learning rate of the layer.", rank=7),
        Key("layers.search", "slash", "search", "find", "Find a layer by its name, ours or the file's.", rank=8),
        Key("layers.next", "n", "found(1)", "next", "The next layer that was found.", rank=13),
        Key("layers.previous", "N", "found(-1)", "one before", "The layer found before this one."),
        Key("layers.undo", "u,f7", "undo", "undo", "Take the last change back.", rank=9),
        Key("layers.all", "a", "all", "all", "Train the whole UNet.", rank=10),
        Key("layers.none", "x", "none", "none", "Train nothing of the UNet, to choose from there.", rank=11),
        Key("layers.invert", "i", "invert", "invert", "Swap what is trained and what is frozen.", rank=12),
    ),
    "tree": (
        Key("tree.toggle", "space", "toggle_layer", "toggle", "Train or freeze the layer with all below it.", rank=2),
        _move("tree.down", "down,j", "move(1)", "down", "Next line."),
        _move("tree.up", "up,k", "move(-1)", "up", "Line before."),
        _move("tree.open", "right,l", "open", "unfold", "Unfold the layer, or go to its first part."),
        _move("tree.close", "left,h", "close", "fold", "Fold the layer, or go to the one around it."),
        _move("tree.open_all", "plus,equals_sign", "open_all", "unfold all", "Unfold the layer with all below it."),
        _move("tree.close_all", "minus", "close_all", "fold all", "Fold it with all below it."),
        _move("tree.page_down", "pagedown", "page(1)", "page down", "One page down."),
        _move("tree.page_up", "pageup", "page(-1)", "page up", "One page up."),
        _move("tree.first", "home,g", "jump(0)", "first", "First line."),
        _move("tree.last", "end,G", "jump(-1)", "last", "Last line."),
    ),
    "curves": (
        Key("curves.take", "f2,w", "take", "done", "Take the curves over into the profile and go back.", rank=1),
        Key("curves.cancel", "escape", "cancel", "cancel", "Go back; asks if something was changed.", rank=8),
        Key("curves.switch", "tab,right_square_bracket", "switch(1)", "curve", "The next curve.", rank=6),
        _move("curves.switch_back", "shift+tab,left_square_bracket", "switch(-1)", "curve before", "The curve before."),
        Key("curves.shape", "s", "cycle(1)", "shape", "The next named shape.", rank=7),
        Key("curves.shape_back", "S", "cycle(-1)", "shape before", "The named shape before."),
        Key("curves.points", "p", "into_points", "points", "Turn the shape into a few points that follow it.", rank=2),
        _move("curves.left", "left,h", "walk(-1)", "left", "The point before; of a shape, further left."),
        _move("curves.right", "right,l", "walk(1)", "right", "The next point; of a shape, further right."),
        _move("curves.first", "home", "jump(0)", "first", "The first point."),
        _move("curves.last", "end", "jump(-1)", "last", "The last point."),
        _move("curves.up", "up,k", "change(1)", "higher", "A little higher."),
        _move("curves.down", "down,j", "change(-1)", "lower", "A little lower."),
        _move("curves.up_more", "K,shift+up", "change(1,True)", "much higher", "Ten times as much higher."),
        _move("curves.down_more", "J,shift+down", "change(-1,True)", "much lower", "Ten times as much lower."),
        _move("curves.slide_left", "comma", "slide(-1)", "to the left", "Move the point a little to the left."),
        _move("curves.slide_right", "full_stop", "slide(1)", "to the right", "Move the point a little to the right."),
        _move("curves.slide_left_more", "less_than_sign", "slide(-1,True)", "far left", "Move it far left."),
        _move("curves.slide_right_more", "greater_than_sign", "slide(1,True)", "far right", "Move it far right."),
        Key("curves.insert", "i,insert", "insert", "add", "Add a point between this one and the next.", rank=3),
        Key("curves.remove", "x,delete", "remove", "remove", "Remove the point.", rank=4),
        Key("curves.type", "enter", "type", "type", "Type where the point is and its value.", rank=5),
        Key("curves.undo", "u", "undo", "undo", "Take the last change of a curve back.", rank=9),
        Key("curves.redo", "U", "redo", "redo", "Make it again.", rank=12),
        Key("curves.snap", "g", "snap", "grid", "Let points keep to a grid, or no longer.", rank=10),
        Key("curves.log", "L", "log", "log", "Switch the values between linear and logarithmic.", rank=11),
    ),
    "data": (
        Key("data.next", "tab", "turn(1)", "next page", "Next page: picture, buckets, skipped, cache.", rank=1),
        _move("data.previous", "shift+tab", "turn(-1)", "page before", "Page before."),
        Key("data.filter", "slash", "filter", "find", "Show the pictures that have what you type.", rank=2),
        Key("data.picture", "p", "view('picture')", "picture", "The picture under the cursor: crop, caption, draws."),
        Key("data.buckets", "b", "view('buckets')", "buckets", "How many pictures each bucket holds.", rank=4),
        Key("data.skipped", "s", "view('skipped')", "skipped", "Which files are not used, and why.", rank=5),
        Key("data.cache", "c", "view('cache')", "cache", "What is encoded already, and what would be.", rank=6),
        Key("data.whole", "w", "whole", "whole", "Show the whole picture with what is cut away, or the crop.", rank=7),
        Key("data.image", "i", "image", "image", "Draw the picture itself, or no longer.", rank=8),
        Key("data.again", "r", "again", "again", "Look through the folders again.", rank=9),
        _move("data.more", "space,right,l", "more(1)", "more", "The page's next lines; after its end its first ones."),
        _move("data.less", "left,h", "more(-1)", "less", "The page's lines before."),
        Key("data.back", "escape", "back", "back", "From the filter to the whole list, from there back.", rank=3),
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
    "settings": (
        Key("settings.edit", "e", "edit", "edit", "Open the settings file in $EDITOR; it is made if needed.", rank=1),
        Key("settings.back", "escape", "back", "back", "Back to where you were.", rank=2),
    ),
    "ask": (
        Key("ask.cancel", "escape", "cancel", "cancel", "Close without doing anything.", rank=2, in_palette=False),
        Key("ask.accept", "enter", "accept", "yes", "Do what the panel says first.", rank=1, in_palette=False),
    ),
    "help": (
        _move("help.close", "escape,enter,question_mark,q", "close", "close", "Close the help."),
        _move("help.down", "down,j", "scroll(1)", "down", "One line down."),
        _move("help.up", "up,k", "scroll(-1)", "up", "One line up."),
        _move("help.page_down", "pagedown,space", "page(1)", "page down", "One page down."),
        _move("help.page_up", "pageup", "page(-1)", "page up", "One page up."),
        _move("help.first", "home,g", "end(0)", "first", "To the beginning."),
        _move("help.last", "end,G", "end(1)", "last", "To the end."),
    ),
}


# The scopes that hold at the same time, on one screen; what holds on the whole app does so with each of them.
TOGETHER: tuple[tuple[str, ...], ...] = (
    ("home", "list"),
    ("profile", "list", "choice"),
    ("layers", "tree"),
    ("picker", "list"),
    ("differ", "list"),
    ("settings", "list"),
    ("data", "list"),
)
# Panels lie over everything, the app's own keys included.
ALONE = ("ask", "help")


def bindings(*scopes: str) -> list[BindingType]:
    """What a screen or widget binds: for its BINDINGS. The app lays a person's own keys over them by their ids."""
    from textual.binding import Binding

    return [
        Binding(key.keys, key.action, key.label, id=key.id, tooltip=key.help, show=key.rank > 0)
        for scope in scopes
        for key in SCOPES[scope]
    ]
