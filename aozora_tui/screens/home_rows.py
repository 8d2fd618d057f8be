"""A list that compares before it repaints."""

from __future__ import annotations

from typing import Self

from textual.geometry import Region
from textual.strip import Strip

from aozora_tui.screens.rows import Rows


class StillRows(Rows):
    """Textual asks a widget to repaint whenever the focus comes or goes, or a line more is there: 8 KB for two lists
    that have changed in two lines. Here only lines that differ from what was painted are sent."""

    _painted: dict[int, Strip]

    def render_line(self, y: int) -> Strip:
        strip = super().render_line(y)
        self.__dict__.setdefault("_painted", {})[y] = strip
        return strip

    def refresh(self, *regions: Region, repaint: bool = True, layout: bool = False, recompose: bool = False) -> Self:
        painted = self.__dict__.get("_painted")
        if regions or layout or recompose or not repaint or not painted or not self.is_attached:
            return super().refresh(*regions, repaint=repaint, layout=layout, recompose=recompose)
        lines = range(self.scrollable_content_region.height)
        changed = [y for y in lines if y not in painted or painted[y] != super(StillRows, self).render_line(y)]
        return super().refresh(*(Region(0, y, self.size.width, 1) for y in changed)) if changed else self
