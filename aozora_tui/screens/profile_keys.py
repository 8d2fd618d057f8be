"""The keys of the form: moving in it, taking back, stepping, completing, searching."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from textual.app import SystemCommand
from textual.events import Key
from textual.widgets import Input

from aozora_tui.screens.folder_lines import FolderLines
from aozora_tui.screens.form import FieldRow
from aozora_tui.screens.path_input import Listed, PathInput
from aozora_tui.screens.profile_form import ProfileForm
from aozora_tui.screens.profile_number import stepped
from aozora_tui.screens.profile_text import field_of
from aozora_tui.screens.words import counted
from engine.contract.fields import form_fields, sections


class ProfileKeys(ProfileForm):
    """What needs nothing but the file that is being edited."""

    def action_next_field(self) -> None:
        self._step_field(1)

    def action_previous_field(self) -> None:
        self._step_field(-1)

    def action_enter_form(self) -> None:
        form = self._form()
        if form is not None and (shown := form.shown):
            form.rows[shown[0]].take_focus()
        elif form is not None:
            self.say(f"Nothing is changed here: {self.key_here('profile.changed')} shows all settings")

    def action_all_rows(self) -> None:
        """Show the fields without effect too, or no longer."""
        self._asked_for = set() if self._asked_for >= set(self._idle) else {*form_fields()}
        self._show_section()
        self.say("Settings without effect are shown" if self._asked_for else "Settings without effect are not shown")

    def action_problem(self) -> None:
        """The next field with a problem, in the form's order, after the present one."""
        order = list(form_fields())
        wrong = [path for path in order if any(field_of(problem) == path for problem in self.problems)]
        if not wrong:
            self.say(str(self.problems[0]) if self.problems else "No problem", "warning" if self.problems else "good")
            return
        here = order.index(self._at.path) if self._at else -1
        self.go_to(next((path for path in wrong if order.index(path) > here), wrong[0]))

    def action_undo(self) -> None:
        self.take_edits()
        self._show_change("Undone", self.file.undo())

    def action_redo(self) -> None:
        self.take_edits()
        self._show_change("Made again", self.file.redo())

    def _show_change(self, what: str, path: str | None) -> None:
        if path is None:
            self.say("Nothing to undo" if what == "Undone" else "Nothing was undone since the last change")
            return
        self.refill()
        self.go_to(path)
        field = form_fields().get(path)
        self.say(f"{what}: {field.label if field else 'the text of the file'}")

    def action_step(self, by: int) -> None:
        """A number's next step, as one change with those before it."""
        row = self._row()
        if row is None or row.field.kind not in ("integer", "number") or not isinstance(row.editor, Input):
            return
        text = stepped(row.field, row.editor.value, by)
        if text is None:
            self.say(f"{row.field.label} takes {row.field.expected}")
        else:
            row.retype(text)
            self.take_edits()

    def action_complete(self) -> None:
        """A path goes on as far as it can be told; anything else, or with nothing to add, the focus goes on."""
        if isinstance(self.focused, PathInput | FolderLines):
            self.focused.folder = self.file.path.parent
            if self.focused.complete():
                return
        self.focus_next()

    def on_listed(self, event: Listed) -> None:
        event.stop()
        names = [f"[{name}]" if name == event.chosen else name for name in event.names]
        here = event.names.index(event.chosen) if event.chosen in event.names else 0
        self.say("  ".join([*names[max(here - 1, 0) :], *([] if here < 2 else names[: here - 1])]))

    def action_only_changed(self) -> None:
        """Show only what differs from the defaults or from the file, or everything again."""
        self._only_changed = not self._only_changed
        self._show_sections()
        form = self._show_section()
        self._show_help()
        count = sum(self._is_changed(field) for field in form_fields().values())
        said = f"{counted(count, 'setting')} changed from the defaults" if self._only_changed else "All settings"
        self.say(f"{said}; none in {form.section.label}" if self._only_changed and not form.shown else said)

    def action_search(self) -> None:
        from aozora_tui.screens.profile_search import SearchScreen

        def answered(path: str | None) -> None:
            if path is not None:
                self.go_to(path)

        self.take_edits()
        self.app.push_screen(SearchScreen(self.value, self.known), answered)

    def action_default(self) -> None:
        if self._at is None:
            self.say("Go to a field first")
        elif self._at.required:
            self.say(f"{self._at.label} has no default", "warning")
        else:
            self.take_edits()
            self.file.end_of_change()
            self.file.set(self._at.path, None)
            self.refill()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002  (Textual's)
        if action in ("next_field", "previous_field"):
            return self._at is not None
        if action == "enter_form":
            return self._at is None
        if action == "default":
            return self._at is not None
        if action == "step":
            return self._at is not None and self._at.kind in ("integer", "number")
        return True

    def more_commands(self) -> Iterable[SystemCommand]:
        for section in sections():
            for field in section.fields:
                yield SystemCommand(
                    f"{section.label}: {field.label}", field.help, partial(self.go_to, field.path), False
                )

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._step_field(1)

    def on_key(self, event: Key) -> None:
        if event.key == "enter" and self.focused is self.query_one("#sections"):
            event.stop()
            self.action_enter_form()

    def _row(self) -> FieldRow | None:
        form = self._form()
        return form.rows.get(self._at.path) if form is not None and self._at is not None else None

    def _step_field(self, by: int) -> None:
        form = self._form()
        if form is None or self._at is None or self._at.path not in form.rows:
            return
        order = form.shown
        index = order.index(self._at.path) + by
        if 0 <= index < len(order):
            form.rows[order[index]].take_focus()
