"""One row of the profile's form: label, input, unit and range, and under it what is wrong with the value."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.events import DescendantBlur, DescendantFocus
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input, Static, TextArea

from aozora_tui.profile_file import number, spelt
from aozora_tui.screens.choice import Choice
from aozora_tui.screens.words import cursor_sign
from engine.contract.decode import unwrap
from engine.contract.fields import FormField, Section
from engine.contract.problems import Problem

NUMBER_WIDTH = 13
MOST_LINES = 6
LISTS = ("texts", "folders", "points")  # one entry a line
LINE_END = "␤"  # stands for the end of a line inside one entry of a list
SWITCH = ("on", "off")


class Bounds(Widget):
    """Unit and range of a number; the unit alone where there is no room for both: the help line has them too."""

    DEFAULT_CSS = "Bounds { width: 1fr; height: 1; margin-left: 1; color: $foreground 60%; }"
    ALLOW_SELECT = False

    def __init__(self, field: FormField) -> None:
        super().__init__()
        self.unit, self.whole = field.unit, range_text(field)

    def render(self) -> Content:
        return Content(self.whole if len(self.whole) <= self.size.width else self.unit)


class FieldRow(Vertical):
    """Posts `Edited` when something was typed; `take` gives it.

    What is typed is always ahead of the messages about it, so nobody may put an older value back because of one.
    """

    class Edited(Message):
        """There is something to take."""

    class Entered(Message):
        """The field has the focus now."""

        def __init__(self, field: FormField) -> None:
            super().__init__()
            self.field = field

    def __init__(self, field: FormField, raw: Any) -> None:
        super().__init__()
        self.field = field
        self._raw = raw
        self.editor = self._make_editor()
        self._known = self._text
        self._label = Static(classes="field-label", markup=False)
        self._problem = Static(classes="field-problem", markup=False)
        self._changed = False
        self._wants_focus = False

    def compose(self) -> ComposeResult:
        with Horizontal(classes="field"):
            yield self._label
            yield self.editor
            if self.field.kind in ("integer", "number"):
                yield Bounds(self.field)
        yield self._problem

    def on_mount(self) -> None:
        if self._wants_focus:
            self.editor.focus()

    def take_focus(self) -> None:
        """Now, or as soon as the row is there."""
        self._wants_focus = not self.is_mounted
        if self.is_mounted:
            self.editor.focus()

    @property
    def problem_text(self) -> str:
        """What stands under the field."""
        return str(self._problem.content) if self._problem.display else ""

    def put(self, raw: Any) -> None:
        """Show another value, without saying that it was edited."""
        if raw == self._raw and type(raw) is type(self._raw):
            return
        if self._raw is None and raw == default_of(self.field):
            return  # emptied: the default shows through as the placeholder, and typing goes on from nothing
        self._raw, self._known = raw, self._text_for(raw)
        if self._known == self._text:
            return
        with self.prevent(Input.Changed, TextArea.Changed):
            if isinstance(self.editor, Choice):
                self.editor.choose(self._known)
            elif isinstance(self.editor, Input):
                self.editor.value = self._known
            elif isinstance(self.editor, TextArea):
                self.editor.text = self._known
                self._fit()

    def untaken(self) -> bool:
        """Whether more was typed than was taken."""
        return self._text != self._known

    def take(self) -> Any:
        """The plain TOML value of what stands in the field now; None: it was emptied."""
        self._known = self._text
        self._raw = self._value_of(self._known)
        return self._raw

    def mark(self, *, changed: bool, problems: Sequence[Problem]) -> None:
        """Whether the value differs from the default, and what is wrong with it."""
        self._changed = changed
        self._show_label()
        styles = {"error": "$error", "warning": "$warning"}
        lines = [Content.assemble((f"! {p.text}. ", styles[p.severity]), p.remedy) for p in problems]
        text = Content("\n").join(lines)
        if self._problem.content != text:
            self._problem.update(text)
        self._problem.display = bool(problems)

    def on_descendant_focus(self, _event: DescendantFocus) -> None:
        self._show_label()
        self.post_message(self.Entered(self.field))

    def on_descendant_blur(self, _event: DescendantBlur) -> None:
        self._show_label()

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self.post_message(self.Edited())

    def on_text_area_changed(self, event: TextArea.Changed) -> None:
        event.stop()
        self._fit()
        self.post_message(self.Edited())

    def on_choice_changed(self, event: Choice.Changed) -> None:
        event.stop()
        self.post_message(self.Edited())

    @property
    def _text(self) -> str:
        """What stands in the editor."""
        if isinstance(self.editor, Choice):
            return self.editor.chosen
        if isinstance(self.editor, Input):
            return self.editor.value
        assert isinstance(self.editor, TextArea)
        return self.editor.text

    def _text_for(self, raw: Any) -> str:
        """How a value stands in the editor."""
        return "\n".join(entry_lines(raw)) if self.field.kind in LISTS else _text_of(raw)

    def _value_of(self, text: str) -> Any:
        if self.field.kind == "switch":
            return text == "on"
        if self.field.kind == "choice":
            return text
        if self.field.kind == "texts":
            return [line.replace(LINE_END, "\n") for line in text.split("\n") if line.strip()]
        if self.field.kind == "folders":
            return _folders([line for line in text.split("\n") if line.strip()], self._raw)
        if self.field.kind == "points":
            return [[number(part) for part in line.split()] for line in text.split("\n") if line.strip()]
        return _raw_of(self.field, text)

    def _make_editor(self) -> Widget:
        kind, raw = self.field.kind, self._raw
        if kind in ("switch", "choice"):
            return Choice(SWITCH if kind == "switch" else self.field.choices, _text_of(raw))
        if kind in LISTS:
            area = TextArea("\n".join(entry_lines(raw)), compact=True, soft_wrap=False, tab_behavior="focus")
            area.cursor_blink = False
            area.highlight_cursor_line = False
            area.styles.height = _height(len(entry_lines(raw)))
            return area
        box = Input(_text_of(raw), compact=True, placeholder=_text_of(default_of(self.field)), select_on_focus=False)
        box.cursor_blink = False
        box.cursor_position = len(box.value)
        if kind in ("integer", "number", "colour"):
            box.styles.width = NUMBER_WIDTH
        return box

    def _fit(self) -> None:
        area = self.editor
        assert isinstance(area, TextArea)
        height = _height(area.document.line_count)
        if area.styles.height is None or area.styles.height.value != height:
            area.styles.height = height

    def _show_label(self) -> None:
        at = self.editor.has_focus
        mark = "*" if self._changed else " "
        text = Content.assemble(
            (cursor_sign() if at else " ", "bold $accent"),
            (mark, "bold $warning"),
            (self.field.label, "bold" if at else ""),
        )
        if self._label.content != text:
            self._label.update(text, layout=False)


class SectionForm(VerticalScroll, can_focus=False):
    """The rows of one section."""

    def __init__(self, section: Section, values: Callable[[FormField], Any]) -> None:
        super().__init__(classes="section-form")
        self.section = section
        self.rows = {field.path: FieldRow(field, values(field)) for field in section.fields}

    def compose(self) -> Iterable[Widget]:
        yield from self.rows.values()


def default_of(field: FormField) -> Any:
    """The default as a plain TOML value, None if there is none."""
    return None if field.required else msgspec.to_builtins(field.default)


def range_text(field: FormField) -> str:
    """`updates  1 to 10,000,000`, as short as it can be said."""
    meta = unwrap(field.annotation)[1]
    if meta.ge is not None and meta.le is not None:
        bounds = f"{_bound(meta.ge)} to {_bound(meta.le)}"
    elif meta.gt is not None and meta.le is not None:
        bounds = f"above {_bound(meta.gt)}, to {_bound(meta.le)}"
    else:
        bounds = ""
    return "  ".join(part for part in (field.unit, bounds) if part)


def _bound(value: float) -> str:
    return f"{value:,}" if value < 1e6 else f"{value:.0e}".replace("e+0", "e") if value % 1e6 == 0 else f"{value:,}"


def _text_of(raw: Any) -> str:
    if raw is None:
        return ""
    if isinstance(raw, bool):
        return "on" if raw else "off"
    return spelt(raw) if isinstance(raw, float) else str(raw)


def _raw_of(field: FormField, text: str) -> Any:
    if field.kind in ("integer", "number"):
        return number(text) if text.strip() else None
    return text if text or field.required else None


def entry_lines(raw: Any) -> list[str]:
    """A list as lines: texts as they are, folders with their repeats in front, points as their two numbers."""
    listed = raw if isinstance(raw, list | tuple) else []
    return [_line_of(entry).replace("\n", LINE_END) for entry in listed]


def _line_of(entry: Any) -> str:
    if isinstance(entry, dict):
        return f"{entry.get('repeats', 1)} x {entry.get('path', '')}"
    return " ".join(_text_of(part) for part in entry) if isinstance(entry, list | tuple) else str(entry)


def _folders(lines: Sequence[str], before: Any) -> list[dict[str, Any]]:
    """Lines as entries; an entry that wrote its `repeats` down goes on doing so, even where the default would do."""
    old = [entry for entry in before if isinstance(entry, dict)] if isinstance(before, list | tuple) else []
    spelt_out = {_line_of(entry) for entry in old if "repeats" in entry}
    found = []
    for index, line in enumerate(lines):
        match = re.match(r"\s*(\d+)\s*x\s+(.*)", line.replace(LINE_END, "\n"))
        repeats, path = (int(match[1]), match[2].strip()) if match else (1, line.replace(LINE_END, "\n").strip())
        kept = line in spelt_out or (len(old) == len(lines) and "repeats" in old[index])
        found.append({"path": path, "repeats": repeats} if repeats != 1 or kept else {"path": path})
    return found


def _height(lines: int) -> int:
    return min(max(lines, 1), MOST_LINES)
