"""One row of the profile's form: label, input, unit and range, and under it what is wrong with the value."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from textual.app import ComposeResult
from textual.content import Content
from textual.events import DescendantBlur, DescendantFocus
from textual.geometry import Region, Size
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input, TextArea

from aozora_tui.profile_file import number
from aozora_tui.screens.choice import Choice
from aozora_tui.screens.field_words import EXAMPLES, OVER_TIMESTEPS, in_form_words, in_lines, range_text
from aozora_tui.screens.folder_lines import FolderLines
from aozora_tui.screens.lines import KINDS as LISTS
from aozora_tui.screens.lines import Lines, entries, entry_lines, entry_rows, pair, row_of, value_text
from aozora_tui.screens.path_input import PathInput
from aozora_tui.screens.profile_number import NumberInput
from aozora_tui.screens.words import FAINT, cursor_sign, same
from engine.contract.decode import key_path
from engine.contract.fields import FormField
from engine.contract.problems import Problem
from engine.contract.profile_values import default_of

LABEL_WIDTH = 26
NUMBER_WIDTH = 12
SWITCH = ("on", "off")


@dataclass(frozen=True)
class Marks:
    """What the form knows of a field's value: whether it differs from the default, whether it does nothing beside the
    other settings, what is wrong with it, and what there is to know about it. `pending`: more may be said soon."""

    changed: bool = False
    idle: bool = False
    problems: Sequence[Problem] = ()
    note: str = ""
    pending: bool = False


class FieldRow(Widget):
    """Posts `Edited` when something was typed; `take` gives it.

    What is typed is always ahead of the messages about it, so nobody may put an older value back because of one. The
    row draws all but the editor by itself: a section has dozens of rows, and each widget costs a millisecond to make.
    """

    DEFAULT_CSS = f"""
    FieldRow {{ width: 1fr; height: auto; layout: horizontal; }}
    FieldRow > * {{ margin-left: {LABEL_WIDTH}; }}
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
        self._label = self._said = Content()
        self._marks = Marks()
        self._room = 0  # lines that stay for what is said, so that rows do not go up and down while one types
        self._wants_focus = False

    def compose(self) -> ComposeResult:
        yield self.editor

    def render(self) -> Content:
        first = self._label.pad_right(LABEL_WIDTH - self._label.cell_length)
        if self.field.kind in ("integer", "number"):
            first = Content.assemble(first, " " * (NUMBER_WIDTH + 1), (self._bounds(), FAINT))
        return Content("\n").join([first, *[Content()] * (self._editor_height - 1), *self._said_lines(self.size.width)])

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:  # noqa: ARG002  (Textual's)
        return self._editor_height + max(len(self._said_lines(width)), self._room)

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
        """What stands under the field; the sentences of problems, and a note."""
        return self._said.plain

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
            elif isinstance(self.editor, Lines):
                self.editor.text = self._known
                self.editor.fit()

    def retype(self, text: str) -> None:
        """As if the person had typed it."""
        if isinstance(self.editor, Input):
            self.editor.value = text
            self.editor.cursor_position = len(text)

    def untaken(self) -> bool:
        """Whether more was typed than was taken."""
        return self._text != self._known

    def take(self) -> Any:
        """The plain TOML value of what stands in the field now; None: it was emptied."""
        self._known = self._text
        self._raw = self._value_of(self._known)
        return self._raw

    def mark(self, marks: Marks) -> None:
        self._marks = marks
        self._show_label()
        styles = {"error": "$error", "warning": "$warning"}
        lines = [self._sentence(problem, styles[problem.severity]) for problem in marks.problems]
        lines += [Content.styled(marks.note, FAINT)] if marks.note else []
        said = Content("\n").join(lines)
        before = max(len(self._said_lines(self.size.width)), self._room)
        room = before if marks.pending else 0
        if not same(self._said, said) or room != self._room:
            self._said, self._room = said, room
            after = max(len(self._said_lines(self.size.width)), room)
            if after or before:
                self.refresh(layout=after != before)

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
        if isinstance(self.editor, Lines):
            self.editor.fit()
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
        assert isinstance(self.editor, Lines)
        return self.editor.text

    def _text_for(self, raw: Any) -> str:
        """How a value stands in the editor."""
        return "\n".join(entry_lines(raw, self.field.kind)) if self.field.kind in LISTS else value_text(raw)

    def _value_of(self, text: str) -> Any:
        if self.field.kind == "switch":
            return text == "on"
        if self.field.kind == "choice":
            return text
        if self.field.kind in LISTS:
            return entries(self.field.kind, text, self._raw)
        return _raw_of(self.field, text)

    def _make_editor(self) -> Widget:
        kind, raw = self.field.kind, self._raw
        if kind in ("switch", "choice"):
            return Choice(SWITCH if kind == "switch" else self.field.choices, value_text(raw))
        if kind in LISTS:
            make_list = FolderLines if kind == "folders" else Lines
            return make_list("\n".join(entry_lines(raw, kind)))
        shown = value_text(default_of(self.field))
        if kind in ("file", "folder"):
            box: Input = PathInput(value_text(raw), only_folders=kind == "folder", placeholder=shown)
        else:
            make = NumberInput if kind in ("integer", "number") else Input
            box = make(value_text(raw), compact=True, placeholder=shown, select_on_focus=False)
        box.cursor_blink = False
        box.cursor_position = len(box.value)
        if kind in ("integer", "number", "colour"):
            box.styles.width = NUMBER_WIDTH
        return box

    def _sentence(self, problem: Problem, style: str) -> Content:
        """A problem of one entry of a list or table names its line, as soon as there are several."""
        text, remedy = problem.text, in_lines(problem.remedy)
        if self.field.kind == "table":
            text, remedy = self._said_of_entry(problem)
            return Content.assemble((f"! {text}. ", style), remedy)
        inside = re.match(rf"{re.escape(self.field.path)}\[(\d+)\](.*)", problem.path)
        rows = entry_rows(self._known) if self.field.kind in LISTS else []
        if inside and int(inside[1]) < len(rows):
            line = rows[int(inside[1])]
            if self.field.kind == "points" and not inside[2]:
                text = f'"{self._known.split(chr(10))[line].strip()}" is not two numbers'
                remedy = f"Write where, and how much: {EXAMPLES.get(self.field.path, OVER_TIMESTEPS)}."
            text = f"line {line + 1}: {text}" if len(rows) > 1 else text
        return Content.assemble((f"! {text}. ", style), remedy)

    def _said_of_entry(self, problem: Problem) -> tuple[str, str]:
        """The problem's text, with its line, and its remedy."""
        entries = self._raw if isinstance(self._raw, Mapping) else ()
        entry = next((name for name in entries if key_path(self.field.path, name) == problem.path), None)
        line = row_of(entry, self._known) if entry is not None else None
        if entry is None or line is None:
            return problem.text, problem.remedy
        text, remedy = problem.text, in_form_words(problem.remedy)
        if self._raw[entry] == {}:  # as a line is kept that says nothing
            name, value = pair(entry)
            twice = value != {}
            text = f'"{name}" stands here twice' if twice else f'"{entry}" is not a name and its value'
            quoted = "; text stands in quotes" if self.field.path == "optimizer.arguments" else ""
            remedy = "Remove one of them." if twice else f"Write {EXAMPLES[self.field.path]}{quoted}."
        several = len(entry_rows(self._known)) > 1
        return f"line {line + 1}: {text}" if several else text, remedy

    def _show_label(self) -> None:
        at = self.editor.has_focus
        mark = "*" if self._marks.changed else " "
        style = "bold" if at else FAINT if self._marks.idle else ""
        text = Content.assemble(
            (cursor_sign() if at else " ", "bold $accent"),
            (mark, "bold $warning"),
            (self.field.label, style),
        )
        if not same(self._label, text):
            self._label = text
            self.refresh(Region(0, 0, LABEL_WIDTH, 1))

    def _bounds(self) -> str:
        """Unit and range of a number; the unit alone where there is no room for both: the help line has them too."""
        whole = range_text(self.field)
        return whole if len(whole) <= self.size.width - LABEL_WIDTH - NUMBER_WIDTH - 1 else self.field.unit

    @property
    def _editor_height(self) -> int:
        return self.editor.lines_shown if isinstance(self.editor, Lines) else 1

    def _said_lines(self, width: int) -> list[Content]:
        """What is said under the field, wrapped, two columns in."""
        if not self._said or width < 4:
            return []
        return [line.pad_left(2) for line in self._said.wrap(width - 2)]


def _raw_of(field: FormField, text: str) -> Any:
    if field.kind in ("integer", "number"):
        return number(text) if text.strip() else None
    return text if text or field.required else None
