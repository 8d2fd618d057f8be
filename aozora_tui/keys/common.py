"""Keys of the whole app, and of what lies over any screen."""

from aozora_tui.keys.key import Key, move

APP: dict[str, tuple[Key, ...]] = {
    "app": (
        Key("app.help", "question_mark,f1", "help", "help", "Show every key of this screen.", rank=97),
        Key("app.palette", "colon,f9", "command_palette", "commands", "Find any command by its name.", rank=99),
        Key("app.quit", "q,ctrl+q,ctrl+c", "leave", "quit", "Close the app. Runs go on without it.", rank=98),
        Key("app.settings", "9", "settings", "settings", "See what is set, and where it comes from."),
        Key("app.redraw", "ctrl+l", "redraw", "redraw", "Draw the whole screen again, where something wrote over it."),
        Key("app.home", "1", "home", "home", "Go to the list of profiles and runs."),
    ),
}

PANELS: dict[str, tuple[Key, ...]] = {
    "settings": (
        Key("settings.edit", "e", "edit", "edit", "Open the settings file in $EDITOR; it is made if needed.", rank=1),
        Key("settings.back", "escape", "back", "back", "Back to where you were.", rank=2),
    ),
    "trash": (
        Key("trash.put_back", "enter,u", "put_back", "put back", "Put the entry back where it was.", rank=1),
        Key("trash.remove", "X,delete", "remove", "delete", "Delete the entry for good (asks first).", rank=3),
        Key("trash.empty", "E", "empty", "empty", "Delete all entries for good (asks first).", rank=4),
        Key("trash.back", "escape", "back", "back", "Back to where you were.", rank=2),
    ),
    "ask": (
        Key("ask.cancel", "escape", "cancel", "cancel", "Close without doing anything.", rank=2, in_palette=False),
        Key("ask.accept", "enter", "accept", "yes", "Do what the panel says first.", rank=1, in_palette=False),
    ),
    "help": (
        move("help.close", "escape,enter,question_mark,q", "close", "close", "Close the help."),
        move("help.down", "down,j", "scroll(1)", "down", "One line down."),
        move("help.up", "up,k", "scroll(-1)", "up", "One line up."),
        move("help.page_down", "pagedown,space", "page(1)", "page down", "One page down."),
        move("help.page_up", "pageup", "page(-1)", "page up", "One page up."),
        move("help.first", "home,g", "end(0)", "first", "To the beginning."),
        move("help.last", "end,G", "end(1)", "last", "To the end."),
    ),
}
