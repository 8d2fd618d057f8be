"""The rows of one section of the profile's form."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set
from typing import Any

from textual.containers import VerticalScroll
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from aozora_tui.screens.form import FieldRow
from aozora_tui.screens.words import FAINT, counted, same
from engine.contract.fields import FormField, Section


class SectionForm(VerticalScroll, can_focus=False, inherit_bindings=False):
    """The rows of one section. Scrolls by itself only: the row with the focus is always on the screen."""

    def __init__(self, section: Section, values: Callable[[FormField], Any]) -> None:
        super().__init__(classes="section-form")
        self.section = section
        self.rows = {field.path: FieldRow(field, values(field)) for field in section.fields}
        self._hidden = Static(classes="form-hidden", markup=False)

    def compose(self) -> Iterable[Widget]:
        yield from self.rows.values()
        yield self._hidden

    @property
    def shown(self) -> list[str]:
        """The paths of the fields that can be seen, or scrolled to."""
        return [path for path, row in self.rows.items() if row.display]

    def hide(self, paths: Set[str]) -> None:
        """Show all rows but those of `paths`; the row with the focus stays."""
        for path, row in self.rows.items():
            row.display = path not in paths or row.editor.has_focus

    def tell_hidden(self, *, key: str, as_default: bool) -> None:
        """How many are not shown, and the key that shows them. `as_default`: only changed ones are."""
        count = len(self.rows) - len(self.shown)
        them = counted(count, "setting" if not as_default else "more setting")
        why = "as by default" if as_default else "without effect here"
        what = "it" if count == 1 else "them"
        text = Content.styled(f"  {them} {why}: {key} shows {what}", FAINT)
        self._hidden.display = count > 0
        if not same(self._hidden.content, text):
            self._hidden.update(text, layout=False)

    def on_descendant_focus(self) -> None:
        self.call_after_refresh(self._keep_in_view)

    def on_resize(self) -> None:
        self.call_after_refresh(self._keep_in_view)

    def watch_virtual_size(self) -> None:
        """A row has grown, by what is said under it: it, or one above it."""
        self.call_after_refresh(self._keep_in_view)

    def _keep_in_view(self) -> None:
        for row in self.rows.values():
            if row.editor.has_focus:
                whole = row.size.height <= self.size.height
                self.scroll_to_widget(row if whole else row.editor, animate=False, immediate=True)
