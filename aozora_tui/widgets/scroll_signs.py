"""Scrollbars in signs that every terminal has, where it has no others."""

from __future__ import annotations

from typing import Any

from rich.segment import Segment, Segments
from rich.style import Style
from textual.scrollbar import ScrollBarRender

from aozora_tui.terminal import ascii_only

THUMB, TRACKS = "#", {True: "|", False: "-"}  # vertical or not


class ScrollSigns(ScrollBarRender):
    """Textual's own where Unicode arrives."""

    @classmethod
    def render_bar(cls, *args: Any, **options: Any) -> Segments:
        found = super().render_bar(*args, **options)
        if not ascii_only():
            return found
        back, bar, track = options.get("back_color"), options.get("bar_color"), TRACKS[options.get("vertical", True)]
        signs = []
        for text, style, control in found.segments:
            meta = style.meta if style is not None else {}
            sign = THUMB if meta.get("@mouse.down") == "grab" else track
            signs.append(Segment(sign * len(text), Style(color=bar, bgcolor=back, meta=meta), control))
        return Segments(signs, new_lines=found.new_lines)
