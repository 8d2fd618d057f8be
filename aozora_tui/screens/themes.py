"""The list of themes: the one that is chosen is kept in the settings file."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from textual.command import CommandPalette
from textual.theme import ThemeProvider

from aozora_tui import settings_writing
from aozora_tui.screens.base import AozoraScreen, Kind

if TYPE_CHECKING:
    from aozora_tui.app import AozoraApp


class KeptThemes(ThemeProvider):
    """Textual's own list."""

    @property
    def commands(self) -> list[tuple[str, Callable[[], None]]]:
        from aozora_tui.app import AozoraApp

        assert isinstance(self.app, AozoraApp)
        return [(name, partial(take, self.app, name)) for name, _ in super().commands]


class ThemePalette(CommandPalette):
    """To be pushed."""

    def __init__(self) -> None:
        super().__init__(providers=[KeptThemes], placeholder="Find a theme")


def take(app: AozoraApp, theme: str) -> None:
    """Use a theme from now on and at the next starts; where it cannot be kept, say why."""
    app.theme = theme
    kind: Kind = "good"
    try:
        app.settings, said = settings_writing.keep_theme(app.settings, theme)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        said, kind = f"{theme} is not kept: {reason}", "warning"
    if isinstance(app.screen, AozoraScreen):
        app.screen.say(said, kind)
