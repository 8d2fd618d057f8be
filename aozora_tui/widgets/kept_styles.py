"""A widget that draws itself every second: its styles are worked out once."""

from __future__ import annotations

from typing import Any

from rich.style import Style
from textual.widget import Widget


class KeptStyles(Widget):
    """Textual forgets them with every refresh, however little of the widget that is about."""

    style_prefix = ""
    """Of the component classes, before `--`."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._kept: dict[tuple[str, str], Style] = {}

    def style_of(self, style: str) -> Style:
        """Of the component class, or of the widget itself for ""."""
        key = (self.app.theme, style)
        if key not in self._kept:
            name = f"{self.style_prefix}--{style}"
            self._kept[key] = self.get_component_rich_style(name) if style else self.rich_style
        return self._kept[key]

    def notify_style_update(self) -> None:
        self._kept.clear()
        super().notify_style_update()
