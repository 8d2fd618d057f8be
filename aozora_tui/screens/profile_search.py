"""Find a setting by what it is called or what is said of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from textual.content import Content

from aozora_tui.screens.picker_base import Chooser
from aozora_tui.screens.profile_text import Known, help_text, short
from aozora_tui.screens.rows import Column, Line
from aozora_tui.screens.words import FAINT
from engine.contract.fields import FormField, form_fields, sections

ABOUT_LINES = 5


class SearchScreen(Chooser):
    """Over the names, paths and help of all fields. `values` is what the form shows of a field, `known` where that
    comes from."""

    AUTO_FOCUS = "#filter"
    columns: ClassVar[Sequence[Column]] = (Column("setting", 28), Column("section", 14), Column("value", 0))
    nothing: ClassVar[str] = "No setting has these words in its name or its help."
    hint: ClassVar[str] = "a word of the name or the help"

    def __init__(self, values: Callable[[FormField], Any], known: Callable[[FormField], Known]) -> None:
        super().__init__()
        self._values, self._known = values, known
        self._section = {section.name: section.label for section in sections()}

    def on_mount(self) -> None:
        self.set_title(("Find a setting", "bold"))
        self.fill()

    def matching(self, text: str) -> Sequence[Line]:
        found = hits(text)
        self.rest()
        if text:
            self.say(f"{len(found)} of {len(form_fields())} settings")
        return [self._line(field) for field in found]

    def about(self, key: str | None) -> Content:
        field = form_fields().get(key or "")
        if field is None:
            return Content.styled(f"{self.key_name('picker.back')} goes back", FAINT)
        return help_text(field, self._known(field), width=max(self.size.width - 2, 20), height=ABOUT_LINES)

    def _line(self, field: FormField) -> Line:
        value = short(self._values(field)).replace("\n", " ")
        return Line(field.path, ((field.label, "plain"), (self._section[field.section], "dim"), (value, "dim")))


def hits(text: str) -> list[FormField]:
    """The fields that have every word of `text`: in the name first, then in the path, then in the help."""
    words = text.lower().split()

    def places(field: FormField) -> tuple[str, ...]:
        return field.label.lower(), field.path.replace("_", " ").lower() + " " + field.path, field.help.lower()

    def rank(field: FormField) -> int:
        name, path, help = places(field)
        for index, where in enumerate((name, f"{name} {path}", f"{name} {path} {help} {' '.join(field.choices)}")):
            if all(word in where for word in words):
                return index
        return -1

    ranked = [(rank(field), index, field) for index, field in enumerate(form_fields().values())]
    return [field for place, _, field in sorted(ranked, key=lambda entry: entry[:2]) if place >= 0]
