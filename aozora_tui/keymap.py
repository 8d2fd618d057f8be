"""Every key of the app, once: bindings, key bar, help and command palette are all made from these tables.

Keys were chosen to arrive through tmux, screen, VS Code and a bare SSH: letters, F2 F4 F6-F10, arrows, tab, enter, esc.
While a text field has the focus letters are text, so what must work there has an F key as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aozora_tui.keys import common, editing, watching
from aozora_tui.keys.key import Key

if TYPE_CHECKING:
    from textual.binding import BindingType

SCOPES: dict[str, tuple[Key, ...]] = {**common.APP, **editing.SCOPES, **watching.SCOPES, **common.PANELS}


# The scopes that hold at the same time, on one screen; what holds on the whole app does so with each of them.
TOGETHER: tuple[tuple[str, ...], ...] = (
    ("home", "list"),
    ("profile", "list", "choice"),
    ("layers", "tree"),
    ("picker", "list"),
    ("pick", "list"),
    ("differ", "list"),
    ("settings", "list"),
    ("trash", "list"),
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
